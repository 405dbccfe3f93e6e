//! The client port: gRPC calls of etcd's API.
//!
//! Knows wire types, status codes and limits. Must not know the engine's or
//! Raft's types. tonic's types end at this module: [`api::Api`] takes wire
//! bytes and a caller and gives wire bytes or a status.

mod alarm;
mod api;
mod cluster;
mod concurrency;
mod frame;
mod lease;
mod listen;
mod reply;
mod status;
mod translate;
mod watch;

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use mizzen_engine::Engine;
use tonic::Status;
use tower::Service;

pub use listen::{Listener, serve};

use crate::{
    limits,
    server::{Caller, Server},
};
use api::Api;
use reply::Reply;

/// A gRPC service of tonic's, for calls that are not unary.
type Health = tonic_health::pb::health_server::HealthServer<tonic_health::server::HealthService>;

/// Everything a client connection may ask.
pub struct Front<E: Engine> {
    api: Api<E>,
    health: Health,
    request_bytes: usize,
    progress_interval: Duration,
}

impl<E: Engine> Clone for Front<E> {
    fn clone(&self) -> Self {
        Self {
            api: self.api.clone(),
            health: self.health.clone(),
            request_bytes: self.request_bytes,
            progress_interval: self.progress_interval,
        }
    }
}

impl<E: Engine> Front<E> {
    /// `progress_interval` is how often idle watches are told that they miss
    /// nothing, if they asked for it.
    pub fn new(server: Arc<Server<E>>, request_bytes: usize, progress_interval: Duration) -> Self {
        // The whole server is serving from its first answer to its last.
        let health = tonic_health::server::HealthService::from_health_reporter(
            tonic_health::server::HealthReporter::new(),
        );
        Self {
            api: Api::new(server),
            health: Health::new(health),
            request_bytes,
            progress_interval,
        }
    }

    pub async fn answer(self, request: Request<Incoming>) -> Result<Response<Reply>, Infallible> {
        let grpc = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if !grpc {
            return Ok(not_found());
        }
        if request.method() != http::Method::POST {
            return Ok(reply::refused(&Status::internal(
                "gRPC requests are POST requests",
            )));
        }
        Ok(self.grpc(request).await)
    }

    async fn grpc(mut self, request: Request<Incoming>) -> Response<Reply> {
        let limit = self.request_bytes + limits::GRPC_OVERHEAD_BYTES;
        let caller = caller(request.headers());
        let path = request.uri().path();
        if Api::<E>::is_unary(path) {
            let (head, body) = request.into_parts();
            let result = match frame::message(body, limit).await {
                Ok(message) => self
                    .api
                    .unary(head.uri.path(), &caller, message)
                    .await
                    .unwrap_or_else(|| Err(unknown(head.uri.path()))),
                Err(status) => Err(status),
            };
            return reply::unary(result);
        }
        if path == "/etcdserverpb.KV/RangeStream" {
            return reply::stream(match frame::message(request.into_body(), limit).await {
                Ok(message) => self.api.range_stream(&caller, message).await,
                Err(status) => Err(status),
            });
        }
        if path == "/v3electionpb.Election/Observe" {
            return reply::stream(match frame::message(request.into_body(), limit).await {
                Ok(message) => self.api.observe(&caller, message).await,
                Err(status) => Err(status),
            });
        }
        if path == "/etcdserverpb.Lease/LeaseKeepAlive" {
            let requests = frame::Messages::new(request.into_body(), limit);
            return reply::stream(self.api.lease_keep_alive(caller, requests));
        }
        if path == "/etcdserverpb.Watch/Watch" {
            let requests = frame::Messages::new(request.into_body(), limit);
            return reply::watch(
                self.api
                    .watch(caller, requests, limit, self.progress_interval),
            );
        }
        if path.starts_with("/grpc.health.v1.Health/") {
            return reply::infallible(self.health.call(request).await).map(Reply::Tonic);
        }
        reply::refused(&unknown(path))
    }
}

/// What a call's metadata says of the caller.
fn caller(headers: &http::HeaderMap) -> Caller {
    Caller {
        require_leader: headers
            .get("hasleader")
            .is_some_and(|value| value == "true"),
    }
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
            | "etcdserverpb.Cluster"
            | "etcdserverpb.Maintenance"
            | "grpc.health.v1.Health"
    )
}

fn not_found() -> Response<Reply> {
    let mut response = Response::new(Reply::Plain(Some(bytes::Bytes::from_static(
        b"404 page not found\n",
    ))));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
