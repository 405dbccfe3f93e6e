//! Who makes a call.

use crate::auth::CallCredentials;

/// Who asks, and on which terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Refuse rather than answer without a leader.
    pub require_leader: bool,
    pub credentials: CallCredentials,
}
