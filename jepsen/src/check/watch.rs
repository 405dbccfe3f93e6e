//! Watches: each one ordered, unique, atomic by revision and complete, and
//! each event equal to what the replay says the revision did, its previous
//! pair included.

use super::Finding;
use crate::clock::Nanos;
use crate::history::History;
use crate::history::op::{Outcome, Request};
use crate::history::record::{Event, WatchNote};
use std::collections::BTreeMap;

/// What a member's watch showed of a revision, and when.
struct Shown<'a> {
    member: usize,
    at: Nanos,
    events: &'a [Event],
}

pub struct Watches<'a> {
    finding: Finding,
    /// By revision.
    shown: BTreeMap<i64, Vec<Shown<'a>>>,
    floors: Floors,
    events: usize,
    streams: usize,
}

impl<'a> Watches<'a> {
    pub fn new(history: &'a History) -> Watches<'a> {
        let mut w = Watches {
            finding: Finding::new("watch"),
            shown: BTreeMap::new(),
            floors: Floors::of(history),
            events: 0,
            streams: 0,
        };
        w.notes(history);
        let mut last: BTreeMap<usize, i64> = BTreeMap::new();
        for batch in &history.watches {
            w.events += batch.events.len();
            let last = last.entry(batch.member).or_insert(1);
            for events in batch.events.chunk_by(|a, b| a.kv.modified == b.kv.modified) {
                let rev = events[0].kv.modified;
                w.order(batch.member, rev, *last, batch.rev);
                *last = rev.max(*last);
                let shown = w.shown.entry(rev).or_default();
                shown.push(Shown {
                    member: batch.member,
                    at: batch.at,
                    events,
                });
            }
        }
        w
    }

    fn order(&mut self, member: usize, rev: i64, last: i64, header: i64) {
        if rev == last {
            self.finding.violation(
                format!("the watch on m{member} shows revision {rev} twice, or in two parts"),
                &[],
            );
        } else if rev < last {
            self.finding.violation(
                format!("the watch on m{member} shows revision {rev} after {last}"),
                &[],
            );
        } else if rev > last + 1 {
            let missing = last + 1..rev;
            self.finding.violation(
                format!("the watch on m{member} leaves out revisions {missing:?}"),
                &[],
            );
        }
        if header < rev {
            self.finding.violation(
                format!(
                    "the watch on m{member} shows revision {rev} under header revision {header}"
                ),
                &[],
            );
        }
    }

    fn notes(&mut self, history: &History) {
        for (member, _, note) in &history.watch_notes {
            match note {
                WatchNote::Opened { .. } => self.streams += 1,
                WatchNote::Canceled { compact, reason } => self.finding.violation(
                    format!("the watch on m{member} was canceled (floor {compact}, {reason:?}) though what it asked for was never compacted"),
                    &[],
                ),
                WatchNote::Incomplete { through, wanted } => self.finding.violation(
                    format!("the watch on m{member} stopped at revision {through}; the last revision is {wanted}"),
                    &[],
                ),
                WatchNote::Unimplemented => self.finding.incomplete("the server has no watch".into()),
                WatchNote::Ended { .. } | WatchNote::Complete { .. } => {}
            }
        }
    }

    /// What the watches showed of a revision against what it did.
    pub fn compare(&mut self, rev: i64, did: &[Event]) {
        let Some(shown) = self.shown.remove(&rev) else {
            return;
        };
        let wanted = sorted(did);
        for Shown { member, at, events } in shown {
            let may_lack = rev <= self.floors.at(at);
            if let Some(why) = difference(&sorted(events), &wanted, may_lack) {
                self.finding.violation(
                    format!("the watch on m{member} at revision {rev}: {why}"),
                    &[],
                );
            }
        }
    }

    pub fn finish(mut self, head: i64) -> Finding {
        if let Some((rev, _)) = self.shown.last_key_value() {
            self.finding.violation(
                format!("a watch shows revision {rev}; the head is {head}"),
                &[],
            );
        }
        self.finding.summary = format!("streams={} events={}", self.streams, self.events);
        self.finding.rests_on("events", self.events);
        self.finding
    }
}

/// How far revisions may have been compacted: what a watch shows at or below
/// that may lack its previous pair.
pub struct Floors {
    /// When it was asked for, and the highest so far.
    steps: Vec<(Nanos, i64)>,
}

impl Floors {
    pub fn of(history: &History) -> Floors {
        let asked = history
            .ops
            .iter()
            .filter_map(|op| match (&op.req, &op.out) {
                (Request::Compact { .. }, Outcome::Fail { .. }) => None,
                (Request::Compact { rev }, _) => Some((op.start, *rev)),
                _ => None,
            });
        let mut steps: Vec<(Nanos, i64)> = asked.collect();
        steps.sort_unstable();
        let mut highest = 0;
        for (_, rev) in &mut steps {
            highest = highest.max(*rev);
            *rev = highest;
        }
        Floors { steps }
    }

    /// The highest revision whose compaction was asked for before.
    pub fn at(&self, at: Nanos) -> i64 {
        let before = self.steps.partition_point(|(asked, _)| *asked <= at);
        before.checked_sub(1).map_or(0, |last| self.steps[last].1)
    }
}

pub fn sorted(events: &[Event]) -> Vec<&Event> {
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by(|a, b| a.kv.key.cmp(&b.kv.key));
    events
}

pub fn difference(shown: &[&Event], wanted: &[&Event], prev_may_lack: bool) -> Option<String> {
    let keys = |list: &[&Event]| list.iter().map(|e| e.kv.key.clone()).collect::<Vec<_>>();
    if shown.len() != wanted.len() {
        return Some(format!(
            "events for {:?}, should be for {:?}",
            keys(shown),
            keys(wanted)
        ));
    }
    for (s, w) in shown.iter().zip(wanted) {
        if s.kv != w.kv || s.delete != w.delete {
            return Some(format!(
                "shows {:?} (delete: {}), should show {:?} (delete: {})",
                s.kv, s.delete, w.kv, w.delete
            ));
        }
        let lacking = s.prev.is_none() && prev_may_lack;
        if s.prev != w.prev && !lacking {
            return Some(format!(
                "previous pair of {:?} is {:?}, should be {:?}",
                s.kv.key, s.prev, w.prev
            ));
        }
    }
    None
}
