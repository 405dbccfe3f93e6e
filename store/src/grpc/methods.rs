//! The methods of etcd's API: path, kind, what a learner answers, what right a
//! call needs, and who carries it out. What is not in this table is not served,
//! whatever else is written for it.
//!
//! Knows names and rules. Must not know messages or how anything is done: the
//! handlers are named by [`Unary`] and [`Streaming`], and [`super::api::Api`] and
//! [`super::Front`] have one arm for each, which the compiler sees to.

use std::sync::LazyLock;

use crate::server::Right;

use Learners::{All, None as NoLearner, Serializable};
use Right::{Anybody, Authenticated, Own, Root, Unseen};

/// How many messages a call has, as it is written in labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    Unary,
    ServerStream,
    BidiStream,
}

impl CallKind {
    pub fn label(self) -> &'static str {
        match self {
            CallKind::Unary => "unary",
            CallKind::ServerStream => "server_stream",
            CallKind::BidiStream => "bidi_stream",
        }
    }
}

/// What a member that does not vote serves (etcd's rule): how it is, its data,
/// and reads of its own rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learners {
    None,
    /// Reads that ask nobody else.
    Serializable,
    All,
}

/// A call of one message that is answered by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    Range,
    Put,
    DeleteRange,
    Txn,
    Compact,
    LeaseGrant,
    LeaseRevoke,
    LeaseTimeToLive,
    LeaseLeases,
    MemberAdd,
    MemberRemove,
    MemberUpdate,
    MemberList,
    MemberPromote,
    Alarm,
    Status,
    Defragment,
    Hash,
    HashKv,
    MoveLeader,
    Downgrade,
    AuthEnable,
    AuthDisable,
    AuthStatus,
    Authenticate,
    UserAdd,
    UserGet,
    UserList,
    UserDelete,
    UserChangePassword,
    UserGrantRole,
    UserRevokeRole,
    RoleAdd,
    RoleGet,
    RoleList,
    RoleDelete,
    RoleGrantPermission,
    RoleRevokePermission,
    Lock,
    Unlock,
    Campaign,
    Proclaim,
    Leader,
    Resign,
}

/// A call that is answered by any number of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streaming {
    RangeStream,
    Watch,
    LeaseKeepAlive,
    Snapshot,
    Observe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    Unary(Unary),
    Stream(Streaming),
}

#[derive(Debug)]
pub struct Method {
    pub path: &'static str,
    pub handler: Handler,
    pub learners: Learners,
    /// [`Own`]: the handler looks at what is asked for, at the moment of the rows
    /// from which it is answered.
    pub right: Right,
}

impl Method {
    pub fn kind(&self) -> CallKind {
        match self.handler {
            Handler::Stream(Streaming::Watch | Streaming::LeaseKeepAlive) => CallKind::BidiStream,
            Handler::Stream(_) => CallKind::ServerStream,
            Handler::Unary(_) => CallKind::Unary,
        }
    }

    /// Package and service, then the method's name.
    pub fn names(&self) -> (&'static str, &'static str) {
        let names = self.path.trim_start_matches('/');
        names.split_once('/').unwrap_or((names, ""))
    }
}

const fn unary(path: &'static str, call: Unary, learners: Learners, right: Right) -> Method {
    Method {
        path,
        handler: Handler::Unary(call),
        learners,
        right,
    }
}

const fn stream(path: &'static str, call: Streaming, learners: Learners, right: Right) -> Method {
    Method {
        path,
        handler: Handler::Stream(call),
        learners,
        right,
    }
}

use Streaming as S;
use Unary as U;

/// Every method of etcd's services.
#[rustfmt::skip]
pub static METHODS: [Method; 49] = [
    unary("/etcdserverpb.KV/Range", U::Range, Serializable, Own),
    stream("/etcdserverpb.KV/RangeStream", S::RangeStream, NoLearner, Own),
    unary("/etcdserverpb.KV/Put", U::Put, NoLearner, Own),
    unary("/etcdserverpb.KV/DeleteRange", U::DeleteRange, NoLearner, Own),
    unary("/etcdserverpb.KV/Txn", U::Txn, NoLearner, Own),
    unary("/etcdserverpb.KV/Compact", U::Compact, NoLearner, Root),
    stream("/etcdserverpb.Watch/Watch", S::Watch, NoLearner, Own),
    unary("/etcdserverpb.Lease/LeaseGrant", U::LeaseGrant, NoLearner, Authenticated),
    unary("/etcdserverpb.Lease/LeaseRevoke", U::LeaseRevoke, NoLearner, Authenticated),
    stream("/etcdserverpb.Lease/LeaseKeepAlive", S::LeaseKeepAlive, NoLearner, Own),
    unary("/etcdserverpb.Lease/LeaseTimeToLive", U::LeaseTimeToLive, NoLearner, Authenticated),
    unary("/etcdserverpb.Lease/LeaseLeases", U::LeaseLeases, NoLearner, Own),
    unary("/etcdserverpb.Cluster/MemberAdd", U::MemberAdd, NoLearner, Root),
    unary("/etcdserverpb.Cluster/MemberRemove", U::MemberRemove, NoLearner, Root),
    unary("/etcdserverpb.Cluster/MemberUpdate", U::MemberUpdate, NoLearner, Root),
    unary("/etcdserverpb.Cluster/MemberList", U::MemberList, NoLearner, Authenticated),
    unary("/etcdserverpb.Cluster/MemberPromote", U::MemberPromote, NoLearner, Root),
    // Looking needs less than raising one: see its handler.
    unary("/etcdserverpb.Maintenance/Alarm", U::Alarm, NoLearner, Authenticated),
    unary("/etcdserverpb.Maintenance/Status", U::Status, All, Authenticated),
    unary("/etcdserverpb.Maintenance/Defragment", U::Defragment, NoLearner, Root),
    unary("/etcdserverpb.Maintenance/Hash", U::Hash, NoLearner, Root),
    unary("/etcdserverpb.Maintenance/HashKV", U::HashKv, NoLearner, Root),
    stream("/etcdserverpb.Maintenance/Snapshot", S::Snapshot, All, Root),
    unary("/etcdserverpb.Maintenance/MoveLeader", U::MoveLeader, NoLearner, Root),
    unary("/etcdserverpb.Maintenance/Downgrade", U::Downgrade, NoLearner, Root),
    unary("/etcdserverpb.Auth/AuthEnable", U::AuthEnable, NoLearner, Root),
    unary("/etcdserverpb.Auth/AuthDisable", U::AuthDisable, NoLearner, Root),
    unary("/etcdserverpb.Auth/AuthStatus", U::AuthStatus, NoLearner, Anybody),
    unary("/etcdserverpb.Auth/Authenticate", U::Authenticate, NoLearner, Unseen),
    unary("/etcdserverpb.Auth/UserAdd", U::UserAdd, NoLearner, Root),
    unary("/etcdserverpb.Auth/UserGet", U::UserGet, NoLearner, Own),
    unary("/etcdserverpb.Auth/UserList", U::UserList, NoLearner, Root),
    unary("/etcdserverpb.Auth/UserDelete", U::UserDelete, NoLearner, Root),
    unary("/etcdserverpb.Auth/UserChangePassword", U::UserChangePassword, NoLearner, Root),
    unary("/etcdserverpb.Auth/UserGrantRole", U::UserGrantRole, NoLearner, Root),
    unary("/etcdserverpb.Auth/UserRevokeRole", U::UserRevokeRole, NoLearner, Root),
    unary("/etcdserverpb.Auth/RoleAdd", U::RoleAdd, NoLearner, Root),
    unary("/etcdserverpb.Auth/RoleGet", U::RoleGet, NoLearner, Own),
    unary("/etcdserverpb.Auth/RoleList", U::RoleList, NoLearner, Root),
    unary("/etcdserverpb.Auth/RoleDelete", U::RoleDelete, NoLearner, Root),
    unary("/etcdserverpb.Auth/RoleGrantPermission", U::RoleGrantPermission, NoLearner, Root),
    unary("/etcdserverpb.Auth/RoleRevokePermission", U::RoleRevokePermission, NoLearner, Root),
    // They read, write and watch for the caller.
    unary("/v3lockpb.Lock/Lock", U::Lock, NoLearner, Own),
    unary("/v3lockpb.Lock/Unlock", U::Unlock, NoLearner, Own),
    unary("/v3electionpb.Election/Campaign", U::Campaign, NoLearner, Own),
    unary("/v3electionpb.Election/Proclaim", U::Proclaim, NoLearner, Own),
    unary("/v3electionpb.Election/Leader", U::Leader, NoLearner, Own),
    stream("/v3electionpb.Election/Observe", S::Observe, NoLearner, Own),
    unary("/v3electionpb.Election/Resign", U::Resign, NoLearner, Own),
];

/// The methods whose paths have a length: every call asks, and compares with two or
/// three of them, which costs less than any hash.
static BY_LENGTH: LazyLock<Vec<Vec<usize>>> = LazyLock::new(|| {
    let mut numbers = Vec::new();
    for (number, method) in METHODS.iter().enumerate() {
        let length = method.path.len();
        if numbers.len() <= length {
            numbers.resize_with(length + 1, Vec::new);
        }
        numbers[length].push(number);
    }
    numbers
});

/// Where in [`METHODS`] the call `path` stands. `None`: there is no such call.
pub fn number_of(path: &str) -> Option<usize> {
    let mut numbers = BY_LENGTH.get(path.len())?.iter().copied();
    numbers.find(|&number| METHODS[number].path == path)
}

/// Whether any method is of the service `name`.
pub fn is_service(name: &str) -> bool {
    METHODS.iter().any(|method| method.names().0 == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// What the descriptors say: paths, and whether client and server stream.
    fn described() -> BTreeMap<String, (bool, bool)> {
        let set = FileDescriptorSet::decode(mizzen_proto::FILE_DESCRIPTOR_SET).expect("valid");
        let files = set
            .file
            .iter()
            .filter(|file| file.name().starts_with("etcd/"));
        let services = files.flat_map(|file| file.service.iter().map(move |of| (file, of)));
        services
            .flat_map(|(file, service)| {
                service.method.iter().map(move |method| {
                    let (package, service) = (file.package(), service.name());
                    let streams = (method.client_streaming(), method.server_streaming());
                    (format!("/{package}.{service}/{}", method.name()), streams)
                })
            })
            .collect()
    }

    #[test]
    fn the_table_has_every_method_as_it_is_described_and_no_other() {
        let described = described();
        assert!(described.len() > 40, "the descriptors were not read");
        let table: BTreeMap<String, (bool, bool)> = METHODS
            .iter()
            .map(|method| {
                let streams = match method.kind() {
                    CallKind::Unary => (false, false),
                    CallKind::ServerStream => (false, true),
                    CallKind::BidiStream => (true, true),
                };
                (method.path.to_owned(), streams)
            })
            .collect();
        assert_eq!(table, described);
        assert_eq!(table.len(), METHODS.len(), "a method stands here twice");
    }

    #[test]
    fn handlers_are_of_one_method_each() {
        for (number, method) in METHODS.iter().enumerate() {
            let others = METHODS[number + 1..].iter();
            let shared = others
                .filter(|other| other.handler == method.handler)
                .map(|other| other.path);
            assert_eq!(shared.collect::<Vec<_>>(), [""; 0], "{}", method.path);
            let (_, name) = method.names();
            let handler = format!("{:?}", method.handler).to_lowercase();
            let told = handler.contains(&format!("({})", name.to_lowercase()));
            assert!(told, "{} has {handler}", method.path);
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_no_call() {
        for path in ["", "/", "/etcdserverpb.KV/range", "/etcdserverpb.KV/Range/"] {
            assert_eq!(number_of(path), None, "{path:?}");
        }
        for (number, method) in METHODS.iter().enumerate() {
            assert_eq!(number_of(method.path), Some(number));
        }
        assert!(is_service("v3lockpb.Lock") && !is_service("v3lockpb"));
    }
}
