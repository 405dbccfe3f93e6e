//! Accounts, priorities, tolerations, runtimes and limits of pods.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Pair, namespace, pod};

const PODS: &str = "/api/v1/namespaces/pods/pods";

pub async fn all(pair: &mut Pair) -> Result<()> {
    namespace(pair, "pods", &json!({})).await?;
    accounts(pair).await?;
    priorities(pair).await?;
    tolerations(pair).await?;
    runtimes(pair).await?;
    limits(pair).await
}

async fn accounts(pair: &mut Pair) -> Result<()> {
    pair.would(PODS, &pod("plain", &json!({}))).await?;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "strict",
        "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}},
        "secrets": [{"name": "mine"}], "imagePullSecrets": [{"name": "pull"}]});
    let accounts = "/api/v1/namespaces/pods/serviceaccounts";
    pair.create(accounts, &account).await?;
    let quiet = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "quiet"},
        "automountServiceAccountToken": false});
    pair.create(accounts, &quiet).await?;
    let mount = json!({"name": "c", "image": "i", "volumeMounts": [
        {"name": "v", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]});
    for more in [
        json!({"serviceAccountName": "absent"}),
        json!({"serviceAccount": "quiet"}),
        json!({"serviceAccountName": "quiet"}),
        json!({"serviceAccountName": "quiet", "automountServiceAccountToken": true}),
        json!({"automountServiceAccountToken": false}),
        json!({"initContainers": [{"name": "first", "image": "i"}]}),
        json!({"containers": [mount], "volumes": [{"name": "v", "emptyDir": {}}]}),
        json!({"volumes": [{"name": "kube-api-access-mine", "emptyDir": {}}]}),
        json!({"imagePullSecrets": [{"name": "other"}]}),
        json!({"serviceAccountName": "strict"}),
        json!({"serviceAccountName": "strict", "imagePullSecrets": [{"name": "other"}]}),
        json!({"serviceAccountName": "strict", "volumes": [{"name": "s", "secret": {"secretName": "mine"}}]}),
        json!({"serviceAccountName": "strict", "volumes": [{"name": "s", "secret": {"secretName": "other"}}]}),
        json!({"serviceAccountName": "strict", "containers": [{"name": "c", "image": "i",
            "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "other", "key": "k"}}}]}]}),
        json!({"serviceAccountName": "strict", "containers": [{"name": "c", "image": "i",
            "envFrom": [{"secretRef": {"name": "other"}}]}]}),
    ] {
        pair.would(PODS, &pod("account", &more)).await?;
    }
    for more in [
        json!({}),
        json!({"serviceAccountName": "default"}),
        json!({"volumes": [{"name": "s", "secret": {"secretName": "mine"}}]}),
        json!({"volumes": [{"name": "s", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}),
    ] {
        let mut mirror = pod("mirror", &more);
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        mirror["spec"]["nodeName"] = "n".into();
        pair.would(PODS, &mirror).await?;
    }
    Ok(())
}

async fn priorities(pair: &mut Pair) -> Result<()> {
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = |name: &str, value: i64, more: Value| {
        let mut class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value});
        for (field, value) in more.as_object().into_iter().flatten() {
            class[field] = value.clone();
        }
        class
    };
    pair.create(
        classes,
        &class("high", 1000, json!({"preemptionPolicy": "Never"})),
    )
    .await?;
    for more in [
        json!({"priorityClassName": "high"}),
        json!({"priorityClassName": "absent"}),
        json!({"priorityClassName": "system-node-critical"}),
        json!({"priority": 7}),
        json!({"priorityClassName": "high", "priority": 1000}),
        json!({"priorityClassName": "high", "priority": 7}),
        json!({"priorityClassName": "high", "preemptionPolicy": "PreemptLowerPriority"}),
        json!({"preemptionPolicy": "Never"}),
    ] {
        pair.would(PODS, &pod("priority", &more)).await?;
    }
    let default = json!({"globalDefault": true});
    pair.create(classes, &class("usual", 10, default.clone()))
        .await?;
    pair.would(PODS, &pod("usual", &json!({}))).await?;
    pair.would(classes, &class("second", 11, default)).await?;
    pair.set(
        http::Method::DELETE,
        &format!("{classes}/usual"),
        &Value::Null,
    )
    .await?;
    pair.would(PODS, &pod("again", &json!({}))).await
}

async fn tolerations(pair: &mut Pair) -> Result<()> {
    for list in [
        json!([{"operator": "Exists"}]),
        json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]),
        json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists"}]),
        json!([{"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"}]),
    ] {
        let more = json!({"tolerations": list});
        pair.would(PODS, &pod("tolerates", &more)).await?;
    }
    Ok(())
}

async fn runtimes(pair: &mut Pair) -> Result<()> {
    let class = |name: &str, more: Value| {
        let mut class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
            "metadata": {"name": name}, "handler": "h"});
        for (field, value) in more.as_object().into_iter().flatten() {
            class[field] = value.clone();
        }
        class
    };
    let classes = "/apis/node.k8s.io/v1/runtimeclasses";
    pair.create(classes, &class("plain", json!({}))).await?;
    let costly = json!({"overhead": {"podFixed": {"cpu": "250m", "memory": "64Mi"}},
        "scheduling": {"nodeSelector": {"runtime": "costly"},
            "tolerations": [{"key": "runtime", "operator": "Exists", "effect": "NoSchedule"}]}});
    pair.create(classes, &class("costly", costly)).await?;
    for more in [
        json!({"runtimeClassName": "plain"}),
        json!({"runtimeClassName": "absent"}),
        json!({"runtimeClassName": "costly"}),
        json!({"runtimeClassName": "costly", "overhead": {"cpu": "0.25", "memory": "64Mi"}}),
        json!({"runtimeClassName": "costly", "overhead": {"cpu": "1"}}),
        json!({"runtimeClassName": "costly", "nodeSelector": {"a": "b"}}),
        json!({"runtimeClassName": "costly", "nodeSelector": {"runtime": "other"}}),
        json!({"runtimeClassName": "costly", "tolerations": [{"operator": "Exists"}]}),
        json!({"overhead": {"cpu": "1"}}),
    ] {
        pair.would(PODS, &pod("runtime", &more)).await?;
    }
    Ok(())
}

async fn limits(pair: &mut Pair) -> Result<()> {
    namespace(pair, "limits", &json!({})).await?;
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "range"}, "spec": {"limits": [
        {"type": "Container", "default": {"cpu": "500m", "memory": "512Mi"}, "defaultRequest": {"cpu": "100m"},
            "max": {"cpu": "2"}, "min": {"cpu": "50m"}, "maxLimitRequestRatio": {"cpu": "10"}},
        {"type": "Pod", "max": {"memory": "2Gi"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": "10Gi"}, "min": {"storage": "1Gi"}}]}});
    pair.create("/api/v1/namespaces/limits/limitranges", &range)
        .await?;
    let pods = "/api/v1/namespaces/limits/pods";
    let cpu = |request: &str, limit: &str| {
        json!({"containers": [{"name": "c", "image": "i",
            "resources": {"requests": {"cpu": request}, "limits": {"cpu": limit}}}]})
    };
    for more in [
        json!({}),
        json!({"initContainers": [{"name": "first", "image": "i"}]}),
        cpu("1", "2"),
        cpu("1", "3"),
        cpu("10m", "100m"),
        cpu("100m", "1500m"),
        json!({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"memory": "3Gi"}}}]}),
        json!({"containers": [{"name": "a", "image": "i", "resources": {"limits": {"memory": "1536Mi"}}}, {"name": "b", "image": "i"}]}),
    ] {
        pair.would(pods, &pod("limited", &more)).await?;
    }
    for storage in ["5Gi", "100Gi", "1Mi"] {
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "claim"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}}});
        pair.would("/api/v1/namespaces/limits/persistentvolumeclaims", &claim)
            .await?;
    }
    Ok(())
}
