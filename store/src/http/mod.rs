//! What is asked by HTTP and is no call: how a member is, and which it is.
//!
//! Knows status codes, headers and the server's facade. Must not know the
//! engine's or Raft's types, nor connections. Paths, texts and codes are etcd's:
//! kubelets, load balancers and scripts go by them.

mod health;
mod metrics;
mod probes;
mod respond;

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Response, header, request::Parts};
use mizzen_engine::Engine;

use crate::{
    grpc::{Calls, Pages},
    server::Server,
    version,
};
use health::Registry;
use probes::Probes;
use respond::{content, not_allowed, not_found};

/// On which port a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Clients,
    /// One of `--listen-metrics-urls`: probes and metrics only.
    Metrics,
}

/// When certificates expire, in seconds since 1970, each with what it is for.
pub type Expiries = Box<dyn Fn() -> Vec<(&'static str, i64)> + Send + Sync>;

/// What the pages of all ports tell of.
pub struct Shared {
    calls: &'static Calls,
    certificates: Expiries,
    probes: Probes,
}

impl Shared {
    pub fn new(calls: &'static Calls, certificates: Expiries) -> Arc<Self> {
        Arc::new(Self {
            calls,
            certificates,
            probes: Probes::default(),
        })
    }
}

/// The pages of one member on one kind of port.
pub struct Site<E: Engine> {
    server: Arc<Server<E>>,
    shared: Arc<Shared>,
    port: Port,
}

impl<E: Engine> Site<E> {
    pub fn new(server: Arc<Server<E>>, shared: Arc<Shared>, port: Port) -> Self {
        Self {
            server,
            shared,
            port,
        }
    }
}

impl<E: Engine> Clone for Site<E> {
    fn clone(&self) -> Self {
        Self {
            server: self.server.clone(),
            shared: self.shared.clone(),
            port: self.port,
        }
    }
}

impl<E: Engine> Pages for Site<E> {
    fn answer(&self, request: Parts) -> BoxFuture<'static, Response<Bytes>> {
        let site = self.clone();
        Box::pin(async move {
            if site.port == Port::Metrics {
                return site.page(&request).await;
            }
            let mut response = match request.method {
                Method::OPTIONS => Response::new(Bytes::new()),
                _ => site.page(&request).await,
            };
            allow_every_origin(&mut response);
            response
        })
    }
}

impl<E: Engine> Site<E> {
    async fn page(&self, request: &Parts) -> Response<Bytes> {
        let (server, probes) = (&*self.server, &self.shared.probes);
        let (path, query) = (request.uri.path(), request.uri.query());
        let get = request.method == Method::GET;
        if let Some((registry, only)) = Registry::find(path) {
            return match get {
                true => registry.answer(server, probes, only, query).await,
                false => not_allowed(),
            };
        }
        let clients = self.port == Port::Clients;
        match path {
            // As Go's handler, which does not ask for the method.
            "/metrics" => metrics::page(&self.server, &self.shared).await,
            "/health" if get => health::whole(server, probes, query).await,
            "/version" if get && clients => version(server),
            "/health" => not_allowed(),
            "/version" if clients => not_allowed(),
            _ => not_found(),
        }
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
