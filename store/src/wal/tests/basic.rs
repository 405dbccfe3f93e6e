//! Round trips, bounds, truncation, purge, failures.

use std::time::Duration;

use super::*;

#[test]
fn an_entry_is_readable_at_once_and_after_reopening() {
    let fs = MemFs::new();
    let (wal, recovered) = open(&fs);
    assert!(recovered.created);
    let calls = Calls::default();
    wal.append(vec![entry(1, 1, "a"), entry(1, 2, "b")], calls.done(1))
        .expect("append");
    assert_eq!(all(&wal), vec![entry(1, 1, "a"), entry(1, 2, "b")]);
    assert_eq!((wal.durable_index(), calls.tags()), (None, vec![]));
    assert!(wal.step());
    assert_eq!((wal.durable_index(), calls.tags()), (Some(2), vec![1]));
    wal.save_vote(Bytes::from_static(b"vote"), calls.done(2))
        .expect("vote");
    wal.save_committed((1, 2)).expect("committed");
    wal.close().expect("close");
    assert_eq!(calls.tags(), vec![1, 2]);
    let (wal, recovered) = open(&fs.crash(1));
    let vote = Some(Bytes::from_static(b"vote"));
    let expected = Recovered {
        vote,
        committed: Some((1, 2)),
        purged: None,
        last: Some((1, 2)),
        created: false,
    };
    assert_eq!(recovered, expected);
    assert_eq!(all(&wal), vec![entry(1, 1, "a"), entry(1, 2, "b")]);
    assert_eq!(wal.durable_index(), Some(2));
    assert!(matches!(wal.close(), Ok(())));
    assert!(matches!(
        wal.append(vec![entry(1, 3, "")], ignore()),
        Err(WalError::Closed)
    ));
}

#[test]
fn threads_acknowledge_in_order_and_close_drains() {
    let fs = MemFs::new();
    let options = Options {
        execution: Execution::Threads,
        ..stepped()
    };
    let (wal, _) = Wal::open(Arc::new(fs.clone()), options).expect("open");
    let calls = Calls::default();
    for index in 1..=500 {
        wal.append(vec![entry(1, index, vec![7; 100])], calls.done(index))
            .expect("append");
    }
    wal.wait_durable(250).expect("durable");
    assert!(calls.tags().len() <= 500 && wal.durable_index() >= Some(250));
    wal.close().expect("close");
    assert_eq!(calls.tags(), (1..=500).collect::<Vec<_>>());
    assert_eq!(wal.queued_bytes(), 0);
    let (wal, recovered) = open(&fs.crash(3));
    assert_eq!(recovered.last, Some((1, 500)));
    assert_eq!(all(&wal).len(), 500);
    let _ = Duration::ZERO;
}
