//! What a run must show at the least, and availability.

use super::script::*;
use super::{accepted, rejected, undecided};
use crate::check::least::demand;
use crate::check::{Finding, Verdict, availability, check};
use crate::clock::SECOND;
use crate::history::History;
use crate::history::record::{Fault, Injected, Meta, Phase};
use std::path::Path;

fn meta(workload: &str) -> Meta {
    Meta {
        command: String::new(),
        binary: String::new(),
        version: String::new(),
        seed: 1,
        members: 1,
        clients: 1,
        workload: workload.into(),
        faults: Vec::new(),
        times: 0,
    }
}

/// What passes although nothing happened; it judges what is not there.
fn passes_empty(workload: &str) -> Vec<&'static str> {
    let history = History {
        meta: Some(meta(workload)),
        ..History::default()
    };
    let findings = check(&history, Path::new("/nowhere"));
    findings
        .iter()
        .filter(|f| f.verdict == Verdict::Pass)
        .map(|f| f.check)
        .collect()
}

#[test]
fn nothing_is_no_evidence() {
    // Whether ids are used again, and whether the faults of a run without any
    // were seen.
    let none = ["member-ids", "fault-coverage"];
    let passed = |workload: &str, check: &str| passes_empty(workload).contains(&check);
    for workload in [
        "mixed", "register", "watch", "lease", "auth", "lock", "history",
    ] {
        for check in [
            "operations",
            "acknowledged-writes",
            "revisions",
            "replies",
            "watch",
            "real-time-order",
            "serializable-order",
            "availability",
            "final-phase",
            "logs-and-exits",
        ] {
            assert!(!passed(workload, check), "{check} of {workload}");
        }
        assert!(none.iter().all(|check| passed(workload, check)));
    }
    for (workload, check) in [
        ("lease", "leases"),
        ("watch", "watch-windows"),
        ("register", "registers"),
        ("lock", "sets"),
        ("lock", "locks"),
        ("append", "cycles"),
        ("history", "compaction"),
        ("auth", "rights"),
        ("mixed", "watch-windows"),
    ] {
        assert!(!passed(workload, check), "{check} of {workload}");
    }
}

#[test]
fn each_minimum_is_a_border() {
    let history = |workload| History {
        meta: Some(meta(workload)),
        ..History::default()
    };
    let resting = |seen| {
        let mut finding = Finding::new("cycles");
        finding.rests_on("transactions", seen);
        [finding]
    };
    let mut enough = resting(100);
    demand(&history("append"), &mut enough);
    accepted(&enough[0]);
    let mut less = resting(99);
    demand(&history("append"), &mut less);
    undecided(&less[0], "99 transactions; at least 100 are needed");
    // Where nobody promised them, there need be none.
    let mut none = resting(0);
    demand(&history("lease"), &mut none);
    accepted(&none[0]);
}

/// A success in every half second, but for these seconds.
fn busy(without: std::ops::Range<u64>) -> Script {
    let mut s = Script::default();
    s.history.meta = Some(meta("register"));
    s.history.phases = vec![(0, Phase::LoadStart), (60 * SECOND, Phase::LoadEnd)];
    for half in (0..120).filter(|half| !without.contains(&(half / 2))) {
        let at = half * SECOND / 2;
        s.ok(at, at + 1, put("a", &half.to_string()));
    }
    s
}

#[test]
fn a_member_that_serves_is_accepted() {
    accepted(&availability::check(&busy(0..0).history));
    accepted(&availability::check(&busy(20..30).history));
}

#[test]
fn silence_without_a_fault_is_rejected() {
    let mut s = busy(20..40);
    rejected(
        &availability::check(&s.history),
        "m0 served nothing for 20.500 s without a fault",
    );
    s.history.faults = vec![Fault {
        kind: "pause-random".into(),
        members: vec![0],
        hit_leader: false,
        start: 20 * SECOND,
        end: 39 * SECOND,
        injected: Injected::Installed,
        kills: 0,
        detail: String::new(),
    }];
    accepted(&availability::check(&s.history));
}

#[test]
fn a_member_that_serves_too_little_is_rejected() {
    let mut s = busy(0..0);
    s.history.ops.retain(|op| op.start % (5 * SECOND) == 0);
    rejected(
        &availability::check(&s.history),
        "served 12 requests in 60.000 s",
    );
}

#[test]
fn a_gap_longer_than_any_fault_is_rejected() {
    let mut s = busy(10..60);
    s.history.phases[1].0 = 140 * SECOND;
    rejected(
        &availability::check(&s.history),
        "no write was acknowledged for 130",
    );
}
