//! A code package as the service takes it: the agent's files and its packages for arm64 Linux in one archive.
//!
//! The files are chosen as for a bundle, so what runs here is what is uploaded. The archive is made so that the
//! same content gives the same bytes, sorted and without times: its hash is its name in the bucket, and an
//! unchanged project makes no new version. Packages are installed once for each list and kept.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use zip::write::FileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::python::{PythonError, PythonRequest};
use super::{ArtifactStore, Launch, Manifest, PackError, python};
use crate::model::limits::{MAX_CODE_BYTES, MAX_ZIPPED_CODE_BYTES};

/// Runtimes of the service for Python. [model: AgentManagedRuntimeType]
const PYTHONS: [&str; 5] = ["PYTHON_3_10", "PYTHON_3_11", "PYTHON_3_12", "PYTHON_3_13", "PYTHON_3_14"];
/// The runtime where nothing is said. [ours: the one the service's own image of today has]
const DEFAULT_PYTHON: &str = "PYTHON_3_13";
/// The runtime for Node.
const NODE: &str = "NODE_22";
/// Platforms whose wheels run on the service, the most demanding first. [the service's image has glibc 2.34]
const PLATFORMS: [&str; 3] = ["manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"];
/// The same for uv, which takes one at a time.
const UV_PLATFORMS: [&str; 2] = ["aarch64-manylinux2014", "aarch64-manylinux_2_28"];
/// What starts an agent with traces, where its packages have it.
const TRACING: (&str, &str) = ("aws_opentelemetry_distro", "opentelemetry-instrument");
/// Written last, so that packages without it were interrupted.
const COMPLETE: &str = ".agentcore-complete";
/// Permissions in the archive.
const FILE_MODE: u32 = 0o644;
const PROGRAM_MODE: u32 = 0o755;

/// What to make a package of.
#[derive(Debug, Clone)]
pub struct PackageRequest<'a> {
    /// Where Python and the agent's packages come from; its home keeps the installed packages.
    pub python: PythonRequest<'a>,
    /// How the agent is started.
    pub start: Start<'a>,
    /// Traces are wanted.
    pub traces: bool,
    /// Packages are installed anew although their list is the same.
    pub refresh: bool,
}

/// How the agent is started.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// A Python file.
    Python(&'a str),
    /// A command.
    Command(&'a [String]),
}

/// A package that was made; its file goes with the value.
#[derive(Debug)]
pub struct Packaged {
    /// The archive.
    pub file: NamedTempFile,
    /// SHA-256 of the archive.
    pub hash: String,
    /// Its size.
    pub bytes: u64,
    /// `runtime`.
    pub runtime: String,
    /// `entryPoint`.
    pub entry_point: Vec<String>,
    /// What could not go along, in words.
    pub skipped: Vec<String>,
}

/// Why there is no package.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The files cannot be chosen or read.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// Python or its packages.
    #[error(transparent)]
    Python(#[from] PythonError),
    /// The agent's packages are not to be had for the service's platform.
    #[error(
        "the agent's packages could not be installed for arm64 Linux and Python {python}: `{command}` failed"
    )]
    Install {
        /// The version.
        python: String,
        /// The command.
        command: String,
        /// Its last lines.
        last_lines: Vec<String>,
    },
    /// Neither uv nor pip.
    #[error("the agent has packages to install, and there is neither `uv` nor a Python with `pip`")]
    NoInstaller,
    /// The service runs no such thing.
    #[error("direct code deployment runs Python and Node, not `{program}`")]
    NotCode {
        /// The program.
        program: String,
    },
    /// Such a runtime does not exist.
    #[error("`runtime_type` `{runtime}` is not one of {}", known.join(", "))]
    Runtime {
        /// What was asked for.
        runtime: String,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// The start file is not there.
    #[error("the agent's `entrypoint` `{0}` is not a file of the package")]
    NoEntryPoint(String),
    /// It is larger than the service takes.
    #[error("the code package has {bytes} bytes{}, and the service takes at most {limit}", if *zipped { "" } else { " unpacked" })]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
        /// It is the archive that is too large, not what is in it.
        zipped: bool,
    },
    /// The file system or the archive.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// Makes the package. `progress` hears of what takes long.
pub fn package(request: &PackageRequest<'_>, progress: &dyn Fn(&str)) -> Result<Packaged, PackageError> {
    let (runtime, entry, argv) = start(request)?;
    let scratch = tempfile::tempdir().map_err(io("making a temporary directory"))?;
    progress("choosing the agent's files");
    let manifest = Manifest {
        format: Manifest::FORMAT,
        launch: Launch::Command { argv },
        read_only: Vec::new(),
        environment: Vec::new(),
        image: None,
    };
    let store = ArtifactStore::below(scratch.path());
    let packed = store.pack(request.python.source, &manifest)?;
    let code = store.root().join(&packed.hash).join("code");
    if !code.join(&entry).is_file() {
        return Err(PackageError::NoEntryPoint(entry));
    }
    let mut files = BTreeMap::new();
    let mut entry_point = vec![entry];
    if let Some(version) = runtime.strip_prefix("PYTHON_") {
        let version = version.replace('_', ".");
        if let Some(list) = python::requirements_of(&request.python)? {
            let packages = packages(request, &version, &list, progress)?;
            let traced = has_distribution(&packages, TRACING.0);
            collect(&packages, Path::new(""), &mut files)?;
            if traced && request.traces {
                entry_point.insert(0, TRACING.1.to_owned());
            }
        }
    }
    // The agent's own files win over a package's of the same name.
    collect(&code, Path::new(""), &mut files)?;
    progress("making the archive");
    let (file, hash, bytes) = archive(&files)?;
    if bytes > MAX_ZIPPED_CODE_BYTES {
        return Err(PackageError::TooLarge { bytes, limit: MAX_ZIPPED_CODE_BYTES, zipped: true });
    }
    Ok(Packaged { file, hash, bytes, runtime, entry_point, skipped: packed.skipped })
}

/// The service's runtime, the file it starts, and the command that names files to take along.
fn start(request: &PackageRequest<'_>) -> Result<(String, String, Vec<String>), PackageError> {
    let wanted = request.python.runtime;
    let checked = |default: &str, known: &[&'static str]| match wanted {
        None => Ok(default.to_owned()),
        Some(runtime) if known.contains(&runtime) => Ok(runtime.to_owned()),
        Some(runtime) => Err(PackageError::Runtime { runtime: runtime.to_owned(), known: known.to_vec() }),
    };
    let python = |file: &str| -> Result<_, PackageError> {
        Ok((checked(DEFAULT_PYTHON, &PYTHONS)?, file.to_owned(), vec!["python3".to_owned(), file.to_owned()]))
    };
    match request.start {
        Start::Python(file) => python(file),
        Start::Command(argv) => match argv {
            [program, file] if is_program(program, "python") => python(file),
            [program, file] if is_program(program, "node") => {
                Ok((checked(NODE, &[NODE])?, file.clone(), argv.to_vec()))
            }
            _ => Err(PackageError::NotCode { program: argv.join(" ") }),
        },
    }
}

fn is_program(word: &str, name: &str) -> bool {
    let base = word.rsplit('/').next().unwrap_or(word);
    base.strip_prefix(name).is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

/// The directory with the packages of `list`, installed when it is not there.
fn packages(
    request: &PackageRequest<'_>,
    version: &str,
    list: &str,
    progress: &dyn Fn(&str),
) -> Result<PathBuf, PackageError> {
    let root = request.python.home.join("packages");
    fs::create_dir_all(&root).map_err(io("making the directory for packages"))?;
    let mut hash = Sha256::new();
    hash.update(version);
    hash.update([0]);
    hash.update(list);
    let name: String = hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect();
    let directory = root.join(&name);
    let _lock = python::lock(&root.join(format!("{name}.lock")))?;
    if directory.join(COMPLETE).is_file() && !request.refresh {
        return Ok(directory);
    }
    let list_file = root.join(format!("{name}.txt"));
    fs::write(&list_file, list).map_err(io("writing the list of packages"))?;
    progress("installing the agent's packages for arm64 Linux");
    install(request, version, &list_file, &directory)?;
    fs::write(directory.join(COMPLETE), "").map_err(io("finishing the packages"))?;
    Ok(directory)
}

fn install(
    request: &PackageRequest<'_>,
    version: &str,
    list: &Path,
    target: &Path,
) -> Result<(), PackageError> {
    let words = |text: &[&str]| text.iter().map(OsString::from).collect::<Vec<_>>();
    let mut tries: Vec<(PathBuf, Vec<OsString>)> = Vec::new();
    if let Some(uv) = python::on_path(request.python.path, "uv") {
        for platform in UV_PLATFORMS {
            let mut arguments = words(&["pip", "install", "--no-progress", "--python-platform", platform]);
            arguments.extend(words(&["--python-version", version, "--only-binary", ":all:"]));
            arguments.extend(["--target".into(), target.into(), "-r".into(), list.into()]);
            tries.push((uv.clone(), arguments));
        }
    } else {
        let name = ["python3", "python"].iter().find_map(|n| python::on_path(request.python.path, n));
        let program = name.ok_or(PackageError::NoInstaller)?;
        let mut arguments = words(&["-m", "pip", "install", "--disable-pip-version-check", "--no-input"]);
        arguments.extend(words(&["--no-compile", "--only-binary", ":all:", "--implementation", "cp"]));
        arguments.extend(words(&["--python-version", version]));
        for platform in PLATFORMS {
            arguments.extend(words(&["--platform", platform]));
        }
        arguments.extend(["--target".into(), target.into(), "-r".into(), list.into()]);
        tries.push((program, arguments));
    }
    let mut failure = PackageError::NoInstaller;
    for (program, arguments) in tries {
        match fs::remove_dir_all(target) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io("removing old packages")(e)),
            _ => {}
        }
        let mut command = Command::new(&program);
        command.args(&arguments).current_dir(request.python.source).stdin(Stdio::null());
        let output = command.output().map_err(io(&format!("running `{}`", program.display())))?;
        if output.status.success() {
            return Ok(());
        }
        let shown = std::iter::once(program.as_os_str()).chain(arguments.iter().map(OsString::as_os_str));
        failure = PackageError::Install {
            python: version.to_owned(),
            command: shown.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" "),
            last_lines: python::tail(&output),
        };
    }
    Err(failure)
}

/// True when a package of this name is installed in `directory`.
fn has_distribution(directory: &Path, name: &str) -> bool {
    let start = format!("{name}-");
    fs::read_dir(directory).is_ok_and(|entries| {
        entries.flatten().any(|e| {
            let file = e.file_name().to_string_lossy().replace('-', "_").to_ascii_lowercase();
            file.starts_with(&start.replace('-', "_")) && file.ends_with(".dist_info")
        })
    })
}

/// Adds the files below `directory` by their path in the archive; links are followed, caches left out.
fn collect(
    directory: &Path,
    below: &Path,
    files: &mut BTreeMap<PathBuf, PathBuf>,
) -> Result<(), PackageError> {
    let read = |e| io(&format!("reading `{}`", directory.display()))(e);
    for entry in fs::read_dir(directory).map_err(read)? {
        let entry = entry.map_err(read)?;
        let (path, name) = (entry.path(), entry.file_name());
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            // A link to nowhere is nothing.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(io(&format!("reading `{}`", path.display()))(e)),
        };
        let inside = below.join(&name);
        if metadata.is_dir() {
            if name != "__pycache__" {
                collect(&path, &inside, files)?;
            }
        } else if metadata.is_file() && name != COMPLETE && name != ".lock" {
            files.insert(inside, path);
        }
    }
    Ok(())
}

/// Writes the archive: the same files give the same bytes.
fn archive(files: &BTreeMap<PathBuf, PathBuf>) -> Result<(NamedTempFile, String, u64), PackageError> {
    let file = tempfile::Builder::new().prefix("agentcore-").suffix(".zip").tempfile();
    let file = file.map_err(io("making a temporary file"))?;
    let broken = |e: zip::result::ZipError| io("writing the archive")(io::Error::other(e));
    let mut writer = ZipWriter::new(io::BufWriter::new(file.reopen().map_err(io("opening the archive"))?));
    let mut unpacked = 0;
    for (inside, path) in files {
        let mut source = File::open(path).map_err(io(&format!("reading `{}`", path.display())))?;
        let mode = source.metadata().map_err(io("reading a file"))?.permissions().mode();
        let permissions = if mode & 0o111 == 0 { FILE_MODE } else { PROGRAM_MODE };
        let options = FileOptions::DEFAULT
            .compression_method(CompressionMethod::Deflated)
            .unix_permissions(permissions);
        writer.start_file(inside.to_string_lossy(), options).map_err(broken)?;
        unpacked +=
            io::copy(&mut source, &mut writer).map_err(io(&format!("reading `{}`", path.display())))?;
        if unpacked > MAX_CODE_BYTES {
            return Err(PackageError::TooLarge { bytes: unpacked, limit: MAX_CODE_BYTES, zipped: false });
        }
    }
    writer.finish().map_err(broken)?.flush().map_err(io("writing the archive"))?;
    let (hash, bytes) = digest(file.as_file()).map_err(io("reading the archive"))?;
    Ok((file, hash, bytes))
}

/// SHA-256 of a file, and its size.
pub(super) fn digest(file: &File) -> io::Result<(String, u64)> {
    let mut reader = BufReader::new(file);
    reader.rewind()?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut block = vec![0; 64 * 1024];
    loop {
        let read = reader.read(&mut block)?;
        if read == 0 {
            break;
        }
        hash.update(&block[..read]);
        bytes += read as u64;
    }
    Ok((hash.finalize().iter().map(|b| format!("{b:02x}")).collect(), bytes))
}

fn io(context: &str) -> impl FnOnce(io::Error) -> PackageError + '_ {
    move |source| PackageError::Io { context: context.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>(source: &'a Path, home: &'a Path, start: Start<'a>) -> PackageRequest<'a> {
        let python =
            PythonRequest { source, project: source, home, runtime: None, path: None, user_home: None };
        PackageRequest { python, start, traces: true, refresh: false }
    }

    fn names(packaged: &Packaged) -> Vec<String> {
        let archive = zip::ZipArchive::new(packaged.file.reopen().unwrap()).unwrap();
        let mut names: Vec<String> = archive.file_names().map(|n| n.unwrap().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_same_files_give_the_same_archive_and_secrets_stay_here() {
        let (source, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |name: &str, text: &str| {
            let file = source.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        for name in ["main.py", "tests/data.txt", "docs/a.md", "sub/build/b.py", "old.log"] {
            write(name, "x");
        }
        for secret in [".env", ".env.local", "sub/.env"] {
            write(secret, "KEY=1");
        }
        write(".gitignore", "*.log\n");
        let make =
            || package(&request(source.path(), home.path(), Start::Python("main.py")), &|_| {}).unwrap();
        let first = make();
        // Nothing is dropped for its name, nothing secret or ignored goes along.
        assert_eq!(names(&first), [".gitignore", "docs/a.md", "main.py", "sub/build/b.py", "tests/data.txt"]);
        assert!(first.skipped.iter().any(|s| s.contains(".env")), "{:?}", first.skipped);
        assert_eq!(
            (first.runtime.as_str(), first.entry_point.as_slice()),
            (DEFAULT_PYTHON, &["main.py".to_owned()][..])
        );
        let file = File::options().write(true).open(source.path().join("main.py")).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(make().hash, first.hash);
        write("main.py", "y");
        assert_ne!(make().hash, first.hash);
    }

    #[test]
    fn what_the_service_cannot_start_is_refused_by_name() {
        let (source, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let of = |argv: &[&str]| {
            let argv: Vec<String> = argv.iter().map(|w| (*w).to_owned()).collect();
            let request = request(source.path(), home.path(), Start::Command(&argv));
            package(&request, &|_| {})
        };
        assert!(matches!(of(&["./server"]), Err(PackageError::NotCode { .. })));
        assert!(matches!(of(&["node", "server.js"]), Err(PackageError::NoEntryPoint(_))));
        fs::write(source.path().join("server.js"), "x").unwrap();
        let node = of(&["/usr/bin/node", "server.js"]).unwrap();
        assert_eq!((node.runtime.as_str(), node.entry_point), ("NODE_22", vec!["server.js".to_owned()]));
        let argv = ["python3.12".to_owned(), "a.py".to_owned()];
        let mut request = request(source.path(), home.path(), Start::Command(&argv));
        request.python.runtime = Some("PYTHON_2_7");
        assert!(matches!(package(&request, &|_| {}), Err(PackageError::Runtime { .. })));
    }
}
