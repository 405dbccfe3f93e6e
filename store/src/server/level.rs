//! Levels of features. Entries and rows that an older program cannot read
//! belong to a level above its own, and are written only when all members have
//! agreed to that level: the cluster version.

use std::sync::LazyLock;

use mizzen_core::Command;

/// Levels this program knows, with the cluster version of etcd that clients are
/// told for each.
///
/// 1: the first. 2: alarms.
const LEVELS: [&str; 2] = ["3.6.0", "3.7.0"];

/// Entries of this level need no agreement.
const FIRST: u32 = 1;

/// For tests of rolling upgrades: makes this program behave as the one that
/// knew no higher level. Anything but a known level is ignored.
const OLDER: &str = "MIZZEN_TEST_LEVEL";

static OWN: LazyLock<u32> = LazyLock::new(|| {
    let newest = u32::try_from(LEVELS.len()).expect("there are few");
    let older = std::env::var(OLDER).ok().and_then(|text| text.parse().ok());
    older.map_or(newest, |older: u32| older.clamp(FIRST, newest))
});

/// The highest level this member can use.
pub fn own() -> u32 {
    *OWN
}

/// The level that `command` came with.
pub fn of(command: &Command) -> u32 {
    match command {
        Command::Alarm(_) => 2,
        _ => FIRST,
    }
}

/// Whether members that have agreed to `level`, or to none yet, may be sent
/// `command`.
pub fn allows(level: u32, command: &Command) -> bool {
    of(command) <= level.max(FIRST)
}

/// What clients are told the cluster version is; `None` before the members
/// have agreed on one.
pub fn cluster_version(level: u32) -> Option<&'static str> {
    let index = usize::try_from(level).ok()?.checked_sub(1)?;
    LEVELS.get(index).copied()
}
