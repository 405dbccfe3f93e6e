//! What jobs and cron jobs must be.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Errors,
    check::{At, label_selector},
    names, network, pod,
    workload::template,
};
use crate::{field::FieldError, object::Json};

/// A job.
pub fn job(value: &Json, errors: &mut Errors) {
    let Some(spec) = value.get("spec") else {
        return;
    };
    let spec = At::new(spec, "spec");
    job_spec(&spec, errors);
    match spec.get("selector") {
        None => {
            errors.push(FieldError::required(spec.child("selector"), ""));
            misfit(&spec, errors);
        }
        Some(selector) => {
            let before = errors.len();
            label_selector(&selector, errors);
            let labels = spec.value.pointer("/template/metadata/labels");
            let wanted = selector.entries("matchLabels");
            let missing = wanted
                .into_iter()
                .any(|(key, wanted)| labels.and_then(|labels| labels.get(key)) != Some(wanted));
            if missing && errors.len() == before {
                misfit(&spec, errors);
            }
        }
    }
}

fn misfit(spec: &At<'_>, errors: &mut Errors) {
    let labels = spec.value.pointer("/template/metadata/labels");
    let shown = labels.cloned().unwrap_or(Value::Null);
    let why = "`selector` does not match template `labels`";
    let path = spec.child("template.metadata.labels");
    errors.push(FieldError::invalid(path, &shown, why));
}

/// A cron job.
pub fn cron_job(value: &Json, errors: &mut Errors) {
    let Some(spec) = value.get("spec") else {
        return;
    };
    let spec = At::new(spec, "spec");
    let mut declared = Errors::new();
    let schedule = spec.text("schedule");
    let words = schedule.split_whitespace().count();
    if schedule.is_empty() {
        declared.push(FieldError::required(spec.child("schedule"), ""));
    } else if !schedule.starts_with('@') && words != 5 {
        let why = format!("expected exactly 5 fields, found {words}: [{schedule}]");
        errors.push(FieldError::invalid(
            spec.child("schedule"),
            &schedule.into(),
            &why,
        ));
    }
    if let Some(zone) = spec.get("timeZone") {
        time_zone(&zone, errors);
    }
    spec.not_negative("startingDeadlineSeconds", errors);
    spec.word("concurrencyPolicy", &["Allow", "Forbid", "Replace"], errors);
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        spec.not_negative(field, errors);
    }
    let template = spec
        .get("jobTemplate")
        .and_then(|template| template.get("spec"));
    if let Some(job) = template {
        job_spec(&job, errors);
        if job.flag("manualSelector") {
            let path = job.child("manualSelector");
            let known = ["nil", "false"];
            errors.push(FieldError::unsupported_value(path, &true.into(), &known));
        }
        if let Some(selector) = job.get("selector") {
            let why = "`selector` will be auto-generated";
            errors.push(FieldError::invalid(selector.path, selector.value, why));
        }
    }
    errors.extend(declared);
}

/// The name of a zone, which is looked for in no data base here: one word of
/// the form of such a name, or some with `/` between.
fn time_zone(at: &At<'_>, errors: &mut Errors) {
    let zone = at.as_text();
    let mut wrong = |why: &str| errors.push(FieldError::invalid(&at.path, at.value, why));
    if zone.is_empty() {
        wrong("timeZone must be nil or non-empty string");
    } else if zone.eq_ignore_ascii_case("local") {
        wrong(
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        );
    } else if !zone.contains('/') && !zone.starts_with(|one: char| one.is_ascii_uppercase())
        || zone.contains(' ')
    {
        wrong(&format!("unknown time zone {zone}"));
    }
}

fn job_spec(at: &At<'_>, errors: &mut Errors) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        at.not_negative(field, errors);
    }
    let per_index = at.get("backoffLimitPerIndex").is_some();
    if at.get("maxFailedIndexes").is_some() && !per_index {
        let why = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(at.child("backoffLimitPerIndex"), why));
    }
    if at.get("managedBy").is_some() {
        let managed = at.text("managedBy");
        network::prefixed_path(&at.child("managedBy"), managed, errors);
        if managed.len() > 63 {
            errors.push(FieldError::too_long(at.child("managedBy"), 63));
        }
    }
    at.one_of("completionMode", &["NonIndexed", "Indexed"], errors);
    let indexed = at.text("completionMode") == "Indexed";
    if indexed {
        self::indexed(at, per_index, errors);
    } else if matches!(at.text("completionMode"), "" | "NonIndexed")
        && at
            .get("completionMode")
            .is_none_or(|one| one.as_text() == "NonIndexed")
    {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(one) = at.get(field) {
                let why = "requires indexed completion mode";
                errors.push(FieldError::invalid(one.path, one.value, why));
            }
        }
    }
    let failure = at.get("podFailurePolicy");
    if let Some(policy) = &failure {
        failure_policy(at, policy, per_index, errors);
    }
    if let Some(policy) = at.get("successPolicy") {
        if indexed {
            success_policy(at, &policy, errors);
        } else {
            let why = "requires indexed completion mode";
            errors.push(FieldError::invalid_shown(
                &policy.path,
                &in_go(policy.value),
                why,
            ));
        }
    }
    let known: &[&str] = if failure.is_some() {
        &["Failed"]
    } else {
        &["Failed", "TerminatingOrFailed"]
    };
    at.one_of("podReplacementPolicy", known, errors);
    template(
        at.value,
        &at.path,
        &["Always", "OnFailure", "Never"],
        errors,
    );
    let path = at.child("template.spec.restartPolicy");
    let restart = at.value.pointer("/template/spec/restartPolicy");
    let restart = restart.and_then(Value::as_str).unwrap_or("");
    match restart {
        "Always" | "" => {
            let why = "valid values: \"OnFailure\", \"Never\"";
            errors.push(FieldError::required(path, why));
        }
        "OnFailure" if failure.is_some() => {
            let why = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(FieldError::invalid(path, &restart.into(), why));
        }
        "OnFailure" | "Never" => {}
        other => errors.push(FieldError::unsupported(
            path,
            other,
            &["OnFailure", "Never"],
        )),
    }
}

/// A policy as Go shows it.
fn in_go(policy: &Value) -> String {
    let Some(rules) = policy.get("rules").and_then(Value::as_array) else {
        return "{\"Rules\":null}".to_owned();
    };
    let rule = |rule: &Value| {
        let of = |field: &str| rule.get(field).cloned().unwrap_or_default();
        format!(
            "{{\"SucceededIndexes\":{},\"SucceededCount\":{}}}",
            of("succeededIndexes"),
            of("succeededCount")
        )
    };
    let rules: Vec<String> = rules.iter().map(rule).collect();
    format!("{{\"Rules\":[{}]}}", rules.join(","))
}

/// What a job that counts indices must be besides.
fn indexed(at: &At<'_>, per_index: bool, errors: &mut Errors) {
    const PODS_MAX: i64 = 100_000;
    const MANY: i64 = 100_000;
    const FEWER: i64 = 10_000;
    let completions = at.number("completions");
    if completions.is_none() {
        let why = "when completion mode is Indexed";
        errors.push(FieldError::required(at.child("completions"), why));
    }
    let why = format!("must be less than or equal to {PODS_MAX} when completion mode is Indexed");
    at.within("parallelism", i64::MIN, PODS_MAX, &why, errors);
    if let Some(completions) = completions {
        let why = "must be less than or equal to completions";
        at.within("maxFailedIndexes", i64::MIN, completions, why, errors);
    }
    let why = format!("must be less than or equal to {PODS_MAX}");
    at.within("maxFailedIndexes", i64::MIN, PODS_MAX, &why, errors);
    if completions.is_some_and(|number| number > MANY) && per_index {
        if at.get("maxFailedIndexes").is_none() {
            let why = format!("must be specified when completions is above {MANY}");
            errors.push(FieldError::required(at.child("maxFailedIndexes"), &why));
        }
        let why = format!(
            "must be less than or equal to {FEWER} when completions are above {MANY} and used with backoff limit per index"
        );
        for field in ["parallelism", "maxFailedIndexes"] {
            at.within(field, i64::MIN, FEWER, &why, errors);
        }
    }
}

const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];

fn failure_policy(job: &At<'_>, policy: &At<'_>, per_index: bool, errors: &mut Errors) {
    let rules = policy.items("rules");
    if rules.len() > 20 {
        errors.push(FieldError::too_many(policy.child("rules"), rules.len(), 20));
    }
    let pods = job.value.pointer("/template/spec").unwrap_or(&Value::Null);
    let containers = ["containers", "initContainers"].map(|list| pod::list(pods, list));
    let containers = containers.iter().flat_map(|list| list.iter());
    let containers: BTreeSet<&str> = containers.map(|one| pod::text(one, "name")).collect();
    for rule in rules {
        match rule.text("action") {
            "" => {
                let why = "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]";
                errors.push(FieldError::required(rule.child("action"), why));
            }
            "FailIndex" if !per_index => {
                let why = "requires the backoffLimitPerIndex to be set";
                errors.push(FieldError::invalid(
                    rule.child("action"),
                    &"FailIndex".into(),
                    why,
                ));
            }
            _ => rule.one_of("action", &ACTIONS, errors),
        }
        let (codes, conditions) = (rule.get("onExitCodes"), rule.items("onPodConditions"));
        if let Some(codes) = &codes {
            exit_codes(codes, &containers, errors);
        }
        if conditions.len() > 20 {
            let path = rule.child("onPodConditions");
            errors.push(FieldError::too_many(path, conditions.len(), 20));
        }
        for one in &conditions {
            one.named("type", names::qualified, errors);
            let known = ["False", "True", "Unknown"];
            one.one_of("status", &known, errors);
        }
        let why = match (codes.is_some(), conditions.is_empty()) {
            (true, false) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, true) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        errors.push(FieldError::invalid_unseen(&rule.path, why));
    }
}

fn exit_codes(at: &At<'_>, containers: &BTreeSet<&str>, errors: &mut Errors) {
    if at.text("operator").is_empty() {
        let why = "valid values: [\"In\" \"NotIn\"]";
        errors.push(FieldError::required(at.child("operator"), why));
    } else {
        at.one_of("operator", &["In", "NotIn"], errors);
    }
    if let Some(name) = at.get("containerName")
        && !containers.contains(name.as_text())
    {
        let why = "must be one of the container or initContainer names in the pod template";
        errors.push(FieldError::invalid(name.path, name.value, why));
    }
    let codes = at.items("values");
    let shown = at.value.get("values").unwrap_or(&Value::Null);
    if codes.is_empty() {
        let why = "at least one value is required";
        errors.push(FieldError::invalid(at.child("values"), shown, why));
    } else if codes.len() > 255 {
        errors.push(FieldError::too_many(at.child("values"), codes.len(), 255));
    }
    let mut seen = BTreeSet::new();
    let (mut last, mut ordered) = (i64::MIN, true);
    for one in &codes {
        let code = one.value.as_i64().unwrap_or(0);
        if at.text("operator") == "In" && code == 0 {
            let why = "must not be 0 for the In operator";
            errors.push(FieldError::invalid(&one.path, one.value, why));
        }
        if !seen.insert(code) {
            errors.push(FieldError::duplicate(&one.path, one.value));
        }
        ordered &= last <= code;
        last = code;
    }
    if !ordered {
        errors.push(FieldError::invalid(
            at.child("values"),
            shown,
            "must be ordered",
        ));
    }
}

fn success_policy(job: &At<'_>, policy: &At<'_>, errors: &mut Errors) {
    let rules = policy.items("rules");
    let path = policy.child("rules");
    if rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(&path, why));
    }
    if rules.len() > 20 {
        errors.push(FieldError::too_many(&path, rules.len(), 20));
    }
    let most = job.number("completions").unwrap_or(0);
    for rule in rules {
        let fields = ["succeededCount", "succeededIndexes"];
        if fields.iter().all(|field| rule.get(field).is_none()) {
            let why = "at least one of succeededCount or succeededIndexes must be specified";
            errors.push(FieldError::required(&rule.path, why));
        }
        rule.not_negative("succeededCount", errors);
        let why =
            format!("must be less than or equal to {most} (the number of specified completions)");
        rule.within("succeededCount", i64::MIN, most, &why, errors);
    }
}
