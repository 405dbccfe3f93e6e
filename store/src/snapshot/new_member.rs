//! A member that is made of what another store held: its directory, its rows and a log
//! that begins after them. It has an identity, and so exists, when all of it is there.

use std::{fs, io, path::Path, path::PathBuf, sync::Arc};

use mizzen_core::{KvHash, State};
use mizzen_engine::{Engine as _, EngineOptions, RocksRows};
use mizzen_wal as wal;

use super::Failure;
use crate::{
    config::{self, Bootstrap, Config},
    first_start, logging,
    member_dir::MemberDir,
    server::{NewCluster, Restore},
};

/// Who the member will be. Nothing of it has been made.
pub struct NewMember {
    pub config: Box<Config>,
    bootstrap: Bootstrap,
}

impl NewMember {
    /// `flags` are a member's own. Begins to log.
    ///
    /// # Errors
    /// They make no member, or there is something where it is to be; in etcdutl's words.
    pub fn prepare(flags: &[String]) -> Result<Self, Failure> {
        let config = configuration(flags)?;
        logging::init(&config).map_err(|error| Failure::Failed(error.to_string()))?;
        let bootstrap = config.first_start.bootstrap().map_err(|error| {
            let text = error.to_string();
            let etcdutl = text.strip_prefix("error setting up initial cluster: ");
            Failure::Failed(etcdutl.unwrap_or(&text).to_owned())
        })?;
        check_empty(&config)?;
        Ok(Self { config, bootstrap })
    }

    /// Makes its directory, with rows and nothing in them.
    pub fn begin(&self) -> Result<Begun<'_>, Failure> {
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        let dir = MemberDir::open(&self.config.data_dir)?;
        dir.begin_restoring()?;
        let rows =
            RocksRows::open(&dir.rows(), &EngineOptions::default()).map_err(io::Error::other)?;
        let log_dir = self.config.wal_dir.clone();
        Ok(Begun {
            new: self,
            log_dir: log_dir.unwrap_or_else(|| dir.raft_log()),
            rows: Arc::new(rows),
            dir,
        })
    }
}

/// A member that is being made.
pub struct Begun<'a> {
    new: &'a NewMember,
    dir: MemberDir,
    log_dir: PathBuf,
    rows: Arc<RocksRows>,
}

impl Begun<'_> {
    /// Where its rows go.
    pub fn rows(&self) -> Restore<RocksRows> {
        Restore::new(self.rows.clone())
    }

    /// Ends the rows, and makes the log that begins after them. See [`Restore::end`].
    pub fn end(
        &self,
        into: Restore<RocksRows>,
        compacted: Option<i64>,
        before: (u64, u64),
    ) -> Result<(), Failure> {
        let (log, _) = wal::Wal::open(
            Arc::new(wal::RealFs::open(&self.log_dir)?),
            wal::Options::default(),
        )
        .map_err(io::Error::other)?;
        let identity = first_start::first_identity(&self.new.bootstrap);
        let new = NewCluster {
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            members: first_start::first_members(&self.new.bootstrap),
        };
        into.end(&log, new, compacted, before)?;
        Ok(log.close().map_err(io::Error::other)?)
    }

    /// What its keys hash to up to a revision, once they have been ended.
    pub fn hash(&self, revision: i64) -> Result<KvHash, Failure> {
        let rows = self.rows.snapshot();
        let state = State::load(&rows).map_err(io::Error::other)?;
        let hash = mizzen_core::hash_kv(&state, &rows, revision).map_err(io::Error::other)?;
        hash.map_err(|refused| Failure::Failed(refused.to_string()))
    }

    /// Makes it a member.
    pub fn settle(self) -> Result<(), Failure> {
        let identity = first_start::first_identity(&self.new.bootstrap);
        self.dir
            .settle(identity, &[&self.log_dir, &self.dir.rows()])?;
        Ok(self.dir.end_restoring()?)
    }
}

/// The flags as a member would read them.
fn configuration(flags: &[String]) -> Result<Box<Config>, Failure> {
    let none = std::iter::empty::<(std::ffi::OsString, std::ffi::OsString)>();
    match config::parse(flags.iter().map(Into::into), none) {
        Ok(config::Parsed::Run(config)) => Ok(config),
        Ok(config::Parsed::Print(_)) => unreachable!("only flags of a member are handed on"),
        Err(error) => Err(Failure::Failed(error.to_string())),
    }
}

/// Nothing is restored over what is there, in etcdutl's words.
fn check_empty(config: &Config) -> io::Result<()> {
    let empty = |dir: &Path| match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if !empty(&config.data_dir) {
        return Err(io::Error::other(format!(
            "data-dir {:?} not empty or could not be read",
            config.data_dir
        )));
    }
    match &config.wal_dir {
        Some(dir) if dir.exists() => Err(io::Error::other(format!("wal-dir {dir:?} exists"))),
        _ => Ok(()),
    }
}
