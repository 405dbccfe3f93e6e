//! A client of the resource API: one connection to one server, made again
//! after it broke. It repeats nothing.

pub use crate::cluster::apiservers::Address;
use anyhow::Context;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Why there is no answer.
pub enum Trouble {
    /// Nothing was sent.
    NotSent(String),
    /// It may have been carried out.
    Broken(String),
}

pub struct Rest {
    servers: Arc<Vec<Address>>,
    server: usize,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Rest {
    pub fn new(servers: &Arc<Vec<Address>>, server: usize) -> Rest {
        Rest {
            servers: Arc::clone(servers),
            server: server % servers.len().max(1),
            sender: None,
        }
    }

    pub fn server(&self) -> usize {
        self.server
    }

    /// From now on the next server is asked.
    pub fn move_on(&mut self) {
        self.server = (self.server + 1) % self.servers.len().max(1);
        self.sender = None;
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let address = self.servers.get(self.server).context("no server")?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&address.authority)?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(("127.0.0.1", address.port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("127.0.0.1")?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        // Its failure is that of every request on it.
        tokio::spawn(connection);
        Ok(sender)
    }

    /// Sends a request and gives the answer's status and the body to come.
    pub async fn open(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Incoming), Trouble> {
        let mut sender = match self.sender.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self
                .connect()
                .await
                .map_err(|e| Trouble::NotSent(format!("{e:#}")))?,
        };
        let port = self
            .servers
            .get(self.server)
            .map_or(0, |server| server.port);
        let request = http::Request::builder()
            .method(method)
            .uri(format!("https://127.0.0.1:{port}{path}"))
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .body(Full::new(Bytes::from(
                body.map_or(String::new(), Value::to_string),
            )))
            .map_err(|e| Trouble::NotSent(e.to_string()))?;
        sender
            .ready()
            .await
            .map_err(|e| Trouble::NotSent(e.to_string()))?;
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|e| Trouble::Broken(e.to_string()))?;
        self.sender = Some(sender);
        Ok((answer.status().as_u16(), answer.into_body()))
    }

    /// The whole answer.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), Trouble> {
        let (status, body) = self.open(method, path, body).await?;
        let broken = |e: &dyn std::fmt::Display| Trouble::Broken(e.to_string());
        let bytes = body.collect().await.map_err(|e| broken(&e))?.to_bytes();
        let value = serde_json::from_slice(&bytes).map_err(|e| broken(&e))?;
        Ok((status, value))
    }
}
