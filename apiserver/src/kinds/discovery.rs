//! The kinds of the group `discovery.k8s.io`.

use super::prelude::*;

pub const KINDS: &[&Kind] = &[&ENDPOINT_SLICE];

const ENDPOINT_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    version: "v1",
    plural: "endpointslices",
    kind: "EndpointSlice",
    namespaced: true,
    place: "endpointslices",
    short: &[],
    categories: &[],
    deprecated: None,
    subs: &[],
    selectable: &[],
    also: &[],
    names: names::SUBDOMAIN_RULE,
    standard_finalizers: true,
    put: Put {
        creates: false,
        unconditional: true,
    },
    generation: Generation::CountsWith(&["addressType", "endpoints", "ports"], "labels"),
    status: Status::NONE,
    on_create: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: Some(defaults::endpoint_slice),
    validate: None,
    validate_change: None,
    columns: columns::ENDPOINT_SLICES,
};
