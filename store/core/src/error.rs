//! Why the state machine refuses a command. The texts are etcd's: clients
//! match on them. The wire modules add the status code.

use crate::{auth, view::ViewError};

/// A refusal. Nothing was changed, but with [`Error::ReplyTooLarge`] of a command
/// that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Error {
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    #[error("etcdserver: key not found")]
    KeyNotFound,
    #[error("etcdserver: value is provided")]
    ValueProvided,
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    #[error(transparent)]
    Auth(#[from] auth::Refusal),
    /// Found before it is proposed; no member refuses it once it is in the log.
    #[error("mizzen: the range holds more keys than can be deleted at once")]
    DeletesTooMuch,
    /// There is no room for the reply. What etcd answers when a reply does not
    /// fit into a message, without the two numbers.
    #[error("grpc: trying to send message larger than max")]
    ReplyTooLarge,
}

/// Why something inside the state machine stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    Refused(Error),
    View(ViewError),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Refused(error)
    }
}

impl From<auth::Refusal> for Stop {
    fn from(refusal: auth::Refusal) -> Self {
        Stop::Refused(refusal.into())
    }
}

impl From<ViewError> for Stop {
    fn from(error: ViewError) -> Self {
        Stop::View(error)
    }
}

/// A refusal is an answer; a failing view is none.
pub(crate) fn answered<T>(result: Result<T, Stop>) -> Result<Result<T, Error>, ViewError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Stop::Refused(error)) => Ok(Err(error)),
        Err(Stop::View(error)) => Err(error),
    }
}
