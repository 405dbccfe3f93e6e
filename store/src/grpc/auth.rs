//! The Auth service. Passwords leave a request as secrets, which nothing
//! prints.

use bytes::Bytes;
use mizzen_core::auth::{AuthChange, Name, Permission, PermissionKind};
use mizzen_engine::Engine;
use mizzen_proto::{authpb, etcdserverpb as wire};
use prost::Message;
use tonic::Status;

use super::{api::Api, frame::decode, framed::Framed, status::status};
use crate::{auth::Secret, server::Caller};

fn strings(names: Vec<Name>) -> Vec<String> {
    names.iter().map(|name| name.as_ref().to_owned()).collect()
}

fn granted(permission: authpb::Permission) -> Permission {
    Permission {
        kind: PermissionKind(permission.perm_type),
        key: permission.key,
        range_end: permission.range_end,
    }
}

fn shown(permission: Permission) -> authpb::Permission {
    authpb::Permission {
        perm_type: permission.kind.0,
        key: permission.key,
        range_end: permission.range_end,
    }
}

impl<E: Engine> Api<E> {
    /// Carries out `method` of the Auth service. `None`: there is no such.
    pub(super) async fn auth(
        &self,
        method: &str,
        caller: &Caller,
        body: Bytes,
    ) -> Option<Result<Framed, Status>> {
        let change = match method {
            "AuthEnable" => decode::<wire::AuthEnableRequest>(body).map(|_| AuthChange::Enable),
            "AuthDisable" => decode::<wire::AuthDisableRequest>(body).map(|_| AuthChange::Disable),
            "UserDelete" => decode(body).map(|request: wire::AuthUserDeleteRequest| {
                let name = request.name.into();
                AuthChange::UserDelete { name }
            }),
            "UserGrantRole" => decode(body).map(|request: wire::AuthUserGrantRoleRequest| {
                let (user, role) = (request.user.into(), request.role.into());
                AuthChange::UserGrantRole { user, role }
            }),
            "UserRevokeRole" => decode(body).map(|request: wire::AuthUserRevokeRoleRequest| {
                let (user, role) = (request.name.into(), request.role.into());
                AuthChange::UserRevokeRole { user, role }
            }),
            "RoleAdd" => decode(body).map(|request: wire::AuthRoleAddRequest| {
                let name = request.name.into();
                AuthChange::RoleAdd { name }
            }),
            "RoleDelete" => decode(body).map(|request: wire::AuthRoleDeleteRequest| {
                let name = request.role.into();
                AuthChange::RoleDelete { name }
            }),
            "RoleGrantPermission" => {
                decode(body).map(|request: wire::AuthRoleGrantPermissionRequest| {
                    AuthChange::RoleGrantPermission {
                        role: request.name.into(),
                        permission: request.perm.map(granted),
                    }
                })
            }
            "RoleRevokePermission" => {
                decode(body).map(|request: wire::AuthRoleRevokePermissionRequest| {
                    AuthChange::RoleRevokePermission {
                        role: request.role.into(),
                        key: request.key,
                        range_end: request.range_end,
                    }
                })
            }
            _ => return self.password_or_look(method, caller, body).await,
        };
        Some(match change {
            Ok(change) => self.reply(self.server.change_users(caller, change).await),
            Err(status) => Err(status),
        })
    }

    /// The calls that are no change as they stand.
    async fn password_or_look(
        &self,
        method: &str,
        caller: &Caller,
        body: Bytes,
    ) -> Option<Result<Framed, Status>> {
        Some(match method {
            "Authenticate" => self.authenticate(caller, body).await,
            "AuthStatus" => self.auth_status(caller, body).await,
            "UserAdd" => self.user_add(caller, body).await,
            "UserChangePassword" => self.user_change_password(caller, body).await,
            "UserGet" => self.user_get(caller, body).await,
            "UserList" => self.user_list(caller, body).await,
            "RoleGet" => self.role_get(caller, body).await,
            "RoleList" => self.role_list(caller, body).await,
            _ => return None,
        })
    }

    async fn authenticate(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: wire::AuthenticateRequest = decode(body)?;
        let password = Secret::new(&request.password);
        let (token, revision) = self
            .server
            .authenticate(caller, &request.name, password)
            .await
            .map_err(status)?;
        let reply = wire::AuthenticateResponse {
            header: Some(wire::ResponseHeader {
                revision,
                ..self.header()
            }),
            token,
        };
        Ok(reply.encode_to_vec().into())
    }

    async fn auth_status(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let _: wire::AuthStatusRequest = decode(body)?;
        let (enabled, revision) = self.server.auth_status(caller).await.map_err(status)?;
        let reply = wire::AuthStatusResponse {
            header: Some(self.header_now()),
            enabled,
            auth_revision: revision,
        };
        Ok(reply.encode_to_vec().into())
    }

    async fn user_add(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: wire::AuthUserAddRequest = decode(body)?;
        let no_password = request.options.is_some_and(|options| options.no_password);
        let password = (!no_password).then(|| Secret::new(&request.password));
        self.reply(self.server.user_add(caller, &request.name, password).await)
    }

    async fn user_change_password(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: wire::AuthUserChangePasswordRequest = decode(body)?;
        let password = Secret::new(&request.password);
        let hash = Secret::new(&request.hashed_password);
        let changed = self
            .server
            .user_change_password(caller, &request.name, password, &hash)
            .await;
        self.reply(changed)
    }

    async fn user_get(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: wire::AuthUserGetRequest = decode(body)?;
        let roles = self.server.user_get(caller, &request.name).await;
        let reply = wire::AuthUserGetResponse {
            roles: strings(roles.map_err(status)?),
            header: Some(self.header_now()),
        };
        Ok(reply.encode_to_vec().into())
    }

    async fn user_list(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let _: wire::AuthUserListRequest = decode(body)?;
        let users = self.server.user_list(caller).await.map_err(status)?;
        let reply = wire::AuthUserListResponse {
            header: Some(self.header_now()),
            users: strings(users),
        };
        Ok(reply.encode_to_vec().into())
    }

    async fn role_get(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: wire::AuthRoleGetRequest = decode(body)?;
        let permissions = self.server.role_get(caller, &request.role).await;
        let reply = wire::AuthRoleGetResponse {
            perm: permissions
                .map_err(status)?
                .into_iter()
                .map(shown)
                .collect(),
            header: Some(self.header_now()),
        };
        Ok(reply.encode_to_vec().into())
    }

    async fn role_list(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let _: wire::AuthRoleListRequest = decode(body)?;
        let roles = self.server.role_list(caller).await.map_err(status)?;
        let reply = wire::AuthRoleListResponse {
            header: Some(self.header_now()),
            roles: strings(roles),
        };
        Ok(reply.encode_to_vec().into())
    }
}
