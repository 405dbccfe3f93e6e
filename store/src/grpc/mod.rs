//! The client port: gRPC calls of etcd's API.
//!
//! Knows wire types, status codes and limits. Must not know the engine's or
//! Raft's types. tonic's types end at this module: [`api::Api`] takes wire
//! bytes and a caller and gives wire bytes or a status.

mod alarm;
mod api;
mod auth;
mod auth_change;
mod calls;
mod cluster;
mod concurrency;
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

use std::{
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, Method, Request, Response, header};
use http_body::Body as _;
use mizzen_engine::Engine;
use mizzen_h2::{Block, Head, Incoming, Service};
use tokio::sync::mpsc;
use tonic::Status;
use tower::Service as _;

pub use calls::{CODES, CallFigures, Calls};
pub use pages::{OnlyPages, Pages, page};

use crate::{
    auth::{CallCredentials, Secret},
    limits,
    server::{Caller, Server, Turn, Turns},
    workers,
};
use api::Api;
use calls::{Call, Count};
use frame::Messages;
use methods::{Handler, Streaming, Unary};
use reply::Reply;

/// Anybody may ask whether the server serves.
const HEALTH: &str = "/grpc.health.v1.Health/";

/// What gateways from HTTP add to every call.
const GATEWAY: &str = "grpcgateway-accept";

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

/// Everything a client connection may ask.
pub struct Front<E: Engine> {
    api: Api<E>,
    health: Health,
    pages: Arc<dyn Pages>,
    calls: &'static Calls,
    request_bytes: usize,
    progress_interval: Duration,
    /// Of the connection's certificate.
    common_name: Option<Arc<str>>,
    /// Of the connection.
    turns: Turns,
}

impl<E: Engine> Clone for Front<E> {
    fn clone(&self) -> Self {
        Self {
            api: self.api.clone(),
            health: self.health.clone(),
            pages: self.pages.clone(),
            calls: self.calls,
            request_bytes: self.request_bytes,
            progress_interval: self.progress_interval,
            common_name: self.common_name.clone(),
            turns: self.turns.clone(),
        }
    }
}

impl<E: Engine> Front<E> {
    /// `progress_interval` is how often idle watches are told that they miss
    /// nothing, if they asked for it.
    pub fn new(
        server: Arc<Server<E>>,
        pages: Arc<dyn Pages>,
        calls: &'static Calls,
        request_bytes: usize,
        progress_interval: Duration,
    ) -> Self {
        // The whole server is serving from its first answer to its last.
        let health = tonic_health::server::HealthService::from_health_reporter(
            tonic_health::server::HealthReporter::new(),
        );
        Self {
            api: Api::new(server),
            health: Health::new(health),
            pages,
            calls,
            request_bytes,
            progress_interval,
            common_name: None,
            turns: Turns::default(),
        }
    }

    /// For one connection, whose certificate has this common name.
    pub fn of(&self, common_name: Option<Arc<str>>) -> Self {
        Self {
            common_name,
            turns: Turns::default(),
            ..self.clone()
        }
    }

    /// What a call's metadata and its connection say of the caller.
    fn caller(&self, headers: &HeaderMap) -> Caller {
        let token = headers
            .get("token")
            .or_else(|| headers.get(header::AUTHORIZATION));
        Caller {
            require_leader: headers
                .get("hasleader")
                .is_some_and(|value| value == "true"),
            credentials: CallCredentials {
                // What is no text is nobody's token.
                token: token.map(|value| {
                    let text = value.to_str().unwrap_or_default();
                    Secret::new(text.strip_prefix("Bearer ").unwrap_or(text))
                }),
                // A gateway's certificate says nothing of whom it calls for.
                certificate: match headers.contains_key(GATEWAY) {
                    true => None,
                    false => self.common_name.clone(),
                },
            },
            turn: Turn::default(),
        }
    }

    /// A message of a request, with what may be around it.
    fn message_bytes(&self) -> usize {
        self.request_bytes + limits::GRPC_OVERHEAD_BYTES
    }

    async fn answer(self, request: Request<Incoming>) -> Response<Reply> {
        if !is_grpc(request.headers()) {
            let (request, body) = request.into_parts();
            ended(body).await;
            return pages::page(&*self.pages, request).await;
        }
        if request.method() != Method::POST {
            return reply::refused(&Status::internal("gRPC requests are POST requests"));
        }
        self.grpc(request).await
    }

    async fn grpc(self, request: Request<Incoming>) -> Response<Reply> {
        let call = self.calls.begin(request.uri().path());
        let count = call.as_ref().map(Call::count);
        reply::counted(self.stream(request, count).await, call)
    }

    /// A call that is not unary.
    async fn stream(mut self, request: Request<Incoming>, count: Option<Count>) -> Response<Reply> {
        let limit = self.message_bytes();
        let caller = self.caller(request.headers());
        let path = request.uri().path();
        if path.starts_with(HEALTH) {
            return reply::infallible(self.health.call(request).await).map(Reply::Tonic);
        }
        let Some(method) = methods::of(path) else {
            return reply::refused(&unknown(path));
        };
        if let Err(refusal) = self.api.admit(method, &caller, None).await {
            return reply::refused(&refusal);
        }
        let Handler::Stream(call) = method.handler else {
            return reply::refused(&unknown(path));
        };
        let requests = Messages::new(request.into_body(), limit).counted(count);
        let api = &self.api;
        reply::stream(match call {
            Streaming::Watch => {
                return reply::watch(api.watch(caller, requests, limit, self.progress_interval));
            }
            Streaming::LeaseKeepAlive => api.lease_keep_alive(caller, requests),
            Streaming::RangeStream => {
                async { api.range_stream(&caller, requests.only().await?).await }.await
            }
            Streaming::Snapshot => {
                async { api.snapshot(&caller, requests.only().await?).await }.await
            }
            Streaming::Observe => {
                async { api.observe(&caller, requests.only().await?).await }.await
            }
        })
    }
}

impl<E: Engine> Service for Front<E> {
    type Body = Reply;

    fn whole(&self, head: &Head) -> Option<usize> {
        let unary = head.method == Method::POST
            && is_grpc(&head.headers)
            && unary_method(head.path()).is_some();
        unary.then(|| self.message_bytes())
    }

    fn answer(&self, head: Arc<Head>, body: Bytes) -> BoxFuture<'static, mizzen_h2::Reply> {
        let api = self.api.clone();
        let mut call = self.calls.begin(head.path());
        let message = frame::message(body, self.message_bytes());
        let caller = Caller {
            turn: self.turns.call(),
            ..self.caller(&head.headers)
        };
        Box::pin(async move {
            let path = head.path();
            let result = async {
                let message = message?;
                if let Some(call) = &call {
                    call.count().received(message.len());
                }
                let (method, unary) = unary_method(path).ok_or_else(|| unknown(path))?;
                api.admit(method, &caller, Some(&message)).await?;
                api.unary(unary, &caller, message).await
            }
            .await;
            if let Some(call) = &mut call {
                call.end_with(&result);
            }
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

/// The method `path`, if it is unary.
fn unary_method(path: &str) -> Option<(&'static methods::Method, Unary)> {
    let method = methods::of(path)?;
    match method.handler {
        Handler::Unary(call) => Some((method, call)),
        Handler::Stream(_) | Handler::NotServed => None,
    }
}

/// Waits for the end of a request whose body nobody wants: what its client does
/// wrong on the way is told first.
async fn ended(mut body: Incoming) {
    while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
}
