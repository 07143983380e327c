//! install.sh, run as a user runs it, with a release archive made from the program under test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support;

struct Archive {
    directory: TempDir,
    checksum: String,
}

impl Archive {
    /// `agentcore` and `completions/` in a tar.gz, as a release has them.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let content = directory.path().join("content");
        fs::create_dir_all(content.join("completions")).unwrap();
        // A script stands for the program, whose size makes no difference to the installer.
        fs::write(content.join("agentcore"), "#!/bin/sh\necho agentcore 0.0.0\n").unwrap();
        fs::set_permissions(content.join("agentcore"), fs::Permissions::from_mode(0o755)).unwrap();
        for file in ["agentcore.bash", "_agentcore", "agentcore.fish"] {
            fs::write(content.join("completions").join(file), "# completion\n").unwrap();
        }
        let archive = directory.path().join("agentcore.tar.gz");
        support::succeed(Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(&content).arg("."));
        let checksum = Sha256::digest(fs::read(&archive).unwrap());
        let checksum = checksum.iter().map(|b| format!("{b:02x}")).collect();
        Self { directory, checksum }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("agentcore.tar.gz")
    }
}

fn install(prefix: &Path, args: &[&str]) -> Output {
    let mut command = support::clean("sh");
    command.arg(support::repository().join("install.sh")).arg("--prefix").arg(prefix).args(args);
    command.output().unwrap()
}

fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn installs_an_archive_twice_and_uninstalls_all_of_it() {
    let archive = Archive::new();
    let prefix = tempfile::tempdir().unwrap();
    let path = archive.path();
    let args = ["--archive", path.to_str().unwrap(), "--checksum", &archive.checksum];
    for round in 0..2 {
        let output = install(prefix.path(), &args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "round {round}: {stderr}");
        assert_eq!(
            files(prefix.path()),
            [
                "bin/agentcore",
                "share/bash-completion/completions/agentcore",
                "share/fish/vendor_completions.d/agentcore.fish",
                "share/zsh/site-functions/_agentcore",
            ]
        );
    }
    let version = support::succeed(&mut Command::new(prefix.path().join("bin/agentcore")));
    assert_eq!(version.stdout, b"agentcore 0.0.0\n");
    for _ in 0..2 {
        let output = install(prefix.path(), &["--uninstall"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(files(prefix.path()), [""; 0]);
    }
}

#[test]
fn a_checksum_file_is_read_as_sha256sum_writes_it() {
    let archive = Archive::new();
    let prefix = tempfile::tempdir().unwrap();
    let sums = archive.directory.path().join("SHA256SUMS");
    let line = format!("{}  other.tar.gz\n{}  agentcore.tar.gz\n", "0".repeat(64), archive.checksum);
    fs::write(&sums, line).unwrap();
    let path = archive.path();
    let output =
        install(prefix.path(), &["--archive", path.to_str().unwrap(), "--checksum", sums.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn refuses_what_it_cannot_trust_and_installs_nothing() {
    let archive = Archive::new();
    let prefix = tempfile::tempdir().unwrap();
    let path = archive.path();
    let path = path.to_str().unwrap();
    let wrong = "0".repeat(64);
    for (args, message) in [
        (vec!["--archive", path, "--checksum", &wrong], "checksum"),
        (vec!["--archive", path], "--checksum"),
        (vec!["--archive", "/does/not/exist.tar.gz", "--checksum", &wrong], "/does/not/exist.tar.gz"),
        (vec!["--archive", path, "--checksum", "abc"], "abc"),
        (vec!["--frobnicate"], "--frobnicate"),
    ] {
        let output = install(prefix.path(), &args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{args:?}");
        assert!(stderr.contains("error: ") && stderr.contains(message), "{args:?}: {stderr}");
        assert_eq!(files(prefix.path()), [""; 0], "{args:?}");
    }
}
