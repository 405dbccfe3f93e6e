//! Users with a role each: some clients, as root, change what a role permits,
//! who has it, and passwords; the others work as these users, within their
//! rights and beyond, with tokens that may be worth nothing any more.
//!
//! A tenant is a user, its role and its keys, all of one name. One client
//! alone changes it, one change after the other, and starts another as soon as
//! the outcome of one is not known, so that what a tenant may do at a moment
//! follows from its history alone.

use super::{Actor, Kind};
use crate::client::{Bench, Client, Holder};
use crate::history::op::{
    Access, AuthReq, Cmp, Compare, DeleteReq, FailClass, Load, Outcome, PutReq, RangeReq, Request,
    Target, TxnOp, TxnReq, prefix_end,
};
use anyhow::Result;
use rand::Rng;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

pub const PREFIX: &str = "auth/";
const ROOT: &str = "root";
const CLIENT: u32 = 2_500_000;
const KEYS: u32 = 4;
/// One client in so many changes rights.
const ADMINISTRATORS: u32 = 4;
/// Between two changes of a tenant, in milliseconds: what clients do in between
/// is certain to be permitted, or not.
const PAUSE: std::ops::Range<u64> = 10..150;
/// Changes after which a tenant is left as it is.
const CHANGES: u32 = 60;
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    pub name: String,
    pub password: String,
    /// Changes so far.
    changes: u32,
    /// What it has now, so that changes change something.
    role: bool,
    granted: bool,
}

impl Tenant {
    pub fn prefix(&self) -> String {
        format!("{PREFIX}{}/", self.name)
    }
}

/// Whether this client changes rights.
pub fn administers(client: u32) -> bool {
    client.is_multiple_of(ADMINISTRATORS)
}

/// Whose certificate a client shows: users are known by their tokens alone.
pub fn holder(kind: Kind, client: u32) -> Holder {
    match kind == Kind::Auth && !administers(client) {
        true => Holder::Stranger,
        false => Holder::Root,
    }
}

/// Makes the root user and switches authentication on.
pub async fn enable(bench: &Arc<Bench>) -> Result<bool> {
    let mut client = Client::new(bench, CLIENT, 0)?;
    let (user, role) = (ROOT.to_string(), ROOT.to_string());
    let password = ROOT.to_string();
    for request in [
        AuthReq::AddUser {
            user: user.clone(),
            password,
        },
        AuthReq::AddRole { role: role.clone() },
        AuthReq::GrantRole { user, role },
        AuthReq::Enable,
    ] {
        let request = Request::Auth(request);
        let out = client.call_within(Load::Auth, request, PATIENCE).await;
        if !matches!(out, Outcome::Ok { .. }) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// One change as root.
pub async fn administer(a: &mut Actor) {
    let Some(mut tenant) = a.tenant.take() else {
        a.tenant = create(a).await;
        return;
    };
    let pause = a.rng.random_range(PAUSE);
    sleep(Duration::from_millis(pause)).await;
    let requests = change(a, &mut tenant);
    for request in requests {
        if a.call(Load::Auth, Request::Auth(request)).await.is_none() {
            return retire(a, &tenant);
        }
    }
    tenant.changes += 1;
    let mut tenants = a.shared.tenants.lock();
    if let Some(known) = tenants.iter_mut().find(|known| known.name == tenant.name) {
        *known = tenant.clone();
    }
    drop(tenants);
    match tenant.changes < CHANGES {
        true => a.tenant = Some(tenant),
        false => retire(a, &tenant),
    }
}

fn retire(a: &Actor, tenant: &Tenant) {
    let mut tenants = a.shared.tenants.lock();
    tenants.retain(|known| known.name != tenant.name);
}

/// A name nobody else takes.
async fn create(a: &mut Actor) -> Option<Tenant> {
    let name = a.unique();
    let tenant = Tenant {
        password: a.unique(),
        changes: 0,
        role: true,
        granted: true,
        name,
    };
    let (user, role) = (tenant.name.clone(), tenant.name.clone());
    let requests = [
        AuthReq::AddRole { role: role.clone() },
        AuthReq::AddUser {
            user: user.clone(),
            password: tenant.password.clone(),
        },
        grant(&tenant, Access::ReadWrite),
        AuthReq::GrantRole { user, role },
    ];
    for request in requests {
        a.call(Load::Auth, Request::Auth(request)).await?;
    }
    a.shared.tenants.lock().push(tenant.clone());
    Some(tenant)
}

fn grant(tenant: &Tenant, access: Access) -> AuthReq {
    AuthReq::Grant {
        role: tenant.name.clone(),
        key: tenant.prefix(),
        end: prefix_end(&tenant.prefix()),
        access,
    }
}

/// What is changed next, and the tenant as it is then.
fn change(a: &mut Actor, tenant: &mut Tenant) -> Vec<AuthReq> {
    let (user, role) = (tenant.name.clone(), tenant.name.clone());
    match a.rng.random_range(0..12u8) {
        0..3 if tenant.granted => {
            tenant.granted = false;
            vec![AuthReq::Revoke {
                role,
                key: tenant.prefix(),
                end: prefix_end(&tenant.prefix()),
            }]
        }
        0..6 => {
            tenant.granted = true;
            let all = [Access::Read, Access::Write, Access::ReadWrite];
            vec![grant(tenant, all[a.rng.random_range(0..all.len())])]
        }
        6..9 if tenant.role => {
            tenant.role = false;
            vec![AuthReq::RevokeRole { user, role }]
        }
        6..9 => {
            tenant.role = true;
            vec![AuthReq::GrantRole { user, role }]
        }
        9 => {
            tenant.password = a.unique();
            let password = tenant.password.clone();
            vec![AuthReq::Password { user, password }]
        }
        10 => {
            (tenant.role, tenant.granted) = (true, true);
            vec![
                AuthReq::DeleteRole { role: role.clone() },
                AuthReq::AddRole { role: role.clone() },
                grant(tenant, Access::ReadWrite),
                AuthReq::GrantRole { user, role },
            ]
        }
        _ => {
            tenant.role = true;
            tenant.password = a.unique();
            let password = tenant.password.clone();
            vec![
                AuthReq::DeleteUser { user: user.clone() },
                AuthReq::AddUser {
                    user: user.clone(),
                    password,
                },
                AuthReq::GrantRole { user, role },
            ]
        }
    }
}

/// One request of a user.
pub async fn step(a: &mut Actor) {
    let known = a.tenant.clone().filter(|_| a.client.login().is_some());
    let Some(tenant) = known else {
        return log_in(a).await;
    };
    // A password that may have been changed since.
    if a.rng.random_ratio(1, 40) {
        let (user, password) = (tenant.name, tenant.password);
        let login = Request::Auth(AuthReq::Login { user, password });
        a.call(Load::Auth, login).await;
        return;
    }
    if a.rng.random_ratio(1, 60) {
        a.client.log_out();
        return;
    }
    let request = request(a, &tenant);
    let outcome = a.client.call(Load::Auth, request).await;
    let Outcome::Fail { class, error } = outcome else {
        return;
    };
    a.refused |= class == FailClass::Refused;
    // The token is not known any more, or to somebody else; an old one is tried
    // a few times more.
    let again = error.starts_with("Unauthenticated") || error.contains("auth store is old");
    if again && a.rng.random_ratio(2, 3) {
        a.client.log_out();
    }
}

async fn log_in(a: &mut Actor) {
    let tenants = a.shared.tenants.lock().clone();
    if tenants.is_empty() {
        return sleep(Duration::from_millis(20)).await;
    }
    let tenant = tenants[a.rng.random_range(0..tenants.len())].clone();
    let login = Request::Auth(AuthReq::Login {
        user: tenant.name.clone(),
        password: tenant.password.clone(),
    });
    if a.call(Load::Auth, login).await.is_some() {
        a.tenant = Some(tenant);
    } else {
        sleep(Duration::from_millis(20)).await;
    }
}

/// Within the tenant's keys, or a little beyond.
fn request(a: &mut Actor, tenant: &Tenant) -> Request {
    let prefix = tenant.prefix();
    let key = format!("{prefix}{}", a.rng.random_range(0..KEYS));
    let foreign = format!("{PREFIX}nobody/{}", a.rng.random_range(0..KEYS));
    let beyond = ["\0".to_string(), prefix_end(PREFIX)][a.rng.random_range(0..2)].clone();
    let put = |a: &mut Actor, key: &str| PutReq {
        key: key.into(),
        value: a.unique(),
        prev: a.rng.random_ratio(1, 3),
        lease: 0,
    };
    let range = |key: &str, end: &str| RangeReq {
        key: key.into(),
        end: end.into(),
        ..RangeReq::default()
    };
    match a.rng.random_range(0..16u8) {
        0..4 => Request::Range(range(&key, "")),
        4 => Request::Range(range(&prefix, &prefix_end(&prefix))),
        5 => Request::Range(range(&prefix, &beyond)),
        6 => Request::Range(range(&foreign, "")),
        7..10 => Request::Put(put(a, &key)),
        10 => Request::Put(put(a, &foreign)),
        11 => Request::Delete(DeleteReq {
            key,
            prev: a.rng.random(),
            ..DeleteReq::default()
        }),
        12 => Request::Delete(DeleteReq {
            key: prefix,
            end: beyond,
            prev: false,
        }),
        _ => {
            let other = match a.rng.random_range(0..4u8) {
                0 => TxnOp::Put(put(a, &foreign)),
                1 => TxnOp::Range(range(&prefix, &beyond)),
                2 => TxnOp::Range(range(&foreign, "")),
                _ => TxnOp::Range(range(&key, "")),
            };
            let compared = [&key, &key, &key, &foreign][a.rng.random_range(0..4)].clone();
            let own = match a.rng.random() {
                true => TxnOp::Put(put(a, &key)),
                false => TxnOp::Range(range(&key, "")),
            };
            let (then, or_else) = match a.rng.random() {
                true => (own, other),
                false => (other, own),
            };
            Request::Txn(TxnReq {
                compare: vec![Compare {
                    key: compared,
                    cmp: Cmp::Greater,
                    target: Target::Version(a.rng.random_range(0..6)),
                }],
                then: vec![then],
                or_else: vec![or_else],
            })
        }
    }
}
