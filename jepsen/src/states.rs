//! States that the store must have been in for a night of runs to have shown
//! anything of them. A build with planted bugs marks them in its code, and says
//! in the log of a member when it reaches one for the first time.

use crate::check::Verdict;
use crate::run::LOGS;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const MARK: &str = "reached: ";

pub const STATES: [&str; 34] = [
    "compacted-to-the-head",
    "configuration-changed",
    "deletion-at-the-floor",
    "end-of-a-lease-refused",
    "forwarded-and-not-answered",
    "leadership-transferred",
    "lease-ended-with-keys",
    "lease-ended-without-keys",
    "leases-changed-during-an-election",
    "leases-end-together",
    "live-watches-read-the-rows",
    "lock-waited-for",
    "log-replayed",
    "many-commands-in-one-run",
    "nobody-to-forward-to",
    "other-branch-taken",
    "progress-waits-for-the-past",
    "read-at-the-floor",
    "read-below-the-floor",
    "read-of-the-future",
    "read-waits-for-rows",
    "readers-share-a-round",
    "receiver-of-rows-stalled",
    "renewal-without-a-leader",
    "rows-received",
    "rows-sent",
    "token-not-known-yet",
    "users-changed-during-a-login",
    "users-changed-since-the-proposal",
    "watch-below-the-floor",
    "watch-from-the-floor",
    "watch-from-the-future",
    "watch-joins-at-once",
    "watch-joins-from-the-ring",
];

/// Counts the runs that reached each state; one that none reached fails them.
pub fn run(dirs: &[PathBuf]) -> Result<Verdict> {
    let mut counts: BTreeMap<&str, usize> = STATES.iter().map(|state| (*state, 0)).collect();
    for dir in dirs {
        let reached = reached(&dir.join(LOGS))?;
        for (state, count) in &mut counts {
            *count += usize::from(reached.iter().any(|one| one == state));
        }
    }
    Ok(report(&counts, dirs.len()))
}

fn report(counts: &BTreeMap<&str, usize>, runs: usize) -> Verdict {
    for (state, count) in counts {
        println!("{count:>6} {state}");
    }
    let missed = counts.values().filter(|count| **count == 0).count();
    println!(
        "{} of {} states were reached in {runs} runs",
        counts.len() - missed,
        counts.len()
    );
    match missed {
        0 => Verdict::Pass,
        _ => Verdict::Incomplete,
    }
}

/// The states that the members of one run reached.
fn reached(logs: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let list = fs::read_dir(logs).with_context(|| format!("list {}", logs.display()))?;
    for entry in list {
        let text = fs::read(entry?.path())?;
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().filter_map(|line| line.strip_prefix(MARK));
        found.extend(lines.map(str::to_string));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_state_that_no_run_reached_fails_all() {
        let base = std::env::temp_dir().join(format!("jepsen-states-{}", std::process::id()));
        let (first, second) = (base.join("1"), base.join("2"));
        let write = |dir: &Path, states: &[&str]| {
            fs::create_dir_all(dir.join(LOGS)).unwrap();
            let lines: String = states
                .iter()
                .map(|state| format!("{MARK}{state}\n"))
                .collect();
            fs::write(dir.join(LOGS).join("m0.log"), lines).unwrap();
        };
        let (most, last) = STATES.split_at(STATES.len() - 1);
        write(&first, most);
        write(&second, &[]);
        let both = [first, second.clone()];
        assert_eq!(run(&both).unwrap(), Verdict::Incomplete);
        write(&second, last);
        assert_eq!(run(&both).unwrap(), Verdict::Pass);
        fs::remove_dir_all(&base).unwrap();
    }
}
