//! What the callers, the writer and the segment keeper share, under one lock, and how they wake
//! each other. No IO happens under the lock.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mizzen_counters::Histogram;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::format::{self, Place};
use super::fs::LogFs;
use super::keeper::Keeper;
use super::limits::{ITEM_OVERHEAD_BYTES, QUEUE_KEEP_ITEMS};
use super::segments::DiskLog;
use super::view::{View, after};
use super::{Entry, FatalHook, LogId, WalError};

/// Called once, when everything before it in the queue is durable, or with the error that stopped
/// the log. Runs on the writer thread and must not block.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// One element of the queue. Every operation is its records followed by its `Done`.
pub(super) enum Item {
    Entry(Entry),
    Vote(Bytes),
    Truncate(Option<LogId>),
    Purge(LogId),
    /// Goes with the next batch or idle marker; causes none itself.
    Committed(LogId),
    Done(u64, Option<Done>),
}

impl Item {
    /// Upper bound of the bytes this adds to a batch.
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Entry(entry) => format::ENTRY_OVERHEAD + entry.payload.len(),
            Self::Vote(vote) => format::VOTE_OVERHEAD + vote.len(),
            Self::Truncate(_) | Self::Purge(_) => format::MARK_LEN,
            Self::Committed(_) | Self::Done(..) => 0,
        }
    }

    /// What this counts for in the bound of the queue.
    pub fn cost(&self) -> usize {
        match self {
            Self::Entry(entry) => entry.payload.len() + ITEM_OVERHEAD_BYTES,
            _ => ITEM_OVERHEAD_BYTES,
        }
    }
}

/// A change of the log other than entries.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mark {
    Truncate(Option<LogId>),
    Purge(LogId),
}

/// A batch that is durable: marks first, entries after them.
pub(super) struct Written {
    pub place: Place,
    pub marks: Vec<Mark>,
    /// First index and last id.
    pub entries: Option<(u64, LogId)>,
    /// The last operation that is complete with this batch.
    pub sequence: Option<u64>,
    /// What the batch counted for in the queue.
    pub cost: usize,
    /// The last entry and purge mark in the segments with this batch.
    pub last: Option<LogId>,
    pub purged: Option<LogId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sleep {
    /// The writer is awake and will look at the queue.
    Busy,
    /// Asleep until something urgent is queued, or for the idle delay.
    Timed,
    /// Asleep until anything is queued.
    Parked,
}

/// What the writer does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    Batches,
    Idle,
    Close,
    Stop,
}

pub(super) struct State {
    pub queue: VecDeque<Item>,
    /// The queue holds something that must become durable.
    urgent: bool,
    writer: Sleep,
    /// The last operation submitted.
    pub submitted: u64,
    /// Truncations not yet durable: operation, and the first index they cut.
    cuts: VecDeque<(u64, u64)>,
    pub view: View,
    pub committed: Option<LogId>,
    pub disk: DiskLog,
    pub keeper: Keeper,
    poisoned: Option<Arc<WalError>>,
    pub closing: bool,
    waiters: usize,
}

pub(super) struct Settings {
    pub salt: u64,
    pub segment_bytes: u32,
    pub tail_bytes: usize,
    pub queue_bytes: usize,
    pub idle_after: Duration,
    pub on_failure: Option<FatalHook>,
    /// No threads: the owner steps the writer.
    pub stepped: bool,
}

pub(super) struct Shared {
    pub fs: Arc<dyn LogFs>,
    pub settings: Settings,
    state: Mutex<State>,
    work: Condvar,
    pub chores: Condvar,
    pub progress: Condvar,
    /// Index after the last durable entry. Written under the lock.
    durable_next: AtomicU64,
    /// The last durable operation. Written under the lock.
    durable_sequence: AtomicU64,
    queued: AtomicUsize,
    written: AtomicU64,
    syncs: Histogram,
    opened: Instant,
    /// When the writer began what it does on the disk now, in microseconds since `opened`; 0: it
    /// does nothing.
    begun: AtomicU64,
}

impl Shared {
    pub fn new(
        fs: Arc<dyn LogFs>,
        settings: Settings,
        view: View,
        disk: DiskLog,
        keeper: Keeper,
    ) -> Self {
        let durable_next = after(view.last());
        let state = State {
            queue: VecDeque::new(),
            urgent: false,
            writer: Sleep::Busy,
            submitted: 0,
            cuts: VecDeque::new(),
            view,
            committed: None,
            disk,
            keeper,
            poisoned: None,
            closing: false,
            waiters: 0,
        };
        Self {
            fs,
            settings,
            state: Mutex::new(state),
            work: Condvar::new(),
            chores: Condvar::new(),
            progress: Condvar::new(),
            durable_next: AtomicU64::new(durable_next),
            durable_sequence: AtomicU64::new(0),
            queued: AtomicUsize::new(0),
            written: AtomicU64::new(0),
            // etcd's buckets.
            syncs: Histogram::doubling(Duration::from_millis(1), 14),
            opened: Instant::now(),
            begun: AtomicU64::new(0),
        }
    }

    /// Notes that the writer begins something on the disk, or has ended it.
    pub fn note_work(&self, under_way: bool) {
        let begun = if under_way { self.micros().max(1) } else { 0 };
        self.begun.store(begun, Ordering::Relaxed);
    }

    pub fn work_age(&self) -> Duration {
        match self.begun.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            begun => Duration::from_micros(self.micros().saturating_sub(begun)),
        }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub fn durable_next(&self) -> u64 {
        self.durable_next.load(Ordering::Acquire)
    }

    pub fn durable_sequence(&self) -> u64 {
        self.durable_sequence.load(Ordering::Acquire)
    }

    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    pub fn syncs(&self) -> &Histogram {
        &self.syncs
    }

    pub fn count_written(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The lock, if the log accepts operations.
    pub fn accept(&self) -> Result<MutexGuard<'_, State>, WalError> {
        let state = self.lock();
        state.healthy()?;
        if state.closing {
            Err(WalError::Closed)
        } else {
            Ok(state)
        }
    }

    /// Queues one operation of `items` and returns its number.
    pub fn submit(
        &self,
        state: &mut State,
        items: impl IntoIterator<Item = Item>,
        cost: usize,
        done: Option<Done>,
    ) -> u64 {
        state.submitted += 1;
        let sequence = state.submitted;
        state.queue.extend(items);
        state.queue.push_back(Item::Done(sequence, done));
        self.queued
            .fetch_add(cost + ITEM_OVERHEAD_BYTES, Ordering::Relaxed);
        state.urgent = true;
        if state.writer != Sleep::Busy {
            state.writer = Sleep::Busy;
            self.work.notify_one();
        }
        sequence
    }

    /// Queues the committed id, replacing one that nothing has been queued after.
    pub fn submit_committed(&self, state: &mut State, id: LogId) {
        match state.queue.back_mut() {
            Some(Item::Committed(queued)) => *queued = id,
            _ => {
                self.queued
                    .fetch_add(ITEM_OVERHEAD_BYTES, Ordering::Relaxed);
                state.queue.push_back(Item::Committed(id));
            }
        }
        if state.writer == Sleep::Parked {
            state.writer = Sleep::Busy;
            self.work.notify_one();
        }
    }

    /// Notes a truncation just submitted: what it cuts is not durable any more.
    pub fn note_cut(&self, state: &mut State, sequence: u64, end: u64) {
        state.cuts.push_back((sequence, end));
        if self.durable_next() > end {
            self.durable_next.store(end, Ordering::Release);
        }
    }

    /// Moves the queue to `pending` when there is work for the writer; sleeps until then.
    pub fn next_work(&self, pending: &mut VecDeque<Item>, marker_due: bool) -> Work {
        let mut state = self.lock();
        loop {
            let work = if state.poisoned.is_some() {
                Some(Work::Stop)
            } else if state.urgent {
                Some(Work::Batches)
            } else if state.closing {
                Some(Work::Close)
            } else if state.queue.is_empty() && !marker_due {
                state.writer = Sleep::Parked;
                self.work.wait(&mut state);
                None
            } else {
                state.writer = Sleep::Timed;
                let timeout = self
                    .work
                    .wait_for(&mut state, self.settings.idle_after)
                    .timed_out();
                (timeout && !state.urgent && !state.closing && state.poisoned.is_none())
                    .then_some(Work::Idle)
            };
            state.writer = Sleep::Busy;
            if let Some(work) = work {
                state.urgent = false;
                pending.append(&mut state.queue);
                if work == Work::Idle {
                    state.queue.shrink_to(QUEUE_KEEP_ITEMS);
                }
                return work;
            }
        }
    }

    /// As [`Shared::next_work`], without sleeping: `None` if nothing must become durable now.
    pub fn poll_work(&self, pending: &mut VecDeque<Item>, marker_due: bool) -> Option<Work> {
        let mut state = self.lock();
        let idle = marker_due || !state.queue.is_empty();
        let work = if state.poisoned.is_some() {
            Work::Stop
        } else if state.urgent {
            Work::Batches
        } else if state.keeper.has_chore() {
            return None;
        } else if idle {
            Work::Idle
        } else {
            return None;
        };
        state.urgent = false;
        pending.append(&mut state.queue);
        Some(work)
    }

    /// Makes a durable batch known: positions, watermarks, room in the tail and in the queue.
    pub fn publish(&self, written: &Written) -> Result<(), WalError> {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.healthy()?;
        for mark in &written.marks {
            match *mark {
                Mark::Truncate(last) => state.disk.truncate(last),
                Mark::Purge(upto) => state.disk.purge(upto),
            }
        }
        if let Some((first, last)) = written.entries {
            state.disk.add(first, last.index, written.place);
        }
        if let Some(sequence) = written.sequence {
            self.durable_sequence.store(sequence, Ordering::Release);
            while state.cuts.front().is_some_and(|cut| cut.0 <= sequence) {
                state.cuts.pop_front();
            }
        }
        // What is in the segments is what callers see, up to the first index that an operation
        // still queued changes: an entry queued without a cut before it continues the log, so only
        // cuts matter.
        let pending_cut = state.cuts.iter().map(|cut| cut.1).min().unwrap_or(u64::MAX);
        let durable_next = after(written.last).min(pending_cut);
        self.durable_next.store(durable_next, Ordering::Release);
        self.release(written.cost);
        if state.view.tail_bytes() > self.settings.tail_bytes {
            state.view.evict(self.settings.tail_bytes, durable_next);
        }
        while let Some(segment) = state.disk.take_purged(written.purged) {
            state.keeper.discard(segment);
            self.chores.notify_one();
        }
        if state.waiters > 0 {
            self.progress.notify_all();
        }
        Ok(())
    }

    /// Gives back room in the queue.
    pub fn release(&self, cost: usize) {
        self.queued.fetch_sub(cost, Ordering::Relaxed);
    }

    /// Waits until something the log reports may have changed.
    pub fn wait_progress(&self, state: &mut MutexGuard<'_, State>) {
        state.waiters += 1;
        self.progress.wait(state);
        state.waiters -= 1;
    }

    /// Stops the log for good. The first error is kept and given to the fatal hook.
    pub fn poison(&self, error: WalError) {
        let error = Arc::new(error);
        {
            let mut state = self.lock();
            if state.poisoned.is_some() {
                return;
            }
            state.poisoned = Some(error.clone());
        }
        tracing::error!(%error, "the Raft log stopped");
        if let Some(hook) = &self.settings.on_failure {
            hook(&error);
        }
        self.wake_all();
    }

    pub fn wake_all(&self) {
        self.work.notify_all();
        self.chores.notify_all();
        self.progress.notify_all();
    }
}

impl State {
    /// An error if the log has stopped.
    pub fn healthy(&self) -> Result<(), WalError> {
        self.poisoned
            .as_ref()
            .map_or(Ok(()), |error| Err(WalError::Poisoned(error.clone())))
    }
}
