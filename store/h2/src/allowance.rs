//! How much of something a client may do: so much at once, more with time, and
//! more for what it is served.

use tokio::time::Instant;

use crate::limits::Rate;

pub struct Allowance {
    rate: Rate,
    left: u32,
    since: Instant,
}

impl Allowance {
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            left: rate.at_once,
            since: now,
        }
    }

    /// False: there is not as much left.
    pub fn spend(&mut self, cost: u32) -> bool {
        if self.left < cost {
            // Only now does the time matter.
            let now = Instant::now();
            let seconds = now.duration_since(self.since).as_secs_f64();
            self.since = now;
            self.earn((seconds * f64::from(self.rate.per_second)) as u32);
        }
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                true
            }
            None => {
                self.left = 0;
                false
            }
        }
    }

    pub fn earn(&mut self, more: u32) {
        self.left = self.left.saturating_add(more).min(self.rate.at_once);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_spent_comes_back_with_time() {
        let rate = Rate {
            at_once: 10,
            per_second: 2,
        };
        let mut allowance = Allowance::new(rate, Instant::now());
        assert!(allowance.spend(10));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(allowance.spend(4));
        assert!(!allowance.spend(1));
        allowance.earn(100);
        assert!(!allowance.spend(11));
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(allowance.spend(10), "never more than at once");
        assert!(!allowance.spend(1));
    }
}
