//! When leases end, by the leader's clock.
//!
//! Knows ids, times to live and deadlines. Must not know Raft, sockets, rows
//! or a clock: every moment is an argument, the time since some fixed moment
//! of a clock that never goes back. Nothing here ends a lease: what has run
//! out is named, and stays until it is said to be revoked.

mod deadlines;

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use deadlines::Deadlines;

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// There is no such lease.
    Unknown,
    /// Its end was decided: it is no more to be renewed.
    Expiring,
    Renewed {
        /// The time to live that was granted, in seconds.
        ttl: i64,
        /// A checkpoint says that less is left. It must be taken back before
        /// the renewal counts, or the next leader goes by it.
        noted: bool,
    },
}

/// What is left of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    pub left: Duration,
    /// The time to live that was granted, in seconds.
    pub ttl: i64,
}

/// Nanoseconds since the fixed moment: more than 500 years fit.
type Moment = u64;

const SECOND: Moment = 1_000_000_000;

struct Lease {
    /// Seconds, not negative.
    ttl: i64,
    deadline: Moment,
    /// Its place in `Lessor::deadlines`, never after the deadline. A renewal
    /// leaves it where it is; it moves when its turn comes.
    queued: Moment,
    /// Its place in `Lessor::checkpoints`.
    checkpoint: Option<Moment>,
    /// A checkpoint may say that less is left than the full time to live.
    noted: bool,
    expiring: bool,
}

/// The leases of a leader. An empty one is what every leader begins with.
pub struct Lessor {
    /// Time without a renewal after which what is left is worth a checkpoint.
    checkpoint_interval: Duration,
    leases: HashMap<i64, Lease>,
    deadlines: Deadlines,
    checkpoints: BTreeSet<(Moment, i64)>,
}

fn moment(time: Duration) -> Moment {
    Moment::try_from(time.as_nanos()).unwrap_or(Moment::MAX)
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// How a leader came to look after leases.
#[derive(Clone, Copy, Debug)]
pub struct Takeover {
    /// When it led already: no leader before it has renewed a lease later.
    pub since: Duration,
    /// What makes up for the time without a leader.
    pub extension: Duration,
}

impl Lessor {
    /// `checkpoint_interval`: not zero.
    pub fn new(checkpoint_interval: Duration) -> Self {
        Self {
            checkpoint_interval,
            leases: HashMap::new(),
            deadlines: Deadlines::default(),
            checkpoints: BTreeSet::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.leases.len()
    }

    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// A lease was granted for `ttl` seconds.
    pub fn grant(&mut self, now: Duration, id: i64, ttl: i64) {
        self.insert(now, id, ttl, now + seconds(ttl), false);
    }

    /// A lease that an earlier leader looked after: `remaining` seconds were
    /// left at its last checkpoint, 0 if there is none. How much had passed
    /// `since` this one leads is not known, so nothing had; `extension` makes
    /// up for the time in which nobody could renew it. No renewal is later than
    /// `since`, so that its full time to live from there is always enough. Of a
    /// time shorter than `extension` all is left, of another at least that: who
    /// could not renew it meanwhile can now.
    pub fn restore(
        &mut self,
        now: Duration,
        takeover: Takeover,
        id: i64,
        ttl: i64,
        remaining: i64,
    ) {
        let Takeover { since, extension } = takeover;
        let noted = remaining > 0;
        let whole = seconds(ttl);
        let left = match noted {
            true => (seconds(remaining) + extension).min(whole),
            false => whole,
        };
        let deadline = (since + left).max(now + whole.min(extension));
        self.insert(now, id, ttl, deadline, noted);
    }

    fn insert(&mut self, now: Duration, id: i64, ttl: i64, deadline: Duration, noted: bool) {
        self.revoked(id);
        let deadline = moment(deadline);
        self.deadlines.insert(deadline, id);
        self.leases.insert(
            id,
            Lease {
                ttl: ttl.max(0),
                deadline,
                queued: deadline,
                checkpoint: None,
                noted,
                expiring: false,
            },
        );
        self.schedule_checkpoint(now, id);
    }

    /// The lease is gone, for whatever reason.
    pub fn revoked(&mut self, id: i64) {
        if let Some(lease) = self.leases.remove(&id) {
            self.deadlines.remove(lease.queued, id);
            if let Some(at) = lease.checkpoint {
                self.checkpoints.remove(&(at, id));
            }
        }
    }

    /// Gives a lease its full time to live again. Never takes time from it.
    pub fn renew(&mut self, now: Duration, id: i64) -> Renewal {
        let Some(lease) = self.leases.get_mut(&id) else {
            return Renewal::Unknown;
        };
        if lease.expiring {
            return Renewal::Expiring;
        }
        lease.deadline = lease.deadline.max(moment(now + seconds(lease.ttl)));
        let renewal = Renewal::Renewed {
            ttl: lease.ttl,
            noted: lease.noted,
        };
        self.schedule_checkpoint(now, id);
        renewal
    }

    pub fn remaining(&self, now: Duration, id: i64) -> Option<Remaining> {
        let lease = self.leases.get(&id)?;
        Some(Remaining {
            left: Duration::from_nanos(lease.deadline.saturating_sub(moment(now))),
            ttl: lease.ttl,
        })
    }

    /// When to look for expired leases next; `None` if there is no lease. It
    /// may turn out that none has expired then.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines
            .first()
            .map(|(at, _)| Duration::from_nanos(at))
    }

    /// How many leases must end in a second for each to end no later than
    /// `late` after its deadline, counting those to come in that time as well:
    /// an even pace from the first to the last. Renewals in time make it less.
    pub fn pace(&self, now: Duration, late: Duration) -> u64 {
        self.deadlines.pace(moment(now), moment(late))
    }

    /// Decides the end of up to `max` leases whose time has run out.
    pub fn expire(&mut self, now: Duration, max: usize) -> Vec<i64> {
        let now = moment(now);
        let mut expired = Vec::new();
        while expired.len() < max {
            let Some((at, id)) = self.deadlines.first().filter(|(at, _)| *at <= now) else {
                break;
            };
            self.deadlines.remove(at, id);
            let Some(lease) = self.leases.get_mut(&id) else {
                continue;
            };
            debug_assert_eq!(lease.queued, at);
            if lease.deadline > now {
                lease.queued = lease.deadline;
                self.deadlines.insert(lease.queued, id);
            } else {
                lease.expiring = true;
                expired.push(id);
            }
        }
        expired
    }

    pub fn knows(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    /// Whether the end of the lease was decided and it is still there.
    pub fn is_expiring(&self, id: i64) -> bool {
        self.leases.get(&id).is_some_and(|lease| lease.expiring)
    }

    /// Up to `max` leases that were not renewed for an interval, with what is
    /// left of them in whole seconds, rounded up. From here on they count as
    /// noted.
    pub fn due_checkpoints(&mut self, now: Duration, max: usize) -> Vec<(i64, i64)> {
        let at_once = moment(now);
        let mut due = Vec::new();
        while due.len() < max {
            let Some(&(at, id)) = self.checkpoints.first().filter(|(at, _)| *at <= at_once) else {
                break;
            };
            self.checkpoints.remove(&(at, id));
            let Some(lease) = self.leases.get_mut(&id) else {
                continue;
            };
            lease.checkpoint = None;
            let left = Duration::from_nanos(lease.deadline.saturating_sub(at_once));
            if lease.expiring || left.is_zero() {
                continue;
            }
            let unrenewed = seconds(lease.ttl).saturating_sub(left);
            if unrenewed >= self.checkpoint_interval {
                lease.noted = true;
                let remaining = left.as_nanos().div_ceil(1_000_000_000);
                due.push((id, i64::try_from(remaining).unwrap_or(i64::MAX)));
            }
            self.schedule_checkpoint(now, id);
        }
        due
    }

    /// When to look for due checkpoints next.
    pub fn next_checkpoint(&self) -> Option<Duration> {
        self.checkpoints
            .first()
            .map(|(at, _)| Duration::from_nanos(*at))
    }

    /// The checkpoint of a lease that was renewed has been taken back.
    pub fn unnoted(&mut self, id: i64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.noted = false;
        }
    }

    /// The next checkpoint of a lease, unless it has one before it or ends
    /// before it is worth one.
    fn schedule_checkpoint(&mut self, now: Duration, id: i64) {
        let Some(lease) = self.leases.get_mut(&id) else {
            return;
        };
        let left = Duration::from_nanos(lease.deadline.saturating_sub(moment(now)));
        if lease.checkpoint.is_some() || left <= self.checkpoint_interval {
            return;
        }
        // An interval after the last renewal, or after now if that has passed.
        let unrenewed = seconds(lease.ttl).saturating_sub(left);
        let wait = match self.checkpoint_interval.saturating_sub(unrenewed) {
            Duration::ZERO => self.checkpoint_interval,
            wait => wait,
        };
        let at = moment(now + wait);
        lease.checkpoint = Some(at);
        self.checkpoints.insert((at, id));
    }
}

#[cfg(test)]
mod tests;
