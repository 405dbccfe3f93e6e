//! A plain client of a resource API: one HTTP/2 connection, any request, the
//! answer whole. Knows HTTP and the server's authority; must not know what a
//! request means, so that it can send what no proper client would.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::apiserver::ApiServer;

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub code: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// It is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{}: {:?}", self.code, String::from_utf8_lossy(&self.body)))
    }
}

/// One connection; clones share it.
#[derive(Clone, Debug)]
pub struct Https {
    sender: http2::SendRequest<Full<Bytes>>,
    url: String,
    authority: PathBuf,
}

/// A client's TLS that trusts one authority alone and offers HTTP/2.
///
/// # Errors
/// The file holds no certificate.
pub fn trusting(authority: &Path) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

impl Https {
    /// Connects to a server.
    ///
    /// # Errors
    /// It does not listen, or its certificate is of another authority.
    pub async fn connect(server: &ApiServer) -> Result<Self> {
        Self::connect_to(&server.url(), &server.ca()).await
    }

    /// Connects to `https://host:port`, whose certificate is of the authority
    /// in a PEM file.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_to(url: &str, authority: &Path) -> Result<Self> {
        let address = url.strip_prefix("https://").context("an https URL")?;
        let host = address.split(':').next().unwrap_or(address).to_owned();
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(trusting(authority)?)
            .connect(ServerName::try_from(host)?, stream)
            .await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(64 << 20)
            .handshake(TokioIo::new(stream))
            .await?;
        // Its failure is that of every request on it.
        tokio::spawn(connection);
        Ok(Self {
            sender,
            url: url.to_owned(),
            authority: authority.to_owned(),
        })
    }

    /// Another connection to the same server.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn again(&self) -> Result<Self> {
        Self::connect_to(&self.url, &self.authority).await
    }

    /// Sends a request and gives the answer's head and the body to come.
    ///
    /// # Errors
    /// The request cannot be written as HTTP, or the connection broke.
    pub async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .body(Full::new(body))?;
        request.headers_mut().extend(headers.clone());
        let mut sender = self.sender.clone();
        sender.ready().await?;
        Ok(sender.send_request(request).await?)
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Answer> {
        let answer = self.open(method, path, headers, body).await?;
        let (parts, body) = answer.into_parts();
        Ok(Answer {
            code: parts.status,
            headers: parts.headers,
            body: body.collect().await?.to_bytes(),
        })
    }

    /// Sends JSON and reads JSON.
    ///
    /// # Errors
    /// As [`send`](Self::send), and when the answer is no success.
    pub async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut headers = HeaderMap::new();
        headers.insert(
            "content-type",
            http::HeaderValue::from_static("application/json"),
        );
        let bytes = body.map(|body| Bytes::from(body.to_string()));
        let answer = self
            .send(method.clone(), path, &headers, bytes.unwrap_or_default())
            .await?;
        anyhow::ensure!(
            answer.code.is_success(),
            "{method} {path}: {} {}",
            answer.code,
            String::from_utf8_lossy(&answer.body)
        );
        answer.json()
    }
}
