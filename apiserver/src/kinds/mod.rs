//! What is particular to each built-in kind: one registration per kind, in the
//! file of its group, of one shape. A registration says everything, also what
//! the kind does not have: nothing falls through to another kind's behaviour.
//!
//! Knows kinds, their fields and the functions that work on them. Must not
//! know requests, HTTP or the store.
//!
//! To add a kind: one `Kind` in the file of its group, listed in that file's
//! `KINDS`; a group of its own is one more line of `GROUPS`. The source of each
//! member is upstream's `pkg/registry/GROUP/KIND` (strategy and storage).

mod admissionregistration;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod columns;
mod coordination;
mod core;
mod discovery;
mod flowcontrol;
mod networking;
mod node;
mod policy;
mod rbac;
mod resource;
mod rows;
mod scheduling;
mod storage;
mod storagemigration;
pub mod strategy;
mod warnings;

use crate::{
    catalog::Catalog,
    kind::{Deletion, Kind, Selectable},
};

/// The kinds of each group, the groups in alphabetical order.
pub const GROUPS: &[&[&Kind]] = &[
    core::KINDS,
    admissionregistration::KINDS,
    apps::KINDS,
    autoscaling::KINDS,
    batch::KINDS,
    certificates::KINDS,
    coordination::KINDS,
    discovery::KINDS,
    flowcontrol::KINDS,
    networking::KINDS,
    node::KINDS,
    policy::KINDS,
    rbac::KINDS,
    resource::KINDS,
    scheduling::KINDS,
    storage::KINDS,
    storagemigration::KINDS,
];

/// Every kind.
pub fn all() -> impl Iterator<Item = &'static Kind> {
    GROUPS.iter().flat_map(|group| group.iter().copied())
}

/// The catalog of the built-in kinds.
pub fn built_in() -> Catalog {
    Catalog::built_in(all())
}

const fn field(
    name: &'static str,
    path: &'static [&'static str],
    absent: &'static str,
) -> Selectable {
    Selectable { name, path, absent }
}

/// At once, and a `Status` is the answer.
const DELETED_STATUS: Deletion = Deletion {
    grace: None,
    orphans: false,
    uncollected: false,
    early: false,
    object: false,
    held: None,
    mark: None,
    immortal: (&[], ""),
    warning: None,
};
/// At once, and the object is the answer.
const DELETED_OBJECT: Deletion = Deletion {
    object: true,
    ..DELETED_STATUS
};

/// Upstream's time to live of events, in seconds, with a minute for the clock.
const EVENT_LIFETIME: i64 = 3_660;

/// What the files of the groups need.
mod prelude {
    pub(super) use super::{
        DELETED_OBJECT, DELETED_STATUS, EVENT_LIFETIME, columns, field, rows, strategy, warnings,
    };
    pub(super) use crate::{
        defaults,
        kind::{
            Also, Column, Deletion, Gated, Generation, Kind, Metadata, Put, Resets, Selectable,
            Status, Sub,
        },
        object, service,
        table::{self, *},
        validate::{self, names},
        versions,
    };
    pub(super) use serde_json::Value;

    /// Of pods and their templates.
    pub(super) const POD_GATED: &[&[&str]] = &[
        &["evictionResponders"],
        &["schedulingGroup"],
        &["volumes[]", "emptyDir", "mode"],
        &["containers[]", "lifecycle?", "stopSignal"],
        &["initContainers[]", "lifecycle?", "stopSignal"],
        &["ephemeralContainers[]", "lifecycle?", "stopSignal"],
    ];
    /// Of requests for devices.
    pub(super) const DERIVED: &[&[&str]] = &[
        &["exactly", "derivedAttributes"],
        &["firstAvailable[]", "derivedAttributes"],
    ];

    pub(super) const ALL: &[&str] = &["all"];
    pub(super) const STATUS: &[Sub] = &[Sub::Status];
    pub(super) const SCALED: &[Sub] = &[Sub::Status, Sub::Scale];
}

#[cfg(test)]
mod tests;
