//! The kinds of the group `scheduling.k8s.io`.

use super::prelude::*;

pub const KINDS: &[&Kind] = &[&PRIORITY_CLASS];

const PRIORITY_CLASS: Kind = Kind {
    group: "scheduling.k8s.io",
    version: "v1",
    plural: "priorityclasses",
    kind: "PriorityClass",
    namespaced: false,
    place: "priorityclasses",
    short: &["pc"],
    categories: &[],
    deprecated: None,
    subs: &[],
    selectable: &[],
    indexed: None,
    also: &[],
    names: names::SUBDOMAIN_RULE,
    standard_finalizers: true,
    put: Put {
        creates: false,
        unconditional: true,
    },
    generation: Generation::Counts(&[]),
    status: Status::NONE,
    resets: Resets::NONE,
    gated: &[],
    on_create: None,
    asked_by: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: Some(defaults::priority_class),
    validate: Some(validate::kinds::priority),
    validate_change: Some(validate::kinds::priority_kept),
    validate_sub: None,
    warnings: None,
    columns: &[
        Column("Value", false, |value| count(value, &["value"])),
        Column("Global-Default", false, |value| {
            (value.get("globalDefault") == Some(&Value::Bool(true))).into()
        }),
        AGE,
        Column("PreemptionPolicy", false, |value| {
            object::str_at(value, &["preemptionPolicy"]).into()
        }),
    ],
};
