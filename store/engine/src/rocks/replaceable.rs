//! A RocksDB that can be replaced as a whole, by the rows of another replica.
//!
//! The directory holds one engine per generation, numbered in hexadecimal; the
//! highest number counts, so that renaming a complete directory to the next
//! number is the whole change. Everything else in it is left over from an
//! interrupted transfer or replacement and is removed when it is opened.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use mizzen_core::{Batch, Family, View};
use parking_lot::RwLock;

use super::{EngineOptions, RocksEngine, RocksSnapshot, removal, stamp::sync_dir};
use crate::{
    CopiedFile, Engine, EngineError, EngineErrorKind, EngineHealth, EngineSize, Incoming, Outgoing,
    Transfer, transfer::is_plain_name,
};

const LOCK: &str = "LOCK";
const INCOMING: &str = "incoming";
const OUTGOING: &str = "outgoing-";
/// What was one of the two and is on its way out.
const REMOVED: &str = "removed-";
/// In a generation that was received: what [`Incoming::install`] was given.
const LABEL: &str = "LABEL";
const FIRST_GENERATION: u64 = 1;

/// What a received file may hold unsynced, bytes: dirty pages in bulk would
/// make the Raft log on the same disk wait for them.
const UNSYNCED_BYTES: u64 = 512 * 1024;

/// What one system call writes to a received file, bytes. Copying into pages
/// that are new to the machine can take some microseconds a page, and the
/// kernel may not give way meanwhile.
const WRITE_BYTES: usize = 32 * 1024;

fn generation_name(number: u64) -> String {
    format!("{number:016x}")
}

fn generation_number(name: &OsString) -> Option<u64> {
    let name = name.to_str()?;
    let number = u64::from_str_radix(name, 16).ok()?;
    (generation_name(number) == name).then_some(number)
}

struct Generation {
    number: u64,
    engine: RocksEngine,
    label: Option<Bytes>,
}

struct Shared {
    dir: PathBuf,
    options: EngineOptions,
    current: RwLock<Arc<Generation>>,
    transfers: AtomicU64,
    /// Held as long as this lives: one process at a time.
    _lock: File,
}

/// The rows of a replica on disk.
pub struct RocksRows {
    shared: Arc<Shared>,
}

impl RocksRows {
    /// Opens the rows in `dir`, or makes new ones if it is missing or empty
    /// (its parent must exist).
    pub fn open(dir: &Path, options: &EngineOptions) -> Result<Self, EngineError> {
        let lock = make_and_lock(dir)?;
        let mut newest = None;
        let mut stale = Vec::new();
        for name in names(dir)? {
            match generation_number(&name) {
                Some(number) => {
                    if let Some(older) = newest.filter(|newest| *newest < number) {
                        stale.push(dir.join(generation_name(older)));
                    }
                    newest = newest.max(Some(number));
                }
                None if name == LOCK => {}
                None if is_temporary(&name.to_string_lossy()) => stale.push(dir.join(name)),
                None => {
                    return Err(EngineError::new(
                        EngineErrorKind::Format,
                        "open",
                        &dir.join(name),
                        "it does not belong among the rows",
                    ));
                }
            }
        }
        let current = open_generation(dir, newest.unwrap_or(FIRST_GENERATION), options)?;
        // Only once the newest is known to be good.
        for stale in stale {
            match fs::remove_dir_all(&stale) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(EngineError::io("remove", &stale, &error));
                }
                _ => {}
            }
        }
        Ok(Self {
            shared: Arc::new(Shared {
                dir: dir.to_owned(),
                options: *options,
                current: RwLock::new(Arc::new(current)),
                transfers: AtomicU64::new(0),
                _lock: lock,
            }),
        })
    }

    fn current(&self) -> Arc<Generation> {
        self.shared.current.read().clone()
    }
}

fn names(dir: &Path) -> Result<Vec<OsString>, EngineError> {
    let failed = |error| EngineError::io("list", dir, &error);
    let mut names = fs::read_dir(dir)
        .map_err(failed)?
        .map(|entry| Ok(entry.map_err(failed)?.file_name()))
        .collect::<Result<Vec<_>, _>>()?;
    names.sort_unstable();
    Ok(names)
}

fn make_and_lock(dir: &Path) -> Result<File, EngineError> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => dir.parent().map_or(Ok(()), sync_dir)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(EngineError::io("make", dir, &error)),
    }
    let path = dir.join(LOCK);
    let lock = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| EngineError::io("open", &path, &error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(EngineError::new(
            EngineErrorKind::Locked,
            "open",
            dir,
            "it is in use by another process",
        )),
        Err(fs::TryLockError::Error(error)) => Err(EngineError::io("lock", &path, &error)),
    }
}

fn open_generation(
    dir: &Path,
    number: u64,
    options: &EngineOptions,
) -> Result<Generation, EngineError> {
    let dir = dir.join(generation_name(number));
    let engine = RocksEngine::open(&dir, options)?;
    let path = dir.join(LABEL);
    let label = match fs::read(&path) {
        Ok(label) => Some(label.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(EngineError::io("read", &path, &error)),
    };
    Ok(Generation {
        number,
        engine,
        label,
    })
}

impl Engine for RocksRows {
    type Snapshot = RocksSnapshot;

    fn write(&self, batch: &Batch) -> Result<(), EngineError> {
        self.current().engine.write(batch)
    }

    fn snapshot(&self) -> RocksSnapshot {
        self.current().engine.snapshot()
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.current().engine.flush()
    }

    fn persisted(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.current().engine.persisted(family, key)
    }

    fn size(&self) -> Result<EngineSize, EngineError> {
        self.current().engine.size()
    }

    fn estimated_rows(&self, family: Family) -> Result<u64, EngineError> {
        self.current().engine.estimated_rows(family)
    }

    fn health(&self) -> Result<EngineHealth, EngineError> {
        self.current().engine.health()
    }
}

impl Transfer for RocksRows {
    fn copy(&self) -> Result<Box<dyn Outgoing>, EngineError> {
        let number = self.shared.transfers.fetch_add(1, Ordering::Relaxed);
        let dir = self.shared.dir.join(format!("{OUTGOING}{number}"));
        let outgoing = self.shared.temporary(dir.clone(), number);
        self.current().engine.checkpoint(&dir)?;
        let mut files = Vec::new();
        for name in names(&dir)? {
            let path = dir.join(&name);
            let size = fs::metadata(&path)
                .map_err(|error| EngineError::io("measure", &path, &error))?
                .len();
            let name = name.to_string_lossy().into_owned();
            files.push(CopiedFile { name, size });
        }
        Ok(Box::new(RocksOutgoing {
            dir: outgoing,
            files,
        }))
    }

    fn receive(&self) -> Result<Box<dyn Incoming>, EngineError> {
        let number = self.shared.transfers.fetch_add(1, Ordering::Relaxed);
        let dir = self.shared.dir.join(INCOMING);
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => {}
            Err(error) => return Err(EngineError::io("make", &dir, &error)),
        }
        Ok(Box::new(RocksIncoming {
            shared: self.shared.clone(),
            dir: self.shared.temporary(dir, number),
            file: None,
        }))
    }

    fn label(&self) -> Option<Bytes> {
        self.current().label.clone()
    }
}

fn is_temporary(name: &str) -> bool {
    name == INCOMING || name.starts_with(OUTGOING) || name.starts_with(REMOVED)
}

impl Shared {
    fn temporary(&self, dir: PathBuf, number: u64) -> TemporaryDir {
        TemporaryDir {
            dir,
            removed: self.dir.join(format!("{REMOVED}{number}")),
        }
    }
}

/// Removed with all that is in it when dropped, in the background. Its name is
/// free again at once.
struct TemporaryDir {
    dir: PathBuf,
    removed: PathBuf,
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        // It may have become the rows, or it is removed when they are opened.
        if fs::rename(&self.dir, &self.removed).is_ok() {
            removal::in_background(std::mem::take(&mut self.removed));
        }
    }
}

struct RocksOutgoing {
    dir: TemporaryDir,
    files: Vec<CopiedFile>,
}

impl Outgoing for RocksOutgoing {
    fn files(&self) -> &[CopiedFile] {
        &self.files
    }

    fn read(&self, file: &CopiedFile, offset: u64, len: usize) -> Result<Bytes, EngineError> {
        let path = self.dir.dir.join(&file.name);
        let left = usize::try_from(file.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(left)];
        File::open(&path)
            .and_then(|open| open.read_exact_at(&mut bytes, offset))
            .map_err(|error| EngineError::io("read", &path, &error))?;
        Ok(bytes.into())
    }
}

struct OpenFile {
    file: File,
    path: PathBuf,
    unsynced: u64,
}

impl OpenFile {
    fn sync(&mut self) -> Result<(), EngineError> {
        self.unsynced = 0;
        self.file
            .sync_all()
            .map_err(|error| EngineError::io("sync", &self.path, &error))
    }
}

struct RocksIncoming {
    shared: Arc<Shared>,
    dir: TemporaryDir,
    file: Option<OpenFile>,
}

impl RocksIncoming {
    fn close_file(&mut self) -> Result<(), EngineError> {
        match self.file.take() {
            Some(mut file) => file.sync(),
            None => Ok(()),
        }
    }
}

impl Incoming for RocksIncoming {
    fn file(&mut self, name: &str) -> Result<(), EngineError> {
        self.close_file()?;
        if !is_plain_name(name) || name == LABEL {
            return Err(EngineError::new(
                EngineErrorKind::Format,
                "receive into",
                &self.dir.dir,
                format!("{name:?} is no name for a file"),
            ));
        }
        let path = self.dir.dir.join(name);
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| EngineError::io("create", &path, &error))?;
        self.file = Some(OpenFile {
            file,
            path,
            unsynced: 0,
        });
        Ok(())
    }

    fn write(&mut self, data: &[u8]) -> Result<(), EngineError> {
        let Some(open) = &mut self.file else {
            return Err(EngineError::new(
                EngineErrorKind::Other,
                "receive into",
                &self.dir.dir,
                "data came before a file",
            ));
        };
        for part in data.chunks(WRITE_BYTES) {
            open.file
                .write_all(part)
                .map_err(|error| EngineError::io("write", &open.path, &error))?;
            // Whoever serves clients on this processor goes first.
            std::thread::yield_now();
        }
        open.unsynced += data.len() as u64;
        if open.unsynced >= UNSYNCED_BYTES {
            open.sync()?;
        }
        Ok(())
    }

    fn finish(&mut self, look: &mut dyn FnMut(&dyn View)) -> Result<(), EngineError> {
        self.close_file()?;
        sync_dir(&self.dir.dir)?;
        // Whatever cannot be opened must not become the rows.
        let engine = RocksEngine::open(&self.dir.dir, &self.shared.options)?;
        look(&engine.snapshot());
        Ok(())
    }

    fn install(self: Box<Self>, label: &[u8]) -> Result<(), EngineError> {
        let Self { shared, dir, .. } = *self;
        let path = dir.dir.join(LABEL);
        File::create(&path)
            .and_then(|mut file| {
                file.write_all(label)?;
                file.sync_all()
            })
            .map_err(|error| EngineError::io("write", &path, &error))?;
        sync_dir(&dir.dir)?;
        let old = shared.current.read().clone();
        let number = old.number + 1;
        let next = shared.dir.join(generation_name(number));
        fs::rename(&dir.dir, &next).map_err(|error| EngineError::io("rename", &dir.dir, &error))?;
        sync_dir(&shared.dir)?;
        let new = open_generation(&shared.dir, number, &shared.options)?;
        *shared.current.write() = Arc::new(new);
        // Its files go with its last reader.
        old.engine.remove_when_closed();
        Ok(())
    }
}
