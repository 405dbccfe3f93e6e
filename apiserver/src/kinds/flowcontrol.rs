//! The kinds of the group `flowcontrol.apiserver.k8s.io`.

use super::prelude::*;

pub const KINDS: &[&Kind] = &[&FLOW_SCHEMA, &PRIORITY_LEVEL_CONFIGURATION];

const FLOW_SCHEMA: Kind = Kind {
    group: "flowcontrol.apiserver.k8s.io",
    version: "v1",
    plural: "flowschemas",
    kind: "FlowSchema",
    namespaced: false,
    place: "flowschemas",
    short: &[],
    categories: &[],
    deprecated: None,
    subs: STATUS,
    selectable: &[],
    also: &[],
    names: names::PATH_SEGMENT_RULE,
    standard_finalizers: true,
    put: Put {
        creates: false,
        unconditional: true,
    },
    generation: Generation::Counts(&["spec"]),
    status: Status::Reported(Metadata::KEPT),
    on_create: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: Some(defaults::flow::schema),
    validate: None,
    validate_change: None,
    columns: columns::FLOW_SCHEMAS,
};

const PRIORITY_LEVEL_CONFIGURATION: Kind = Kind {
    group: "flowcontrol.apiserver.k8s.io",
    version: "v1",
    plural: "prioritylevelconfigurations",
    kind: "PriorityLevelConfiguration",
    namespaced: false,
    place: "prioritylevelconfigurations",
    short: &[],
    categories: &[],
    deprecated: None,
    subs: STATUS,
    selectable: &[],
    also: &[],
    names: names::PATH_SEGMENT_RULE,
    standard_finalizers: true,
    put: Put {
        creates: false,
        unconditional: true,
    },
    generation: Generation::Counts(&["spec"]),
    status: Status::Reported(Metadata::KEPT),
    on_create: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: Some(defaults::flow::level),
    validate: None,
    validate_change: None,
    columns: &[AGE],
};
