//! A search for a linearization of one register that ignores revisions, after
//! Wing and Gong with Lowe's cache of visited configurations.
//!
//! A configuration is the set of operations already placed and the value they
//! leave. Operations of unknown outcome may be placed at any time after their
//! invocation or never.

use crate::clock::Nanos;
use std::collections::HashSet;

/// A value; zero is the absent key, others stand for distinct texts.
pub type Value = u32;
pub const ABSENT: Value = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Get {
        seen: Value,
    },
    /// `prev` is the previous value if the reply showed it.
    Put {
        value: Value,
        prev: Option<Value>,
    },
    Delete {
        deleted: Option<bool>,
        prev: Option<Value>,
    },
    /// Swap `from` to `to`. `swapped` is absent for an unknown outcome; `seen`
    /// is the value a failed swap showed.
    Swap {
        from: Value,
        to: Value,
        swapped: Option<bool>,
        seen: Option<Value>,
    },
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub id: u64,
    pub start: Nanos,
    /// Absent for an unknown outcome.
    pub end: Option<Nanos>,
    pub action: Action,
}

#[derive(Debug)]
pub enum Answer {
    Linearizable,
    /// Not linearizable. The longest order found leaves `state`, and none of
    /// these can come next.
    Impossible {
        placed: usize,
        state: Value,
        stuck: Vec<u64>,
    },
    /// Too large to decide.
    Undecided,
}

/// Configurations visited before the search gives up; they take some 100 bytes
/// each.
const BUDGET: usize = 5_000_000;
/// Unknown outcomes are a bit set.
const UNKNOWNS: usize = 64;

/// The value after the action, or none if its reply does not fit.
fn step(state: Value, action: Action) -> Option<Value> {
    let fits = |expected: Option<Value>| expected.is_none_or(|e| e == state);
    match action {
        Action::Get { seen } => (seen == state).then_some(state),
        Action::Put { value, prev } => fits(prev).then_some(value),
        Action::Delete { deleted, prev } => {
            (fits(prev) && deleted.is_none_or(|d| d == (state != ABSENT))).then_some(ABSENT)
        }
        Action::Swap {
            from,
            to,
            swapped,
            seen,
        } => {
            let swaps = state == from;
            let fine = swapped.is_none_or(|s| s == swaps) && (swaps || fits(seen));
            fine.then_some(if swaps { to } else { state })
        }
    }
}

/// True when the action changes no value with which its reply fits.
fn reads_only(action: Action) -> bool {
    match action {
        Action::Get { .. } => true,
        Action::Delete { deleted, .. } => deleted == Some(false),
        Action::Swap { swapped, .. } => swapped == Some(false),
        Action::Put { .. } => false,
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Config {
    /// All completed operations below this index are placed.
    low: u32,
    /// Those placed above it, ascending.
    above: Vec<u32>,
    /// Unknown outcomes placed.
    unknown: u64,
    state: Value,
}

impl Config {
    fn placed(&self) -> usize {
        self.low as usize + self.above.len()
    }

    fn with(&self, i: u32, state: Value) -> Config {
        let mut next = Config {
            state,
            ..self.clone()
        };
        if i == next.low {
            next.low += 1;
            let joined = next
                .above
                .iter()
                .zip(next.low..)
                .take_while(|(a, b)| **a == *b)
                .count();
            next.low += joined as u32;
            next.above.drain(..joined);
        } else {
            let at = next.above.partition_point(|a| *a < i);
            next.above.insert(at, i);
        }
        next
    }
}

/// Decides whether these operations on one register, which starts absent,
/// have a sequential order that respects real time.
pub fn search(entries: &[Entry]) -> Answer {
    let mut known: Vec<(&Entry, Nanos)> = entries
        .iter()
        .filter_map(|e| e.end.map(|end| (e, end)))
        .collect();
    known.sort_by_key(|(e, _)| e.start);
    let unknown = useful(entries);
    if unknown.len() > UNKNOWNS {
        return Answer::Undecided;
    }
    let first = Config {
        low: 0,
        above: Vec::new(),
        unknown: 0,
        state: ABSENT,
    };
    let mut visited = HashSet::from([first.clone()]);
    let mut stack = vec![first.clone()];
    let mut best = first;
    while let Some(config) = stack.pop() {
        if config.low as usize == known.len() {
            return Answer::Linearizable;
        }
        if config.placed() > best.placed() {
            best = config.clone();
        }
        for next in successors(&config, &known, &unknown) {
            if visited.insert(next.clone()) {
                stack.push(next);
            }
        }
        if visited.len() > BUDGET {
            return Answer::Undecided;
        }
    }
    let (open, _) = candidates(&best, &known);
    let stuck = open.iter().map(|&i| known[i as usize].0.id).collect();
    Answer::Impossible {
        placed: best.placed(),
        state: best.state,
        stuck,
    }
}

/// The unknown outcomes worth placing. A written value that no reply shows and
/// no swap waits for can only help a reply that leaves the value it met open;
/// without such replies, placing it proves nothing, and trying to doubles the
/// search.
fn useful(entries: &[Entry]) -> Vec<&Entry> {
    let mut shown = HashSet::new();
    let mut open = false;
    for entry in entries {
        let known = entry.end.is_some();
        match entry.action {
            Action::Get { seen } => shown.extend([seen]),
            Action::Put { prev, .. } => shown.extend(prev),
            Action::Delete { deleted, prev } => {
                shown.extend(prev);
                open |= known && deleted == Some(true) && prev.is_none();
            }
            Action::Swap {
                from,
                swapped,
                seen,
                ..
            } => {
                shown.extend([from]);
                shown.extend(seen);
                open |= known && swapped == Some(false) && seen.is_none();
            }
        }
    }
    let helps = |e: &&Entry| match e.action {
        Action::Put { value, .. } | Action::Swap { to: value, .. } => {
            open || shown.contains(&value)
        }
        Action::Delete { .. } => true,
        Action::Get { .. } => false,
    };
    entries
        .iter()
        .filter(|e| e.end.is_none())
        .filter(helps)
        .collect()
}

/// The completed operations that may come next, and the moment before which
/// anything placed next must have begun.
fn candidates(config: &Config, known: &[(&Entry, Nanos)]) -> (Vec<u32>, Nanos) {
    let mut open = Vec::new();
    let mut first_end = Nanos::MAX;
    let mut above = config.above.iter().peekable();
    for i in config.low..known.len() as u32 {
        if above.next_if_eq(&&i).is_some() {
            continue;
        }
        let (entry, end) = known[i as usize];
        if entry.start > first_end {
            break;
        }
        open.push(i);
        first_end = first_end.min(end);
    }
    (open, first_end)
}

/// In the order of a stack: what ends first is tried first, unknown outcomes
/// last.
///
/// A reading operation that fits here is placed at once and alone: in any order
/// that goes on from here it can be moved to the front.
fn successors(config: &Config, known: &[(&Entry, Nanos)], unknown: &[&Entry]) -> Vec<Config> {
    let (mut open, first_end) = candidates(config, known);
    let fits = |action| reads_only(action) && step(config.state, action).is_some();
    if let Some(&i) = open.iter().find(|i| fits(known[**i as usize].0.action)) {
        return vec![config.with(i, config.state)];
    }
    let mut next = Vec::new();
    for (bit, entry) in unknown.iter().enumerate() {
        let free = config.unknown & (1 << bit) == 0 && entry.start <= first_end;
        if let (true, Some(state)) = (free, step(config.state, entry.action))
            && state != config.state
        {
            next.push(Config {
                unknown: config.unknown | (1 << bit),
                state,
                ..config.clone()
            });
        }
    }
    open.sort_by_key(|&i| std::cmp::Reverse(known[i as usize].1));
    for i in open {
        if let Some(state) = step(config.state, known[i as usize].0.action) {
            next.push(config.with(i, state));
        }
    }
    next
}
