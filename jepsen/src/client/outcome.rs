//! Which errors are definite: the one place that decides what an error proves.
//!
//! A write that ends in an error is a definite failure only when the server,
//! or the lack of one, proves that it was never proposed. Everything else is
//! unknown. Reads have no effect, so for them every error is a failure.
//! The sources are etcd's error list (`api/v3rpc/rpctypes`) and, for the
//! classes, the etcd tests of Jepsen.

use crate::history::op::{FailClass, Outcome};
use std::error::Error;
use std::io;
use tonic::{Code, Status};

const SERVER: &str = "etcdserver: ";
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";

pub fn classify(status: &Status, read: bool) -> Outcome {
    let error = format!("{:?}: {}", status.code(), status.message());
    match definite(status) {
        Some(class) => Outcome::Fail { class, error },
        None if read => Outcome::Fail {
            class: FailClass::Read,
            error,
        },
        None => Outcome::Unknown { error },
    }
}

fn definite(status: &Status) -> Option<FailClass> {
    let message = status.message();
    match status.code() {
        Code::OutOfRange if message == COMPACTED => Some(FailClass::Compacted),
        Code::OutOfRange if message == FUTURE => Some(FailClass::Future),
        // tonic uses these two codes for its own limits too, and then the
        // reply of a write that took effect may be what broke them.
        Code::OutOfRange | Code::ResourceExhausted if message.starts_with(SERVER) => {
            Some(FailClass::Rejected)
        }
        Code::InvalidArgument
        | Code::NotFound
        | Code::Unimplemented
        | Code::PermissionDenied
        | Code::Unauthenticated => Some(FailClass::Rejected),
        _ if refused(status) => Some(FailClass::Refused),
        _ => None,
    }
}

/// True when the connection itself was refused, so nothing was sent.
fn refused(status: &Status) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.kind() == io::ErrorKind::ConnectionRefused;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: Status, read: bool) -> &'static str {
        match classify(&status, read) {
            Outcome::Fail {
                class: FailClass::Compacted,
                ..
            } => "compacted",
            Outcome::Fail {
                class: FailClass::Future,
                ..
            } => "future",
            Outcome::Fail {
                class: FailClass::Read,
                ..
            } => "read",
            Outcome::Fail {
                class: FailClass::Rejected,
                ..
            } => "rejected",
            Outcome::Fail {
                class: FailClass::Refused,
                ..
            } => "refused",
            Outcome::Unknown { .. } => "unknown",
            Outcome::Ok { .. } => "ok",
        }
    }

    #[test]
    fn only_proof_makes_a_write_fail() {
        assert_eq!(
            class(Status::new(Code::OutOfRange, COMPACTED), false),
            "compacted"
        );
        assert_eq!(class(Status::new(Code::OutOfRange, FUTURE), true), "future");
        assert_eq!(
            class(
                Status::invalid_argument("etcdserver: duplicate key given in txn request"),
                false
            ),
            "rejected"
        );
        assert_eq!(
            class(
                Status::resource_exhausted("etcdserver: too many requests"),
                false
            ),
            "rejected"
        );
        assert_eq!(
            class(Status::unavailable("etcdserver: leader changed"), false),
            "unknown"
        );
        assert_eq!(
            class(Status::unavailable("etcdserver: request timed out"), false),
            "unknown"
        );
        assert_eq!(
            class(Status::unavailable("etcdserver: server stopped"), false),
            "unknown"
        );
        assert_eq!(
            class(
                Status::new(Code::OutOfRange, "Error, decoded message length too large"),
                false
            ),
            "unknown"
        );
        assert_eq!(class(Status::cancelled("timeout"), false), "unknown");
        assert_eq!(class(Status::unknown("broken pipe"), false), "unknown");
        assert_eq!(
            class(Status::unavailable("etcdserver: leader changed"), true),
            "read"
        );
    }

    #[test]
    fn a_refused_connection_was_never_used() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(
            class(Status::from_error(Box::new(refused)), false),
            "refused"
        );
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(class(Status::from_error(Box::new(reset)), false), "unknown");
    }
}
