//! Members' logs and ends: a fatal line, or a process that ended though
//! nobody asked it to, fails the run.

use super::Finding;
use crate::history::History;
use crate::history::record::{Exit, Fault};
use crate::nemesis::kind::Kind;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Signs of a crash in the logs of Go and Rust programs.
const FATAL: [&str; 11] = [
    "\"level\":\"fatal\"",
    "\"level\":\"panic\"",
    "\"level\":\"dpanic\"",
    "fatal error: ",
    "SIGSEGV",
    "[signal SIG",
    "panicked at",
    "fatal runtime error",
    "has overflowed its stack",
    "memory allocation of",
    "data race",
];
const LONGEST: usize = 400;

pub fn check(history: &History, logs: &Path) -> Finding {
    let mut finding = Finding::new("logs-and-exits");
    // What a fault may do to a member's process is no fault of the process.
    let may_end = |f: &Fault| f.kind.parse::<Kind>().is_ok_and(Kind::may_end_it);
    let explained = |e: &Exit| {
        let over = |f: &Fault| f.members.contains(&e.member) && (f.start..=f.end).contains(&e.at);
        history.faults.iter().any(|f| may_end(f) && over(f))
    };
    let unasked = history.exits.iter().filter(|e| !e.asked && !explained(e));
    for exit in unasked.clone() {
        finding.violation(
            format!(
                "the process of m{} ended by itself: {}",
                exit.member, exit.status
            ),
            &[],
        );
    }
    // A fatal line is excused in the log of a process that such a fault ended.
    let excused = |member: usize, start: usize| {
        let mut exits = history.exits.iter().filter(|e| e.member == member);
        exits.nth(start).is_some_and(explained)
    };
    let mut pardoned = 0;
    let members = history.meta.as_ref().map_or(0, |m| m.members);
    let mut lines = 0;
    for member in 0..members {
        let path = logs.join(format!("m{member}.log"));
        match scan(&path) {
            Ok((count, fatal)) => {
                lines += count;
                for (start, line) in fatal {
                    if excused(member, start) {
                        pardoned += 1;
                    } else {
                        finding.violation(format!("m{member}.log: {line}"), &[]);
                    }
                }
            }
            Err(e) => finding.incomplete(format!("{}: {e}", path.display())),
        }
    }
    // Nothing may end a server of the resource API but SIGKILL.
    for server in 0.. {
        let Ok((count, fatal)) = scan(&logs.join(format!("a{server}.log"))) else {
            break;
        };
        lines += count;
        for (_, line) in fatal {
            finding.violation(format!("a{server}.log: {line}"), &[]);
        }
    }
    finding.rests_on("lines of logs", lines);
    finding.summary = format!(
        "lines={lines} exits={} unasked={} fatal-lines-of-damaged-members={pardoned}",
        history.exits.len(),
        unasked.count()
    );
    finding
}

/// Before the output of each process.
const START: &[u8] = b"=== start ";

/// How many lines there are, and the fatal ones, each with the number of the
/// process before it.
fn scan(path: &Path) -> std::io::Result<(usize, Vec<(usize, String)>)> {
    let mut lines = 0;
    let mut starts = 0_usize;
    let mut fatal = Vec::new();
    for (number, line) in BufReader::new(File::open(path)?).split(b'\n').enumerate() {
        let line = line?;
        lines += 1;
        starts += usize::from(line.starts_with(START));
        if is_fatal(&String::from_utf8_lossy(&line)) {
            let text: String = String::from_utf8_lossy(&line)
                .chars()
                .take(LONGEST)
                .collect();
            let line = format!("line {}: {text}", number + 1);
            fatal.push((starts.saturating_sub(1), line));
        }
    }
    Ok((lines, fatal))
}

pub fn is_fatal(line: &str) -> bool {
    line.starts_with("panic: ") || FATAL.iter().any(|sign| line.contains(sign))
}
