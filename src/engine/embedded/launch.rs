//! The launcher: one short-lived request, one long wait.
//!
//! It is this program again, with one thread and an empty environment, because namespaces cannot be
//! entered by one thread of many. It makes the session's first process in new namespaces, maps its ids from
//! outside, and waits for its end: whoever kills the launcher kills the session with it.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::prctl::{set_dumpable, set_name, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use super::groups::{self, Joined};
use super::idmap::{IdMap, SESSION_IDS};
use super::plan::{Build, During, LaunchFailure, LaunchReport, LaunchRequest, LaunchStep, Plan};
use super::sys::{self, Cloned};
use super::{code, process, root};
use crate::helper::confine::{self, Confinement};
use crate::helper::control::Control;
use crate::helper::init;

const SESSION_NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// Serves the one request that comes over descriptor 0.
pub(super) fn main() -> ExitCode {
    match take_socket() {
        Ok(socket) => serve(socket),
        // Nobody to tell: the emulator sees the end.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Moves the socket away from descriptor 0, so that nothing started later has it as its input.
fn take_socket() -> io::Result<OwnedFd> {
    sys::close_all_but_standard();
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    standard_to_null()?;
    // An interrupt at the emulator's terminal is for the emulator.
    let _ = setsid();
    nix::unistd::chdir("/")?;
    Ok(socket)
}

pub(super) fn standard_to_null() -> io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

fn serve(socket: OwnedFd) -> ExitCode {
    let mut emulator = Control::new(socket);
    let Ok(Some((request, _))) = emulator.receive::<LaunchRequest>() else { return ExitCode::FAILURE };
    match request {
        LaunchRequest::Session { mut plan } => {
            root::add_real_paths(&mut plan);
            session(emulator, &plan)
        }
        LaunchRequest::Process { plan } => process::launch::session(emulator, &plan),
        LaunchRequest::Remove { ids, path } => remove(emulator, &ids, &path),
    }
}

pub(super) fn fail(emulator: &mut Control, failure: LaunchFailure) -> ExitCode {
    // An emulator that is gone needs no reason.
    let _ = emulator.send(&LaunchReport::Failed { failure }, vec![]);
    ExitCode::FAILURE
}

fn session(mut emulator: Control, plan: &Plan) -> ExitCode {
    let (mut outside, inside) = match Control::pair().during(LaunchStep::Other, "making a socket pair") {
        Ok(pair) => pair,
        Err(failure) => return fail(&mut emulator, failure),
    };
    let mut joined = groups::join(&plan.groups, &plan.limits);
    let mut cloned = sys::clone_into(SESSION_NAMESPACES, joined.directory.as_ref());
    if cloned.is_err() && joined.directory.take().is_some() {
        // Perhaps it was the group: then limits of processes hold the session.
        joined.controllers.clear();
        cloned = sys::clone_into(SESSION_NAMESPACES, None);
    }
    match cloned.during(LaunchStep::Namespaces, "making namespaces") {
        Err(failure) => {
            groups::leave(&plan.groups);
            fail(&mut emulator, failure)
        }
        Ok(Cloned::Child) => {
            drop(outside);
            first_process(emulator, plan, &joined, inside)
        }
        Ok(Cloned::Parent { pid, handle }) => {
            drop(inside);
            let prepared = map_ids(pid, &plan.ids).and_then(|()| prepare(plan, pid, &mut outside));
            if let Err(failure) = prepared {
                // Its line closes before it was told to go on, so the child ends by itself.
                drop(outside);
                wait(pid);
                groups::leave(&plan.groups);
                return fail(&mut emulator, failure);
            }
            if emulator.send(&LaunchReport::Started { pid: pid.as_raw() }, vec![handle]).is_err() {
                return ExitCode::FAILURE;
            }
            // From here on the first process alone holds the session's end of the socket.
            drop(emulator);
            if outside.send(&Build::Go, vec![]).is_ok() {
                while let Ok(Some((Build::SendCode, _))) = outside.receive() {
                    if code::send(&mut outside, &plan.code).is_err() {
                        break;
                    }
                }
            }
            drop(outside);
            wait(pid);
            groups::leave(&plan.groups);
            ExitCode::SUCCESS
        }
    }
}

pub(super) fn wait(pid: Pid) {
    while waitpid(pid, None) == Err(Errno::EINTR) {}
}

/// Maps the ids of the new process from outside.
fn map_ids(pid: Pid, ids: &IdMap) -> Result<(), LaunchFailure> {
    let doing = "mapping the session's ids";
    let write = |name: &str, text: &str| {
        std::fs::write(format!("/proc/{pid}/{name}"), text).during(LaunchStep::Ids, doing)
    };
    match ids {
        IdMap::Range { uid_base, gid_base } => {
            write("gid_map", &format!("0 {gid_base} {SESSION_IDS}"))?;
            write("uid_map", &format!("0 {uid_base} {SESSION_IDS}"))
        }
        IdMap::UserAndRange { uid, gid, uids, gids, newuidmap, newgidmap } => {
            run_mapper(newgidmap, pid, *gid, *gids)?;
            run_mapper(newuidmap, pid, *uid, *uids)
        }
        IdMap::Single { uid, gid } => {
            // A user must give up dropping groups before mapping a group.
            write("setgroups", "deny")?;
            write("gid_map", &format!("0 {gid} 1"))?;
            write("uid_map", &format!("0 {uid} 1"))
        }
    }
}

fn run_mapper(program: &Path, pid: Pid, own: u32, range: (u32, u32)) -> Result<(), LaunchFailure> {
    let doing = format!("mapping ids with `{}`", program.display());
    let (first, count) = (range.0, range.1.min(SESSION_IDS - 1));
    let numbers = [pid.as_raw().unsigned_abs(), 0, own, 1, 1, first, count];
    let output = Command::new(program)
        .args(numbers.map(|number| number.to_string()))
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .during(LaunchStep::Ids, doing.as_str())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(LaunchFailure::words(LaunchStep::Ids, doing, said))
}

/// Run by root, shows root's files as the session's wherever the kernel can.
fn prepare(plan: &Plan, pid: Pid, outside: &mut Control) -> Result<(), LaunchFailure> {
    if plan.ids.root_owner().is_none() {
        return Ok(());
    }
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/user"))
        .during(LaunchStep::Ids, "opening the session's user namespace")?;
    for (index, path) in root::own_paths(plan).into_iter().enumerate() {
        // File systems that cannot do this are shown as they are; what is wrong with the path itself is
        // told by the first process, which opens it then.
        let Ok(tree) = sys::open_tree(path) else { continue };
        if sys::map_ids(&tree, namespace.as_fd()).is_ok() {
            outside
                .send(&Build::Tree { index }, vec![tree])
                .map_err(|e| LaunchFailure::words(LaunchStep::Other, "handing mounts over", e.to_string()))?;
        }
    }
    Ok(())
}

/// The first process of a session: builds its root, then serves as its helper until the end.
fn first_process(mut emulator: Control, plan: &Plan, joined: &Joined, mut launcher: Control) -> ExitCode {
    match become_helper(plan, joined, &mut launcher) {
        Ok((mounter, listener)) => {
            drop(launcher);
            init::serve(init::Session {
                scope: init::Scope::Namespace,
                orphan_grace: Duration::from_millis(plan.orphan_grace_millis),
                socket: emulator.into_socket(),
                environment: plan.environment.clone(),
                mounter,
                confinement: Confinement::new(matches!(plan.ids, IdMap::Single { .. })),
                listener,
                finisher: None,
            })
        }
        Err(Some(failure)) => fail(&mut emulator, failure),
        Err(None) => ExitCode::FAILURE,
    }
}

/// Nothing as the error means that the launcher has gone or has said what is wrong itself.
fn become_helper(
    plan: &Plan,
    joined: &Joined,
    launcher: &mut Control,
) -> Result<(Option<init::Mounter>, Option<OwnedFd>), Option<LaunchFailure>> {
    use LaunchStep::{Network, Other};
    let doing = "tying the session to its launcher";
    set_pdeathsig(Signal::SIGKILL).during(Other, doing)?;
    let mut mapped: Vec<Option<OwnedFd>> = root::own_paths(plan).iter().map(|_| None).collect();
    loop {
        let (message, mut fds) = launcher.receive().ok().flatten().ok_or(None)?;
        match message {
            Build::Tree { index } => {
                if let Some(slot) = mapped.get_mut(index) {
                    *slot = fds.pop();
                }
            }
            Build::Go => break,
            _ => return Err(None),
        }
    }
    let storage = root::build(plan, mapped, launcher)?;
    sys::loopback_up().during(Network, "switching loopback on")?;
    let listener =
        plan.listen.map(listen).transpose().during(Network, "listening on the session's loopback")?;
    standard_to_null().during(Other, "opening /dev/null")?;
    sys::new_keyring();
    groups::limit_processes(&plan.limits, &joined.controllers, true).during(Other, "limiting the session")?;
    confine::drop_capabilities().during(Other, "restricting the session")?;
    let _ = set_name(c"agentcore-init");
    // The session's root may not look into this process, which holds the line to the emulator.
    set_dumpable(false).during(Other, "restricting the session")?;
    // The change of ids has undone it; a launcher that died in between shows as a closed line.
    set_pdeathsig(Signal::SIGKILL).during(Other, doing)?;
    if !launcher.connected() {
        return Err(None);
    }
    let Some((tree, (_, target))) = storage.zip(plan.storage.clone()) else { return Ok((None, listener)) };
    let mounter: init::Mounter = Box::new(move || {
        std::fs::create_dir_all(&target)?;
        sys::move_mount(&tree, &target)
    });
    Ok((Some(mounter), listener))
}

/// The emulator's listener: a socket of the session's network, made before any process of the session.
fn listen(port: u16) -> io::Result<OwnedFd> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener.into())
}

/// Deletes a tree as the root of a user namespace with a session's ids: only that root may delete what
/// processes with other ids of sessions have made.
fn remove(mut emulator: Control, ids: &IdMap, path: &Path) -> ExitCode {
    let (mut outside, mut inside) = match Control::pair().during(LaunchStep::Other, "making a socket pair") {
        Ok(pair) => pair,
        Err(failure) => return fail(&mut emulator, failure),
    };
    match sys::clone_into(libc::CLONE_NEWUSER, None).during(LaunchStep::Namespaces, "making a namespace") {
        Err(failure) => fail(&mut emulator, failure),
        Ok(Cloned::Child) => {
            drop(outside);
            let _ = set_pdeathsig(Signal::SIGKILL);
            let Ok(Some((Build::Go, _))) = inside.receive() else { return ExitCode::FAILURE };
            let doing = format!("deleting `{}`", path.display());
            let removed = root::become_root(ids).and_then(|()| match std::fs::remove_dir_all(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    Err(LaunchFailure::system(LaunchStep::Paths, doing, &e))
                }
                _ => Ok(()),
            });
            match removed {
                Ok(()) => {
                    let _ = emulator.send(&LaunchReport::Removed, vec![]);
                    ExitCode::SUCCESS
                }
                Err(failure) => fail(&mut emulator, failure),
            }
        }
        Ok(Cloned::Parent { pid, handle: _ }) => {
            drop(inside);
            match map_ids(pid, ids) {
                Ok(()) => {
                    let _ = outside.send(&Build::Go, vec![]);
                    wait(pid);
                    ExitCode::SUCCESS
                }
                Err(failure) => {
                    drop(outside);
                    wait(pid);
                    fail(&mut emulator, failure)
                }
            }
        }
    }
}
