//! What a leader does about leases: it takes them over, ends those whose time
//! has run out, and notes in the log what is left of long ones.
//!
//! Everything is proposed in the term in which it was decided, and in no
//! other: what a deposed leader decided is never carried out.

use std::{io, sync::Arc, time::Duration};

use futures::future;
use mizzen_core::{Command, LeaseCheckpoint, ViewError, auth::By};
use mizzen_engine::Engine;
use mizzen_planted::sometimes;
use tokio::{sync::watch, time::sleep};

use super::primary_lessor::PrimaryLessor;
use crate::{
    lease::{Lessor, Takeover},
    limits,
    raft::{Group, Submitted},
    server::{
        model::{
            level,
            proposal::{Body, Proposal},
            published::SharedPublished,
        },
        propose::waiters::Waiters,
    },
    workers::Workers,
};

/// Between attempts that other members must answer.
const PAUSE: Duration = Duration::from_millis(20);

pub struct Expiry<E: Engine> {
    pub group: Arc<Group>,
    pub primary: Arc<PrimaryLessor>,
    pub published: SharedPublished<E>,
    pub applied: watch::Receiver<u64>,
    pub checkpoints: Arc<Checkpoints>,
    /// Added by a new leader to what a checkpoint says is left: nobody could
    /// renew while there was no leader.
    pub extension: Duration,
    /// How late leases may end when many do at once.
    pub late: Duration,
    pub workers: Workers,
}

impl<E: Engine> Expiry<E> {
    /// Works whenever this member leads. `fail` is called when the rows cannot
    /// be read.
    pub async fn run(self, fail: impl Fn(&io::Error) + Send) {
        let mut leading = self.group.watch_leading();
        loop {
            let term = *leading.borrow_and_update();
            let Some(term) = term else {
                if leading.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let deposed = leading.wait_for(|now| *now != Some(term));
            let ended = tokio::select! {
                deposed = deposed => deposed.map(drop).map_err(io::Error::other),
                error = self.lead(term) => {
                    fail(&error);
                    Err(error)
                }
            };
            let primary = self.primary.clone();
            let demoted = self.workers.run(move || primary.demote()).await;
            if demoted.is_err() || ended.is_err() {
                return;
            }
        }
    }

    /// Returns only when the rows cannot be read.
    async fn lead(&self, term: u64) -> io::Error {
        if let Err(error) = self.take_over(term).await {
            return error;
        }
        future::join(self.expire(term), self.checkpoint(term)).await;
        io::Error::other("a leader's work on leases has ended")
    }

    /// Reads the leases once this member has applied everything that leaders
    /// before it did.
    async fn take_over(&self, term: u64) -> io::Result<()> {
        let takeover = Takeover {
            since: self.primary.now(),
            extension: self.extension,
        };
        let index = loop {
            match self.group.confirm_leadership().await {
                Ok(confirmed) if confirmed.term == term => break confirmed.index,
                Ok(_) | Err(_) => sleep(PAUSE).await,
            }
        };
        let mut applied = self.applied.clone();
        if applied.wait_for(|applied| *applied >= index).await.is_err() {
            // The applying thread has stopped and said why.
            return future::pending().await;
        }
        loop {
            self.primary.load();
            let (primary, published) = (self.primary.clone(), self.published.load_full());
            // Many leases take longer than entries of the log can wait.
            let load = move || -> Result<(u64, Lessor), ViewError> {
                let leases = mizzen_core::leases(&published.rows)?;
                let lessor = primary.restored(&leases, takeover);
                Ok((published.applied_index(), lessor))
            };
            let loaded = self.workers.run(load).await?;
            let (index, lessor) = loaded.map_err(io::Error::other)?;
            let leases = lessor.len();
            if self.primary.promote(term, index, lessor) {
                tracing::info!(term, leases, "took over the leases");
                return Ok(());
            }
        }
    }

    /// Ends leases in small batches, many at once no faster than they must be
    /// ended in time: other writes come in between.
    async fn expire(&self, term: u64) {
        let mut undone: Vec<i64> = Vec::new();
        let mut pace = Pace::default();
        loop {
            let applied = *self.applied.borrow();
            let decided = self.primary.in_term(term, |lessor, now| {
                // What is gone need not be ended again. If it was granted anew
                // meanwhile, it is another lease.
                undone.retain(|id| lessor.is_expiring(*id));
                pace.look(lessor, now, self.late, applied);
                let batch = pace.batch();
                let more = batch.saturating_sub(undone.len());
                let mut ids = std::mem::take(&mut undone);
                ids.extend(lessor.expire(now, more));
                (ids, lessor.next_deadline(), now)
            });
            let Some((ids, next, now)) = decided else {
                return future::pending().await;
            };
            if ids.is_empty() {
                // A lease granted from here on lives for a second at least.
                let rest = next.map_or(Duration::MAX, |next| next.saturating_sub(now));
                sleep(rest.clamp(Duration::from_millis(1), Duration::from_secs(1))).await;
                continue;
            }
            sometimes!("leases-end-together", ids.len() > 1);
            let began = tokio::time::Instant::now();
            let share = pace.share(ids.len());
            let expiry = Body::Expiry(ids.clone());
            pace.entries += 1;
            if self.checkpoints.propose(term, expiry).await == Submitted::Done {
                sleep(share.saturating_sub(began.elapsed())).await;
            } else {
                sometimes!("end-of-a-lease-refused");
                undone = ids;
                sleep(began.elapsed().max(PAUSE)).await;
            }
        }
    }

    async fn checkpoint(&self, term: u64) {
        loop {
            let began = tokio::time::Instant::now();
            let noted = self.checkpoints.note(&self.primary, term).await;
            let Some((noted, next)) = noted else {
                return future::pending().await;
            };
            sleep(if noted {
                began.elapsed().max(PAUSE)
            } else {
                next
            })
            .await;
        }
    }
}

/// How fast leases are to be ended.
#[derive(Default)]
struct Pace {
    /// Leases per second.
    rate: u64,
    /// When it was worked out.
    at: Duration,
    /// The last entry applied by then.
    applied: u64,
    /// Entries that have been proposed here since.
    entries: u64,
}

impl Pace {
    /// Works it out anew from time to time. Beside writes of clients it is not
    /// so high that they have to wait, however many leases are due.
    fn look(&mut self, lessor: &Lessor, now: Duration, late: Duration, applied: u64) {
        let passed = now.saturating_sub(self.at);
        if self.rate > 0 && passed < limits::LEASE_PACE_INTERVAL {
            return;
        }
        let others = applied
            .saturating_sub(self.applied)
            .saturating_sub(self.entries);
        let beside_writes = self.rate > 0
            && others as f64 > limits::LEASE_PACE_WRITES as f64 * passed.as_secs_f64();
        let highest = if beside_writes {
            limits::LEASE_PACE_BESIDE_WRITES
        } else {
            u64::MAX
        };
        *self = Self {
            rate: lessor
                .pace(now, late)
                .clamp(limits::LEASE_PACE_MIN, highest),
            at: now,
            applied,
            entries: 0,
        };
    }

    /// Leases to be ended at once.
    fn batch(&self) -> usize {
        let batch = self
            .rate
            .saturating_mul(limits::LEASE_TICK.as_micros() as u64)
            / 1_000_000;
        usize::try_from(batch)
            .unwrap_or(usize::MAX)
            .clamp(1, limits::LEASE_REVOKES)
    }

    /// The time in which so many leases are to be ended.
    fn share(&self, leases: usize) -> Duration {
        Duration::from_secs(1).mul_f64(leases as f64 / self.rate.max(1) as f64)
    }
}

/// Entries about what is left of leases, one at a time: which of two about the
/// same lease comes later matters.
pub struct Checkpoints {
    group: Arc<Group>,
    waiters: Arc<Waiters>,
    turn: tokio::sync::Mutex<()>,
}

impl Checkpoints {
    pub fn new(group: Arc<Group>, waiters: Arc<Waiters>) -> Self {
        Self {
            group,
            waiters,
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Proposes in `term` what no client waits for.
    async fn propose(&self, term: u64, body: Body) -> Submitted {
        let payload = Proposal {
            id: self.waiters.unanswered(),
            // No client's, whatever it is: that needs not be said.
            by: By::Nobody,
            body,
        }
        .encode(level::own());
        self.group.propose_in(term, payload).await
    }

    /// Notes what is due. Gives whether there was something, and how long to
    /// wait for the next; `None` if another term has begun.
    async fn note(&self, primary: &PrimaryLessor, term: u64) -> Option<(bool, Duration)> {
        let _turn = self.turn.lock().await;
        let (due, next) = primary.in_term(term, |lessor, now| {
            let due = lessor.due_checkpoints(now, limits::LEASE_CHECKPOINTS);
            let interval = limits::LEASE_CHECKPOINT_INTERVAL;
            let next = lessor
                .next_checkpoint()
                .map_or(interval, |next| next.saturating_sub(now).min(interval));
            (due, next)
        })?;
        if due.is_empty() {
            return Some((false, next));
        }
        let checkpoints = due
            .into_iter()
            .map(|(id, remaining)| LeaseCheckpoint { id, remaining })
            .collect();
        // If it is not carried out, the next leader waits longer than it must.
        self.propose(term, Body::Command(Command::LeaseCheckpoint(checkpoints)))
            .await;
        Some((true, next))
    }

    /// Takes back what was noted of leases that were renewed since. True: it
    /// is committed.
    pub async fn take_back(&self, primary: &PrimaryLessor, term: u64, ids: &[i64]) -> bool {
        let _turn = self.turn.lock().await;
        for ids in ids.chunks(limits::LEASE_CHECKPOINTS) {
            let checkpoints = ids
                .iter()
                .map(|id| LeaseCheckpoint {
                    id: *id,
                    remaining: 0,
                })
                .collect();
            let command = Body::Command(Command::LeaseCheckpoint(checkpoints));
            if self.propose(term, command).await != Submitted::Done {
                return false;
            }
            primary.in_term(term, |lessor, _| {
                ids.iter().for_each(|id| lessor.unnoted(*id));
            });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_writes_of_others_leases_end_no_faster_than_the_writes_bear() {
        const LATE: Duration = Duration::from_secs(1);
        let mut lessor = Lessor::new(limits::LEASE_CHECKPOINT_INTERVAL);
        for id in 0..50_000 {
            lessor.grant(Duration::ZERO, id, 1);
        }
        let look = |pace: &mut Pace, millis, applied| {
            pace.look(&lessor, Duration::from_millis(millis), LATE, applied);
            pace.rate
        };
        let mut pace = Pace::default();
        let needed = look(&mut pace, 1_000, 500);
        assert!(needed > limits::LEASE_PACE_BESIDE_WRITES, "{needed}");
        // Its own entries are no writes of others, nor is one now and then.
        pace.entries = 24;
        assert!(look(&mut pace, 1_100, 525) > limits::LEASE_PACE_BESIDE_WRITES);
        pace.entries = 24;
        assert_eq!(
            look(&mut pace, 1_200, 600),
            limits::LEASE_PACE_BESIDE_WRITES
        );
        assert_eq!(
            look(&mut pace, 1_201, 600),
            limits::LEASE_PACE_BESIDE_WRITES,
            "too soon for another look"
        );
        assert!(look(&mut pace, 1_300, 600) > limits::LEASE_PACE_BESIDE_WRITES);
        // Few are not hurried.
        for id in 0..50_000 {
            lessor.revoked(id);
        }
        pace.look(&lessor, Duration::from_millis(1_400), LATE, 600);
        assert_eq!(pace.rate, limits::LEASE_PACE_MIN);
    }
}
