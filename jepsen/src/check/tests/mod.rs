//! Hand-made histories: for every check, invalid ones that it must reject
//! with the right explanation, and valid ones, unknown outcomes among them,
//! that it must accept.

#![allow(clippy::unwrap_used)]

mod borders;
mod cycles;
mod damages;
mod ending;
mod evidence;
mod leases;
mod objects;
mod orders;
mod registers;
mod replays;
mod rights;
mod script;
mod sets;
mod watches;
mod windows;

use super::{Finding, Verdict};

fn accepted(finding: &Finding) {
    assert_eq!(finding.verdict, Verdict::Pass, "{finding:#?}");
}

fn rejected(finding: &Finding, why: &str) {
    assert_eq!(finding.verdict, Verdict::Violation, "{finding:#?}");
    let found = finding.anomalies.iter().any(|a| a.why.contains(why));
    assert!(found, "no anomaly says {why:?}: {finding:#?}");
}

fn undecided(finding: &Finding, why: &str) {
    assert_eq!(finding.verdict, Verdict::Incomplete, "{finding:#?}");
    assert!(
        finding.gaps.iter().any(|g| g.contains(why)),
        "no gap says {why:?}: {finding:#?}"
    );
}
