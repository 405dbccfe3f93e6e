//! Header blocks to be sent. They leave the receiver's table alone, so that the
//! bytes of a block are the same at every moment of every connection.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, StatusCode, header};

/// A whole header block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    bytes: Bytes,
}

const STATUS_200: u8 = 0x88;
const STATUS: usize = 8;

impl Block {
    /// The headers of a response.
    pub fn response(status: StatusCode, headers: &HeaderMap) -> Self {
        let mut out = BytesMut::with_capacity(64);
        if status == StatusCode::OK {
            out.put_u8(STATUS_200);
        } else {
            integer(&mut out, STATUS, 4);
            string(&mut out, status.as_str().as_bytes());
        }
        fields(&mut out, headers);
        Self {
            bytes: out.freeze(),
        }
    }

    /// The trailers of a response.
    pub fn trailers(headers: &HeaderMap) -> Self {
        let mut out = BytesMut::with_capacity(64);
        fields(&mut out, headers);
        Self {
            bytes: out.freeze(),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn fields(out: &mut BytesMut, headers: &HeaderMap) {
    for (name, value) in headers {
        // They belong to a connection of HTTP/1 (RFC 9113, 8.2.2).
        if [
            header::CONNECTION,
            header::TRANSFER_ENCODING,
            header::UPGRADE,
        ]
        .contains(name)
        {
            continue;
        }
        // Never to be put into a table: 0001 for what is sensitive, else 0000.
        let kind = if value.is_sensitive() { 0x10 } else { 0 };
        out.put_u8(kind);
        string(out, HeaderName::as_str(name).as_bytes());
        string(out, value.as_bytes());
    }
}

fn string(out: &mut BytesMut, text: &[u8]) {
    integer(out, text.len(), 7);
    out.put_slice(text);
}

/// RFC 7541, 5.1, with zeros before the prefix.
fn integer(out: &mut BytesMut, value: usize, prefix: u32) {
    let mask = (1 << prefix) - 1;
    if value < mask {
        return out.put_u8(value as u8);
    }
    out.put_u8(mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::{super::Decoder, *};

    #[test]
    fn what_is_sent_is_understood() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("connection", HeaderValue::from_static("close"));
        let long = "x".repeat(40_000);
        headers.insert("grpc-message", HeaderValue::from_str(&long).unwrap());
        for (status, text) in [(StatusCode::OK, "200"), (StatusCode::NOT_FOUND, "404")] {
            let block = Block::response(status, &headers);
            let mut seen = Vec::new();
            let mut decoder = Decoder::new();
            decoder
                .decode(block.bytes(), |field| seen.push((field.name, field.value)))
                .unwrap();
            let expected = [
                (":status", text),
                ("content-type", "application/grpc"),
                ("grpc-message", &long),
            ];
            assert_eq!(
                seen,
                expected.map(|(name, value)| (
                    Bytes::copy_from_slice(name.as_bytes()),
                    Bytes::copy_from_slice(value.as_bytes())
                ))
            );
            assert_eq!(decoder.changes(), 0);
        }
    }
}
