//! The response stream of InvokeAgentRuntimeCommand as AWS event-stream frames.
//!
//! One frame per event: `:message-type` `event`, `:event-type` `chunk`, and a payload with exactly one of
//! `contentStart`, `contentDelta`, `contentStop`. An error in mid-stream is one `exception` frame and the end.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;
use serde_json::json;

use super::error::ErrorKind;
use crate::model::{CommandEvent, OutputStream};

/// Content type of the stream.
pub const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// Largest payload of one frame, in bytes: far above what [`event`] makes (a delta of at most 64 KiB
/// grows sixfold when every byte is escaped) and below what decoders accept (16 MiB).
pub const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

/// A frame that could not be written: its payload is longer than the format can say.
#[derive(Debug, thiserror::Error)]
#[error("an event-stream frame could not be written: {0}")]
pub struct FrameError(#[from] aws_smithy_eventstream::error::Error);

/// The frame of an event.
pub fn event(event: &CommandEvent) -> Result<Bytes, FrameError> {
    let payload = match event {
        CommandEvent::Start => json!({ "contentStart": {} }),
        CommandEvent::Delta(OutputStream::Stdout, text) => json!({ "contentDelta": { "stdout": text } }),
        CommandEvent::Delta(OutputStream::Stderr, text) => json!({ "contentDelta": { "stderr": text } }),
        CommandEvent::Stop { exit_code, status } => {
            json!({ "contentStop": { "exitCode": exit_code, "status": status.as_str() } })
        }
    };
    frame(&[(":message-type", "event"), (":event-type", "chunk")], &payload)
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
    frame(&[(":message-type", "exception"), (":exception-type", name)], &json!({ "message": message }))
}

fn frame(headers: &[(&'static str, &'static str)], payload: &serde_json::Value) -> Result<Bytes, FrameError> {
    let payload = payload.to_string();
    let mut buffer = Vec::with_capacity(payload.len() + 128);
    let mut message = Message::new(payload);
    for (name, value) in headers.iter().chain(&[(":content-type", "application/json")]) {
        message = message.add_header(Header::new(*name, HeaderValue::String((*value).into())));
    }
    write_message_to(&message, &mut buffer)?;
    Ok(buffer.into())
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
    fn the_longest_delta_stays_below_the_frame_bound() {
        let text = "\u{1}".repeat(crate::model::limits::MAX_COMMAND_CHUNK_BYTES);
        let frame = event(&CommandEvent::Delta(OutputStream::Stdout, text)).unwrap();
        assert!(frame.len() < MAX_PAYLOAD_BYTES);
    }
}
