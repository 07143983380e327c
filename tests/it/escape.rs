//! Attempts to leave a session, from inside, with the means that its root has.
//!
//! Run by root, each runs as root, as an ordinary user with one id and as one with a range of ids (see
//! [`super::engine`]); inside, each attempt is made by the session's root and, where the session has more ids than
//! one, by an ordinary user of the session too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::time::Duration;

use agentcore::artifacts::{ArtifactStore, Launch, Manifest};
use agentcore::engine::{Compute, ComputeSpec, Engine, ProcessExit, StorageMount};
use agentcore::model::{SessionKey, Version};
use agentcore::storage::{Place, PlainStorage, Storage};

use super::engine::{Kind, Room, argv, both, finish, is_root, line, run};

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

/// Scenarios that every engine plays.
pub(super) mod on {
    use super::*;

    pub(in super::super) async fn calls_that_act_on_the_machine_are_refused<K: Kind>(room: Room<K>) {
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
    }

    pub(in super::super) async fn no_process_has_more_rights_than_a_container<K: Kind>(room: Room<K>) {
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
    }

    pub(in super::super) async fn other_sessions_are_out_of_reach<K: Kind>(room: Room<K>) {
        let victim = room.compute().await;
        victim.mount_storage().await.unwrap();
        let server = "import socket, time\n\
                      open('/mnt/workspace/private', 'w').write('of the victim')\nopen('/tmp/private', 'w').write('x')\n\
                      a = socket.socket(); a.bind(('0.0.0.0', 8080)); a.listen()\n\
                      b = socket.socket(socket.AF_UNIX); b.bind('\\0victim'); b.listen()\n\
                      m = __import__('ctypes').CDLL(None).shmget(0x1234, 4096, 0o1666)\n\
                      print('up', m >= 0, flush=True)\ntime.sleep(300)\n";
        let mut agent = victim.spawn(argv(&["python3", "-c", server, "the-victims-agent"])).await.unwrap();
        assert_eq!(line(&mut agent).await, "up True");
        let target = "/mnt/workspace".parse().unwrap();
        let storage = Some(StorageMount { source: K::another_storage(&room).await, target });
        let attacker = room.engine.start(ComputeSpec { storage, ..room.spec() }).await.unwrap();
        attacker.mount_storage().await.unwrap();
        let victims = room.path("storage");
        let list = [
            "socket.create_connection(('127.0.0.1', 8080), 2)".to_owned(),
            "socket.socket(socket.AF_UNIX).connect('\\0victim')".to_owned(),
            "read('/mnt/workspace/private')".to_owned(),
            "read('/mnt/workspace/../storage/private')".to_owned(),
            format!("read({:?})", victims.join("private").display().to_string()),
            "read('/tmp/private')".to_owned(),
            format!("call({}, 0x1234, 0, 0)", libc::SYS_shmget),
        ];
        all_fail(&*attacker, "", &list).await;
        let (processes, _, _) = run(&*attacker, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").await;
        assert!(!processes.contains("the-victims-agent"), "{processes}");
        // Every process that can be named, in vain.
        run(&*attacker, "kill -9 -1").await;
        assert!(tokio::time::timeout(Duration::from_millis(100), agent.control.wait()).await.is_err());
        assert_eq!(run(&*victim, "cat /mnt/workspace/private").await.0, "of the victim");
    }

    pub(in super::super) async fn the_helper_is_out_of_reach<K: Kind>(room: Room<K>) {
        let compute = room.compute().await;
        let mut list: Vec<String> = ["environ", "maps", "mem", "auxv", "io", "stack", "syscall"]
            .map(|name| format!("read('/proc/1/{name}')"))
            .into();
        list.extend(
            ["exe", "cwd", "root", "ns/user", "ns/mnt"].map(|name| format!("os.readlink('/proc/1/{name}')")),
        );
        list.extend(["root", "cwd", "map_files"].map(|name| format!("os.listdir('/proc/1/{name}')")));
        list.push("os.open('/proc/1/fd/3', os.O_RDWR)".to_owned());
        // Without a user namespace of its own, a session's root may count the helper's descriptors and put it among
        // the first to go when memory is out; neither opens a way.
        if room.engine.image().is_none() {
            list.push("os.listdir('/proc/1/fd')".to_owned());
            list.push("write('/proc/1/oom_score_adj', '1000')".to_owned());
        }
        let (attach, seize) = (16, 0x4206);
        for request in [attach, seize] {
            list.push(format!("call({}, {request}, 1, 0, 0)", libc::SYS_ptrace));
        }
        list.push(format!("call({}, 1, vector(), 1, vector(), 1, 0)", libc::SYS_process_vm_readv));
        list.push(format!("call({}, 1, vector(), 1, vector(), 1, 0)", libc::SYS_process_vm_writev));
        list.push(format!("call({}, call({}, 1, 0), 3, 0)", libc::SYS_pidfd_getfd, libc::SYS_pidfd_open));
        let prelude = "buffer = ctypes.create_string_buffer(64)\n\
                       memory = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 64)\n\
                       def vector(): return ctypes.addressof(memory)";
        all_fail(&*compute, prelude, &list).await;
        // Signals of the session do not reach it; it goes on to serve.
        run(&*compute, "for s in KILL STOP TERM INT HUP SEGV CHLD ABRT; do kill -$s 1; done").await;
        assert_eq!(run(&*compute, "echo served").await.0, "served\n");
        // Its line to the emulator has no name, and nobody has a descriptor of it.
        let (sockets, _, _) = run(&*compute, "grep -c / /proc/net/unix").await;
        assert_eq!(sockets, "0\n");
        let (descriptors, _, _) =
            run(&*compute, "readlink /proc/self/fd/* | grep -c -e socket -e anon_inode").await;
        assert_eq!(descriptors, "0\n");
        compute.terminate(Duration::ZERO).await.unwrap();
    }
}

#[test]
fn calls_that_act_on_the_machine_are_refused() {
    both("escape::calls_that_act_on_the_machine_are_refused", on::calls_that_act_on_the_machine_are_refused);
}

#[test]
fn no_process_has_more_rights_than_a_container() {
    both(
        "escape::no_process_has_more_rights_than_a_container",
        on::no_process_has_more_rights_than_a_container,
    );
}

/// Makes a program of attempts: each is a Python expression or call that must fail. What worked is printed.
fn attempts(prelude: &str, list: &[String]) -> String {
    let mut program = format!(
        "import os, sys, ctypes, errno, signal, socket, stat\nlibc = ctypes.CDLL(None, use_errno=True)\n\
         def read(path): return open(path, 'rb').read(64)\n\
         def write(path, text):\n with open(path, 'w') as f: f.write(text)\n\
         def call(number, *args):\n r = libc.syscall(ctypes.c_long(number), *[ctypes.c_void_p(a) for a in args])\n \
         if r < 0: raise OSError(ctypes.get_errno(), 'call')\n return r\n{prelude}\n"
    );
    for attempt in list {
        program += &format!("try:\n print('worked:', {attempt:?}, {attempt})\nexcept OSError: pass\n");
    }
    program + "print('tried')\n"
}

/// Makes the attempts as the session's root and as an ordinary user of it; none may work.
async fn all_fail(compute: &dyn Compute, prelude: &str, list: &[String]) {
    // One that works: else a program that tries nothing would do.
    let control = "len(read('/etc/passwd')) > 0";
    let program = attempts(prelude, &[list, &[control.to_owned()]].concat());
    let expected = format!("worked: {control} True\ntried\n");
    assert_eq!(python(compute, &program).await, expected);
    let users = has_users(compute).await;
    assert!(users || !is_root(), "sessions of root have a range of ids");
    if users {
        assert_eq!(python_as_user(compute, &program).await, expected);
    }
}

#[test]
fn other_sessions_are_out_of_reach() {
    both("escape::other_sessions_are_out_of_reach", on::other_sessions_are_out_of_reach);
}

#[test]
fn the_helper_is_out_of_reach() {
    both("escape::the_helper_is_out_of_reach", on::the_helper_is_out_of_reach);
}

#[test]
fn the_machine_is_out_of_reach() {
    both("escape::the_machine_is_out_of_reach", async |room: Room| {
        let secret = room.path("secret");
        std::fs::write(&secret, "secret").unwrap();
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let secret = secret.display().to_string();
        let compute = room.compute().await;
        compute.mount_storage().await.unwrap();
        let mut list = Vec::new();
        for root in ["", "/proc/self/root", "/proc/self/root/..", "/proc/self/cwd/../..", "/../.."] {
            list.push(format!("read('{root}{secret}')"));
            list.push(format!("read('{root}/etc/shadow')"));
        }
        for path in
            ["/proc/kcore", "/proc/kmsg", "/proc/vmallocinfo", "/sys/firmware", "/sys/fs/cgroup", "/dev/mem"]
        {
            list.push(format!("read('{path}')"));
        }
        list.extend(
            ["/var/run/docker.sock", "/run/docker.sock", "/run/dbus/system_bus_socket"]
                .map(|path| format!("socket.socket(socket.AF_UNIX).connect('{path}')")),
        );
        for (path, text) in [
            ("/proc/sysrq-trigger", "h"),
            ("/proc/sys/kernel/core_pattern", "|/tmp/x"),
            ("/proc/sys/kernel/modprobe", "/tmp/x"),
            ("/proc/sys/kernel/hostname", "x"),
            ("/proc/sys/kernel/randomize_va_space", "0"),
            ("/proc/sys/vm/drop_caches", "1"),
            ("/proc/sys/vm/overcommit_memory", "1"),
            ("/proc/sys/fs/file-max", "1"),
            ("/proc/sys/user/max_user_namespaces", "9"),
            ("/proc/self/uid_map", "0 0 4294967295"),
            ("/proc/self/oom_score_adj", "-1000"),
            ("/proc/irq/default_smp_affinity", "1"),
            ("/usr/bin/agentcore-escape", "x"),
            ("/opt/agentcore/bin/agentcore", "x"),
            ("/etc/ssl/certs/agentcore-escape", "x"),
        ] {
            list.push(format!("write('{path}', '{text}')"));
        }
        // Disks, memory, consoles, FUSE, KVM: neither made nor, where they are made, opened.
        for place in ["/tmp", "/var/task", "/mnt/workspace", "/dev"] {
            for (kind, major, minor) in [
                ("S_IFBLK", 8, 0),
                ("S_IFBLK", 254, 0),
                ("S_IFBLK", 259, 0),
                ("S_IFBLK", 7, 0),
                ("S_IFCHR", 1, 1),
                ("S_IFCHR", 1, 11),
                ("S_IFCHR", 5, 1),
                ("S_IFCHR", 10, 229),
                ("S_IFCHR", 10, 232),
            ] {
                list.push(format!("device('{place}/device', stat.{kind}, {major}, {minor})"));
            }
        }
        list.push(format!("outside_of_chroot('{secret}')"));
        let prelude = "def device(path, kind, major, minor):\n\
                       \x20os.mknod(path, kind | 0o666, os.makedev(major, minor))\n\
                       \x20try: return os.open(path, os.O_RDWR)\n\x20finally: os.unlink(path)\n\
                       def outside_of_chroot(path):\n\
                       \x20pid = os.fork()\n\
                       \x20if pid:\n\
                       \x20\x20if os.waitpid(pid, 0)[1]: raise OSError(1, 'refused')\n\
                       \x20\x20return 'outside'\n\
                       \x20try:\n\
                       \x20\x20os.makedirs('/tmp/jail', exist_ok=True); up = os.open('/', os.O_RDONLY); os.chroot('/tmp/jail')\n\
                       \x20\x20os.fchdir(up)\n\
                       \x20\x20for _ in range(64): os.chdir('..')\n\
                       \x20\x20os.chroot('.'); read(path)\n\
                       \x20except OSError: os._exit(1)\n\
                       \x20os._exit(0)";
        all_fail(&*compute, prelude, &list).await;
        for attempt in [
            "mount -o remount,bind,rw /usr",
            "umount -l /proc",
            "mount --bind / /mnt",
            "nsenter -t 1 -a true",
        ] {
            assert_ne!(run(&*compute, attempt).await.2, ProcessExit::Code(0), "{attempt}");
        }
        compute.terminate(Duration::ZERO).await.unwrap();
    });
}

#[test]
fn links_in_storage_lead_the_emulator_nowhere() {
    both("escape::links_in_storage_lead_the_emulator_nowhere", async |room: Room| {
        let outside = room.path("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("large"), vec![1; 1_000_000]).unwrap();
        // Where the emulator itself keeps storages, so that the counting and the discarding are its own.
        let home = room.path("home");
        let carrier = PlainStorage::below(&home);
        let runtime = "escape-AAAAAAAAAA".parse().unwrap();
        let session = "a-session-of-at-least-33-characters-x".parse().unwrap();
        let key = SessionKey { runtime, endpoint: "DEFAULT".parse().unwrap(), session };
        let id = carrier.create(&key, Version::FIRST, room.engine.storage_owner()).await.unwrap();
        let place = carrier.place(&key, id);
        let Place::Directory(source) = place.clone() else { panic!("{place:?}") };
        let target = "/mnt/workspace".parse().unwrap();
        let storage = Some(StorageMount { source: place, target });
        let compute = room.engine.start(ComputeSpec { storage, ..room.spec() }).await.unwrap();
        compute.mount_storage().await.unwrap();
        let out = outside.display();
        let script = format!(
            "cd /mnt/workspace && ln -s {out} directory && ln -s {out}/large file && ln -s / root && ln -s . loop && \
             ln -s ../../../../../../../../../../../../..{out} up && mkdir sub && ln -s {out} sub/deep && \
             cat file directory/large up/large"
        );
        let (_, errors, _) = run(&*compute, &script).await;
        assert_eq!(errors.matches("No such file").count(), 3, "{errors}");
        compute.terminate(Duration::ZERO).await.unwrap();
        let usage = carrier.usage(&key, id).await.unwrap();
        assert!(usage.bytes < 100_000, "what the links point to was counted: {usage:?}");
        let discarded = carrier.discard(&key, id).await.unwrap().unwrap();
        room.engine.delete_storage(discarded.clone()).await.unwrap();
        let Place::Directory(discarded) = discarded else { panic!("{discarded:?}") };
        assert!(!discarded.exists() && !source.exists());
        assert_eq!(std::fs::metadata(outside.join("large")).unwrap().len(), 1_000_000);
    });
}

#[test]
fn a_hostile_project_packs_nothing_of_the_host() {
    let home = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let project = tempfile::tempdir().unwrap();
    let at = |name: &str| project.path().join(name);
    std::fs::write(at("main.py"), "x").unwrap();
    std::fs::create_dir_all(at("a/b")).unwrap();
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, at(name)).unwrap();
    let out = outside.path().display().to_string();
    link(&out, "directory");
    link(&format!("{out}/secret"), "file");
    link(&format!("../../../../../../../../../../..{out}/secret"), "a/b/up");
    link("../..", "a/b/root");
    link("a/b/root/..", "above");
    link("loop", "loop");
    link("/dev/zero", "endless");
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    if is_root() {
        // /dev/zero: read as a file it has no end.
        let device = nix::sys::stat::makedev(1, 5);
        let mode = nix::sys::stat::Mode::S_IRUSR;
        nix::sys::stat::mknod(&at("device"), nix::sys::stat::SFlag::S_IFCHR, mode, device).unwrap();
    }
    let manifest = Manifest {
        format: Manifest::FORMAT,
        launch: Launch::Command { argv: vec!["x".into()] },
        read_only: vec![],
        environment: vec![],
        image: None,
    };
    let store = ArtifactStore::below(home.path());
    let packed = store.pack(project.path(), &manifest).unwrap();
    let code = store.find(&packed.hash).unwrap().code;
    let mut left = vec![code.clone()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            assert!(kind.is_dir() || kind.is_file() || kind.is_symlink(), "{:?}", entry.path());
            if kind.is_dir() {
                left.push(entry.path());
            } else if kind.is_symlink() {
                let target = std::fs::read_link(entry.path()).unwrap();
                assert!(target.is_relative(), "{:?} leads to {target:?}", entry.path());
            } else {
                assert_ne!(std::fs::read_to_string(entry.path()).unwrap(), "secret");
            }
        }
    }
    for name in ["directory", "file", "a/b/up", "endless", "fifo", "socket", "device"] {
        assert!(code.join(name).symlink_metadata().is_err(), "{name} went along");
        let told = packed.skipped.iter().any(|said| said.contains(name));
        assert!(told || (name == "device" && !is_root()), "{name} is not told of: {:?}", packed.skipped);
    }
}
