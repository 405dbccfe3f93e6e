//! `mizzen snapshot restore`: a member of a new cluster out of a backup.

use std::{fs, io, path::Path, sync::Arc};

use mizzen_bolt::File;
use mizzen_engine::{EngineOptions, RocksRows};
use mizzen_wal as wal;

use super::{Failure, arguments, file::Backup};
use crate::{
    config::{self, Config},
    etcd_file, first_start, logging,
    member_dir::MemberDir,
    server::{NewCluster, Restore},
};

pub fn restore(command: &arguments::RestoreFlags) -> Result<(), Failure> {
    let config = configuration(command)?;
    logging::init(&config).map_err(|error| Failure::Failed(error.to_string()))?;
    let bootstrap = config.first_start.bootstrap().map_err(|error| {
        let text = error.to_string();
        let etcdutl = text.strip_prefix("error setting up initial cluster: ");
        Failure::Failed(etcdutl.unwrap_or(&text).to_owned())
    })?;
    let identity = first_start::first_identity(&bootstrap);
    // Before anything is made that a second attempt would find in its way.
    let too_large = |_| Failure::Failed("the revision would be too large".to_owned());
    let bump = i64::try_from(command.bump_revision).map_err(too_large)?;
    check_empty(&config)?;
    let backup = Backup::open(&command.file)?;
    if !command.skip_hash_check {
        backup.check_hash()?;
    }
    let file = File::open(&backup).map_err(io::Error::other)?;
    tracing::info!(
        path = %command.file.display(),
        data_dir = %config.data_dir.display(),
        "restoring snapshot"
    );
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let dir = MemberDir::open(&config.data_dir)?;
    let rows = RocksRows::open(&dir.rows(), &EngineOptions::default()).map_err(io::Error::other)?;
    let mut into = Restore::new(Arc::new(rows));
    let position = etcd_file::read(&file, &mut into)?;
    let revision = into.revision()?.max(position.compacted.unwrap_or(0));
    let compacted = match bump {
        0 => position.compacted,
        bump => Some(revision.saturating_add(bump)),
    };
    let log_dir = config.wal_dir.clone().unwrap_or_else(|| dir.raft_log());
    let (log, _) = wal::Wal::open(
        Arc::new(wal::RealFs::open(&log_dir)?),
        wal::Options::default(),
    )
    .map_err(io::Error::other)?;
    let new = NewCluster {
        cluster_id: identity.cluster_id,
        member_id: identity.member_id,
        members: first_start::first_members(&bootstrap),
    };
    into.end(&log, new, compacted, (position.term, position.index))?;
    log.close().map_err(io::Error::other)?;
    dir.settle(identity, &[&log_dir, &dir.rows()])?;
    tracing::info!(
        path = %command.file.display(),
        data_dir = %config.data_dir.display(),
        revision = compacted.unwrap_or(revision).max(revision),
        "restored snapshot"
    );
    Ok(())
}

/// The flags as a member would read them.
fn configuration(command: &arguments::RestoreFlags) -> Result<Box<Config>, Failure> {
    let none = std::iter::empty::<(std::ffi::OsString, std::ffi::OsString)>();
    let arguments = command.member.iter().map(Into::into);
    match config::parse(arguments, none) {
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
