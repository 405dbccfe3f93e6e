//! Availability: while there is no fault every member serves, and never is
//! nothing acknowledged for long, whatever the faults.

use super::Finding;
use super::numbers::longest_gap;
use crate::clock::{Nanos, SECOND, seconds};
use crate::history::History;
use crate::history::object::{ObjectOp, ObjectOut};
use crate::history::op::Load;
use crate::history::record::Phase;

/// Successes a second of one member without a fault; far below what the
/// slowest workload gets on a busy machine.
const SLOWEST: f64 = 0.5;
/// Without a fault no member is silent for longer.
const SILENCE: Nanos = 15 * SECOND;
/// Without a fault for less than this nothing is said of a member.
const SHORTEST: Nanos = 5 * SECOND;
/// No fault takes longer than this to be over and done with.
const GAP: Nanos = 120 * SECOND;

pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("availability");
    let spans = quiet(history);
    let quiet: Nanos = spans.iter().map(|(from, to)| to - from).sum();
    let members = history.meta.as_ref().map_or(0, |m| m.members);
    let mut slowest = f64::INFINITY;
    let mut longest = 0;
    for member in 0..members {
        let ends = match history.objects.is_empty() {
            true => successes(history, member),
            false => served_objects(history, member),
        };
        let inside = |at: &&Nanos| spans.iter().any(|(from, to)| (from..=to).contains(at));
        let served = ends.iter().filter(inside).count();
        let rate = served as f64 / seconds_of(quiet);
        let silent = spans.iter().map(|span| silence(&ends, *span)).max();
        let silent = silent.unwrap_or(0);
        slowest = slowest.min(rate);
        longest = longest.max(silent);
        if quiet < SHORTEST {
            continue;
        }
        if rate < SLOWEST {
            finding.violation(
                format!(
                    "m{member} served {served} requests in {} s without a fault",
                    seconds(quiet)
                ),
                &[],
            );
        }
        if silent > SILENCE {
            finding.violation(
                format!(
                    "m{member} served nothing for {} s without a fault",
                    seconds(silent)
                ),
                &[],
            );
        }
    }
    let (gap, at) = longest_gap(history);
    if gap > GAP {
        finding.violation(
            format!(
                "no write was acknowledged for {} s from {} s on",
                seconds(gap),
                seconds(at)
            ),
            &[],
        );
    }
    let slowest = if slowest.is_finite() { slowest } else { 0.0 };
    finding.summary = format!(
        "without-fault={} s least-per-member={slowest:.1}/s longest-silence={} s",
        seconds(quiet),
        seconds(longest)
    );
    finding.rests_on(
        "milliseconds without a fault",
        (quiet / (SECOND / 1000)) as usize,
    );
    finding
}

fn seconds_of(nanos: Nanos) -> f64 {
    nanos.max(1) as f64 / SECOND as f64
}

/// Spans under load between the faults.
fn quiet(history: &History) -> Vec<(Nanos, Nanos)> {
    let (Some(from), Some(to)) = (
        history.phase(Phase::LoadStart),
        history.phase(Phase::LoadEnd),
    ) else {
        return Vec::new();
    };
    let mut faults: Vec<(Nanos, Nanos)> = history.faults.iter().map(|f| (f.start, f.end)).collect();
    faults.sort_unstable();
    let mut spans = Vec::new();
    let mut free = from;
    for (start, end) in faults.into_iter().chain([(to, to)]) {
        if start.min(to) > free {
            spans.push((free, start.min(to)));
        }
        free = free.max(end);
    }
    spans
}

/// When a member's successes ended, ascending.
fn successes(history: &History, member: usize) -> Vec<Nanos> {
    let ours = history.ops.iter().filter(|op| op.member == member);
    let loads = ours.filter(|op| op.load != Load::Evidence && op.revision().is_some());
    // A watch is served as long as it takes.
    let watched = history.windows.iter().filter(|w| w.member == member);
    let watched = watched.filter(|w| w.created > 0);
    let mut ends: Vec<Nanos> = loads.map(|op| op.end).collect();
    ends.extend(watched.flat_map(|w| [w.start, w.end]));
    ends.sort_unstable();
    ends
}

/// The same of a server of the resource API.
fn served_objects(history: &History, server: usize) -> Vec<Nanos> {
    let ours = history.objects.iter().filter(|op| op.server == server);
    let done = |op: &&ObjectOp| match &op.out {
        ObjectOut::Unknown { .. } => false,
        ObjectOut::Refused { code, .. } => *code != 0,
        ObjectOut::Object(_) | ObjectOut::List { .. } | ObjectOut::Deleted => true,
    };
    let mut ends: Vec<Nanos> = ours.filter(done).map(|op| op.end).collect();
    ends.sort_unstable();
    ends
}

/// The longest time within a span without any of these.
fn silence(ends: &[Nanos], (from, to): (Nanos, Nanos)) -> Nanos {
    let first = ends.partition_point(|at| *at < from);
    let inside = ends[first..].iter().copied().take_while(|at| *at <= to);
    let mut last = from;
    let mut longest = 0;
    for at in inside.chain([to]) {
        longest = longest.max(at - last);
        last = at;
    }
    longest
}
