//! The Raft log: a segmented write-ahead log with one fdatasync per batch of operations.
//!
//! Knows records, segments and fsync. Must not know what an entry or a vote means, nor anything of
//! Raft libraries, sockets or async runtimes: payloads and votes are opaque bytes.
//!
//! Operations (append, vote, truncation, purge, committed) are queued and numbered. They are
//! visible to readers of the log at once; entries are served from an in-memory tail until they are
//! durable and afterwards as long as the tail's budget allows. One writer drains the queue into
//! batches, writes and syncs each, then runs the callbacks in order. The format on disk is
//! specified in `store/FORMATS.md`, section "Raft log".
//!
//! ```text
//! append ──► View (tail) ──────────────► read
//!    └────► queue ──► Writer ──► batch ──► segment file ──► read
//!                       │ publish: DiskLog, durable_index, callbacks
//!                       └─ rotate ◄── Keeper (prepares, recycles, removes segments)
//! ```
//!
//! What "durable" means: [`Wal::durable_index`] is the largest index D such that a crash now would
//! leave, for every index up to D, the entry that the log shows there now. It goes down the moment a
//! truncation is queued (to where it cuts) and comes back when the truncation and the entries
//! written after it are on disk. A crash may leave more than D, never less.

mod error;
pub mod format;
mod fs;
mod keeper;
pub mod limits;
mod reader;
mod recovery;
mod segments;
mod state;
mod view;
mod writer;

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use mizzen_counters::Distribution;
use parking_lot::Mutex;

pub use error::WalError;
pub use fs::{LogFile, LogFs, RealFs};
pub use limits::MAX_ENTRY_BYTES;
pub use state::Done;

use state::{Item, Settings, Shared, State};
use view::after;
use writer::{Position, Writer};

/// Identity of an entry: the term it was proposed in and its index in the log. Callers have types
/// of their own for it, so that at the interface it is the pair (term, index).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogId {
    /// Raft term.
    pub term: u64,
    /// Raft index.
    pub index: u64,
}

impl LogId {
    fn pair(self) -> (u64, u64) {
        (self.term, self.index)
    }
}

/// One log entry. Indexes are below `u64::MAX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Raft term.
    pub term: u64,
    /// Raft index.
    pub index: u64,
    /// Opaque content, at most [`Wal::max_entry_bytes`].
    pub payload: Bytes,
}

/// Called once with the error that stopped the log, before any callback fails.
pub type FatalHook = Arc<dyn Fn(&WalError) + Send + Sync>;

/// Who runs the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Execution {
    /// Two threads of the log's own: the writer and the segment keeper.
    #[default]
    Threads,
    /// Nobody: the owner calls [`Wal::step`]. For simulation, where everything is one thread.
    Stepped,
}

/// How to open a log.
#[derive(Clone)]
pub struct Options {
    /// Size of new segment files, bytes.
    pub segment_bytes: u32,
    /// Budget of the in-memory tail, bytes.
    pub tail_bytes: usize,
    /// Hard limit of what is queued and not durable, bytes.
    pub queue_bytes: usize,
    /// Time without work after which the idle marker is written.
    pub idle_after: Duration,
    /// Who runs the writer.
    pub execution: Execution,
    /// Whether a log is created where there is none. A log that must exist is not created even by
    /// an attempt that fails: the next one would take the empty log for it.
    pub create: bool,
    /// Seed of the header checksums of a log that is created; random if absent.
    pub salt: Option<u64>,
    /// Called when the log stops for good; meant to end the process.
    pub on_failure: Option<FatalHook>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: limits::SEGMENT_BYTES,
            tail_bytes: limits::TAIL_BYTES,
            queue_bytes: limits::QUEUE_BYTES,
            idle_after: limits::IDLE_AFTER,
            execution: Execution::Threads,
            create: true,
            salt: None,
            on_failure: None,
        }
    }
}

impl Options {
    /// Sets what is called with the error when the log stops for good; meant to end the process.
    #[must_use]
    pub fn on_failure(mut self, hook: impl Fn(&WalError) + Send + Sync + 'static) -> Self {
        self.on_failure = Some(Arc::new(hook));
        self
    }
}

/// What opening a log found. All of it is durable. Pairs are (term, index).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The last vote saved.
    pub vote: Option<Bytes>,
    /// A committed id that was saved, not necessarily the last one; never after `last`.
    pub committed: Option<(u64, u64)>,
    /// The last purged entry.
    pub purged: Option<(u64, u64)>,
    /// The last entry, or the last purged one if no entry is left.
    pub last: Option<(u64, u64)>,
    /// The directory was empty and the log has just been created.
    pub created: bool,
}

/// An open log. All methods may be called from any thread; none but [`Wal::read`], the waits and
/// [`Wal::close`] does IO or blocks.
///
/// After an operation returned an error its callback is not called; else it is called exactly once.
/// A failed write or sync stops the log: every callback that waits gets the error, and every later
/// operation returns [`WalError::Poisoned`].
pub struct Wal {
    shared: Arc<Shared>,
    max_entry_bytes: usize,
    stepper: Option<Mutex<Writer>>,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    writer: Option<JoinHandle<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Wal {
    /// Opens the log in a directory that no other process uses; creates it in an empty one, unless
    /// the options say that it must exist.
    ///
    /// # Errors
    /// Damage of anything that was acknowledged, missing segments, an unknown format version, and
    /// failures of the file system; each names the file.
    pub fn open(fs: Arc<dyn LogFs>, options: Options) -> Result<(Self, Recovered), WalError> {
        let sizes = limits::MIN_SEGMENT_BYTES..=limits::MAX_SEGMENT_BYTES;
        if !sizes.contains(&options.segment_bytes) {
            return Err(WalError::Invalid(format!(
                "segment size {} is not in {sizes:?}",
                options.segment_bytes
            )));
        }
        let salt = options.create.then(|| {
            let random = || RandomState::new().hash_one(0);
            options.salt.unwrap_or_else(random)
        });
        let found = recovery::recover(&*fs, options.segment_bytes, salt)?;
        let recovered = Recovered {
            vote: found.position.state.vote.clone(),
            committed: found.position.committed.map(LogId::pair),
            purged: found.view.purged().map(LogId::pair),
            last: found.view.last().map(LogId::pair),
            created: found.created,
        };
        let settings = Settings {
            salt: found.salt,
            segment_bytes: options.segment_bytes,
            tail_bytes: options.tail_bytes,
            queue_bytes: options.queue_bytes,
            idle_after: options.idle_after,
            on_failure: options.on_failure,
            stepped: options.execution == Execution::Stepped,
        };
        let shared = Arc::new(Shared::new(
            fs,
            settings,
            found.view,
            found.disk,
            found.keeper,
        ));
        shared.lock().committed = found.position.committed;
        let wal = Self::start(
            shared,
            found.position,
            max_entry_bytes(options.segment_bytes),
        )?;
        Ok((wal, recovered))
    }

    fn start(
        shared: Arc<Shared>,
        position: Position,
        max_entry_bytes: usize,
    ) -> Result<Self, WalError> {
        let writer = Writer::new(shared.clone(), position);
        let mut wal = Self {
            shared,
            max_entry_bytes,
            stepper: None,
            threads: Mutex::default(),
        };
        if wal.shared.settings.stepped {
            wal.stepper = Some(Mutex::new(writer));
            return Ok(wal);
        }
        let keeper = wal.shared.clone();
        let mut threads = wal.threads.lock();
        let shared = &wal.shared;
        threads.keeper = Some(spawn(shared, "wal-keeper", move || keeper.keep_segments())?);
        threads.writer = Some(spawn(shared, "wal-writer", move || writer.run())?);
        drop(threads);
        Ok(wal)
    }

    /// Appends entries that follow the last one without a gap (a log that never had an entry may
    /// start at any index). They are readable on return; `done` is called when they are durable.
    ///
    /// # Errors
    /// [`WalError::QueueFull`] past the hard limit of the queue. The caller is the core of a Raft
    /// node, which may neither block nor skip an entry: admission has to keep
    /// [`Wal::queued_bytes`] well below, and this error ends the node rather than its memory.
    pub fn append(&self, entries: Vec<Entry>, done: Done) -> Result<(), WalError> {
        let cost = self.check_entries(&entries)?;
        let mut guard = self.shared.accept()?;
        let state = &mut *guard;
        let queued = self.shared.queued();
        if queued.saturating_add(cost) > self.shared.settings.queue_bytes {
            return Err(WalError::QueueFull {
                queued,
                limit: self.shared.settings.queue_bytes,
            });
        }
        if let (Some(first), Some(last)) = (entries.first(), state.view.last())
            && first.index != last.index + 1
        {
            let (got, last) = (first.index, last.index);
            return Err(invalid(format!(
                "entry {got} does not follow the last index {last}"
            )));
        }
        for entry in &entries {
            state.view.push(entry.clone());
        }
        let items = entries.into_iter().map(Item::Entry);
        self.shared.submit(state, items, cost, Some(done));
        Ok(())
    }

    fn check_entries(&self, entries: &[Entry]) -> Result<usize, WalError> {
        let mut cost = 0;
        let first = entries.first().map_or(0, |entry| entry.index);
        for (entry, expected) in entries.iter().zip(first..=u64::MAX) {
            let (index, len, max) = (entry.index, entry.payload.len(), self.max_entry_bytes);
            if index != expected || index == u64::MAX {
                return Err(invalid(format!(
                    "entry {index} where {expected} was expected"
                )));
            }
            if len > max {
                return Err(invalid(format!(
                    "entry {index} has {len} bytes, the limit is {max}"
                )));
            }
            cost += len + limits::ITEM_OVERHEAD_BYTES;
        }
        Ok(cost)
    }

    /// Saves a vote, in order with the entries; `done` is called when it is durable.
    pub fn save_vote(&self, vote: Bytes, done: Done) -> Result<(), WalError> {
        if vote.len() > limits::MAX_VOTE_BYTES {
            return Err(invalid(format!(
                "a vote of {} bytes, the limit is {}",
                vote.len(),
                limits::MAX_VOTE_BYTES
            )));
        }
        let mut state = self.shared.accept()?;
        let cost = limits::ITEM_OVERHEAD_BYTES;
        self.shared
            .submit(&mut state, [Item::Vote(vote)], cost, Some(done));
        Ok(())
    }

    /// Saves the committed id without a sync of its own: it goes with the next batch, or with the
    /// idle marker. An id that is not in the log (yet), or before the last one, is ignored: what is
    /// recovered must be true of the log that is recovered.
    pub fn save_committed(&self, (term, index): (u64, u64)) -> Result<(), WalError> {
        let committed = LogId { term, index };
        let mut guard = self.shared.accept()?;
        let state = &mut *guard;
        let later = after(Some(committed)) > after(state.committed);
        if later && state.view.term_of(committed.index) == Some(committed.term) {
            state.committed = Some(committed);
            self.shared.submit_committed(state, committed);
        }
        Ok(())
    }

    /// Drops all entries after `last_kept`; all that are not purged if `None`. `done` is called when
    /// that is durable. Dropping a committed entry is refused.
    pub fn truncate_after(&self, last_kept: Option<u64>, done: Done) -> Result<(), WalError> {
        let mut guard = self.shared.accept()?;
        let state = &mut *guard;
        let last = match last_kept {
            None => state.view.purged(),
            Some(index) if index >= after(state.view.last()) => state.view.last(),
            Some(index) => Some(held_id(state, index)?),
        };
        if after(last) < after(state.committed).max(after(state.view.purged())) {
            return Err(invalid(format!(
                "truncation after {last_kept:?} would drop committed or purged entries"
            )));
        }
        state.view.truncate(last);
        let cost = limits::ITEM_OVERHEAD_BYTES;
        let sequence = self
            .shared
            .submit(state, [Item::Truncate(last)], cost, Some(done));
        self.shared.note_cut(state, sequence, after(last));
        Ok(())
    }

    /// Forgets all entries through `upto`, at once for readers. If that is beyond the last entry
    /// (after a snapshot was received), the log becomes empty and goes on after `upto`. Segments are
    /// reused or removed in the background once the purge is durable. An `upto` that is already
    /// purged changes nothing.
    pub fn purge(&self, (term, index): (u64, u64)) -> Result<(), WalError> {
        let upto = LogId { term, index };
        let mut guard = self.shared.accept()?;
        let state = &mut *guard;
        if upto.index == u64::MAX {
            return Err(invalid("the largest index cannot be purged".to_owned()));
        }
        if after(Some(upto)) <= after(state.view.purged()) {
            return Ok(());
        }
        if state
            .view
            .term_of(upto.index)
            .is_some_and(|term| term != upto.term)
        {
            return Err(invalid(format!(
                "purge through {upto:?}, but the entry there has another term"
            )));
        }
        state.view.purge(upto);
        if after(state.committed) < after(Some(upto)) {
            state.committed = Some(upto);
        }
        let cost = limits::ITEM_OVERHEAD_BYTES;
        self.shared.submit(state, [Item::Purge(upto)], cost, None);
        Ok(())
    }

    /// Calls `done` when everything queued before is durable.
    pub fn barrier(&self, done: Done) -> Result<(), WalError> {
        let mut state = self.shared.accept()?;
        self.shared.submit(&mut state, [], 0, Some(done));
        Ok(())
    }

    /// Entries of `range` from its start on, of at most `max_bytes` of payload but at least one,
    /// stopping at the end of the log. Payloads may be slices of larger buffers: copy what is kept
    /// for long.
    ///
    /// # Errors
    /// [`WalError::Purged`] if the start is purged; damage and failures of the file system.
    pub fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<Entry>, WalError> {
        self.shared.read(range.start, range.end, max_bytes)
    }

    /// Whether entries from `index` on are served from memory at this moment. A hint: reading them
    /// later may need the disk after all.
    pub fn is_in_memory(&self, index: u64) -> bool {
        self.shared.lock().view.tail_first() <= index
    }

    /// As [`Wal::read`] if that needs no IO: if the start of the range is in the in-memory tail, or
    /// after the end of the log. Gives at most [`limits::READ_ENTRIES`] entries.
    pub fn read_in_memory(&self, range: Range<u64>, max_bytes: usize) -> Option<Vec<Entry>> {
        self.shared.read_tail(range.start, range.end, max_bytes)
    }

    /// The term of an entry in the log, or of the last purged one. Needs no IO.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        self.shared.lock().view.term_of(index)
    }

    /// Index of the first entry in the log.
    pub fn first_index(&self) -> Option<u64> {
        self.shared.lock().view.first_index()
    }

    /// The last entry, or the last purged one if the log is empty.
    pub fn last(&self) -> Option<(u64, u64)> {
        self.shared.lock().view.last().map(LogId::pair)
    }

    /// The last purged entry.
    pub fn purged(&self) -> Option<(u64, u64)> {
        self.shared.lock().view.purged().map(LogId::pair)
    }

    /// The last committed id saved.
    pub fn committed(&self) -> Option<(u64, u64)> {
        self.shared.lock().committed.map(LogId::pair)
    }

    /// Bytes queued and not yet durable, overheads included. One atomic read.
    pub fn queued_bytes(&self) -> usize {
        self.shared.queued()
    }

    /// How long the batch, or the idle marker, that is being written has taken so far; zero if none
    /// is. Far above a millisecond, the disk does not answer.
    pub fn work_age(&self) -> Duration {
        self.shared.work_age()
    }

    /// Largest payload of an entry, bytes.
    pub fn max_entry_bytes(&self) -> usize {
        self.max_entry_bytes
    }

    /// Number of segment files in use. The log takes about this many times the segment size, plus
    /// one prepared segment and the spares.
    pub fn segments(&self) -> usize {
        self.shared.lock().disk.len()
    }

    /// Bytes of the segment files in use, the unused part of the newest included.
    pub fn size_bytes(&self) -> u64 {
        self.shared.lock().disk.size_bytes()
    }

    /// How long each fdatasync took since the log was opened.
    pub fn sync_times(&self) -> Distribution {
        self.shared.syncs().read()
    }

    /// Bytes written since the log was opened. One atomic read.
    pub fn written_bytes(&self) -> u64 {
        self.shared.written()
    }

    /// The largest index whose purge leaves at least the newest `bytes` of the log, if there is
    /// one. Purging less than a segment gives no space back, so that it is the last one of a segment.
    pub fn index_before_last(&self, bytes: u64) -> Option<u64> {
        self.shared.lock().disk.index_before_last(bytes)
    }

    /// Whether the next segment is ready or being made. `false` warns that the disk is full: the
    /// log stops when the current segment is.
    pub fn can_grow(&self) -> bool {
        self.shared.lock().keeper.is_able()
    }

    /// The largest index D such that a crash now would leave, for every index up to D, the entry
    /// that the log shows now. `None` if there is none. One atomic read.
    pub fn durable_index(&self) -> Option<u64> {
        self.shared.durable_next().checked_sub(1)
    }

    /// Number of the last operation queued.
    pub fn submitted_sequence(&self) -> u64 {
        self.shared.lock().submitted
    }

    /// Number of the last operation that is durable with all before it. One atomic read.
    pub fn durable_sequence(&self) -> u64 {
        self.shared.durable_sequence()
    }

    /// Blocks until [`Wal::durable_index`] is at least `index`: then the entry that the log shows at
    /// `index`, and all before it, survive a crash. Before a received snapshot replaces the rows, use
    /// [`Wal::wait_sequence`] with [`Wal::submitted_sequence`]: its index may be beyond the log.
    ///
    /// # Errors
    /// [`WalError::NotInLog`] if the log ends before `index`, also when a truncation makes it so
    /// while this waits; and the error that stopped the log.
    pub fn wait_durable(&self, index: u64) -> Result<(), WalError> {
        if self.shared.durable_next() > index {
            return Ok(());
        }
        self.wait(|state| {
            if self.shared.durable_next() > index {
                Ok(true)
            } else if index >= after(state.view.last()) {
                Err(WalError::NotInLog { index })
            } else {
                Ok(false)
            }
        })
    }

    /// Blocks until the operation `sequence` and all before it are durable.
    pub fn wait_sequence(&self, sequence: u64) -> Result<(), WalError> {
        self.wait(|state| {
            if self.shared.durable_sequence() >= sequence {
                Ok(true)
            } else if sequence > state.submitted {
                Err(invalid(format!("operation {sequence} has not been queued")))
            } else {
                Ok(false)
            }
        })
    }

    fn wait(&self, ready: impl Fn(&State) -> Result<bool, WalError>) -> Result<(), WalError> {
        let mut state = self.shared.lock();
        while !ready(&state)? {
            state.healthy()?;
            if self.stepper.is_none() {
                self.shared.wait_progress(&mut state);
                continue;
            }
            drop(state);
            if !self.step() {
                self.shared.lock().healthy()?;
                return Err(invalid(
                    "waiting for the log from one of its callbacks".to_owned(),
                ));
            }
            state = self.shared.lock();
        }
        Ok(())
    }

    /// With [`Execution::Stepped`]: writes and syncs one batch, or does one piece of background
    /// work, or writes the idle marker. Returns `false` if there was nothing to do, if the log has
    /// stopped, or if it is called from a callback.
    pub fn step(&self) -> bool {
        self.stepper
            .as_ref()
            .and_then(Mutex::try_lock)
            .is_some_and(|mut writer| writer.step())
    }

    /// Writes everything queued, declares it synced, and stops. Later operations are refused.
    /// Must not be called from a callback.
    pub fn close(&self) -> Result<(), WalError> {
        self.shared.lock().closing = true;
        self.shared.wake_all();
        if let Some(mut writer) = self.stepper.as_ref().and_then(Mutex::try_lock) {
            while writer.step() {}
            writer.finish(true);
        }
        let mut threads = self.threads.lock();
        join(&mut threads.writer);
        self.shared.lock().keeper.stop();
        self.shared.wake_all();
        join(&mut threads.keeper);
        drop(threads);
        self.shared.lock().healthy()
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        if self.stepper.is_none() {
            // An error was given to the callbacks and to the fatal hook already.
            let _ = self.close();
        }
    }
}

fn max_entry_bytes(segment_bytes: u32) -> usize {
    // An entry must fit in an empty segment, after its header, the headers of its batch and of an
    // idle marker, and the state record.
    let overhead = format::SEGMENT_HEADER_LEN as usize
        + 2 * format::BATCH_HEADER_LEN
        + format::STATE_OVERHEAD
        + limits::MAX_VOTE_BYTES
        + format::ENTRY_OVERHEAD
        + 2 * format::ALIGN;
    limits::MAX_ENTRY_BYTES.min((segment_bytes as usize).saturating_sub(overhead))
}

fn held_id(state: &State, index: u64) -> Result<LogId, WalError> {
    let term = state
        .view
        .term_of(index)
        .ok_or(WalError::NotInLog { index })?;
    Ok(LogId { term, index })
}

fn invalid(reason: String) -> WalError {
    WalError::Invalid(reason)
}

/// Starts a thread of the log. If it panics the log stops: callers must not wait for ever.
fn spawn(
    shared: &Arc<Shared>,
    name: &'static str,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, WalError> {
    let shared = shared.clone();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
                shared.poison(WalError::Panicked { thread: name });
                resume_unwind(panic);
            }
        })
        .map_err(|source| WalError::io("start thread", name.to_owned(), None, source))
}

/// Joins a thread, unless it is the one that runs this: the last handle may be dropped in a callback.
fn join(thread: &mut Option<JoinHandle<()>>) {
    let Some(thread) = thread.take() else { return };
    if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
        tracing::error!("a thread of the Raft log panicked");
    }
}
