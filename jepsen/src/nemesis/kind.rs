//! The kinds of faults, by their names on the command line.

use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    KillRandom,
    KillLeader,
    /// Started again on a machine that has no processor free.
    KillBusy,
    KillAll,
    /// Of the resource API, one of its servers.
    KillApiserver,
    /// All members killed, and what they had not synced is lost: a build of the
    /// store whose log forgets it.
    PowerLoss,
    PauseRandom,
    PauseLeader,
    /// The leader alone on one side.
    PartitionLeader,
    /// A random majority on one side.
    PartitionHalves,
    /// Every member sees a majority, no two the same.
    PartitionRing,
    /// Two members cannot reach each other; all others can.
    PartitionLink,
    /// The leader is heard but hears nobody.
    LeaderDeaf,
    /// The leader hears but nobody hears it.
    LeaderMute,
    Delay,
    /// Bytes arrive a few at a time.
    Drip,
    Reset,
    /// Bytes arrive changed. Only for peers that notice it.
    Corrupt,
    RollingRestart,
    Compact,
    Defragment,
    MoveLeader,
    /// Wall clocks jump.
    Clock,
    /// Removed, away for a while, added again.
    MemberShrink,
    /// Removed and added at once.
    MemberReplace,
    DiskFull,
    DiskSlow,
    /// Syncs fail.
    DiskError,
    FlipLog,
    FlipRows,
    FlipSnapshot,
    TruncateLog,
}

const NAMES: [(Kind, &str); 32] = [
    (Kind::KillRandom, "kill-random"),
    (Kind::KillLeader, "kill-leader"),
    (Kind::KillBusy, "kill-busy"),
    (Kind::KillAll, "kill-all"),
    (Kind::KillApiserver, "kill-apiserver"),
    (Kind::PowerLoss, "power-loss"),
    (Kind::PauseRandom, "pause-random"),
    (Kind::PauseLeader, "pause-leader"),
    (Kind::PartitionLeader, "partition-leader"),
    (Kind::PartitionHalves, "partition-halves"),
    (Kind::PartitionRing, "partition-ring"),
    (Kind::PartitionLink, "partition-link"),
    (Kind::LeaderDeaf, "leader-deaf"),
    (Kind::LeaderMute, "leader-mute"),
    (Kind::Delay, "delay"),
    (Kind::Drip, "drip"),
    (Kind::Reset, "reset"),
    (Kind::Corrupt, "corrupt"),
    (Kind::RollingRestart, "rolling-restart"),
    (Kind::Compact, "compact"),
    (Kind::Defragment, "defragment"),
    (Kind::MoveLeader, "move-leader"),
    (Kind::Clock, "clock"),
    (Kind::MemberShrink, "member-shrink"),
    (Kind::MemberReplace, "member-replace"),
    (Kind::DiskFull, "disk-full"),
    (Kind::DiskSlow, "disk-slow"),
    (Kind::DiskError, "disk-error"),
    (Kind::FlipLog, "flip-log"),
    (Kind::FlipRows, "flip-rows"),
    (Kind::FlipSnapshot, "flip-snapshot"),
    (Kind::TruncateLog, "truncate-log"),
];

impl Kind {
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(k, _)| *k == self)
            .map_or("?", |(_, name)| name)
    }

    /// True when peers must talk through the link proxies.
    pub fn needs_proxy(self) -> bool {
        matches!(
            self,
            Kind::PartitionLeader
                | Kind::PartitionHalves
                | Kind::PartitionRing
                | Kind::PartitionLink
                | Kind::LeaderDeaf
                | Kind::LeaderMute
                | Kind::Delay
                | Kind::Drip
                | Kind::Reset
                | Kind::Corrupt
        )
    }

    /// True when the members' files lie on small file systems of their own.
    pub fn needs_small_disks(self) -> bool {
        self == Kind::DiskFull
    }

    /// True when a member that it hits may end with a fatal line in its log.
    pub fn may_end_it(self) -> bool {
        matches!(
            self,
            Kind::MemberShrink
                | Kind::MemberReplace
                | Kind::DiskFull
                | Kind::DiskError
                | Kind::FlipLog
                | Kind::FlipRows
                | Kind::FlipSnapshot
                | Kind::TruncateLog
        )
    }

    /// True for the kinds that `all` stands for: those that need no rights, no
    /// other program and no protection of the transport, and damage nothing.
    fn is_common(self) -> bool {
        !self.needs_small_disks()
            && !matches!(
                self,
                Kind::Corrupt
                    | Kind::PowerLoss
                    | Kind::DiskSlow
                    | Kind::Clock
                    | Kind::KillApiserver
            )
            && (!self.may_end_it() || self.name().starts_with("member-"))
    }

    /// True when the fault is worth nothing unless it hits the leader.
    pub fn aims_at_leader(self) -> bool {
        matches!(
            self,
            Kind::KillLeader
                | Kind::PauseLeader
                | Kind::PartitionLeader
                | Kind::LeaderDeaf
                | Kind::LeaderMute
        )
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(s: &str) -> Result<Kind, String> {
        let found = NAMES.iter().find(|(_, name)| *name == s).map(|(k, _)| *k);
        found.ok_or_else(|| {
            format!(
                "no such fault: {s}; known: none, all, partition, member, disk, damage, {}",
                list(NAMES.iter().map(|(k, _)| *k))
            )
        })
    }
}

fn list(kinds: impl Iterator<Item = Kind>) -> String {
    kinds.map(Kind::name).collect::<Vec<_>>().join(", ")
}

fn named(which: impl Fn(Kind) -> bool) -> impl Iterator<Item = Kind> {
    NAMES.iter().map(|(k, _)| *k).filter(move |k| which(*k))
}

/// A comma-separated list; `all`, `partition`, `member`, `disk` and `damage`
/// stand for several kinds, `none` for no fault.
pub fn parse(text: &str) -> Result<Vec<Kind>, String> {
    let mut kinds = Vec::new();
    for word in text.split(',').filter(|w| !w.is_empty()) {
        match word {
            "none" => {}
            "all" => kinds.extend(named(|k| k.is_common())),
            "partition" | "member" | "disk" => {
                kinds.extend(named(|k| k.name().starts_with(&format!("{word}-"))));
            }
            "damage" => kinds.extend(named(|k| {
                k.name().starts_with("flip-") || k == Kind::TruncateLog
            })),
            _ => kinds.push(word.parse()?),
        }
    }
    kinds.sort();
    kinds.dedup();
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lists_and_groups() {
        assert_eq!(parse("none").unwrap(), vec![]);
        assert_eq!(
            parse("kill-all,kill-random,kill-all").unwrap(),
            vec![Kind::KillRandom, Kind::KillAll]
        );
        assert_eq!(parse("partition").unwrap().len(), 4);
        assert_eq!(parse("member").unwrap().len(), 2);
        assert_eq!(parse("disk").unwrap().len(), 3);
        assert_eq!(parse("damage").unwrap().len(), 4);
        assert_eq!(
            parse("all,disk,damage,corrupt,clock,power-loss,kill-apiserver")
                .unwrap()
                .len(),
            NAMES.len()
        );
        assert!(parse("kill-some").is_err());
        for (kind, name) in NAMES {
            assert_eq!(name.parse::<Kind>().unwrap(), kind);
        }
    }
}
