//! The deterministic state machine of a replica.
//!
//! Knows revisions, keys, transactions, compaction, leases as ids and TTLs.
//! Must not know time, randomness, files, Raft, sockets or threads: the same
//! commands give the same rows and the same replies on every member, however
//! the log was cut into batches. A command comes in as data and leaves as
//! data: row changes collected in an [`Overlay`], a reply, and events.

mod apply;
mod codec;
mod command;
mod compaction;
mod error;
mod hash;
mod kv;
mod limits;
mod overlay;
mod range;
mod reply;
pub mod rows;
mod state;
mod txn;
mod view;

pub use apply::{Event, EventKind, Outcome, apply, prefetch_keys};
pub use codec::DecodeError;
pub use command::{
    Command, Compare, CompareOp, CompareTarget, Compaction, DeleteRange, LeaseGrant, LeaseRevoke, Operation, Put, Range, SortOrder,
    SortTarget, Txn,
};
pub use compaction::{Reclaim, reclaim};
pub use error::Error;
pub use hash::{KvHash, hash_kv};
pub use limits::Limits;
pub use overlay::Overlay;
pub use range::{RangeCursor, range, read_only_txn};
pub use reply::{EncodedKvs, RangeReply, Reply};
pub use state::State;
pub use view::{Batch, Family, RowOp, View, ViewError};
