//! Files of this machine as an archive for a session.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::too_much;
use crate::cli::exit::Failure;
use crate::cli::ui::Ui;

/// Bytes of a block of an archive.
const BLOCK: u64 = 512;

/// A number of files, and their bytes.
pub(super) type Count = (u64, u64);

/// Something to be copied into a session.
pub(super) struct Source {
    /// As it was given.
    pub(super) given: String,
    path: PathBuf,
    /// The name that it gets.
    pub(super) name: String,
    /// `DIR/.`: what is in the directory, without the directory.
    pub(super) contents_only: bool,
    pub(super) is_directory: bool,
}

impl Source {
    pub(super) fn new(given: &str, here: &Path) -> Result<Self, Failure> {
        let path = here.join(given);
        let metadata = path.symlink_metadata().map_err(|e| unreadable(given, &e))?;
        // A directory without a name of its own has contents all the same.
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
        let contents_only = name.is_none() || given == "." || given.ends_with("/.");
        if contents_only && !path.is_dir() {
            return Err(Failure::failed(format!("`{given}` is no directory")));
        }
        let is_directory = contents_only || metadata.is_dir();
        Ok(Self {
            given: given.to_owned(),
            path,
            name: name.unwrap_or_default(),
            contents_only,
            is_directory,
        })
    }
}

fn unreadable(what: &str, error: &std::io::Error) -> Failure {
    Failure::failed(format!("`{what}` cannot be read: {error}"))
}

/// Something below a source.
struct Item {
    path: PathBuf,
    /// Its name in the archive.
    name: PathBuf,
    metadata: Metadata,
}

/// What is at and below a path, in the order of names.
fn walk(path: &Path, name: &Path, out: &mut Vec<Item>) -> Result<(), Failure> {
    let failed = |e| unreadable(&path.display().to_string(), &e);
    let metadata = path.symlink_metadata().map_err(failed)?;
    let is_directory = metadata.is_dir();
    out.push(Item { path: path.to_owned(), name: name.to_owned(), metadata });
    if is_directory {
        walk_below(path, name, out)?;
    }
    Ok(())
}

fn walk_below(path: &Path, name: &Path, out: &mut Vec<Item>) -> Result<(), Failure> {
    let failed = |e| unreadable(&path.display().to_string(), &e);
    let entries = std::fs::read_dir(path).map_err(failed)?;
    let mut names =
        entries.map(|e| e.map(|e| e.file_name())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    names.sort();
    names.iter().try_for_each(|below| walk(&path.join(below), &name.join(below), out))
}

fn items(source: &Source, rename: Option<&str>) -> Result<Vec<Item>, Failure> {
    let mut all = Vec::new();
    match source.contents_only {
        true => walk_below(&source.path, Path::new(""), &mut all)?,
        false => walk(&source.path, Path::new(rename.unwrap_or(&source.name)), &mut all)?,
    }
    Ok(all)
}

/// Refuses sources that do not fit, by their sizes alone, and sources that would come to lie on each other.
pub(super) fn check(sources: &[Source], most: u64) -> Result<(), Failure> {
    let mut bytes = 2 * BLOCK;
    for (at, source) in sources.iter().enumerate() {
        let alike = |s: &Source| !s.contents_only && !source.contents_only && s.name == source.name;
        if let Some(other) = sources.iter().take(at).find(|s| alike(s)) {
            return Err(Failure::usage(format!(
                "`{}` and `{}` have the same name",
                other.given, source.given
            )));
        }
        for item in items(source, None)? {
            bytes += BLOCK;
            if item.metadata.is_file() {
                bytes += item.metadata.len().div_ceil(BLOCK) * BLOCK;
            }
        }
        if bytes > most {
            let all: Vec<String> = sources.iter().map(|s| format!("`{}`", s.given)).collect();
            return Err(too_much(&all.join(" and "), most));
        }
    }
    Ok(())
}

/// The archive of the sources, the only one under the name `rename` where that is given; and of each the number of files
/// and their bytes.
pub(super) fn pack(
    sources: &[Source],
    rename: Option<&str>,
    ui: &Ui,
) -> Result<(Vec<u8>, Vec<Count>), Failure> {
    let mut builder = Builder::new(Vec::new());
    let mut counts = Vec::new();
    for source in sources {
        let (mut files, mut bytes) = (0, 0);
        for item in items(source, rename)? {
            let shown = item.path.display().to_string();
            let failed = |e: std::io::Error| unreadable(&shown, &e);
            let kind = item.metadata.file_type();
            let mut header = Header::new_gnu();
            header.set_mode(item.metadata.permissions().mode() & 0o7777);
            header.set_mtime(u64::try_from(item.metadata.mtime()).unwrap_or(0));
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(0);
            if kind.is_dir() {
                header.set_entry_type(EntryType::Directory);
                builder.append_data(&mut header, &item.name, std::io::empty()).map_err(failed)?;
            } else if kind.is_symlink() {
                header.set_entry_type(EntryType::Symlink);
                let link = std::fs::read_link(&item.path).map_err(failed)?;
                builder.append_link(&mut header, &item.name, link).map_err(failed)?;
                files += 1;
            } else if kind.is_file() {
                let size = item.metadata.len();
                header.set_entry_type(EntryType::Regular);
                header.set_size(size);
                let mut content = Vec::new();
                let file = File::open(&item.path).map_err(failed)?;
                file.take(size + 1).read_to_end(&mut content).map_err(failed)?;
                if content.len() as u64 != size {
                    return Err(Failure::failed(format!("`{shown}` changed while it was read"))
                        .hint("nothing was copied; run the command again"));
                }
                builder.append_data(&mut header, &item.name, content.as_slice()).map_err(failed)?;
                (files, bytes) = (files + 1, bytes + size);
            } else {
                ui.warn(format!("`{shown}` is neither a file, a directory nor a link, and is left out"));
            }
        }
        counts.push((files, bytes));
    }
    let bytes =
        builder.into_inner().map_err(|e| Failure::failed(format!("the archive cannot be made: {e}")))?;
    Ok((bytes, counts))
}

/// The number of files in an archive and their bytes.
pub(super) fn count(archive: &[u8]) -> Result<Count, Failure> {
    let failed = |e: std::io::Error| Failure::failed(format!("this is no tar archive: {e}"));
    let (mut files, mut bytes) = (0, 0);
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.header().entry_type().is_dir() {
            (files, bytes) = (files + 1, bytes + entry.size());
        }
    }
    Ok((files, bytes))
}
