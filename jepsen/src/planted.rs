//! Proves the harness itself: runs a build of the store with one bug planted
//! at a time, and each run must end in a violation.
//!
//! The bugs are named in `MIZZEN_PLANTED`, which the store heeds only in a
//! build with the feature `planted`. The table says for each which workload
//! and faults are to find it; the same command without the bug must pass.

use crate::check::Verdict;
use crate::cli::PlantedArgs;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const VARIABLE: &str = "MIZZEN_PLANTED";

pub struct Bug {
    pub name: &'static str,
    pub workload: &'static str,
    pub fault: &'static str,
    /// Seconds under load.
    time: u32,
    /// Seconds from fault to fault.
    interval: u32,
    /// Further flags of the members, without which the bug would not matter in
    /// so short a run.
    flags: &'static [&'static str],
}

const fn bug(name: &'static str, workload: &'static str, time: u32) -> Bug {
    faulty(name, workload, "none", time, 5)
}

const fn faulty(
    name: &'static str,
    workload: &'static str,
    fault: &'static str,
    time: u32,
    interval: u32,
) -> Bug {
    Bug {
        name,
        workload,
        fault,
        time,
        interval,
        flags: &[],
    }
}

/// Loss of power again and again, with rows made durable every second.
const fn powerless(name: &'static str, time: u32) -> Bug {
    Bug {
        flags: &["--snapshot-count=20"],
        ..faulty(name, "register", "power-loss", time, 3)
    }
}

/// Members that come back empty and are sent the rows, not the log.
const fn copied(name: &'static str, workload: &'static str) -> Bug {
    Bug {
        flags: &["--snapshot-count=50", "--snapshot-catchup-entries=5"],
        ..faulty(name, workload, "member-replace", 40, 6)
    }
}

/// Members that lag behind the log and are sent the rows.
const fn lagging(name: &'static str, workload: &'static str) -> Bug {
    Bug {
        flags: &["--snapshot-count=50", "--snapshot-catchup-entries=5"],
        ..faulty(name, workload, "pause-random", 40, 5)
    }
}

pub const BUGS: [Bug; 50] = [
    bug("skipped-revision", "register", 8),
    bug("repeated-revision", "register", 8),
    bug("older-prev-kv", "register", 8),
    bug("only-first-compare", "append", 8),
    bug("write-lost-on-one-member", "register", 8),
    bug("no-more", "history", 8),
    bug("compacts-one-more", "history", 15),
    bug("half-revision-watched", "readwrite", 8),
    bug("watch-gap", "watch", 40),
    bug("watch-repeats", "watch", 15),
    bug("early-progress", "watch", 15),
    bug("stale-follower-read", "register", 8),
    bug("read-joins-sent-round", "register", 15),
    faulty("stale-leader-read", "register", "partition-leader", 120, 5),
    faulty("write-sent-again", "register", "kill-leader,reset", 40, 4),
    powerless("acknowledged-before-written", 120),
    powerless("log-not-synced", 40),
    powerless("torn-tail-accepted", 90),
    bug("lease-not-detached", "lease", 25),
    bug("revoke-leaves-key", "lease", 20),
    bug("renewal-forgotten", "lease", 15),
    faulty("early-lease-after-election", "lease", "kill-leader", 40, 5),
    bug("lease-expired-by-follower", "lease", 20),
    faulty("unconfirmed-renewal", "lease", "partition-leader", 300, 9),
    copied("snapshot-without-leases", "lease"),
    faulty("member-id-reused", "register", "member-replace", 120, 4),
    bug("lock-not-waited-for", "lock", 15),
    bug("range-end-unchecked", "auth", 10),
    bug("prev-kv-unchecked", "auth", 20),
    bug("else-branch-unchecked", "auth", 10),
    bug("compares-unchecked", "auth", 10),
    bug("revoked-role-kept", "auth", 10),
    bug("tokens-outlive-passwords", "auth", 20),
    faulty("login-unconfirmed", "auth", "partition-halves", 60, 4),
    lagging("users-not-reloaded", "auth"),
    bug("no-prev-kv", "register", 8),
    bug("watch-stalls", "watch", 15),
    bug("future-watch-told-early", "watch", 20),
    bug("progress-unanswered", "watch", 15),
    bug("compaction-differs", "history", 15),
    bug("apply-depends-on-cut", "register", 15),
    bug("reply-of-newer-rows", "register", 8),
    bug("limit-counted", "history", 8),
    bug("compares-creation", "append", 8),
    bug("compacted-read", "history", 15),
    bug("lease-not-moved", "lease", 25),
    bug("revoked-lease-renewed", "lease", 25),
    bug("update-told-as-deletion", "objects", 15),
    bug("bookmark-ahead", "objects", 25),
    faulty("continue-over-compaction", "objects", "compact", 30, 1),
];

/// Runs what was asked for and prints a row for each run.
pub fn run(args: &PlantedArgs) -> Result<Verdict> {
    for name in &args.bugs {
        ensure!(
            BUGS.iter().any(|bug| bug.name == name),
            "no such bug: {name}"
        );
    }
    let chosen = |bug: &&Bug| args.bugs.is_empty() || args.bugs.iter().any(|n| n == bug.name);
    println!("bug workload fault seed seconds verdict caught-by");
    let mut good = true;
    for bug in BUGS.iter().filter(chosen) {
        for seed in 1..=args.seeds {
            good &= one(args, bug, seed, true)?;
            if args.control {
                good &= one(args, bug, seed, false)?;
            }
        }
    }
    Ok(if good {
        Verdict::Pass
    } else {
        Verdict::Violation
    })
}

/// One run in a process of its own; true when it ended as it must.
fn one(args: &PlantedArgs, bug: &Bug, seed: u64, planted: bool) -> Result<bool> {
    let name = if planted { bug.name } else { "control" };
    let out = directory(args, bug, seed, planted);
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("run")
        .arg("--binary")
        .arg(&args.binary)
        .args(["--workload", bug.workload, "--fault", bug.fault])
        .args(["--time", &format!("{}s", bug.time)])
        .args(["--interval", &format!("{}s", bug.interval)])
        .args(["--seed", &seed.to_string()])
        .arg("--out")
        .arg(&out)
        .args(bug.flags.iter().map(|flag| format!("--server-arg={flag}")))
        .env_remove(VARIABLE)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    if planted {
        command.env(VARIABLE, bug.name);
    }
    if bug.workload == "objects" {
        let apiserver = args.apiserver.as_ref();
        let apiserver = apiserver.with_context(|| format!("{} takes --apiserver", bug.name))?;
        command.arg("--apiserver").arg(apiserver);
    }
    let begun = Instant::now();
    let ended = command.output().context("run this program again")?;
    let took = begun.elapsed();
    let text = String::from_utf8_lossy(&ended.stdout);
    let verdict = match ended.status.code() {
        Some(0) => "PASS",
        Some(1) => "VIOLATION",
        Some(2) => "INCOMPLETE",
        _ => "FAILED",
    };
    let good = verdict == if planted { "VIOLATION" } else { "PASS" };
    row(name, bug, seed, took, verdict, &caught_by(&text));
    // Files are kept only where there is something to be explained.
    if good && out.exists() {
        std::fs::remove_dir_all(&out).with_context(|| format!("remove {}", out.display()))?;
    }
    Ok(good)
}

fn row(name: &str, bug: &Bug, seed: u64, took: Duration, verdict: &str, by: &[&str]) {
    println!(
        "{name} {} {} {seed} {:.0} {verdict} {}",
        bug.workload,
        bug.fault,
        took.as_secs_f64(),
        by.join(",")
    );
}

/// The checks whose lines say that they found a violation.
fn caught_by(text: &str) -> Vec<&str> {
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("VIOLATION"));
    let mut words = lines.filter_map(|rest| rest.split_whitespace().next());
    let mut checks: Vec<&str> = words.by_ref().filter(|word| *word != "report:").collect();
    checks.dedup();
    checks
}

fn directory(args: &PlantedArgs, bug: &Bug, seed: u64, planted: bool) -> PathBuf {
    let kind = if planted { "bug" } else { "control" };
    let name = format!("{}-{seed}-{kind}-{}", bug.name, std::process::id());
    let base = args.out.clone();
    let base = base.unwrap_or_else(|| std::env::temp_dir().join("mizzen-jepsen"));
    Path::new(&base).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::kind;
    use crate::workload;

    #[test]
    fn the_table_names_what_exists() {
        for bug in &BUGS {
            assert!(
                bug.workload.parse::<workload::Kind>().is_ok(),
                "{}",
                bug.name
            );
            assert!(kind::parse(bug.fault).is_ok(), "{}", bug.name);
        }
        let mut names: Vec<&str> = BUGS.iter().map(|bug| bug.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), BUGS.len());
    }

    #[test]
    fn checks_are_read_from_their_lines() {
        let text = "PASS       watch\nVIOLATION  revisions   head=1 anomalies=2\n    why\nVIOLATION  report: /x\n";
        assert_eq!(caught_by(text), vec!["revisions"]);
    }
}
