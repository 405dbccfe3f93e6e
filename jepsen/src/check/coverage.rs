//! Fault coverage: a run without the faults it promised proves nothing.

use super::Finding;
use super::numbers::{Windows, during};
use crate::history::History;
use crate::history::record::{Fault, Injected};
use crate::nemesis::kind::Kind;

pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("fault-coverage");
    let Some(meta) = &history.meta else {
        finding.incomplete("the history does not say what it promised".into());
        return finding;
    };
    let installed = |f: &&Fault| f.injected == Injected::Installed;
    for kind in &meta.faults {
        let of_kind = || {
            history
                .faults
                .iter()
                .filter(|f| f.kind == *kind)
                .filter(installed)
        };
        let aims = kind.parse::<Kind>().is_ok_and(Kind::aims_at_leader);
        if of_kind().next().is_none() {
            finding.incomplete(format!("{kind} was promised and never seen to be in place"));
        } else if aims && !of_kind().any(|f| f.hit_leader) {
            finding.incomplete(format!("{kind} never hit a leader"));
        }
    }
    let done = history.faults.iter().filter(installed).count();
    if done < meta.times as usize {
        finding.incomplete(format!(
            "{} faults were promised, {done} were seen to be in place",
            meta.times
        ));
    }
    let windows = Windows::of(&history.faults);
    let objects = history.objects.iter();
    let objects = objects
        .filter(|op| windows.overlap(op.start, op.end))
        .count();
    let under_fault = during(&history.ops, &windows) + objects;
    if !meta.faults.is_empty() && under_fault == 0 {
        finding.incomplete("no operation ran during a fault".into());
    }
    finding.summary = format!(
        "installed={done} of {} {}",
        history.faults.len(),
        tally(&history.faults)
    );
    finding
}

/// How many of each kind, those that hit a leader in brackets.
fn tally(faults: &[Fault]) -> String {
    let mut kinds: Vec<&str> = faults.iter().map(|f| f.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let count = |kind: &str, leader: bool| {
        faults
            .iter()
            .filter(|f| {
                f.kind == kind && f.injected == Injected::Installed && (f.hit_leader || !leader)
            })
            .count()
    };
    let one = |kind: &&str| format!("{kind}={}({})", count(kind, false), count(kind, true));
    kinds.iter().map(one).collect::<Vec<_>>().join(" ")
}
