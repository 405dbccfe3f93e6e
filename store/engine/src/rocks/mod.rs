//! Rows in RocksDB, three column families, no write-ahead log of its own.

mod open;
mod options;
mod removal;
mod replaceable;
mod snapshot;
mod stamp;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use mizzen_core::{Batch, Family, RowOp};
use rocksdb::{
    ColumnFamily, DB, FlushOptions, ReadOptions, ReadTier, WriteBatch, WriteOptions,
    properties as property,
};
use self_cell::self_cell;

use crate::{Engine, EngineError, EngineErrorKind, EngineHealth, EngineSize};

use open::Open;

pub use open::wait_closed;
pub use options::EngineOptions;
pub use replaceable::RocksRows;
pub use snapshot::RocksSnapshot;
pub use stamp::FORMAT_VERSION;

/// Names are part of the format.
fn family_name(family: Family) -> &'static str {
    match family {
        Family::Head => "head",
        Family::Log => "log",
        Family::Meta => "meta",
    }
}

/// The fields are dropped in this order: the database is closed before its
/// files may go.
struct Files {
    db: DB,
    dir: PathBuf,
    removal: Removal,
    _open: Open,
}

/// Removes a directory in the background when dropped, if told to.
struct Removal {
    dir: PathBuf,
    wanted: AtomicBool,
}

impl Drop for Removal {
    fn drop(&mut self) {
        if !*self.wanted.get_mut() {
            return;
        }
        // The last reader may be a thread that must not wait for this.
        removal::in_background(std::mem::take(&mut self.dir));
    }
}

struct Families<'db>([&'db ColumnFamily; Family::ALL.len()]);

self_cell!(
    /// An open RocksDB with the handles of its column families.
    struct Database {
        owner: Files,
        #[covariant]
        dependent: Families,
    }
);

impl Database {
    fn db(&self) -> &DB {
        &self.borrow_owner().db
    }

    fn dir(&self) -> &Path {
        &self.borrow_owner().dir
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        self.borrow_dependent().0[family as usize]
    }

    fn families(&self) -> &[&ColumnFamily] {
        &self.borrow_dependent().0
    }

    fn error(&self, operation: &'static str, error: &rocksdb::Error) -> EngineError {
        engine_error(operation, self.dir(), error)
    }

    /// A property of every family, 0 where RocksDB does not have it.
    fn properties(
        &self,
        name: &property::PropName,
    ) -> Result<[u64; Family::ALL.len()], EngineError> {
        let mut values = [0; Family::ALL.len()];
        for (value, family) in values.iter_mut().zip(self.families()) {
            let read = self.db().property_int_value_cf(family, name);
            *value = read
                .map_err(|error| self.error("read a property of", &error))?
                .unwrap_or(0);
        }
        Ok(values)
    }
}

/// An engine in a directory of its own. Ending without a flush, be it by a
/// crash or by dropping the engine and its snapshots, loses what was written
/// since the last one; nothing is flushed in haste on the way out.
pub struct RocksEngine {
    database: Arc<Database>,
}

/// Opens a database on a thread that gives way to others: the threads that
/// flush and compact are started by it, and inherit that. They have minutes for
/// what they do, while clients wait for everyone else.
fn in_background<T: Send>(open: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| {
            // Where it is not allowed they compete as equals.
            let _ = rustix::process::nice(options::BACKGROUND_NICE);
            open()
        });
        match opening.join() {
            Ok(opened) => opened,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

impl RocksEngine {
    /// Opens the engine in `dir`, or makes a new one if `dir` is missing or
    /// empty (its parent must exist). Refuses any other directory, a newer
    /// format, and a directory that is open elsewhere.
    pub fn open(dir: &Path, options: &EngineOptions) -> Result<Self, EngineError> {
        let stamp = stamp::prepare(dir)?;
        let (shared, families) = options::build(options, stamp == stamp::Stamp::Creating);
        let families = Family::ALL
            .into_iter()
            .zip(families)
            .map(|(family, options)| (family_name(family), options));
        let db = in_background(|| DB::open_cf_with_opts(&shared, dir, families))
            .map_err(|error| engine_error("open", dir, &error))?;
        if stamp == stamp::Stamp::Creating {
            stamp::complete(dir)?;
        }
        let database = Database::try_new(
            Files {
                db,
                dir: dir.to_owned(),
                removal: Removal {
                    dir: dir.to_owned(),
                    wanted: AtomicBool::new(false),
                },
                _open: Open::new(),
            },
            |files| {
                let mut handles =
                    Family::ALL.map(|family| (family, files.db.cf_handle(family_name(family))));
                match handles.iter_mut().find(|(_, handle)| handle.is_none()) {
                    Some((family, _)) => Err(missing_family(*family, dir)),
                    None => Ok(Families(
                        handles.map(|(_, handle)| handle.expect("none is missing")),
                    )),
                }
            },
        )?;
        Ok(Self {
            database: Arc::new(database),
        })
    }

    pub fn dir(&self) -> &Path {
        self.database.dir()
    }

    /// Flushes and leaves in `dir` a copy that opens as an engine of its own.
    /// `dir` must not exist and must be on the engine's file system; its parent
    /// must exist. Files are shared by hard links until one side drops them.
    pub fn checkpoint(&self, dir: &Path) -> Result<(), EngineError> {
        let checkpoint = rocksdb::checkpoint::Checkpoint::new(self.database.db());
        let created = checkpoint.and_then(|checkpoint| checkpoint.create_checkpoint(dir));
        created.map_err(|error| engine_error("make the checkpoint", dir, &error))?;
        stamp::stamp(dir)
    }

    /// The directory goes when this engine and its last snapshot are gone.
    fn remove_when_closed(&self) {
        let removal = &self.database.borrow_owner().removal;
        removal.wanted.store(true, Ordering::Relaxed);
    }

    fn write_options() -> WriteOptions {
        let mut options = WriteOptions::new();
        options.disable_wal(true);
        options
    }

    /// Why a write would fail now. An empty write answers that, and does not
    /// wait where a write is to be delayed.
    fn current_error(&self) -> Option<EngineError> {
        let mut options = Self::write_options();
        options.set_no_slowdown(true);
        match self.database.db().write_opt(WriteBatch::new(), &options) {
            Err(error) if error.kind() != rocksdb::ErrorKind::Incomplete => {
                Some(self.database.error("write to", &error))
            }
            _ => None,
        }
    }
}

impl Engine for RocksEngine {
    type Snapshot = RocksSnapshot;

    fn write(&self, batch: &Batch) -> Result<(), EngineError> {
        let mut rows = WriteBatch::with_capacity_bytes(batch.ops.iter().map(encoded_len).sum());
        for op in &batch.ops {
            match op {
                RowOp::Put { family, key, value } => {
                    rows.put_cf(self.database.family(*family), key, value)
                }
                RowOp::Delete { family, key } => rows.delete_cf(self.database.family(*family), key),
            }
        }
        let written = self.database.db().write_opt(rows, &Self::write_options());
        written.map_err(|error| self.database.error("write to", &error))
    }

    fn snapshot(&self) -> RocksSnapshot {
        RocksSnapshot::new(self.database.clone())
    }

    fn flush(&self) -> Result<(), EngineError> {
        let flushed = self
            .database
            .db()
            .flush_cfs_opt(self.database.families(), &FlushOptions::default());
        flushed.map_err(|error| self.database.error("flush", &error))
    }

    fn persisted(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::Persisted);
        let row = self
            .database
            .db()
            .get_pinned_cf_opt(self.database.family(family), key, &options);
        let row = row.map_err(|error| self.database.error("read", &error))?;
        Ok(row.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn size(&self) -> Result<EngineSize, EngineError> {
        let sum =
            |name: &property::PropName| Ok(self.database.properties(name)?.iter().sum::<u64>());
        let unflushed = sum(property::CUR_SIZE_ALL_MEM_TABLES)?;
        let in_use = sum(property::ESTIMATE_LIVE_DATA_SIZE)?.saturating_add(unflushed);
        Ok(EngineSize {
            disk: disk_usage(self.dir())?,
            in_use,
            unflushed,
        })
    }

    fn estimated_rows(&self, family: Family) -> Result<u64, EngineError> {
        let rows = self.database.properties(property::ESTIMATE_NUM_KEYS)?;
        let mut of = rows.into_iter().zip(Family::ALL);
        Ok(of
            .find_map(|(rows, one)| (one == family).then_some(rows))
            .unwrap_or(0))
    }

    fn health(&self) -> Result<EngineHealth, EngineError> {
        let max = |name: &property::PropName| {
            Ok(self
                .database
                .properties(name)?
                .into_iter()
                .max()
                .unwrap_or(0))
        };
        let delayed_write_rate = max(property::ACTUAL_DELAYED_WRITE_RATE)?;
        let background_errors = max(property::BACKGROUND_ERRORS)?;
        let pressure = options::pressure(
            max(&property::num_files_at_level(0))?,
            max(property::NUM_IMMUTABLE_MEM_TABLE)?,
            max(property::ESTIMATE_PENDING_COMPACTION_BYTES)?,
        );
        Ok(EngineHealth {
            write_stopped: max(property::IS_WRITE_STOPPED)? != 0,
            delayed_write_rate: (delayed_write_rate != 0).then_some(delayed_write_rate),
            pressure,
            background_errors,
            error: self.current_error(),
        })
    }
}

/// What an operation takes in a RocksDB batch at most: a tag, a family number
/// of one byte, and a length of up to five bytes before key and value.
fn encoded_len(op: &RowOp) -> usize {
    12 + match op {
        RowOp::Put { key, value, .. } => key.len() + value.len(),
        RowOp::Delete { key, .. } => key.len(),
    }
}

/// The files of `dir`, which has no directories in it. Files that vanish
/// meanwhile count nothing.
fn disk_usage(dir: &Path) -> Result<u64, EngineError> {
    let failed = |error| EngineError::io("measure", dir, &error);
    let mut bytes = 0;
    for entry in fs::read_dir(dir).map_err(failed)? {
        match entry.map_err(failed)?.metadata() {
            Ok(file) => bytes += file.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(bytes)
}

fn missing_family(family: Family, dir: &Path) -> EngineError {
    let message = format!("column family {} is missing", family_name(family));
    EngineError::new(EngineErrorKind::Corruption, "open", dir, message)
}

fn engine_error(operation: &'static str, dir: &Path, error: &rocksdb::Error) -> EngineError {
    let message = error.as_ref();
    let kind = classify(error.kind(), message);
    let message = match kind {
        EngineErrorKind::Locked => format!("it is in use by another process ({message})"),
        _ => message.to_owned(),
    };
    EngineError::new(kind, operation, dir, message)
}

/// RocksDB's C API passes on a status as text. The parts looked for here are
/// the names of its codes and of the operations in its POSIX layer.
fn classify(kind: rocksdb::ErrorKind, message: &str) -> EngineErrorKind {
    let says = |part: &str| message.contains(part);
    if says("No space left on device")
        || says("Disk quota exceeded")
        || says("Max allowed space was reached")
    {
        EngineErrorKind::NoSpace
    } else if says("While lock file") || says("lock hold by current process") {
        EngineErrorKind::Locked
    } else {
        match kind {
            rocksdb::ErrorKind::Corruption => EngineErrorKind::Corruption,
            rocksdb::ErrorKind::IOError => EngineErrorKind::Io,
            _ => EngineErrorKind::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use rocksdb::ErrorKind;

    use super::*;

    #[test]
    fn kinds_of_errors_are_told_apart() {
        let full = "IO error: No space left on device: While appending to file: /d/000012.sst: No space left on device";
        let quota = "IO error: While appending to file: /d/000012.sst: Disk quota exceeded";
        let locked = "IO error: While lock file: /d/LOCK: Resource temporarily unavailable";
        let ours = "IO error: lock hold by current process, acquire time 1 acquiring thread 2: /d/LOCK: No locks available";
        let damaged = "Corruption: block checksum mismatch: stored = 1, computed = 2 in /d/000012.sst offset 0 size 40";
        let other =
            "IO error: While open a file for random read: /d/000012.sst: Input/output error";
        for (kind, text, expected) in [
            (ErrorKind::IOError, full, EngineErrorKind::NoSpace),
            (ErrorKind::IOError, quota, EngineErrorKind::NoSpace),
            (ErrorKind::IOError, locked, EngineErrorKind::Locked),
            (ErrorKind::IOError, ours, EngineErrorKind::Locked),
            (ErrorKind::Corruption, damaged, EngineErrorKind::Corruption),
            (ErrorKind::IOError, other, EngineErrorKind::Io),
            (
                ErrorKind::InvalidArgument,
                "Invalid argument: ",
                EngineErrorKind::Other,
            ),
        ] {
            assert_eq!(classify(kind, text), expected, "{text}");
        }
    }
}
