//! What a request begins with, decoded once for all equal header blocks.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use crate::{
    hpack::{Decoder, Malformed},
    limits,
};

/// The beginning of a request.
#[derive(Clone, Debug)]
pub struct Head {
    pub method: Method,
    /// Path and query only.
    pub uri: Uri,
    pub headers: HeaderMap,
    /// What was announced, if it was.
    pub(crate) content_length: Option<u64>,
    /// Of all headers, each counted with 32 bytes more.
    pub(crate) size: usize,
}

impl Head {
    pub fn path(&self) -> &str {
        self.uri.path()
    }
}

/// What a header block turned out to be.
pub enum Decoded {
    Head(Arc<Head>),
    /// Not a request (RFC 9113, 8.1.1).
    Malformed,
    TooLarge,
}

/// Decodes the header blocks of one connection.
pub struct Heads {
    decoder: Decoder,
    remembered: Vec<(Bytes, Arc<Head>)>,
    /// [`Decoder::changes`] that the remembered blocks belong to.
    changes: u64,
}

impl Heads {
    pub fn new() -> Self {
        Self {
            decoder: Decoder::new(),
            remembered: Vec::new(),
            changes: 0,
        }
    }

    pub fn request(&mut self, block: &[u8]) -> Result<Decoded, Malformed> {
        if let Some((_, head)) = self.remembered.iter().find(|(known, _)| known == block) {
            return Ok(Decoded::Head(head.clone()));
        }
        let mut building = Building::default();
        self.decoder
            .decode(block, |field| building.field(&field.name, field.value))?;
        let decoded = building.finish();
        if self.decoder.changes() != self.changes {
            // This block may mean something else the next time.
            self.changes = self.decoder.changes();
            self.remembered.clear();
        } else if let Decoded::Head(head) = &decoded
            && head.size <= limits::REMEMBERED_BYTES
            && block.len() <= limits::REMEMBERED_BYTES
        {
            if self.remembered.len() == limits::REMEMBERED_BLOCKS {
                self.remembered.remove(0);
            }
            let block = Bytes::copy_from_slice(block);
            self.remembered.push((block, head.clone()));
        }
        Ok(decoded)
    }

    /// Trailers: nobody here wants them, but the table does. False: they
    /// are malformed.
    pub fn trailers(&mut self, block: &[u8]) -> Result<bool, Malformed> {
        let mut good = true;
        self.decoder
            .decode(block, |field| good &= !field.name.starts_with(b":"))?;
        if self.decoder.changes() != self.changes {
            self.changes = self.decoder.changes();
            self.remembered.clear();
        }
        Ok(good)
    }
}

#[derive(Default)]
struct Building {
    method: Option<Method>,
    uri: Option<Uri>,
    scheme: bool,
    authority: Option<HeaderValue>,
    headers: HeaderMap,
    content_length: Option<u64>,
    size: usize,
    malformed: bool,
}

impl Building {
    fn field(&mut self, name: &[u8], value: Bytes) {
        self.size += name.len() + value.len() + 32;
        if self.size <= limits::HEADER_LIST_BYTES && !self.malformed {
            self.malformed = self.take(name, value).is_none();
        }
    }

    /// `None`: not to be taken.
    fn take(&mut self, name: &[u8], value: Bytes) -> Option<()> {
        let Some(pseudo) = name.strip_prefix(b":") else {
            return self.header(name, value);
        };
        // They come before all others, once each.
        let first = self.headers.is_empty()
            && match pseudo {
                b"method" => self
                    .method
                    .replace(Method::from_bytes(&value).ok()?)
                    .is_none(),
                b"path" => self.uri.replace(uri(value)?).is_none(),
                b"scheme" => !std::mem::replace(&mut self.scheme, true),
                b"authority" => {
                    let value = HeaderValue::from_maybe_shared(value).ok()?;
                    self.authority.replace(value).is_none()
                }
                _ => false,
            };
        first.then_some(())
    }

    fn header(&mut self, name: &[u8], value: Bytes) -> Option<()> {
        let name = HeaderName::from_lowercase(name).ok()?;
        let of_a_connection = [
            header::CONNECTION,
            header::TRANSFER_ENCODING,
            header::UPGRADE,
        ];
        if of_a_connection.contains(&name)
            || matches!(name.as_str(), "keep-alive" | "proxy-connection")
            || name == header::TE && value != "trailers"
        {
            return None;
        }
        if name == header::CONTENT_LENGTH {
            let length = std::str::from_utf8(&value).ok()?.parse().ok()?;
            if self
                .content_length
                .replace(length)
                .is_some_and(|before| before != length)
            {
                return None;
            }
        }
        let value = HeaderValue::from_maybe_shared(value).ok()?;
        self.headers.try_append(name, value).ok()?;
        Some(())
    }

    fn finish(mut self) -> Decoded {
        if self.size > limits::HEADER_LIST_BYTES {
            return Decoded::TooLarge;
        }
        let (Some(method), Some(uri), true, false) =
            (self.method, self.uri, self.scheme, self.malformed)
        else {
            return Decoded::Malformed;
        };
        if let Some(authority) = self.authority
            && !self.headers.contains_key(header::HOST)
            && self.headers.try_insert(header::HOST, authority).is_err()
        {
            return Decoded::TooLarge;
        }
        Decoded::Head(Arc::new(Head {
            method,
            uri,
            headers: self.headers,
            content_length: self.content_length,
            size: self.size,
        }))
    }
}

fn uri(path: Bytes) -> Option<Uri> {
    if !path.starts_with(b"/") {
        return None;
    }
    Uri::from_maybe_shared(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend_from_slice(text.as_bytes());
            }
        }
        block
    }

    const GOOD: [(&str, &str); 4] = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/a.B/C"),
        (":authority", "here"),
    ];

    #[test]
    fn equal_blocks_are_decoded_once() {
        let mut heads = Heads::new();
        let block = block(&GOOD);
        let mut decoded = || match heads.request(&block).unwrap() {
            Decoded::Head(head) => head,
            Decoded::Malformed | Decoded::TooLarge => panic!("it is well formed"),
        };
        let (first, second) = (decoded(), decoded());
        assert_eq!(first.path(), "/a.B/C");
        assert_eq!(first.headers[header::HOST], "here");
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn a_block_that_changes_the_table_is_decoded_each_time() {
        let mut heads = Heads::new();
        let mut first = block(&GOOD);
        // Into the table: "a: 1"; then the newest entry.
        first.extend_from_slice(b"\x40\x01a\x011");
        let mut newest = block(&GOOD);
        newest.push(0xbe);
        let mut value = |block: &[u8]| match heads.request(block).unwrap() {
            Decoded::Head(head) => head.headers["a"].clone(),
            Decoded::Malformed | Decoded::TooLarge => panic!("it is well formed"),
        };
        assert_eq!(value(&first), "1");
        assert_eq!(value(&newest), "1");
        let mut second = block(&GOOD);
        second.extend_from_slice(b"\x40\x01a\x012");
        assert_eq!(value(&second), "2");
        assert_eq!(value(&newest), "2");
    }

    #[test]
    fn malformed_requests_are_told_apart() {
        let malformed = |fields: &[&[(&str, &str)]]| {
            let decoded = Heads::new().request(&block(&fields.concat())).unwrap();
            matches!(decoded, Decoded::Malformed)
        };
        assert!(!malformed(&[&GOOD]));
        assert!(!malformed(&[&GOOD, &[("te", "trailers"), ("a", "b")]]));
        for missing in &GOOD[..3] {
            let fields: Vec<_> = GOOD.into_iter().filter(|field| field != missing).collect();
            assert!(malformed(&[&fields]), "without {missing:?}");
        }
        for bad in [
            (":method", "POST"),
            (":status", "200"),
            ("Upper", "case"),
            ("connection", "close"),
            ("te", "gzip"),
            ("content-length", "x"),
            ("a", "b\n"),
        ] {
            assert!(malformed(&[&GOOD, &[bad]]), "{bad:?}");
        }
        assert!(malformed(&[&GOOD[..3], &[("a", "b")], &GOOD[3..]]));
        let long = "x".repeat(100);
        let many: Vec<_> = (0..400).map(|_| ("a", &long[..])).collect();
        let decoded = Heads::new().request(&block(&many)).unwrap();
        assert!(matches!(decoded, Decoded::TooLarge));
    }
}
