//! Requests that are no calls: where they are handed over, and how what they get
//! becomes a response of the connection.

use std::{
    borrow::Cow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use mizzen_h2::{Block, Head, Incoming, Service};
use tonic::Status;

use super::{
    Remote,
    reply::{self, Reply},
};

/// The body of a request, read as it comes.
pub type RequestBody = Pin<Box<dyn Body<Data = Bytes, Error = Status> + Send>>;

/// Whoever answers requests that are no calls. Each has a
/// [`Remote`](super::Remote) among its extensions.
pub trait Pages: Send + Sync + 'static {
    fn answer(&self, request: Request<RequestBody>) -> BoxFuture<'static, Response<Reply>>;
}

/// A body, whatever goes wrong with it.
struct Any<B>(Pin<Box<B>>);

impl<B: Body<Data = Bytes, Error: std::fmt::Display>> Body for Any<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = self.0.as_mut().poll_frame(cx);
        let cancelled = |error: B::Error| Status::cancelled(error.to_string());
        frame.map(|frame| frame.map(|frame| frame.map_err(cancelled)))
    }
}

/// The response to one such request, its length said if it is known.
pub async fn page<B>(pages: &dyn Pages, request: Request<B>) -> Response<Reply>
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Send + 'static,
{
    let head_only = request.method() == Method::HEAD;
    let request = request.map(|body| Box::pin(Any(Box::pin(body))) as RequestBody);
    let mut response = pages.answer(request).await;
    if let Some(length) = response.body().size_hint().exact() {
        let length = HeaderValue::from(length);
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
    }
    match head_only {
        true => response.map(|_| Reply::Plain(None)),
        false => response,
    }
}

/// A connection on which there are only pages.
#[derive(Clone)]
pub struct OnlyPages {
    pages: Arc<dyn Pages>,
    remote: Remote,
}

impl OnlyPages {
    pub fn of(pages: Arc<dyn Pages>, remote: Remote) -> Self {
        Self { pages, remote }
    }
}

/// A port for gRPC alone: whatever else is asked is told so.
pub struct NoPages;

impl Pages for NoPages {
    fn answer(&self, request: Request<RequestBody>) -> BoxFuture<'static, Response<Reply>> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.map_or(Cow::default(), |kind| {
            String::from_utf8_lossy(kind.as_bytes())
        });
        let text = format!("invalid gRPC request content-type {kind:?}\n");
        Box::pin(async move {
            let mut response = Response::new(Reply::whole(text.into()));
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            response
        })
    }
}

impl Service for OnlyPages {
    type Body = Reply;

    fn whole(&self, _: &Head) -> Option<usize> {
        None
    }

    fn answer(&self, _: Arc<Head>, _: Bytes) -> BoxFuture<'static, mizzen_h2::Reply> {
        unreachable!("no request is wanted whole")
    }

    fn refuse(&self) -> Block {
        reply::no_memory()
    }

    fn call(&self, mut request: Request<Incoming>) -> BoxFuture<'static, Response<Reply>> {
        let pages = self.pages.clone();
        request.extensions_mut().insert(self.remote.clone());
        Box::pin(async move { page(&*pages, request).await })
    }
}
