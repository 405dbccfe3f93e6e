//! Where the durable log is: segment files and a sparse index of positions.
//!
//! Only the writer changes this, in the order of the log, after the batch concerned is durable.
//!
//! Invariant: the entries from one point's first index up to the next point's first index (or to
//! the end of the log) are in one segment, at or after the point's position, in batches whose
//! entries are consecutive and that no later truncation touches. Therefore a truncation, a jump by
//! a purge and a new segment each force a new point.

use std::collections::VecDeque;
use std::sync::Arc;

use super::LogId;
use super::format::Place;
use super::fs::LogFile;
use super::limits::INDEX_STRIDE;
use super::view::after;

/// An open segment file.
pub(super) struct Segment {
    pub id: u64,
    pub name: String,
    pub capacity: u32,
    pub file: Arc<dyn LogFile>,
}

pub(super) const SEGMENT_SUFFIX: &str = ".wal";
const SPARE_PREFIX: &str = "spare-";
pub(super) const TEMPORARY: &str = "new.tmp";

pub(super) fn segment_name(id: u64) -> String {
    format!("{id:016x}{SEGMENT_SUFFIX}")
}

pub(super) fn spare_name(id: u64) -> String {
    format!("{SPARE_PREFIX}{id:016x}{SEGMENT_SUFFIX}")
}

/// What a file name of the directory stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Segment(u64),
    Spare(u64),
    Temporary,
    Other,
}

pub(super) fn classify(name: &str) -> FileKind {
    if name == TEMPORARY {
        return FileKind::Temporary;
    }
    let (spare, rest) = name
        .strip_prefix(SPARE_PREFIX)
        .map_or((false, name), |rest| (true, rest));
    let digits = rest
        .strip_suffix(SEGMENT_SUFFIX)
        .filter(|digits| digits.len() == 16);
    match digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
        // Only names this program writes: no sign, no capitals.
        Some(id) if spare && spare_name(id) == name => FileKind::Spare(id),
        Some(id) if !spare && segment_name(id) == name => FileKind::Segment(id),
        _ => FileKind::Other,
    }
}

/// A segment in use, with the last log id before its first batch.
pub(super) struct Held {
    pub segment: Arc<Segment>,
    pub last_before: Option<LogId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    first: u64,
    place: Place,
}

/// Where to start reading an index, and up to which index reading on from there is valid.
pub(super) struct Start {
    pub segment: Arc<Segment>,
    pub position: u32,
    pub end: u64,
}

#[derive(Default)]
pub(super) struct DiskLog {
    segments: VecDeque<Held>,
    points: VecDeque<Point>,
    /// Index after the last durable entry.
    next: u64,
    /// The next entries need a point of their own.
    force: bool,
}

impl DiskLog {
    pub fn add_segment(&mut self, held: Held) {
        self.segments.push_back(held);
        self.force = true;
    }

    /// The segment written to.
    pub fn newest(&self) -> Option<Arc<Segment>> {
        self.segments.back().map(|held| held.segment.clone())
    }

    /// Number of segments in use.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Bytes of the segments in use.
    pub fn size_bytes(&self) -> u64 {
        self.segments
            .iter()
            .map(|held| u64::from(held.segment.capacity))
            .sum()
    }

    /// The last index before the newest segments that together have at least `bytes`.
    pub fn index_before_last(&self, bytes: u64) -> Option<u64> {
        let mut kept = 0;
        let first = self.segments.iter().rev().find(|held| {
            kept += u64::from(held.segment.capacity);
            kept >= bytes
        })?;
        first.last_before.map(|last| last.index)
    }

    /// Records a batch at `place` with the entries `first ..= last`.
    pub fn add(&mut self, first: u64, last: u64, place: Place) {
        let near = self.points.back().is_some_and(|point| {
            point.place.segment == place.segment
                && place.position - point.place.position < INDEX_STRIDE
        });
        if self.force || !near {
            self.points.push_back(Point { first, place });
            self.force = false;
        }
        self.next = last + 1;
    }

    pub fn truncate(&mut self, last: Option<LogId>) {
        let end = after(last);
        while self.points.back().is_some_and(|point| point.first >= end) {
            self.points.pop_back();
        }
        self.next = end;
        self.force = true;
    }

    pub fn purge(&mut self, upto: LogId) {
        if upto.index >= self.next {
            self.points.clear();
            self.next = upto.index + 1;
            self.force = true;
        }
        while self
            .points
            .get(1)
            .is_some_and(|next| next.first <= upto.index + 1)
        {
            self.points.pop_front();
        }
    }

    /// Takes out the oldest segment if no entry in it is after `purged`. The newest one stays.
    pub fn take_purged(&mut self, purged: Option<LogId>) -> Option<Arc<Segment>> {
        let next = self.segments.get(1)?;
        if after(next.last_before) > after(purged) {
            return None;
        }
        self.segments.pop_front().map(|held| held.segment)
    }

    /// Where to read `index`, which is durable and not purged.
    pub fn locate(&self, index: u64) -> Option<Start> {
        let at = self
            .points
            .partition_point(|point| point.first <= index)
            .checked_sub(1)?;
        let point = self.points.get(at)?;
        let end = self.points.get(at + 1).map_or(self.next, |next| next.first);
        let oldest = self.segments.front()?.segment.id;
        let held = self
            .segments
            .get(usize::try_from(point.place.segment.checked_sub(oldest)?).ok()?)?;
        (index < end).then(|| Start {
            segment: held.segment.clone(),
            position: point.place.position,
            end,
        })
    }
}
