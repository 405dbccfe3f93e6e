//! What only the log's own parts can bring about. Everything else is in `tests/log`.

use std::{io, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use tempfile::TempDir;

use super::{
    Entry, Execution, LogFile, LogFs, Options, RealFs, Wal, WalError, format, limits, segments,
};

type Hook = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// A directory; the next sync of one of its files does something else before.
struct Hooked {
    inner: RealFs,
    before_sync: Hook,
}

impl Hooked {
    fn file(&self, inner: Arc<dyn LogFile>) -> Arc<dyn LogFile> {
        Arc::new(HookedFile {
            inner,
            before_sync: self.before_sync.clone(),
        })
    }
}

impl LogFs for Hooked {
    fn describe(&self, name: &str) -> String {
        self.inner.describe(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        self.inner.open(name).map(|file| self.file(file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        self.inner.create(name).map(|file| self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.inner.sync_dir()
    }
}

struct HookedFile {
    inner: Arc<dyn LogFile>,
    before_sync: Hook,
}

impl LogFile for HookedFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write_at(offset, data)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, buf)
    }

    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn sync_data(&self) -> io::Result<()> {
        let hook = self.before_sync.lock().take();
        hook.into_iter().for_each(|hook| hook());
        self.inner.sync_data()
    }
}

fn open() -> (TempDir, Arc<Hooked>, Wal) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let fs = Arc::new(Hooked {
        inner: RealFs::open(dir.path()).expect("open directory"),
        before_sync: Hook::default(),
    });
    let options = Options {
        segment_bytes: limits::MIN_SEGMENT_BYTES,
        tail_bytes: 1000,
        execution: Execution::Stepped,
        ..Options::default()
    };
    let (wal, _) = Wal::open(fs.clone(), options).expect("open");
    (dir, fs, wal)
}

fn append(wal: &Wal, index: u64, done: super::Done) {
    let payload = Bytes::from(vec![index as u8; 100]);
    let entry = Entry {
        term: 1,
        index,
        payload,
    };
    wal.append(vec![entry], done).expect("append");
}

#[test]
fn a_segment_that_is_being_read_is_not_overwritten() {
    let (_dir, fs, wal) = open();
    for index in 1..=60 {
        append(&wal, index, Box::new(drop));
        wal.step();
    }
    while wal.step() {}
    let held = wal.shared.lock().disk.locate(1);
    let held = held.expect("the first entry is on disk");
    wal.purge((1, 55)).expect("purge");
    while wal.step() {}
    let names = fs.list().expect("list");
    let name = segments::spare_name(held.segment.id);
    assert!(!names.contains(&name), "{names:?}");
    let mut magic = [0; 4];
    held.segment.file.read_at(64, &mut magic).expect("read");
    assert_eq!(u32::from_le_bytes(magic), format::BATCH_MAGIC);
}

/// The keeper may find that a sync failed while the writer is in one that succeeds.
#[test]
fn what_becomes_durable_after_the_log_stopped_is_not_acknowledged() {
    let (_dir, fs, wal) = open();
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let seen = outcomes.clone();
    append(
        &wal,
        1,
        Box::new(move |outcome| seen.lock().push(outcome.is_ok())),
    );
    let shared = wal.shared.clone();
    let stop = move || shared.poison(WalError::NotInLog { index: 1 });
    *fs.before_sync.lock() = Some(Box::new(stop));
    while wal.step() {}
    assert!(fs.before_sync.lock().is_none(), "nothing was synced");
    assert!(wal.close().is_err());
    assert_eq!(*outcomes.lock(), [false]);
    assert_eq!(wal.durable_index(), None);
}
