//! Accepting connections: of clients, on our own HTTP/2 front, and of peers,
//! on tonic's.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use mizzen_h2::{Budget, Coalesce, Excess, Service};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

use super::not_found;
use crate::limits;

/// How long requests under way may take to finish at the end.
const GRACE: Duration = Duration::from_secs(1);

/// A bound address, not yet accepting.
pub struct Listener {
    inner: TcpListener,
    places: Arc<Semaphore>,
}

impl Listener {
    /// Fails if the address is taken, with the address in the error.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let inner = TcpListener::bind(address).await.map_err(|error| {
            io::Error::new(error.kind(), format!("listen tcp {address}: {error}"))
        })?;
        Ok(Self {
            inner,
            places: Arc::new(Semaphore::new(limits::CONNECTIONS)),
        })
    }

    /// The next connection with its place, which is free again when dropped;
    /// `None` once `stop` says true.
    async fn accept(
        &self,
        stop: &mut watch::Receiver<bool>,
    ) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => None,
            accepted = self.accept_any() => accepted,
        }
    }

    async fn accept_any(&self) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        const PAUSE: Duration = Duration::from_millis(50);
        loop {
            let place = self.places.clone().acquire_owned().await.ok()?;
            match self.inner.accept().await {
                Ok((stream, _)) => match stream.set_nodelay(true) {
                    Ok(()) => return Some((stream, place)),
                    Err(error) => {
                        tracing::debug!(%error, "a connection broke before it was served");
                    }
                },
                Err(error) => {
                    // Out of file descriptors, most likely: it passes as
                    // others close.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn finish(connections: impl Future) {
    if tokio::time::timeout(GRACE, connections).await.is_err() {
        tracing::info!("closing connections with requests under way");
    }
}

/// Serves clients with `service` until `stop` says true; then lets requests
/// under way finish, for a moment.
pub async fn serve_clients<S: Service + Clone>(
    listener: Listener,
    streams: u32,
    service: S,
    mut stop: watch::Receiver<bool>,
) {
    let config = mizzen_h2::Config {
        streams,
        stream_window: limits::STREAM_WINDOW_BYTES,
        connection_window: limits::CONNECTION_WINDOW_BYTES,
        held_bytes: limits::COALESCE_BYTES,
        keepalive_interval: limits::KEEPALIVE_INTERVAL,
        keepalive_timeout: limits::KEEPALIVE_TIMEOUT,
        patience: limits::CLIENT_PATIENCE,
        budget: Budget::new(limits::CLIENT_BYTES),
        counters: Arc::default(),
    };
    let mut connections = JoinSet::new();
    while let Some((stream, place)) = listener.accept(&mut stop).await {
        let (service, config, stop) = (service.clone(), config.clone(), stop.clone());
        connections.spawn(async move {
            if let Err(error) = client(stream, service, config, stop).await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    finish(async { while connections.join_next().await.is_some() {} }).await;
}

async fn client<S: Service>(
    mut stream: TcpStream,
    service: S,
    config: mizzen_h2::Config,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let peer = stream.peer_addr()?;
    let mut read = BytesMut::new();
    let begun = begun(&mut stream, &mut read);
    let http2 = match tokio::time::timeout(limits::HTTP1_HEADER_TIMEOUT, begun).await {
        Ok(http2) => http2?,
        Err(late) => {
            config.counters.note(Excess::SlowHandshake, peer);
            return Err(late.into());
        }
    };
    let leave = async move {
        // The sender is gone when all is over: then as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    if http2 {
        return mizzen_h2::serve(stream, read, service, config, peer, leave).await;
    }
    let stream = Begun {
        read: read.freeze(),
        inner: stream,
    };
    let refuse = |_: Request<Incoming>| async { Ok::<_, Infallible>(not_found()) };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HTTP1_HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service_fn(refuse));
    tokio::select! {
        ended = connection => ended.map_err(io::Error::other),
        () = leave => Ok(()),
    }
}

/// Reads until it is clear whether the client speaks HTTP/2.
async fn begun(stream: &mut TcpStream, read: &mut BytesMut) -> io::Result<bool> {
    let preface = mizzen_h2::PREFACE;
    loop {
        let length = read.len().min(preface.len());
        if read[..length] != preface[..length] {
            return Ok(false);
        }
        if length == preface.len() {
            return Ok(true);
        }
        if stream.read_buf(read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A connection of which something has been read.
struct Begun {
    read: Bytes,
    inner: TcpStream,
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, into);
        }
        let length = self.read.len().min(into.remaining());
        into.put_slice(&self.read[..length]);
        self.read.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Serves peers with `service`, as [`serve_clients`] does clients.
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
        let service = service.clone();
        let connection = http.serve_connection_with_upgrades(
            TokioIo::new(Coalesce::new(stream, limits::COALESCE_BYTES)),
            service_fn(service),
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
        .keep_alive_interval(limits::KEEPALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT);
    http
}
