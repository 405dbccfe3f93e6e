//! From a client's command to the log: room for it, its way to the leader, and who
//! waits for what becomes of it.

pub mod forward;
pub mod rehearsal;
pub mod space;
pub mod waiters;

use std::{sync::Arc, time::Duration};

use mizzen_core::{Alarm, AlarmKind, Command, Reply, SetAlarm, auth::By};
use mizzen_counters::Distribution;
use mizzen_engine::Engine;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{
    admission::Admission,
    error::Error,
    leader,
    memory::Grant,
    model::{
        caller::Caller,
        counted::Counted,
        level,
        proposal::{Body, Proposal},
        published::SharedPublished,
    },
    read::Reads,
};
use crate::{
    limits,
    raft::{Group, Submitted},
};
use forward::Forward;
use rehearsal::Rehearsal;
use space::Space;
use waiters::Waiters;

/// Proposes what clients want written, and waits for what becomes of it.
pub struct Proposer<E: Engine> {
    pub group: Arc<Group>,
    pub published: SharedPublished<E>,
    pub reads: Arc<Reads<E>>,
    rehearsal: Rehearsal<E>,
    pub waiters: Arc<Waiters>,
    forward: Forward,
    pub space: Arc<Space>,
    /// See [`super::apply::thread::Started::cluster_changed`].
    pub cluster_changed: watch::Receiver<()>,
    counted: Arc<Counted>,
    admission: Admission,
    syncs: Syncs,
    /// Bytes of one proposal.
    pub request_bytes: usize,
    /// Bytes of versions the store may keep, if there is a limit.
    pub quota: Option<u64>,
    /// How long a client waits for its proposal or read (etcd's rule: five
    /// seconds for the work, and time for two elections).
    pub limit: Duration,
}

/// What a proposer is made with, beside the reads.
pub struct ProposerSetup {
    pub group: Arc<Group>,
    pub waiters: Arc<Waiters>,
    pub space: Arc<Space>,
    pub cluster_changed: watch::Receiver<()>,
    pub counted: Arc<Counted>,
    pub request_bytes: usize,
    pub quota: Option<u64>,
    pub limit: Duration,
}

impl ProposerSetup {
    pub fn start<E: Engine>(self, reads: &Arc<Reads<E>>) -> Arc<Proposer<E>> {
        Arc::new(Proposer {
            forward: Forward::start(self.group.clone()),
            group: self.group,
            published: reads.published.clone(),
            rehearsal: Rehearsal {
                reads: reads.clone(),
            },
            reads: reads.clone(),
            waiters: self.waiters,
            space: self.space,
            cluster_changed: self.cluster_changed,
            counted: self.counted,
            admission: Admission::new(),
            syncs: Syncs::default(),
            request_bytes: self.request_bytes,
            quota: self.quota,
            limit: self.limit,
        })
    }
}

impl<E: Engine> Proposer<E> {
    /// Carries out a command that writes.
    pub async fn write(&self, caller: &Caller, command: Command) -> Result<Reply, Error> {
        let (by, room) = self.rehearsal.rehearse(caller, &command).await?;
        let _round = caller.turn.round().await;
        self.submit(by, Body::Command(command), room).await
    }

    /// Proposes a command in the name of who calls.
    pub async fn propose(&self, caller: &Caller, command: Command) -> Result<Reply, Error> {
        let by = self.reads.access.identify(caller).await?;
        self.submit(by, Body::Command(command), None).await
    }

    /// Raises an alarm or ends it; gives it back unless there was none to end.
    pub async fn set_alarm(&self, caller: &Caller, set: SetAlarm) -> Result<Vec<Alarm>, Error> {
        match self.propose(caller, Command::Alarm(set)).await? {
            Reply::Alarm { alarms, .. } => Ok(alarms),
            _ => Ok(Vec::new()),
        }
    }

    /// Proposes and waits for the outcome. Proposes again only what no member
    /// appended. `room`: what the answer was found to need; nothing if that is little.
    pub async fn submit(&self, by: By, body: Body, room: Option<Grant>) -> Result<Reply, Error> {
        if self
            .group
            .committed_index()
            .saturating_sub(self.published.load().applied_index())
            > limits::COMMIT_APPLY_GAP
        {
            return Err(Error::TooManyRequests);
        }
        // The store's own goes on.
        let admitted = match by {
            By::Store => None,
            _ => Some(self.admission.admit()?),
        };
        let deadline = Instant::now() + self.limit;
        let mut waiter = self.waiters.register(room)?;
        let proposal = Proposal {
            id: waiter.id(),
            by,
            body,
        };
        self.check_capable(&proposal.body, deadline).await?;
        let payload = proposal.encode(self.published.load().members.level());
        if payload.0.len() > self.request_bytes {
            return Err(Error::RequestTooLarge);
        }
        if let Body::Command(command) = &proposal.body {
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
                    Submitted::Refused => leader::pause(&mut leader, deadline).await?,
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
        let answer = outcome?;
        if let Some(admitted) = admitted {
            admitted.served(|| self.syncs.recent(&self.group.log_syncs()));
        }
        answer.reply
    }

    /// Refuses a command that some member may be too old for. At the beginning
    /// of a cluster this is not known yet; then it waits for that.
    async fn check_capable(&self, body: &Body, deadline: Instant) -> Result<(), Error> {
        let mut changed = self.cluster_changed.clone();
        loop {
            let agreed = self.published.load().members.level();
            // Who asks is left out where they could not read it.
            if level::allows(agreed, body.level(&By::Nobody)) {
                return Ok(());
            }
            if agreed > 0 {
                return Err(Error::NotCapable);
            }
            match timeout_at(deadline, changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Error::Stopped),
                Err(_) => return Err(Error::Timeout),
            }
        }
    }

    /// Refuses a command for which there is no room. `bytes`: what it adds.
    async fn check_space(&self, command: &Command, bytes: usize) -> Result<(), Error> {
        self.space.check(command)?;
        if !command.needs_space() {
            return Ok(());
        }
        let (retained, alarmed) = {
            let state = self.published.load().state;
            (state.sizes().retained(), state.alarms().no_space())
        };
        let retained = u64::try_from(retained).unwrap_or(0);
        let after = retained.saturating_add(bytes as u64);
        if self.quota.is_none_or(|quota| after <= quota) {
            return Ok(());
        }
        if !alarmed {
            tracing::warn!(
                retained_bytes = retained,
                quota_bytes = self.quota,
                "the quota is exceeded: raising an alarm"
            );
            let alarm = Command::Alarm(SetAlarm {
                alarm: Alarm {
                    kind: AlarmKind::NoSpace,
                    member: self.group.id(),
                },
                active: true,
            });
            // Whether or not the others learn of it, this member has no room.
            let raise = self.submit(By::Store, Body::Command(alarm), None);
            if let Err(error) = Box::pin(raise).await {
                tracing::warn!(%error, "the alarm was not raised");
            }
        }
        Err(mizzen_core::Error::NoSpace.into())
    }
}

/// How long this member's log has taken to sync.
#[derive(Default)]
struct Syncs {
    /// How many there were, and how long they took in all, at the last look.
    before: Mutex<(u64, f64)>,
}

impl Syncs {
    /// On average since the last look.
    fn recent(&self, all: &Distribution) -> Duration {
        let (count, sum) = std::mem::replace(&mut *self.before.lock(), (all.count, all.sum));
        let times = all.count.saturating_sub(count).max(1);
        Duration::try_from_secs_f64((all.sum - sum) / times as f64).unwrap_or_default()
    }
}
