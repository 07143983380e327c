//! `cp` on both targets: status, standard output and standard error word for word, and the files themselves.
//!
//! Needs namespaces and python3; where they are missing the emulator says so and the tests fail.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::cli::Run;
use crate::verbs::{Both, with_input};

/// Kind, permissions, time and content of everything below a directory.
pub(crate) fn tree(root: &Path) -> BTreeMap<String, (String, u32, i64)> {
    fn walk(root: &Path, at: &Path, out: &mut BTreeMap<String, (String, u32, i64)>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let (content, time) = if meta.is_symlink() {
                (format!("-> {}", fs::read_link(&path).unwrap().display()), 0)
            } else if meta.is_dir() {
                walk(root, &path, out);
                ("directory".to_owned(), meta.mtime())
            } else {
                (
                    format!(
                        "{:x?}",
                        sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(
                            fs::read(&path).unwrap()
                        ))
                    ),
                    meta.mtime(),
                )
            };
            let mode = if meta.is_symlink() { 0 } else { meta.permissions().mode() & 0o7777 };
            out.insert(path.strip_prefix(root).unwrap().display().to_string(), (content, mode, time));
        }
    }
    let mut out = BTreeMap::new();
    walk(root, root, &mut out);
    out
}

/// A directory with everything that is hard to copy.
pub(crate) fn odd_files(root: &Path) {
    let long = "long-".repeat(40);
    fs::create_dir_all(root.join("src/empty")).unwrap();
    fs::create_dir_all(root.join(format!("src/{long}"))).unwrap();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (name, content) in [
        ("src/bytes", bytes.as_slice()),
        ("src/-dash", b"1"),
        ("src/a b'c\"d$e", b"2"),
        ("src/new\nline", b"3"),
        ("src/\u{e9}\u{4e16}", b"4"),
        ("src/.hidden", b"5"),
        ("src/nothing", b""),
    ] {
        fs::write(root.join(name), content).unwrap();
    }
    fs::write(root.join(format!("src/{long}/{long}")), "deep").unwrap();
    fs::write(root.join("src/run.sh"), "#!/bin/sh\n").unwrap();
    symlink("run.sh", root.join("src/link")).unwrap();
    symlink("/etc/shadow", root.join("src/away")).unwrap();
    symlink(format!("/{long}"), root.join("src/far")).unwrap();
    for (name, mode) in [("src/run.sh", 0o755), ("src/.hidden", 0o600), ("src/empty", 0o500), ("src", 0o750)]
    {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_500_000_000);
    fs::File::open(root.join("src/run.sh")).unwrap().set_modified(time).unwrap();
}

type Maker<'a> = &'a dyn Fn(&[&str]) -> Command;

#[test]
fn files_come_back_as_they_went_in() {
    let both = Both::new();
    let world = tempfile::tempdir().unwrap();
    odd_files(world.path());
    let before = tree(&world.path().join("src"));
    let src = world.path().join("src").display().to_string();
    let (local, cloud) = (|args: &[&str]| both.local(args), |args: &[&str]| both.cloud(args));
    let makers: [(&str, Maker<'_>); 2] = [("local", &local), ("cloud", &cloud)];
    for (target, make) in makers {
        let back = world.path().join(target);
        fs::create_dir(&back).unwrap();
        let run = with_input(make(&["cp", &src, "s:/tmp/"]), None);
        assert_eq!(run.status, 0, "{}", run.stderr);
        let expected = format!("copied {src} to s:/tmp/src (12 files, 3000019 bytes)\n");
        assert_eq!(run.stdout, expected, "{}", run.stderr);
        let again = back.display().to_string();
        let run = with_input(make(&["cp", "s:/tmp/src", &again]), None);
        assert_eq!(
            run.stdout,
            format!("copied s:/tmp/src to {again}/src (12 files, 3000019 bytes)\n"),
            "{}",
            run.stderr
        );
        assert_eq!(tree(&back.join("src")), before, "{target}");
        // Once more onto what is there, by contents: nothing is doubled, what is besides stays.
        let run = with_input(
            make(&[
                "exec",
                "--session",
                "s",
                "sh",
                "-c",
                "echo mine >/tmp/src/mine; rm /tmp/src/run.sh; ln -s mine /tmp/src/run.sh",
            ]),
            None,
        );
        assert_eq!(run.status, 0, "{}", run.stderr);
        assert_eq!(with_input(make(&["cp", &format!("{src}/."), "s:/tmp/src"]), None).status, 0);
        let run = with_input(
            make(&[
                "exec",
                "--session",
                "s",
                "sh",
                "-c",
                "cat /tmp/src/mine /tmp/src/run.sh; ls -A /tmp /tmp/src | grep -c agentcore",
            ]),
            None,
        );
        assert_eq!(run.stdout, "mine\n#!/bin/sh\n0\n", "{}", run.stderr);
        let run = with_input(make(&["cp", ":/tmp/src/.", &format!("{again}/src")]), None);
        assert_eq!(run.status, 0, "{}", run.stderr);
        fs::remove_file(back.join("src/mine")).unwrap();
        let names = |tree: &BTreeMap<String, (String, u32, i64)>| tree.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&tree(&back.join("src"))), names(&before));
        assert_eq!(fs::read_dir(&back).unwrap().count(), 1, "something was left beside it");
    }
}

/// One line of the table: arguments, input, and the expected status, output and errors, where `DIR` is the
/// directory of the files and `ID` the session's.
struct Row<'a>(&'a [&'a str], Option<&'a [u8]>, i32, &'a str, &'a str);

#[test]
fn every_copy_and_every_refusal_says_the_same_on_both_targets() {
    let both = Both::new();
    let world = tempfile::tempdir().unwrap();
    let dir = world.path();
    fs::write(dir.join("notes.txt"), "milk\n").unwrap();
    fs::write(dir.join("other.txt"), "bread\n").unwrap();
    fs::create_dir_all(dir.join("again/notes.txt")).unwrap();
    // A file that has this size and takes no room.
    fs::File::create(dir.join("large")).unwrap().set_len(101_000_000).unwrap();
    let archive = {
        let output = Command::new("tar").args(["-cf", "-", "other.txt"]).current_dir(dir).output().unwrap();
        output.stdout
    };
    let program = |target: &str| if target == "local" { "agentcore local" } else { "agentcore" };
    let id = agentcore::model::session_id_for_name("lab", "s");
    let session = format!("session: s ({id})\n");
    let said = |text: &str| format!("{session}{text}");
    let json = json!({
        "sessionId": id, "name": "s",
        "copied": [{ "from": "DIR/notes.txt", "to": "s:/tmp/n.json", "files": 1, "bytes": 5 }],
    });
    let json = format!("{}\n", serde_json::to_string_pretty(&json).unwrap());
    let missing_hint = "hint: make it with `PROGRAM exec -- mkdir -p`\n";
    let (missing_in, gone_dir) = (
        said(&format!("error: the directory of `s:/nowhere/x` does not exist\n{missing_hint}")),
        said(&format!("error: the directory `s:/tmp/gone` does not exist\n{missing_hint}")),
    );
    let (not_there, no_dir) = (
        said("error: `s:/tmp/none` does not exist in the session\n"),
        said("error: `s:/tmp/n.txt` is no directory\nhint: name a directory, or remove what is there\n"),
    );
    let too_much_out = said(
        "error: `s:/tmp/large` has more than 74 MB, the most that commands can carry\n\
         hint: copy its parts one by one, or let a command in the session fetch or send it\n",
    );
    let is_dir = said("error: `DIR/again/notes.txt` is there and is a directory\n");
    let stream = said("copied s:/tmp/n.txt to - (1 file, 5 bytes)\n");
    let rows = [
        Row(
            &["cp", "DIR/notes.txt", "s:/tmp/n.txt"],
            None,
            0,
            "copied DIR/notes.txt to s:/tmp/n.txt (1 file, 5 bytes)\n",
            &session,
        ),
        Row(
            &["cp", "DIR/notes.txt", "DIR/other.txt", ":/tmp"],
            None,
            0,
            "copied DIR/notes.txt to :/tmp/notes.txt (1 file, 5 bytes)\ncopied DIR/other.txt to :/tmp/other.txt (1 file, 6 bytes)\n",
            &session,
        ),
        Row(
            &["cp", "s:/tmp/n.txt", "DIR/back.txt"],
            None,
            0,
            "copied s:/tmp/n.txt to DIR/back.txt (1 file, 5 bytes)\n",
            &session,
        ),
        Row(
            &["cp", "s:/tmp/n.txt", ":/tmp/other.txt", "s:/tmp/notes.txt", "DIR"],
            None,
            2,
            "",
            "error: the sources are in several sessions\nhint: copy from one at a time\n",
        ),
        Row(
            &["cp", "s:/tmp/n.txt", "s:/tmp/other.txt", "DIR/made"],
            None,
            1,
            "",
            "error: the directory `DIR/made` does not exist\nhint: make it with `mkdir -p`\n",
        ),
        Row(
            &["cp", "s:/tmp/n.txt", "DIR/made/"],
            None,
            0,
            "copied s:/tmp/n.txt to DIR/made/n.txt (1 file, 5 bytes)\n",
            &session,
        ),
        Row(&["cp", "DIR/notes.txt", "s:/tmp/n.json", "--output", "json"], None, 0, &json, &session),
        Row(
            &["cp", "DIR/notes.txt", "s:/tmp/new/"],
            None,
            0,
            "copied DIR/notes.txt to s:/tmp/new/notes.txt (1 file, 5 bytes)\n",
            &session,
        ),
        Row(
            &["cp", "-", "s:/tmp/new"],
            Some(&archive),
            0,
            "copied - to s:/tmp/new (1 file, 6 bytes)\n",
            &session,
        ),
        Row(&["exec", "--session", "s", "ls", "/tmp/new"], None, 0, "notes.txt\nother.txt\n", &session),
        Row(&["cp", "-", "s:/tmp/gone"], Some(&archive), 1, "", &gone_dir),
        Row(&["cp", "s:/tmp/n.txt", "-"], None, 0, "archive", &stream),
        Row(&["cp", "s:/tmp/none", "DIR"], None, 1, "", &not_there),
        Row(&["cp", "s:/tmp/notes.txt", "DIR/again"], None, 1, "", &is_dir),
        Row(&["cp", "DIR/notes.txt", "s:/nowhere/x"], None, 1, "", &missing_in),
        Row(&["cp", "DIR/again", "s:/tmp/n.txt"], None, 1, "", &no_dir),
        Row(&["exec", "--session", "s", "truncate", "-s", "80M", "/tmp/large"], None, 0, "", &session),
        Row(&["cp", "s:/tmp/large", "DIR"], None, 1, "", &too_much_out),
        Row(
            &["cp", "DIR/large", "t:/tmp"],
            None,
            1,
            "",
            "error: `DIR/large` has more than 100 MB, the most that commands can carry\n\
             hint: copy its parts one by one, or let a command in the session fetch or send it\n",
        ),
        Row(
            &["cp", "DIR/none", "s:/tmp"],
            None,
            1,
            "",
            "error: `DIR/none` cannot be read: No such file or directory (os error 2)\n",
        ),
        Row(
            &["cp", "s:/tmp/n.txt", "DIR/gone/x"],
            None,
            1,
            "",
            "error: the directory `DIR/gone` does not exist\nhint: make it with `mkdir -p`\n",
        ),
        Row(
            &["cp", "DIR/notes.txt", "DIR/other.txt"],
            None,
            2,
            "",
            "error: neither end is in a session\nhint: write `SESSION:PATH`, or `:PATH` for the project's last session\n",
        ),
        Row(
            &["cp", "s:/a", "t:/b"],
            None,
            2,
            "",
            "error: both ends are in a session\nhint: copy to this machine first, or use `exec -- cp` within one session\n",
        ),
        Row(
            &["cp", "s:", "DIR"],
            None,
            2,
            "",
            "error: `s:` names a session and no path in it\nhint: `s:.` is the directory where commands begin\n",
        ),
        Row(
            &["cp", "s:/a", "-", "--output", "json"],
            None,
            2,
            "json",
            "error: `-` writes an archive to standard output, where `--output json` writes JSON\n",
        ),
        Row(
            &["cp", "-", "s:/tmp"],
            None,
            2,
            "",
            "error: `-` reads an archive from standard input, and none is piped in\nhint: tar -cf - DIR | PROGRAM cp - s:/tmp\n",
        ),
    ];
    let root = dir.display().to_string();
    for Row(args, input, status, stdout, stderr) in rows {
        let args: Vec<String> = args.iter().map(|a| a.replace("DIR", &root)).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        for target in ["local", "cloud"] {
            let run: Run = match target {
                "local" => with_input(both.local(&args), input),
                _ => with_input(both.cloud(&args), input),
            };
            // The hint of a tar command has a DIR of its own.
            let stderr = stderr
                .replace("tar -cf - DIR", "tar -cf - D-I-R")
                .replace("DIR", &root)
                .replace("D-I-R", "DIR");
            let stderr = stderr.replace("PROGRAM", program(target));
            let told = run.stderr.replace(&both.told(), "");
            assert_eq!(
                (run.status, told.as_str()),
                (status, stderr.as_str()),
                "{target} {args:?}: {}",
                run.stdout
            );
            match stdout {
                "archive" => {
                    assert!(run.stdout.contains("n.txt") && run.stdout.contains("milk\n"), "{target}")
                }
                "json" => assert_eq!(
                    serde_json::from_str::<Value>(&run.stdout).unwrap()["error"]["exitCode"],
                    status
                ),
                text => assert_eq!(run.stdout, text.replace("DIR", &root), "{target} {args:?}"),
            }
            if target == "local" {
                let _ = fs::remove_dir_all(dir.join("made"));
            }
        }
    }
    assert_eq!(fs::read_to_string(dir.join("back.txt")).unwrap(), "milk\n");
    let mut left: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["again", "back.txt", "large", "notes.txt", "other.txt"]);
}

#[test]
fn a_copy_that_fails_in_the_session_leaves_nothing_there() {
    let both = Both::new();
    let world = tempfile::tempdir().unwrap();
    fs::create_dir(world.path().join("dir")).unwrap();
    fs::write(world.path().join("dir/x"), vec![b'x'; 300_000]).unwrap();
    let dir = world.path().join("dir").display().to_string();
    // A file stands where a directory of the archive is to go.
    let sh = |text: &str| with_input(both.local(&["exec", "--session", "s", "sh", "-c", text]), None);
    assert_eq!(sh("mkdir -p /tmp/to/dir/x").status, 0);
    let run = with_input(both.local(&["cp", &dir, "s:/tmp/to"]), None);
    assert_eq!(run.status, 1, "{}", run.stdout);
    assert!(
        run.stderr.contains("error: the session could not copy\n  | /tmp/to/dir/x: is a directory\n"),
        "{}",
        run.stderr
    );
    assert_eq!(sh("find /tmp -mindepth 1 | sort").stdout, "/tmp/to\n/tmp/to/dir\n/tmp/to/dir/x\n");
    // What cannot be read there is told by name, and nothing is left here.
    let run = with_input(both.local(&["cp", "s:/proc/1/mem", &dir]), None);
    assert_eq!(run.status, 1, "{}", run.stdout);
    assert!(run.stderr.contains("error: the session could not copy\n  | tar: "), "{}", run.stderr);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
}
