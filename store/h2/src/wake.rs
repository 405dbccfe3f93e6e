//! How what a connection waits for reaches its one task: which streams are to
//! be looked at, and which bytes of requests have been read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
};

use futures::task::AtomicWaker;
use parking_lot::Mutex;

pub struct Wakes {
    task: AtomicWaker,
    woken: Mutex<Vec<usize>>,
    /// Bytes of request bodies that are out of the way and not yet granted
    /// again.
    consumed: AtomicUsize,
    /// From so many on the task is woken for them.
    worth: usize,
}

impl Wakes {
    pub fn new(worth: usize) -> Arc<Self> {
        Arc::new(Self {
            task: AtomicWaker::new(),
            woken: Mutex::default(),
            consumed: AtomicUsize::new(0),
            worth,
        })
    }

    /// The task that is to be woken from here on.
    pub fn register(&self, task: &Waker) {
        self.task.register(task);
    }

    pub fn wake(&self) {
        self.task.wake();
    }

    /// Moves the places that were woken to `into`, which is empty.
    pub fn take(&self, into: &mut Vec<usize>) {
        std::mem::swap(&mut *self.woken.lock(), into);
    }

    pub fn consume(&self, bytes: usize) {
        let before = self.consumed.fetch_add(bytes, Ordering::AcqRel);
        if before < self.worth && before + bytes >= self.worth {
            self.wake();
        }
    }

    /// What may be granted again, if it is worth a frame.
    pub fn take_consumed(&self) -> Option<usize> {
        let consumed = self.consumed.load(Ordering::Acquire);
        if consumed < self.worth {
            return None;
        }
        self.consumed.fetch_sub(consumed, Ordering::AcqRel);
        Some(consumed)
    }
}

/// Wakes one place of a connection. It may have another stream by then: to
/// look at that one once too often is no harm.
pub struct Place {
    wakes: Arc<Wakes>,
    place: usize,
    woken: AtomicBool,
}

impl Place {
    pub fn new(wakes: Arc<Wakes>, place: usize) -> Arc<Self> {
        Arc::new(Self {
            wakes,
            place,
            woken: AtomicBool::new(false),
        })
    }

    /// Before it is looked at: whatever comes from here on wakes it again.
    pub fn look(&self) {
        self.woken.store(false, Ordering::SeqCst);
    }
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            self.wakes.woken.lock().push(self.place);
            self.wakes.wake();
        }
    }
}
