//! Tests of the log. Everything but `threads` is one thread and deterministic; nothing sleeps.

mod basic;
mod crash;
mod damage;
mod failure;
mod model;
mod script;
mod threads;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use mizzen_sim::{Fault, MemFs};
use mizzen_wal::{Done, Entry, Execution, LogFs, Options, Recovered, Wal, WalError};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

fn entry(term: u64, index: u64, payload: impl AsRef<[u8]>) -> Entry {
    Entry {
        term,
        index,
        payload: Bytes::copy_from_slice(payload.as_ref()),
    }
}

/// Small segments and a small tail, so that a few entries rotate, evict and recycle.
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
    try_all(wal).expect("entries are readable")
}

fn try_all(wal: &Wal) -> Result<Vec<Entry>, WalError> {
    wal.first_index().map_or(Ok(Vec::new()), |first| {
        wal.read(first..u64::MAX, usize::MAX)
    })
}

/// Results of callbacks, in the order in which they were called.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<Call>>>);

type Call = (u64, io::Result<()>);

impl Calls {
    fn done(&self, tag: u64) -> Done {
        let calls = self.0.clone();
        Box::new(move |result| calls.lock().push((tag, result)))
    }

    fn tags(&self) -> Vec<u64> {
        self.0.lock().iter().map(|call| call.0).collect()
    }

    /// Tags of the calls that were told of success, which must come before any failure.
    fn acknowledged(&self) -> Vec<u64> {
        let calls = self.0.lock();
        let good: Vec<_> = calls.iter().take_while(|call| call.1.is_ok()).collect();
        let all_good = calls.iter().filter(|call| call.1.is_ok()).count();
        assert_eq!(
            good.len(),
            all_good,
            "something was acknowledged after a failure"
        );
        good.iter().map(|call| call.0).collect()
    }

    fn errors(&self) -> Vec<String> {
        let calls = self.0.lock();
        calls
            .iter()
            .filter_map(|call| call.1.as_ref().err())
            .map(ToString::to_string)
            .collect()
    }
}
