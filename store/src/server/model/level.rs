//! Levels of features. Entries and rows that an older program cannot read
//! belong to a level above its own, and are written only when all members have
//! agreed to that level: the cluster version.

use std::sync::OnceLock;

/// Levels this program knows, with the cluster version of etcd that clients are
/// told for each.
///
/// 1: the first. 2: alarms. 3: users and roles, and who asks.
const LEVELS: [&str; 3] = ["3.6.0", "3.7.0", "3.7.0"];

/// The level of alarms.
pub const ALARMS: u32 = 2;

/// The level of users and roles.
pub const AUTH: u32 = 3;

/// Entries of this level need no agreement.
pub const FIRST: u32 = 1;

/// The highest level this program knows.
pub const NEWEST: u32 = LEVELS.len() as u32;

static OWN: OnceLock<u32> = OnceLock::new();

/// This process uses no level above `level`, from 1 to [`NEWEST`]. To be said
/// before a member starts: only the first word on this counts, and by then the
/// newest level may be in use.
pub fn limit(level: u32) {
    // It is set already.
    let _ = OWN.set(level.clamp(FIRST, NEWEST));
}

/// The highest level this member can use.
pub fn own() -> u32 {
    *OWN.get_or_init(|| NEWEST)
}

/// Whether members that have agreed to `agreed`, or to none yet, may be sent what
/// belongs to `level`.
pub fn allows(agreed: u32, level: u32) -> bool {
    level <= agreed.max(FIRST)
}

/// What clients are told the cluster version is; `None` before the members
/// have agreed on one.
pub fn cluster_version(level: u32) -> Option<&'static str> {
    let index = usize::try_from(level).ok()?.checked_sub(1)?;
    LEVELS.get(index).copied()
}
