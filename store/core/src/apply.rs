//! Applying committed commands.

use bytes::Bytes;

use crate::{
    alarm::Alarms,
    command::{Command, Operation, Put, SetAlarm, Txn},
    compaction,
    error::{Error, Stop, answered},
    event::Event,
    lease,
    limits::Limits,
    overlay::Overlay,
    reply::Reply,
    room::{ReplyRoom, Room},
    rows::meta,
    state::State,
    txn,
    view::{Family, View, ViewError},
    write::Writer,
};

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The reply, or a refusal. Only after [`Error::ReplyTooLarge`] something
    /// may have changed: the command was carried out, and nobody can be told
    /// all that it answered.
    pub reply: Result<Reply, Error>,
    /// What watches tell, in the order it happened; all of one revision.
    pub events: Vec<Event>,
    /// There were more than [`limits::EVENTS_BYTES`](crate::limits::EVENTS_BYTES)
    /// of them: `events` is empty, and the log has them.
    pub events_in_log: bool,
}

/// Applies one committed command. Total: every command has an outcome, also one
/// that [`Command::check`] refuses.
///
/// `room` is for the reply; without it nobody waits for one, and what it would
/// have to be read for is not read. It changes nothing else.
///
/// After an error the overlay and the state hold parts of the command and must
/// be discarded.
pub fn apply<V: View + ?Sized>(
    state: &mut State,
    overlay: &mut Overlay<'_, V>,
    command: &Command,
    room: Option<&dyn Room>,
) -> Result<Outcome, ViewError> {
    let mut writer = Writer::new(overlay, *state, ReplyRoom::new(room));
    match answered(run(&mut writer, command))? {
        Ok(reply) => {
            let too_large = writer.reply.is_over();
            let events = writer.finish(state);
            Ok(Outcome {
                reply: if too_large {
                    Err(Error::ReplyTooLarge)
                } else {
                    Ok(reply)
                },
                events_in_log: events.is_none(),
                events: events.unwrap_or_default(),
            })
        }
        Err(refusal) => Ok(Outcome {
            reply: Err(refusal),
            events: Vec::new(),
            events_in_log: false,
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
        Command::Alarm(alarm) => Ok(set_alarm(writer, alarm)?),
        Command::LeaseCheckpoint(checkpoints) => Ok(lease::checkpoint(writer, checkpoints)?),
    }
}

/// The reply names the alarm that was raised, or ended; as etcd's, none if
/// there was none to end.
fn set_alarm<V: View + ?Sized>(
    writer: &mut Writer<'_, '_, V>,
    set: &SetAlarm,
) -> Result<Reply, ViewError> {
    let key = meta::alarm_key(&set.alarm);
    let there = writer.overlay.get(Family::Meta, &key)?.is_some();
    if set.active {
        writer.overlay.put(Family::Meta, key, meta::mark());
    } else {
        writer.overlay.delete(Family::Meta, key);
    }
    writer.before.alarms = Alarms::load(writer.overlay)?;
    Ok(Reply::Alarm {
        revision: writer.before.revision,
        alarms: (set.active || there)
            .then_some(set.alarm)
            .into_iter()
            .collect(),
    })
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
