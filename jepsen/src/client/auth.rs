//! Users and roles as clients change them, and the token that a client sends
//! along once it has one.

use super::{Client, open};
use crate::history::op::{Access, AuthReq, Login, Reply};
use mizzen_proto::authpb::permission::Type;
use mizzen_proto::authpb::{Permission, UserAddOptions};
use mizzen_proto::etcdserverpb as pb;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Status};

/// Where etcd's clients put their token.
const TOKEN: &str = "token";

/// Whom a client calls for.
pub struct Session {
    login: Login,
    token: MetadataValue<Ascii>,
}

/// A request with the token of the session, if there is one.
pub fn signed<T>(session: &Option<Session>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(session) = session {
        request.metadata_mut().insert(TOKEN, session.token.clone());
    }
    request
}

impl Client {
    /// Whom this client calls for; nobody by itself.
    pub fn login(&self) -> Option<&Login> {
        self.session.as_ref().map(|session| &session.login)
    }

    pub fn log_out(&mut self) {
        self.session = None;
    }

    /// A login is the client's own from then on.
    pub(super) async fn change_users(&mut self, request: &AuthReq) -> Result<(i64, Reply), Status> {
        let auth = &mut self.auth;
        // One header type, many reply types.
        macro_rules! call {
            ($method:ident, $request:expr) => {
                open(auth.$method($request).await?, |r| r.header.as_ref()).0
            };
        }
        let rev = match request.clone() {
            AuthReq::Enable => call!(auth_enable, pb::AuthEnableRequest {}),
            AuthReq::AddUser { user, password } => call!(user_add, add_user(user, password)),
            AuthReq::DeleteUser { user } => {
                call!(user_delete, pb::AuthUserDeleteRequest { name: user })
            }
            AuthReq::Password { user, password } => call!(
                user_change_password,
                pb::AuthUserChangePasswordRequest {
                    name: user,
                    password,
                    ..Default::default()
                }
            ),
            AuthReq::AddRole { role } => call!(role_add, pb::AuthRoleAddRequest { name: role }),
            AuthReq::DeleteRole { role } => {
                call!(role_delete, pb::AuthRoleDeleteRequest { role })
            }
            AuthReq::GrantRole { user, role } => {
                call!(user_grant_role, pb::AuthUserGrantRoleRequest { user, role })
            }
            AuthReq::RevokeRole { user, role } => call!(
                user_revoke_role,
                pb::AuthUserRevokeRoleRequest { name: user, role }
            ),
            AuthReq::Grant {
                role,
                key,
                end,
                access,
            } => call!(
                role_grant_permission,
                pb::AuthRoleGrantPermissionRequest {
                    name: role,
                    perm: Some(permission(key, end, access)),
                }
            ),
            AuthReq::Revoke { role, key, end } => call!(
                role_revoke_permission,
                pb::AuthRoleRevokePermissionRequest {
                    role,
                    key: key.into_bytes().into(),
                    range_end: end.into_bytes().into(),
                }
            ),
            AuthReq::Login { user, password } => self.log_in(Login { user, password }).await?,
        };
        Ok((rev, Reply::Auth))
    }

    async fn log_in(&mut self, login: Login) -> Result<i64, Status> {
        let request = pb::AuthenticateRequest {
            name: login.user.clone(),
            password: login.password.clone(),
        };
        let (rev, reply) = open(self.auth.authenticate(request).await?, |r| {
            r.header.as_ref()
        });
        let token = MetadataValue::try_from(reply.token)
            .map_err(|_| Status::internal("a token that is no text"))?;
        self.session = Some(Session { login, token });
        Ok(rev)
    }
}

fn add_user(name: String, password: String) -> pb::AuthUserAddRequest {
    pb::AuthUserAddRequest {
        name,
        password,
        options: Some(UserAddOptions { no_password: false }),
        ..Default::default()
    }
}

fn permission(key: String, end: String, access: Access) -> Permission {
    let kind = match access {
        Access::Read => Type::Read,
        Access::Write => Type::Write,
        Access::ReadWrite => Type::Readwrite,
    };
    Permission {
        perm_type: kind as i32,
        key: key.into_bytes().into(),
        range_end: end.into_bytes().into(),
    }
}
