//! Quotas: what is taken is counted, and no more is given.

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::{ADMINISTRATOR, Pair, namespace, pod};

const QUOTAS: &str = "/api/v1/namespaces/quotas/resourcequotas";
const PODS: &str = "/api/v1/namespaces/quotas/pods";

pub async fn all(pair: &mut Pair) -> Result<()> {
    namespace(pair, "quotas", &json!({})).await?;
    quota(
        pair,
        "all",
        json!({"hard": {"pods": "2", "requests.cpu": "1", "count/deployments.apps": "1", "configmaps": "1",
            "services.nodeports": "1", "requests.storage": "2Gi"}}),
    )
    .await?;
    // Nothing is known yet of what is used.
    let cpu = |amount: &str| json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": amount}}}]});
    counted(
        pair,
        "all",
        json!({"pods": "0", "requests.cpu": "0", "count/deployments.apps": "0", "configmaps": "0",
        "services.nodeports": "0", "requests.storage": "0"}),
    )
    .await?;
    pair.code(
        ADMINISTRATOR,
        Method::POST,
        &format!("{PODS}?dryRun=All"),
        &pod("asks", &cpu("1")),
        201,
    )
    .await?;
    pair.would(PODS, &pod("plain", &json!({}))).await?;
    pair.would(PODS, &pod("much", &cpu("2"))).await?;
    pair.create(PODS, &pod("first", &cpu("600m"))).await?;
    pair.would(PODS, &pod("second", &cpu("500m"))).await?;
    pair.create(PODS, &pod("second", &cpu("0.4"))).await?;
    pair.would(PODS, &pod("third", &cpu("1m"))).await?;
    let map =
        |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    let maps = "/api/v1/namespaces/quotas/configmaps";
    pair.create(maps, &map("one")).await?;
    pair.would(maps, &map("two")).await?;
    let deployment = |name: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
    };
    let deployments = "/apis/apps/v1/namespaces/quotas/deployments";
    pair.create(deployments, &deployment("one")).await?;
    pair.would(deployments, &deployment("two")).await?;
    let claim = |storage: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "claim"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}}})
    };
    let claims = "/api/v1/namespaces/quotas/persistentvolumeclaims";
    pair.would(claims, &claim("3Gi")).await?;
    pair.create(claims, &claim("2Gi")).await?;
    used(pair, "all").await?;
    scopes(pair).await
}

async fn scopes(pair: &mut Pair) -> Result<()> {
    quota(
        pair,
        "best",
        json!({"hard": {"pods": "0"}, "scopes": ["BestEffort"]}),
    )
    .await?;
    counted(pair, "best", json!({"pods": "0"})).await?;
    pair.would(PODS, &pod("best", &json!({}))).await?;
    let selected = json!({"hard": {"count/pods": "0"}, "scopeSelector": {"matchExpressions": [
        {"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}]}});
    quota(pair, "critical", selected).await?;
    counted(pair, "critical", json!({"count/pods": "0"})).await?;
    let critical = json!({"priorityClassName": "system-node-critical"});
    pair.would(PODS, &pod("critical", &critical)).await
}

async fn quota(pair: &mut Pair, name: &str, spec: Value) -> Result<()> {
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": spec});
    pair.create(QUOTAS, &quota).await
}

/// Does what a controller does: the quota says what is limited and used.
async fn counted(pair: &mut Pair, name: &str, used: Value) -> Result<()> {
    let path = format!("{QUOTAS}/{name}");
    let (shown, _) = pair.shown(&path).await?;
    let status = json!({"status": {"hard": shown["spec"]["hard"], "used": used}});
    pair.set(Method::PATCH, &format!("{path}/status"), &status)
        .await
}

/// Both sides have counted the same.
async fn used(pair: &mut Pair, name: &str) -> Result<()> {
    let (upstream, ours) = pair.shown(&format!("{QUOTAS}/{name}")).await?;
    let (upstream, ours) = (&upstream["status"]["used"], &ours["status"]["used"]);
    ensure!(upstream["pods"] == "2", "{upstream}");
    ensure!(upstream == ours, "used: upstream {upstream}, ours {ours}");
    Ok(())
}
