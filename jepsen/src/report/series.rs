//! Throughput and latency over time, from a history.

use crate::clock::{Nanos, SECOND};
use crate::history::History;
use crate::history::op::{Load, Outcome};

/// Buckets of a long run get wider, so that there are never more than this.
const MOST: u64 = 600;

/// One bucket of time. Latencies are in nanoseconds, of successful operations.
#[derive(Clone, Debug, Default)]
pub struct Bucket {
    pub ok: u64,
    pub fail: u64,
    pub unknown: u64,
    pub median: Option<Nanos>,
    pub p99: Option<Nanos>,
    pub longest: Option<Nanos>,
}

pub struct Series {
    pub width: Nanos,
    pub buckets: Vec<Bucket>,
}

/// Counts operations by when they ended.
pub fn series(history: &History) -> Series {
    let end = history.ops.iter().map(|op| op.end).max().unwrap_or(0) + 1;
    let width = end.div_ceil(MOST).div_ceil(SECOND).max(1) * SECOND;
    let count = end.div_ceil(width) as usize;
    let mut buckets = vec![Bucket::default(); count];
    let mut times: Vec<Vec<Nanos>> = vec![Vec::new(); count];
    for op in history.ops.iter().filter(|op| op.load != Load::Evidence) {
        let at = (op.end / width) as usize;
        let (Some(bucket), Some(times)) = (buckets.get_mut(at), times.get_mut(at)) else {
            continue;
        };
        match &op.out {
            Outcome::Ok { .. } => {
                bucket.ok += 1;
                times.push(op.end.saturating_sub(op.start));
            }
            Outcome::Fail { .. } => bucket.fail += 1,
            Outcome::Unknown { .. } => bucket.unknown += 1,
        }
    }
    for (bucket, times) in buckets.iter_mut().zip(&mut times) {
        times.sort_unstable();
        let at = |share: f64| times.get((share * times.len() as f64) as usize).copied();
        bucket.median = at(0.5);
        bucket.p99 = at(0.99);
        bucket.longest = times.last().copied();
    }
    Series { width, buckets }
}
