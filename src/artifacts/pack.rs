//! From a source directory to a bundle: chosen by the project's ignore files, copied, hashed, made
//! durable and given its name in one rename, so that a bundle exists whole or not at all.
//!
//! `.dockerignore` decides alone where there is one, else git's ignore files do. What the command names
//! goes along in any case; the developer's secrets do not, unless `.dockerignore` has them back by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use ignore::{DirEntry, WalkBuilder};
use sha2::{Digest, Sha256};

use super::{ArtifactStore, Launch, Manifest};
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
/// Directories that hold keys of the developer.
const SECRET_DIRECTORIES: [&str; 3] = [".aws", ".ssh", ".gnupg"];
/// Files that do. Those that begin with `.env` come on top, and keys that are known by what is in them.
const SECRET_FILES: [&str; 8] =
    [".netrc", ".npmrc", ".pypirc", ".git-credentials", "id_rsa", "id_ed25519", "id_ecdsa", "id_dsa"];
/// How a private key begins and ends in text; the certificates of authorities have no such line.
const PRIVATE_KEY: &[u8] = b"PRIVATE KEY-----";
/// How far a `.pem` or `.key` is searched for a private key. [ours: Mozilla's whole list of authorities has 0.3 MB]
const KEY_SEARCH_BYTES: u64 = 4 * 1024 * 1024;
/// Secrets that are named one by one when they stay here; of more there is a count. [ours]
const NAMED_SECRETS: usize = 3;
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
    /// The emulator's state would be part of the code.
    #[error("the emulator's home `{}` is the directory of the agent's code", home.display())]
    Home {
        /// The directory.
        home: PathBuf,
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

    /// Looks at `source` as [`ArtifactStore::pack`] would for an agent with the command `argv` and a store below
    /// `home`, and at single files that matter as well, whether they are there or not.
    pub fn of(source: &Path, home: &Path, argv: &[String], also: &[&Path]) -> Result<Self, PackError> {
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let recent = i64::try_from(now.saturating_sub(Self::FRESH).as_secs()).unwrap_or(i64::MAX);
        let mut hash = Sha256::new();
        let mut fresh = false;
        let (items, _) = choose(source, home, argv)?;
        let paths = items.keys().map(|path| source.join(path));
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

    /// The stamp of something that was looked at elsewhere.
    pub fn made(digest: String, fresh: bool) -> Self {
        Self { digest, fresh }
    }

    /// The stamp as text.
    pub fn as_str(&self) -> &str {
        &self.digest
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// One thing to copy.
enum Item {
    Directory,
    File(u64),
    Link(PathBuf),
}

/// What to copy, by its path below the source directory; parents come before what is in them.
type Items = BTreeMap<PathBuf, Item>;

impl ArtifactStore {
    /// Packs `source` with `manifest` into a bundle. The same content gives the same bundle.
    pub fn pack(&self, source: &Path, manifest: &Manifest) -> Result<Packed, PackError> {
        fs::create_dir_all(&self.root).map_err(io("making", &self.root))?;
        let home = self.root.parent().unwrap_or(&self.root);
        let argv = match &manifest.launch {
            Launch::Command { argv } => argv.as_slice(),
            Launch::Python { .. } => &[],
        };
        let (items, skipped) = choose(source, home, argv)?;
        self.store(source, manifest, items, skipped)
    }

    /// Makes a bundle of everything in `source`, which somebody else has chosen.
    pub fn keep(&self, source: &Path, manifest: &Manifest) -> Result<Packed, PackError> {
        fs::create_dir_all(&self.root).map_err(io("making", &self.root))?;
        let mut items = Items::new();
        for entry in WalkBuilder::new(source).standard_filters(false).build() {
            let entry = entry.map_err(|e| PackError::Walk { source_dir: source.to_owned(), source: e })?;
            let Ok(path) = entry.path().strip_prefix(source).map(Path::to_owned) else { continue };
            let metadata = entry.path().symlink_metadata().map_err(io("reading", entry.path()))?;
            if path.as_os_str().is_empty() {
                continue;
            }
            if metadata.is_dir() {
                add(&mut items, path, Item::Directory);
            } else if metadata.is_file() {
                add(&mut items, path, Item::File(metadata.len()));
            }
        }
        self.store(source, manifest, items, Vec::new())
    }

    fn store(
        &self,
        source: &Path,
        manifest: &Manifest,
        items: Items,
        skipped: Vec<String>,
    ) -> Result<Packed, PackError> {
        let (mut files, mut bytes) = (0, 0);
        for item in items.values() {
            if let Item::File(size) = item {
                files += 1;
                bytes += size;
            }
        }
        if bytes > MAX_CODE_BYTES {
            return Err(PackError::TooLarge { source_dir: source.to_owned(), bytes });
        }
        // Reading is cheap and flushing is not: what is there already is neither copied nor made durable again.
        let known = fill(None, source, &items, manifest)?;
        if self.hold(&known).map_err(io("keeping a bundle in", &self.root))? {
            return Ok(Packed { hash: known, files, bytes, skipped });
        }
        let scratch = tempfile::Builder::new()
            .prefix(super::sweep::PACKING)
            .tempdir_in(&self.root)
            .map_err(io("making a directory in", &self.root))?;
        let hash = fill(Some(scratch.path()), source, &items, manifest)?;
        sync(scratch.path())?;
        let target = self.root.join(&hash);
        let _lock = self.shared().map_err(io("locking", &self.root))?;
        match fs::rename(scratch.path(), &target) {
            Ok(()) => {
                // What was renamed is no longer the guard's to delete.
                let _ = scratch.keep();
                File::open(&self.root).and_then(|d| d.sync_all()).map_err(io("flushing", &self.root))?;
            }
            // The same content is there already, packed earlier or just now by somebody else.
            Err(_) if target.join("manifest.json").is_file() => {
                self.hold_locked(&hash).map_err(io("keeping", &target))?;
            }
            Err(e) => return Err(io("naming", &target)(e)),
        }
        Ok(Packed { hash, files, bytes, skipped })
    }
}

fn io<'a>(context: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> PackError + 'a {
    move |source| PackError::Io { context, path: path.to_owned(), source }
}

/// What goes along, and what does not although nothing ignores it.
fn choose(source: &Path, home: &Path, argv: &[String]) -> Result<(Items, Vec<String>), PackError> {
    let walk = |e| PackError::Walk { source_dir: source.to_owned(), source: e };
    let root = source.canonicalize().map_err(io("reading", source))?;
    // Nothing of one that is not there can go along.
    let home = &home.canonicalize().unwrap_or_else(|_| home.to_owned());
    if *home == root {
        return Err(PackError::Home { home: home.to_owned() });
    }
    let rules = Arc::new(Rules {
        source: source.to_owned(),
        home: home.strip_prefix(&root).ok().map(|below| source.join(below)),
        docker: DockerIgnore::read(source)?,
    });
    let git = rules.docker.is_none();
    let mut walkers = vec![
        WalkBuilder::new(source)
            .hidden(false)
            .parents(false)
            .git_global(false)
            .require_git(false)
            .ignore(git)
            .git_ignore(git)
            .git_exclude(git)
            .filter_entry({
                let rules = Arc::clone(&rules);
                move |entry| rules.enter(entry)
            })
            .build(),
    ];
    let packages = source.join(NODE_PACKAGES);
    if packages.is_dir() {
        walkers.push(WalkBuilder::new(&packages).standard_filters(false).build());
    }
    let (mut items, mut skipped, mut secrets) = (Items::new(), Vec::new(), BTreeSet::new());
    for entry in walkers.into_iter().flatten() {
        let entry = entry.map_err(walk)?;
        let Ok(path) = entry.path().strip_prefix(source).map(Path::to_owned) else { continue };
        if path.as_os_str().is_empty() {
            continue;
        }
        let metadata = entry.path().symlink_metadata().map_err(io("reading", entry.path()))?;
        let ignored = rules.docker.as_ref().is_some_and(|d| d.ignores(&path, metadata.is_dir()));
        if ignored && !path.starts_with(NODE_PACKAGES) {
            continue;
        }
        if let Some(secret) = rules.secret(&path, &metadata)? {
            secrets.insert(secret);
        } else if metadata.is_dir() {
            add(&mut items, path, Item::Directory);
        } else if metadata.is_file() {
            add(&mut items, path, Item::File(metadata.len()));
        } else if metadata.is_symlink() {
            let target = fs::read_link(entry.path()).map_err(io("reading", entry.path()))?;
            let inside =
                target.is_relative() && entry.path().canonicalize().is_ok_and(|real| real.starts_with(&root));
            if inside {
                add(&mut items, path, Item::Link(target));
            } else {
                skipped.push(format!("`{}` is a link to `{}`", path.display(), target.display()));
            }
        } else {
            skipped.push(format!("`{}` is neither a file nor a directory", path.display()));
        }
    }
    for path in argv.iter().filter_map(|word| named(word, &root, home)) {
        if items.contains_key(&path) {
            continue;
        }
        let file = source.join(&path);
        let metadata = file.metadata().map_err(io("reading", &file))?;
        if let Some(secret) = rules.secret(&path, &metadata)? {
            secrets.insert(secret);
            continue;
        }
        // A program may well be whole in itself; a script has others beside it more often than not.
        if git && metadata.mode() & 0o111 == 0 {
            skipped.push(format!(
                "what git ignores beside `{}`, which the command names (a `.dockerignore` decides instead of \
                 `.gitignore`)",
                path.display()
            ));
        }
        add(&mut items, path, Item::File(metadata.len()));
    }
    if !secrets.is_empty() {
        let named: Vec<_> =
            secrets.iter().take(NAMED_SECRETS).map(|s| format!("`{}`", s.display())).collect();
        let more = match secrets.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        skipped.push(format!("what may hold secrets: {}{more}", named.join(", ")));
    }
    Ok((items, skipped))
}

/// The files of a directory that would go into a bundle, by their paths below it. Of links those whose file would go, too:
/// whoever reads through one has the file.
pub(super) fn chosen(source: &Path, home: &Path) -> Result<Vec<PathBuf>, PackError> {
    let (items, _) = choose(source, home, &[])?;
    let root = source.canonicalize().map_err(io("reading", source))?;
    let goes = |path: &Path| matches!(items.get(path), Some(Item::File(_)));
    let files = items.iter().filter(|(path, item)| match item {
        Item::File(_) => true,
        Item::Link(_) => {
            let real = source.join(path).canonicalize();
            real.is_ok_and(|real| real.strip_prefix(&root).is_ok_and(goes))
        }
        Item::Directory => false,
    });
    Ok(files.map(|(path, _)| path.clone()).collect())
}

/// Adds an item with the directories it is in, which may be ignored themselves.
fn add(items: &mut Items, path: PathBuf, item: Item) {
    for parent in path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()) {
        items.entry(parent.to_owned()).or_insert(Item::Directory);
    }
    items.insert(path, item);
}

/// The file of the source directory that a word of the command names, by its path without links.
fn named(word: &str, root: &Path, home: &Path) -> Option<PathBuf> {
    let path = Path::new(word);
    if !path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
        return None;
    }
    let real =
        root.join(path).canonicalize().ok().filter(|real| real.is_file() && !real.starts_with(home))?;
    let below = real.strip_prefix(root).ok()?;
    let tool = |c: Component<'_>| TOOL_DIRECTORIES.iter().any(|t| c.as_os_str() == *t);
    (!below.components().any(tool)).then(|| below.to_owned())
}

/// What decides over the files of a source directory, beside git's ignore files.
struct Rules {
    source: PathBuf,
    /// The emulator's home, when it is in the source directory: it changes with every deployment.
    home: Option<PathBuf>,
    docker: Option<DockerIgnore>,
}

impl Rules {
    /// Whether the walk goes there.
    fn enter(&self, entry: &DirEntry) -> bool {
        let path = entry.path();
        let Some(below) = path.strip_prefix(&self.source).ok().filter(|p| !p.as_os_str().is_empty()) else {
            return true;
        };
        let name = entry.file_name().to_string_lossy();
        if !entry.file_type().is_some_and(|t| t.is_dir()) {
            return name != PROJECT_FILE && !name.ends_with(".pyc");
        }
        // A virtual environment of any name is bound to this machine; `node_modules` has its own walk.
        let packages = below == Path::new(NODE_PACKAGES);
        let tool = TOOL_DIRECTORIES.contains(&name.as_ref()) || path.join("pyvenv.cfg").is_file();
        let home = self.home.as_deref() == Some(path);
        !packages && !tool && !home && !self.docker.as_ref().is_some_and(|d| d.ignores_all_of(below))
    }

    /// The part of a path that makes it a secret.
    fn secret(&self, path: &Path, metadata: &fs::Metadata) -> Result<Option<PathBuf>, PackError> {
        let is = |path: &Path, names: &[&str]| names.iter().any(|n| path.file_name() == Some(n.as_ref()));
        let within = path.ancestors().find(|part| is(part, &SECRET_DIRECTORIES));
        if let Some(directory) = within {
            return Ok(Some(directory.to_owned()));
        }
        if metadata.is_dir() || self.docker.as_ref().is_some_and(|d| d.has_back(path)) {
            return Ok(None);
        }
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let secret = name.starts_with(b".env")
            || is(path, &SECRET_FILES)
            || path.ends_with(".docker/config.json")
            || (metadata.is_file() && has_key(path, &self.source.join(path))?);
        Ok(secret.then(|| path.to_owned()))
    }
}

/// A file whose name may be a key's and that has a private one in it.
fn has_key(path: &Path, file: &Path) -> Result<bool, PackError> {
    if !path.extension().is_some_and(|e| e == "pem" || e == "key") {
        return Ok(false);
    }
    let mut text = Vec::new();
    let read = File::open(file).and_then(|f| f.take(KEY_SEARCH_BYTES).read_to_end(&mut text));
    read.map_err(io("reading", file))?;
    Ok(text.windows(PRIVATE_KEY.len()).any(|w| w == PRIVATE_KEY))
}

/// `.dockerignore` of the source directory. Its patterns begin at the root, where git's match in every
/// directory unless they hold a slash; the last line that matches a path or a directory it is in decides.
#[derive(Debug, Clone, Default)]
pub struct DockerIgnore(Vec<DockerLine>);

#[derive(Debug, Clone)]
struct DockerLine {
    /// With `!`: what it matches goes along.
    not: bool,
    /// What its pattern matches last: a file's name unless it has wildcards.
    name: String,
    glob: Gitignore,
}

impl DockerIgnore {
    fn read(source: &Path) -> Result<Option<Self>, PackError> {
        Self::read_file(&source.join(".dockerignore"))
    }

    /// Reads such a file; nothing where there is none.
    pub fn read_file(file: &Path) -> Result<Option<Self>, PackError> {
        match fs::read_to_string(file) {
            Ok(text) => {
                let walk = |e| PackError::Walk { source_dir: file.to_owned(), source: e };
                Self::parse(&text).map(Some).map_err(walk)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io("reading", file)(e)),
        }
    }

    fn parse(text: &str) -> Result<Self, ignore::Error> {
        let mut lines = Vec::new();
        let text = text.trim_start_matches('\u{feff}');
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let (not, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim_start()),
                None => (false, line),
            };
            let pattern = pattern.trim_start_matches("./").trim_matches('/');
            if pattern.is_empty() || pattern == "." {
                continue;
            }
            let name = pattern.rsplit('/').next().unwrap_or_default().to_owned();
            let mut builder = GitignoreBuilder::new(".");
            builder.add_line(None, &format!("/{pattern}"))?;
            lines.push(DockerLine { not, name, glob: builder.build()? });
        }
        Ok(Self(lines))
    }

    /// Stays behind.
    pub fn ignores(&self, path: &Path, directory: bool) -> bool {
        let matching =
            |line: &&DockerLine| line.glob.matched_path_or_any_parents(path, directory).is_ignore();
        self.0.iter().rev().find(matching).is_some_and(|line| !line.not)
    }

    /// Nothing in this directory can go along.
    pub fn ignores_all_of(&self, directory: &Path) -> bool {
        self.ignores(directory, true) && !self.0.iter().any(|line| line.not)
    }

    /// A line has this very file back by its name.
    pub fn has_back(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default();
        let by_name = |line: &DockerLine| {
            line.not && name == line.name.as_str() && line.glob.matched(path, false).is_ignore()
        };
        self.0.iter().any(by_name) && !self.ignores(path, false)
    }
}

/// Copies the items and writes the manifest; gives the hash over what was really written. Without a
/// `scratch` it only reads, and gives the hash over that.
fn fill(
    scratch: Option<&Path>,
    source: &Path,
    items: &Items,
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
    for (path, item) in items {
        let to = code.as_ref().map(|code| code.join(path));
        match item {
            Item::Directory => {
                label(b'd', path, &mut hash);
                if let Some(to) = &to {
                    fs::create_dir(to).map_err(io("making", to))?;
                    readable(to, 0o755)?;
                }
            }
            Item::Link(target) => {
                label(b'l', path, &mut hash);
                label(b'>', target, &mut hash);
                if let Some(to) = &to {
                    std::os::unix::fs::symlink(target, to).map_err(io("making", to))?;
                }
            }
            Item::File(_) => {
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
            image: None,
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
        let look = || Stamp::of(dir.path(), Path::new("/none"), &[], &[&marker]).unwrap();
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
                ("build/out.bin", "kept: .dockerignore decides alone"),
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
            "build/out.bin",
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

    /// Packs as an agent of this command; gives what is in the bundle and what is not, in words.
    fn packed(files: &[(&str, &str)], argv: &[&str]) -> (BTreeSet<String>, Vec<String>) {
        let home = tempfile::tempdir().unwrap();
        let project = tempfile::tempdir().unwrap();
        put(project.path(), files);
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        let manifest = Manifest { launch: Launch::Command { argv }, ..manifest("x") };
        let store = ArtifactStore::below(home.path());
        let packed = store.pack(project.path(), &manifest).unwrap();
        (names(&store.find(&packed.hash).unwrap().code), packed.skipped)
    }

    #[test]
    fn secrets_stay_here_wherever_they_are_and_are_named() {
        let key = "-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY-----\n";
        let files = [
            ("main.py", "x"),
            (".env", "S=1"),
            (".aws/credentials", "s"),
            ("sub/.ssh/known_hosts", "s"),
            (".gnupg/x", "s"),
            (".netrc", "s"),
            (".npmrc", "s"),
            (".pypirc", "s"),
            (".git-credentials", "s"),
            (".docker/config.json", "s"),
            ("id_rsa", "s"),
            ("id_rsa.pub", "kept"),
            ("config.json", "kept"),
            ("tls/server.pem", key),
            ("tls/server.key", key),
            ("vendor/certifi/cacert.pem", "-----BEGIN CERTIFICATE-----\nkept\n"),
            ("node_modules/a/.env.production", "S=1"),
            ("node_modules/a/.npmrc", "s"),
            ("node_modules/a/index.js", "kept"),
        ];
        let (names, skipped) = packed(&files, &["node", "main.js"]);
        let expected =
            ["config.json", "id_rsa.pub", "main.py", "node_modules/a/index.js", "vendor/certifi/cacert.pem"];
        assert_eq!(names, expected.map(String::from).into());
        assert_eq!(skipped, ["what may hold secrets: `.aws`, `.docker/config.json`, `.env` and 11 more"]);

        // A wildcard does not have secrets back, their name does.
        let (names, _) = packed(
            &[("a/.env", "S=1"), ("a/x", ""), ("b/.env", "S=1"), (".dockerignore", "*\n!a/**\n!b/.env\n")],
            &["x"],
        );
        assert_eq!(names, ["a/x", "b/.env"].map(String::from).into());
    }

    #[test]
    fn dockerignore_decides_alone_and_its_last_line_wins() {
        let files = [
            (".gitignore", "dist/\n"),
            ("dist/server.js", ""),
            ("dist/lib/a.js", ""),
            ("docs/keep/a.md", ""),
            ("docs/drop.md", ""),
            ("late/x", ""),
        ];
        let ignore = |text: &'static str| {
            let mut files = files.to_vec();
            files.push((".dockerignore", text));
            packed(&files, &["node", "dist/server.js"]).0
        };
        let all = ignore("docs\n!docs/keep\n!late/x\nlate\n.*ignore\n");
        let expected = ["dist/lib/a.js", "dist/server.js", "docs/keep/a.md"];
        assert_eq!(all, expected.map(String::from).into());
        assert_eq!(ignore("*\n"), ["dist/server.js"].map(String::from).into());
    }

    #[test]
    fn what_the_command_names_goes_along_though_git_ignores_it() {
        let files = [
            (".gitignore", "dist/\ntarget/\n"),
            ("dist/server.js", ""),
            ("dist/other.js", ""),
            ("main.js", ""),
            (".venv/bin/tool", ""),
            (".env", "S=1"),
        ];
        let argv = ["node", "./dist/server.js", "main.js", "../x", "/etc/passwd", ".venv/bin/tool", ".env"];
        let (names, skipped) = packed(&files, &argv);
        assert_eq!(names, [".gitignore", "dist/server.js", "main.js"].map(String::from).into());
        assert!(
            skipped.iter().any(|s| s.starts_with("what git ignores beside `dist/server.js`")),
            "{skipped:?}"
        );
    }

    #[test]
    fn the_emulators_home_is_no_part_of_the_code() {
        let project = tempfile::tempdir().unwrap();
        put(project.path(), &[("main.py", "x"), ("state/emulator.json", "1")]);
        let store = ArtifactStore::below(&project.path().join("state"));
        let first = store.pack(project.path(), &manifest("x")).unwrap();
        assert_eq!(names(&store.find(&first.hash).unwrap().code), ["main.py".to_owned()].into());
        fs::write(project.path().join("state/emulator.json"), "2").unwrap();
        assert_eq!(store.pack(project.path(), &manifest("x")).unwrap().hash, first.hash);
        let over = ArtifactStore::below(project.path()).pack(project.path(), &manifest("x"));
        assert!(matches!(over, Err(PackError::Home { .. })), "{over:?}");
    }

    proptest::proptest! {
        #[test]
        fn any_dockerignore_is_read_or_refused(
            text in proptest::prop_oneof!["\\PC{0,60}", "([!#/.*?\\[\\]{}\\\\ a-c\\-^,]{0,12}\\n){0,6}"],
            path in "[a-c.]{1,3}(/[a-c.]{1,3}){0,3}",
        ) {
            if let Ok(read) = DockerIgnore::parse(&text) {
                for directory in [false, true] {
                    // Nothing is both pruned and had back.
                    let path = Path::new(&path);
                    let _ = read.ignores(path, directory);
                    proptest::prop_assert!(!(read.ignores_all_of(path) && read.has_back(path)));
                }
            }
        }
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
