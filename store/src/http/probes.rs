//! Counts what probes were told.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// How often something came out well and not, and how the last time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    pub success: u64,
    pub error: u64,
    pub last: bool,
}

impl Outcomes {
    fn count(&mut self, well: bool) {
        match well {
            true => self.success += 1,
            false => self.error += 1,
        }
        self.last = well;
    }
}

/// Probes of all ports. Some a second at most: a lock does.
#[derive(Debug, Default)]
pub struct Probes {
    /// Of `/health`.
    whole: Mutex<Outcomes>,
    /// By page and check.
    checks: Mutex<BTreeMap<(&'static str, &'static str), Outcomes>>,
}

impl Probes {
    pub fn whole(&self, well: bool) {
        self.whole.lock().count(well);
    }

    pub fn check(&self, page: &'static str, check: &'static str, well: bool) {
        let mut checks = self.checks.lock();
        checks.entry((page, check)).or_default().count(well);
    }

    /// Of `/health`.
    pub fn read_whole(&self) -> Outcomes {
        *self.whole.lock()
    }

    pub fn read_checks(&self) -> BTreeMap<(&'static str, &'static str), Outcomes> {
        self.checks.lock().clone()
    }
}
