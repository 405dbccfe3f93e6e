//! Opening log and rows of a member, in an order in which a crash at any step of
//! the first start leaves what the next start can go on with.
//!
//! The member has an identity last of all: from then on its log must be there,
//! and before that nothing may be in it.

use std::{io, path::Path, sync::Arc};

use mizzen_engine::{Engine, EngineOptions, RocksRows};
use mizzen_wal::{LogFs, Options, Wal, WalError};

use crate::{
    member_dir::{Identity, MemberDir},
    raft::Applied,
    server::Storage,
};

/// Where the parts of a member are.
pub struct Parts<'a> {
    pub dir: &'a MemberDir,
    pub log: Arc<dyn LogFs>,
    /// The directory of `log`.
    pub log_dir: &'a Path,
    pub engine: &'a EngineOptions,
}

impl Parts<'_> {
    /// Opens what is there, or makes what is missing for `first`, if the member
    /// has not ended a first start before. Gives who it is.
    pub fn open(self, first: Identity, log: Options) -> io::Result<(Identity, Storage<RocksRows>)> {
        // They are locked against another process, and with them all the rest.
        let rows = RocksRows::open(&self.dir.rows(), self.engine).map_err(io::Error::other)?;
        // Looked at under the lock.
        let identity = self.dir.identity()?;
        let options = Options {
            create: identity.is_none(),
            ..log
        };
        let (wal, recovered) = Wal::open(self.log.clone(), options).map_err(|error| {
            io::Error::other(match error {
                WalError::Missing { directory } => format!(
                    "the raft log of this member is gone from {directory}: it cannot take part any more under its id"
                ),
                error => error.to_string(),
            })
        })?;
        let storage = Storage {
            engine: Arc::new(rows),
            wal: Arc::new(wal),
            recovered,
        };
        if let Some(identity) = identity {
            return Ok((identity, storage));
        }
        self.check_unused(&storage)?;
        self.dir.settle(first, &[self.log_dir, &self.dir.rows()])?;
        Ok((first, storage))
    }

    /// Who has no identity has never taken part. Log or rows that say otherwise
    /// are somebody else's, or the file was lost.
    fn check_unused(&self, storage: &Storage<RocksRows>) -> io::Result<()> {
        let applied = Applied::load(&storage.engine.snapshot()).map_err(io::Error::other)?;
        let used = if storage.recovered.last.is_some() || storage.recovered.vote.is_some() {
            self.log_dir.to_owned()
        } else if applied.log_id.is_some() {
            self.dir.rows()
        } else {
            return Ok(());
        };
        Err(io::Error::other(format!(
            "{} is in use by a member, but {}, which says by which one, is missing: nothing was changed",
            used.display(),
            self.dir.identity_file().display()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizzen_sim::MemFs;

    const FIRST: Identity = Identity {
        member_id: 1,
        cluster_id: 2,
    };

    /// One start of a member in `data`, with its log on a disk of its own.
    fn start(data: &Path, log: &MemFs, first: Identity) -> io::Result<Identity> {
        let dir = MemberDir::open(data)?;
        let parts = Parts {
            dir: &dir,
            log: Arc::new(log.clone()),
            log_dir: data,
            engine: &EngineOptions::default(),
        };
        let options = Options {
            segment_bytes: 64 << 10,
            execution: mizzen_wal::Execution::Stepped,
            ..Options::default()
        };
        parts.open(first, options).map(|(identity, _)| identity)
    }

    #[test]
    fn a_first_start_that_is_cut_anywhere_is_done_again() {
        let data = tempfile::tempdir().expect("a directory");
        start(data.path(), &MemFs::new(), FIRST).expect("started");
        let mut cut = 0;
        for step in 0.. {
            let data = tempfile::tempdir().expect("a directory");
            let log = MemFs::new();
            log.power_off_after(step);
            if start(data.path(), &log, FIRST).is_ok() {
                break;
            }
            cut += 1;
            // Flags may change until a first start ends.
            let other = Identity {
                member_id: 3,
                ..FIRST
            };
            for log in [log.crash(step), log.kill()] {
                let data = copy(data.path());
                for _ in 0..2 {
                    let identity = start(data.path(), &log, other)
                        .unwrap_or_else(|error| panic!("cut after step {step}: {error}"));
                    assert_eq!(identity, other, "cut after step {step}");
                }
            }
        }
        assert!(cut > 5, "only {cut} steps");
    }

    fn copy(from: &Path) -> tempfile::TempDir {
        let to = tempfile::tempdir().expect("a directory");
        copy_into(from, to.path());
        to
    }

    fn copy_into(from: &Path, to: &Path) {
        for entry in std::fs::read_dir(from).expect("a directory") {
            let entry = entry.expect("an entry");
            let to = to.join(entry.file_name());
            if entry.file_type().expect("a type").is_dir() {
                std::fs::create_dir(&to).expect("made");
                copy_into(&entry.path(), &to);
            } else {
                std::fs::copy(entry.path(), &to).expect("copied");
            }
        }
    }

    #[test]
    fn a_member_whose_log_is_gone_never_starts() {
        let data = tempfile::tempdir().expect("a directory");
        start(data.path(), &MemFs::new(), FIRST).expect("started");
        let log = MemFs::new();
        // The second attempt must not take a log that the first one made for its own.
        for _ in 0..2 {
            let error = start(data.path(), &log, FIRST).expect_err("no log");
            assert!(error.to_string().contains("is gone"), "{error}");
        }
    }

    #[test]
    fn a_log_in_use_is_not_taken_over() {
        let log = MemFs::new();
        let options = Options {
            segment_bytes: 64 << 10,
            execution: mizzen_wal::Execution::Stepped,
            ..Options::default()
        };
        let (wal, _) = Wal::open(Arc::new(log.clone()), options).expect("opened");
        wal.save_vote(bytes::Bytes::from_static(b"vote"), Box::new(|_| ()))
            .expect("queued");
        wal.close().expect("closed");
        let data = tempfile::tempdir().expect("a directory");
        let error = start(data.path(), &log, FIRST).expect_err("in use");
        assert!(error.to_string().contains("is in use"), "{error}");
    }
}
