//! Levels of features. Entries and rows that an older program cannot read
//! belong to a level above its own, and are written only when all members have
//! agreed to that level: the cluster version.

/// Levels this program knows, with what each brought and the cluster version
/// of etcd that clients are told for it.
///
/// 1: the first.
const LEVELS: [&str; 1] = ["3.7.0"];

/// The highest level this member can use.
pub fn own() -> u32 {
    u32::try_from(LEVELS.len()).expect("there are few")
}

/// What clients are told the cluster version is; `None` before the members
/// have agreed on one.
pub fn cluster_version(level: u32) -> Option<&'static str> {
    let index = usize::try_from(level).ok()?.checked_sub(1)?;
    LEVELS.get(index).copied()
}
