//! File systems of a test's own: a small one in memory, and ext4 on an image.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

use crate::support;

/// A mount that goes with its value, whoever still uses it.
pub struct Mount {
    at: PathBuf,
}

impl Mount {
    pub fn path(&self) -> &Path {
        &self.at
    }

    fn new(at: PathBuf, arguments: &[&str]) -> Result<Self, String> {
        std::fs::create_dir_all(&at).unwrap();
        run(Command::new("mount").args(arguments).arg(&at))?;
        Ok(Self { at })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A directory for images and mount points, in memory where there is some: what waits for a disk here is
/// the file system on the image, not the one below it.
pub fn room() -> TempDir {
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    builder.prefix("ac-");
    if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() }.unwrap()
}

/// A file system in memory of so many megabytes; nothing, said by [`support::skip`], where it cannot be mounted.
pub fn small(test: &str, room: &Path, megabytes: u32) -> Option<Mount> {
    let size = format!("size={megabytes}m");
    let made = Mount::new(room.join("small"), &["-t", "tmpfs", "-o", &size, "small"]);
    made.map_err(|missing| support::skip(test, &missing)).ok()
}

/// A new ext4 of so many megabytes on an image, mounted; nothing where there are no loop devices.
pub fn image(test: &str, room: &Path, megabytes: u64) -> Option<(PathBuf, Mount)> {
    let path = room.join("image");
    File::create(&path).unwrap().set_len(megabytes * 1024 * 1024).unwrap();
    let made = run(Command::new("mkfs.ext4")
        .args(["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
        .arg(&path));
    let mounted = made.and_then(|()| mount_image(&path, room.join("live")));
    mounted.map_err(|missing| support::skip(test, &missing)).ok().map(|mount| (path, mount))
}

/// Mounts an image, whose journal is replayed as after a power cut.
pub fn mount_image(image: &Path, at: PathBuf) -> Result<Mount, String> {
    let image = image.to_str().unwrap();
    Mount::new(at, &["-t", "ext4", "-o", "loop", image])
}
