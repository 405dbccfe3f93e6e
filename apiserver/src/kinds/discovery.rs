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
    indexed: None,
    also: &[],
    names: names::SUBDOMAIN_RULE,
    standard_finalizers: true,
    put: Put {
        creates: false,
        unconditional: true,
    },
    generation: Generation::CountsWith(&["addressType", "endpoints", "ports"], "labels"),
    status: Status::NONE,
    resets: Resets::NONE,
    gated: &[Gated {
        below: &["endpoints[]"],
        fields: &[&["deprecatedTopology"]],
    }],
    on_create: None,
    asked_by: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: Some(defaults::endpoint_slice),
    validate: Some(validate::network::endpoint_slice),
    validate_change: Some(validate::address_type_kept),
    validate_sub: None,
    warnings: Some(warnings::slice),
    columns: columns::ENDPOINT_SLICES,
};
