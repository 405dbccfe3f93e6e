//! Requests that are no calls: where they are handed over, and how what they get
//! becomes a response of the connection.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, header, request::Parts};
use mizzen_h2::{Block, Head, Incoming, Service};

use super::reply::{self, Reply};

/// Whoever answers requests that are no calls. Bodies of requests are not read.
pub trait Pages: Send + Sync + 'static {
    fn answer(&self, request: Parts) -> BoxFuture<'static, Response<Bytes>>;
}

/// The response to one such request, its length said.
pub async fn page(pages: &dyn Pages, request: Parts) -> Response<Reply> {
    let head_only = request.method == Method::HEAD;
    let mut response = pages.answer(request).await;
    let length = HeaderValue::from(response.body().len());
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, length);
    response.map(|content| Reply::Plain(Some(content).filter(|_| !head_only)))
}

/// A connection on which there are only pages.
#[derive(Clone)]
pub struct OnlyPages(pub Arc<dyn Pages>);

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

    fn call(&self, request: Request<Incoming>) -> BoxFuture<'static, Response<Reply>> {
        let pages = self.0.clone();
        let (request, _) = request.into_parts();
        Box::pin(async move { page(&*pages, request).await })
    }
}
