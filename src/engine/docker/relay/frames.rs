//! What the two ends of a relay send each other: frames on one stream of bytes.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::helper::proto::{MAX_MESSAGE_BYTES, MAX_MESSAGE_FDS};

/// Most of a stream in one frame. [ours: half of a pipe, so that reading and writing overlap]
pub(super) const CHUNK_BYTES: usize = 32 * 1024;
/// Largest frame: a message of the helper's, with what is written around it. [ours]
const MAX_FRAME_BYTES: usize = MAX_MESSAGE_BYTES + 1024;
/// Kind, channel, length.
const HEAD_BYTES: usize = 9;

/// A message of the helper's protocol on its way.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Parcel {
    /// A channel for each descriptor that would come along on one machine.
    pub(super) channels: Vec<u32>,
    /// The message itself.
    pub(super) message: Value,
}

/// One frame.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    /// The first one of the end in the container: which build it is.
    Hello(String),
    /// A message.
    Message(Parcel),
    /// Bytes of a channel.
    Data(u32, Bytes),
    /// No more bytes follow on it.
    End(u32),
    /// So many bytes more may be sent on it.
    Grant(u32, u32),
    /// Nobody reads what is sent on it any more.
    Gone(u32),
    /// Somebody in the container came to the emulator's listener; the connection is this channel.
    Opened(u32),
    /// The sender is there, whether it has something to say or not.
    Beat,
}

impl Frame {
    /// Writes it behind what is there.
    pub(super) fn put(&self, out: &mut BytesMut) -> io::Result<()> {
        let grant;
        let message;
        let (kind, channel, body): (u8, u32, &[u8]) = match self {
            Self::Hello(version) => (0, 0, version.as_bytes()),
            Self::Message(parcel) => {
                message = serde_json::to_vec(parcel)?;
                (1, 0, &message)
            }
            Self::Data(channel, bytes) => (2, *channel, bytes),
            Self::End(channel) => (3, *channel, &[]),
            Self::Grant(channel, bytes) => {
                grant = bytes.to_be_bytes();
                (4, *channel, &grant)
            }
            Self::Gone(channel) => (5, *channel, &[]),
            Self::Opened(channel) => (6, *channel, &[]),
            Self::Beat => (7, 0, &[]),
        };
        let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_FRAME_BYTES);
        let length = length.ok_or_else(|| wrong("a frame is too long"))?;
        out.reserve(HEAD_BYTES + body.len());
        out.put_u8(kind);
        out.put_u32(channel);
        out.put_u32(length);
        out.put_slice(body);
        Ok(())
    }

    /// The next one; nothing where the stream ends between two.
    pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let mut head = [0_u8; HEAD_BYTES];
        if from.read(&mut head[..1]).await? == 0 {
            return Ok(None);
        }
        from.read_exact(&mut head[1..]).await?;
        let [kind, c0, c1, c2, c3, l0, l1, l2, l3] = head;
        let channel = u32::from_be_bytes([c0, c1, c2, c3]);
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        let length = usize::try_from(length).ok().filter(|length| *length <= MAX_FRAME_BYTES);
        let mut body = BytesMut::zeroed(length.ok_or_else(|| wrong("a frame is too long"))?);
        from.read_exact(&mut body).await?;
        Self::of(kind, channel, body.freeze()).map(Some)
    }

    fn of(kind: u8, channel: u32, body: Bytes) -> io::Result<Self> {
        let empty = |frame: Self| if body.is_empty() { Ok(frame) } else { Err(wrong("a frame has a body")) };
        match kind {
            0 => Ok(Self::Hello(String::from_utf8_lossy(&body).into_owned())),
            1 => {
                let parcel: Parcel = serde_json::from_slice(&body)?;
                match parcel.channels.len() <= MAX_MESSAGE_FDS {
                    true => Ok(Self::Message(parcel)),
                    false => Err(wrong("a message has too many channels")),
                }
            }
            2 => Ok(Self::Data(channel, body)),
            3 => empty(Self::End(channel)),
            4 => {
                let bytes = <[u8; 4]>::try_from(&*body).map_err(|_| wrong("a grant is no number"))?;
                Ok(Self::Grant(channel, u32::from_be_bytes(bytes)))
            }
            5 => empty(Self::Gone(channel)),
            6 => empty(Self::Opened(channel)),
            7 => empty(Self::Beat),
            _ => Err(wrong("a frame is of no known kind")),
        }
    }
}

/// What the other end may not send.
pub(super) fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read_all(mut bytes: &[u8]) -> (Vec<Frame>, io::Result<()>) {
        let mut frames = Vec::new();
        loop {
            // What is in memory is read without waiting.
            match Frame::read(&mut bytes).now_or_never().unwrap() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return (frames, Ok(())),
                Err(e) => return (frames, Err(e)),
            }
        }
    }

    #[test]
    fn frames_are_read_as_they_were_written_and_a_torn_one_is_told() {
        let frames = [
            Frame::Hello("0.1.0".into()),
            Frame::Message(Parcel {
                channels: vec![2, 4],
                message: json!({ "kind": "spawn", "id": u64::MAX }),
            }),
            Frame::Data(7, Bytes::from_static(&[0, 255, 16, 17])),
            Frame::End(7),
            Frame::Grant(7, u32::MAX),
            Frame::Gone(u32::MAX),
            Frame::Beat,
            Frame::Opened(9),
        ];
        let mut written = BytesMut::new();
        frames.iter().for_each(|frame| frame.put(&mut written).unwrap());
        let (read, end) = read_all(&written);
        assert_eq!(read, frames);
        end.unwrap();
        let (read, end) = read_all(&written[..written.len() - 1]);
        assert_eq!(read, frames[..7]);
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_too_long_is_neither_written_nor_waited_for() {
        let long = Frame::Data(1, Bytes::from(vec![0; MAX_FRAME_BYTES + 1]));
        assert!(long.put(&mut BytesMut::new()).is_err());
        let (_, end) = read_all(&[2, 0, 0, 0, 1, 255, 255, 255, 255]);
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_refused(
            kind in 0_u8..9,
            body in proptest::collection::vec(any::<u8>(), 0..64),
            rest in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut bytes = vec![kind, 0, 0, 0, 1, 0, 0, 0, u8::try_from(body.len()).unwrap()];
            bytes.extend(&body);
            bytes.extend(&rest);
            let (frames, _) = read_all(&bytes);
            // What was read is written as it was.
            if let Some(Frame::Data(1, data)) = frames.first() {
                prop_assert_eq!(&data[..], &body[..]);
            }
        }
    }
}
