//! Numbers that are counted while work is done, and read when somebody collects
//! them. Counting takes no lock and touches no line of memory that another thread
//! writes often.
//!
//! Must not know what is counted, nor how it is told.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a number of durations are distributed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Upper bounds in seconds, each with how many are not longer.
    pub buckets: Vec<(f64, u64)>,
    pub count: u64,
    /// Of all of them, seconds.
    pub sum: f64,
}

impl Distribution {
    /// Counts what `other` counted, in the same buckets.
    pub fn add(&mut self, other: &Self) {
        if self.buckets.is_empty() {
            return self.clone_from(other);
        }
        for ((_, count), (_, more)) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
        self.count += other.count;
        self.sum += other.sum;
    }
}

/// Durations, counted by how long they are.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds, ascending.
    bounds: Box<[Duration]>,
    /// One more than bounds: the last one has none.
    counts: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
}

impl Histogram {
    /// Buckets with these upper bounds, ascending, and one without.
    pub fn new(bounds: impl Iterator<Item = Duration>) -> Self {
        let bounds: Box<[Duration]> = bounds.collect();
        Self {
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            bounds,
            nanoseconds: AtomicU64::new(0),
        }
    }

    /// The first bound is `first`, each other twice the one before.
    pub fn doubling(first: Duration, buckets: usize) -> Self {
        Self::new(std::iter::successors(Some(first), |bound| Some(*bound * 2)).take(buckets))
    }

    pub fn observe(&self, duration: Duration) {
        let bucket = self.bounds.partition_point(|bound| *bound < duration);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub fn read(&self) -> Distribution {
        let mut count = 0;
        let mut counts = self.counts.iter().map(|bucket| {
            count += bucket.load(Ordering::Relaxed);
            count
        });
        let bounds = self.bounds.iter().map(Duration::as_secs_f64);
        let buckets = bounds.zip(&mut counts).collect();
        let all = counts.last().unwrap_or_default();
        Distribution {
            buckets,
            count: all,
            sum: self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9,
        }
    }
}

/// Threads beyond this number share.
const SHARDS: usize = 16;

/// Apart from its neighbours by more than any line of a cache.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Apart<T>(T);

/// Something to count in, once for each thread.
#[derive(Debug)]
pub struct Sharded<T> {
    shards: Box<[Apart<T>]>,
}

impl<T> Sharded<T> {
    pub fn new(make: impl Fn() -> T) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Apart(make())).collect(),
        }
    }

    /// This thread's.
    pub fn own(&self) -> &T {
        &self.shards[own_shard()].0
    }

    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.shards.iter().map(|shard| &shard.0)
    }
}

fn own_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    OWN.with(|own| {
        if own.get() == usize::MAX {
            own.set(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        own.get()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_in_every_bucket_that_holds_them() {
        let histogram = Histogram::doubling(Duration::from_millis(1), 3);
        for micros in [500, 1_000, 1_001, 4_000, 4_001, 60_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let read = histogram.read();
        assert_eq!(read.buckets, [(0.001, 2), (0.002, 3), (0.004, 4)]);
        assert_eq!(read.count, 6);
        assert!((read.sum - 60.010_502).abs() < 1e-9, "{}", read.sum);
    }

    #[test]
    fn threads_count_together() {
        let counters = Sharded::new(Counter::default);
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| counters.own().add(3));
            }
        });
        let sum: u64 = counters.all().map(Counter::read).sum();
        assert_eq!(sum, 3 * 2 * SHARDS as u64);
    }
}
