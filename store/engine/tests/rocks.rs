//! What only the engine on files does: directories, damage, caches, failures.

use std::{fs, ops::ControlFlow, path::Path};

use bytes::Bytes;
use mizzen_core::{Batch, Family, View, ViewError};
use mizzen_engine::{
    Engine, EngineErrorKind, EngineOptions, Incoming, RocksEngine, RocksRows, Snapshot, Transfer,
};

fn options() -> EngineOptions {
    EngineOptions {
        cache_bytes: 32 << 20,
        write_buffer_bytes: 8 << 20,
        ..EngineOptions::default()
    }
}

fn open(dir: &Path) -> RocksEngine {
    RocksEngine::open(dir, &options()).expect("opens")
}

fn refusal(dir: &Path) -> (EngineErrorKind, String) {
    match RocksEngine::open(dir, &options()) {
        Ok(_) => panic!("{} must not open", dir.display()),
        Err(error) => (error.kind(), error.to_string()),
    }
}

fn put(engine: &RocksEngine, key: &'static str, value: impl Into<Bytes>) {
    let mut batch = Batch::default();
    batch.put(Family::Head, key.as_bytes(), value);
    engine.write(&batch).expect("writes");
}

fn get(view: &impl View, key: &str) -> Option<Bytes> {
    view.get(Family::Head, key.as_bytes()).expect("reads")
}

/// The table files of an engine's directory, oldest first.
fn tables(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut tables: Vec<_> = fs::read_dir(dir)
        .expect("lists")
        .map(|entry| entry.expect("lists").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .collect();
    tables.sort();
    tables
}

#[test]
fn a_directory_that_is_not_an_engines_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("makes a directory");
    fs::create_dir(dir.path().join("member")).expect("makes a directory");
    let (kind, text) = refusal(dir.path());
    assert_eq!(kind, EngineErrorKind::Format);
    assert!(
        text.contains("member") && text.contains(&dir.path().display().to_string()),
        "{text}"
    );
    assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1);
}

#[test]
fn an_unknown_format_is_refused() {
    let dir = tempfile::tempdir().expect("makes a directory");
    drop(open(dir.path()));
    for (stamp, part) in [
        ("mizzen engine 2\n", "version 2"),
        ("etcd\n", "not an engine's"),
        ("", "not an engine's"),
    ] {
        fs::write(dir.path().join("FORMAT"), stamp).expect("writes");
        let (kind, text) = refusal(dir.path());
        assert_eq!(kind, EngineErrorKind::Format, "{text}");
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn an_interrupted_creation_is_resumed() {
    let parent = tempfile::tempdir().expect("makes a directory");
    let dir = parent.path().join("engine");
    // Before the first byte of the stamp, in the middle of it, and after it.
    for stamp in ["", "mizzen eng", "mizzen engine 1\n"] {
        fs::create_dir(&dir).expect("makes a directory");
        fs::write(dir.join("FORMAT.new"), stamp).expect("writes");
        put(&open(&dir), "k", "v");
        fs::remove_dir_all(&dir).expect("removes");
    }
    // When RocksDB had made its files but the stamp was not final.
    drop(open(&dir));
    fs::rename(dir.join("FORMAT"), dir.join("FORMAT.new")).expect("renames");
    put(&open(&dir), "k", "v");
    assert!(dir.join("FORMAT").exists() && !dir.join("FORMAT.new").exists());
}

#[test]
fn lost_files_are_not_taken_for_a_fresh_start() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let engine = open(dir.path());
    put(&engine, "k", "v");
    engine.flush().expect("flushes");
    drop(engine);
    let before = tables(dir.path());
    fs::rename(dir.path().join("CURRENT"), dir.path().join("elsewhere")).expect("renames");
    refusal(dir.path());
    assert_eq!(tables(dir.path()), before);
    fs::rename(dir.path().join("elsewhere"), dir.path().join("CURRENT")).expect("renames");
    assert_eq!(get(&open(dir.path()).snapshot(), "k"), Some("v".into()));
}

#[test]
fn a_directory_in_use_is_refused_until_the_last_snapshot_is_gone() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let engine = open(dir.path());
    put(&engine, "k", "v");
    let snapshot = engine.snapshot();
    drop(engine);
    let (kind, text) = refusal(dir.path());
    assert_eq!(kind, EngineErrorKind::Locked, "{text}");
    assert!(text.contains("in use by another process"), "{text}");
    assert_eq!(get(&snapshot, "k"), Some("v".into()));
    drop(snapshot);
    open(dir.path());
}

#[test]
fn a_flipped_byte_is_a_corruption() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let engine = open(dir.path());
    // Not compressible to nothing, so that the middle of the file is row data.
    let value: Vec<u8> = (0..60_000u32)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    put(&engine, "k", value);
    engine.flush().expect("flushes");
    drop(engine);
    let [table] = &tables(dir.path())[..] else {
        panic!("one flush of one family makes one table")
    };
    let mut bytes = fs::read(table).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(table, bytes).expect("writes");

    let engine = open(dir.path());
    let read = engine.snapshot().get(Family::Head, b"k");
    assert!(
        matches!(&read, Err(ViewError::Failed(text)) if text.contains("Corruption")),
        "{read:?}"
    );
    let scan = engine
        .snapshot()
        .scan(Family::Head, b"", None, &mut |_, _| {
            ControlFlow::Continue(())
        });
    assert!(
        matches!(&scan, Err(ViewError::Failed(text)) if text.contains("Corruption")),
        "{scan:?}"
    );
    let many = engine.snapshot().multi_get(Family::Head, &[b"j", b"k"]);
    assert!(
        matches!(&many, Err(ViewError::Failed(text)) if text.contains("Corruption")),
        "{many:?}"
    );
    let persisted = engine
        .persisted(Family::Head, b"k")
        .expect_err("the row is damaged");
    assert_eq!(persisted.kind(), EngineErrorKind::Corruption, "{persisted}");
}

#[test]
fn a_missing_table_is_a_corruption() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let engine = open(dir.path());
    put(&engine, "k", "v");
    engine.flush().expect("flushes");
    drop(engine);
    fs::remove_file(&tables(dir.path())[0]).expect("removes");
    let (kind, text) = refusal(dir.path());
    assert_eq!(kind, EngineErrorKind::Corruption, "{text}");
}

/// They are in memory, and yet passing very many of them takes long.
#[test]
fn many_deleted_rows_would_block() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let engine = open(dir.path());
    for change in [Some("v"), None] {
        let mut batch = Batch::default();
        for at in 0..5_000 {
            let key = format!("k{at:05}");
            match change {
                Some(value) => batch.put(Family::Head, key, value),
                None => batch.delete(Family::Head, key),
            }
        }
        engine.write(&batch).expect("writes");
    }
    let snapshot = engine.snapshot();
    let count = |view: &dyn View, from: &[u8]| {
        let mut rows = 0;
        let scan = view.scan(Family::Head, from, None, &mut |_, _| {
            rows += 1;
            ControlFlow::Continue(())
        });
        scan.map(|()| rows)
    };
    assert_eq!(
        count(&snapshot.in_memory(), b"k"),
        Err(ViewError::WouldBlock)
    );
    assert_eq!(count(&snapshot.in_memory(), b"k04000"), Ok(0));
    assert_eq!(count(&snapshot, b"k"), Ok(0));
}

#[test]
fn a_cold_row_would_block_and_a_warm_one_does_not() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let engine = open(dir.path());
    put(&engine, "a", "1");
    put(&engine, "b", "2");
    engine.flush().expect("flushes");
    drop(engine);

    let engine = open(dir.path());
    put(&engine, "c", "3");
    let snapshot = engine.snapshot();
    let memory = snapshot.in_memory();
    let all = |view: &dyn View| {
        let mut rows = Vec::new();
        let scan = view.scan(Family::Head, b"", None, &mut |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        });
        scan.map(|()| rows)
    };
    assert_eq!(memory.get(Family::Head, b"a"), Err(ViewError::WouldBlock));
    assert_eq!(
        memory.multi_get(Family::Head, &[b"a", b"b"]),
        Err(ViewError::WouldBlock)
    );
    assert_eq!(
        memory.multi_get(Family::Head, &[b"c", b"b"]),
        Err(ViewError::WouldBlock)
    );
    assert_eq!(all(&memory), Err(ViewError::WouldBlock));
    // In the write buffer, and in no file: other families have none.
    assert_eq!(memory.get(Family::Head, b"c"), Ok(Some("3".into())));
    assert_eq!(memory.get(Family::Log, b"a"), Ok(None));

    // Bulk reading warms nothing.
    assert_eq!(all(&snapshot.bulk()).map(|rows| rows.len()), Ok(3));
    assert_eq!(memory.get(Family::Head, b"a"), Err(ViewError::WouldBlock));

    assert_eq!(get(&snapshot, "a"), Some("1".into()));
    assert_eq!(memory.get(Family::Head, b"a"), Ok(Some("1".into())));
    assert_eq!(
        memory.multi_get(Family::Head, &[b"c", b"x", b"b"]),
        Ok(vec![Some("3".into()), None, Some("2".into())])
    );
    assert_eq!(all(&memory), all(&snapshot));
}

#[test]
fn a_checkpoint_opens_as_an_engine_of_its_own() {
    let parent = tempfile::tempdir().expect("makes a directory");
    let (dir, copy) = (parent.path().join("engine"), parent.path().join("copy"));
    let engine = open(&dir);
    put(&engine, "k", "old");
    engine.checkpoint(&copy).expect("makes a checkpoint");
    put(&engine, "k", "new");
    let (kind, text) = match engine.checkpoint(&copy) {
        Ok(()) => panic!("a checkpoint must not overwrite another"),
        Err(error) => (error.kind(), error.to_string()),
    };
    assert!(
        kind == EngineErrorKind::Other && text.contains("copy"),
        "{kind:?} {text}"
    );

    let copied = open(&copy);
    assert_eq!(get(&copied.snapshot(), "k"), Some("old".into()));
    put(&copied, "k", "other");
    assert_eq!(get(&engine.snapshot(), "k"), Some("new".into()));
    // A checkpoint flushes.
    drop(engine);
    assert_eq!(get(&open(&dir).snapshot(), "k"), Some("old".into()));
}

#[test]
fn a_failed_flush_is_told_by_the_flush_the_next_write_and_the_query() {
    let parent = tempfile::tempdir().expect("makes a directory");
    let dir = parent.path().join("engine");
    let engine = open(&dir);
    put(&engine, "k", "v");
    let healthy = engine.health().expect("answers");
    assert!(
        healthy.error.is_none() && healthy.background_errors == 0 && !healthy.write_stopped,
        "{healthy:?}"
    );

    // New files can no longer be made under the name the engine knows.
    fs::rename(&dir, parent.path().join("elsewhere")).expect("renames");
    let flush = engine.flush().expect_err("no table can be written");
    assert_eq!(flush.kind(), EngineErrorKind::Io, "{flush}");
    assert!(
        flush.to_string().contains("cannot flush") && flush.path() == dir,
        "{flush}"
    );
    let mut batch = Batch::default();
    batch.put(Family::Head, "l", "w");
    let write = engine.write(&batch).expect_err("the engine has failed");
    assert_eq!(write.kind(), EngineErrorKind::Io, "{write}");
    let failed = engine.health().expect("answers");
    assert_eq!(
        failed.error.map(|error| error.kind()),
        Some(EngineErrorKind::Io)
    );
    assert_eq!(engine.persisted(Family::Head, b"k").expect("reads"), None);
}

#[test]
fn sizes_follow_writes_and_flushes() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let engine = open(dir.path());
    let empty = engine.size().expect("measures");
    let value: Vec<u8> = (0..250_000u32)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    put(&engine, "k", value);
    let written = engine.size().expect("measures");
    assert!(
        written.unflushed >= 1_000_000 && written.in_use >= 1_000_000,
        "{empty:?} {written:?}"
    );
    engine.flush().expect("flushes");
    let flushed = engine.size().expect("measures");
    assert!(flushed.unflushed < 100_000, "{flushed:?}");
    assert!(
        flushed.disk >= empty.disk + 900_000 && flushed.in_use >= 900_000,
        "{empty:?} {flushed:?}"
    );
}

/// More than the write buffer holds: flushes happen on their own, for all
/// families at once, and nothing is lost in between.
#[test]
fn automatic_flushes_keep_batches_whole() {
    let dir = tempfile::tempdir().expect("makes a directory");
    let engine = open(dir.path());
    let counter = |n: u64| Bytes::copy_from_slice(&n.to_be_bytes());
    let filling: Vec<u8> = (0..25_000u32)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let batches = 400;
    for n in 1..=batches {
        let mut batch = Batch::default();
        batch.put(Family::Head, "n", counter(n));
        batch.put(Family::Log, counter(n), filling.clone());
        batch.put(Family::Meta, "n", counter(n));
        engine.write(&batch).expect("writes");
    }
    let persisted = engine.persisted(Family::Meta, b"n").expect("reads");
    drop(engine);

    let engine = open(dir.path());
    let snapshot = engine.snapshot();
    let survived = snapshot
        .get(Family::Meta, b"n")
        .expect("reads")
        .expect("something was flushed");
    assert!(
        Some(&survived) >= persisted.as_ref(),
        "{survived:?} {persisted:?}"
    );
    assert_eq!(
        snapshot.get(Family::Head, b"n").expect("reads").as_ref(),
        Some(&survived)
    );
    let n = u64::from_be_bytes(survived[..].try_into().expect("eight bytes"));
    assert!(n < batches, "a batch that stayed in memory is lost");
    let mut rows = Vec::new();
    let scan = snapshot.scan(Family::Log, b"", None, &mut |key, _| {
        rows.push(Bytes::copy_from_slice(key));
        ControlFlow::Continue(())
    });
    scan.expect("reads");
    assert_eq!(rows, (1..=n).map(counter).collect::<Vec<_>>());
}

fn rows(dir: &Path) -> RocksRows {
    RocksRows::open(dir, &options()).expect("opens")
}

fn put_rows(rows: &RocksRows, key: &'static str, value: &'static str) {
    let mut batch = Batch::default();
    batch.put(Family::Head, key, value);
    rows.write(&batch).expect("writes");
}

/// Sends all files of `from` into a place of `to`, in pieces of 1,000 bytes.
fn transfer(from: &RocksRows, to: &RocksRows) -> Box<dyn Incoming> {
    let copy = from.copy().expect("copies");
    let mut incoming = to.receive().expect("makes a place");
    for file in copy.files() {
        incoming.file(&file.name).expect("begins a file");
        let mut offset = 0;
        while offset < file.size {
            let part = copy.read(file, offset, 1_000).expect("reads");
            incoming.write(&part).expect("writes");
            offset += part.len() as u64;
        }
    }
    incoming
}

/// What there is but for what is being removed in the background.
fn listed(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .expect("lists")
        .map(|entry| {
            entry
                .expect("lists")
                .file_name()
                .into_string()
                .expect("is plain")
        })
        .filter(|name| !name.starts_with("removed-"))
        .collect();
    names.sort();
    names
}

#[test]
fn received_rows_take_the_place_of_the_old_ones() {
    let parent = tempfile::tempdir().expect("makes a directory");
    let (from, to) = (parent.path().join("from"), parent.path().join("to"));
    let (sender, receiver) = (rows(&from), rows(&to));
    put_rows(&sender, "k", "sent");
    put_rows(&receiver, "k", "old");
    let before = receiver.snapshot();
    let mut incoming = transfer(&sender, &receiver);
    put_rows(&sender, "k", "later");
    let mut seen = None;
    incoming
        .finish(&mut |view| seen = view.get(Family::Head, b"k").expect("reads"))
        .expect("is complete");
    assert_eq!(seen, Some("sent".into()));
    assert_eq!(get(&receiver.snapshot(), "k"), Some("old".into()));
    incoming.install(b"label").expect("installs");
    assert_eq!(get(&receiver.snapshot(), "k"), Some("sent".into()));
    assert_eq!(
        get(&before, "k"),
        Some("old".into()),
        "an old snapshot stays"
    );
    assert_eq!(receiver.label(), Some("label".into()));
    put_rows(&receiver, "l", "new");
    receiver.flush().expect("flushes");

    drop((before, receiver, sender));
    let receiver = rows(&to);
    assert_eq!(listed(&to), ["0000000000000002", "LOCK"]);
    assert_eq!(listed(&from), ["0000000000000001", "LOCK"]);
    assert_eq!(get(&receiver.snapshot(), "k"), Some("sent".into()));
    assert_eq!(get(&receiver.snapshot(), "l"), Some("new".into()));
    assert_eq!(receiver.label(), Some("label".into()));
}

#[test]
fn an_interrupted_transfer_leaves_nothing() {
    let parent = tempfile::tempdir().expect("makes a directory");
    let dir = parent.path().join("rows");
    let here = rows(&dir);
    put_rows(&here, "k", "v");
    let incoming = transfer(&here, &here);
    assert!(here.receive().is_err(), "one at a time");
    drop(incoming);
    assert_eq!(listed(&dir), ["0000000000000001", "LOCK"]);

    // Killed in the middle of everything: nothing is cleaned up on the way out.
    drop(here);
    fs::rename(dir.join("0000000000000001"), dir.join("0000000000000003")).expect("renames");
    for left in ["0000000000000002", "incoming", "outgoing-7", "removed-3"] {
        fs::create_dir(dir.join(left)).expect("makes");
        fs::write(dir.join(left).join("000012.sst"), b"part").expect("writes");
    }
    let here = rows(&dir);
    assert!(!dir.join("removed-3").exists());
    assert_eq!(listed(&dir), ["0000000000000003", "LOCK"]);
    assert_eq!(
        get(&here.snapshot(), "k"),
        Some("v".into()),
        "a copy contains what was written, so it was flushed"
    );
}

#[test]
fn a_place_takes_no_foreign_names_and_incomplete_rows_do_not_open() {
    let parent = tempfile::tempdir().expect("makes a directory");
    let dir = parent.path().join("rows");
    let here = rows(&dir);
    let mut incoming = here.receive().expect("makes a place");
    for name in ["", "..", "../k", "a/b", ".hidden", "LABEL"] {
        assert!(incoming.file(name).is_err(), "{name:?}");
    }
    assert!(incoming.write(b"x").is_err(), "no file was begun");
    incoming.file("CURRENT").expect("begins a file");
    assert!(incoming.file("CURRENT").is_err(), "it came already");
    let error = incoming.finish(&mut |_| ()).expect_err("are no rows");
    assert_eq!(error.kind(), EngineErrorKind::Format, "{error}");
}

#[test]
fn rows_in_use_and_foreign_files_are_refused() {
    let parent = tempfile::tempdir().expect("makes a directory");
    let dir = parent.path().join("rows");
    let refusal = || match RocksRows::open(&dir, &options()) {
        Ok(_) => panic!("must not open"),
        Err(error) => (error.kind(), error.to_string()),
    };
    let here = rows(&dir);
    assert_eq!(refusal().0, EngineErrorKind::Locked);
    drop(here);
    fs::write(dir.join("stranger"), b"").expect("writes");
    let (kind, text) = refusal();
    assert!(
        kind == EngineErrorKind::Format && text.contains("stranger"),
        "{kind:?} {text}"
    );
}
