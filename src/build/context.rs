//! What Docker would send to the builder: chosen by the ignore file, looked at for secrets, and put into one
//! hash, so that a build happens only when something changed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ignore::WalkBuilder;
use sha2::{Digest, Sha256};

use super::BuildError;
use crate::artifacts::{DockerIgnore, PackError};

/// What tools keep beside the agent's code: it changes with every command and not with the agent. It goes into
/// the image where no ignore file holds it back, and makes no new one.
const NOT_THE_AGENT: [&str; 3] = [".git", ".bedrock_agentcore", ".bedrock_agentcore.yaml"];
/// Files that begin so hold settings and keys of the developer.
const SECRET_PREFIX: &[u8] = b".env";
/// Read size.
const BLOCK: usize = 64 * 1024;
/// How long after a write a file's times may still stand still. [ours: as of code bundles]
const FRESH: Duration = Duration::from_secs(2);

/// A build's context: a directory and the ignore file that Docker takes for it.
#[derive(Debug)]
pub struct BuildContext {
    root: PathBuf,
    dockerfile: PathBuf,
    ignore_file: PathBuf,
    ignore: DockerIgnore,
}

/// What the context looks like from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextState {
    /// Names, sizes and times of all files, and the words given, as one hash.
    pub stamp: String,
    /// Something was written so shortly ago that the stamp is no proof for later.
    pub fresh: bool,
}

impl BuildContext {
    /// The context `root` for a build by `dockerfile`, which may stand elsewhere.
    pub fn open(root: &Path, dockerfile: &Path) -> Result<Self, BuildError> {
        // The one of the Dockerfile goes before the one of the directory, as Docker has it.
        let mut own = dockerfile.as_os_str().to_owned();
        own.push(".dockerignore");
        let own = PathBuf::from(own);
        let ignore_file = if own.is_file() { own } else { root.join(".dockerignore") };
        let ignore = DockerIgnore::read_file(&ignore_file)?.unwrap_or_default();
        Ok(Self { root: root.to_owned(), dockerfile: dockerfile.to_owned(), ignore_file, ignore })
    }

    /// The ignore file, which may not be there.
    pub fn ignore_file(&self) -> &Path {
        &self.ignore_file
    }

    /// The files that begin with `.env` and would go into the image. One that the ignore file has back by its
    /// name is meant to.
    pub fn secrets(&self) -> Result<Vec<PathBuf>, BuildError> {
        let mut found = Vec::new();
        self.walk(|path, metadata| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            if !metadata.is_dir() && name.starts_with(SECRET_PREFIX) && !self.ignore.has_back(path) {
                found.push(path.to_owned());
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The context as it looks now, without reading a file. `words` and the files `also` are whatever else decides
    /// over the image.
    pub fn state(&self, words: &[&str], also: &[&Path]) -> Result<ContextState, BuildError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let recent = i64::try_from(now.saturating_sub(FRESH).as_secs()).unwrap_or(i64::MAX);
        let mut hash = Sha256::new();
        let mut fresh = false;
        let mut look = |path: &Path, metadata: &fs::Metadata| {
            labelled(&mut hash, b'p', path.as_os_str().as_encoded_bytes());
            hash.update(metadata.mode().to_be_bytes());
            if !metadata.is_dir() {
                hash.update([metadata.size(), metadata.ino()].map(u64::to_be_bytes).concat());
                let times =
                    [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
                hash.update(times.map(i64::to_be_bytes).concat());
                fresh |= metadata.mtime().max(metadata.ctime()) >= recent;
            }
        };
        self.walk(|path, metadata| {
            look(path, metadata);
            Ok(())
        })?;
        for file in [self.dockerfile.as_path(), self.ignore_file.as_path()].iter().chain(also) {
            if let Ok(metadata) = file.metadata() {
                look(file, &metadata);
            }
        }
        for word in words {
            labelled(&mut hash, b'w', word.as_bytes());
        }
        Ok(ContextState { stamp: hex(&hash), fresh })
    }

    /// The hash over everything that decides over the image: the files' names, modes and contents, the Dockerfile,
    /// and `words`.
    pub fn hash(&self, words: &[&str]) -> Result<String, BuildError> {
        let mut hash = Sha256::new();
        self.walk(|path, metadata| {
            let file = self.root.join(path);
            let name = path.as_os_str().as_encoded_bytes();
            if metadata.is_dir() {
                labelled(&mut hash, b'd', name);
            } else if metadata.is_symlink() {
                labelled(&mut hash, b'l', name);
                let target = fs::read_link(&file).map_err(super::io("reading", &file))?;
                labelled(&mut hash, b'>', target.as_os_str().as_encoded_bytes());
            } else if metadata.is_file() {
                let executable = metadata.mode() & 0o111 != 0;
                labelled(&mut hash, if executable { b'x' } else { b'f' }, name);
                content(&mut hash, &file).map_err(super::io("reading", &file))?;
            }
            Ok(())
        })?;
        for (kind, file) in [(b'D', &self.dockerfile), (b'I', &self.ignore_file)] {
            labelled(&mut hash, kind, b"");
            match content(&mut hash, file) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(super::io("reading", file)(e));
                }
                _ => {}
            }
        }
        for word in words {
            labelled(&mut hash, b'w', word.as_bytes());
        }
        Ok(hex(&hash))
    }

    /// Every path that goes along, below the root and in one order.
    fn walk(
        &self,
        mut each: impl FnMut(&Path, &fs::Metadata) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        let (root, ignore) = (self.root.clone(), self.ignore.clone());
        let walker = WalkBuilder::new(&self.root)
            .standard_filters(false)
            .sort_by_file_name(Ord::cmp)
            .filter_entry(move |entry| {
                let Ok(below) = entry.path().strip_prefix(&root) else { return true };
                let directory = entry.file_type().is_some_and(|t| t.is_dir());
                if below.as_os_str().is_empty() {
                    return true;
                }
                let others = NOT_THE_AGENT.iter().any(|name| below == Path::new(name));
                !(others || directory && ignore.ignores_all_of(below))
            })
            .build();
        for entry in walker {
            let entry = entry.map_err(|source| PackError::Walk { source_dir: self.root.clone(), source })?;
            let Ok(below) = entry.path().strip_prefix(&self.root) else { continue };
            if below.as_os_str().is_empty() {
                continue;
            }
            let metadata = entry.path().symlink_metadata().map_err(super::io("reading", entry.path()))?;
            if !self.ignore.ignores(below, metadata.is_dir()) {
                each(below, &metadata)?;
            }
        }
        Ok(())
    }
}

fn labelled(hash: &mut Sha256, kind: u8, bytes: &[u8]) {
    hash.update([kind]);
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

/// A file's content and, after it, its length, which may not be what the walk saw.
fn content(hash: &mut Sha256, file: &Path) -> io::Result<()> {
    let mut input = File::open(file)?;
    let mut block = vec![0; BLOCK];
    let mut length = 0_u64;
    loop {
        let read = input.read(&mut block)?;
        let Some(piece) = block.get(..read).filter(|piece| !piece.is_empty()) else { break };
        hash.update(piece);
        length += read as u64;
    }
    hash.update(length.to_be_bytes());
    Ok(())
}

fn hex(hash: &Sha256) -> String {
    hash.clone().finalize().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = dir.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        dir
    }

    fn open(dir: &tempfile::TempDir) -> BuildContext {
        BuildContext::open(dir.path(), &dir.path().join("Dockerfile")).unwrap()
    }

    #[test]
    fn the_hash_follows_what_goes_into_the_image_and_nothing_else() {
        let dir = project(&[
            ("Dockerfile", "FROM x"),
            ("main.py", "1"),
            (".dockerignore", "notes\n"),
            ("notes/a", "1"),
            (".git/HEAD", "1"),
            (".bedrock_agentcore.yaml", "a: 1"),
        ]);
        let hash = || open(&dir).hash(&["linux/arm64"]).unwrap();
        let first = hash();
        for (file, text) in [("notes/a", "2"), (".git/HEAD", "2"), (".bedrock_agentcore.yaml", "a: 2")] {
            fs::write(dir.path().join(file), text).unwrap();
            assert_eq!(hash(), first, "{file}");
        }
        let mut seen = vec![first];
        for (file, text) in [("main.py", "2"), ("Dockerfile", "FROM y"), (".dockerignore", ""), ("new", "")] {
            fs::write(dir.path().join(file), text).unwrap();
            let now = hash();
            assert!(!seen.contains(&now), "{file}");
            seen.push(now);
        }
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(dir.path().join("new"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(!seen.contains(&hash()));
        assert_ne!(open(&dir).hash(&["linux/amd64"]).unwrap(), hash());
    }

    #[test]
    fn the_stamp_moves_with_a_files_times_and_what_is_just_written_is_no_proof() {
        let dir = project(&[("Dockerfile", "FROM x"), ("main.py", "1")]);
        let state = open(&dir).state(&[], &[]).unwrap();
        assert!(state.fresh);
        assert_eq!(open(&dir).state(&[], &[]).unwrap(), state);
        fs::write(dir.path().join("main.py"), "22").unwrap();
        assert_ne!(open(&dir).state(&[], &[]).unwrap().stamp, state.stamp);
        assert_ne!(
            open(&dir).state(&["word"], &[]).unwrap().stamp,
            open(&dir).state(&[], &[]).unwrap().stamp
        );
    }

    #[test]
    fn secrets_are_found_at_any_depth_unless_they_stay_behind_or_are_named() {
        let dir = project(&[
            ("Dockerfile", "FROM x"),
            (".env", "K=1"),
            ("sub/.env.local", "K=1"),
            (".env.example", ""),
            ("environment.py", ""),
        ]);
        let found = |ignore: &str| {
            fs::write(dir.path().join(".dockerignore"), ignore).unwrap();
            open(&dir).secrets().unwrap()
        };
        let all = [".env", ".env.example", "sub/.env.local"].map(PathBuf::from);
        assert_eq!(found(""), all);
        assert_eq!(found(".env*\n"), [PathBuf::from("sub/.env.local")]);
        assert!(found("**/.env*\n").is_empty());
        assert!(found("**/.env*\n!.env.example\n").is_empty());
        // The Dockerfile's own ignore file is the one that counts.
        fs::write(dir.path().join("Dockerfile.dockerignore"), "sub\n").unwrap();
        assert_eq!(found("**/.env*\n"), [".env", ".env.example"].map(PathBuf::from));
    }
}
