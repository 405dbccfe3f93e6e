//! What is known about when each lease may and must end.
//!
//! It must not end before the time to live after the last acknowledged renewal
//! was *sent*. It must end some time after the last moment at which a renewal
//! may have been carried out.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;

pub const PREFIX: &str = "lease/";
/// The end of the range of all keys with the prefix.
pub const PREFIX_END: &str = "lease0";

#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// When the last acknowledged renewal was sent.
    pub sure: Option<Instant>,
    /// The last moment at which a renewal may have been carried out.
    pub touched: Option<Instant>,
    /// When its key was first seen deleted.
    pub gone: Option<Instant>,
    /// A renewal was answered with the lease being gone before that was seen.
    pub refused: Option<Instant>,
    /// From here on it is renewed no more.
    pub abandoned: bool,
}

/// A change of leader.
#[derive(Clone, Copy, Debug)]
pub struct Takeover {
    /// When the leader before was last seen.
    pub gone: Instant,
    /// When the new one was first seen.
    pub taken: Instant,
}

/// The lease with index `i` has the id `i + 1`.
pub struct Book {
    leases: Mutex<Vec<Known>>,
}

pub fn id(index: usize) -> i64 {
    i64::try_from(index + 1).unwrap_or(i64::MAX)
}

pub fn index(id: i64) -> Option<usize> {
    usize::try_from(id).ok()?.checked_sub(1)
}

pub fn key(index: usize) -> Bytes {
    format!("{PREFIX}{index:08}").into()
}

pub fn index_of(key: &[u8]) -> Option<usize> {
    let digits = key.strip_prefix(PREFIX.as_bytes())?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl Book {
    pub fn new(leases: usize) -> Arc<Self> {
        Arc::new(Self {
            leases: Mutex::new(vec![Known::default(); leases]),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        self.leases.lock().expect("nobody panics in it")
    }

    pub fn all(&self) -> Vec<Known> {
        self.lock().clone()
    }

    /// A renewal that was sent at `sent` is acknowledged now.
    pub fn renewed(&self, index: usize, sent: Instant) {
        if let Some(lease) = self.lock().get_mut(index) {
            lease.sure = lease.sure.max(Some(sent));
            lease.touched = Some(Instant::now());
        }
    }

    pub fn is_granted(&self, index: usize) -> bool {
        self.lock()
            .get(index)
            .is_some_and(|lease| lease.sure.is_some())
    }

    /// A renewal may have been carried out until now.
    pub fn touched(&self, index: usize) {
        if let Some(lease) = self.lock().get_mut(index) {
            lease.touched = Some(Instant::now());
        }
    }

    pub fn refused(&self, index: usize) {
        if let Some(lease) = self.lock().get_mut(index) {
            lease.refused.get_or_insert_with(Instant::now);
        }
    }

    pub fn gone(&self, index: usize) {
        if let Some(lease) = self.lock().get_mut(index) {
            lease.gone.get_or_insert_with(Instant::now);
        }
    }

    pub fn abandon(&self, index: usize) {
        if let Some(lease) = self.lock().get_mut(index) {
            lease.abandoned = true;
        }
    }

    pub fn count(&self, which: impl Fn(&Known) -> bool) -> usize {
        self.lock().iter().filter(|lease| which(lease)).count()
    }
}

impl Known {
    /// By how much the lease ended before its time.
    pub fn early(&self, ttl: Duration) -> Option<Duration> {
        let ended = [self.gone, self.refused].into_iter().flatten().min()?;
        let due = self.sure? + ttl;
        due.checked_duration_since(ended)
            .filter(|early| !early.is_zero())
    }

    /// How long after its time an abandoned lease ended. The time begins again
    /// with each of `takeovers` before whose beginning it had not run out,
    /// since a new leader gives every lease its full time to live.
    pub fn late(&self, ttl: Duration, takeovers: &[Takeover]) -> Option<Duration> {
        let gone = self.gone.filter(|_| self.abandoned)?;
        let mut due = self.touched? + ttl;
        for takeover in takeovers {
            if takeover.gone <= due {
                due = due.max(takeover.taken + ttl);
            }
        }
        Some(gone.saturating_duration_since(due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn early_and_late() {
        let zero = Instant::now();
        let at = |n| Some(zero + second(n));
        let lease = Known {
            sure: at(10),
            touched: at(12),
            gone: at(71),
            refused: None,
            abandoned: true,
        };
        assert_eq!(lease.early(second(60)), None);
        assert_eq!(lease.early(second(62)), Some(second(1)));
        assert_eq!(lease.late(second(60), &[]), Some(Duration::ZERO));
        assert_eq!(lease.late(second(50), &[]), Some(second(9)));
        let takeover = |gone, taken| Takeover {
            gone: zero + second(gone),
            taken: zero + second(taken),
        };
        // A leader that took over at 15 may keep it to 65.
        let late = lease.late(second(50), &[takeover(14, 15)]);
        assert_eq!(late, Some(second(6)));
        // While there is no leader, no time runs out.
        let late = lease.late(second(5), &[takeover(16, 60)]);
        assert_eq!(late, Some(second(6)));
        // One that went after its time has nothing to do with it.
        let late = lease.late(second(50), &[takeover(63, 64)]);
        assert_eq!(late, Some(second(9)));
        let refused = Known {
            refused: at(50),
            ..lease
        };
        assert_eq!(refused.early(second(60)), Some(second(20)));
        assert_eq!(index_of(&key(7)), Some(7));
        assert_eq!(index(id(7)), Some(7));
    }
}
