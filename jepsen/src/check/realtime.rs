//! Real-time order: what completed before an operation began is visible to it.

use super::Finding;
use crate::clock::{Nanos, seconds};
use crate::history::History;
use crate::history::op::Op;
use std::collections::HashMap;

/// A revision was visible to somebody at a moment.
#[derive(Clone, Copy)]
struct Seen {
    at: Nanos,
    rev: i64,
    /// The operation that saw it; none for a watch.
    op: Option<u64>,
}

/// A revision must be above (or not below) everything visible at `start`.
struct Claim {
    start: Nanos,
    rev: i64,
    strict: bool,
    op: u64,
}

/// Linearizable operations against everything that completed before.
pub fn check(history: &History, placed: &[(usize, i64)]) -> Finding {
    let mut finding = Finding::new("real-time-order");
    let ops = &history.ops;
    let mut seen: Vec<Seen> = ops
        .iter()
        .filter_map(|op| {
            op.revision().map(|rev| Seen {
                at: op.end,
                rev,
                op: Some(op.id),
            })
        })
        .collect();
    seen.extend(history.watches.iter().filter_map(|w| {
        w.events.last().map(|e| Seen {
            at: w.at,
            rev: e.kv.modified,
            op: None,
        })
    }));
    let claim = |op: &Op, rev, strict| Claim {
        start: op.start,
        rev,
        strict,
        op: op.id,
    };
    let mut claims: Vec<Claim> = ops
        .iter()
        .filter(|op| op.linearizable())
        .filter_map(|op| op.revision().map(|rev| claim(op, rev, op.made_revision())))
        .collect();
    claims.extend(placed.iter().map(|&(i, rev)| claim(&ops[i], rev, true)));
    finding.summary = format!("operations={}", claims.len());
    finding.rests_on("ordered operations", claims.len());
    sweep(seen, claims, &mut finding);
    finding
}

/// Serializable reads may be stale, but one process of one member does not go
/// back in time.
pub fn check_stale(history: &History) -> Finding {
    let mut finding = Finding::new("serializable-order");
    let mut processes: HashMap<(usize, u32), (Vec<Seen>, Vec<Claim>)> = HashMap::new();
    let mut reads = 0;
    for op in &history.ops {
        let Some(rev) = op.revision() else { continue };
        let (seen, claims) = processes.entry((op.member, op.incarnation)).or_default();
        seen.push(Seen {
            at: op.end,
            rev,
            op: Some(op.id),
        });
        if !op.linearizable() {
            reads += 1;
            claims.push(Claim {
                start: op.start,
                rev,
                strict: false,
                op: op.id,
            });
        }
    }
    let count = processes.len();
    for (seen, claims) in processes.into_values() {
        sweep(seen, claims, &mut finding);
    }
    finding.summary = format!("reads={reads} processes={count}");
    finding.rests_on("serializable reads", reads);
    finding
}

fn sweep(mut seen: Vec<Seen>, mut claims: Vec<Claim>, finding: &mut Finding) {
    seen.sort_by_key(|s| s.at);
    claims.sort_by_key(|c| c.start);
    let mut seen = seen.into_iter().peekable();
    let mut newest: Option<Seen> = None;
    for claim in claims {
        while let Some(s) = seen.next_if(|s| s.at < claim.start) {
            if newest.is_none_or(|n| n.rev < s.rev) {
                newest = Some(s);
            }
        }
        let Some(newest) = newest else { continue };
        let holds = if claim.strict {
            claim.rev > newest.rev
        } else {
            claim.rev >= newest.rev
        };
        if !holds {
            let kind = if claim.strict {
                "a write made"
            } else {
                "a reply is of"
            };
            let by = if newest.op.is_some() {
                "an operation"
            } else {
                "a watch"
            };
            let why = format!(
                "{kind} revision {}, though {by} had seen revision {} at {} s, before this one began at {} s",
                claim.rev,
                newest.rev,
                seconds(newest.at),
                seconds(claim.start)
            );
            let ids: Vec<u64> = newest.op.into_iter().chain([claim.op]).collect();
            finding.violation(why, &ids);
        }
    }
}
