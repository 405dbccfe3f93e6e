//! What the state machine keeps in memory: a few numbers.

use bytes::Bytes;
use mizzen_planted::{bug, sometimes};

use crate::{
    alarm::Alarms,
    error::Error,
    overlay::Overlay,
    rows::{
        meta::{self, Revisions, Sizes},
        required,
    },
    view::{Family, View, ViewError},
};

/// The revision and the compaction floor that belong to a view. Reads take
/// both together: a state newer or older than its view answers wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
    /// The floor before that one: a hash up to the floor is named by it.
    pub(crate) previous_compact_revision: i64,
    pub(crate) sizes: Sizes,
    pub(crate) alarms: Alarms,
}

impl State {
    /// As etcd's before its first write: revision 1, never compacted.
    pub(crate) const EMPTY: State = State {
        revision: 1,
        compact_revision: -1,
        previous_compact_revision: -1,
        sizes: Sizes {
            written: 0,
            superseded: 0,
            compacted: 0,
        },
        alarms: Alarms::NONE,
    };

    /// The state that the view's rows hold.
    pub fn load<V: View + ?Sized>(view: &V) -> Result<Self, ViewError> {
        let mut state = match view.get(Family::Meta, meta::STATE)? {
            Some(row) => Self::from(required(meta::decode_state(&row), "state")?),
            None => Self::EMPTY,
        };
        if let Some(row) = view.get(Family::Meta, meta::SIZES)? {
            state.sizes = required(meta::decode_sizes(&row), "size")?;
        }
        state.alarms = Alarms::load(view)?;
        Ok(state)
    }

    pub(crate) fn save<V: View + ?Sized>(&self, overlay: &mut Overlay<'_, V>) {
        overlay.put(
            Family::Meta,
            Bytes::from_static(meta::STATE),
            meta::encode_state(&Revisions {
                revision: self.revision,
                compact_revision: self.compact_revision,
                previous_compact_revision: self.previous_compact_revision,
            }),
        );
        overlay.put(
            Family::Meta,
            Bytes::from_static(meta::SIZES),
            meta::encode_sizes(&self.sizes),
        );
    }

    /// The revision of the last change; 1 if there was none.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The revision of the last compaction, below which nothing can be read;
    /// -1 if there was none.
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// How much space the versions take.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    pub fn alarms(&self) -> Alarms {
        self.alarms
    }

    /// The revision that a read asking for `revision` sees.
    pub(crate) fn readable(&self, revision: i64) -> Result<i64, Error> {
        sometimes!("read-of-the-future", revision > self.revision);
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        let at = if revision <= 0 {
            self.revision
        } else {
            revision
        };
        sometimes!("read-at-the-floor", at == self.compact_revision);
        sometimes!("read-below-the-floor", at < self.compact_revision);
        if bug!("compacted-read", at < self.compact_revision => false) {
            Err(Error::Compacted)
        } else {
            Ok(at)
        }
    }
}

impl From<Revisions> for State {
    fn from(row: Revisions) -> Self {
        State {
            revision: row.revision,
            compact_revision: row.compact_revision,
            previous_compact_revision: row.previous_compact_revision,
            ..Self::EMPTY
        }
    }
}
