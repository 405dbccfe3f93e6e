//! Round trips, bounds, truncation, purge, watermarks.

use super::*;

fn filled(fs: &MemFs, entries: u64, size: usize) -> Wal {
    let (wal, _) = open(fs);
    for index in 1..=entries {
        wal.append(vec![entry(1, index, vec![index as u8; size])], ignore())
            .expect("append");
        wal.step();
    }
    run(&wal);
    wal
}

#[test]
fn an_entry_is_readable_at_once_and_after_reopening() {
    let fs = MemFs::new();
    let (wal, recovered) = open(&fs);
    assert!(recovered.created);
    let calls = Calls::default();
    let both = [entry(1, 1, "a"), entry(1, 2, "b")];
    wal.append(both.to_vec(), calls.done(1)).expect("append");
    assert_eq!(all(&wal), both);
    assert_eq!(wal.read_in_memory(2..9, 0), Some(vec![both[1].clone()]));
    assert_eq!((wal.durable_index(), calls.tags()), (None, vec![]));
    assert!(wal.step());
    assert_eq!((wal.durable_index(), calls.tags()), (Some(2), vec![1]));
    wal.save_vote(Bytes::from_static(b"vote"), calls.done(2))
        .expect("vote");
    wal.save_committed((1, 2)).expect("committed");
    wal.barrier(calls.done(3)).expect("barrier");
    wal.close().expect("close");
    assert_eq!(calls.acknowledged(), [1, 2, 3]);
    assert!(matches!(
        wal.append(vec![entry(1, 3, "")], ignore()),
        Err(WalError::Closed)
    ));
    let (wal, recovered) = open(&fs.crash(1));
    let expected = Recovered {
        vote: Some(Bytes::from_static(b"vote")),
        committed: Some((1, 2)),
        purged: None,
        last: Some((1, 2)),
        created: false,
    };
    assert_eq!(recovered, expected);
    assert_eq!(all(&wal), both);
    assert_eq!(wal.durable_index(), Some(2));
}

#[test]
fn one_batch_costs_one_write_and_one_sync() {
    let fs = MemFs::new();
    let (wal, _) = open(&fs);
    run(&wal); // Prepares the next segment.
    let (operations, syncs) = (fs.operations(), fs.syncs());
    for index in 1..=10 {
        wal.append(vec![entry(1, index, "x")], ignore())
            .expect("append");
        wal.save_committed((1, index)).expect("committed");
    }
    wal.wait_durable(10).expect("durable");
    assert_eq!((fs.operations() - operations, fs.syncs() - syncs), (2, 1));
    wal.save_committed((1, 10)).expect("committed");
    run(&wal);
    assert_eq!(
        (fs.operations() - operations, fs.syncs() - syncs),
        (3, 1),
        "the idle marker needs no sync"
    );
}

#[test]
fn the_committed_id_is_saved_by_the_idle_marker_and_must_be_in_the_log() {
    let fs = MemFs::new();
    let wal = filled(&fs, 3, 10);
    for id in [(1, 4), (2, 3), (1, 2), (1, 1)] {
        wal.save_committed(id).expect("accepted");
    }
    run(&wal);
    assert_eq!(wal.committed(), Some((1, 2)));
    assert_eq!(open(&fs.kill()).1.committed, Some((1, 2)));
}

/// An id saved as committed while the truncation before it is queued must not be recovered with the
/// entries that the truncation drops.
#[test]
fn a_committed_id_never_runs_ahead_of_the_truncation_before_it() {
    let fs = MemFs::new();
    let wal = filled(&fs, 4, 10);
    let synced = fs.operations();
    wal.truncate_after(Some(2), ignore()).expect("truncate");
    wal.append(vec![entry(2, 3, "new"), entry(2, 4, "new")], ignore())
        .expect("append");
    wal.save_committed((2, 4)).expect("committed");
    run(&wal);
    assert!(fs.operations() > synced);
    for seed in 0..20 {
        let fs = MemFs::new();
        let wal = filled(&fs, 4, 10);
        fs.power_off_after(fs.operations() + 1);
        wal.truncate_after(Some(2), ignore()).expect("truncate");
        wal.append(vec![entry(2, 3, "new"), entry(2, 4, "new")], ignore())
            .expect("append");
        wal.save_committed((2, 4)).expect("committed");
        run(&wal);
        let (wal, recovered) = open(&fs.crash(seed));
        let expected = if wal.last() == Some((2, 4)) {
            Some((2, 4))
        } else {
            None
        };
        assert_eq!(recovered.committed, expected, "seed {seed}");
    }
}

#[test]
fn a_truncation_takes_the_durable_index_down_and_back() {
    let fs = MemFs::new();
    let wal = filled(&fs, 5, 10);
    assert_eq!(wal.durable_index(), Some(5));
    wal.truncate_after(Some(3), ignore()).expect("truncate");
    assert_eq!((wal.durable_index(), wal.last()), (Some(3), Some((1, 3))));
    assert!(matches!(
        wal.wait_durable(4),
        Err(WalError::NotInLog { index: 4 })
    ));
    wal.append(vec![entry(2, 4, "d")], ignore())
        .expect("append");
    wal.truncate_after(Some(1), ignore()).expect("truncate");
    wal.append(vec![entry(3, 2, "B")], ignore())
        .expect("append");
    assert_eq!(wal.durable_index(), Some(1));
    // The first truncation and its entry come in a batch of their own.
    assert!(wal.step());
    assert_eq!(wal.durable_index(), Some(1));
    assert!(wal.step());
    assert_eq!(wal.durable_index(), Some(2));
    wal.truncate_after(None, ignore()).expect("truncate");
    assert_eq!((wal.durable_index(), wal.last()), (None, None));
    run(&wal);
    let (wal, recovered) = open(&fs.crash(0));
    assert_eq!((recovered.last, all(&wal)), (None, vec![]));
}

#[test]
fn committed_and_purged_entries_cannot_be_truncated() {
    let fs = MemFs::new();
    let wal = filled(&fs, 5, 10);
    wal.save_committed((1, 3)).expect("committed");
    assert!(matches!(
        wal.truncate_after(Some(2), ignore()),
        Err(WalError::Invalid(_))
    ));
    wal.truncate_after(Some(3), ignore()).expect("truncate");
    wal.truncate_after(Some(9), ignore())
        .expect("nothing to truncate");
    wal.purge((1, 3)).expect("purge");
    assert!(wal.truncate_after(Some(1), ignore()).is_err());
    assert!(
        wal.truncate_after(None, ignore()).is_ok(),
        "all that is not purged"
    );
    assert_eq!(wal.last(), Some((1, 3)));
}

#[test]
fn entries_must_continue_the_log() {
    let fs = MemFs::new();
    let wal = filled(&fs, 2, 10);
    let bad = [
        vec![entry(1, 2, "")],
        vec![entry(1, 4, "")],
        vec![entry(1, 3, ""), entry(1, 5, "")],
        vec![entry(1, u64::MAX, "")],
        vec![entry(1, 3, vec![0; wal.max_entry_bytes() + 1])],
    ];
    for entries in bad {
        let result = wal.append(entries, ignore());
        assert!(matches!(result, Err(WalError::Invalid(_))), "{result:?}");
    }
    assert!(wal.save_vote(Bytes::from(vec![0; 1000]), ignore()).is_err());
    assert!(wal.purge((2, 1)).is_err(), "the entry has another term");
    assert_eq!(all(&wal).len(), 2);
    wal.append(vec![entry(1, 3, vec![1; wal.max_entry_bytes()])], ignore())
        .expect("the largest entry");
    wal.wait_durable(3).expect("durable");
    let (wal, _) = open(&fs.crash(0));
    assert_eq!(all(&wal).len(), 3);
}

#[test]
fn reads_are_bounded_but_give_at_least_one_entry() {
    let fs = MemFs::new();
    let wal = filled(&fs, 40, 100);
    assert!(wal.segments() > 2);
    for from in 1..=40 {
        let one = wal.read(from..41, 0).expect("read");
        assert_eq!(one, [entry(1, from, vec![from as u8; 100])]);
        let some = wal.read(from..41, 350).expect("read");
        assert_eq!(some.len() as u64, 3.min(41 - from));
    }
    assert_eq!(wal.read(41..50, 10).expect("read"), []);
    assert_eq!(wal.read(5..5, 10).expect("read"), []);
    assert!(wal.read_in_memory(1..2, 10).is_none(), "evicted");
    assert_eq!(wal.read_in_memory(41..50, 10), Some(vec![]));
}

#[test]
fn purged_segments_are_reused_and_their_content_never_comes_back() {
    let fs = MemFs::new();
    let wal = filled(&fs, 100, 100);
    let before = wal.segments();
    wal.purge((1, 90)).expect("purge");
    assert!(matches!(
        wal.read(90..91, 1),
        Err(WalError::Purged { index: 90 })
    ));
    assert_eq!(
        (wal.first_index(), wal.term_of(90), wal.term_of(89)),
        (Some(91), Some(1), None)
    );
    run(&wal);
    assert!(
        wal.segments() < before && wal.segments() <= 2,
        "{} of {before}",
        wal.segments()
    );
    let spares = |fs: &MemFs| {
        fs.list()
            .expect("list")
            .iter()
            .filter(|name| name.starts_with("spare-"))
            .count()
    };
    assert_eq!(spares(&fs), mizzen_wal::limits::SPARE_SEGMENTS);
    for index in 101..=120 {
        wal.append(vec![entry(2, index, vec![index as u8; 100])], ignore())
            .expect("append");
        run(&wal);
    }
    assert_eq!(spares(&fs), 0);
    let (wal, recovered) = open(&fs.crash(0));
    assert_eq!(
        (recovered.purged, recovered.last),
        (Some((1, 90)), Some((2, 120)))
    );
    assert_eq!(all(&wal).len(), 30);
    assert_eq!(
        recovered.committed,
        Some((1, 90)),
        "purged entries are committed"
    );
}

#[test]
fn a_purge_beyond_the_end_empties_the_log_there() {
    let fs = MemFs::new();
    let wal = filled(&fs, 5, 100);
    wal.purge((4, 50)).expect("purge");
    assert_eq!(
        (wal.last(), wal.first_index(), wal.durable_index()),
        (Some((4, 50)), None, Some(5))
    );
    wal.wait_durable(50).expect("the purge becomes durable");
    assert_eq!(wal.durable_index(), Some(50));
    wal.append(vec![entry(4, 51, "x")], ignore())
        .expect("append");
    wal.wait_durable(51).expect("durable");
    let (wal, recovered) = open(&fs.crash(0));
    assert_eq!(
        (recovered.purged, recovered.last),
        (Some((4, 50)), Some((4, 51)))
    );
    assert_eq!(all(&wal), [entry(4, 51, "x")]);
}

#[test]
fn the_segment_size_may_change() {
    let fs = MemFs::new();
    let (wal, _) = open(&fs);
    wal.close().expect("close"); // No batch yet.
    let larger = Options {
        segment_bytes: 4096,
        ..stepped()
    };
    let (wal, _) = Wal::open(Arc::new(fs.clone()), larger.clone()).expect("open");
    wal.append(vec![entry(1, 1, vec![1; wal.max_entry_bytes()])], ignore())
        .expect("append");
    run(&wal);
    let (wal, _) = Wal::open(Arc::new(fs.kill()), stepped()).expect("smaller again");
    wal.append(vec![entry(1, 2, vec![2; wal.max_entry_bytes()])], ignore())
        .expect("append");
    run(&wal);
    assert_eq!(all(&wal).len(), 2);
    assert!(
        Wal::open(
            Arc::new(MemFs::new()),
            Options {
                segment_bytes: 100,
                ..stepped()
            }
        )
        .is_err()
    );
}

#[test]
fn files_belong_to_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("a/b");
    let fs = Arc::new(mizzen_wal::RealFs::open(&path).expect("open directory"));
    let (wal, _) = Wal::open(
        fs.clone(),
        Options {
            execution: Execution::Threads,
            ..stepped()
        },
    )
    .expect("open");
    for index in 1..=100 {
        wal.append(vec![entry(1, index, [3; 100])], ignore())
            .expect("append");
    }
    wal.close().expect("close");
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path)
            .expect("metadata")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(&path), 0o700);
    for name in fs.list().expect("list") {
        assert_eq!(mode(&path.join(name)), 0o600);
    }
    let (wal, recovered) = Wal::open(fs, stepped()).expect("open");
    assert_eq!((recovered.last, all(&wal).len()), (Some((1, 100)), 100));
}
