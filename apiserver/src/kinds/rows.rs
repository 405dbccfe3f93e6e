//! Columns of kinds whose cells are made of several fields: policies,
//! certificates, devices, jobs, events. Source: upstream's
//! `pkg/printers/internalversion`.

use serde_json::{Map, Value};

use crate::{
    codec,
    kind::Column,
    object::{self, Json},
    table::{AGE, CONTAINERS, IMAGES, SELECTOR, human, job_status, list, member, number, since},
};

fn plain(value: &Json, path: &[&str]) -> Value {
    object::str_at(value, path).into()
}

fn or(value: &Json, path: &[&str], absent: &'static str) -> Value {
    match object::str_at(value, path) {
        "" => absent.into(),
        text => text.into(),
    }
}

/// A number in a column whose type is said to be a text: of no object it is one.
pub fn told(value: &Json, path: &[&str]) -> Value {
    if value.is_empty() {
        return "".into();
    }
    number(value, path).into()
}

fn flag(value: &Json, path: &[&str], absent: bool) -> Value {
    let given = object::at(value, path).and_then(Value::as_bool);
    given.unwrap_or(absent).into()
}

/// When it was created, as it stands in the metadata.
pub const CREATED: &[Column] = &[Column("Created At", false, |value| {
    plain(value, &["metadata", "creationTimestamp"])
})];

const PARAMETER_KIND: Column = Column("ParamKind", false, |value| {
    match object::at(value, &["spec", "paramKind"]).filter(|kind| !kind.is_null()) {
        None => "<unset>".into(),
        Some(kind) => format!("{}/{}", member(kind, "apiVersion"), member(kind, "kind")).into(),
    }
});

pub const VALIDATING_POLICIES: &[Column] = &[
    Column("Validations", false, |value| {
        list(value, &["spec", "validations"]).len().into()
    }),
    PARAMETER_KIND,
    AGE,
];

pub const MUTATING_POLICIES: &[Column] = &[
    Column("Mutations", false, |value| {
        list(value, &["spec", "mutations"]).len().into()
    }),
    PARAMETER_KIND,
    AGE,
];

pub const POLICY_BINDINGS: &[Column] = &[
    Column("PolicyName", false, |value| {
        plain(value, &["spec", "policyName"])
    }),
    Column("ParamRef", false, |value| {
        let of = |field| object::str_at(value, &["spec", "paramRef", field]);
        match (of("namespace"), of("name")) {
            (_, "") => "<unset>".into(),
            ("", name) => format!("*/{name}").into(),
            (space, name) => format!("{space}/{name}").into(),
        }
    }),
    AGE,
];

pub const NETWORK_POLICIES: &[Column] = &[
    Column("Pod-Selector", false, |value| {
        let labels = object::at(value, &["spec", "podSelector", "matchLabels"]);
        let labels = labels.and_then(Value::as_object);
        let mut parts: Vec<String> = labels
            .into_iter()
            .flatten()
            .map(|(key, one)| format!("{key}={}", one.as_str().unwrap_or("")))
            .collect();
        for one in list(value, &["spec", "podSelector", "matchExpressions"]) {
            let values = one.get("values").and_then(Value::as_array);
            let values: Vec<&str> = values
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let key = member(one, "key");
            parts.push(match member(one, "operator") {
                "In" => format!("{key} in ({})", values.join(",")),
                "NotIn" => format!("{key} notin ({})", values.join(",")),
                "DoesNotExist" => format!("!{key}"),
                _ => key.to_owned(),
            });
        }
        if parts.is_empty() {
            return "<none>".into();
        }
        parts.join(",").into()
    }),
    AGE,
];

fn limited(value: &Json, path: &[&str]) -> Value {
    let mut whole = vec!["spec", "limited"];
    whole.extend(path);
    let found = object::at(value, &whole).filter(|found| !found.is_null());
    found.cloned().unwrap_or_else(|| "<none>".into())
}

pub const PRIORITY_LEVELS: &[Column] = &[
    Column("Type", false, |value| plain(value, &["spec", "type"])),
    Column("NominalConcurrencyShares", false, |value| {
        limited(value, &["nominalConcurrencyShares"])
    }),
    Column("Queues", false, |value| {
        limited(value, &["limitResponse", "queuing", "queues"])
    }),
    Column("HandSize", false, |value| {
        limited(value, &["limitResponse", "queuing", "handSize"])
    }),
    Column("QueueLengthLimit", false, |value| {
        limited(value, &["limitResponse", "queuing", "queueLengthLimit"])
    }),
    AGE,
];

pub const DRIVERS: &[Column] = &[
    Column("AttachRequired", false, |value| {
        flag(value, &["spec", "attachRequired"], true)
    }),
    Column("PodInfoOnMount", false, |value| {
        flag(value, &["spec", "podInfoOnMount"], false)
    }),
    Column("StorageCapacity", false, |value| {
        flag(value, &["spec", "storageCapacity"], false)
    }),
    Column("TokenRequests", false, |value| {
        match object::at(value, &["spec", "tokenRequests"]).and_then(Value::as_array) {
            None => "<unset>".into(),
            Some(all) => {
                let all: Vec<&str> = all.iter().map(|one| member(one, "audience")).collect();
                all.join(",").into()
            }
        }
    }),
    Column("RequiresRepublish", false, |value| {
        flag(value, &["spec", "requiresRepublish"], false)
    }),
    Column("Modes", false, |value| {
        let modes = list(value, &["spec", "volumeLifecycleModes"]).iter();
        let modes: Vec<&str> = modes.filter_map(Value::as_str).collect();
        if modes.is_empty() {
            return "<none>".into();
        }
        modes.join(",").into()
    }),
    AGE,
];

/// What of a quota is used, of limits or of all else.
fn used(value: &Json, limits: bool) -> Value {
    let hard = object::at(value, &["status", "hard"]).and_then(Value::as_object);
    let parts = hard
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.starts_with("limits.") == limits);
    let parts: Vec<String> = parts
        .map(|(name, most)| {
            let used = object::str_at(value, &["status", "used", name]);
            let used = if used.is_empty() { "0" } else { used };
            format!("{name}: {used}/{}", most.as_str().unwrap_or("0"))
        })
        .collect();
    parts.join(", ").into()
}

pub const QUOTAS: &[Column] = &[
    Column("Request", false, |value| used(value, false)),
    Column("Limit", false, |value| used(value, true)),
    AGE,
];

pub const CLAIMS: &[Column] = &[
    Column("State", false, |value| {
        let mut states = Vec::new();
        let deleted = object::is_deleting(value);
        if deleted {
            states.push("deleted");
        }
        let allocated = object::at(value, &["status", "allocation"]);
        if allocated.is_none_or(Value::is_null) {
            if !deleted {
                states.push("pending");
            }
        } else {
            states.push("allocated");
            if !list(value, &["status", "reservedFor"]).is_empty() {
                states.push("reserved");
            }
        }
        states.join(",").into()
    }),
    AGE,
];

pub const TAINT_RULES: &[Column] = &[
    Column("Key", false, |value| {
        plain(value, &["spec", "taint", "key"])
    }),
    Column("Value", false, |value| {
        plain(value, &["spec", "taint", "value"])
    }),
    Column("Effect", false, |value| {
        plain(value, &["spec", "taint", "effect"])
    }),
    Column("TimeAdded", false, |value| {
        const ADDED: &[&str] = &["spec", "taint", "timeAdded"];
        match object::str_at(value, ADDED) {
            "" => "".into(),
            _ => since(value, ADDED),
        }
    }),
    AGE,
];

fn has_condition(value: &Json, kind: &str) -> bool {
    let conditions = list(value, &["status", "conditions"]);
    conditions.iter().any(|one| member(one, "type") == kind)
}

pub const SIGNING_REQUESTS: &[Column] = &[
    AGE,
    Column("SignerName", false, |value| {
        or(value, &["spec", "signerName"], "<none>")
    }),
    Column("Requestor", false, |value| {
        plain(value, &["spec", "username"])
    }),
    Column("RequestedDuration", false, |value| {
        let seconds = object::at(value, &["spec", "expirationSeconds"]).and_then(Value::as_i64);
        seconds.map_or_else(|| "<none>".into(), |seconds| human(seconds).into())
    }),
    Column("Condition", false, |value| {
        let mut state = match (
            has_condition(value, "Denied"),
            has_condition(value, "Approved"),
        ) {
            (true, _) => "Denied",
            (_, true) => "Approved",
            _ => "Pending",
        }
        .to_owned();
        if has_condition(value, "Failed") {
            state.push_str(",Failed");
        }
        if !object::str_at(value, &["status", "certificate"]).is_empty() {
            state.push_str(",Issued");
        }
        state.into()
    }),
];

pub const POD_CERTIFICATES: &[Column] = &[
    Column("PodName", false, |value| plain(value, &["spec", "podName"])),
    Column("ServiceAccountName", false, |value| {
        plain(value, &["spec", "serviceAccountName"])
    }),
    Column("NodeName", false, |value| {
        plain(value, &["spec", "nodeName"])
    }),
    Column("SignerName", false, |value| {
        plain(value, &["spec", "signerName"])
    }),
    Column("State", false, |value| {
        let known = ["Issued", "Denied", "Failed"];
        let state = known.into_iter().find(|kind| has_condition(value, kind));
        state.unwrap_or("Pending").into()
    }),
    Column("UnverifiedUserAnnotations", false, |value| {
        let all = object::at(value, &["spec", "unverifiedUserAnnotations"]);
        let all = all.and_then(Value::as_object).into_iter().flatten();
        let all: Vec<String> = all
            .map(|(key, one)| format!("{key}={}", one.as_str().unwrap_or("")))
            .collect();
        if all.is_empty() {
            return "<none>".into();
        }
        all.join(",").into()
    }),
];

pub const REVISIONS: &[Column] = &[
    Column("Controller", false, |value| {
        let owners = list(value, &["metadata", "ownerReferences"]).iter();
        let mut owners = owners.filter(|one| one.get("controller") == Some(&Value::Bool(true)));
        let Some(owner) = owners.next() else {
            return "<none>".into();
        };
        let group = member(owner, "apiVersion")
            .split_once('/')
            .map(|(group, _)| format!(".{group}"));
        let kind = member(owner, "kind").to_ascii_lowercase();
        format!(
            "{kind}{}/{}",
            group.unwrap_or_default(),
            member(owner, "name")
        )
        .into()
    }),
    Column("Revision", false, |value| told(value, &["revision"])),
    AGE,
];

pub const MIGRATIONS: &[Column] = &[
    Column("Resource", false, |value| {
        let of = |field| object::str_at(value, &["spec", "resource", field]);
        match of("group") {
            "" => of("resource").into(),
            group => format!("{}.{group}", of("resource")).into(),
        }
    }),
    Column("Status", false, |value| {
        let known = ["Running", "Failed", "Succeeded"];
        let conditions = list(value, &["status", "conditions"]).iter().rev();
        let mut true_ones = conditions
            .filter(|one| member(one, "status") == "True" && known.contains(&member(one, "type")));
        true_ones
            .next()
            .map_or("Unknown", |one| member(one, "type"))
            .into()
    }),
];

/// Who a binding names of a kind.
fn subjects(value: &Json, kind: &str) -> Value {
    let all = list(value, &["subjects"]).iter();
    let all: Vec<String> = all
        .filter(|one| member(one, "kind") == kind)
        .map(|one| match kind {
            "ServiceAccount" => format!("{}/{}", member(one, "namespace"), member(one, "name")),
            _ => member(one, "name").to_owned(),
        })
        .collect();
    all.join(", ").into()
}

pub const BINDINGS: &[Column] = &[
    Column("Role", false, |value| {
        let of = |field| object::str_at(value, &["roleRef", field]);
        format!("{}/{}", of("kind"), of("name")).into()
    }),
    AGE,
    Column("Users", true, |value| subjects(value, "User")),
    Column("Groups", true, |value| subjects(value, "Group")),
    Column("ServiceAccounts", true, |value| {
        subjects(value, "ServiceAccount")
    }),
];

pub const JOBS: &[Column] = &[
    Column("Status", false, job_status),
    Column("Completions", false, |value| {
        let done = number(value, &["status", "succeeded"]);
        let at_once = number(value, &["spec", "parallelism"]);
        match object::at(value, &["spec", "completions"]).and_then(Value::as_i64) {
            Some(all) => format!("{done}/{all}").into(),
            None if at_once > 1 => format!("{done}/1 of {at_once}").into(),
            None => format!("{done}/1").into(),
        }
    }),
    Column("Duration", false, |value| {
        const BEGAN: &[&str] = &["status", "startTime"];
        let time = |path: &[&str]| codec::parse_time(object::str_at(value, path));
        match (time(BEGAN), time(&["status", "completionTime"])) {
            (None, _) => "".into(),
            (Some(_), None) => since(value, BEGAN),
            (Some((began, _)), Some((ended, _))) => human(ended - began).into(),
        }
    }),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

/// The containers of a cron job's pods.
fn of_template(value: &Json, field: &str) -> Value {
    const CONTAINERS: &[&str] = &[
        "spec",
        "jobTemplate",
        "spec",
        "template",
        "spec",
        "containers",
    ];
    let all: Vec<&str> = list(value, CONTAINERS)
        .iter()
        .map(|one| member(one, field))
        .collect();
    all.join(",").into()
}

pub const CRON_JOBS: &[Column] = &[
    Column("Schedule", false, |value| {
        plain(value, &["spec", "schedule"])
    }),
    Column("Timezone", false, |value| {
        or(value, &["spec", "timeZone"], "<none>")
    }),
    Column("Suspend", false, |value| {
        if value.is_empty() {
            return false.into();
        }
        match object::at(value, &["spec", "suspend"]).and_then(Value::as_bool) {
            None => "<unset>".into(),
            Some(true) => "True".into(),
            Some(false) => "False".into(),
        }
    }),
    Column("Active", false, |value| {
        list(value, &["status", "active"]).len().into()
    }),
    Column("Last Schedule", false, |value| {
        const LAST: &[&str] = &["status", "lastScheduleTime"];
        match object::str_at(value, LAST) {
            "" => "<none>".into(),
            _ => since(value, LAST),
        }
    }),
    AGE,
    Column("Containers", true, |value| of_template(value, "name")),
    Column("Images", true, |value| of_template(value, "image")),
    Column("Selector", true, |_| "<none>".into()),
];

/// A metric's target, and how far from it things are.
fn metric(spec: &Value, status: Option<&Value>) -> String {
    let field = match member(spec, "type") {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let none = Value::Null;
    let target = spec.pointer(&format!("/{field}/target")).unwrap_or(&none);
    let current = status.and_then(|status| status.pointer(&format!("/{field}/current")));
    let now = |name: &str| match current.and_then(|current| current.get(name)) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(percent)) => format!("{percent}%"),
        _ => "<unknown>".to_owned(),
    };
    let average = member(target, "averageValue");
    let resource = matches!(field, "resource" | "containerResource");
    let shown = match (average, resource, field) {
        ("", true, _) => {
            let percent = target.get("averageUtilization").and_then(Value::as_i64);
            let percent = percent.map_or("<auto>".to_owned(), |percent| format!("{percent}%"));
            format!("{}/{percent}", now("averageUtilization"))
        }
        ("", false, _) => format!("{}/{}", now("value"), member(target, "value")),
        (_, false, "external" | "object") => format!("{}/{average} (avg)", now("averageValue")),
        _ => format!("{}/{average}", now("averageValue")),
    };
    if resource {
        let name = spec
            .pointer(&format!("/{field}/name"))
            .and_then(Value::as_str);
        return format!("{}: {shown}", name.unwrap_or(""));
    }
    shown
}

pub const AUTOSCALERS: &[Column] = &[
    Column("Reference", false, |value| {
        let of = |field| object::str_at(value, &["spec", "scaleTargetRef", field]);
        format!("{}/{}", of("kind"), of("name")).into()
    }),
    Column("Targets", false, |value| {
        const SHOWN: usize = 2;
        let states = list(value, &["status", "currentMetrics"]);
        let specs = list(value, &["spec", "metrics"]).iter().enumerate();
        let all: Vec<String> = specs
            .map(|(index, spec)| metric(spec, states.get(index)))
            .collect();
        match all.len().checked_sub(SHOWN) {
            _ if all.is_empty() => "<none>".into(),
            None | Some(0) => all.join(", ").into(),
            Some(more) => format!("{} + {more} more...", all[..SHOWN].join(", ")).into(),
        }
    }),
    Column("MinPods", false, |value| {
        let least = object::at(value, &["spec", "minReplicas"]).and_then(Value::as_i64);
        least.map_or_else(|| "<unset>".into(), |least| least.to_string().into())
    }),
    Column("MaxPods", false, |value| {
        told(value, &["spec", "maxReplicas"])
    }),
    Column("Replicas", false, |value| {
        told(value, &["status", "currentReplicas"])
    }),
    AGE,
];

/// When something was, or else when the event was.
fn when(value: &Json, field: &str) -> Value {
    let moment = if object::str_at(value, &[field]).is_empty() {
        "eventTime"
    } else {
        field
    };
    match object::str_at(value, &[moment]) {
        "" => "<unknown>".into(),
        _ => since(value, &[moment]),
    }
}

pub const EVENTS: &[Column] = &[
    Column("Last Seen", false, |value| {
        const SERIES: &[&str] = &["series", "lastObservedTime"];
        if object::at(value, &["series"]).is_some_and(|series| !series.is_null()) {
            return since(value, SERIES);
        }
        match object::str_at(value, &["lastTimestamp"]) {
            "" => when(value, "firstTimestamp"),
            _ => since(value, &["lastTimestamp"]),
        }
    }),
    Column("Type", false, |value| plain(value, &["type"])),
    Column("Reason", false, |value| plain(value, &["reason"])),
    Column("Object", false, |value| {
        let of = |field| object::str_at(value, &["involvedObject", field]);
        let kind = of("kind").to_ascii_lowercase();
        match of("name") {
            "" => kind.into(),
            name => format!("{kind}/{name}").into(),
        }
    }),
    Column("Subobject", true, |value| {
        plain(value, &["involvedObject", "fieldPath"])
    }),
    Column("Source", true, |value| {
        let first = |one: &[&str], other: &str| match object::str_at(value, one) {
            "" => object::str_at(value, &[other]).to_owned(),
            text => text.to_owned(),
        };
        let component = first(&["source", "component"], "reportingComponent");
        match first(&["source", "host"], "reportingInstance").as_str() {
            "" => component.into(),
            host => format!("{component}, {host}").into(),
        }
    }),
    Column("Message", false, |value| {
        object::str_at(value, &["message"]).trim().into()
    }),
    Column("First Seen", true, |value| when(value, "firstTimestamp")),
    Column("Count", true, |value| {
        if value.is_empty() {
            return "".into();
        }
        let series = value.get("series").and_then(Value::as_object);
        let counted = series.map_or_else(
            || number(value, &["count"]),
            |series: &Map<String, Value>| series.get("count").and_then(Value::as_i64).unwrap_or(0),
        );
        counted.max(1).into()
    }),
    Column("Name", true, |value| object::meta_str(value, "name").into()),
];

/// The node selector of a daemon set's pods.
pub const NODE_SELECTOR: Column = Column("Node Selector", false, |value| {
    let labels = object::at(value, &["spec", "template", "spec", "nodeSelector"]);
    let labels = labels.and_then(Value::as_object).into_iter().flatten();
    let all: Vec<String> = labels
        .map(|(key, one)| format!("{key}={}", one.as_str().unwrap_or("")))
        .collect();
    if all.is_empty() {
        return "<none>".into();
    }
    all.join(",").into()
});
