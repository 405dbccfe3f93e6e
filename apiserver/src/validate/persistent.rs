//! Persistent volumes, by themselves and inside attachments. Source: upstream's
//! `pkg/apis/core/validation` and `pkg/apis/storage/validation`.

use serde_json::{Value, json};

use super::{
    Errors, affinity,
    check::{At, all, no_steps_back},
    claim, names, volume,
};
use crate::{codec, field::FieldError, object::Json};

type Check = fn(&At<'_>, &mut Errors);

/// Every source, in the order in which upstream looks for them, and where errors
/// say that it stands.
const SOURCES: &[(&str, &str, Check)] = &[
    ("hostPath", "hostPath", volume::host_path),
    ("gcePersistentDisk", "persistentDisk", |at, errors| {
        at.required("pdName", errors);
        volume::partition(at, errors);
    }),
    (
        "awsElasticBlockStore",
        "awsElasticBlockStore",
        |at, errors| {
            at.required("volumeID", errors);
            volume::partition(at, errors);
        },
    ),
    ("glusterfs", "glusterfs", |at, errors| {
        at.required("endpoints", errors);
        at.required("path", errors);
        if at.get("endpointsNamespace").is_some() {
            at.named("endpointsNamespace", names::label, errors);
        }
    }),
    ("flocker", "flocker", volume::flocker),
    ("nfs", "nfs", volume::nfs),
    ("rbd", "rbd", |at, errors| {
        volume::some(at, "monitors", errors);
        at.required("image", errors);
    }),
    ("quobyte", "quobyte", volume::quobyte),
    ("cephfs", "cephfs", |at, errors| {
        volume::some(at, "monitors", errors)
    }),
    ("iscsi", "iscsi", |at, errors| {
        volume::iscsi(at, errors);
        if let Some(secret) = at.get("secretRef") {
            secret.required("name", errors);
        }
    }),
    ("cinder", "cinder", |at, errors| {
        at.required("volumeID", errors);
        secret(at, errors);
    }),
    ("fc", "fc", volume::fibre_channel),
    ("flexVolume", "flexVolume", volume::flex),
    ("azureFile", "azureFile", |at, errors| {
        at.required("secretName", errors);
        at.required("shareName", errors);
        if at.get("secretNamespace").is_some() {
            at.required("secretNamespace", errors);
        }
    }),
    ("vsphereVolume", "vsphereVolume", |at, errors| {
        at.required("volumePath", errors)
    }),
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        |at, errors| at.required("pdID", errors),
    ),
    ("portworxVolume", "portworxVolume", |at, errors| {
        at.required("volumeID", errors)
    }),
    ("azureDisk", "azureDisk", volume::azure_disk),
    ("scaleIO", "scaleIO", |at, errors| {
        for field in ["gateway", "system", "volumeName"] {
            at.required(field, errors);
        }
    }),
    ("local", "local", |at, errors| {
        if at.text("path").is_empty() {
            return at.required("path", errors);
        }
        no_steps_back(at.text("path"), &at.child("path"), errors);
    }),
    ("storageos", "storageos", |at, errors| {
        volume::storage_os(at, errors);
        if let Some(secret) = at.get("secretRef") {
            secret.required("namespace", errors);
        }
    }),
    ("csi", "csi", csi),
];

/// A volume of its own.
pub fn volume(value: &Json, errors: &mut Errors) {
    let nothing = json!({});
    let at = At::new(value.get("spec").unwrap_or(&nothing), "spec");
    spec(&at, false, errors);
}

/// What a volume is made of stays.
pub fn kept(value: &Json, current: &Json, errors: &mut Errors) {
    const SECRET: &str = "controllerExpandSecretRef";
    let sources = |value: &Json| -> Json {
        let spec = value.get("spec").and_then(Value::as_object);
        let known = SOURCES.iter().map(|(field, ..)| *field);
        let given = |field: &str| spec?.get(field).filter(|one| !one.is_null()).cloned();
        known
            .filter_map(|field| Some((field.to_owned(), given(field)?)))
            .collect()
    };
    let (mut new, old) = (sources(value), sources(current));
    let secret = |sources: &Json| {
        let csi = sources.get("csi")?;
        Some(csi.get(SECRET).is_some_and(|secret| !secret.is_null()))
    };
    // It may be told later.
    if (secret(&new), secret(&old)) == (Some(true), Some(false))
        && let Some(csi) = new.get_mut("csi").and_then(Value::as_object_mut)
    {
        csi.remove(SECRET);
    }
    if new != old {
        let why = "spec.persistentvolumesource is immutable after creation";
        errors.push(FieldError::forbidden("spec.persistentvolumesource", why));
    }
    let of = |value: &Json, field: &str| {
        value
            .get("spec")
            .and_then(|spec| spec.get(field))
            .cloned()
            .unwrap_or(Value::Null)
    };
    let mode = of(value, "volumeMode");
    if mode != of(current, "volumeMode") {
        errors.push(FieldError::invalid(
            "volumeMode",
            &mode,
            "field is immutable",
        ));
    }
    let field = "volumeAttributesClassName";
    if !of(current, field).is_null() && of(value, field).is_null() {
        let why = "update from non-nil value to nil is forbidden";
        errors.push(FieldError::forbidden(format!("spec.{field}"), why));
    }
}

/// What an attachment attaches to which node stays. Declared: it is not shown.
pub fn attachment_kept(value: &Json, current: &Json, errors: &mut Errors) {
    // Of a change upstream says first what is declared.
    errors.sort_by_key(|error| error.field != "spec.attacher");
    super::declared_fixed(&["spec"], value, current, errors);
}

/// What attaches a volume to a node.
pub fn attachment(value: &Json, errors: &mut Errors) {
    let nothing = json!({});
    let at = At::new(value.get("spec").unwrap_or(&nothing), "spec");
    let source = At::new(
        at.value.get("source").unwrap_or(&nothing),
        at.child("source"),
    );
    let name = source.get("persistentVolumeName");
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (source.get("inlineVolumeSpec"), &name) {
        (None, None) => errors.push(FieldError::required(source.path.clone(), ONE)),
        (Some(_), Some(_)) => errors.push(FieldError::forbidden(source.path.clone(), ONE)),
        (None, Some(name)) => {
            if name.as_text().is_empty() {
                let why = "must specify non empty persistentVolumeName";
                errors.push(FieldError::required(name.path.clone(), why));
            }
        }
        (Some(inline), None) => spec(&inline, true, errors),
    }
    let node = at.text("nodeName");
    all(&at.child("nodeName"), node, names::subdomain(node), errors);
    if let Some(name) = name {
        let text = name.as_text();
        all(&name.path, text, names::subdomain(text), errors);
    }
    // Declared: after the rest.
    volume::driver(&at, "attacher", errors);
}

const INLINE: &str = "may not be specified in the context of inline volumes";

fn spec(at: &At<'_>, inline: bool, errors: &mut Errors) {
    let forbidden = |field: &str, errors: &mut Errors| {
        errors.push(FieldError::forbidden(at.child(field), INLINE));
    };
    if inline {
        for field in ["claimRef", "capacity"] {
            if at.get(field).is_some() {
                forbidden(field, errors);
            }
        }
        if at.get("csi").is_none() {
            let why = "has to be specified in the context of inline volumes";
            errors.push(FieldError::required(at.child("csi"), why));
        }
    }
    if at.items("accessModes").is_empty() {
        errors.push(FieldError::required(at.child("accessModes"), ""));
    }
    claim::access_modes(at, errors);
    if !inline {
        capacity(at, errors);
    }
    let policy = at.text("persistentVolumeReclaimPolicy");
    if inline && !policy.is_empty() && policy != "Retain" {
        errors.push(FieldError::forbidden(
            at.child("persistentVolumeReclaimPolicy"),
            "may only be Retain in the context of inline volumes",
        ));
    } else if !inline && !policy.is_empty() {
        let known = ["Delete", "Recycle", "Retain"];
        at.one_of("persistentVolumeReclaimPolicy", &known, errors);
    }
    if let Some(nodes) = at.get("nodeAffinity") {
        match nodes.get("required") {
            _ if inline => forbidden("nodeAffinity", errors),
            Some(required) => affinity::node_selector(&required, errors),
            None => errors.push(FieldError::required(
                nodes.child("required"),
                "must specify required node constraints",
            )),
        }
    }
    sources(at, errors);
    rest(at, inline, errors);
}

fn capacity(at: &At<'_>, errors: &mut Errors) {
    let path = at.child("capacity");
    let given: Vec<_> = at.entries("capacity").collect();
    if given.is_empty() {
        errors.push(FieldError::required(path.clone(), ""));
    }
    if given.len() != 1 || given[0].0 != "storage" {
        let shown = at.value.get("capacity").unwrap_or(&Value::Null);
        errors.push(FieldError::unsupported_value(
            path.clone(),
            shown,
            &["storage"],
        ));
    }
    for (name, amount) in given {
        let text = amount.as_str().unwrap_or("");
        if codec::compare_quantities(text, "0") != Some(std::cmp::Ordering::Greater) {
            let why = "must be greater than zero";
            errors.push(FieldError::invalid(format!("{path}[{name}]"), amount, why));
        }
    }
}

fn sources(at: &At<'_>, errors: &mut Errors) {
    let mut found = false;
    for (field, shown, check) in SOURCES {
        let Some(source) = at.get(field) else {
            continue;
        };
        if found && *field != "flexVolume" {
            let why = "may not specify more than 1 volume type";
            // Upstream's second name of the one.
            let shown = if *field == "cephfs" { "cephFS" } else { *field };
            errors.push(FieldError::forbidden(at.child(shown), why));
        } else {
            check(&At::new(source.value, at.child(shown)), errors);
            if *field == "local" && at.get("nodeAffinity").is_none() {
                let why = "Local volume requires node affinity";
                errors.push(FieldError::required(at.child("nodeAffinity"), why));
            }
        }
        found = true;
    }
    if !found {
        let why = "must specify a volume type";
        errors.push(FieldError::required(at.path.clone(), why));
    }
}

fn rest(at: &At<'_>, inline: bool, errors: &mut Errors) {
    let root = at.value.pointer("/hostPath/path").and_then(Value::as_str);
    if root == Some("/") && at.text("persistentVolumeReclaimPolicy") == "Recycle" {
        errors.push(FieldError::forbidden(
            at.child("persistentVolumeReclaimPolicy"),
            "may not be 'recycle' for a hostPath mount of '/'",
        ));
    }
    if !at.text("storageClassName").is_empty() {
        if inline {
            errors.push(FieldError::forbidden(at.child("storageClassName"), INLINE));
        } else {
            at.named("storageClassName", names::subdomain, errors);
        }
    }
    if inline && at.get("volumeMode").is_some() && at.text("volumeMode") != "Filesystem" {
        let why =
            "may not specify volumeMode other than Filesystem in the context of inline volumes";
        errors.push(FieldError::forbidden(at.child("volumeMode"), why));
    } else if !inline {
        at.one_of("volumeMode", &["Block", "Filesystem"], errors);
    }
    if at.get("volumeAttributesClassName").is_some() {
        if at.text("volumeAttributesClassName").is_empty() {
            let path = at.child("volumeAttributesClassName");
            errors.push(FieldError::required(path, "an empty string is disallowed"));
        } else {
            at.named("volumeAttributesClassName", names::subdomain, errors);
        }
        if at.get("csi").is_none() {
            let why = "has to be specified when using volumeAttributesClassName";
            errors.push(FieldError::required(at.child("csi"), why));
        }
    }
}

fn secret(at: &At<'_>, errors: &mut Errors) {
    if let Some(secret) = at.get("secretRef") {
        secret.required("name", errors);
        secret.required("namespace", errors);
    }
}

fn csi(at: &At<'_>, errors: &mut Errors) {
    volume::driver(at, "driver", errors);
    at.required("volumeHandle", errors);
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let Some(secret) = at.get(field) else {
            continue;
        };
        for (field, rule) in [
            ("name", names::subdomain as crate::kind::NameRule),
            ("namespace", names::label),
        ] {
            if secret.text(field).is_empty() {
                secret.required(field, errors);
            } else {
                secret.named(field, rule, errors);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(check: fn(&Json, &mut Errors), value: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        check(value.as_object().expect("an object"), &mut errors);
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn a_volume_has_a_source_and_a_size() {
        let good = json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "hostPath": {"path": "/x"}}});
        assert!(fields(volume, &good).is_empty());
        assert_eq!(
            fields(volume, &json!({"spec": {}})),
            ["spec.accessModes", "spec.capacity", "spec.capacity", "spec"]
        );
        let local = json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "local": {"path": "/x"}}});
        assert_eq!(fields(volume, &local), ["spec.nodeAffinity"]);
    }

    #[test]
    fn an_attachment_names_one_volume() {
        let good = json!({"spec": {"attacher": "a.example.com", "nodeName": "n",
            "source": {"persistentVolumeName": "v"}}});
        assert!(fields(attachment, &good).is_empty());
        let none = json!({"spec": {"attacher": "a.example.com", "nodeName": "n"}});
        assert_eq!(fields(attachment, &none), ["spec.source"]);
    }
}
