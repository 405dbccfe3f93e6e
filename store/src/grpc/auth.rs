//! The Auth service. Passwords leave a request as secrets, which nothing
//! prints.

use bytes::Bytes;
use mizzen_core::auth::{AuthChange, Name, Permission};
use mizzen_engine::Engine;
use mizzen_proto::{authpb, etcdserverpb as wire};
use prost::Message;
use tonic::Status;

use super::{api::Api, frame::decode, framed::Framed, status::status};
use crate::{auth::Secret, server::Caller};

fn strings(names: Vec<Name>) -> Vec<String> {
    names.iter().map(|name| name.as_ref().to_owned()).collect()
}

fn shown(permission: Permission) -> authpb::Permission {
    authpb::Permission {
        perm_type: permission.kind.0,
        key: permission.key,
        range_end: permission.range_end,
    }
}

impl<E: Engine> Api<E> {
    /// Carries out the change that a request says.
    pub(super) async fn change_users<R: Message + Default>(
        &self,
        caller: &Caller,
        body: Bytes,
        change: fn(R) -> AuthChange,
    ) -> Result<Framed, Status> {
        let change = change(decode(body)?);
        self.reply(self.server.change_users(caller, change).await)
    }

    pub(super) async fn authenticate(
        &self,
        caller: &Caller,
        body: Bytes,
    ) -> Result<Framed, Status> {
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

    pub(super) async fn auth_status(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let _: wire::AuthStatusRequest = decode(body)?;
        let (enabled, revision) = self.server.auth_status(caller).await.map_err(status)?;
        let reply = wire::AuthStatusResponse {
            header: Some(self.header_now()),
            enabled,
            auth_revision: revision,
        };
        Ok(reply.encode_to_vec().into())
    }

    pub(super) async fn user_add(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: wire::AuthUserAddRequest = decode(body)?;
        let no_password = request.options.is_some_and(|options| options.no_password);
        let password = (!no_password).then(|| Secret::new(&request.password));
        self.reply(self.server.user_add(caller, &request.name, password).await)
    }

    pub(super) async fn user_change_password(
        &self,
        caller: &Caller,
        body: Bytes,
    ) -> Result<Framed, Status> {
        let request: wire::AuthUserChangePasswordRequest = decode(body)?;
        let password = Secret::new(&request.password);
        let hash = Secret::new(&request.hashed_password);
        let changed = self
            .server
            .user_change_password(caller, &request.name, password, &hash)
            .await;
        self.reply(changed)
    }

    pub(super) async fn user_get(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let request: wire::AuthUserGetRequest = decode(body)?;
        let roles = self.server.user_get(caller, &request.name).await;
        let reply = wire::AuthUserGetResponse {
            roles: strings(roles.map_err(status)?),
            header: Some(self.header_now()),
        };
        Ok(reply.encode_to_vec().into())
    }

    pub(super) async fn user_list(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let _: wire::AuthUserListRequest = decode(body)?;
        let users = self.server.user_list(caller).await.map_err(status)?;
        let reply = wire::AuthUserListResponse {
            header: Some(self.header_now()),
            users: strings(users),
        };
        Ok(reply.encode_to_vec().into())
    }

    pub(super) async fn role_get(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
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

    pub(super) async fn role_list(&self, caller: &Caller, body: Bytes) -> Result<Framed, Status> {
        let _: wire::AuthRoleListRequest = decode(body)?;
        let roles = self.server.role_list(caller).await.map_err(status)?;
        let reply = wire::AuthRoleListResponse {
            header: Some(self.header_now()),
            roles: strings(roles),
        };
        Ok(reply.encode_to_vec().into())
    }
}
