//! Tests of the log. The callbacks are collected; nothing sleeps.

mod basic;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Done, Entry, Execution, LogFs, MemFs, Options, Recovered, Wal, WalError};

fn entry(term: u64, index: u64, payload: impl AsRef<[u8]>) -> Entry {
    Entry {
        term,
        index,
        payload: Bytes::copy_from_slice(payload.as_ref()),
    }
}

fn stepped() -> Options {
    Options {
        segment_bytes: 2048,
        tail_bytes: 1000,
        execution: Execution::Stepped,
        salt: Some(7),
        ..Options::default()
    }
}

fn open(fs: &MemFs) -> (Wal, Recovered) {
    try_open(fs).expect("the log opens")
}

fn try_open(fs: &MemFs) -> Result<(Wal, Recovered), WalError> {
    Wal::open(Arc::new(fs.clone()), stepped())
}

fn ignore() -> Done {
    Box::new(|_| {})
}

fn run(wal: &Wal) {
    while wal.step() {}
}

/// Everything in the log.
fn all(wal: &Wal) -> Vec<Entry> {
    match wal.first_index() {
        Some(first) => wal
            .read(first..u64::MAX, usize::MAX)
            .expect("entries are readable"),
        None => Vec::new(),
    }
}

/// Results of callbacks, in the order in which they were called.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<(u64, io::Result<()>)>>>);

impl Calls {
    fn done(&self, tag: u64) -> Done {
        let calls = self.0.clone();
        Box::new(move |result| calls.lock().push((tag, result)))
    }

    fn tags(&self) -> Vec<u64> {
        self.0.lock().iter().map(|call| call.0).collect()
    }

    fn errors(&self) -> Vec<String> {
        self.0
            .lock()
            .iter()
            .filter_map(|call| call.1.as_ref().err().map(ToString::to_string))
            .collect()
    }
}

fn names(fs: &MemFs) -> Vec<String> {
    fs.list().expect("the directory lists")
}
