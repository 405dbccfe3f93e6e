//! The writer: drains the queue into one write and one fdatasync per batch, then acknowledges.
//!
//! Invariant: a batch is written only after the batch before it was synced, so at most one batch of
//! the log is not synced at any time, and it is the last one.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::format::{
    ALIGN, BATCH_HEADER_LEN, BatchEncoder, BatchHeader, LogState, Place, SEGMENT_HEADER_LEN,
    STATE_OVERHEAD,
};
use super::limits::{MAX_BATCH_BYTES, MAX_VOTE_BYTES, QUEUE_KEEP_ITEMS};
use super::segments::{Held, Segment};
use super::state::{Done, Item, Mark, Shared, Work, Written};
use super::{LogId, WalError};

/// Where the writer goes on, as recovery found it.
pub(super) struct Position {
    pub active: Arc<Segment>,
    pub position: u32,
    pub sequence: u64,
    pub state: LogState,
    pub committed: Option<LogId>,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    active: Arc<Segment>,
    position: u32,
    sequence: u64,
    /// End of what is synced: the position, or, at the start of a segment, the end of the last one.
    synced: Place,
    /// The log as of the batches encoded so far.
    logged: LogState,
    committed: Option<LogId>,
    pending: VecDeque<Item>,
    encoder: BatchEncoder,
    dones: Vec<Done>,
    /// A batch or a committed id came after the last idle marker.
    marker_due: bool,
}

/// What one batch holds, beside the encoded bytes.
#[derive(Default)]
struct Filled {
    marks: Vec<Mark>,
    sequence: Option<u64>,
    cost: usize,
}

impl Writer {
    pub fn new(shared: Arc<Shared>, at: Position) -> Self {
        Self {
            shared,
            synced: Place {
                segment: at.active.id,
                position: at.position,
            },
            active: at.active,
            position: at.position,
            sequence: at.sequence,
            logged: at.state,
            committed: at.committed,
            pending: VecDeque::new(),
            encoder: BatchEncoder::new(),
            dones: Vec::new(),
            marker_due: true,
        }
    }

    /// The body of the writer thread.
    pub fn run(mut self) {
        loop {
            let work = self.shared.next_work(&mut self.pending, self.marker_due);
            let result = match work {
                Work::Batches => self.batches(),
                Work::Idle => self.noted(Self::idle),
                Work::Close | Work::Stop => {
                    self.finish(work == Work::Close);
                    break;
                }
            };
            if let Err(error) = result {
                self.fail(error);
                break;
            }
        }
    }

    /// Without a thread: writes one batch, does one chore, or writes the idle marker. `false` if
    /// there is nothing to do.
    pub fn step(&mut self) -> bool {
        let marker_due = self.marker_due && !self.is_fresh();
        let work = if self.pending.is_empty() {
            self.shared.poll_work(&mut self.pending, marker_due)
        } else {
            Some(Work::Batches)
        };
        let result = match work {
            Some(Work::Batches) => self.batch(),
            Some(Work::Idle) => self.idle(),
            Some(Work::Close | Work::Stop) => {
                self.finish(false);
                return false;
            }
            None => return self.shared.do_chore(),
        };
        if let Err(error) = result {
            self.fail(error);
            return false;
        }
        true
    }

    /// Writes what is queued, declares it synced, and syncs that declaration.
    pub fn finish(&mut self, orderly: bool) {
        let result = if orderly {
            self.batches()
                .and_then(|()| self.idle())
                .and_then(|()| self.sync())
        } else {
            Ok(())
        };
        match result.and_then(|()| self.shared.lock().healthy()) {
            Ok(()) => {}
            Err(error) => self.fail(error),
        }
    }

    fn batches(&mut self) -> Result<(), WalError> {
        while !self.pending.is_empty() {
            self.noted(Self::batch)?;
        }
        Ok(())
    }

    /// Does `work` on the disk, and lets everyone see since when.
    fn noted(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), WalError>,
    ) -> Result<(), WalError> {
        self.shared.note_work(true);
        let done = work(self);
        self.shared.note_work(false);
        done
    }

    /// One batch: encode, write, sync, publish, acknowledge.
    fn batch(&mut self) -> Result<(), WalError> {
        let filled = self.fill()?;
        let place = self.place();
        if self.encoder.bytes() > BATCH_HEADER_LEN {
            self.write()?;
            self.sync()?;
            self.synced = self.place();
            self.marker_due = true;
        }
        self.shared.publish(&Written {
            place,
            marks: filled.marks,
            entries: self.encoder.entries(),
            sequence: filled.sequence,
            cost: filled.cost,
            last: self.logged.last,
            purged: self.logged.purged,
        })?;
        for done in self.dones.drain(..) {
            done(Ok(()));
        }
        Ok(())
    }

    /// Moves items into the encoder until the batch is full. A mark ends a batch that has entries:
    /// readers rely on the entries of a batch being consecutive and current.
    fn fill(&mut self) -> Result<Filled, WalError> {
        let first_len = self
            .pending
            .iter()
            .map(Item::encoded_len)
            .find(|&len| len > 0)
            .unwrap_or(0);
        if first_len > 0 && self.needed(first_len) > self.room() {
            self.rotate(first_len)?;
        }
        self.encoder.begin();
        if first_len > 0 && self.is_fresh() {
            self.encoder.state(&self.logged);
        }
        let limit = MAX_BATCH_BYTES
            .max(self.encoder.bytes() + first_len)
            .min(self.room());
        let mut filled = Filled::default();
        while let Some(item) = self.pending.front() {
            let is_mark = matches!(item, Item::Truncate(_) | Item::Purge(_));
            let len = item.encoded_len();
            if len > 0
                && (self.encoder.bytes() + len > limit
                    || is_mark && self.encoder.entries().is_some())
            {
                break;
            }
            filled.cost += item.cost();
            if let Some(item) = self.pending.pop_front() {
                self.encode(item, &mut filled);
            }
        }
        Ok(filled)
    }

    fn encode(&mut self, item: Item, filled: &mut Filled) {
        match item {
            Item::Entry(entry) => {
                self.encoder.entry(&entry);
                self.logged.last = Some(LogId {
                    term: entry.term,
                    index: entry.index,
                });
            }
            Item::Vote(vote) => {
                self.encoder.vote(&vote);
                self.logged.vote = Some(vote);
            }
            Item::Truncate(last) => {
                self.encoder.truncate(last);
                self.logged.last = last;
                filled.marks.push(Mark::Truncate(last));
            }
            Item::Purge(upto) => {
                self.encoder.purge(upto);
                self.logged.purge(upto);
                filled.marks.push(Mark::Purge(upto));
            }
            Item::Committed(id) => {
                self.committed = Some(id);
                self.marker_due = true;
            }
            Item::Done(sequence, done) => {
                filled.sequence = Some(sequence);
                self.dones.extend(done);
            }
        }
    }

    /// Space for a batch in the active segment, bytes, leaving room for an idle marker after it.
    fn room(&self) -> usize {
        let left = (self.active.capacity - self.position) as usize;
        (left - left % ALIGN).saturating_sub(BATCH_HEADER_LEN)
    }

    /// Space for a batch that holds a record of `len` bytes, at most.
    fn needed(&self, len: usize) -> usize {
        let state = if self.is_fresh() {
            STATE_OVERHEAD + MAX_VOTE_BYTES
        } else {
            0
        };
        BATCH_HEADER_LEN + state + len
    }

    fn is_fresh(&self) -> bool {
        self.position == SEGMENT_HEADER_LEN
    }

    fn place(&self) -> Place {
        Place {
            segment: self.active.id,
            position: self.position,
        }
    }

    /// Goes on in the prepared segment. An empty segment is never left: recovery relies on every
    /// segment but the newest ones having a batch.
    fn rotate(&mut self, len: usize) -> Result<(), WalError> {
        if self.is_fresh() {
            return Err(too_small(&self.active));
        }
        let segment = self.shared.take_prepared()?;
        self.shared.lock().disk.add_segment(Held {
            segment: segment.clone(),
            last_before: self.logged.last,
        });
        self.active = segment;
        self.position = SEGMENT_HEADER_LEN;
        if self.needed(len) > self.room() {
            Err(too_small(&self.active))
        } else {
            Ok(())
        }
    }

    fn write(&mut self) -> Result<(), WalError> {
        let header = self.header(false);
        let bytes = self.encoder.finish(header, self.shared.settings.salt);
        let length = u32::try_from(bytes.len()).expect("a batch is smaller than a segment");
        self.active
            .file
            .write_at(u64::from(self.position), bytes)
            .map_err(|source| self.error("write", source))?;
        self.shared.count_written(u64::from(length));
        self.position += length;
        self.sequence += 1;
        Ok(())
    }

    fn sync(&self) -> Result<(), WalError> {
        let begun = Instant::now();
        let synced = self.active.file.sync_data();
        self.shared.syncs().observe(begun.elapsed());
        synced.map_err(|source| self.error("sync", source))
    }

    /// Writes the idle marker: it declares everything before it synced. The next batch overwrites
    /// it, so it costs no space, and it needs no sync: where it is missing, the last batch merely
    /// counts as possibly unsynced.
    fn idle(&mut self) -> Result<(), WalError> {
        let mut filled = Filled::default();
        while let Some(item) = self.pending.pop_front() {
            filled.cost += item.cost();
            self.encode(item, &mut filled);
        }
        self.pending.shrink_to(QUEUE_KEEP_ITEMS);
        self.shared.release(filled.cost);
        if self.marker_due && !self.is_fresh() {
            let bytes = self.header(true).encode(self.shared.settings.salt);
            self.active
                .file
                .write_at(u64::from(self.position), &bytes)
                .map_err(|source| self.error("write", source))?;
        }
        self.marker_due = false;
        Ok(())
    }

    fn header(&self, idle: bool) -> BatchHeader {
        BatchHeader {
            body_crc: 0,
            body_len: 0,
            sequence: self.sequence,
            place: self.place(),
            idle,
            synced: self.synced,
            committed: self.committed,
        }
    }

    fn error(&self, operation: &'static str, source: io::Error) -> WalError {
        let file = self.shared.fs.describe(&self.active.name);
        WalError::io(operation, file, Some(u64::from(self.position)), source)
    }

    /// Stops the log: every callback that waits gets the error, in order.
    fn fail(&mut self, error: WalError) {
        self.shared.poison(error);
        let mut state = self.shared.lock();
        let cause = state.healthy().err().unwrap_or(WalError::Closed);
        self.pending.append(&mut state.queue);
        drop(state);
        let waiting = self.pending.drain(..).filter_map(|item| match item {
            Item::Done(_, done) => done,
            _ => None,
        });
        for done in self.dones.drain(..).chain(waiting) {
            done(Err(cause.clone().into()));
        }
    }
}

/// Cannot happen while the largest record is derived from the segment size.
fn too_small(segment: &Segment) -> WalError {
    WalError::Invalid(format!("{} is too small for the next record", segment.name))
}

impl LogState {
    /// The state after a purge: beyond the last entry, the log is empty there.
    pub fn purge(&mut self, upto: LogId) {
        self.purged = Some(upto);
        if self.last.is_none_or(|last| last.index <= upto.index) {
            self.last = Some(upto);
        }
    }
}
