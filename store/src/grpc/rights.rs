//! What each call needs. A call that is not in this table is not served,
//! whatever else is written for it.

use crate::server::Right;

use Right::{Anybody, Authenticated, Own, Root, Unseen};

/// Every method of etcd's services. `Own`: the handler looks at what is asked
/// for, at the moment of the rows from which it is answered.
const RIGHTS: &[(&str, Right)] = &[
    ("/etcdserverpb.KV/Range", Own),
    ("/etcdserverpb.KV/RangeStream", Own),
    ("/etcdserverpb.KV/Put", Own),
    ("/etcdserverpb.KV/DeleteRange", Own),
    ("/etcdserverpb.KV/Txn", Own),
    ("/etcdserverpb.KV/Compact", Root),
    ("/etcdserverpb.Watch/Watch", Own),
    ("/etcdserverpb.Lease/LeaseGrant", Authenticated),
    ("/etcdserverpb.Lease/LeaseRevoke", Authenticated),
    ("/etcdserverpb.Lease/LeaseKeepAlive", Own),
    ("/etcdserverpb.Lease/LeaseTimeToLive", Authenticated),
    ("/etcdserverpb.Lease/LeaseLeases", Own),
    ("/etcdserverpb.Cluster/MemberAdd", Root),
    ("/etcdserverpb.Cluster/MemberRemove", Root),
    ("/etcdserverpb.Cluster/MemberUpdate", Root),
    ("/etcdserverpb.Cluster/MemberList", Authenticated),
    ("/etcdserverpb.Cluster/MemberPromote", Root),
    // Looking needs less than raising one: see its handler.
    ("/etcdserverpb.Maintenance/Alarm", Authenticated),
    ("/etcdserverpb.Maintenance/Status", Authenticated),
    ("/etcdserverpb.Maintenance/Defragment", Root),
    ("/etcdserverpb.Maintenance/Hash", Root),
    ("/etcdserverpb.Maintenance/HashKV", Root),
    ("/etcdserverpb.Maintenance/Snapshot", Root),
    ("/etcdserverpb.Maintenance/MoveLeader", Root),
    ("/etcdserverpb.Maintenance/Downgrade", Root),
    ("/etcdserverpb.Auth/AuthEnable", Root),
    ("/etcdserverpb.Auth/AuthDisable", Root),
    ("/etcdserverpb.Auth/AuthStatus", Anybody),
    ("/etcdserverpb.Auth/Authenticate", Unseen),
    ("/etcdserverpb.Auth/UserAdd", Root),
    ("/etcdserverpb.Auth/UserGet", Own),
    ("/etcdserverpb.Auth/UserList", Root),
    ("/etcdserverpb.Auth/UserDelete", Root),
    ("/etcdserverpb.Auth/UserChangePassword", Root),
    ("/etcdserverpb.Auth/UserGrantRole", Root),
    ("/etcdserverpb.Auth/UserRevokeRole", Root),
    ("/etcdserverpb.Auth/RoleAdd", Root),
    ("/etcdserverpb.Auth/RoleGet", Own),
    ("/etcdserverpb.Auth/RoleList", Root),
    ("/etcdserverpb.Auth/RoleDelete", Root),
    ("/etcdserverpb.Auth/RoleGrantPermission", Root),
    ("/etcdserverpb.Auth/RoleRevokePermission", Root),
    // They read, write and watch for the caller.
    ("/v3lockpb.Lock/Lock", Own),
    ("/v3lockpb.Lock/Unlock", Own),
    ("/v3electionpb.Election/Campaign", Own),
    ("/v3electionpb.Election/Proclaim", Own),
    ("/v3electionpb.Election/Leader", Own),
    ("/v3electionpb.Election/Observe", Own),
    ("/v3electionpb.Election/Resign", Own),
];

/// What the call `path` needs; `None`: there is no such call.
pub fn of(path: &str) -> Option<Right> {
    let found = RIGHTS.iter().find(|(method, _)| *method == path)?;
    Some(found.1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_method_has_its_right_and_nothing_else_has() {
        let set = FileDescriptorSet::decode(mizzen_proto::FILE_DESCRIPTOR_SET).expect("valid");
        let files = set
            .file
            .iter()
            .filter(|file| file.name().starts_with("etcd/"));
        let methods: BTreeSet<String> = files
            .flat_map(|file| file.service.iter().map(move |service| (file, service)))
            .flat_map(|(file, service)| {
                service.method.iter().map(move |method| {
                    format!("/{}.{}/{}", file.package(), service.name(), method.name())
                })
            })
            .collect();
        assert!(methods.len() > 40, "the descriptors were not read");
        let named: BTreeSet<String> = RIGHTS.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(named, methods);
        assert_eq!(named.len(), RIGHTS.len(), "a method stands here twice");
    }

    #[test]
    fn what_is_not_in_the_table_is_no_call() {
        for path in ["", "/", "/etcdserverpb.KV/range", "/etcdserverpb.KV/Range/"] {
            assert_eq!(of(path), None, "{path:?}");
        }
    }
}
