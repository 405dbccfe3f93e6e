//! A replica: proposes, confirms reads, applies, and says how it is.
//!
//! Knows admission, leadership, read indexes and deadlines. Must not know wire
//! types: requests come as the state machine's commands and leave as its
//! replies.

mod apply;
mod compactor;
mod copy;
mod corruption;
mod error;
mod figures;
mod force_new;
mod forward;
mod health;
mod join;
mod leadership;
mod lease;
mod level;
mod liveness;
mod members;
mod membership;
mod membership_service;
mod memory;
mod proposal;
mod published;
mod range_stream;
mod read_index;
mod reconcile;
mod space;
mod view;
mod waiters;
mod watching;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, future::Future, io, sync::Arc, time::Duration};

use mizzen_core::{
    Command, Compaction, KvHash, Limits, Operation, Range, RangeReply, Reply, Room, Txn, Unbounded,
    View, ViewError,
};
use mizzen_engine::{Engine, Snapshot, Transfer};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout_at},
};

pub use copy::Copy;
pub use error::Error;
pub use figures::Figures;
pub use force_new::force_new_cluster;
pub use join::{Description, describe};
pub use lease::{LeaseService, TimeToLive};
pub use level::{NEWEST as NEWEST_LEVEL, cluster_version, limit as use_level, own as own_level};
pub use members::{Attributes, Member, Refusal};
pub use membership_service::MembershipService;
pub use published::Published;
pub use raft::PeerFigures;
pub use range_stream::{Chunks, RangeStreamError};
pub use space::{DiskSpace, LookAtDisk};

use crate::{
    limits,
    raft::{self, Group, GroupConfig, PeerNode, Submitted},
    wal,
    watch::Hub,
    workers::{self, Owner, Workers},
};
use apply::{Applier, Started};
use forward::Forward;
use lease::{Leases, Primary};
use memory::{Grant, Memory, NoRoom};
use proposal::{Body, Proposal};
use published::SharedPublished;
use read_index::ReadIndex;
use waiters::Waiters;

/// Who asks, and on which terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Refuse rather than answer without a leader.
    pub require_leader: bool,
    /// The common name in the certificate that the connection was made with, if
    /// it was checked; empty if it has none.
    pub common_name: Option<Arc<str>>,
}

/// What a replica is started with.
pub struct ServerConfig {
    pub group: GroupConfig,
    /// Members of a new cluster, this one among them; ignored when the log has
    /// a membership already.
    pub initial_members: BTreeMap<u64, PeerNode>,
    pub limits: Limits,
    pub request_bytes: usize,
    /// For what clients make this member hold.
    pub budget: Budget,
    /// Refuse changes of the membership that would endanger the quorum.
    pub strict_reconfig: bool,
    /// Bytes of versions the store may keep, if there is a limit.
    pub quota: Option<u64>,
    pub disk: LookAtDisk,
}

/// Bytes that clients may make a member hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Replies being put together, or waiting for who asked.
    pub replies: usize,
    /// One of them.
    pub reply: usize,
    /// Proposals whose outcome is waited for.
    pub proposals: usize,
    /// Requests on their way in, and replies on their way out. One client alone
    /// may have half of it.
    pub transport: usize,
}

pub struct Server<E: Engine> {
    owner: Owner,
    group: Arc<Group>,
    engine: Arc<E>,
    published: SharedPublished<E>,
    /// See [`Started::seldom`].
    seldom: watch::Receiver<()>,
    waiters: Arc<Waiters>,
    memory: Arc<Memory>,
    /// Reads that wait for a thread, or have one.
    reads: Arc<Semaphore>,
    /// Copies under way.
    copies: Arc<Semaphore>,
    forward: Forward,
    read_index: ReadIndex,
    leases: Leases,
    watches: Arc<Hub>,
    counted: Arc<figures::Counted>,
    ending: watch::Sender<bool>,
    liveness: Arc<liveness::Liveness>,
    reclaimed: watch::Receiver<i64>,
    limits: Limits,
    request_bytes: usize,
    strict_reconfig: bool,
    quota: Option<u64>,
    space: Arc<space::Space>,
    /// How long a client waits for its proposal or read (etcd's rule: five
    /// seconds for the work, and time for two elections).
    request_limit: Duration,
    workers: Workers,
}

/// What a member reports of itself.
#[derive(Clone, Debug)]
pub struct Report {
    pub raft: raft::Status,
    /// Bytes of all versions, which the quota is for.
    pub db_bytes: i64,
    /// Bytes of what lives now.
    pub db_bytes_in_use: i64,
    pub alarms: Vec<mizzen_core::Alarm>,
}

/// The log and rows of a member, opened and not yet serving.
pub struct Storage<E> {
    pub engine: Arc<E>,
    pub wal: Arc<wal::Wal>,
    pub recovered: wal::Recovered,
}

impl<E: Transfer> Server<E> {
    /// Starts the replica. `fail` is called at most once per background
    /// worker, when rows or log can no longer be trusted, or when one has panicked
    /// or ended by itself: the process must end.
    pub async fn start(
        config: ServerConfig,
        storage: Storage<E>,
        peers: raft::Peers,
        fail: impl Fn(&io::Error) + Clone + Send + Sync + 'static,
    ) -> io::Result<Arc<Self>> {
        let owner = Owner::new(fail.clone());
        let started = Self::start_parts(config, storage, peers, fail);
        owner.scope(started).await
    }

    /// Whatever is started here has an owner.
    async fn start_parts(
        config: ServerConfig,
        storage: Storage<E>,
        peers: raft::Peers,
        fail: impl Fn(&io::Error) + Clone + Send + Sync + 'static,
    ) -> io::Result<Arc<Self>> {
        let Storage {
            engine,
            wal,
            recovered,
        } = storage;
        let request_limit = Duration::from_secs(5) + 2 * config.group.election_timeout;
        let (memory, waiters) = waiting(config.group.id, config.budget);
        let primary = Arc::new(Primary::new());
        let GroupConfig {
            workers,
            heartbeat,
            election_timeout,
            ..
        } = config.group;
        let Started {
            applier,
            published,
            applied,
            seldom,
            watches,
            counted,
        } = Applier::start(
            engine.clone(),
            recovered.last.map_or(0, |(_, index)| index),
            config.group.cluster_id,
            waiters.clone(),
            primary.clone(),
            workers,
            fail.clone(),
        )?;
        let group = Group::start(
            config.group,
            wal,
            &recovered,
            Arc::new(applier.clone()),
            peers,
        )
        .await?;
        if !config.initial_members.is_empty() {
            group.bootstrap(config.initial_members).await?;
        }
        let liveness = liveness::Liveness::start(group.clone());
        let reconciler = reconcile::Reconciler::<E> {
            group: group.clone(),
            published: published.clone(),
            applied: applied.clone(),
            liveness: liveness.clone(),
        };
        workers::spawn("reconciler", reconciler.run());
        let (reclaimed, reclaimed_seen) = watch::channel(0);
        let compactor = compactor::run(
            engine.clone(),
            applier,
            published.clone(),
            seldom.clone(),
            reclaimed,
            workers,
            fail.clone(),
        );
        workers::spawn("compactor", compactor);
        let leases = lease::Setup::<E> {
            group: group.clone(),
            primary,
            published: published.clone(),
            applied: applied.clone(),
            waiters: waiters.clone(),
            heartbeat,
            election_timeout,
            limit: request_limit,
            workers,
        }
        .start(fail);
        let server = Arc::new(Self {
            owner: Owner::current(),
            forward: Forward::start(group.clone()),
            read_index: ReadIndex::start(group.clone(), applied, request_limit),
            leases,
            group,
            engine: engine.clone(),
            published,
            seldom,
            waiters,
            memory,
            reads: Arc::new(Semaphore::new(limits::BLOCKING_READS)),
            copies: Arc::new(Semaphore::new(limits::COPIES)),
            watches,
            counted,
            ending: watch::channel(false).0,
            liveness,
            reclaimed: reclaimed_seen,
            limits: config.limits,
            request_bytes: config.request_bytes,
            strict_reconfig: config.strict_reconfig,
            quota: config.quota,
            space: space::Space::start(engine.clone(), config.disk, workers),
            workers,
            request_limit,
        });
        let disk = Self::watch_disk(Arc::downgrade(&server));
        workers::spawn("watching the log's disk", disk);
        Ok(server)
    }
}

impl<E: Engine> Server<E> {
    /// Returns when this member has applied what a quorum confirms to be
    /// committed, and so cannot step back behind what it served before.
    pub async fn ready(&self) -> Result<(), Error> {
        loop {
            match self.read_index.wait().await {
                Err(Error::Timeout | Error::TimeoutLeaderFailure | Error::NoLeader) => {}
                other => return other,
            }
        }
    }

    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    pub fn published(&self) -> Arc<Published<E::Snapshot>> {
        self.published.load_full()
    }

    /// The store's revision as this member has it.
    pub fn revision(&self) -> i64 {
        self.published.load().state.revision()
    }

    fn admit(&self, caller: &Caller) -> Result<(), Error> {
        if caller.require_leader && (self.group.leader().is_none() || self.is_cut_off()) {
            return Err(Error::NoLeader);
        }
        Ok(())
    }

    fn is_cut_off(&self) -> bool {
        let since = self.liveness.cut_off_since();
        since.is_some_and(|since| since.elapsed() >= self.patience())
    }

    /// Returns when there has been no leader for so long that whoever needs one
    /// should ask elsewhere; at once if there is none now.
    pub async fn leader_lost(&self) {
        tokio::select! {
            () = self.no_leader_known() => {}
            () = self.cut_off() => {}
        }
    }

    fn patience(&self) -> Duration {
        limits::ELECTIONS_WITHOUT_LEADER * self.group.election_timeout()
    }

    async fn no_leader_known(&self) {
        let mut leader = self.group.watch_leader();
        let mut patience = Duration::ZERO;
        loop {
            let found = leader.wait_for(|leader| *leader != 0);
            match tokio::time::timeout(patience, found).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            }
            patience = self.patience();
            if leader.wait_for(|leader| *leader == 0).await.is_err() {
                return;
            }
        }
    }

    /// With pre-votes, and on a leader itself, the last leader stays known when
    /// all the others are gone.
    async fn cut_off(&self) {
        let mut cut_off = self.liveness.watch_cut_off();
        loop {
            let since = match cut_off.wait_for(Option::is_some).await {
                Ok(since) => *since,
                Err(_) => return,
            };
            let Some(since) = since else {
                continue;
            };
            let reached = cut_off.wait_for(Option::is_none);
            match tokio::time::timeout_at(since + self.patience(), reached).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    /// Ends what would go on for ever, so that connections can be closed.
    pub fn end_streams(&self) {
        self.owner.stop();
        self.watches.stop();
        self.ending.send_replace(true);
    }

    /// Returns when what would go on for ever has to end.
    pub async fn ending(&self) {
        // Cannot fail: the sender is this server's.
        let _ = self.ending.subscribe().wait_for(|ending| *ending).await;
    }

    /// Carries out a command that writes.
    pub async fn write(&self, caller: &Caller, command: Command) -> Result<Reply, Error> {
        self.admit(caller)?;
        command.check(&self.limits)?;
        match &command {
            Command::Txn(txn) if txn.is_read_only() => self.read_txn(txn.clone()).await,
            _ => {
                let room = self.rehearse(&command).await?;
                self.submit(Body::Command(command), room).await
            }
        }
    }

    async fn read_txn(&self, txn: Txn) -> Result<Reply, Error> {
        if !txn.is_serializable() {
            self.read_index.wait().await?;
        }
        self.read(txn, |txn, state, view, room| {
            mizzen_core::read_only_txn(state, view, txn, room)
        })
        .await
    }

    pub async fn range(&self, caller: &Caller, range: Range) -> Result<RangeReply, Error> {
        self.admit(caller)?;
        range.check()?;
        if !range.serializable {
            self.read_index.wait().await?;
        }
        self.read(range, |range, state, view, room| {
            mizzen_core::range(state, view, range, room)
        })
        .await
    }

    /// A range in chunks, all at the revision it begins at.
    pub async fn range_stream(
        &self,
        caller: &Caller,
        range: Range,
    ) -> Result<Chunks<E>, RangeStreamError> {
        self.admit(caller)?;
        range.check().map_err(Error::from)?;
        if !range.serializable {
            self.read_index.wait().await?;
        }
        Chunks::new(
            self.published.clone(),
            &range,
            self.request_bytes,
            self.workers,
        )
    }

    /// Waits until this member's rows hold every write acknowledged so far.
    pub async fn linearize(&self, caller: &Caller) -> Result<(), Error> {
        self.admit(caller)?;
        self.read_index.wait().await
    }

    /// Compacts at once; with `physical`, returns when the space is given back.
    pub async fn compact(
        &self,
        caller: &Caller,
        compaction: Compaction,
        physical: bool,
    ) -> Result<Reply, Error> {
        self.admit(caller)?;
        let reply = self
            .submit(Body::Command(Command::Compact(compaction)), None)
            .await?;
        if physical {
            let mut reclaimed = self.reclaimed.clone();
            reclaimed
                .wait_for(|done| *done >= compaction.revision)
                .await
                .map_err(|_| Error::Stopped)?;
        }
        Ok(reply)
    }

    /// Hash of the history up to `revision` (0: the newest).
    pub async fn hash_kv(&self, caller: &Caller, revision: i64) -> Result<KvHash, Error> {
        self.admit(caller)?;
        self.read_at_leisure(revision, |revision, state, view, _| {
            mizzen_core::hash_kv(state, view, *revision)
        })
        .await
    }

    /// Answers from memory if that is quick; otherwise on a thread that may
    /// wait for the disk.
    async fn read<Q, T>(
        &self,
        question: Q,
        answer: impl Fn(&Q, &mizzen_core::State, &dyn View, &dyn Room) -> ReadResult<T> + Send + 'static,
    ) -> Result<T, Error>
    where
        Q: Send + 'static,
        T: Send + 'static,
    {
        let published = self.published.load_full();
        {
            let brief = brief(&published);
            // The view's bound is the reply's.
            match answer(&question, &published.state, &brief, &Unbounded) {
                Err(ViewError::WouldBlock) => {}
                other => return Ok(other??),
            }
        }
        self.aside(published, question, answer).await
    }

    async fn read_at_leisure<Q, T>(
        &self,
        question: Q,
        answer: impl Fn(&Q, &mizzen_core::State, &dyn View, &dyn Room) -> ReadResult<T> + Send + 'static,
    ) -> Result<T, Error>
    where
        Q: Send + 'static,
        T: Send + 'static,
    {
        self.aside(self.published.load_full(), question, answer)
            .await
    }

    async fn aside<Q, T>(
        &self,
        published: Arc<Published<E::Snapshot>>,
        question: Q,
        answer: impl Fn(&Q, &mizzen_core::State, &dyn View, &dyn Room) -> ReadResult<T> + Send + 'static,
    ) -> Result<T, Error>
    where
        Q: Send + 'static,
        T: Send + 'static,
    {
        let read = move |published: &Published<E::Snapshot>, room: &Grant| {
            answer(&question, &published.state, &published.rows, room)
        };
        let (answer, room) = self.with_room(published, read).await?;
        match answer? {
            Err(refusal) => Err(refused(refusal, &room)),
            Ok(answer) => Ok(answer),
        }
    }

    /// Reads on a thread that may wait for the disk, with room for what it reads.
    async fn with_room<T: Send + 'static>(
        &self,
        published: Arc<Published<E::Snapshot>>,
        read: impl FnOnce(&Published<E::Snapshot>, &Grant) -> T + Send + 'static,
    ) -> Result<(T, Grant), Error> {
        // Whoever waits for a thread keeps a sight of all rows.
        let Ok(place) = self.reads.clone().try_acquire_owned() else {
            return Err(Error::TooManyRequests);
        };
        let room = self.memory.grant();
        let read = move || {
            let found = read(&published, &room);
            drop(place);
            (found, room)
        };
        self.workers.run(read).await.map_err(|_| Error::Stopped)
    }

    /// Proposes and waits for the outcome. Proposes again only what no member
    /// appended. `room`: what the answer was found to need; nothing if that is little.
    async fn submit(&self, body: Body, room: Option<Grant>) -> Result<Reply, Error> {
        if self
            .group
            .committed_index()
            .saturating_sub(self.published.load().applied_index())
            > limits::COMMIT_APPLY_GAP
        {
            return Err(Error::TooManyRequests);
        }
        let deadline = Instant::now() + self.request_limit;
        let mut waiter = self.waiters.register(room)?;
        let proposal = Proposal {
            id: waiter.id(),
            body,
        };
        let payload = proposal.encode();
        if payload.0.len() > self.request_bytes {
            return Err(Error::RequestTooLarge);
        }
        if let Body::Command(command) = &proposal.body {
            self.check_capable(command, deadline).await?;
            self.check_space(command, payload.0.len()).await?;
        }
        drop(proposal);
        waiter.hold(payload.0.len())?;
        let mut leader = self.group.watch_leader();
        let first_leader = *leader.borrow_and_update();
        let outcome = async {
            loop {
                let submitted = if self.group.is_leader() {
                    self.group.propose(payload.clone()).await
                } else {
                    tokio::select! {
                        biased;
                        // The leader may not be able to tell any more.
                        answer = waiter.answer() => return answer,
                        submitted = self.forward.propose(payload.clone()) => submitted?,
                    }
                };
                match submitted {
                    Submitted::Busy => return Err(Error::TooManyRequests),
                    Submitted::Refused => read_index::retry(&mut leader, deadline).await?,
                    // Applied on the leader, and soon here; or perhaps never.
                    Submitted::Done | Submitted::Unknown => return waiter.answer().await,
                }
            }
        };
        let outcome = match timeout_at(deadline, outcome).await {
            Ok(Err(Error::Timeout)) | Err(_) if self.group.leader() != Some(first_leader) => {
                Err(Error::TimeoutLeaderFailure)
            }
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Timeout),
        };
        if outcome.is_err() {
            self.counted.proposal_failed();
        }
        outcome?.reply
    }

    /// Finds out what carrying out `command` now would put into memory, if that
    /// may be much, and takes room for it. What is too large is not proposed:
    /// all members would have to carry it out.
    async fn rehearse(&self, command: &Command) -> Result<Option<Grant>, Error> {
        let txn = match command {
            Command::Txn(txn) if may_be_large(txn) => txn.clone(),
            Command::DeleteRange(delete) if !delete.range_end.is_empty() => Txn {
                success: vec![Operation::DeleteRange(delete.clone())],
                ..Txn::default()
            },
            _ => return Ok(None),
        };
        let published = self.published.load_full();
        let brief = brief(&published);
        match mizzen_core::rehearse(&published.state, &brief, &txn, &Unbounded) {
            Err(ViewError::WouldBlock) => {}
            // A refusal is the state's at the time it is applied to.
            rehearsed => return rehearsed.map(|_| None).map_err(Error::from),
        }
        drop(brief);
        let read = move |published: &Published<E::Snapshot>, room: &Grant| {
            mizzen_core::rehearse(&published.state, &published.rows, &txn, room)
        };
        let (found, room) = self.with_room(published, read).await?;
        match found? {
            Err(refusal) if room.refused().is_some() => Err(refused(refusal, &room)),
            // Any other refusal is for the state it is applied to.
            Ok(()) | Err(_) => Ok(Some(room)),
        }
    }

    /// Refuses a command that some member may be too old for. At the beginning
    /// of a cluster this is not known yet; then it waits for that.
    async fn check_capable(&self, command: &Command, deadline: Instant) -> Result<(), Error> {
        let mut seldom = self.seldom.clone();
        loop {
            let agreed = self.published.load().members.level();
            if level::allows(agreed, command) {
                return Ok(());
            }
            if agreed > 0 {
                return Err(Error::NotCapable);
            }
            match timeout_at(deadline, seldom.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Error::Stopped),
                Err(_) => return Err(Error::Timeout),
            }
        }
    }

    pub async fn report(&self) -> Result<Report, Error> {
        let alarms = self
            .read((), |(), _, view, _| Ok(Ok(mizzen_core::alarms(view)?)))
            .await?;
        let (db_bytes, db_bytes_in_use) = self.db_sizes();
        Ok(Report {
            raft: self.group.status(),
            db_bytes,
            db_bytes_in_use,
            alarms,
        })
    }

    /// Bytes of all versions, and of what lives now.
    fn db_sizes(&self) -> (i64, i64) {
        let sizes = self.published.load().state.sizes();
        let empty = limits::EMPTY_STORE_BYTES;
        (sizes.retained() + empty, sizes.live() + empty)
    }

    /// Leaves the group and makes the rows durable.
    pub async fn stop(&self) -> io::Result<()> {
        self.owner.stop();
        self.group.shutdown().await?;
        let engine = self.engine.clone();
        let flushed = self.workers.run(move || engine.flush()).await?;
        flushed.map_err(io::Error::other)
    }

    /// Resolves when the replica can no longer work, with the reason.
    pub fn stopped(&self) -> impl Future<Output = String> + use<E> {
        let group = self.group.clone();
        async move { group.stopped().await }
    }
}

impl<E: Engine> Drop for Server<E> {
    /// The thread that tells watches would wait for ever.
    fn drop(&mut self) {
        self.owner.stop();
        self.watches.stop();
    }
}

/// The budget of replies, and those who wait for one.
fn waiting(member: u64, budget: Budget) -> (Arc<Memory>, Arc<Waiters>) {
    let memory = Memory::new(budget.replies, budget.reply);
    let waiters = Waiters::new(member, rand::random(), budget.proposals, memory.clone());
    (memory, Arc::new(waiters))
}

/// The rows for a read on a thread that serves clients.
fn brief<S: Snapshot>(published: &Published<S>) -> view::Brief<S> {
    view::Brief::new(
        published.rows.in_memory(),
        limits::INLINE_ROWS,
        limits::INLINE_BYTES,
    )
}

/// A refusal before anything was changed: who finds no room because of others may
/// come again.
fn refused(refusal: mizzen_core::Error, room: &Grant) -> Error {
    match room.refused() {
        Some(NoRoom::Busy) => Error::TooManyRequests,
        Some(NoRoom::TooLarge) | None => Error::Refused(refusal),
    }
}

/// Whether a transaction may put much more into memory than it is itself.
fn may_be_large(txn: &Txn) -> bool {
    let mut single = 0;
    let operations = txn.success.iter().chain(&txn.failure);
    operations.clone().any(|operation| match operation {
        Operation::Range(range) => {
            single += 1;
            !range.range_end.is_empty()
        }
        Operation::DeleteRange(delete) => {
            single += usize::from(delete.prev_kv);
            !delete.range_end.is_empty()
        }
        Operation::Put(put) => {
            single += usize::from(put.prev_kv);
            false
        }
        Operation::Txn(nested) => may_be_large(nested),
        Operation::Empty => false,
    }) || single > limits::SINGLE_READS
}

type ReadResult<T> = Result<Result<T, mizzen_core::Error>, ViewError>;
