//! The end of a run, after healing: every member answers, every operation
//! succeeds, and all members hold the same.

use super::Finding;
use crate::history::History;
use crate::history::op::{Load, Outcome};
use crate::history::record::Phase;
use std::collections::BTreeMap;

pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("final-phase");
    let Some(members) = history.meta.as_ref().map(|m| m.members) else {
        finding.incomplete("the cluster never came up".into());
        return finding;
    };
    if history.phase(Phase::AllHealthy).is_none() {
        finding.violation(
            "not every member answered in time after all faults were undone".into(),
            &[],
        );
    }
    let ops: Vec<_> = history
        .ops
        .iter()
        .filter(|op| op.load == Load::Final)
        .collect();
    for op in &ops {
        if let Outcome::Fail { error, .. } | Outcome::Unknown { error } = &op.out {
            let why = format!(
                "after healing, an operation on m{} did not succeed: {error}",
                op.member
            );
            finding.violation(why, &[op.id]);
        }
    }
    if ops.is_empty() {
        finding.incomplete("no final operations".into());
    }
    finding.rests_on("final operations", ops.len());
    let compared = hashes(history, members, &mut finding);
    finding.summary = format!("operations={} hash={compared}", ops.len());
    finding
}

/// HashKV of all members at equal revision and compaction floor. Returns what
/// to print.
fn hashes(history: &History, members: usize, finding: &mut Finding) -> String {
    if history.hashes.iter().any(|h| h.unimplemented) {
        finding.incomplete("the server has no HashKV".into());
        return "unimplemented".into();
    }
    let mut groups: BTreeMap<(i64, i64), BTreeMap<usize, u32>> = BTreeMap::new();
    for hash in history.hashes.iter().filter(|h| h.error.is_none()) {
        groups
            .entry((hash.rev, hash.compact))
            .or_default()
            .insert(hash.member, hash.hash);
    }
    let mut compared = None;
    for ((rev, compact), hashes) in &groups {
        let mut values: Vec<u32> = hashes.values().copied().collect();
        values.dedup();
        if values.len() > 1 {
            let list: Vec<String> = hashes
                .iter()
                .map(|(m, h)| format!("m{m}={h:08x}"))
                .collect();
            let why = format!(
                "HashKV differs at revision {rev}, floor {compact}: {}",
                list.join(" ")
            );
            finding.violation(why, &[]);
        }
        if hashes.len() == members {
            compared = Some(format!(
                "{members}x{:08x}@{rev}/{compact}",
                values.first().copied().unwrap_or(0)
            ));
        }
    }
    compared.unwrap_or_else(|| {
        let errors: Vec<String> = history
            .hashes
            .iter()
            .filter_map(|h| h.error.as_ref().map(|e| format!("m{}: {e}", h.member)))
            .collect();
        let floors: Vec<String> = groups
            .iter()
            .map(|((r, c), m)| format!("{r}/{c} on {:?}", m.keys()))
            .collect();
        finding.violation(
            format!(
                "no revision and floor at which all {members} members gave a HashKV: {} {}",
                floors.join(", "),
                errors.join("; ")
            ),
            &[],
        );
        "none".into()
    })
}
