//! What a member keeps: its log and its rows.

use std::sync::Arc;

use mizzen_wal as wal;

/// The log and rows of a member, opened and not yet serving.
pub struct Storage<E> {
    pub engine: Arc<E>,
    pub wal: Arc<wal::Wal>,
    pub recovered: wal::Recovered,
}
