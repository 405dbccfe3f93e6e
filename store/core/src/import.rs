//! Taking over what another store holds: changes that happened elsewhere, with the
//! revisions they have there.
//!
//! The rows that come of it are those that the same changes would have made here,
//! except that versions which compaction has removed there have never been here.

use bytes::Bytes;

use crate::{
    auth::{Auth, Name, Role, User},
    command::Alarm,
    kv,
    overlay::Overlay,
    read,
    rows::{
        Revision,
        chain::Chain,
        head, log,
        meta::{self, Lease},
        required,
    },
    state::State,
    view::{Family, View, ViewError},
};

/// An empty store, or as far as it has come, to which changes are added in their
/// order. Rows of an overlay may be written at any time.
#[derive(Clone, Copy, Debug)]
pub struct Import {
    state: State,
}

/// Why a change is not taken over.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("revision {main} of the store does not come after revision {last}")]
    Order { main: i64, last: i64 },
    #[error(transparent)]
    Rows(#[from] ViewError),
}

impl Import {
    /// Into a store that has nothing.
    #[expect(clippy::new_without_default, reason = "it begins something")]
    pub fn new() -> Self {
        Self {
            state: State::EMPTY,
        }
    }

    /// Leases come before the keys that are attached to them.
    pub fn lease<V: View + ?Sized>(overlay: &mut Overlay<'_, V>, id: i64, lease: &Lease) {
        let row = meta::encode_lease(lease);
        overlay.put(Family::Meta, meta::lease_key(id), row);
    }

    /// A lease has ended, and its keys have been deleted.
    pub fn end_lease<V: View + ?Sized>(overlay: &mut Overlay<'_, V>, id: i64) {
        overlay.delete(Family::Meta, meta::lease_key(id));
    }

    pub fn alarm<V: View + ?Sized>(overlay: &mut Overlay<'_, V>, alarm: &Alarm) {
        overlay.put(Family::Meta, meta::alarm_key(alarm), meta::mark());
    }

    /// Users and roles, the switch, and the revision of them.
    pub fn users<V: View + ?Sized>(
        overlay: &mut Overlay<'_, V>,
        (enabled, revision): (bool, u64),
        roles: Vec<(Name, Role)>,
        users: Vec<(Name, User)>,
    ) {
        Auth::import(overlay, enabled, revision, roles, users);
    }

    /// Adds a change: a key's new version, or its deletion. The create revision and
    /// the version are the caller's affair.
    pub fn change<V: View + ?Sized>(
        &mut self,
        overlay: &mut Overlay<'_, V>,
        own: Revision,
        key: &Bytes,
        fields: Option<&kv::Fields<'_>>,
    ) -> Result<(), ImportError> {
        self.reach(own.main, overlay)?;
        let newest = read::newest(overlay, &self.state, key)?;
        let sizes = &mut self.state.sizes;
        let mut detach = 0;
        if let Some(rest) = newest.as_ref().and_then(|newest| newest.rest.clone()) {
            sizes.supersede(key, &rest);
            detach = required(kv::Fields::decode(&rest), "head")?.lease;
        }
        let before = newest.map(|newest| (newest.revision, newest.chain));
        if before.is_some_and(|(before, _)| before >= own) {
            return Err(ImportError::Order {
                main: own.main,
                last: self.state.revision,
            });
        }
        let (chain, links) = Chain::extend(before, own);
        let row = match fields {
            Some(fields) => {
                let (row, rest_at) = log::encode_put(own, &links, key, fields);
                sizes.write(key, &row[rest_at..]);
                let head = head::encode_put(own.sub, &chain, fields);
                overlay.put(Family::Head, key.clone(), head);
                row
            }
            None => {
                sizes.write(key, &[]);
                sizes.supersede(key, &[]);
                let head = head::encode_tombstone(own, &chain);
                overlay.put(Family::Head, key.clone(), head);
                log::encode_delete(own, &links, key)
            }
        };
        let place = Bytes::copy_from_slice(&log::encode_key(own));
        overlay.put(Family::Log, place, row);
        attach(
            overlay,
            key,
            detach,
            fields.map_or(0, |fields| fields.lease),
        )?;
        Ok(())
    }

    /// The revision is `revision` from now on, without a change if there was none.
    pub fn reach<V: View + ?Sized>(
        &mut self,
        revision: i64,
        overlay: &mut Overlay<'_, V>,
    ) -> Result<(), ImportError> {
        let last = self.state.revision;
        // The first change of all has revision 2, and revisions are counted on.
        if revision < last.max(2) || revision >= meta::REVISION_END {
            return Err(ImportError::Order {
                main: revision,
                last,
            });
        }
        self.state.sizes.note_between(last, revision, overlay);
        self.state.revision = revision;
        Ok(())
    }

    pub fn revision(&self) -> i64 {
        self.state.revision
    }

    /// Ends the import; what happened up to revision `compacted` can be read no
    /// more, if there is one.
    pub fn end<V: View + ?Sized>(
        mut self,
        overlay: &mut Overlay<'_, V>,
        compacted: Option<i64>,
    ) -> Result<(), ImportError> {
        if let Some(floor) = compacted {
            if floor > self.state.revision {
                self.reach(floor, overlay)?;
            }
            let newest = self.state.revision;
            self.state.compact_revision = floor;
            self.state.sizes.compact(floor, newest, overlay)?;
        }
        self.state.save(overlay);
        Ok(())
    }
}

/// Of leases that are gone nothing is kept.
fn attach<V: View + ?Sized>(
    overlay: &mut Overlay<'_, V>,
    key: &[u8],
    old: i64,
    new: i64,
) -> Result<(), ViewError> {
    if old != 0 && old != new {
        overlay.delete(Family::Meta, meta::attachment_key(old, key));
    }
    if new != 0 && overlay.get(Family::Meta, &meta::lease_key(new))?.is_some() {
        overlay.put(
            Family::Meta,
            meta::attachment_key(new, key),
            meta::attachment(),
        );
    }
    Ok(())
}
