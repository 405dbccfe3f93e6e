//! Changes of the membership that clients ask for, with etcd's checks.

use std::time::Duration;

use mizzen_core::auth::By;
use mizzen_engine::Engine;
use mizzen_proto::peer::{ProgressRequest, membership_client::MembershipClient};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Caller, Error, Server,
    members::{Attributes, Change, Member},
    proposal::Body,
};
use crate::{
    limits,
    raft::{Configuration, Progress},
};

impl<E: Engine> Server<E> {
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
    pub async fn member_add(
        &self,
        caller: &Caller,
        peer_urls: Vec<String>,
        learner: bool,
    ) -> Result<Member, Error> {
        self.admit(caller)?;
        let by = self.identify(caller).await?;
        self.refresh().await;
        self.may_add(learner)?;
        let id = new_id();
        #[cfg(feature = "planted")]
        let id = reused_id(&peer_urls).unwrap_or(id);
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

    pub async fn member_remove(&self, caller: &Caller, id: u64) -> Result<(), Error> {
        self.admit(caller)?;
        let by = self.identify(caller).await?;
        self.refresh().await;
        self.may_remove(id)?;
        self.change_members(by, Change::Remove { id }).await?;
        if id != self.group.id() {
            self.settle(|group| !group.joint && !group.nodes.contains_key(&id))
                .await;
        }
        Ok(())
    }

    pub async fn member_update(
        &self,
        caller: &Caller,
        id: u64,
        peer_urls: Vec<String>,
    ) -> Result<(), Error> {
        self.admit(caller)?;
        let by = self.identify(caller).await?;
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

    pub async fn member_promote(&self, caller: &Caller, id: u64) -> Result<(), Error> {
        self.admit(caller)?;
        let by = self.identify(caller).await?;
        self.refresh().await;
        if self.published.load().members.get(id).is_none() {
            return Err(super::members::Refusal::NotFound.into());
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
        let mut seldom = self.seldom.clone();
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
                changed = seldom.changed() => changed.is_err(),
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
        let mut seldom = self.seldom.clone();
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
                    changed = seldom.changed() => changed,
                };
                if changed.is_err() {
                    return std::future::pending().await;
                }
            }
        }
    }

    /// Whether `member` was removed and the group goes on without it.
    pub(super) fn is_out(&self, member: u64) -> bool {
        let published = self.published.load();
        published.members.is_removed(member)
            && published
                .applied
                .nodes()
                .is_ok_and(|nodes| !nodes.contains_key(&member))
    }

    async fn change_members(&self, by: By, change: Change) -> Result<(), Error> {
        self.submit(by, Body::Members(change), None).await.map(drop)
    }

    /// The change is decided; waits a while for the Raft group to follow, so
    /// that the next call finds it as this one left it.
    async fn settle(&self, wanted: impl Fn(&Configuration) -> bool) {
        let followed = self.group.wait_configuration(wanted);
        if !matches!(timeout(limits::SETTLE_LIMIT, followed).await, Ok(true)) {
            tracing::warn!("the raft configuration has not followed the members yet");
        }
    }

    /// Brings this member's rows up to what has been decided, perhaps a moment
    /// ago through another member. Without a quorum the newest known must do.
    pub(super) async fn refresh(&self) {
        // Either way the rows are looked at next.
        let _ = timeout(limits::REFRESH_LIMIT, self.read_index.wait()).await;
    }

    /// How far members have come, asked of the leader.
    async fn progress(&self) -> Result<Progress, Error> {
        let deadline = Instant::now() + self.request_limit;
        let mut leader = self.group.watch_leader();
        loop {
            let known = *leader.borrow_and_update();
            if known == self.group.id() {
                if let Some(progress) = self.group.progress() {
                    return Ok(progress);
                }
            } else if known != 0
                && let Ok(channel) = self.group.channel(known)
                && let Ok(Ok(answer)) = timeout_at(
                    deadline,
                    MembershipClient::new(channel).progress(ProgressRequest {}),
                )
                .await
            {
                let answer = answer.into_inner();
                return Ok(Progress {
                    last_index: answer.last_index,
                    matched: answer
                        .members
                        .into_iter()
                        .map(|member| (member.id, member.matched_index))
                        .collect(),
                });
            }
            super::read_index::retry(&mut leader, deadline).await?;
        }
    }

    fn may_add(&self, learner: bool) -> Result<(), Error> {
        if !self.strict_reconfig {
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
        if !self.strict_reconfig {
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
        if self.strict_reconfig && started + 1 < quorum(voters + 1) {
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

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Never 0, which stands for no member; never one there is or was, or the
/// change is refused.
fn new_id() -> u64 {
    rand::random_range(1..=u64::MAX)
}

/// A bug to be planted: ids made of what members have in common.
#[cfg(feature = "planted")]
fn reused_id(peer_urls: &[String]) -> Option<u64> {
    use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
    mizzen_core::planted::has("member-id-reused")
        .then(|| BuildHasherDefault::<DefaultHasher>::default().hash_one(peer_urls))
}
