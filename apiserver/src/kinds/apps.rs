//! The kinds of the group `apps`.

use super::prelude::*;

pub const KINDS: &[&Kind] = &[
    &CONTROLLER_REVISION,
    &DAEMON_SET,
    &DEPLOYMENT,
    &REPLICA_SET,
    &STATEFUL_SET,
];

const CONTROLLER_REVISION: Kind = Kind {
    group: "apps",
    version: "v1",
    plural: "controllerrevisions",
    kind: "ControllerRevision",
    namespaced: true,
    place: "controllerrevisions",
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
    validate: Some(validate::revision),
    validate_change: Some(validate::revision_kept),
    validate_sub: None,
    warnings: None,
    columns: rows::REVISIONS,
};

const DAEMON_SET: Kind = Kind {
    group: "apps",
    version: "v1",
    plural: "daemonsets",
    kind: "DaemonSet",
    namespaced: true,
    place: "daemonsets",
    short: &["ds"],
    categories: ALL,
    deprecated: None,
    subs: STATUS,
    selectable: &[],
    indexed: None,
    also: &[],
    names: names::SUBDOMAIN_RULE,
    standard_finalizers: true,
    put: Put {
        creates: false,
        unconditional: true,
    },
    generation: Generation::Counts(&["spec"]),
    status: Status::Reported(Metadata::Given),
    resets: Resets::PLAIN,
    gated: &[Gated {
        below: &["spec", "template", "spec"],
        fields: POD_GATED,
    }],
    on_create: Some(strategy::new_daemon_set),
    asked_by: None,
    on_update: Some(strategy::daemon_set_template),
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: Some(defaults::daemon_set),
    validate: Some(validate::workload::daemon_set),
    validate_change: Some(validate::workload::selector_kept),
    validate_sub: None,
    warnings: Some(warnings::template_owner),
    columns: &[
        Column("Desired", false, |value| {
            count(value, &["status", "desiredNumberScheduled"])
        }),
        Column("Current", false, |value| {
            count(value, &["status", "currentNumberScheduled"])
        }),
        Column("Ready", false, |value| {
            count(value, &["status", "numberReady"])
        }),
        Column("Up-to-date", false, |value| {
            count(value, &["status", "updatedNumberScheduled"])
        }),
        Column("Available", false, |value| {
            count(value, &["status", "numberAvailable"])
        }),
        rows::NODE_SELECTOR,
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
};

const DEPLOYMENT: Kind = Kind {
    group: "apps",
    version: "v1",
    plural: "deployments",
    kind: "Deployment",
    namespaced: true,
    place: "deployments",
    short: &["deploy"],
    categories: ALL,
    deprecated: None,
    subs: SCALED,
    selectable: &[],
    indexed: None,
    also: &[],
    names: names::SUBDOMAIN_RULE,
    standard_finalizers: true,
    put: Put {
        creates: false,
        unconditional: true,
    },
    generation: Generation::CountsWith(&["spec"], "annotations"),
    status: Status::Reported(Metadata::Except(&["labels"])),
    resets: Resets {
        object: &[&["status"]],
        status: &[&["spec"], &["metadata", "labels"]],
    },
    gated: &[Gated {
        below: &["spec", "template", "spec"],
        fields: POD_GATED,
    }],
    on_create: None,
    asked_by: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: Some(defaults::deployment),
    validate: Some(validate::workload::deployment),
    validate_change: Some(|value, current, errors| {
        validate::fixed(&[&["spec", "selector"]], value, current, errors)
    }),
    validate_sub: None,
    warnings: Some(warnings::owner),
    columns: &[
        Column("Ready", false, |value| ready_of(value, "readyReplicas")),
        Column("Up-to-date", false, |value| {
            rows::told(value, &["status", "updatedReplicas"])
        }),
        Column("Available", false, |value| {
            rows::told(value, &["status", "availableReplicas"])
        }),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
};

const REPLICA_SET: Kind = Kind {
    group: "apps",
    version: "v1",
    plural: "replicasets",
    kind: "ReplicaSet",
    namespaced: true,
    place: "replicasets",
    short: &["rs"],
    categories: ALL,
    deprecated: None,
    subs: SCALED,
    selectable: &[],
    indexed: None,
    also: &[],
    names: names::SUBDOMAIN_RULE,
    standard_finalizers: true,
    put: Put {
        creates: false,
        unconditional: true,
    },
    generation: Generation::Counts(&["spec"]),
    status: Status::Reported(Metadata::Given),
    resets: Resets::PLAIN,
    gated: &[Gated {
        below: &["spec", "template", "spec"],
        fields: POD_GATED,
    }],
    on_create: None,
    asked_by: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: Some(defaults::replica_set),
    validate: Some(validate::workload::replica_set),
    validate_change: Some(|value, current, errors| {
        validate::fixed(&[&["spec", "selector"]], value, current, errors)
    }),
    validate_sub: None,
    warnings: Some(warnings::owner),
    columns: &[
        Column("Desired", false, |value| {
            count(value, &["spec", "replicas"])
        }),
        Column("Current", false, |value| {
            count(value, &["status", "replicas"])
        }),
        Column("Ready", false, |value| {
            count(value, &["status", "readyReplicas"])
        }),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
};

const STATEFUL_SET: Kind = Kind {
    group: "apps",
    version: "v1",
    plural: "statefulsets",
    kind: "StatefulSet",
    namespaced: true,
    place: "statefulsets",
    short: &["sts"],
    categories: ALL,
    deprecated: None,
    subs: SCALED,
    selectable: &[],
    indexed: None,
    also: &[],
    names: names::LABEL_RULE,
    standard_finalizers: true,
    put: Put {
        creates: false,
        unconditional: true,
    },
    generation: Generation::Counts(&["spec"]),
    status: Status::Reported(Metadata::Given),
    resets: Resets::PLAIN,
    gated: &[Gated {
        below: &["spec", "template", "spec"],
        fields: POD_GATED,
    }],
    on_create: None,
    asked_by: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: Some(defaults::stateful_set),
    validate: Some(validate::workload::stateful_set),
    validate_change: Some(|value, current, errors| {
        validate::fixed(
            &[
                &["spec", "selector"],
                &["spec", "serviceName"],
                &["spec", "podManagementPolicy"],
                &["spec", "volumeClaimTemplates"],
            ],
            value,
            current,
            errors,
        )
    }),
    validate_sub: None,
    warnings: Some(warnings::stateful_set),
    columns: &[
        Column("Ready", false, |value| ready_of(value, "readyReplicas")),
        AGE,
        CONTAINERS,
        IMAGES,
    ],
};
