//! What a pod and a volume refer to, and so what the pod's node needs.

use serde_json::Value;

use super::related::{Related, What};
use crate::object::{self, Json};

pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// Volumes that name their secret by a reference.
const REFERRING: &[&str] = &[
    "cephfs",
    "cinder",
    "flexVolume",
    "rbd",
    "scaleIO",
    "iscsi",
    "storageos",
];

/// Whether a node made a pod for what it runs by itself.
pub fn is_mirror(pod: &Json) -> bool {
    let annotations = object::meta(pod).and_then(|meta| meta.get("annotations"));
    annotations.is_some_and(|annotations| annotations.get(MIRROR).is_some())
}

/// All that a pod gives to its node, itself among it.
pub fn of_pod(pod: &Json) -> Vec<Related> {
    let namespace = object::meta_str(pod, "namespace");
    let mut all = vec![Related::new(
        What::Pod,
        namespace,
        object::meta_str(pod, "name"),
    )];
    // What a node makes itself must not give it anything else.
    if !is_mirror(pod) {
        all.extend(referred(pod));
    }
    all
}

/// All that a pod refers to in its namespace.
pub fn referred(pod: &Json) -> Vec<Related> {
    let mut all = Names {
        namespace: object::meta_str(pod, "namespace"),
        found: Vec::new(),
    };
    let Some(spec) = pod.get("spec") else {
        return all.found;
    };
    all.add(What::Account, text(spec, &["serviceAccountName"]));
    for secret in items(spec, "imagePullSecrets") {
        all.add(What::Secret, text(secret, &["name"]));
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in items(spec, list) {
            all.container(container);
        }
    }
    for volume in items(spec, "volumes") {
        all.volume(volume, object::meta_str(pod, "name"));
    }
    all.resource_claims(spec, pod.get("status").unwrap_or(&Value::Null));
    all.found
}

/// The secrets of a volume that its node must have, with their namespaces.
pub fn of_volume(spec: &Value, claim: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut add = |namespace: &str, name: &str| {
        if !name.is_empty() {
            found.push((namespace.to_owned(), name.to_owned()));
        }
    };
    let azure = &spec["azureFile"];
    let place = or(text(azure, &["secretNamespace"]), claim);
    add(place, text(azure, &["secretName"]));
    for source in ["cephfs", "flexVolume", "rbd", "scaleIO", "iscsi"] {
        let secret = &spec[source]["secretRef"];
        add(
            or(text(secret, &["namespace"]), claim),
            text(secret, &["name"]),
        );
    }
    for (source, field) in [
        ("cinder", "secretRef"),
        ("csi", "nodePublishSecretRef"),
        ("csi", "nodeStageSecretRef"),
        ("csi", "nodeExpandSecretRef"),
    ] {
        let secret = &spec[source][field];
        add(text(secret, &["namespace"]), text(secret, &["name"]));
    }
    let secret = &spec["storageos"]["secretRef"];
    add(text(secret, &["namespace"]), text(secret, &["name"]));
    found
}

fn or<'a>(given: &'a str, other: &'a str) -> &'a str {
    if given.is_empty() { other } else { given }
}

struct Names<'a> {
    namespace: &'a str,
    found: Vec<Related>,
}

impl Names<'_> {
    fn add(&mut self, what: What, name: &str) {
        if !name.is_empty() {
            self.found.push(Related::new(what, self.namespace, name));
        }
    }

    fn container(&mut self, container: &Value) {
        for from in items(container, "envFrom") {
            self.add(What::Secret, text(from, &["secretRef", "name"]));
            self.add(What::ConfigMap, text(from, &["configMapRef", "name"]));
        }
        for one in items(container, "env") {
            let from = &one["valueFrom"];
            self.add(What::Secret, text(from, &["secretKeyRef", "name"]));
            self.add(What::ConfigMap, text(from, &["configMapKeyRef", "name"]));
        }
    }

    fn volume(&mut self, volume: &Value, pod: &str) {
        self.add(What::Secret, text(volume, &["azureFile", "secretName"]));
        for source in REFERRING {
            self.add(What::Secret, text(volume, &[source, "secretRef", "name"]));
        }
        for one in items(&volume["projected"], "sources") {
            self.add(What::Secret, text(one, &["secret", "name"]));
            self.add(What::ConfigMap, text(one, &["configMap", "name"]));
        }
        self.add(What::Secret, text(volume, &["secret", "secretName"]));
        let published = text(volume, &["csi", "nodePublishSecretRef", "name"]);
        self.add(What::Secret, published);
        self.add(What::ConfigMap, text(volume, &["configMap", "name"]));
        let claim = text(volume, &["persistentVolumeClaim", "claimName"]);
        self.add(What::Claim, claim);
        if volume.get("ephemeral").is_some_and(|one| !one.is_null()) {
            let claim = format!("{pod}-{}", text(volume, &["name"]));
            self.add(What::Claim, &claim);
        }
    }

    fn resource_claims(&mut self, spec: &Value, status: &Value) {
        let field = "resourceClaimName";
        for claim in items(spec, "resourceClaims") {
            self.add(What::ResourceClaim, text(claim, &[field]));
            if text(claim, &["resourceClaimTemplateName"]).is_empty() {
                continue;
            }
            // The status says which was made of the template, and nothing else.
            let mut made = items(status, "resourceClaimStatuses");
            let made = made.find(|made| made["name"] == claim["name"]);
            self.add(
                What::ResourceClaim,
                made.map_or("", |made| text(made, &[field])),
            );
        }
        let extended = text(
            status,
            &["extendedResourceClaimStatus", "resourceClaimName"],
        );
        self.add(What::ResourceClaim, extended);
    }
}

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    let found = path
        .iter()
        .try_fold(value, |value, name| value.get(name))
        .and_then(Value::as_str);
    found.unwrap_or("")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(pod: &Value) -> Vec<String> {
        let pod = pod.as_object().expect("an object");
        let mut all: Vec<String> = of_pod(pod).iter().map(ToString::to_string).collect();
        all.sort();
        all
    }

    #[test]
    fn all_that_a_pod_names_is_found() {
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {
            "serviceAccountName": "sa",
            "imagePullSecrets": [{"name": "pull"}, {"name": ""}],
            "initContainers": [{"envFrom": [{"secretRef": {"name": "from"}}]}],
            "containers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "key"}}}, {"value": "x"}]}],
            "ephemeralContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "later"}}}]}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "whole"}},
                {"name": "b", "projected": {"sources": [{"configMap": {"name": "root"}}, {"secret": {"name": "part"}}]}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "d", "ephemeral": {}},
                {"name": "e", "rbd": {"secretRef": {"name": "ceph"}}}],
            "resourceClaims": [{"name": "g", "resourceClaimName": "gpu"}, {"name": "h", "resourceClaimTemplateName": "t"}]},
            "status": {"resourceClaimStatuses": [
                {"name": "h", "resourceClaimName": "made"}, {"name": "i", "resourceClaimName": "others"}]}});
        assert_eq!(
            told(&pod),
            [
                "Account n/sa",
                "Claim n/data",
                "Claim n/p-d",
                "ConfigMap n/key",
                "ConfigMap n/root",
                "Pod n/p",
                "ResourceClaim n/gpu",
                "ResourceClaim n/made",
                "Secret n/ceph",
                "Secret n/from",
                "Secret n/later",
                "Secret n/part",
                "Secret n/pull",
                "Secret n/whole"
            ]
        );
    }

    #[test]
    fn a_pod_that_its_node_made_gives_nothing_else() {
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "annotations": {MIRROR: "x"}},
            "spec": {"serviceAccountName": "sa", "volumes": [{"secret": {"secretName": "s"}}]}});
        assert_eq!(told(&pod), ["Pod n/p"]);
    }
}
