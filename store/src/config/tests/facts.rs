//! The table against what etcd's own help lists.

use std::collections::BTreeSet;

use super::refusal;
use crate::config::{
    Kind,
    gates::GATES,
    table::{FLAGS, Flag},
};

/// Name and default of every flag in the help of etcd 3.7.3.
const ETCD: &str = include_str!("../etcd-3.7.3-flags.tsv");

/// Listed by etcd's help, yet not defined by etcd.
const ONLY_IN_HELP: &[&str] = &["discovery", "discovery-proxy"];

/// Defaults that the help words differently or leaves out.
const WORDED: &[&str] = &[
    "data-dir",
    "initial-cluster",
    "max-concurrent-streams",
    "backend-bbolt-freelist-type",
    "backend-batch-interval",
    "memory-mlock",
    "enable-grpc-gateway",
    "compaction-batch-limit",
    "compaction-sleep-interval",
    "bootstrap-defrag-threshold-megabytes",
    "downgrade-check-time",
    "snapshot-catchup-entries",
    "watch-progress-notify-interval",
];

fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

fn facts() -> impl Iterator<Item = (&'static str, &'static str)> {
    ETCD.lines()
        .map(|line| line.split_once('\t').expect("name and default"))
}

#[test]
fn every_flag_of_etcd_is_known_with_its_default() {
    assert_eq!(facts().count(), 113);
    for (name, default) in facts().filter(|(name, _)| !ONLY_IN_HELP.contains(name)) {
        let flag = find(name).unwrap_or_else(|| panic!("--{name} is missing"));
        if !WORDED.contains(&name) {
            let parsed = flag.kind.parse(default);
            assert_eq!(flag.kind.parse(flag.default), parsed, "--{name}");
            assert!(parsed.is_ok(), "--{name}: {parsed:?}");
        }
    }
    for name in ONLY_IN_HELP {
        let text = format!("flag provided but not defined: -{name}");
        assert_eq!(refusal(&[&format!("--{name}"), "x"], &[]), (text, 2));
    }
}

#[test]
fn no_flag_is_invented() {
    let known: BTreeSet<&str> = facts()
        .map(|(name, _)| name)
        .chain(["config-file", "version"])
        .collect();
    for flag in FLAGS.iter().filter(|flag| flag.kind != Kind::Legacy) {
        assert!(
            known.contains(flag.name),
            "etcd does not know --{}",
            flag.name
        );
    }
}

#[test]
fn names_places_and_variables_are_unique_and_defaults_valid() {
    let mut seen = BTreeSet::new();
    for flag in FLAGS {
        assert!(
            seen.insert(flag.name.to_owned()),
            "--{} is there twice",
            flag.name
        );
        assert!(
            seen.insert(flag.environment()),
            "{} is there twice",
            flag.environment()
        );
        if let Some(place) = flag.file {
            assert!(
                seen.insert(format!("file:{place}")),
                "{place} is there twice"
            );
        }
        assert!(flag.kind.parse(flag.default).is_ok(), "--{}", flag.name);
    }
    let mut gates: Vec<&str> = GATES.iter().map(|gate| gate.name).collect();
    gates.dedup();
    assert_eq!(gates.len(), 9);
    assert!(gates.is_sorted());
}
