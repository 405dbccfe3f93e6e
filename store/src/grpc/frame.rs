//! gRPC's framing around requests and replies.
//! Source: gRPC over HTTP/2, "Requests" and "Responses".

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::{Body, Frame};
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::watch::WatchBody;

/// Compression flag and length.
pub const PREFIX: usize = 5;

/// The body of every response on a client connection.
pub enum Reply {
    /// One message, then the trailers of success.
    Unary(Option<Bytes>, bool),
    /// Messages as they come, then the trailers.
    Stream(mpsc::Receiver<Result<Bytes, Status>>, bool),
    /// What watches tell, until the stream ends.
    Watch(Box<WatchBody>, bool),
    Tonic(tonic::body::Body),
    Plain(Option<Bytes>),
}

fn success() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

fn failure(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    if status.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", HeaderValue::from_static("13"));
    }
    trailers
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match self.get_mut() {
            Reply::Unary(message, ended) => match message.take() {
                Some(message) => Some(Frame::data(message)),
                None if *ended => None,
                None => {
                    *ended = true;
                    Some(Frame::trailers(success()))
                }
            },
            Reply::Stream(_, true) => None,
            Reply::Stream(messages, ended) => match std::task::ready!(messages.poll_recv(cx)) {
                Some(Ok(message)) => Some(Frame::data(message)),
                Some(Err(status)) => {
                    *ended = true;
                    Some(Frame::trailers(failure(&status)))
                }
                None => {
                    *ended = true;
                    Some(Frame::trailers(success()))
                }
            },
            Reply::Watch(_, true) => None,
            Reply::Watch(body, ended) => match std::task::ready!(body.poll(cx)) {
                Ok(responses) => Some(Frame::data(responses)),
                Err(status) => {
                    *ended = true;
                    Some(Frame::trailers(failure(&status)))
                }
            },
            Reply::Tonic(body) => return Pin::new(body).poll_frame(cx),
            Reply::Plain(content) => content.take().map(Frame::data),
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Unary(_, ended) | Reply::Stream(_, ended) | Reply::Watch(_, ended) => *ended,
            Reply::Tonic(body) => body.is_end_stream(),
            Reply::Plain(content) => content.is_none(),
        }
    }
}

/// A message with its prefix.
pub fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    // Replies are bounded far below 4 GiB; see limits::REPLY_BYTES.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

fn response(body: Reply) -> Response<Reply> {
    let mut response = Response::new(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    response
}

pub fn unary(result: Result<Bytes, Status>) -> Response<Reply> {
    match result {
        Ok(message) => response(Reply::Unary(Some(framed(&message)), false)),
        Err(status) => refused(&status),
    }
}

pub fn stream(result: Result<mpsc::Receiver<Result<Bytes, Status>>, Status>) -> Response<Reply> {
    match result {
        Ok(messages) => response(Reply::Stream(messages, false)),
        Err(status) => refused(&status),
    }
}

pub fn watch(result: Result<WatchBody, Status>) -> Response<Reply> {
    match result {
        Ok(body) => response(Reply::Watch(Box::new(body), false)),
        Err(status) => refused(&status),
    }
}

/// A response of trailers only.
pub fn refused(status: &Status) -> Response<Reply> {
    let mut response = response(Reply::Plain(None));
    response.headers_mut().extend(failure(status));
    response
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

/// For services whose handlers cannot fail.
pub fn infallible<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}
