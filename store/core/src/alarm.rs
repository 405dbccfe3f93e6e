//! Alarms: what the cluster has agreed to be wrong with a member. While there
//! is one of a kind, on whichever member, every member refuses what that kind
//! forbids.

use std::ops::ControlFlow;

use crate::{
    command::{Alarm, AlarmKind, Command},
    error::Error,
    rows::{meta, required},
    view::{Family, View, ViewError},
};

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
