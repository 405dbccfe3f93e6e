//! The kinds of the group `batch`.

use super::prelude::*;

pub const KINDS: &[&Kind] = &[&CRON_JOB, &JOB];

const CRON_JOB: Kind = Kind {
    group: "batch",
    version: "v1",
    plural: "cronjobs",
    kind: "CronJob",
    namespaced: true,
    place: "cronjobs",
    short: &["cj"],
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
    gated: &[
        Gated {
            below: &["spec", "jobTemplate", "spec", "template", "spec"],
            fields: POD_GATED,
        },
        Gated {
            below: &["spec", "jobTemplate", "spec"],
            fields: &[&["scheduling"]],
        },
    ],
    on_create: None,
    asked_by: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: Some(defaults::cron_job),
    validate: Some(validate::job::cron_job),
    validate_change: None,
    validate_sub: None,
    warnings: Some(warnings::owner),
    columns: rows::CRON_JOBS,
};

const JOB: Kind = Kind {
    group: "batch",
    version: "v1",
    plural: "jobs",
    kind: "Job",
    namespaced: true,
    place: "jobs",
    short: &[],
    categories: ALL,
    deprecated: None,
    subs: STATUS,
    selectable: &[field("status.successful", &["status", "succeeded"], "0")],
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
    gated: &[
        Gated {
            below: &["spec", "template", "spec"],
            fields: POD_GATED,
        },
        Gated {
            below: &["spec"],
            fields: &[&["scheduling"]],
        },
    ],
    on_create: Some(strategy::job_identity),
    asked_by: None,
    on_update: None,
    deletion: Deletion {
        orphans: true,
        warning: Some(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
        ),
        ..DELETED_STATUS
    },
    lifetime: None,
    addresses: false,
    defaults: Some(defaults::job),
    validate: Some(validate::job::job),
    validate_change: Some(validate::job_changes),
    validate_sub: None,
    warnings: Some(warnings::owner),
    columns: rows::JOBS,
};
