//! HTTPS: connections, requests, routing. Knows HTTP and hands everything
//! else to `registry`, `discovery` and `openapi`.

mod accept;
mod audited;
mod chain;
mod compress;
mod endpoint;
mod impersonate;
mod labels;
mod request;
mod resource;
mod respond;
mod review;
mod route;
mod tls;
mod token;
mod watch;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use mizzen_descriptors::Places;
use mizzen_h2::Coalesce;
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

pub use self::tls::{Contents, Credentials, Files, TlsError, make_clients, make_key, make_server};
use crate::{
    admission::Admission,
    audit::Audit,
    authn::{Authenticators, Identity, Peer},
    authz::Authorizer,
    catalog::Catalog,
    fairness::Fairness,
    limits,
    metrics::Metrics,
    openapi,
    registry::Registry,
    token::Signer,
};

/// Who is at the other end of a connection.
pub struct Remote {
    pub address: SocketAddr,
    /// The certificate that was shown.
    pub shown: Option<Peer>,
}

/// What serves requests.
pub struct Api {
    registry: Registry,
    /// Requests that are not watches.
    requests: Semaphore,
    watches: Arc<Semaphore>,
    /// How clients reach this server, as discovery tells it.
    address: String,
    signer: Signer,
    metrics: Arc<Metrics>,
    authenticators: Authenticators,
    authorizer: Authorizer,
    admission: Admission,
    audit: Option<Arc<Audit>>,
    /// Who is served when; without it as many at once as there are permits.
    fairness: Option<Arc<Fairness>>,
    /// It is about to stop: no new work is to come here.
    stopping: AtomicBool,
    /// Who asks, until it was found out.
    nobody: Arc<Identity>,
    /// Made with their first use, of the catalog that is served.
    documents: Mutex<Option<(Arc<Catalog>, Arc<openapi::Documents>)>>,
}

impl Api {
    pub fn new(
        registry: Registry,
        address: String,
        signer: Signer,
        authenticators: Authenticators,
        authorizer: Authorizer,
        admission: Admission,
    ) -> Self {
        Self {
            registry,
            requests: Semaphore::new(limits::REQUESTS_MAX),
            watches: Arc::new(Semaphore::new(limits::WATCHES_MAX)),
            address,
            signer,
            metrics: Arc::default(),
            authenticators,
            authorizer,
            admission,
            audit: None,
            fairness: None,
            stopping: AtomicBool::new(false),
            nobody: Arc::new(Identity::anonymous()),
            documents: Mutex::new(None),
        }
    }

    /// Has requests recorded.
    #[must_use]
    pub fn audited(mut self, audit: Option<Arc<Audit>>) -> Self {
        self.audit = audit;
        self
    }

    /// Has requests served by priority and fairness.
    #[must_use]
    pub fn fair(mut self, fairness: Option<Arc<Fairness>>) -> Self {
        self.fairness = fairness;
        self
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Says that it is not ready any more, goes on for a while so that this is
    /// heard, and then ends the watches.
    async fn leave(&self, delay: Duration) {
        self.stopping.store(true, Ordering::Relaxed);
        tokio::time::sleep(delay).await;
        self.registry.close_watches();
    }

    pub fn authorizer(&self) -> &Authorizer {
        &self.authorizer
    }

    /// The OpenAPI documents of a catalog.
    fn documents(&self, catalog: &Arc<Catalog>) -> Arc<openapi::Documents> {
        let mut kept = self.documents.lock();
        match &*kept {
            Some((of, documents)) if Arc::ptr_eq(of, catalog) => documents.clone(),
            _ => {
                let documents = Arc::new(openapi::Documents::new(catalog));
                *kept = Some((catalog.clone(), documents.clone()));
                documents
            }
        }
    }
}

/// Serves as many connections as there are places until `stop` is done. Then it is
/// not ready any more, serves for `delay`, ends its watches, and lets requests end
/// for a while.
pub async fn serve(
    listeners: Vec<TcpListener>,
    credentials: Arc<Credentials>,
    api: Arc<Api>,
    places: Places,
    stop: impl Future<Output = ()>,
    delay: Duration,
) {
    let graceful = GracefulShutdown::new();
    let left = async {
        stop.await;
        api.leave(delay).await;
    };
    let stop = left.shared();
    let accepting = listeners.into_iter().map(|listener| {
        let (credentials, api, stop) = (&credentials, &api, stop.clone());
        accept(listener, credentials, api, &places, &graceful, stop)
    });
    futures::future::join_all(accepting).await;
    if tokio::time::timeout(limits::STOP, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some requests did not end in time");
    }
}

/// Takes connections until it is to stop.
async fn accept(
    listener: TcpListener,
    credentials: &Arc<Credentials>,
    api: &Arc<Api>,
    places: &Places,
    graceful: &GracefulShutdown,
    stop: impl Future<Output = ()>,
) {
    tokio::pin!(stop);
    loop {
        let ((stream, peer), place) = tokio::select! {
            accepted = mizzen_descriptors::accept(&listener, places) => accepted,
            () = &mut stop => break,
        };
        let acceptor = TlsAcceptor::from(credentials.config());
        let (api, watcher) = (api.clone(), graceful.watcher());
        tokio::spawn(async move {
            connection(stream, peer, acceptor, api, watcher).await;
            drop(place);
        });
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    api: Arc<Api>,
    watcher: hyper_util::server::graceful::Watcher,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "no delay cannot be set");
    }
    let stream = match tokio::time::timeout(limits::HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "no TLS with this client");
            return;
        }
        Err(_) => return,
    };
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HANDSHAKE)
        .max_buf_size(limits::HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(limits::HANDSHAKE))
        .max_concurrent_streams(limits::STREAMS_MAX)
        .max_header_list_size(u32::try_from(limits::HEADER_BYTES_MAX).unwrap_or(u32::MAX));
    let remote = Arc::new(Remote {
        address: peer,
        shown: Peer::new(stream.get_ref().1.peer_certificates()),
    });
    let service = service_fn(move |request| {
        let (api, remote) = (api.clone(), remote.clone());
        async move { Ok::<_, Infallible>(chain::serve(&api, &remote, request).await) }
    });
    let ended = if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let stream = TokioIo::new(Coalesce::new(stream, limits::CHUNK_BYTES));
        let connection = builder.serve_connection(stream, service);
        watcher.watch(connection.into_owned()).await
    } else {
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        watcher.watch(connection.into_owned()).await
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection broke");
    }
}
