//! The response stream of InvokeAgentRuntimeCommand as AWS event-stream frames.
//!
//! One frame per event: `:message-type` `event`, `:event-type` `chunk`, and a payload with exactly one of
//! `contentStart`, `contentDelta`, `contentStop`. An error in mid-stream is one `exception` frame and the end.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;
use serde_json::json;

use super::error::ErrorKind;
use crate::model::{CommandEvent, OutputStream, limits};

/// Content type of the stream.
pub const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// Room in a frame for all that is not the text: prelude, headers, JSON around it, checksum (about 150 bytes). [ours]
const ENVELOPE_BYTES: usize = 256;

/// A frame that could not be written: its payload is longer than the format can say.
#[derive(Debug, thiserror::Error)]
#[error("an event-stream frame could not be written: {0}")]
pub struct FrameError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl From<aws_smithy_eventstream::error::Error> for FrameError {
    fn from(error: aws_smithy_eventstream::error::Error) -> Self {
        Self(error.into())
    }
}

impl From<serde_json::Error> for FrameError {
    fn from(error: serde_json::Error) -> Self {
        Self(error.into())
    }
}

/// The frame of an event; of a delta whose JSON is longer than one event may be, several frames.
pub fn event(event: &CommandEvent) -> Result<Bytes, FrameError> {
    let mut buffer = Vec::new();
    let headers = [(":message-type", "event"), (":event-type", "chunk")];
    match event {
        CommandEvent::Start => {
            frame(&headers, json!({ "contentStart": {} }).to_string().into(), &mut buffer)?;
        }
        CommandEvent::Delta(stream, text) => {
            let member = match stream {
                OutputStream::Stdout => "stdout",
                OutputStream::Stderr => "stderr",
            };
            for piece in pieces(text) {
                frame(&headers, delta(member, piece)?, &mut buffer)?;
            }
        }
        CommandEvent::Stop { exit_code, status } => {
            let stop = json!({ "contentStop": { "exitCode": exit_code, "status": status.as_str() } });
            frame(&headers, stop.to_string().into(), &mut buffer)?;
        }
    }
    Ok(buffer.into())
}

/// `{"contentDelta":{member:text}}`, written without a copy of the text: most of what a session says goes through here.
fn delta(member: &str, text: &str) -> Result<Vec<u8>, FrameError> {
    let mut payload = Vec::with_capacity(text.len() + text.len() / 8 + ENVELOPE_BYTES);
    payload.extend_from_slice(b"{\"contentDelta\":{\"");
    payload.extend_from_slice(member.as_bytes());
    payload.extend_from_slice(b"\":");
    serde_json::to_writer(&mut payload, text)?;
    payload.extend_from_slice(b"}}");
    Ok(payload)
}

/// Cuts a text between characters so that each piece's frame stays within [`limits::MAX_COMMAND_CHUNK_BYTES`].
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    const MOST: usize = limits::MAX_COMMAND_CHUNK_BYTES - ENVELOPE_BYTES;
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut size = 0;
        let end = rest.bytes().position(|byte| {
            size += json_len(byte);
            size > MOST
        });
        let (piece, after) = rest.split_at(rest.floor_char_boundary(end.unwrap_or(rest.len())));
        rest = after;
        Some(piece)
    })
}

/// Bytes of a byte of text inside a JSON string. [RFC 8259 section 7, as serde_json writes it]
fn json_len(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..=0x1f => 6,
        _ => 1,
    }
}

/// The frame that ends a stream with an error. Kinds that the stream's model does not list become `internalServerException`.
pub fn exception(kind: ErrorKind, message: &str) -> Result<Bytes, FrameError> {
    let name = match kind {
        ErrorKind::AccessDenied => "accessDeniedException",
        ErrorKind::ResourceNotFound => "resourceNotFoundException",
        ErrorKind::ServiceQuotaExceeded => "serviceQuotaExceededException",
        ErrorKind::Throttling => "throttlingException",
        ErrorKind::Validation => "validationException",
        ErrorKind::RuntimeClient => "runtimeClientError",
        _ => "internalServerException",
    };
    let mut buffer = Vec::new();
    let headers = [(":message-type", "exception"), (":exception-type", name)];
    frame(&headers, json!({ "message": message }).to_string().into(), &mut buffer)?;
    Ok(buffer.into())
}

fn frame(
    headers: &[(&'static str, &'static str)],
    payload: Vec<u8>,
    buffer: &mut Vec<u8>,
) -> Result<(), FrameError> {
    buffer.reserve(payload.len() + ENVELOPE_BYTES);
    let mut message = Message::new(payload);
    for (name, value) in headers.iter().chain(&[(":content-type", "application/json")]) {
        message = message.add_header(Header::new(*name, HeaderValue::String((*value).into())));
    }
    write_message_to(&message, buffer)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CommandStatus;

    /// A decoder written from the format's description, sharing nothing with the encoder: prelude of two
    /// lengths and a CRC, headers, payload, CRC over all.
    fn decode(frame: &[u8]) -> (Vec<(String, String)>, serde_json::Value) {
        let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
        let (total, headers_len) = (word(0) as usize, word(4) as usize);
        assert_eq!(total, frame.len());
        assert_eq!(word(8), crc32(&frame[..8]));
        assert_eq!(word(total - 4), crc32(&frame[..total - 4]));
        let mut headers = Vec::new();
        let mut at = 12;
        while at < 12 + headers_len {
            let name_len = frame[at] as usize;
            let name = String::from_utf8(frame[at + 1..at + 1 + name_len].to_vec()).unwrap();
            at += 1 + name_len;
            assert_eq!(frame[at], 7, "a string header");
            let len = u16::from_be_bytes(frame[at + 1..at + 3].try_into().unwrap()) as usize;
            headers.push((name, String::from_utf8(frame[at + 3..at + 3 + len].to_vec()).unwrap()));
            at += 3 + len;
        }
        (headers, serde_json::from_slice(&frame[12 + headers_len..total - 4]).unwrap())
    }

    fn crc32(data: &[u8]) -> u32 {
        let mut crc = !0_u32;
        for byte in data {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
            }
        }
        !crc
    }

    #[test]
    fn each_event_is_one_frame_with_both_checksums() {
        let stop = CommandEvent::Stop { exit_code: -1, status: CommandStatus::TimedOut };
        let cases = [
            (CommandEvent::Start, json!({ "contentStart": {} })),
            (
                CommandEvent::Delta(OutputStream::Stdout, "a\u{0}\n\"é".into()),
                json!({ "contentDelta": { "stdout": "a\u{0}\n\"é" } }),
            ),
            (
                CommandEvent::Delta(OutputStream::Stderr, "e".into()),
                json!({ "contentDelta": { "stderr": "e" } }),
            ),
            (stop, json!({ "contentStop": { "exitCode": -1, "status": "TIMED_OUT" } })),
        ];
        for (value, payload) in cases {
            let (headers, decoded) = decode(&event(&value).unwrap());
            assert_eq!(decoded, payload);
            let expected =
                [(":message-type", "event"), (":event-type", "chunk"), (":content-type", "application/json")];
            assert_eq!(headers, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        }
    }

    #[test]
    fn an_error_in_mid_stream_is_an_exception_frame() {
        let (headers, payload) = decode(&exception(ErrorKind::RuntimeClient, "gone").unwrap());
        assert_eq!(headers[0], (":message-type".to_owned(), "exception".to_owned()));
        assert_eq!(headers[1], (":exception-type".to_owned(), "runtimeClientError".to_owned()));
        assert_eq!(payload, json!({ "message": "gone" }));
    }

    #[test]
    fn no_frame_is_longer_than_an_event_may_be_and_no_character_is_lost() {
        for unit in ["\u{1}", "\n", "x", "é", "€\u{0}\\"] {
            let text = unit.repeat(limits::MAX_COMMAND_CHUNK_BYTES / unit.len());
            let bytes = event(&CommandEvent::Delta(OutputStream::Stdout, text.clone())).unwrap();
            let (mut rest, mut whole) = (&bytes[..], String::new());
            while !rest.is_empty() {
                let len = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
                assert!(len <= limits::MAX_COMMAND_CHUNK_BYTES, "{unit:?}: {len}");
                whole += decode(&rest[..len]).1["contentDelta"]["stdout"].as_str().unwrap();
                rest = &rest[len..];
            }
            assert_eq!(whole, text);
        }
    }
}
