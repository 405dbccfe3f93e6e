//! The data directory of an etcd that was stopped: its database, and whether its log
//! has more.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use mizzen_bolt::{File, ReadAt};
use rustix::fs::{FlockOperation, flock};

use super::{
    Failure,
    etcd_log::{Change, Tail},
};
use crate::etcd_file;

pub fn database(dir: &Path) -> PathBuf {
    dir.join("member").join("snap").join("db")
}

fn log(dir: &Path) -> PathBuf {
    dir.join("member").join("wal")
}

/// Refuses a directory that an etcd is at work in: it holds a lock on its database.
///
/// # Errors
/// It is in use, or there is no database; with the path.
pub fn check_stopped(dir: &Path) -> Result<(), Failure> {
    let path = database(dir);
    let named = |error: io::Error| Failure::Failed(format!("{}: {error}", path.display()));
    let file = fs::File::open(&path).map_err(named)?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Failure::Failed(format!(
            "{} is in use: stop the etcd that runs on it first",
            path.display()
        ))),
        Err(error) => Err(named(error.into())),
    }
}

/// Refuses a database that lacks what the log beside it has. Gives the newest term.
///
/// # Errors
/// The log has entries that the database has not taken, or cannot be read.
pub fn check_complete<R: ReadAt + ?Sized>(
    file: &File<'_, R>,
    dir: &Path,
    wal_dir: Option<&Path>,
) -> Result<u64, Failure> {
    let position = etcd_file::position(file)?;
    let leases = etcd_file::lease_ids(file)?;
    let log = wal_dir.map_or_else(|| log(dir), Path::to_owned);
    let mut tail = Tail::read(&log, position.index)?;
    // 3.4 does not note the index of what changes no key: it is there all the same.
    tail.changes.retain(|_, change| match change {
        Change::Compaction(revision) => position.compacted < Some(*revision),
        Change::LeaseGranted(lease) => !leases.contains(lease),
        Change::LeaseRevoked(lease) => leases.contains(lease),
        Change::Other => true,
    });
    let ends = tail
        .changes
        .first_key_value()
        .zip(tail.changes.last_key_value());
    let Some(((first, _), (last, _))) = ends else {
        return Ok(tail.term);
    };
    Err(Failure::Failed(format!(
        "{} has {} entries of the log (from {first} to {last}) that {} has not taken (it is at {}): \
         start that etcd once more and stop it cleanly, by SIGTERM, or take a snapshot of it",
        log.display(),
        tail.changes.len(),
        database(dir).display(),
        position.index
    )))
}
