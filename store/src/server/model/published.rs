//! The published state: one immutable moment of rows, members and applied id, which
//! readers share until the next run of entries is applied.

use std::sync::Arc;

use arc_swap::ArcSwap;
use mizzen_core::{State, auth::Auth};
use mizzen_engine::Engine;

use super::members::Members;
use crate::raft::Applied;

/// What readers see: one moment of the rows, with the state that goes with it.
pub struct Published<S> {
    pub state: State,
    pub members: Arc<Members>,
    pub auth: Arc<Auth>,
    pub applied: Applied,
    pub rows: S,
    /// How often the rows have been replaced by another member's since the
    /// start: what was worked out from others must not be written to these.
    pub replaced: u64,
}

impl<S> Published<S> {
    pub fn applied_index(&self) -> u64 {
        self.applied.index()
    }
}

pub type SharedPublished<E> = Arc<ArcSwap<Published<<E as Engine>::Snapshot>>>;
