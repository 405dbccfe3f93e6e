use std::collections::HashSet;

use super::*;
use crate::kind::{Generation, Status, Sub};

/// What a registration says, in one line.
fn told(kind: &Kind) -> String {
    let mut has = Vec::new();
    for (name, given) in [
        ("creates-by-put", kind.put.creates),
        ("needs-version", !kind.put.unconditional),
        ("generation", kind.generation != Generation::NONE),
        ("status", kind.status != Status::NONE),
        ("on-create", kind.on_create.is_some()),
        ("on-update", kind.on_update.is_some()),
        ("grace", kind.deletion.grace.is_some()),
        ("orphans", kind.deletion.orphans),
        ("object-on-delete", kind.deletion.object),
        ("held", kind.deletion.held.is_some()),
        ("lifetime", kind.lifetime.is_some()),
        ("addresses", kind.addresses),
        ("defaults", kind.defaults.is_some()),
        ("validate", kind.validate.is_some()),
        ("validate-change", kind.validate_change.is_some()),
        ("columns", kind.columns.len() > 1),
    ] {
        if given {
            has.push(name);
        }
    }
    format!(
        "{}/{} {}: {}",
        kind.group,
        kind.version,
        kind.kind,
        has.join(" ")
    )
}

#[test]
fn every_kind_says_what_it_has() {
    let all: Vec<String> = all().map(told).collect();
    let expected: Vec<&str> = include_str!("kinds.txt").lines().collect();
    let all_of_them = all.join("\n");
    assert_eq!(
        all, expected,
        "kinds.txt does not say what the table has:\n{all_of_them}"
    );
}

#[test]
fn the_table_is_consistent() {
    let mut places = HashSet::new();
    let mut names = HashSet::new();
    for kind in all() {
        assert!(places.insert(kind.place), "{kind:?}: a place taken twice");
        assert!(names.insert((kind.group, kind.plural)), "{kind:?}: twice");
        assert_eq!(
            kind.has(Sub::Status),
            kind.status != Status::NONE,
            "{kind:?}"
        );
        assert!(!kind.columns.is_empty(), "{kind:?}");
        for also in kind.also {
            let (own, other) = (kind.selectable.len(), also.selectable.len());
            assert_eq!(own, other, "{kind:?}: fields of selectors in another order");
        }
    }
    for group in GROUPS {
        let of: Vec<_> = group
            .iter()
            .map(|kind| (kind.group, kind.version))
            .collect();
        assert!(of.windows(2).all(|two| two[0] == two[1]), "{of:?}");
    }
}
