//! Reading entries back: from the tail, else from the segments.

use bytes::{Bytes, BytesMut};

use super::format::{BATCH_HEADER_LEN, BatchHeader, Place, Record, Records};
use super::limits::{READ_CHUNK, READ_ENTRIES};
use super::segments::{Segment, Start};
use super::state::{Shared, State};
use super::view::after;
use super::{Entry, LogId, WalError};

/// Where the next entries are.
enum Source {
    End,
    Tail,
    Disk(Start),
}

/// What is read so far, and how much more may be.
struct Output {
    entries: Vec<Entry>,
    next: u64,
    budget: usize,
    full: bool,
}

impl Output {
    fn new(next: u64, budget: usize) -> Self {
        Self {
            entries: Vec::new(),
            next,
            budget,
            full: false,
        }
    }

    /// Adds entries of the tail, so many that the lock is not held for long.
    fn push_tail(&mut self, state: &State, end: u64) {
        let tail = state.view.tail_from(self.next).take(READ_ENTRIES);
        for entry in tail.take_while(|entry| entry.index < end) {
            if !self.push(entry.clone()) {
                break;
            }
        }
    }

    /// Adds the next entry unless the budget forbids it; the first one always fits.
    fn push(&mut self, entry: Entry) -> bool {
        self.full = !self.entries.is_empty() && entry.payload.len() > self.budget;
        if !self.full {
            self.budget = self.budget.saturating_sub(entry.payload.len());
            self.next = entry.index + 1;
            self.entries.push(entry);
        }
        !self.full
    }
}

impl Shared {
    /// Entries from `from` up to, not including, `end`, of at most `max_bytes` of payload, but at
    /// least one.
    pub fn read(&self, from: u64, end: u64, max_bytes: usize) -> Result<Vec<Entry>, WalError> {
        let mut out = Output::new(from, max_bytes);
        let mut truncations = None;
        while !out.full {
            let state = self.lock();
            if *truncations.get_or_insert(state.view.truncations()) != state.view.truncations() {
                break;
            }
            let end = end.min(after(state.view.last()));
            match source(&state, &out, end)? {
                Source::End => break,
                Source::Tail => out.push_tail(&state, end),
                Source::Disk(start) => {
                    let end = end.min(start.end).min(state.view.tail_first());
                    drop(state);
                    let next = out.next;
                    if let Err(error) = self.read_segment(&start, end, &mut out) {
                        // The segment may have been purged and reused meanwhile.
                        let purged = after(self.lock().view.purged()) > next;
                        return Err(if purged {
                            WalError::Purged { index: next }
                        } else {
                            error
                        });
                    }
                }
            }
        }
        Ok(out.entries)
    }

    /// The same from the tail alone; `None` if `from` is in the segments, or purged.
    pub fn read_tail(&self, from: u64, end: u64, max_bytes: usize) -> Option<Vec<Entry>> {
        let state = self.lock();
        let mut out = Output::new(from, max_bytes);
        if from < state.view.tail_first() || from < after(state.view.purged()) {
            return None;
        }
        out.push_tail(&state, end);
        Some(out.entries)
    }

    /// Reads entries of one segment, batch by batch, each verified by its checksum.
    fn read_segment(&self, start: &Start, end: u64, out: &mut Output) -> Result<(), WalError> {
        let segment = &*start.segment;
        let mut window = Window {
            shared: self,
            segment,
            bytes: Bytes::new(),
            at: start.position,
        };
        let mut position = start.position;
        while out.next < end && !out.full {
            let place = Place {
                segment: segment.id,
                position,
            };
            let header =
                BatchHeader::decode(&window.get(position, BATCH_HEADER_LEN)?, self.settings.salt)
                    .filter(|header| header.place == place && !header.idle)
                    .ok_or_else(|| {
                        self.damaged(segment, position, "no batch where one was written")
                    })?;
            let total = header.total_len();
            let body = window
                .get(position, total)?
                .slice(BATCH_HEADER_LEN..BATCH_HEADER_LEN + header.body_len as usize);
            if !header.body_matches(&body) {
                return Err(self.damaged(segment, position, "wrong checksum of a batch"));
            }
            for record in Records::new(&body) {
                let record =
                    record.map_err(|_| self.damaged(segment, position, "malformed record"))?;
                let Record::Entry { id, payload } = record else {
                    continue;
                };
                if id.index < out.next {
                    continue;
                }
                if id.index > out.next {
                    return Err(self.damaged(segment, position, "an entry is missing"));
                }
                if id.index >= end || !out.push(entry(id, body.slice(payload))) {
                    break;
                }
            }
            position = u32::try_from(total)
                .ok()
                .and_then(|total| position.checked_add(total))
                .unwrap_or(u32::MAX);
        }
        Ok(())
    }

    fn damaged(&self, segment: &Segment, position: u32, reason: &str) -> WalError {
        let file = self.fs.describe(&segment.name);
        WalError::Corrupt {
            file,
            offset: u64::from(position),
            reason: reason.to_owned(),
        }
    }
}

fn entry(id: LogId, payload: Bytes) -> Entry {
    Entry {
        term: id.term,
        index: id.index,
        payload,
    }
}

fn source(state: &State, out: &Output, end: u64) -> Result<Source, WalError> {
    let index = out.next;
    if after(state.view.purged()) > index {
        return Err(WalError::Purged { index });
    }
    if index >= end {
        return Ok(Source::End);
    }
    if index >= state.view.tail_first() {
        return Ok(Source::Tail);
    }
    state
        .disk
        .locate(index)
        .map(Source::Disk)
        .ok_or(WalError::NotInLog { index })
}

/// A part of a segment in memory. Payloads read are slices of it.
struct Window<'a> {
    shared: &'a Shared,
    segment: &'a Segment,
    bytes: Bytes,
    at: u32,
}

impl Window<'_> {
    /// `len` bytes from `position`, which never goes back.
    fn get(&mut self, position: u32, len: usize) -> Result<Bytes, WalError> {
        let skip = (position - self.at) as usize;
        if let Some(end) = skip.checked_add(len).filter(|&end| end <= self.bytes.len()) {
            return Ok(self.bytes.slice(skip..end));
        }
        let left = self.segment.capacity.saturating_sub(position) as usize;
        if len > left {
            return Err(self.shared.damaged(
                self.segment,
                position,
                "a batch reaches beyond the segment",
            ));
        }
        let mut bytes = BytesMut::zeroed(len.max(READ_CHUNK).min(left));
        let read = self
            .segment
            .file
            .read_at(u64::from(position), &mut bytes)
            .map_err(|source| {
                let file = self.shared.fs.describe(&self.segment.name);
                WalError::io("read", file, Some(u64::from(position)), source)
            })?;
        if read < len {
            return Err(self.shared.damaged(
                self.segment,
                position,
                "the file is shorter than it was",
            ));
        }
        bytes.truncate(read);
        self.bytes = bytes.freeze();
        self.at = position;
        Ok(self.bytes.slice(..len))
    }
}
