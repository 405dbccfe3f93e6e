//! HTTPS: connections, requests, routing. Knows HTTP and hands everything
//! else to `registry`, `discovery` and `openapi`.

mod accept;
mod compress;
mod labels;
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
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use mizzen_descriptors::Places;
use mizzen_h2::Coalesce;
use rustls::ServerConfig;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

pub use self::tls::{Files, TlsError, make_key};
use self::{
    resource::Request,
    respond::Answer,
    route::{Query, Route},
};
use crate::{
    discovery,
    error::ApiError,
    limits,
    metrics::{Labels, Metrics},
    openapi,
    registry::Registry,
    schema::REVIEWS,
    token::{self as tokens, Signer},
};

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
}

impl Api {
    pub fn new(registry: Registry, address: String, signer: Signer) -> Self {
        Self {
            registry,
            requests: Semaphore::new(limits::REQUESTS_MAX),
            watches: Arc::new(Semaphore::new(limits::WATCHES_MAX)),
            address,
            signer,
            metrics: Arc::default(),
        }
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    async fn serve(&self, request: http::Request<Incoming>) -> Answer {
        let started = Instant::now();
        let (parts, body) = request.into_parts();
        let query = Query::parse(parts.uri.query().unwrap_or(""));
        let route = route::route(parts.uri.path());
        let labels = labels::of(route.as_ref(), query.as_ref(), &parts.method);
        let watch = labels.verb == "WATCH";
        let flying = (!watch).then(|| self.metrics.flying(labels));
        let answer = match (self.requests.try_acquire(), query) {
            (Err(_), _) => Err(ApiError::too_many()),
            (Ok(_), None) => Err(ApiError::bad_request("the query is malformed")),
            (Ok(_permit), Some(query)) => {
                let asked = Asked {
                    parts: &parts,
                    query: &query,
                    labels,
                };
                // In a box: the future of a request is moved several times
                // before it runs, and when it ends.
                let work = Box::pin(self.answer(asked, route, body));
                match tokio::time::timeout(limits::REQUEST, work).await {
                    Ok(answer) => answer,
                    Err(_) => Err(ApiError::timeout("the request did not end in time")),
                }
            }
        };
        drop(flying);
        let mut answer = answer.unwrap_or_else(|error| respond::failure(&error));
        // A watch that began is counted at its end.
        if !watch || !answer.status().is_success() {
            self.metrics
                .done(labels, answer.status().as_u16(), started.elapsed());
        }
        if matches!(parts.method, Method::GET | Method::HEAD) {
            answer = compress::gzip(answer, header_text(&parts.headers, header::ACCEPT_ENCODING));
        }
        if parts.method == Method::HEAD {
            *answer.body_mut() = respond::streamed(futures::stream::empty());
        }
        respond::set(&mut answer, header::CACHE_CONTROL, "no-cache, private");
        answer
    }

    async fn answer(
        &self,
        asked: Asked<'_>,
        route: Option<Route>,
        body: Incoming,
    ) -> Result<Answer, ApiError> {
        let (target, by_path) = match route.ok_or_else(ApiError::no_page)? {
            Route::Object(target) => (target, false),
            Route::Watch(target) => (target, true),
            Route::Review(group, version, plural) => {
                let request = asked.with(read(body).await?);
                let row = REVIEWS
                    .iter()
                    .find(|(of, name, ..)| *of == group && *name == plural && version == "v1");
                let (_, _, kind, _) = row.ok_or_else(ApiError::no_page)?;
                return review::answer(&group, kind, &request);
            }
            other => return self.about(other, asked.parts).await,
        };
        let request = asked.with(read(body).await?);
        resource::answer(self, target, &request, by_path).await
    }

    /// Answers what is not about objects.
    async fn about(&self, route: Route, parts: &http::request::Parts) -> Result<Answer, ApiError> {
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            return Err(ApiError::method(parts.method.as_str()));
        }
        let accept = header_text(&parts.headers, header::ACCEPT);
        let found = |value: Option<Value>| {
            value
                .map(|value| respond::json(StatusCode::OK, &value))
                .ok_or_else(ApiError::no_page)
        };
        match route {
            Route::Root => found(Some(discovery::paths())),
            Route::Version => found(Some(discovery::version())),
            Route::OpenId => found(Some(tokens::openid_configuration())),
            Route::Keys => found(Some(self.signer.jwks())),
            Route::Health => self.health().await,
            Route::Metrics => Ok(respond::bytes(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                self.metrics.text(),
            )),
            Route::CoreVersions => Ok(self.groups(true, accept)),
            Route::Groups => Ok(self.groups(false, accept)),
            Route::Group(name) => found(discovery::group(&name)),
            Route::Resources(group, version) => found(discovery::resource_list(&group, &version)),
            Route::OpenApiV2 => {
                let form = openapi::v2(accept);
                let mut answer = respond::bytes(StatusCode::OK, form.content, form.bytes.clone());
                respond::set(&mut answer, header::ETAG, &format!("\"{}\"", form.hash));
                respond::set(&mut answer, header::VARY, "Accept");
                Ok(answer)
            }
            Route::OpenApi => found(Some(openapi::index())),
            Route::OpenApiOf(path) => {
                let document = openapi::documents()
                    .get(&path)
                    .ok_or_else(ApiError::no_page)?;
                let mut answer =
                    respond::bytes(StatusCode::OK, "application/json", document.json.clone());
                respond::set(&mut answer, header::ETAG, &format!("\"{}\"", document.hash));
                Ok(answer)
            }
            _ => Err(ApiError::no_page()),
        }
    }

    fn groups(&self, core: bool, accept: &str) -> Answer {
        match accept::aggregated(accept) {
            Some(version) => {
                let content = format!(
                    "application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
                );
                let mut answer = respond::bytes(
                    StatusCode::OK,
                    &content,
                    discovery::aggregated(core, version).to_string(),
                );
                respond::set(&mut answer, header::VARY, "Accept");
                answer
            }
            None if core => respond::json(StatusCode::OK, &discovery::core_versions(&self.address)),
            None => respond::json(StatusCode::OK, &discovery::group_list()),
        }
    }

    /// Healthy is who reaches the store.
    async fn health(&self) -> Result<Answer, ApiError> {
        let reached =
            tokio::time::timeout(Duration::from_secs(2), self.registry.store().revision()).await;
        match reached {
            Ok(Ok(_)) => Ok(respond::bytes(
                StatusCode::OK,
                "text/plain; charset=utf-8",
                "ok",
            )),
            _ => Ok(respond::bytes(
                StatusCode::INTERNAL_SERVER_ERROR,
                "text/plain; charset=utf-8",
                "[-]etcd failed: the store does not answer\n",
            )),
        }
    }
}

/// A request without its body.
struct Asked<'a> {
    parts: &'a http::request::Parts,
    query: &'a Query,
    labels: Labels,
}

impl<'a> Asked<'a> {
    fn with(self, body: Bytes) -> Request<'a> {
        Request {
            method: &self.parts.method,
            headers: &self.parts.headers,
            query: self.query,
            labels: self.labels,
            body,
        }
    }
}

/// The text of a header, empty when it is absent or is none.
fn header_text(headers: &http::HeaderMap, name: header::HeaderName) -> &str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("")
}

/// Reads a body up to the limit.
async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    match Limited::new(body, limits::BODY_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(ApiError::too_large("the request's body"))
        }
        Err(error) => Err(ApiError::bad_request(format!(
            "the body cannot be read: {error}"
        ))),
    }
}

/// Serves as many connections as there are places until `stop` is done; then lets requests end for a while.
pub async fn serve(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    api: Arc<Api>,
    places: Places,
    stop: impl Future<Output = ()>,
) {
    let acceptor = TlsAcceptor::from(config);
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let (stream, peer, place) = tokio::select! {
            accepted = mizzen_descriptors::accept(&listener, &places) => accepted,
            () = &mut stop => break,
        };
        let (acceptor, api, watcher) = (acceptor.clone(), api.clone(), graceful.watcher());
        tokio::spawn(async move {
            connection(stream, peer, acceptor, api, watcher).await;
            drop(place);
        });
    }
    drop(listener);
    // Watches do not end by themselves.
    let _ = tokio::time::timeout(Duration::from_secs(2), graceful.shutdown()).await;
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
    let service = service_fn(move |request| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(api.serve(request).await) }
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
