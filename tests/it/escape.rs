//! Attempts to leave a session, from inside, with the means that its root has.
//!
//! Run by root, each runs as root, as an ordinary user with one id and as one with a range of ids (see
//! [`super::engine`]); inside, each attempt is made by the session's root and, where the session has more ids than
//! one, by an ordinary user of the session too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::time::Duration;

use agentcore::engine::{Compute, ProcessExit};

use super::engine::{Room, argv, both, finish, run};

/// Runs a Python program inside; what it prints. It must end well.
async fn python(compute: &dyn Compute, program: &str) -> String {
    let process = compute.spawn(argv(&["python3", "-c", program])).await.unwrap();
    let (output, errors, exit) = finish(process).await;
    assert_eq!((errors.as_str(), exit), ("", ProcessExit::Code(0)), "{program}");
    output
}

/// The same as an ordinary user of the session.
async fn python_as_user(compute: &dyn Compute, program: &str) -> String {
    let user = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"];
    let all: Vec<&str> = user.into_iter().chain(["python3", "-c", program]).collect();
    let (output, errors, exit) = finish(compute.spawn(argv(&all)).await.unwrap()).await;
    assert_eq!((errors.as_str(), exit), ("", ProcessExit::Code(0)), "{program}");
    output
}

/// True when the session has an id 1000.
async fn has_users(compute: &dyn Compute) -> bool {
    run(compute, "setpriv --reuid=1000 --regid=1000 --clear-groups true").await.2 == ProcessExit::Code(0)
}

fn calls(list: &[(&str, libc::c_long, &[u64])]) -> String {
    let mut program = "import ctypes, errno\nlibc = ctypes.CDLL(None, use_errno=True)\n".to_owned();
    for (name, number, arguments) in list {
        let arguments: String = arguments.iter().map(|a| format!(", ctypes.c_ulong({a})")).collect();
        program += &format!(
            "ctypes.set_errno(0)\nr = libc.syscall(ctypes.c_long({number}){arguments})\n\
             print('{name}', errno.errorcode.get(ctypes.get_errno(), 'worked') if r < 0 else 'worked')\n"
        );
    }
    program
}

#[test]
fn calls_that_act_on_the_machine_are_refused() {
    both("escape::calls_that_act_on_the_machine_are_refused", async |room: Room| {
        let compute = room.compute().await;
        let new_user = u64::try_from(libc::CLONE_NEWUSER).unwrap();
        let refused: &[(&str, libc::c_long, &[u64])] = &[
            ("mount", libc::SYS_mount, &[0, 0, 0, 0, 0]),
            ("umount2", libc::SYS_umount2, &[0, 0]),
            ("pivot_root", libc::SYS_pivot_root, &[0, 0]),
            ("open_tree", libc::SYS_open_tree, &[0, 0, 0]),
            ("move_mount", libc::SYS_move_mount, &[0, 0, 0, 0, 0]),
            ("fsopen", libc::SYS_fsopen, &[0, 0]),
            ("mount_setattr", libc::SYS_mount_setattr, &[0, 0, 0, 0, 0]),
            ("setns", libc::SYS_setns, &[0, 0]),
            ("unshare", libc::SYS_unshare, &[new_user]),
            ("clone", libc::SYS_clone, &[new_user | 17, 0, 0, 0, 0]),
            ("keyctl", libc::SYS_keyctl, &[0, 0]),
            ("add_key", libc::SYS_add_key, &[0, 0, 0, 0, 0]),
            ("request_key", libc::SYS_request_key, &[0, 0, 0, 0]),
            ("bpf", libc::SYS_bpf, &[0, 0, 0]),
            ("perf_event_open", libc::SYS_perf_event_open, &[0, 0, 0, 0, 0]),
            ("userfaultfd", libc::SYS_userfaultfd, &[0]),
            ("io_uring_setup", libc::SYS_io_uring_setup, &[0, 0]),
            ("open_by_handle_at", libc::SYS_open_by_handle_at, &[0, 0, 0]),
            ("fanotify_init", libc::SYS_fanotify_init, &[0, 0]),
            ("kexec_load", libc::SYS_kexec_load, &[0, 0, 0, 0]),
            ("init_module", libc::SYS_init_module, &[0, 0, 0]),
            ("finit_module", libc::SYS_finit_module, &[0, 0, 0]),
            ("swapon", libc::SYS_swapon, &[0, 0]),
            ("reboot", libc::SYS_reboot, &[0, 0, 0, 0]),
            ("syslog", libc::SYS_syslog, &[0, 0, 0]),
            ("sethostname", libc::SYS_sethostname, &[0, 0]),
            ("clock_settime", libc::SYS_clock_settime, &[0, 0]),
            ("personality", libc::SYS_personality, &[0x0040_0000]),
            ("socket vsock", libc::SYS_socket, &[40, 1, 0]),
            ("socket alg", libc::SYS_socket, &[38, 5, 0]),
            ("pidfd_getfd", libc::SYS_pidfd_getfd, &[0, 0, 0]),
        ];
        let program = calls(refused);
        let expected: String = refused.iter().map(|(name, ..)| format!("{name} EPERM\n")).collect();
        assert_eq!(python(&*compute, &program).await, expected);
        let users = has_users(&*compute).await;
        if users {
            assert_eq!(python_as_user(&*compute, &program).await, expected);
        }
        // What no list can know yet does not exist, nor does what a filter cannot look into.
        let unknown: &[(&str, libc::c_long, &[u64])] =
            &[("clone3", libc::SYS_clone3, &[0, 0]), ("future", 4000, &[]), ("x32", 0x4000_0000, &[])];
        assert_eq!(python(&*compute, &calls(unknown)).await, "clone3 ENOSYS\nfuture ENOSYS\nx32 ENOSYS\n");
        compute.terminate(Duration::ZERO).await.unwrap();
    });
}

#[test]
fn no_process_has_more_rights_than_a_container() {
    both("escape::no_process_has_more_rights_than_a_container", async |room: Room| {
        let compute = room.compute().await;
        let look = "grep -E '^(NoNewPrivs|Seccomp|CapBnd|CapEff|CapInh|CapAmb):' /proc/self/status";
        let (output, _, _) = run(&*compute, look).await;
        // CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT MKNOD
        // AUDIT_WRITE SETFCAP, and nothing else.
        let bits = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 27, 29, 31];
        let set: u64 = bits.iter().map(|bit| 1u64 << bit).sum();
        let expected = format!(
            "CapInh:\t{:016x}\nCapEff:\t{set:016x}\nCapBnd:\t{set:016x}\nCapAmb:\t{:016x}\nNoNewPrivs:\t1\nSeccomp:\t2\n",
            0, 0
        );
        assert_eq!(output, expected);
        // Neither a raw nor a packet socket.
        let sockets = "import socket\n\
                       for kind in ((socket.AF_INET, socket.SOCK_RAW, 1), (socket.AF_PACKET, socket.SOCK_RAW, 768)):\n\
                       \x20try:\n  socket.socket(*kind); print('worked')\n\x20except PermissionError:\n  print('refused')\n";
        assert_eq!(python(&*compute, sockets).await, "refused\nrefused\n");
        compute.terminate(Duration::ZERO).await.unwrap();
    });
}
