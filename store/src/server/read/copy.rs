//! A copy of the store as it is at one moment, for who writes it into a file of
//! another kind.

use std::{ops::ControlFlow, sync::Arc};

use mizzen_core::{
    Alarm, Kept, Lease,
    auth::{Auth, Check},
};
use mizzen_engine::Engine;
use tokio::sync::OwnedSemaphorePermit;

use super::{Reads, access};
use crate::server::{
    error::Error,
    model::{caller::Caller, level, members::Member, published::Published},
};

/// Everything that clients have put into the store, its users, and who its members are. Holds
/// a sight of the rows, and with it their files.
pub struct Copy<E: Engine> {
    published: Arc<Published<E::Snapshot>>,
    _place: OwnedSemaphorePermit,
}

impl<E: Engine> Reads<E> {
    /// The store as this member has it now.
    ///
    /// # Errors
    /// The caller has not the root role, or as many are made as may be at once.
    pub async fn copy(&self, caller: &Caller) -> Result<Copy<E>, Error> {
        let (published, by) = self.access.sight(caller).await?;
        Check::new(&published.auth, &by)
            .root()
            .map_err(access::refused)?;
        let place = self.copies.clone().try_acquire_owned();
        Ok(Copy {
            published,
            _place: place.map_err(|_| Error::TooManyRequests)?,
        })
    }
}

impl<E: Engine> Copy<E> {
    pub fn revision(&self) -> i64 {
        self.published.state.revision()
    }

    /// Below 0: never compacted.
    pub fn compact_revision(&self) -> i64 {
        self.published.state.compact_revision()
    }

    /// Term and index of the last entry applied.
    pub fn applied(&self) -> (u64, u64) {
        let applied = self.published.applied.log_id;
        applied.map_or((0, 0), |id| (id.term, id.index))
    }

    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.published.members.iter()
    }

    pub fn removed_members(&self) -> impl Iterator<Item = u64> {
        self.published.members.removed()
    }

    pub fn cluster_version(&self) -> Option<&'static str> {
        level::cluster_version(self.published.members.level())
    }

    /// Users and roles.
    pub fn auth(&self) -> &Auth {
        &self.published.auth
    }

    pub fn alarms(&self) -> Result<Vec<Alarm>, Error> {
        Ok(mizzen_core::alarms(&self.published.rows)?)
    }

    /// By id.
    pub fn leases(&self) -> Result<Vec<(i64, Lease)>, Error> {
        Ok(mizzen_core::leases(&self.published.rows)?)
    }

    /// Visits what compaction has left, in order, until the visitor breaks.
    pub fn changes(&self, visit: impl FnMut(&Kept<'_>) -> ControlFlow<()>) -> Result<(), Error> {
        let (state, rows) = (&self.published.state, &self.published.rows);
        Ok(mizzen_core::kept_changes(
            state,
            rows,
            state.revision(),
            visit,
        )?)
    }
}
