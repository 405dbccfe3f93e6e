//! What answers the requests of a connection.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::Body;

use crate::{Block, Head, Incoming};

/// A whole response.
pub struct Reply {
    pub headers: Block,
    pub data: Bytes,
    /// What follows it, where one piece would be a copy of much.
    pub more: Vec<Bytes>,
    pub trailers: Option<Block>,
}

/// Everything here runs on the connection's task: it may wait, and must not
/// block or compute for long.
pub trait Service: Send + 'static {
    type Body: Body<Data = Bytes, Error: fmt::Display> + Send + 'static;

    /// Whether a request is to be answered by [`Service::answer`], once its
    /// whole body of at most so many bytes is there.
    fn whole(&self, head: &Head) -> Option<usize>;

    /// `body` is cut short soon after the limit that [`Service::whole`] gave.
    fn answer(&self, head: Arc<Head>, body: Bytes) -> BoxFuture<'static, Reply>;

    /// The response, which is nothing but this block, to a request for which
    /// there is no memory.
    fn refuse(&self) -> Block;

    /// Every other request.
    fn call(&self, request: Request<Incoming>) -> BoxFuture<'static, Response<Self::Body>>;
}
