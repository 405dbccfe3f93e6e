//! Whether the plugins are asked once more for one write, and which webhooks.
//!
//! Knows names and objects; must not know a plugin.

use std::collections::HashSet;

use crate::object::Json;

/// What has been asked of webhooks for one write.
#[derive(Default)]
pub struct Round {
    /// The plugins are asked once more, because a webhook has changed the object.
    again: bool,
    pub(super) is_second: bool,
    /// Asked already, and asked again should the object change.
    pub(super) asked: HashSet<(String, usize)>,
    /// To be asked in the second round.
    pub(super) wanted: HashSet<(String, usize)>,
    /// The object as the last webhook left it.
    pub(super) output: Option<Json>,
}

impl Round {
    /// Begins a second round, if there is to be one.
    pub fn next(&mut self) -> bool {
        self.is_second = true;
        std::mem::take(&mut self.again)
    }

    /// The object is another than some have seen.
    pub(super) fn changed(&mut self) {
        self.again |= !self.is_second;
        self.wanted.extend(self.asked.drain());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_round_asks_those_that_have_seen_another_object() {
        let mut round = Round::default();
        let id = |name: &str| (name.to_owned(), 0);
        round.asked.insert(id("a"));
        round.changed();
        round.asked.insert(id("b"));
        assert!(round.next() && round.is_second);
        assert_eq!(round.wanted, HashSet::from([id("a")]));
        round.changed();
        assert_eq!(round.wanted.len(), 2);
        assert!(!round.next(), "there are two rounds at most");
    }
}
