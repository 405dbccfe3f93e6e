//! Checkers: each takes a history and says what in it cannot be.
//!
//! They know the etcd API's promises and nothing of the run: no clocks, no
//! processes, no network. A finding that is neither proof of a fault nor
//! a pass (evidence missing, fault not seen) is incomplete, and an incomplete
//! run is not a pass.

pub mod auth;
pub mod availability;
pub mod compaction;
pub mod coverage;
pub mod cycles;
pub mod damage;
pub mod finals;
pub mod leases;
pub mod least;
pub mod locks;
pub mod logs;
pub mod member_ids;
pub mod model;
pub mod numbers;
pub mod objects;
pub mod realtime;
pub mod register;
pub mod replay;
pub mod resolve;
pub mod seen;
pub mod set;
pub mod watch;
pub mod wgl;
pub mod windows;

#[cfg(test)]
mod tests;

use crate::history::History;
use std::path::Path;

/// Anomalies kept in full for each check; the rest are counted.
const KEPT: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Incomplete,
    Violation,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "PASS",
            Verdict::Incomplete => "INCOMPLETE",
            Verdict::Violation => "VIOLATION",
        }
    }
}

/// Something that cannot be, and the operations that show it.
#[derive(Clone, Debug)]
pub struct Anomaly {
    pub why: String,
    /// Ids of operations.
    pub ops: Vec<u64>,
}

#[derive(Clone, Debug)]
pub struct Finding {
    pub check: &'static str,
    pub verdict: Verdict,
    /// Counts, on one line.
    pub summary: String,
    pub anomalies: Vec<Anomaly>,
    /// All anomalies, those not kept included.
    pub total: usize,
    /// Why the check could not decide.
    pub gaps: Vec<String>,
    /// What the verdict rests on; see [`least`].
    pub evidence: Vec<(&'static str, usize)>,
}

impl Finding {
    pub fn new(check: &'static str) -> Finding {
        Finding {
            check,
            verdict: Verdict::Pass,
            summary: String::new(),
            anomalies: Vec::new(),
            total: 0,
            gaps: Vec::new(),
            evidence: Vec::new(),
        }
    }

    /// States how much of something the verdict rests on.
    pub fn rests_on(&mut self, what: &'static str, seen: usize) {
        self.evidence.push((what, seen));
    }

    pub fn violation(&mut self, why: String, ops: &[u64]) {
        self.verdict = Verdict::Violation;
        self.total += 1;
        if self.anomalies.len() < KEPT {
            self.anomalies.push(Anomaly {
                why,
                ops: ops.to_vec(),
            });
        }
    }

    /// True when a further anomaly would only be counted, so that nobody needs
    /// to look for its reasons.
    pub fn full(&self) -> bool {
        self.anomalies.len() >= KEPT
    }

    pub fn incomplete(&mut self, why: String) {
        if self.verdict == Verdict::Pass {
            self.verdict = Verdict::Incomplete;
        }
        if self.gaps.len() < KEPT {
            self.gaps.push(why);
        }
    }

    pub fn line(&self) -> String {
        let more = if self.total > 0 {
            format!(" anomalies={}", self.total)
        } else {
            String::new()
        };
        format!(
            "{:<10} {:<22} {}{more}",
            self.verdict.name(),
            self.check,
            self.summary
        )
    }
}

/// The worst verdict of all.
pub fn overall(findings: &[Finding]) -> Verdict {
    let has = |v| findings.iter().any(|f| f.verdict == v);
    if has(Verdict::Violation) {
        Verdict::Violation
    } else if has(Verdict::Incomplete) {
        Verdict::Incomplete
    } else {
        Verdict::Pass
    }
}

/// All checks over one history and the members' logs.
pub fn check(history: &History, logs: &Path) -> Vec<Finding> {
    let replayed = replay::replay(history);
    let mut findings = vec![numbers::check(history)];
    findings.push(leases::check(history, &replayed));
    findings.push(windows::check(history, &replayed.done));
    findings.push(realtime::check(history, &replayed.placed));
    findings.push(realtime::check_stale(history));
    findings.push(register::check(history));
    findings.push(set::check(history));
    findings.push(cycles::check(history));
    findings.push(locks::check(history));
    findings.extend(set::check_unsafe(history));
    findings.push(auth::check(history));
    if !history.objects.is_empty() {
        findings.push(objects::check(history, &replayed.done));
    }
    findings.push(compaction::check(history));
    findings.push(finals::check(history));
    findings.push(member_ids::check(history));
    findings.push(damage::check(history));
    findings.push(coverage::check(history));
    findings.push(logs::check(history, logs));
    findings.push(availability::check(history));
    findings.splice(1..1, replayed.findings);
    least::demand(history, &mut findings);
    findings
}
