//! How much of the machine a session may use.
//!
//! The service gives a session 2 vCPU and 8 GB. Control groups hold a session to that, of either version, wherever the
//! emulator may make them: root nearly everywhere, a user where the system's manager has given the user a part of the
//! tree. What they do not hold is held by limits of processes, which count each process (memory) or each user of the
//! session (processes) for itself.
//!
//! A group lies beside or below the emulator's own and has a name that only this emulator's home gives, so that
//! what a crash leaves is found by the next one.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::engine::{Holder, Limit};
use crate::model::limits::{SESSION_CPUS, SESSION_MEMORY_BYTES, SESSION_PROCESSES};

/// Period over which processor time is counted. [Linux: the default]
const CPU_PERIOD_MICROS: u64 = 100_000;
/// First kernel that counts a user's processes for each user namespace; before, those outside count too.
const COUNTS_BY_NAMESPACE: (u32, u32) = (5, 14);
/// How much likelier than others the processes of sessions are ended when the machine's memory is out.
/// [ours: between an ordinary program, 0, and one that asks to go first, 1000]
const OOM_SCORE: &str = "500";
/// How long the kernel may take to let go of an empty group, and how often it is asked. [ours]
const REMOVAL_LIMIT: Duration = Duration::from_secs(1);
const REMOVAL_TICK: Duration = Duration::from_millis(2);

/// What a session may use.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Limits {
    /// Memory of all its processes and of its files outside the storage.
    pub(super) memory_bytes: u64,
    /// Processors' worth of time.
    pub(super) cpus: u64,
    /// Processes and threads.
    pub(super) processes: u64,
    /// Descriptors of each process, which may raise them as far as the machine lets it; nothing: as they are.
    pub(super) descriptors: Option<u64>,
}

impl Limits {
    /// The service's, or the machine's where that has less.
    pub(super) fn of_host() -> Self {
        let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory(&text));
        let cpus = std::thread::available_parallelism().map_or(SESSION_CPUS, |n| n.get() as u64);
        Self {
            memory_bytes: memory.map_or(SESSION_MEMORY_BYTES, |host| host.min(SESSION_MEMORY_BYTES)),
            cpus: cpus.min(SESSION_CPUS),
            processes: SESSION_PROCESSES,
            descriptors: None,
        }
    }

    /// Most bytes of each of a session's file systems in memory: its root, and the changes to its code.
    pub(super) fn scratch_bytes(&self) -> u64 {
        self.memory_bytes / 2
    }
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What a group can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Controller {
    Memory,
    Processes,
    Cpu,
}

impl Controller {
    /// What it holds, for people.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Processes => "processes",
            Self::Cpu => "processors",
        }
    }
}

const CONTROLLERS: [(&str, Controller); 3] =
    [("memory", Controller::Memory), ("pids", Controller::Processes), ("cpu", Controller::Cpu)];

/// The two versions of the kernel's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Version {
    One,
    Two,
}

/// A tree of groups in which groups can be made below `parent`; as a plan, the group itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Group {
    pub(super) version: Version,
    pub(super) directory: PathBuf,
    pub(super) controllers: Vec<Controller>,
}

/// Where this emulator makes groups.
pub(super) struct Groups {
    parents: Vec<Group>,
    prefix: String,
    next: AtomicU64,
}

impl Groups {
    /// Finds where groups can be made, and removes what an emulator with the same directory has left.
    pub(super) fn find(runtime_dir: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let own = parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let parents = own.into_iter().filter_map(|(group, mount)| usable(group, &mount)).collect();
        let digest = Sha256::digest(runtime_dir.as_os_str().as_encoded_bytes());
        let digest: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let groups = Self { parents, prefix: format!("agentcore-{digest}-"), next: AtomicU64::new(1) };
        groups.sweep();
        groups
    }

    fn sweep(&self) {
        for parent in &self.parents {
            for entry in fs::read_dir(&parent.directory).into_iter().flatten().flatten() {
                if entry.file_name().to_str().is_some_and(|name| name.starts_with(&self.prefix)) {
                    // One whose processes still end is removed with them.
                    let _ = fs::remove_dir(entry.path());
                }
            }
        }
    }

    /// What groups can hold here.
    pub(super) fn controllers(&self) -> impl Iterator<Item = Controller> {
        self.parents.iter().flat_map(|parent| parent.controllers.iter().copied())
    }

    /// Names for the groups of one more session.
    pub(super) fn plan(&self) -> Vec<Group> {
        // With the process's number: what another emulator left with processes in it is still there.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{}-{number}", self.prefix, std::process::id());
        let below = |parent: &Group| Group { directory: parent.directory.join(&name), ..parent.clone() };
        self.parents.iter().map(below).collect()
    }
}

/// The groups of a session that may exist. They are removed when this is dropped; whoever can wait for that
/// calls [`Held::release`].
pub(super) struct Held(Vec<PathBuf>);

impl Held {
    pub(super) fn new(directories: Vec<PathBuf>) -> Self {
        Self(directories)
    }

    pub(super) async fn release(mut self) {
        remove(std::mem::take(&mut self.0)).await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut left = std::mem::take(&mut self.0);
        if left.is_empty() || remove_once(&mut left) {
            return;
        }
        // Not a task: this may be the end of the runtime. A thread that cannot be had leaves the groups to the launcher
        // and to the next emulator.
        let _ = std::thread::Builder::new().name("groups".to_owned()).spawn(move || remove_slowly(left));
    }
}

/// Removes groups whose processes have ended; the kernel may need a moment to see that.
async fn remove(mut left: Vec<PathBuf>) {
    let deadline = tokio::time::Instant::now() + REMOVAL_LIMIT;
    while !remove_once(&mut left) && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(REMOVAL_TICK).await;
    }
}

fn remove_slowly(mut left: Vec<PathBuf>) {
    let deadline = std::time::Instant::now() + REMOVAL_LIMIT;
    while !remove_once(&mut left) && std::time::Instant::now() < deadline {
        std::thread::sleep(REMOVAL_TICK);
    }
}

/// True when nothing is left.
fn remove_once(left: &mut Vec<PathBuf>) -> bool {
    left.retain(|directory| match fs::remove_dir(directory) {
        Ok(()) => false,
        Err(e) => e.kind() != io::ErrorKind::NotFound,
    });
    left.is_empty()
}

/// Where this process is in each tree: its group, and where the tree is mounted.
fn parse(mountinfo: &str, own: &str) -> Vec<(Group, PathBuf)> {
    let known = |name: &str| CONTROLLERS.iter().find(|(known, _)| *known == name).map(|(_, c)| *c);
    let mut found: Vec<(Group, PathBuf)> = Vec::new();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let (mut before, mut after) = (before.split(' '), after.split(' '));
        let (Some(root), Some(mount), Some(kind)) = (before.nth(3), before.next(), after.next()) else {
            continue;
        };
        let (version, controllers): (_, Vec<Controller>) = match kind {
            "cgroup" => {
                (Version::One, after.nth(1).unwrap_or_default().split(',').filter_map(known).collect())
            }
            "cgroup2" => (Version::Two, CONTROLLERS.map(|(_, c)| c).to_vec()),
            _ => continue,
        };
        let path = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (number, names, path) = (fields.next()?, fields.next()?, fields.next()?);
            let is_it = match version {
                Version::One => names.split(',').filter_map(known).any(|c| controllers.contains(&c)),
                Version::Two => number == "0" && names.is_empty(),
            };
            is_it.then_some(path)
        });
        let Some(below) = path.and_then(|path| Path::new(path).strip_prefix(root).ok()) else { continue };
        let seen =
            |c: &Controller| found.iter().any(|(g, _)| g.version == version && g.controllers.contains(c));
        if controllers.is_empty() || controllers.iter().any(seen) {
            continue;
        }
        let mount = PathBuf::from(mount);
        found.push((Group { version, directory: mount.join(below), controllers }, mount));
    }
    found
}

/// Where groups can be made, seen from this process's own group.
fn usable(own: Group, mount: &Path) -> Option<Group> {
    let writable = |directory: &Path| access(directory, AccessFlags::W_OK).is_ok();
    if own.version == Version::One {
        return writable(&own.directory).then_some(own);
    }
    // A group with processes can have no children that hold any, so it is one of the groups above. No controller is
    // switched on there: that is for whoever manages the machine.
    let above = own.directory.ancestors().skip(usize::from(own.directory != mount));
    let mut above = above.take_while(|directory| directory.starts_with(mount));
    above.find_map(|directory| {
        let on = fs::read_to_string(directory.join("cgroup.subtree_control")).ok()?;
        let on: Vec<&str> = on.split_whitespace().collect();
        let controllers = CONTROLLERS.iter().filter(|(name, _)| on.contains(name)).map(|(_, c)| *c);
        let controllers: Vec<Controller> = controllers.collect();
        let usable = !controllers.is_empty() && writable(directory);
        usable.then(|| Group { directory: directory.to_owned(), controllers, ..own.clone() })
    })
}

/// What holds a session, told by the launcher that has arranged it.
pub(super) struct Joined {
    /// What groups hold.
    pub(super) controllers: Vec<Controller>,
    /// The group of the second version, which the first process is made in.
    pub(super) directory: Option<OwnedFd>,
}

/// Makes the groups and enters those of the first version. Only for a launcher: it has one thread, which is
/// what spares the move a wait for every processor.
pub(super) fn join(groups: &[Group], limits: &Limits) -> Joined {
    // Raising it is everybody's right; without it the machine's memory could take the emulator along.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let mut joined = Joined { controllers: Vec::new(), directory: None };
    for group in groups {
        if fs::create_dir(&group.directory).is_err() {
            continue;
        }
        let set = |controller: &&Controller| set(group, **controller, limits).is_ok();
        let controllers: Vec<Controller> = group.controllers.iter().filter(set).copied().collect();
        let entered = match group.version {
            Version::One => fs::write(group.directory.join("tasks"), "0").is_ok(),
            Version::Two => {
                joined.directory = fs::File::open(&group.directory).ok().map(OwnedFd::from);
                joined.directory.is_some()
            }
        };
        if entered {
            joined.controllers.extend(controllers);
        }
    }
    joined
}

/// Enters the groups of the second version, for a process that was not made in them.
pub(super) fn enter(groups: &[Group]) {
    for group in groups.iter().filter(|group| group.version == Version::Two) {
        let _ = fs::write(group.directory.join("cgroup.procs"), "0");
    }
}

/// Leaves and removes the groups of a session that has ended: the launcher is its last process, and perhaps the
/// emulator has died.
pub(super) fn leave(groups: &[Group]) {
    for group in groups.iter().filter(|group| group.version == Version::One) {
        if let Some(parent) = group.directory.parent() {
            let _ = fs::write(parent.join("tasks"), "0");
        }
    }
    remove_slowly(groups.iter().map(|group| group.directory.clone()).collect());
}

fn set(group: &Group, controller: Controller, limits: &Limits) -> io::Result<()> {
    let write = |name: &str, value: String| fs::write(group.directory.join(name), value);
    let quota = limits.cpus.saturating_mul(CPU_PERIOD_MICROS);
    match (group.version, controller) {
        (_, Controller::Processes) => write("pids.max", limits.processes.to_string()),
        (Version::One, Controller::Memory) => {
            write("memory.limit_in_bytes", limits.memory_bytes.to_string())?;
            // Memory and swap together; machines without swap have no such file.
            let _ = write("memory.memsw.limit_in_bytes", limits.memory_bytes.to_string());
            Ok(())
        }
        (Version::Two, Controller::Memory) => {
            write("memory.max", limits.memory_bytes.to_string())?;
            let _ = write("memory.swap.max", "0".to_owned());
            Ok(())
        }
        (Version::One, Controller::Cpu) => {
            write("cpu.cfs_period_us", CPU_PERIOD_MICROS.to_string())?;
            write("cpu.cfs_quota_us", quota.to_string())
        }
        (Version::Two, Controller::Cpu) => write("cpu.max", format!("{quota} {CPU_PERIOD_MICROS}")),
    }
}

/// Limits of processes, for the session's first one and all after it. `own_users`: the session's users are its alone.
pub(super) fn limit_processes(limits: &Limits, held: &[Controller], own_users: bool) -> io::Result<()> {
    // The machine's handler of core dumps would run, and keep them, outside of the session.
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    if let Some(soft) = limits.descriptors {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard)?;
    }
    if !held.contains(&Controller::Memory) {
        // Not the address space: runtimes reserve far more of it than they use.
        setrlimit(Resource::RLIMIT_DATA, limits.memory_bytes, limits.memory_bytes)?;
    }
    if !held.contains(&Controller::Processes) && own_users && counts_by_namespace() {
        setrlimit(Resource::RLIMIT_NPROC, limits.processes, limits.processes)?;
    }
    Ok(())
}

/// What holds the session whose first process is `pid`, by what the kernel says of it now.
pub(super) fn in_force(limits: &Limits, groups: &[Group], pid: i32, own_users: bool) -> Vec<Limit> {
    let member = pid.to_string();
    let holds = |controller: Controller| {
        groups.iter().filter(|group| group.controllers.contains(&controller)).any(|group| {
            let members = fs::read_to_string(group.directory.join("cgroup.procs")).unwrap_or_default();
            // A file that says `max`, or is not there, holds nothing.
            let set = setting(group, controller)
                .is_some_and(|value| value.starts_with(|c: char| c.is_ascii_digit()));
            set && members.lines().any(|line| line == member)
        })
    };
    CONTROLLERS
        .into_iter()
        .map(|(_, controller)| {
            let (amount, otherwise) = match controller {
                Controller::Memory => (limits.memory_bytes, Holder::Process),
                Controller::Processes if own_users && counts_by_namespace() => {
                    (limits.processes, Holder::User)
                }
                Controller::Processes => (limits.processes, Holder::Nobody),
                Controller::Cpu => (limits.cpus, Holder::Nobody),
            };
            let held_by = if holds(controller) { Holder::Group } else { otherwise };
            Limit { of: controller.word(), amount, held_by }
        })
        .collect()
}

fn setting(group: &Group, controller: Controller) -> Option<String> {
    let file = match (group.version, controller) {
        (_, Controller::Processes) => "pids.max",
        (Version::One, Controller::Memory) => "memory.limit_in_bytes",
        (Version::Two, Controller::Memory) => "memory.max",
        (Version::One, Controller::Cpu) => "cpu.cfs_quota_us",
        (Version::Two, Controller::Cpu) => "cpu.max",
    };
    fs::read_to_string(group.directory.join(file)).ok()
}

fn counts_by_namespace() -> bool {
    let name = nix::sys::utsname::uname().ok();
    let release = name.as_ref().and_then(|name| name.release().to_str()).unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) >= COUNTS_BY_NAMESPACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_in_each_kind_of_tree() {
        let two = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = parse(two, "0::/user.slice/user-1000.slice/session-2.scope\n");
        let all = CONTROLLERS.map(|(_, c)| c).to_vec();
        let directory = "/sys/fs/cgroup/user.slice/user-1000.slice/session-2.scope".into();
        let expected = Group { version: Version::Two, directory, controllers: all };
        assert_eq!(found, [(expected, PathBuf::from("/sys/fs/cgroup"))]);

        let one = "31 30 0:27 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                   32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                   33 30 0:29 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
                   34 30 0:28 / /elsewhere rw - cgroup cgroup rw,memory\n";
        let own = "9:name=systemd:/\n4:memory:/a/b\n2:cpu,cpuacct:/docker/abc/x\n0::/\n";
        let found: Vec<Group> = parse(one, own).into_iter().map(|(group, _)| group).collect();
        let group = |directory: &str, controller| Group {
            version: Version::One,
            directory: directory.into(),
            controllers: vec![controller],
        };
        assert_eq!(
            found,
            [
                group("/sys/fs/cgroup/cpu,cpuacct/x", Controller::Cpu),
                group("/sys/fs/cgroup/memory/a/b", Controller::Memory)
            ]
        );
        assert_eq!(parse("garbage - cgroup\n\n", "::"), []);
    }

    #[test]
    fn groups_of_the_second_version_go_where_controllers_are_on_already() {
        let mount = tempfile::tempdir().unwrap();
        let own = mount.path().join("slice/app/scope");
        fs::create_dir_all(&own).unwrap();
        for (at, on) in [("", "cpu memory pids"), ("slice", "memory pids"), ("slice/app", "")] {
            fs::write(mount.path().join(at).join("cgroup.subtree_control"), on).unwrap();
        }
        fs::write(own.join("cgroup.subtree_control"), "cpu memory pids").unwrap();
        let all = CONTROLLERS.map(|(_, c)| c).to_vec();
        let own = Group { version: Version::Two, directory: own, controllers: all };
        let found = usable(own, mount.path()).unwrap();
        assert_eq!(
            found.directory,
            mount.path().join("slice"),
            "neither the own one nor one without controllers"
        );
        assert_eq!(found.controllers, [Controller::Memory, Controller::Processes]);
    }

    #[test]
    fn both_versions_are_told_the_same_limits() {
        let directory = tempfile::tempdir().unwrap();
        let limits = Limits { memory_bytes: 8 << 30, cpus: 2, processes: 10, descriptors: None };
        for version in [Version::One, Version::Two] {
            let group = Group { version, directory: directory.path().to_owned(), controllers: vec![] };
            for (_, controller) in CONTROLLERS {
                set(&group, controller, &limits).unwrap();
            }
        }
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(read("memory.max"), "8589934592");
        assert_eq!(read("memory.limit_in_bytes"), "8589934592");
        assert_eq!((read("cpu.max"), read("cpu.cfs_quota_us")), ("200000 100000".into(), "200000".into()));
        assert_eq!(read("pids.max"), "10");
    }

    #[test]
    fn only_a_group_with_the_session_in_it_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let all = CONTROLLERS.map(|(_, c)| c).to_vec();
        let group = Group { version: Version::Two, directory: directory.path().to_owned(), controllers: all };
        let limits = Limits { memory_bytes: 8 << 30, cpus: 2, processes: 10, descriptors: None };
        let held =
            |own| in_force(&limits, std::slice::from_ref(&group), 77, own).into_iter().map(|l| l.held_by);
        let held = |own| held(own).collect::<Vec<_>>();
        let loose = [Holder::Process, Holder::Nobody, Holder::Nobody];
        assert_eq!(held(false), loose);
        for (_, controller) in CONTROLLERS {
            set(&group, controller, &limits).unwrap();
        }
        fs::write(directory.path().join("cgroup.procs"), "7\n").unwrap();
        assert_eq!(held(false), loose, "another process");
        fs::write(directory.path().join("cgroup.procs"), "7\n77\n").unwrap();
        assert_eq!(held(false), [Holder::Group; 3]);
        fs::write(directory.path().join("cpu.max"), "max 100000").unwrap();
        assert_eq!(held(false), [Holder::Group, Holder::Group, Holder::Nobody]);
    }

    #[test]
    fn limits_are_never_above_the_machines_own() {
        assert_eq!(total_memory("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2 << 20));
        assert_eq!(total_memory("MemTotal: x kB\n"), None);
        let limits = Limits::of_host();
        assert!(limits.memory_bytes <= SESSION_MEMORY_BYTES && limits.cpus <= SESSION_CPUS);
        assert!(limits.memory_bytes > 0 && limits.cpus > 0 && limits.scratch_bytes() < limits.memory_bytes);
    }
}
