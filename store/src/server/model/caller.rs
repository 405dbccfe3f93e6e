//! Who makes a call.

use super::turn::Turn;
use crate::auth::CallCredentials;

/// Who asks, and on which terms.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// Refuse rather than answer without a leader.
    pub require_leader: bool,
    pub credentials: CallCredentials,
    /// At what its connection may do only so much of at once.
    pub turn: Turn,
}
