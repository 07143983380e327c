//! What a process of a session may ask of the kernel.
//!
//! The default profile of container engines is the model: calls that act on the machine rather than on the session,
//! that mount or make namespaces, or that are large and young parts of the kernel are refused, with the error that
//! programs know from containers. The profile is a list of what is refused, and everything younger than the list is
//! refused as well (`ENOSYS`, which programs take as an older kernel), so that a new call is closed until somebody
//! has looked at it. A list of what is allowed would say the same in 350 lines.
//!
//! The filter is installed between `fork` and `execve` of every process that the helper starts, not in the helper:
//! that one mounts the storage later. Capabilities are taken once, from the bounding set that all inherit.

// Between `fork` and `execve` there are only raw system calls.
#![allow(unsafe_code)]

use std::io;

use libc::{c_int, c_long, c_ulong};
use nix::errno::Errno;

/// First number that nobody has looked at: the numbers from 424 up are the same on every architecture.
/// [linux/unistd.h of 6.13: 466 is `removexattrat`]
const FIRST_UNKNOWN_CALL: u32 = 467;
/// Flags of `clone` and `unshare` that make namespaces: mount, cgroup, UTS, IPC, user, PID, network.
/// [linux/sched.h]
const NAMESPACE_FLAGS: u32 = 0x7E02_0000;
/// The one more that only `unshare` and `clone3` take: time. [linux/sched.h: CLONE_NEWTIME]
const TIME_NAMESPACE_FLAG: u32 = 0x80;
/// Socket families that no network namespace holds: the machine's hypervisor, and the kernel's cipher interface.
const FORBIDDEN_FAMILIES: [c_int; 2] = [libc::AF_VSOCK, libc::AF_ALG];
/// Personalities that weaken nothing: Linux, its 32-bit and old-`uname` variants, and the question which it is.
/// [the container engines' profile]
const PERSONALITIES: [u32; 5] = [0, 0x0008, 0x0002_0000, 0x0002_0008, 0xFFFF_FFFF];

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xC000_00B7;

/// Calls that nobody in a session may make, each group with its reason.
const REFUSED: &[&[c_long]] = &[
    // What is mounted read-only stays so, and nothing is mounted over it.
    &[
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fspick,
        libc::SYS_mount_setattr,
    ],
    // Entering other namespaces; making them is refused by flags, see `by_argument`.
    &[libc::SYS_setns],
    // Keys are the kernel's, not the session's: keyrings are shared by all that have the same user on the host.
    &[libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key],
    // Programs in the kernel, its counters, and page faults that wait for a program: the classic tools of attacks.
    &[libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd, libc::SYS_lookup_dcookie],
    // A second way to make calls, past this very filter.
    &[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register],
    // Files by handle, past every directory and mount; and word of every file that is opened.
    &[libc::SYS_open_by_handle_at, libc::SYS_fanotify_init],
    // The machine: its kernel, modules, swap, quotas, accounting, log, name and time.
    &[
        libc::SYS_kexec_load,
        libc::SYS_kexec_file_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_reboot,
        libc::SYS_acct,
        libc::SYS_quotactl,
        libc::SYS_quotactl_fd,
        libc::SYS_syslog,
        libc::SYS_vhangup,
        libc::SYS_sethostname,
        libc::SYS_setdomainname,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_nfsservctl,
    ],
    // Where the machine's memory lies; container engines tie these to a capability that they do not give.
    &[
        libc::SYS_mbind,
        libc::SYS_get_mempolicy,
        libc::SYS_set_mempolicy,
        libc::SYS_set_mempolicy_home_node,
        libc::SYS_move_pages,
        libc::SYS_migrate_pages,
    ],
    // Into other processes, beyond what a debugger needs: `ptrace` and `process_vm_*` are allowed, because the kernel
    // holds them to processes of the session that the caller may debug, and the helper is none.
    &[libc::SYS_kcmp, libc::SYS_pidfd_getfd, libc::SYS_process_madvise],
    OLD,
];

/// What is left of older kernels and of access to ports of the machine.
#[cfg(target_arch = "x86_64")]
const OLD: &[c_long] = &[
    libc::SYS_uselib,
    libc::SYS__sysctl,
    libc::SYS_sysfs,
    libc::SYS_ustat,
    libc::SYS_vserver,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    // `create_module`, `get_kernel_syms` and `query_module`, which have no names any more.
    174,
    177,
    178,
];
#[cfg(target_arch = "aarch64")]
const OLD: &[c_long] = &[];

/// Calls that change a file's owner.
#[cfg(target_arch = "x86_64")]
const OWNER_CALLS: &[c_long] = &[libc::SYS_chown, libc::SYS_lchown, libc::SYS_fchown, libc::SYS_fchownat];
#[cfg(target_arch = "aarch64")]
const OWNER_CALLS: &[c_long] = &[libc::SYS_fchown, libc::SYS_fchownat];

/// What root of a session keeps. [the container engines' default set without NET_RAW: a session has nothing to ping,
/// and raw sockets are much kernel for nothing]
const CAPABILITIES: [(c_ulong, &str); 13] = [
    (0, "CHOWN"),
    (1, "DAC_OVERRIDE"),
    (3, "FOWNER"),
    (4, "FSETID"),
    (5, "KILL"),
    (6, "SETGID"),
    (7, "SETUID"),
    (8, "SETPCAP"),
    (10, "NET_BIND_SERVICE"),
    (18, "SYS_CHROOT"),
    (27, "MKNOD"),
    (29, "AUDIT_WRITE"),
    // Packages set it on their files, which gives nothing here, and fail where they cannot.
    (31, "SETFCAP"),
];
/// Largest number that a capability can have. [two words of 32 bits in linux/capability.h]
const CAPABILITY_NUMBERS: c_ulong = 64;

/// The filter, ready to be installed.
pub struct Confinement {
    program: Vec<libc::sock_filter>,
}

impl Confinement {
    /// The profile. With `one_id`, every change of a file's owner is answered as done: whatever owner is asked
    /// for, the file can only belong to that id, and without this tar, npm and pip fail as soon as they unpack as
    /// root.
    pub fn new(one_id: bool) -> Self {
        let mut rules = Program::default();
        rules.begin();
        let refused = REFUSED.iter().copied().flatten().copied();
        for call in refused {
            rules.answer(call, libc::EPERM);
        }
        // Its flags are in memory, where a filter cannot look; the C library falls back to `clone`.
        rules.answer(libc::SYS_clone3, libc::ENOSYS);
        if one_id {
            for call in OWNER_CALLS {
                rules.answer(*call, 0);
            }
        }
        rules.refuse_flags(libc::SYS_clone, NAMESPACE_FLAGS);
        rules.refuse_flags(libc::SYS_unshare, NAMESPACE_FLAGS | TIME_NAMESPACE_FLAG);
        rules.refuse_values(libc::SYS_socket, &FORBIDDEN_FAMILIES.map(c_int::cast_unsigned));
        rules.refuse_all_but(libc::SYS_personality, &PERSONALITIES);
        rules.allow();
        Self { program: rules.code }
    }

    /// Binds the calling process and all that descend from it, for good.
    pub(super) fn apply(&self) -> Result<(), Errno> {
        let filter = libc::sock_fprog {
            len: u16::try_from(self.program.len()).unwrap_or(0),
            filter: self.program.as_ptr().cast_mut(),
        };
        // SAFETY: numbers, and a structure that with the program it points to lives through the call; the kernel
        // copies both and writes neither. Nothing is allocated.
        unsafe {
            // Set-uid programs and file capabilities give nothing in a session: its mounts are nosuid anyway.
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 {
                return Err(Errno::last());
            }
            // Without the flag older kernels slow every process down, in fear of what only a browser does.
            for flags in [libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW, 0] {
                let set = libc::SECCOMP_SET_MODE_FILTER;
                if libc::syscall(libc::SYS_seccomp, set, flags, &raw const filter) == 0 {
                    return Ok(());
                }
            }
        }
        Err(Errno::last())
    }
}

/// The names of the capabilities that root of a session keeps.
pub fn kept_capabilities() -> impl Iterator<Item = &'static str> {
    CAPABILITIES.iter().map(|(_, name)| *name)
}

/// Takes every capability that root of a container has not from all that will be executed.
pub fn drop_capabilities() -> io::Result<()> {
    for capability in
        (0..CAPABILITY_NUMBERS).filter(|number| !CAPABILITIES.iter().any(|(kept, _)| kept == number))
    {
        // SAFETY: numbers only.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } < 0 {
            let error = io::Error::last_os_error();
            // Numbers that this kernel does not know.
            if error.raw_os_error() == Some(libc::EINVAL) && capability > 31 {
                return Ok(());
            }
            return Err(error);
        }
    }
    Ok(())
}

/// A filter under construction. Between rules the accumulator holds the call's number.
#[derive(Default)]
struct Program {
    code: Vec<libc::sock_filter>,
}

/// Offsets in `struct seccomp_data`; arguments are little-endian on both architectures. [linux/seccomp.h]
const AT_NUMBER: u32 = 0;
const AT_ARCHITECTURE: u32 = 4;
const AT_FIRST_ARGUMENT: u32 = 16;

impl Program {
    fn push(&mut self, code: u32, k: u32, if_true: u8, if_false: u8) {
        self.code.push(libc::sock_filter { code: code as u16, jt: if_true, jf: if_false, k });
    }

    fn load(&mut self, offset: u32) {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0);
    }

    /// Goes on with the next instruction if the accumulator is `value`, else `skip` further.
    fn if_equal(&mut self, value: u32, skip: u8) {
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, 0, skip);
    }

    fn allow(&mut self) {
        self.push(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0);
    }

    /// Error 0 is success.
    fn fail(&mut self, errno: c_int) {
        let answer = libc::SECCOMP_RET_ERRNO | (errno.cast_unsigned() & libc::SECCOMP_RET_DATA);
        self.push(libc::BPF_RET | libc::BPF_K, answer, 0, 0);
    }

    /// Other architectures have other numbers, so none of their calls: neither 32-bit programs nor x32.
    fn begin(&mut self) {
        self.load(AT_ARCHITECTURE);
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, AUDIT_ARCH, 1, 0);
        self.fail(libc::ENOSYS);
        self.load(AT_NUMBER);
        self.push(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, FIRST_UNKNOWN_CALL, 0, 1);
        self.fail(libc::ENOSYS);
    }

    fn number(call: c_long) -> u32 {
        u32::try_from(call).unwrap_or(u32::MAX)
    }

    fn answer(&mut self, call: c_long, errno: c_int) {
        self.if_equal(Self::number(call), 1);
        self.fail(errno);
    }

    fn refuse_flags(&mut self, call: c_long, flags: u32) {
        self.if_equal(Self::number(call), 4);
        self.load(AT_FIRST_ARGUMENT);
        self.push(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, flags, 0, 1);
        self.fail(libc::EPERM);
        self.allow();
    }

    fn refuse_values(&mut self, call: c_long, values: &[u32]) {
        self.if_equal(Self::number(call), skip(2 + 2 * values.len()));
        self.load(AT_FIRST_ARGUMENT);
        for value in values {
            self.if_equal(*value, 1);
            self.fail(libc::EPERM);
        }
        self.allow();
    }

    fn refuse_all_but(&mut self, call: c_long, values: &[u32]) {
        self.if_equal(Self::number(call), skip(2 + 2 * values.len()));
        self.load(AT_FIRST_ARGUMENT);
        for value in values {
            self.if_equal(*value, 1);
            self.allow();
        }
        self.fail(libc::EPERM);
    }
}

/// The length of a rule. The rules here are far shorter than a jump can be.
fn skip(instructions: usize) -> u8 {
    u8::try_from(instructions).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer: a machine for the few instructions that are used.
    fn run(filter: &Confinement, architecture: u32, number: u32, argument: u32) -> Option<i32> {
        let (mut at, mut accumulator) = (0usize, 0u32);
        loop {
            let step = filter.program[at];
            at += 1;
            let is = |code: u32| u32::from(step.code) == code;
            let jump = |yes: bool| usize::from(if yes { step.jt } else { step.jf });
            if is(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) {
                accumulator = match step.k {
                    AT_NUMBER => number,
                    AT_ARCHITECTURE => architecture,
                    AT_FIRST_ARGUMENT => argument,
                    other => panic!("a load of {other}"),
                };
            } else if is(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) {
                at += jump(accumulator == step.k);
            } else if is(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) {
                at += jump(accumulator >= step.k);
            } else if is(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) {
                at += jump(accumulator & step.k != 0);
            } else if is(libc::BPF_RET | libc::BPF_K) {
                if step.k == libc::SECCOMP_RET_ALLOW {
                    return None;
                }
                assert_eq!(step.k & !libc::SECCOMP_RET_DATA, libc::SECCOMP_RET_ERRNO);
                return Some((step.k & libc::SECCOMP_RET_DATA).cast_signed());
            } else {
                panic!("instruction {:#x}", step.code);
            }
        }
    }

    fn call(filter: &Confinement, number: c_long, argument: u32) -> Option<i32> {
        run(filter, AUDIT_ARCH, Program::number(number), argument)
    }

    #[test]
    fn the_filter_answers_as_its_table_says() {
        let filter = Confinement::new(false);
        for refused in REFUSED.iter().copied().flatten().copied() {
            assert_eq!(call(&filter, refused, 0), Some(libc::EPERM), "call {refused}");
        }
        let allowed = [
            libc::SYS_read,
            libc::SYS_execve,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_fchownat,
            libc::SYS_chroot,
            libc::SYS_seccomp,
            libc::SYS_mseal,
        ];
        for allowed in allowed {
            assert_eq!(call(&filter, allowed, 0), None, "call {allowed}");
        }
        assert_eq!(call(&filter, libc::SYS_clone3, 0), Some(libc::ENOSYS));
    }

    #[test]
    fn arguments_decide_where_the_table_asks_them() {
        let filter = Confinement::new(false);
        let thread =
            (libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_THREAD).cast_unsigned();
        for (number, argument, expected) in [
            (libc::SYS_clone, thread, None),
            (libc::SYS_clone, libc::SIGCHLD.cast_unsigned(), None),
            (libc::SYS_unshare, libc::CLONE_FS.cast_unsigned(), None),
            (libc::SYS_unshare, TIME_NAMESPACE_FLAG, Some(libc::EPERM)),
            (libc::SYS_socket, libc::AF_INET.cast_unsigned(), None),
            (libc::SYS_socket, libc::AF_VSOCK.cast_unsigned(), Some(libc::EPERM)),
            (libc::SYS_socket, libc::AF_ALG.cast_unsigned(), Some(libc::EPERM)),
            (libc::SYS_personality, 0, None),
            (libc::SYS_personality, 0xFFFF_FFFF, None),
            (libc::SYS_personality, 0x0040_0000, Some(libc::EPERM)),
        ] {
            assert_eq!(call(&filter, number, argument), expected, "call {number} with {argument:#x}");
        }
        for namespace in [
            libc::CLONE_NEWNS,
            libc::CLONE_NEWCGROUP,
            libc::CLONE_NEWUTS,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWNET,
        ] {
            for number in [libc::SYS_clone, libc::SYS_unshare] {
                let flags = namespace.cast_unsigned() | libc::SIGCHLD.cast_unsigned();
                assert_eq!(call(&filter, number, flags), Some(libc::EPERM), "{flags:#x}");
            }
        }
    }

    #[test]
    fn unknown_calls_and_other_architectures_are_closed() {
        let filter = Confinement::new(false);
        for number in [FIRST_UNKNOWN_CALL, 500, 0x4000_0000, u32::MAX] {
            assert_eq!(run(&filter, AUDIT_ARCH, number, 0), Some(libc::ENOSYS));
        }
        // i386, where 0 is another call.
        assert_eq!(run(&filter, 0x4000_0003, 0, 0), Some(libc::ENOSYS));
    }

    #[test]
    fn with_one_id_owners_change_without_a_word() {
        for number in OWNER_CALLS {
            assert_eq!(call(&Confinement::new(true), *number, 0), Some(0));
            assert_eq!(call(&Confinement::new(false), *number, 0), None);
        }
    }
}
