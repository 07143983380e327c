//! The kernel's namespace and mount calls that no safe wrapper offers.

// Raw system calls: each states what makes it sound.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::{c_int, c_long, c_uint};
use nix::errno::Errno;
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// `struct clone_args`, its third version. [linux/sched.h]
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `struct mount_attr`. [linux/mount.h]
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// [linux/sched.h]
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// Mount attributes. [linux/mount.h]
pub(super) const READ_ONLY: u64 = 0x1;
pub(super) const NO_SUID: u64 = 0x2;
pub(super) const NO_DEVICES: u64 = 0x4;
pub(super) const NO_EXEC: u64 = 0x8;
const ID_MAP: u64 = 0x0010_0000;

const AT_RECURSIVE: c_int = 0x8000;
const OPEN_TREE_CLONE: c_int = 1;
const MOVE_MOUNT_F_EMPTY_PATH: c_uint = 0x4;

/// The two sides of [`clone_into`].
pub(super) enum Cloned {
    /// The new process.
    Child,
    /// The old one, with a handle on the new.
    Parent {
        /// The new process.
        pid: Pid,
        /// It too, safe against reuse of the number.
        handle: OwnedFd,
    },
}

fn checked(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Forks into new namespaces (`CLONE_NEW*` flags), and into a control group of the second version where one is
/// given. Only for a process with one thread.
pub(super) fn clone_into(namespaces: c_int, group: Option<&OwnedFd>) -> io::Result<Cloned> {
    let mut handle: RawFd = -1;
    let flags = u64::try_from(namespaces | libc::CLONE_PIDFD).unwrap_or_default();
    let args = CloneArgs {
        flags: flags | group.map_or(0, |_| CLONE_INTO_CGROUP),
        cgroup: group.map_or(0, |group| u64::try_from(group.as_raw_fd()).unwrap_or_default()),
        pidfd: std::ptr::from_mut(&mut handle) as u64,
        exit_signal: u64::try_from(libc::SIGCHLD).unwrap_or_default(),
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM and without a stack this is `fork`: the child goes on with a copy of all
    // memory. The caller has one thread, so no lock is held by a thread that the copy lacks.
    // `handle` outlives the call, which writes one descriptor number to it.
    let pid = checked(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: the kernel has just opened this descriptor for the caller alone.
    let handle = unsafe { OwnedFd::from_raw_fd(handle) };
    Ok(Cloned::Parent { pid: Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX)), handle })
}

/// Forks, without the call that containers refuse. Only for a process with one thread.
pub(super) fn fork() -> io::Result<Cloned> {
    // SAFETY: the caller has one thread, so the child is a whole copy of it.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => Ok(Cloned::Child),
        // A child that has ended already is not reaped yet, so the number is its own.
        nix::unistd::ForkResult::Parent { child } => {
            Ok(Cloned::Parent { pid: child, handle: open_process(child)? })
        }
    }
}

/// A detached copy of the mount tree at `source`, submounts included.
pub(super) fn open_tree(source: &Path) -> io::Result<OwnedFd> {
    let source = path(source)?;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | AT_RECURSIVE;
    // SAFETY: the path is a live string; the call has no other memory.
    let fd = checked(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, source.as_ptr(), flags) })?;
    // SAFETY: a descriptor that the kernel has just opened for the caller alone.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).unwrap_or(-1)) })
}

/// Sets attributes on a whole detached tree.
pub(super) fn set_attributes(tree: &OwnedFd, attributes: u64) -> io::Result<()> {
    mount_setattr(tree, &MountAttr { attr_set: attributes, ..MountAttr::default() })
}

/// Shows the files of a detached tree as owned by the ids that `user_namespace` maps their owners to.
pub(super) fn map_ids(tree: &OwnedFd, user_namespace: BorrowedFd<'_>) -> io::Result<()> {
    let userns_fd = u64::try_from(user_namespace.as_raw_fd()).unwrap_or_default();
    mount_setattr(tree, &MountAttr { attr_set: ID_MAP, userns_fd, ..MountAttr::default() })
}

fn mount_setattr(tree: &OwnedFd, attributes: &MountAttr) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | AT_RECURSIVE;
    // SAFETY: the empty path is a static string, the structure is live and its size is told.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// Attaches a detached tree at `target`.
pub(super) fn move_mount(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    let target = path(target)?;
    // SAFETY: both paths are live strings; the call has no other memory.
    checked(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })?;
    Ok(())
}

/// A handle on a process.
pub(super) fn open_process(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: numbers only.
    let fd = checked(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: a descriptor that the kernel has just opened for the caller alone.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).unwrap_or(-1)) })
}

/// SIGKILL to the process behind a handle. One that has ended is not an error.
pub(super) fn kill_process(process: &OwnedFd) -> io::Result<()> {
    // SAFETY: numbers and a null pointer, which the call allows.
    let sent = checked(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            libc::SIGKILL,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    });
    match sent {
        Err(e) if e.raw_os_error() != Some(libc::ESRCH) => Err(e),
        _ => Ok(()),
    }
}

/// Switches the loopback interface of this network namespace on.
pub(super) fn loopback_up() -> io::Result<()> {
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: all zeroes is a value of this plain structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = byte.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    // SAFETY: the request takes a pointer to this live structure.
    checked(c_long::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    }))?;
    Ok(())
}

/// Gives this process a keyring of its own, so that none of the emulator's keys is in reach.
pub(super) fn new_keyring() {
    const JOIN_SESSION_KEYRING: c_int = 1;
    // A kernel without keyrings has none to hide.
    // SAFETY: a number and a null pointer, which asks for a nameless keyring.
    let _ =
        unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
}

/// True for the errors with which a kernel or file system says that it cannot do a kind of mount at all.
pub(super) fn unsupported(error: &io::Error) -> bool {
    let refusals = [libc::EINVAL, libc::EPERM, libc::ENOSYS, libc::EOPNOTSUPP, libc::ENODEV, libc::EOVERFLOW];
    error.raw_os_error().is_some_and(|errno| refusals.contains(&errno) || errno == Errno::EACCES as i32)
}

/// True when executing the file gives capabilities.
pub(super) fn has_capabilities(file: &Path) -> bool {
    let Ok(file) = path(file) else { return false };
    // SAFETY: both names are live strings; with a null buffer of size 0 the call only tells the length.
    let length =
        unsafe { libc::getxattr(file.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0) };
    length > 0
}

/// Closes every descriptor above 2, whatever was inherited.
pub(super) fn close_all_but_standard() {
    // SAFETY: numbers only. Called first thing by a process that has opened nothing yet and owns no
    // descriptor above 2 in any Rust value.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0) };
}

/// A descriptor whose readiness tokio watches.
pub(in crate::engine) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` always names the one descriptor it owns, and keeps it open until it is dropped,
    // which the returned value does after it has taken it off the watch.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
