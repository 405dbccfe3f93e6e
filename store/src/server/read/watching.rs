//! Joins the watches to this member: what was applied flows to them, and the
//! past is read from the rows that readers see.

use std::{io, sync::Arc};

use mizzen_core::{History, Interest};
use mizzen_engine::Engine;

use crate::{
    limits,
    server::model::published::SharedPublished,
    watch::{Bounds, Hub, Past, PastError},
    workers::Workers,
};

/// The rows that readers see.
struct Rows<E: Engine>(SharedPublished<E>);

impl<E: Engine> Past for Rows<E> {
    fn now(&self) -> (i64, i64) {
        let state = self.0.load().state;
        (state.revision(), state.compact_revision())
    }

    fn read(&self, from: i64, interest: &mut dyn Interest) -> Result<History, PastError> {
        let published = self.0.load_full();
        match mizzen_core::history(&published.state, &published.rows, from, interest) {
            Ok(Ok(history)) => Ok(history),
            Ok(Err(_)) => Err(PastError::Compacted),
            Err(error) => Err(PastError::Failed(error.to_string())),
        }
    }
}

pub fn start<E: Engine>(
    published: SharedPublished<E>,
    workers: Workers,
    fail: impl Fn(&io::Error) + Send + Sync + 'static,
) -> io::Result<Arc<Hub>> {
    let bounds = Bounds {
        stream_bytes: limits::WATCH_STREAM_BYTES,
        all_bytes: limits::WATCH_ALL_BYTES,
        ring_bytes: limits::WATCH_RING_BYTES,
        dispatch_revisions: limits::WATCH_DISPATCH_REVISIONS,
        page_bytes: limits::WATCH_PAGE_BYTES,
        page_rows: limits::WATCH_PAGE_ROWS,
        revision_bytes: limits::WATCH_REVISION_BYTES,
        watches: limits::WATCHES,
        streams: limits::WATCH_STREAMS,
    };
    Hub::start(
        Box::new(Rows::<E>(published)),
        bounds,
        limits::WATCH_READERS,
        workers,
        fail,
    )
}
