//! Accepting connections and serving HTTP/1 and HTTP/2 on them.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use mizzen_h2::Coalesce;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

use crate::limits;

/// A bound address, not yet accepting.
pub struct Listener {
    inner: TcpListener,
}

impl Listener {
    /// Fails if the address is taken, with the address in the error.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let inner = TcpListener::bind(address).await.map_err(|error| {
            io::Error::new(error.kind(), format!("listen tcp {address}: {error}"))
        })?;
        Ok(Self { inner })
    }
}

/// Serves every connection with `service` until `stop` says true; then lets
/// requests under way finish, for a moment.
pub async fn serve<S, F, B>(
    listener: Listener,
    streams: u32,
    service: S,
    mut stop: watch::Receiver<bool>,
) where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const GRACE: Duration = Duration::from_secs(1);
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS));
    let http = protocol(streams);
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = accept(&listener.inner, &places) => accepted,
        };
        let Some((stream, place)) = accepted else {
            continue;
        };
        let service = service.clone();
        let connection = http.serve_connection_with_upgrades(
            TokioIo::new(Coalesce::new(stream, limits::COALESCE_BYTES)),
            hyper::service::service_fn(service),
        );
        let connection = graceful.watch(connection.into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::info!("closing connections with requests under way");
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    const PAUSE: Duration = Duration::from_millis(50);
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection broke before it was served");
                return None;
            }
            Some((stream, place))
        }
        Err(error) => {
            // Out of file descriptors, most likely: it passes as others close.
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

fn protocol(streams: u32) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HTTP1_HEADER_TIMEOUT);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(limits::KEEPALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT);
    http
}
