//! Volumes of pods, source by source. Source: upstream's
//! `pkg/apis/core/validation`.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    Errors,
    check::{At, all, descending, no_steps_back, qualified_target, unreserved},
    claim, names, trust,
};
use crate::{codec, field::FieldError};

type Check = fn(&At<'_>, &mut Errors);

/// Every source, in the order in which upstream looks for them, and where errors
/// say that it stands.
const SOURCES: &[(&str, &str, Check)] = &[
    ("emptyDir", "emptyDir", empty_dir),
    ("hostPath", "hostPath", host_path),
    ("gitRepo", "gitRepo", |at, errors| {
        at.required("repository", errors);
        descending(at.text("directory"), &at.child("directory"), errors);
    }),
    ("gcePersistentDisk", "persistentDisk", |at, errors| {
        at.required("pdName", errors);
        partition(at, errors);
    }),
    (
        "awsElasticBlockStore",
        "awsElasticBlockStore",
        |at, errors| {
            at.required("volumeID", errors);
            partition(at, errors);
        },
    ),
    ("secret", "secret", |at, errors| {
        at.required("secretName", errors);
        projected_files(at, errors);
    }),
    ("nfs", "nfs", nfs),
    ("iscsi", "iscsi", iscsi),
    ("glusterfs", "glusterfs", |at, errors| {
        at.required("endpoints", errors);
        at.required("path", errors);
    }),
    ("flocker", "flocker", flocker),
    (
        "persistentVolumeClaim",
        "persistentVolumeClaim",
        |at, errors| {
            at.required("claimName", errors);
        },
    ),
    ("rbd", "rbd", |at, errors| {
        some(at, "monitors", errors);
        at.required("image", errors);
    }),
    ("cinder", "cinder", |at, errors| {
        at.required("volumeID", errors);
        secret_name(at, errors);
    }),
    ("cephfs", "cephfs", |at, errors| {
        some(at, "monitors", errors)
    }),
    ("quobyte", "quobyte", quobyte),
    ("downwardAPI", "downwardAPI", |at, errors| {
        at.file_mode("defaultMode", errors);
        for item in at.items("items") {
            downward_file(&At::new(item.value, at.path.clone()), errors);
        }
    }),
    ("fc", "fc", fibre_channel),
    ("flexVolume", "flexVolume", flex),
    ("configMap", "configMap", |at, errors| {
        at.required("name", errors);
        projected_files(at, errors);
    }),
    ("azureFile", "azureFile", |at, errors| {
        at.required("secretName", errors);
        at.required("shareName", errors);
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
    ("azureDisk", "azureDisk", azure_disk),
    ("storageos", "storageos", storage_os),
    ("projected", "projected", projected),
    ("scaleIO", "scaleIO", |at, errors| {
        for field in ["gateway", "system", "volumeName"] {
            at.required(field, errors);
        }
    }),
    ("csi", "csi", csi),
    ("ephemeral", "ephemeral", |at, errors| {
        match at.get("volumeClaimTemplate") {
            None => errors.push(FieldError::required(at.child("volumeClaimTemplate"), "")),
            Some(template) => claim::template(&template, errors),
        }
    }),
    ("image", "image", |at, errors| {
        at.required("reference", errors);
        at.one_of("pullPolicy", &["Always", "IfNotPresent", "Never"], errors);
    }),
];

/// Checks the volumes of a pod; gives those that containers may mount, by name.
pub fn volumes<'a>(spec: &At<'a>, errors: &mut Errors) -> Vec<(&'a str, &'a Value)> {
    let mut sound: Vec<(&str, &Value)> = Vec::new();
    for volume in spec.items("volumes") {
        let before = errors.len();
        source(&volume, errors);
        let name = volume.text("name");
        if name.is_empty() {
            volume.required("name", errors);
        } else {
            volume.named("name", names::label, errors);
        }
        if sound.iter().any(|(other, _)| *other == name) {
            errors.push(FieldError::duplicate(volume.child("name"), &name.into()));
        }
        if errors.len() == before {
            sound.push((name, volume.value));
        }
    }
    sound
}

/// A volume has one source.
fn source(volume: &At<'_>, errors: &mut Errors) {
    let mut found = false;
    for (field, shown, check) in SOURCES {
        let Some(source) = volume.get(field) else {
            continue;
        };
        if found {
            let why = "may not specify more than 1 volume type";
            errors.push(FieldError::forbidden(volume.child(field), why));
        } else {
            check(&At::new(source.value, volume.child(shown)), errors);
        }
        found = true;
    }
    if !found {
        errors.push(FieldError::required(
            volume.path.clone(),
            "must specify a volume type",
        ));
    }
}

/// A list that is not empty.
pub(super) fn some(at: &At<'_>, field: &str, errors: &mut Errors) {
    if at.items(field).is_empty() {
        errors.push(FieldError::required(at.child(field), ""));
    }
}

fn secret_name(at: &At<'_>, errors: &mut Errors) {
    if let Some(secret) = at.get("secretRef") {
        secret.required("name", errors);
    }
}

pub(super) fn partition(at: &At<'_>, errors: &mut Errors) {
    at.within(
        "partition",
        0,
        255,
        "must be between 1 and 255, inclusive",
        errors,
    );
}

fn empty_dir(at: &At<'_>, errors: &mut Errors) {
    if at.text("sizeLimit").starts_with('-') {
        errors.push(FieldError::forbidden(
            at.child("sizeLimit"),
            "SizeLimit field must be a valid resource quantity",
        ));
    }
}

pub(super) fn host_path(at: &At<'_>, errors: &mut Errors) {
    if at.text("path").is_empty() {
        return at.required("path", errors);
    }
    no_steps_back(at.text("path"), &at.child("path"), errors);
    at.one_of(
        "type",
        &[
            "",
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        ],
        errors,
    );
}

pub(super) fn nfs(at: &At<'_>, errors: &mut Errors) {
    at.required("server", errors);
    at.required("path", errors);
    let path = at.text("path");
    if !path.starts_with('/') {
        let why = "must be an absolute path";
        errors.push(FieldError::invalid(at.child("path"), &path.into(), why));
    }
}

pub(super) fn iscsi(at: &At<'_>, errors: &mut Errors) {
    at.required("targetPortal", errors);
    let name = at.text("iqn");
    if name.is_empty() {
        at.required("iqn", errors);
    } else if let Some(why) = qualified_target(name) {
        errors.push(FieldError::invalid(at.child("iqn"), &name.into(), why));
    }
    at.within(
        "lun",
        0,
        255,
        "must be between 0 and 255, inclusive",
        errors,
    );
    if (at.flag("chapAuthDiscovery") || at.flag("chapAuthSession")) && at.get("secretRef").is_none()
    {
        errors.push(FieldError::required(at.child("secretRef"), ""));
    }
    if let Some(initiator) = at.get("initiatorName") {
        let name = initiator.as_text();
        if let Some(why) = qualified_target(name) {
            errors.push(FieldError::invalid(
                at.child("initiatorname"),
                &name.into(),
                why,
            ));
        }
    }
}

pub(super) fn flocker(at: &At<'_>, errors: &mut Errors) {
    let (name, uuid) = (at.text("datasetName"), at.text("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        let why = "one of datasetName and datasetUUID is required";
        errors.push(FieldError::required(at.path.clone(), why));
    }
    if !name.is_empty() && !uuid.is_empty() {
        errors.push(FieldError::invalid(
            at.path.clone(),
            &"resource".into(),
            "datasetName and datasetUUID can not be specified simultaneously",
        ));
    }
    if name.contains('/') {
        let why = "must not contain '/'";
        errors.push(FieldError::invalid(
            at.child("datasetName"),
            &name.into(),
            why,
        ));
    }
}

pub(super) fn quobyte(at: &At<'_>, errors: &mut Errors) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = at.text("registry");
    if registry.is_empty() {
        errors.push(FieldError::required(at.child("registry"), PAIRS));
    } else if at.text("tenant").len() >= 65 {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(FieldError::required(at.child("tenant"), why));
    } else {
        let pair = |pair: &&str| {
            pair.rsplit_once(':')
                .is_none_or(|(host, _)| host.contains(':'))
        };
        for _ in registry.split(',').filter(pair) {
            errors.push(FieldError::invalid(
                at.child("registry"),
                &registry.into(),
                PAIRS,
            ));
        }
    }
    at.required("volume", errors);
}

pub(super) fn fibre_channel(at: &At<'_>, errors: &mut Errors) {
    let (names, ids) = (at.items("targetWWNs"), at.items("wwids"));
    let path = at.child("targetWWNs");
    if names.is_empty() && ids.is_empty() {
        let why = "must specify either targetWWNs or wwids, but not both";
        errors.push(FieldError::required(path.clone(), why));
    }
    if !names.is_empty() && !ids.is_empty() {
        let why = "targetWWNs and wwids can not be specified simultaneously";
        errors.push(FieldError::invalid(path, &at.value["targetWWNs"], why));
    }
    if !names.is_empty() && at.get("lun").is_none() {
        let why = "lun is required if targetWWNs is specified";
        errors.push(FieldError::required(at.child("lun"), why));
    } else if !names.is_empty() {
        at.within(
            "lun",
            0,
            255,
            "must be between 0 and 255, inclusive",
            errors,
        );
    }
}

pub(super) fn flex(at: &At<'_>, errors: &mut Errors) {
    at.required("driver", errors);
    for (key, _) in at.entries("options") {
        let domain = format!(
            ".{}",
            key.split('/').next().unwrap_or(key).to_ascii_lowercase()
        );
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            errors.push(FieldError::invalid(
                format!("{}[{key}]", at.child("options")),
                &key.as_str().into(),
                "kubernetes.io and k8s.io namespaces are reserved",
            ));
        }
    }
}

pub(super) fn azure_disk(at: &At<'_>, errors: &mut Errors) {
    at.required("diskName", errors);
    at.required("diskURI", errors);
    at.one_of("cachingMode", &["None", "ReadOnly", "ReadWrite"], errors);
    at.one_of("kind", &["Dedicated", "Managed", "Shared"], errors);
    let (kind, uri) = (at.text("kind"), at.text("diskURI"));
    let (prefix, form) = if kind == "Managed" {
        (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        )
    } else {
        (
            "https://",
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
        )
    };
    if !uri.starts_with(prefix) {
        errors.push(FieldError::unsupported(at.child("diskURI"), uri, &[form]));
    }
}

pub(super) fn storage_os(at: &At<'_>, errors: &mut Errors) {
    if at.text("volumeName").is_empty() {
        at.required("volumeName", errors);
    } else {
        at.named("volumeName", names::label, errors);
    }
    if !at.text("volumeNamespace").is_empty() {
        at.named("volumeNamespace", names::label, errors);
    }
    secret_name(at, errors);
}

/// The name of a CSI driver.
pub fn driver(at: &At<'_>, field: &str, errors: &mut Errors) {
    let name = at.text(field);
    if name.is_empty() {
        return at.required(field, errors);
    }
    if name.len() > 63 {
        errors.push(FieldError::too_long(at.child(field), 63));
    }
    let wrong = names::subdomain(&name.to_ascii_lowercase());
    all(&at.child(field), name, wrong, errors);
}

fn csi(at: &At<'_>, errors: &mut Errors) {
    driver(at, "driver", errors);
    if let Some(secret) = at.get("nodePublishSecretRef") {
        let name = secret.text("name");
        if name.is_empty() {
            secret.required("name", errors);
        } else {
            all(&at.child("name"), name, names::subdomain(name), errors);
        }
    }
}

/// What a config map or a secret puts into files.
fn projected_files(at: &At<'_>, errors: &mut Errors) {
    at.file_mode("defaultMode", errors);
    for item in at.items("items") {
        key_to_path(&item, errors);
    }
}

fn key_to_path(item: &At<'_>, errors: &mut Errors) {
    item.required("key", errors);
    item.required("path", errors);
    unreserved(item.text("path"), &item.child("path"), errors);
    item.file_mode("mode", errors);
}

fn downward_file(file: &At<'_>, errors: &mut Errors) {
    file.required("path", errors);
    unreserved(file.text("path"), &file.child("path"), errors);
    match (file.get("fieldRef"), file.get("resourceFieldRef")) {
        (Some(field), other) => {
            object_field(&field, VOLUME_FIELDS, errors);
            if other.is_some() {
                errors.push(FieldError::invalid(
                    file.path.clone(),
                    &"resource".into(),
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                ));
            }
        }
        (None, Some(resource)) => resource_field(&resource, true, errors),
        (None, None) => errors.push(FieldError::required(
            file.path.clone(),
            "one of fieldRef and resourceFieldRef is required",
        )),
    }
    file.file_mode("mode", errors);
}

/// Fields of a pod that a volume may show.
const VOLUME_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// A field of the pod itself.
pub fn object_field(at: &At<'_>, known: &[&str], errors: &mut Errors) {
    let path = at.text("fieldPath");
    if path.is_empty() {
        return at.required("fieldPath", errors);
    }
    if let Some((field, key)) = path
        .strip_suffix(']')
        .and_then(|path| path.split_once("['"))
    {
        let key = key.trim_end_matches('\'');
        let wrong = match field {
            "metadata.annotations" => names::qualified(&key.to_ascii_lowercase()),
            "metadata.labels" => names::qualified(key),
            _ => {
                let why = "does not support subscript";
                return errors.push(FieldError::invalid(at.path.clone(), &field.into(), why));
            }
        };
        return all(&at.path, key, wrong, errors);
    }
    const CONVERTED: &[&str] = &[
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.serviceAccountName",
        "spec.schedulerName",
        "status.phase",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    if !CONVERTED.contains(&path) {
        errors.push(FieldError::invalid(
            at.child("fieldPath"),
            &path.into(),
            &format!("error converting fieldPath: field label not supported: {path}"),
        ));
    } else if !known.contains(&path) {
        errors.push(FieldError::unsupported(at.child("fieldPath"), path, known));
    }
}

/// A resource of a container.
pub fn resource_field(at: &At<'_>, volume: bool, errors: &mut Errors) {
    const KNOWN: &[&str] = &[
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let resource = at.text("resource");
    if volume && at.text("containerName").is_empty() {
        at.required("containerName", errors);
    } else if resource.is_empty() {
        at.required("resource", errors);
    } else if !KNOWN.contains(&resource)
        && !["limits.hugepages-", "requests.hugepages-"]
            .iter()
            .any(|prefix| resource.starts_with(prefix))
    {
        errors.push(FieldError::unsupported(
            at.child("resource"),
            resource,
            KNOWN,
        ));
    }
    divisor(at, resource, errors);
}

fn divisor(at: &At<'_>, resource: &str, errors: &mut Errors) {
    let given = at.text("divisor");
    let zero = codec::compare_quantities(given, "0") == Some(std::cmp::Ordering::Equal);
    let known: &[&str] = match resource.rsplit('.').next() {
        Some("cpu") => &["1m", "1"],
        Some("memory" | "ephemeral-storage") => &[
            "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
        ],
        _ => return,
    };
    if !given.is_empty() && !zero && !known.contains(&given) {
        let why = if known.len() == 2 {
            "only divisor's values 1m and 1 are supported with the cpu resource"
        } else if resource.ends_with("memory") {
            "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource"
        } else {
            "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the local ephemeral storage resource"
        };
        errors.push(FieldError::invalid(
            at.child("divisor"),
            &at.value["divisor"],
            why,
        ));
    }
}

fn projected(at: &At<'_>, errors: &mut Errors) {
    at.file_mode("defaultMode", errors);
    let mut paths = HashSet::new();
    for source in at.items("sources") {
        let kinds = [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
            "podCertificate",
        ];
        let given: Vec<_> = kinds
            .into_iter()
            .filter_map(|kind| Some((kind, source.get(kind)?)))
            .collect();
        for (kind, one) in &given {
            projection(at, kind, one, &mut paths, errors);
        }
        if given.len() > 1 {
            let why = "may not specify more than 1 volume type per source";
            errors.push(FieldError::forbidden(source.path, why));
        }
    }
}

fn projection<'a>(
    volume: &At<'_>,
    kind: &str,
    one: &At<'a>,
    paths: &mut HashSet<&'a str>,
    errors: &mut Errors,
) {
    let mut once = |path: &'a str, shown: &str, errors: &mut Errors| {
        if !path.is_empty() && !paths.insert(path) {
            let why = "conflicting duplicate paths";
            errors.push(FieldError::invalid(volume.path.clone(), &shown.into(), why));
        }
    };
    match kind {
        "secret" | "configMap" => {
            one.required("name", errors);
            for item in one.items("items") {
                key_to_path(&item, errors);
                once(item.text("path"), one.text("name"), errors);
            }
        }
        "downwardAPI" => {
            for item in one.items("items") {
                downward_file(&At::new(item.value, one.path.clone()), errors);
                once(item.text("path"), item.text("path"), errors);
            }
        }
        "serviceAccountToken" => token(volume, one, errors),
        "clusterTrustBundle" => {
            trust::trust_bundle(one, errors);
            let path = one.text("path");
            if path.is_empty() || !paths.insert(path) {
                // Upstream counts a path that is not there, too.
                if !path.is_empty() {
                    let why = "conflicting duplicate paths";
                    errors.push(FieldError::invalid(volume.path.clone(), &path.into(), why));
                }
            }
        }
        _ => {
            trust::pod_certificate(one, errors);
            let mut some = false;
            for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
                let path = one.text(field);
                if !path.is_empty() {
                    some = true;
                    unreserved(path, &one.child(field), errors);
                    once(path, path, errors);
                }
            }
            if !some {
                let why = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
                errors.push(FieldError::required(one.path.clone(), why));
            }
        }
    }
}

fn token(volume: &At<'_>, one: &At<'_>, errors: &mut Errors) {
    match one.number("expirationSeconds") {
        None => errors.push(FieldError::required(one.child("expirationSeconds"), "")),
        Some(_) => {
            let low = "may not specify a duration less than 10 minutes";
            one.within("expirationSeconds", 600, i64::MAX, low, errors);
            let high = "may not specify a duration larger than 2^32 seconds";
            one.within("expirationSeconds", i64::MIN, 1 << 32, high, errors);
        }
    }
    let path = one.text("path");
    if path.is_empty() {
        errors.push(FieldError::required(volume.child("path"), ""));
    } else {
        unreserved(path, &volume.child("path"), errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(volume: Value) -> Vec<String> {
        let spec = json!({"volumes": [volume]});
        let mut errors = Vec::new();
        volumes(&At::new(&spec, "spec"), &mut errors);
        errors
            .into_iter()
            .map(|error| format!("{}: {}", error.field, error.message))
            .collect()
    }

    #[test]
    fn a_volume_has_one_sound_source() {
        assert!(wrong(json!({"name": "v", "emptyDir": {}})).is_empty());
        assert_eq!(
            wrong(json!({"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}})),
            ["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"]
        );
        assert_eq!(
            wrong(json!({"emptyDir": {}})),
            ["spec.volumes[0].name: Required value"]
        );
        assert_eq!(
            wrong(json!({"name": "v", "nfs": {"server": "s", "path": "x"}})),
            ["spec.volumes[0].nfs.path: Invalid value: \"x\": must be an absolute path"]
        );
        let twice = json!({"name": "v", "projected": {"sources": [
            {"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}},
            {"configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}}]}});
        assert_eq!(
            wrong(twice),
            ["spec.volumes[0].projected: Invalid value: \"c\": conflicting duplicate paths"]
        );
    }

    #[test]
    fn targets_are_qualified() {
        for (name, good) in [
            ("iqn.2021-01.com.example:a", true),
            ("iqn.x", false),
            ("eui.0123456789abcdef", true),
            ("naa.0123", false),
            ("other", false),
        ] {
            assert_eq!(qualified_target(name).is_none(), good, "{name}");
        }
    }
}
