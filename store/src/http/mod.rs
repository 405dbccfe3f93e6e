//! What is asked by HTTP without gRPC: how a member is, which it is, and calls as
//! JSON.
//!
//! Knows status codes, headers and the server's facade. Must not know the
//! engine's or Raft's types, nor connections. Paths, texts and codes are etcd's:
//! kubelets, load balancers and scripts go by them.

mod access;
mod debug;
mod gateway;
mod health;
mod metrics;
mod probes;
mod respond;
mod status;

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use mizzen_engine::Engine;

use crate::{
    grpc::{Backend, Calls, Pages, Remote, Reply, RequestBody},
    server::Server,
    version,
};
pub use access::BrowserAccess;
#[cfg(feature = "fuzzing")]
pub(crate) use gateway::there_and_back;
use health::Registry;
use probes::Probes;
use respond::{content, error, not_allowed, not_found};
use status::Rates;

/// When certificates expire, in seconds since 1970, each with what it is for.
pub type Expiries = Box<dyn Fn() -> Vec<(&'static str, i64)> + Send + Sync>;

/// How often clients' connections were stopped or refused, by reason.
pub type Stopped = Box<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>;

/// What the pages of all ports tell of.
pub struct Shared {
    calls: &'static Calls,
    certificates: Expiries,
    stopped: Stopped,
    probes: Probes,
    rates: Rates,
}

impl Shared {
    pub fn new(calls: &'static Calls, certificates: Expiries, stopped: Stopped) -> Arc<Self> {
        Arc::new(Self {
            calls,
            certificates,
            stopped,
            probes: Probes::default(),
            rates: Rates::default(),
        })
    }
}

/// The pages of one member on one kind of port.
pub struct Site<E: Engine> {
    server: Arc<Server<E>>,
    shared: Arc<Shared>,
    /// Who may ask on a client port; on others anybody.
    access: Option<Arc<BrowserAccess>>,
    /// Carries out calls that come as JSON.
    gateway: Option<Backend<E>>,
}

impl<E: Engine> Site<E> {
    /// Of one of `--listen-metrics-urls`: probes and metrics only.
    pub fn for_metrics(server: Arc<Server<E>>, shared: Arc<Shared>) -> Self {
        Self {
            server,
            shared,
            access: None,
            gateway: None,
        }
    }

    /// Of a client port; `gateway` carries out calls that come as JSON.
    pub fn for_clients(
        server: Arc<Server<E>>,
        shared: Arc<Shared>,
        access: BrowserAccess,
        gateway: Option<Backend<E>>,
    ) -> Self {
        Self {
            server,
            shared,
            access: Some(Arc::new(access)),
            gateway,
        }
    }
}

impl<E: Engine> Clone for Site<E> {
    fn clone(&self) -> Self {
        Self {
            server: self.server.clone(),
            shared: self.shared.clone(),
            access: self.access.clone(),
            gateway: self.gateway.clone(),
        }
    }
}

impl<E: Engine> Pages for Site<E> {
    fn answer(&self, request: Request<RequestBody>) -> BoxFuture<'static, Response<Reply>> {
        let site = self.clone();
        Box::pin(async move {
            match site.access.clone() {
                Some(access) => site.for_client(&access, request).await,
                None => site.small(request).await,
            }
        })
    }
}

/// What follows `/v3/` of the path of a call as JSON. `/v3beta/` is what old
/// clients call it.
fn of_gateway(path: &str) -> Option<&str> {
    path.strip_prefix("/v3/")
        .or_else(|| path.strip_prefix("/v3beta/"))
}

const NAMED_BY_CERTIFICATE: &str = "CommonName of client sending a request against gateway will be ignored and not used as expected";

impl<E: Engine> Site<E> {
    async fn for_client(
        &self,
        access: &BrowserAccess,
        request: Request<RequestBody>,
    ) -> Response<Reply> {
        let remote = request.extensions().get::<Remote>().cloned();
        let remote = remote.unwrap_or_default();
        let call = of_gateway(request.uri().path()).map(str::to_owned);
        let call = self.gateway.as_ref().zip(call);
        if !remote.secure {
            if let Some(refusal) = access.refusal(&request) {
                return whole(refusal);
            }
        } else if let Some((gateway, _)) = call
            && remote.common_name.is_some_and(|name| !name.is_empty())
            && gateway.auth_enabled()
        {
            return whole(error(StatusCode::BAD_REQUEST, NAMED_BY_CERTIFICATE));
        }
        let origin = access.origin(request.headers());
        let mut response = match (request.method(), call) {
            (&Method::OPTIONS, _) => Response::new(Reply::whole(Bytes::new())),
            (_, Some((gateway, rest))) => gateway::answer(gateway, &rest, request).await,
            _ => self.small(request).await,
        };
        if let Some(origin) = origin {
            access::allow(&mut response, origin);
        }
        response
    }

    /// Pages for which no body is read.
    async fn small(&self, request: Request<RequestBody>) -> Response<Reply> {
        let (request, body) = request.into_parts();
        if request.version == Version::HTTP_2 {
            ended(body).await;
        }
        whole(self.page(&request).await)
    }

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
        let clients = self.access.is_some();
        match path {
            // As Go's handler, which does not ask for the method.
            "/metrics" => metrics::page(&self.server, &self.shared).await,
            "/status" if get => status::page(&self.server, &self.shared),
            "/health" if get => health::whole(server, probes, query).await,
            "/version" if get && clients => version(server),
            "/debug/vars" if get && clients => debug::vars(server),
            "/health" | "/status" => not_allowed(),
            "/version" | "/debug/vars" if clients => not_allowed(),
            _ => not_found(),
        }
    }
}

fn whole(response: Response<Bytes>) -> Response<Reply> {
    response.map(Reply::whole)
}

/// Waits for the end of a request whose body nobody wants: what its client does
/// wrong on the way is told first.
async fn ended(mut body: RequestBody) {
    while let Some(Ok(_)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {}
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
