//! This member as a client of its peers: openraft's messages over the peer
//! protocol.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt, future, stream};
use openraft::{
    RaftNetworkFactory, RaftNetworkV2,
    alias::{SnapshotOf, VoteOf},
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
        StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest,
        VoteResponse,
    },
};
use parking_lot::Mutex;

use super::{
    convert,
    dial::{Dial, Stamp, never_sent},
    snapshot::{self, Holds, SnapshotData},
    traffic::{Client, PeerChannel, Traffic, client},
    types::{LogId, PeerNode, TypeConfig},
};
use crate::limits;

type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type BoxStream<'a, T> = std::pin::Pin<Box<dyn Stream<Item = T> + Send + 'a>>;
type Answers<'a> = Result<
    BoxStream<'a, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
    RPCError<TypeConfig>,
>;

/// Clients of the peer protocol, one connection per peer and purpose.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    dial: Box<dyn Dial>,
    cluster_id: u64,
    own: u64,
    traffic: Traffic,
    /// Connections of everything but replication and heartbeats, by member,
    /// with the URLs they were made for.
    calls: Mutex<BTreeMap<u64, (Vec<String>, PeerChannel)>>,
    /// Where members are now, as far as it differs from what the log's
    /// membership says.
    moved: Mutex<BTreeMap<u64, Vec<String>>>,
    holds: Holds,
}

impl Peers {
    /// Of the member `own`.
    pub fn new(dial: Box<dyn Dial>, cluster_id: u64, own: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                dial,
                cluster_id,
                own,
                traffic: Traffic::default(),
                calls: Mutex::default(),
                moved: Mutex::default(),
                holds: Holds::default(),
            }),
        }
    }

    /// Tells where members are now; the log's membership follows later.
    pub fn set_addresses(&self, addresses: BTreeMap<u64, Vec<String>>) {
        *self.shared.moved.lock() = addresses;
    }

    fn urls(&self, to: u64, node: &PeerNode) -> Vec<String> {
        let moved = self.shared.moved.lock().get(&to).cloned();
        moved.unwrap_or_else(|| node.peer_urls.clone())
    }

    fn connect(&self, to: u64, urls: &[String]) -> io::Result<PeerChannel> {
        let url = urls
            .first()
            .ok_or_else(|| io::Error::other(format!("member {to:x} has no peer URL")))?;
        let stamp = Stamp {
            cluster_id: self.shared.cluster_id.into(),
            to: to.into(),
            from: self.shared.own.into(),
        };
        let channel = self.shared.dial.dial(url)?;
        Ok(PeerChannel::new(channel, stamp, self.traffic().of(to)))
    }

    pub fn traffic(&self) -> &Traffic {
        &self.shared.traffic
    }

    /// The log positions that transfers of snapshots depend on.
    pub(super) fn holds(&self) -> &Holds {
        &self.shared.holds
    }

    /// The connection for calls of this member's own (read index, proposals).
    pub fn channel(&self, to: u64, node: &PeerNode) -> io::Result<PeerChannel> {
        let urls = self.urls(to, node);
        let mut calls = self.shared.calls.lock();
        if let Some((known, channel)) = calls.get(&to)
            && *known == urls
        {
            return Ok(channel.clone());
        }
        let channel = self.connect(to, &urls)?;
        calls.insert(to, (urls, channel.clone()));
        Ok(channel)
    }

    /// Forgets who is no member any more.
    pub fn retain(&self, members: impl Fn(u64) -> bool) {
        self.shared.calls.lock().retain(|id, _| members(*id));
        self.shared.traffic.retain(members);
    }
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = Network;

    async fn new_client(&mut self, target: u64, node: &PeerNode) -> Network {
        Network {
            peers: self.clone(),
            target,
            node: node.clone(),
            connection: None,
            heartbeats: false,
            holds: self.shared.holds.clone(),
        }
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &PeerNode) -> Network {
        Network {
            heartbeats: true,
            ..self.new_client(target, node).await
        }
    }
}

/// One connection to one peer.
pub struct Network {
    peers: Peers,
    target: u64,
    node: PeerNode,
    /// With the URLs it was made for: a member may move.
    connection: Option<(Vec<String>, Client)>,
    /// Heartbeats come one by one: a call each is cheaper than a stream each.
    heartbeats: bool,
    holds: Holds,
}

/// A dead or refusing peer: openraft backs off. Anything else it tries again.
fn rpc_error(status: tonic::Status) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(&status))
}

fn malformed() -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::from_string("malformed answer of a peer"))
}

impl Network {
    fn client(&mut self) -> Result<&mut Client, RPCError<TypeConfig>> {
        let urls = self.peers.urls(self.target, &self.node);
        let connection = match self.connection.take().filter(|(known, _)| *known == urls) {
            Some(connection) => connection,
            None => match self.peers.connect(self.target, &urls) {
                Ok(channel) => (urls, client(channel)),
                Err(error) => return Err(RPCError::Unreachable(Unreachable::new(&error))),
            },
        };
        Ok(&mut self.connection.insert(connection).1)
    }

    async fn bounded<T>(
        target: u64,
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, RPCError<TypeConfig>> {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map(tonic::Response::into_inner).map_err(rpc_error),
            Err(_) => Err(RPCError::Timeout(Timeout {
                action: openraft::network::RPCTypes::AppendEntries,
                id: target,
                target,
                timeout: limit,
            })),
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Network {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let target = self.target;
        let answer = Self::bounded(
            target,
            option.hard_ttl(),
            self.client()?.append(convert::append_to_wire(rpc)),
        )
        .await?;
        Ok(
            match convert::append_result_from_wire(answer).ok_or_else(malformed)? {
                Ok(last) => AppendEntriesResponse::PartialSuccess(last),
                Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
                Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
            },
        )
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
            RPCError<TypeConfig>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            if self.heartbeats {
                return self.append_each(input, option);
            }
            // openraft backs off from a dead peer by holding the first request
            // back: dialling before it comes would spin.
            let Some(first) = input.next().await else {
                return Ok(Box::pin(stream::empty()) as BoxStream<'_, _>);
            };
            let sent = Arc::new(AtomicU64::new(0));
            let counted = sent.clone();
            let requests = stream::once(future::ready(first))
                .chain(input)
                .map(move |rpc| {
                    counted.fetch_add(1, Ordering::Relaxed);
                    convert::append_to_wire(rpc)
                });
            let answers = self
                .client()?
                .stream_append(requests)
                .await
                .map_err(rpc_error)?
                .into_inner();
            let results = answers.map(|answer| match answer {
                Ok(answer) => convert::append_result_from_wire(answer).ok_or_else(malformed),
                Err(status) => Err(rpc_error(status)),
            });
            Ok(Box::pin(until_stalled(results, sent, self.target)) as BoxStream<'_, _>)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let target = self.target;
        let answer = Self::bounded(
            target,
            option.hard_ttl(),
            self.client()?.vote(convert::vote_request_to_wire(rpc)),
        )
        .await?;
        convert::vote_response_from_wire(answer).ok_or_else(malformed)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let target = self.target;
        let answer = Self::bounded(
            target,
            option.hard_ttl(),
            self.client()?.pre_vote(convert::vote_request_to_wire(rpc)),
        )
        .await?;
        convert::vote_response_from_wire(answer).ok_or_else(malformed)
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let unreachable =
            |reason: &str| StreamingError::Unreachable(Unreachable::from_string(reason));
        let (Some(last), SnapshotData::Own(rows)) = (snapshot.meta.last_log_id, snapshot.snapshot)
        else {
            return Err(unreachable("these are not this member's own rows"));
        };
        let last = LogId::from(last);
        let _hold = self.holds.hold(last.index);
        let client = self
            .client()
            .map_err(|error| unreachable(&error.to_string()))?
            .clone();
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = snapshot::send(client, &vote, last, rows) => match sent {
                Ok(answer) => snapshot::response_from_wire(answer)
                    .ok_or_else(|| unreachable("malformed answer of a peer")),
                Err(status) => {
                    // Somebody who is away is tried again and again.
                    if !never_sent(&status) {
                        tracing::warn!(member = %format_args!("{:x}", self.target), %status, "a snapshot was not sent");
                    }
                    Err(unreachable(&status.to_string()))
                }
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let target = self.target;
        let answer = Self::bounded(
            target,
            option.hard_ttl(),
            self.client()?
                .transfer_leader(convert::transfer_to_wire(&rpc)),
        )
        .await?;
        if answer.refused.is_empty() {
            return Ok(Ok(()));
        }
        Err(RPCError::Network(NetworkError::from_string(answer.refused)))
    }
}

/// Ends with an error when a request has not been answered for too long: a
/// peer that hangs would otherwise hold the log from being purged for ever.
fn until_stalled<'s>(
    answers: impl Stream<Item = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>
    + Send
    + Unpin
    + 's,
    sent: Arc<AtomicU64>,
    target: u64,
) -> impl Stream<Item = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>> + Send + 's {
    let limit = limits::PEER_STALL;
    stream::unfold(Some((answers, 0)), move |state| {
        let sent = sent.clone();
        async move {
            let (mut answers, answered) = state?;
            // What had been sent when this began to wait for an answer.
            let mut waited_for = 0;
            loop {
                match tokio::time::timeout(limit, answers.next()).await {
                    Ok(answer) => return Some((answer?, Some((answers, answered + 1)))),
                    Err(_) if waited_for > answered => {
                        let stalled = RPCError::Timeout(Timeout {
                            action: openraft::network::RPCTypes::AppendEntries,
                            id: target,
                            target,
                            timeout: limit,
                        });
                        return Some((Err(stalled), None));
                    }
                    Err(_) => waited_for = sent.load(Ordering::Relaxed),
                }
            }
        }
    })
}

impl Network {
    fn append_each<'s, S>(&'s mut self, input: S, option: RPCOption) -> Answers<'s>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let (target, limit) = (self.target, option.hard_ttl());
        let client = self.client()?.clone();
        Ok(Box::pin(input.then(move |rpc| {
            let mut client = client.clone();
            async move {
                let answer =
                    Self::bounded(target, limit, client.append(convert::append_to_wire(rpc)))
                        .await?;
                convert::append_result_from_wire(answer).ok_or_else(malformed)
            }
        })))
    }
}
