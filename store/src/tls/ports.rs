//! From an accepted connection to one that may be served: plain or by TLS,
//! whichever its port allows, after the handshake and etcd's checks.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Handle,
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Credentials, certificate::Certificate, reason, san, socket::Socket, verify::Revoked};
use crate::limits;

/// The first byte of a TLS connection: the content type of a handshake
/// (RFC 8446, 5.1). Neither HTTP/1 nor HTTP/2 begins with it.
const HANDSHAKE: u8 = 22;

/// What a port lets in.
#[derive(Clone)]
pub struct Door {
    plain: bool,
    secure: Option<Arc<Secure>>,
}

struct Secure {
    credentials: Arc<Credentials>,
    handshakes: Semaphore,
    /// Where handshakes are worked out, if not where the connection is served.
    worker: Option<Handle>,
}

impl Door {
    /// Whether it lets in what does not use TLS.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// Whether it lets in what uses TLS.
    pub fn is_secure(&self) -> bool {
        self.secure.is_some()
    }

    /// Lets in what does not use TLS, if `plain`, and what does, if there are
    /// credentials for it.
    pub fn new(plain: bool, credentials: Option<Arc<Credentials>>, worker: Option<Handle>) -> Self {
        Self {
            plain,
            secure: credentials.map(|credentials| {
                Arc::new(Secure {
                    credentials,
                    handshakes: Semaphore::new(limits::TLS_HANDSHAKES),
                    worker,
                })
            }),
        }
    }

    /// Makes the handshake, if there is to be one. What is refused has been
    /// logged, in etcd's form.
    pub async fn open(&self, mut socket: Socket) -> Option<(Connection, PeerCertificates)> {
        let Some(secure) = &self.secure else {
            return Some((Connection::Plain(socket), PeerCertificates::default()));
        };
        if self.plain {
            match timeout(limits::TLS_HANDSHAKE_TIMEOUT, socket.first()).await {
                Ok(Ok(Some(HANDSHAKE))) => {}
                Ok(Ok(Some(_))) => {
                    return Some((Connection::Plain(socket), PeerCertificates::default()));
                }
                // It says nothing.
                Ok(Ok(None) | Err(_)) | Err(_) => return None,
            }
        }
        match &secure.worker {
            Some(worker) => {
                let secure = secure.clone();
                let handshake = async move { secure.handshake(socket).await };
                worker.spawn(handshake).await.ok().flatten()
            }
            None => secure.handshake(socket).await,
        }
    }
}

impl Secure {
    async fn handshake(&self, mut socket: Socket) -> Option<(Connection, PeerCertificates)> {
        let remote = (socket.remote(), socket.remote_text());
        socket.read_ahead(limits::TLS_READ_BYTES);
        let handshake = async {
            // Plain HTTP is not answered with an alert it could not read.
            match socket.first().await? {
                Some(HANDSHAKE) => {}
                Some(_) => return Err(io::Error::other(reason::NO_TLS)),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
            // Never closed.
            let place = self.handshakes.acquire().await.ok();
            let stream = TlsAcceptor::from(self.credentials.server())
                .accept(socket)
                .await;
            drop(place);
            stream
        };
        let mut stream = match timeout(limits::TLS_HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let text = reason::text(&error);
                self.refused(&remote.1, "", None, &text);
                return None;
            }
            Err(_) => {
                self.refused(&remote.1, "", None, "i/o timeout");
                return None;
            }
        };
        let (_, connection) = stream.get_mut();
        connection.set_buffer_limit(Some(limits::COALESCE_BYTES));
        let certificates: Vec<Certificate> = connection
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .filter_map(|der| Certificate::parse(der).ok())
            .collect();
        let server_name = connection.server_name().unwrap_or_default().to_owned();
        if let (Some(leaf), Some(from)) = (certificates.first(), remote.0)
            && !self.credentials.skips_san()
            && let Err(text) = san::check(leaf, from).await
        {
            self.refused(&remote.1, &server_name, Some(leaf), &text);
            return None;
        }
        let session = PeerCertificates {
            common_name: certificates
                .first()
                .map(|leaf| leaf.common_name.as_str().into()),
            serials: certificates.into_iter().map(|one| one.serial).collect(),
            revoked: Some(self.credentials.revoked()),
        };
        Some((Connection::Secure(Box::new(stream)), session))
    }

    /// etcd's line, with etcd's fields. Who goes away in the middle is not
    /// worth a warning, as for etcd: load balancers do all the time.
    fn refused(&self, remote: &str, server_name: &str, leaf: Option<&Certificate>, text: &str) {
        let kind = self.credentials.kind();
        if text == "EOF" {
            tracing::debug!(
                remote_addr = remote,
                server_name,
                error = text,
                "rejected connection on {kind} endpoint"
            );
            return;
        }
        match leaf {
            Some(leaf) => tracing::warn!(
                remote_addr = remote,
                server_name,
                ip_addresses = ?leaf.addresses,
                dns_names = ?leaf.dns_names,
                error = text,
                "rejected connection on {kind} endpoint"
            ),
            None => tracing::warn!(
                remote_addr = remote,
                server_name,
                error = text,
                "rejected connection on {kind} endpoint"
            ),
        }
    }
}

/// Who is at the other end, as far as a certificate says.
#[derive(Clone, Default)]
pub struct PeerCertificates {
    /// The common name of a certificate that was checked; empty if it has none.
    pub common_name: Option<Arc<str>>,
    serials: Vec<Vec<u8>>,
    revoked: Option<watch::Receiver<Arc<Revoked>>>,
}

impl PeerCertificates {
    /// Whether the connection uses TLS.
    pub fn is_secure(&self) -> bool {
        self.revoked.is_some()
    }

    /// Waits until one of the certificates is revoked.
    pub async fn revoked(mut self) {
        let serials = &self.serials;
        if let Some(revoked) = self.revoked.as_mut().filter(|_| !serials.is_empty()) {
            let theirs =
                |revoked: &Arc<Revoked>| serials.iter().any(|serial| revoked.contains(serial));
            if revoked.wait_for(theirs).await.is_ok() {
                return;
            }
        }
        std::future::pending().await
    }
}

/// A connection that may be served.
pub enum Connection {
    Plain(Socket),
    Secure(Box<TlsStream<Socket>>),
}

/// Does the same with either kind.
macro_rules! with {
    ($connection:expr, $stream:ident => $does:expr) => {
        match $connection {
            Connection::Plain($stream) => $does,
            Connection::Secure($stream) => $does,
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        with!(&mut *self, stream => Pin::new(stream).poll_read(cx, into))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        with!(&mut *self, stream => Pin::new(stream).poll_write(cx, data))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(&mut *self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(&mut *self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
