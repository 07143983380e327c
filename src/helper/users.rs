//! Who a process of an image runs as: the image's `USER` in numbers, by the session's own `/etc/passwd` and `/etc/group`.

use std::fs::File;
use std::io::Read;

/// Most that is read of either file. [ours: some ten thousand accounts]
const MAX_TABLE_BYTES: u64 = 1024 * 1024;
/// Home of a user that no table knows. [the container engines' rule]
const NO_HOME: &str = "/";

/// A user with its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// The user.
    pub(super) user: u32,
    /// Its first group.
    pub(super) group: u32,
    /// All its groups.
    pub(super) groups: Vec<u32>,
    /// Its home directory.
    pub(super) home: String,
}

/// Finds a user as an image names it: `name`, `1000`, `name:group`, `1000:1000`.
pub(super) fn find(user: &str) -> Result<Identity, String> {
    resolve(user, &table("/etc/passwd"), &table("/etc/group"))
}

/// The text of a table; nothing of one that is not there or is no file.
fn table(path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path)
        && file.metadata().is_ok_and(|about| about.is_file())
    {
        let _ = file.take(MAX_TABLE_BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn resolve(asked: &str, passwd: &str, group: &str) -> Result<Identity, String> {
    let (user, asked_group) = match asked.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (asked, None),
    };
    let account = passwd.lines().filter_map(account).find(|a| matches(user, a.name, a.user));
    let number = match (&account, user.parse::<u32>()) {
        (Some(account), _) => account.user,
        (None, Ok(number)) => number,
        (None, Err(_)) => return Err(format!("the image's `USER {asked}` is no user of its `/etc/passwd`")),
    };
    let mut all: Vec<(&str, u32, Vec<&str>)> = group.lines().filter_map(group_line).collect();
    let first = match asked_group {
        Some(wanted) => {
            let known = all.iter().find(|(name, number, _)| matches(wanted, name, *number));
            match (known, wanted.parse::<u32>()) {
                (Some((_, number, _)), _) => *number,
                (None, Ok(number)) => number,
                (None, Err(_)) => {
                    return Err(format!("the image's `USER {asked}` names no group of its `/etc/group`"));
                }
            }
        }
        None => account.as_ref().map_or(0, |account| account.group),
    };
    let mut groups = vec![first];
    // A group that is asked for stands alone; else every group that lists the user is its own.
    if let (None, Some(account)) = (asked_group, &account) {
        all.retain(|(_, number, members)| *number != first && members.contains(&account.name));
        groups.extend(all.iter().map(|(_, number, _)| *number));
    }
    let home = account.map(|account| account.home).filter(|home| !home.is_empty()).unwrap_or(NO_HOME);
    Ok(Identity { user: number, group: first, groups, home: home.to_owned() })
}

fn matches(asked: &str, name: &str, number: u32) -> bool {
    asked == name || asked.parse() == Ok(number)
}

struct Account<'a> {
    name: &'a str,
    user: u32,
    group: u32,
    home: &'a str,
}

/// `name:password:user:group:comment:home:shell`
fn account(line: &str) -> Option<Account<'_>> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let (user, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Account { name, user, group, home: fields.nth(1).unwrap_or_default() })
}

/// `name:password:number:members`
fn group_line(line: &str) -> Option<(&str, u32, Vec<&str>)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let number = fields.nth(1)?.parse().ok()?;
    Some((name, number, fields.next().unwrap_or_default().split(',').collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1001::/home/agent:/bin/sh\nbroken\n::\nx:y:z:0:::\n";
    const GROUP: &str = "root:x:0:\nagents:x:1001:\ndocker:x:998:other,agent\nagent-only:x:5:agent\nbad\n";

    fn found(user: &str) -> (u32, u32, Vec<u32>, String) {
        let i = resolve(user, PASSWD, GROUP).unwrap();
        (i.user, i.group, i.groups, i.home)
    }

    #[test]
    fn users_are_names_or_numbers_with_or_without_a_group() {
        let agent = (1000, 1001, vec![1001, 998, 5], "/home/agent".to_owned());
        assert_eq!(found("agent"), agent);
        assert_eq!(found("1000"), agent);
        assert_eq!(found("agent:docker"), (1000, 998, vec![998], "/home/agent".to_owned()));
        assert_eq!(found("1000:7"), (1000, 7, vec![7], "/home/agent".to_owned()));
        assert_eq!(found("agent:"), agent);
        // Nobody of the table: the numbers as they are, as container engines take them.
        assert_eq!(found("4242"), (4242, 0, vec![0], "/".to_owned()));
        assert_eq!(found("root").0, 0);
    }

    #[test]
    fn a_name_that_no_table_knows_is_refused() {
        for user in ["nobody-here", "agent:nothing", "-1", "4294967296", "broken", "x"] {
            assert!(resolve(user, PASSWD, GROUP).is_err(), "{user}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_tables_give_a_user_or_a_reason(user in "\\PC{0,12}", passwd in "[a-z0-9:\n]{0,80}", group in "[a-z0-9:,\n]{0,80}") {
            if let Ok(found) = resolve(&user, &passwd, &group) {
                proptest::prop_assert_eq!(found.groups[0], found.group);
            }
        }
    }
}
