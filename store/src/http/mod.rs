//! What is asked by HTTP and is no call: how a member is, and which it is.
//!
//! Knows status codes, headers and the server's facade. Must not know the
//! engine's or Raft's types, nor connections. Paths, texts and codes are etcd's:
//! kubelets, load balancers and scripts go by them.

mod health;
mod respond;

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Response, header, request::Parts};
use mizzen_engine::Engine;

use crate::{grpc::Pages, server::Server, version};
use health::Registry;
use respond::{content, not_allowed, not_found};

/// On which port a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Clients,
    /// One of `--listen-metrics-urls`: probes and metrics only.
    Metrics,
}

/// The pages of one member on one kind of port.
pub struct Site<E: Engine> {
    server: Arc<Server<E>>,
    port: Port,
}

impl<E: Engine> Site<E> {
    pub fn new(server: Arc<Server<E>>, port: Port) -> Self {
        Self { server, port }
    }
}

impl<E: Engine> Pages for Site<E> {
    fn answer(&self, request: Parts) -> BoxFuture<'static, Response<Bytes>> {
        let (server, port) = (self.server.clone(), self.port);
        Box::pin(async move {
            if port == Port::Metrics {
                return page(&server, port, &request).await;
            }
            let mut response = match request.method {
                Method::OPTIONS => Response::new(Bytes::new()),
                _ => page(&server, port, &request).await,
            };
            allow_every_origin(&mut response);
            response
        })
    }
}

async fn page<E: Engine>(server: &Server<E>, port: Port, request: &Parts) -> Response<Bytes> {
    let path = request.uri.path();
    let get = request.method == Method::GET;
    if let Some((registry, only)) = Registry::find(path) {
        return match get {
            true => registry.answer(server, only, request.uri.query()).await,
            false => not_allowed(),
        };
    }
    match path {
        "/health" if get => health::whole(server, request.uri.query()).await,
        "/version" if get && port == Port::Clients => version(server),
        "/health" => not_allowed(),
        "/version" if port == Port::Clients => not_allowed(),
        _ => not_found(),
    }
}

/// Three plain numbers each: some clients compute with them.
fn version<E: Engine>(server: &Server<E>) -> Response<Bytes> {
    let cluster = server.cluster_version().unwrap_or("not_decided");
    let text = format!(
        r#"{{"etcdserver":"{}","etcdcluster":"{cluster}","storage":"{}"}}"#,
        version::ETCD,
        version::STORAGE,
    );
    content("application/json", text)
}

/// etcd's headers for browsers, with its default `--cors`.
fn allow_every_origin(response: &mut Response<Bytes>) {
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "POST, GET, OPTIONS, PUT, DELETE",
        ),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "accept, content-type, authorization",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
