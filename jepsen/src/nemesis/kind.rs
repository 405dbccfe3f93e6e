//! The kinds of faults, by their names on the command line.

use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    KillRandom,
    KillLeader,
    KillAll,
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
    Reset,
    RollingRestart,
}

const NAMES: [(Kind, &str); 14] = [
    (Kind::KillRandom, "kill-random"),
    (Kind::KillLeader, "kill-leader"),
    (Kind::KillAll, "kill-all"),
    (Kind::PauseRandom, "pause-random"),
    (Kind::PauseLeader, "pause-leader"),
    (Kind::PartitionLeader, "partition-leader"),
    (Kind::PartitionHalves, "partition-halves"),
    (Kind::PartitionRing, "partition-ring"),
    (Kind::PartitionLink, "partition-link"),
    (Kind::LeaderDeaf, "leader-deaf"),
    (Kind::LeaderMute, "leader-mute"),
    (Kind::Delay, "delay"),
    (Kind::Reset, "reset"),
    (Kind::RollingRestart, "rolling-restart"),
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
                | Kind::Reset
        )
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
                "no such fault: {s}; known: none, partition, all, {}",
                list(NAMES.iter().map(|(k, _)| *k))
            )
        })
    }
}

fn list(kinds: impl Iterator<Item = Kind>) -> String {
    kinds.map(Kind::name).collect::<Vec<_>>().join(", ")
}

/// A comma-separated list; `partition` and `all` stand for several kinds,
/// `none` for no fault.
pub fn parse(text: &str) -> Result<Vec<Kind>, String> {
    let mut kinds = Vec::new();
    for word in text.split(',').filter(|w| !w.is_empty()) {
        match word {
            "none" => {}
            "all" => kinds.extend(NAMES.iter().map(|(k, _)| *k)),
            "partition" => kinds.extend(
                NAMES
                    .iter()
                    .map(|(k, _)| *k)
                    .filter(|k| k.name().starts_with("partition-")),
            ),
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
        assert_eq!(parse("all").unwrap().len(), NAMES.len());
        assert!(parse("kill-some").is_err());
        for (kind, name) in NAMES {
            assert_eq!(name.parse::<Kind>().unwrap(), kind);
        }
    }
}
