//! What a request to change users and roles says, as a change.

use mizzen_core::auth::{AuthChange, Permission, PermissionKind};
use mizzen_proto::{authpb, etcdserverpb as wire};

fn granted(permission: authpb::Permission) -> Permission {
    Permission {
        kind: PermissionKind(permission.perm_type),
        key: permission.key,
        range_end: permission.range_end,
    }
}

pub fn enable(_: wire::AuthEnableRequest) -> AuthChange {
    AuthChange::Enable
}

pub fn disable(_: wire::AuthDisableRequest) -> AuthChange {
    AuthChange::Disable
}

pub fn user_delete(request: wire::AuthUserDeleteRequest) -> AuthChange {
    let name = request.name.into();
    AuthChange::UserDelete { name }
}

pub fn user_grant_role(request: wire::AuthUserGrantRoleRequest) -> AuthChange {
    let (user, role) = (request.user.into(), request.role.into());
    AuthChange::UserGrantRole { user, role }
}

pub fn user_revoke_role(request: wire::AuthUserRevokeRoleRequest) -> AuthChange {
    let (user, role) = (request.name.into(), request.role.into());
    AuthChange::UserRevokeRole { user, role }
}

pub fn role_add(request: wire::AuthRoleAddRequest) -> AuthChange {
    let name = request.name.into();
    AuthChange::RoleAdd { name }
}

pub fn role_delete(request: wire::AuthRoleDeleteRequest) -> AuthChange {
    let name = request.role.into();
    AuthChange::RoleDelete { name }
}

pub fn role_grant_permission(request: wire::AuthRoleGrantPermissionRequest) -> AuthChange {
    AuthChange::RoleGrantPermission {
        role: request.name.into(),
        permission: request.perm.map(granted),
    }
}

pub fn role_revoke_permission(request: wire::AuthRoleRevokePermissionRequest) -> AuthChange {
    AuthChange::RoleRevokePermission {
        role: request.role.into(),
        key: request.key,
        range_end: request.range_end,
    }
}
