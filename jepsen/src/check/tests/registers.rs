//! The search without revisions: hand-made cases, and random ones compared
//! with trying every order.

use super::script::*;
use super::{accepted, rejected};
use crate::check::register::check;
use crate::check::wgl::{ABSENT, Action, Answer, Entry, Value, search};
use crate::history::op::{FailClass, Outcome, Reply};
use crate::seed;
use rand::Rng;
use rand::rngs::StdRng;

#[test]
fn lying_revisions_do_not_hide_a_stale_read() {
    let mut s = Script::default();
    s.ok(0, 10, put("r/a", "1"));
    s.ok(20, 30, put("r/a", "2"));
    let read = s.ok(40, 50, get("r/a"));
    accepted(&check(&s.history));
    let Outcome::Ok {
        reply: Reply::Range(r),
        ..
    } = &mut s.op(read).out
    else {
        panic!()
    };
    r.kvs[0].value = "1".into();
    rejected(&check(&s.history), "key \"r/a\" is not linearizable");
}

#[test]
fn unknown_outcomes_may_happen_late_or_never() {
    let mut s = Script::default();
    s.ok(0, 10, put("r/a", "1"));
    s.unknown(5, 15, put("r/a", "never"));
    s.ok(20, 30, get("r/a"));
    s.lost(5, 15, put("r/a", "late"));
    s.ok(40, 50, get("r/a"));
    s.lost(5, 15, delete("r/a"));
    s.ok(60, 70, get("r/a"));
    accepted(&check(&s.history));
}

#[test]
fn an_unknown_outcome_happens_at_most_once() {
    let mut s = Script::default();
    s.lost(0, 10, put("r/a", "1"));
    s.ok(20, 30, get("r/a"));
    s.ok(40, 50, put("r/a", "2"));
    s.ok(60, 70, get("r/a"));
    s.model.apply(&put("r/a", "1"));
    s.ok(80, 90, get("r/a"));
    rejected(&check(&s.history), "is not linearizable");
}

#[test]
fn a_failed_write_never_happens() {
    let mut s = Script::default();
    s.ok(0, 10, put("r/a", "1"));
    s.fail(5, 15, put("r/a", "2"), FailClass::Refused);
    s.model.apply(&put("r/a", "2"));
    s.ok(20, 30, get("r/a"));
    rejected(&check(&s.history), "is not linearizable");
}

#[test]
fn swaps_deletions_and_previous_values_count() {
    let script = || {
        let mut s = Script::default();
        s.ok(0, 10, put("r/a", "1"));
        s.ok(20, 30, swap("r/a", "1", "2"));
        s.ok(40, 50, swap("r/a", "1", "3"));
        s.ok(60, 70, put_prev("r/a", "4"));
        s.ok(80, 90, delete("r/a"));
        s.ok(100, 110, delete("r/a"));
        s
    };
    accepted(&check(&script().history));
    let mut s = script();
    let Outcome::Ok {
        reply: Reply::Txn(t),
        ..
    } = &mut s.op(2).out
    else {
        panic!()
    };
    t.succeeded = true;
    rejected(&check(&s.history), "is not linearizable");
    let mut s = script();
    let Outcome::Ok {
        reply: Reply::Put(p),
        ..
    } = &mut s.op(3).out
    else {
        panic!()
    };
    p.prev.as_mut().unwrap().value = "1".into();
    rejected(&check(&s.history), "is not linearizable");
    let mut s = script();
    let Outcome::Ok {
        reply: Reply::Delete(d),
        ..
    } = &mut s.op(5).out
    else {
        panic!()
    };
    d.deleted = 1;
    rejected(&check(&s.history), "is not linearizable");
}

/// What one machine would do with an action; gives back what a client sees.
fn perform(state: &mut Value, action: Action) -> Action {
    let before = *state;
    match action {
        Action::Get { .. } => Action::Get { seen: before },
        Action::Put { value, .. } => {
            *state = value;
            Action::Put {
                value,
                prev: Some(before),
            }
        }
        Action::Delete { .. } => {
            *state = ABSENT;
            Action::Delete {
                deleted: Some(before != ABSENT),
                prev: Some(before),
            }
        }
        Action::Swap { from, to, .. } => {
            if before == from {
                *state = to;
            }
            Action::Swap {
                from,
                to,
                swapped: Some(before == from),
                seen: (before != from).then_some(before),
            }
        }
    }
}

fn hidden(action: Action) -> Action {
    match action {
        Action::Get { seen } => Action::Get { seen },
        Action::Put { value, .. } => Action::Put { value, prev: None },
        Action::Delete { .. } => Action::Delete {
            deleted: None,
            prev: None,
        },
        Action::Swap { from, to, .. } => Action::Swap {
            from,
            to,
            swapped: None,
            seen: None,
        },
    }
}

fn random_action(rng: &mut StdRng, values: Value) -> Action {
    let value = rng.random_range(1..=values);
    match rng.random_range(0..6u8) {
        0 | 1 => Action::Get { seen: ABSENT },
        2 | 3 => Action::Put { value, prev: None },
        4 => Action::Delete {
            deleted: None,
            prev: None,
        },
        _ => Action::Swap {
            from: rng.random_range(1..=values),
            to: value,
            swapped: None,
            seen: None,
        },
    }
}

/// A linearizable history: every operation takes effect at a moment of its
/// own, inside its interval or, of unknown outcome, after it or never.
fn generate(
    rng: &mut StdRng,
    operations: usize,
    clients: u64,
    values: Value,
    unknown: f64,
) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut effects: Vec<(u64, usize)> = Vec::new();
    let mut free = vec![0u64; clients as usize];
    for i in 0..operations {
        let client = rng.random_range(0..free.len());
        let start = free[client] + rng.random_range(1..10);
        let end = start + rng.random_range(1..40);
        free[client] = end;
        let action = random_action(rng, values);
        let lost = !matches!(action, Action::Get { .. }) && rng.random_bool(unknown);
        let at = if lost {
            rng.random_range(start..end + 200)
        } else {
            rng.random_range(start..end)
        };
        if !lost || rng.random() {
            effects.push((at, i));
        }
        entries.push(Entry {
            id: i as u64,
            start,
            end: (!lost).then_some(end),
            action,
        });
    }
    effects.sort_unstable();
    let mut state = ABSENT;
    for (_, i) in effects {
        let seen = perform(&mut state, entries[i].action);
        entries[i].action = if entries[i].end.is_some() {
            seen
        } else {
            hidden(seen)
        };
    }
    entries
}

/// Tries every order: for histories of a few operations only.
fn brute_force(entries: &[Entry], placed: &mut Vec<usize>, state: Value) -> bool {
    let left: Vec<usize> = (0..entries.len()).filter(|i| !placed.contains(i)).collect();
    if left.iter().all(|&i| entries[i].end.is_none()) {
        return true;
    }
    let first_end = left.iter().filter_map(|&i| entries[i].end).min().unwrap();
    for i in left {
        if entries[i].start > first_end {
            continue;
        }
        let mut next = state;
        let seen = perform(&mut next, entries[i].action);
        let fits = match (entries[i].action, seen) {
            _ if entries[i].end.is_none() => true,
            (Action::Put { prev: None, .. }, _) => true,
            (
                Action::Delete {
                    deleted,
                    prev: None,
                },
                Action::Delete { deleted: d, .. },
            ) => deleted == d,
            (
                Action::Swap {
                    swapped,
                    seen: None,
                    ..
                },
                Action::Swap { swapped: s, .. },
            ) => swapped == s,
            (said, would) => said == would,
        };
        if fits {
            placed.push(i);
            if brute_force(entries, placed, next) {
                return true;
            }
            placed.pop();
        }
    }
    false
}

#[test]
fn the_search_agrees_with_trying_every_order() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..3000 {
        let mut rng = seed::stream(seed, "search", 0);
        let mut entries = generate(&mut rng, 7, 3, 3, 0.3);
        if rng.random() {
            // Another client's reply: usually impossible, sometimes not.
            let i = rng.random_range(0..entries.len());
            if let Action::Get { seen } = &mut entries[i].action {
                *seen = rng.random_range(0..=3);
            }
            let j = rng.random_range(0..entries.len());
            if let Action::Swap {
                swapped: Some(s),
                seen,
                ..
            } = &mut entries[j].action
            {
                *s = !*s;
                *seen = None;
            }
        }
        for entry in &mut entries {
            // Replies that say less than they could.
            match &mut entry.action {
                Action::Put { prev, .. } | Action::Delete { prev, .. } if rng.random() => {
                    *prev = None
                }
                Action::Swap { seen, .. } if rng.random() => *seen = None,
                _ => {}
            }
        }
        let expected = brute_force(&entries, &mut Vec::new(), ABSENT);
        let answer = search(&entries);
        let agreed = match answer {
            Answer::Linearizable => expected,
            Answer::Impossible { .. } => !expected,
            Answer::Undecided => false,
        };
        assert!(
            agreed,
            "seed {seed}: expected {expected}, found {answer:?} for {entries:#?}"
        );
        if expected { good += 1 } else { bad += 1 }
    }
    assert!(
        good > 500 && bad > 200,
        "the cases are one-sided: {good} good, {bad} bad"
    );
}

#[test]
fn long_histories_of_eight_clients_are_decided() {
    let mut rng = seed::stream(1, "long", 0);
    let mut entries = generate(&mut rng, 100_000, 8, 1_000_000, 0.0001);
    let answer = search(&entries);
    assert!(matches!(answer, Answer::Linearizable), "{answer:?}");
    let last = entries
        .iter_mut()
        .rev()
        .find(|e| matches!(e.action, Action::Get { .. }))
        .unwrap();
    last.action = Action::Get { seen: 2_000_000 };
    let id = last.id;
    match search(&entries) {
        Answer::Impossible { stuck, .. } => {
            assert!(stuck.contains(&id), "stuck at {stuck:?}, not at {id}")
        }
        other => panic!("{other:?}"),
    }
}
