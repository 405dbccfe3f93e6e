//! Accepting connections as long as there are places.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::rate_limited::RateLimited;

/// After a failure to accept. A listener that is out of descriptors, or whose
/// system is, would fail again at once.
const PAUSE: Duration = Duration::from_millis(50);

/// A number of connections, shared by all listeners that have a clone.
#[derive(Clone)]
pub struct Places {
    inner: Arc<Inner>,
}

struct Inner {
    free: Arc<Semaphore>,
    total: usize,
    refused: RateLimited,
    failed: RateLimited,
}

/// One connection's; free again when dropped.
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub fn new(total: usize) -> Self {
        let total = total.min(Semaphore::MAX_PERMITS);
        Self {
            inner: Arc::new(Inner {
                free: Arc::new(Semaphore::new(total)),
                total,
                refused: RateLimited::default(),
                failed: RateLimited::default(),
            }),
        }
    }

    fn take(&self) -> Option<Place> {
        let permit = self.inner.free.clone().try_acquire_owned().ok()?;
        Some(Place { _permit: permit })
    }

    fn tell_refused(&self, peer: &str) {
        if let Some(times) = self.inner.refused.count(Instant::now()) {
            tracing::warn!(
                peer,
                connections = self.inner.total,
                refused = times,
                "refused a connection: there are as many as the limit allows"
            );
        }
    }

    fn tell_failed(&self, error: &io::Error) {
        if let Some(times) = self.inner.failed.count(Instant::now()) {
            tracing::warn!(%error, failed = times, "cannot accept a connection");
        }
    }
}

/// An address that is listened on.
pub trait Listen {
    type Connection;

    /// The next connection. May be dropped at any time: none is lost.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Connection>> + Send;

    /// Where a connection comes from, for the log.
    fn peer(connection: &Self::Connection) -> String;
}

impl Listen for TcpListener {
    type Connection = (TcpStream, SocketAddr);

    fn accept(&self) -> impl Future<Output = io::Result<Self::Connection>> + Send {
        self.accept()
    }

    fn peer((_, peer): &Self::Connection) -> String {
        peer.to_string()
    }
}

/// The next connection of `listener`, with its place. Those without one are
/// closed. Never ends by a failure, and does not spin on one. May be dropped at
/// any time: no connection is lost.
pub async fn accept<L: Listen>(listener: &L, places: &Places) -> (L::Connection, Place) {
    loop {
        match listener.accept().await {
            Ok(connection) => match places.take() {
                Some(place) => return (connection, place),
                None => places.tell_refused(&L::peer(&connection)),
            },
            Err(error) => {
                places.tell_failed(&error);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn who_comes_when_all_places_are_taken_is_turned_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let places = Places::new(2);
        let connect = || TcpStream::connect(address);
        let _first = connect().await.expect("connected");
        let (_, first_place) = accept(&listener, &places).await;
        let _second = connect().await.expect("connected");
        let second = accept(&listener, &places).await;
        let mut third = connect().await.expect("connected");
        let mut fourth = connect().await.expect("connected");
        // The two without a place are closed while the next one is waited for.
        let turned_away = async {
            for stream in [&mut third, &mut fourth] {
                assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
            }
            drop(first_place);
            connect().await.expect("connected")
        };
        let (fifth, ((stream, peer), _)) = tokio::join!(turned_away, accept(&listener, &places));
        assert_eq!(peer, fifth.local_addr().expect("an address"));
        drop((stream, second));
    }
}
