//! A server over HTTPS that says what its path names, and remembers what it was asked:
//! a webhook, an issuer of tokens.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mizzen_certs::{Authority, Subject};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What a path is answered: a code, and a body. Nothing: never.
type Say = Arc<dyn Fn(&str, &Value) -> Option<(u16, String)> + Send + Sync>;

/// A path, and the request of a review that came there.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// Stops listening when it is dropped.
pub struct Webhook {
    pub address: SocketAddr,
    /// The authority of its certificate, in PEM.
    pub authority: String,
    asked: Asked,
    task: JoinHandle<()>,
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Webhook {
    /// Listens on a loopback address.
    ///
    /// # Errors
    /// No certificate can be made, or there is no port.
    pub async fn start(
        say: impl Fn(&str, &Value) -> Option<(u16, String)> + Send + Sync + 'static,
    ) -> Result<Self> {
        let say: Say = Arc::new(say);
        let authority = Authority::new("webhooks")?;
        let subject = Subject {
            common_name: "webhook".to_owned(),
            hosts: vec!["127.0.0.1".to_owned(), "hook.hooks.svc".to_owned()],
            ..Subject::default()
        };
        let signed = authority.sign(&subject)?;
        let chain = CertificateDer::pem_slice_iter(signed.certificate.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(signed.key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let asked = Asked::default();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let task = tokio::spawn(accept(listener, acceptor, asked.clone(), say));
        Ok(Self {
            address,
            authority: authority.pem().to_owned(),
            asked,
            task,
        })
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// What it was asked since it was looked at last.
    #[must_use]
    pub fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, asked: Asked, say: Say) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, asked, say) = (acceptor.clone(), asked.clone(), say.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = service_fn(|request| {
                let (asked, say) = (asked.clone(), say.clone());
                async move { answer(request, &asked, &say).await }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            // Clients go when they like.
            drop(served.await);
        });
    }
}

async fn answer(
    request: http::Request<hyper::body::Incoming>,
    asked: &Asked,
    say: &Say,
) -> Result<http::Response<Full<Bytes>>> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let request = review["request"].clone();
    let said = say(&path, &request);
    remember(asked, path, request);
    let Some((code, text)) = said else {
        return std::future::pending().await;
    };
    let answer = http::Response::builder()
        .status(code)
        .header("content-type", "application/json");
    Ok(answer.body(Full::new(text.into()))?)
}

fn remember(asked: &Asked, path: String, request: Value) {
    let mut list = asked.lock().unwrap_or_else(PoisonError::into_inner);
    list.push((path, request));
}
