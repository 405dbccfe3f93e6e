//! Applying committed commands.

use bytes::Bytes;

use crate::{
    alarm,
    command::{Command, Operation, Put, Txn},
    compaction,
    error::{Error, Stop, answered},
    kv, lease,
    limits::Limits,
    overlay::Overlay,
    reply::Reply,
    state::State,
    txn,
    view::{View, ViewError},
    write::Writer,
};

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The reply, or a refusal, which changed nothing.
    pub reply: Result<Reply, Error>,
    /// What watches tell, in the order it happened; all of one revision.
    pub events: Vec<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Put,
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    pub key: Bytes,
    /// The key-value without its key, see [`crate::kv`]. Of a deletion it has
    /// the revision only.
    pub kv: Bytes,
    /// The key-value before the revision, in the same form, if it lived.
    pub prev: Option<Bytes>,
    pub mod_revision: i64,
}

impl Event {
    /// Whether the change made the key, which then has nothing before it that a
    /// watch tells.
    pub fn is_creation(&self) -> bool {
        self.kind == EventKind::Put
            && kv::Fields::decode(&self.kv)
                .is_some_and(|fields| fields.create_revision == fields.mod_revision)
    }
}

/// Applies one committed command. Total: every command has an outcome, also one
/// that [`Command::check`] refuses.
///
/// After an error the overlay and the state hold parts of the command and must
/// be discarded.
pub fn apply<V: View + ?Sized>(
    state: &mut State,
    overlay: &mut Overlay<'_, V>,
    command: &Command,
) -> Result<Outcome, ViewError> {
    let mut writer = Writer::new(overlay, *state);
    match answered(run(&mut writer, command))? {
        Ok(reply) => Ok(Outcome {
            reply: Ok(reply),
            events: writer.finish(state),
        }),
        Err(refusal) => Ok(Outcome {
            reply: Err(refusal),
            events: Vec::new(),
        }),
    }
}

/// A refusal leaves nothing in the overlay.
fn run<V: View + ?Sized>(writer: &mut Writer<'_, '_, V>, command: &Command) -> Result<Reply, Stop> {
    command.check(&Limits::APPLY)?;
    writer.before.alarms.admit(command)?;
    match command {
        Command::Put(put) => {
            lease::check(writer.overlay, put.lease)?;
            writer.put(put)
        }
        Command::DeleteRange(delete) => Ok(writer.delete_range(delete)?),
        Command::Txn(txn) => txn::apply(writer, txn),
        Command::Compact(compaction) => compaction::compact(writer, compaction.revision),
        Command::LeaseGrant(grant) => lease::grant(writer, grant),
        Command::LeaseRevoke(revoke) => lease::revoke(writer, revoke.id),
        Command::Alarm(alarm) => Ok(alarm::set(writer, alarm)?),
        Command::LeaseCheckpoint(checkpoints) => Ok(lease::checkpoint(writer, checkpoints)?),
    }
}

/// Appends the keys of family `Head` that applying the command will read, as
/// far as the command alone tells.
pub fn prefetch_keys(command: &Command, keys: &mut Vec<Bytes>) {
    match command {
        Command::Put(put) => keys.push(put.key.clone()),
        Command::DeleteRange(delete) if delete.range_end.is_empty() => {
            keys.push(delete.key.clone())
        }
        Command::Txn(txn) => prefetch_txn(txn, keys),
        Command::DeleteRange(_)
        | Command::Compact(_)
        | Command::LeaseGrant(_)
        | Command::LeaseRevoke(_)
        | Command::LeaseCheckpoint(_)
        | Command::Alarm(_) => {}
    }
}

/// Keys of a branch not taken are read in vain, but compares mostly look at the
/// keys that the branches change.
fn prefetch_txn(txn: &Txn, keys: &mut Vec<Bytes>) {
    keys.extend(
        txn.compare
            .iter()
            .filter(|compare| compare.range_end.is_empty())
            .map(|compare| compare.key.clone()),
    );
    for operation in txn.success.iter().chain(&txn.failure) {
        match operation {
            Operation::Put(Put { key, .. }) => keys.push(key.clone()),
            Operation::DeleteRange(delete) if delete.range_end.is_empty() => {
                keys.push(delete.key.clone())
            }
            Operation::Range(range) if range.range_end.is_empty() => keys.push(range.key.clone()),
            Operation::Txn(nested) => prefetch_txn(nested, keys),
            Operation::DeleteRange(_) | Operation::Range(_) | Operation::Empty => {}
        }
    }
}
