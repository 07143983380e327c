//! The launcher of a session without namespaces, and what becomes of its child.
//!
//! The launcher stays as the helper's watcher: when the helper has ended, however, it ends whatever is left of the
//! session, which has come to it, and removes the session's scratch. When the launcher is killed, the helper sees
//! its watch closed and ends the session at once.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::prctl::{set_child_subreaper, set_dumpable, set_name};

use super::super::groups::{self, Controller};
use super::super::launch::{fail, wait};
use super::super::plan::{During, LaunchFailure, LaunchReport, LaunchStep};
use super::super::sys::{self, Cloned};
use super::{LOCK_FILE, Plan, remove_slowly};
use crate::engine::WORKDIR;
use crate::helper::confine::{self, Confinement};
use crate::helper::control::Control;
use crate::helper::{init, tree};

/// What the session's user finds in `HOME`, below the scratch directory.
pub(super) const HOME: &str = "/root";
/// And in `TMPDIR`.
pub(super) const TEMPORARY: &str = "/tmp";
/// Time between two looks at processes that were killed. [ours]
const KILL_TICK: Duration = Duration::from_millis(5);
/// Private to the user.
const PRIVATE: u32 = 0o700;

/// Makes a session and watches over it until it has ended.
pub(in super::super) fn session(mut emulator: Control, plan: &Plan) -> ExitCode {
    let (watch, watched, _lock) = match prepare(plan) {
        Ok(prepared) => prepared,
        Err(failure) => {
            let _ = remove_slowly(&plan.scratch);
            return fail(&mut emulator, failure);
        }
    };
    let joined = groups::join(&plan.groups, &plan.limits);
    match sys::fork().during(LaunchStep::Other, "making the session's first process") {
        Err(failure) => {
            groups::leave(&plan.groups);
            let _ = remove_slowly(&plan.scratch);
            fail(&mut emulator, failure)
        }
        Ok(Cloned::Child) => {
            drop(watched);
            // Both speak on the emulator's line, one after the other.
            if !matches!(nix::unistd::read(&watch, &mut [0]), Ok(1)) {
                return ExitCode::FAILURE;
            }
            groups::enter(&plan.groups);
            helper(emulator, plan, &joined.controllers, watch)
        }
        Ok(Cloned::Parent { pid, handle }) => {
            drop(watch);
            // An emulator that is gone shows to the helper as a closed line.
            let _ = emulator.send(&LaunchReport::Started { pid: pid.as_raw() }, vec![handle]);
            drop(emulator);
            // One that cannot be told sees the watch closed by the end of this process.
            let _ = nix::unistd::write(&watched, &[1]);
            wait(pid);
            while !tree::end_descendants() {
                std::thread::sleep(KILL_TICK);
            }
            groups::leave(&plan.groups);
            let _ = remove_slowly(&plan.scratch);
            drop(watched);
            ExitCode::SUCCESS
        }
    }
}

/// Both ends of the watch, the helper's first, and the lock of the scratch directory.
fn prepare(plan: &Plan) -> Result<(OwnedFd, OwnedFd, File), LaunchFailure> {
    use LaunchStep::Other;
    set_child_subreaper(true).during(Other, "adopting the session's processes")?;
    // Agents are of the same user, and may trace what can be dumped.
    set_dumpable(false).during(Other, "restricting the launcher")?;
    let (watch, watched) = io::pipe().during(Other, "making a pipe")?;
    let doing = || format!("making `{}`", plan.scratch.display());
    DirBuilder::new().mode(PRIVATE).create(&plan.scratch).during(Other, doing())?;
    let lock = File::create(plan.scratch.join(LOCK_FILE)).during(Other, doing())?;
    lock.try_lock().map_err(|e| LaunchFailure::words(Other, doing(), e.to_string()))?;
    Ok((watch.into(), watched.into(), lock))
}

/// The helper: makes the session's places, then serves.
fn helper(mut emulator: Control, plan: &Plan, held: &[Controller], watch: OwnedFd) -> ExitCode {
    let mounter = match furnish(plan, held) {
        Ok(mounter) => mounter,
        Err(failure) => return fail(&mut emulator, failure),
    };
    let socket = emulator.into_socket();
    // The emulator takes the end of the line for the end of the session, of which the scratch is a part.
    let line = socket.try_clone();
    let code = init::serve(init::Session {
        finisher: None,
        scope: init::Scope::Machine { own_port: plan.port, watcher: watch },
        orphan_grace: Duration::from_millis(plan.orphan_grace_millis),
        socket,
        environment: plan.environment.clone(),
        mounter,
        // Only root can give files away, whatever the session believes to be.
        confinement: Confinement::new(!nix::unistd::geteuid().is_root()),
        listener: None,
    });
    // The launcher would, if it still lives.
    let _ = remove_slowly(&plan.scratch);
    drop(line);
    code
}

fn furnish(plan: &Plan, held: &[Controller]) -> Result<Option<init::Mounter>, LaunchFailure> {
    use LaunchStep::{Other, Paths};
    let place = |inside: &str| plan.scratch.join(inside.trim_start_matches('/'));
    let make = |path: &Path| {
        let made = DirBuilder::new().recursive(true).mode(PRIVATE).create(path);
        made.during(Paths, format!("making `{}`", path.display()))
    };
    for inside in [HOME, TEMPORARY] {
        make(&place(inside))?;
    }
    if let Some(parent) = place(WORKDIR).parent() {
        make(parent)?;
    }
    copy(&plan.code, &place(WORKDIR)).during(Paths, format!("copying `{}`", plan.code.display()))?;
    for secret in &plan.secrets {
        if let Some(parent) = secret.path.parent() {
            make(parent)?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&secret.path);
        let written = file.and_then(|mut file| file.write_all(secret.content.as_bytes()));
        written.during(Paths, format!("writing `{}`", secret.path.display()))?;
    }
    let mut mounter = plan.storage.clone().map(|(source, link)| -> init::Mounter {
        Box::new(move || {
            if let Some(parent) = link.parent() {
                fs::create_dir_all(parent)?;
            }
            symlink(&source, &link)
        })
    });
    if plan.early_mount
        && let Some(mut mount) = mounter.take()
    {
        mount().during(Paths, "linking the session storage")?;
    }
    groups::limit_processes(&plan.limits, held, false).during(Other, "limiting the session")?;
    // Not for a user, who has none to drop.
    if nix::unistd::geteuid().is_root() {
        confine::drop_capabilities().during(Other, "restricting the session")?;
    }
    let _ = set_name(c"agentcore-init");
    sys::new_keyring();
    Ok(mounter)
}

/// Copies a tree, links as they are. Sockets, pipes and devices are no code.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().mode(PRIVATE).create(to)?;
    let mut modes: Vec<(PathBuf, fs::Permissions)> = vec![(to.to_owned(), from.metadata()?.permissions())];
    let mut left = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = left.pop() {
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type()?;
            if kind.is_dir() {
                DirBuilder::new().mode(PRIVATE).create(&target)?;
                modes.push((target.clone(), entry.metadata()?.permissions()));
                left.push((source, target));
            } else if kind.is_symlink() {
                symlink(fs::read_link(&source)?, &target)?;
            } else if kind.is_file() {
                fs::copy(&source, &target)?;
                // Compiled Python files are checked against it.
                let modified = entry.metadata()?.modified()?;
                File::open(&target)?.set_modified(modified)?;
            }
        }
    }
    for (path, mut mode) in modes.into_iter().rev() {
        // Whoever owns it can write to it, as in a session with an overlay.
        mode.set_mode(mode.mode() | PRIVATE);
        fs::set_permissions(path, mode)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_copied_with_its_links_modes_and_times() {
        let scratch = tempfile::tempdir().unwrap();
        let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
        fs::create_dir_all(from.join("package")).unwrap();
        fs::write(from.join("package/main.py"), "x = 1\n").unwrap();
        fs::set_permissions(from.join("package/main.py"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(from.join("package"), fs::Permissions::from_mode(0o555)).unwrap();
        symlink("package/main.py", from.join("start")).unwrap();
        std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
        copy(&from, &to).unwrap();
        let mode = |path: &str| to.join(path).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("package"), mode("package/main.py")), (0o755, 0o755));
        assert_eq!(fs::read_to_string(to.join("start")).unwrap(), "x = 1\n");
        assert_eq!(fs::read_link(to.join("start")).unwrap(), Path::new("package/main.py"));
        let time = |root: &Path| root.join("package/main.py").metadata().unwrap().modified().unwrap();
        assert_eq!(time(&from), time(&to));
        assert!(!to.join("socket").exists());
        fs::set_permissions(from.join("package"), fs::Permissions::from_mode(0o755)).unwrap();
    }
}
