//! A large range in chunks: memory for one chunk, whatever the range holds.

use bytes::Bytes;
use mizzen_core::{
    RangeChunk, RangeCursor,
    auth::{By, Check},
};
use mizzen_engine::Engine;

use crate::server::{error::Error, model::published::SharedPublished};
use crate::{limits, workers::Workers};

#[derive(Debug, thiserror::Error)]
pub enum RangeStreamError {
    #[error(transparent)]
    Server(#[from] Error),
    /// etcd streams no such range either.
    #[error("{0}")]
    Unsupported(String),
}

/// The chunks of one range, each read from the rows as they are then: no
/// snapshot is held for a slow client. A compaction beyond the revision ends
/// the stream with that refusal.
pub struct Chunks<E: Engine> {
    published: SharedPublished<E>,
    by: By,
    /// Key and range_end of the request.
    asked: (Bytes, Bytes),
    /// `None` after the end.
    cursor: Option<RangeCursor>,
    keys: usize,
    bytes: usize,
    workers: Workers,
}

impl<E: Engine> Chunks<E> {
    pub(in crate::server) fn new(
        published: SharedPublished<E>,
        by: By,
        range: &mizzen_core::Range,
        bytes: usize,
        workers: Workers,
    ) -> Result<Self, RangeStreamError> {
        let cursor =
            RangeCursor::new(&published.load().state, range).map_err(|error| match error {
                mizzen_core::RangeStreamError::Refused(refusal) => {
                    RangeStreamError::Server(refusal.into())
                }
                other => RangeStreamError::Unsupported(other.to_string()),
            })?;
        Ok(Self {
            published,
            by,
            asked: (range.key.clone(), range.range_end.clone()),
            cursor: Some(cursor),
            keys: limits::RANGE_STREAM_FIRST_CHUNK,
            bytes,
            workers,
        })
    }

    /// The next chunk; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<RangeChunk, Error>> {
        let mut cursor = self.cursor.take()?;
        let (published, keys, bytes) = (self.published.load_full(), self.keys, self.bytes);
        // A chunk is read by what the caller may do then.
        let check = Check::new(&published.auth, &self.by);
        if let Err(refusal) = check.still_reads(&self.asked.0, &self.asked.1) {
            return Some(Err(mizzen_core::Error::from(refusal).into()));
        }
        let read = move || {
            let chunk = cursor.next_chunk(&published.state, &published.rows, keys, bytes);
            (cursor, chunk)
        };
        let (cursor, chunk) = match self.workers.run(read).await {
            Ok(read) => read,
            Err(_) => return Some(Err(Error::Stopped)),
        };
        // The first chunk is small, to be there soon; later ones are bounded by
        // bytes.
        self.keys = usize::MAX;
        if !cursor.is_finished() {
            self.cursor = Some(cursor);
        }
        Some(match chunk {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(refusal)) => Err(refusal.into()),
            Err(error) => Err(error.into()),
        })
    }
}
