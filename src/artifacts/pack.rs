//! From a source directory to a bundle: chosen by the project's ignore files, copied, hashed, made
//! durable and given its name in one rename, so that a bundle exists whole or not at all.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use ignore::{DirEntry, WalkBuilder};
use sha2::{Digest, Sha256};

use super::{ArtifactStore, Manifest};
use crate::model::limits::{MAX_CODE_BYTES, MAX_ZIPPED_CODE_BYTES};

/// Directories that are tools' own, wherever they stand.
const TOOL_DIRECTORIES: [&str; 8] = [
    ".git",
    ".venv",
    "__pycache__",
    ".bedrock_agentcore",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".hg",
];
/// The project file: it says where to deploy, the agent does not read it, and tools rewrite it often.
const PROJECT_FILE: &str = ".bedrock_agentcore.yaml";
/// Packages of a Node agent: ignored by git as a rule, and needed all the same.
const NODE_PACKAGES: &str = "node_modules";
/// Read and write size.
const BLOCK: usize = 64 * 1024;

/// A bundle that was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Its name: the hash over everything in it.
    pub hash: String,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What could not go along, in words.
    pub skipped: Vec<String>,
}

impl Packed {
    /// True when the service might refuse it for its size as an archive. The emulator makes no archive, so
    /// what it would come to is not known; what is smaller before it is zipped fits in any case.
    pub fn may_be_too_large_zipped(&self) -> bool {
        self.bytes > MAX_ZIPPED_CODE_BYTES
    }
}

/// Why a directory cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Too much for the service.
    #[error(
        "the code in `{}` is {} MB, and the service takes {} MB unpacked",
        source_dir.display(), bytes / 1_000_000, MAX_CODE_BYTES / 1_000_000
    )]
    TooLarge {
        /// The directory.
        source_dir: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// An ignore file has a line that is no pattern, or the directory cannot be walked.
    #[error("`{}` cannot be walked: {source}", source_dir.display())]
    Walk {
        /// The directory.
        source_dir: PathBuf,
        /// The walker's error.
        #[source]
        source: ignore::Error,
    },
    /// The file system refused something.
    #[error("{context} `{}`: {source}", path.display())]
    Io {
        /// What was being done.
        context: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// What a source directory looks like from outside: names, sizes, times and inodes of what would go
/// along, without reading a file. As long as it is the same, so is the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    digest: String,
    /// Something was written so shortly before the look that a write right after it may have left the
    /// same times: what was packed then is no proof for later.
    pub fresh: bool,
}

impl Stamp {
    /// How long after a write a file's times may still stand still. [ours: file systems count in ticks of
    /// up to 10 ms, some of those that hosts share with virtual machines in 2 s]
    const FRESH: std::time::Duration = std::time::Duration::from_secs(2);

    /// Looks at `source`, and at single files that matter as well, whether they are there or not.
    pub fn of(source: &Path, also: &[&Path]) -> Result<Self, PackError> {
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let recent = i64::try_from(now.saturating_sub(Self::FRESH).as_secs()).unwrap_or(i64::MAX);
        let mut hash = Sha256::new();
        let mut fresh = false;
        let (items, _) = choose(source)?;
        let paths = items.iter().map(|item| source.join(item.path()));
        for path in paths.chain(also.iter().map(|path| path.to_path_buf())) {
            let name = path.as_os_str().as_encoded_bytes();
            hash.update((name.len() as u64).to_be_bytes());
            hash.update(name);
            // What has gone since the walk, or was never there, is a state too.
            let Ok(m) = fs::symlink_metadata(&path) else { continue };
            hash.update(m.mode().to_be_bytes());
            if m.is_dir() {
                continue;
            }
            hash.update([m.size(), m.ino()].map(u64::to_be_bytes).concat());
            let times = [m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()];
            hash.update(times.map(i64::to_be_bytes).concat());
            fresh |= m.mtime().max(m.ctime()) >= recent;
        }
        Ok(Self { digest: hex(&hash.finalize()), fresh })
    }

    /// The stamp as text.
    pub fn as_str(&self) -> &str {
        &self.digest
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// One thing to copy, by its path below the source directory.
enum Item {
    Directory(PathBuf),
    File(PathBuf, u64),
    Link(PathBuf, PathBuf),
}

impl Item {
    fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::File(path, _) | Self::Link(path, _) => path,
        }
    }
}

impl ArtifactStore {
    /// Packs `source` with `manifest` into a bundle. The same content gives the same bundle.
    pub fn pack(&self, source: &Path, manifest: &Manifest) -> Result<Packed, PackError> {
        let (items, skipped) = choose(source)?;
        let (mut files, mut bytes) = (0, 0);
        for item in &items {
            if let Item::File(_, size) = item {
                files += 1;
                bytes += size;
            }
        }
        if bytes > MAX_CODE_BYTES {
            return Err(PackError::TooLarge { source_dir: source.to_owned(), bytes });
        }
        // Reading is cheap and flushing is not: what is there already is neither copied nor made durable again.
        let known = fill(None, source, &items, manifest)?;
        if self.root.join(&known).join("manifest.json").is_file() {
            return Ok(Packed { hash: known, files, bytes, skipped });
        }
        fs::create_dir_all(&self.root).map_err(io("making", &self.root))?;
        let scratch = tempfile::Builder::new()
            .prefix(".packing-")
            .tempdir_in(&self.root)
            .map_err(io("making a directory in", &self.root))?;
        let hash = fill(Some(scratch.path()), source, &items, manifest)?;
        sync(scratch.path())?;
        let target = self.root.join(&hash);
        match fs::rename(scratch.path(), &target) {
            Ok(()) => {
                // What was renamed is no longer the guard's to delete.
                let _ = scratch.keep();
                File::open(&self.root).and_then(|d| d.sync_all()).map_err(io("flushing", &self.root))?;
            }
            // The same content is there already, packed earlier or just now by somebody else.
            Err(_) if target.join("manifest.json").is_file() => {}
            Err(e) => return Err(io("naming", &target)(e)),
        }
        Ok(Packed { hash, files, bytes, skipped })
    }
}

fn io<'a>(context: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> PackError + 'a {
    move |source| PackError::Io { context, path: path.to_owned(), source }
}

/// What goes along, sorted by path, and what cannot.
fn choose(source: &Path) -> Result<(Vec<Item>, Vec<String>), PackError> {
    let walk = |e| PackError::Walk { source_dir: source.to_owned(), source: e };
    let docker = docker_ignore(source)?;
    let mut walkers = vec![
        WalkBuilder::new(source)
            .hidden(false)
            .parents(false)
            .git_global(false)
            .require_git(false)
            .filter_entry({
                let source = source.to_owned();
                move |entry| wanted(entry, &source, &docker)
            })
            .build(),
    ];
    let packages = source.join(NODE_PACKAGES);
    if packages.is_dir() {
        walkers.push(WalkBuilder::new(&packages).standard_filters(false).build());
    }
    let (mut items, mut skipped) = (Vec::new(), Vec::new());
    let root = source.canonicalize().map_err(io("reading", source))?;
    for entry in walkers.into_iter().flatten() {
        let entry = entry.map_err(walk)?;
        let Ok(path) = entry.path().strip_prefix(source).map(Path::to_owned) else { continue };
        if path.as_os_str().is_empty() {
            continue;
        }
        let metadata = entry.path().symlink_metadata().map_err(io("reading", entry.path()))?;
        if metadata.is_dir() {
            items.push(Item::Directory(path));
        } else if metadata.is_file() {
            items.push(Item::File(path, metadata.len()));
        } else if metadata.is_symlink() {
            let target = fs::read_link(entry.path()).map_err(io("reading", entry.path()))?;
            let inside =
                target.is_relative() && entry.path().canonicalize().is_ok_and(|real| real.starts_with(&root));
            if inside {
                items.push(Item::Link(path, target));
            } else {
                skipped.push(format!("`{}` is a link to `{}`", path.display(), target.display()));
            }
        } else {
            skipped.push(format!("`{}` is neither a file nor a directory", path.display()));
        }
    }
    items.sort_by(|a, b| a.path().cmp(b.path()));
    Ok((items, skipped))
}

fn wanted(entry: &DirEntry, source: &Path, docker: &Gitignore) -> bool {
    let path = entry.path();
    if path == source {
        return true;
    }
    let name = entry.file_name().to_string_lossy();
    let directory = entry.file_type().is_some_and(|t| t.is_dir());
    if directory {
        // A virtual environment of any name is bound to this machine; `node_modules` has its own walk.
        let packages = path.parent() == Some(source) && name == NODE_PACKAGES;
        if packages || TOOL_DIRECTORIES.contains(&name.as_ref()) || path.join("pyvenv.cfg").is_file() {
            return false;
        }
    } else if name.starts_with(".env") || name == PROJECT_FILE || name.ends_with(".pyc") {
        // Secrets of the developer's machine stay there.
        return false;
    }
    !docker.matched(path, directory).is_ignore()
}

/// `.dockerignore` of the source directory. Its patterns begin at the root, where git's match in
/// every directory unless they hold a slash; otherwise the two languages agree.
fn docker_ignore(source: &Path) -> Result<Gitignore, PackError> {
    let walk = |e| PackError::Walk { source_dir: source.to_owned(), source: e };
    let mut builder = GitignoreBuilder::new(source);
    let file = source.join(".dockerignore");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(io("reading", &file)(e)),
    };
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (not, pattern) = match line.strip_prefix('!') {
            Some(rest) => ("!", rest.trim_start()),
            None => ("", line),
        };
        let pattern = pattern.trim_start_matches("./").trim_start_matches('/');
        builder.add_line(Some(file.clone()), &format!("{not}/{pattern}")).map_err(walk)?;
    }
    builder.build().map_err(walk)
}

/// Copies the items and writes the manifest; gives the hash over what was really written. Without a
/// `scratch` it only reads, and gives the hash over that.
fn fill(
    scratch: Option<&Path>,
    source: &Path,
    items: &[Item],
    manifest: &Manifest,
) -> Result<String, PackError> {
    let readable = |path: &Path, mode| {
        // Sessions run under an id of their own, which must be able to read everything.
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(io("opening to readers", path))
    };
    let code = scratch.map(|scratch| scratch.join("code"));
    if let (Some(scratch), Some(code)) = (scratch, &code) {
        readable(scratch, 0o755)?;
        fs::create_dir(code).map_err(io("making", code))?;
        readable(code, 0o755)?;
    }
    let mut hash = Sha256::new();
    let label = |kind: u8, path: &Path, hash: &mut Sha256| {
        let path = path.as_os_str().as_encoded_bytes();
        hash.update([kind]);
        hash.update((path.len() as u64).to_be_bytes());
        hash.update(path);
    };
    let mut block = vec![0; BLOCK];
    for item in items {
        let to = code.as_ref().map(|code| code.join(item.path()));
        match item {
            Item::Directory(path) => {
                label(b'd', path, &mut hash);
                if let Some(to) = &to {
                    fs::create_dir(to).map_err(io("making", to))?;
                    readable(to, 0o755)?;
                }
            }
            Item::Link(path, target) => {
                label(b'l', path, &mut hash);
                label(b'>', target, &mut hash);
                if let Some(to) = &to {
                    std::os::unix::fs::symlink(target, to).map_err(io("making", to))?;
                }
            }
            Item::File(path, _) => {
                let from = source.join(path);
                let mut input = File::open(&from).map_err(io("reading", &from))?;
                let executable = input.metadata().map_err(io("reading", &from))?.mode() & 0o111 != 0;
                label(if executable { b'x' } else { b'f' }, path, &mut hash);
                let mut output = match &to {
                    Some(to) => Some((File::create_new(to).map_err(io("making", to))?, to)),
                    None => None,
                };
                let mut length = 0_u64;
                loop {
                    let read = input.read(&mut block).map_err(io("reading", &from))?;
                    let Some(piece) = block.get(..read).filter(|p| !p.is_empty()) else { break };
                    hash.update(piece);
                    if let Some((output, to)) = &mut output {
                        output.write_all(piece).map_err(io("writing", to))?;
                    }
                    length += read as u64;
                }
                // The length after the content: it may differ from what the walk saw.
                hash.update(length.to_be_bytes());
                if let Some(to) = &to {
                    readable(to, if executable { 0o755 } else { 0o644 })?;
                }
            }
        }
    }
    let text = serde_json::to_vec_pretty(manifest).map_err(io::Error::other);
    let text = text.map_err(io("writing the manifest of", source))?;
    hash.update([b'm']);
    hash.update(&text);
    if let Some(scratch) = scratch {
        let file = scratch.join("manifest.json");
        fs::write(&file, &text).map_err(io("writing", &file))?;
        readable(&file, 0o644)?;
    }
    Ok(hex(&hash.finalize()))
}

/// Makes a whole tree durable with one call instead of one for each file.
fn sync(path: &Path) -> Result<(), PackError> {
    let directory = File::open(path).map_err(io("opening", path))?;
    nix::unistd::syncfs(&directory).map_err(|e| io("flushing", path)(e.into()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::Launch;
    use super::*;

    fn manifest(program: &str) -> Manifest {
        Manifest {
            format: Manifest::FORMAT,
            launch: Launch::Command { argv: vec![program.into()] },
            read_only: Vec::new(),
            environment: Vec::new(),
        }
    }

    fn put(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn names(root: &Path) -> BTreeSet<String> {
        WalkBuilder::new(root)
            .standard_filters(false)
            .build()
            .map(Result::unwrap)
            .filter(|e| !e.file_type().unwrap().is_dir())
            .map(|e| e.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn the_limit_of_an_archive_is_a_warning_from_its_number_on() {
        let packed = |bytes| Packed { hash: String::new(), files: 1, bytes, skipped: Vec::new() };
        assert!(!packed(250_000_000).may_be_too_large_zipped());
        assert!(packed(250_000_001).may_be_too_large_zipped());
    }

    #[test]
    fn a_stamp_changes_with_what_would_be_packed_and_with_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("main.py"), "one").unwrap();
        fs::write(path(".gitignore"), "*.log\n").unwrap();
        let marker = path(".venv/pyvenv.cfg");
        let look = || Stamp::of(dir.path(), &[&marker]).unwrap();
        let first = look();
        assert!(first.fresh);
        assert_eq!(look().as_str(), first.as_str());
        fs::write(path("agent.log"), "not packed").unwrap();
        assert_eq!(look().as_str(), first.as_str());
        // The same size and the same time of modification: the time of the change of the inode tells.
        let modified = fs::metadata(path("main.py")).unwrap().modified().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let file = File::options().write(true).open(path("main.py")).unwrap();
        (&file).write_all(b"two").unwrap();
        file.set_modified(modified).unwrap();
        let second = look();
        assert_ne!(second.as_str(), first.as_str());
        fs::create_dir(path(".venv")).unwrap();
        fs::write(&marker, "").unwrap();
        assert_ne!(look().as_str(), second.as_str());
    }

    #[test]
    fn ignore_files_decide_and_secrets_never_go_along() {
        let home = tempfile::tempdir().unwrap();
        let project = tempfile::tempdir().unwrap();
        put(
            project.path(),
            &[
                ("main.py", "x"),
                ("lib/helper.py", "y"),
                ("lib/notes.md", "kept: the pattern stands for the root"),
                ("README.md", "ignored by .dockerignore"),
                ("build/out.bin", "ignored by .gitignore"),
                (".gitignore", "build/\nnode_modules/\n"),
                (".dockerignore", "*.md\n# remark\n"),
                (".env", "SECRET=1"),
                (".env.local", "SECRET=1"),
                (".git/config", ""),
                (".venv/pyvenv.cfg", ""),
                ("env-of-mine/pyvenv.cfg", ""),
                ("env-of-mine/bin/python", ""),
                ("lib/__pycache__/helper.pyc", ""),
                (".bedrock_agentcore.yaml", "name: a"),
                ("node_modules/left-pad/index.js", "kept"),
            ],
        );
        let packed = ArtifactStore::below(home.path()).pack(project.path(), &manifest("x")).unwrap();
        let bundle = ArtifactStore::below(home.path()).find(&packed.hash).unwrap();
        let expected = [
            ".dockerignore",
            ".gitignore",
            "lib/helper.py",
            "lib/notes.md",
            "main.py",
            "node_modules/left-pad/index.js",
        ];
        assert_eq!(names(&bundle.code), expected.map(String::from).into());
        assert_eq!(packed.files, expected.len() as u64);
    }

    #[test]
    fn the_hash_follows_content_mode_and_manifest() {
        let home = tempfile::tempdir().unwrap();
        let project = tempfile::tempdir().unwrap();
        put(project.path(), &[("main.py", "x"), ("a/b", "")]);
        let store = ArtifactStore::below(home.path());
        let pack = |program: &str| store.pack(project.path(), &manifest(program)).unwrap().hash;
        let first = pack("one");
        assert_eq!(first, pack("one"));
        assert_ne!(first, pack("two"));
        fs::set_permissions(project.path().join("main.py"), Permissions::from_mode(0o700)).unwrap();
        let executable = pack("one");
        assert_ne!(first, executable);
        fs::write(project.path().join("main.py"), "z").unwrap();
        assert_ne!(executable, pack("one"));
        // Nothing half done is left, and everything is readable whatever the source's modes were.
        let left: Vec<_> = fs::read_dir(store.root()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.iter().all(|n| n.len() == 64), "{left:?}");
        let mode = fs::metadata(store.find(&executable).unwrap().code.join("main.py")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o755);
    }

    #[test]
    fn links_stay_inside_or_are_named() {
        let home = tempfile::tempdir().unwrap();
        let project = tempfile::tempdir().unwrap();
        put(project.path(), &[("real.txt", "x")]);
        std::os::unix::fs::symlink("real.txt", project.path().join("inside")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", project.path().join("outside")).unwrap();
        std::os::unix::fs::symlink("../../etc", project.path().join("up")).unwrap();
        let store = ArtifactStore::below(home.path());
        let packed = store.pack(project.path(), &manifest("x")).unwrap();
        assert_eq!(packed.skipped.len(), 2, "{:?}", packed.skipped);
        let code = store.find(&packed.hash).unwrap().code;
        assert_eq!(fs::read_link(code.join("inside")).unwrap(), Path::new("real.txt"));
        assert!(code.join("outside").symlink_metadata().is_err());
    }

    #[test]
    fn too_much_code_is_refused_with_both_sizes() {
        let home = tempfile::tempdir().unwrap();
        let project = tempfile::tempdir().unwrap();
        // Sparse: the check is on sizes, before anything is copied.
        File::create(project.path().join("big")).unwrap().set_len(MAX_CODE_BYTES + 1_000_000).unwrap();
        let error = ArtifactStore::below(home.path()).pack(project.path(), &manifest("x")).unwrap_err();
        assert!(error.to_string().contains("751 MB"), "{error}");
        assert!(error.to_string().contains("750 MB"), "{error}");
    }
}
