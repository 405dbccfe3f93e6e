//! Levels of features. Entries and rows that an older program cannot read
//! belong to a level above its own, and are written only when all members have
//! agreed to that level: the cluster version.

use std::sync::OnceLock;

use mizzen_core::{Command, auth::By};

use super::proposal::Body;

/// Levels this program knows, with the cluster version of etcd that clients are
/// told for each.
///
/// 1: the first. 2: alarms. 3: users and roles, and who asks.
const LEVELS: [&str; 3] = ["3.6.0", "3.7.0", "3.7.0"];

/// The level of users and roles.
pub const AUTH: u32 = 3;

/// Entries of this level need no agreement.
const FIRST: u32 = 1;

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

/// The level that a proposal came with.
pub fn of(by: &By, body: &Body) -> u32 {
    match (by, body) {
        (By::Store | By::User { .. }, _) | (_, Body::Auth(_)) => AUTH,
        (By::Nobody, Body::Command(Command::Alarm(_))) => 2,
        (By::Nobody, _) => FIRST,
    }
}

/// Whether members that have agreed to `level`, or to none yet, may be sent
/// `body`. Who asks is left out where they could not read it.
pub fn allows(level: u32, body: &Body) -> bool {
    of(&By::Nobody, body) <= level.max(FIRST)
}

/// What clients are told the cluster version is; `None` before the members
/// have agreed on one.
pub fn cluster_version(level: u32) -> Option<&'static str> {
    let index = usize::try_from(level).ok()?.checked_sub(1)?;
    LEVELS.get(index).copied()
}
