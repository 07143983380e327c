//! Starting a process: its own session and process group, its own environment, nothing inherited.

// `fork` and the calls between it and `execve` have no safe wrappers that keep to what is allowed there.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::{c_char, c_int};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{ForkResult, Pid, fork, pipe2};

use super::confine::Confinement;
use super::proto::{Exit, Step};
use super::users::Identity;

/// A process to start, with everything allocated that the new process needs before its `execve`.
pub(super) struct Image {
    programs: Vec<CString>,
    argv: Vec<CString>,
    environment: Vec<CString>,
    directory: CString,
    identity: Option<Identity>,
}

/// The standard descriptors of a process.
pub(super) struct Io {
    pub(super) input: RawFd,
    pub(super) output: RawFd,
    pub(super) errors: RawFd,
    /// They are a terminal, which the process is to control.
    pub(super) terminal: bool,
}

/// A process that was forked; [`verdict`] tells later whether its program could be executed.
pub(super) struct Forked {
    pub(super) pid: Pid,
    /// Gives the step and the error number that failed, or ends without a byte once the program runs.
    pub(super) verdict: OwnedFd,
}

impl Image {
    /// Prepares a process. The program is looked up in the `PATH` of its own environment.
    pub(super) fn new(
        argv: &[String],
        environment: &[(String, String)],
        directory: &str,
        identity: Option<Identity>,
    ) -> Result<Self, String> {
        let program = argv.first().filter(|name| !name.is_empty()).ok_or("there is no program to start")?;
        let text = |value: &str| CString::new(value).map_err(|_| "it contains a zero byte".to_owned());
        let programs = if program.contains('/') {
            vec![text(program)?]
        } else {
            let path = environment.iter().rev().find(|(key, _)| key == "PATH").map_or("", |(_, path)| path);
            let candidates = path.split(':').map(|part| if part.is_empty() { "." } else { part });
            let candidates = candidates.map(|part| Path::new(part).join(program));
            candidates
                .map(|path| CString::new(path.as_os_str().as_bytes()).map_err(|_| "it contains a zero byte"))
                .collect::<Result<_, _>>()?
        };
        let variable = |(key, value): &(String, String)| {
            if key.is_empty() || key.contains('=') {
                return Err(format!("`{key}` cannot be the name of an environment variable"));
            }
            text(&format!("{key}={value}"))
        };
        let environment = environment.iter().map(variable).collect::<Result<_, _>>()?;
        let argv = argv.iter().map(|argument| text(argument)).collect::<Result<_, _>>()?;
        Ok(Self { programs, argv, environment, directory: text(directory)?, identity })
    }

    /// Forks. The new process has the three descriptors of `io` as its standard ones.
    pub(super) fn fork(&self, io: &Io, confinement: &Confinement) -> nix::Result<Forked> {
        let pointers = |strings: &[CString]| -> Vec<*const c_char> {
            strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let argv = pointers(&self.argv);
        let environment = pointers(&self.environment);
        let (verdict, sender) = pipe2(OFlag::O_CLOEXEC)?;
        // SAFETY: the helper may have a thread besides (the relay of a container), whose locks the child would have as
        // they were; so it only makes system calls on memory that was prepared above, and ends in `execve` or `_exit`.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(Forked { pid: child, verdict }),
            ForkResult::Child => {
                // SAFETY: as above; the descriptors and the pointer arrays live in this very frame.
                unsafe {
                    let (step, errno) = self.become_program(io, confinement, &argv, &environment);
                    let mut said = [0u8; 5];
                    said[0] = step_number(step);
                    said[1..].copy_from_slice(&errno.to_ne_bytes());
                    libc::write(sender.as_raw_fd(), said.as_ptr().cast(), said.len());
                    libc::_exit(127)
                }
            }
        }
    }

    /// Turns this process into the program, or says what failed.
    ///
    /// # Safety
    /// Only between `fork` and the end of the child; `argv` and `environment` end with a null pointer
    /// and point to strings that live.
    unsafe fn become_program(
        &self,
        io: &Io,
        confinement: &Confinement,
        argv: &[*const c_char],
        environment: &[*const c_char],
    ) -> (Step, c_int) {
        // SAFETY: system calls on numbers and on the live memory that the caller vouches for.
        unsafe {
            libc::setsid();
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            // The Rust runtime ignores it, and an ignored signal stays so in the program.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            // All three numbers are above 2: the helper keeps 0 to 2 on /dev/null.
            if libc::dup2(io.input, 0) < 0 || libc::dup2(io.output, 1) < 0 || libc::dup2(io.errors, 2) < 0 {
                return (Step::Fork, Errno::last_raw());
            }
            // It leads a session of its own by now, so the terminal becomes that one's.
            if io.terminal && libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                return (Step::Terminal, Errno::last_raw());
            }
            // Every descriptor of the helper closes at exec already; this also covers what it does not know.
            libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            if libc::chdir(self.directory.as_ptr()) < 0 {
                return (Step::WorkingDirectory, Errno::last_raw());
            }
            // Groups first and the user last: who has become an ordinary user may change neither any more.
            if let Some(Identity { user, group, groups, .. }) = &self.identity
                && (libc::setgroups(groups.len(), groups.as_ptr()) < 0
                    || libc::setresgid(*group, *group, *group) < 0
                    || libc::setresuid(*user, *user, *user) < 0)
            {
                return (Step::User, Errno::last_raw());
            }
            if let Err(errno) = confinement.apply() {
                return (Step::Confine, errno as c_int);
            }
            let mut errno = libc::ENOENT;
            for program in &self.programs {
                libc::execve(program.as_ptr(), argv.as_ptr(), environment.as_ptr());
                match Errno::last_raw() {
                    libc::ENOENT | libc::ENOTDIR => {}
                    // Like a shell: go on looking, but say that there was one.
                    libc::EACCES => errno = libc::EACCES,
                    other => return (Step::Execute, other),
                }
            }
            (Step::Execute, errno)
        }
    }
}

/// Reads what a forked process said. Nothing yet is `WouldBlock`; no failure is `None`.
pub(super) fn verdict(fd: &OwnedFd) -> io::Result<Option<(Step, i32)>> {
    let mut said = [0u8; 5];
    match nix::unistd::read(fd, &mut said)? {
        0 => Ok(None),
        5 => {
            let [step, errno @ ..] = said;
            Ok(Some((step_of(step), i32::from_ne_bytes(errno))))
        }
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// What a look for ended children found.
pub(super) enum Reaped {
    /// This child has ended.
    Child(Pid, Exit),
    /// There are children, and all run.
    Nothing,
    /// There are no children.
    NoChildren,
}

/// Takes one ended child off the process table, without waiting.
pub(super) fn reap() -> Reaped {
    let mut status: c_int = 0;
    loop {
        // Not nix's wrapper: it knows no real-time signals, and loses a child that one of them ended.
        // SAFETY: `status` is a live integer, and the call writes nothing else.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        return match pid {
            0 => Reaped::Nothing,
            1.. if libc::WIFSIGNALED(status) => {
                Reaped::Child(Pid::from_raw(pid), Exit::Signal(libc::WTERMSIG(status)))
            }
            1.. if libc::WIFEXITED(status) => {
                Reaped::Child(Pid::from_raw(pid), Exit::Code(libc::WEXITSTATUS(status)))
            }
            1.. => continue,
            _ if Errno::last_raw() == libc::EINTR => continue,
            _ => Reaped::NoChildren,
        };
    }
}

const fn step_number(step: Step) -> u8 {
    match step {
        Step::WorkingDirectory => 1,
        Step::Execute => 2,
        Step::Confine => 3,
        Step::Terminal => 4,
        Step::User => 5,
        _ => 0,
    }
}

const fn step_of(number: u8) -> Step {
    match number {
        1 => Step::WorkingDirectory,
        2 => Step::Execute,
        3 => Step::Confine,
        4 => Step::Terminal,
        5 => Step::User,
        _ => Step::Fork,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn run(argv: &[&str], environment: &[(&str, &str)], directory: &str) -> (Option<(Step, i32)>, String) {
        let argv: Vec<String> = argv.iter().map(|a| (*a).to_owned()).collect();
        let environment: Vec<(String, String)> =
            environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let image = Image::new(&argv, &environment, directory, None).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let (mut read, write) = std::io::pipe().unwrap();
        let confinement = Confinement::new(false);
        let (input, output) = (null.as_raw_fd(), write.as_raw_fd());
        let io = Io { input, output, errors: output, terminal: false };
        let forked = image.fork(&io, &confinement).unwrap();
        drop(write);
        let verdict = verdict(&forked.verdict).unwrap();
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        nix::sys::wait::waitpid(forked.pid, None).unwrap();
        (verdict, text)
    }

    #[test]
    fn a_program_is_found_in_the_path_of_its_own_environment_and_gets_nothing_else() {
        let (verdict, text) =
            run(&["sh", "-c", "env; pwd"], &[("PATH", "/nowhere:/usr/bin:/bin"), ("A", "b c")], "/usr");
        assert_eq!(verdict, None);
        assert!(text.contains("A=b c\n") && text.ends_with("/usr\n"), "{text}");
        assert!(!text.contains("CARGO"), "something of the parent's environment: {text}");
    }

    #[test]
    fn what_cannot_run_is_told_with_its_step() {
        let path = [("PATH", "/usr/bin:/bin")];
        assert_eq!(run(&["no-such-program"], &path, "/").0, Some((Step::Execute, libc::ENOENT)));
        assert_eq!(run(&["/etc/passwd"], &path, "/").0, Some((Step::Execute, libc::EACCES)));
        assert_eq!(run(&["sh"], &path, "/nowhere").0, Some((Step::WorkingDirectory, libc::ENOENT)));
        assert_eq!(run(&["sh"], &[], "/").0, Some((Step::Execute, libc::ENOENT)));
    }

    #[test]
    fn what_cannot_be_a_process_is_refused_before_any_fork() {
        assert!(Image::new(&[], &[], "/", None).is_err());
        assert!(Image::new(&[String::new()], &[], "/", None).is_err());
        assert!(Image::new(&["a\0b".into()], &[], "/", None).is_err());
        assert!(Image::new(&["/a".into()], &[("k".into(), "v\0".into())], "/", None).is_err());
    }
}
