//! Frames: RFC 9113, sections 4 to 7. Knows their layout; must not know what a
//! connection does with them.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of what stands before every frame.
pub const HEAD: usize = 9;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest window there can be.
pub const MAX_WINDOW: i64 = (1 << 31) - 1;

pub const DEFAULT_WINDOW: i64 = 65_535;

pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

pub mod flag {
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Why a stream or a connection ends: RFC 9113, 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    SettingsTimeout = 4,
    StreamClosed = 5,
    FrameSize = 6,
    Refused = 7,
    Compression = 9,
    EnhanceYourCalm = 11,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl Head {
    /// The head of the frame that `input` begins with, once it is there.
    pub fn peek(input: &[u8]) -> Option<Self> {
        let mut head = &input.first_chunk::<HEAD>()?[..];
        Some(Self {
            length: head.get_uint(3) as usize,
            kind: head.get_u8(),
            flags: head.get_u8(),
            stream: head.get_u32() & 0x7fff_ffff,
        })
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn put(self, out: &mut BytesMut) {
        out.put_uint(self.length as u64, 3);
        out.put_u8(self.kind);
        out.put_u8(self.flags);
        out.put_u32(self.stream);
    }
}

/// The payload without its padding; `None`: there is more padding than payload.
pub fn without_padding(head: &Head, mut payload: Bytes) -> Option<Bytes> {
    if !head.has(flag::PADDED) {
        return Some(payload);
    }
    let padding = usize::from(payload.try_get_u8().ok()?);
    let length = payload.len().checked_sub(padding)?;
    payload.truncate(length);
    Some(payload)
}

/// The stream that a frame of priorities makes another depend on.
pub fn dependency(payload: &mut Bytes) -> Option<u32> {
    let on = payload.try_get_u32().ok()? & 0x7fff_ffff;
    payload.try_get_u8().ok()?;
    Some(on)
}

pub fn put_data(out: &mut BytesMut, stream: u32, data: &[u8], end: bool) {
    let head = Head {
        length: data.len(),
        kind: kind::DATA,
        flags: if end { flag::END_STREAM } else { 0 },
        stream,
    };
    out.reserve(HEAD + data.len());
    head.put(out);
    out.put_slice(data);
}

/// A header block, in as many frames as it takes.
pub fn put_headers(out: &mut BytesMut, stream: u32, block: &[u8], end: bool, frame_bytes: usize) {
    let (first, mut rest) = block.split_at(block.len().min(frame_bytes));
    let last = |rest: &[u8]| {
        if rest.is_empty() {
            flag::END_HEADERS
        } else {
            0
        }
    };
    let head = Head {
        length: first.len(),
        kind: kind::HEADERS,
        flags: last(rest) | if end { flag::END_STREAM } else { 0 },
        stream,
    };
    head.put(out);
    out.put_slice(first);
    while !rest.is_empty() {
        let (next, more) = rest.split_at(rest.len().min(frame_bytes));
        let head = Head {
            length: next.len(),
            kind: kind::CONTINUATION,
            flags: last(more),
            stream,
        };
        head.put(out);
        out.put_slice(next);
        rest = more;
    }
}

pub fn put_settings(out: &mut BytesMut, settings: &[(u16, u32)]) {
    put_small(out, kind::SETTINGS, 0, 0, 6 * settings.len());
    for (name, value) in settings {
        out.put_u16(*name);
        out.put_u32(*value);
    }
}

pub fn put_settings_ack(out: &mut BytesMut) {
    put_small(out, kind::SETTINGS, flag::ACK, 0, 0);
}

pub fn put_ping(out: &mut BytesMut, ack: bool, data: [u8; 8]) {
    put_small(out, kind::PING, if ack { flag::ACK } else { 0 }, 0, 8);
    out.put_slice(&data);
}

pub fn put_window_update(out: &mut BytesMut, stream: u32, more: u32) {
    put_small(out, kind::WINDOW_UPDATE, 0, stream, 4);
    out.put_u32(more);
}

pub fn put_reset(out: &mut BytesMut, stream: u32, code: Code) {
    put_small(out, kind::RST_STREAM, 0, stream, 4);
    out.put_u32(code as u32);
}

/// Streams beyond `last` are not served.
pub fn put_goaway(out: &mut BytesMut, last: u32, code: Code, reason: &str) {
    put_small(out, kind::GOAWAY, 0, 0, 8 + reason.len());
    out.put_u32(last);
    out.put_u32(code as u32);
    out.put_slice(reason.as_bytes());
}

fn put_small(out: &mut BytesMut, kind: u8, flags: u8, stream: u32, length: usize) {
    let head = Head {
        length,
        kind,
        flags,
        stream,
    };
    head.put(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_block_is_continued() {
        let mut out = BytesMut::new();
        put_headers(&mut out, 7, &[9; 25], true, 10);
        let mut seen = Vec::new();
        while let Some(head) = Head::peek(&out) {
            out.advance(HEAD + head.length);
            seen.push((head.kind, head.flags, head.length, head.stream));
        }
        let both = flag::END_STREAM;
        assert_eq!(
            seen,
            [
                (kind::HEADERS, both, 10, 7),
                (kind::CONTINUATION, 0, 10, 7),
                (kind::CONTINUATION, flag::END_HEADERS, 5, 7)
            ]
        );
    }

    #[test]
    fn padding_is_taken_off() {
        let head = Head {
            length: 0,
            kind: kind::DATA,
            flags: flag::PADDED,
            stream: 1,
        };
        let stripped = |payload: &'static [u8]| without_padding(&head, Bytes::from_static(payload));
        assert_eq!(stripped(b"\x02ab\0\0"), Some(Bytes::from_static(b"ab")));
        assert_eq!(stripped(b"\x02\0\0"), Some(Bytes::new()));
        assert_eq!(stripped(b"\x03ab"), None);
        assert_eq!(stripped(b""), None);
    }
}
