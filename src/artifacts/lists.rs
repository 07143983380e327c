//! What an image for code needs to install the agent's packages: the lists that name them, and what the lists name of the
//! agent's own directory.
//!
//! `./libs/tools`, `-e ./libs/tools`, `.` and `./wheels/tools-1.0-py3-none-any.whl` go along with their files, and so do the
//! packages that stand in a directory of `--find-links`. An image never changes, so what a list wants to be editable is
//! installed as it is; whoever edits it has another image at the next start. What lies outside the agent's directory is refused
//! here, where it can be named, and not by an installer that does not find it; and too much before any of it is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::pack::chosen;
use super::python::{PythonError, requirement_files};
use crate::model::limits::MAX_CODE_BYTES;

/// Options whose value is installed.
const EDITABLE: [&str; 3] = ["-e ", "--editable ", "--editable="];
/// Options whose value is a directory of packages.
const FOUND_IN: [&str; 3] = ["-f ", "--find-links ", "--find-links="];
/// How names of files end that can be installed. [pip]
const ARCHIVES: [&str; 12] = [
    ".whl",
    ".zip",
    ".tar.gz",
    ".tgz",
    ".tar",
    ".tar.bz2",
    ".tbz",
    ".tar.xz",
    ".txz",
    ".tlz",
    ".tar.lz",
    ".tar.lzma",
];
/// How those end that name others, in a directory to look for packages in. [pip]
const PAGE: &str = ".html";

/// A file by its path below the agent's directory, with its content.
pub type Listed = (PathBuf, Vec<u8>);

/// What a line of a list names of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Local<'a> {
    /// To install, with whatever says how behind it.
    Package { path: &'a str, line: &'a str },
    /// To look for packages in.
    Directory(&'a str),
}

/// The lists of an agent, and what they name of its directory. None of the latter has been read.
struct Lists<'a> {
    source: &'a Path,
    home: &'a Path,
    /// As they are installed.
    lists: Vec<Listed>,
    named: BTreeSet<PathBuf>,
    /// Size of all that is named.
    bytes: u64,
}

/// The files of `source` that an installation of the agent's packages reads. `home` is the emulator's, which never goes along.
pub fn package_lists(source: &Path, home: &Path) -> Result<Vec<Listed>, PythonError> {
    let Lists { lists, named, .. } = Lists::of(source, home)?;
    let mut files = BTreeMap::new();
    for path in named {
        let file = source.join(&path);
        let content = fs::read(&file).map_err(|e| io("reading", &file, e))?;
        files.insert(path, content);
    }
    // The lists as they are here, whatever else names their files.
    files.extend(lists);
    Ok(files.into_iter().collect())
}

/// Where those files are, links followed. None of those that the lists name is read.
pub fn package_files(source: &Path, home: &Path) -> Result<BTreeSet<PathBuf>, PythonError> {
    let Lists { lists, named, .. } = Lists::of(source, home)?;
    let files = lists.into_iter().map(|(path, _)| path).chain(named).map(|path| source.join(path));
    files.map(|file| file.canonicalize().map_err(|e| io("reading", &file, e))).collect()
}

fn io(context: &'static str, path: &Path, source: std::io::Error) -> PythonError {
    PythonError::Io { context, path: path.to_owned(), source }
}

impl<'a> Lists<'a> {
    fn of(source: &'a Path, home: &'a Path) -> Result<Self, PythonError> {
        let mut all = Self { source, home, lists: Vec::new(), named: BTreeSet::new(), bytes: 0 };
        for path in requirement_files(source)? {
            let file = source.join(&path);
            let unreadable = |reason: String| PythonError::Requirements { file: file.clone(), reason };
            let text = fs::read_to_string(&file).map_err(|e| unreadable(e.to_string()))?;
            if path.extension().is_some_and(|kind| kind == "toml") {
                all.lists.push((path, text.into_bytes()));
                continue;
            }
            let mut kept = String::new();
            for line in text.lines() {
                let line = match local(line) {
                    None => line,
                    Some(Local::Package { path: package, line }) => {
                        all.take(package).map_err(&unreadable)?;
                        line
                    }
                    Some(Local::Directory(directory)) => {
                        // Beside the list that names it, else where the installer is started.
                        let beside = path.parent().map(|parent| parent.join(directory));
                        let beside = beside.filter(|beside| source.join(beside).is_dir());
                        let found = beside.unwrap_or_else(|| directory.into());
                        all.take_directory(&found).map_err(&unreadable)?;
                        line
                    }
                };
                kept.push_str(line);
                kept.push('\n');
            }
            all.lists.push((path, kept.into_bytes()));
        }
        Ok(all)
    }

    /// Takes a package along: a file, or a directory with what goes into a bundle.
    fn take(&mut self, package: &str) -> Result<(), String> {
        let (below, at) = below(self.source, Path::new(package))?;
        if !at.is_dir() {
            return self.add(vec![below]);
        }
        let files = chosen(&at, self.home).map_err(|e| e.to_string())?;
        self.add(files.into_iter().map(|file| below.join(file)).collect())
    }

    /// Takes along the packages that lie in a directory, whatever git ignores, and nothing else that lies there.
    fn take_directory(&mut self, path: &Path) -> Result<(), String> {
        let (directory, at) = below(self.source, path)?;
        let failed = |e: std::io::Error| format!("`{}`: {e}", path.display());
        let mut files = Vec::new();
        for entry in fs::read_dir(&at).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let ends = |end: &&str| name.as_encoded_bytes().ends_with(end.as_bytes());
            if ARCHIVES.iter().chain([&PAGE]).any(ends) && entry.path().is_file() {
                let (file, _) = below(self.source, &directory.join(&name))?;
                files.push(file);
            }
        }
        self.add(files)
    }

    /// Adds files, unless all together are more than an agent may have.
    fn add(&mut self, files: Vec<PathBuf>) -> Result<(), String> {
        for file in files {
            let metadata = self.source.join(&file).metadata();
            let metadata = metadata.map_err(|e| format!("`{}`: {e}", file.display()))?;
            if !metadata.is_file() {
                return Err(format!("`{}` is neither a file nor a directory", file.display()));
            }
            if self.named.insert(file) {
                self.bytes = self.bytes.saturating_add(metadata.len());
            }
        }
        if self.bytes > MAX_CODE_BYTES {
            return Err(format!("what it names of the agent's directory has {} MB", self.bytes / 1_000_000));
        }
        Ok(())
    }
}

/// Reads a line of a list.
fn local(line: &str) -> Option<Local<'_>> {
    let line = line.trim();
    let value = |options: &[&str]| options.iter().find_map(|option| line.strip_prefix(option)).map(str::trim);
    if let Some(directory) = value(&FOUND_IN) {
        let directory = first_word(directory);
        return (!directory.is_empty() && !directory.contains("://")).then_some(Local::Directory(directory));
    }
    let editable = value(&EDITABLE);
    let line = editable.unwrap_or(line);
    // An option, a remark, or something that comes from elsewhere.
    if line.starts_with(['-', '#']) || line.contains("://") || line.contains(" @ ") {
        return None;
    }
    let path = first_word(line);
    let is_path = editable.is_some()
        || path.starts_with('.')
        || path.contains('/')
        || ARCHIVES.iter().any(|end| path.ends_with(end));
    (is_path && !path.is_empty()).then_some(Local::Package { path, line })
}

/// A path without extras, markers and remarks.
fn first_word(text: &str) -> &str {
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, ';' | '['));
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

/// Where below the agent's directory a path leads, and what is there.
fn below(source: &Path, path: &Path) -> Result<(PathBuf, PathBuf), String> {
    let outside = || format!("`{}` is not below the agent's directory, so no image has it", path.display());
    let plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain {
        return Err(outside());
    }
    let names = path.components().filter(|part| matches!(part, Component::Normal(_)));
    let (below, at) = (names.collect(), source.join(path));
    let real = at.canonicalize().map_err(|e| format!("`{}`: {e}", path.display()))?;
    let inside = source.canonicalize().is_ok_and(|source| real.starts_with(source));
    if inside { Ok((below, at)) } else { Err(outside()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, content: &str) {
        let file = root.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }

    fn names(lists: &[Listed]) -> Vec<&str> {
        lists.iter().map(|(path, _)| path.to_str().unwrap()).collect()
    }

    #[test]
    fn what_lists_name_of_the_agents_directory_goes_along() {
        let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = dir.path();
        write(
            root,
            "requirements.txt",
            "-r sub/more.txt\n-e ./libs/tools[fast] ; python_version > '3'\n./plain # here\nwheels/own-1-py3-none-any.whl\n\
             boto3>=1.2\nother @ https://host/x/y.whl\n-e git+https://host/x.git#egg=x\n--index-url https://host/simple\n",
        );
        write(root, "sub/more.txt", "--find-links=found\n-f https://host/found\nflat\n");
        write(root, "sub/found/flat-1-py3-none-any.whl", "wheel");
        write(root, "sub/found/index.html", "<a href='flat-1-py3-none-any.whl'>");
        write(root, "sub/found/.gitignore", "*.whl\n");
        write(root, "sub/found/.env", "SECRET=1");
        write(root, "sub/found/key.pem", "SECRET=1");
        write(root, "sub/found/deep.whl/file", "");
        std::os::unix::fs::symlink("/etc/passwd", root.join("sub/found/linked")).unwrap();
        write(root, "libs/tools/setup.py", "setup()");
        write(root, "libs/tools/tools/deep.py", "");
        write(root, "libs/tools/.env", "SECRET=1");
        std::os::unix::fs::symlink(".env", root.join("libs/tools/settings")).unwrap();
        std::os::unix::fs::symlink("setup.py", root.join("libs/tools/again.py")).unwrap();
        write(root, "plain/pyproject.toml", "");
        write(root, "wheels/own-1-py3-none-any.whl", "own");
        write(root, "main.py", "");
        let found = package_lists(root, home.path()).unwrap();
        let expected = [
            "libs/tools/again.py",
            "libs/tools/setup.py",
            "libs/tools/tools/deep.py",
            "plain/pyproject.toml",
            "requirements.txt",
            "sub/found/flat-1-py3-none-any.whl",
            "sub/found/index.html",
            "sub/more.txt",
            "wheels/own-1-py3-none-any.whl",
        ];
        assert_eq!(names(&found), expected);
        let list = String::from_utf8(found[4].1.clone()).unwrap();
        assert!(list.contains("\n./libs/tools[fast] ; python_version > '3'\n./plain # here\n"), "{list}");
        assert!(list.contains("\n-e git+https://host/x.git#egg=x\n"), "{list}");

        // The agent itself as a package: all that is its code, with the list as it is installed.
        write(root, "requirements.txt", "-e .\n");
        let found = package_lists(root, home.path()).unwrap();
        assert!(names(&found).contains(&"main.py") && !names(&found).contains(&"libs/tools/.env"));
        let list = found.iter().find(|(path, _)| path == Path::new("requirements.txt")).unwrap();
        assert_eq!(list.1, b".\n");
    }

    #[test]
    fn the_emulators_home_never_goes_along_however_it_is_reached() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = dir.path();
        write(root, "requirements.txt", "-e .\n");
        write(root, "main.py", "");
        write(root, "state/emulator.json", "1");
        let linked = elsewhere.path().join("home");
        std::os::unix::fs::symlink(root.join("state"), &linked).unwrap();
        for home in [root.join("state"), linked] {
            assert_eq!(names(&package_lists(root, &home).unwrap()), ["main.py", "requirements.txt"]);
        }
    }

    #[test]
    fn too_much_is_refused_unread_by_the_list_that_names_it() {
        let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(dir.path(), "requirements.txt", "-r more.txt\n");
        write(dir.path(), "more.txt", "-f wheels\n./wheels/one.whl\n");
        write(dir.path(), "wheels/one.whl", "");
        // Sparse: sizes alone are looked at.
        let half = |name: &str, bytes: u64| {
            fs::File::create(dir.path().join("wheels").join(name)).unwrap().set_len(bytes).unwrap();
        };
        half("one.whl", MAX_CODE_BYTES / 2);
        half("two.whl", MAX_CODE_BYTES / 2);
        assert_eq!(package_files(dir.path(), home.path()).unwrap().len(), 4);
        half("three.whl", 1_000_000);
        let error = package_files(dir.path(), home.path()).unwrap_err().to_string();
        assert!(error.contains("/more.txt`") && error.contains("has 751 MB"), "{error}");
        assert_eq!(package_lists(dir.path(), home.path()).unwrap_err().to_string(), error);
    }

    #[test]
    fn what_is_elsewhere_or_nowhere_is_named() {
        let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink("/usr", dir.path().join("linked")).unwrap();
        fs::create_dir(dir.path().join("found")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("found/out.whl")).unwrap();
        for (line, part) in [
            ("-e ../shared", "`../shared` is not below the agent's directory"),
            ("/opt/wheels/x.whl", "is not below the agent's directory"),
            ("--find-links /opt/wheels", "is not below the agent's directory"),
            ("./linked", "`./linked` is not below the agent's directory"),
            ("./not-here", "`./not-here`: No such file"),
            ("-f ./not-here", "No such file"),
            ("-f found", "`found/out.whl` is not below the agent's directory"),
            ("./found/out.whl", "`./found/out.whl` is not below the agent's directory"),
        ] {
            write(dir.path(), "requirements.txt", line);
            let error = package_lists(dir.path(), home.path()).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("requirements.txt"), "{line}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_of_a_list_is_read(line in "(-e|--editable|-f|--find-links|[ =;#@:./\\[a]|https://|.whl|\\PC){0,12}") {
            match local(&line) {
                None => {}
                Some(Local::Directory(path)) => proptest::prop_assert!(line.contains(path)),
                Some(Local::Package { path, line: rest }) => {
                    proptest::prop_assert!(rest.starts_with(path) && line.contains(rest));
                }
            }
        }
    }
}
