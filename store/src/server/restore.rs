//! Rows and log of a new member, made of what another store held.

use std::{collections::BTreeMap, io, sync::Arc};

use bytes::Bytes;
use mizzen_core::{
    Alarm, Import, ImportError, Lease, Overlay,
    auth::{Name, Role, User},
    kv,
    rows::Revision,
};
use mizzen_engine::Engine;
use mizzen_proto::mvccpb::KeyValue;
use mizzen_wal as wal;

use super::model::{
    level,
    members::{self, Members},
};
use crate::{
    limits,
    raft::{self, Applied, LogId, PeerNode},
};

enum Item {
    Lease(i64, Lease),
    LeaseEnded(i64),
    Alarm(Alarm),
    Users {
        switch: (bool, u64),
        roles: Vec<(Name, Role)>,
        users: Vec<(Name, User)>,
    },
    Put(Revision, KeyValue),
    Delete(Revision, Bytes),
    Reach(i64),
}

impl Item {
    fn bytes(&self) -> usize {
        limits::RESTORE_ITEM_BYTES
            + match self {
                Item::Put(_, kv) => kv.key.len() + kv.value.len(),
                Item::Delete(_, key) => key.len(),
                Item::Lease(..)
                | Item::LeaseEnded(_)
                | Item::Alarm(_)
                | Item::Users { .. }
                | Item::Reach(_) => 0,
            }
    }
}

/// Whom the rows are for.
#[derive(Clone, Debug)]
pub struct NewCluster {
    pub cluster_id: u64,
    /// This member.
    pub member_id: u64,
    pub members: BTreeMap<u64, PeerNode>,
}

/// A store that is being filled: leases first, then changes of keys in their order.
pub struct Restore<E> {
    engine: Arc<E>,
    import: Import,
    items: Vec<Item>,
    bytes: usize,
}

fn failed(error: ImportError) -> io::Error {
    io::Error::other(error)
}

impl<E: Engine> Restore<E> {
    /// Into an engine without rows.
    pub fn new(engine: Arc<E>) -> Self {
        Self {
            engine,
            import: Import::new(),
            items: Vec::new(),
            bytes: 0,
        }
    }

    pub fn lease(&mut self, id: i64, lease: Lease) -> io::Result<()> {
        self.add(Item::Lease(id, lease))
    }

    /// A lease has ended, and its keys have been deleted.
    pub fn end_lease(&mut self, id: i64) -> io::Result<()> {
        self.add(Item::LeaseEnded(id))
    }

    pub fn alarm(&mut self, alarm: Alarm) -> io::Result<()> {
        self.add(Item::Alarm(alarm))
    }

    /// Whether users are asked who they are, the revision of users and roles, and
    /// these.
    pub fn users(
        &mut self,
        switch: (bool, u64),
        roles: Vec<(Name, Role)>,
        users: Vec<(Name, User)>,
    ) -> io::Result<()> {
        self.add(Item::Users {
            switch,
            roles,
            users,
        })
    }

    pub fn put(&mut self, revision: Revision, kv: KeyValue) -> io::Result<()> {
        self.add(Item::Put(revision, kv))
    }

    pub fn delete(&mut self, revision: Revision, key: Bytes) -> io::Result<()> {
        self.add(Item::Delete(revision, key))
    }

    /// There was a revision without a change.
    pub fn reach(&mut self, revision: i64) -> io::Result<()> {
        self.add(Item::Reach(revision))
    }

    fn add(&mut self, item: Item) -> io::Result<()> {
        self.bytes += item.bytes();
        self.items.push(item);
        match self.bytes < limits::RESTORE_BATCH_BYTES {
            true => Ok(()),
            false => self.write(),
        }
    }

    /// Writes what has been added.
    fn write(&mut self) -> io::Result<()> {
        let snapshot = self.engine.snapshot();
        let mut overlay = Overlay::new(&snapshot);
        for item in self.items.drain(..) {
            match item {
                Item::Lease(id, lease) => Import::lease(&mut overlay, id, &lease),
                Item::LeaseEnded(id) => Import::end_lease(&mut overlay, id),
                Item::Alarm(alarm) => Import::alarm(&mut overlay, &alarm),
                Item::Users {
                    switch,
                    roles,
                    users,
                } => Import::users(&mut overlay, switch, roles, users),
                Item::Put(revision, kv) => {
                    let fields = kv::Fields {
                        create_revision: kv.create_revision,
                        mod_revision: kv.mod_revision,
                        version: kv.version,
                        value: &kv.value,
                        lease: kv.lease,
                    };
                    let import = &mut self.import;
                    import
                        .change(&mut overlay, revision, &kv.key, Some(&fields))
                        .map_err(failed)?;
                }
                Item::Reach(revision) => {
                    let import = &mut self.import;
                    import.reach(revision, &mut overlay).map_err(failed)?;
                }
                Item::Delete(revision, key) => {
                    let import = &mut self.import;
                    import
                        .change(&mut overlay, revision, &key, None)
                        .map_err(failed)?;
                }
            }
        }
        self.bytes = 0;
        let batch = overlay.into_batch();
        self.engine.write(&batch).map_err(io::Error::other)
    }

    /// The revision of the last change.
    pub fn revision(&mut self) -> io::Result<i64> {
        self.write()?;
        Ok(self.import.revision())
    }

    /// Makes it the store of a member of a new cluster, durably. What happened up to
    /// revision `compacted` can be read no more, and if that is beyond the last
    /// change, it is the store's revision. `before` is term and index that the other
    /// store had come to: this one goes on after them.
    pub fn end(
        mut self,
        log: &wal::Wal,
        new: NewCluster,
        compacted: Option<i64>,
        before: (u64, u64),
    ) -> io::Result<()> {
        self.write()?;
        let last = LogId {
            term: before.0.saturating_add(1),
            index: before.1.saturating_add(1),
        };
        let applied = raft::begin_after(log, new.member_id, new.members.clone(), last)?;
        let snapshot = self.engine.snapshot();
        let mut overlay = Overlay::new(&snapshot);
        self.import.end(&mut overlay, compacted).map_err(failed)?;
        let mut members = Members::default();
        members.begin(&mut overlay, new.cluster_id, new.members);
        let level = members::Change::Level(level::own());
        members
            .apply(&mut overlay, &level)
            .map_err(io::Error::other)?;
        put_applied(&mut overlay, &applied);
        let batch = overlay.into_batch();
        self.engine.write(&batch).map_err(io::Error::other)?;
        self.engine.flush().map_err(io::Error::other)
    }
}

fn put_applied<V: mizzen_core::View + ?Sized>(overlay: &mut Overlay<'_, V>, applied: &Applied) {
    for (key, row) in applied.rows() {
        overlay.put(mizzen_core::Family::Meta, key, row);
    }
}
