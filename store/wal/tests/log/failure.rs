//! Writes and syncs that fail: the log stops, says where, and acknowledges nothing afterwards.

use super::script::Script;
use super::*;

const OPERATIONS: usize = 120;

/// Runs a script with operation `number` failing, and checks what survives a restart of the process
/// and then a power failure.
fn fail_at(script: &Script, number: u64, fault: Fault) {
    let context = format!(
        "seed {}, operation {number} fails with {fault:?}: {}",
        script.seed, "cargo test --release -p mizzen-wal --test log failure"
    );
    let fs = MemFs::new();
    fs.fail_operation(number, fault);
    let failures = Arc::new(Mutex::new(Vec::new()));
    let seen = failures.clone();
    let options = stepped().on_failure(move |error| seen.lock().push(error.to_string()));
    let (steps, stopped) = match Wal::open(Arc::new(fs.clone()), options) {
        Ok((wal, _)) => {
            let steps = script.run(&wal);
            run(&wal);
            (steps, wal.append(Vec::new(), ignore()).is_err())
        }
        Err(_) => ((0, 0), false),
    };
    let failures = failures.lock().clone();
    assert_eq!(
        failures.len(),
        usize::from(stopped),
        "{context}: {failures:?}"
    );
    assert!(
        failures.iter().all(|text| text.contains("mem:")),
        "{context}: {failures:?}"
    );
    let fs = fs.kill();
    let (wal, recovered) = try_open(&fs).unwrap_or_else(|error| panic!("{context}: {error}"));
    let reached = script
        .check(&wal, &recovered, steps)
        .unwrap_or_else(|reason| panic!("{context}: {reason}"));
    let (wal, recovered) =
        try_open(&fs.crash(number)).unwrap_or_else(|error| panic!("{context}: {error}"));
    let again = script.check(&wal, &recovered, (reached, reached));
    assert_eq!(again, Ok(reached), "{context}");
}

#[test]
fn any_failing_operation_loses_nothing_acknowledged() {
    let script = Script::new(5, OPERATIONS);
    let fs = MemFs::new();
    let (wal, _) = open(&fs);
    script.run(&wal);
    run(&wal);
    for number in 1..=fs.operations() {
        fail_at(&script, number, Fault::Eio);
        fail_at(&script, number, Fault::Enospc);
    }
}

#[test]
fn a_failed_sync_poisons() {
    let fs = MemFs::new();
    let (wal, _) = open(&fs);
    let calls = Calls::default();
    wal.append(vec![entry(1, 1, "a")], calls.done(1))
        .expect("append");
    run(&wal);
    fs.fail_sync(fs.syncs() + 1, Fault::Eio);
    wal.append(vec![entry(1, 2, "b")], calls.done(2))
        .expect("append");
    wal.save_vote(Bytes::new(), calls.done(3)).expect("vote");
    run(&wal);
    assert_eq!(
        (calls.tags(), calls.acknowledged()),
        (vec![1, 2, 3], vec![1])
    );
    let errors = calls.errors();
    assert_eq!(errors.len(), 2);
    for text in errors {
        assert!(
            text.contains("sync mem:0000000000000001.wal at offset"),
            "{text}"
        );
    }
    assert_eq!(wal.durable_index(), Some(1));
    assert!(matches!(
        wal.append(vec![entry(1, 3, "c")], ignore()),
        Err(WalError::Poisoned(_))
    ));
    assert!(matches!(
        wal.save_committed((1, 1)),
        Err(WalError::Poisoned(_))
    ));
    assert!(matches!(wal.wait_durable(2), Err(WalError::Poisoned(_))));
    assert!(matches!(wal.close(), Err(WalError::Poisoned(_))));
}

#[test]
fn a_full_disk_stops_the_log_only_when_it_needs_the_space() {
    let fs = MemFs::new();
    let (wal, _) = open(&fs);
    let calls = Calls::default();
    wal.append(vec![entry(1, 1, [0; 600])], calls.done(1))
        .expect("append");
    wal.step();
    fs.fail_operation(fs.operations() + 2, Fault::Enospc);
    run(&wal); // Fails to prepare the next segment.
    assert!(!wal.can_grow());
    wal.append(vec![entry(1, 2, [0; 600])], calls.done(2))
        .expect("append");
    run(&wal);
    wal.append(vec![entry(1, 3, [0; 600])], calls.done(3))
        .expect("append");
    run(&wal); // Needs it, tries again, succeeds.
    assert_eq!(calls.acknowledged(), [1, 2, 3]);
    assert!(wal.can_grow());
}

#[test]
fn too_much_queued_is_refused_and_the_log_goes_on() {
    let fs = MemFs::new();
    let options = Options {
        queue_bytes: 3000,
        ..stepped()
    };
    let (wal, _) = Wal::open(Arc::new(fs), options).expect("open");
    wal.append(vec![entry(1, 1, [0; 1000])], ignore())
        .expect("append");
    wal.append(vec![entry(1, 2, [0; 1000])], ignore())
        .expect("append");
    let refused = wal.append(vec![entry(1, 3, [0; 1000])], ignore());
    assert!(
        matches!(refused, Err(WalError::QueueFull { limit: 3000, .. })),
        "{refused:?}"
    );
    assert_eq!(wal.last(), Some((1, 2)));
    run(&wal);
    assert_eq!(wal.queued_bytes(), 0);
    wal.append(vec![entry(1, 3, [0; 1000])], ignore())
        .expect("append");
}
