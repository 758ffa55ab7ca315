//! Frames of libvirt's RPC: a length word, a header of six words, a payload.

use std::io::{self, Read};

/// The remote program, `REMOTE_PROGRAM`: everything about domains.
pub const REMOTE_PROGRAM: u32 = 0x2000_8086;
/// The keepalive program: `PING` and `PONG`.
pub const KEEPALIVE_PROGRAM: u32 = 0x6b65_6570;
/// Bytes of the length word and the header.
pub const HEADER_LEN: usize = 28;
/// `VIR_NET_MESSAGE_MAX`: the longest frame, without its length word.
pub const MESSAGE_MAX: usize = 33_554_432;
/// The keepalive procedure `PING`.
pub const KEEPALIVE_PING: i32 = 1;
/// The keepalive procedure `PONG`.
pub const KEEPALIVE_PONG: i32 = 2;

/// `virNetMessageType`: what a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// A client's call.
    Call = 0,
    /// The answer to a call.
    Reply = 1,
    /// A message that was not requested: an event, or a keepalive.
    Message = 2,
}

impl MessageType {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Call => 0,
            Self::Reply => 1,
            Self::Message => 2,
        }
    }
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The program.
    pub program: u32,
    /// The program's version, 1.
    pub version: u32,
    /// The procedure.
    pub procedure: i32,
    /// What the frame is, as a [`MessageType`] number.
    pub message_type: u32,
    /// The serial number of the call.
    pub serial: u32,
    /// 0 for success, 1 for an error.
    pub status: u32,
}

impl Header {
    /// The header of a reply to a call with this header.
    #[must_use]
    pub fn reply(self, ok: bool) -> Self {
        Self { message_type: MessageType::Reply.number(), status: u32::from(!ok), ..self }
    }

    /// The header of a message that answers no call.
    #[must_use]
    pub fn message(program: u32, procedure: i32) -> Self {
        Self { program, version: 1, procedure, message_type: MessageType::Message.number(), serial: 0, status: 0 }
    }

    fn from_bytes(bytes: &[u8; HEADER_LEN - 4]) -> Self {
        let word = |index: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[index * 4..index * 4 + 4]);
            u32::from_be_bytes(word)
        };
        Self {
            program: word(0),
            version: word(1),
            procedure: word(2).cast_signed(),
            message_type: word(3),
            serial: word(4),
            status: word(5),
        }
    }

    /// A whole frame: this header, then the payload.
    #[must_use]
    pub fn frame(self, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(HEADER_LEN + payload.len());
        frame.resize(HEADER_LEN, 0);
        frame.extend_from_slice(payload);
        self.write_into(&mut frame);
        frame
    }

    /// Writes length word and header into the first [`HEADER_LEN`] bytes of a buffer that holds the payload behind them,
    /// so that a payload of many megabytes is not copied once more.
    pub fn write_into(self, frame: &mut [u8]) {
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let words = [
            len,
            self.program,
            self.version,
            self.procedure.cast_unsigned(),
            self.message_type,
            self.serial,
            self.status,
        ];
        for (place, word) in frame.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
    }
}

/// Reads one frame; `None` where the peer has closed the connection between two frames.
///
/// # Errors
///
/// When reading fails, the connection ends inside a frame, or the length word is impossible.
pub fn read_frame(from: &mut impl Read) -> io::Result<Option<(Header, Vec<u8>)>> {
    let mut len = [0; 4];
    if from.read(&mut len[..1])? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut len[1..])?;
    let len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
    if !(HEADER_LEN..=MESSAGE_MAX + 4).contains(&len) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {len} bytes")));
    }
    let mut header = [0; HEADER_LEN - 4];
    from.read_exact(&mut header)?;
    let mut payload = vec![0; len - HEADER_LEN];
    from.read_exact(&mut payload)?;
    Ok(Some((Header::from_bytes(&header), payload)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Header, REMOTE_PROGRAM, read_frame};

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let header = Header::message(REMOTE_PROGRAM, 318);
        let frame = header.frame(b"payload!");
        assert_eq!(frame.len(), 36);
        let mut bytes = frame.as_slice();
        let (read, payload) = read_frame(&mut bytes).unwrap().unwrap();
        assert_eq!((read, payload.as_slice()), (header, &b"payload!"[..]));
        assert!(read_frame(&mut bytes).unwrap().is_none());
    }

    #[test]
    fn a_frame_that_ends_early_or_is_too_long_is_an_error() {
        let frame = Header::message(REMOTE_PROGRAM, 318).frame(b"payload!");
        assert!(read_frame(&mut &frame[..30]).is_err());
        assert!(read_frame(&mut &[0xff, 0xff, 0xff, 0xff][..]).is_err());
        assert!(read_frame(&mut &[0, 0, 0, 27][..]).is_err());
    }
}
