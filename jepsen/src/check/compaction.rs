//! Compaction borders: which answers "compacted" and "future" may be given
//! and when they must be.

use super::Finding;
use crate::clock::Nanos;
use crate::history::History;
use crate::history::op::{FailClass, Op, Outcome, Request};

/// A value that only grows, by time.
struct Rising {
    steps: Vec<(Nanos, i64)>,
}

impl Rising {
    fn new(mut steps: Vec<(Nanos, i64)>) -> Rising {
        steps.sort();
        let mut highest = i64::MIN;
        for (_, value) in &mut steps {
            highest = highest.max(*value);
            *value = highest;
        }
        Rising { steps }
    }

    /// The highest value of a step before `at`; zero if there is none.
    fn before(&self, at: Nanos) -> i64 {
        let n = self.steps.partition_point(|(t, _)| *t < at);
        n.checked_sub(1)
            .and_then(|i| self.steps.get(i))
            .map_or(0, |(_, v)| *v)
    }
}

struct Known {
    /// Compactions acknowledged, by their end.
    must: Rising,
    /// Compactions that may have happened, by their beginning.
    may: Rising,
    /// Revisions visible, by the end of the operation that showed them.
    head: Rising,
}

pub fn check(history: &History) -> Finding {
    let ops = &history.ops;
    let compactions = || {
        ops.iter().filter_map(|op| {
            if let Request::Compact { rev } = op.req {
                Some((op, rev))
            } else {
                None
            }
        })
    };
    let done = |op: &Op| matches!(op.out, Outcome::Ok { .. });
    let failed = |op: &Op| matches!(op.out, Outcome::Fail { .. });
    let known = Known {
        must: Rising::new(
            compactions()
                .filter(|(op, _)| done(op))
                .map(|(op, rev)| (op.end, rev))
                .collect(),
        ),
        may: Rising::new(
            compactions()
                .filter(|(op, _)| !failed(op))
                .map(|(op, rev)| (op.start, rev))
                .collect(),
        ),
        head: Rising::new(
            ops.iter()
                .filter_map(|op| op.revision().map(|rev| (op.end, rev)))
                .collect(),
        ),
    };
    let mut finding = Finding::new("compaction");
    let mut borders = 0;
    for op in ops {
        let why = match &op.req {
            Request::Compact { rev } => compact(op, *rev, &known),
            Request::Range(r) if r.rev > 0 => read(op, r.rev, &known),
            _ => continue,
        };
        borders += 1;
        if let Some(why) = why {
            finding.violation(why, &[op.id]);
        }
    }
    let compacted = compactions().filter(|(op, _)| done(op)).count();
    let past = borders - compactions().count();
    finding.summary = format!("compactions={compacted} reads-of-the-past={past}");
    finding.rests_on("compactions", compacted);
    finding.rests_on("reads of the past", past);
    finding
}

fn class(op: &Op) -> Option<FailClass> {
    match &op.out {
        Outcome::Fail { class, .. } => Some(*class),
        Outcome::Ok { .. } | Outcome::Unknown { .. } => None,
    }
}

fn compact(op: &Op, rev: i64, known: &Known) -> Option<String> {
    let must = known.must.before(op.start);
    match (&op.out, class(op)) {
        (Outcome::Ok { rev: head, .. }, _) if rev > *head => Some(format!(
            "revision {rev} was compacted though the head was {head}"
        )),
        (Outcome::Ok { .. }, _) if rev <= must => Some(format!(
            "revision {rev} was compacted though the floor was {must} already"
        )),
        (_, Some(class)) => refused(op, rev, rev, class, known),
        _ => None,
    }
}

/// A compaction at C takes what is below C and leaves C itself readable.
fn read(op: &Op, rev: i64, known: &Known) -> Option<String> {
    let must = known.must.before(op.start);
    match (&op.out, class(op)) {
        (Outcome::Ok { .. }, _) if rev < must && op.linearizable() => Some(format!(
            "revision {rev} was read though revisions below {must} were compacted before"
        )),
        (_, Some(class)) => refused(op, rev, rev + 1, class, known),
        _ => None,
    }
}

/// "Compacted" needs a compaction at `least` or above that may have happened;
/// "future" needs a head below `rev`, which only a stale replica may have.
fn refused(op: &Op, rev: i64, least: i64, class: FailClass, known: &Known) -> Option<String> {
    let may = known.may.before(op.end);
    let head = known.head.before(op.start);
    match class {
        FailClass::Compacted if may < least => Some(format!(
            "revision {rev} is called compacted; the highest compaction asked for so far is {may}"
        )),
        FailClass::Future if rev <= head && op.linearizable() => Some(format!(
            "revision {rev} is called a future one; revision {head} was visible before"
        )),
        _ => None,
    }
}
