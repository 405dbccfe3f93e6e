//! Bytes that clients make the process hold, in one budget that all its
//! connections share. Knows amounts; must not know what is held.
//!
//! A connection may hold as many bytes as are left for others beside it. One
//! alone gets half, each of `n` greedy ones a part in `n + 1`, and as much
//! again is always left, so that who holds little is served whoever else holds
//! a lot (the dynamic thresholds of Choudhury and Hahne, 1998).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Shared by all connections of a process.
#[derive(Debug)]
pub struct Budget {
    total: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(total: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            used: AtomicUsize::new(0),
        })
    }

    /// Bytes there are.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Bytes held by all connections together.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// What one connection holds.
#[derive(Debug)]
pub struct Account {
    budget: Arc<Budget>,
    own: AtomicUsize,
}

impl Account {
    pub fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self {
            budget,
            own: AtomicUsize::new(0),
        })
    }

    /// Takes so many bytes; false: the connection holds its part already.
    pub fn take(&self, bytes: usize) -> bool {
        let own = self.own.fetch_add(bytes, Ordering::Relaxed);
        let own = own.saturating_add(bytes);
        let taken = self
            .budget
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                let used = used.checked_add(bytes)?;
                let left = self.budget.total.checked_sub(used)?;
                (own <= left).then_some(used)
            });
        if taken.is_err() {
            self.own.fetch_sub(bytes, Ordering::Relaxed);
        }
        taken.is_ok()
    }

    /// Takes what is held already, whether there is room for it or not. For
    /// what has a bound of its own.
    pub fn take_anyway(&self, bytes: usize) {
        self.own.fetch_add(bytes, Ordering::Relaxed);
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives back what was taken.
    pub fn give_back(&self, bytes: usize) {
        if bytes > 0 {
            self.own.fetch_sub(bytes, Ordering::Relaxed);
            self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Whether nothing more may be taken.
    pub fn exhausted(&self) -> bool {
        let own = self.own.load(Ordering::Relaxed);
        own > 0 && own >= self.budget.total.saturating_sub(self.budget.used())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_little_is_served_beside_who_holds_a_lot() {
        let budget = Budget::new(1_000);
        let greedy: Vec<_> = (0..4).map(|_| Account::new(budget.clone())).collect();
        for turn in 0..1_000 {
            greedy[turn % 4].take(1);
        }
        for account in &greedy {
            assert!(account.exhausted());
            assert_eq!(account.own.load(Ordering::Relaxed), 200, "a fifth each");
        }
        let modest = Account::new(budget.clone());
        assert!(!modest.exhausted());
        assert!(modest.take(100));
        assert!(!modest.take(1), "as much as is left, and no more");
        modest.give_back(100);
        for account in &greedy {
            account.give_back(200);
        }
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn one_alone_gets_half() {
        let budget = Budget::new(1_000);
        let account = Account::new(budget.clone());
        assert!(!account.take(501));
        assert!(account.take(500));
        assert!(!account.take(1));
        account.take_anyway(100);
        assert!(account.exhausted());
        account.give_back(600);
        assert!(!account.exhausted());
        assert_eq!(budget.used(), 0);
    }
}
