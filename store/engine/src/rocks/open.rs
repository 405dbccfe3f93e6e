//! How many databases of this process are open. What RocksDB's threads share is
//! gone when a process ends, so the databases must be closed by then; their last
//! owner may be any thread.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

static OPEN: AtomicUsize = AtomicUsize::new(0);

const POLL: Duration = Duration::from_millis(1);

/// Lives as long as a database does, and a moment longer.
pub struct Open(());

impl Open {
    pub fn new() -> Self {
        OPEN.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits until every RocksDB of this process is closed, at most for `limit`.
/// To be called at the very end of a process, by a thread that owns none;
/// false if one is still open.
pub fn wait_closed(limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while OPEN.load(Ordering::SeqCst) > 0 {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL);
    }
    true
}
