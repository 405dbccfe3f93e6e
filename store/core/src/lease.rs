//! Leases as ids, times to live and attached keys. When one expires is not
//! known here: expiry comes as a command.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::{
    command::{LeaseCheckpoint, LeaseGrant},
    error::{Error, Stop},
    limits::LEASE_TTL_MAX,
    planted,
    reply::Reply,
    rows::{
        meta::{self, Lease},
        required,
    },
    view::{Family, View, ViewError},
    write::Writer,
};

/// What is known of a lease; `None` if there is no such lease.
pub fn lease<V: View + ?Sized>(view: &V, id: i64) -> Result<Option<Lease>, ViewError> {
    match view.get(Family::Meta, &meta::lease_key(id))? {
        Some(row) => required(meta::decode_lease(&row), "lease").map(Some),
        None => Ok(None),
    }
}

/// All leases with their ids, ordered by id as unsigned numbers.
pub fn leases<V: View + ?Sized>(view: &V) -> Result<Vec<(i64, Lease)>, ViewError> {
    let mut leases = Vec::new();
    let mut damaged = false;
    view.scan(
        Family::Meta,
        meta::LEASES.0,
        Some(meta::LEASES.1),
        &mut |key, row| {
            match meta::decode_lease_key(key).zip(meta::decode_lease(row)) {
                Some(lease) => leases.push(lease),
                None => damaged = true,
            }
            if damaged {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        },
    )?;
    required((!damaged).then_some(leases), "lease")
}

/// The keys attached to a lease, in ascending order.
pub fn lease_keys<V: View + ?Sized>(view: &V, id: i64) -> Result<Vec<Bytes>, ViewError> {
    let prefix = meta::attachment_prefix(id);
    let end = meta::attachments_end(id);
    let mut keys = Vec::new();
    view.scan(
        Family::Meta,
        &prefix,
        end.as_ref().map(|end| &end[..]),
        &mut |row_key, _| match row_key.strip_prefix(&prefix) {
            Some(key) => {
                keys.push(Bytes::copy_from_slice(key));
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        },
    )?;
    Ok(keys)
}

/// Refuses a lease that does not exist; 0 stands for none.
pub(crate) fn check<V: View + ?Sized>(view: &V, id: i64) -> Result<(), Stop> {
    if id != 0 && lease(view, id)?.is_none() {
        return Err(Error::LeaseNotFound.into());
    }
    Ok(())
}

pub(crate) fn grant<V: View + ?Sized>(
    writer: &mut Writer<'_, '_, V>,
    grant: &LeaseGrant,
) -> Result<Reply, Stop> {
    if grant.id == 0 {
        return Err(Error::LeaseNotFound.into());
    }
    if grant.ttl > LEASE_TTL_MAX {
        return Err(Error::LeaseTtlTooLarge.into());
    }
    if lease(writer.overlay, grant.id)?.is_some() {
        return Err(Error::LeaseExists.into());
    }
    writer.overlay.put(
        Family::Meta,
        meta::lease_key(grant.id),
        meta::encode_lease(&Lease {
            ttl: grant.ttl,
            remaining: 0,
        }),
    );
    Ok(Reply::LeaseGrant {
        revision: writer.seen().revision,
        id: grant.id,
        ttl: grant.ttl,
    })
}

/// Ends a lease and deletes its keys, all in one revision.
pub(crate) fn revoke<V: View + ?Sized>(
    writer: &mut Writer<'_, '_, V>,
    id: i64,
) -> Result<Reply, Stop> {
    if lease(writer.overlay, id)?.is_none() {
        return Err(Error::LeaseNotFound.into());
    }
    let skipped = usize::from(planted::has("revoke-leaves-key"));
    for key in lease_keys(writer.overlay, id)?.into_iter().skip(skipped) {
        writer.delete_key(key)?;
    }
    writer.overlay.delete(Family::Meta, meta::lease_key(id));
    Ok(Reply::LeaseRevoke {
        revision: writer.seen().revision,
    })
}

/// Notes what is left of leases. No change of the store: it keeps its revision.
pub(crate) fn checkpoint<V: View + ?Sized>(
    writer: &mut Writer<'_, '_, V>,
    checkpoints: &[LeaseCheckpoint],
) -> Result<Reply, ViewError> {
    for checkpoint in checkpoints {
        let Some(known) = lease(writer.overlay, checkpoint.id)? else {
            continue;
        };
        let noted = Lease {
            remaining: checkpoint.remaining.max(0),
            ..known
        };
        if noted != known {
            writer.overlay.put(
                Family::Meta,
                meta::lease_key(checkpoint.id),
                meta::encode_lease(&noted),
            );
        }
    }
    Ok(Reply::LeaseCheckpoint {
        revision: writer.seen().revision,
    })
}
