//! The power fails during every single file operation of a script.

use super::script::{Contents, Op, Script};
use super::*;

const OPERATIONS: usize = 300;

fn reproduce(seed: u64, crash: u64) -> String {
    format!("seed {seed}, crash seed {crash}: cargo test --release -p mizzen-wal --test log crash")
}

/// Runs the script with the power failing during operation `point`, then checks what is left.
fn crash_at(script: &Script, point: u64, crash_seed: u64) {
    let context = || {
        format!(
            "power off after operation {point}, {}",
            reproduce(script.seed, crash_seed)
        )
    };
    let fs = MemFs::new();
    fs.power_off_after(point);
    let steps = match try_open(&fs) {
        Ok((wal, _)) => script.run(&wal),
        Err(_) => (0, 0),
    };
    let mut fs = fs.crash(crash_seed);
    let mut rng = StdRng::seed_from_u64(crash_seed ^ point);
    // Recovery may be interrupted as well, more than once.
    let mut least = steps.0;
    for _ in 0..rng.random_range(0..3) {
        fs.power_off_after(rng.random_range(0..6));
        if let Ok((wal, recovered)) = try_open(&fs) {
            least = script
                .check(&wal, &recovered, (least, steps.1))
                .unwrap_or_else(|reason| panic!("{}: {reason}", context()));
        }
        fs = fs.crash(rng.random_range(0..u64::MAX));
    }
    let (wal, recovered) = try_open(&fs).unwrap_or_else(|error| panic!("{}: {error}", context()));
    let reached = script
        .check(&wal, &recovered, (least, steps.1))
        .unwrap_or_else(|reason| panic!("{}: {reason}", context()));
    goes_on(script, &fs, wal, reached, context);
}

/// A recovered log takes new entries and keeps them over the next crash.
fn goes_on(script: &Script, fs: &MemFs, wal: Wal, reached: usize, context: impl Fn() -> String) {
    let mut expected = script.states[reached].clone();
    let calls = Calls::default();
    for size in [10, 1300, 300, 0, 700] {
        let new = entry(1_000_000, expected.next_index(), vec![b'n'; size]);
        expected.append(&new);
        wal.append(vec![new], calls.done(size as u64))
            .unwrap_or_else(|error| panic!("{}: {error}", context()));
        wal.step();
    }
    wal.wait_sequence(wal.submitted_sequence())
        .unwrap_or_else(|error| panic!("{}: {error}", context()));
    let (wal, recovered) =
        try_open(&fs.crash(1)).unwrap_or_else(|error| panic!("{}: {error}", context()));
    let contents =
        Contents::of(&wal, &recovered).unwrap_or_else(|error| panic!("{}: {error}", context()));
    assert_eq!(contents, expected, "{}", context());
}

#[test]
fn nothing_acknowledged_is_lost_whenever_the_power_fails() {
    for seed in 1..=3 {
        let script = Script::new(seed, OPERATIONS);
        let fs = MemFs::new();
        let (wal, _) = open(&fs);
        script.run(&wal);
        run(&wal);
        let operations = fs.operations();
        assert!(
            operations > OPERATIONS as u64,
            "the script does little: {operations} file operations"
        );
        for point in 0..=operations {
            for crash_seed in 0..4 {
                crash_at(&script, point, crash_seed * 1_000_003 + seed);
            }
        }
    }
}

#[test]
fn the_script_covers_rotation_purge_and_truncation() {
    let script = Script::new(1, OPERATIONS);
    let kinds = |wanted: fn(&Op) -> bool| script.ops.iter().filter(|op| wanted(op)).count();
    assert!(kinds(|op| matches!(op, Op::Truncate(_))) > 5);
    assert!(kinds(|op| matches!(op, Op::Purge(_))) > 5);
    let fs = MemFs::new();
    let (wal, _) = open(&fs);
    script.run(&wal);
    run(&wal);
    let names = fs.list().expect("the directory lists");
    assert!(
        names.iter().any(|name| name.starts_with("spare-")),
        "{names:?}"
    );
    assert!(
        !names.contains(&"0000000000000001.wal".to_owned()),
        "{names:?}"
    );
    assert!(
        wal.segments() < 30 && names.iter().max() > Some(&"0000000000000005.wal".to_owned()),
        "{names:?}"
    );
}

#[test]
fn a_killed_process_leaves_everything_written_and_makes_it_durable() {
    for seed in 1..=3 {
        let script = Script::new(seed, OPERATIONS);
        let fs = MemFs::new();
        let (wal, _) = open(&fs);
        let (acknowledged, submitted) = script.run(&wal);
        let killed = fs.kill();
        let (wal, recovered) = open(&killed);
        let reached = script.check(&wal, &recovered, (acknowledged, submitted));
        let reached = reached.unwrap_or_else(|reason| panic!("{}: {reason}", reproduce(seed, 0)));
        let (wal, recovered) = open(&killed.crash(seed));
        let again = script.check(&wal, &recovered, (reached, reached));
        assert_eq!(again, Ok(reached), "{}", reproduce(seed, 0));
    }
}
