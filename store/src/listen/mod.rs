//! Accepting connections: [`clients`] on our own HTTP/2 front, [`peers`] on
//! hyper's.
//!
//! Knows sockets, places, handshakes and how a port is closed. Must not know what
//! is asked on a connection: services are given.

mod clients;
mod peers;

use std::{future::Future, io, time::Duration};

use mizzen_descriptors::{Listen, Place, Places};
use tokio::sync::watch;

use crate::tls::{Bound, Door, PeerCertificates, Socket};

pub use clients::{serve_clients, stopped, transport};
pub use peers::serve_peers;

/// How long requests under way may take to finish at the end.
const GRACE: Duration = Duration::from_secs(1);

/// A bound address, not yet accepting.
pub struct Listener {
    inner: Bound,
    door: Door,
    places: Places,
}

impl Listen for Bound {
    type Connection = Socket;

    fn accept(&self) -> impl Future<Output = io::Result<Socket>> + Send {
        self.accept()
    }

    fn peer(connection: &Socket) -> String {
        connection.remote_text()
    }
}

impl Listener {
    /// `places` bounds the connections, those of all listeners with the same
    /// ones together. A connection has its place before its handshake.
    pub fn new(inner: Bound, door: Door, places: &Places) -> Self {
        Self {
            inner,
            door,
            places: places.clone(),
        }
    }

    /// Logs what is served here from now on, in etcd's words.
    pub fn tell(&self, traffic: &str) {
        let address = self.inner.address();
        if self.door.is_plain() {
            tracing::info!(
                traffic,
                address,
                "serving client traffic insecurely; this is strongly discouraged!"
            );
        }
        if self.door.is_secure() {
            tracing::info!(traffic, address, "serving client traffic securely");
        }
    }

    /// The next connection with its place, which is free again when dropped;
    /// `None` once `stop` says true.
    async fn accept(&self, stop: &mut watch::Receiver<bool>) -> Option<(Socket, Place)> {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => None,
            accepted = mizzen_descriptors::accept(&self.inner, &self.places) => Some(accepted),
        }
    }
}

async fn finish(connections: impl Future) {
    if tokio::time::timeout(GRACE, connections).await.is_err() {
        tracing::info!("closing connections with requests under way");
    }
}

/// Serves a connection as long as its certificate is not revoked.
async fn until_revoked<E>(
    session: PeerCertificates,
    served: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    tokio::select! {
        ended = served => ended,
        () = session.revoked() => {
            tracing::warn!("closed a connection: its certificate has been revoked");
            Ok(())
        }
    }
}
