//! Log lines about what may happen very often.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Between two lines about the same thing.
const INTERVAL: Duration = Duration::from_secs(10);

/// Counts what happens, and says now and then that a line is due.
#[derive(Default)]
pub struct RateLimited {
    state: Mutex<(Option<Instant>, u64)>,
}

impl RateLimited {
    /// Counts one more; if a line is due, how many there were since the last
    /// one, this one included.
    pub fn count(&self, now: Instant) -> Option<u64> {
        let (last, times) = &mut *self.state.lock();
        *times += 1;
        if last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_next_together() {
        let (line, start) = (RateLimited::default(), Instant::now());
        assert_eq!(line.count(start), Some(1));
        for _ in 0..5 {
            assert_eq!(line.count(start + INTERVAL / 2), None);
        }
        assert_eq!(line.count(start + INTERVAL), Some(6));
        assert_eq!(line.count(start + INTERVAL), None);
    }
}
