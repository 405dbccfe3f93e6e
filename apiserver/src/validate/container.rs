//! Containers of pods: regular ones, those that run before and those that are
//! added later. Source: upstream's `pkg/apis/core/validation`.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    Errors,
    check::{At, all, data_key, descending, no_steps_back},
    names, probe,
    resources::resources,
    security,
    volume::{object_field, resource_field},
};
use crate::field::FieldError;

/// What containers know of their pod.
pub struct Pod<'a> {
    /// Sound volumes by name.
    pub volumes: Vec<(&'a str, &'a Value)>,
    /// Seconds that it may take to end.
    pub grace: Option<i64>,
    pub restart: &'a str,
    /// Names of its claims of resources.
    pub claims: Vec<&'a str>,
}

/// All containers of a pod.
pub fn containers(spec: &At<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    let regular = spec.items("containers");
    if regular.is_empty() {
        errors.push(FieldError::required(spec.child("containers"), ""));
    }
    let mut names: HashSet<&str> = HashSet::new();
    for one in &regular {
        common(one, pod, errors);
        unique(one, &mut names, errors);
        probe::all(one, pod.grace, errors);
        restart_rules(one, false, errors);
    }
    host_ports(&regular, &spec.child("containers"), errors);
    for one in spec.items("initContainers") {
        before(&one, spec, pod, &mut names, errors);
    }
    let known = names.clone();
    for one in spec.items("ephemeralContainers") {
        common(&one, pod, errors);
        let image = one.text("image");
        if image.trim() != image {
            let why = "must not have leading or trailing whitespace";
            errors.push(FieldError::invalid(one.child("image"), &image.into(), why));
        }
        unique(&one, &mut names, errors);
        let target = one.text("targetContainerName");
        if !target.is_empty() && !known.contains(target) {
            let at = one.child("targetContainerName");
            errors.push(FieldError::not_found(at, &target.into()));
        }
        ephemeral(&one, errors);
    }
}

fn unique<'a>(one: &At<'a>, names: &mut HashSet<&'a str>, errors: &mut Errors) {
    let name = one.text("name");
    if !names.insert(name) {
        errors.push(FieldError::duplicate(one.child("name"), &name.into()));
    }
}

/// A container that runs before the others; with `restartPolicy: Always`, beside
/// them.
fn before<'a>(
    one: &At<'a>,
    spec: &At<'_>,
    pod: &Pod<'_>,
    names: &mut HashSet<&'a str>,
    errors: &mut Errors,
) {
    common(one, pod, errors);
    restart_rules(one, true, errors);
    let always = one.text("restartPolicy") == "Always";
    let name = one.text("name");
    if !name.is_empty() {
        unique(one, names, errors);
    }
    host_ports(
        std::slice::from_ref(one),
        &spec.child("initContainers"),
        errors,
    );
    if always {
        probe::all(one, pod.grace, errors);
    } else {
        for field in [
            "lifecycle",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
        ] {
            let given = one.get(field).filter(|given| {
                let map = given.value.as_object().filter(|_| field == "lifecycle");
                !map.is_some_and(signal_only)
            });
            if given.is_some() {
                let why = "may not be set for init containers without restartPolicy=Always";
                errors.push(FieldError::forbidden(one.child(field), why));
            }
        }
        for policy in one.items("resizePolicy") {
            if policy.text("restartPolicy") == "RestartContainer" {
                let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                let at = policy.child("restartPolicy");
                errors.push(FieldError::invalid(at, &"RestartContainer".into(), why));
            }
        }
    }
}

/// Whether a container's lifecycle says nothing but the signal that ends it, which
/// is dropped: upstream has its feature gate closed.
fn signal_only(lifecycle: &serde_json::Map<String, Value>) -> bool {
    !lifecycle.is_empty() && lifecycle.keys().all(|key| key == "stopSignal")
}

/// Variables that are read from files of volumes, which must be empty directories
/// of this pod.
pub fn files(spec: &At<'_>, errors: &mut Errors) {
    let volumes = spec.items("volumes");
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        for variable in spec.items(field).iter().flat_map(|one| one.items("env")) {
            let Some(file) = variable
                .get("valueFrom")
                .and_then(|from| from.get("fileKeyRef"))
            else {
                continue;
            };
            let (name, at) = (file.text("volumeName"), file.child("volumeName"));
            match volumes.iter().rfind(|one| one.text("name") == name) {
                None => errors.push(FieldError::not_found(at, &name.into())),
                Some(volume) if volume.get("emptyDir").is_none() => {
                    let why = "referenced volume must be of type emptyDir";
                    errors.push(FieldError::invalid(at, &name.into(), why));
                }
                Some(_) => {}
            }
        }
    }
}

/// What a container that is added later cannot have.
fn ephemeral(one: &At<'_>, errors: &mut Errors) {
    const WHY: &str = "cannot be set for an Ephemeral Container";
    // In the order of Go's type.
    for field in [
        "ports",
        "resources",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
    ] {
        let empty = match one.value.get(field) {
            None | Some(Value::Null) => true,
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) if field == "lifecycle" => signal_only(map),
            Some(Value::Object(map)) => field == "resources" && map.is_empty(),
            Some(_) => false,
        };
        if !empty {
            errors.push(FieldError::forbidden(one.child(field), WHY));
        }
    }
    for mount in one.items("volumeMounts") {
        for field in ["subPath", "subPathExpr"] {
            if !mount.text(field).is_empty() {
                errors.push(FieldError::forbidden(mount.child(field), WHY));
            }
        }
    }
}

/// What every container must be.
fn common(one: &At<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    if one.text("name").is_empty() {
        one.required("name", errors);
    } else {
        one.named("name", names::label, errors);
    }
    one.required("image", errors);
    one.word(
        "terminationMessagePolicy",
        &["File", "FallbackToLogsOnError"],
        errors,
    );
    ports(one, errors);
    environment(one, errors);
    mounts(one, pod, errors);
    devices(one, pod, errors);
    one.word(
        "imagePullPolicy",
        &["Always", "IfNotPresent", "Never"],
        errors,
    );
    if let Some(amounts) = one.get("resources") {
        resources(&amounts, &pod.claims, errors);
    }
    resize(one, pod.restart, errors);
    if let Some(context) = one.get("securityContext") {
        security::container(&context, errors);
    }
}

fn ports(one: &At<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for port in one.items("ports") {
        let name = port.text("name");
        if !name.is_empty() {
            let wrong = super::check::port_name(name);
            if wrong.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(port.child("name"), &name.into()));
            }
            all(&port.child("name"), name, wrong, errors);
        }
        match port.number("containerPort") {
            None | Some(0) => {
                errors.push(FieldError::required(port.child("containerPort"), ""));
            }
            Some(_) => port.port("containerPort", errors),
        }
        if port.number("hostPort").is_some_and(|number| number != 0) {
            port.port("hostPort", errors);
        }
        port.word("protocol", &["SCTP", "TCP", "UDP"], errors);
    }
}

/// A port of the node can be taken once.
fn host_ports(containers: &[At<'_>], path: &str, errors: &mut Errors) {
    let mut taken = HashSet::new();
    for (index, one) in containers.iter().enumerate() {
        for (place, port) in one.items("ports").iter().enumerate() {
            let number = port.number("hostPort").unwrap_or(0);
            if number == 0 {
                continue;
            }
            let shown = format!("{}/{}/{number}", port.text("protocol"), port.text("hostIP"));
            if !taken.insert(shown.clone()) {
                let at = format!("{path}[{index}].ports[{place}].hostPort");
                errors.push(FieldError::duplicate(at, &shown.into()));
            }
        }
    }
}

fn variable_name(name: &str) -> Vec<String> {
    let good = |letter: char| letter != '=' && (' '..='~').contains(&letter);
    if name.chars().all(good) {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned(),
    ]
}

fn environment(one: &At<'_>, errors: &mut Errors) {
    for variable in one.items("env") {
        let name = variable.text("name");
        if name.is_empty() {
            variable.required("name", errors);
        } else {
            all(&variable.child("name"), name, variable_name(name), errors);
        }
        if let Some(from) = variable.get("valueFrom") {
            value_from(&from, variable.text("value"), errors);
        }
    }
    for from in one.items("envFrom") {
        let prefix = from.text("prefix");
        all(&from.child("prefix"), prefix, variable_name(prefix), errors);
        let sources: Vec<_> = ["configMapRef", "secretRef"]
            .into_iter()
            .filter_map(|field| from.get(field))
            .collect();
        for source in &sources {
            let name = source.text("name");
            if name.is_empty() {
                source.required("name", errors);
            } else {
                let wrong = names::subdomain(&names::prefix(name));
                all(&source.child("name"), name, wrong, errors);
            }
        }
        let why = match sources.len() {
            0 => "must specify one of: `configMapRef` or `secretRef`",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        errors.push(FieldError::invalid(one.child("envFrom"), &"".into(), why));
    }
}

/// Fields of a pod that a variable may show.
const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn value_from(from: &At<'_>, value: &str, errors: &mut Errors) {
    let mut sources = 0;
    if let Some(field) = from.get("fieldRef") {
        sources += 1;
        object_field(&field, FIELDS, errors);
    }
    if let Some(resource) = from.get("resourceFieldRef") {
        sources += 1;
        resource_field(&resource, false, errors);
    }
    for field in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(key) = from.get(field) {
            sources += 1;
            key.named("name", names::subdomain, errors);
            if key.text("key").is_empty() {
                key.required("key", errors);
            } else {
                key.named("key", data_key, errors);
            }
        }
    }
    if let Some(file) = from.get("fileKeyRef") {
        sources += 1;
        file_key(&file, errors);
    }
    let why = match (sources, value) {
        (0, _) => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        (_, text) if !text.is_empty() => "may not be specified when `value` is not empty",
        (1, _) => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(FieldError::invalid(from.path.clone(), &"".into(), why));
}

fn file_key(file: &At<'_>, errors: &mut Errors) {
    let (key, path) = (file.text("key"), file.text("path"));
    if key.is_empty() {
        file.required("key", errors);
    } else {
        file.named("key", variable_name, errors);
    }
    if file.text("volumeName").is_empty() {
        file.required("volumeName", errors);
    } else {
        file.named("volumeName", names::label, errors);
    }
    if path.is_empty() {
        file.required("path", errors);
    } else {
        no_steps_back(path, &file.child("path"), errors);
    }
}

fn mounts(one: &At<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    let devices = one.items("volumeDevices");
    let mut paths = HashSet::new();
    let list = one.child("volumeMounts");
    for mount in one.items("volumeMounts") {
        let (name, path) = (mount.text("name"), mount.text("mountPath"));
        let invalid = |field: &str, text: &str, why: &str, errors: &mut Errors| {
            errors.push(FieldError::invalid(mount.child(field), &text.into(), why));
        };
        if name.is_empty() {
            mount.required("name", errors);
        }
        if !pod.volumes.iter().any(|(known, _)| *known == name) {
            errors.push(FieldError::not_found(mount.child("name"), &name.into()));
        }
        if path.is_empty() {
            mount.required("mountPath", errors);
        }
        if !paths.insert(path) {
            invalid("mountPath", path, "must be unique", errors);
        }
        if devices.iter().any(|device| device.text("name") == name) {
            invalid(
                "name",
                name,
                "must not already exist in volumeDevices",
                errors,
            );
        }
        if devices
            .iter()
            .any(|device| device.text("devicePath") == path)
        {
            let why = "must not already exist as a path in volumeDevices";
            invalid("mountPath", path, why, errors);
        }
        let (sub, expression) = (mount.text("subPath"), mount.text("subPathExpr"));
        if !sub.is_empty() {
            descending(sub, &format!("{list}.subPath"), errors);
        }
        if !expression.is_empty() {
            if !sub.is_empty() {
                let why = "subPathExpr and subPath are mutually exclusive";
                invalid("subPathExpr", expression, why, errors);
            }
            descending(expression, &format!("{list}.subPathExpr"), errors);
        }
        propagation(&mount, one, &list, errors);
        read_only(&mount, &list, errors);
    }
}

fn propagation(mount: &At<'_>, one: &At<'_>, list: &str, errors: &mut Errors) {
    let known = ["Bidirectional", "HostToContainer", "None"];
    let given = mount.text("mountPropagation");
    let at = format!("{list}.mountPropagation");
    if mount.get("mountPropagation").is_none() {
        return;
    }
    if !known.contains(&given) {
        errors.push(FieldError::unsupported(at.clone(), given, &known));
    }
    let privileged = one.value.pointer("/securityContext/privileged") == Some(&Value::Bool(true));
    if given == "Bidirectional" && !privileged {
        let why = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(FieldError::forbidden(at, why));
    }
}

fn read_only(mount: &At<'_>, list: &str, errors: &mut Errors) {
    let given = mount.text("recursiveReadOnly");
    let at = format!("{list}.recursiveReadOnly");
    match given {
        "" if mount.get("recursiveReadOnly").is_none() => {}
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.flag("readOnly") {
                let why = "may only be specified when readOnly is true";
                errors.push(FieldError::forbidden(at.clone(), why));
            }
            let propagation = mount.text("mountPropagation");
            if !matches!(propagation, "" | "None") {
                let why = "may only be specified when mountPropagation is None or not specified";
                errors.push(FieldError::forbidden(at, why));
            }
        }
        other => {
            let known = ["Disabled", "Enabled", "IfPossible"];
            errors.push(FieldError::unsupported(at, other, &known));
        }
    }
}

fn devices(one: &At<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    let mounts = one.items("volumeMounts");
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    for device in one.items("volumeDevices") {
        let (name, path) = (device.text("name"), device.text("devicePath"));
        let invalid = |field: &str, text: &str, why: &str, errors: &mut Errors| {
            errors.push(FieldError::invalid(device.child(field), &text.into(), why));
        };
        if name.is_empty() {
            device.required("name", errors);
        }
        if names.contains(name) {
            invalid("name", name, "must be unique", errors);
        }
        match pod.volumes.iter().find(|(known, _)| *known == name) {
            None => errors.push(FieldError::not_found(device.child("name"), &name.into())),
            Some((_, volume)) => {
                let has = |field: &str| volume.get(field).is_some_and(|one| !one.is_null());
                if !has("persistentVolumeClaim") && !has("ephemeral") {
                    let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                    invalid("name", name, why, errors);
                }
            }
        }
        if path.is_empty() {
            device.required("devicePath", errors);
        }
        if paths.contains(path) {
            invalid("devicePath", path, "must be unique", errors);
        }
        if path.split('/').any(|part| part == "..") {
            invalid(
                "devicePath",
                path,
                "can not contain backsteps ('..')",
                errors,
            );
        } else {
            paths.insert(path);
        }
        if mounts.iter().any(|mount| mount.text("name") == name) {
            invalid(
                "name",
                name,
                "must not already exist in volumeMounts",
                errors,
            );
        }
        if mounts.iter().any(|mount| mount.text("mountPath") == path) {
            let why = "must not already exist as a path in volumeMounts";
            invalid("devicePath", path, why, errors);
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}

fn resize(one: &At<'_>, restart: &str, errors: &mut Errors) {
    let path = one.child("resizePolicy");
    let mut seen = HashSet::new();
    for policy in one.items("resizePolicy") {
        let resource = policy.text("resourceName");
        if !seen.insert(resource) {
            errors.push(FieldError::duplicate(policy.path.clone(), &resource.into()));
        }
        let mut missing = false;
        for (given, known) in [
            (resource, ["cpu", "memory"]),
            (
                policy.text("restartPolicy"),
                ["NotRequired", "RestartContainer"],
            ),
        ] {
            if given.is_empty() {
                // Said once, though both may be missing.
                if !std::mem::replace(&mut missing, true) {
                    errors.push(FieldError::required(path.clone(), ""));
                }
            } else if !known.contains(&given) {
                errors.push(FieldError::unsupported(path.clone(), given, &known));
            }
        }
        let given = policy.text("restartPolicy");
        if restart == "Never" && given != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(path.clone(), &given.into(), why));
        }
    }
}

/// When a container is started again.
fn restart_rules(one: &At<'_>, initial: bool, errors: &mut Errors) {
    let rules = one.items("restartPolicyRules");
    if one.get("restartPolicy").is_none() && !rules.is_empty() {
        let why = "must specify restartPolicy when restart rules are used";
        errors.push(FieldError::required(one.child("restartPolicy"), why));
        if initial {
            return;
        }
    }
    one.one_of("restartPolicy", &["Always", "Never", "OnFailure"], errors);
    for rule in rules {
        let action = rule.text("action");
        let actions = ["Restart", "RestartAllContainers"];
        if !actions.contains(&action) {
            errors.push(FieldError::unsupported(
                rule.child("action"),
                action,
                &actions,
            ));
        }
        let Some(codes) = rule.get("exitCodes") else {
            let why = "must be specified";
            errors.push(FieldError::required(rule.child("exitCodes"), why));
            continue;
        };
        let operator = codes.text("operator");
        let operators = ["In", "NotIn"];
        if !operators.contains(&operator) {
            let at = codes.child("operator");
            errors.push(FieldError::unsupported(at, operator, &operators));
        }
    }
}
