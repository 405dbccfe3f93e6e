//! The port for clients: HTTP/2 on our own front, HTTP/1.1 for pages.

use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use mizzen_h2::{Budget, Excess, Service};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    sync::watch,
    task::JoinSet,
};

use super::{Listener, finish, until_revoked};
use crate::{
    grpc::{Pages, Remote, page},
    limits,
    tls::{Connection, PeerCertificates},
};

/// What all connections of clients share: each may have so many streams, and
/// all together make a member hold so many bytes.
pub fn transport(streams: u32, bytes: usize) -> mizzen_h2::Config {
    mizzen_h2::Config {
        streams,
        stream_window: limits::STREAM_WINDOW_BYTES,
        connection_window: limits::CONNECTION_WINDOW_BYTES,
        held_bytes: limits::COALESCE_BYTES,
        keepalive_interval: limits::KEEPALIVE_INTERVAL,
        keepalive_timeout: limits::KEEPALIVE_TIMEOUT,
        patience: limits::CLIENT_PATIENCE,
        budget: Budget::new(bytes),
        counters: Arc::default(),
    }
}

/// How often connections of this configuration were stopped or refused, by reason.
pub fn stopped(
    config: &mizzen_h2::Config,
) -> impl Fn() -> Vec<(&'static str, u64)> + Send + Sync + use<> {
    let counters = config.counters.clone();
    let count = move |excess: Excess| (excess.reason(), counters.count(excess));
    move || Excess::ALL.into_iter().map(&count).collect()
}

/// Serves clients with the `service` that each gets, and HTTP/1.1 with `pages`,
/// each knowing whom `remote` says a client to be, until `stop` says true; then lets
/// requests under way finish, for a moment.
pub async fn serve_clients<S: Service>(
    listener: Listener,
    config: mizzen_h2::Config,
    remote: impl Fn(&PeerCertificates) -> Remote + Clone + Send + 'static,
    service: impl Fn(&Remote) -> S + Clone + Send + 'static,
    pages: Arc<dyn Pages>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    while let Some((stream, place)) = listener.accept(&mut stop).await {
        let (remote, service, pages) = (remote.clone(), service.clone(), pages.clone());
        let (config, stop) = (config.clone(), stop.clone());
        let door = listener.door.clone();
        let peer = Arc::from(stream.remote_text());
        connections.spawn(async move {
            let mut leave = stop.clone();
            let opened = tokio::select! {
                opened = door.open(stream) => opened,
                _ = leave.wait_for(|stop| *stop) => None,
            };
            if let Some((stream, session)) = opened {
                let remote = remote(&session);
                let service = service(&remote);
                let pages = (pages, remote);
                let served = client(stream, peer, service, pages, config, stop);
                if let Err(error) = until_revoked(session, served).await {
                    tracing::debug!(%error, "a connection ended");
                }
            }
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    finish(async { while connections.join_next().await.is_some() {} }).await;
}

async fn client<S: Service>(
    mut stream: Connection,
    peer: Arc<str>,
    service: S,
    (pages, remote): (Arc<dyn Pages>, Remote),
    config: mizzen_h2::Config,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut read = BytesMut::new();
    let begun = begun(&mut stream, &mut read);
    let http2 = match tokio::time::timeout(limits::HTTP1_HEADER_TIMEOUT, begun).await {
        Ok(http2) => http2?,
        Err(late) => {
            config.counters.note(Excess::SlowHandshake, &peer);
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
    let answer = |mut request: Request<Incoming>| {
        request.extensions_mut().insert(remote.clone());
        let pages = pages.clone();
        async move { Ok::<_, Infallible>(page(&*pages, request).await) }
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HTTP1_HEADER_TIMEOUT)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended.map_err(io::Error::other),
        () = leave => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(io::Error::other)
}

/// Reads until it is clear whether the client speaks HTTP/2.
async fn begun(stream: &mut Connection, read: &mut BytesMut) -> io::Result<bool> {
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
    inner: Connection,
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

#[cfg(test)]
mod tests {
    use futures::future::BoxFuture;
    use http::Response;
    use mizzen_descriptors::Places;
    use mizzen_h2::{Head, Incoming as RequestBody, Reply};
    use tonic::{Status, transport::Endpoint};
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    use super::*;
    use crate::{
        grpc::reply,
        tls::{Bound, Door},
    };

    /// Refuses every call, and panics on one.
    #[derive(Clone)]
    struct Fragile;

    impl Service for Fragile {
        type Body = reply::Reply;

        fn whole(&self, _: &Head) -> Option<usize> {
            Some(1_024)
        }

        fn answer(&self, _: Arc<Head>, body: Bytes) -> BoxFuture<'static, Reply> {
            Box::pin(async move {
                // A gRPC message has five bytes before its own.
                assert!(body.len() == 5, "this one is too much");
                reply::unary(Err(Status::already_exists("alive")))
            })
        }

        fn refuse(&self) -> mizzen_h2::Block {
            reply::no_memory()
        }

        fn call(&self, _: Request<RequestBody>) -> BoxFuture<'static, Response<Self::Body>> {
            unreachable!("all are wanted whole")
        }
    }

    struct Nothing;

    impl Pages for Nothing {
        fn answer(
            &self,
            _: Request<crate::grpc::RequestBody>,
        ) -> BoxFuture<'static, Response<crate::grpc::Reply>> {
            Box::pin(async { Response::new(crate::grpc::Reply::whole(Bytes::new())) })
        }
    }

    #[tokio::test]
    async fn a_panic_ends_the_connection_that_asked_for_it_and_no_other() {
        let places = Places::new(10);
        let any = "127.0.0.1:0";
        let bound = tokio::net::TcpListener::bind(any).await.expect("bound");
        let address = bound.local_addr().expect("an address");
        let listener = Listener::new(Bound::Tcp(bound), Door::new(true, None, None), &places);
        let (stop, stopping) = watch::channel(false);
        let serving = tokio::spawn(serve_clients(
            listener,
            transport(10, 1 << 20),
            |_: &PeerCertificates| Remote::default(),
            |_: &Remote| Fragile,
            Arc::new(Nothing),
            stopping,
        ));
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
        let mut good = HealthClient::new(endpoint.connect().await.expect("connected"));
        let mut bad = HealthClient::new(endpoint.connect().await.expect("connected"));
        let ask = |service: &str| HealthCheckRequest {
            service: service.to_owned(),
        };
        for _ in 0..2 {
            let broken = bad.check(ask("x")).await.expect_err("a panic");
            assert_ne!(broken.message(), "alive");
            let alive = good.check(ask("")).await.expect_err("refused");
            assert_eq!(alive.message(), "alive");
        }
        drop((good, bad));
        stop.send_replace(true);
        serving.await.expect("the listener goes on");
    }
}
