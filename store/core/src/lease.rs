//! Leases as ids, times to live and attached keys. When one expires is not
//! known here: expiry comes as a command.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::ControlFlow,
};

use bytes::Bytes;
use mizzen_planted::{bug, sometimes};

use crate::{
    command::{LeaseCheckpoint, LeaseGrant},
    error::{Error, Stop},
    event::Event,
    limits::{DELETE_PAGE_ROWS, LEASE_TTL_MAX},
    overlay::Overlay,
    reply::Reply,
    room::ReplyRoom,
    rows::{
        meta::{self, Lease},
        required,
    },
    state::State,
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
    let keys = lease_keys(writer.overlay, id)?;
    end(writer, id, keys.len(), &mut Attached::new(keys.iter()))?;
    Ok(Reply::LeaseRevoke {
        revision: writer.seen().revision,
    })
}

/// A lease that was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub id: i64,
    /// The revision in which its keys were deleted; if it had none, the newest
    /// one.
    pub revision: i64,
    /// What watches tell, in the order it happened; all of that revision.
    pub events: Vec<Event>,
    /// As [`Outcome::events_in_log`](crate::Outcome::events_in_log).
    pub events_in_log: bool,
}

/// Ends leases one after the other, as
/// [`Command::LeaseRevoke`](crate::Command::LeaseRevoke) for each would, but
/// reads the rows of all of them at once. Those that do not exist are passed
/// over.
///
/// After an error the overlay and the state hold parts of it and must be
/// discarded.
pub fn end_leases<V: View + ?Sized>(
    state: &mut State,
    overlay: &mut Overlay<'_, V>,
    ids: &[i64],
) -> Result<Vec<Ended>, ViewError> {
    if state.alarms.trust().is_err() {
        return Ok(Vec::new());
    }
    let ids = existing(overlay, ids)?;
    let held = keys_of_each(overlay, &ids)?;
    let mut attached = Attached::new(held.iter().flatten());
    let before = *state;
    let mut ended = Vec::with_capacity(ids.len());
    for (id, keys) in ids.into_iter().zip(&held) {
        let mut writer = Writer::new(overlay, *state, ReplyRoom::new(None));
        end(&mut writer, id, keys.len(), &mut attached)?;
        let (events, _) = writer.close(state);
        ended.push(Ended {
            id,
            revision: state.revision,
            events_in_log: events.is_none(),
            events: events.unwrap_or_default(),
        });
    }
    if *state != before {
        state.save(overlay);
    }
    Ok(ended)
}

/// Those of `ids` that are ids of leases, each once.
fn existing<V: View + ?Sized>(
    overlay: &Overlay<'_, V>,
    ids: &[i64],
) -> Result<Vec<i64>, ViewError> {
    let keys: Vec<Bytes> = ids.iter().map(|id| meta::lease_key(*id)).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Bytes::as_ref).collect();
    let rows = overlay.multi_get(Family::Meta, &keys)?;
    let mut seen = BTreeSet::new();
    let mut existing = Vec::with_capacity(ids.len());
    for (id, row) in ids.iter().zip(rows) {
        if let Some(row) = row
            && seen.insert(*id)
        {
            required(meta::decode_lease(&row), "lease")?;
            existing.push(*id);
        }
    }
    Ok(existing)
}

/// The keys attached to each lease, in ascending order.
fn keys_of_each<V: View + ?Sized>(
    overlay: &Overlay<'_, V>,
    ids: &[i64],
) -> Result<Vec<Vec<Bytes>>, ViewError> {
    let bounds: Vec<_> = ids
        .iter()
        .map(|id| (meta::attachment_prefix(*id), meta::attachments_end(*id)))
        .collect();
    let spans: Vec<_> = bounds
        .iter()
        .map(|(from, to)| (&from[..], to.as_ref().map(|to| &to[..])))
        .collect();
    let mut keys = vec![Vec::new(); ids.len()];
    overlay.scan_each(Family::Meta, &spans, &mut |place, row_key, _| {
        // The last span of all has no end, and goes on into other rows.
        match row_key.strip_prefix(spans[place].0) {
            Some(key) => {
                keys[place].push(Bytes::copy_from_slice(key));
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        }
    })?;
    Ok(keys)
}

/// Keys attached to leases, of one lease after the other, with their head rows,
/// which are read many at once.
struct Attached<'k, I> {
    keys: I,
    read: VecDeque<(&'k Bytes, Option<Bytes>)>,
}

impl<'k, I: Iterator<Item = &'k Bytes>> Attached<'k, I> {
    fn new(keys: I) -> Self {
        Self {
            keys,
            read: VecDeque::new(),
        }
    }

    /// The next key and its row. A key has one lease, so what was read is not
    /// changed by the end of an earlier one.
    fn next<V: View + ?Sized>(
        &mut self,
        overlay: &Overlay<'_, V>,
    ) -> Result<Option<(&'k Bytes, Option<Bytes>)>, ViewError> {
        if self.read.is_empty() {
            let keys: Vec<&Bytes> = self.keys.by_ref().take(DELETE_PAGE_ROWS).collect();
            let wanted: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
            let rows = overlay.multi_get(Family::Head, &wanted)?;
            self.read = keys.into_iter().zip(rows).collect();
        }
        Ok(self.read.pop_front())
    }
}

/// Ends a lease that exists, whose keys are the next `keys` ones.
fn end<'k, V: View + ?Sized>(
    writer: &mut Writer<'_, '_, V>,
    id: i64,
    keys: usize,
    attached: &mut Attached<'k, impl Iterator<Item = &'k Bytes>>,
) -> Result<(), ViewError> {
    sometimes!("lease-ended-without-keys", keys == 0);
    sometimes!("lease-ended-with-keys", keys > 1);
    for number in 0..keys {
        if let Some((key, Some(row))) = attached.next(writer.overlay)?
            && bug!("revoke-leaves-key", true => number != 0)
        {
            writer.delete_living(key, &row)?;
        }
    }
    writer.overlay.delete(Family::Meta, meta::lease_key(id));
    Ok(())
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
