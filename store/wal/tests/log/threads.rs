//! The log with its own threads: order, waiting, power failures at any point.

use super::script::Script;
use super::*;

fn threaded() -> Options {
    Options {
        execution: Execution::Threads,
        ..stepped()
    }
}

#[test]
fn acknowledged_in_order_and_close_drains() {
    let fs = MemFs::new();
    let (wal, _) = Wal::open(Arc::new(fs.clone()), threaded()).expect("open");
    let calls = Calls::default();
    for index in 1..=500 {
        wal.append(vec![entry(1, index, [7; 100])], calls.done(index))
            .expect("append");
    }
    wal.wait_durable(250).expect("durable");
    assert!(wal.durable_index() >= Some(250));
    wal.close().expect("close");
    assert_eq!(calls.acknowledged(), (1..=500).collect::<Vec<_>>());
    assert_eq!(wal.queued_bytes(), 0);
    let (wal, recovered) = open(&fs.crash(3));
    assert_eq!(recovered.last, Some((1, 500)));
    assert_eq!(all(&wal).len(), 500);
}

#[test]
fn nothing_acknowledged_is_lost_whenever_the_power_fails() {
    let script = Script::new(11, 300);
    for point in (0..400).step_by(3) {
        let context = format!(
            "power off after operation {point}: cargo test --release -p mizzen-wal --test log threads"
        );
        let fs = MemFs::new();
        fs.power_off_after(point);
        let steps = match Wal::open(Arc::new(fs.clone()), threaded()) {
            // Dropping the log waits for the threads: callbacks may come until then.
            Ok((wal, _)) => script.run_to_close(wal),
            Err(_) => (0, 0),
        };
        let (wal, recovered) =
            try_open(&fs.crash(point)).unwrap_or_else(|error| panic!("{context}: {error}"));
        if let Err(reason) = script.check(&wal, &recovered, steps) {
            panic!("{context}: {reason}");
        }
    }
}

#[test]
fn callers_that_wait_are_woken_by_a_failure() {
    let fs = MemFs::new();
    let (wal, _) = Wal::open(Arc::new(fs.clone()), threaded()).expect("open");
    fs.hold_syncs();
    let calls = Calls::default();
    wal.append(vec![entry(1, 1, "a")], calls.done(1))
        .expect("append");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| wal.wait_durable(1));
        fs.wait_held();
        assert_eq!(wal.durable_index(), None);
        fs.power_off();
        let result = waiter.join().expect("the waiter returns");
        assert!(matches!(result, Err(WalError::Poisoned(_))), "{result:?}");
    });
    assert!(wal.close().is_err());
    assert_eq!((calls.tags(), calls.acknowledged()), (vec![1], vec![]));
}

#[test]
fn what_a_slow_sync_covers_is_not_what_was_queued_meanwhile() {
    let fs = MemFs::new();
    let (wal, _) = Wal::open(Arc::new(fs.clone()), threaded()).expect("open");
    wal.append(vec![entry(1, 1, "a"), entry(1, 2, "b")], ignore())
        .expect("append");
    wal.wait_durable(2).expect("durable");
    fs.hold_syncs();
    wal.append(vec![entry(1, 3, "c")], ignore())
        .expect("append");
    fs.wait_held();
    wal.truncate_after(Some(1), ignore()).expect("truncate");
    assert_eq!(wal.durable_index(), Some(1));
    wal.append(vec![entry(2, 2, "B"), entry(2, 3, "C")], ignore())
        .expect("append");
    assert_eq!(wal.durable_index(), Some(1));
    fs.release_syncs();
    wal.wait_durable(3).expect("durable");
    let (wal, _) = open(&fs.crash(0));
    assert_eq!(
        all(&wal),
        [entry(1, 1, "a"), entry(2, 2, "B"), entry(2, 3, "C")]
    );
}
