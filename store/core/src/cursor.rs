//! A range answered in chunks, at one revision.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::{
    command::{Range, SortOrder, SortTarget},
    error::{Error, Stop, answered},
    kv::Form,
    range::{Encoder, selected},
    read::{Reader, Span},
    reply::EncodedKvs,
    room::Unbounded,
    state::State,
    view::{View, ViewError},
};

/// The place of a range stream between two chunks. Holds no view: each chunk
/// may be read from another one, as long as the revision is not compacted.
#[derive(Clone, Debug)]
pub struct RangeCursor {
    /// The revision that all chunks are read at.
    at: i64,
    /// The store's revision when the stream began.
    revision: i64,
    next: Bytes,
    range_end: Bytes,
    form: Form,
    count_only: bool,
    /// The request, if its first chunk is sorted should it be the only one.
    sorted: Option<Range>,
    /// `None`: no limit.
    left: Option<usize>,
    sent: i64,
    finished: bool,
}

/// Why a range cannot be streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeStreamError {
    #[error(transparent)]
    Refused(#[from] Error),
    #[error("RangeStream does not support custom sort orders")]
    SortUnsupported,
    #[error("RangeStream does not support revision filters")]
    FiltersUnsupported,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeChunk {
    pub kvs: EncodedKvs,
    /// With the last chunk only.
    pub end: Option<RangeEnd>,
}

/// What a range stream says at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeEnd {
    /// The store's revision when the stream began.
    pub revision: i64,
    /// Number of keys in the range, whatever the limit.
    pub count: i64,
    /// Whether the limit left keys out.
    pub more: bool,
}

impl RangeCursor {
    /// Pins the revision: the one asked for, or the state's.
    ///
    /// As etcd, refuses filters and orders other than that of keys. A sort
    /// target without an order is heeded if the range fits into one chunk. An
    /// etcd sorts every chunk and goes on after the key that then is its last,
    /// so that of longer ranges keys are left out or come twice; here these
    /// come in the order of keys.
    pub fn new(state: &State, request: &Range) -> Result<Self, RangeStreamError> {
        request.check()?;
        state.alarms.trust()?;
        let in_order = match request.sort_order {
            SortOrder::None => true,
            SortOrder::Ascend => request.sort_target == SortTarget::Key,
            SortOrder::Descend | SortOrder::Undefined(_) => false,
        };
        if !in_order {
            return Err(RangeStreamError::SortUnsupported);
        }
        if request.has_filters() {
            return Err(RangeStreamError::FiltersUnsupported);
        }
        Ok(Self {
            at: state.readable(request.revision)?,
            revision: state.revision,
            next: request.key.clone(),
            range_end: request.range_end.clone(),
            form: request.form(),
            count_only: request.count_only,
            sorted: (request.sort_target != SortTarget::Key).then(|| request.clone()),
            left: request.limit(),
            sent: 0,
            finished: false,
        })
    }

    /// Whether the chunk with the end has been given.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// The next chunk: at most `keys_max` keys (at least one is taken), and no
    /// further key once `bytes_max` bytes are reached. Empty after the end.
    ///
    /// After an error the cursor stands where it stood.
    pub fn next_chunk<V: View + ?Sized>(
        &mut self,
        state: &State,
        view: &V,
        keys_max: usize,
        bytes_max: usize,
    ) -> Result<Result<RangeChunk, Error>, ViewError> {
        answered(self.advance(state, view, keys_max, bytes_max))
    }

    fn advance<V: View + ?Sized>(
        &mut self,
        state: &State,
        view: &V,
        keys_max: usize,
        bytes_max: usize,
    ) -> Result<RangeChunk, Stop> {
        if self.finished {
            return Ok(RangeChunk {
                kvs: EncodedKvs::default(),
                end: None,
            });
        }
        let reader = Reader::new(view, state, state.readable(self.at)?);
        if self.count_only {
            let count = reader.count(Span::new(&self.next, &self.range_end))?;
            self.finished = true;
            return Ok(RangeChunk {
                kvs: EncodedKvs::default(),
                end: Some(self.end(count, false)),
            });
        }
        self.keys(&reader, keys_max, bytes_max)
    }

    fn keys<V: View + ?Sized>(
        &mut self,
        reader: &Reader<'_, V>,
        keys_max: usize,
        bytes_max: usize,
    ) -> Result<RangeChunk, Stop> {
        let keys_max = keys_max.max(1).min(self.left.unwrap_or(usize::MAX));
        // A chunk has bounds of its own.
        let mut encoder = Encoder::new(&Unbounded);
        let mut following = None;
        reader.scan(Span::new(&self.next, &self.range_end), |live| {
            if encoder.len() >= keys_max || (encoder.len() > 0 && encoder.bytes_len() >= bytes_max)
            {
                following = Some(Bytes::copy_from_slice(live.key));
                return Ok(ControlFlow::Break(()));
            }
            encoder.push(reader.view, live, self.form)?;
            Ok(ControlFlow::Continue(()))
        })?;
        let mut kvs = encoder.finish()?;
        if let Some(request) = &self.sorted
            && self.sent == 0
            && following.is_none()
        {
            let span = Span::new(&self.next, &self.range_end);
            kvs = selected(reader, span, request, &Unbounded)?.kvs;
        }
        let sent = self.sent + kvs.len as i64;
        let left = self.left.map(|left| left - kvs.len);
        let end = match &following {
            None => Some(self.end(sent, false)),
            Some(key) if left == Some(0) => {
                let beyond = reader.count(Span::new(key, &self.range_end))?;
                Some(self.end(sent + beyond, true))
            }
            Some(_) => None,
        };
        self.sent = sent;
        self.left = left;
        self.finished = end.is_some();
        if let Some(key) = following {
            self.next = key;
        }
        Ok(RangeChunk { kvs, end })
    }

    fn end(&self, count: i64, more: bool) -> RangeEnd {
        RangeEnd {
            revision: self.revision,
            count,
            more,
        }
    }
}
