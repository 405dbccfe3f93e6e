//! Whether one more call may wait for the group: by how long it would.
//!
//! What a group writes and confirms in one round answers all who came before it,
//! however many they are. If even the quickest call takes longer than rounds do,
//! there is a queue for processors or bandwidth that does not go away; a
//! longer one would serve nobody sooner. Then as many may wait as are served in
//! the bounded time, by the rate of the moment before
//! (`decisions/0011-waiting-is-bounded.md`). A queue that is short, or new, as after a
//! hiccup of the disk, is none of its concern.
//!
//! Knows times and numbers. Must not know what is waited for.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::error::Error;
use crate::limits;

/// Of one kind of calls of one member.
pub struct Admission {
    in_flight: AtomicUsize,
    /// How many may be; `usize::MAX` where there is no such queue.
    limit: AtomicUsize,
    refused: AtomicUsize,
    interval: Mutex<Interval>,
}

/// Since the limit was looked at last.
struct Interval {
    begun: Instant,
    served: usize,
    quickest: Duration,
    /// Intervals in a row in which nobody was quick.
    slow: u32,
}

impl Interval {
    fn new(slow: u32) -> Self {
        Self {
            begun: Instant::now(),
            served: 0,
            quickest: Duration::MAX,
            slow,
        }
    }
}

impl Admission {
    pub fn new() -> Self {
        Self {
            in_flight: AtomicUsize::new(0),
            limit: AtomicUsize::new(usize::MAX),
            refused: AtomicUsize::new(0),
            interval: Mutex::new(Interval::new(0)),
        }
    }

    /// One more waits from here on, or is refused.
    pub fn admit(&self) -> Result<Admitted<'_>, Error> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted {
            admission: self,
            begun: Instant::now(),
        };
        if before >= self.limit.load(Ordering::Relaxed) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Error::TooManyRequests);
        }
        Ok(admitted)
    }

    /// `round`: how long the slowest part of a round takes, if it is known to be slow.
    fn served(&self, after: Duration, round: impl FnOnce() -> Duration) {
        let mut interval = self.interval.lock();
        interval.served += 1;
        interval.quickest = interval.quickest.min(after);
        let length = interval.begun.elapsed();
        if length < limits::WAIT_INTERVAL {
            return;
        }
        let bound = limits::WAIT + 2 * round();
        let slow = match interval.quickest > bound / 2 {
            true => interval.slow + 1,
            false => 0,
        };
        let limited = self.limit.load(Ordering::Relaxed) < usize::MAX
            && self.refused.swap(0, Ordering::Relaxed) > 0;
        let limit = match slow >= limits::WAIT_INTERVALS || limited {
            true => within(interval.served, length, bound).max(limits::WAITING_MIN),
            false => usize::MAX,
        };
        self.limit.store(limit, Ordering::Relaxed);
        *interval = Interval::new(slow);
    }
}

/// How many are served in `bound` if `served` were in `length`.
fn within(served: usize, length: Duration, bound: Duration) -> usize {
    (served as f64 * bound.as_secs_f64() / length.as_secs_f64()) as usize
}

/// One that waits, until this is dropped.
pub struct Admitted<'a> {
    admission: &'a Admission,
    begun: Instant,
}

impl Admitted<'_> {
    /// It has been served. `round` as the log's disk takes.
    pub fn served(self, round: impl FnOnce() -> Duration) {
        self.admission.served(self.begun.elapsed(), round);
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.admission.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: fn() -> Duration = || Duration::ZERO;

    /// `number` calls are there all the time, each served after `each`, one after
    /// the other, for so many intervals. Gives how many more were refused.
    async fn queue(admission: &Admission, number: usize, each: Duration, intervals: u32) -> usize {
        let mut waiting = std::collections::VecDeque::new();
        let mut refused = 0;
        let until = Instant::now() + intervals * limits::WAIT_INTERVAL;
        while Instant::now() < until {
            while waiting.len() < number {
                match admission.admit() {
                    Ok(admitted) => waiting.push_back(admitted),
                    Err(_) => {
                        refused += 1;
                        break;
                    }
                }
            }
            tokio::time::advance(each).await;
            if let Some(first) = waiting.pop_front() {
                first.served(QUICK);
            }
        }
        refused
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_stays_is_bounded_and_one_that_is_gone_is_not() {
        let admission = Admission::new();
        let each = limits::WAIT / 500;
        assert_eq!(queue(&admission, 100, each, 20).await, 0, "a fifth of it");
        assert!(queue(&admission, 5_000, each, 40).await > 0);
        let limit = admission.limit.load(Ordering::Relaxed);
        assert!((400..=600).contains(&limit), "{limit}");
        assert_eq!(admission.in_flight.load(Ordering::Relaxed), 0);
        queue(&admission, 1, each, 5).await;
        assert_eq!(admission.limit.load(Ordering::Relaxed), usize::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hiccup_refuses_nobody() {
        let admission = Admission::new();
        let waiting: Vec<_> = (0..5_000)
            .map(|_| admission.admit().expect("room"))
            .collect();
        tokio::time::advance(10 * limits::WAIT).await;
        waiting.into_iter().for_each(|one| one.served(QUICK));
        assert_eq!(
            queue(&admission, 5_000, Duration::from_micros(1), 1).await,
            0
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_disk_makes_no_queue() {
        let admission = Admission::new();
        let sync = 3 * limits::WAIT;
        for _ in 0..10 {
            let round: Vec<_> = (0..1_000)
                .map(|_| admission.admit().expect("a round takes all"))
                .collect();
            tokio::time::advance(sync).await;
            round.into_iter().for_each(|one| one.served(|| sync));
        }
    }
}
