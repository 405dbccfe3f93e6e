//! What nodes may read and write.

use anyhow::{Context as _, Result};
use http::Method;
use serde_json::{Value, json};

use super::{Pair, namespace, pod};

const PODS: &str = "/api/v1/namespaces/nodes/pods";
const SECRETS: &str = "/api/v1/namespaces/nodes/secrets";
const DRY: &str = "dryRun=All";

pub async fn all(pair: &mut Pair) -> Result<()> {
    namespace(pair, "nodes", &json!({})).await?;
    for name in ["mine", "theirs", "nobodys", "volumes"] {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
        pair.create(SECRETS, &secret).await?;
    }
    for (node, secret) in [("one", "mine"), ("two", "theirs")] {
        let node_object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}});
        pair.create("/api/v1/nodes", &node_object).await?;
        let spec = json!({"nodeName": node, "volumes": [{"name": "s", "secret": {"secretName": secret}},
            {"name": "c", "persistentVolumeClaim": {"claimName": format!("claim-{node}")}}]});
        pair.create(PODS, &pod(&format!("pod-{node}"), &spec))
            .await?;
    }
    volumes(pair).await?;
    reads(pair).await?;
    writes(pair).await?;
    tokens(pair).await?;
    reviews(pair).await
}

async fn volumes(pair: &mut Pair) -> Result<()> {
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "claim-one"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    pair.create("/api/v1/namespaces/nodes/persistentvolumeclaims", &claim)
        .await?;
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "volume-one"},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "claimRef": {"namespace": "nodes", "name": "claim-one"},
            "csi": {"driver": "d", "volumeHandle": "h", "nodeStageSecretRef": {"namespace": "nodes", "name": "volumes"}}}});
    pair.create("/api/v1/persistentvolumes", &volume).await?;
    let attachment = json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": "attachment-one"},
        "spec": {"attacher": "d", "nodeName": "one", "source": {"persistentVolumeName": "volume-one"}}});
    pair.create("/apis/storage.k8s.io/v1/volumeattachments", &attachment)
        .await
}

async fn reads(pair: &mut Pair) -> Result<()> {
    for (path, code) in [
        ("/api/v1/nodes/one", 200),
        ("/api/v1/nodes/two", 403),
        ("/api/v1/nodes", 403),
        ("/api/v1/nodes?fieldSelector=metadata.name=one", 200),
        ("/api/v1/pods", 403),
        ("/api/v1/pods?fieldSelector=spec.nodeName=one", 200),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Done", 200),
        ("/api/v1/pods?fieldSelector=spec.nodeName!=one", 403),
        ("/api/v1/pods?fieldSelector=spec.nodeName=two", 403),
        ("/api/v1/namespaces/nodes/pods/pod-one", 200),
        ("/api/v1/namespaces/nodes/pods/pod-two", 403),
        ("/api/v1/namespaces/nodes/pods/pod-one/log", 403),
        ("/api/v1/namespaces/nodes/secrets/mine", 200),
        ("/api/v1/namespaces/nodes/secrets/theirs", 403),
        ("/api/v1/namespaces/nodes/secrets/nobodys", 403),
        ("/api/v1/namespaces/nodes/secrets/volumes", 200),
        ("/api/v1/namespaces/nodes/secrets", 403),
        (
            "/api/v1/namespaces/nodes/secrets?fieldSelector=metadata.name=mine",
            200,
        ),
        ("/api/v1/namespaces/nodes/configmaps/kube-root-ca.crt", 404),
        ("/api/v1/namespaces/nodes/configmaps/other", 403),
        (
            "/api/v1/namespaces/nodes/persistentvolumeclaims/claim-one",
            200,
        ),
        (
            "/api/v1/namespaces/nodes/persistentvolumeclaims/claim-two",
            403,
        ),
        ("/api/v1/persistentvolumes/volume-one", 200),
        ("/api/v1/persistentvolumes", 403),
        (
            "/apis/storage.k8s.io/v1/volumeattachments/attachment-one",
            200,
        ),
        ("/api/v1/namespaces/nodes/serviceaccounts/default", 200),
        ("/api/v1/namespaces/pods/serviceaccounts/default", 403),
        ("/api/v1/namespaces/nodes/services", 200),
        ("/api/v1/namespaces", 403),
        (
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/two",
            403,
        ),
        (
            "/apis/coordination.k8s.io/v1/namespaces/default/leases/one",
            403,
        ),
        ("/apis/storage.k8s.io/v1/csinodes/two", 403),
        ("/apis/resource.k8s.io/v1/resourceslices", 403),
        (
            "/apis/resource.k8s.io/v1/resourceslices?fieldSelector=spec.nodeName=one",
            200,
        ),
    ] {
        let refused = code == 403;
        if refused {
            pair.ask("one", Method::GET, path, &Value::Null).await?;
        } else {
            pair.get("one", path, code).await?;
        }
    }
    pair.ask("nameless", Method::GET, "/api/v1/nodes/one", &Value::Null)
        .await
}

async fn writes(pair: &mut Pair) -> Result<()> {
    let node = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
    let nodes = format!("/api/v1/nodes?{DRY}");
    for (name, labels) in [
        ("three", json!({})),
        ("one", json!({"node-restriction.kubernetes.io/a": "b"})),
        ("one", json!({"kubernetes.io/other": "b"})),
        ("one", json!({"kubernetes.io/hostname": "one"})),
    ] {
        pair.ask("one", Method::POST, &nodes, &node(name, labels))
            .await?;
    }
    for (path, body) in [
        (
            "/api/v1/nodes/one",
            json!({"metadata": {"labels": {"a": "b"}}}),
        ),
        (
            "/api/v1/nodes/one",
            json!({"metadata": {"labels": {"x.k8s.io/a": "b"}}}),
        ),
        ("/api/v1/nodes/one", json!({"spec": {"taints": []}})),
        (
            "/api/v1/nodes/two",
            json!({"metadata": {"labels": {"a": "b"}}}),
        ),
        (
            "/api/v1/nodes/one/status",
            json!({"status": {"phase": "Running"}}),
        ),
        (
            "/api/v1/nodes/two/status",
            json!({"status": {"phase": "Running"}}),
        ),
        (
            "/api/v1/namespaces/nodes/pods/pod-one",
            json!({"metadata": {"labels": {"a": "b"}}}),
        ),
        (
            "/api/v1/namespaces/nodes/pods/pod-one/status",
            json!({"status": {"phase": "Running"}}),
        ),
        (
            "/api/v1/namespaces/nodes/pods/pod-one/status",
            json!({"metadata": {"labels": {"a": "b"}}}),
        ),
        (
            "/api/v1/namespaces/nodes/pods/pod-two/status",
            json!({"status": {"phase": "Running"}}),
        ),
        (
            "/api/v1/namespaces/nodes/persistentvolumeclaims/claim-one",
            json!({"metadata": {"labels": {"a": "b"}}}),
        ),
    ] {
        pair.ask("one", Method::PATCH, &format!("{path}?{DRY}"), &body)
            .await?;
    }
    for path in [
        "/api/v1/namespaces/nodes/pods/pod-one",
        "/api/v1/namespaces/nodes/pods/pod-two",
        "/api/v1/nodes/two",
        "/api/v1/namespaces/nodes/secrets/mine",
    ] {
        pair.ask(
            "one",
            Method::DELETE,
            &format!("{path}?{DRY}"),
            &Value::Null,
        )
        .await?;
    }
    for target in ["pod-one", "pod-two"] {
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": target, "namespace": "nodes"}});
        let path = format!("{PODS}/{target}/eviction?{DRY}");
        pair.ask("one", Method::POST, &path, &eviction).await?;
    }
    let lease = |name: &str| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}});
    for (namespace, name) in [
        ("kube-node-lease", "one"),
        ("kube-node-lease", "two"),
        ("default", "one"),
    ] {
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases?{DRY}");
        pair.ask("one", Method::POST, &path, &lease(name)).await?;
    }
    mirrors(pair).await
}

async fn mirrors(pair: &mut Pair) -> Result<()> {
    let pods = format!("{PODS}?{DRY}");
    pair.ask(
        "one",
        Method::POST,
        &pods,
        &pod("any", &json!({"nodeName": "one"})),
    )
    .await?;
    let mirror = |node: &str, owners: Value, more: Value| {
        let mut mirror = pod("mirror", &more);
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        mirror["metadata"]["ownerReferences"] = owners;
        mirror["spec"]["nodeName"] = node.into();
        mirror
    };
    let owner = |name: &str, controller: bool| json!([{"apiVersion": "v1", "kind": "Node", "name": name, "uid": "0", "controller": controller}]);
    for body in [
        mirror("two", json!([]), json!({})),
        mirror("one", json!([]), json!({})),
        mirror("one", owner("two", true), json!({})),
        mirror("one", owner("one", false), json!({})),
    ] {
        pair.ask("one", Method::POST, &pods, &body).await?;
    }
    Ok(())
}

async fn tokens(pair: &mut Pair) -> Result<()> {
    let path = "/api/v1/namespaces/nodes/serviceaccounts/default/token";
    let request = |spec: Value| json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    for spec in [
        json!({}),
        json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "pod-one"}}),
        json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "pod-one", "uid": "other"}}),
        json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": "mine", "uid": "other"}}),
        json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "absent", "uid": "other"}}),
    ] {
        pair.ask("one", Method::POST, path, &request(spec)).await?;
    }
    // The pod has another identity on each side.
    for (name, audiences, code) in [
        ("pod-one", json!([]), 201),
        ("pod-one", json!(["a", "b"]), 403),
        ("pod-one", json!(["others"]), 403),
        ("pod-two", json!([]), 403),
    ] {
        let (upstream, ours) = pair.shown(&format!("{PODS}/{name}")).await?;
        for (side, shown) in [(&pair.upstream, upstream), (&pair.ours, ours)] {
            let uid = shown["metadata"]["uid"].as_str().context("a uid")?;
            let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
            let spec = json!({"boundObjectRef": bound, "audiences": audiences});
            let told = super::raw(side, "one", &Method::POST, path, &request(spec)).await?;
            anyhow::ensure!(told.code == code, "{name} {audiences}: {told:?}");
        }
        pair.asked += 1;
    }
    Ok(())
}

/// What others are told of a node.
async fn reviews(pair: &mut Pair) -> Result<()> {
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    for attributes in [
        json!({"verb": "get", "resource": "secrets", "namespace": "nodes", "name": "mine"}),
        json!({"verb": "get", "resource": "secrets", "namespace": "nodes", "name": "theirs"}),
        json!({"verb": "list", "resource": "pods", "fieldSelector": {"rawSelector": "spec.nodeName=one"}}),
        json!({"verb": "list", "resource": "pods", "fieldSelector": {"requirements": [
            {"key": "spec.nodeName", "operator": "In", "values": ["one"]}]}}),
        json!({"verb": "list", "resource": "pods", "fieldSelector": {"requirements": [
            {"key": "spec.nodeName", "operator": "NotIn", "values": ["one"]}]}}),
        json!({"verb": "list", "resource": "pods"}),
        json!({"verb": "create", "resource": "serviceaccounts", "subresource": "token", "namespace": "nodes", "name": "default"}),
        json!({"verb": "update", "group": "storage.k8s.io", "resource": "csinodes", "subresource": "status", "name": "one"}),
        json!({"verb": "delete", "group": "certificates.k8s.io", "resource": "podcertificaterequests", "namespace": "nodes", "name": "x"}),
        json!({"verb": "escalate", "resource": "nodes"}),
    ] {
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": "system:node:one", "groups": ["system:nodes"], "resourceAttributes": attributes}});
        pair.ask(super::ADMINISTRATOR, Method::POST, path, &review)
            .await?;
    }
    let rules = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "nodes"}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let (upstream, ours) = futures::try_join!(
        super::raw(&pair.upstream, "one", &Method::POST, path, &rules),
        super::raw(&pair.ours, "one", &Method::POST, path, &rules)
    )?;
    for field in ["incomplete", "evaluationError"] {
        let of = |told: &super::Answered| told.body["status"][field].clone();
        anyhow::ensure!(of(&upstream) == of(&ours), "{field}: {upstream:?} {ours:?}");
    }
    Ok(())
}
