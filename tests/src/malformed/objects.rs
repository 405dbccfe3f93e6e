//! The objects that requests are about, as the server made them.

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use super::NAMESPACE;
use crate::https::Https;

/// One object that is there.
#[derive(Debug)]
pub struct Object {
    pub plural: &'static str,
    /// The path of its collection.
    pub collection: String,
    pub name: String,
    /// What created it: all of it is the client's.
    pub sent: Value,
    /// The same object as the server shows it.
    pub json: Value,
    pub protobuf: Bytes,
}

impl Object {
    pub fn path(&self) -> String {
        format!("{}/{}", self.collection, self.name)
    }

    pub fn namespaced(&self) -> bool {
        self.collection.contains("/namespaces/")
    }
}

fn pod() -> Value {
    json!({"containers": [{"name": "c", "image": "nginx", "ports": [{"containerPort": 80}],
        "env": [{"name": "A", "value": "b"}], "resources": {"limits": {"cpu": "1"}},
        "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "volumes": [{"name": "v", "emptyDir": {}}]})
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "x"}}, "spec": pod()})
}

/// Plural, the collection before and after the namespace, the object.
fn all() -> Vec<(&'static str, &'static str, bool, Value)> {
    let selector = json!({"matchLabels": {"app": "x"}});
    let mut job = template();
    job["spec"]["restartPolicy"] = "Never".into();
    vec![
        (
            "pods",
            "/api/v1",
            true,
            json!({"kind": "Pod", "apiVersion": "v1", "spec": pod()}),
        ),
        (
            "deployments",
            "/apis/apps/v1",
            true,
            json!({"kind": "Deployment", "apiVersion": "apps/v1",
            "spec": {"replicas": 2, "selector": selector, "template": template()}}),
        ),
        (
            "statefulsets",
            "/apis/apps/v1",
            true,
            json!({"kind": "StatefulSet", "apiVersion": "apps/v1",
            "spec": {"serviceName": "s", "selector": selector, "template": template()}}),
        ),
        (
            "services",
            "/api/v1",
            true,
            json!({"kind": "Service", "apiVersion": "v1",
            "spec": {"selector": {"app": "x"}, "ports": [{"port": 80, "targetPort": "http"}]}}),
        ),
        (
            "configmaps",
            "/api/v1",
            true,
            json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"a": "b"}}),
        ),
        (
            "secrets",
            "/api/v1",
            true,
            json!({"kind": "Secret", "apiVersion": "v1", "data": {"a": "Yg=="}}),
        ),
        (
            "jobs",
            "/apis/batch/v1",
            true,
            json!({"kind": "Job", "apiVersion": "batch/v1", "spec": {"template": job}}),
        ),
        (
            "roles",
            "/apis/rbac.authorization.k8s.io/v1",
            true,
            json!({"kind": "Role", "apiVersion": "rbac.authorization.k8s.io/v1",
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
        ),
        (
            "ingresses",
            "/apis/networking.k8s.io/v1",
            true,
            json!({"kind": "Ingress", "apiVersion": "networking.k8s.io/v1",
            "spec": {"rules": [{"host": "a.b", "http": {"paths": [{"path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}}),
        ),
        (
            "persistentvolumeclaims",
            "/api/v1",
            true,
            json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1",
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
        ),
        (
            "leases",
            "/apis/coordination.k8s.io/v1",
            true,
            json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
            "spec": {"holderIdentity": "a", "leaseDurationSeconds": 5}}),
        ),
        (
            "poddisruptionbudgets",
            "/apis/policy/v1",
            true,
            json!({"kind": "PodDisruptionBudget", "apiVersion": "policy/v1",
            "spec": {"minAvailable": 1, "selector": selector}}),
        ),
        (
            "nodes",
            "/api/v1",
            false,
            json!({"kind": "Node", "apiVersion": "v1",
            "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}),
        ),
        (
            "serviceaccounts",
            "/api/v1",
            true,
            json!({"kind": "ServiceAccount", "apiVersion": "v1"}),
        ),
    ]
}

/// Creates what is missing of them.
pub async fn create(https: &Https) -> Result<Vec<Object>> {
    let namespace =
        json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": NAMESPACE}});
    post(https, "/api/v1/namespaces", &namespace).await?;
    let mut objects = Vec::new();
    for (plural, root, namespaced, mut sent) in all() {
        let collection = if namespaced {
            format!("{root}/namespaces/{NAMESPACE}/{plural}")
        } else {
            format!("{root}/{plural}")
        };
        sent["metadata"] =
            json!({"name": "there", "labels": {"app": "x"}, "annotations": {"a": "b"}});
        post(https, &collection, &sent).await?;
        let mut object = Object {
            plural,
            collection,
            name: "there".to_owned(),
            sent,
            json: Value::Null,
            protobuf: Bytes::new(),
        };
        object.json = https.json(Method::GET, &object.path(), None).await?;
        let mut headers = HeaderMap::new();
        headers.insert(
            "accept",
            HeaderValue::from_static("application/vnd.kubernetes.protobuf"),
        );
        let answer = https
            .send(Method::GET, &object.path(), &headers, Bytes::new())
            .await?;
        object.protobuf = answer.body;
        objects.push(object);
    }
    Ok(objects)
}

async fn post(https: &Https, collection: &str, value: &Value) -> Result<()> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let body = Bytes::from(value.to_string());
    let answer = https.send(Method::POST, collection, &headers, body).await?;
    anyhow::ensure!(
        answer.code.is_success() || answer.code == StatusCode::CONFLICT,
        "{collection}: {} {}",
        answer.code,
        String::from_utf8_lossy(&answer.body)
    );
    Ok(())
}
