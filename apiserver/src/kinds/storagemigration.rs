//! The kinds of the group `storagemigration.k8s.io`.

use super::prelude::*;

pub const KINDS: &[&Kind] = &[&STORAGE_VERSION_MIGRATION];

const STORAGE_VERSION_MIGRATION: Kind = Kind {
    group: "storagemigration.k8s.io",
    version: "v1",
    plural: "storageversionmigrations",
    kind: "StorageVersionMigration",
    namespaced: false,
    place: "storageversionmigrations",
    short: &[],
    categories: &[],
    deprecated: None,
    subs: STATUS,
    selectable: &[],
    indexed: None,
    also: &[],
    names: names::SUBDOMAIN_RULE,
    standard_finalizers: true,
    put: Put {
        creates: false,
        unconditional: false,
    },
    generation: Generation::NONE,
    status: Status::Reported(Metadata::KEPT),
    resets: Resets::METADATA,
    gated: &[],
    on_create: None,
    asked_by: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: None,
    validate: Some(validate::storage::migration),
    validate_change: Some(validate::storage::migration_kept),
    validate_sub: None,
    warnings: None,
    columns: rows::MIGRATIONS,
};
