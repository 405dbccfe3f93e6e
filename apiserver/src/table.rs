//! Objects as rows: the columns that `kubectl get` shows. Knows kinds and
//! their fields; knows no request.

use serde_json::{Value, json};

use crate::{
    catalog::Resource,
    codec,
    kind::Column,
    object::{self, Json},
};

/// What of the object goes with its row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

/// An object as it goes with its row.
pub type RowObject<'a> = &'a dyn Fn(&Json) -> Value;

/// A `Table` of objects, which go with their rows as `shown`. `definitions`: whether it says what its columns are.
pub fn of(
    resource: &Resource,
    objects: &[Json],
    meta: &Value,
    include: Include,
    shown: RowObject<'_>,
    definitions: bool,
) -> Value {
    let columns = resource.rules.columns;
    with(columns, objects, meta, include, shown, definitions)
}

/// The scale of an object.
pub const SCALE: &[Column] = &[
    Column("Desired", false, |value| {
        count(value, &["spec", "replicas"])
    }),
    Column("Available", false, |value| {
        count(value, &["status", "replicas"])
    }),
    AGE,
];

/// A `Table` with these columns.
pub fn with(
    columns: &[Column],
    objects: &[Json],
    meta: &Value,
    include: Include,
    shown: RowObject<'_>,
    definitions: bool,
) -> Value {
    // Of events the name comes last.
    let first = columns.iter().all(|Column(name, ..)| *name != "Name");
    let rows: Vec<Value> = objects
        .iter()
        .map(|value| {
            let mut cells = Vec::new();
            if first {
                cells.push(Value::from(object::meta_str(value, "name")));
            }
            cells.extend(columns.iter().map(|Column(_, _, cell)| cell(value)));
            let mut row = json!({"cells": cells});
            match include {
                Include::None => row["object"] = Value::Null,
                Include::Object => row["object"] = shown(value),
                Include::Metadata => {
                    row["object"] = json!({
                        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                        "metadata": value.get("metadata").cloned().unwrap_or_default(),
                    });
                }
            }
            row
        })
        .collect();
    let mut named = Value::Null;
    if definitions {
        let mut all = Vec::new();
        if first {
            all.push(json!({"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}));
        }
        all.extend(columns.iter().map(|Column(name, wide, cell)| {
            // Of an object without anything a cell says its type, too.
            let ty = match cell(&Json::new()) {
                _ if *name == "Created At" => "date",
                Value::Number(_) => "integer",
                Value::Bool(_) => "boolean",
                _ => "string",
            };
            let format = if matches!(*name, "Name" | "Attacher") {
                "name"
            } else {
                ""
            };
            json!({"name": name, "type": ty, "format": format, "description": "", "priority": i32::from(*wide)})
        }));
        named = all.into();
    }
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "columnDefinitions": named, "rows": rows})
}

pub fn text(value: &Json, path: &[&str]) -> Value {
    match object::at(value, path) {
        None | Some(Value::Null) => "<none>".into(),
        Some(Value::String(text)) if text.is_empty() => "<none>".into(),
        Some(Value::String(text)) => text.as_str().into(),
        Some(other) => other.to_string().into(),
    }
}

pub fn number(value: &Json, path: &[&str]) -> i64 {
    object::at(value, path).and_then(Value::as_i64).unwrap_or(0)
}

pub fn count(value: &Json, path: &[&str]) -> Value {
    number(value, path).into()
}

pub fn list<'a>(value: &'a Json, path: &[&str]) -> &'a [Value] {
    object::at(value, path)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

pub fn member<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or("")
}

pub fn joined(parts: Vec<String>) -> Value {
    if parts.is_empty() {
        "<none>".into()
    } else {
        parts.join(",").into()
    }
}

/// A span as people read it: upstream's two leading units.
pub fn human(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{small_unit}")
        }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..=0 => "0s".to_owned(),
        1..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

pub fn since(value: &Json, path: &[&str]) -> Value {
    match codec::parse_time(object::str_at(value, path)) {
        Some((seconds, _)) => human(codec::now().0 - seconds).into(),
        None => "<unknown>".into(),
    }
}

pub fn age(value: &Json) -> Value {
    since(value, &["metadata", "creationTimestamp"])
}

pub fn containers(value: &Json, field: &str) -> Value {
    containers_of(value, &["spec", "template", "spec", "containers"], field)
}

/// A field of each of the containers at a path.
pub fn containers_of(value: &Json, path: &[&str], field: &str) -> Value {
    joined(
        list(value, path)
            .iter()
            .map(|one| member(one, field).to_owned())
            .collect(),
    )
}

pub fn selector(value: &Json) -> Value {
    let map = object::at(value, &["spec", "selector", "matchLabels"])
        .or_else(|| object::at(value, &["spec", "selector"]));
    let pairs = map.and_then(Value::as_object).into_iter().flatten();
    joined(
        pairs
            .filter_map(|(key, value)| value.as_str().map(|value| format!("{key}={value}")))
            .collect(),
    )
}

pub fn ready_of(value: &Json, ready: &str) -> Value {
    format!(
        "{}/{}",
        number(value, &["status", ready]),
        number(value, &["spec", "replicas"])
    )
    .into()
}

pub fn size(value: &Json) -> Value {
    if value.is_empty() {
        // The column is said to be one of texts.
        return "".into();
    }
    let fields = ["data", "binaryData"];
    fields
        .iter()
        .filter_map(|field| value.get(*field))
        .filter_map(Value::as_object)
        .map(serde_json::Map::len)
        .sum::<usize>()
        .into()
}

pub const AGE: Column = Column("Age", false, age);
pub const CONTAINERS: Column = Column("Containers", true, |value| containers(value, "name"));
pub const IMAGES: Column = Column("Images", true, |value| containers(value, "image"));
pub const SELECTOR: Column = Column("Selector", true, selector);

pub const PODS: &[Column] = &[
    Column("Ready", false, |value| {
        let all = list(value, &["spec", "containers"]).len();
        let ready = list(value, &["status", "containerStatuses"])
            .iter()
            .filter(|one| one.get("ready") == Some(&Value::Bool(true)));
        format!("{}/{all}", ready.count()).into()
    }),
    Column("Status", false, pod_status),
    Column("Restarts", false, |value| {
        let all = list(value, &["status", "containerStatuses"]).iter();
        all.filter_map(|one| one.get("restartCount").and_then(Value::as_i64))
            .sum::<i64>()
            .to_string()
            .into()
    }),
    AGE,
    Column("IP", true, |value| text(value, &["status", "podIP"])),
    Column("Node", true, |value| text(value, &["spec", "nodeName"])),
    Column("Nominated Node", true, |value| {
        text(value, &["status", "nominatedNodeName"])
    }),
    Column("Readiness Gates", true, |value| {
        let gates = list(value, &["spec", "readinessGates"]);
        if gates.is_empty() {
            return "<none>".into();
        }
        let passed = |gate: &&Value| {
            let of = member(gate, "conditionType");
            let mut conditions = list(value, &["status", "conditions"]).iter();
            conditions.any(|one| member(one, "type") == of && member(one, "status") == "True")
        };
        format!("{}/{}", gates.iter().filter(passed).count(), gates.len()).into()
    }),
];

pub fn pod_status(value: &Json) -> Value {
    if object::is_deleting(value) {
        return "Terminating".into();
    }
    let reason = list(value, &["status", "containerStatuses"])
        .iter()
        .find_map(|one| {
            let state = one.get("state")?;
            let waiting = state.get("waiting").or_else(|| state.get("terminated"))?;
            Some(member(waiting, "reason")).filter(|reason| !reason.is_empty())
        });
    match (reason, object::str_at(value, &["status", "reason"])) {
        (Some(reason), _) => reason.into(),
        (None, "") => text(value, &["status", "phase"]),
        (None, reason) => reason.into(),
    }
}

fn address(value: &Json, kind: &str) -> Value {
    let all = list(value, &["status", "addresses"]);
    let found = all.iter().find(|one| member(one, "type") == kind);
    found.map_or("<none>", |one| member(one, "address")).into()
}

fn node_info(value: &Json, field: &str) -> Value {
    match object::str_at(value, &["status", "nodeInfo", field]) {
        "" => "<unknown>".into(),
        text => text.into(),
    }
}

pub const NODES: &[Column] = &[
    Column("Status", false, |value| {
        let ready = list(value, &["status", "conditions"])
            .iter()
            .find(|one| member(one, "type") == "Ready");
        let mut status = match ready.map(|one| member(one, "status")) {
            Some("True") => "Ready",
            Some(_) => "NotReady",
            None => "Unknown",
        }
        .to_owned();
        if object::at(value, &["spec", "unschedulable"]) == Some(&Value::Bool(true)) {
            status.push_str(",SchedulingDisabled");
        }
        status.into()
    }),
    Column("Roles", false, |value| {
        let labels = object::at(value, &["metadata", "labels"])
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        joined(
            labels
                .filter_map(|(key, _)| {
                    key.strip_prefix("node-role.kubernetes.io/")
                        .map(str::to_owned)
                })
                .collect(),
        )
    }),
    AGE,
    Column("Version", false, |value| {
        object::str_at(value, &["status", "nodeInfo", "kubeletVersion"]).into()
    }),
    Column("Internal-IP", true, |value| address(value, "InternalIP")),
    Column("External-IP", true, |value| address(value, "ExternalIP")),
    Column("OS-Image", true, |value| node_info(value, "osImage")),
    Column("Kernel-Version", true, |value| {
        node_info(value, "kernelVersion")
    }),
    Column("Container-Runtime", true, |value| {
        node_info(value, "containerRuntimeVersion")
    }),
];

pub const SERVICES: &[Column] = &[
    Column("Type", false, |value| text(value, &["spec", "type"])),
    Column("Cluster-IP", false, |value| {
        text(value, &["spec", "clusterIP"])
    }),
    Column("External-IP", false, |value| {
        match object::str_at(value, &["spec", "externalName"]) {
            "" => joined(
                list(value, &["spec", "externalIPs"])
                    .iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect(),
            ),
            name => name.into(),
        }
    }),
    Column("Port(s)", false, |value| {
        let ports = list(value, &["spec", "ports"]).iter().map(|port| {
            let number = |field: &str| port.get(field).and_then(Value::as_i64).unwrap_or(0);
            match number("nodePort") {
                0 => format!("{}/{}", number("port"), member(port, "protocol")),
                node => format!("{}:{node}/{}", number("port"), member(port, "protocol")),
            }
        });
        joined(ports.collect())
    }),
    AGE,
    SELECTOR,
];

pub fn job_status(value: &Json) -> Value {
    let conditions = list(value, &["status", "conditions"]);
    let has = |kind: &str| {
        conditions
            .iter()
            .any(|one| member(one, "type") == kind && member(one, "status") == "True")
    };
    match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if object::is_deleting(value) => "Terminating",
        () if has("Suspended") => "Suspended",
        () => "Running",
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        for (seconds, expected) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (185, "3m5s"),
            (3_599, "59m"),
            (10_800, "3h"),
            (12_060, "3h21m"),
            (86_400, "24h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (31_536_000, "365d"),
            (-5, "<invalid>"),
        ] {
            assert_eq!(human(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn rows_have_a_cell_for_each_column() {
        let catalog = crate::kinds::built_in();
        for resource in catalog.resources() {
            let value = json!({"metadata": {"name": "x"}})
                .as_object()
                .expect("an object")
                .clone();
            let table = of(
                resource,
                &[value],
                &json!({}),
                Include::Metadata,
                &|_| Value::Null,
                true,
            );
            let cells = table["rows"][0]["cells"].as_array().expect("cells").len();
            assert_eq!(
                cells,
                table["columnDefinitions"]
                    .as_array()
                    .expect("columns")
                    .len(),
                "{}",
                resource.kind
            );
            assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "x");
        }
        assert_eq!(catalog.own("", "v1", "pods").rules.columns.len(), 8);
    }
}
