//! The client port: gRPC calls of etcd's API.
//!
//! Knows wire types, status codes and limits. Must not know the engine's or
//! Raft's types. tonic's types end at this module: [`api::Api`] takes wire
//! bytes and a caller and gives wire bytes or a status.

mod alarm;
mod api;
mod auth;
pub(crate) mod auth_change;
mod backend;
mod calls;
mod cluster;
mod concurrency;
mod downgrade;
mod frame;
mod framed;
mod lease;
mod methods;
mod pages;
pub(crate) mod reply;
mod snapshot;
mod status;
mod translate;
mod watch;

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, Method, Request, Response, header};
use mizzen_engine::Engine;
use mizzen_h2::{Block, Head, Incoming, Service};
use tokio::sync::mpsc;
use tonic::Status;
use tower::Service as _;

pub use backend::{Backend, GATEWAY, HeldBytes};
pub use calls::{CODES, CallFigures, Calls};
pub use frame::{PREFIX, Source, framed, messages, too_large, too_many};
pub use pages::{NoPages, OnlyPages, Pages, RequestBody, page};
pub use reply::Reply;

use crate::{
    server::{Caller, Turns},
    workers,
};
use methods::{Handler, METHODS};

/// Anybody may ask whether the server serves.
const HEALTH: &str = "/grpc.health.v1.Health/";

/// Carries out a call that is answered by many messages. One that panics ends
/// with an error, not as if that had been all.
fn answering(
    messages: mpsc::Sender<Result<Bytes, Status>>,
    work: impl Future<Output = ()> + Send + 'static,
) {
    workers::detached(async move {
        if AssertUnwindSafe(work).catch_unwind().await.is_err() {
            // A client that went away wants no reason.
            let _ = messages
                .send(Err(Status::internal("the call panicked")))
                .await;
        }
    });
}

/// A gRPC service of tonic's, for calls that are not unary.
type Health = tonic_health::pb::health_server::HealthServer<tonic_health::server::HealthService>;

/// Who is at the other end of a connection.
#[derive(Clone, Debug, Default)]
pub struct Remote {
    /// Whether the connection uses TLS.
    pub secure: bool,
    /// Of its certificate, if clients are known by theirs.
    pub common_name: Option<Arc<str>>,
}

/// Everything a client connection may ask.
pub struct Front<E: Engine> {
    backend: Backend<E>,
    health: Health,
    pages: Arc<dyn Pages>,
    remote: Remote,
    /// Of the connection.
    turns: Turns,
}

impl<E: Engine> Clone for Front<E> {
    fn clone(&self) -> Self {
        Self {
            backend: self.backend.clone(),
            health: self.health.clone(),
            pages: self.pages.clone(),
            remote: self.remote.clone(),
            turns: self.turns.clone(),
        }
    }
}

impl<E: Engine> Front<E> {
    pub fn new(backend: Backend<E>, pages: Arc<dyn Pages>) -> Self {
        // The whole server is serving from its first answer to its last.
        let health = tonic_health::server::HealthService::from_health_reporter(
            tonic_health::server::HealthReporter::new(),
        );
        Self {
            backend,
            health: Health::new(health),
            pages,
            remote: Remote::default(),
            turns: Turns::default(),
        }
    }

    /// For one connection.
    pub fn of(&self, remote: &Remote) -> Self {
        Self {
            remote: remote.clone(),
            turns: Turns::default(),
            ..self.clone()
        }
    }

    fn caller(&self, headers: &HeaderMap) -> Caller {
        backend::caller(headers, self.remote.common_name.as_ref())
    }

    async fn answer(mut self, mut request: Request<Incoming>) -> Response<Reply> {
        if !is_grpc(request.headers()) {
            request.extensions_mut().insert(self.remote);
            return pages::page(&*self.pages, request).await;
        }
        if request.method() != Method::POST {
            return reply::refused(&Status::internal("gRPC requests are POST requests"));
        }
        if request.uri().path().starts_with(HEALTH) {
            return reply::infallible(self.health.call(request).await).map(Reply::Tonic);
        }
        let caller = self.caller(request.headers());
        let (head, body) = request.into_parts();
        let requests = Source::Wire(body);
        self.backend.stream(head.uri.path(), caller, requests).await
    }
}

impl<E: Engine> Service for Front<E> {
    type Body = Reply;

    fn whole(&self, head: &Head) -> Option<usize> {
        let unary = head.method == Method::POST && is_grpc(&head.headers) && is_unary(head.path());
        unary.then(|| self.backend.message_bytes())
    }

    fn answer(&self, head: Arc<Head>, body: Bytes) -> BoxFuture<'static, mizzen_h2::Reply> {
        let backend = self.backend.clone();
        let message = frame::message(body, backend.message_bytes());
        let caller = Caller {
            turn: self.turns.call(),
            ..self.caller(&head.headers)
        };
        Box::pin(async move {
            let result = backend.unary(head.path(), &caller, message).await;
            reply::unary(result.map(|mut reply| {
                // What was large is its connection's concern until it has left.
                if let Some(turn) = caller.turn.end() {
                    reply.keep(turn);
                }
                reply
            }))
        })
    }

    fn refuse(&self) -> Block {
        reply::no_memory()
    }

    fn call(&self, request: Request<Incoming>) -> BoxFuture<'static, Response<Reply>> {
        Box::pin(self.clone().answer(request))
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// As grpc-go refuses what is not registered: the texts clients of etcd see.
fn unknown(path: &str) -> Status {
    let is_service = |name| methods::is_service(name) || name == HEALTH.trim_matches('/');
    let call = path
        .strip_prefix('/')
        .and_then(|path| path.rsplit_once('/'));
    Status::unimplemented(match call {
        Some((service, method)) if is_service(service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
        None => format!("malformed method name: {path:?}"),
    })
}

/// Whether `path` is a method with one request and one reply.
fn is_unary(path: &str) -> bool {
    let number = methods::number_of(path);
    number.is_some_and(|number| matches!(METHODS[number].handler, Handler::Unary(_)))
}
