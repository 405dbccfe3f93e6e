//! One call of one user, and what came of it in a form that can be compared.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use mizzen_proto::{
    authpb::{Permission, UserAddOptions},
    etcdserverpb::{
        self as wire, auth_client::AuthClient, kv_client::KvClient, lease_client::LeaseClient,
    },
};
use tonic::{Request, Response, Status, transport::Channel};

/// A call, whoever makes it.
#[derive(Clone, Debug)]
pub enum Call {
    Enable,
    Disable,
    Status,
    Login(String, String),
    UserAdd(String, Option<String>),
    UserDelete(String),
    UserGet(String),
    UserList,
    ChangePassword(String, String),
    GrantRole(String, String),
    RevokeRole(String, String),
    RoleAdd(String),
    RoleDelete(String),
    RoleGet(String),
    RoleList,
    GrantPermission(String, Option<Permission>),
    RevokePermission(String, Vec<u8>, Vec<u8>),
    Range(wire::RangeRequest),
    Put(wire::PutRequest),
    DeleteRange(wire::DeleteRangeRequest),
    Txn(wire::TxnRequest),
    Compact(i64),
    LeaseGrant(i64),
    LeaseRevoke(i64),
    LeaseKeys(i64),
}

/// The body of an answer without its header, or code and text of a refusal.
pub type CallResult = Result<String, (i32, String)>;

/// One server and the tokens it has given out.
pub struct Asked {
    channel: Channel,
    tokens: BTreeMap<String, String>,
}

fn refused<T>(status: Status) -> Result<T, (i32, String)> {
    Err((status.code() as i32, status.message().to_owned()))
}

/// Debug output without the header: members, terms and tokens differ, and
/// revisions are compared by what ranges find.
macro_rules! shown {
    ($response:expr) => {
        match $response {
            Ok(response) => {
                let mut body = Response::into_inner(response);
                let revision = body.header.take().map_or(0, |header| header.revision);
                Ok(format!("{revision} {body:?}"))
            }
            Err(status) => refused(status),
        }
    };
}

impl Asked {
    pub fn new(channel: Channel) -> Self {
        Self {
            channel,
            tokens: BTreeMap::new(),
        }
    }

    /// The tokens that were given out last, of one user each.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.tokens.values().map(String::as_str)
    }

    /// A request with the token of `user`, if that is somebody.
    ///
    /// # Errors
    /// The token is no text.
    pub fn request<T>(&self, user: Option<&str>, message: T) -> Result<Request<T>> {
        let mut request = Request::new(message);
        if let Some(user) = user {
            let token = self.tokens.get(user).map_or("never.1", String::as_str);
            let token = token.parse().context("a token is plain text")?;
            request.metadata_mut().insert("token", token);
        }
        Ok(request)
    }

    /// Makes `call` as `user` (`None`: without credentials).
    pub async fn make(&mut self, user: Option<&str>, call: &Call) -> Result<CallResult> {
        match call {
            Call::Range(_)
            | Call::Put(_)
            | Call::DeleteRange(_)
            | Call::Txn(_)
            | Call::Compact(_) => self.keys(user, call).await,
            Call::LeaseGrant(_) | Call::LeaseRevoke(_) | Call::LeaseKeys(_) => {
                self.leases(user, call).await
            }
            _ => self.users(user, call).await,
        }
    }

    async fn keys(&self, user: Option<&str>, call: &Call) -> Result<CallResult> {
        let mut kv = KvClient::new(self.channel.clone());
        Ok(match call {
            Call::Range(range) => shown!(kv.range(self.request(user, range.clone())?).await),
            Call::Put(put) => shown!(kv.put(self.request(user, put.clone())?).await),
            Call::DeleteRange(delete) => {
                shown!(kv.delete_range(self.request(user, delete.clone())?).await)
            }
            Call::Compact(revision) => {
                let compact = wire::CompactionRequest {
                    revision: *revision,
                    physical: false,
                };
                shown!(kv.compact(self.request(user, compact)?).await)
            }
            Call::Txn(txn) => shown!(kv.txn(self.request(user, txn.clone())?).await),
            other => anyhow::bail!("{other:?} is no call of the KV service"),
        })
    }

    async fn leases(&self, user: Option<&str>, call: &Call) -> Result<CallResult> {
        let mut leases = LeaseClient::new(self.channel.clone());
        Ok(match call {
            Call::LeaseGrant(id) => {
                let grant = wire::LeaseGrantRequest { ttl: 600, id: *id };
                shown!(leases.lease_grant(self.request(user, grant)?).await)
            }
            Call::LeaseRevoke(id) => {
                let revoke = wire::LeaseRevokeRequest { id: *id };
                shown!(leases.lease_revoke(self.request(user, revoke)?).await)
            }
            Call::LeaseKeys(id) => {
                let asked = wire::LeaseTimeToLiveRequest {
                    id: *id,
                    keys: true,
                };
                let told = leases.lease_time_to_live(self.request(user, asked)?).await;
                match told {
                    Ok(told) => {
                        let mut keys = told.into_inner().keys;
                        keys.sort();
                        Ok(format!("{keys:?}"))
                    }
                    Err(status) => refused(status),
                }
            }
            other => anyhow::bail!("{other:?} is no call of the Lease service"),
        })
    }

    async fn users(&mut self, user: Option<&str>, call: &Call) -> Result<CallResult> {
        let mut auth = AuthClient::new(self.channel.clone());
        macro_rules! ask {
            ($method:ident, $message:expr) => {{
                let request = self.request(user, $message)?;
                shown!(auth.$method(request).await)
            }};
        }
        Ok(match call.clone() {
            Call::Enable => ask!(auth_enable, wire::AuthEnableRequest {}),
            Call::Disable => ask!(auth_disable, wire::AuthDisableRequest {}),
            Call::Status => ask!(auth_status, wire::AuthStatusRequest {}),
            Call::Login(name, password) => {
                let message = wire::AuthenticateRequest {
                    name: name.clone(),
                    password,
                };
                match auth.authenticate(self.request(user, message)?).await {
                    Ok(answer) => {
                        self.tokens.insert(name, answer.into_inner().token);
                        Ok("a token".to_owned())
                    }
                    Err(status) => refused(status),
                }
            }
            Call::UserAdd(name, password) => {
                let options = Some(UserAddOptions {
                    no_password: password.is_none(),
                });
                let password = password.unwrap_or_default();
                let hashed_password = String::new();
                let message = wire::AuthUserAddRequest {
                    name,
                    password,
                    options,
                    hashed_password,
                };
                ask!(user_add, message)
            }
            Call::UserDelete(name) => ask!(user_delete, wire::AuthUserDeleteRequest { name }),
            Call::UserGet(name) => ask!(user_get, wire::AuthUserGetRequest { name }),
            Call::UserList => ask!(user_list, wire::AuthUserListRequest {}),
            Call::ChangePassword(name, password) => {
                let hashed_password = String::new();
                let message = wire::AuthUserChangePasswordRequest {
                    name,
                    password,
                    hashed_password,
                };
                ask!(user_change_password, message)
            }
            Call::GrantRole(user, role) => {
                ask!(
                    user_grant_role,
                    wire::AuthUserGrantRoleRequest { user, role }
                )
            }
            Call::RevokeRole(name, role) => {
                ask!(
                    user_revoke_role,
                    wire::AuthUserRevokeRoleRequest { name, role }
                )
            }
            Call::RoleAdd(name) => ask!(role_add, wire::AuthRoleAddRequest { name }),
            Call::RoleDelete(role) => ask!(role_delete, wire::AuthRoleDeleteRequest { role }),
            Call::RoleGet(role) => ask!(role_get, wire::AuthRoleGetRequest { role }),
            Call::RoleList => ask!(role_list, wire::AuthRoleListRequest {}),
            Call::GrantPermission(name, perm) => {
                let message = wire::AuthRoleGrantPermissionRequest { name, perm };
                ask!(role_grant_permission, message)
            }
            Call::RevokePermission(role, key, range_end) => {
                let message = wire::AuthRoleRevokePermissionRequest {
                    role,
                    key: key.into(),
                    range_end: range_end.into(),
                };
                ask!(role_revoke_permission, message)
            }
            other => anyhow::bail!("{other:?} is no call of the Auth service"),
        })
    }
}
