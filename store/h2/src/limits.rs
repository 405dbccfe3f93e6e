//! Every bound of a connection that its owner does not set, with its reason.

/// Bytes of a frame that may be received (SETTINGS_MAX_FRAME_SIZE: the
/// smallest that may be announced, and what clients use).
pub const FRAME_BYTES: usize = 16_384;

/// Bytes of a header block with its continuations before anything is decoded:
/// twice what a list of the announced size can take.
pub const BLOCK_BYTES: usize = 2 * HEADER_LIST_BYTES;

/// Bytes of a request's decoded headers, each counted with 32 more (RFC 9113,
/// 6.5.2); announced, and refused with status 431 beyond.
pub const HEADER_LIST_BYTES: usize = 32 * 1024;

/// Bytes of the table of received headers (SETTINGS_HEADER_TABLE_SIZE: the
/// default, which needs no announcement).
pub const TABLE_BYTES: usize = 4_096;

/// Header blocks whose decoded form is remembered. Clients repeat a few.
pub const REMEMBERED_BLOCKS: usize = 16;

/// And the longest of them, bytes.
pub const REMEMBERED_BYTES: usize = 4 * 1024;

/// Requests a client may take back on one connection at once, beyond those
/// that are answered: the work they cause would otherwise be bounded by nothing
/// (rapid reset).
pub const RESETS: u32 = 2_000;

/// And how many more with each second.
pub const RESETS_PER_SECOND: u32 = 200;

/// Steps of a connection's task before others have their turn.
pub const STEPS: usize = 256;

/// Bytes of one stream that are written before other streams have their turn.
pub const TURN_BYTES: usize = 64 * 1024;

/// Room that a read from a connection finds at least,
pub const READ_ROOM: usize = 4 * 1024;

/// and the room that is made if there is less.
pub const READ_BYTES: usize = 16 * 1024;

/// Frames of an answer waiting for the client's window: the message, and a
/// second one that was ready together with it.
pub const PIECES: usize = 2;
