//! Code packages from a bucket, made to run on this machine.
//!
//! A package for the service has native modules for arm64 Linux and for one version of Python. One that fits this
//! machine is run as it is. From one that does not, the packages are taken out and installed anew for this
//! machine, in the versions that the package itself names; what cannot be replaced so is refused, by the name of
//! the first file that does not fit, instead of an agent that dies when it imports it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use zip::ZipArchive;

use super::python::{CommandNeeds, Python, PythonRequest};
use super::{ArtifactStore, Launch, Manifest};
use crate::model::ArtifactRef;
use crate::model::limits::{MAX_CODE_BYTES, MAX_ZIPPED_CODE_BYTES};

/// Machine of an ELF file, at this offset. [ELF]
const ELF_MACHINE_AT: usize = 18;
const ELF_ARM64: u16 = 183;
const ELF_X86_64: u16 = 62;
/// Most files of a package. [ours: an archive of nothing but names must end too]
const MAX_FILES: usize = 200_000;
/// Packages that a remark names. [ours]
const NAMED: usize = 20;
/// Program of the service's tracing, which may stand first in `entryPoint`.
const TRACING: &str = "opentelemetry-instrument";

/// Where packages are fetched from.
pub trait Bucket: Send + Sync {
    /// Writes the object to `file`, at most `limit` bytes of it; says why not.
    fn fetch<'a>(
        &'a self,
        object: &'a ArtifactRef,
        file: &'a Path,
        limit: u64,
    ) -> BoxFuture<'a, Result<(), String>>;
}

/// Fetches packages and makes bundles of them.
#[derive(Clone)]
pub struct Importer {
    bucket: Arc<dyn Bucket>,
    home: PathBuf,
    path: Option<OsString>,
    user_home: Option<PathBuf>,
}

impl std::fmt::Debug for Importer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Importer").field("home", &self.home).finish_non_exhaustive()
    }
}

/// Why a package cannot run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// It could not be fetched.
    #[error("the code package `s3://{bucket}/{key}` could not be fetched: {reason}")]
    Fetch {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// The cause.
        reason: String,
    },
    /// It is no archive that is understood.
    #[error("the code package cannot be unpacked: {0}")]
    Archive(String),
    /// A file in it is for another machine, and it cannot be replaced.
    #[error(
        "the code package does not run on this machine: `{file}` is {what}, and {why}; package the agent for this \
         machine, deploy its sources with `agentcore local deploy`, or use a container"
    )]
    Foreign {
        /// The first such file.
        file: String,
        /// What it is for.
        what: String,
        /// Why nothing takes its place.
        why: String,
    },
    /// Something else.
    #[error("{0}")]
    Failed(String),
}

/// A package's bundle in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The bundle.
    pub hash: String,
    /// What was done to make it run here, in words.
    pub remarks: Vec<String>,
}

impl Importer {
    /// An importer for the store below `home`; interpreters and installers are found on `path`.
    pub fn new(
        bucket: Arc<dyn Bucket>,
        home: PathBuf,
        path: Option<OsString>,
        user_home: Option<PathBuf>,
    ) -> Self {
        Self { bucket, home, path, user_home }
    }

    /// Fetches the package that `object` names.
    pub async fn fetch(&self, object: &ArtifactRef, file: &Path) -> Result<(), ImportError> {
        let fetched = self.bucket.fetch(object, file, MAX_ZIPPED_CODE_BYTES).await;
        fetched.map_err(|reason| ImportError::Fetch {
            bucket: object.bucket.clone(),
            key: object.prefix.clone(),
            reason,
        })
    }

    /// Makes a bundle of a package that was fetched. Blocks.
    pub fn import(&self, object: &ArtifactRef, archive: &Path) -> Result<Imported, ImportError> {
        let failed = |e: &dyn std::fmt::Display| ImportError::Failed(e.to_string());
        let scratch = tempfile::tempdir().map_err(|e| failed(&e))?;
        let code = scratch.path().join("code");
        unpack(archive, &code)?;
        let entry = object.entry_point.iter().find(|part| *part != TRACING).cloned().unwrap_or_default();
        if !code.join(&entry).is_file() {
            return Err(ImportError::Failed(format!(
                "the code package has no file `{entry}`, its entry point"
            )));
        }
        let request = PythonRequest {
            source: &code,
            project: scratch.path(),
            home: &self.home,
            runtime: Some(&object.runtime),
            path: self.path.as_deref(),
            user_home: self.user_home.as_deref(),
        };
        let mut remarks = Vec::new();
        let manifest = |launch, read_only, environment| Manifest {
            format: Manifest::FORMAT,
            launch,
            read_only,
            environment,
            image: None,
        };
        let manifest = if object.runtime.starts_with("NODE") {
            if let Some((file, what)) = foreign(&code, None) {
                let why = "packages of Node are not installed anew".to_owned();
                return Err(ImportError::Foreign { file, what, why });
            }
            let needs = CommandNeeds::of("node", &request, &|_| {}).map_err(|e| failed(&e))?;
            remarks.extend(needs.remarks);
            let launch = Launch::Command { argv: vec!["node".to_owned(), entry] };
            manifest(launch, needs.read_only, needs.environment)
        } else {
            let python = self.python(&code, object, &request, &mut remarks)?;
            remarks.extend(python.remarks);
            let launch = Launch::Python { interpreter: python.interpreter };
            manifest(launch, python.read_only, python.environment)
        };
        let packed = ArtifactStore::below(&self.home).keep(&code, &manifest).map_err(|e| failed(&e))?;
        Ok(Imported { hash: packed.hash, remarks })
    }

    /// The Python that runs what is in `code`, with packages installed anew where those in it do not fit.
    fn python(
        &self,
        code: &Path,
        object: &ArtifactRef,
        request: &PythonRequest<'_>,
        remarks: &mut Vec<String>,
    ) -> Result<Python, ImportError> {
        let plain = Python::plain(request).map_err(|e| ImportError::Failed(e.to_string()))?;
        let minor = plain.runtime.rsplit('_').next().unwrap_or_default().to_owned();
        let unfit = foreign(code, Some(&minor));
        let other_version = plain.runtime != object.runtime;
        let found = distributions(code);
        if unfit.is_none() && (!other_version || found.is_empty()) {
            if other_version {
                remarks.push(format!(
                    "it is for {}; this machine runs it with {}",
                    object.runtime, plain.runtime
                ));
            }
            return Ok(plain);
        }
        let (file, what) = unfit.clone().unwrap_or_else(|| {
            (
                object.entry_point.join(" "),
                format!("for {}, and this machine has {}", object.runtime, plain.runtime),
            )
        });
        let owned: BTreeSet<&PathBuf> = found.iter().flat_map(|d| &d.files).collect();
        if unfit.is_some() && !owned.contains(&PathBuf::from(&file)) {
            let why = "it belongs to no package that could be installed anew".to_owned();
            return Err(ImportError::Foreign { file, what, why });
        }
        let list: String = found.iter().map(|d| format!("{}=={}\n", d.name, d.version)).collect();
        let python = Python::with_packages(request, &list, &|_| {}).map_err(|e| ImportError::Foreign {
            file: file.clone(),
            what: what.clone(),
            why: format!("its packages cannot be installed for this machine ({e})"),
        })?;
        for path in owned {
            match fs::remove_file(code.join(path)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(ImportError::Failed(format!("`{}` cannot be removed: {e}", path.display())));
                }
                _ => {}
            }
        }
        // What a package brought and did not list would be found before the new one.
        if let Some((file, what)) = foreign(code, Some(&minor)) {
            let why = "it belongs to no package that could be installed anew".to_owned();
            return Err(ImportError::Foreign { file, what, why });
        }
        let names: Vec<String> =
            found.iter().take(NAMED).map(|d| format!("{} {}", d.name, d.version)).collect();
        let more = match found.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        remarks.push(format!(
            "`{file}` is {what}, so the package's {} packages were installed anew for this machine ({}): {}{more}",
            found.len(),
            python.runtime,
            names.join(", ")
        ));
        Ok(python)
    }
}

/// Unpacks an archive: regular files and directories, inside `target`, within the service's limits.
fn unpack(archive: &Path, target: &Path) -> Result<(), ImportError> {
    let bad = |e: &dyn std::fmt::Display| ImportError::Archive(e.to_string());
    let mut archive = ZipArchive::new(File::open(archive).map_err(|e| bad(&e))?).map_err(|e| bad(&e))?;
    fs::create_dir_all(target).map_err(|e| bad(&e))?;
    if archive.len() > MAX_FILES {
        return Err(bad(&format!("it has more than {MAX_FILES} entries")));
    }
    let mut left = MAX_CODE_BYTES;
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(|e| bad(&e))?;
        let name = entry.name().map(|n| n.into_owned()).unwrap_or_default();
        let path = entry.enclosed_name();
        let Some(path) = path.filter(|p| p.components().all(|c| matches!(c, Component::Normal(_)))) else {
            return Err(bad(&format!("`{name}` leads outside")));
        };
        let path = target.join(path);
        if entry.is_dir() {
            fs::create_dir_all(&path).map_err(|e| bad(&e))?;
            continue;
        }
        if entry.is_symlink() {
            return Err(bad(&format!("`{name}` is a link")));
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|e| bad(&e))?;
        }
        let mode = if entry.unix_mode().unwrap_or_default() & 0o111 == 0 { 0o644 } else { 0o755 };
        let mut file = File::create(&path).map_err(|e| bad(&e))?;
        // What is said of a size is not believed.
        let copied = io::copy(&mut entry.take(left + 1), &mut file).map_err(|e| bad(&e))?;
        left = left.checked_sub(copied).ok_or_else(|| {
            bad(&format!("it has more than {MAX_CODE_BYTES} bytes unpacked, which is the service's limit"))
        })?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(|e| bad(&e))?;
    }
    Ok(())
}

/// The first native file that this machine, or Python 3.`minor`, cannot load, and what it is for.
fn foreign(code: &Path, minor: Option<&str>) -> Option<(String, String)> {
    let own = if cfg!(target_arch = "aarch64") { ELF_ARM64 } else { ELF_X86_64 };
    let mut found = Vec::new();
    let mut left = vec![code.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let Some(machine) = machine(&path) else { continue };
            let inside = path.strip_prefix(code).unwrap_or(&path).display().to_string();
            let name = entry.file_name().to_string_lossy().into_owned();
            if machine != own {
                let word = match machine {
                    ELF_ARM64 => "for arm64".to_owned(),
                    ELF_X86_64 => "for x86-64".to_owned(),
                    other => format!("for machine {other}"),
                };
                found.push((inside, word));
            } else if let (Some(minor), Some(built)) = (minor, python_of(&name))
                && built != minor
            {
                found.push((inside, format!("for Python 3.{built}")));
            }
        }
    }
    found.into_iter().min()
}

/// The machine of an ELF file; nothing for other files.
fn machine(path: &Path) -> Option<u16> {
    let mut head = [0; ELF_MACHINE_AT + 2];
    File::open(path).ok()?.read_exact(&mut head).ok()?;
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let bytes = [head[ELF_MACHINE_AT], head[ELF_MACHINE_AT + 1]];
    // Byte 5 says in which order.
    Some(if head[5] == 2 { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
}

/// The version in `x.cpython-313-aarch64-linux-gnu.so`: 13. A stable interface (`abi3`) fits all.
fn python_of(name: &str) -> Option<&str> {
    let rest = name.split(".cpython-3").nth(1)?;
    rest.split(['-', '.']).next().filter(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()))
}

/// A package that was installed into the archive.
#[derive(Debug, PartialEq, Eq)]
struct Distribution {
    name: String,
    version: String,
    /// Its files, by their path in the archive.
    files: Vec<PathBuf>,
}

/// Packages at the top of `code`, as their own records name them.
fn distributions(code: &Path) -> Vec<Distribution> {
    let mut found: Vec<Distribution> = fs::read_dir(code)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().ends_with(".dist-info"))
        .filter_map(|e| distribution(code, &e.path()))
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn distribution(code: &Path, directory: &Path) -> Option<Distribution> {
    let metadata = fs::read_to_string(directory.join("METADATA")).ok()?;
    let field = |name: &str| {
        let head = metadata.lines().take_while(|l| !l.is_empty());
        let value = head.filter_map(|l| l.strip_prefix(name)?.strip_prefix(':')).next();
        value.map(|v| v.trim().to_owned())
    };
    let word = |text: String| {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-+!".contains(c);
        (!text.is_empty() && !text.starts_with('-') && text.chars().all(legal)).then_some(text)
    };
    let record = fs::read_to_string(directory.join("RECORD")).unwrap_or_default();
    let files = record
        .lines()
        .map(|line| {
            // The path is quoted where it has a comma.
            let path = match line.strip_prefix('"') {
                Some(rest) => rest.split('"').next().unwrap_or_default(),
                None => line.split(',').next().unwrap_or_default(),
            };
            PathBuf::from(path)
        })
        .filter(|p| p.components().all(|c| matches!(c, Component::Normal(_))) && code.join(p).is_file())
        .collect();
    Some(Distribution { name: word(field("Name")?)?, version: word(field("Version")?)?, files })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn zip(entries: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = zip::ZipWriter::new(file.reopen().unwrap());
        for (name, bytes) in entries {
            writer.start_file(*name, zip::write::FileOptions::DEFAULT).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap();
        file
    }

    fn elf(machine: u16) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[ELF_MACHINE_AT..ELF_MACHINE_AT + 2].copy_from_slice(&machine.to_le_bytes());
        bytes
    }

    #[test]
    fn archives_that_lead_outside_are_refused() {
        for name in ["../x", "/etc/x", "a/../../x"] {
            let target = tempfile::tempdir().unwrap();
            let error = unpack(zip(&[(name, b"x")]).path(), &target.path().join("code"));
            // An absolute name may be taken as one below; it must never be one outside.
            if error.is_ok() {
                assert!(target.path().join("code/etc/x").is_file(), "{name}");
            }
            assert!(!target.path().join("x").exists());
        }
        let junk = tempfile::NamedTempFile::new().unwrap();
        fs::write(junk.path(), "no archive").unwrap();
        let error = unpack(junk.path(), Path::new("/tmp/never-made-by-this-test")).unwrap_err();
        assert!(matches!(error, ImportError::Archive(_)), "{error}");
    }

    #[test]
    fn native_files_of_other_machines_and_pythons_are_found() {
        let code = tempfile::tempdir().unwrap();
        let own = if cfg!(target_arch = "aarch64") { ELF_ARM64 } else { ELF_X86_64 };
        let other = if own == ELF_ARM64 { ELF_X86_64 } else { ELF_ARM64 };
        let write = |name: &str, machine: u16| fs::write(code.path().join(name), elf(machine)).unwrap();
        fs::write(code.path().join("main.py"), "print()").unwrap();
        write("a.abi3.so", own);
        write("b.cpython-312-x.so", own);
        assert_eq!(foreign(code.path(), Some("12")), None);
        let (file, what) = foreign(code.path(), Some("13")).unwrap();
        assert_eq!((file.as_str(), what.as_str()), ("b.cpython-312-x.so", "for Python 3.12"));
        write("a.so", other);
        assert_eq!(foreign(code.path(), Some("12")).unwrap().0, "a.so");
    }

    #[test]
    fn packages_are_known_by_their_own_records() {
        let code = tempfile::tempdir().unwrap();
        let info = code.path().join("some_lib-1.2.dist-info");
        fs::create_dir(&info).unwrap();
        fs::write(
            info.join("METADATA"),
            "Metadata-Version: 2.1\nName: some-lib\nVersion: 1.2\n\nVersion: no\n",
        )
        .unwrap();
        fs::write(info.join("RECORD"), "some.py,sha256=x,1\n../../etc/passwd,,\n\"od,d.py\",,\n").unwrap();
        fs::write(code.path().join("some.py"), "").unwrap();
        fs::write(code.path().join("od,d.py"), "").unwrap();
        let bad = code.path().join("bad-1.dist-info");
        fs::create_dir(&bad).unwrap();
        fs::write(bad.join("METADATA"), "Name: --index-url=http://x\nVersion: 1\n").unwrap();
        let expected = Distribution {
            name: "some-lib".into(),
            version: "1.2".into(),
            files: vec!["some.py".into(), "od,d.py".into()],
        };
        assert_eq!(distributions(code.path()), [expected]);
    }
}
