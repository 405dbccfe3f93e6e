//! The kinds of the group `policy`.

use super::prelude::*;

pub const KINDS: &[&Kind] = &[&POD_DISRUPTION_BUDGET];

const POD_DISRUPTION_BUDGET: Kind = Kind {
    group: "policy",
    version: "v1",
    plural: "poddisruptionbudgets",
    kind: "PodDisruptionBudget",
    namespaced: true,
    place: "poddisruptionbudgets",
    short: &["pdb"],
    categories: &[],
    deprecated: None,
    subs: STATUS,
    selectable: &[],
    also: &[],
    names: names::SUBDOMAIN_RULE,
    standard_finalizers: false,
    put: Put {
        creates: false,
        unconditional: false,
    },
    generation: Generation::Counts(&["spec"]),
    status: Status::Reported(Metadata::Given),
    on_create: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: None,
    validate: Some(validate::kinds::budget),
    validate_change: None,
    columns: &[
        Column("Min Available", false, |value| {
            text(value, &["spec", "minAvailable"])
        }),
        Column("Max Unavailable", false, |value| {
            text(value, &["spec", "maxUnavailable"])
        }),
        Column("Allowed Disruptions", false, |value| {
            count(value, &["status", "disruptionsAllowed"])
        }),
        AGE,
    ],
};
