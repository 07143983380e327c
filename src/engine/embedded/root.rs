//! Building the root that a session sees, from inside its new namespaces.
//!
//! The work has two halves. In the first the process still is whoever runs the emulator, so that it reaches
//! paths below private directories; it takes detached copies of every host mount it needs. Then it becomes
//! uid 0 of the session, which owns nothing on the host, and assembles the copies on an empty tmpfs. Only
//! what is named here is ever shown: not the host's /home, /root, /run or any socket.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chdir, pivot_root, setgroups, sethostname, setresgid, setresuid};

use super::code;
use super::idmap::IdMap;
use super::plan::{During, LaunchFailure, LaunchStep, Plan, Secret};
use super::sys;
use crate::engine::{TOOL_PATH, WORKDIR};
use crate::helper::control::Control;
use crate::model::limits::SESSION_SCRATCH_FILES;

/// Directories of the system, shown read-only as the host has them: directories as such, links as links.
const SYSTEM: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store"];
/// What programs need of the host's `/etc` and what holds no secret; the rest of `/etc` is made here.
const ETC: [&str; 19] = [
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/cert.pem",
    "/etc/ca-certificates",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/crypto-policies",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/os-release",
    "/etc/services",
    "/etc/protocols",
    "/etc/mime.types",
    "/etc/terminfo",
];
/// Devices that hold nothing.
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];
/// Directories that a session has for itself. Nothing of the host may be shown over them or above them.
const OWN_DIRECTORIES: [&str; 12] = [
    "/etc", "/dev", "/proc", "/sys", "/tmp", "/run", "/var/tmp", "/var/run", "/root", "/home", "/mnt", "/opt",
];
/// A directory that holds one of these is somebody's home, or as good as one.
const KEYS: [&str; 3] = [".ssh", ".aws", ".gnupg"];
const SHARED_MODE: u32 = 0o1777;
/// Longest host name. [Linux: HOST_NAME_MAX]
const MAX_HOST_NAME: usize = 64;

const READ_ONLY: u64 = sys::READ_ONLY | sys::NO_SUID | sys::NO_DEVICES;

/// The host paths of a plan whose files may be private to whoever runs the emulator, in a fixed order.
pub(super) fn own_paths(plan: &Plan) -> Vec<&Path> {
    let fixed = [plan.code.as_path(), plan.tool.as_path()];
    fixed.into_iter().chain(plan.read_only.iter().map(PathBuf::as_path)).collect()
}

/// Adds where read-only paths that lead over links really are: what lies below them may say so.
pub(super) fn add_real_paths(plan: &mut Plan) {
    let real = plan.read_only.iter().filter_map(|path| path.canonicalize().ok());
    let new: Vec<PathBuf> = real.filter(|path| !plan.read_only.contains(path)).collect();
    plan.read_only.extend(new);
}

const CODE: usize = 0;
const TOOL: usize = 1;
const FIRST_READ_ONLY: usize = 2;

/// A detached mount and where it will stand.
struct Piece {
    at: PathBuf,
    tree: OwnedFd,
    directory: bool,
}

/// Everything taken from the host.
struct Pieces {
    links: Vec<(PathBuf, PathBuf)>,
    mounts: Vec<Piece>,
    devices: Vec<Piece>,
    tool: OwnedFd,
    code: OwnedFd,
    /// The code's owners are shown as the session's, so that it can be the lower layer of an overlay.
    code_is_owned: bool,
    storage: Option<OwnedFd>,
}

/// Builds the root and enters it. Gives back the storage when it is to appear later.
pub(super) fn build(
    plan: &Plan,
    mapped: Vec<Option<OwnedFd>>,
    control: &mut Control,
) -> Result<Option<OwnedFd>, LaunchFailure> {
    use LaunchStep::{Mounts, Other};
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .during(Mounts, "making mounts private")?;
    let pieces = collect(plan, mapped)?;
    let options = format!("{},uid=0,gid=0", scratch_options(plan));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("session"), &plan.staging, Some("tmpfs"), flags, Some(options.as_str()))
        .during(Mounts, format!("mounting a tmpfs on `{}`", plan.staging.display()))?;
    chdir(&plan.staging).during(Mounts, "entering the new root")?;
    become_root(&plan.ids)?;

    umask(Mode::empty());
    let storage = assemble(plan, pieces, control)?;
    umask(Mode::from_bits_truncate(0o022));

    // The new root onto the old one's place and the old one below it, from where it is taken away.
    pivot_root(".", ".").during(Mounts, "changing the root")?;
    umount2(".", MntFlags::MNT_DETACH).during(Mounts, "leaving the host's root")?;
    chdir("/").during(Mounts, "entering the new root")?;
    let host_name: String = plan.label.chars().take(MAX_HOST_NAME).collect();
    sethostname(&host_name).during(Other, "setting the host name")?;
    Ok(storage)
}

/// Bounds of a session's file system in memory. Where no control group counts it, nothing else does.
fn scratch_options(plan: &Plan) -> String {
    format!("mode=0755,size={},nr_inodes={SESSION_SCRATCH_FILES}", plan.limits.scratch_bytes())
}

/// Takes on the ids of the session's root.
pub(super) fn become_root(ids: &IdMap) -> Result<(), LaunchFailure> {
    let doing = "taking on the session's ids";
    match setgroups(&[]) {
        Ok(()) => {}
        // A user may not drop groups; they give nothing but what the user has anyway.
        Err(_) if matches!(ids, IdMap::Single { .. }) => {}
        Err(e) => return Err(LaunchFailure::system(LaunchStep::Ids, doing, &e.into())),
    }
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid).during(LaunchStep::Ids, doing)?;
    setresuid(uid, uid, uid).during(LaunchStep::Ids, doing)
}

fn collect(plan: &Plan, mut mapped: Vec<Option<OwnedFd>>) -> Result<Pieces, LaunchFailure> {
    use LaunchStep::{Mounts, Paths};
    let mut links = Vec::new();
    let mut mounts = Vec::new();
    for path in SYSTEM.map(Path::new) {
        let Ok(metadata) = fs::symlink_metadata(path) else { continue };
        if metadata.is_symlink() {
            let target = fs::read_link(path).during(Mounts, format!("reading `{}`", path.display()))?;
            links.push((path.to_owned(), target));
        } else {
            mounts.push(take(path, path, metadata.is_dir(), Mounts, READ_ONLY)?);
        }
    }
    for path in ETC.map(Path::new) {
        let (Ok(real), Ok(metadata)) = (path.canonicalize(), path.metadata()) else { continue };
        let is_link = fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink());
        if is_link && SYSTEM.iter().any(|system| real.starts_with(system)) {
            links.push((path.to_owned(), real));
        } else {
            mounts.push(take(path, path, metadata.is_dir(), Mounts, READ_ONLY)?);
        }
    }
    let mut devices = Vec::new();
    for path in DEVICES.map(Path::new).into_iter().filter(|path| path.exists()) {
        devices.push(take(path, path, false, Mounts, sys::NO_SUID | sys::NO_EXEC)?);
    }

    let mut own = |index: usize, path: &Path, what: &str| -> Result<(OwnedFd, bool), LaunchFailure> {
        let (tree, is_mapped) = match mapped.get_mut(index).and_then(Option::take) {
            Some(tree) => (tree, true),
            None => {
                let doing = format!("opening {what} `{}`", path.display());
                (sys::open_tree(path).during(Paths, doing)?, false)
            }
        };
        sys::set_attributes(&tree, READ_ONLY)
            .during(Mounts, format!("making `{}` read-only", path.display()))?;
        Ok((tree, is_mapped))
    };
    let (code, code_is_mapped) = own(CODE, &plan.code, "the code directory")?;
    let (tool, _) = own(TOOL, &plan.tool, "the program file")?;
    for (index, path) in plan.read_only.iter().enumerate() {
        let metadata =
            path.metadata().during(Paths, format!("looking at the read-only path `{}`", path.display()))?;
        refuse_own(path)?;
        // There already, and as every user of the host sees it.
        if SYSTEM.iter().any(|system| path.starts_with(system)) {
            continue;
        }
        let (tree, _) = own(FIRST_READ_ONLY + index, path, "the read-only path")?;
        let directory = metadata.is_dir();
        mounts.push(Piece { at: path.clone(), tree, directory });
    }
    let storage = match &plan.storage {
        Some((source, _)) => {
            let doing = format!("opening the session storage `{}`", source.display());
            let tree = sys::open_tree(source).during(Paths, doing)?;
            sys::set_attributes(&tree, sys::NO_SUID | sys::NO_DEVICES)
                .during(Mounts, "restricting the session storage")?;
            Some(tree)
        }
        None => None,
    };
    // A user's files are the session's in any case; root's are not, unless they are shown so.
    let code_is_owned = code_is_mapped || plan.ids.root_owner().is_none();
    Ok(Pieces { links, mounts, devices, tool, code, code_is_owned, storage })
}

fn take(
    source: &Path,
    at: &Path,
    directory: bool,
    step: LaunchStep,
    attributes: u64,
) -> Result<Piece, LaunchFailure> {
    let doing = || format!("taking `{}` into the session", source.display());
    let tree = sys::open_tree(source).during(step, doing())?;
    sys::set_attributes(&tree, attributes).during(step, doing())?;
    Ok(Piece { at: at.to_owned(), tree, directory })
}

/// A host path must not hide what a session has for itself.
fn refuse_own(path: &Path) -> Result<(), LaunchFailure> {
    let own = OWN_DIRECTORIES.iter().chain([&WORKDIR]).map(Path::new);
    let hides = own.into_iter().any(|own| own.starts_with(path));
    let kernel = ["/proc", "/sys", "/dev"].iter().any(|kernel| path.starts_with(kernel));
    let plain =
        path.is_absolute() && !path.components().any(|c| matches!(c, std::path::Component::ParentDir));
    if hides || kernel || !plain {
        let doing = format!("showing the read-only path `{}`", path.display());
        return Err(LaunchFailure::words(LaunchStep::Paths, doing, "a session has this place for itself"));
    }
    // Whoever wrote the bundle should have known better; this is the last place to stop it.
    let home = path.parent() == Some(Path::new("/home"));
    if home || KEYS.iter().any(|key| path.join(key).symlink_metadata().is_ok()) {
        let doing = format!("showing the read-only path `{}`", path.display());
        let why = "it is a home directory or holds a user's keys, which no session may see";
        return Err(LaunchFailure::words(LaunchStep::Paths, doing, why));
    }
    Ok(())
}

/// Puts everything together below the current directory. Gives back the storage when it comes later.
fn assemble(plan: &Plan, pieces: Pieces, control: &mut Control) -> Result<Option<OwnedFd>, LaunchFailure> {
    use LaunchStep::{Mounts, Paths};
    let making = "making the session's directories";
    for path in OWN_DIRECTORIES.iter().chain([&WORKDIR, &"/dev/pts", &"/dev/shm"]).map(Path::new) {
        let mode =
            if matches!(path.to_str(), Some("/tmp" | "/var/tmp" | "/dev/shm")) { SHARED_MODE } else { 0o755 };
        // /var/run is a link to /run everywhere, and /sys stays away: it would show the host's devices.
        if !matches!(path.to_str(), Some("/var/run" | "/sys")) {
            directory(path, mode).during(Mounts, making)?;
        }
    }
    symlink("/run", here("/var/run")).during(Mounts, making)?;
    fs::set_permissions(here("/root"), fs::Permissions::from_mode(0o700)).during(Mounts, making)?;
    for (at, target) in &pieces.links {
        parent(at).and_then(|()| symlink(target, here(at))).during(Mounts, making)?;
    }
    attach_all(pieces.mounts)?;
    write_etc(&plan.label).during(Mounts, "writing the session's /etc")?;
    for secret in &plan.secrets {
        write_secret(secret).during(Paths, format!("writing `{}`", secret.path.display()))?;
    }
    for device in pieces.devices {
        attach(&device)?;
    }
    furnish_dev()?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "proc", Some("proc"), flags, None::<&str>)
        .during(LaunchStep::Proc, "mounting /proc")?;
    attach(&Piece { at: TOOL_PATH.into(), tree: pieces.tool, directory: false })?;
    if !(pieces.code_is_owned && overlay(plan, &pieces.code)?) {
        code::receive(control, &here(WORKDIR))?;
    }
    match (pieces.storage, &plan.storage) {
        (Some(tree), Some((_, at))) if plan.early_mount => {
            directory(at, 0o755).during(Paths, format!("making `{}`", at.display()))?;
            sys::move_mount(&tree, &here(at)).during(Mounts, "mounting the session storage")?;
            Ok(None)
        }
        (storage, _) => Ok(storage),
    }
}

/// Attaches mounts, outer ones first; what an outer one shows already is left out.
fn attach_all(mut mounts: Vec<Piece>) -> Result<(), LaunchFailure> {
    mounts.sort_by_key(|piece| piece.at.components().count());
    let mut shown: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    for piece in mounts {
        let system = SYSTEM.iter().any(|system| piece.at == Path::new(system));
        if !system && shown.iter().any(|outer| piece.at.starts_with(outer)) {
            continue;
        }
        attach(&piece)?;
        shown.push(piece.at);
    }
    Ok(())
}

fn attach(piece: &Piece) -> Result<(), LaunchFailure> {
    let doing = || format!("showing `{}` in the session", piece.at.display());
    let step = LaunchStep::Mounts;
    if piece.directory {
        directory(&piece.at, 0o755).during(step, doing())?;
    } else {
        parent(&piece.at).and_then(|()| file(&piece.at, "")).during(step, doing())?;
    }
    sys::move_mount(&piece.tree, &here(&piece.at)).during(step, doing())
}

/// The code as an overlay: the bundle below, the session's changes above and lost with it. False when this
/// kernel or this file system has no such overlay.
fn overlay(plan: &Plan, code: &OwnedFd) -> Result<bool, LaunchFailure> {
    let doing = "making the code directory writable";
    let step = LaunchStep::Mounts;
    let scratch = Path::new(".scratch");
    fs::create_dir(scratch).during(step, doing)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = scratch_options(plan);
    mount(Some("session"), scratch, Some("tmpfs"), flags, Some(options.as_str())).during(step, doing)?;
    for name in ["lower", "upper", "work"] {
        fs::DirBuilder::new().mode(0o755).create(scratch.join(name)).during(step, doing)?;
    }
    sys::move_mount(code, &scratch.join("lower")).during(step, doing)?;
    let options = "lowerdir=.scratch/lower,upperdir=.scratch/upper,workdir=.scratch/work,userxattr";
    let mounted = mount(Some("code"), &here(WORKDIR), Some("overlay"), flags, Some(options));
    // An overlay holds its layers itself; the session has no need to see them.
    umount2(scratch, MntFlags::MNT_DETACH).during(step, doing)?;
    fs::remove_dir(scratch).during(step, doing)?;
    match mounted.map_err(io::Error::from) {
        Ok(()) => Ok(true),
        Err(e) if sys::unsupported(&e) => Ok(false),
        Err(e) => Err(LaunchFailure::system(step, doing, &e)),
    }
}

fn furnish_dev() -> Result<(), LaunchFailure> {
    let doing = "furnishing /dev";
    let step = LaunchStep::Mounts;
    let links = [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("pts/ptmx", "/dev/ptmx"),
    ];
    for (target, at) in links {
        symlink(target, here(at)).during(step, doing)?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let options = "newinstance,ptmxmode=0666,mode=0620";
    // Terminals belong to the group tty (5) where the session has such an id.
    let with_group = format!("{options},gid=5");
    mount(Some("devpts"), "dev/pts", Some("devpts"), flags, Some(with_group.as_str()))
        .or_else(|_| mount(Some("devpts"), "dev/pts", Some("devpts"), flags, Some(options)))
        .during(step, "mounting /dev/pts")
}

fn write_etc(label: &str) -> io::Result<()> {
    let shell = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
    let passwd = format!(
        "root:x:0:0:root:/root:{shell}\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    );
    file("/etc/passwd", &passwd)?;
    file("/etc/group", "root:x:0:\ntty:x:5:\nusers:x:100:\nnogroup:x:65534:\n")?;
    file("/etc/hostname", &format!("{label}\n"))?;
    file("/etc/hosts", &format!("127.0.0.1 localhost {label}\n::1 localhost ip6-localhost\n"))?;
    file("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")?;
    // A session has no way to a name server of its own; without this line the resolver would try some.
    file("/etc/resolv.conf", "# This session has no name server.\noptions timeout:1 attempts:1\n")?;
    symlink("/proc/self/mounts", here("/etc/mtab"))
}

fn write_secret(secret: &Secret) -> io::Result<()> {
    const PRIVATE: u32 = 0o600;
    parent(&secret.path)?;
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(PRIVATE).open(here(&secret.path))?;
    file.write_all(secret.content.as_bytes())
}

/// Where an absolute path of the session is while its root is the current directory.
fn here(path: impl AsRef<Path>) -> PathBuf {
    let mut below = OsString::from(".");
    below.push(OsString::from_vec(path.as_ref().as_os_str().as_bytes().to_vec()));
    PathBuf::from(below)
}

fn directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(here(path))?;
    if mode == 0o755 { Ok(()) } else { fs::set_permissions(here(path), fs::Permissions::from_mode(mode)) }
}

fn parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| directory(parent, 0o755))
}

fn file(path: impl AsRef<Path>, content: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o644).open(here(path))?;
    file.write_all(content.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_host_path_hides_what_a_session_has_for_itself() {
        let refused = [
            "/",
            "/var",
            "/var/task",
            "/tmp",
            "/proc",
            "/proc/1",
            "/dev/shm/x",
            "/sys/fs",
            "/home",
            "/home/dev",
            "/root",
            "/run",
            "/opt",
            "/mnt",
            "/etc",
            "relative",
            "/home/../etc",
        ];
        for path in refused {
            assert!(refuse_own(Path::new(path)).is_err(), "{path}");
        }
        for path in
            ["/home/dev/project/.venv", "/root/.local/share/uv", "/tmp/x/venv", "/opt/python", "/var/lib/x"]
        {
            assert!(refuse_own(Path::new(path)).is_ok(), "{path}");
        }
        let home = tempfile::tempdir().unwrap();
        assert!(refuse_own(home.path()).is_ok());
        fs::create_dir(home.path().join(".aws")).unwrap();
        assert!(refuse_own(home.path()).is_err());
    }

    #[test]
    fn paths_of_the_session_are_below_the_current_directory_while_it_is_built() {
        assert_eq!(here("/var/task"), Path::new("./var/task"));
    }
}
