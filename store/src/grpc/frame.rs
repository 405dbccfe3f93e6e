//! gRPC's framing of messages.
//! Source: gRPC over HTTP/2, "Requests".

use std::pin::Pin;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::Body;
use prost::Message;
use tonic::{Code, Status};

/// Compression flag and length.
pub const PREFIX: usize = 5;

/// A message with its prefix.
pub fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    // Replies are bounded far below 4 GiB; see limits::REPLY_BYTES.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

pub fn decode<T: Message + Default>(body: Bytes) -> Result<T, Status> {
    T::decode(body)
        .map_err(|error| Status::internal(format!("grpc: error unmarshalling request: {error}")))
}

/// Reads the one message of a unary request of at most `limit` bytes.
pub async fn message<B>(mut body: B, limit: usize) -> Result<Bytes, Status>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut collected = BytesMut::new();
    let mut first: Option<Bytes> = None;
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| Status::cancelled(error.to_string()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        match first.take() {
            // Nearly every request comes in one frame: it is not copied.
            None if collected.is_empty() => first = Some(data),
            earlier => {
                collected.extend_from_slice(&earlier.unwrap_or_default());
                collected.extend_from_slice(&data);
            }
        }
        let so_far = first.as_deref().unwrap_or(&collected);
        check_prefix(so_far, limit)?;
    }
    let mut whole = match first {
        Some(first) => first,
        None => collected.freeze(),
    };
    check_prefix(&whole, limit)?;
    if whole.len() < PREFIX {
        return Err(Status::internal("the request has no message"));
    }
    let length = (&whole[1..PREFIX]).get_u32() as usize;
    whole.advance(PREFIX);
    match whole.len().cmp(&length) {
        std::cmp::Ordering::Equal => Ok(whole),
        std::cmp::Ordering::Less => Err(Status::internal("the request's message is cut short")),
        std::cmp::Ordering::Greater => {
            Err(Status::internal("the request has more than one message"))
        }
    }
}

/// The messages of a stream of requests.
pub struct Messages<B> {
    body: B,
    /// The beginning of the next message, and perhaps more.
    held: BytesMut,
    limit: usize,
}

impl<B> Messages<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    /// Messages of at most `limit` bytes each.
    pub fn new(body: B, limit: usize) -> Self {
        Self {
            body,
            held: BytesMut::new(),
            limit,
        }
    }

    /// The next message; `None` after the last. Nothing is lost if the future
    /// is dropped.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(length) = announced(&self.held, self.limit)?
                && self.held.len() >= PREFIX + length
            {
                self.held.advance(PREFIX);
                return Ok(Some(self.held.split_to(length).freeze()));
            }
            let frame = std::future::poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await;
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.held.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(Status::cancelled(error.to_string())),
                None if self.held.is_empty() => return Ok(None),
                None => return Err(Status::internal("the request's message is cut short")),
            }
        }
    }
}

/// As soon as a message announces what cannot be taken, nothing more is read.
fn check_prefix(so_far: &[u8], limit: usize) -> Result<(), Status> {
    match announced(so_far, limit)? {
        Some(length) if so_far.len() > PREFIX + length => {
            Err(Status::internal("the request has more than one message"))
        }
        _ => Ok(()),
    }
}

/// The length that a message's prefix announces, once the prefix is there.
fn announced(so_far: &[u8], limit: usize) -> Result<Option<usize>, Status> {
    let Some(prefix) = so_far.first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    if prefix[0] != 0 {
        return Err(Status::unimplemented(
            "grpc: Decompressor is not installed for grpc-encoding",
        ));
    }
    let length = (&prefix[1..]).get_u32() as usize;
    if length > limit {
        let message = format!("grpc: received message larger than max ({length} vs. {limit})");
        return Err(Status::new(Code::ResourceExhausted, message));
    }
    Ok(Some(length))
}
