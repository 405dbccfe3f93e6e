//! Ids of members: one that was removed has had its id, and no member that is
//! added later may get it, not even on the same address.

use super::Finding;
use crate::clock::seconds;
use crate::history::History;
use std::collections::BTreeMap;

pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("member-ids");
    let mut known: BTreeMap<u64, usize> = BTreeMap::new();
    let mut added = 0;
    for change in &history.changes {
        let before = known.insert(change.id, change.member);
        if !change.added {
            continue;
        }
        added += 1;
        if let Some(before) = before {
            finding.violation(
                format!(
                    "m{} was added at {} s with the id {:x}, which m{before} had had before",
                    change.member,
                    seconds(change.at),
                    change.id
                ),
                &[],
            );
        }
    }
    finding.summary = format!("added={added} ids={}", known.len());
    finding
}
