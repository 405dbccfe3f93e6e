//! Opening: reads all segments, decides where the log ends, and tells a torn tail from damage.
//!
//! The rule: a batch header says up to where the log had been synced when it was written. If the
//! chain of valid batches ends at a place, and anywhere after it a valid header of this log declares
//! a later place as synced, then acknowledged content is damaged and the log does not open. Else
//! what follows was never acknowledged and is cut.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use mizzen_planted::bug;

use super::format::{
    ALIGN, BATCH_HEADER_LEN, BATCH_MAGIC, BatchHeader, LogState, Place, Record, Records,
    SEGMENT_HEADER_LEN, SegmentHeader, SegmentHeaderError, VERSION,
};
use super::fs::LogFs;
use super::keeper::{Keeper, Spare, create_segment};
use super::limits::{MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES, SCAN_CHUNK};
use super::segments::{DiskLog, FileKind, Held, Segment, TEMPORARY, classify, segment_name};
use super::view::{View, after, push_term, truncate_terms};
use super::writer::Position;
use super::{LogId, WalError};

/// Everything needed to go on with the log.
pub(super) struct Found {
    pub salt: u64,
    pub created: bool,
    pub view: View,
    pub disk: DiskLog,
    pub keeper: Keeper,
    pub position: Position,
}

/// Opens the log in `fs`; without one it creates one with `new_salt`, if that is given.
pub(super) fn recover(
    fs: &dyn LogFs,
    segment_bytes: u32,
    new_salt: Option<u64>,
) -> Result<Found, WalError> {
    let mut directory = Directory::read(fs, segment_bytes)?;
    let created = directory.segments.is_empty();
    if created {
        let salt = new_salt.ok_or_else(|| WalError::Missing {
            directory: fs.describe(""),
        })?;
        directory.create(salt)?;
    }
    let mut replay = directory.replay()?;
    directory.check_after(&replay)?;
    if directory.recreate_if_resized(&replay)? {
        replay = directory.replay()?;
    }
    let (salt, tail) = (directory.salt, replay.end);
    directory.settle_tail(&replay)?;
    let disk = replay.disk;
    let active = directory.split_off_unused(tail.segment, &disk)?;
    let prepared = directory.segments.pop_front();
    let next_id = prepared.as_ref().map_or(tail.segment, |segment| segment.id) + 1;
    directory.sync()?;
    let committed = match (replay.committed, replay.state.purged) {
        (Some(committed), Some(purged)) if committed.index < purged.index => Some(purged),
        (None, purged) => purged,
        (committed, _) => committed,
    };
    Ok(Found {
        salt,
        created,
        view: View::recovered(replay.state.purged, replay.state.last, replay.terms),
        disk,
        keeper: Keeper::new(prepared, next_id, directory.spares),
        position: Position {
            active,
            position: tail.position,
            sequence: replay.sequence.unwrap_or(1),
            state: replay.state,
            committed,
        },
    })
}

struct Directory<'a> {
    fs: &'a dyn LogFs,
    segment_bytes: u32,
    salt: u64,
    segments: VecDeque<Arc<Segment>>,
    spares: Vec<Spare>,
}

impl<'a> Directory<'a> {
    fn read(fs: &'a dyn LogFs, segment_bytes: u32) -> Result<Self, WalError> {
        let mut this = Self {
            fs,
            segment_bytes,
            salt: 0,
            segments: VecDeque::new(),
            spares: Vec::new(),
        };
        let mut names = fs
            .list()
            .map_err(|source| this.error("list", "", None, source))?;
        names.sort_unstable();
        let mut ids = BTreeMap::new();
        let mut spares = Vec::new();
        for name in names {
            match classify(&name) {
                FileKind::Segment(id) => {
                    ids.insert(id, name);
                }
                FileKind::Spare(_) => spares.push(name),
                FileKind::Temporary => this.remove(TEMPORARY)?,
                FileKind::Other => tracing::warn!(
                    file = fs.describe(&name),
                    "unknown file in the Raft log directory"
                ),
            }
        }
        if let (true, Some(spare)) = (ids.is_empty(), spares.first()) {
            // A spare is a purged segment, and the newest segment is never purged.
            let reason = format!("{} shows that there were segments", fs.describe(spare));
            return Err(WalError::MissingSegment {
                file: fs.describe(&segment_name(1)),
                reason,
            });
        }
        for (id, name) in ids {
            this.add(id, name)?;
        }
        for name in spares {
            this.add_spare(name)?;
        }
        Ok(this)
    }

    fn add(&mut self, id: u64, name: String) -> Result<(), WalError> {
        if let Some(previous) = self
            .segments
            .back()
            .filter(|previous| previous.id + 1 != id)
        {
            let file = self.fs.describe(&segment_name(previous.id + 1));
            let reason = format!(
                "there are segments before and after it, such as {}",
                self.fs.describe(&name)
            );
            return Err(WalError::MissingSegment { file, reason });
        }
        let file = self
            .fs
            .open(&name)
            .map_err(|source| self.error("open", &name, None, source))?;
        let mut bytes = [0; SEGMENT_HEADER_LEN as usize];
        file.read_at(0, &mut bytes)
            .map_err(|source| self.error("read", &name, Some(0), source))?;
        let header = SegmentHeader::decode(&bytes).map_err(|error| match error {
            SegmentHeaderError::Version(version) => WalError::UnsupportedVersion {
                file: self.fs.describe(&name),
                version,
                known: VERSION,
            },
            SegmentHeaderError::Damaged(reason) => self.damaged(&name, 0, reason),
        })?;
        if header.id != id {
            return Err(self.damaged(
                &name,
                0,
                format!("the header is that of segment {}", header.id),
            ));
        }
        if !self.segments.is_empty() && header.salt != self.salt {
            return Err(self.damaged(&name, 0, "the segment belongs to another log"));
        }
        if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&header.capacity) {
            return Err(self.damaged(&name, 0, "the size in the header is out of range"));
        }
        let size = file
            .size()
            .map_err(|source| self.error("stat", &name, None, source))?;
        if size != u64::from(header.capacity) {
            return Err(self.damaged(
                &name,
                size,
                format!("the file should have {} bytes", header.capacity),
            ));
        }
        self.salt = header.salt;
        self.segments.push_back(Arc::new(Segment {
            id,
            name,
            capacity: header.capacity,
            file,
        }));
        Ok(())
    }

    fn add_spare(&mut self, name: String) -> Result<(), WalError> {
        let file = self
            .fs
            .open(&name)
            .map_err(|source| self.error("open", &name, None, source))?;
        let size = file
            .size()
            .map_err(|source| self.error("stat", &name, None, source))?;
        if size == u64::from(self.segment_bytes) {
            self.spares.push(Spare { name, file });
            Ok(())
        } else {
            self.remove(&name)
        }
    }

    fn create(&mut self, salt: u64) -> Result<(), WalError> {
        self.salt = salt;
        let header = SegmentHeader {
            id: 1,
            salt,
            capacity: self.segment_bytes,
        };
        self.segments.push_back(create_segment(self.fs, &header)?);
        Ok(())
    }

    /// Follows the chain of batches through the segments.
    fn replay(&self) -> Result<Replay, WalError> {
        let oldest = self.segments.front().map_or(1, |segment| segment.id);
        let mut replay = Replay::new(Place {
            segment: oldest,
            position: SEGMENT_HEADER_LEN,
        });
        for segment in &self.segments {
            let end = replay.segment(self, segment)?;
            let (empty, is_oldest) = (end == SEGMENT_HEADER_LEN, segment.id == oldest);
            if empty && is_oldest && oldest != 1 {
                // It became the oldest when an older one was deleted, which needs a durable batch here.
                return Err(self.damaged(
                    &segment.name,
                    u64::from(end),
                    "the first batch is unreadable",
                ));
            }
            if empty && is_oldest {
                replay.disk.add_segment(Held {
                    segment: segment.clone(),
                    last_before: None,
                });
            }
            if empty {
                break;
            }
            replay.end = Place {
                segment: segment.id,
                position: end,
            };
        }
        if after(replay.last_before_oldest) > after(replay.state.purged) {
            let reason = format!(
                "entries through {} are neither here nor purged",
                after(replay.last_before_oldest) - 1
            );
            let file = self.fs.describe(&segment_name(oldest - 1));
            return Err(WalError::MissingSegment { file, reason });
        }
        if let Some(committed) = replay
            .committed
            .filter(|id| id.index >= after(replay.state.last))
        {
            let name = segment_name(replay.end.segment);
            let reason = format!(
                "index {} is committed, but the log ends before it",
                committed.index
            );
            return Err(self.damaged(&name, u64::from(replay.end.position), reason));
        }
        Ok(replay)
    }

    /// Looks for valid headers after the end of the chain. One that declares a later place as
    /// synced proves damage; the others are those of batches to be cut.
    fn check_after(&self, replay: &Replay) -> Result<(), WalError> {
        let end = replay.end;
        for segment in self
            .segments
            .iter()
            .filter(|segment| segment.id >= end.segment)
        {
            let from = if segment.id == end.segment {
                end.position
            } else {
                SEGMENT_HEADER_LEN
            };
            let mut cut = false;
            self.scan(segment, from, |header| {
                if header.synced > end {
                    let name = segment_name(end.segment);
                    let reason = format!(
                        "{}; but the batch in {} at offset {} declares the log synced beyond this",
                        replay.end_reason,
                        self.fs.describe(&segment.name),
                        header.place.position,
                    );
                    return Err(self.damaged(&name, u64::from(end.position), reason));
                }
                // A marker at the very end is what makes the last batch known to be synced.
                if !(header.idle && header.place == end) {
                    tracing::warn!(
                        file = self.fs.describe(&segment.name),
                        offset = header.place.position,
                        "cutting a batch of the Raft log that was never acknowledged"
                    );
                    self.write(segment, header.place.position, &[0; BATCH_HEADER_LEN])?;
                    cut = true;
                }
                Ok(())
            })?;
            if cut {
                self.sync_segment(segment)?;
            }
        }
        Ok(())
    }

    /// Calls `found` for every valid header of this log that belongs where it is.
    fn scan(
        &self,
        segment: &Segment,
        from: u32,
        mut found: impl FnMut(BatchHeader) -> Result<(), WalError>,
    ) -> Result<(), WalError> {
        let mut window = Window::new(self, segment);
        let mut position = from as usize;
        let last = (segment.capacity as usize).saturating_sub(BATCH_HEADER_LEN);
        while position <= last {
            let bytes = window.rest(position, BATCH_HEADER_LEN)?;
            let places = bytes.windows(BATCH_HEADER_LEN).step_by(ALIGN);
            let count = places.len();
            for (number, bytes) in places.enumerate() {
                if !bytes.starts_with(&BATCH_MAGIC.to_le_bytes()) {
                    continue;
                }
                let here = position + number * ALIGN;
                let header = BatchHeader::decode(bytes, self.salt).filter(|header| {
                    header.place.segment == segment.id && header.place.position as usize == here
                });
                if let Some(header) = header {
                    found(header)?;
                }
            }
            position += count.max(1) * ALIGN;
        }
        Ok(())
    }

    /// Makes the end of the log durable, whatever the last process knew about it: the last batch may
    /// have been read from a cache whose write to the disk failed or has not happened. Writing the
    /// same bytes again makes the system write them again.
    fn settle_tail(&self, replay: &Replay) -> Result<(), WalError> {
        let Some(segment) = self
            .segments
            .iter()
            .find(|segment| segment.id == replay.end.segment)
        else {
            return Ok(());
        };
        if let Some((position, len)) = replay
            .last_batch
            .filter(|last| last.0.segment == segment.id)
        {
            let bytes = Window::new(self, segment)
                .exact(position.position as usize, len)?
                .to_vec();
            self.write(segment, position.position, &bytes)?;
        }
        self.sync_segment(segment)
    }

    /// A log without a batch, whose only segment has not the size wanted now, is created anew.
    fn recreate_if_resized(&mut self, replay: &Replay) -> Result<bool, WalError> {
        let resized = self
            .segments
            .front()
            .is_some_and(|first| first.capacity != self.segment_bytes);
        if replay.last_batch.is_some() || !resized {
            return Ok(false);
        }
        while !self.segments.is_empty() {
            self.remove_last()?;
        }
        self.create(self.salt)?;
        Ok(true)
    }

    /// Takes the segments in use out of the list and returns the active one. What remains is empty:
    /// at most one prepared segment is kept, of the current size.
    fn split_off_unused(&mut self, active: u64, disk: &DiskLog) -> Result<Arc<Segment>, WalError> {
        while self
            .segments
            .back()
            .is_some_and(|last| last.id > active + 1)
        {
            self.remove_last()?;
        }
        if self
            .segments
            .back()
            .is_some_and(|last| last.id > active && last.capacity != self.segment_bytes)
        {
            self.remove_last()?;
        }
        self.segments.retain(|segment| segment.id > active);
        disk.newest()
            .ok_or_else(|| self.damaged(&segment_name(active), 0, "no segment is usable"))
    }

    fn remove_last(&mut self) -> Result<(), WalError> {
        match self.segments.pop_back() {
            Some(segment) => self.remove(&segment.name),
            None => Ok(()),
        }
    }

    /// Removes a file and makes that durable before anything else is done.
    fn remove(&self, name: &str) -> Result<(), WalError> {
        self.fs
            .remove(name)
            .map_err(|source| self.error("remove", name, None, source))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), WalError> {
        self.fs
            .sync_dir()
            .map_err(|source| self.error("sync directory", "", None, source))
    }

    fn sync_segment(&self, segment: &Segment) -> Result<(), WalError> {
        segment
            .file
            .sync_data()
            .map_err(|source| self.error("sync", &segment.name, None, source))
    }

    fn write(&self, segment: &Segment, position: u32, bytes: &[u8]) -> Result<(), WalError> {
        let offset = u64::from(position);
        segment
            .file
            .write_at(offset, bytes)
            .map_err(|source| self.error("write", &segment.name, Some(offset), source))
    }

    fn error(
        &self,
        operation: &'static str,
        name: &str,
        offset: Option<u64>,
        source: std::io::Error,
    ) -> WalError {
        WalError::io(operation, self.fs.describe(name), offset, source)
    }

    fn damaged(&self, name: &str, offset: u64, reason: impl Into<String>) -> WalError {
        WalError::Corrupt {
            file: self.fs.describe(name),
            offset,
            reason: reason.into(),
        }
    }
}

/// The state of the log as its batches are read.
struct Replay {
    state: LogState,
    committed: Option<LogId>,
    terms: VecDeque<(u64, u64)>,
    disk: DiskLog,
    /// Number of the next batch; unknown before the first batch of a log whose beginning is purged.
    sequence: Option<u64>,
    last_batch: Option<(Place, usize)>,
    last_before_oldest: Option<LogId>,
    /// Where the chain of valid batches ends, and why.
    end: Place,
    end_reason: &'static str,
}

impl Replay {
    fn new(start: Place) -> Self {
        Self {
            state: LogState::default(),
            committed: None,
            terms: VecDeque::new(),
            disk: DiskLog::default(),
            sequence: (start.segment == 1).then_some(1),
            last_batch: None,
            last_before_oldest: None,
            end: start,
            end_reason: "no batch",
        }
    }

    /// Reads the valid batches of a segment; returns where they end.
    fn segment(
        &mut self,
        directory: &Directory<'_>,
        segment: &Arc<Segment>,
    ) -> Result<u32, WalError> {
        let mut window = Window::new(directory, segment);
        let mut position = SEGMENT_HEADER_LEN;
        loop {
            let place = Place {
                segment: segment.id,
                position,
            };
            let (header, body) =
                match next_batch(directory.salt, &mut window, place, self.sequence)? {
                    Next::Batch(header, body) => (header, body),
                    Next::Idle(committed) => {
                        self.committed = committed.or(self.committed);
                        return Ok(position);
                    }
                    Next::Nothing(reason) => {
                        // A segment without a batch says nothing about why the one before it ends.
                        if position > SEGMENT_HEADER_LEN || place == self.end {
                            self.end_reason = reason;
                        }
                        return Ok(position);
                    }
                };
            self.apply(&header, body, segment)
                .map_err(|reason| directory.damaged(&segment.name, u64::from(position), reason))?;
            let total = header.total_len();
            self.last_batch = Some((place, total));
            self.sequence = header.sequence.checked_add(1);
            position += u32::try_from(total).expect("a batch in a segment is shorter than it");
        }
    }

    /// Takes over one batch. Its checksum is right, so what is wrong here was written wrong.
    fn apply(
        &mut self,
        header: &BatchHeader,
        body: &[u8],
        segment: &Arc<Segment>,
    ) -> Result<(), &'static str> {
        let first_of_segment = header.place.position == SEGMENT_HEADER_LEN;
        let first_of_log = self.last_batch.is_none();
        let mut entries: Option<(u64, u64)> = None;
        for (number, record) in Records::new(body).enumerate() {
            let record = record.map_err(|_| "malformed record")?;
            if matches!(record, Record::State(_)) != (first_of_segment && number == 0) {
                return Err("a state record is missing or out of place");
            }
            match record {
                Record::State(state) => {
                    if first_of_log {
                        self.last_before_oldest = state.last;
                        self.state = state;
                    } else if self.state != state {
                        return Err("the state record differs from the log before it");
                    }
                    self.disk.add_segment(Held {
                        segment: segment.clone(),
                        last_before: self.state.last,
                    });
                }
                Record::Entry { id, .. } => {
                    self.entry(id)?;
                    entries = Some((entries.map_or(id.index, |(first, _)| first), id.index));
                }
                Record::Vote(vote) => self.state.vote = Some(vote),
                Record::Truncate(_) | Record::Purge(_) if entries.is_some() => {
                    return Err("a truncation or purge after entries of its batch");
                }
                Record::Truncate(last) => self.truncate(last)?,
                Record::Purge(upto) => self.purge(upto)?,
            }
        }
        if let Some((first, last)) = entries {
            self.disk.add(first, last, header.place);
        }
        self.committed = header.committed.or(self.committed);
        Ok(())
    }

    fn entry(&mut self, id: LogId) -> Result<(), &'static str> {
        if self
            .state
            .last
            .is_some_and(|last| last.index + 1 != id.index)
            || id.index == u64::MAX
        {
            return Err("an entry does not follow the one before it");
        }
        push_term(&mut self.terms, id.index, id.term);
        self.state.last = Some(id);
        Ok(())
    }

    fn truncate(&mut self, last: Option<LogId>) -> Result<(), &'static str> {
        if after(last) > after(self.state.last) {
            return Err("a truncation beyond the end of the log");
        }
        truncate_terms(&mut self.terms, after(last));
        self.disk.truncate(last);
        self.state.last = last;
        Ok(())
    }

    fn purge(&mut self, upto: LogId) -> Result<(), &'static str> {
        if upto.index == u64::MAX {
            return Err("a purge through an impossible index");
        }
        if after(self.state.last) <= upto.index + 1 {
            self.terms.clear();
        }
        self.disk.purge(upto);
        self.state.purge(upto);
        Ok(())
    }
}

/// What is at a place of a segment.
enum Next<'a> {
    Batch(BatchHeader, &'a [u8]),
    Idle(Option<LogId>),
    Nothing(&'static str),
}

fn next_batch<'a>(
    salt: u64,
    window: &'a mut Window<'_>,
    place: Place,
    sequence: Option<u64>,
) -> Result<Next<'a>, WalError> {
    let position = place.position as usize;
    let left = (window.segment.capacity as usize).saturating_sub(position);
    if left < BATCH_HEADER_LEN {
        return Ok(Next::Nothing("the segment is full"));
    }
    let Some(header) = BatchHeader::decode(window.exact(position, BATCH_HEADER_LEN)?, salt) else {
        return Ok(Next::Nothing("there is no valid batch header"));
    };
    if header.place != place || sequence.is_some_and(|expected| expected != header.sequence) {
        return Ok(Next::Nothing("the batch there is not the next one"));
    }
    if header.idle {
        return Ok(Next::Idle(header.committed));
    }
    if header.total_len() > left {
        return Ok(Next::Nothing("the batch there is longer than its segment"));
    }
    let batch = window.exact(position, BATCH_HEADER_LEN + header.body_len as usize)?;
    let body = &batch[BATCH_HEADER_LEN..];
    if bug!("torn-tail-accepted", !header.body_matches(body) => false) {
        return Ok(Next::Nothing("the checksum of the batch there is wrong"));
    }
    Ok(Next::Batch(header, body))
}

/// A part of a segment in memory, moved forward as it is read.
struct Window<'a> {
    directory: &'a Directory<'a>,
    segment: &'a Segment,
    bytes: Vec<u8>,
    at: usize,
}

impl<'a> Window<'a> {
    fn new(directory: &'a Directory<'a>, segment: &'a Segment) -> Self {
        Self {
            directory,
            segment,
            bytes: Vec::new(),
            at: 0,
        }
    }

    /// Exactly `len` bytes from `position`, which the caller has checked to be in the segment.
    fn exact(&mut self, position: usize, len: usize) -> Result<&[u8], WalError> {
        let rest = self.rest(position, len)?;
        Ok(&rest[..len])
    }

    /// What is in memory from `position` on: at least `len` bytes.
    fn rest(&mut self, position: usize, len: usize) -> Result<&[u8], WalError> {
        let buffered = position
            .checked_sub(self.at)
            .filter(|skip| skip + len <= self.bytes.len());
        let skip = match buffered {
            Some(skip) => skip,
            None => {
                self.load(position, len)?;
                0
            }
        };
        Ok(&self.bytes[skip..])
    }

    fn load(&mut self, position: usize, len: usize) -> Result<(), WalError> {
        let left = (self.segment.capacity as usize).saturating_sub(position);
        self.bytes.resize(len.max(SCAN_CHUNK).min(left), 0);
        self.at = position;
        let name = &self.segment.name;
        let read = self
            .segment
            .file
            .read_at(position as u64, &mut self.bytes)
            .map_err(|source| {
                self.directory
                    .error("read", name, Some(position as u64), source)
            })?;
        if read < self.bytes.len() || read < len {
            return Err(self.directory.damaged(
                name,
                (position + read) as u64,
                "the file is shorter than it was",
            ));
        }
        Ok(())
    }
}
