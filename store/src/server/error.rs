//! Why a request was not served. The texts are etcd's: clients match on them.

use mizzen_core::ViewError;

use crate::auth::{IssueError, PasswordError};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The state machine refused it.
    #[error(transparent)]
    Refused(#[from] mizzen_core::Error),
    /// A change of the membership was refused.
    #[error(transparent)]
    Membership(#[from] super::model::members::Refusal),
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    #[error("etcdserver: not leader")]
    NotLeader,
    #[error("etcdserver: bad leader transferee")]
    BadLeaderTransferee,
    #[error("etcdserver: request timed out, leader transfer took too long")]
    TimeoutLeaderTransfer,
    /// Accepted again when there is room; nothing has to be disarmed.
    #[error("etcdserver: no space left on the disk of a member")]
    DiskFull,
    /// Some member is too old for it.
    #[error("etcdserver: not capable")]
    NotCapable,
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    #[error("etcdserver: no leader")]
    NoLeader,
    /// No outcome in time: the request may have been carried out.
    #[error("etcdserver: request timed out")]
    Timeout,
    /// The same, and leadership was in doubt meanwhile.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    TimeoutLeaderFailure,
    #[error("etcdserver: rpc not supported for learner")]
    Learner,
    #[error("etcdserver: server stopped")]
    Stopped,
    #[error(transparent)]
    Token(#[from] IssueError),
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The rows of this member cannot be read; the member stops.
    #[error("{0}")]
    Failed(String),
}

impl From<ViewError> for Error {
    fn from(error: ViewError) -> Self {
        Self::Failed(error.to_string())
    }
}
