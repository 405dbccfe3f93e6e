//! Leases as clients use them, on any member.
//!
//! The log grants and revokes; the rows say which leases exist and which keys
//! they hold. How much time is left only the leader knows, by its own clock:
//! every member asks it.

mod asking;
mod change;
mod expiry;
#[cfg(feature = "planted")]
mod own_expiry;
mod peer;
mod primary_lessor;
mod rounds;

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use mizzen_core::{Command, LeaseGrant, LeaseRevoke, Reply};
use mizzen_engine::Engine;
use mizzen_proto::peer::leases_server::LeasesServer;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
    time::{Instant, sleep, timeout_at},
};

pub use change::Change;
pub use peer::LeaseService;
pub use primary_lessor::PrimaryLessor;

use crate::{
    limits,
    raft::Group,
    server::{error::Error, model::caller::Caller, propose::Proposer, read::Reads},
    workers::{self, Workers},
};
use asking::{Asking, Item};
use expiry::{Checkpoints, Expiry};
use rounds::{Answer, Question, Round, Rounds};

/// What is told of a lease that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeToLive {
    /// Whole seconds left.
    pub remaining: i64,
    /// Seconds.
    pub granted: i64,
    /// In ascending order; empty unless asked for.
    pub keys: Vec<Bytes>,
}

/// Calls about leases.
pub struct Leases<E: Engine> {
    asker: Asker,
    group: Arc<Group>,
    reads: Arc<Reads<E>>,
    proposer: Arc<Proposer<E>>,
    /// How long a client waits.
    limit: Duration,
}

/// The way of questions to the leader, and the work that a leader does.
struct Asker {
    asked: mpsc::Sender<Item>,
    rounds: Rounds,
    /// Seconds.
    shortest_ttl: i64,
    tasks: [AbortHandle; 3],
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// The shortest time to live: one and a half elections, in whole seconds (etcd's
/// rule). A shorter lease could run out while nobody can renew it.
fn shortest_ttl(heartbeat: Duration, election_timeout: Duration) -> i64 {
    let ticks = election_timeout.as_millis() / heartbeat.as_millis().max(1);
    let shortest = 3 * ticks / 2 * heartbeat.as_millis();
    i64::try_from(shortest.div_ceil(1_000)).unwrap_or(i64::MAX)
}

/// What the work on leases needs.
pub struct Setup<E: Engine> {
    pub group: Arc<Group>,
    pub primary: Arc<PrimaryLessor>,
    pub reads: Arc<Reads<E>>,
    pub proposer: Arc<Proposer<E>>,
    pub applied: watch::Receiver<u64>,
    pub heartbeat: Duration,
    pub election_timeout: Duration,
    pub workers: Workers,
}

impl<E: Engine> Setup<E> {
    pub fn start(self, fail: impl Fn(&io::Error) + Send + 'static) -> Leases<E> {
        let checkpoints = Arc::new(Checkpoints::new(
            self.group.clone(),
            self.proposer.waiters.clone(),
        ));
        let (rounds, answering) = Rounds::new(Round {
            group: self.group.clone(),
            primary: self.primary.clone(),
            applied: self.applied.clone(),
            checkpoints: checkpoints.clone(),
        });
        let (asked, queue) = mpsc::channel(limits::LEASE_QUESTIONS);
        let asking = Asking {
            group: self.group.clone(),
            rounds: rounds.clone(),
            limit: self.proposer.limit,
        };
        let expiry = Expiry::<E> {
            group: self.group.clone(),
            primary: self.primary,
            published: self.reads.published.clone(),
            applied: self.applied,
            checkpoints,
            extension: self.election_timeout,
            late: limits::LEASE_LATE / 2,
            workers: self.workers,
        };
        let asker = Asker {
            asked,
            rounds,
            shortest_ttl: shortest_ttl(self.heartbeat, self.election_timeout),
            tasks: [
                workers::spawn("leases", expiry.run(fail)).abort_handle(),
                workers::spawn("rounds of leases", answering).abort_handle(),
                workers::spawn("asking for leases", asking.run(queue)).abort_handle(),
            ],
        };
        Leases {
            asker,
            group: self.group,
            limit: self.proposer.limit,
            reads: self.reads,
            proposer: self.proposer,
        }
    }
}

impl Asker {
    /// Asks the leader until it can tell, or the time is up. `None`: there is
    /// no such lease.
    async fn ask(&self, question: Question, limit: Duration) -> Result<Option<i64>, Error> {
        /// Until a lease that is being ended or granted is gone or there.
        const PAUSE: Duration = Duration::from_millis(20);
        let deadline = Instant::now() + limit;
        loop {
            let (sender, answer) = oneshot::channel();
            let item = Item {
                question,
                answer: sender,
            };
            timeout_at(deadline, self.asked.send(item))
                .await
                .map_err(|_| Error::TooManyRequests)?
                .map_err(|_| Error::Stopped)?;
            match answer.await.map_err(|_| Error::Stopped)?? {
                Answer::Ttl(seconds) => return Ok(Some(seconds)),
                Answer::Gone => return Ok(None),
                Answer::Again if Instant::now() >= deadline => return Err(Error::Timeout),
                Answer::Again => sleep(PAUSE).await,
            }
        }
    }
}

impl<E: Engine> Leases<E> {
    /// This member's lease service for its peers.
    pub fn service(&self) -> LeasesServer<LeaseService> {
        LeasesServer::new(LeaseService {
            group: self.group.clone(),
            rounds: self.asker.rounds.clone(),
        })
        .max_decoding_message_size(limits::PEER_MESSAGE_BYTES)
        .max_encoding_message_size(limits::PEER_MESSAGE_BYTES)
    }

    /// Grants a lease for `ttl` seconds, or longer if that is too short. An
    /// `id` of 0 leaves the choice to this member.
    pub async fn grant(&self, caller: &Caller, id: i64, ttl: i64) -> Result<Reply, Error> {
        let grant = LeaseGrant {
            // Positive, as etcd's. That one is taken already is as likely as
            // two equal random numbers among all leases.
            id: match id {
                0 => rand::random_range(1..=i64::MAX),
                id => id,
            },
            ttl: ttl.max(self.asker.shortest_ttl),
        };
        self.proposer
            .propose(caller, Command::LeaseGrant(grant))
            .await
    }

    /// Ends a lease and deletes its keys.
    pub async fn revoke(&self, caller: &Caller, id: i64) -> Result<Reply, Error> {
        let command = Command::LeaseRevoke(LeaseRevoke { id });
        self.proposer.propose(caller, command).await
    }

    /// Renews a lease and gives its time to live in seconds; `None` if there is
    /// no such lease.
    pub async fn keep_alive(&self, caller: &Caller, id: i64) -> Result<Option<i64>, Error> {
        self.permit_renewal(caller, id).await?;
        self.asker.ask(Question::Renew(id), self.limit).await
    }

    /// What is left of a lease; `None` if there is no such lease.
    pub async fn time_to_live(
        &self,
        caller: &Caller,
        id: i64,
        keys: bool,
    ) -> Result<Option<TimeToLive>, Error> {
        let question = Question::Remaining(id);
        let Some(remaining) = self.asker.ask(question, self.limit).await? else {
            return Ok(None);
        };
        self.reads.index.wait().await?;
        self.reads
            .read_at_leisure(
                caller,
                (id, keys),
                move |(id, keys), check, _, view, room| {
                    if *keys && let Err(refusal) = check.told_keys(view, *id)? {
                        return Ok(Err(refusal));
                    }
                    // It may have ended since the leader was asked.
                    let Some(lease) = mizzen_core::lease(view, *id)? else {
                        return Ok(Ok(None));
                    };
                    let keys = match keys {
                        true => mizzen_core::lease_keys(view, *id)?,
                        false => Vec::new(),
                    };
                    if !room.take(keys.iter().map(Bytes::len).sum()) {
                        return Ok(Err(mizzen_core::Error::ReplyTooLarge));
                    }
                    Ok(Ok(Some(TimeToLive {
                        remaining,
                        granted: lease.ttl,
                        keys,
                    })))
                },
            )
            .await
    }

    /// The ids of all leases this member knows of.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<i64>, Error> {
        self.reads
            .read_at_leisure(caller, (), |(), check, _, view, room| {
                if let Err(refusal) = check.told_leases(view)? {
                    return Ok(Err(refusal));
                }
                let leases = mizzen_core::leases(view)?;
                if !room.take(leases.len() * size_of::<i64>()) {
                    return Ok(Err(mizzen_core::Error::ReplyTooLarge));
                }
                Ok(Ok(leases.into_iter().map(|(id, _)| id).collect()))
            })
            .await
    }

    async fn permit_renewal(&self, caller: &Caller, lease: i64) -> Result<(), Error> {
        if !self.reads.published.load().auth.is_enabled() {
            return Ok(());
        }
        self.reads
            .read(caller, lease, |lease, check, _, view, _| {
                check.renew(view, *lease)
            })
            .await
    }
}
