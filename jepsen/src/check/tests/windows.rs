//! Watches of a while.

use super::script::*;
use super::{Finding, accepted, rejected};
use crate::check::replay::replay;
use crate::check::windows::check;
use crate::history::op::Request;
use crate::history::record::{Fault, Injected};
use crate::history::record::{Part, Window};

fn written() -> Script {
    let mut s = Script::watched();
    s.ok(0, 1, put("a", "1"));
    s.ok(2, 3, both(("a", "2"), ("b", "3")));
    s.ok(4, 5, delete("a"));
    s.ok(6, 7, put("c", "4"));
    s.ok(8, 9, put("a", "5"));
    s
}

/// Keys a and b from revision 2 on, as a watch of them would show it: 2, 3 and
/// 4, progress to 5, and 6.
fn window(s: &Script) -> Window {
    let part = |i: usize| {
        let rev = s.history.watches[i].rev;
        let events = s.history.watches[i].events.clone();
        Part {
            rev,
            events,
            canceled: None,
        }
    };
    let progress = Part {
        rev: 5,
        ..Part::default()
    };
    Window {
        start: 0,
        end: 100,
        key: "a".into(),
        range_end: "c".into(),
        from: 2,
        prev: true,
        created: 2,
        parts: vec![part(0), part(1), part(2), progress, part(4)],
        ..Window::default()
    }
}

fn judged(mut s: Script, window: Window) -> Finding {
    s.history.windows.push(window);
    let replayed = replay(&s.history);
    check(&s.history, &replayed.done)
}

#[test]
fn a_valid_window_is_accepted() {
    let s = written();
    let w = window(&s);
    accepted(&judged(s, w));
    // One from the head on, of which nothing came.
    let s = written();
    let idle = Window {
        from: 0,
        created: 6,
        parts: Vec::new(),
        ..window(&s)
    };
    accepted(&judged(s, idle));
}

#[test]
fn a_write_of_unknown_outcome_may_be_shown() {
    let mut s = Script::watched();
    s.lost(0, 1, put("a", "1"));
    s.unknown(2, 3, put("a", "2"));
    let events = s.history.watches[0].events.clone();
    let w = Window {
        end: 9,
        key: "a".into(),
        from: 1,
        prev: true,
        created: 1,
        parts: vec![Part {
            rev: 2,
            events,
            canceled: None,
        }],
        ..Window::default()
    };
    accepted(&judged(s, w));
}

#[test]
fn gaps_repeats_and_halves_are_rejected() {
    let s = written();
    let mut w = window(&s);
    w.parts.remove(1);
    rejected(&judged(s, w), "before revision 4, revision 3 was left out");

    let s = written();
    let mut w = window(&s);
    let again = w.parts[1].clone();
    w.parts.insert(2, again);
    rejected(
        &judged(s, w),
        "revision 3 is shown after everything up to 3",
    );

    let s = written();
    let mut w = window(&s);
    w.parts[1].events.truncate(1);
    rejected(&judged(s, w), "at revision 3: events for [\"a\"]");
}

#[test]
fn progress_ahead_of_events_is_rejected() {
    let s = written();
    let mut w = window(&s);
    w.parts.swap(2, 3);
    rejected(
        &judged(s, w),
        "progress to revision 5 came, but revision 4 was left out",
    );
    let s = written();
    let mut w = window(&s);
    w.parts[3].rev = 6;
    rejected(&judged(s, w), "progress to revision 6 came");
}

#[test]
fn filters_and_previous_pairs_are_held_to() {
    let s = written();
    let mut w = window(&s);
    w.no_delete = true;
    rejected(&judged(s, w), "at revision 4");
    let s = written();
    let mut w = window(&s);
    w.prev = false;
    rejected(&judged(s, w), "a previous pair nobody asked for");
    let s = written();
    let mut w = window(&s);
    w.parts[4].events[0].prev = w.parts[1].events[0].prev.clone();
    rejected(&judged(s, w), "previous pair of \"a\"");
}

#[test]
fn cancellations_need_a_compaction() {
    let cancel = |compact| Part {
        rev: 6,
        events: Vec::new(),
        canceled: Some(compact),
    };
    let s = written();
    let mut w = window(&s);
    w.parts = vec![cancel(4)];
    rejected(&judged(s, w), "a compaction at 4 that nobody had asked for");

    let mut s = written();
    s.ok(20, 21, Request::Compact { rev: 4 });
    let mut w = window(&s);
    w.parts = vec![cancel(4)];
    accepted(&judged(s, w));

    let mut s = written();
    s.ok(20, 21, Request::Compact { rev: 4 });
    let mut w = window(&s);
    w.parts.push(cancel(4));
    rejected(&judged(s, w), "it needed nothing below revision 7");
}

fn about(start: u64, end: u64) -> Fault {
    Fault {
        kind: "pause-random".into(),
        members: vec![0],
        hit_leader: false,
        start,
        end,
        injected: Injected::Installed,
        kills: 0,
        detail: String::new(),
    }
}

#[test]
fn the_last_question_must_be_answered() {
    let silent = |s: &Script| Window {
        asked: 80,
        answered: false,
        ..window(s)
    };
    let s = written();
    let w = silent(&s);
    rejected(&judged(s, w), "nobody answered when it was asked");
    let s = written();
    let w = Window {
        answered: true,
        ..silent(&s)
    };
    accepted(&judged(s, w));
    let mut s = written();
    let w = silent(&s);
    s.history.faults = vec![about(90, 200)];
    accepted(&judged(s, w));
    let mut s = written();
    let w = silent(&s);
    s.history.faults = vec![about(10, 20)];
    rejected(&judged(s, w), "nobody answered when it was asked");
}

#[test]
fn a_watch_breaks_off_by_a_fault_alone() {
    let broken = |s: &Script| Window {
        created: 0,
        parts: Vec::new(),
        broken: Some("not opened in time".into()),
        ..window(s)
    };
    let s = written();
    let w = broken(&s);
    rejected(&judged(s, w), "it broke off without a fault: not opened");
    let mut s = written();
    let w = broken(&s);
    s.history.faults = vec![about(90, 200)];
    accepted(&judged(s, w));
}

#[test]
fn a_previous_pair_may_lack_once_it_may_be_compacted() {
    let mut s = written();
    let mut w = window(&s);
    w.parts[1].events[0].prev = None;
    s.ok(200, 201, Request::Compact { rev: 4 });
    rejected(&judged(s, w), "at revision 3: previous pair");
    let mut s = written();
    let mut w = window(&s);
    w.parts[1].events[0].prev = None;
    s.ok(50, 51, Request::Compact { rev: 4 });
    accepted(&judged(s, w));
}
