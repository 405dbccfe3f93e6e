//! Simple tokens: random texts that members know by their digests.
//!
//! A token is a text, a dot, and the index of an entry of the log at or after
//! the one that made it known. So a member that has not come that far knows
//! that it has to wait; the number is no secret and proves nothing.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use mizzen_core::auth::{Name, TokenDigest};
use parking_lot::RwLock;
use rand::Rng as _;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::limits;

/// Letters of a token: 125 bits of chance.
const LETTERS: usize = 22;

struct Live {
    user: Name,
    /// Milliseconds after [`SimpleTokens::begun`].
    used: AtomicU64,
}

pub struct SimpleTokens {
    begun: Instant,
    ttl: Duration,
    live: RwLock<HashMap<TokenDigest, Live>>,
}

/// The random part of a new token.
pub fn new_text() -> String {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut chance = rand::rng();
    (0..LETTERS)
        .map(|_| char::from(ALPHABET[chance.random_range(0..ALPHABET.len())]))
        .collect()
}

pub fn digest(text: &str) -> TokenDigest {
    TokenDigest(Sha256::digest(text).into())
}

/// The index that a token carries; `None`: it is no simple token.
pub fn index(token: &str) -> Option<u64> {
    let (_, index) = token.split_once('.')?;
    index.parse().ok()
}

impl SimpleTokens {
    pub fn new(ttl: Duration) -> Self {
        Self {
            begun: Instant::now(),
            ttl,
            live: RwLock::default(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_live(&self, live: &Live, now: u64) -> bool {
        let ttl = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX);
        now.saturating_sub(live.used.load(Ordering::Relaxed)) <= ttl
    }

    /// The user of a token, whose time begins again.
    pub fn find(&self, token: &str) -> Option<Name> {
        let (text, index) = token.split_once('.')?;
        index.parse::<u64>().ok()?;
        let now = self.now();
        let tokens = self.live.read();
        let live = tokens.get(&digest(text))?;
        if !self.is_live(live, now) {
            return None;
        }
        live.used.store(now, Ordering::Relaxed);
        Some(live.user.clone())
    }

    /// Whether no further token should be given out.
    pub fn is_full(&self) -> bool {
        if self.live.read().len() < limits::AUTH_TOKENS {
            return false;
        }
        self.sweep();
        self.live.read().len() >= limits::AUTH_TOKENS
    }

    fn sweep(&self) {
        let now = self.now();
        self.live.write().retain(|_, live| self.is_live(live, now));
    }

    /// Beyond the bound, which other members' clients may have reached here,
    /// the token that was not used for longest goes.
    pub fn assign(&self, digest: TokenDigest, user: Name) {
        if self.is_full() {
            let mut tokens = self.live.write();
            let oldest = tokens
                .iter()
                .min_by_key(|(digest, live)| (live.used.load(Ordering::Relaxed), **digest))
                .map(|(digest, _)| *digest);
            if let Some(oldest) = oldest {
                tokens.remove(&oldest);
            }
        }
        let live = Live {
            user,
            used: AtomicU64::new(self.now()),
        };
        self.live.write().insert(digest, live);
    }

    pub fn forget(&self, user: &str) {
        self.live
            .write()
            .retain(|_, live| live.user.as_ref() != user);
    }

    pub fn forget_all(&self) {
        *self.live.write() = HashMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_lives_from_its_last_use() {
        let ttl = Duration::from_secs(300);
        let tokens = SimpleTokens::new(ttl);
        let text = new_text();
        let token = format!("{text}.7");
        assert_eq!(tokens.find(&token), None);
        tokens.assign(digest(&text), "u".into());
        for _ in 0..3 {
            tokio::time::advance(ttl).await;
            assert_eq!(tokens.find(&token).as_deref(), Some("u"));
        }
        tokio::time::advance(ttl + Duration::from_millis(1)).await;
        assert_eq!(tokens.find(&token), None);
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_of_a_user_are_forgotten_together() {
        let tokens = SimpleTokens::new(Duration::from_secs(300));
        let texts: Vec<String> = (0..4).map(|_| new_text()).collect();
        for (number, text) in texts.iter().enumerate() {
            tokens.assign(digest(text), ["u", "v"][number % 2].into());
        }
        tokens.forget("u");
        let found: Vec<_> = texts
            .iter()
            .map(|text| tokens.find(&format!("{text}.1")).is_some())
            .collect();
        assert_eq!(found, [false, true, false, true]);
        tokens.forget_all();
        assert_eq!(tokens.find(&format!("{}.1", texts[1])), None);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_tokens_than_the_bound_are_kept() {
        let tokens = SimpleTokens::new(Duration::from_secs(300));
        let text = |number: usize| format!("token{number}");
        for number in 0..limits::AUTH_TOKENS {
            assert!(!tokens.is_full(), "{number}");
            tokens.assign(digest(&text(number)), "u".into());
        }
        assert!(tokens.is_full());
        tokio::time::advance(Duration::from_secs(1)).await;
        for number in 1..limits::AUTH_TOKENS {
            assert!(tokens.find(&format!("{}.1", text(number))).is_some());
        }
        tokens.assign(digest("new"), "u".into());
        assert_eq!(tokens.live.read().len(), limits::AUTH_TOKENS);
        assert_eq!(tokens.find(&format!("{}.1", text(0))), None);
        assert!(tokens.find("new.1").is_some());
        tokio::time::advance(Duration::from_secs(301)).await;
        assert!(!tokens.is_full());
        assert_eq!(tokens.live.read().len(), 0);
    }

    #[test]
    fn what_is_no_token_has_no_index() {
        for token in ["", "x", "x.", "x.-1", "x.1.2", "x.18446744073709551616"] {
            assert_eq!(index(token), None, "{token:?}");
        }
        assert_eq!(index("x.18446744073709551615"), Some(u64::MAX));
    }
}
