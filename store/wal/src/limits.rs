//! Bounds of the log, each with its reason.

use std::time::Duration;

/// Default size of a segment file, bytes. Large enough that a rotation (a few times a second at
/// most) is noise, small enough that start-up, which reads the unused rest of the last segment and
/// of the prepared one to tell a torn tail from damage, stays in the tens of milliseconds.
pub const SEGMENT_BYTES: u32 = 32 << 20;

/// Smallest accepted segment size, bytes: room for the headers, the state record and one entry.
pub const MIN_SEGMENT_BYTES: u32 = 2 << 10;

/// Largest accepted segment size, bytes: positions inside a segment are 32 bits wide, with room to
/// spare so that sums of positions and lengths cannot overflow.
pub const MAX_SEGMENT_BYTES: u32 = 1 << 30;

/// Size at which a batch is closed, bytes (a single larger entry makes a larger batch). A read
/// verifies the checksum of whole batches, so this bounds what a read of one small entry costs; at
/// 1 MiB one fdatasync per batch is no longer what limits throughput.
pub const MAX_BATCH_BYTES: usize = 1 << 20;

/// Largest entry payload, bytes, whatever the segment size. Far above the largest request a server
/// admits; it bounds the encode buffer and what recovery allocates for one batch.
pub const MAX_ENTRY_BYTES: usize = 15 << 20;

/// Largest vote, bytes. The vote is opaque here; a Raft vote takes some tens of bytes, and the
/// state record that repeats it must fit in the smallest segment.
pub const MAX_VOTE_BYTES: usize = 256;

/// Default budget of the in-memory tail, bytes. Followers that are at most this far behind are
/// served without reading the disk. Entries that are not durable are kept whatever the budget.
pub const TAIL_BYTES: usize = 16 << 20;

/// Default hard limit of what is queued and not yet durable, bytes. Admission is expected to slow
/// down long before (`Wal::queued_bytes`); past this limit the disk has stopped keeping up and an
/// append is refused, because the alternative is to run out of memory.
pub const QUEUE_BYTES: usize = 256 << 20;

/// What one queued or cached item is counted for beside its payload, bytes: the size of the item
/// itself and of the reference-counted payload header.
pub const ITEM_OVERHEAD_BYTES: usize = 96;

/// How long the queue must stay empty before the idle marker is written. The marker is one small
/// write without fsync; the delay keeps it away from a log that is merely waiting for its clients.
pub const IDLE_AFTER: Duration = Duration::from_millis(20);

/// Purged segment files kept for reuse. Reusing a file saves writing every byte twice (zeros, then
/// data); two cover one segment in use and one being prepared.
pub const SPARE_SEGMENTS: usize = 2;

/// Distance between two points of the sparse position index, bytes of log. A read walks at most
/// this much beyond what it returns; a 32 MiB segment needs at most 512 points of 24 bytes.
pub const INDEX_STRIDE: u32 = 64 << 10;

/// How much one read asks the file for, bytes, when it does not yet know the size of a batch.
pub const READ_CHUNK: usize = 256 << 10;

/// Unit of zero-filling and scanning, bytes.
pub const SCAN_CHUNK: usize = 1 << 20;

/// Entries copied from the tail before the lock is given back, so that a reader of many small
/// entries does not hold up an append for long.
pub const READ_ENTRIES: usize = 1024;

/// Items the queue keeps room for when it has become empty. What a burst needed beyond is given back.
pub const QUEUE_KEEP_ITEMS: usize = 4096;

/// Between two portions of a segment that is filled ahead of time. Other logs on the same disk are
/// synced in between; a segment still takes less than half a second, and one that is waited for is
/// filled without pauses.
pub const FILL_PAUSE: Duration = Duration::from_millis(8);
