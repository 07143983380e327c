//! An archive of a session as files of this machine. Whatever runs in the session may have made it, so nothing in it
//! is trusted: names stay below the destination, links are made and never followed, and only what was asked for is
//! taken. It is unpacked into a directory of our own first and moved when it is whole.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tar::{Archive, Entry, EntryType};

use super::{MOST_OUT, too_much};
use crate::cli::exit::Failure;
use crate::cli::ui::Ui;

/// Permissions that are taken from an archive: no program of a session runs here as somebody else.
const MODES: u32 = 0o777;
/// Mode of directories that the archive does not name.
const DIRECTORY: u32 = 0o755;

/// What a directory shall be when everything is in it.
struct Directory {
    mode: u32,
    time: Option<SystemTime>,
}

struct Unpacked {
    stage: PathBuf,
    /// By their paths below the stage.
    directories: BTreeMap<PathBuf, Directory>,
    files: u64,
    bytes: u64,
    skipped: Vec<String>,
}

/// Unpacks an archive whose only top is `top`, which becomes `destination`; without one, all that is in the archive
/// comes into the directory `destination`. Gives the number of files and their bytes.
pub(super) fn unpack(
    archive: &[u8],
    top: Option<&str>,
    destination: &Path,
    is_directory: bool,
    ui: &Ui,
) -> Result<(u64, u64), Failure> {
    let shown = destination.display();
    let unwritable = |e: io::Error| Failure::failed(format!("`{shown}` cannot be written: {e}"));
    let parent = match (top, destination.is_dir()) {
        (None, true) => destination,
        _ => destination.parent().unwrap_or(destination),
    };
    if top.is_some() && is_directory && destination.symlink_metadata().is_ok_and(|m| !m.is_dir()) {
        return Err(Failure::failed(format!("`{shown}` is there and is no directory")));
    }
    let stage = tempfile::Builder::new().prefix(".agentcore-cp-").tempdir_in(parent).map_err(unwritable)?;
    let mut unpacked = Unpacked {
        stage: stage.path().to_owned(),
        directories: BTreeMap::new(),
        files: 0,
        bytes: 0,
        skipped: Vec::new(),
    };
    let mut entries = Archive::new(archive);
    for entry in entries.entries().map_err(malformed)? {
        unpacked.take(entry.map_err(malformed)?, top)?;
    }
    let from = top.map_or_else(|| stage.path().to_owned(), |top| stage.path().join(top));
    if from.symlink_metadata().is_err() {
        return Err(Failure::failed("the session's archive does not have what was asked for"));
    }
    if top.is_none() && !destination.exists() {
        fs::create_dir(destination).map_err(unwritable)?;
    }
    // Everything is looked at before anything is moved.
    check(&from, destination)?;
    let mut moved = Vec::new();
    let placed = place(&from, destination, &mut moved);
    // What was moved has its modes and times, even where not everything could be.
    let finished = unpacked.finish(&moved);
    placed.and(finished).map_err(unwritable)?;
    for name in &unpacked.skipped {
        ui.warn(format!("`{}` is neither a file, a directory nor a link, and is left out", ui.plain(name)));
    }
    Ok((unpacked.files, unpacked.bytes))
}

fn malformed(error: io::Error) -> Failure {
    Failure::failed(format!("the session's archive cannot be read: {error}; nothing was copied"))
}

fn refused(name: &[u8], why: &str) -> Failure {
    let name = String::from_utf8_lossy(name).replace(char::is_control, " ");
    Failure::failed(format!("the session's archive has `{name}`, {why}; nothing was copied"))
        .hint("such a name is not made by copying: look at what runs in the session")
}

/// The path below the destination that a name in an archive means.
fn below(name: &[u8]) -> Result<PathBuf, Failure> {
    if name.starts_with(b"/") || name.contains(&0) {
        return Err(refused(name, "which is not below the destination"));
    }
    let mut path = PathBuf::new();
    for part in name.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(refused(name, "which is not below the destination")),
            part => path.push(OsStr::from_bytes(part)),
        }
    }
    Ok(path)
}

impl Unpacked {
    fn take(&mut self, mut entry: Entry<'_, impl Read>, top: Option<&str>) -> Result<(), Failure> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let name = entry.path_bytes().into_owned();
        let path = below(&name)?;
        if let Some(top) = top
            && path.components().next().is_some_and(|first| first.as_os_str() != top)
        {
            return Err(refused(&name, "which was not asked for"));
        }
        let mode = entry.header().mode().map_err(malformed)? & MODES;
        let time = entry
            .header()
            .mtime()
            .ok()
            .and_then(|s| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(s)));
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        self.make_parents(&name, &path)?;
        let full = self.stage.join(&path);
        let there = full.symlink_metadata().ok();
        if kind == EntryType::Directory {
            match there {
                Some(found) if !found.is_dir() => return Err(refused(&name, "which it has twice")),
                Some(_) => {}
                None => make_directory(&full)?,
            }
            self.directories.insert(path, Directory { mode, time });
            return Ok(());
        }
        if there.is_some() {
            return Err(refused(&name, "which it has twice"));
        }
        let failed = |e: io::Error| Failure::failed(format!("`{}` cannot be written: {e}", full.display()));
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mut options = OpenOptions::new();
                let mut file =
                    options.write(true).create_new(true).mode(0o600).open(&full).map_err(failed)?;
                let left = MOST_OUT.saturating_sub(self.bytes);
                let written = io::copy(&mut (&mut entry).take(left + 1), &mut file).map_err(failed)?;
                if written > left {
                    return Err(too_much("the session's archive", MOST_OUT));
                }
                file.set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
                if let Some(time) = time {
                    file.set_modified(time).map_err(failed)?;
                }
                self.bytes += written;
            }
            EntryType::Symlink => {
                let link = entry.link_name_bytes().ok_or_else(|| refused(&name, "a link to nothing"))?;
                symlink(OsStr::from_bytes(&link), &full).map_err(failed)?;
            }
            EntryType::Link => {
                let link = entry.link_name_bytes().ok_or_else(|| refused(&name, "a link to nothing"))?;
                let other = below(&link)?;
                self.make_parents(&name, &other)?;
                let other = self.stage.join(other);
                if !other.symlink_metadata().is_ok_and(|m| m.is_file()) {
                    return Err(refused(&name, "a second name of a file that it does not have"));
                }
                fs::hard_link(other, &full).map_err(failed)?;
            }
            _ => {
                self.skipped.push(String::from_utf8_lossy(&name).into_owned());
                return Ok(());
            }
        }
        self.files += 1;
        Ok(())
    }

    /// Makes the directories above a path; through anything else no path leads.
    fn make_parents(&mut self, name: &[u8], path: &Path) -> Result<(), Failure> {
        let mut above: Vec<&Path> = path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
        above.reverse();
        for directory in above {
            let full = self.stage.join(directory);
            match full.symlink_metadata() {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(refused(name, "which leads through a link or a file")),
                Err(_) => {
                    make_directory(&full)?;
                    self.directories.insert(directory.to_owned(), Directory { mode: DIRECTORY, time: None });
                }
            }
        }
        Ok(())
    }

    /// Gives the directories that were moved as a whole their modes and times, the deepest first.
    fn finish(&self, moved: &[(PathBuf, PathBuf)]) -> io::Result<()> {
        for (path, directory) in self.directories.iter().rev() {
            let staged = self.stage.join(path);
            let found = moved.iter().find_map(|(from, to)| {
                staged.strip_prefix(from).ok().map(|rest| match rest.as_os_str().is_empty() {
                    true => to.clone(),
                    false => to.join(rest),
                })
            });
            let Some(found) = found else { continue };
            let file = File::open(&found)?;
            if let Some(time) = directory.time {
                file.set_modified(time)?;
            }
            file.set_permissions(Permissions::from_mode(directory.mode))?;
        }
        Ok(())
    }
}

fn make_directory(path: &Path) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().mode(0o700).create(path);
    made.map_err(|e| Failure::failed(format!("`{}` cannot be made: {e}", path.display())))
}

/// Refuses what cannot be moved. Directories are merged; the first one may be a link, which the user named.
fn check(from: &Path, to: &Path) -> Result<(), Failure> {
    let is_directory = |path: &Path| path.symlink_metadata().is_ok_and(|m| m.is_dir());
    if !is_directory(from) {
        return match is_directory(to) {
            true => Err(Failure::failed(format!("`{}` is there and is a directory", to.display()))),
            false => Ok(()),
        };
    }
    for entry in read(from)? {
        let below = to.join(&entry);
        let from = from.join(&entry);
        if is_directory(&from) && below.symlink_metadata().is_ok_and(|m| !m.is_dir()) {
            return Err(Failure::failed(format!("`{}` is there and is no directory", below.display()))
                .hint("nothing was copied; links to directories are not followed"));
        }
        check(&from, &below)?;
    }
    Ok(())
}

fn read(directory: &Path) -> Result<Vec<std::ffi::OsString>, Failure> {
    let failed = |e: io::Error| Failure::failed(format!("`{}` cannot be read: {e}", directory.display()));
    let entries = fs::read_dir(directory).map_err(failed)?;
    entries.map(|e| e.map(|e| e.file_name()).map_err(failed)).collect()
}

/// Moves by renaming; notes what was moved as a whole, from where and to where.
fn place(from: &Path, to: &Path, moved: &mut Vec<(PathBuf, PathBuf)>) -> io::Result<()> {
    if from.symlink_metadata()?.is_dir() && to.is_dir() {
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            place(&from.join(&name), &to.join(&name), moved)?;
        }
        return Ok(());
    }
    fs::rename(from, to)?;
    moved.push((from.to_owned(), to.to_owned()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tar::{Builder, Header};

    use super::*;
    use crate::cli::env::Env;
    use crate::cli::{ColorChoice, OutputFormat};

    fn ui() -> Ui {
        Ui::new(OutputFormat::Text, ColorChoice::Never, true, 0, &Env::default())
    }

    /// An archive with names as they are given, which no honest program would write.
    fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (kind, name, content) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o4755);
            header.set_mtime(1_000_000_000);
            let field = &mut header.as_old_mut().name;
            field[..name.len()].copy_from_slice(name.as_bytes());
            let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
            if is_link {
                let field = &mut header.as_old_mut().linkname;
                field[..content.len()].copy_from_slice(content.as_bytes());
            }
            let content = if is_link { "" } else { content };
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    use EntryType::{Directory as D, Fifo, Link, Regular as F, Symlink as S};

    #[test]
    fn names_that_lead_elsewhere_are_refused_and_nothing_is_copied() {
        let outside = tempfile::tempdir().unwrap();
        let aim = outside.path().join("passwd");
        fs::write(&aim, "kept").unwrap();
        let link = outside.path().to_str().unwrap();
        let absolute = format!("{link}/passwd");
        let hostile: Vec<Vec<(EntryType, &str, &str)>> = vec![
            vec![(F, "../evil", "x")],
            vec![(F, "top/../../evil", "x")],
            vec![(F, &absolute, "x")],
            vec![(F, "other", "x")],
            vec![(D, "top", ""), (S, "top/link", link), (F, "top/link/passwd", "x")],
            vec![(S, "top", link), (F, "top/passwd", "x")],
            vec![(S, "top", link), (D, "top", ""), (F, "top/passwd", "x")],
            vec![(D, "top", ""), (S, "top/f", &absolute), (F, "top/f", "x")],
            vec![(D, "top", ""), (Link, "top/f", &absolute)],
            vec![(D, "top", ""), (Link, "top/f", "../../etc/passwd")],
            vec![(D, "top", ""), (S, "top/s", link), (Link, "top/f", "top/s/passwd")],
            vec![(D, "top", ""), (S, "top/s", &absolute), (Link, "top/f", "top/s")],
        ];
        for entries in hostile {
            let place = tempfile::tempdir().unwrap();
            let failure = unpack(&archive(&entries), Some("top"), &place.path().join("copy"), false, &ui())
                .unwrap_err();
            assert!(failure.message.contains("nothing was copied"), "{entries:?}: {}", failure.message);
            assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "{entries:?} left something");
            assert_eq!(fs::read_to_string(&aim).unwrap(), "kept", "{entries:?}");
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{entries:?}");
        }
    }

    #[test]
    fn what_is_copied_has_modes_times_and_links_and_comes_whole() {
        let place = tempfile::tempdir().unwrap();
        let copy = place.path().join("copy");
        let bytes = archive(&[
            (D, "top", ""),
            (F, "./top/run.sh", "#!/bin/sh\n"),
            (S, "top/link", "/nowhere"),
            (Link, "top/again", "top/run.sh"),
            (Fifo, "top/fifo", ""),
            (F, "top/made/deep", "x"),
        ]);
        assert_eq!(unpack(&bytes, Some("top"), &copy, true, &ui()).unwrap(), (4, 11));
        let meta = fs::metadata(copy.join("run.sh")).unwrap();
        // The bit that would run it as its owner is not taken over.
        assert_eq!(meta.permissions().mode() & 0o7777, 0o755);
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        assert_eq!(meta.modified().unwrap(), time);
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o7777, 0o755);
        assert_eq!(fs::metadata(&copy).unwrap().modified().unwrap(), time);
        assert_eq!(fs::read_link(copy.join("link")).unwrap(), Path::new("/nowhere"));
        assert!(!copy.join("fifo").exists());
        // On top of what is there: merged, links replaced and not followed, the rest kept.
        fs::remove_file(copy.join("run.sh")).unwrap();
        fs::write(place.path().join("mine"), "mine").unwrap();
        symlink("../mine", copy.join("run.sh")).unwrap();
        fs::write(copy.join("kept"), "kept").unwrap();
        assert_eq!(unpack(&bytes, Some("top"), &copy, true, &ui()).unwrap(), (4, 11));
        assert_eq!(fs::read_to_string(place.path().join("mine")).unwrap(), "mine");
        assert_eq!(fs::read_to_string(copy.join("kept")).unwrap(), "kept");
        assert!(!copy.join("run.sh").symlink_metadata().unwrap().is_symlink());
        // A link of this machine in the place of a directory is not followed either.
        fs::remove_dir_all(copy.join("made")).unwrap();
        symlink("/tmp", copy.join("made")).unwrap();
        let failure = unpack(&bytes, Some("top"), &copy, true, &ui()).unwrap_err();
        assert!(failure.message.ends_with("is there and is no directory"), "{}", failure.message);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_takes_the_place_of_a_file_and_never_of_a_directory() {
        let place = tempfile::tempdir().unwrap();
        let copy = place.path().join("copy");
        fs::write(&copy, "old").unwrap();
        assert_eq!(unpack(&archive(&[(F, "top", "new")]), Some("top"), &copy, false, &ui()).unwrap(), (1, 3));
        assert_eq!(fs::read_to_string(&copy).unwrap(), "new");
        let failure = unpack(&archive(&[(D, "top", "")]), Some("top"), &copy, true, &ui()).unwrap_err();
        assert!(failure.message.ends_with("is there and is no directory"), "{}", failure.message);
        fs::remove_file(&copy).unwrap();
        fs::create_dir(&copy).unwrap();
        let failure = unpack(&archive(&[(F, "top", "new")]), Some("top"), &copy, false, &ui()).unwrap_err();
        assert!(failure.message.ends_with("is there and is a directory"), "{}", failure.message);
        assert_eq!(unpack(&archive(&[(F, "a", "x")]), None, &copy, true, &ui()).unwrap(), (1, 1));
        assert_eq!(fs::read_to_string(copy.join("a")).unwrap(), "x");
        assert!(unpack(&[], Some("top"), &place.path().join("none"), false, &ui()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_archive_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..2048),
            at in 0_usize..1536,
        ) {
            let place = tempfile::tempdir().unwrap();
            let to = place.path().join("a/b");
            fs::create_dir(place.path().join("a")).unwrap();
            let _ = unpack(&bytes, None, &to, true, &ui());
            // An honest one with a few bytes of another.
            let mut honest = archive(&[(D, "top", ""), (F, "top/f", "text")]);
            for (place, byte) in honest.iter_mut().skip(at).zip(&bytes).take(16) {
                *place = *byte;
            }
            let _ = unpack(&honest, None, &to, true, &ui());
            prop_assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
            prop_assert!(fs::read_dir(place.path().join("a")).unwrap().all(|e| e.unwrap().file_name() == "b"));
        }
    }
}
