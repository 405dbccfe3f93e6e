//! Alarms: what the cluster has agreed to be wrong with a member. While there
//! is one of a kind, on whichever member, every member refuses what that kind
//! forbids.

use std::ops::ControlFlow;

use crate::{
    command::{Command, Operation, Txn},
    error::Error,
    reply::Reply,
    rows::{meta, required},
    view::{Family, View, ViewError},
    write::Writer,
};

/// The numbers are etcd's, on the wire and in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmKind {
    /// A member is out of space: nothing that needs more is accepted.
    NoSpace = 1,
    /// A member's rows differ from the others': nothing is read or written.
    Corrupt = 2,
}

impl AlarmKind {
    const ALL: [AlarmKind; 2] = [AlarmKind::NoSpace, AlarmKind::Corrupt];

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    pub kind: AlarmKind,
    pub member: u64,
}

/// Raises an alarm or ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetAlarm {
    pub alarm: Alarm,
    pub active: bool,
}

/// The kinds of alarms there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    no_space: bool,
    corrupt: bool,
}

impl Alarms {
    pub(crate) const NONE: Alarms = Alarms {
        no_space: false,
        corrupt: false,
    };

    pub(crate) fn load<V: View + ?Sized>(view: &V) -> Result<Self, ViewError> {
        let mut kinds = Self::default();
        for alarm in alarms(view)? {
            match alarm.kind {
                AlarmKind::NoSpace => kinds.no_space = true,
                AlarmKind::Corrupt => kinds.corrupt = true,
            }
        }
        Ok(kinds)
    }

    pub fn no_space(&self) -> bool {
        self.no_space
    }

    /// Refuses every read and write of a store that is not to be trusted.
    pub(crate) fn trust(&self) -> Result<(), Error> {
        if self.corrupt {
            Err(Error::Corrupt)
        } else {
            Ok(())
        }
    }

    /// Whether `command` may be applied.
    pub(crate) fn admit(&self, command: &Command) -> Result<(), Error> {
        if matches!(command, Command::Alarm(_) | Command::LeaseCheckpoint(_)) {
            return Ok(());
        }
        self.trust()?;
        if self.no_space && command.needs_space() {
            return Err(Error::NoSpace);
        }
        Ok(())
    }
}

impl Command {
    /// Whether it can make the store larger: puts, on whichever branch, and
    /// grants of leases. Deletions do too, by a little, but without them space
    /// could never be given back.
    pub fn needs_space(&self) -> bool {
        match self {
            Command::Put(_) | Command::LeaseGrant(_) => true,
            Command::Txn(txn) => txn.has_put(),
            Command::DeleteRange(_)
            | Command::Compact(_)
            | Command::LeaseRevoke(_)
            | Command::LeaseCheckpoint(_)
            | Command::Alarm(_) => false,
        }
    }
}

impl Txn {
    fn has_put(&self) -> bool {
        self.success
            .iter()
            .chain(&self.failure)
            .any(|operation| match operation {
                Operation::Put(_) => true,
                Operation::Txn(nested) => nested.has_put(),
                Operation::Range(_) | Operation::DeleteRange(_) | Operation::Empty => false,
            })
    }
}

/// All alarms, by kind and member.
pub fn alarms<V: View + ?Sized>(view: &V) -> Result<Vec<Alarm>, ViewError> {
    let mut found = Vec::new();
    let mut damaged = false;
    view.scan(
        Family::Meta,
        meta::ALARMS.0,
        Some(meta::ALARMS.1),
        &mut |key, _| match meta::decode_alarm_key(key) {
            Some(alarm) => {
                found.push(alarm);
                ControlFlow::Continue(())
            }
            None => {
                damaged = true;
                ControlFlow::Break(())
            }
        },
    )?;
    required((!damaged).then_some(found), "alarm")
}

/// The reply names the alarm that was raised, or ended; as etcd's, none if
/// there was none to end.
pub(crate) fn set<V: View + ?Sized>(
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
