//! Counts of a run, for the summary: operations by outcome, the share under
//! a fault, kills, and the longest time without an acknowledged put.

use super::Finding;
use crate::clock::{Nanos, seconds};
use crate::history::History;
use crate::history::object::{ObjectOp, ObjectOut, ObjectReq};
use crate::history::op::{Load, Op, Outcome, Reply, Request};
use crate::history::record::{Fault, Injected, Phase};

/// Times during which at least one fault was in place.
pub struct Windows {
    /// Disjoint, ascending.
    spans: Vec<(Nanos, Nanos)>,
}

impl Windows {
    pub fn of(faults: &[Fault]) -> Windows {
        let mut spans: Vec<(Nanos, Nanos)> = faults
            .iter()
            .filter(|f| f.injected != Injected::Skipped)
            .map(|f| (f.start, f.end))
            .collect();
        spans.sort_unstable();
        let mut joined: Vec<(Nanos, Nanos)> = Vec::new();
        for (start, end) in spans {
            match joined.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => joined.push((start, end)),
            }
        }
        Windows { spans: joined }
    }

    pub fn overlap(&self, start: Nanos, end: Nanos) -> bool {
        let i = self.spans.partition_point(|s| s.1 < start);
        self.spans.get(i).is_some_and(|s| s.0 <= end)
    }
}

/// Operations, sent at all, that overlap a fault.
pub fn during(ops: &[Op], windows: &Windows) -> usize {
    ops.iter()
        .filter(|op| windows.overlap(op.start, op.end))
        .count()
}

pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("operations");
    let ops: Vec<&Op> = history
        .ops
        .iter()
        .filter(|o| o.load != Load::Evidence)
        .collect();
    let count = |f: fn(&Outcome) -> bool| ops.iter().filter(|o| f(&o.out)).count();
    let under_fault = during(&history.ops, &Windows::of(&history.faults));
    let share = 100.0 * under_fault as f64 / history.ops.len().max(1) as f64;
    let kills: u32 = history.faults.iter().map(|f| f.kills).sum();
    let (gap, at) = longest_gap(history);
    finding.summary = format!(
        "total={} ok={} fail={} unknown={} during-faults={under_fault} ({share:.1}%) kills={kills} longest-gap-between-acknowledged-puts={} s (at {} s)",
        ops.len(),
        count(|o| matches!(o, Outcome::Ok { .. })),
        count(|o| matches!(o, Outcome::Fail { .. })),
        count(|o| matches!(o, Outcome::Unknown { .. })),
        seconds(gap),
        seconds(at),
    );
    let acknowledged = ops.iter().filter(|op| op.revision().is_some()).count();
    finding.rests_on("operations that succeeded", acknowledged);
    if history.phase(Phase::LoadEnd).is_none() {
        finding.incomplete("the run did not come to its end".into());
    }
    if !ops.iter().any(|o| o.made_revision()) {
        finding.incomplete("no write was acknowledged".into());
    }
    finding
}

/// When an object was written.
fn written(op: &ObjectOp) -> Option<Nanos> {
    let write = !matches!(op.req, ObjectReq::Get { .. } | ObjectReq::List { .. });
    let done = matches!(op.out, ObjectOut::Object(_) | ObjectOut::Deleted);
    (write && done).then_some(op.end)
}

/// The longest time under load without an acknowledged put, and when it began.
/// Guarded puts count when they succeed.
pub fn longest_gap(history: &History) -> (Nanos, Nanos) {
    let (Some(from), Some(to)) = (
        history.phase(Phase::LoadStart),
        history.phase(Phase::LoadEnd),
    ) else {
        return (0, 0);
    };
    let is_put = |op: &&Op| match (&op.req, &op.out) {
        (Request::Put(_), Outcome::Ok { .. }) => true,
        (
            Request::Txn(_),
            Outcome::Ok {
                reply: Reply::Txn(_),
                ..
            },
        ) => op.made_revision(),
        _ => false,
    };
    let mut times: Vec<Nanos> = history
        .ops
        .iter()
        .filter(is_put)
        .map(|op| op.end)
        .chain(history.objects.iter().filter_map(written))
        .filter(|t| (from..=to).contains(t))
        .collect();
    times.extend([from, to]);
    times.sort_unstable();
    times
        .windows(2)
        .map(|w| (w[1] - w[0], w[0]))
        .max()
        .unwrap_or((0, 0))
}
