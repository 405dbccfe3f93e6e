//! The least evidence that each check takes to pass. A run that has less is
//! incomplete: what was not looked at was not shown to be right.

use super::Finding;
use crate::history::History;

/// A check, what its verdict rests on, the workloads that must give it (none
/// for all of them), and how much of it.
type Row = (&'static str, &'static str, &'static [&'static str], usize);

/// Workloads that ask the store itself.
const STORE: &[&str] = &[
    "register",
    "set",
    "append",
    "readwrite",
    "history",
    "lease",
    "lock",
    "lock-unsafe",
    "watch",
    "kubernetes",
    "auth",
    "mixed",
];

const LEAST: [Row; 31] = [
    ("objects", "objects written", &["objects"], 50),
    ("objects", "lists", &["objects"], 20),
    (
        "objects",
        "watches that told the last object",
        &["objects"],
        3,
    ),
    ("objects", "events told", &["objects"], 100),
    ("operations", "operations that succeeded", STORE, 100),
    ("acknowledged-writes", "acknowledged writes", STORE, 30),
    ("revisions", "explained revisions", STORE, 30),
    ("replies", "compared replies", STORE, 100),
    ("watch", "events", &[], 30),
    ("real-time-order", "ordered operations", STORE, 100),
    ("serializable-order", "serializable reads", &[], 3),
    (
        "serializable-order",
        "serializable reads",
        &["history"],
        100,
    ),
    ("leases", "leases", &["lease", "lock", "lock-unsafe"], 5),
    ("leases", "leases", &["mixed"], 2),
    (
        "watch-windows",
        "windows with an answered last question",
        &["watch"],
        4,
    ),
    ("watch-windows", "events in windows", &["watch"], 100),
    (
        "watch-windows",
        "windows with an answered last question",
        &["kubernetes", "mixed"],
        1,
    ),
    (
        "registers",
        "operations on registers",
        &["register", "mixed", "watch"],
        100,
    ),
    ("sets", "reads of sets", &["set", "lock", "mixed"], 5),
    (
        "sets",
        "acknowledged elements",
        &["set", "lock", "mixed"],
        5,
    ),
    ("cycles", "transactions", &["append"], 100),
    ("cycles", "transactions", &["mixed"], 30),
    ("locks", "locks held", &["lock", "lock-unsafe"], 3),
    (
        "compaction",
        "compactions",
        &["history", "watch", "kubernetes", "mixed"],
        1,
    ),
    ("rights", "changes of rights", &["auth"], 20),
    ("rights", "requests served to users", &["auth"], 50),
    ("rights", "certain denials", &["auth"], 50),
    ("rights", "logins", &["auth"], 10),
    ("availability", "milliseconds without a fault", &[], 200),
    ("final-phase", "final operations", &[], 8),
    ("logs-and-exits", "lines of logs", &[], 1),
];

/// Whatever has less than its rows ask for is incomplete.
pub fn demand(history: &History, findings: &mut [Finding]) {
    let Some(meta) = &history.meta else { return };
    for (check, what, workloads, least) in LEAST {
        let meant = workloads.is_empty() || workloads.contains(&meta.workload.as_str());
        let Some(finding) = findings.iter_mut().find(|f| f.check == check) else {
            continue;
        };
        let given = finding.evidence.iter().filter(|(of, _)| *of == what);
        let seen = given.map(|(_, seen)| *seen).sum::<usize>();
        if meant && seen < least {
            finding.incomplete(format!("{seen} {what}; at least {least} are needed"));
        }
    }
}
