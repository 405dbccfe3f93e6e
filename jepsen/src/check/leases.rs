//! Leases: none ends before the time to live after its last acknowledged
//! renewal was sent, none is renewed after its end or after a revocation was
//! acknowledged, and none that nobody
//! renews stays much longer than its time to live, which a change of leader
//! may begin anew.

use super::Finding;
use super::replay::Replayed;
use super::seen::Seen;
use crate::clock::{Nanos, SECOND, seconds};
use crate::history::History;
use crate::history::op::{LeaseReq, Load, Op, Outcome, Reply, Request};
use crate::history::record::Injected;
use std::collections::BTreeMap;

/// An election, as long as etcd's default, and a second to carry it out.
const PATIENCE: Nanos = 2 * SECOND;

/// What the operations on one lease prove.
#[derive(Default)]
struct Lease<'a> {
    /// Time to live that was granted.
    ttl: Nanos,
    /// Grants and renewals that were acknowledged.
    renewed: Vec<&'a Op>,
    /// Grants and renewals that may have been carried out.
    tried: Vec<&'a Op>,
    /// Renewals answered with the lease being gone.
    refused: Vec<&'a Op>,
    revokes: Vec<&'a Op>,
}

impl<'a> Lease<'a> {
    /// Until when the lease certainly lives, from what was acknowledged of the
    /// renewals sent before `at`; and which proves it.
    fn sure(&self, at: Nanos) -> Option<(Nanos, &'a Op)> {
        let before = self.renewed.iter().filter(|op| op.start <= at);
        before
            .map(|op| (op.start + self.ttl, *op))
            .max_by_key(|s| s.0)
    }

    /// True when a revocation may have ended it before `at`.
    fn revoked(&self, at: Nanos) -> bool {
        let may = |op: &&'a Op| !matches!(op.out, Outcome::Fail { .. }) && op.start < at;
        self.revokes.iter().any(may)
    }

    /// The last moment before `at` at which a renewal may have been carried out.
    fn touched(&self, at: Nanos) -> Option<Nanos> {
        let before = self.tried.iter().filter(|op| op.start < at);
        before.map(|op| op.end.min(at)).max()
    }
}

/// When the cluster carried out writes, from those that were acknowledged.
struct Writes {
    /// Begin, and the first end of this write and all that began after it; by
    /// begin.
    ends: Vec<(Nanos, Nanos)>,
}

impl Writes {
    fn of(history: &History) -> Writes {
        let acknowledged = history.ops.iter().filter(|op| op.made_revision());
        let mut ends: Vec<_> = acknowledged.map(|op| (op.start, op.end)).collect();
        ends.sort_unstable();
        let mut first = Nanos::MAX;
        for (_, end) in ends.iter_mut().rev() {
            first = first.min(*end);
            *end = first;
        }
        Writes { ends }
    }

    /// When the first write was acknowledged that began at `from` or later:
    /// before that nothing shows that there was a leader. `from` if there is none.
    fn since(&self, from: Nanos) -> Nanos {
        let next = self.ends.partition_point(|(start, _)| *start < from);
        self.ends.get(next).map_or(from, |(_, end)| *end)
    }
}

pub fn check(history: &History, replayed: &Replayed) -> Finding {
    let mut finding = Finding::new("leases");
    let leases = collect(history);
    let seen = Seen::new(history);
    let writes = Writes::of(history);
    let mut latest = 0;
    for (id, rev) in &replayed.expired {
        let Some(lease) = leases.get(id) else {
            finding.violation(
                format!("revision {rev} ended lease {id}, which nobody had asked for"),
                &[],
            );
            continue;
        };
        let Some(at) = seen.first(*rev) else { continue };
        early(*id, *rev, at, lease, &mut finding);
        if let Some(late) = late(lease, at, history, &writes) {
            latest = latest.max(late);
            if late > PATIENCE {
                finding.violation(
                    format!(
                        "lease {id} ended at revision {rev}, seen at {} s, {} s after its time at the latest",
                        seconds(at),
                        seconds(late)
                    ),
                    &lease.tried.iter().map(|op| op.id).collect::<Vec<_>>(),
                );
            }
        }
    }
    for (id, lease) in &leases {
        answers(*id, lease, &mut finding);
        renewed_in_vain(*id, lease, &mut finding);
    }
    left(history, replayed, &leases, &writes, &mut finding);
    finding.summary = format!(
        "leases={} renewals={} expired={} latest={} s",
        leases.len(),
        leases.values().map(|l| l.renewed.len()).sum::<usize>(),
        replayed.expired.len(),
        seconds(latest)
    );
    finding.rests_on("leases", leases.len());
    finding
}

fn collect(history: &History) -> BTreeMap<i64, Lease<'_>> {
    let mut leases: BTreeMap<i64, Lease<'_>> = BTreeMap::new();
    for op in &history.ops {
        let Request::Lease(request) = &op.req else {
            continue;
        };
        let (LeaseReq::Grant { id, .. } | LeaseReq::Renew { id } | LeaseReq::Revoke { id }) =
            request;
        let lease = leases.entry(*id).or_default();
        if let LeaseReq::Revoke { .. } = request {
            lease.revokes.push(op);
            continue;
        }
        if let LeaseReq::Grant { ttl, .. } = request {
            lease.ttl = u64::try_from(*ttl).unwrap_or(0) * SECOND;
        }
        match &op.out {
            Outcome::Ok {
                reply: Reply::Lease { ttl },
                ..
            } if *ttl > 0 => {
                lease.renewed.push(op);
                lease.tried.push(op);
            }
            Outcome::Ok { .. } => lease.refused.push(op),
            Outcome::Unknown { .. } => lease.tried.push(op),
            Outcome::Fail { .. } => {}
        }
    }
    leases
}

fn early(id: i64, rev: i64, at: Nanos, lease: &Lease<'_>, finding: &mut Finding) {
    if lease.revoked(at) {
        return;
    }
    if let Some((until, op)) = lease.sure(at)
        && at < until
    {
        finding.violation(
            format!(
                "lease {id} ended at revision {rev}, seen at {} s, though it was renewed until {} s: {} s early",
                seconds(at),
                seconds(until),
                seconds(until - at)
            ),
            &[op.id],
        );
    }
    if let Some(op) = lease.renewed.iter().find(|op| op.start > at) {
        finding.violation(
            format!(
                "lease {id} was renewed though its end at revision {rev} had been seen at {} s",
                seconds(at)
            ),
            &[op.id],
        );
    }
}

/// By how much the end came after the latest moment that is explained.
fn late(lease: &Lease<'_>, at: Nanos, history: &History, writes: &Writes) -> Option<Nanos> {
    let touched = lease.touched(at)?;
    let mut due = touched + lease.ttl;
    // A fault may bring a new leader, and with it the whole time again; on a
    // slow machine it is long in coming.
    for fault in &history.faults {
        let over = fault.injected != Injected::Skipped && fault.end >= touched;
        if over && fault.start <= at {
            due = due.max(writes.since(fault.end) + lease.ttl);
        }
    }
    Some(at.saturating_sub(due))
}

/// A renewal may be refused only when the lease may be gone.
fn answers(id: i64, lease: &Lease<'_>, finding: &mut Finding) {
    for op in &lease.refused {
        if lease.revoked(op.end) {
            continue;
        }
        // Only what was acknowledged before this was asked is certain here.
        let before = lease.renewed.iter().filter(|r| r.end <= op.start);
        let until = before.map(|r| r.start + lease.ttl).max();
        if until.is_some_and(|until| op.end < until) {
            finding.violation(
                format!(
                    "lease {id} was said to be gone at {} s, though it was renewed until {} s",
                    seconds(op.end),
                    seconds(until.unwrap_or(0))
                ),
                &[op.id],
            );
        }
    }
}

/// Who was told that a lease was revoked must not be told afterwards that it
/// was renewed.
fn renewed_in_vain(id: i64, lease: &Lease<'_>, finding: &mut Finding) {
    let revoked = lease.revokes.iter();
    let told = revoked.filter(|op| matches!(op.out, Outcome::Ok { .. }));
    let Some(first) = told.min_by_key(|op| op.end) else {
        return;
    };
    for op in lease.renewed.iter().filter(|op| op.start > first.end) {
        finding.violation(
            format!(
                "lease {id} was renewed at {} s though it had been revoked by {} s",
                seconds(op.end),
                seconds(first.end)
            ),
            &[first.id, op.id],
        );
    }
}

/// What is still attached at the end must be attached to living leases.
fn left(
    history: &History,
    replayed: &Replayed,
    leases: &BTreeMap<i64, Lease<'_>>,
    writes: &Writes,
    finding: &mut Finding,
) {
    let scans = history
        .ops
        .iter()
        .filter(|op| op.load == Load::Final && op.revision().is_some() && op.linearizable());
    let Some(at) = scans.map(|op| op.start).max() else {
        return;
    };
    for kv in replayed.left.iter().filter(|kv| kv.lease != 0) {
        let Some(lease) = leases.get(&kv.lease) else {
            finding.violation(
                format!(
                    "{:?} is attached to lease {}, which nobody had asked for",
                    kv.key, kv.lease
                ),
                &[],
            );
            continue;
        };
        if let Some(late) = late(lease, at, history, writes)
            && late > PATIENCE
        {
            finding.violation(
                format!(
                    "lease {} has not ended {} s after its time: {:?} is still there",
                    kv.lease,
                    seconds(late),
                    kv.key
                ),
                &lease.tried.iter().map(|op| op.id).collect::<Vec<_>>(),
            );
        }
    }
}
