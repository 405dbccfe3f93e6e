//! Horizontal pod autoscalers: `autoscaling/v1` tells of one metric, the
//! processor's use. What else `autoscaling/v2` has travels in annotations, in
//! the form that upstream gives it there.

use serde_json::{Map, Value, json};

use crate::object::Json;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const PERCENTAGE: &str = "targetCPUUtilizationPercentage";
const CURRENT_PERCENTAGE: &str = "currentCPUUtilizationPercentage";

/// Sources of metrics: the name of their type, of their field, and where their
/// fields go: in `v2` (a path of names), in the annotation. A `$` stands for
/// `target` or `current`.
type Source = (
    &'static str,
    &'static str,
    &'static [(&'static [&'static str], &'static str)],
);

const SOURCES: &[Source] = &[
    (
        "Resource",
        "resource",
        &[
            (&["name"], "name"),
            (&["$", "averageUtilization"], "$AverageUtilization"),
            (&["$", "averageValue"], "$AverageValue"),
        ],
    ),
    (
        "ContainerResource",
        "containerResource",
        &[
            (&["name"], "name"),
            (&["container"], "container"),
            (&["$", "averageUtilization"], "$AverageUtilization"),
            (&["$", "averageValue"], "$AverageValue"),
        ],
    ),
    (
        "Pods",
        "pods",
        &[
            (&["metric", "name"], "metricName"),
            (&["metric", "selector"], "selector"),
            (&["$", "averageValue"], "$AverageValue"),
        ],
    ),
    (
        "Object",
        "object",
        &[
            (&["describedObject"], "target"),
            (&["metric", "name"], "metricName"),
            (&["metric", "selector"], "selector"),
            (&["$", "value"], "$Value"),
            (&["$", "averageValue"], "averageValue"),
        ],
    ),
    (
        "External",
        "external",
        &[
            (&["metric", "name"], "metricName"),
            (&["metric", "selector"], "metricSelector"),
            (&["$", "value"], "$Value"),
            (&["$", "averageValue"], "$AverageValue"),
        ],
    ),
];

fn is_processor(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

/// A metric as the annotation has it; `which` is `target` or `current`.
fn to_old(metric: &Value, which: &str) -> Value {
    let mut old = json!({"type": metric["type"]});
    for (_, field, places) in SOURCES {
        let Some(source) = metric.get(field).filter(|source| source.is_object()) else {
            continue;
        };
        let mut into = Map::new();
        for (path, name) in *places {
            let found = path.iter().try_fold(source, |value, step| {
                value.get(if *step == "$" { which } else { step })
            });
            if let Some(found) = found.filter(|found| !found.is_null()) {
                into.insert(name.replace('$', which), found.clone());
            }
        }
        old[*field] = into.into();
    }
    old
}

/// The metric of an annotation's one; nothing when it is of no known type.
fn to_new(old: &Value, which: &str) -> Option<Value> {
    let (kind, field, places) = SOURCES.iter().find(|(kind, ..)| old["type"] == *kind)?;
    let source = old.get(field)?.as_object()?;
    let mut into = json!({});
    for (path, name) in *places {
        let Some(found) = source.get(&name.replace('$', which)) else {
            continue;
        };
        let place = path.iter().fold(&mut into, |value, step| {
            &mut value[if *step == "$" { which } else { step }]
        });
        *place = found.clone();
    }
    if which == "target" {
        let target = &into["target"];
        let kind = ["averageUtilization", "averageValue"]
            .into_iter()
            .find(|name| target.get(name).is_some());
        into["target"]["type"] = match kind {
            Some("averageUtilization") => "Utilization",
            Some(_) => "AverageValue",
            None => "Value",
        }
        .into();
    }
    Some(json!({"type": kind, *field: into}))
}

fn part<'a>(value: &'a mut Json, name: &str) -> Option<&'a mut Json> {
    value.get_mut(name).and_then(Value::as_object_mut)
}

fn list(part: &mut Json, name: &str) -> Vec<Value> {
    match part.remove(name) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

/// From `v2` to `v1`.
pub fn to_v1(value: &mut Json) {
    let mut notes: Vec<(&str, Value)> = Vec::new();
    if let Some(spec) = part(value, "spec") {
        let (mut percentage, mut others) = (None, Vec::new());
        for metric in list(spec, "metrics") {
            let use_of_processor = metric["resource"]["target"]
                .get("averageUtilization")
                .cloned();
            match use_of_processor.filter(|found| !found.is_null() && is_processor(&metric)) {
                Some(found) => percentage = Some(found),
                None => others.push(to_old(&metric, "target")),
            }
        }
        if let Some(percentage) = percentage {
            spec.insert(PERCENTAGE.to_owned(), percentage);
        }
        if !others.is_empty() {
            notes.push((METRICS, others.into()));
        }
        if let Some(behavior) = spec.remove("behavior").filter(|one| !one.is_null()) {
            notes.push((BEHAVIOR, behavior));
        }
    }
    if let Some(status) = part(value, "status") {
        let metrics = list(status, "currentMetrics");
        let processor = metrics.iter().find(|metric| is_processor(metric));
        let found = processor
            .and_then(|metric| metric["resource"]["current"].get("averageUtilization"))
            .filter(|found| !found.is_null());
        if let Some(found) = found {
            status.insert(CURRENT_PERCENTAGE.to_owned(), found.clone());
        }
        if !metrics.is_empty() {
            let old = metrics.iter().map(|metric| to_old(metric, "current"));
            notes.push((CURRENT_METRICS, old.collect()));
        }
        let conditions = list(status, "conditions");
        if !conditions.is_empty() {
            notes.push((CONDITIONS, conditions.into()));
        }
    }
    let Some(meta) = part(value, "metadata") else {
        return;
    };
    for (name, note) in notes {
        if !meta.get("annotations").is_some_and(Value::is_object) {
            meta.insert("annotations".to_owned(), json!({}));
        }
        meta["annotations"][name] = note.to_string().into();
    }
}

/// Takes what an annotation carries; one that is no JSON carries nothing, as
/// with upstream.
fn note(meta: Option<&mut Json>, name: &str) -> Option<Value> {
    let annotations = part(meta?, "annotations")?;
    let text = annotations.remove(name)?;
    serde_json::from_str(text.as_str()?).ok()
}

fn metrics(noted: Option<Value>, which: &str) -> Vec<Value> {
    let Some(Value::Array(noted)) = noted else {
        return Vec::new();
    };
    noted.iter().filter_map(|old| to_new(old, which)).collect()
}

/// From `v1` to `v2`.
pub fn to_v2(value: &mut Json) {
    let mut noted = |name| note(part(value, "metadata"), name);
    let mut wanted = metrics(noted(METRICS), "target");
    let current = metrics(noted(CURRENT_METRICS), "current");
    let (behavior, conditions) = (noted(BEHAVIOR), noted(CONDITIONS));
    if let Some(meta) = part(value, "metadata")
        && part(meta, "annotations").is_some_and(|left| left.is_empty())
    {
        meta.remove("annotations");
    }
    if let Some(spec) = part(value, "spec") {
        if let Some(percentage) = spec.remove(PERCENTAGE).filter(|found| !found.is_null()) {
            wanted.push(json!({"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": percentage}}}));
        }
        if !wanted.is_empty() {
            spec.insert("metrics".to_owned(), wanted.into());
        }
        if let Some(behavior) = behavior.filter(Value::is_object) {
            spec.insert("behavior".to_owned(), behavior);
        }
    }
    if let Some(status) = part(value, "status") {
        let percentage = status
            .remove(CURRENT_PERCENTAGE)
            .filter(|found| !found.is_null());
        match (current.is_empty(), percentage) {
            (false, _) => {
                status.insert("currentMetrics".to_owned(), current.into());
            }
            (true, Some(percentage)) => {
                let metric = json!([{"type": "Resource", "resource": {"name": "cpu",
                    "current": {"averageUtilization": percentage}}}]);
                status.insert("currentMetrics".to_owned(), metric);
            }
            (true, None) => {}
        }
        if let Some(conditions) = conditions.filter(Value::is_array) {
            status.insert("conditions".to_owned(), conditions);
        }
    }
}
