//! gRPC's framing of messages.
//! Source: gRPC over HTTP/2, "Requests".

use std::pin::Pin;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::{Body, Frame};
use mizzen_h2::Incoming;
use prost::Message;
use tonic::Status;

use super::calls::Count;

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

/// The one message of a unary request whose body, cut off where it exceeds
/// `limit`, is `body`.
pub fn message(mut body: Bytes, limit: usize) -> Result<Bytes, Status> {
    let Some(length) = announced(&body, limit)? else {
        return Err(Status::internal("the request has no message"));
    };
    body.advance(PREFIX);
    match body.len().cmp(&length) {
        std::cmp::Ordering::Equal => Ok(body),
        std::cmp::Ordering::Less => Err(Status::internal("the request's message is cut short")),
        std::cmp::Ordering::Greater => {
            Err(Status::internal("the request has more than one message"))
        }
    }
}

/// Where the requests of a call come from, each with its prefix.
pub enum Source {
    /// As they came over the connection.
    Wire(Incoming),
    /// Made of something else, by somebody who pays for what is kept.
    Made(Pin<Box<dyn Body<Data = Bytes, Error = Status> + Send>>),
}

impl Source {
    async fn read(&mut self) -> Option<Result<Frame<Bytes>, Status>> {
        std::future::poll_fn(|cx| match self {
            Source::Wire(body) => {
                let frame = Pin::new(body).poll_frame(cx);
                let cancelled = |error: mizzen_h2::Broken| Status::cancelled(error.to_string());
                frame.map(|frame| frame.map(|frame| frame.map_err(cancelled)))
            }
            Source::Made(body) => body.as_mut().poll_frame(cx),
        })
        .await
    }

    fn keep(&self, bytes: usize) -> bool {
        match self {
            Source::Wire(body) => body.keep(bytes),
            Source::Made(_) => true,
        }
    }
}

/// The messages of a stream of requests.
pub struct Messages {
    body: Source,
    /// The beginning of the next message, and perhaps more.
    held: BytesMut,
    /// Bytes of it that are paid for.
    paid: usize,
    limit: usize,
    count: Option<Count>,
}

impl Messages {
    /// Messages of at most `limit` bytes each.
    pub fn new(body: Source, limit: usize) -> Self {
        Self {
            body,
            held: BytesMut::new(),
            paid: 0,
            limit,
            count: None,
        }
    }

    /// Counts each message.
    pub fn counted(mut self, count: Count) -> Self {
        self.count = Some(count);
        self
    }

    /// The message of a request that has one.
    pub async fn only(mut self) -> Result<Bytes, Status> {
        let Some(message) = self.next().await? else {
            return Err(Status::internal("the request has no message"));
        };
        match self.next().await? {
            None => Ok(message),
            Some(_) => Err(Status::internal("the request has more than one message")),
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
                let message = self.held.split_to(length).freeze();
                self.pay()?;
                if let Some(count) = self.count {
                    count.received(length);
                }
                return Ok(Some(message));
            }
            self.pay()?;
            match self.body.read().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.held.extend_from_slice(&data);
                    }
                }
                Some(Err(status)) => return Err(status),
                None if self.held.is_empty() => return Ok(None),
                None => return Err(Status::internal("the request's message is cut short")),
            }
        }
    }
}

impl Messages {
    /// What is there of a message that is to come is paid for as long as it is
    /// kept.
    fn pay(&mut self) -> Result<(), Status> {
        match self.held.len() == self.paid || self.body.keep(self.held.len()) {
            true => {
                self.paid = self.held.len();
                Ok(())
            }
            false => Err(too_many()),
        }
    }
}

/// The messages of whole ones with their prefixes.
pub fn messages(mut framed: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let prefix: &[u8; PREFIX] = framed.first_chunk()?;
        let length = (&prefix[1..]).get_u32() as usize;
        let message = framed.get(PREFIX..PREFIX + length)?;
        framed = &framed[PREFIX + length..];
        Some(message)
    })
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
        return Err(too_large(length, limit));
    }
    Ok(Some(length))
}

/// As grpc-go refuses a message of more than `limit` bytes.
pub fn too_large(length: usize, limit: usize) -> Status {
    Status::resource_exhausted(format!(
        "grpc: received message larger than max ({length} vs. {limit})"
    ))
}

/// As etcd refuses what is too much at once (ErrTooManyRequests).
pub fn too_many() -> Status {
    Status::resource_exhausted("etcdserver: too many requests")
}
