//! Bytes as a segment of the Raft log, found at a start.

use std::sync::Arc;

use anyhow::{Result, ensure};
use mizzen_sim::MemFs;
use mizzen_wal::{Execution, LogId, Options, Wal, limits};

use crate::Outcome;

/// The first segment of a log.
const NAME: &str = "0000000000000001.wal";

/// What opens can be read to its end, and opens again with the same entries.
///
/// # Errors
/// It is not so.
pub fn log(input: &[u8]) -> Result<Outcome> {
    let disk = MemFs::new();
    disk.replace(NAME, input.to_vec());
    let Some((first, entries)) = read(&disk)? else {
        return Ok(Outcome("refused".to_owned()));
    };
    let again = read(&disk)?;
    ensure!(
        again.as_ref() == Some(&(first.clone(), entries.clone())),
        "{first}, {entries:?} and then {again:?}"
    );
    Ok(Outcome(format!("{} {first}", entries.len().min(20))))
}

/// What a start finds, and all entries; `None`: it refuses.
fn read(disk: &MemFs) -> Result<Option<(String, Vec<LogId>)>> {
    let options = Options {
        segment_bytes: limits::MIN_SEGMENT_BYTES,
        execution: Execution::Stepped,
        create: false,
        salt: Some(1),
        ..Options::default()
    };
    let Ok((log, found)) = Wal::open(Arc::new(disk.clone()), options) else {
        return Ok(None);
    };
    let first = log.first_index();
    let mut entries = Vec::new();
    if let (Some(first), Some((_, last))) = (first, found.last) {
        let mut next = first;
        while next <= last {
            let read = log.read(next..last + 1, 1 << 20)?;
            ensure!(!read.is_empty(), "nothing at {next} of {first}..={last}");
            next += read.len() as u64;
            entries.extend(read.iter().map(|entry| LogId {
                term: entry.term,
                index: entry.index,
            }));
        }
    }
    let summary = format!(
        "{} {} {}",
        found.vote.is_some(),
        found.committed.is_some(),
        found.purged.is_some()
    );
    Ok(Some((summary, entries)))
}
