//! `NodeRestriction`: what a node may write into the objects that it may write:
//! its own node, the status of its pods, the pods that stand for what it runs by
//! itself, tokens of its pods' accounts.

use futures::future::BoxFuture;
use serde_json::Value;

use super::{
    Asked, Plugin, Verdict,
    asked::{items, text},
    certificates::common_name,
};
use crate::{
    authn::Identity,
    authz::{Attributes, node},
    error::ApiError,
    kind::Sub,
    object::{self, Json},
    registry::Registry,
};

const LEASES: &str = "kube-node-lease";
/// Labels of the system that a node may give itself.
const OWN: &[&str] = &[
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const OWN_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];
const RESTRICTED: &str = "node-restriction.kubernetes.io";

pub struct NodeRestriction;

impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn resources(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("", "pods"),
            ("", "nodes"),
            ("", "persistentvolumeclaims"),
            ("", "serviceaccounts"),
            ("coordination.k8s.io", "leases"),
            ("storage.k8s.io", "csinodes"),
            ("resource.k8s.io", "resourceslices"),
            ("certificates.k8s.io", "certificatesigningrequests"),
            ("certificates.k8s.io", "podcertificaterequests"),
        ]
    }

    fn sees_deletions(&self, _: &Registry, identity: &Identity) -> bool {
        node::name(identity).is_some()
    }

    fn admit<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        Box::pin(async {
            let Some(node) = node::name(asked.identity) else {
                return Ok(());
            };
            if node.is_empty() {
                return Err(asked.forbidden(&format!(
                    "could not determine node from user {:?}",
                    asked.identity.user
                )));
            }
            admitted(asked, node).await
        })
    }
}

async fn admitted(asked: &Asked<'_>, node: &str) -> Verdict {
    let sub = asked.target().sub;
    let no = |why: &str| Err(asked.forbidden(why));
    match &*asked.target().resource.plural {
        "pods" => match sub {
            None => pod(asked, node).await,
            Some(Sub::Status) => pod_status(asked, node),
            Some(Sub::Eviction) => eviction(asked, node).await,
            Some(sub) => no(&format!(
                "unexpected pod subresource {:?}, only 'status' and 'eviction' are allowed",
                sub.name()
            )),
        },
        "nodes" => own_node(asked, node),
        "persistentvolumeclaims" if sub == Some(Sub::Status) => claim_status(asked, node),
        "persistentvolumeclaims" => no("may only update PVC status"),
        "serviceaccounts" if sub == Some(Sub::Token) => token(asked, node).await,
        "leases" if asked.namespace() != LEASES => no(&format!(
            "can only access leases in the {LEASES:?} system namespace"
        )),
        "leases" if name(asked) != node => {
            no("can only access node lease with the same name as the requesting node")
        }
        "csinodes" if name(asked) != node => {
            no("can only access CSINode with the same name as the requesting node")
        }
        "csinodes" if sub == Some(Sub::Status) => no("CSIVolumeHealth feature gate is disabled"),
        "resourceslices" if asked.creates() || asked.attempt.deletes() => {
            let verb = if asked.creates() { "create" } else { "delete" };
            match of_node(asked.object()) == node {
                true => Ok(()),
                false => no(&format!(
                    "can only {verb} ResourceSlice with the same NodeName as the requesting node"
                )),
            }
        }
        "certificatesigningrequests" if asked.creates() => signing_request(asked, node),
        "podcertificaterequests" => pod_certificate(asked, node).await,
        _ => Ok(()),
    }
}

fn name<'a>(asked: &'a Asked<'_>) -> &'a str {
    match &*asked.target().name {
        "" => object::meta_str(asked.object(), "name"),
        name => name,
    }
}

fn of_node(object: &Json) -> &str {
    object::str_at(object, &["spec", "nodeName"])
}

async fn pod(asked: &Asked<'_>, node: &str) -> Verdict {
    if asked.attempt.deletes() {
        return match of_node(asked.object()) == node {
            true => Ok(()),
            false => Err(asked.forbidden(&format!(
                "node {node:?} can only delete pods with spec.nodeName set to itself"
            ))),
        };
    }
    if !asked.creates() {
        return Err(asked.forbidden(&format!(
            "unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"
        )));
    }
    let pod = asked.object();
    let no = |why: String| Err(asked.forbidden(&why));
    if !node::is_mirror(pod) {
        return no(format!(
            "pod does not have {:?} annotation, node {node:?} can only create mirror pods",
            node::MIRROR
        ));
    }
    if of_node(pod) != node {
        return no(format!(
            "node {node:?} can only create pods with spec.nodeName set to itself"
        ));
    }
    owned(asked, node).await?;
    match reference(pod) {
        None => Ok(()),
        Some(what) => no(format!(
            "node {node:?} can not create pods that reference {what}"
        )),
    }
}

/// What a node makes belongs to it.
async fn owned(asked: &Asked<'_>, node: &str) -> Verdict {
    let no = |why: String| Err(asked.forbidden(&why));
    let meta = asked.object().get("metadata").unwrap_or(&Value::Null);
    let owners: Vec<&Value> = items(meta, "ownerReferences").collect();
    let [owner] = owners[..] else {
        let count = if owners.is_empty() { "an" } else { "a single" };
        return no(format!(
            "node {node:?} can only create pods with {count} owner reference set to itself"
        ));
    };
    if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
        return no(format!(
            "node {node:?} can only create pods with an owner reference set to itself"
        ));
    }
    if owner["controller"] != true {
        return no(format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        ));
    }
    if owner["blockOwnerDeletion"] == true {
        return no(format!(
            "node {node:?} must not set blockOwnerDeletion on an owner reference"
        ));
    }
    let known = there(asked, "nodes", "", node).await?;
    let (given, uid) = (text(owner, &["uid"]), object::meta_str(&known, "uid"));
    if given != uid {
        return no(format!(
            "node {node} UID mismatch: expected {given} got {uid}"
        ));
    }
    Ok(())
}

/// An object of the core group, or upstream's answer when it is not there.
async fn there(
    asked: &Asked<'_>,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Result<Json, ApiError> {
    let found = asked.found("", plural, namespace, name).await?;
    // As upstream's listers say it, by the singular.
    found.ok_or_else(|| ApiError::absent(plural.trim_end_matches('s'), name))
}

/// What a pod refers to that is an object of the API.
fn reference(pod: &Json) -> Option<&'static str> {
    if !object::str_at(pod, &["spec", "serviceAccountName"]).is_empty() {
        return Some("serviceaccounts");
    }
    let referred = node::referred(pod);
    for (what, words) in [
        (node::What::Secret, "secrets"),
        (node::What::ConfigMap, "configmaps"),
    ] {
        if referred.iter().any(|one| one.is(what)) {
            return Some(words);
        }
    }
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    if items(spec, "resourceClaims").next().is_some() {
        return Some("resourceclaims");
    }
    const VOLUMES: [(&str, &str); 7] = [
        ("configMap", "configmaps (via configmap volumes)"),
        ("secret", "secrets (via secret volumes)"),
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        (
            "ephemeral",
            "persistentvolumeclaims (via ephemeral volumes)",
        ),
        ("azureFile", "secrets (via azureFile volumes)"),
    ];
    const SOURCES: [(&str, &str); 5] = [
        ("configMap", "configmaps (via projected volumes)"),
        ("secret", "secrets (via projected volumes)"),
        (
            "serviceAccountToken",
            "serviceaccounts (via projected volumes)",
        ),
        ("clusterTrustBundle", "clustertrustbundles"),
        ("podCertificate", "podcertificates"),
    ];
    let of = |value: &Value, table: &[(&str, &'static str)]| {
        let found = table.iter().find(|(field, _)| value.get(field).is_some());
        found.map(|(_, words)| *words)
    };
    items(spec, "volumes").find_map(|volume| {
        let mut sources = items(&volume["projected"], "sources");
        of(volume, &VOLUMES).or_else(|| sources.find_map(|source| of(source, &SOURCES)))
    })
}

fn pod_status(asked: &Asked<'_>, node: &str) -> Verdict {
    let no = |why: &str| Err(asked.forbidden(&format!("node {node:?} {why}")));
    let (Some(old), new) = (asked.old(), asked.object()) else {
        return Err(asked.forbidden("unexpected operation \"CREATE\""));
    };
    if of_node(old) != node {
        return no("can only update pod status for pods with spec.nodeName set to itself");
    }
    let differs = |path: &[&str]| object::at(old, path) != object::at(new, path);
    if differs(&["metadata", "labels"]) {
        return no("cannot update labels through pod status");
    }
    for (field, words) in [
        ("resourceClaimStatuses", "resource claim statues"),
        (
            "extendedResourceClaimStatus",
            "extended resource claim status",
        ),
        (
            "nodeAllocatableResourceClaimStatuses",
            "node allocatable resource claim statuses",
        ),
    ] {
        if differs(&["status", field]) {
            return no(&format!("cannot update {words}"));
        }
    }
    Ok(())
}

async fn eviction(asked: &Asked<'_>, node: &str) -> Verdict {
    let pod = there(asked, "pods", asked.namespace(), name(asked)).await?;
    match of_node(&pod) == node {
        true => Ok(()),
        false => Err(asked.forbidden(&format!(
            "node {node} can only evict pods with spec.nodeName set to itself"
        ))),
    }
}

fn own_node(asked: &Asked<'_>, node: &str) -> Verdict {
    let no = |why: String| Err(asked.forbidden(&why));
    let requested = name(asked);
    if requested != node {
        return no(format!(
            "node {node:?} is not allowed to modify node {requested:?}"
        ));
    }
    if asked.attempt.deletes() {
        return Ok(());
    }
    let new = asked.object();
    let config = object::at(new, &["spec", "configSource"]).filter(|config| !config.is_null());
    let Some(old) = asked.old() else {
        if config.is_some() {
            return no(format!(
                "node {node:?} is not allowed to create pods with a non-nil configSource"
            ));
        }
        let labels = forbidden_labels(new, None);
        if !labels.is_empty() {
            return no(format!(
                "node {node:?} is not allowed to set the following labels: {}",
                labels.join(", ")
            ));
        }
        return Ok(());
    };
    let same = |path: &[&str]| {
        let list = |object| object::at(object, path).and_then(Value::as_array).cloned();
        list(old).unwrap_or_default() == list(new).unwrap_or_default()
    };
    if config.is_some() && config != object::at(old, &["spec", "configSource"]) {
        return no(format!(
            "node {node:?} is not allowed to update configSource to a new non-nil configSource"
        ));
    }
    if !same(&["spec", "taints"]) {
        return no(format!("node {node:?} is not allowed to modify taints"));
    }
    if !same(&["metadata", "ownerReferences"]) {
        return no(format!(
            "node {node:?} is not allowed to modify ownerReferences"
        ));
    }
    let labels = forbidden_labels(new, Some(old));
    if !labels.is_empty() {
        return no(format!(
            "is not allowed to modify labels: {}",
            labels.join(", ")
        ));
    }
    Ok(())
}

/// The labels that differ and that a node must leave alone, in their order.
fn forbidden_labels(new: &Json, old: Option<&Json>) -> Vec<String> {
    let labels = |object| {
        let labels = object::at(object, &["metadata", "labels"]).and_then(Value::as_object);
        labels.cloned().unwrap_or_default()
    };
    let (new, old) = (labels(new), old.map(labels).unwrap_or_default());
    let mut names: Vec<String> = new.keys().chain(old.keys()).cloned().collect();
    names.retain(|name| new.get(name) != old.get(name) && is_forbidden(name));
    names.sort();
    names.dedup();
    names
}

fn is_forbidden(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let within = |of: &str| {
        domain == of
            || domain
                .strip_suffix(of)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    let system = within("kubernetes.io") || within("k8s.io");
    let own = OWN.contains(&label) || OWN_DOMAINS.iter().any(|one| within(one));
    within(RESTRICTED) || system && !own
}

fn claim_status(asked: &Asked<'_>, node: &str) -> Verdict {
    let plain = |object: &Json| {
        let mut object = object.clone();
        for field in ["resourceVersion", "managedFields"] {
            object::set_meta(&mut object, field, None);
        }
        if let Some(Value::Object(status)) = object.get_mut("status") {
            for field in [
                "capacity",
                "conditions",
                "allocatedResourceStatuses",
                "allocatedResources",
            ] {
                status.remove(field);
            }
        }
        object
    };
    match asked.old() {
        Some(old) if plain(old) == plain(asked.object()) => Ok(()),
        // Upstream goes on with what differs, as Go shows it.
        _ => Err(asked.forbidden(&format!(
            "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
        ))),
    }
}

async fn token(asked: &Asked<'_>, node: &str) -> Verdict {
    let no = |why: String| Err(asked.forbidden(&why));
    let bound = object::at(asked.object(), &["spec", "boundObjectRef"]).unwrap_or(&Value::Null);
    let of = |field| text(bound, &[field]);
    if of("apiVersion") != "v1" || of("kind") != "Pod" || of("name").is_empty() {
        return no("node requested token not bound to a pod".to_owned());
    }
    if of("uid").is_empty() {
        return no("node requested token with a pod binding without a uid".to_owned());
    }
    let pod = there(asked, "pods", asked.namespace(), of("name")).await?;
    if object::meta_str(&pod, "uid") != of("uid") {
        return no(format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            of("uid")
        ));
    }
    if of_node(&pod) != node {
        return no("node requested token bound to a pod scheduled on a different node".to_owned());
    }
    audience(asked, &pod).await
}

/// A token is for whom the pod, or one of its drivers, wants it.
async fn audience(asked: &Asked<'_>, pod: &Json) -> Verdict {
    let given = object::at(asked.object(), &["spec", "audiences"]).and_then(Value::as_array);
    let wanted = match given.map_or(&[][..], Vec::as_slice) {
        [] => "",
        [one] => one.as_str().unwrap_or(""),
        _ => return Err(asked.forbidden("node may only request 0 or 1 audiences")),
    };
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    for volume in items(spec, "volumes") {
        let mut sources = items(&volume["projected"], "sources");
        let of = |source: &Value| {
            let token = source.get("serviceAccountToken");
            token.is_some_and(|token| text(token, &["audience"]) == wanted)
        };
        if sources.any(of) || driver_wants(asked, pod, volume, wanted).await? {
            return Ok(());
        }
    }
    let name = name(asked);
    let may = asked.may(&Attributes {
        verb: "request-serviceaccounts-token-audience",
        is_resource: true,
        version: "v1",
        namespace: asked.namespace(),
        resource: wanted,
        name: name.into(),
        ..Attributes::default()
    });
    if may {
        return Ok(());
    }
    Err(asked.forbidden(&format!(
        "{} is not authorized to request tokens for audience {wanted:?}",
        asked.identity.user
    )))
}

/// Whether the driver of a volume has tokens for somebody.
async fn driver_wants(
    asked: &Asked<'_>,
    pod: &Json,
    volume: &Value,
    wanted: &str,
) -> Result<bool, ApiError> {
    let namespace = asked.namespace();
    let claim = match volume.get("ephemeral") {
        Some(_) => format!(
            "{}-{}",
            object::meta_str(pod, "name"),
            text(volume, &["name"])
        ),
        None => text(volume, &["persistentVolumeClaim", "claimName"]).to_owned(),
    };
    let mut driver = text(volume, &["csi", "driver"]).to_owned();
    if !claim.is_empty() {
        let claim = asked
            .found("", "persistentvolumeclaims", namespace, &claim)
            .await?;
        let bound = claim.map(|claim| object::str_at(&claim, &["spec", "volumeName"]).to_owned());
        if let Some(bound) = bound.filter(|bound| !bound.is_empty())
            && let Some(bound) = asked.found("", "persistentvolumes", "", &bound).await?
        {
            object::str_at(&bound, &["spec", "csi", "driver"]).clone_into(&mut driver);
        }
    }
    if driver.is_empty() {
        return Ok(false);
    }
    let driver = asked
        .found("storage.k8s.io", "csidrivers", "", &driver)
        .await?;
    Ok(driver.is_some_and(|driver| {
        let spec = driver.get("spec").unwrap_or(&Value::Null);
        items(spec, "tokenRequests").any(|one| text(one, &["audience"]) == wanted)
    }))
}

fn signing_request(asked: &Asked<'_>, node: &str) -> Verdict {
    let spec = |field| object::str_at(asked.object(), &["spec", field]);
    if !matches!(
        spec("signerName"),
        "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet"
    ) {
        return Ok(());
    }
    let Some(name) = common_name(spec("request")) else {
        return Err(
            asked.forbidden("unable to parse csr: PEM block type must be CERTIFICATE REQUEST")
        );
    };
    match name == format!("system:node:{node}") {
        true => Ok(()),
        false => Err(asked.forbidden(&format!(
            "can only create a node CSR with CN=system:node:{node}"
        ))),
    }
}

async fn pod_certificate(asked: &Asked<'_>, node: &str) -> Verdict {
    let no = |why: String| Err(asked.forbidden(&why));
    if !asked.creates() {
        return no("unexpected operation UPDATE".to_owned());
    }
    let spec = |field| object::str_at(asked.object(), &["spec", field]);
    let namespace = asked.namespace();
    let pod_key = format!("{namespace}/{}", spec("podName"));
    if spec("nodeName") != node {
        return no(format!(
            "PodCertificateRequest.Spec.NodeName={:?}, which is not the requesting node {node:?}",
            spec("nodeName")
        ));
    }
    let known = there(asked, "nodes", "", node).await?;
    if object::meta_str(&known, "uid") != spec("nodeUID") {
        return Err(ApiError::plain(format!(
            "PodCertificateRequest for pod {pod_key:?} names node UID {:?}, inconsistent with the running node ({:?})",
            spec("nodeUID"),
            object::meta_str(&known, "uid")
        )));
    }
    let pod = there(asked, "pods", namespace, spec("podName")).await?;
    if object::meta_str(&pod, "uid") != spec("podUID") {
        return Err(ApiError::plain(format!(
            "PodCertificateRequest for pod {pod_key:?} contains pod UID ({:?}) which differs from running pod {:?}",
            spec("podUID"),
            object::meta_str(&pod, "uid")
        )));
    }
    if of_node(&pod) != node {
        return no(format!(
            "pod {pod_key:?} is not running on node {node:?} named in the PodCertificateRequest"
        ));
    }
    if node::is_mirror(&pod) {
        return no(format!("pod {pod_key:?} is a mirror pod"));
    }
    let account = object::str_at(&pod, &["spec", "serviceAccountName"]);
    if spec("serviceAccountName") != account {
        return no(format!(
            "PodCertificateRequest for pod {pod_key:?} contains serviceAccountName ({:?}) that differs from running pod ({account:?})",
            spec("serviceAccountName")
        ));
    }
    let known = there(asked, "serviceaccounts", namespace, account).await?;
    if object::meta_str(&known, "uid") != spec("serviceAccountUID") {
        return Err(ApiError::plain(format!(
            "PodCertificateRequest for pod {pod_key:?} names service account UID {:?}, which differs from the running service account ({:?})",
            spec("serviceAccountUID"),
            object::meta_str(&known, "uid")
        )));
    }
    signer(asked, &pod, &pod_key)
}

/// The pod mounts a certificate of the signer, or the node may ask for any.
fn signer(asked: &Asked<'_>, pod: &Json, pod_key: &str) -> Verdict {
    let signer = object::str_at(asked.object(), &["spec", "signerName"]);
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let mut sources =
        items(spec, "volumes").flat_map(|volume| items(&volume["projected"], "sources"));
    if sources.any(|source| text(source, &["podCertificate", "signerName"]) == signer) {
        return Ok(());
    }
    let account = object::str_at(pod, &["spec", "serviceAccountName"]);
    let munged = signer.replace('/', ":");
    let may = asked.may(&Attributes {
        verb: "request-serviceaccounts-podcertificate-signer",
        is_resource: true,
        group: "certificates.k8s.io",
        version: "v1",
        namespace: asked.namespace(),
        resource: &munged,
        name: account.into(),
        ..Attributes::default()
    });
    match may {
        true => Ok(()),
        false => Err(asked.forbidden(&format!(
            "pod {pod_key:?} does not mount a podCertificate projected volume for signer {signer:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gives_itself_labels_of_its_own_only() {
        for (label, forbidden) in [
            ("kubernetes.io/hostname", false),
            ("node.kubernetes.io/mine", false),
            ("a.kubelet.kubernetes.io/mine", false),
            ("example.com/any", false),
            ("any", false),
            ("kubernetes.io/other", true),
            ("x.k8s.io/other", true),
            ("node-restriction.kubernetes.io/a", true),
            ("a.node-restriction.kubernetes.io/a", true),
            ("notkubernetes.io/a", false),
        ] {
            assert_eq!(is_forbidden(label), forbidden, "{label}");
        }
    }
}
