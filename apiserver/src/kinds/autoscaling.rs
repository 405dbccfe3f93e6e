//! The kinds of the group `autoscaling`.

use super::prelude::*;

pub const KINDS: &[&Kind] = &[&HORIZONTAL_POD_AUTOSCALER];

const HORIZONTAL_POD_AUTOSCALER: Kind = Kind {
    group: "autoscaling",
    version: "v2",
    plural: "horizontalpodautoscalers",
    kind: "HorizontalPodAutoscaler",
    namespaced: true,
    place: "horizontalpodautoscalers",
    short: &["hpa"],
    categories: ALL,
    deprecated: None,
    subs: STATUS,
    selectable: &[],
    indexed: None,
    also: &[Also {
        group: "autoscaling",
        version: "v1",
        selectable: &[],
        to_stored: versions::autoscaler::to_v2,
        to_served: versions::autoscaler::to_v1,
        validate: None,
        validate_change: None,
    }],
    names: names::SUBDOMAIN_RULE,
    standard_finalizers: true,
    put: Put {
        creates: false,
        unconditional: true,
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
    defaults: Some(defaults::autoscaler),
    validate: Some(validate::autoscaler::autoscaler),
    validate_change: None,
    validate_sub: None,
    warnings: None,
    columns: rows::AUTOSCALERS,
};
