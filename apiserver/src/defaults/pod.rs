//! Defaults of pods and of the templates of pods.

use serde_json::{Value, json};

use super::{each, made, set, text, with};
use crate::object::Json;

/// `0644`, upstream's mode of files made from objects.
const FILE_MODE: i64 = 420;
const VOLUME_FIELDS: usize = 1;

/// A pod: what its templates get, and what only pods get.
pub fn pod(value: &mut Json) {
    with(value, "spec", |spec| {
        self::spec(spec);
        set(spec, "enableServiceLinks", true);
        let grace = spec.get("terminationGracePeriodSeconds");
        if grace.and_then(Value::as_i64).is_some_and(|grace| grace < 0) {
            // What makes no sense is the shortest that does.
            spec.insert("terminationGracePeriodSeconds".to_owned(), 1.into());
        }
        for list in ["containers", "initContainers"] {
            each(spec, list, requests);
        }
    });
    made(value, "status", |status| set(status, "phase", "Pending"));
}

/// The template of a pod.
pub fn template(value: &mut Json) {
    with(value, "spec", spec);
}

/// A limit without a request is the request.
fn requests(container: &mut Json) {
    with(container, "resources", |resources| {
        let Some(Value::Object(limits)) = resources.get("limits").cloned() else {
            return;
        };
        made(resources, "requests", |requests| {
            for (name, quantity) in limits {
                set(requests, &name, quantity);
            }
        });
    });
}

fn spec(spec: &mut Json) {
    set(spec, "dnsPolicy", "ClusterFirst");
    set(spec, "restartPolicy", "Always");
    set(spec, "terminationGracePeriodSeconds", 30);
    set(spec, "securityContext", json!({}));
    set(spec, "schedulerName", "default-scheduler");
    // Two names of one thing: both are stored.
    let account = match (
        text(spec, "serviceAccountName"),
        text(spec, "serviceAccount"),
    ) {
        ("", old) => old.to_owned(),
        (new, _) => new.to_owned(),
    };
    if !account.is_empty() {
        spec.insert("serviceAccountName".to_owned(), account.clone().into());
        spec.insert("serviceAccount".to_owned(), account.into());
    }
    each(spec, "volumes", volume);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        each(spec, list, container);
    }
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        for list in ["initContainers", "containers"] {
            each(spec, list, |container| {
                each(container, "ports", |port| {
                    let number = port.get("containerPort").cloned().unwrap_or(Value::Null);
                    set(port, "hostPort", number);
                });
            });
        }
    }
}

/// When an image is fetched: the newest each time.
fn pull_policy(image: &str) -> &'static str {
    let (named, digest) = match image.split_once('@') {
        Some((named, _)) => (named, true),
        None => (image, false),
    };
    let (path, tag) = match named.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (named, None),
    };
    // What is no reference has no tag, either.
    let latest = !digest && is_repository(path) && tag.is_none_or(|tag| tag == "latest");
    if latest { "Always" } else { "IfNotPresent" }
}

/// Whether a text is `domain:port/path`, the path in lower case.
fn is_repository(text: &str) -> bool {
    let (domain, path) = match text.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => ("", text),
    };
    let host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| {
        let bytes = part.as_bytes();
        bytes.first().is_some_and(|byte| letter(*byte))
            && bytes.last().is_some_and(|byte| letter(*byte))
            && bytes
                .iter()
                .all(|byte| letter(*byte) || b"._-".contains(byte))
    };
    domain.bytes().all(host) && path.split('/').all(part)
}

/// A disk, of a pod or of a volume.
pub(super) fn azure_disk(disk: &mut Json) {
    set(disk, "cachingMode", "ReadWrite");
    set(disk, "kind", "Shared");
    set(disk, "fsType", "ext4");
    set(disk, "readOnly", false);
}

fn container(container: &mut Json) {
    let policy = pull_policy(text(container, "image"));
    set(container, "imagePullPolicy", policy);
    set(container, "terminationMessagePath", "/dev/termination-log");
    set(container, "terminationMessagePolicy", "File");
    each(container, "ports", |port| set(port, "protocol", "TCP"));
    each(container, "env", |env| {
        with(env, "valueFrom", |from| {
            with(from, "fieldRef", |field| set(field, "apiVersion", "v1"))
        })
    });
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        with(container, probe, |probe| {
            set(probe, "timeoutSeconds", 1);
            set(probe, "periodSeconds", 10);
            set(probe, "successThreshold", 1);
            set(probe, "failureThreshold", 3);
            handler(probe);
            with(probe, "grpc", |grpc| set(grpc, "service", ""));
        });
    }
    with(container, "lifecycle", |lifecycle| {
        with(lifecycle, "postStart", handler);
        with(lifecycle, "preStop", handler);
    });
}

fn handler(handler: &mut Json) {
    with(handler, "httpGet", |get| {
        set(get, "path", "/");
        set(get, "scheme", "HTTP");
    });
}

fn volume(volume: &mut Json) {
    if volume.len() <= VOLUME_FIELDS {
        set(volume, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        with(volume, source, |source| {
            set(source, "defaultMode", FILE_MODE);
            each(source, "items", field_ref);
            each(source, "sources", |source| {
                with(source, "serviceAccountToken", |token| {
                    set(token, "expirationSeconds", 3_600)
                });
                with(source, "downwardAPI", |api| each(api, "items", field_ref));
            });
        });
    }
    with(volume, "hostPath", |path| set(path, "type", ""));
    with(volume, "azureDisk", azure_disk);
    with(volume, "image", |image| {
        let policy = pull_policy(text(image, "reference"));
        set(image, "pullPolicy", policy);
    });
    with(volume, "iscsi", |iscsi| {
        set(iscsi, "iscsiInterface", "default")
    });
    with(volume, "rbd", |rbd| {
        set(rbd, "pool", "rbd");
        set(rbd, "user", "admin");
        set(rbd, "keyring", "/etc/ceph/keyring");
    });
    with(volume, "ephemeral", |ephemeral| {
        with(ephemeral, "volumeClaimTemplate", |claim| {
            with(claim, "spec", |spec| set(spec, "volumeMode", "Filesystem"))
        });
    });
}

fn field_ref(item: &mut Json) {
    with(item, "fieldRef", |field| set(field, "apiVersion", "v1"));
}
