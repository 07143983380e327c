//! What a daemon gets that sees nothing of this machine: copies instead of mounts, and the container's standard streams
//! instead of a socket.
//!
//! This program is copied once into a volume, which every container has read-only; the code of a session is copied into
//! its container before it is started.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bollard::models::{Mount, VolumeCreateRequest};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use futures_util::StreamExt;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio_util::io::{ReaderStream, StreamReader};

use super::daemon::{Daemon, MAX_SAID_BYTES, status, volume_at};
use super::helper::Helper;
use super::labels::Labels;
use super::plan::TOOLS;
use super::relay::near::{self, Near};
use super::volumes;
use crate::engine::{EngineError, WORKDIR};

/// The last file of a whole copy.
const COMPLETE: &str = "complete";
/// Digits of a copy's name.
const NAME_DIGITS: usize = 16;
/// Its files are root's, and everybody may run them.
const MODE: u32 = 0o755;
/// How often a container's streams are asked for, and the pause between. [ours: Podman 4.3 was ready at the second time]
const ATTACH_ATTEMPTS: u32 = 10;
const ATTACH_PAUSE: Duration = Duration::from_millis(200);
/// How much of an archive is read at once.
const READ_BYTES: usize = 256 * 1024;

/// The copy of this program that the containers of a daemon apart have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copied {
    volume: String,
}

impl Copied {
    /// The mount that every container has instead of this machine's files.
    pub(super) fn mount(&self) -> Mount {
        Mount { read_only: Some(true), ..volume_at(&self.volume, TOOLS) }
    }

    /// Makes sure that there is a whole copy of this build, and no other one of this home.
    pub(super) async fn make(daemon: &Daemon) -> Result<Self, EngineError> {
        let helper = daemon.helper_for_its_machine()?;
        let reading =
            |source| EngineError::Io { context: "looking at this program's own files".to_owned(), source };
        let copied = Self { volume: daemon.labels.helper_volume(&build_of(&helper).map_err(reading)?) };
        let request = VolumeCreateRequest {
            name: Some(copied.volume.clone()),
            labels: Some(daemon.labels.of_helper()),
            ..VolumeCreateRequest::default()
        };
        let failed = |e: &Error| daemon.failed("a volume for this program could not be made", e);
        let made = daemon.client.create_volume(request.clone()).await.map_err(|e| failed(&e))?;
        if !Labels::fit(&daemon.labels.helper_volumes(), &made.labels) {
            // A daemon makes one that was deleted anew for whoever mounts it, with nothing in it and nobody's.
            volumes::delete(daemon, &copied.volume).await?;
            daemon.client.create_volume(request).await.map_err(|e| failed(&e))?;
        }
        let id = daemon.carrier(volume_at(&copied.volume, TOOLS)).await?;
        let filled = fill(daemon, &id, helper).await;
        daemon.remove_look(&id).await;
        filled?;
        copied.remove_others(daemon).await;
        Ok(copied)
    }

    /// Of other builds. One that a container still has stays until the next time.
    async fn remove_others(&self, daemon: &Daemon) {
        for volume in volumes::list(daemon, daemon.labels.helper_volumes()).await.unwrap_or_default() {
            if volume.name != self.volume
                && let Err(error) = volumes::delete(daemon, &volume.name).await
            {
                tracing::debug!(%error, "an older copy of this program is left");
            }
        }
    }
}

/// Copies this program to the volume of a container, unless a whole copy is there.
async fn fill(daemon: &Daemon, id: &str, helper: Helper) -> Result<(), EngineError> {
    let failed = |e: Error| daemon.failed("this program could not be copied into a volume", &e);
    if is_there(daemon, id, &format!("{TOOLS}/{COMPLETE}")).await.map_err(failed)? {
        return Ok(());
    }
    let archive = blocking("packing this program", move || pack_helper(&helper)).await?;
    upload(daemon, id, TOOLS, archive).await.map_err(failed)
}

/// Copies code to where it runs, in a container that has not been started.
pub(super) async fn bring_code(daemon: &Daemon, id: &str, code: &Path) -> Result<(), EngineError> {
    let code = code.to_owned();
    let archive = blocking("packing the code", move || pack_code(&code)).await?;
    upload(daemon, id, "/", archive)
        .await
        .map_err(|e| daemon.failed("the code could not be copied into a container", &e))
}

/// Takes the standard streams of a container that has not been started. What it says on standard error is kept.
pub(super) async fn attach(daemon: &Daemon, id: &str) -> Result<(Near, Arc<Mutex<String>>), EngineError> {
    let options = AttachContainerOptionsBuilder::default()
        .stream(true)
        .stdin(true)
        .stdout(true)
        .stderr(true)
        // None: Podman looks for the usual ones in whatever goes through, and would let go.
        .detach_keys("")
        .build();
    let mut attempts = 1;
    let AttachContainerResults { output, input } = loop {
        match daemon.client.attach_container(id, Some(options.clone())).await {
            Ok(attached) => break attached,
            // Podman makes the container ready for it, and misses its files while it still lets go of those it got.
            Err(e) if status(&e) == Some(500) && attempts < ATTACH_ATTEMPTS => attempts += 1,
            Err(e) => return Err(daemon.failed("a container's streams could not be taken", &e)),
        }
        tokio::time::sleep(ATTACH_PAUSE).await;
    };
    let errors = Arc::new(Mutex::new(String::new()));
    let said = errors.clone();
    let output = output.filter_map(move |part| {
        let part = match part {
            Ok(LogOutput::StdErr { message }) => {
                let mut said = said.lock();
                if said.len() < MAX_SAID_BYTES {
                    said.push_str(&String::from_utf8_lossy(&message));
                }
                None
            }
            Ok(other) => Some(Ok(other.into_bytes())),
            Err(e) => Some(Err(io::Error::other(e))),
        };
        std::future::ready(part)
    });
    let near = near::begin(StreamReader::new(output), input).map_err(|source| EngineError::Io {
        context: "making a relay into a container".to_owned(),
        source,
    })?;
    Ok((near, errors))
}

async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, EngineError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    done.flatten().map_err(|source| EngineError::Io { context: doing.to_owned(), source })
}

async fn upload(daemon: &Daemon, id: &str, to: &str, archive: File) -> Result<(), Error> {
    let options = UploadToContainerOptionsBuilder::default().path(to).build();
    let bytes = ReaderStream::with_capacity(tokio::fs::File::from_std(archive), READ_BYTES);
    daemon.client.upload_to_container(id, Some(options), bollard::body_try_stream(bytes)).await
}

async fn is_there(daemon: &Daemon, id: &str, path: &str) -> Result<bool, Error> {
    let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
    let mut found = std::pin::pin!(daemon.client.download_from_container(id, Some(options)));
    match found.next().await {
        Some(Ok(_)) => Ok(true),
        Some(Err(e)) if status(&e) == Some(404) => Ok(false),
        Some(Err(e)) => Err(e),
        None => Ok(false),
    }
}

/// What tells this build from another one: which files it is of, and since when they are as they are.
fn build_of(helper: &Helper) -> io::Result<String> {
    let mut digest = Sha256::new();
    for (from, to) in &helper.files {
        let about = from.metadata()?;
        digest.update(format!(
            "{} {to} {} {}.{}\n",
            from.display(),
            about.size(),
            about.mtime(),
            about.mtime_nsec()
        ));
    }
    let name = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Ok(name.chars().take(NAME_DIGITS).collect())
}

/// An archive of this program's files below [`TOOLS`]. The mark of a whole copy is its last entry: a daemon unpacks one after
/// the other.
fn pack_helper(helper: &Helper) -> io::Result<File> {
    let mut archive = tar::Builder::new(tempfile::tempfile()?);
    for (from, to) in &helper.files {
        let file = File::open(from)?;
        let below = to.strip_prefix(TOOLS).unwrap_or(to).trim_start_matches('/');
        let mut header = tar::Header::new_gnu();
        header.set_size(file.metadata()?.len());
        header.set_mode(MODE);
        archive.append_data(&mut header, below, file)?;
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(MODE);
    archive.append_data(&mut header, COMPLETE, io::empty())?;
    rewound(archive)
}

/// An archive of a tree that unpacks below [`WORKDIR`], modes and times with it, as root's.
fn pack_code(code: &Path) -> io::Result<File> {
    let mut archive = tar::Builder::new(tempfile::tempfile()?);
    add_tree(&mut archive, code, Path::new(WORKDIR.trim_start_matches('/')))?;
    rewound(archive)
}

fn add_tree(archive: &mut tar::Builder<File>, from: &Path, to: &Path) -> io::Result<()> {
    let about = from.symlink_metadata()?;
    let mut header = tar::Header::new_gnu();
    header.set_metadata_in_mode(&about, tar::HeaderMode::Complete);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    if about.is_dir() {
        archive.append_data(&mut header, to, io::empty())?;
        let mut entries: Vec<_> = fs::read_dir(from)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            add_tree(archive, &entry.path(), &to.join(entry.file_name()))?;
        }
    } else if about.is_symlink() {
        archive.append_link(&mut header, to, fs::read_link(from)?)?;
    } else if about.is_file() {
        header.set_size(about.size());
        // No more than was said, should it grow.
        archive.append_data(&mut header, to, File::open(from)?.take(about.size()))?;
    }
    // Sockets, pipes and devices are no code.
    Ok(())
}

fn rewound(archive: tar::Builder<File>) -> io::Result<File> {
    let mut file = archive.into_inner()?;
    file.rewind()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_mark_of_a_whole_copy_comes_last_and_each_build_has_its_name() {
        let scratch = tempfile::tempdir().unwrap();
        let program = scratch.path().join("program");
        fs::write(&program, "one").unwrap();
        let helper = Helper {
            files: vec![(program.clone(), "/opt/agentcore/bin/agentcore".to_owned())],
            argv: vec![],
        };
        let mut archive = tar::Archive::new(pack_helper(&helper).unwrap());
        let paths: Vec<_> =
            archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(paths, ["bin/agentcore", COMPLETE]);
        let name = build_of(&helper).unwrap();
        assert_eq!((name.len(), build_of(&helper).unwrap()), (NAME_DIGITS, name.clone()));
        fs::write(&program, "another").unwrap();
        assert_ne!(build_of(&helper).unwrap(), name);
    }

    #[test]
    fn code_is_packed_as_it_is_for_root() {
        let code = tempfile::tempdir().unwrap();
        let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
        fs::create_dir_all(code.path().join("d".repeat(90))).unwrap();
        fs::write(code.path().join(&long), "deep").unwrap();
        fs::write(code.path().join("main.py"), "print()").unwrap();
        fs::set_permissions(code.path().join("main.py"), fs::Permissions::from_mode(0o555)).unwrap();
        symlink("main.py", code.path().join("start")).unwrap();
        let when = code.path().join("main.py").metadata().unwrap().mtime();
        let mut archive = tar::Archive::new(pack_code(code.path()).unwrap());
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let header = entry.header().clone();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0), "{path}");
            match path.as_str() {
                "var/task/main.py" => {
                    assert_eq!(header.mode().unwrap() & 0o7777, 0o555);
                    assert_eq!(i64::try_from(header.mtime().unwrap()).unwrap(), when);
                }
                "var/task/start" => {
                    assert_eq!(entry.link_name().unwrap().unwrap().as_os_str().as_bytes(), b"main.py");
                }
                _ => {}
            }
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.push((path, text));
        }
        let has = |path: &str, text: &str| found.contains(&(path.to_owned(), text.to_owned()));
        assert!(has("var/task/main.py", "print()") && has(&format!("var/task/{long}"), "deep"), "{found:?}");
        assert!(
            has("var/task/start", "")
                && found.iter().any(|(path, _)| path.trim_end_matches('/') == "var/task")
        );
    }
}
