//! Replies as bodies of HTTP responses, with gRPC's trailers.
//! Source: gRPC over HTTP/2, "Responses".

use std::{
    convert::Infallible,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use mizzen_h2::Block;
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::{
    calls::Call,
    frame::{messages, too_many},
    framed::Framed,
    watch::WatchBody,
};

/// The body of a response that is not whole from the beginning.
pub enum Reply {
    /// Messages as they come, then the trailers.
    Stream(mpsc::Receiver<Result<Bytes, Status>>, bool),
    /// What watches tell, until the stream ends.
    Watch(Box<WatchBody>, bool),
    Tonic(tonic::body::Body),
    Plain(Option<Bytes>),
    /// Of a page that is not whole from the beginning.
    Page(Pin<Box<dyn Body<Data = Bytes, Error = Status> + Send>>),
    /// Of a call that is counted.
    Counted(Box<Reply>, Call),
}

impl Reply {
    /// A page that is there already.
    pub fn whole(content: Bytes) -> Self {
        Self::Plain(Some(content))
    }

    /// A page that comes as it is read.
    pub fn page(body: impl Body<Data = Bytes, Error = Status> + Send + 'static) -> Self {
        Self::Page(Box::pin(body))
    }
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
            Reply::Page(body) => return body.as_mut().poll_frame(cx),
            Reply::Counted(reply, call) => {
                let frame = std::task::ready!(Pin::new(reply.as_mut()).poll_frame(cx));
                if let Some(Ok(frame)) = &frame {
                    count(call, frame);
                }
                return Poll::Ready(frame);
            }
        };
        Poll::Ready(frame.map(Ok))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Plain(Some(content)) => SizeHint::with_exact(content.len() as u64),
            Reply::Plain(None) => SizeHint::with_exact(0),
            Reply::Counted(reply, _) => reply.size_hint(),
            Reply::Page(body) => body.size_hint(),
            Reply::Stream(..) | Reply::Watch(..) | Reply::Tonic(_) => SizeHint::default(),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Stream(_, ended) | Reply::Watch(_, ended) => *ended,
            Reply::Tonic(body) => body.is_end_stream(),
            Reply::Plain(content) => content.is_none(),
            Reply::Page(body) => body.is_end_stream(),
            Reply::Counted(reply, _) => reply.is_end_stream(),
        }
    }
}

/// Whole messages, or how the call ended.
fn count(call: &mut Call, frame: &Frame<Bytes>) {
    if let Some(framed) = frame.data_ref() {
        let (count, bytes) = messages(framed).fold((0, 0), |(count, bytes), message| {
            (count + 1, bytes + message.len())
        });
        call.sent(count, bytes);
    } else if let Some(trailers) = frame.trailers_ref() {
        call.end(code(trailers));
    }
}

fn code(headers: &HeaderMap) -> Code {
    let status = headers.get("grpc-status");
    status.map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()))
}

/// The response to a call, counted from here to its end.
pub fn counted(response: Response<Reply>, mut call: Call) -> Response<Reply> {
    if response.headers().contains_key("grpc-status") {
        call.end(code(response.headers()));
        return response;
    }
    response.map(|reply| Reply::Counted(Box::new(reply), call))
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers
}

fn response(body: Reply) -> Response<Reply> {
    let mut response = Response::new(body);
    *response.headers_mut() = headers();
    response
}

static HEADERS: LazyLock<Block> = LazyLock::new(|| Block::response(StatusCode::OK, &headers()));
static SUCCESS: LazyLock<Block> = LazyLock::new(|| Block::trailers(&success()));

/// The whole response to a unary call.
pub fn unary(result: Result<Framed, Status>) -> mizzen_h2::Reply {
    match result {
        Ok(message) => mizzen_h2::Reply {
            headers: HEADERS.clone(),
            data: message.first,
            more: message.more,
            trailers: Some(SUCCESS.clone()),
        },
        Err(status) => mizzen_h2::Reply {
            headers: trailers_only(&status),
            data: Bytes::new(),
            more: Vec::new(),
            trailers: None,
        },
    }
}

fn trailers_only(status: &Status) -> Block {
    let mut headers = headers();
    headers.extend(failure(status));
    Block::response(StatusCode::OK, &headers)
}

static NO_MEMORY: LazyLock<Block> = LazyLock::new(|| trailers_only(&too_many()));

/// The whole response to a call for which there is no memory.
pub fn no_memory() -> Block {
    NO_MEMORY.clone()
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

/// For services whose handlers cannot fail.
pub fn infallible<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}
