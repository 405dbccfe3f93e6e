//! What events must be, in the core group and in `events.k8s.io`.

use serde_json::Value;

use super::{
    Errors,
    check::{self, all},
    meta, names,
};
use crate::{
    field::FieldError,
    object::{self, Json},
};

/// Fields in which both groups say the same under different names.
struct Words {
    object: &'static str,
    controller: &'static str,
    /// How errors name it.
    named: &'static str,
    message: &'static str,
}

const CORE: Words = Words {
    object: "involvedObject",
    controller: "reportingComponent",
    named: "reportingComponent",
    message: "message",
};
/// An event of the other group as it is stored.
const STORED: Words = Words {
    named: "reportingController",
    ..CORE
};
const EVENTS: Words = Words {
    object: "regarding",
    controller: "reportingController",
    named: "reportingController",
    message: "note",
};

/// An event, in the version that is stored.
pub fn event(value: &Json, errors: &mut Errors) {
    let mut first = Errors::new();
    both(value, &CORE, &mut first);
    if !first.is_empty() {
        // Of what upstream says of metadata it says nothing of a name then.
        errors.retain(|error| error.field != "metadata.name");
    }
    // Before what is wrong with its metadata.
    errors.splice(..0, first);
}

/// A new event of `events.k8s.io`.
pub fn new_event(value: &Json) -> Errors {
    let mut errors = Errors::new();
    both(value, &EVENTS, &mut errors);
    let name = object::meta_str(value, "name");
    if name.is_empty() {
        if object::meta_str(value, "generateName").is_empty() {
            let why = "name or generateName is required";
            errors.push(FieldError::required("metadata.name", why));
        }
    } else {
        all("metadata.name", name, names::subdomain(name), &mut errors);
    }
    meta::standard_finalizers(value, &mut errors);
    if let Some(series) = value.get("series").filter(|series| !series.is_null()) {
        self::series(series, &mut errors);
    }
    if object::str_at(value, &["eventTime"]).is_empty() {
        errors.push(FieldError::required("eventTime", ""));
    }
    let kind = object::str_at(value, &["type"]);
    if !matches!(kind, "Normal" | "Warning") {
        let why = format!("has invalid value: {kind}");
        errors.push(FieldError::invalid("type", &"".into(), &why));
    }
    let text = |path: &[&str]| !object::str_at(value, path).is_empty();
    let count = value.get("deprecatedCount").and_then(Value::as_i64);
    for (field, given) in [
        ("firstTimestamp", text(&["deprecatedFirstTimestamp"])),
        ("lastTimestamp", text(&["deprecatedLastTimestamp"])),
        ("count", count.unwrap_or(0) != 0),
        (
            "source",
            text(&["deprecatedSource", "component"]) || text(&["deprecatedSource", "host"]),
        ),
    ] {
        if given {
            errors.push(FieldError::invalid(field, &"".into(), "needs to be unset"));
        }
    }
    errors
}

/// An event of `events.k8s.io` stays what it is, but for its series.
pub fn new_event_kept(value: &Json, current: &Json, errors: &mut Errors) {
    let mut first = Errors::new();
    both(value, &STORED, &mut first);
    errors.splice(..0, first);
    let of = |value: &Json, field: &str| value.get(field).cloned().unwrap_or(Value::Null);
    let series = of(value, "series");
    if series != of(current, "series") && !series.is_null() {
        self::series(&series, errors);
    }
    for (field, named) in [
        ("involvedObject", "involvedObject"),
        ("reason", "reason"),
        ("message", "message"),
        ("source", "source"),
        ("firstTimestamp", "firstTimestamp"),
        ("lastTimestamp", "lastTimestamp"),
        ("count", "count"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ] {
        let (now, before) = (of(value, field), of(current, field));
        if now == before || is_nothing(&now) && is_nothing(&before) {
            continue;
        }
        let shown = match field {
            "involvedObject" | "related" if !now.is_null() => in_go(&now, &OBJECT),
            "source" => in_go(&now, &SOURCE),
            "eventTime" | "firstTimestamp" | "lastTimestamp" | "related" => now.to_string(),
            "count" => now.as_i64().unwrap_or(0).to_string(),
            _ => Value::from(now.as_str().unwrap_or("")).to_string(),
        };
        errors.push(FieldError::invalid_shown(
            named,
            &shown,
            "field is immutable",
        ));
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(map) => map.values().all(is_nothing),
        value => value == 0,
    }
}

/// Fields as Go names and orders them.
const OBJECT: [(&str, &str); 7] = [
    ("Kind", "kind"),
    ("Namespace", "namespace"),
    ("Name", "name"),
    ("UID", "uid"),
    ("APIVersion", "apiVersion"),
    ("ResourceVersion", "resourceVersion"),
    ("FieldPath", "fieldPath"),
];
const SOURCE: [(&str, &str); 2] = [("Component", "component"), ("Host", "host")];

fn in_go(value: &Value, fields: &[(&str, &str)]) -> String {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or("");
    let one = |(name, field): &(&str, &str)| format!("{name:?}:{}", Value::from(text(field)));
    let all: Vec<String> = fields.iter().map(one).collect();
    format!("{{{}}}", all.join(","))
}

fn series(series: &Value, errors: &mut Errors) {
    if series.get("count").and_then(Value::as_i64).unwrap_or(0) < 2 {
        let why = "should be at least 2";
        errors.push(FieldError::invalid("series.count", &"".into(), why));
    }
    if check::At::new(series, "series")
        .text("lastObservedTime")
        .is_empty()
    {
        errors.push(FieldError::required("series.lastObservedTime", ""));
    }
}

/// What both groups ask for: more where an event says when it was.
fn both(value: &Json, words: &Words, errors: &mut Errors) {
    let about = object::str_at(value, &[words.object, "namespace"]);
    let own = object::meta_str(value, "namespace");
    let dated = !object::str_at(value, &["eventTime"]).is_empty();
    let fits = match (about.is_empty(), dated) {
        (true, false) => matches!(own, "" | "default"),
        (true, true) => matches!(own, "default" | "kube-system"),
        (false, false) => own == about,
        (false, true) => true,
    };
    if !fits {
        let why = "does not match event.namespace";
        errors.push(FieldError::invalid(
            "involvedObject.namespace",
            &about.into(),
            why,
        ));
    }
    if !dated {
        return;
    }
    let name = object::str_at(value, &[words.controller]);
    if name.is_empty() {
        errors.push(FieldError::required(words.named, ""));
    }
    all(words.named, name, names::qualified(name), errors);
    for (field, most, required) in [
        ("reportingInstance", 128, true),
        ("action", 128, true),
        ("reason", 128, true),
        (words.message, 1_024, false),
    ] {
        let text = object::str_at(value, &[field]);
        if required && text.is_empty() {
            errors.push(FieldError::required(field, ""));
        }
        if text.len() > most {
            let field = if field == words.message {
                "message"
            } else {
                field
            };
            let why = format!("can have at most {most} characters");
            errors.push(FieldError::invalid(field, &"".into(), &why));
        }
    }
}
