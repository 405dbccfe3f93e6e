//! The store in the form of etcd's database file: which buckets there are, and what
//! stands in them. Written as etcd 3.7 does, and read of 3.4 and later.
//!
//! Knows etcd's keys and encodings. Must not know pages, files, or who wants the
//! file.
//! Source: etcd 3.7.3, `server/storage/schema` and `server/storage/mvcc`.

mod read;

use std::ops::ControlFlow;

use bytes::Bytes;
use mizzen_bolt::{Refused, Rows};
use mizzen_core::{
    Kept, Lease,
    auth::{Auth, Permission, Role, User},
};
use mizzen_engine::Engine;
use mizzen_proto::{authpb, etcdserverpb::AlarmMember};
use prost::{Message, encoding::encode_varint};
use serde::Serialize;

use crate::{
    server::{Copy, Error, Member},
    version,
};

pub use read::{key_of, lease_ids, position, read, revision};

/// Why a file was not written.
pub type Failure = Refused<Error>;

/// Where rows are put.
type Target<'a> = &'a mut dyn Rows<Error>;

/// Puts everything there is, bucket by bucket in the order of their names.
pub fn rows<E: Engine>(copy: &Copy<E>, into: Target<'_>) -> Result<(), Failure> {
    alarms(copy, into)?;
    users(copy.auth(), into)?;
    cluster(copy, into)?;
    keys(copy, into)?;
    leases(copy, into)?;
    members(copy, into)?;
    meta(copy, into)
}

fn alarms<E: Engine>(copy: &Copy<E>, into: Target<'_>) -> Result<(), Failure> {
    into.bucket(b"alarm")?;
    let alarms = copy.alarms()?.into_iter().map(|alarm| AlarmMember {
        member_id: alarm.member,
        alarm: alarm.kind as i32,
    });
    let mut keys: Vec<Vec<u8>> = alarms.map(|alarm| alarm.encode_to_vec()).collect();
    keys.sort();
    for key in keys {
        into.put(&key, &[])?;
    }
    Ok(())
}

/// The switch, roles and users. Tokens are no rows in etcd either.
fn users(auth: &Auth, into: Target<'_>) -> Result<(), Failure> {
    into.bucket(b"auth")?;
    into.put(b"authEnabled", &[&[u8::from(auth.is_enabled())]])?;
    into.put(b"authRevision", &[&auth.revision().to_be_bytes()])?;
    into.bucket(b"authRoles")?;
    for (name, role) in auth.roles() {
        into.put(name.as_bytes(), &[&role_row(name, role).encode_to_vec()])?;
    }
    into.bucket(b"authUsers")?;
    for (name, user) in auth.users() {
        into.put(name.as_bytes(), &[&user_row(name, user).encode_to_vec()])?;
    }
    Ok(())
}

fn role_row(name: &str, role: &Role) -> authpb::Role {
    let permission = |permission: &Permission| authpb::Permission {
        perm_type: permission.kind.0,
        key: permission.key.clone(),
        range_end: permission.range_end.clone(),
    };
    authpb::Role {
        name: Bytes::copy_from_slice(name.as_bytes()),
        key_permission: role.permissions().iter().map(permission).collect(),
    }
}

fn user_row(name: &str, user: &User) -> authpb::User {
    let hash = user.password.as_ref().map(|hash| hash.0.clone());
    authpb::User {
        name: Bytes::copy_from_slice(name.as_bytes()),
        roles: user.roles.iter().map(ToString::to_string).collect(),
        // etcd writes them for every user.
        options: Some(authpb::UserAddOptions {
            no_password: hash.is_none(),
        }),
        password: hash.unwrap_or_default(),
    }
}

fn cluster<E: Engine>(copy: &Copy<E>, into: Target<'_>) -> Result<(), Failure> {
    into.bucket(b"cluster")?;
    match copy.cluster_version() {
        Some(version) => into.put(b"clusterVersion", &[version.as_bytes()]),
        None => Ok(()),
    }
}

/// Revision and place among its changes; deletions are marked.
fn revision_key(main: i64, sub: u64, deletion: bool) -> Vec<u8> {
    let mut key = Vec::with_capacity(18);
    key.extend_from_slice(&main.to_be_bytes());
    key.push(b'_');
    key.extend_from_slice(&sub.to_be_bytes());
    if deletion {
        key.push(b't');
    }
    key
}

fn keys<E: Engine>(copy: &Copy<E>, into: Target<'_>) -> Result<(), Failure> {
    into.bucket(b"key")?;
    let mut failure = None;
    copy.changes(|change| match put_change(change, into) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failure = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failure.map_or(Ok(()), Err)
}

fn put_change(change: &Kept<'_>, into: Target<'_>) -> Result<(), Failure> {
    let revision = change.revision;
    let deletion = change.rest.is_none();
    let key = revision_key(revision.main, revision.sub.into(), deletion);
    // A mvccpb.KeyValue begins with its key.
    let mut begin = vec![0x0a];
    encode_varint(change.key.len() as u64, &mut begin);
    let value = [&begin[..], change.key, change.rest.unwrap_or_default()];
    into.put(&key, &value)
}

/// leasepb.Lease.
#[derive(Clone, PartialEq, Message)]
struct LeaseRow {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(int64, tag = "3")]
    remaining_ttl: i64,
}

fn leases<E: Engine>(copy: &Copy<E>, into: Target<'_>) -> Result<(), Failure> {
    into.bucket(b"lease")?;
    let mut leases: Vec<([u8; 8], (i64, Lease))> = copy
        .leases()?
        .into_iter()
        .map(|lease| (lease.0.to_be_bytes(), lease))
        .collect();
    leases.sort_by_key(|(key, _)| *key);
    for (key, (id, lease)) in leases {
        let row = LeaseRow {
            id,
            ttl: lease.ttl,
            remaining_ttl: lease.remaining,
        };
        into.put(&key, &[&row.encode_to_vec()])?;
    }
    Ok(())
}

/// A member as etcd writes one.
#[derive(Serialize)]
struct MemberRow<'a> {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    #[serde(rename = "isLearner", skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "clientURLs", skip_serializing_if = "<[String]>::is_empty")]
    client_urls: &'a [String],
}

fn json(row: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(row).map_err(|error| Error::Failed(error.to_string()).into())
}

fn members<E: Engine>(copy: &Copy<E>, into: Target<'_>) -> Result<(), Failure> {
    into.bucket(b"members")?;
    let mut members: Vec<(String, &Member)> = copy
        .members()
        .map(|member| (format!("{:x}", member.id), member))
        .collect();
    members.sort_by(|a, b| a.0.cmp(&b.0));
    for (key, member) in members {
        let row = MemberRow {
            id: member.id,
            peer_urls: &member.peer_urls,
            is_learner: member.learner,
            name: &member.name,
            client_urls: &member.client_urls,
        };
        into.put(key.as_bytes(), &[&json(&row)?])?;
    }
    into.bucket(b"members_removed")?;
    let mut removed: Vec<String> = copy.removed_members().map(|id| format!("{id:x}")).collect();
    removed.sort();
    for key in removed {
        into.put(key.as_bytes(), &[b"removed"])?;
    }
    Ok(())
}

/// raftpb.ConfState.
#[derive(Serialize)]
struct ConfState {
    voters: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    auto_leave: bool,
}

fn meta<E: Engine>(copy: &Copy<E>, into: Target<'_>) -> Result<(), Failure> {
    let (term, index) = copy.applied();
    let ids = |learner: bool| -> Vec<u64> {
        let members = copy.members().filter(|member| member.learner == learner);
        members.map(|member| member.id).collect()
    };
    let state = ConfState {
        voters: ids(false),
        learners: ids(true),
        auto_leave: false,
    };
    let compacted = copy.compact_revision();
    into.bucket(b"meta")?;
    into.put(b"confState", &[&json(&state)?])?;
    into.put(b"consistent_index", &[&index.to_be_bytes()])?;
    if compacted > 0 {
        let compacted = revision_key(compacted, 0, false);
        into.put(b"finishedCompactRev", &[&compacted])?;
        into.put(b"scheduledCompactRev", &[&compacted])?;
    }
    into.put(b"storageVersion", &[version::STORAGE.as_bytes()])?;
    into.put(b"term", &[&term.to_be_bytes()])
}
