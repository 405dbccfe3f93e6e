//! What is said between this member and each other one, in bytes, and how long a
//! question takes there and back.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};
use mizzen_counters::{Counter, Distribution, Histogram};
use mizzen_proto::peer::peer_client::PeerClient;
use parking_lot::Mutex;
use tonic::{service::interceptor::InterceptedService, transport::Channel};

use super::dial::{FROM_HEADER, Stamp};
use crate::limits;

/// Counted for one peer.
#[derive(Debug)]
pub struct Peer {
    sent: Counter,
    received: Counter,
    failures: Counter,
    received_failures: Counter,
    round_trips: Histogram,
}

/// [`Peer`], read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeerFigures {
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// Calls to it that came to nothing.
    pub sent_failures: u64,
    /// Messages of it that broke off.
    pub received_failures: u64,
    pub round_trips: Distribution,
}

impl Peer {
    fn new() -> Self {
        Self {
            sent: Counter::default(),
            received: Counter::default(),
            failures: Counter::default(),
            received_failures: Counter::default(),
            // etcd's buckets.
            round_trips: Histogram::doubling(Duration::from_micros(100), 16),
        }
    }

    pub fn round_trip(&self, time: Duration) {
        self.round_trips.observe(time);
    }

    fn read(&self) -> PeerFigures {
        PeerFigures {
            sent_bytes: self.sent.read(),
            received_bytes: self.received.read(),
            sent_failures: self.failures.read(),
            received_failures: self.received_failures.read(),
            round_trips: self.round_trips.read(),
        }
    }
}

/// Counted for all peers, as many as there are members.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    peers: Arc<Mutex<BTreeMap<u64, Arc<Peer>>>>,
}

impl Traffic {
    pub fn of(&self, peer: u64) -> Arc<Peer> {
        let mut peers = self.peers.lock();
        peers
            .entry(peer)
            .or_insert_with(|| Arc::new(Peer::new()))
            .clone()
    }

    /// Only of those that exist: a stranger's word for who it is makes none.
    fn known(&self, peer: u64) -> Option<Arc<Peer>> {
        self.peers.lock().get(&peer).cloned()
    }

    pub fn retain(&self, members: impl Fn(u64) -> bool) {
        self.peers.lock().retain(|id, _| members(*id));
    }

    pub fn read(&self) -> BTreeMap<u64, PeerFigures> {
        let peers = self.peers.lock();
        peers.iter().map(|(id, peer)| (*id, peer.read())).collect()
    }

    /// Has a request of a peer answered, and counts both.
    pub async fn serve<B, R, F>(
        &self,
        request: http::Request<B>,
        answer: impl FnOnce(http::Request<tonic::body::Body>) -> F,
    ) -> Result<http::Response<tonic::body::Body>, Infallible>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        F: Future<Output = Result<http::Response<R>, Infallible>>,
    {
        let from = request.headers().get(FROM_HEADER);
        let from = from.and_then(|value| value.to_str().ok()?.parse().ok());
        let peer = from.and_then(|from| self.known(from));
        let request = request.map(|body| counted(body, &peer, Direction::Received));
        let response = answer(request).await?;
        Ok(response.map(|body| counted(body, &peer, Direction::Sent)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Sent,
    Received,
}

fn counted<B>(body: B, peer: &Option<Arc<Peer>>, direction: Direction) -> tonic::body::Body
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match peer {
        Some(peer) => tonic::body::Body::new(Counted {
            body: Box::pin(body),
            peer: peer.clone(),
            direction,
        }),
        None => tonic::body::Body::new(body),
    }
}

/// A body whose bytes are counted as they pass.
struct Counted<B> {
    body: Pin<Box<B>>,
    peer: Arc<Peer>,
    direction: Direction,
}

impl<B: Body<Data = Bytes>> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = std::task::ready!(self.body.as_mut().poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.remaining() as u64);
                match self.direction {
                    Direction::Sent => self.peer.sent.add(bytes),
                    Direction::Received => self.peer.received.add(bytes),
                }
            }
            Some(Err(_)) if self.direction == Direction::Received => {
                self.peer.received_failures.add(1);
            }
            Some(Err(_)) | None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection to one member, which marks what it sends, and counts.
#[derive(Clone)]
pub struct PeerChannel {
    inner: InterceptedService<Channel, Stamp>,
    peer: Arc<Peer>,
}

impl PeerChannel {
    pub(super) fn new(channel: Channel, stamp: Stamp, peer: Arc<Peer>) -> Self {
        Self {
            inner: InterceptedService::new(channel, stamp),
            peer,
        }
    }
}

/// What a peer is asked by.
pub type Client = PeerClient<PeerChannel>;

pub fn client(channel: PeerChannel) -> Client {
    PeerClient::new(channel)
        .max_decoding_message_size(limits::PEER_MESSAGE_BYTES)
        .max_encoding_message_size(limits::PEER_MESSAGE_BYTES)
}

type Intercepted = InterceptedService<Channel, Stamp>;

impl tower::Service<http::Request<tonic::body::Body>> for PeerChannel {
    type Response = http::Response<tonic::body::Body>;
    type Error = <Intercepted as tower::Service<http::Request<tonic::body::Body>>>::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let peer = Some(self.peer.clone());
        let request = request.map(|body| counted(body, &peer, Direction::Sent));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await;
            match (response, &peer) {
                (Ok(response), _) => {
                    Ok(response.map(|body| counted(body, &peer, Direction::Received)))
                }
                (Err(error), Some(peer)) => {
                    peer.failures.add(1);
                    Err(error)
                }
                (Err(error), None) => Err(error),
            }
        })
    }
}
