//! Reading a RocksDB as it was at one moment.

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use mizzen_core::{Family, RowSpan, View, ViewError, VisitEach, scan_one_by_one};
use rocksdb::{ReadOptions, ReadTier};
use self_cell::self_cell;

use super::Database;
use crate::Snapshot;

/// How far a scan for [`Snapshot::bulk`] reads ahead, in bytes: few enough
/// system calls, and no more than a flash disk answers at once.
const BULK_READAHEAD: usize = 1 << 20;

/// Deleted rows that a reader of many small spans passes before it gives up on
/// a span.
const DELETED_ROWS_PASSED: u64 = 16;

/// Deleted rows, one after the other, that a reader who must not block passes
/// before it says that it would: they cost processor time without ever counting
/// as rows that were read. Less than a millisecond.
const DELETED_ROWS_IN_MEMORY: u64 = 2_048;

/// How a read treats the cache and the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Normal,
    InMemory,
    Bulk,
}

/// A RocksDB snapshot with the options that read from it.
struct Held<'db> {
    /// The options point to it without saying so: they never leave this struct.
    snapshot: rocksdb::Snapshot<'db>,
    normal: ReadOptions,
    in_memory: ReadOptions,
}

impl<'db> Held<'db> {
    fn new(database: &'db Database) -> Self {
        let snapshot = database.db().snapshot();
        let [normal, in_memory] = [Access::Normal, Access::InMemory].map(|access| {
            let mut options = read_options(access);
            options.set_snapshot(&snapshot);
            options
        });
        Self {
            snapshot,
            normal,
            in_memory,
        }
    }
}

self_cell!(
    struct Inner {
        owner: Arc<Database>,
        #[covariant]
        dependent: Held,
    }
);

#[derive(Clone)]
pub struct RocksSnapshot {
    inner: Arc<Inner>,
    access: Access,
}

impl RocksSnapshot {
    pub(super) fn new(database: Arc<Database>) -> Self {
        let inner = Inner::new(database, |database| Held::new(database));
        Self {
            inner: Arc::new(inner),
            access: Access::Normal,
        }
    }

    fn database(&self) -> &Database {
        self.inner.borrow_owner()
    }

    fn point_options(&self) -> &ReadOptions {
        let held = self.inner.borrow_dependent();
        if self.access == Access::InMemory {
            &held.in_memory
        } else {
            &held.normal
        }
    }

    fn failed(&self, error: &rocksdb::Error) -> ViewError {
        match error.kind() {
            rocksdb::ErrorKind::Incomplete if self.access == Access::InMemory => {
                ViewError::WouldBlock
            }
            _ => ViewError::Failed(self.database().error("read", error).to_string()),
        }
    }
}

impl Snapshot for RocksSnapshot {
    fn in_memory(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            access: Access::InMemory,
        }
    }

    fn bulk(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            access: Access::Bulk,
        }
    }
}

impl View for RocksSnapshot {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        let database = self.database();
        let row =
            database
                .db()
                .get_pinned_cf_opt(database.family(family), key, self.point_options());
        let row = row.map_err(|error| self.failed(&error))?;
        Ok(row.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn multi_get(&self, family: Family, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, ViewError> {
        // RocksDB's batched form reads blocks from the disk whatever its read
        // tier says: it must not be used where a read may not block.
        if self.access == Access::InMemory || keys.len() < 2 {
            return keys.iter().map(|key| self.get(family, key)).collect();
        }
        let database = self.database();
        let family = database.family(family);
        let rows = database.db().batched_multi_get_cf_opt(
            family,
            keys,
            keys.is_sorted(),
            self.point_options(),
        );
        let rows = rows.into_iter().map(|row| match row {
            Ok(row) => Ok(row.map(|value| Bytes::copy_from_slice(&value))),
            Err(error) => Err(self.failed(&error)),
        });
        rows.collect()
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ViewError> {
        let mut options = read_options(self.access);
        if let Some(to) = to {
            if to <= from {
                return Ok(());
            }
            options.set_iterate_upper_bound(to);
        }
        let snapshot = &self.inner.borrow_dependent().snapshot;
        let mut rows = snapshot.raw_iterator_cf_opt(self.database().family(family), options);
        rows.seek(from);
        while let Some((key, value)) = rows.item() {
            if visit(key, value).is_break() {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(|error| self.failed(&error))
    }

    /// With one iterator for all spans: to make one costs more than to read a
    /// few rows. It knows no span's end, so that it may meet many deleted rows
    /// after it. Then it gives up, and the rest of the span is read by itself.
    fn scan_each(
        &self,
        family: Family,
        spans: &[RowSpan<'_>],
        visit: VisitEach<'_>,
    ) -> Result<(), ViewError> {
        if self.access == Access::InMemory || spans.len() < 2 {
            return scan_one_by_one(self, family, spans, visit);
        }
        let mut options = read_options(self.access);
        options.set_max_skippable_internal_keys(DELETED_ROWS_PASSED);
        let snapshot = &self.inner.borrow_dependent().snapshot;
        let mut rows = snapshot.raw_iterator_cf_opt(self.database().family(family), options);
        for (place, (from, to)) in spans.iter().enumerate() {
            let within = |key: &[u8]| to.is_none_or(|to| key < to);
            let mut next = from.to_vec();
            let mut ended = false;
            rows.seek(from);
            while let Some((key, row)) = rows.item() {
                ended = !within(key) || visit(place, key, row).is_break();
                if ended {
                    break;
                }
                next.clear();
                next.extend_from_slice(key);
                next.push(0);
                rows.next();
            }
            if ended {
                continue;
            }
            match rows.status() {
                Ok(()) => {}
                Err(error) if error.kind() == rocksdb::ErrorKind::Incomplete => {
                    self.scan(family, &next, *to, &mut |key, row| visit(place, key, row))?;
                }
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(())
    }
}

/// Block checksums are verified and the order of keys is total (there is no
/// prefix extractor) by RocksDB's defaults. A scan within `to` reads ahead more
/// and more as it goes on, from 8 KiB to 256 KiB, also by default.
fn read_options(access: Access) -> ReadOptions {
    let mut options = ReadOptions::default();
    match access {
        Access::Normal => {}
        Access::InMemory => {
            options.set_read_tier(ReadTier::BlockCache);
            options.set_max_skippable_internal_keys(DELETED_ROWS_IN_MEMORY);
        }
        Access::Bulk => {
            options.fill_cache(false);
            options.set_readahead_size(BULK_READAHEAD);
        }
    }
    options
}
