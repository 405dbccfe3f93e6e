//! A replica: `Server` starts the parts, refuses calls that want a leader where none
//! is within reach, and passes the others on to the part they belong to.
//!
//! Knows the parts. Must not know wire types: requests come as the state machine's
//! commands and leave as its replies.

mod admission;
mod apply;
mod cluster;
mod compaction;
mod error;
mod leader;
mod lease;
mod memory;
mod model;
mod propose;
mod read;
mod restore;
mod users;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, future::Future, io, ops::ControlFlow, sync::Arc, time::Duration};

use mizzen_core::{
    Alarm, Command, Compaction, Family, KvHash, Limits, Range, RangeReply, Reply, SetAlarm,
    View as _,
    auth::{AuthChange, By, Name, Permission},
    rows::head::HeadRow,
};
use mizzen_engine::{Engine, Transfer};
use mizzen_proto::peer::{leases_server::LeasesServer, membership_server::MembershipServer};
use tokio::sync::watch;

pub use cluster::{
    Rules,
    force_new::force_new_cluster,
    join::{Description, describe},
    peer_service::MembershipService,
};
pub use compaction::Kept;
pub use error::Error;
pub use lease::{LeaseService, TimeToLive};
#[cfg(feature = "fuzzing")]
pub(crate) use model::proposal::Proposal;
pub use model::{
    caller::Caller,
    figures::{Figures, MemberFigures},
    level::{NEWEST as NEWEST_LEVEL, cluster_version, limit as use_level, own as own_level},
    members::{Attributes, Member, Refusal},
    published::Published,
    storage::Storage,
    turn::{Turn, Turns},
};
pub use propose::space::{DiskSpace, LookAtDisk};
pub use raft::PeerFigures;
pub use read::{
    access::Right,
    copy::Copy,
    range_stream::{Chunks, RangeStreamError},
};
pub use restore::{NewCluster, Restore};
pub use users::UsersChanged;

use crate::{
    auth::{AuthConfig, Authentication, Secret},
    limits,
    raft::{self, Drain, Group, GroupConfig, PeerNode},
    watch::{Hub, WatchStream},
    workers::{Owner, Workers},
};
use apply::thread::{Applier, Listeners, Started};
use cluster::Cluster;
use lease::{Leases, PrimaryLessor};
use memory::Memory;
use model::{counted::Counted, published::SharedPublished};
use propose::{Proposer, ProposerSetup, space::Space, waiters::Waiters};
use read::{Reads, read_index::ReadIndex};
use users::Users;

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
    pub rules: Rules,
    /// Bytes of versions the store may keep, if there is a limit.
    pub quota: Option<u64>,
    pub disk: LookAtDisk,
    pub auth: AuthConfig,
    /// Whether the store forgets old revisions by itself.
    pub auto_compaction: Option<Kept>,
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

/// A replica: its parts, and the calls that go to them.
pub struct Server<E: Engine> {
    owner: Owner,
    group: Arc<Group>,
    engine: Arc<E>,
    published: SharedPublished<E>,
    reads: Arc<Reads<E>>,
    proposer: Arc<Proposer<E>>,
    cluster: Cluster<E>,
    leases: Leases<E>,
    users: Users<E>,
    watches: Arc<Hub>,
    counted: Arc<Counted>,
    ending: watch::Sender<bool>,
    reclaimed: watch::Receiver<i64>,
    limits: Limits,
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
        let GroupConfig {
            workers,
            heartbeat,
            election_timeout,
            ..
        } = config.group;
        let limit = Duration::from_secs(5) + 2 * election_timeout;
        let (memory, waiters) = waiting(config.group.id, config.budget);
        let primary = Arc::new(PrimaryLessor::new());
        let tokens = Authentication::new(config.auth, workers).map_err(io::Error::other)?;
        let tokens = Arc::new(tokens);
        let Started {
            applier,
            published,
            applied,
            cluster_changed,
            watches,
            counted,
        } = Applier::start(
            engine.clone(),
            recovered.last.map_or(0, |(_, index)| index),
            config.group.cluster_id,
            Listeners {
                waiters: waiters.clone(),
                leases: primary.clone(),
                auth: tokens.clone(),
            },
            workers,
            fail.clone(),
        )?;
        let rows = Arc::new(applier.clone());
        let group = Group::start(config.group, wal, &recovered, rows, peers).await?;
        if !config.initial_members.is_empty() {
            group.bootstrap(config.initial_members).await?;
        }
        let index = ReadIndex::start(group.clone(), applied.clone(), limit);
        let reads = Reads::new(
            published.clone(),
            Arc::new(index),
            tokens.clone(),
            memory,
            config.request_bytes,
            workers,
        );
        let proposer = ProposerSetup {
            group: group.clone(),
            waiters,
            space: Space::start(engine.clone(), config.disk, workers),
            cluster_changed: cluster_changed.clone(),
            counted: counted.clone(),
            request_bytes: config.request_bytes,
            quota: config.quota,
            limit,
        }
        .start(&reads);
        compaction::start(&proposer, config.auto_compaction);
        let cluster = Cluster::start(&reads, &proposer, applied.clone(), config.rules);
        let reclaimed = apply::reclaim::start(applier, cluster_changed, fail.clone());
        let leases = lease::Setup {
            group: group.clone(),
            primary,
            reads: reads.clone(),
            proposer: proposer.clone(),
            applied,
            heartbeat,
            election_timeout,
            workers,
        }
        .start(fail);
        let users = Users::new(tokens, &proposer);
        Ok(Arc::new(Self {
            owner: Owner::current(),
            group,
            engine,
            published,
            reads,
            proposer,
            cluster,
            leases,
            users,
            watches,
            counted,
            ending: watch::channel(false).0,
            reclaimed,
            limits: config.limits,
            workers,
        }))
    }
}

impl<E: Engine> Server<E> {
    /// Returns when this member has applied what a quorum confirms to be
    /// committed, and so cannot step back behind what it served before.
    pub async fn ready(&self) -> Result<(), Error> {
        loop {
            match self.reads.index.confirmed().await {
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
        if caller.require_leader && !self.cluster.contact.exists() {
            return Err(Error::NoLeader);
        }
        Ok(())
    }

    /// Returns when there has been no leader for so long that whoever needs one
    /// should ask elsewhere; at once if there is none now.
    pub async fn leader_lost(&self) {
        self.cluster.contact.lost().await;
    }

    /// Makes `to` the leader; returns when it is.
    pub async fn move_leader(&self, to: u64) -> Result<(), Error> {
        self.cluster.handover.move_to(to).await
    }

    /// If this member leads, has the voter that is nearest lead instead. Tries
    /// all voters that are up; gives up after a while.
    pub async fn hand_over(&self) {
        self.cluster.handover.hand_over(Drain::Wait).await;
    }

    /// What this member tells its peers of the cluster.
    pub fn membership_service(&self) -> MembershipServer<MembershipService<E>> {
        MembershipService {
            group: self.group.clone(),
            reads: self.reads.clone(),
            space: self.proposer.space.clone(),
            liveness: self.cluster.contact.liveness.clone(),
        }
        .server()
    }

    /// A new stream of watches of this member's rows.
    pub fn watch(&self, caller: &Caller) -> Result<WatchStream, Error> {
        self.admit(caller)?;
        if self.group.status().learner {
            return Err(Error::Learner);
        }
        self.watches.open().ok_or(Error::TooManyRequests)
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
        match command {
            Command::Txn(txn) if txn.is_read_only() => self.reads.read_txn(caller, txn).await,
            command => self.proposer.write(caller, command).await,
        }
    }

    pub async fn range(&self, caller: &Caller, range: Range) -> Result<RangeReply, Error> {
        self.admit(caller)?;
        self.reads.range(caller, range).await
    }

    /// A range in chunks, all at the revision it begins at.
    pub async fn range_stream(
        &self,
        caller: &Caller,
        range: Range,
    ) -> Result<Chunks<E>, RangeStreamError> {
        self.admit(caller)?;
        self.reads.range_stream(caller, range).await
    }

    /// Waits until this member's rows hold every write acknowledged so far.
    pub async fn linearize(&self, caller: &Caller) -> Result<(), Error> {
        self.admit(caller)?;
        self.reads.linearize(caller).await
    }

    /// Hash of the history up to `revision` (0: the newest).
    pub async fn hash_kv(&self, caller: &Caller, revision: i64) -> Result<KvHash, Error> {
        self.admit(caller)?;
        self.reads.hash_kv(caller, revision).await
    }

    /// Compacts at once; with `physical`, returns when the space is given back.
    pub async fn compact(
        &self,
        caller: &Caller,
        compaction: Compaction,
        physical: bool,
    ) -> Result<Reply, Error> {
        self.admit(caller)?;
        let command = Command::Compact(compaction);
        let reply = self.proposer.propose(caller, command).await?;
        if physical {
            let mut reclaimed = self.reclaimed.clone();
            reclaimed
                .wait_for(|done| *done >= compaction.revision)
                .await
                .map_err(|_| Error::Stopped)?;
        }
        Ok(reply)
    }

    /// The quota of `--quota-backend-bytes`; none if there is no limit.
    pub fn quota(&self) -> Option<u64> {
        self.proposer.quota
    }

    /// All alarms of the cluster.
    pub async fn alarms(&self, caller: &Caller) -> Result<Vec<Alarm>, Error> {
        self.admit(caller)?;
        self.reads.alarms(caller).await
    }

    /// Raises an alarm or ends it; gives it back unless there was none to end.
    pub async fn set_alarm(&self, caller: &Caller, set: SetAlarm) -> Result<Vec<Alarm>, Error> {
        self.admit(caller)?;
        self.proposer.set_alarm(caller, set).await
    }

    pub async fn report(&self) -> Result<Report, Error> {
        let (db_bytes, db_bytes_in_use) = self.db_sizes();
        Ok(Report {
            raft: self.group.status(),
            db_bytes,
            db_bytes_in_use,
            alarms: self.known_alarms().await?,
        })
    }

    /// Bytes of all versions, and of what lives now.
    fn db_sizes(&self) -> (i64, i64) {
        let sizes = self.published.load().state.sizes();
        let empty = limits::EMPTY_STORE_BYTES;
        (sizes.retained() + empty, sizes.live() + empty)
    }

    /// The alarms as this member has them, for who need not say who it is.
    pub async fn known_alarms(&self) -> Result<Vec<Alarm>, Error> {
        self.reads.alarms_here().await
    }

    /// Whether this member knows a leader that it can reach.
    pub fn has_leader(&self) -> bool {
        self.cluster.contact.exists()
    }

    /// The version that all members have agreed on, in etcd's terms.
    pub fn cluster_version(&self) -> Option<&'static str> {
        cluster_version(self.published.load().members.level())
    }

    /// Tries a read for a probe: of this member's rows, and unless `serializable` of
    /// what a quorum confirms.
    pub async fn probe(&self, serializable: bool) -> Result<(), Error> {
        self.reads.probe(serializable).await
    }

    /// Compares this member's rows with those of the peers that answer.
    ///
    /// # Errors
    /// A peer has other rows at the same revision. The text is etcd's.
    pub async fn check_with_peers(&self) -> Result<(), String> {
        self.cluster.comparison.with_peers().await
    }

    /// The store as this member has it now.
    ///
    /// # Errors
    /// The caller has not the root role, or as many are made as may be at once.
    pub async fn copy(&self, caller: &Caller) -> Result<Copy<E>, Error> {
        self.admit(caller)?;
        self.reads.copy(caller).await
    }

    /// How many keys there are, looked at where they are few, or else
    /// [`Figures::keys`]. May wait for the disk.
    pub fn keys(&self, about: u64) -> u64 {
        if about > limits::KEYS_COUNTED {
            return about;
        }
        let (mut rows, mut keys) = (0, 0);
        let looked = self
            .published()
            .rows
            .scan(Family::Head, &[], None, &mut |_, row| {
                rows += 1;
                keys += u64::from(!HeadRow::is_tombstone(row));
                match rows > limits::KEYS_COUNTED {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
        match looked {
            Ok(()) if rows <= limits::KEYS_COUNTED => keys,
            _ => about,
        }
    }

    pub fn figures(&self) -> Figures {
        let status = self.group.status();
        let published = self.published.load();
        let (db_bytes, db_bytes_in_use) = self.db_sizes();
        let counted = &*self.counted;
        Figures {
            member_id: self.group.id(),
            has_leader: self.has_leader(),
            is_leader: self.group.is_leader(),
            is_learner: self.is_learner(),
            leader_changes: self.group.leader_changes(),
            committed_index: status.committed_index,
            applied_index: status.applied_index,
            proposals_pending: self.proposer.waiters.pending() as u64,
            proposals_failed: counted.proposals_failed.read(),
            slow_runs: counted.slow_runs.read(),
            cluster_version: self.cluster_version(),
            quota: self.quota(),
            db_bytes,
            db_bytes_in_use,
            keys: self.engine.estimated_rows(Family::Head).unwrap_or(0),
            revision: published.state.revision(),
            compact_revision: published.state.compact_revision(),
            auth_revision: published.auth.revision(),
            puts: counted.puts.read(),
            deletes: counted.deletes.read(),
            txns: counted.txns.read(),
            compactions: counted.compactions.read(),
            leases_granted: counted.leases_granted.read(),
            leases_revoked: counted.leases_revoked.read(),
            leases_expired: counted.leases_expired.read(),
            log_syncs: self.group.log_syncs(),
            log_written_bytes: self.group.log_written(),
            commits: counted.commits.read(),
            peers: self.group.traffic().read(),
        }
    }

    /// All members, as this one sees them.
    pub fn member_figures(&self) -> Vec<MemberFigures> {
        self.cluster.figures()
    }

    /// Members by id, as this member has them.
    pub fn members(&self) -> Vec<Member> {
        self.cluster.requests.members()
    }

    /// Whether clients are told that this member does not vote.
    pub fn is_learner(&self) -> bool {
        self.cluster.requests.is_learner()
    }

    /// Adds a member that need not be up. Gives its id.
    pub async fn member_add(
        &self,
        caller: &Caller,
        peer_urls: Vec<String>,
        learner: bool,
    ) -> Result<Member, Error> {
        self.admit(caller)?;
        self.cluster.requests.add(caller, peer_urls, learner).await
    }

    pub async fn member_remove(&self, caller: &Caller, id: u64) -> Result<(), Error> {
        self.admit(caller)?;
        self.cluster.requests.remove(caller, id).await
    }

    pub async fn member_update(
        &self,
        caller: &Caller,
        id: u64,
        peer_urls: Vec<String>,
    ) -> Result<(), Error> {
        self.admit(caller)?;
        self.cluster.requests.update(caller, id, peer_urls).await
    }

    pub async fn member_promote(&self, caller: &Caller, id: u64) -> Result<(), Error> {
        self.admit(caller)?;
        self.cluster.requests.promote(caller, id).await
    }

    /// Announces this member's name and client URLs until the cluster knows.
    pub async fn announce(&self, attributes: Attributes) -> Result<(), Error> {
        self.cluster.requests.announce(attributes).await
    }

    /// Returns when this member votes, if it is to.
    pub async fn voting(&self) {
        self.cluster.requests.voting().await;
    }

    /// Returns when the members have agreed on a version.
    pub async fn version_decided(&self) {
        let mut changed = self.cluster.requests.cluster_changed.clone();
        while self.cluster_version().is_none() && changed.changed().await.is_ok() {}
    }

    /// Resolves when this member is no member any more.
    pub fn removed(&self) -> impl Future<Output = ()> + use<E> {
        self.cluster.requests.removed()
    }

    /// This member's lease service for its peers.
    pub fn lease_service(&self) -> LeasesServer<LeaseService> {
        self.leases.service()
    }

    /// Grants a lease for `ttl` seconds, or longer if that is too short. An
    /// `id` of 0 leaves the choice to this member.
    pub async fn lease_grant(&self, caller: &Caller, id: i64, ttl: i64) -> Result<Reply, Error> {
        self.admit(caller)?;
        self.leases.grant(caller, id, ttl).await
    }

    /// Ends a lease and deletes its keys.
    pub async fn lease_revoke(&self, caller: &Caller, id: i64) -> Result<Reply, Error> {
        self.admit(caller)?;
        self.leases.revoke(caller, id).await
    }

    /// Renews a lease and gives its time to live in seconds; `None` if there is
    /// no such lease.
    pub async fn lease_keep_alive(&self, caller: &Caller, id: i64) -> Result<Option<i64>, Error> {
        self.admit(caller)?;
        self.leases.keep_alive(caller, id).await
    }

    /// What is left of a lease; `None` if there is no such lease.
    pub async fn lease_time_to_live(
        &self,
        caller: &Caller,
        id: i64,
        keys: bool,
    ) -> Result<Option<TimeToLive>, Error> {
        self.admit(caller)?;
        self.leases.time_to_live(caller, id, keys).await
    }

    /// The ids of all leases this member knows of.
    pub async fn leases(&self, caller: &Caller) -> Result<Vec<i64>, Error> {
        self.admit(caller)?;
        self.leases.list(caller).await
    }

    /// Refuses a call before anything is done for it. What it asks for is
    /// looked at once more where it is carried out.
    pub async fn permit_call(&self, caller: &Caller, right: Right) -> Result<(), Error> {
        self.reads.access.permit_call(caller, right).await
    }

    /// Whether the caller may read a range, as in a request for it; gives who
    /// it is, to be asked again by [`Server::still_reads`].
    pub async fn permit_read(
        &self,
        caller: &Caller,
        key: &[u8],
        range_end: &[u8],
    ) -> Result<By, Error> {
        self.reads.access.permit_read(caller, key, range_end).await
    }

    /// Whether who was permitted to read a range still is.
    pub fn still_reads(&self, by: &By, key: &[u8], range_end: &[u8]) -> Result<(), Error> {
        self.reads.access.still_reads(by, key, range_end)
    }

    /// Resolves when users and roles may have changed, again and again.
    pub fn users_changed(&self) -> UsersChanged {
        self.users.changed()
    }

    /// A number that differs when users, roles or the switch do.
    pub fn users_revision(&self) -> (bool, u64) {
        self.users.revision()
    }

    /// Changes users or roles.
    pub async fn change_users(&self, caller: &Caller, change: AuthChange) -> Result<Reply, Error> {
        self.admit(caller)?;
        self.users.change(caller, change).await
    }

    /// Adds a user; without a password if `password` is `None`.
    pub async fn user_add(
        &self,
        caller: &Caller,
        name: &str,
        password: Option<Secret>,
    ) -> Result<Reply, Error> {
        self.users.add(caller, name, password).await
    }

    /// Gives a user another password, or the one of a hash in base64.
    pub async fn user_change_password(
        &self,
        caller: &Caller,
        name: &str,
        password: Secret,
        hash: &Secret,
    ) -> Result<Reply, Error> {
        let change = self.users.change_password(caller, name, password, hash);
        change.await
    }

    /// A token for a name and its password, and the revision.
    pub async fn authenticate(
        &self,
        caller: &Caller,
        name: &str,
        password: Secret,
    ) -> Result<(String, i64), Error> {
        self.admit(caller)?;
        self.users.authenticate(name, password).await
    }

    /// Whether authentication is on, and the revision of users and roles.
    pub async fn auth_status(&self, caller: &Caller) -> Result<(bool, u64), Error> {
        self.admit(caller)?;
        self.users.status(caller).await
    }

    /// In ascending order.
    pub async fn user_list(&self, caller: &Caller) -> Result<Vec<Name>, Error> {
        self.admit(caller)?;
        self.users.list(caller).await
    }

    /// In ascending order.
    pub async fn role_list(&self, caller: &Caller) -> Result<Vec<Name>, Error> {
        self.admit(caller)?;
        self.users.roles(caller).await
    }

    /// A user's roles, in ascending order.
    pub async fn user_get(&self, caller: &Caller, name: &str) -> Result<Vec<Name>, Error> {
        self.admit(caller)?;
        self.users.get(caller, name).await
    }

    pub async fn role_get(&self, caller: &Caller, name: &str) -> Result<Vec<Permission>, Error> {
        self.admit(caller)?;
        self.users.role(caller, name).await
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
