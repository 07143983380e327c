//! This program's binary as containers of any content can run it.
//!
//! A static binary is shown as it is. One that is linked with the machine's libraries (as `cargo build` makes it) is
//! shown with its loader and libraries, and started through that loader: an image need not have any of them.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::plan::LIBRARIES;
use crate::engine::{EngineError, TOOL_PATH};

/// The entry of a program's table that names its loader. [ELF: PT_INTERP]
const LOADER_ENTRY: u32 = 3;
/// Most of a program that is read for it. [ours: the table stands at the beginning, with a path behind it]
const HEAD_BYTES: u64 = 64 * 1024;

/// The files of this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Helper {
    /// Host path and place in the container of each.
    pub(super) files: Vec<(PathBuf, String)>,
    /// What a command line that runs it begins with.
    pub(super) argv: Vec<String>,
}

impl Helper {
    /// Looks at the binary.
    pub(super) fn of(program: &Path) -> Result<Self, EngineError> {
        let failed = |e: io::Error| EngineError::Io {
            context: format!("looking at this program's own file `{}`", program.display()),
            source: e,
        };
        let mut files = vec![(program.to_owned(), TOOL_PATH.to_owned())];
        let Some(loader) = loader(program).map_err(failed)? else {
            return Ok(Self { files, argv: vec![TOOL_PATH.to_owned()] });
        };
        let place = |path: &Path| {
            path.file_name().map(|name| format!("{LIBRARIES}/{}", name.to_string_lossy())).unwrap_or_default()
        };
        let listed =
            Command::new(&loader).arg("--list").arg(program).env_clear().stdin(Stdio::null()).output();
        let listed = listed.map_err(failed)?;
        if !listed.status.success() {
            return Err(failed(io::Error::other("its loader does not tell its libraries")));
        }
        let argv = [place(&loader), "--library-path".into(), LIBRARIES.into(), TOOL_PATH.into()];
        let libraries = libraries(&String::from_utf8_lossy(&listed.stdout));
        files.extend(libraries.into_iter().filter(|path| *path != loader).map(|path| {
            let place = place(&path);
            (path, place)
        }));
        let at = place(&loader);
        files.push((loader, at));
        Ok(Self { files, argv: argv.to_vec() })
    }
}

/// Paths in the lines of a loader's list: `libc.so.6 => /lib/libc.so.6 (0x…)`.
fn libraries(list: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let (_, found) = line.split_once(" => ")?;
        let path = found.rsplit_once(" (").map_or(found, |(path, _)| path).trim();
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    list.lines().filter_map(path).collect()
}

/// The loader that a program names; nothing for a static one.
fn loader(program: &Path) -> io::Result<Option<PathBuf>> {
    let mut file = std::fs::File::open(program)?;
    let mut head = Vec::new();
    file.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
    let Some((at, length)) = loader_entry(&head) else { return Ok(None) };
    file.seek(SeekFrom::Start(at))?;
    let mut name = Vec::new();
    file.take(length.min(HEAD_BYTES)).read_to_end(&mut name)?;
    let name = String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned();
    Ok(Some(PathBuf::from(name)))
}

/// Where in the file the loader's name is, and how long. Programs of 64 bits, little end first: all that is run here.
fn loader_entry(head: &[u8]) -> Option<(u64, u64)> {
    let number = |at: usize, bytes: usize| -> Option<u64> {
        let slice = head.get(at..at.checked_add(bytes)?)?;
        Some(slice.iter().rev().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
    };
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    (0..count).find_map(|index| {
        let entry = usize::try_from(table.checked_add(index * size)?).ok()?;
        let named = number(entry, 4)? == u64::from(LOADER_ENTRY);
        named.then(|| Some((number(entry + 8, 8)?, number(entry + 32, 8)?)))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linked_program_comes_with_its_loader_and_libraries() {
        let own = std::env::current_exe().unwrap();
        let helper = Helper::of(&own).unwrap();
        assert_eq!(helper.files[0], (own.clone(), TOOL_PATH.to_owned()));
        assert_eq!(helper.argv.last().unwrap(), TOOL_PATH);
        if loader(&own).unwrap().is_some() {
            assert!(helper.files.iter().any(|(_, to)| to.contains("/libc.so")), "{:?}", helper.files);
            assert!(helper.files.iter().any(|(_, to)| *to == helper.argv[0]), "{:?}", helper.files);
        }
        for (from, to) in &helper.files {
            assert!(from.is_file() && to.starts_with("/opt/agentcore/"), "{from:?} {to}");
        }
    }

    #[test]
    fn what_is_no_program_has_no_loader() {
        for bytes in [&b""[..], b"#!/bin/sh\n", b"\x7fELF\x02\x01", &[0x7f; 200]] {
            assert_eq!(loader_entry(bytes), None);
        }
        let lines = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86 64/libc.so.6 (0x00007f)\n\t/lib64/ld.so (0x1)\n\tlibx.so => not found\n";
        assert_eq!(libraries(lines), [PathBuf::from("/lib/x86 64/libc.so.6")]);
    }

    proptest::proptest! {
        #[test]
        fn any_head_is_read_without_harm(mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            if bytes.len() > 6 {
                bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
            }
            let _ = loader_entry(&bytes);
        }
    }
}
