//! Run time: monotonic nanoseconds since the harness started.
//!
//! Every time in a history comes from this one clock of this one process, so
//! any two of them can be compared. Wall-clock time appears nowhere.

use std::time::{Duration, Instant};

/// Nanoseconds since the start of the run, monotonic.
pub type Nanos = u64;

pub const SECOND: Nanos = 1_000_000_000;

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    pub fn start() -> Clock {
        Clock {
            origin: Instant::now(),
        }
    }

    pub fn now(&self) -> Nanos {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Whole nanoseconds of a duration, saturating.
pub fn nanos(d: Duration) -> Nanos {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// Seconds with three decimals, as people read them.
pub fn seconds(t: Nanos) -> String {
    format!("{:.3}", t as f64 / SECOND as f64)
}
