//! A daemon of a test's own, which the test may kill, in any way and as often as it likes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{self, eventually};

const SOON: Duration = Duration::from_secs(60);

/// A daemon of a test's own, which the test may kill.
pub(crate) struct Daemon {
    directory: tempfile::TempDir,
    program: PathBuf,
    path: String,
    child: Option<Child>,
    /// Its runtime, a daemon of its own as service managers start it: this one lives through the other's deaths.
    containerd: Option<Child>,
    /// What its command line has besides.
    more: Vec<String>,
    /// It sees nothing of this directory.
    hidden: Option<PathBuf>,
}

impl Daemon {
    /// The one for a test, which is skipped where there is none.
    pub(crate) fn for_test(test: &str) -> Option<Self> {
        Self::find().map_err(|missing| support::skip(test, &missing)).ok()
    }

    #[allow(clippy::disallowed_methods, reason = "looks where programs are")]
    fn find() -> Result<Self, String> {
        let lab = std::env::var("AGENTCORE_LAB").unwrap_or_default();
        let mut path = format!("{lab}/engine-20/usr/sbin:{lab}/engine-20/usr/bin:{lab}/bin:");
        path += &std::env::var("PATH").unwrap_or_default();
        let found = path.split(':').map(|dir| Path::new(dir).join("dockerd")).find(|file| file.is_file());
        let program = found.ok_or("no `dockerd` in PATH or in the lab")?;
        if !nix::unistd::Uid::effective().is_root() {
            return Err("a daemon of its own needs root".to_owned());
        }
        let directory = tempfile::Builder::new().prefix("acd-").tempdir().unwrap();
        Ok(Self { directory, program, path, child: None, containerd: None, more: vec![], hidden: None })
    }

    /// Where it keeps what it has.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// From its next start on it has these arguments as well.
    pub(crate) fn with(&mut self, more: &[String]) {
        self.more = more.to_vec();
    }

    /// From its next start on it does not see what is in a directory, as a daemon of another machine. Its runtime starts
    /// anew with it: both have to see the same mounts.
    pub(crate) fn hide(&mut self, directory: &Path) {
        self.hidden = Some(directory.to_owned());
        self.end_runtime();
    }

    fn end_runtime(&mut self) {
        if let Some(mut containerd) = self.containerd.take() {
            let pid = Pid::from_raw(i32::try_from(containerd.id()).unwrap());
            let _ = kill(pid, Signal::SIGTERM);
            let _ = containerd.wait();
        }
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.directory.path().join("s").display())
    }

    pub(crate) fn start(&mut self) {
        let at = |name: &str| self.directory.path().join(name);
        let log = std::fs::File::options().create(true).append(true).open(at("log")).unwrap();
        let runtime = at("c");
        if self.containerd.is_none() {
            let mut command = match &self.hidden {
                None => Command::new("containerd"),
                Some(hidden) => {
                    let mut command = Command::new("unshare");
                    let script = "mount -t tmpfs hidden \"$1\"; shift; exec \"$@\"";
                    command.args(["--mount", "sh", "-ec", script, "sh"]).arg(hidden).arg("containerd");
                    command
                }
            };
            let child = command
                .arg("--address")
                .arg(&runtime)
                .arg("--root")
                .arg(at("croot"))
                .arg("--state")
                .arg(at("cstate"))
                .env("PATH", &self.path)
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log.try_clone().unwrap())
                .spawn()
                .unwrap();
            self.containerd = Some(child);
            eventually(SOON, "containerd listens", || std::os::unix::net::UnixStream::connect(&runtime).ok());
        }
        // A pid file of a dead daemon keeps the next one from starting.
        let _ = std::fs::remove_file(at("pid"));
        let mut command = match (&self.hidden, &self.containerd) {
            (Some(_), Some(containerd)) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--mount=/proc/{}/ns/mnt", containerd.id())).arg(&self.program);
                command
            }
            _ => Command::new(&self.program),
        };
        let child = command
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .arg("--containerd")
            .arg(&runtime)
            .args(["-H", &self.host(), "--bridge", "none", "--iptables=false", "--ip-forward=false"])
            .args(&self.more)
            .env("PATH", &self.path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let socket = at("s");
        eventually(SOON, "the daemon listens", || std::os::unix::net::UnixStream::connect(&socket).ok());
    }

    pub(crate) fn end(&mut self, signal: Signal) {
        if let Some(mut child) = self.child.take() {
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
            let _ = kill(pid, signal);
            let _ = child.wait();
        }
    }
}

impl Daemon {
    /// Where a volume's files are.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.directory.path().join("data/volumes").join(name).join("_data")
    }

    /// The processes that stand between its runtime and what runs in containers. One whose daemon was killed before anything
    /// ran in its container is Docker's own leftover: no client can ask for its end.
    pub(crate) fn shims_of_something(&self) -> Vec<i32> {
        let parent = |pid: &str| {
            if is_unstarted(pid) {
                return None;
            }
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<i32>().ok()
        };
        let names = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
        let parents: std::collections::HashSet<i32> =
            names.filter_map(|name| parent(name.to_str()?)).collect();
        self.shims().into_iter().filter(|shim| parents.contains(shim)).collect()
    }

    /// All of the processes between its runtime and containers.
    fn shims(&self) -> Vec<i32> {
        let socket = self.directory.path().join("c").display().to_string();
        let of = |pid: i32| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).into_owned();
            (command.contains("containerd-shim") && command.contains(&socket)).then_some(pid)
        };
        let names = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
        names.filter_map(|name| of(name.to_str()?.parse().ok()?)).collect()
    }
}

/// True for the process of a container that was made and not started. Where its daemon is killed in between, it stays, and
/// no client of the daemon can ask for its end.
pub(crate) fn is_unstarted(pid: &str) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"runc\0init"))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.is_none() {
            self.start();
        }
        self.end(Signal::SIGTERM);
        // Of a test that failed: nothing else ends them.
        for shim in self.shims() {
            let _ = kill(Pid::from_raw(shim), Signal::SIGKILL);
        }
        self.end_runtime();
        // One that was killed in between leaves its data mounted on itself, and the directory could not go.
        let data = self.directory.path().join("data");
        let _ = nix::mount::umount2(&data, nix::mount::MntFlags::MNT_DETACH);
    }
}
