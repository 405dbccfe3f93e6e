//! Calls of others over HTTPS, on connections that are kept: webhooks, issuers of
//! tokens.
//!
//! Knows addresses, authorities and bytes. Must not know what is asked. Failures are
//! told in the words of Go's client where a client could match on them.

mod trust;

use std::{
    collections::HashMap,
    future::{Ready, ready},
    io,
    net::{IpAddr, SocketAddr},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::{BoxFuture, Either};
use http::{StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use parking_lot::Mutex;
use rustls::ClientConfig;
use tower::Service;

use crate::limits;

/// Where the host of a URL is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Host {
    /// Where its name says.
    Named,
    /// At this address, whatever its name.
    At(IpAddr),
    /// Where another name says.
    As(String),
}

/// Whom to call.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Callee {
    pub host: Host,
    /// In PEM; empty: those that the machine trusts.
    pub authorities: Vec<u8>,
}

impl Callee {
    /// Where connections to a URL go, for people to read.
    fn address(&self, url: &str) -> String {
        let uri: http::Uri = url.parse().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(443);
        match &self.host {
            Host::At(address) => SocketAddr::new(*address, port).to_string(),
            Host::As(name) => format!("{name}:{port}"),
            Host::Named => format!("{}:{port}", uri.host().unwrap_or("")),
        }
    }
}

type Connector = HttpsConnector<HttpConnector<Resolver>>;
type Kept = Client<Connector, Full<Bytes>>;

/// Connections to others.
#[derive(Default)]
pub struct Calls {
    clients: Mutex<HashMap<Callee, Kept>>,
}

impl Calls {
    /// Posts JSON to `url` and gives the answer's body.
    ///
    /// # Errors
    /// There is none in time, or it is no success.
    pub async fn post(
        &self,
        callee: &Callee,
        url: &str,
        body: String,
        timeout: Duration,
    ) -> Result<Bytes, String> {
        let request = http::Request::post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*")
            .body(Full::new(Bytes::from(body)));
        self.send("Post", callee, url, request, timeout).await
    }

    /// Gets what is at `url`.
    ///
    /// # Errors
    /// There is no answer in time, or it is no success.
    pub async fn get(
        &self,
        callee: &Callee,
        url: &str,
        timeout: Duration,
    ) -> Result<Bytes, String> {
        let request = http::Request::get(url)
            .header(header::ACCEPT, "application/json, */*")
            .body(Full::default());
        self.send("Get", callee, url, request, timeout).await
    }

    async fn send(
        &self,
        method: &str,
        callee: &Callee,
        url: &str,
        request: http::Result<http::Request<Full<Bytes>>>,
        timeout: Duration,
    ) -> Result<Bytes, String> {
        let told = |why: &str| format!("{method} {url:?}: {why}");
        let address = callee.address(url);
        let client = self.client(callee).map_err(|why| told(&why))?;
        let request = request.map_err(|error| told(&error.to_string()))?;
        let answered = async {
            let answer = client.request(request).await;
            let answer = answer.map_err(|error| told(&reason(&error, &address)))?;
            let (code, limit) = (answer.status(), limits::CALL_ANSWER_BYTES_MAX);
            let content = answer.headers().get(header::CONTENT_TYPE);
            let is_text = content.is_some_and(|content| content.as_bytes().starts_with(b"text/"));
            let body = Limited::new(answer.into_body(), limit).collect().await;
            let body = body.map_err(|error| told(&error.to_string()))?.to_bytes();
            match code {
                code if code.is_success() => Ok(body),
                code if is_text => Err(refused(code, &told_by(&body))),
                code => Err(refused(code, "unknown")),
            }
        };
        match tokio::time::timeout(timeout, answered).await {
            Ok(answered) => answered,
            Err(_) => Err(told("context deadline exceeded")),
        }
    }

    fn client(&self, callee: &Callee) -> Result<Kept, String> {
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(callee) {
            return Ok(client.clone());
        }
        if clients.len() >= limits::CALL_CLIENTS {
            clients.clear();
        }
        let client = made(trust::config(&callee.authorities)?, &callee.host);
        clients.insert(callee.clone(), client.clone());
        Ok(client)
    }
}

fn made(config: ClientConfig, host: &Host) -> Kept {
    let mut tcp = HttpConnector::new_with_resolver(Resolver(host.clone()));
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .enable_http1()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(limits::CALL_IDLE)
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(limits::CALL_IDLE_CONNECTIONS)
        .build(connector)
}

/// The last cause of a failure to reach `address`, in Go's words where it is a usual
/// one.
fn reason(error: &hyper_util::client::legacy::Error, address: &str) -> String {
    let mut cause: &dyn std::error::Error = error;
    loop {
        if let Some(why) = usual(cause, address) {
            return why;
        }
        match cause.source() {
            Some(next) => cause = next,
            None => return cause.to_string(),
        }
    }
}

fn usual(cause: &(dyn std::error::Error + 'static), address: &str) -> Option<String> {
    let tls = cause.downcast_ref::<rustls::Error>();
    let Some(error) = cause.downcast_ref::<io::Error>() else {
        return tls.and_then(untrusted);
    };
    if let Some(inner) = error.get_ref() {
        return usual(inner, address);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            Some(format!("dial tcp {address}: connect: connection refused"))
        }
        io::ErrorKind::ConnectionReset => Some("read: connection reset by peer".to_owned()),
        io::ErrorKind::UnexpectedEof => Some("EOF".to_owned()),
        _ => None,
    }
}

fn untrusted(error: &rustls::Error) -> Option<String> {
    let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
    (*error == unknown).then(|| {
        "tls: failed to verify certificate: x509: certificate signed by unknown authority"
            .to_owned()
    })
}

/// The beginning of a text that says why.
fn told_by(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(limits::CALL_TOLD_BYTES)]);
    text.trim().to_owned()
}

/// An answer that is no success, as upstream's client tells it.
fn refused(code: StatusCode, text: &str) -> String {
    match code {
        StatusCode::BAD_REQUEST => {
            "the server rejected our request for an unknown reason".to_owned()
        }
        StatusCode::UNAUTHORIZED => {
            "the server has asked for the client to provide credentials".to_owned()
        }
        StatusCode::FORBIDDEN => text.to_owned(),
        StatusCode::NOT_FOUND => "the server could not find the requested resource".to_owned(),
        StatusCode::METHOD_NOT_ALLOWED => {
            "the server does not allow this method on the requested resource".to_owned()
        }
        StatusCode::TOO_MANY_REQUESTS => {
            "the server has received too many requests and has asked us to try again later"
                .to_owned()
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            "the server is currently unable to handle the request".to_owned()
        }
        StatusCode::GATEWAY_TIMEOUT => {
            "the server was unable to return a response in the time allotted, but may still be processing the request".to_owned()
        }
        code if code.is_server_error() => {
            format!("an error on the server ({text:?}) has prevented the request from succeeding")
        }
        code => format!(
            "the server responded with the status code {} but did not return more information",
            code.as_u16()
        ),
    }
}

/// Finds addresses by a [`Host`].
#[derive(Clone)]
struct Resolver(Host);

type Addresses = std::vec::IntoIter<SocketAddr>;

impl Service<Name> for Resolver {
    type Response = Addresses;
    type Error = io::Error;
    type Future = Either<Ready<io::Result<Addresses>>, BoxFuture<'static, io::Result<Addresses>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let name = match &self.0 {
            Host::At(address) => {
                let addresses = vec![SocketAddr::new(*address, 0)].into_iter();
                return Either::Left(ready(Ok(addresses)));
            }
            Host::As(name) => name.clone(),
            Host::Named => name.as_str().to_owned(),
        };
        Either::Right(Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.collect::<Vec<_>>().into_iter())
        }))
    }
}
