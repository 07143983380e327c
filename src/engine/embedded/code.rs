//! The agent's code without an overlay: copied into the session's memory.
//!
//! The launcher, which may read the bundle, walks it and sends every entry with its file already open; the
//! session's first process, which may not, writes them as its own.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path};

use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;

use super::plan::{Build, During, EntryKind, LaunchFailure, LaunchStep};
use crate::helper::control::Control;
use crate::helper::link::LinkError;

const STEP: LaunchStep = LaunchStep::Paths;
const PERMISSIONS: u32 = 0o7777;

/// Sends everything below `code`.
pub(super) fn send(control: &mut Control, code: &Path) -> Result<(), LinkError> {
    match send_below(control, code, Path::new(""))? {
        Ok(()) => control.send(&Build::End, vec![]),
        Err(failure) => control.send(&Build::Failed { failure }, vec![]),
    }
}

/// The outer error ends the line, the inner one is for the other end to know.
fn send_below(
    control: &mut Control,
    code: &Path,
    below: &Path,
) -> Result<Result<(), LaunchFailure>, LinkError> {
    let directory = code.join(below);
    let entries = fs::read_dir(&directory).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    let entries = match entries.during(STEP, format!("reading `{}`", directory.display())) {
        Ok(entries) => entries,
        Err(failure) => return Ok(Err(failure)),
    };
    for entry in entries {
        let path = below.join(entry.file_name());
        let (what, file) =
            match look(&entry.path()).during(STEP, format!("reading `{}`", entry.path().display())) {
                Ok(Some(found)) => found,
                // Sockets, pipes and devices are no code.
                Ok(None) => continue,
                Err(failure) => return Ok(Err(failure)),
            };
        let is_directory = matches!(what, EntryKind::Directory { .. });
        control.send(&Build::Entry { path: path.clone().into(), what }, file.into_iter().collect())?;
        if is_directory && let Err(failure) = send_below(control, code, &path)? {
            return Ok(Err(failure));
        }
    }
    Ok(Ok(()))
}

fn look(path: &Path) -> io::Result<Option<(EntryKind, Option<OwnedFd>)>> {
    let metadata = fs::symlink_metadata(path)?;
    let mode = metadata.mode() & PERMISSIONS;
    Ok(if metadata.is_dir() {
        Some((EntryKind::Directory { mode }, None))
    } else if metadata.is_symlink() {
        Some((EntryKind::Link { target: fs::read_link(path)?.into() }, None))
    } else if metadata.is_file() {
        let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Some((EntryKind::File { mode, modified }, Some(file.into())))
    } else {
        None
    })
}

/// Asks for the code and writes it below `target`.
pub(super) fn receive(control: &mut Control, target: &Path) -> Result<(), LaunchFailure> {
    let lost = |reason: String| LaunchFailure::words(STEP, "copying the code directory", reason);
    control.send(&Build::SendCode, vec![]).map_err(|e| lost(e.to_string()))?;
    // Modes of directories come last: one without write permission would take no files.
    let mut modes = Vec::new();
    loop {
        let (message, mut fds) = control
            .receive()
            .map_err(|e| lost(e.to_string()))?
            .ok_or_else(|| lost("the launcher ended".into()))?;
        match message {
            Build::Entry { path, what } => {
                let path = Path::new(&path);
                if !path.components().all(|part| matches!(part, Component::Normal(_))) {
                    return Err(lost(format!("`{}` is not below it", path.display())));
                }
                let at = target.join(path);
                if let EntryKind::Directory { mode } = what {
                    modes.push((at.clone(), mode));
                }
                write(&at, &what, fds.pop())
                    .during(STEP, format!("copying `{}` into the session", path.display()))?;
            }
            Build::End => break,
            Build::Failed { failure } => return Err(failure),
            _ => return Err(lost("an unexpected message".into())),
        }
    }
    for (path, mode) in modes.iter().rev() {
        fs::set_permissions(path, Permissions::from_mode(*mode))
            .during(STEP, format!("copying `{}`", path.display()))?;
    }
    Ok(())
}

fn write(at: &Path, what: &EntryKind, content: Option<OwnedFd>) -> io::Result<()> {
    match what {
        EntryKind::Directory { .. } => fs::DirBuilder::new().mode(0o755).create(at),
        EntryKind::Link { target } => symlink(target, at),
        EntryKind::File { mode, modified } => {
            let mut from = File::from(content.ok_or(io::ErrorKind::UnexpectedEof)?);
            let mut to = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(at)?;
            io::copy(&mut from, &mut to)?;
            to.set_permissions(Permissions::from_mode(*mode))?;
            let modified = TimeSpec::new(modified.0, modified.1);
            Ok(futimens(&to, &modified, &modified)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_arrives_as_it_was() {
        let from = tempfile::tempdir().unwrap();
        let to = tempfile::tempdir().unwrap();
        fs::create_dir_all(from.path().join("package/deep")).unwrap();
        fs::write(from.path().join("package/deep/main.py"), "print(1)\n").unwrap();
        fs::write(from.path().join("run.sh"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(from.path().join("run.sh"), Permissions::from_mode(0o755)).unwrap();
        symlink("run.sh", from.path().join("start")).unwrap();
        fs::set_permissions(from.path().join("package"), Permissions::from_mode(0o555)).unwrap();
        let (mut here, mut there) = Control::pair().unwrap();
        let source = from.path().to_owned();
        let sender = std::thread::spawn(move || {
            let asked = there.receive::<Build>().unwrap().unwrap().0;
            assert!(matches!(asked, Build::SendCode));
            send(&mut there, &source).unwrap();
        });
        receive(&mut here, to.path()).unwrap();
        sender.join().unwrap();
        let text = fs::read_to_string(to.path().join("package/deep/main.py")).unwrap();
        assert_eq!(text, "print(1)\n");
        let mode = |name: &str| to.path().join(name).metadata().unwrap().mode() & PERMISSIONS;
        assert_eq!((mode("run.sh"), mode("package")), (0o755, 0o555));
        assert_eq!(fs::read_link(to.path().join("start")).unwrap(), Path::new("run.sh"));
        let time = |root: &Path| root.join("package/deep/main.py").metadata().unwrap().modified().unwrap();
        assert_eq!(time(from.path()), time(to.path()));
        for root in [from.path(), to.path()] {
            fs::set_permissions(root.join("package"), Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn a_directory_that_cannot_be_read_is_told() {
        let to = tempfile::tempdir().unwrap();
        let (mut here, mut there) = Control::pair().unwrap();
        let sender = std::thread::spawn(move || {
            there.receive::<Build>().unwrap().unwrap();
            send(&mut there, Path::new("/no/such/code")).unwrap();
        });
        let failure = receive(&mut here, to.path()).unwrap_err();
        sender.join().unwrap();
        assert!(failure.to_string().contains("/no/such/code"), "{failure}");
    }
}
