//! Messages for clients with gRPC's prefix. What is large in them is not copied:
//! threads that serve connections have no time for it.
//!
//! Knows bytes. Must not know messages.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::frame::PREFIX;
use crate::limits;

/// A message with its prefix, whole or in pieces.
#[derive(Debug, Default)]
pub struct Framed {
    pub first: Bytes,
    pub more: Vec<Bytes>,
}

impl Framed {
    /// Bytes of the message without its prefix.
    pub fn message_bytes(&self) -> usize {
        let bytes: usize = self.more.iter().map(Bytes::len).sum();
        (self.first.len() + bytes).saturating_sub(PREFIX)
    }

    /// The message without its prefix, in one piece.
    pub fn into_message(self) -> Bytes {
        let Self { mut first, more } = self;
        let prefix = PREFIX.min(first.len());
        if more.is_empty() {
            return first.split_off(prefix);
        }
        let bytes: usize = more.iter().map(Bytes::len).sum();
        let mut message = BytesMut::with_capacity(first.len() + bytes);
        message.put_slice(&first[prefix..]);
        more.iter().for_each(|piece| message.put_slice(piece));
        message.freeze()
    }

    /// Keeps `with` until the last piece has left.
    pub fn keep<T: Send + 'static>(&mut self, with: T) {
        let last = self.more.last_mut().unwrap_or(&mut self.first);
        let bytes = std::mem::take(last);
        *last = Bytes::from_owner(Kept { bytes, _with: with });
    }
}

struct Kept<T> {
    bytes: Bytes,
    _with: T,
}

impl<T> AsRef<[u8]> for Kept<T> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Of a message that is small.
impl From<Vec<u8>> for Framed {
    fn from(message: Vec<u8>) -> Self {
        let mut pieces = Pieces::framed(message.len());
        pieces.put_slice(&message);
        pieces.finish()
    }
}

/// What is written piece by piece.
pub struct Pieces {
    first: BytesMut,
    rest: Vec<Bytes>,
    /// Behind `rest`; nothing is in it as long as `rest` is empty.
    last: BytesMut,
    rest_bytes: usize,
}

impl Pieces {
    /// With room for so many bytes that are copied.
    pub fn new(bytes: usize) -> Self {
        Self {
            first: BytesMut::with_capacity(bytes),
            rest: Vec::new(),
            last: BytesMut::new(),
            rest_bytes: 0,
        }
    }

    /// The same, with a place for a prefix.
    pub fn framed(bytes: usize) -> Self {
        let mut pieces = Self::new(PREFIX + bytes);
        pieces.first.put_bytes(0, PREFIX);
        pieces
    }

    pub fn len(&self) -> usize {
        self.first.len() + self.rest_bytes + self.last.len()
    }

    /// Where small things go.
    pub fn end(&mut self) -> &mut BytesMut {
        match self.rest.is_empty() {
            true => &mut self.first,
            false => &mut self.last,
        }
    }

    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.end().put_slice(bytes);
    }

    pub fn put(&mut self, bytes: &Bytes) {
        if bytes.len() < limits::REPLY_PIECE_BYTES {
            return self.put_slice(bytes);
        }
        if !self.last.is_empty() {
            let last = std::mem::take(&mut self.last).freeze();
            self.push(last);
        }
        self.push(bytes.clone());
    }

    fn push(&mut self, piece: Bytes) {
        self.rest_bytes += piece.len();
        self.rest.push(piece);
    }

    pub fn append(&mut self, other: Self) {
        self.put_slice(&other.first);
        for piece in &other.rest {
            self.put(piece);
        }
        self.put_slice(&other.last);
    }

    /// The message, from [`Pieces::framed`].
    pub fn finish(mut self) -> Framed {
        let length = self.len() - PREFIX;
        // Replies are bounded far below 4 GiB; see limits::REPLY_BYTES.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.first[1..PREFIX].copy_from_slice(&length.to_be_bytes());
        if !self.last.is_empty() {
            self.rest.push(self.last.freeze());
        }
        Framed {
            first: self.first.freeze(),
            more: self.rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_message_in_one_piece_is_what_was_written() {
        for large in [1, limits::REPLY_PIECE_BYTES] {
            let mut pieces = Pieces::framed(8);
            pieces.put_slice(b"ab");
            pieces.put(&Bytes::from(vec![7; large]));
            pieces.put_slice(b"c");
            let mut expected = b"ab".to_vec();
            expected.resize(2 + large, 7);
            expected.push(b'c');
            assert!(pieces.finish().into_message() == expected, "{large}");
        }
    }

    fn joined(framed: &Framed) -> Vec<u8> {
        let more = framed.more.iter().flatten();
        framed.first.iter().chain(more).copied().collect()
    }

    #[test]
    fn what_is_large_is_not_copied_and_all_is_there() {
        let large = Bytes::from(vec![b'l'; limits::REPLY_PIECE_BYTES]);
        let mut inner = Pieces::new(0);
        inner.put_slice(b"in");
        inner.put(&large);
        inner.put_slice(b"ner");
        let mut pieces = Pieces::framed(0);
        pieces.put_slice(b"one");
        pieces.append(inner);
        pieces.put(&Bytes::from_static(b"small"));
        pieces.put(&large);
        let framed = pieces.finish();
        let expected = [b"onein", &large[..], b"nersmall", &large].concat();
        let length = u32::try_from(expected.len()).expect("small").to_be_bytes();
        assert_eq!(framed.message_bytes(), expected.len());
        assert_eq!(joined(&framed), [&[0], &length[..], &expected].concat());
        let shared = |piece: &Bytes| std::ptr::eq(piece.as_ptr(), large.as_ptr());
        assert_eq!(framed.more.iter().filter(|piece| shared(piece)).count(), 2);
    }

    #[test]
    fn what_is_kept_goes_with_the_last_byte() {
        let kept = Arc::new(());
        let mut framed = Framed::from(b"message".to_vec());
        framed.keep(kept.clone());
        let mut left = framed.first;
        drop(left.split_to(PREFIX + 6));
        assert_eq!(Arc::strong_count(&kept), 2);
        assert_eq!(&left[..], b"e");
        drop(left);
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}
