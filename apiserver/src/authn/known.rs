//! Tokens whose signatures were checked, so that the next request of the same
//! client costs a hash. Knows hashes; must not know what a token says.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::Digest;
use crate::limits;

/// As many as fit into two generations: the older one goes when the younger one
/// is full, less what was asked for meanwhile.
pub struct Known<T>(Mutex<[HashMap<Digest, Arc<T>>; 2]>);

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Known<T> {
    pub fn get(&self, digest: &Digest) -> Option<Arc<T>> {
        let mut generations = self.0.lock();
        let [young, old] = &mut *generations;
        if let Some(found) = young.get(digest) {
            return Some(found.clone());
        }
        let found = old.remove(digest)?;
        keep(&mut generations, *digest, found.clone());
        Some(found)
    }

    pub fn keep(&self, digest: Digest, value: Arc<T>) {
        keep(&mut self.0.lock(), digest, value);
    }

    pub fn forget(&self, digest: &Digest) {
        for generation in &mut *self.0.lock() {
            generation.remove(digest);
        }
    }
}

fn keep<T>(generations: &mut [HashMap<Digest, Arc<T>>; 2], digest: Digest, value: Arc<T>) {
    let [young, old] = generations;
    if young.len() >= limits::TOKENS_KNOWN / 2 {
        *old = std::mem::take(young);
    }
    young.insert(digest, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let known = Known::default();
        let digest = |number: usize| {
            let mut digest = Digest::default();
            digest[..8].copy_from_slice(&number.to_le_bytes());
            digest
        };
        known.keep(digest(0), Arc::new(0));
        for number in 1..3 * limits::TOKENS_KNOWN {
            known.keep(digest(number), Arc::new(number));
            assert!(known.get(&digest(0)).is_some(), "{number}");
        }
        let held: usize = known.0.lock().iter().map(HashMap::len).sum();
        assert!(held <= limits::TOKENS_KNOWN, "{held}");
        assert!(known.get(&digest(1)).is_none());
        known.forget(&digest(0));
        assert!(known.get(&digest(0)).is_none());
    }
}
