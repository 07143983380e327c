//! What a build says while it runs, as events: from buildx's JSON where it has that, else from its plain lines.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

/// Longest text that is waited for the end of, in bytes: more without an end is given away as it is. [ours]
const MAX_PENDING_BYTES: usize = 4 * 1024 * 1024;

/// Something that happened in a build.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum Event {
    /// A step began or ended.
    Step {
        /// Its number, in the order in which steps were first heard of.
        number: u32,
        /// Its name, such as `[2/3] RUN make`.
        name: String,
        /// What became of it.
        #[serde(flatten)]
        state: StepState,
        /// How long it took, in seconds, where it is at its end.
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds: Option<f64>,
    },
    /// A line that a step's command wrote.
    Log {
        /// The step's number.
        step: u32,
        /// The line.
        line: String,
    },
    /// How far a transfer of a step is.
    Transfer {
        /// The step's number.
        step: u32,
        /// Of what.
        name: String,
        /// Bytes done.
        current: u64,
        /// Bytes in all; 0 where that is not known.
        total: u64,
    },
    /// A line of the builder itself.
    Talk {
        /// The line.
        line: String,
    },
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum StepState {
    /// It runs.
    Started,
    /// It is done.
    Done,
    /// It did not have to run.
    Cached,
    /// It failed.
    Failed {
        /// Why.
        error: String,
    },
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    vertexes: Vec<Vertex>,
    #[serde(default)]
    statuses: Vec<Transfer>,
    #[serde(default)]
    logs: Vec<Log>,
}

#[derive(Deserialize)]
struct Vertex {
    digest: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    started: Option<String>,
    #[serde(default)]
    completed: Option<String>,
    #[serde(default)]
    cached: bool,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
struct Transfer {
    vertex: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    current: u64,
    #[serde(default)]
    total: u64,
}

#[derive(Deserialize)]
struct Log {
    vertex: String,
    #[serde(default)]
    data: String,
}

/// One step as far as it was heard of.
#[derive(Default)]
struct Known {
    number: u32,
    name: String,
    started: bool,
    ended: bool,
    /// The end of its output, without a line break yet.
    partial: String,
}

/// Reads what a build writes, piece by piece.
#[derive(Default)]
pub(super) struct Parser {
    pending: Vec<u8>,
    /// By digest in JSON, by number in plain lines.
    steps: BTreeMap<String, Known>,
}

impl Parser {
    /// Reads on.
    pub(super) fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        self.pending.extend_from_slice(bytes);
        loop {
            let skip = self.pending.iter().take_while(|b| b.is_ascii_whitespace()).count();
            self.pending.drain(..skip);
            let Some(first) = self.pending.first() else { return };
            if *first == b'{' {
                let mut stream = serde_json::Deserializer::from_slice(&self.pending).into_iter::<Status>();
                match stream.next() {
                    Some(Ok(status)) => {
                        let end = stream.byte_offset();
                        self.pending.drain(..end);
                        self.status(status, events);
                        continue;
                    }
                    Some(Err(e)) if e.is_eof() && self.pending.len() < MAX_PENDING_BYTES => return,
                    // A brace that begins something else is a line like any other.
                    _ => {}
                }
            }
            match self.pending.iter().position(|b| *b == b'\n') {
                Some(end) => {
                    let line: Vec<u8> = self.pending.drain(..=end).collect();
                    self.line(&String::from_utf8_lossy(&line), events);
                }
                None if self.pending.len() < MAX_PENDING_BYTES => return,
                None => self.end(events),
            }
        }
    }

    /// What is left at the end.
    pub(super) fn end(&mut self, events: &mut Vec<Event>) {
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() {
            self.line(&String::from_utf8_lossy(&rest), events);
        }
        for step in self.steps.values_mut() {
            step.flush(events);
        }
    }

    fn status(&mut self, status: Status, events: &mut Vec<Event>) {
        // A document has no order between its parts; what is told has: beginnings, output, ends.
        for vertex in &status.vertexes {
            let step = known(&mut self.steps, &vertex.digest);
            if !vertex.name.is_empty() {
                step.name = visible(&vertex.name);
            }
            if vertex.started.is_some() && !step.started {
                step.started = true;
                events.push(step.event(StepState::Started, None));
            }
        }
        for transfer in status.statuses {
            let step = known(&mut self.steps, &transfer.vertex).number;
            let Transfer { name, current, total, .. } = transfer;
            events.push(Event::Transfer { step, name: visible(&name), current, total });
        }
        for log in status.logs {
            let step = known(&mut self.steps, &log.vertex);
            let bytes = BASE64_STANDARD.decode(&log.data).unwrap_or_default();
            step.partial.push_str(&String::from_utf8_lossy(&bytes));
            while let Some((line, rest)) = step.partial.split_once('\n') {
                events.push(Event::Log { step: step.number, line: visible(line) });
                step.partial = rest.to_owned();
            }
            if step.partial.len() > MAX_PENDING_BYTES {
                step.flush(events);
            }
        }
        for vertex in status.vertexes {
            let step = known(&mut self.steps, &vertex.digest);
            if vertex.completed.is_none() || step.ended {
                continue;
            }
            step.ended = true;
            step.flush(events);
            let time = |text: Option<String>| text?.parse::<jiff::Timestamp>().ok();
            let times = time(vertex.started).zip(time(vertex.completed));
            let seconds = times.map(|(from, to)| to.duration_since(from).as_secs_f64().max(0.0));
            let state = match (vertex.error.is_empty(), vertex.cached) {
                (false, _) => StepState::Failed { error: visible(&vertex.error) },
                (true, true) => StepState::Cached,
                (true, false) => StepState::Done,
            };
            events.push(step.event(state, seconds));
        }
    }

    /// A plain line: `#4 NAME`, `#4 0.123 TEXT`, `#4 DONE 0.1s`, or talk of the builder.
    fn line(&mut self, line: &str, events: &mut Vec<Event>) {
        let line = line.trim_end_matches(['\r', '\n']);
        let numbered = line.strip_prefix('#').and_then(|rest| rest.split_once(' '));
        let Some((number, text)) =
            numbered.filter(|(n, _)| n.bytes().all(|b| b.is_ascii_digit()) && *n != "0")
        else {
            if !line.trim().is_empty() {
                events.push(Event::Talk { line: visible(line) });
            }
            return;
        };
        let step = known(&mut self.steps, &format!("{number:0>9}"));
        if !step.started {
            step.started = true;
            step.name = visible(text);
            return events.push(step.event(StepState::Started, None));
        }
        let end = if let Some(seconds) = text.strip_prefix("DONE ") {
            Some((StepState::Done, seconds.trim_end_matches('s').parse().ok()))
        } else if text == "CACHED" {
            Some((StepState::Cached, None))
        } else {
            text.strip_prefix("ERROR: ").map(|error| (StepState::Failed { error: visible(error) }, None))
        };
        match end {
            Some((state, seconds)) if !step.ended => {
                step.ended = true;
                events.push(step.event(state, seconds));
            }
            // Its name again, where the builder goes back to it.
            _ if text == step.name => {}
            _ => {
                let timed = text.split_once(' ').filter(|(time, _)| time.parse::<f64>().is_ok());
                let line = timed.map_or(text, |(_, line)| line);
                events.push(Event::Log { step: step.number, line: visible(line) });
            }
        }
    }
}

fn known<'s>(steps: &'s mut BTreeMap<String, Known>, key: &str) -> &'s mut Known {
    let number = u32::try_from(steps.len()).unwrap_or(u32::MAX).saturating_add(1);
    steps.entry(key.to_owned()).or_insert_with(|| Known { number, ..Known::default() })
}

impl Known {
    fn event(&self, state: StepState, seconds: Option<f64>) -> Event {
        Event::Step { number: self.number, name: self.name.clone(), state, seconds }
    }

    /// Gives away a line that has no end.
    fn flush(&mut self, events: &mut Vec<Event>) {
        if !self.partial.is_empty() {
            let line = visible(&std::mem::take(&mut self.partial));
            events.push(Event::Log { step: self.number, line });
        }
    }
}

/// A line without what would move a terminal's cursor or colour it; of what overwrote itself, the last state.
fn visible(line: &str) -> String {
    const ESCAPE: char = '\u{1b}';
    let last = line.trim_end_matches(['\r', '\n']).rsplit('\r').next().unwrap_or_default();
    let mut out = String::with_capacity(last.len());
    let mut rest = last.chars();
    while let Some(c) = rest.next() {
        if c == ESCAPE {
            // `ESC [` numbers and a letter; of other sequences the one character.
            if rest.next() == Some('[') {
                for c in rest.by_ref() {
                    if c.is_ascii_alphabetic() || c == '~' {
                        break;
                    }
                }
            }
        } else if !c.is_control() || c == '\t' {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, size: usize) -> Vec<Event> {
        let (mut parser, mut events) = (Parser::default(), Vec::new());
        for piece in text.as_bytes().chunks(size) {
            parser.feed(piece, &mut events);
        }
        parser.end(&mut events);
        events
    }

    fn step(number: u32, name: &str, state: StepState, seconds: Option<f64>) -> Event {
        Event::Step { number, name: name.to_owned(), state, seconds }
    }

    const RAW: &str = r#"{
  "vertexes": [{"digest": "sha256:a", "name": "[1/2] FROM x"}]
}
{"vertexes": [{"digest": "sha256:a", "name": "[1/2] FROM x", "started": "2026-11-21T06:00:00Z"}],
 "statuses": [{"id": "l", "vertex": "sha256:a", "name": "layer", "current": 5, "total": 10, "timestamp": "2026-11-21T06:00:00Z"}]}
{"vertexes": [{"digest": "sha256:a", "name": "[1/2] FROM x", "started": "2026-11-21T06:00:00Z", "completed": "2026-11-21T06:00:00.5Z", "cached": true}]}
{"vertexes": [{"digest": "sha256:b", "name": "[2/2] RUN y", "started": "2026-11-21T06:00:01Z"}],
 "logs": [{"vertex": "sha256:b", "stream": 1, "data": "b25lCnR3", "timestamp": "2026-11-21T06:00:01Z"}]}
{"logs": [{"vertex": "sha256:b", "stream": 2, "data": "bwplbmQ=", "timestamp": "2026-11-21T06:00:01Z"}],
 "vertexes": [{"digest": "sha256:b", "name": "[2/2] RUN y", "started": "2026-11-21T06:00:01Z", "completed": "2026-11-21T06:00:02Z", "error": "exit code: 3"}]}
ERROR: failed to solve: exit code: 3
"#;

    #[test]
    fn buildx_json_becomes_events_however_it_is_cut() {
        let expected = [
            step(1, "[1/2] FROM x", StepState::Started, None),
            Event::Transfer { step: 1, name: "layer".into(), current: 5, total: 10 },
            step(1, "[1/2] FROM x", StepState::Cached, Some(0.5)),
            step(2, "[2/2] RUN y", StepState::Started, None),
            Event::Log { step: 2, line: "one".into() },
            Event::Log { step: 2, line: "two".into() },
            Event::Log { step: 2, line: "end".into() },
            step(2, "[2/2] RUN y", StepState::Failed { error: "exit code: 3".into() }, Some(1.0)),
            Event::Talk { line: "ERROR: failed to solve: exit code: 3".into() },
        ];
        for size in [1, 7, 100, RAW.len()] {
            assert_eq!(read(RAW, size), expected, "{size}");
        }
    }

    #[test]
    fn plain_lines_become_the_same_events() {
        let text = "#0 building with \"default\" instance\n\n#1 [1/2] FROM x\n#1 CACHED\n\n#2 [2/2] RUN y\n#2 0.260 one\n\
                    #2 0.262 \u{1b}[31mtwo\u{1b}[0m\r\n#2 ERROR: exit code: 3\n------\n > [2/2] RUN y:\nERROR: failed\n";
        for size in [1, 9, text.len()] {
            let events = read(text, size);
            assert_eq!(
                events[1..3],
                [
                    step(1, "[1/2] FROM x", StepState::Started, None),
                    step(1, "[1/2] FROM x", StepState::Cached, None),
                ]
            );
            assert!(events.contains(&Event::Log { step: 2, line: "one".into() }));
            assert!(events.contains(&Event::Log { step: 2, line: "two".into() }));
            assert!(events.contains(&step(
                2,
                "[2/2] RUN y",
                StepState::Failed { error: "exit code: 3".into() },
                None
            )));
            assert_eq!(events.last().unwrap(), &Event::Talk { line: "ERROR: failed".into() });
        }
    }

    proptest::proptest! {
        #[test]
        fn no_output_makes_the_reader_panic_or_lose_its_way(
            pieces in proptest::collection::vec("\\PC{0,20}|\\{\"vertexes\":\\[|#[0-9]{1,3} [a-zA-Z0-9. ]{0,10}\n|\n", 0..30),
            size in 1_usize..40,
        ) {
            let text = pieces.concat();
            read(&text, size);
            let whole = read(&format!("{{\"vertexes\":[]}}\n{RAW}{text}"), size);
            proptest::prop_assert!(whole.len() >= 9);
        }
    }
}
