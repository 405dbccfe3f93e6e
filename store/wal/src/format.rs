//! Bytes of a segment: the segment header, batch headers and records. All numbers little-endian.
//!
//! `store/FORMATS.md`, section "Raft log", is the specification. Nothing here does IO, and no
//! input makes it panic.

use std::ops::Range;

use bytes::Bytes;

use super::{Entry, LogId};

pub const VERSION: u32 = 1;
pub const SEGMENT_HEADER_LEN: u32 = 64;
pub const BATCH_HEADER_LEN: usize = 72;
/// Batches start at multiples of this, so that a scan for headers looks at few places.
pub const ALIGN: usize = 8;

const SEGMENT_MAGIC: [u8; 8] = *b"MZNRLOG\0";
pub const BATCH_MAGIC: u32 = u32::from_le_bytes(*b"MzB\x9d");

const FLAG_IDLE: u32 = 1;
const FLAG_COMMITTED: u32 = 2;

const KIND_STATE: u8 = 1;
const KIND_ENTRIES: u8 = 2;
const KIND_VOTE: u8 = 3;
const KIND_TRUNCATE: u8 = 4;
const KIND_PURGE: u8 = 5;

/// Bytes of an entries record before its first entry: kind, count, term, first index.
const RUN_HEADER_LEN: usize = 1 + 4 + 8 + 8;
/// Upper bound of the encoded size of an entry beside its payload.
pub const ENTRY_OVERHEAD: usize = RUN_HEADER_LEN + 4;
/// Upper bound of the encoded size of a state record beside the vote.
pub const STATE_OVERHEAD: usize = 1 + 1 + 4 + 16 + 16;
/// Upper bound of the encoded size of a vote record beside the vote.
pub const VOTE_OVERHEAD: usize = 1 + 4;
/// Encoded size of a truncate record; a purge record is no larger.
pub const MARK_LEN: usize = 1 + 1 + 16;

pub fn align(length: usize) -> usize {
    length.next_multiple_of(ALIGN)
}

/// A place in the log: a segment and an offset in it. Ordered as the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub segment: u64,
    pub position: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    pub id: u64,
    /// Random number of this log. It seeds the header checksums, so that no payload, whoever chose
    /// its bytes, can contain what looks like a batch header of this log.
    pub salt: u64,
    pub capacity: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SegmentHeaderError {
    Version(u32),
    Damaged(&'static str),
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_LEN as usize] {
        let mut out = [0; SEGMENT_HEADER_LEN as usize];
        out[..8].copy_from_slice(&SEGMENT_MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.id.to_le_bytes());
        out[24..32].copy_from_slice(&self.salt.to_le_bytes());
        out[32..36].copy_from_slice(&self.capacity.to_le_bytes());
        let crc = segment_crc(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8; SEGMENT_HEADER_LEN as usize]) -> Result<Self, SegmentHeaderError> {
        let mut input = Input::new(bytes);
        let damaged = SegmentHeaderError::Damaged;
        if input.take(8) != Some(&SEGMENT_MAGIC[..]) {
            return Err(damaged("not a segment of a Raft log (wrong magic)"));
        }
        // The version comes before the checksum: another version may compute it otherwise.
        let version = input.u32().ok_or(damaged("short header"))?;
        if version != VERSION {
            return Err(SegmentHeaderError::Version(version));
        }
        if input.u32() != Some(segment_crc(bytes)) {
            return Err(damaged("wrong checksum of the segment header"));
        }
        match (input.u64(), input.u64(), input.u32()) {
            (Some(id), Some(salt), Some(capacity)) => Ok(Self { id, salt, capacity }),
            _ => Err(damaged("short header")),
        }
    }
}

fn segment_crc(bytes: &[u8; SEGMENT_HEADER_LEN as usize]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    pub body_crc: u32,
    pub body_len: u32,
    /// Counts batches since the log was created. An idle marker has the number of the batch that
    /// will replace it.
    pub sequence: u64,
    /// Where this header is.
    pub place: Place,
    /// An idle marker: no body, and the next batch is written over it.
    pub idle: bool,
    /// Everything before this place was synced when this header was written.
    pub synced: Place,
    pub committed: Option<LogId>,
}

impl BatchHeader {
    pub fn encode(&self, salt: u64) -> [u8; BATCH_HEADER_LEN] {
        let mut flags = 0;
        if self.idle {
            flags |= FLAG_IDLE;
        }
        if self.committed.is_some() {
            flags |= FLAG_COMMITTED;
        }
        let committed = self.committed.unwrap_or(LogId { term: 0, index: 0 });
        let mut out = [0; BATCH_HEADER_LEN];
        out[..4].copy_from_slice(&BATCH_MAGIC.to_le_bytes());
        out[8..12].copy_from_slice(&self.body_crc.to_le_bytes());
        out[12..16].copy_from_slice(&self.body_len.to_le_bytes());
        out[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        out[24..32].copy_from_slice(&self.place.segment.to_le_bytes());
        out[32..36].copy_from_slice(&self.place.position.to_le_bytes());
        out[36..40].copy_from_slice(&flags.to_le_bytes());
        out[40..48].copy_from_slice(&self.synced.segment.to_le_bytes());
        out[48..52].copy_from_slice(&self.synced.position.to_le_bytes());
        out[56..64].copy_from_slice(&committed.term.to_le_bytes());
        out[64..72].copy_from_slice(&committed.index.to_le_bytes());
        let crc = header_crc(&out, salt);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header in `bytes`, if it is one of this log: right magic and checksum.
    pub fn decode(bytes: &[u8], salt: u64) -> Option<Self> {
        let bytes: &[u8; BATCH_HEADER_LEN] = bytes.get(..BATCH_HEADER_LEN)?.try_into().ok()?;
        let mut input = Input::new(bytes);
        if input.u32()? != BATCH_MAGIC || input.u32()? != header_crc(bytes, salt) {
            return None;
        }
        let (body_crc, body_len) = (input.u32()?, input.u32()?);
        let sequence = input.u64()?;
        let place = Place {
            segment: input.u64()?,
            position: input.u32()?,
        };
        let flags = input.u32()?;
        let synced = Place {
            segment: input.u64()?,
            position: input.u32()?,
        };
        input.u32()?;
        let committed = LogId {
            term: input.u64()?,
            index: input.u64()?,
        };
        let committed = (flags & FLAG_COMMITTED != 0).then_some(committed);
        Some(Self {
            body_crc,
            body_len,
            sequence,
            place,
            idle: flags & FLAG_IDLE != 0,
            synced,
            committed,
        })
    }

    /// Bytes the batch takes in the segment, padding included.
    pub fn total_len(&self) -> usize {
        align(BATCH_HEADER_LEN + self.body_len as usize)
    }

    pub fn body_matches(&self, body: &[u8]) -> bool {
        body.len() == self.body_len as usize && crc32c::crc32c(body) == self.body_crc
    }
}

fn header_crc(bytes: &[u8; BATCH_HEADER_LEN], salt: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &bytes[8..])
}

/// What the first batch of a segment repeats, so that older segments may be deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogState {
    pub vote: Option<Bytes>,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
}

/// Encodes one batch at a time into a buffer that is reused.
#[derive(Default)]
pub struct BatchEncoder {
    buf: Vec<u8>,
    /// The open entries record: where its count is, the count, and what may extend it.
    run: Option<Run>,
    /// First and last entry of the batch.
    entries: Option<(u64, LogId)>,
}

struct Run {
    count_at: usize,
    count: u32,
    term: u64,
    next_index: u64,
}

impl BatchEncoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a batch; a buffer that one huge entry had grown is given back.
    pub fn begin(&mut self) {
        self.buf.clear();
        self.buf.shrink_to(2 * super::limits::MAX_BATCH_BYTES);
        self.buf.resize(BATCH_HEADER_LEN, 0);
        self.run = None;
        self.entries = None;
    }

    /// Bytes so far, header included.
    pub fn bytes(&self) -> usize {
        self.buf.len()
    }

    /// First index and last id of the entries in the batch.
    pub fn entries(&self) -> Option<(u64, LogId)> {
        self.entries
    }

    pub fn state(&mut self, state: &LogState) {
        self.close_run();
        let vote = state.vote.as_ref();
        let flags = u8::from(vote.is_some())
            | u8::from(state.purged.is_some()) << 1
            | u8::from(state.last.is_some()) << 2;
        self.buf.extend_from_slice(&[KIND_STATE, flags]);
        if let Some(vote) = vote {
            self.sized(vote);
        }
        for id in [state.purged, state.last].into_iter().flatten() {
            self.log_id(id);
        }
    }

    pub fn entry(&mut self, entry: &Entry) {
        let (term, index) = (entry.term, entry.index);
        match &mut self.run {
            Some(run) if run.term == term && run.next_index == index => {
                run.count += 1;
                run.next_index += 1;
            }
            _ => {
                self.close_run();
                let count_at = self.buf.len() + 1;
                self.buf.push(KIND_ENTRIES);
                self.buf.extend_from_slice(&[0; 4]);
                self.log_id(LogId { term, index });
                self.run = Some(Run {
                    count_at,
                    count: 1,
                    term,
                    next_index: index + 1,
                });
            }
        }
        self.sized(&entry.payload);
        let first = self.entries.map_or(index, |(first, _)| first);
        self.entries = Some((first, LogId { term, index }));
    }

    pub fn vote(&mut self, vote: &[u8]) {
        self.close_run();
        self.buf.push(KIND_VOTE);
        self.sized(vote);
    }

    pub fn truncate(&mut self, last: Option<LogId>) {
        self.close_run();
        self.buf
            .extend_from_slice(&[KIND_TRUNCATE, u8::from(last.is_some())]);
        self.log_id(last.unwrap_or(LogId { term: 0, index: 0 }));
    }

    pub fn purge(&mut self, upto: LogId) {
        self.close_run();
        self.buf.push(KIND_PURGE);
        self.log_id(upto);
    }

    /// Completes the batch and returns its bytes. `header` gives everything but length and checksum.
    pub fn finish(&mut self, header: BatchHeader, salt: u64) -> &[u8] {
        self.close_run();
        let body = &self.buf[BATCH_HEADER_LEN..];
        let body_len = u32::try_from(body.len()).expect("a batch is smaller than a segment");
        let header = BatchHeader {
            body_len,
            body_crc: crc32c::crc32c(body),
            ..header
        };
        self.buf[..BATCH_HEADER_LEN].copy_from_slice(&header.encode(salt));
        self.buf.resize(align(self.buf.len()), 0);
        &self.buf
    }

    fn close_run(&mut self) {
        if let Some(run) = self.run.take() {
            self.buf[run.count_at..run.count_at + 4].copy_from_slice(&run.count.to_le_bytes());
        }
    }

    fn log_id(&mut self, id: LogId) {
        self.buf.extend_from_slice(&id.term.to_le_bytes());
        self.buf.extend_from_slice(&id.index.to_le_bytes());
    }

    fn sized(&mut self, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).expect("payloads are bounded when they are submitted");
        self.buf.extend_from_slice(&len.to_le_bytes());
        self.buf.extend_from_slice(bytes);
    }
}

/// One record of a batch body. An entries record is given entry by entry, payloads as ranges of the
/// body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    State(LogState),
    Entry { id: LogId, payload: Range<usize> },
    Vote(Bytes),
    Truncate(Option<LogId>),
    Purge(LogId),
}

/// The records of a body. Yields one `Err` and stops if the body is malformed.
pub struct Records<'a> {
    input: Input<'a>,
    run: Option<(LogId, u32)>,
    failed: bool,
}

impl<'a> Records<'a> {
    pub fn new(body: &'a [u8]) -> Self {
        Self {
            input: Input::new(body),
            run: None,
            failed: false,
        }
    }

    fn read(&mut self) -> Option<Record> {
        if let Some((id, left)) = self.run.take() {
            return self.entry(id, left);
        }
        match self.input.u8()? {
            KIND_STATE => {
                let flags = self.input.u8()?;
                let vote = if flags & 1 != 0 {
                    Some(self.bytes()?)
                } else {
                    None
                };
                let purged = if flags & 2 != 0 {
                    Some(self.log_id()?)
                } else {
                    None
                };
                let last = if flags & 4 != 0 {
                    Some(self.log_id()?)
                } else {
                    None
                };
                Some(Record::State(LogState { vote, purged, last }))
            }
            KIND_ENTRIES => {
                let count = self.input.u32()?;
                let id = self.log_id()?;
                self.entry(id, count)
            }
            KIND_VOTE => Some(Record::Vote(self.bytes()?)),
            KIND_TRUNCATE => {
                let some = self.input.u8()? != 0;
                let id = self.log_id()?;
                Some(Record::Truncate(some.then_some(id)))
            }
            KIND_PURGE => Some(Record::Purge(self.log_id()?)),
            _ => None,
        }
    }

    fn entry(&mut self, id: LogId, left: u32) -> Option<Record> {
        let left = left.checked_sub(1)?;
        let len = self.input.u32()? as usize;
        let start = self.input.at;
        self.input.take(len)?;
        if left > 0 {
            let next = LogId {
                term: id.term,
                index: id.index.checked_add(1)?,
            };
            self.run = Some((next, left));
        }
        Some(Record::Entry {
            id,
            payload: start..start + len,
        })
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let len = self.input.u32()? as usize;
        Some(Bytes::copy_from_slice(self.input.take(len)?))
    }

    fn log_id(&mut self) -> Option<LogId> {
        Some(LogId {
            term: self.input.u64()?,
            index: self.input.u64()?,
        })
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || (self.run.is_none() && self.input.is_empty()) {
            return None;
        }
        let record = self.read();
        self.failed = record.is_none();
        Some(record.ok_or(Malformed))
    }
}

/// A batch body with a right checksum that is not a sequence of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}
