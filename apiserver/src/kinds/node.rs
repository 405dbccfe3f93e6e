//! The kinds of the group `node.k8s.io`.

use super::prelude::*;

pub const KINDS: &[&Kind] = &[&RUNTIME_CLASS];

const RUNTIME_CLASS: Kind = Kind {
    group: "node.k8s.io",
    version: "v1",
    plural: "runtimeclasses",
    kind: "RuntimeClass",
    namespaced: false,
    place: "runtimeclasses",
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
    gated: &[],
    on_create: None,
    asked_by: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: None,
    validate: Some(validate::storage::runtime),
    validate_change: Some(validate::handler_kept),
    validate_sub: None,
    warnings: None,
    columns: columns::RUNTIME_CLASSES,
};
