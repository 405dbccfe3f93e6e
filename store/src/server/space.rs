//! Whether there is room for more: on the disks of the members, in the
//! engine's backlog, and under the quota.
//!
//! A disk that is full stops a member for good: its log can take no entry and
//! its rows no flush. So writes that need space are refused while a reserve is
//! left, from which deletions, compactions and the engine's own work go on, and
//! are accepted again when there is room.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

use mizzen_core::{Alarm, AlarmKind, Command, Reply, SetAlarm, auth::By};
use mizzen_engine::Engine;

use super::{Caller, Error, Server, proposal::Body};
use crate::{
    limits,
    workers::{self, Workers},
};

/// Of the disk with the least room among those a member uses, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    pub free: u64,
    pub total: u64,
}

/// Looks at the disks; may block.
pub type LookAtDisk = Arc<dyn Fn() -> io::Result<DiskSpace> + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Room {
    Enough = 0,
    /// Nothing that needs space is accepted.
    Reserve = 1,
    /// Nothing is accepted.
    Nothing = 2,
}

/// What this member last saw of its disk and its engine.
#[derive(Default)]
pub struct Space {
    room: AtomicU8,
    stalled: AtomicBool,
}

impl DiskSpace {
    fn reserve(self) -> u64 {
        (self.total / 50).clamp(limits::DISK_RESERVE_MIN, limits::DISK_RESERVE_MAX)
    }

    /// `before` decides in between, so that the answer does not flicker.
    fn room(self, before: Room) -> Room {
        let reserve = self.reserve();
        if self.free < reserve / 4 {
            Room::Nothing
        } else if self.free < reserve || before != Room::Enough && self.free < reserve / 4 * 5 {
            Room::Reserve
        } else {
            Room::Enough
        }
    }
}

impl Space {
    pub fn start<E: Engine>(engine: Arc<E>, look: LookAtDisk, workers: Workers) -> Arc<Self> {
        let space = Arc::new(Self::default());
        let watching = watch(space.clone(), engine, look, workers);
        workers::spawn("watching the disk", watching);
        space
    }

    fn room(&self) -> Room {
        match self.room.load(Ordering::Relaxed) {
            0 => Room::Enough,
            1 => Room::Reserve,
            _ => Room::Nothing,
        }
    }

    /// Whether writes that need space must wait for more of it.
    pub fn is_low(&self) -> bool {
        self.room() != Room::Enough
    }

    /// `others_low`: another member is low on space.
    fn check(&self, command: &Command, others_low: bool) -> Result<(), Error> {
        let room = self.room();
        let gives_back = matches!(command, Command::Compact(_) | Command::Alarm(_));
        if room == Room::Nothing && !gives_back {
            return Err(Error::DiskFull);
        }
        if !command.needs_space() {
            return Ok(());
        }
        if room != Room::Enough || others_low {
            Err(Error::DiskFull)
        } else if self.stalled.load(Ordering::Relaxed) {
            Err(Error::TooManyRequests)
        } else {
            Ok(())
        }
    }

    fn see(&self, disk: io::Result<DiskSpace>) {
        let before = self.room();
        let Ok(disk) = disk else {
            return;
        };
        let now = disk.room(before);
        self.room.store(now as u8, Ordering::Relaxed);
        match (before == Room::Enough, now == Room::Enough) {
            (true, false) => tracing::warn!(
                free_bytes = disk.free,
                reserve_bytes = disk.reserve(),
                "the disk is nearly full: refusing writes that need space"
            ),
            (false, true) => tracing::info!(
                free_bytes = disk.free,
                "the disk has room again: accepting writes"
            ),
            _ => {}
        }
    }
}

async fn watch<E: Engine>(space: Arc<Space>, engine: Arc<E>, look: LookAtDisk, workers: Workers) {
    let mut ticks = tokio::time::interval(limits::SPACE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (engine, look) = (engine.clone(), look.clone());
        let seen = workers.run(move || (look(), engine.health())).await;
        // The runtime is ending.
        let Ok((disk, health)) = seen else { return };
        space.see(disk);
        // An engine that cannot tell fails its writes, which ends the member.
        let stalled = health.is_ok_and(|health| health.write_stopped);
        if space.stalled.swap(stalled, Ordering::Relaxed) != stalled {
            tracing::warn!(stalled, "the engine's backlog of writes");
        }
    }
}

impl<E: Engine> Server<E> {
    /// The quota of `--quota-backend-bytes`; none if there is no limit.
    pub fn quota(&self) -> Option<u64> {
        self.quota
    }

    /// All alarms of the cluster.
    pub async fn alarms(&self, caller: &Caller) -> Result<Vec<Alarm>, Error> {
        self.linearize(caller).await?;
        self.read_at_leisure(caller, (), |(), _, _, view, _| {
            Ok(Ok(mizzen_core::alarms(view)?))
        })
        .await
    }

    /// Raises an alarm or ends it; gives it back unless there was none to end.
    pub async fn set_alarm(&self, caller: &Caller, set: SetAlarm) -> Result<Vec<Alarm>, Error> {
        self.admit(caller)?;
        let by = self.identify(caller).await?;
        match self
            .submit(by, Body::Command(Command::Alarm(set)), None)
            .await?
        {
            Reply::Alarm { alarms, .. } => Ok(alarms),
            _ => Ok(Vec::new()),
        }
    }

    /// Refuses a command for which there is no room. `bytes`: what it adds.
    pub(super) async fn check_space(&self, command: &Command, bytes: usize) -> Result<(), Error> {
        self.space.check(command, self.liveness.low_on_space())?;
        if !command.needs_space() {
            return Ok(());
        }
        let (retained, alarmed) = {
            let state = self.published.load().state;
            (state.sizes().retained(), state.alarms().no_space())
        };
        let retained = u64::try_from(retained).unwrap_or(0);
        let after = retained.saturating_add(bytes as u64);
        if self.quota.is_none_or(|quota| after <= quota) {
            return Ok(());
        }
        if !alarmed {
            tracing::warn!(
                retained_bytes = retained,
                quota_bytes = self.quota,
                "the quota is exceeded: raising an alarm"
            );
            let alarm = Command::Alarm(SetAlarm {
                alarm: Alarm {
                    kind: AlarmKind::NoSpace,
                    member: self.group.id(),
                },
                active: true,
            });
            // Whether or not the others learn of it, this member has no room.
            let raise = self.submit(By::Store, Body::Command(alarm), None);
            if let Err(error) = Box::pin(raise).await {
                tracing::warn!(%error, "the alarm was not raised");
            }
        }
        Err(mizzen_core::Error::NoSpace.into())
    }
}

#[cfg(test)]
mod tests {
    use mizzen_core::{Compaction, DeleteRange, Put};

    use super::*;

    #[test]
    fn what_gives_space_back_is_accepted_longest() {
        let put = Command::Put(Put::default());
        let delete = Command::DeleteRange(DeleteRange::default());
        let compact = Command::Compact(Compaction { revision: 1 });
        let space = |room: Room, stalled| Space {
            room: AtomicU8::new(room as u8),
            stalled: AtomicBool::new(stalled),
        };
        let full = Err(Error::DiskFull);
        let cases = [
            (space(Room::Enough, false), false, [Ok(()), Ok(()), Ok(())]),
            (
                space(Room::Enough, false),
                true,
                [full.clone(), Ok(()), Ok(())],
            ),
            (
                space(Room::Reserve, true),
                false,
                [full.clone(), Ok(()), Ok(())],
            ),
            (
                space(Room::Nothing, false),
                false,
                [full.clone(), full, Ok(())],
            ),
            (
                space(Room::Enough, true),
                false,
                [Err(Error::TooManyRequests), Ok(()), Ok(())],
            ),
        ];
        for (space, others_low, expected) in cases {
            for (command, expected) in [&put, &delete, &compact].into_iter().zip(expected) {
                assert_eq!(space.check(command, others_low), expected, "{command:?}");
            }
        }
    }

    #[test]
    fn room_is_given_back_with_a_margin() {
        let total = 10 << 30;
        let disk = |free| DiskSpace { free, total };
        let reserve = disk(0).reserve();
        assert_eq!(reserve, limits::DISK_RESERVE_MIN);
        let cases = [
            (reserve, Room::Enough, Room::Enough),
            (reserve - 1, Room::Enough, Room::Reserve),
            (reserve, Room::Reserve, Room::Reserve),
            (reserve / 4 * 5, Room::Reserve, Room::Enough),
            (reserve / 4 - 1, Room::Enough, Room::Nothing),
            (reserve / 4, Room::Nothing, Room::Reserve),
        ];
        for (free, before, expected) in cases {
            assert_eq!(disk(free).room(before), expected, "{free} after {before:?}");
        }
    }
}
