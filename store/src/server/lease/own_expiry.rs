//! A bug to be planted: a member that does not lead ends leases on its own.
//! It hears of no renewal.

use std::time::Duration;

use parking_lot::Mutex;

use super::change::Change;
use crate::{lease::Lessor, limits};

pub struct OwnExpiry(Mutex<Lessor>);

impl OwnExpiry {
    pub fn new() -> Self {
        Self(Mutex::new(Lessor::new(limits::LEASE_CHECKPOINT_INTERVAL)))
    }

    pub fn applied(&self, changes: &[Change], now: Duration) {
        if mizzen_planted::has("lease-expired-by-follower") {
            let mut lessor = self.0.lock();
            for change in changes {
                change.make(&mut lessor, now);
            }
        }
    }

    pub fn ended(&self, now: Duration) -> Vec<i64> {
        self.0.lock().expire(now, limits::LEASE_REVOKES)
    }
}
