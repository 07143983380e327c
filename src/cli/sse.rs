//! Server-sent events, read as they arrive.

use crate::cli::exit::{Class, Failure};

/// Longest event. [quotas: a chunk of a stream has at most 10 MB]
const MAX_EVENT_BYTES: usize = 10 * 1024 * 1024;

/// Splits a byte stream into the data of its events.
#[derive(Debug, Default)]
pub(crate) struct SseReader {
    /// The line that is not complete.
    line: Vec<u8>,
    /// Data lines of the event that is not complete.
    data: Option<String>,
    /// The last byte was a carriage return, which ended its line already.
    after_return: bool,
}

impl SseReader {
    /// Takes bytes; gives the data of each event that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, Failure> {
        let mut events = Vec::new();
        for byte in bytes {
            let second_half = std::mem::replace(&mut self.after_return, *byte == b'\r') && *byte == b'\n';
            match byte {
                b'\n' if second_half => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                _ => self.line.push(*byte),
            }
        }
        if self.line.len() + self.data.as_ref().map_or(0, String::len) > MAX_EVENT_BYTES {
            let message = format!("the agent sent an event of more than {MAX_EVENT_BYTES} bytes");
            return Err(Failure::new(Class::Remote, message).hint("read the stream with `--raw`"));
        }
        Ok(events)
    }

    /// The event that the stream's end cut short, if it had any data.
    pub(crate) fn finish(mut self) -> Option<String> {
        let last = if self.line.is_empty() { None } else { self.end_line() };
        last.or(self.data)
    }

    fn end_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.data.take();
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        if field == "data" {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            }
        }
        None
    }
}

/// True when a content type says server-sent events.
pub(crate) fn is_event_stream(content_type: &str) -> bool {
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<String> {
        let mut reader = SseReader::default();
        let mut events: Vec<String> = pieces.iter().flat_map(|p| reader.push(p).unwrap()).collect();
        events.extend(reader.finish());
        events
    }

    #[test]
    fn events_are_their_data_lines() {
        let text =
            b": remark\nevent: x\ndata: one\n\ndata:two\ndata: three\r\n\r\nid: 7\n\ndata\n\ndata: cut";
        assert_eq!(read(&[text]), ["one", "two\nthree", "", "cut"]);
        assert_eq!(read(&[b""]), Vec::<String>::new());
        assert!(is_event_stream("text/event-stream; charset=utf-8"));
        assert!(!is_event_stream("application/json"));
    }

    #[test]
    fn an_event_without_end_is_refused_before_memory_is() {
        let mut reader = SseReader::default();
        let piece = vec![b'x'; MAX_EVENT_BYTES];
        assert!(reader.push(&piece).is_ok());
        assert!(reader.push(b"xx").is_err());
    }

    proptest! {
        #[test]
        fn where_the_stream_is_cut_does_not_matter(
            events in proptest::collection::vec("[a-z:é ]{0,12}", 0..6),
            ends in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
            cuts in proptest::collection::vec(0_usize..200, 0..6),
        ) {
            let text: String = events.iter().map(|e| format!("data: {e}{ends}{ends}")).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            let (mut pieces, mut from) = (Vec::new(), 0);
            for cut in cuts {
                pieces.push(&text.as_bytes()[from..cut]);
                from = cut;
            }
            prop_assert_eq!(read(&pieces), events);
        }
    }
}
