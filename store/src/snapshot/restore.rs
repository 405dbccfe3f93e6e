//! `mizzen snapshot restore`: a member of a new cluster out of a backup.

use std::io;

use mizzen_bolt::File;

use super::{Failure, arguments, data_dir, file::Backup, new_member::NewMember};
use crate::etcd_file;

pub fn restore(command: &arguments::RestoreFlags) -> Result<(), Failure> {
    // Before anything is made that a second attempt would find in its way.
    let too_large = |_| Failure::Failed("the revision would be too large".to_owned());
    let bump = i64::try_from(command.bump_revision).map_err(too_large)?;
    let new = NewMember::prepare(&command.member)?;
    if let Some(dir) = &command.from_data_dir {
        data_dir::check_stopped(dir)?;
    }
    let backup = Backup::open(&command.file)?;
    if !command.skip_hash_check && command.from_data_dir.is_none() {
        backup.check_hash()?;
    }
    let file = File::open(&backup).map_err(io::Error::other)?;
    let term = match &command.from_data_dir {
        Some(dir) => data_dir::check_complete(&file, dir, command.from_wal_dir.as_deref())?,
        None => 0,
    };
    tracing::info!(
        path = %command.file.display(),
        data_dir = %new.config.data_dir.display(),
        "restoring snapshot"
    );
    let begun = new.begin()?;
    let mut into = begun.rows();
    let position = etcd_file::read(&file, &mut into)?;
    let revision = into.revision()?.max(position.compacted.unwrap_or(0));
    let compacted = match bump {
        0 => position.compacted,
        bump => Some(revision.saturating_add(bump)),
    };
    let before = (position.term.max(term), position.index);
    begun.end(into, compacted, before)?;
    begun.settle()?;
    tracing::info!(
        path = %command.file.display(),
        data_dir = %new.config.data_dir.display(),
        revision = compacted.unwrap_or(revision).max(revision),
        "restored snapshot"
    );
    Ok(())
}
