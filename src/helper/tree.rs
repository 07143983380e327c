//! Finding everything that descends from a process, and ending it.
//!
//! A process of a tree is known by any of: its number in the environment it was started with, its process
//! group, its session, a parent in the tree. So `setsid` children are found, and children with a cleared
//! environment as long as their parent lives. What escapes is a daemon that cleared its environment, made
//! a session of its own and lost its parent before the kill came: it ends with the session.

use std::collections::HashSet;
use std::io::Read;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::proto::PROCESS_TAG;
use super::spawn::{self, Reaped};

/// Most of a process's environment that is read. [Linux: arguments and environment are at most 6 MiB]
const MAX_ENVIRONMENT_BYTES: u64 = 6 * 1024 * 1024;
/// Rounds of stopping newly found processes before the kill goes out anyway. [ours]
const MAX_ROUNDS: usize = 64;

/// One process as `/proc` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    pid: i32,
    state: u8,
    parent: i32,
    group: i32,
    session: i32,
    threads: i32,
}

impl Row {
    /// False for what has ended. A process whose first thread alone has ended looks like a zombie too.
    fn runs(&self) -> bool {
        match self.state {
            b'X' => false,
            b'Z' => self.threads > 1,
            _ => true,
        }
    }
}

/// Ends the tree of process number `id`, whose leader is or was `leader`. True when nothing of it runs
/// any more; else SIGKILL is on its way to all of it and the question should be asked again.
pub(super) fn end(id: u64, leader: i32, members: &mut HashSet<i32>) -> bool {
    // Stop first, kill then: a stopped parent cannot fork past the search, and a child whose parent was
    // killed under it could no longer be found by its parent.
    for _ in 0..MAX_ROUNDS {
        let mut found_more = false;
        for pid in search(id, leader, members) {
            if members.insert(pid) {
                found_more = true;
                let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
            }
        }
        if !found_more {
            break;
        }
    }
    let living = search(id, leader, members);
    for pid in &living {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    // A number that ended may be given to a process of another tree.
    members.retain(|pid| living.contains(pid));
    living.is_empty()
}

/// Sends a signal to everything that descends from this process.
pub fn signal_descendants(signal: Signal) {
    for row in descendants() {
        let _ = kill(Pid::from_raw(row.pid), signal);
    }
}

/// Sends SIGKILL to everything that descends from this process, and takes from the table what has ended. True when
/// nothing is left; else the question should be asked again.
pub fn end_descendants() -> bool {
    // Stopped first, so that a parent cannot fork past the search.
    signal_descendants(Signal::SIGSTOP);
    signal_descendants(Signal::SIGKILL);
    loop {
        match spawn::reap() {
            Reaped::Child(..) => {}
            Reaped::Nothing => return false,
            Reaped::NoChildren => return true,
        }
    }
}

/// Sends SIGKILL to the processes of this user whose environment says `name=value`. True when there were none.
pub fn end_marked(name: &str, value: &str) -> bool {
    let own = nix::unistd::getpid().as_raw();
    let is_marked = |row: &Row| {
        row.pid != own
            && row.runs()
            && variable_of(row.pid, name).is_some_and(|found| found == value.as_bytes())
    };
    let marked: Vec<Row> = all().filter(is_marked).collect();
    for row in &marked {
        let _ = kill(Pid::from_raw(row.pid), Signal::SIGKILL);
    }
    marked.is_empty()
}

/// What descends from this process and runs. Of a session that has a PID namespace: every process but its first.
fn descendants() -> Vec<Row> {
    let own = nix::unistd::getpid().as_raw();
    let rows: Vec<Row> = all().filter(|row| row.pid != own).collect();
    let mut known = HashSet::from([own]);
    loop {
        let before = known.len();
        known.extend(
            rows.iter().filter(|row| known.contains(&row.parent)).map(|row| row.pid).collect::<Vec<_>>(),
        );
        if known.len() == before {
            return rows.into_iter().filter(|row| row.runs() && known.contains(&row.pid)).collect();
        }
    }
}

/// The numbers of what descends from this process and runs.
pub(super) fn members() -> Vec<i32> {
    descendants().into_iter().map(|row| row.pid).collect()
}

/// The processes of the tree that run.
fn search(id: u64, leader: i32, members: &HashSet<i32>) -> Vec<i32> {
    let id = id.to_string();
    let rows = descendants();
    let mut known: HashSet<i32> = rows
        .iter()
        .filter(|row| {
            members.contains(&row.pid)
                || match tag_of(row.pid) {
                    // The number of a leader that ended long ago may be another tree's by now; its
                    // processes carry their own tag.
                    Some(found) => found == id.as_bytes(),
                    None => [row.pid, row.group, row.session].contains(&leader),
                }
        })
        .map(|row| row.pid)
        .collect();
    loop {
        let before = known.len();
        for row in &rows {
            if known.contains(&row.parent) {
                known.insert(row.pid);
            }
        }
        if known.len() == before {
            return known.into_iter().collect();
        }
    }
}

fn all() -> impl Iterator<Item = Row> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        parse_stat(pid, &std::fs::read(entry.path().join("stat")).ok()?)
    })
}

/// Reads `/proc/<pid>/stat`. The command name may hold anything, `)` and spaces included, so fields are
/// counted from its last `)`.
fn parse_stat(pid: i32, stat: &[u8]) -> Option<Row> {
    let name_end = stat.iter().rposition(|b| *b == b')')?;
    let fields = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let mut number = |skip: usize| fields.nth(skip)?.parse::<i32>().ok();
    let (parent, group, session) = (number(0)?, number(0)?, number(0)?);
    // Thirteen fields lie between the session (6th) and the number of threads (20th).
    Some(Row { pid, state, parent, group, session, threads: number(13)? })
}

/// The value of [`PROCESS_TAG`] in the environment that a process was started with.
fn tag_of(pid: i32) -> Option<Vec<u8>> {
    variable_of(pid, PROCESS_TAG)
}

fn variable_of(pid: i32, name: &str) -> Option<Vec<u8>> {
    let file = std::fs::File::open(format!("/proc/{pid}/environ")).ok()?;
    let mut environment = Vec::new();
    // A process that ends while it is read has no environment any more.
    file.take(MAX_ENVIRONMENT_BYTES).read_to_end(&mut environment).ok()?;
    find_variable(&environment, name)
}

fn find_variable(environment: &[u8], name: &str) -> Option<Vec<u8>> {
    let value = |entry: &[u8]| Some(entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?.to_vec());
    environment.split(|b| *b == 0).find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let row =
            parse_stat(7, b"7 (a) R 1 (b) c) S 3 4 5 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 9 0 77\n").unwrap();
        assert_eq!(row, Row { pid: 7, state: b'S', parent: 3, group: 4, session: 5, threads: 9 });
        for bad in [&b""[..], b"7 (a", b"7 (a) S 1 2 3", b"7 (a) S x 2 3", b"7 (\xff) S 1 2 \xff"] {
            assert_eq!(parse_stat(7, bad), None, "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_row_or_none(
            name in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..20),
            fields in "([A-Z]|-?[0-9]{1,11}| |\\)|\\PC){0,60}",
            numbers in proptest::collection::vec(proptest::prelude::any::<i32>(), 20),
        ) {
            let stat = [b"7 (", name.as_slice(), b") ", fields.as_bytes()].concat();
            let _ = (parse_stat(7, &name), find_variable(&name, PROCESS_TAG), parse_stat(7, &stat));
            // Whatever the name, the numbers after it are found.
            let words: Vec<String> = numbers.iter().map(i32::to_string).collect();
            let stat = [b"7 (", name.as_slice(), b") S ", words.join(" ").as_bytes()].concat();
            let row = parse_stat(7, &stat).unwrap();
            let found = (row.parent, row.group, row.session, row.threads);
            proptest::prop_assert_eq!(found, (numbers[0], numbers[1], numbers[2], numbers[16]));
        }
    }

    #[test]
    fn only_a_whole_variable_is_the_tag() {
        let environment =
            b"XAGENTCORE_PROCESS=1\0AGENTCORE_PROCESSES=2\0A=AGENTCORE_PROCESS=3\0AGENTCORE_PROCESS=12\0";
        assert_eq!(find_variable(environment, PROCESS_TAG).unwrap(), b"12");
        assert_eq!(find_variable(b"A=b\0", PROCESS_TAG), None);
    }

    #[test]
    fn this_process_is_listed() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(all().any(|row| row.pid == pid));
    }
}
