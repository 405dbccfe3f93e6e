//! When revisions were first known to be there.

use crate::clock::Nanos;
use crate::history::History;

/// The earliest moments at which replies and watches showed revisions.
pub struct Seen {
    /// By revision; the moments only fall from the end to the beginning.
    steps: Vec<(i64, Nanos)>,
}

impl Seen {
    pub fn new(history: &History) -> Seen {
        let replies = history
            .ops
            .iter()
            .filter_map(|op| op.revision().map(|rev| (rev, op.end)));
        let watches = history.watches.iter().filter_map(|w| {
            let last = w.events.iter().map(|e| e.kv.modified).max()?;
            Some((last, w.at))
        });
        let mut steps: Vec<(i64, Nanos)> = replies.chain(watches).collect();
        steps.sort_unstable();
        let mut earliest = Nanos::MAX;
        for (_, at) in steps.iter_mut().rev() {
            earliest = earliest.min(*at);
            *at = earliest;
        }
        Seen { steps }
    }

    pub fn first(&self, rev: i64) -> Option<Nanos> {
        let i = self.steps.partition_point(|(r, _)| *r < rev);
        self.steps.get(i).map(|(_, at)| *at)
    }
}
