//! The kinds of the group `coordination.k8s.io`.

use super::prelude::*;

pub const KINDS: &[&Kind] = &[&LEASE];

const LEASE: Kind = Kind {
    group: "coordination.k8s.io",
    version: "v1",
    plural: "leases",
    kind: "Lease",
    namespaced: true,
    place: "leases",
    short: &[],
    categories: &[],
    deprecated: None,
    subs: &[],
    selectable: &[],
    indexed: None,
    also: &[],
    names: names::SUBDOMAIN_RULE,
    standard_finalizers: false,
    put: Put {
        creates: true,
        unconditional: false,
    },
    generation: Generation::NONE,
    status: Status::NONE,
    resets: Resets::NONE,
    gated: &[Gated {
        below: &["spec"],
        fields: &[&["strategy"], &["preferredHolder"]],
    }],
    on_create: None,
    asked_by: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: None,
    validate: Some(validate::kinds::lease),
    validate_change: None,
    validate_sub: None,
    warnings: None,
    columns: &[
        Column("Holder", false, |value| {
            text(value, &["spec", "holderIdentity"])
        }),
        AGE,
    ],
};
