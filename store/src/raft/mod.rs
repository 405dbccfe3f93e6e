//! One Raft group's member: openraft and everything it needs, behind types of
//! our own.
//!
//! Knows log ids, votes, membership and peers. Must not know what a key is:
//! a proposal is bytes, and the rows belong to whoever implements [`Rows`].

mod convert;
mod dial;
mod force_new;
mod log;
mod low_priority;
mod machine;
mod membership;
mod network;
mod peer;
mod restored;
mod retention;
mod rows;
mod runtime;
mod snapshot;
mod traffic;
mod transfer;
mod types;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mizzen_counters::{Counter, Distribution};
use openraft::{
    Config, ReadPolicy, SnapshotPolicy,
    async_runtime::watch::WatchReceiver as _,
    errors::{ClientWriteError, InitializeError, LinearizableReadError, RaftError},
    impls::ProgressResponder,
};
use tokio::sync::watch;

pub use dial::{CLUSTER_ID_HEADER, Dial, PlainDial, TO_HEADER, connector, never_sent};
pub use force_new::force_new_group;
#[cfg(test)]
pub use machine::hasty_rows;
pub use machine::{Applied, BoxFuture, Committed, Received, Rows};
pub use membership::{Configuration, ConfigurationChange, Progress};
use mizzen_wal as wal;
pub use network::Peers;
pub use peer::PeerService;
pub use restored::begin_after;
pub use retention::Retention;
pub use traffic::{Client, PeerChannel, PeerFigures, Traffic};
pub use transfer::{Drain, TransferError};
pub use types::{LogId, Payload, PeerNode};

use crate::{
    limits,
    workers::{self, Workers},
};

/// How a member takes part in its group.
pub struct GroupConfig {
    pub id: u64,
    pub cluster_id: u64,
    /// Time between two heartbeats of a leader.
    pub heartbeat: Duration,
    /// Time without a leader after which a follower stands for election, as
    /// etcd means it.
    pub election_timeout: Duration,
    pub retention: Retention,
    pub workers: Workers,
}

/// What became of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// Committed, and applied on the leader.
    Done,
    /// Never appended: it may be proposed again, here or elsewhere.
    Refused,
    /// Never appended: the leader's log has as much to write as it may have.
    Busy,
    /// It may be applied now, later, or never.
    Unknown,
}

/// Why the leader gave no read index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadIndexError {
    #[error("this member is not the leader")]
    NotLeader,
    #[error("no quorum answered")]
    NoQuorum,
    #[error("raft has stopped")]
    Stopped,
}

/// A sight of the group from this member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub term: u64,
    pub leader: Option<u64>,
    /// Last entry of this member's log.
    pub last_index: u64,
    pub committed_index: u64,
    pub applied_index: u64,
    pub learner: bool,
}

pub struct Group {
    config: GroupConfig,
    raft: machine::Raft,
    peers: Peers,
    wal: Arc<wal::Wal>,
    rows: Arc<dyn Rows>,
    hints: Arc<Hints>,
    /// Held while a snapshot comes in: one at a time.
    receiving: tokio::sync::Mutex<()>,
    gate: transfer::Gate,
}

/// Who leads, cheap to read for every request. Hints only: what they say may be
/// over.
struct Hints {
    term: AtomicU64,
    /// 0: none.
    leader: watch::Sender<u64>,
    /// The term this member leads.
    leading: watch::Sender<Option<u64>>,
    leader_changes: Counter,
}

impl Group {
    /// Opens the group on this member; it takes part from here on.
    pub async fn start(
        config: GroupConfig,
        wal: Arc<wal::Wal>,
        recovered: &wal::Recovered,
        rows: Arc<dyn Rows>,
        peers: Peers,
    ) -> io::Result<Arc<Self>> {
        let mut machine = machine::Machine::new(rows.clone(), wal.clone())?;
        let received = rows.label().as_ref().and_then(LogId::decode);
        let applied = machine.applied().log_id;
        let log = log::LogStore::new(wal.clone(), recovered, applied, received, config.workers)?;
        machine.replay(&log).await?;
        let started = machine.started();
        let raft = machine::Raft::new(
            config.id,
            Arc::new(raft_config(&config)?),
            peers.clone(),
            log,
            machine,
        )
        .await
        .map_err(io::Error::other)?;
        started.store(true, Ordering::Release);
        let hints = Arc::new(Hints {
            term: AtomicU64::new(0),
            leader: watch::channel(0).0,
            leading: watch::channel(None).0,
            leader_changes: Counter::default(),
        });
        // These two end with the group.
        let following = follow(config.id, raft.clone(), hints.clone());
        workers::detached(workers::watched("following the leader", following));
        let purger = retention::Purger::new(
            raft.clone(),
            wal.clone(),
            peers.holds().clone(),
            config.retention,
        );
        workers::detached(workers::watched("retention", purger.run()));
        Ok(Arc::new(Self {
            config,
            raft,
            peers,
            wal,
            rows,
            hints,
            receiving: tokio::sync::Mutex::default(),
            gate: transfer::Gate::default(),
        }))
    }

    /// Writes the first membership into an empty log; nothing if the log has
    /// one. Every first member does it with the same members.
    pub async fn bootstrap(&self, members: BTreeMap<u64, PeerNode>) -> io::Result<()> {
        match self.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    pub fn id(&self) -> u64 {
        self.config.id
    }

    pub fn election_timeout(&self) -> Duration {
        self.config.election_timeout
    }

    pub fn cluster_id(&self) -> u64 {
        self.config.cluster_id
    }

    pub fn term(&self) -> u64 {
        self.hints.term.load(Ordering::Relaxed)
    }

    /// The leader as this member last heard of it.
    pub fn leader(&self) -> Option<u64> {
        Some(*self.hints.leader.borrow()).filter(|leader| *leader != 0)
    }

    /// Changes of [`Group::leader`]; 0 stands for none.
    pub fn watch_leader(&self) -> watch::Receiver<u64> {
        self.hints.leader.subscribe()
    }

    /// The term this member leads; `None` while it does not. A leader of a new
    /// term is another one, also on the same member.
    pub fn watch_leading(&self) -> watch::Receiver<Option<u64>> {
        self.hints.leading.subscribe()
    }

    pub fn is_leader(&self) -> bool {
        self.leader() == Some(self.config.id)
    }

    /// How often this member has heard of another leader than before.
    pub fn leader_changes(&self) -> u64 {
        self.hints.leader_changes.read()
    }

    /// How long the log's fdatasync took.
    pub fn log_syncs(&self) -> Distribution {
        self.wal.sync_times()
    }

    /// Bytes written to the log.
    pub fn log_written(&self) -> u64 {
        self.wal.written_bytes()
    }

    pub fn traffic(&self) -> &Traffic {
        self.peers.traffic()
    }

    pub fn committed_index(&self) -> u64 {
        let metrics = self.raft.data_metrics();
        let committed = metrics.borrow_watched().local_committed;
        committed.map_or(0, |id| id.index)
    }

    /// The client for `member`'s own calls, if it is a member.
    pub fn peer(&self, member: u64) -> io::Result<Client> {
        Ok(traffic::client(self.channel(member)?))
    }

    pub fn status(&self) -> Status {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        Status {
            term: metrics.current_term,
            leader: metrics.current_leader,
            last_index: metrics.last_log_index.unwrap_or(0),
            committed_index: metrics.local_committed.map_or(0, |id| id.index),
            applied_index: metrics.last_applied.map_or(0, |id| id.index),
            learner: metrics
                .membership_config
                .membership()
                .learner_ids()
                .any(|id| id == self.config.id),
        }
    }

    /// Proposes as the leader.
    pub async fn propose(&self, payload: Payload) -> Submitted {
        if self.wal.queued_bytes() >= limits::LOG_QUEUE_BYTES {
            return Submitted::Busy;
        }
        let Some(_pass) = self.gate.enter() else {
            return Submitted::Refused;
        };
        match self.raft.client_write(payload).await {
            Ok(_) => Submitted::Done,
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Submitted::Refused,
            Err(_) => Submitted::Unknown,
        }
    }

    /// Proposes as the leader of `term` and of no other: what the leader of one
    /// term decided must not be appended in a later one.
    pub async fn propose_in(&self, term: u64, payload: Payload) -> Submitted {
        let Some(_pass) = self.gate.enter() else {
            return Submitted::Refused;
        };
        let (responder, outcome) = ProgressResponder::complete_only();
        let write = self.raft.write(payload).with_leader(term);
        if write.responder(responder).await.is_err() {
            return Submitted::Unknown;
        }
        match outcome.await {
            Ok(Ok(_)) => Submitted::Done,
            Ok(Err(ClientWriteError::ForwardToLeader(_))) => Submitted::Refused,
            Ok(Err(_)) | Err(_) => Submitted::Unknown,
        }
    }

    /// As the leader: an index such that who has applied it has seen every
    /// write acknowledged before this call. The quorum round that confirms it
    /// is sent after the call.
    pub async fn read_index(&self) -> Result<u64, ReadIndexError> {
        Ok(self.confirm_leadership().await?.index)
    }

    /// As [`Group::read_index`], with the term that this member leads.
    pub async fn confirm_leadership(&self) -> Result<LogId, ReadIndexError> {
        match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Ok((*linearizer.read_log_id().log_id()).into()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => {
                Err(ReadIndexError::NotLeader)
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(ReadIndexError::NoQuorum)
            }
            Err(RaftError::Fatal(_)) => Err(ReadIndexError::Stopped),
        }
    }

    /// Resolves when the group has stopped on this member, with the reason.
    pub async fn stopped(&self) -> String {
        // These change seldom, and end with the group; all metrics change with
        // every entry of the log.
        let mut ends = self.raft.server_metrics();
        while ends.changed().await.is_ok() {}
        match &self.raft.metrics().borrow_watched().running_state {
            Err(fatal) => fatal.to_string(),
            Ok(()) => "raft has stopped".to_owned(),
        }
    }

    /// Stops taking part, and makes durable what the log still holds in memory.
    pub async fn shutdown(&self) -> io::Result<()> {
        self.raft.shutdown().await.map_err(io::Error::other)?;
        let wal = self.wal.clone();
        let closed = self.config.workers.run(move || wal.close()).await?;
        closed.map_err(io::Error::other)
    }

    fn raft(&self) -> &machine::Raft {
        &self.raft
    }
}

/// Keeps the hints up to date until the group stops. The term is that of the
/// vote that is durable here, which may come a moment after the leader's name.
async fn follow(id: u64, raft: machine::Raft, hints: Arc<Hints>) {
    let mut metrics = raft.server_metrics();
    loop {
        {
            let now = metrics.borrow_and_update();
            let term = now.vote.leader_id.term;
            hints.term.store(term, Ordering::Relaxed);
            let leader = now.current_leader.unwrap_or(0);
            let changed = hints
                .leader
                .send_if_modified(|known| std::mem::replace(known, leader) != leader);
            if changed && leader != 0 {
                hints.leader_changes.add(1);
            }
            let leading = (leader == id).then_some(term);
            hints
                .leading
                .send_if_modified(|known| std::mem::replace(known, leading) != leading);
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// openraft lets a follower stand for election when it has not heard of a
/// leader for the maximum, and for a random time between minimum and maximum
/// on top of that. With 0.4 and 0.2 of etcd's election timeout that is 0.6 to
/// 0.8 of it, where etcd waits once to twice its whole.
fn raft_config(config: &GroupConfig) -> io::Result<Config> {
    let election = u64::try_from(config.election_timeout.as_millis()).map_err(io::Error::other)?;
    let heartbeat = u64::try_from(config.heartbeat.as_millis()).map_err(io::Error::other)?;
    let longest = election * 2 / 5;
    // An election timeout is at least five heartbeats, so there is room.
    let shortest = (election / 5).max(heartbeat + heartbeat / 10 + 1);
    let raft = Config {
        cluster_name: format!("{:x}", config.cluster_id),
        heartbeat_interval: heartbeat,
        election_timeout_min: shortest,
        election_timeout_max: longest,
        max_payload_entries: limits::APPEND_ENTRIES,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_pre_vote: Some(true),
        // A leader that restarts has lost the entries it had not synced, while its followers may
        // hold them. If it took up its term again, it would give the same log ids to other
        // entries. openraft lets it unless told otherwise.
        enable_leader_restore: Some(false),
        // A reverted log is lost data: never to be taken for normal.
        allow_log_reversion: Some(false),
        ..Config::default()
    };
    raft.validate().map_err(io::Error::other)
}
