//! Every bound of a connection that its owner does not set, with its reason.

use std::time::Duration;

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

/// And the longest of them, decoded, bytes: with a token for authentication a
/// client's are of some hundred.
pub const REMEMBERED_BYTES: usize = 2 * 1024;

/// How often a client may do something on one connection.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub at_once: u32,
    pub per_second: u32,
}

/// Requests a client may take back, or make the server take back, beyond those
/// that are answered: the work they cause would otherwise be bounded by nothing
/// (rapid reset; MadeYouReset, CVE-2025-8671).
pub const RESETS: Rate = Rate {
    at_once: 2_000,
    per_second: 200,
};

/// Frames that bring no request further: SETTINGS, PING, WINDOW_UPDATE,
/// PRIORITY, CONTINUATION, empty DATA, unknown ones, and those on streams that
/// are over. Clients that measure their network or open windows for each piece
/// send some for each response, and are paid for it by
/// [`CONTROL_PER_RESPONSE`] and the two others.
pub const CONTROL: Rate = Rate {
    at_once: 4_000,
    per_second: 1_000,
};

/// Of them for each response that has ended,
pub const CONTROL_PER_RESPONSE: u32 = 8;

/// for each piece of a response that has left: a window's update for the stream
/// and one for the connection,
pub const CONTROL_PER_PIECE: u32 = 2;

/// and for so many bytes of it.
pub const CONTROL_BYTES: usize = 1_024;

/// Open streams that cost as much as one frame to walk over.
pub const STREAMS_PER_STEP: usize = 64;

/// Bytes of a header block that cost as much as one frame to decode.
pub const BLOCK_BYTES_PER_STEP: usize = 512;

/// What an open stream counts for, bytes: its place, its futures, and a head of
/// [`HEAD_BYTES`].
pub const STREAM_BYTES: usize = 2 * 1024;

/// Decoded headers of a request beyond which they count by themselves, bytes.
pub const HEAD_BYTES: usize = 1_024;

/// And the body of a request that is being answered.
pub const BODY_BYTES: usize = 512;

/// What a piece of a body that waits for its reader counts for beside its
/// bytes.
pub const PIECE_BYTES: usize = 64;

/// Places of streams that are kept when none is open.
pub const SPARE_PLACES: usize = 1_024;

/// Pieces of bodies of fewer bytes are copied: they would keep the whole buffer
/// that they were read into.
pub const COPIED_BYTES: usize = 4 * 1024;

/// Bytes ready to be written from which on a connection that holds its part of
/// the memory asks for nothing more.
pub const HELD_BYTES_MIN: usize = 4 * 1024;

/// Bytes beyond the bound that may be ready to be written, of what is small:
/// headers of responses, and refusals.
pub const OVER_BYTES: usize = 64 * 1024;

/// Bytes of a response that its client must read within its time for it to
/// count as being read.
pub const PROGRESS_BYTES: usize = 16 * 1024;

/// Bytes a client may still send when all is said.
pub const CLOSING_BYTES: usize = 1024 * 1024;

/// Steps of a connection's task before others have their turn,
pub const STEPS: usize = 256;

/// and how long it takes at most for them: a step may be a read of some rows. What
/// a client waits for others' is a few of these.
pub const TURN: Duration = Duration::from_micros(500);

/// Steps between two looks at the clock.
pub const STEPS_PER_LOOK: usize = 8;

/// Bytes of one stream that are written before other streams have their turn.
pub const TURN_BYTES: usize = 64 * 1024;

/// Room that a read from a connection finds at least,
pub const READ_ROOM: usize = 4 * 1024;

/// and the room that is made if there is less.
pub const READ_BYTES: usize = 16 * 1024;

/// Frames of an answer waiting for the client's window: the message, and a
/// second one that was ready together with it.
pub const PIECES: usize = 2;
