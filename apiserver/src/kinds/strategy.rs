//! What the server makes of objects of single kinds when they are created,
//! changed and deleted: the functions that registrations name.
//!
//! Sources: upstream's `pkg/registry/GROUP/KIND/strategy.go` and
//! `pkg/apis/core/v1/helper/qos`.

use serde_json::{Value, json};

use crate::{
    codec,
    kind::Requester,
    object::{self, Json},
};

fn status(value: &mut Json) -> Option<&mut Json> {
    let status = value.entry("status").or_insert(Value::Null);
    if status.is_null() {
        *status = json!({});
    }
    status.as_object_mut()
}

fn phase(value: &mut Json, phase: &str) {
    if let Some(status) = status(value) {
        status.insert("phase".to_owned(), phase.into());
    }
}

/// A new pod waits, and its quality of service is known for good.
pub fn new_pod(value: &mut Json) {
    phase(value, "Pending");
    let class = quality_of_service(value);
    let gates = object::at(value, &["spec", "schedulingGates"]).and_then(Value::as_array);
    let gated = gates.is_some_and(|gates| !gates.is_empty());
    if let Some(status) = status(value) {
        status.insert("qosClass".to_owned(), class.into());
        if gated {
            let condition = json!({
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": null, "lastTransitionTime": object::now(),
            });
            status.insert("conditions".to_owned(), json!([condition]));
        }
    }
}

/// A new namespace takes objects, is known by a label of its own name, and is
/// held until its content is gone.
pub fn new_namespace(value: &mut Json) {
    phase(value, "Active");
    let spec = value.entry("spec").or_insert(Value::Null);
    if spec.is_null() {
        *spec = json!({});
    }
    if let Some(spec) = spec.as_object_mut() {
        let list = spec.get("finalizers").and_then(Value::as_array);
        let mut list = list.cloned().unwrap_or_default();
        if !list.iter().any(|one| one == "kubernetes") {
            list.push("kubernetes".into());
        }
        spec.insert("finalizers".to_owned(), list.into());
    }
    let name = object::meta_str(value, "name").to_owned();
    let labels = object::meta(value).and_then(|meta| meta.get("labels"));
    let mut labels = labels
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
    object::set_meta(value, "labels", Some(labels.into()));
}

/// A new claim of a volume waits for one. What it comes from is told in two
/// fields, which say the same.
pub fn new_claim(value: &mut Json) {
    phase(value, "Pending");
    let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let elsewhere = |source: &Value| source.get("namespace").is_some_and(|one| one != "");
    if spec.get("dataSourceRef").is_some_and(elsewhere) {
        spec.remove("dataSourceRef");
    }
    let known = |source: &Value| {
        let text = |field: &str| source.get(field).and_then(Value::as_str).unwrap_or("");
        matches!(
            (text("apiGroup"), text("kind")),
            ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
        )
    };
    let given = |field: &str| spec.get(field).filter(|one| !one.is_null()).cloned();
    let source = given("dataSource").filter(known);
    let referred = given("dataSourceRef");
    for (field, one) in [
        ("dataSource", source.clone().or_else(|| referred.clone())),
        ("dataSourceRef", referred.or(source)),
    ] {
        match one {
            Some(one) => spec.insert(field.to_owned(), one),
            None => spec.remove(field),
        };
    }
}

/// A new volume waits for its claim, from now on.
pub fn new_volume(value: &mut Json) {
    phase(value, "Pending");
    if let Some(status) = status(value) {
        status.insert("lastPhaseTransitionTime".to_owned(), object::now());
    }
}

/// A request for a certificate says who asks for it.
pub fn signing_asked_by(value: &mut Json, who: &Requester<'_>) {
    let spec = value.entry("spec").or_insert(Value::Null);
    if spec.is_null() {
        *spec = json!({});
    }
    let Some(spec) = spec.as_object_mut() else {
        return;
    };
    for (field, given) in [
        ("username", json!(who.user)),
        ("uid", json!(who.uid)),
        ("groups", json!(who.groups)),
        ("extra", json!(who.extra)),
    ] {
        let none = given.as_str().is_some_and(str::is_empty)
            || given.as_array().is_some_and(Vec::is_empty)
            || given.as_object().is_some_and(Json::is_empty);
        if none {
            spec.remove(field);
        } else {
            spec.insert(field.to_owned(), given);
        }
    }
}

/// An object without a name gets one.
pub fn named(value: &mut Json) {
    if object::meta_str(value, "name").is_empty() {
        object::set_meta(value, "name", Some(object::uid().into()));
    }
}

/// The specification is not an update's to change.
pub fn keep_spec(wanted: &mut Json, current: &Json) {
    match current.get("spec") {
        Some(spec) => wanted.insert("spec".to_owned(), spec.clone()),
        None => wanted.remove("spec"),
    };
}

/// Whether a namespace still has finalizers of its specification.
pub fn spec_finalizers(value: &Json) -> bool {
    object::at(value, &["spec", "finalizers"])
        .and_then(Value::as_array)
        .is_some_and(|list| !list.is_empty())
}

/// A namespace that is to go takes no more objects.
pub fn terminating(value: &mut Json) {
    phase(value, "Terminating");
    // Nobody waits for it by the clock.
    object::set_meta(value, "deletionGracePeriodSeconds", None);
}

/// Seconds until a pod may go: whoever runs it ends it and then deletes it
/// without any.
pub fn pod_grace(current: &Json, asked: Option<i64>) -> i64 {
    let phase = object::str_at(current, &["status", "phase"]);
    let unscheduled = object::str_at(current, &["spec", "nodeName"]).is_empty();
    if unscheduled || phase == "Failed" || phase == "Succeeded" {
        return 0;
    }
    let own =
        || object::at(current, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64);
    match asked.or_else(own).unwrap_or(0) {
        seconds if seconds < 0 => 1,
        seconds => seconds,
    }
}

/// `Guaranteed` when every container has limits of CPU and memory that equal
/// its requests, `BestEffort` when none has either, else `Burstable`.
fn quality_of_service(pod: &Json) -> &'static str {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let given = |resources: &Value| {
        ["requests", "limits"].iter().any(|list| {
            let list = resources.get(*list).and_then(Value::as_object);
            list.is_some_and(|list| list.keys().any(|name| name == "cpu" || name == "memory"))
        })
    };
    if let Some(resources) = spec.get("resources").filter(|resources| given(resources)) {
        return of_resources(resources);
    }
    let mut found = None;
    for list in ["initContainers", "containers"] {
        let containers = spec.get(list).and_then(Value::as_array);
        for container in containers.into_iter().flatten() {
            let class = of_resources(container.get("resources").unwrap_or(&Value::Null));
            if class == BURSTABLE || found.is_some_and(|found| found != class) {
                return BURSTABLE;
            }
            found = Some(class);
        }
    }
    found.unwrap_or(BEST_EFFORT)
}

const BURSTABLE: &str = "Burstable";
const BEST_EFFORT: &str = "BestEffort";
const GUARANTEED: &str = "Guaranteed";

fn of_resources(resources: &Value) -> &'static str {
    let amount = |list: &str, name: &str| {
        let list = resources.get(list).and_then(Value::as_object);
        list.and_then(|list| list.get(name))
            .and_then(Value::as_str)
            .unwrap_or("0")
            .to_owned()
    };
    let class = |name: &str| {
        let (request, limit) = (amount("requests", name), amount("limits", name));
        let same = |one: &str, other: &str| {
            codec::compare_quantities(one, other) == Some(std::cmp::Ordering::Equal)
        };
        match (same(&request, &limit), same(&request, "0")) {
            (false, _) => BURSTABLE,
            (true, true) => BEST_EFFORT,
            (true, false) => GUARANTEED,
        }
    };
    let (cpu, memory) = (class("cpu"), class("memory"));
    if cpu == memory { cpu } else { BURSTABLE }
}

/// The annotation in which a daemon set's template is counted.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn count_template(value: &mut Json, generation: i64) {
    let annotations = object::meta(value).and_then(|meta| meta.get("annotations"));
    let annotations = annotations.and_then(Value::as_object).cloned();
    let mut annotations = annotations.unwrap_or_default();
    let generation = generation.to_string().into();
    annotations.insert(TEMPLATE_GENERATION.to_owned(), generation);
    object::set_meta(value, "annotations", Some(annotations.into()));
}

/// A new daemon set's template is the first.
pub fn new_daemon_set(value: &mut Json) {
    count_template(value, 1);
}

/// Another template is another generation of it, whatever an update says.
pub fn daemon_set_template(wanted: &mut Json, current: &Json) {
    let before = object::str_at(current, &["metadata", "annotations", TEMPLATE_GENERATION]);
    let template = |value: &Json| object::at(value, &["spec", "template"]).cloned();
    let changed = i64::from(template(wanted) != template(current));
    let before: i64 = before.parse().unwrap_or(0);
    count_template(wanted, before.saturating_add(changed));
}

/// A taint of another effect is a newer one, unless the update says when it began.
pub fn taint_time(wanted: &mut Json, current: &Json) {
    let differs = |path: &[&str]| object::at(wanted, path) != object::at(current, path);
    if differs(&["spec", "taint", "effect"]) && !differs(&["spec", "taint", "timeAdded"]) {
        wanted["spec"]["taint"]["timeAdded"] = object::now();
    }
}

/// A job's pods carry its identity, and it selects them by that.
pub fn job_identity(value: &mut Json) {
    if object::at(value, &["spec", "manualSelector"])
        .is_some_and(|manual| manual == &Value::Bool(true))
    {
        return;
    }
    let uid = object::meta_str(value, "uid").to_owned();
    let name = object::meta_str(value, "name").to_owned();
    let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let template = spec
        .entry("template")
        .or_insert_with(|| Value::Object(Json::new()));
    let Some(meta) = template.as_object_mut().map(|map| {
        map.entry("metadata")
            .or_insert_with(|| Value::Object(Json::new()))
    }) else {
        return;
    };
    let Some(labels) = meta.as_object_mut().map(|map| {
        map.entry("labels")
            .or_insert_with(|| Value::Object(Json::new()))
    }) else {
        return;
    };
    for (key, text) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ] {
        labels[key] = text.as_str().into();
    }
    let selector = spec.entry("selector").or_insert(Value::Null);
    if selector.is_null() {
        *selector = json!({});
    }
    if selector.is_object() {
        selector["matchLabels"]["batch.kubernetes.io/controller-uid"] = uid.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_namespace_is_held() {
        for (given, expected) in [
            (json!({}), json!(["kubernetes"])),
            (json!({"finalizers": ["a/b"]}), json!(["a/b", "kubernetes"])),
            (json!({"finalizers": ["kubernetes"]}), json!(["kubernetes"])),
        ] {
            let mut namespace = Json::new();
            namespace.insert("metadata".to_owned(), json!({"name": "n"}));
            namespace.insert("spec".to_owned(), given);
            new_namespace(&mut namespace);
            assert_eq!(namespace["spec"]["finalizers"], expected);
            assert!(spec_finalizers(&namespace));
            assert_eq!(namespace["status"]["phase"], "Active");
        }
    }

    #[test]
    fn the_quality_of_service_follows_from_requests_and_limits() {
        let both = |amount: &str| json!({"cpu": amount, "memory": amount});
        for (containers, expected) in [
            (json!([{}]), BEST_EFFORT),
            (
                json!([{"resources": {"requests": {"cpu": "1"}}}]),
                BURSTABLE,
            ),
            (
                json!([{"resources": {"requests": both("1"), "limits": both("1000m")}}]),
                GUARANTEED,
            ),
            (
                json!([{"resources": {"requests": both("1"), "limits": both("2")}}]),
                BURSTABLE,
            ),
            (
                json!([{"resources": {"requests": both("1"), "limits": both("1")}}, {}]),
                BURSTABLE,
            ),
            (
                json!([{"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}}]),
                BURSTABLE,
            ),
            (
                json!([{"resources": {"requests": {"example.com/x": "1"}}}]),
                BEST_EFFORT,
            ),
        ] {
            let mut pod = Json::new();
            pod.insert("spec".to_owned(), json!({"containers": containers}));
            new_pod(&mut pod);
            assert_eq!(
                pod["status"],
                json!({"phase": "Pending", "qosClass": expected}),
                "{containers}"
            );
        }
    }
}
