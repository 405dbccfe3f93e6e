//! etcd's database file taken over: what stands in its buckets becomes rows.

use std::{collections::BTreeSet, fmt::Display, io, ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use mizzen_bolt::{File, ReadAt};
use mizzen_core::{
    Alarm, AlarmKind, Lease,
    auth::{Name, PasswordHash, Permission, PermissionKind, Role, User},
    rows::Revision,
};
use mizzen_engine::Engine;
use mizzen_proto::{authpb, etcdserverpb::AlarmMember, mvccpb::KeyValue};
use prost::Message;

use super::LeaseRow;
use crate::server::Restore;

/// How far the other store had come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub term: u64,
    pub index: u64,
    /// Of the newest compaction, carried out or only begun.
    pub compacted: Option<i64>,
}

fn damaged(what: impl Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

/// Visits a bucket until the visitor fails. One that is not there is empty.
fn scan<R: ReadAt + ?Sized>(
    file: &File<'_, R>,
    bucket: &str,
    mut visit: impl FnMut(&[u8], &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut failure = None;
    let scanned = file.scan(bucket.as_bytes(), |key, value| match visit(key, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failure = Some(error);
            ControlFlow::Break(())
        }
    });
    scanned.map_err(io::Error::other)?;
    failure.map_or(Ok(()), Err)
}

fn decode<T: Message + Default>(bucket: &str, key: &[u8], row: &[u8]) -> io::Result<T> {
    T::decode(row).map_err(|error| {
        damaged(format!(
            "bucket {bucket}, key {:?}: {error}",
            String::from_utf8_lossy(key)
        ))
    })
}

/// Fills a store with what the file holds; members are left out.
pub fn read<R: ReadAt + ?Sized, E: Engine>(
    file: &File<'_, R>,
    into: &mut Restore<E>,
) -> io::Result<Position> {
    scan(file, "lease", |key, row| {
        let row: LeaseRow = decode("lease", key, row)?;
        let lease = Lease {
            ttl: row.ttl,
            remaining: row.remaining_ttl,
        };
        into.lease(row.id, lease)
    })?;
    scan(file, "alarm", |key, _| {
        let row: AlarmMember = decode("alarm", key, key)?;
        let kind = u8::try_from(row.alarm)
            .ok()
            .and_then(AlarmKind::from_number);
        match kind {
            Some(kind) => into.alarm(Alarm {
                kind,
                member: row.member_id,
            }),
            None => Ok(()),
        }
    })?;
    users(file, into)?;
    scan(file, "key", |key, row| change(key, row, into))?;
    position(file)
}

fn users<R: ReadAt + ?Sized, E: Engine>(
    file: &File<'_, R>,
    into: &mut Restore<E>,
) -> io::Result<()> {
    let mut switch = (false, 1);
    scan(file, "auth", |key, value| {
        match key {
            b"authEnabled" => switch.0 = value == [1],
            b"authRevision" => switch.1 = number(key, value)?,
            _ => {}
        }
        Ok(())
    })?;
    let name = |name: &[u8]| -> io::Result<Name> {
        let name = std::str::from_utf8(name).map_err(damaged)?;
        Ok(Arc::from(name))
    };
    let (mut roles, mut users) = (Vec::new(), Vec::new());
    scan(file, "authRoles", |key, row| {
        let row: authpb::Role = decode("authRoles", key, row)?;
        let permission = |permission: authpb::Permission| Permission {
            kind: PermissionKind(permission.perm_type),
            key: permission.key,
            range_end: permission.range_end,
        };
        let mut permissions: Vec<_> = row.key_permission.into_iter().map(permission).collect();
        permissions.sort_by(|a, b| a.key.cmp(&b.key));
        roles.push((name(key)?, Role::new(permissions)));
        Ok(())
    })?;
    scan(file, "authUsers", |key, row| {
        let row: authpb::User = decode("authUsers", key, row)?;
        let without = row.options.is_some_and(|options| options.no_password);
        let of = row.roles.iter().map(|role| Arc::from(role.as_str()));
        let mut of: Vec<Name> = of.collect();
        of.sort();
        of.dedup();
        let user = User {
            password: (!without).then_some(PasswordHash(row.password)),
            roles: of,
        };
        users.push((name(key)?, user));
        Ok(())
    })?;
    if switch == (false, 1) && roles.is_empty() && users.is_empty() {
        return Ok(());
    }
    into.users(switch, roles, users)
}

fn number(key: &[u8], value: &[u8]) -> io::Result<u64> {
    let value: [u8; 8] = value.try_into().map_err(|_| {
        let key = String::from_utf8_lossy(key);
        damaged(format!("{key:?} is no number of 8 bytes"))
    })?;
    Ok(u64::from_be_bytes(value))
}

/// A key of bucket `key`, and whether the change is a deletion.
pub fn revision(key: &[u8]) -> io::Result<(Revision, bool)> {
    let parsed = || {
        let (main, rest) = key.split_first_chunk::<8>()?;
        let (sub, rest) = rest.strip_prefix(b"_")?.split_first_chunk::<8>()?;
        let deletion = match rest {
            b"" => false,
            b"t" => true,
            _ => return None,
        };
        let sub = u32::try_from(u64::from_be_bytes(*sub)).ok()?;
        Some((Revision::new(i64::from_be_bytes(*main), sub), deletion))
    };
    parsed().ok_or_else(|| damaged(format!("cannot parse revision key: {key:02x?}")))
}

fn change<E: Engine>(key: &[u8], row: &[u8], into: &mut Restore<E>) -> io::Result<()> {
    let (revision, deletion) = revision(key)?;
    let kv: KeyValue = decode("key", key, row)?;
    match (kv.key.is_empty(), deletion) {
        // Only a revision, by which a restored store was moved on.
        (true, _) => into.reach(revision.main),
        (false, true) => into.delete(revision, kv.key),
        (false, false) if kv.mod_revision == revision.main => into.put(revision, kv),
        (false, false) => Err(damaged(format!(
            "the change of revision {} says that it is of revision {}",
            revision.main, kv.mod_revision
        ))),
    }
}

/// The ids of all leases.
pub fn lease_ids<R: ReadAt + ?Sized>(file: &File<'_, R>) -> io::Result<BTreeSet<i64>> {
    let mut ids = BTreeSet::new();
    scan(file, "lease", |key, _| {
        ids.insert(number(key, key)?.cast_signed());
        Ok(())
    })?;
    Ok(ids)
}

/// How far the other store had come.
pub fn position<R: ReadAt + ?Sized>(file: &File<'_, R>) -> io::Result<Position> {
    let mut position = Position::default();
    scan(file, "meta", |key, value| {
        match key {
            b"term" => position.term = number(key, value)?,
            b"consistent_index" => position.index = number(key, value)?,
            b"finishedCompactRev" | b"scheduledCompactRev" => {
                let (revision, _) = revision(value)?;
                let newer = position.compacted.max(Some(revision.main));
                position.compacted = newer.filter(|revision| *revision > 0);
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(position)
}

/// The key of a row of bucket `key`.
pub fn key_of(key: &[u8], row: &[u8]) -> io::Result<Bytes> {
    decode::<KeyValue>("key", key, row).map(|kv| kv.key)
}
