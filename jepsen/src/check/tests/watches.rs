//! Watches against the replay.

use super::script::*;
use super::{accepted, rejected, undecided};
use crate::check::Finding;
use crate::check::replay::replay;
use crate::history::record::WatchNote;

fn valid() -> Script {
    let mut s = Script::watched();
    s.ok(0, 1, put("a", "1"));
    s.ok(2, 3, both(("a", "2"), ("b", "3")));
    s.ok(4, 5, delete("a"));
    s.ok(6, 7, put("a", "4"));
    s
}

fn watch(s: &Script) -> Finding {
    replay(&s.history)
        .findings
        .into_iter()
        .find(|f| f.check == "watch")
        .unwrap()
}

#[test]
fn a_valid_watch_is_accepted() {
    accepted(&watch(&valid()));
}

#[test]
fn writes_of_unknown_outcome_may_be_shown_or_not() {
    let mut s = valid();
    s.lost(8, 9, put("a", "5"));
    s.unknown(8, 9, put("a", "6"));
    s.ok(10, 11, put("b", "7"));
    accepted(&watch(&s));
    // What was shown once must be shown to all.
    let mut bent = s.history.watches.clone();
    bent.retain(|w| w.rev != 6);
    bent.iter_mut().for_each(|w| w.member = 1);
    s.history.watches.extend(bent);
    rejected(&watch(&s), "leaves out revisions 6..7");
}

#[test]
fn left_out_repeated_and_disordered_revisions() {
    let mut s = valid();
    s.history.watches.remove(1);
    rejected(&watch(&s), "leaves out revisions 3..4");

    let mut s = valid();
    let again = s.history.watches[1].clone();
    s.history.watches.insert(2, again);
    rejected(&watch(&s), "shows revision 3 twice");

    let mut s = valid();
    s.history.watches.swap(1, 2);
    rejected(&watch(&s), "shows revision 3 after 4");
}

#[test]
fn a_split_revision_is_not_atomic() {
    let mut s = valid();
    let mut second = s.history.watches[1].clone();
    s.history.watches[1].events.truncate(1);
    second.events.remove(0);
    s.history.watches.insert(2, second);
    rejected(&watch(&s), "or in two parts");
}

#[test]
fn half_a_revision_is_rejected() {
    let mut s = valid();
    let events = s.history.watches[1].events[..1].to_vec();
    s.history.watches.iter_mut().for_each(|w| w.member = 1);
    let mut bent = s.history.watches.clone();
    bent[1].events = events;
    bent.iter_mut().for_each(|w| w.member = 2);
    s.history.watches.extend(bent);
    rejected(
        &watch(&s),
        "the watch on m2 at revision 3: events for [\"a\"], should be for [\"a\", \"b\"]",
    );
}

#[test]
fn wrong_pairs_and_previous_pairs_are_rejected() {
    let mut s = valid();
    s.history.watches[1].events[0].prev = None;
    rejected(&watch(&s), "previous pair of \"a\" is None");

    let mut s = valid();
    s.history.watches[3].events[0].prev = s.history.watches[2].events[0].prev.clone();
    rejected(&watch(&s), "previous pair of \"a\" is Some");

    // A second watch, since the first is also evidence of what happened.
    let mut s = valid();
    let mut bent = s.history.watches.clone();
    bent.iter_mut().for_each(|w| w.member = 1);
    bent[3].events[0].kv.version = 3;
    s.history.watches.extend(bent);
    rejected(&watch(&s), "the watch on m1 at revision 5: shows Kv");
}

#[test]
fn a_compacted_previous_pair_may_lack() {
    let mut s = valid();
    s.ok(8, 9, crate::history::op::Request::Compact { rev: 3 });
    s.history.watches[1].events[0].prev = None;
    rejected(&watch(&s), "revision 3: previous pair");
    // It was told only after the compaction was asked for.
    s.history.watches[1].at = 8;
    accepted(&watch(&s));
    s.history.watches[2].at = 8;
    s.history.watches[2].events[0].prev = None;
    rejected(&watch(&s), "revision 4: previous pair");
}

#[test]
fn a_watch_that_stops_short_is_rejected() {
    let mut s = valid();
    s.history.watch_notes.push((
        1,
        99,
        WatchNote::Incomplete {
            through: 4,
            wanted: 5,
        },
    ));
    rejected(&watch(&s), "stopped at revision 4; the last revision is 5");
    let mut s = valid();
    s.history.watch_notes.push((
        1,
        99,
        WatchNote::Canceled {
            compact: 3,
            reason: "compacted".into(),
        },
    ));
    rejected(&watch(&s), "was canceled (floor 3");
    let mut s = Script::default();
    s.history.watch_notes.push((0, 1, WatchNote::Unimplemented));
    undecided(&watch(&s), "no watch");
}
