//! The deterministic state machine of a replica.
//!
//! Knows revisions, keys, transactions, compaction, leases as ids and TTLs.
//! Must not know time, randomness, files, Raft, sockets or threads: the same
//! commands give the same rows and the same replies on every member, however
//! the log was cut into batches. A command comes in as data and leaves as
//! data: row changes collected in an [`Overlay`], a reply, and events.

mod alarm;
mod apply;
pub mod auth;
mod check;
mod codec;
mod command;
mod compaction;
mod cursor;
mod error;
mod event;
mod hash;
mod history;
mod import;
mod kept;
pub mod kv;
mod lease;
pub mod limits;
mod overlap;
mod overlay;
mod range;
mod read;
mod reply;
mod room;
pub mod rows;
mod size;
mod state;
mod txn;
mod view;
mod wire;
mod write;

pub use alarm::{Alarms, alarms};
pub use apply::{Outcome, apply, prefetch_keys};
pub use codec::DecodeError;
pub use command::{
    Alarm, AlarmKind, Command, Compaction, Compare, CompareOp, CompareTarget, DeleteRange,
    LeaseCheckpoint, LeaseGrant, LeaseRevoke, Operation, Put, Range, SetAlarm, SortOrder,
    SortTarget, Txn,
};
pub use compaction::{Reclaim, drop_tombstones, reclaim};
pub use cursor::{RangeChunk, RangeCursor, RangeEnd, RangeStreamError};
pub use error::Error;
pub use event::{Event, EventKind};
pub use hash::{KvHash, hash_kv};
pub use history::{History, Interest, Wanted, history};
pub use import::{Import, ImportError};
pub use kept::{Kept, kept_changes};
pub use lease::{Ended, end_leases, lease, lease_keys, leases};
pub use limits::Limits;
pub use overlay::Overlay;
pub use range::range;
pub use reply::{EncodedKvs, RangeReply, Reply};
pub use room::{Room, Unbounded};
pub use rows::meta::{Lease, Sizes};
pub use state::State;
pub use txn::{read_only_txn, rehearse};
pub use view::{Batch, Family, RowOp, RowSpan, View, ViewError, Visit, VisitEach, scan_one_by_one};
