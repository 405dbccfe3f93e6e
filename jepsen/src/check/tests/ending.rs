//! The final phase, fault coverage and logs.

use super::script::*;
use super::{accepted, rejected, undecided};
use crate::check::logs::is_fatal;
use crate::check::numbers::{Windows, longest_gap};
use crate::check::{coverage, finals, logs, member_ids};
use crate::clock::SECOND;
use crate::history::op::{FailClass, Load};
use crate::history::record::{Change, Exit, Fault, Hash, Injected, Meta, Phase};
use std::path::Path;

fn meta(faults: &[&str], times: u32) -> Meta {
    Meta {
        command: String::new(),
        binary: String::new(),
        version: String::new(),
        seed: 1,
        members: 3,
        clients: 1,
        workload: "mixed".into(),
        faults: faults.iter().map(|f| f.to_string()).collect(),
        times,
    }
}

fn hash(member: usize, rev: i64, compact: i64, hash: u32) -> Hash {
    Hash {
        member,
        at: 0,
        rev,
        compact,
        hash,
        error: None,
        unimplemented: false,
    }
}

fn ended() -> Script {
    let mut s = Script::of(Load::Final);
    s.history.meta = Some(meta(&[], 0));
    s.history.phases = vec![(0, Phase::Healed), (1, Phase::AllHealthy)];
    s.ok(2, 3, put("a", "1"));
    s.history.hashes = (0..3).map(|m| hash(m, 2, 1, 7)).collect();
    s
}

#[test]
fn a_good_end_is_accepted() {
    let mut s = ended();
    accepted(&finals::check(&s.history));
    // What clients did not hear under load is no matter of the end.
    s.load = Some(Load::Register);
    s.unknown(0, 1, put("a", "0"));
    s.fail(0, 1, get("a"), FailClass::Read);
    accepted(&finals::check(&s.history));
}

#[test]
fn differing_or_missing_hashes_are_rejected() {
    let mut s = ended();
    s.history.hashes[1].hash = 8;
    rejected(
        &finals::check(&s.history),
        "HashKV differs at revision 2, floor 1: m0=00000007 m1=00000008",
    );
    let mut s = ended();
    s.history.hashes[2].compact = 0;
    rejected(
        &finals::check(&s.history),
        "no revision and floor at which all 3 members gave a HashKV",
    );
    let mut s = ended();
    s.history.hashes.pop();
    rejected(&finals::check(&s.history), "no revision and floor");
    let mut s = ended();
    s.history.hashes[0].unimplemented = true;
    undecided(&finals::check(&s.history), "no HashKV");
}

#[test]
fn a_final_operation_must_succeed() {
    let mut s = ended();
    s.fail(4, 5, get("a"), FailClass::Read);
    rejected(
        &finals::check(&s.history),
        "after healing, an operation on m0 did not succeed",
    );
    let mut s = ended();
    s.unknown(4, 5, put("a", "2"));
    rejected(&finals::check(&s.history), "did not succeed: timeout");
    let mut s = ended();
    s.history.phases.pop();
    rejected(
        &finals::check(&s.history),
        "not every member answered in time",
    );
}

fn fault(kind: &str, injected: Injected, hit_leader: bool) -> Fault {
    let kind = kind.to_string();
    Fault {
        kind,
        members: vec![0],
        hit_leader,
        start: 10,
        end: 20,
        injected,
        kills: 1,
        detail: String::new(),
    }
}

#[test]
fn promised_faults_must_be_seen() {
    let mut s = Script::default();
    s.ok(12, 13, put("a", "1"));
    s.history.meta = Some(meta(&["kill-leader"], 0));
    undecided(
        &coverage::check(&s.history),
        "kill-leader was promised and never seen",
    );
    s.history.faults = vec![fault("kill-leader", Injected::Skipped, true)];
    undecided(&coverage::check(&s.history), "never seen to be in place");
    s.history.faults = vec![fault("kill-leader", Injected::Installed, false)];
    undecided(
        &coverage::check(&s.history),
        "kill-leader never hit a leader",
    );
    s.history.faults = vec![fault("kill-leader", Injected::Installed, true)];
    accepted(&coverage::check(&s.history));
    s.history.meta = Some(meta(&["kill-leader"], 2));
    undecided(
        &coverage::check(&s.history),
        "2 faults were promised, 1 were seen",
    );
    s.history.meta = Some(meta(&["kill-leader"], 1));
    s.history.ops[0].start = 21;
    s.history.ops[0].end = 22;
    undecided(
        &coverage::check(&s.history),
        "no operation ran during a fault",
    );
}

#[test]
fn fatal_lines_and_unasked_ends_are_found() {
    for line in [
        r#"{"level":"fatal","ts":"2026","msg":"failed to open"}"#,
        "panic: runtime error: index out of range",
        "thread 'main' panicked at src/main.rs:1:1:",
        "[signal SIGSEGV: segmentation violation]",
        "fatal error: all goroutines are asleep - deadlock!",
    ] {
        assert!(is_fatal(line), "{line}");
    }
    for line in [
        r#"{"level":"info","msg":"no panic here"}"#,
        r#"{"level":"warn","error":"fatal"}"#,
        "=== start 1",
    ] {
        assert!(!is_fatal(line), "{line}");
    }
    let mut s = Script::default();
    s.history.exits = vec![Exit {
        member: 1,
        at: 5,
        asked: false,
        status: "exit status: 2".into(),
    }];
    rejected(
        &logs::check(&s.history, Path::new("/nowhere")),
        "the process of m1 ended by itself: exit status: 2",
    );
    // A disk without space under that member explains it, under another not.
    let mut full = fault("disk-full", Injected::Installed, false);
    (full.start, full.end, full.members) = (1, 9, vec![1]);
    s.history.faults = vec![full];
    accepted(&logs::check(&s.history, Path::new("/nowhere")));
    s.history.faults[0].members = vec![2];
    rejected(
        &logs::check(&s.history, Path::new("/nowhere")),
        "ended by itself",
    );
}

#[test]
fn logs_are_read() {
    let dir = std::env::temp_dir().join(format!("jepsen-logs-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let fatal = "{\"level\":\"info\"}\n{\"level\":\"panic\",\"msg\":\"lost\"}\n";
    for (member, text) in [(0, "=== start 1\n"), (1, fatal), (2, "")] {
        std::fs::write(dir.join(format!("m{member}.log")), text).unwrap();
    }
    let mut s = Script::default();
    s.history.meta = Some(meta(&[], 0));
    rejected(&logs::check(&s.history, &dir), "m1.log: line 2: {\"level\"");
    s.history.faults = vec![fault("kill-random", Injected::Installed, false)];
    s.history.faults[0].members = vec![1];
    rejected(&logs::check(&s.history, &dir), "m1.log: line 2");
    // A member whose files were damaged may say so.
    s.history.faults[0].kind = "flip-log".into();
    rejected(&logs::check(&s.history, &dir), "m1.log: line 2");
    // As long as it is the process that the fault ended.
    let exit = |at| Exit {
        member: 1,
        at,
        asked: true,
        status: "exit status: 1".into(),
    };
    s.history.exits = vec![exit(15), exit(30)];
    accepted(&logs::check(&s.history, &dir));
    let later = format!("=== start 1\n=== start 2\n{fatal}");
    std::fs::write(dir.join("m1.log"), later).unwrap();
    rejected(&logs::check(&s.history, &dir), "m1.log: line 4");
    std::fs::write(dir.join("m1.log"), fatal).unwrap();
    std::fs::remove_file(dir.join("m2.log")).unwrap();
    undecided(&logs::check(&s.history, &dir), "m2.log");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn ids_of_members_are_never_used_again() {
    let change = |member, id, added| Change {
        member,
        at: SECOND,
        id,
        added,
    };
    let mut s = Script::default();
    accepted(&member_ids::check(&s.history));
    // An addition that nobody heard of may leave an id that is seen later only.
    s.history.changes = vec![
        change(0, 7, false),
        change(0, 8, true),
        change(1, 9, false),
        change(0, 8, false),
        change(0, 10, true),
    ];
    accepted(&member_ids::check(&s.history));
    s.history.changes.push(change(1, 7, true));
    rejected(
        &member_ids::check(&s.history),
        "m1 was added at 1.000 s with the id 7, which m0 had had before",
    );
}

#[test]
fn gaps_and_windows() {
    let mut s = Script::default();
    s.history.phases = vec![(0, Phase::LoadStart), (10 * SECOND, Phase::LoadEnd)];
    s.ok(SECOND, 2 * SECOND, put("a", "1"));
    s.ok(3 * SECOND, 6 * SECOND, guarded("a", 2, "2"));
    s.ok(6 * SECOND, 7 * SECOND, guarded("a", 2, "no"));
    s.unknown(6 * SECOND, 8 * SECOND, put("a", "3"));
    assert_eq!(longest_gap(&s.history), (4 * SECOND, 6 * SECOND));

    let mut faults = vec![fault("delay", Injected::Installed, false); 3];
    (faults[1].start, faults[1].end) = (15, 30);
    (faults[2].start, faults[2].end) = (50, 60);
    let windows = Windows::of(&faults);
    for (start, end, inside) in [
        (0, 9, false),
        (0, 10, true),
        (25, 26, true),
        (31, 49, false),
        (31, 50, true),
        (61, 70, false),
    ] {
        assert_eq!(windows.overlap(start, end), inside, "{start}..{end}");
    }
}
