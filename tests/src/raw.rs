//! gRPC over bare HTTP/2 frames, for load that costs its client little: nothing
//! is decoded but what is counted.
//!
//! Knows frames and gRPC's prefix. One thread reads a connection.
//! Source: RFC 9113, RFC 7541 (literals without indexing only).

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use anyhow::{Context as _, Result, bail, ensure};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Received bytes after which the windows are opened again.
const REFILL: u32 = 1 << 24;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// One connection. Streams are numbered 1, 3, 5, ... in the order of their opening.
pub struct Connection {
    socket: TcpStream,
    authority: String,
    next: u32,
    received: Vec<u8>,
    /// Bytes taken from the windows and not given back.
    owed: u32,
    owed_streams: Vec<u32>,
}

/// What came on a stream.
pub enum Piece<'p> {
    Data(&'p [u8]),
    /// The stream has ended; `grpc-status` is not looked at.
    End,
}

impl Connection {
    /// # Errors
    /// The endpoint (`http://host:port` or `host:port`) cannot be reached.
    pub fn open(endpoint: &str) -> Result<Self> {
        let authority = endpoint.trim_start_matches("http://").to_owned();
        let socket =
            TcpStream::connect(&authority).with_context(|| format!("connect to {authority}"))?;
        socket.set_nodelay(true)?;
        let mut connection = Self {
            socket,
            authority,
            next: 1,
            received: Vec::with_capacity(1 << 18),
            owed: 0,
            owed_streams: Vec::new(),
        };
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut settings = vec![0, 4];
        settings.extend(LARGEST_WINDOW.to_be_bytes());
        frame(&mut hello, SETTINGS, 0, 0, &settings);
        frame(
            &mut hello,
            WINDOW_UPDATE,
            0,
            0,
            &(LARGEST_WINDOW - 65_535).to_be_bytes(),
        );
        connection.socket.write_all(&hello)?;
        Ok(connection)
    }

    /// Opens a stream for `path` with a first message; gives its number.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn call(&mut self, path: &str, message: &[u8], last: bool) -> Result<u32> {
        let stream = self.next;
        self.next += 2;
        let mut head = vec![0x83, 0x86, 0x04];
        literal(&mut head, path)?;
        head.push(0x01);
        literal(&mut head, &self.authority)?;
        for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
            head.push(0);
            literal(&mut head, name)?;
            literal(&mut head, value)?;
        }
        let mut out = Vec::with_capacity(head.len() + message.len() + 32);
        frame(&mut out, HEADERS, END_HEADERS, stream, &head);
        data(&mut out, stream, message, last)?;
        self.socket.write_all(&out)?;
        Ok(stream)
    }

    /// One more message on a stream.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, stream: u32, message: &[u8]) -> Result<()> {
        let mut out = Vec::with_capacity(message.len() + 16);
        data(&mut out, stream, message, false)?;
        self.socket.write_all(&out)?;
        Ok(())
    }

    /// A second handle of the connection's socket, to shut it down from elsewhere.
    ///
    /// # Errors
    /// There are too many open files.
    pub fn socket(&self) -> Result<TcpStream> {
        Ok(self.socket.try_clone()?)
    }

    /// Waits for more and hands over what came, stream by stream. False: the
    /// connection was closed.
    ///
    /// # Errors
    /// The server breaks the connection or the protocol, or nothing came in the
    /// socket's read timeout; nothing is lost then.
    pub fn receive(&mut self, mut take: impl FnMut(u32, Piece<'_>) -> Result<()>) -> Result<bool> {
        let kept = self.received.len();
        self.received.resize(kept + (1 << 17), 0);
        let count = self.socket.read(&mut self.received[kept..]);
        self.received
            .truncate(kept + count.as_ref().map_or(0, |count| *count));
        let count = match count {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            count => count?,
        };
        if count == 0 {
            return Ok(false);
        }
        let received = std::mem::take(&mut self.received);
        let mut rest = &received[..];
        while let Some((head, after)) = rest.split_first_chunk::<9>() {
            let length =
                usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let Some((payload, after)) = after.split_at_checked(length) else {
                break;
            };
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            self.frame(head[3], head[4], stream, payload, &mut take)?;
            rest = after;
        }
        let rest = rest.len();
        self.received = received;
        self.received.drain(..self.received.len() - rest);
        Ok(true)
    }

    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        take: &mut impl FnMut(u32, Piece<'_>) -> Result<()>,
    ) -> Result<()> {
        match kind {
            DATA => {
                take(stream, Piece::Data(payload))?;
                self.refill(stream, u32::try_from(payload.len())?)?;
            }
            SETTINGS if flags & ACK == 0 => self.answer(SETTINGS, ACK, &[])?,
            PING if flags & ACK == 0 => self.answer(PING, ACK, payload)?,
            RST_STREAM => take(stream, Piece::End)?,
            GOAWAY => bail!(
                "the server says goodbye: {}",
                String::from_utf8_lossy(payload)
            ),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            take(stream, Piece::End)?;
        }
        Ok(())
    }

    fn answer(&mut self, kind: u8, flags: u8, payload: &[u8]) -> Result<()> {
        let mut out = Vec::new();
        frame(&mut out, kind, flags, 0, payload);
        Ok(self.socket.write_all(&out)?)
    }

    fn refill(&mut self, stream: u32, bytes: u32) -> Result<()> {
        let place = usize::try_from(stream / 2)?;
        if self.owed_streams.len() <= place {
            self.owed_streams.resize(place + 1, 0);
        }
        self.owed += bytes;
        self.owed_streams[place] += bytes;
        let mut out = Vec::new();
        if self.owed >= REFILL {
            frame(&mut out, WINDOW_UPDATE, 0, 0, &self.owed.to_be_bytes());
            self.owed = 0;
        }
        if self.owed_streams[place] >= REFILL {
            frame(
                &mut out,
                WINDOW_UPDATE,
                0,
                stream,
                &self.owed_streams[place].to_be_bytes(),
            );
            self.owed_streams[place] = 0;
        }
        if !out.is_empty() {
            self.socket.write_all(&out)?;
        }
        Ok(())
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len())
        .expect("frames are small")
        .to_be_bytes();
    out.extend(&length[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

fn data(out: &mut Vec<u8>, stream: u32, message: &[u8], last: bool) -> Result<()> {
    let mut payload = vec![0];
    payload.extend(u32::try_from(message.len())?.to_be_bytes());
    payload.extend(message);
    ensure!(payload.len() <= 16_384, "a message of more than one frame");
    frame(
        out,
        DATA,
        if last { END_STREAM } else { 0 },
        stream,
        &payload,
    );
    Ok(())
}

fn literal(out: &mut Vec<u8>, text: &str) -> Result<()> {
    ensure!(text.len() < 127, "a long header");
    out.push(u8::try_from(text.len())?);
    out.extend(text.as_bytes());
    Ok(())
}

/// Puts the messages of one stream together.
#[derive(Default)]
pub struct Messages {
    partial: Vec<u8>,
}

impl Messages {
    /// Calls `each` with every message that is complete.
    pub fn take(&mut self, mut data: &[u8], mut each: impl FnMut(&[u8])) {
        while !data.is_empty() {
            if self.partial.is_empty()
                && let Some((message, after)) = complete(data)
            {
                each(message);
                data = after;
                continue;
            }
            let missing = match self.partial.first_chunk::<5>() {
                Some(prefix) => 5 + length(prefix) - self.partial.len(),
                None => 5 - self.partial.len(),
            };
            let (more, after) = data.split_at(missing.min(data.len()));
            self.partial.extend(more);
            data = after;
            if let Some((message, _)) = complete(&self.partial) {
                each(message);
                self.partial.clear();
            }
        }
    }
}

fn length(prefix: &[u8; 5]) -> usize {
    u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize
}

fn complete(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (prefix, rest) = data.split_first_chunk::<5>()?;
    rest.split_at_checked(length(prefix))
}

/// The number of fields `number` of a protobuf message, which is not decoded
/// further.
pub fn count_fields(mut message: &[u8], number: u64) -> usize {
    let mut count = 0;
    while let Some(tag) = varint(&mut message) {
        count += usize::from(tag >> 3 == number);
        let skip = match tag & 7 {
            0 => {
                if varint(&mut message).is_none() {
                    break;
                }
                0
            }
            1 => 8,
            2 => varint(&mut message)
                .and_then(|length| usize::try_from(length).ok())
                .unwrap_or(usize::MAX),
            5 => 4,
            _ => break,
        };
        match message.get(skip..) {
            Some(rest) => message = rest,
            None => break,
        }
    }
    count
}

/// The first field `number` of a message, if it is a number.
pub fn number_field(mut message: &[u8], number: u64) -> Option<u64> {
    while let Some(tag) = varint(&mut message) {
        let value = match tag & 7 {
            0 => Some(varint(&mut message)?),
            2 => {
                let skip = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(skip..)?;
                None
            }
            _ => return None,
        };
        if tag >> 3 == number {
            return value;
        }
    }
    None
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_together_however_they_were_cut() {
        let mut whole = Vec::new();
        for size in [0, 1, 7, 300] {
            whole.push(0);
            whole.extend(u32::try_from(size).expect("small").to_be_bytes());
            whole.extend(vec![9; size]);
        }
        for cut in 1..whole.len() {
            let mut messages = Messages::default();
            let mut sizes = Vec::new();
            for piece in whole.chunks(cut) {
                messages.take(piece, |message| sizes.push(message.len()));
            }
            assert_eq!(sizes, [0, 1, 7, 300], "pieces of {cut}");
        }
    }

    #[test]
    fn fields_are_counted_by_their_tags() {
        // Field 2 is a number, field 11 comes twice.
        let message = [0x0a, 2, 0x5a, 0x5a, 0x10, 0x85, 1, 0x5a, 1, 9, 0x5a, 0];
        assert_eq!(count_fields(&message, 11), 2);
        assert_eq!(number_field(&message, 2), Some(133));
        assert_eq!(number_field(&message, 3), None);
    }
}
