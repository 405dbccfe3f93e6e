//! Every bound of the state machine, with its reason.

/// Bounds that a member's configuration may change. They are checked before a
/// command is proposed, never when it is applied, so members may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Compares, operations on success and operations on failure that one
    /// transaction may have, each. What a transaction uses of it (the longest
    /// of the three) is taken from what a transaction nested in it may use.
    /// Default 128, as etcd's `--max-txn-ops`: it bounds how long one command
    /// can occupy the apply thread.
    pub max_txn_ops: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_txn_ops: 128 }
    }
}

impl Limits {
    /// What every member refuses when it applies a command: only the bounds
    /// that no configuration changes.
    pub(crate) const APPLY: Limits = Limits {
        max_txn_ops: usize::MAX,
    };
}

/// How deep transactions may be nested, the outermost included. Recursion over
/// a transaction stays within a thread's stack. With 128 operations, etcd's
/// default, nothing deeper passes its rule: each level uses one at least, and
/// the last may have none.
pub const TXN_DEPTH_MAX: usize = 129;

/// Compares and operations of one command, on all levels together. A request of
/// 1.5 MiB, etcd's largest, holds fewer puts than this. Bounds the memory that
/// decoding can take, which is some hundred bytes for each.
pub const TXN_NODES_MAX: usize = 1 << 18;

/// The longest time to live of a lease, in seconds. etcd's `MaxLeaseTTL`.
pub const LEASE_TTL_MAX: i64 = 9_000_000_000;

/// Values up to this many bytes stand in the head row too, so that a range at
/// head is one scan. Longer ones are read from the log row, since rows of the
/// head are rewritten at every level of the engine's tree.
pub const INLINE_VALUE_MAX: usize = 1024;

/// Bytes of events of one command that are kept for watches: as much as a member
/// keeps of the newest revisions anyway. What deletes more is told from the log.
pub const EVENTS_BYTES: usize = 16 << 20;

/// What an event takes beside its key and its key-values, bytes.
pub const EVENT_BYTES: usize = 128;

/// Rows of keys that are read before they are deleted, at once. A range, or a
/// lease, may hold all keys there are.
pub const DELETE_PAGE_ROWS: usize = 1_024;

/// What the deletion of a key takes in memory until it is written, bytes beside
/// twice its key: its two rows, in the overlay and in the batch.
pub const DELETED_KEY_BYTES: usize = 640;

// The bounds of users and roles. Every member refuses alike what is beyond
// them, so another value needs a level of features of its own.

/// Bytes of the name of a user or role. Common names of certificates have at
/// most 64.
pub const AUTH_NAME_BYTES_MAX: usize = 1024;

/// Users. Far more than a cluster has clients that differ in rights.
pub const AUTH_USERS_MAX: usize = 100_000;

/// Roles.
pub const AUTH_ROLES_MAX: usize = 100_000;

/// Roles of one user: a check looks at each.
pub const AUTH_ROLES_OF_USER_MAX: usize = 1_024;

/// Permissions of one role: a change of it sorts them all.
pub const AUTH_PERMISSIONS_OF_ROLE_MAX: usize = 10_000;

/// What names, hashes and keys of all users and roles take in memory, on every
/// member.
pub const AUTH_BYTES_MAX: usize = 64 << 20;
