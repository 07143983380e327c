//! Which host ids a session's ids are.
//!
//! Uid 0 inside is never uid 0 of the host. Run by root, a session has 65,536 ids of a range that belongs
//! to nobody else. Run by a user, its uid 0 is that user, and where the system has set a range of
//! subordinate ids aside for the user and has the two set-uid programs that may map it, the other ids come
//! from there; else the session has one id.

use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};
use serde::{Deserialize, Serialize};

/// Ids of a session where a range is to be had. [POSIX and every distribution: 16 bits of ordinary ids]
pub(super) const SESSION_IDS: u32 = 65_536;
/// First host id of sessions run by root where `/etc/subuid` says nothing.
///
/// [systemd, "Users, Groups, UIDs and GIDs on systemd Systems": 524288 to 1879048191 are for containers
/// that are given 65,536 ids each, and nothing else; this is the last such block, the least likely one to be
/// taken.]
pub(super) const DEFAULT_BASE: u32 = 1_878_982_656;
/// Where distributions keep set-uid programs; the emulator's own `PATH` is not asked.
const MAPPER_DIRECTORIES: [&str; 6] =
    ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin", "/run/wrappers/bin"];

/// Which host ids a session's ids are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub(super) enum IdMap {
    /// Run by root: 0 to 65,535 are a range.
    Range {
        /// Host uid of uid 0.
        uid_base: u32,
        /// Host gid of gid 0.
        gid_base: u32,
    },
    /// Run by a user: 0 is the user, 1 and up are the user's subordinate ids.
    UserAndRange {
        /// The user.
        uid: u32,
        /// The user's group.
        gid: u32,
        /// First and number of the subordinate uids.
        uids: (u32, u32),
        /// First and number of the subordinate gids.
        gids: (u32, u32),
        /// The program that maps uids.
        newuidmap: PathBuf,
        /// The program that maps gids.
        newgidmap: PathBuf,
    },
    /// Run by a user: 0 is the user, and there is nothing else.
    Single {
        /// The user.
        uid: u32,
        /// The user's group.
        gid: u32,
    },
}

impl IdMap {
    /// What is right for the user that runs this program.
    pub(super) fn choose() -> Self {
        let (uid, gid) = (Uid::effective(), Gid::effective());
        let names = [user_name(uid.as_raw()), Some(uid.as_raw().to_string())];
        let names: Vec<String> = names.into_iter().flatten().collect();
        let range = |file: &str| subordinate(&std::fs::read_to_string(file).unwrap_or_default(), &names);
        let (uids, gids) = (range("/etc/subuid"), range("/etc/subgid"));
        if uid.is_root() {
            let base = |range: Option<(u32, u32)>| match range {
                Some((first, count)) if count >= SESSION_IDS && first > 0 => Some(first),
                _ => None,
            };
            return match (base(uids), base(gids)) {
                (Some(uid_base), Some(gid_base)) => Self::Range { uid_base, gid_base },
                _ => Self::Range { uid_base: DEFAULT_BASE, gid_base: DEFAULT_BASE },
            };
        }
        let (uid, gid) = (uid.as_raw(), gid.as_raw());
        match (uids, gids, mapper("newuidmap"), mapper("newgidmap")) {
            (Some(uids), Some(gids), Some(newuidmap), Some(newgidmap)) => {
                Self::UserAndRange { uid, gid, uids, gids, newuidmap, newgidmap }
            }
            _ => Self::Single { uid, gid },
        }
    }

    /// Host owner that files of the session's root have, when it is another than whoever makes them.
    pub(super) fn root_owner(&self) -> Option<(u32, u32)> {
        match self {
            Self::Range { uid_base, gid_base } => Some((*uid_base, *gid_base)),
            Self::UserAndRange { .. } | Self::Single { .. } => None,
        }
    }
}

/// The first range of any of `names` in the text of `/etc/subuid` or `/etc/subgid`.
fn subordinate(text: &str, names: &[String]) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let (first, count) = (fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<u32>().ok()?);
        let sensible = count > 0 && first > 0 && first.checked_add(count).is_some();
        (names.iter().any(|known| known == name) && sensible).then_some((first, count))
    })
}

/// The name of a user. Read from the file itself: a static binary has no other name services.
fn user_name(uid: u32) -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse::<u32>().ok()? == uid).then(|| name.to_owned())
    })
}

/// A mapping program that will have the rights it needs.
fn mapper(name: &str) -> Option<PathBuf> {
    // Where set-uid programs gain nothing, as under `no_new_privs`, the ranges cannot be had.
    if nix::sys::prctl::get_no_new_privs().unwrap_or(false) {
        return None;
    }
    MAPPER_DIRECTORIES.iter().map(|directory| Path::new(directory).join(name)).find(|path| privileged(path))
}

/// Set-uid root, or with capabilities of its own as Fedora and Arch install it.
fn privileged(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    const SET_UID: u32 = 0o4000;
    let Ok(metadata) = path.metadata() else { return false };
    metadata.is_file()
        && metadata.uid() == 0
        && (metadata.mode() & SET_UID != 0 || super::sys::has_capabilities(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sensible_range_of_the_user_counts() {
        let names = ["dev".to_owned(), "1000".to_owned()];
        let of = |text: &str| subordinate(text, &names);
        assert_eq!(of("root:1:65536\ndev:100000:65536\ndev:9:9\n"), Some((100_000, 65_536)));
        assert_eq!(of("1000:200000:10"), Some((200_000, 10)));
        assert_eq!(of("developer:1:2\n#dev:1:2\n\ndev:x:2\ndev:0:5\ndev:5:0\ndev:4294967295:2"), None);
        assert_eq!(of("dev:7"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_subuid_file_gives_a_sensible_range_or_none(
            text in "(dev|1000|root|:|[0-9]{1,12}|-|#| |\\PC|\\n){0,40}",
        ) {
            let names = ["dev".to_owned(), "1000".to_owned()];
            if let Some((first, count)) = subordinate(&text, &names) {
                proptest::prop_assert!(first > 0 && count > 0 && first.checked_add(count).is_some());
            }
        }
    }

    #[test]
    fn the_default_range_is_the_last_block_for_containers() {
        assert_eq!(DEFAULT_BASE % SESSION_IDS, 0);
        assert_eq!(DEFAULT_BASE + SESSION_IDS - 1, 1_879_048_191);
    }

    #[test]
    fn a_session_of_root_never_has_the_hosts_root() {
        for (uid_base, gid_base) in [IdMap::choose()].iter().filter_map(IdMap::root_owner) {
            assert!(uid_base > 0 && gid_base > 0);
        }
    }
}
