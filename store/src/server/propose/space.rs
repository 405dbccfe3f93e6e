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

use mizzen_core::Command;
use mizzen_engine::Engine;

use crate::server::error::Error;
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
    /// Another member says that its disk is nearly full.
    others_low: AtomicBool,
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

    /// What the other members say of their disks.
    pub fn see_others(&self, low: bool) {
        self.others_low.store(low, Ordering::Relaxed);
    }

    /// Refuses a command for which there is no room.
    pub fn check(&self, command: &Command) -> Result<(), Error> {
        let room = self.room();
        let gives_back = matches!(command, Command::Compact(_) | Command::Alarm(_));
        if room == Room::Nothing && !gives_back {
            return Err(Error::DiskFull);
        }
        if !command.needs_space() {
            return Ok(());
        }
        if room != Room::Enough || self.others_low.load(Ordering::Relaxed) {
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
            others_low: AtomicBool::new(false),
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
                space.see_others(others_low);
                assert_eq!(space.check(command), expected, "{command:?}");
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
