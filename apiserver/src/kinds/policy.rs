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
    indexed: None,
    also: &[],
    names: names::PATH_SEGMENT_RULE,
    standard_finalizers: false,
    put: Put {
        creates: false,
        unconditional: false,
    },
    generation: Generation::Counts(&["spec"]),
    status: Status::Reported(Metadata::Given),
    resets: Resets::PLAIN,
    gated: &[],
    on_create: None,
    asked_by: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: None,
    validate: Some(validate::kinds::budget),
    validate_change: None,
    validate_sub: None,
    warnings: None,
    columns: &[
        Column("Min Available", false, |value| {
            budget(value, "minAvailable")
        }),
        Column("Max Unavailable", false, |value| {
            budget(value, "maxUnavailable")
        }),
        Column("Allowed Disruptions", false, |value| {
            count(value, &["status", "disruptionsAllowed"])
        }),
        AGE,
    ],
};

/// A number of pods or a percentage.
fn budget(value: &object::Json, field: &str) -> Value {
    match object::at(value, &["spec", field]) {
        Some(Value::String(text)) => text.as_str().into(),
        Some(Value::Number(number)) => number.to_string().into(),
        _ => "N/A".into(),
    }
}
