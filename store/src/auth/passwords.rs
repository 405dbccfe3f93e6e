//! Hashing passwords and looking at them, which takes a processor for a tenth
//! of a second: never on a thread that serves clients, and never so many at
//! once that guesses keep a member from its work.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use mizzen_core::auth::PasswordHash;
use tokio::sync::Semaphore;

use super::Secret;
use crate::{limits, workers::Workers};

/// bcrypt's own bounds, and its default.
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;
pub const DEFAULT_COST: u32 = 10;

/// bcrypt takes no more of a password.
const PASSWORD_BYTES_MAX: usize = 72;

/// Hashes that clients give may cost up to this; looking at one takes seconds.
const GIVEN_COST_MAX: u32 = 16;

/// The cost to use for the one asked for: etcd goes on with its default when
/// that is none of bcrypt's.
pub fn bcrypt_cost(asked: u64) -> Option<u32> {
    u32::try_from(asked)
        .ok()
        .filter(|cost| COSTS.contains(cost))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Go's text, which etcd passes on.
    #[error("bcrypt: password length exceeds 72 bytes")]
    TooLong,
    /// Too many are being looked at.
    #[error("etcdserver: too many requests")]
    Busy,
    #[error("etcdserver: server stopped")]
    Stopped,
    #[error("bcrypt: the password could not be hashed")]
    Failed,
}

pub struct Passwords {
    cost: u32,
    workers: Workers,
    running: Arc<Semaphore>,
    asked: AtomicUsize,
    /// What is looked at when there is no such user, so that it takes as long.
    decoy: Arc<OnceLock<String>>,
}

/// One among those asked for.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Passwords {
    pub fn new(cost: u32, workers: Workers) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            cost,
            workers,
            running: Arc::new(Semaphore::new((processors / 2).max(1))),
            asked: AtomicUsize::new(0),
            decoy: Arc::default(),
        }
    }

    pub async fn hash(&self, password: Secret) -> Result<PasswordHash, PasswordError> {
        if password.reveal().len() > PASSWORD_BYTES_MAX {
            return Err(PasswordError::TooLong);
        }
        let cost = self.cost;
        let hashed = self.run(move || hash(&password, cost)).await?;
        let hashed = hashed.ok_or(PasswordError::Failed)?;
        Ok(PasswordHash(hashed.into()))
    }

    /// Whether `password` is the one of `hash`; `None`: there is no such user.
    pub async fn is_right(
        &self,
        password: Secret,
        known: Option<PasswordHash>,
    ) -> Result<bool, PasswordError> {
        let (cost, decoy) = (self.cost, self.decoy.clone());
        self.run(move || match known {
            Some(known) => fits(&password, &known, cost),
            None => {
                let decoy =
                    decoy.get_or_init(|| hash(&Secret::new("nobody's"), cost).unwrap_or_default());
                let _same_time = bcrypt::verify(password.reveal(), decoy);
                false
            }
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let before = self.asked.fetch_add(1, Ordering::Relaxed);
        let _place = Place(&self.asked);
        if before >= limits::AUTH_PASSWORDS {
            return Err(PasswordError::Busy);
        }
        let running = self.running.clone().acquire_owned().await;
        let running = running.map_err(|_| PasswordError::Stopped)?;
        let work = move || {
            let result = work();
            // Also when the client has gone meanwhile.
            drop(running);
            result
        };
        self.workers
            .run(work)
            .await
            .map_err(|_| PasswordError::Stopped)
    }
}

/// In the version that Go writes.
fn hash(password: &Secret, cost: u32) -> Option<String> {
    let parts = bcrypt::hash_with_result(password.reveal(), cost).ok()?;
    Some(parts.format_for_version(bcrypt::Version::TwoA))
}

fn fits(password: &Secret, known: &PasswordHash, own_cost: u32) -> bool {
    let Ok(text) = std::str::from_utf8(&known.0) else {
        return false;
    };
    let Ok(parts) = text.parse::<bcrypt::HashParts>() else {
        return false;
    };
    parts.get_cost() <= GIVEN_COST_MAX.max(own_cost)
        && bcrypt::verify(password.reveal(), text).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords() -> Passwords {
        Passwords::new(4, Workers::Threads)
    }

    #[tokio::test]
    async fn a_password_fits_its_hash_and_no_other() {
        let passwords = passwords();
        let hash = passwords.hash(Secret::new("p")).await.expect("a hash");
        assert!(hash.0.starts_with(b"$2a$04$"));
        for (password, right) in [("p", true), ("q", false), ("", false), ("p\0", false)] {
            let found = passwords.is_right(Secret::new(password), Some(hash.clone()));
            assert_eq!(found.await, Ok(right), "{password:?}");
        }
        let nobody = passwords.is_right(Secret::new("nobody's"), None).await;
        assert_eq!(nobody, Ok(false));
    }

    /// Made by Go's golang.org/x/crypto/bcrypt.
    #[tokio::test]
    async fn hashes_of_go_are_understood() {
        let hash =
            PasswordHash("$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga".into());
        let right = passwords()
            .is_right(Secret::new("allmine"), Some(hash))
            .await;
        assert_eq!(right, Ok(true));
    }

    #[tokio::test]
    async fn what_is_no_hash_fits_nothing() {
        for hash in [
            "",
            "x",
            "$2a$31$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga",
        ] {
            let hash = PasswordHash(hash.into());
            let right = passwords().is_right(Secret::new(""), Some(hash)).await;
            assert_eq!(right, Ok(false));
        }
    }

    #[tokio::test]
    async fn a_flood_is_refused_and_passes() {
        let passwords = Arc::new(passwords());
        let long = "x".repeat(73);
        let refused = passwords.hash(Secret::new(&long)).await;
        assert_eq!(refused, Err(PasswordError::TooLong));
        let held = passwords.running.clone();
        let all = u32::try_from(held.available_permits()).expect("few");
        let held = held.acquire_many_owned(all).await.expect("open");
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..limits::AUTH_PASSWORDS {
            let passwords = passwords.clone();
            waiting.spawn(async move { passwords.hash(Secret::new("p")).await.map(drop) });
        }
        while passwords.asked.load(Ordering::Relaxed) < limits::AUTH_PASSWORDS {
            tokio::task::yield_now().await;
        }
        let refused = passwords.hash(Secret::new("p")).await;
        assert_eq!(refused, Err(PasswordError::Busy));
        drop(held);
        while let Some(done) = waiting.join_next().await {
            assert_eq!(done.expect("no panic"), Ok(()));
        }
        assert!(passwords.hash(Secret::new("p")).await.is_ok());
    }
}
