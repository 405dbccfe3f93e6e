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
    also: &[],
    names: names::SUBDOMAIN_RULE,
    standard_finalizers: true,
    put: Put {
        creates: false,
        unconditional: true,
    },
    generation: Generation::Counts(&["spec"]),
    status: Status::Reported(Metadata::Given),
    on_create: None,
    on_update: None,
    deletion: DELETED_STATUS,
    lifetime: None,
    addresses: false,
    defaults: Some(defaults::cron_job),
    validate: Some(validate::workload::cron_job),
    validate_change: None,
    columns: &[
        Column("Schedule", false, |value| {
            text(value, &["spec", "schedule"])
        }),
        Column("Timezone", false, |value| {
            text(value, &["spec", "timeZone"])
        }),
        Column("Suspend", false, |value| text(value, &["spec", "suspend"])),
        Column("Active", false, |value| {
            list(value, &["status", "active"]).len().to_string().into()
        }),
        Column("Last Schedule", false, |value| {
            match object::str_at(value, &["status", "lastScheduleTime"]) {
                "" => "<none>".into(),
                _ => since(value, &["status", "lastScheduleTime"]),
            }
        }),
        AGE,
    ],
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
    also: &[],
    names: names::SUBDOMAIN_RULE,
    standard_finalizers: true,
    put: Put {
        creates: false,
        unconditional: true,
    },
    generation: Generation::Counts(&["spec"]),
    status: Status::Reported(Metadata::Given),
    on_create: Some(strategy::job_identity),
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
    validate: Some(|value, errors| validate::workload::job(value.get("spec"), "spec", errors)),
    validate_change: Some(validate::job_changes),
    columns: &[
        Column("Status", false, job_status),
        Column("Completions", false, |value| {
            let of = object::at(value, &["spec", "completions"])
                .and_then(Value::as_i64)
                .unwrap_or(1);
            format!("{}/{of}", number(value, &["status", "succeeded"])).into()
        }),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
};
