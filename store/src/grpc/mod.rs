//! The client port: gRPC calls of etcd's API.
//!
//! Knows wire types, status codes and limits. Must not know the engine's or
//! Raft's types. tonic's types end at this module: [`api::Api`] takes wire
//! bytes and a caller and gives wire bytes or a status.

mod alarm;
mod api;
mod auth;
mod calls;
mod cluster;
mod concurrency;
mod frame;
mod framed;
mod lease;
mod listen;
mod pages;
mod reply;
mod rights;
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
pub use listen::{Listener, serve_clients, serve_peers, transport};
pub use pages::{OnlyPages, Pages};

use crate::{
    auth::{CallCredentials, Secret},
    limits,
    server::{Caller, Server, Turn, Turns},
    workers,
};
use api::Api;
use calls::{Call, Count};
use frame::Messages;
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
        let requests =
            |request: Request<Incoming>| Messages::new(request.into_body(), limit).counted(count);
        if !path.starts_with(HEALTH) {
            let Some(right) = rights::of(path) else {
                return reply::refused(&unknown(path));
            };
            if let Err(refusal) = self.api.server.permit_call(&caller, right).await {
                return reply::refused(&status::status(refusal));
            }
        }
        match path {
            "/etcdserverpb.KV/RangeStream" => reply::stream(match requests(request).only().await {
                Ok(message) => self.api.range_stream(&caller, message).await,
                Err(status) => Err(status),
            }),
            "/etcdserverpb.Maintenance/Snapshot" => {
                reply::stream(match requests(request).only().await {
                    Ok(message) => self.api.snapshot(&caller, message).await,
                    Err(status) => Err(status),
                })
            }
            "/v3electionpb.Election/Observe" => {
                reply::stream(match requests(request).only().await {
                    Ok(message) => self.api.observe(&caller, message).await,
                    Err(status) => Err(status),
                })
            }
            "/etcdserverpb.Lease/LeaseKeepAlive" => {
                reply::stream(self.api.lease_keep_alive(caller, requests(request)))
            }
            "/etcdserverpb.Watch/Watch" => {
                let (requests, interval) = (requests(request), self.progress_interval);
                reply::watch(self.api.watch(caller, requests, limit, interval))
            }
            path if path.starts_with(HEALTH) => {
                reply::infallible(self.health.call(request).await).map(Reply::Tonic)
            }
            path => reply::refused(&unknown(path)),
        }
    }
}

impl<E: Engine> Service for Front<E> {
    type Body = Reply;

    fn whole(&self, head: &Head) -> Option<usize> {
        let unary = Api::<E>::is_unary(head.path())
            && head.method == Method::POST
            && is_grpc(&head.headers);
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
            let result = match message {
                Ok(message) => {
                    if let Some(call) = &call {
                        call.count().received(message.len());
                    }
                    let answer = api.unary(path, &caller, message).await;
                    answer.unwrap_or_else(|| Err(unknown(path)))
                }
                Err(status) => Err(status),
            };
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

fn is_service(name: &str) -> bool {
    matches!(
        name,
        "etcdserverpb.KV"
            | "etcdserverpb.Lease"
            | "v3lockpb.Lock"
            | "v3electionpb.Election"
            | "etcdserverpb.Watch"
            | "etcdserverpb.Auth"
            | "etcdserverpb.Cluster"
            | "etcdserverpb.Maintenance"
            | "grpc.health.v1.Health"
    )
}

/// Waits for the end of a request whose body nobody wants: what its client does
/// wrong on the way is told first.
async fn ended(mut body: Incoming) {
    while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
}
