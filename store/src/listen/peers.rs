//! The port for peers: the services are tonic's, the transport hyper's.

use std::{convert::Infallible, future::Future};

use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use mizzen_h2::Coalesce;
use tokio::sync::watch;

use super::{Listener, finish, until_revoked};
use crate::{limits, workers};

/// Serves peers with `service` until `stop` says true; then lets requests under
/// way finish, for a moment.
pub async fn serve_peers<S, F, B>(listener: Listener, service: S, mut stop: watch::Receiver<bool>)
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let graceful = GracefulShutdown::new();
    let http = protocol();
    while let Some((stream, place)) = listener.accept(&mut stop).await {
        let (service, http) = (service.clone(), http.clone());
        let (door, watcher) = (listener.door.clone(), graceful.watcher());
        let mut leave = stop.clone();
        workers::detached(async move {
            let opened = tokio::select! {
                opened = door.open(stream) => opened,
                _ = leave.wait_for(|stop| *stop) => None,
            };
            let Some((stream, session)) = opened else {
                return;
            };
            let connection = http.serve_connection_with_upgrades(
                TokioIo::new(Coalesce::new(stream, limits::COALESCE_BYTES)),
                service_fn(service),
            );
            let served = watcher.watch(connection.into_owned());
            if let Err(error) = until_revoked(session, served).await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    finish(graceful.shutdown()).await;
}

fn protocol() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HTTP1_HEADER_TIMEOUT);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        // A member that vanishes again and again must not take up all places.
        .keep_alive_interval(limits::PEER_STALL)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT);
    http
}
