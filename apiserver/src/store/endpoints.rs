//! The endpoints of a store: the one in use, and the next when it fails.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use mizzen_h2::Coalesce;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use super::{StoreError, passing, tls::Tls};
use crate::limits;

/// A connection to the store, by TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Connection = TokioIo<Coalesce<Box<dyn Stream>>>;

/// Connects to an endpoint. Calls that are made together leave together: alone
/// each costs two system calls, one for its header and one for its message.
async fn connect(endpoint: Uri, tls: Option<TlsConnector>) -> io::Result<Connection> {
    let host = endpoint.host().ok_or(io::ErrorKind::InvalidInput)?;
    let host = host.trim_matches(['[', ']']);
    let port = endpoint.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let stream: Box<dyn Stream> = match tls {
        Some(tls) => {
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            Box::new(tls.connect(name, stream).await?)
        }
        None => Box::new(stream),
    };
    Ok(TokioIo::new(Coalesce::new(stream, limits::CHUNK_BYTES)))
}

/// Connections to all endpoints of one store.
pub(super) struct Endpoints {
    channels: Vec<Channel>,
    /// The endpoint in use; the next one is tried when it fails.
    current: AtomicUsize,
}

impl Endpoints {
    /// Connects lazily: nothing is sent before the first call.
    pub fn new(endpoints: &[String], tls: Option<&Tls>) -> Result<Self, StoreError> {
        let tls = tls.map(Tls::config).transpose()?.map(TlsConnector::from);
        let channels: Result<Vec<_>, _> = endpoints
            .iter()
            .map(|url| {
                let secure = url.starts_with("https://");
                let tls = match (&tls, secure) {
                    (Some(tls), true) => Some(tls.clone()),
                    (None, true) => {
                        return Err(StoreError::Other(format!(
                            "{url}: --etcd-cafile is needed for it"
                        )));
                    }
                    (_, false) => None,
                };
                // The connector below speaks TLS; tonic is not to.
                let plain = url.replacen("https://", "http://", 1);
                let endpoint = Endpoint::from_shared(plain)
                    .map_err(|error| StoreError::Other(format!("{url}: {error}")))?;
                Ok(endpoint
                    .connect_timeout(Duration::from_secs(2))
                    .http2_keep_alive_interval(Duration::from_secs(30))
                    .keep_alive_timeout(Duration::from_secs(10))
                    .connect_with_connector_lazy(tower::service_fn(move |uri| {
                        connect(uri, tls.clone())
                    })))
            })
            .collect();
        let channels = channels?;
        if channels.is_empty() {
            return Err(StoreError::Other(
                "no endpoint of the store is given".to_owned(),
            ));
        }
        Ok(Self {
            channels,
            current: AtomicUsize::new(0),
        })
    }

    /// The channel in use and its index.
    pub fn channel(&self) -> (usize, Channel) {
        let index = self.current.load(Ordering::Relaxed) % self.channels.len();
        (index, self.channels[index].clone())
    }

    /// Moves away from an endpoint that failed, once for all who saw it fail.
    pub fn failed(&self, index: usize) {
        let next = (index + 1) % self.channels.len();
        let _ = self
            .current
            .compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Calls until an endpoint answers. `call` learns whether an earlier try
    /// may have taken effect.
    pub async fn call<T, F>(
        &self,
        asked: i64,
        call: impl Fn(Channel) -> F,
    ) -> Result<(T, bool), StoreError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut again = false;
        let mut tries = 0;
        loop {
            let (index, channel) = self.channel();
            // In a box: it is large, and part of all that calls the store.
            let call = Box::pin(call(channel));
            let answer = tokio::time::timeout(limits::STORE_CALL, call).await;
            let error = match answer {
                Ok(Ok(reply)) => return Ok((reply, again)),
                Ok(Err(status)) if passing(&status) => StoreError::of(&status, asked),
                Ok(Err(status)) => return Err(StoreError::of(&status, asked)),
                Err(_) => StoreError::Timeout,
            };
            self.failed(index);
            again = true;
            tries += 1;
            if tries >= limits::STORE_TRIES {
                return Err(error);
            }
            tokio::time::sleep(limits::STORE_PAUSE).await;
        }
    }
}
