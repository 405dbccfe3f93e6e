//! The status code of every refusal. Codes and texts are etcd's
//! (api/v3rpc/rpctypes): clients match on them.

use mizzen_core::{Error as Refusal, auth::Refusal as Auth};
use tonic::{Code, Status};

use crate::{
    auth::{IssueError, PasswordError},
    server::{Error, Refusal as Membership},
};

pub fn status(error: Error) -> Status {
    Status::new(code(&error), error.to_string())
}

fn code(error: &Error) -> Code {
    match error {
        Error::Refused(refusal) => refusal_code(*refusal),
        Error::RequestTooLarge => Code::InvalidArgument,
        Error::TooManyRequests | Error::DiskFull => Code::ResourceExhausted,
        Error::Membership(refusal) => match refusal {
            Membership::NotFound => Code::NotFound,
            Membership::IdExists
            | Membership::PeerUrlExists
            | Membership::NotLearner
            | Membership::TooManyLearners => Code::FailedPrecondition,
        },
        Error::LearnerNotReady
        | Error::NotLeader
        | Error::NotCapable
        | Error::BadLeaderTransferee
        | Error::Learner => Code::FailedPrecondition,
        // etcd's server has no code for these two; its clients see Unknown.
        Error::NotEnoughStarted | Error::TimeoutLeaderTransfer => Code::Unknown,
        Error::NoLeader
        | Error::Timeout
        | Error::TimeoutLeaderFailure
        | Error::Stopped
        | Error::Unhealthy => Code::Unavailable,
        Error::Failed(_) => Code::DataLoss,
        Error::Password(PasswordError::Busy) | Error::Token(IssueError::TooManyTokens) => {
            Code::ResourceExhausted
        }
        Error::Password(PasswordError::Stopped) => Code::Unavailable,
        Error::Token(IssueError::NoTokens) => Code::InvalidArgument,
        // etcd's server has no code for these either.
        Error::Password(PasswordError::TooLong | PasswordError::Failed)
        | Error::Token(IssueError::VerifyOnly | IssueError::Signing) => Code::Unknown,
    }
}

fn refusal_code(refusal: Refusal) -> Code {
    match refusal {
        Refusal::EmptyKey
        | Refusal::KeyNotFound
        | Refusal::ValueProvided
        | Refusal::LeaseProvided
        | Refusal::TooManyOps
        | Refusal::DuplicateKey
        | Refusal::InvalidSortOption => Code::InvalidArgument,
        Refusal::Compacted | Refusal::FutureRevision | Refusal::LeaseTtlTooLarge => {
            Code::OutOfRange
        }
        Refusal::NoSpace | Refusal::ReplyTooLarge | Refusal::DeletesTooMuch => {
            Code::ResourceExhausted
        }
        Refusal::Corrupt => Code::DataLoss,
        Refusal::LeaseNotFound => Code::NotFound,
        Refusal::LeaseExists => Code::FailedPrecondition,
        Refusal::Auth(refusal) => auth_code(refusal),
    }
}

fn auth_code(refusal: Auth) -> Code {
    match refusal {
        Auth::RootUserNotExist
        | Auth::RootRoleNotExist
        | Auth::UserAlreadyExists
        | Auth::UserNotFound
        | Auth::RoleAlreadyExists
        | Auth::RoleNotFound
        | Auth::RoleNotGranted
        | Auth::PermissionNotGranted
        | Auth::NotEnabled => Code::FailedPrecondition,
        Auth::UserEmpty
        | Auth::RoleEmpty
        | Auth::AuthenticationFailed
        | Auth::PermissionNotGiven
        | Auth::InvalidManagement
        | Auth::OldRevision
        | Auth::NameTooLong => Code::InvalidArgument,
        Auth::PermissionDenied => Code::PermissionDenied,
        Auth::InvalidToken => Code::Unauthenticated,
        Auth::NoPasswordUser => Code::Unknown,
        Auth::TooManyUsers | Auth::TooManyRoles | Auth::TooManyPermissions | Auth::TooLarge => {
            Code::ResourceExhausted
        }
    }
}
