//! Changes of the membership that clients ask for, with etcd's checks.

use std::{
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::Duration,
};

use mizzen_core::auth::By;
use mizzen_engine::Engine;
use mizzen_planted::bug;
use mizzen_proto::peer::{ProgressRequest, membership_client::MembershipClient};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::liveness::Liveness;
use crate::{
    limits,
    raft::{Configuration, Group, Progress},
    server::{
        error::Error,
        leader,
        model::{
            caller::Caller,
            members::{Attributes, Change, Member, Refusal},
            proposal::Body,
            published::{Published, SharedPublished},
        },
        propose::Proposer,
        read::Reads,
    },
};

/// Calls about members.
pub struct Requests<E: Engine> {
    pub group: Arc<Group>,
    pub published: SharedPublished<E>,
    pub reads: Arc<Reads<E>>,
    pub proposer: Arc<Proposer<E>>,
    pub liveness: Arc<Liveness>,
    /// See [`crate::server::apply::thread::Started::cluster_changed`].
    pub cluster_changed: watch::Receiver<()>,
    /// Refuse changes that would endanger the quorum.
    pub strict: bool,
}

impl<E: Engine> Requests<E> {
    /// Members by id, as this member has them.
    pub fn members(&self) -> Vec<Member> {
        self.published.load().members.iter().cloned().collect()
    }

    /// Whether clients are told that this member does not vote.
    pub fn is_learner(&self) -> bool {
        let published = self.published.load();
        let own = published.members.get(self.group.id());
        own.is_some_and(|own| own.learner)
    }

    /// Adds a member that need not be up. Gives its id.
    pub async fn add(
        &self,
        caller: &Caller,
        peer_urls: Vec<String>,
        learner: bool,
    ) -> Result<Member, Error> {
        let by = self.reads.access.identify(caller).await?;
        self.reads.index.refresh().await;
        self.may_add(learner)?;
        let id = bug!("member-id-reused", new_id() => BuildHasherDefault::<DefaultHasher>::default().hash_one(&peer_urls));
        self.change_members(
            by,
            Change::Add {
                id,
                peer_urls: peer_urls.clone(),
                learner,
                learners_max: limits::LEARNERS,
            },
        )
        .await?;
        self.settle(|group| group.nodes.contains_key(&id)).await;
        Ok(Member {
            id,
            peer_urls,
            learner,
            ..Member::default()
        })
    }

    pub async fn remove(&self, caller: &Caller, id: u64) -> Result<(), Error> {
        let by = self.reads.access.identify(caller).await?;
        self.reads.index.refresh().await;
        self.may_remove(id)?;
        self.change_members(by, Change::Remove { id }).await?;
        if id != self.group.id() {
            self.settle(|group| !group.joint && !group.nodes.contains_key(&id))
                .await;
        }
        Ok(())
    }

    pub async fn update(
        &self,
        caller: &Caller,
        id: u64,
        peer_urls: Vec<String>,
    ) -> Result<(), Error> {
        let by = self.reads.access.identify(caller).await?;
        self.change_members(
            by,
            Change::Update {
                id,
                peer_urls: peer_urls.clone(),
            },
        )
        .await?;
        self.settle(|group| {
            group
                .nodes
                .get(&id)
                .is_none_or(|node| node.peer_urls == peer_urls)
        })
        .await;
        Ok(())
    }

    pub async fn promote(&self, caller: &Caller, id: u64) -> Result<(), Error> {
        let by = self.reads.access.identify(caller).await?;
        self.reads.index.refresh().await;
        if self.published.load().members.get(id).is_none() {
            return Err(Refusal::NotFound.into());
        }
        let progress = self.progress().await?;
        let matched = progress.matched.get(&id).copied().unwrap_or(0);
        // etcd's measure of being in sync.
        if matched.saturating_mul(10) < progress.last_index.saturating_mul(9) {
            return Err(Error::LearnerNotReady);
        }
        self.may_promote()?;
        self.change_members(by, Change::Promote { id }).await?;
        self.settle(|group| group.votes(id)).await;
        Ok(())
    }

    /// Announces this member's name and client URLs until the cluster knows.
    pub async fn announce(&self, attributes: Attributes) -> Result<(), Error> {
        loop {
            let change = Change::Announce(attributes.clone());
            match self.change_members(By::Nobody, change).await {
                Err(
                    Error::Timeout
                    | Error::TimeoutLeaderFailure
                    | Error::NoLeader
                    | Error::TooManyRequests,
                ) => tokio::time::sleep(limits::ANNOUNCE_PAUSE).await,
                other => return other,
            }
        }
    }

    /// Returns when this member votes, if it is to: from then on the cluster
    /// can rely on it as clients think it can.
    pub async fn voting(&self) {
        let id = self.group.id();
        let mut cluster_changed = self.cluster_changed.clone();
        loop {
            let published = self.published.load_full();
            let votes = published.members.voters().any(|member| member.id == id);
            if !votes || self.group.configuration().votes(id) {
                return;
            }
            // Its vote is an entry like any other, of which rows and
            // configuration tell one after the other. Without a writer, or a
            // group, nothing changes any more.
            let followed = |group: &Configuration| group.votes(id);
            let stopped = tokio::select! {
                changed = cluster_changed.changed() => changed.is_err(),
                voter = self.group.wait_configuration(followed) => !voter,
            };
            if stopped {
                return;
            }
        }
    }

    /// Resolves when this member is no member any more.
    pub fn removed(&self) -> impl Future<Output = ()> + use<E> {
        let mut told = self.liveness.removed();
        let mut cluster_changed = self.cluster_changed.clone();
        let published = self.published.clone();
        let group = self.group.clone();
        async move {
            loop {
                if *told.borrow_and_update() {
                    return;
                }
                // The only member cannot ask anyone, nor be outvoted.
                let rows = published.load();
                if rows.members.is_removed(group.id())
                    && (rows.members.iter().next().is_none()
                        || !group.configuration().nodes.contains_key(&group.id()))
                {
                    return;
                }
                drop(rows);
                let changed = tokio::select! {
                    biased;
                    changed = told.changed() => changed,
                    changed = cluster_changed.changed() => changed,
                };
                if changed.is_err() {
                    return std::future::pending().await;
                }
            }
        }
    }

    async fn change_members(&self, by: By, change: Change) -> Result<(), Error> {
        self.proposer
            .submit(by, Body::Members(change), None)
            .await
            .map(drop)
    }

    /// The change is decided; waits a while for the Raft group to follow, so
    /// that the next call finds it as this one left it.
    async fn settle(&self, wanted: impl Fn(&Configuration) -> bool) {
        let followed = self.group.wait_configuration(wanted);
        if !matches!(timeout(limits::SETTLE_LIMIT, followed).await, Ok(true)) {
            tracing::warn!("the raft configuration has not followed the members yet");
        }
    }

    /// How far members have come, asked of the leader.
    async fn progress(&self) -> Result<Progress, Error> {
        let deadline = Instant::now() + self.proposer.limit;
        leader::ask(&self.group, deadline, |leader| self.progress_of(leader)).await
    }

    async fn progress_of(&self, leader: u64) -> Option<Progress> {
        if leader == self.group.id() {
            return self.group.progress();
        }
        let channel = self.group.channel(leader).ok()?;
        let mut client = MembershipClient::new(channel);
        let answer = client.progress(ProgressRequest {}).await.ok()?.into_inner();
        let members = answer.members.into_iter();
        Some(Progress {
            last_index: answer.last_index,
            matched: members
                .map(|member| (member.id, member.matched_index))
                .collect(),
        })
    }

    fn may_add(&self, learner: bool) -> Result<(), Error> {
        if !self.strict {
            return Ok(());
        }
        let (voters, started) = self.count(None);
        // A cluster of one may be restored to its size one by one.
        let alone = voters == 1 && started == 1;
        if !learner && !alone && started < quorum(voters + 1) {
            return Err(Error::NotEnoughStarted);
        }
        if voters > 1 && self.connected() < quorum(voters + 1) {
            return Err(Error::Unhealthy);
        }
        Ok(())
    }

    fn may_remove(&self, id: u64) -> Result<(), Error> {
        if !self.strict {
            return Ok(());
        }
        let published = self.published.load();
        // Who is no member is refused as such later, also when it has just been
        // one and is still in contact.
        if published
            .members
            .get(id)
            .is_none_or(|member| member.learner)
        {
            return Ok(());
        }
        let (others, started) = self.count(Some(id));
        if started < quorum(others) {
            return Err(Error::NotEnoughStarted);
        }
        // Who is down is no part of a working majority.
        if id != self.group.id() && self.liveness.contact(id).is_none() {
            return Ok(());
        }
        let voters = published.members.voters().count();
        if self.connected().saturating_sub(1) < 1 + voters.saturating_sub(1) / 2 {
            return Err(Error::Unhealthy);
        }
        Ok(())
    }

    fn may_promote(&self) -> Result<(), Error> {
        let (voters, started) = self.count(None);
        if self.strict && started + 1 < quorum(voters + 1) {
            return Err(Error::NotEnoughStarted);
        }
        Ok(())
    }

    /// Voters, and how many of them have started, without `but`.
    fn count(&self, but: Option<u64>) -> (usize, usize) {
        let published = self.published.load();
        let voters = published
            .members
            .voters()
            .filter(|member| Some(member.id) != but);
        voters.fold((0, 0), |(voters, started), member| {
            (voters + 1, started + usize::from(member.is_started()))
        })
    }

    /// Voters this member has been in touch with for a while, itself included.
    fn connected(&self) -> usize {
        /// etcd's measure of a healthy connection.
        const HEALTHY: Duration = Duration::from_secs(5);
        let published = self.published.load();
        let now = Instant::now();
        let connected = published.members.voters().filter(|member| {
            member.id == self.group.id()
                || self
                    .liveness
                    .contact(member.id)
                    .is_some_and(|contact| now.duration_since(contact.since) > HEALTHY)
        });
        connected.count()
    }
}

/// Whether `member` was removed and the group goes on without it.
pub fn is_out<S>(published: &Published<S>, member: u64) -> bool {
    let nodes = published.applied.nodes();
    published.members.is_removed(member) && nodes.is_ok_and(|nodes| !nodes.contains_key(&member))
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Never 0, which stands for no member; never one there is or was, or the
/// change is refused.
fn new_id() -> u64 {
    rand::random_range(1..=u64::MAX)
}
