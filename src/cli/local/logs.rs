//! The emulator's log of a session, for errors that have their cause in it.

use std::collections::VecDeque;

use super::Local;
use super::admin::AdminError;
use crate::model::{SessionId, remarks};
use crate::wire::admin::LogLine;

/// The last lines of a session's newest compute, for an error that has its cause in them. What an earlier compute
/// wrote has nothing to do with it.
pub(crate) async fn last_lines(
    local: &Local<'_>,
    runtime: &str,
    session: &SessionId,
    most: usize,
) -> Result<Vec<String>, AdminError> {
    let mut stream = local.admin().logs(Some(runtime), Some(session), false).await?;
    let mut lines = LastLines { most, ended: false, lines: VecDeque::new() };
    while let Some(line) = stream.next().await? {
        lines.add(line);
    }
    Ok(lines.lines.into())
}

/// Keeps the last lines of the newest compute that has written any.
struct LastLines {
    most: usize,
    /// True when the newest line told that its compute has ended.
    ended: bool,
    lines: VecDeque<String>,
}

impl LastLines {
    fn add(&mut self, line: LogLine) {
        let ends = line.stream == "system" && remarks::end_a_compute(&line.message);
        // Ends that follow one another are of one compute, which wrote nothing in between.
        if self.ended && !ends {
            self.lines.clear();
        }
        self.ended = ends;
        if self.lines.len() == self.most {
            self.lines.pop_front();
        }
        self.lines.push_back(line.message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_the_newest_compute_are_shown() {
        let mut last = LastLines { most: 3, ended: false, lines: VecDeque::new() };
        let mut add = |stream: &str, message: &str| {
            last.add(LogLine {
                timestamp: String::new(),
                runtime_id: "coder-AbCdEf0123".parse().unwrap(),
                session_id: SessionId::random(),
                stream: stream.to_owned(),
                message: message.to_owned(),
            });
            Vec::from(last.lines.clone())
        };
        add("stdout", "of the first");
        assert_eq!(add("system", remarks::STOPPED), ["of the first", remarks::STOPPED]);
        // An agent may write what it likes.
        add("stdout", remarks::STOPPED);
        assert_eq!(add("stderr", "of the second"), [remarks::STOPPED, "of the second"]);
        assert_eq!(add("system", "the stop was not clean: x").len(), 3);
        add("system", remarks::LEFT);
        assert_eq!(add("stdout", "of the third"), ["of the third"]);
        for line in ["b", "c", "d"] {
            add("stdout", line);
        }
        assert_eq!(add("stdout", "e"), ["c", "d", "e"]);
    }
}
