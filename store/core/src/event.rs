//! What watches tell of a change.

use bytes::Bytes;

use crate::kv;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Put,
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    pub key: Bytes,
    /// The key-value without its key, see [`crate::kv`]. Of a deletion it has
    /// the revision only.
    pub kv: Bytes,
    /// The key-value before the revision, in the same form, if it lived.
    pub prev: Option<Bytes>,
    pub mod_revision: i64,
}

impl Event {
    /// Whether the change made the key, which then has nothing before it that a
    /// watch tells.
    pub fn is_creation(&self) -> bool {
        self.kind == EventKind::Put
            && kv::Fields::decode(&self.kv)
                .is_some_and(|fields| fields.create_revision == fields.mod_revision)
    }
}
