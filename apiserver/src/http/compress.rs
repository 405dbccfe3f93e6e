//! Compression of large answers. Knows bodies and one header; must not know
//! what they hold.

use std::{
    convert::Infallible,
    io::Write as _,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::header;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;

use super::respond::{self, Answer, Body, Length};
use crate::limits;

/// Whether a client takes gzip, as its `Accept-Encoding` says. Upstream heeds
/// no weights; a weight of zero is heeded here.
fn taken(accepted: &str) -> bool {
    accepted.split(',').any(|one| {
        let mut parts = one.split(';').map(str::trim);
        parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"))
            && !parts.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// Compresses an answer that is known to be large, for a client that takes it.
/// Watches have no length and stay as they are.
pub fn gzip(mut answer: Answer, accepted: &str) -> Answer {
    let length = match answer.extensions().get::<Length>() {
        Some(Length(length)) => Some(*length as u64),
        None => answer.body().size_hint().exact(),
    };
    if length.is_none_or(|length| length <= limits::GZIP_BYTES_MIN as u64) || !taken(accepted) {
        return answer;
    }
    respond::set(&mut answer, header::CONTENT_ENCODING, "gzip");
    answer
        .headers_mut()
        .append(header::VARY, header::ACCEPT_ENCODING.into());
    answer.map(|inner| {
        Gzip {
            inner,
            // Upstream's level: the fastest.
            encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())),
            rest: Bytes::new(),
        }
        .boxed_unsync()
    })
}

/// A body that leaves compressed, a chunk at a time.
struct Gzip {
    inner: Body,
    /// `None` once the end has left.
    encoder: Option<GzEncoder<Vec<u8>>>,
    /// What has been taken from `inner` and not been compressed yet.
    rest: Bytes,
}

impl http_body::Body for Gzip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        while let Some(encoder) = &mut this.encoder {
            if this.rest.is_empty() {
                match ready!(Pin::new(&mut this.inner).poll_frame(context)) {
                    Some(Ok(frame)) => this.rest = frame.into_data().unwrap_or_default(),
                    Some(Err(never)) => match never {},
                    None => {
                        let end = this.encoder.take().map(GzEncoder::finish);
                        // Writing to memory cannot fail.
                        let end = end.and_then(Result::ok).unwrap_or_default();
                        return Poll::Ready(Some(Ok(Frame::data(end.into()))));
                    }
                }
            }
            let part = this.rest.split_to(this.rest.len().min(limits::CHUNK_BYTES));
            if encoder.write_all(&part).is_err() {
                this.encoder = None;
            } else if !encoder.get_ref().is_empty() {
                let made = std::mem::take(encoder.get_mut());
                return Poll::Ready(Some(Ok(Frame::data(made.into()))));
            }
        }
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use http::StatusCode;

    use super::*;

    #[test]
    fn who_takes_gzip() {
        for (accepted, expected) in [
            ("gzip", true),
            ("deflate, gzip;q=1.0", true),
            ("GZIP", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(taken(accepted), expected, "{accepted}");
        }
    }

    #[tokio::test]
    async fn large_answers_are_compressed_and_small_ones_are_not() {
        let small = respond::bytes(StatusCode::OK, "text/plain", vec![b'a'; 1_000]);
        let small = gzip(small, "gzip");
        assert!(!small.headers().contains_key(header::CONTENT_ENCODING));

        let text: Vec<u8> = (0..2_000_000_u32).map(|at| (at % 251) as u8).collect();
        let plain = respond::bytes(StatusCode::OK, "text/plain", text.clone());
        let plain = gzip(plain, "identity");
        assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));

        let large = respond::bytes(StatusCode::OK, "text/plain", text.clone());
        let large = gzip(large, "gzip");
        assert_eq!(large.headers()[header::CONTENT_ENCODING], "gzip");
        let packed = large.into_body().collect().await.expect("a body");
        let packed = packed.to_bytes();
        assert!(packed.len() < text.len() / 10);
        let mut unpacked = Vec::new();
        GzDecoder::new(&packed[..])
            .read_to_end(&mut unpacked)
            .expect("gzip");
        assert_eq!(unpacked, text);
    }
}
