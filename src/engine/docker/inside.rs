//! What runs in containers: the first process of a session's, and short looks into a volume.
//!
//! The container stands already, made by the daemon with the limits, mounts and capabilities it was asked for. What is
//! left is what only a process inside can do: the listener, the secret files, the storage's mode, and giving away what
//! the helper itself must not have.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::prctl::{set_dumpable, set_name};
use nix::sys::signal::SigSet;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::plan::{CODE, Inside, LINK, OUT_OF_REACH, Plan, SOCKET, VOLUME, VolumeUse};
use super::relay::far;
use crate::engine::WORKDIR;
use crate::helper::confine::{self, Confinement};
use crate::helper::control::Control;
use crate::helper::init::{self, Finisher};
use crate::storage;

/// Every user of a container may write to the storage.
const OPEN_TO_ALL: u32 = 0o777;
/// As the daemon makes a volume.
const AS_MADE: u32 = 0o755;
/// A file that only root may read.
const SECRET: u32 = 0o400;

/// The first process of a session's container.
pub(super) fn main(by_streams: bool) -> ExitCode {
    if by_streams { with_relay() } else { with_socket() }
}

fn with_socket() -> ExitCode {
    let Ok(socket) = UnixStream::connect(Path::new(LINK).join(SOCKET)) else {
        // The emulator has gone while the container was started, or is on another machine.
        return ExitCode::from(OUT_OF_REACH);
    };
    let Ok((emulator, theirs)) = UnixStream::pair().map(|(own, theirs)| (Control::new(own.into()), theirs))
    else {
        return ExitCode::FAILURE;
    };
    // The named one ends with this: nobody else holds it.
    if Control::new(OwnedFd::from(socket)).send(&Inside::Here, vec![theirs.into()]).is_err() {
        return ExitCode::FAILURE;
    }
    serve(emulator)
}

/// With a thread that carries everything over the standard streams.
fn with_relay() -> ExitCode {
    let parts = || {
        let (own, theirs) = UnixStream::pair()?;
        let streams = (io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?);
        io::Result::Ok((own, theirs, streams))
    };
    let Ok((own, theirs, (input, output))) = parts() else { return ExitCode::FAILURE };
    let relaying = std::thread::Builder::new().name("agentcore-relay".to_owned()).spawn(move || {
        // Signals are for the helper, and so are rights.
        SigSet::all().thread_block()?;
        confine::drop_capabilities()?;
        far::serve(theirs.into(), input, output)
    });
    let Ok(relaying) = relaying else { return ExitCode::FAILURE };
    let code = serve(Control::new(own.into()));
    // Its last words are on their way.
    let _ = relaying.join();
    code
}

fn serve(mut emulator: Control) -> ExitCode {
    let Ok(Some((plan, _))) = emulator.receive::<Plan>() else { return ExitCode::FAILURE };
    match prepare(&plan) {
        Ok(listener) => init::serve(init::Session {
            scope: init::Scope::Namespace,
            orphan_grace: Duration::from_millis(plan.orphan_grace_millis),
            socket: emulator.into_socket(),
            environment: plan.environment,
            mounter: None,
            confinement: Confinement::new(false),
            listener,
            finisher: plan.storage.map(durable),
        }),
        Err(reason) => {
            let _ = emulator.send(&Inside::Failed { reason }, vec![]);
            ExitCode::FAILURE
        }
    }
}

fn prepare(plan: &Plan) -> Result<Option<OwnedFd>, String> {
    let doing = |what: &str| {
        let what = what.to_owned();
        move |e: io::Error| format!("{what}: {e}")
    };
    for (path, content) in &plan.secrets {
        write_secret(path, content).map_err(doing(&format!("writing `{}`", path.display())))?;
    }
    if plan.code {
        let copied = fs::create_dir_all(WORKDIR).and_then(|()| copy(Path::new(CODE), Path::new(WORKDIR)));
        copied.map_err(doing("copying the code"))?;
    }
    if let Some(storage) = &plan.storage {
        open_to_all(storage).map_err(doing("opening the storage to every user"))?;
    }
    let listener = plan.listen.map(listen).transpose().map_err(doing("listening on loopback"))?;
    standard_to_null().map_err(doing("opening /dev/null"))?;
    confine::drop_capabilities().map_err(doing("restricting the session"))?;
    let _ = set_name(c"agentcore-init");
    // The session's root may not look into this process, which holds the line to the emulator.
    set_dumpable(false).map_err(|e| doing("restricting the session")(e.into()))?;
    Ok(listener)
}

fn write_secret(path: &Path, content: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    // An image may have something there; a link is not followed.
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(SECRET).open(path)?;
    file.write_all(content.as_bytes())
}

/// Copies a tree, modes and times with it: compiled Python files are checked against the times of their sources.
/// Changes to the copy go with the container.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to, about) = (entry.path(), to.join(entry.file_name()), entry.metadata()?);
        if about.is_dir() {
            fs::create_dir_all(&to)?;
            copy(&from, &to)?;
            fs::set_permissions(&to, about.permissions())?;
        } else if about.is_symlink() {
            symlink(fs::read_link(&from)?, &to)?;
        } else if about.is_file() {
            fs::copy(&from, &to)?;
            File::options().write(true).open(&to)?.set_modified(about.modified()?)?;
        }
        // Sockets, pipes and devices are no code.
    }
    Ok(())
}

/// The service stores permissions and checks none. Here the kernel checks them, so a storage that nobody has used yet
/// is opened; what its users do with it later is theirs.
fn open_to_all(storage: &Path) -> io::Result<()> {
    let about = fs::metadata(storage)?;
    let untouched = about.uid() == 0 && about.mode() & 0o7777 == AS_MADE;
    if untouched && fs::read_dir(storage)?.next().is_none() {
        fs::set_permissions(storage, Permissions::from_mode(OPEN_TO_ALL))?;
    }
    Ok(())
}

fn listen(port: u16) -> io::Result<OwnedFd> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener.into())
}

fn standard_to_null() -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

/// Makes the storage durable. Opened now, while nobody has taken anybody's rights to it.
fn durable(storage: std::path::PathBuf) -> Finisher {
    let opened = File::open(storage);
    Box::new(move || match &opened {
        Ok(directory) => Ok(nix::unistd::syncfs(directory)?),
        Err(e) => Err(e.kind().into()),
    })
}

/// A short look: at the volume of a container of its own, or at a path of a session. Says on standard output what it
/// found; what went wrong, on standard error.
pub(super) fn look(verb: &str, path: Option<&str>) -> ExitCode {
    let path = Path::new(path.unwrap_or(VOLUME));
    let said = match verb {
        "count" => {
            let found = storage::count(path);
            serde_json::to_string(&VolumeUse { bytes: found.bytes, files: found.files })
                .map_err(io::Error::from)
        }
        "sync" => File::open(path).and_then(|d| Ok(nix::unistd::syncfs(d)?)).map(|()| String::new()),
        _ => Err(io::ErrorKind::Unsupported.into()),
    };
    match said {
        Ok(text) if io::stdout().write_all(text.as_bytes()).is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(e) => {
            let _ = io::stderr().write_all(e.to_string().as_bytes());
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_untouched_storage_is_opened() {
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
        let fresh = tempfile::tempdir().unwrap();
        fs::set_permissions(fresh.path(), Permissions::from_mode(AS_MADE)).unwrap();
        let root = nix::unistd::geteuid().is_root();
        open_to_all(fresh.path()).unwrap();
        assert_eq!(mode(fresh.path()), if root { OPEN_TO_ALL } else { AS_MADE });
        // Whoever uses it may close it again.
        fs::set_permissions(fresh.path(), Permissions::from_mode(0o700)).unwrap();
        open_to_all(fresh.path()).unwrap();
        assert_eq!(mode(fresh.path()), 0o700);
        fs::set_permissions(fresh.path(), Permissions::from_mode(AS_MADE)).unwrap();
        fs::write(fresh.path().join("used"), "").unwrap();
        open_to_all(fresh.path()).unwrap();
        assert_eq!(mode(fresh.path()), AS_MADE);
    }

    #[test]
    fn code_is_copied_as_it_is() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(from.path().join("package/deep")).unwrap();
        let script = from.path().join("package/deep/run.sh");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&script, Permissions::from_mode(0o555)).unwrap();
        symlink("package/deep/run.sh", from.path().join("start")).unwrap();
        copy(from.path(), to.path()).unwrap();
        let copied = to.path().join("package/deep/run.sh").metadata().unwrap();
        assert_eq!(copied.modified().unwrap(), script.metadata().unwrap().modified().unwrap());
        assert_eq!(copied.mode() & 0o7777, 0o555);
        assert_eq!(fs::read_to_string(to.path().join("start")).unwrap(), "#!/bin/sh\n");
        assert!(to.path().join("start").is_symlink());
    }

    #[test]
    fn a_secret_replaces_what_an_image_has_in_its_place() {
        let root = tempfile::tempdir().unwrap();
        let other = root.path().join("other");
        fs::write(&other, "kept").unwrap();
        let secret = root.path().join("run/agentcore/token");
        fs::create_dir_all(secret.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&other, &secret).unwrap();
        write_secret(&secret, "hush").unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "kept");
        assert_eq!(secret.symlink_metadata().unwrap().mode() & 0o7777, SECRET);
        write_secret(&secret, "again").unwrap();
        assert_eq!(fs::read_to_string(&secret).unwrap(), "again");
    }
}
