//! Classes that are the default, and what is in use.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Pair, namespace};

pub async fn all(pair: &mut Pair) -> Result<()> {
    namespace(pair, "storage", &json!({})).await?;
    let claims = "/api/v1/namespaces/storage/persistentvolumeclaims";
    let claim = |more: Value| {
        let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "claim"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        for (field, value) in more.as_object().into_iter().flatten() {
            claim["spec"][field] = value.clone();
        }
        claim
    };
    pair.would(claims, &claim(json!({}))).await?;
    let class = |name: &str, annotations: Value| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "p",
            "metadata": {"name": name, "annotations": annotations}})
    };
    let classes = "/apis/storage.k8s.io/v1/storageclasses";
    pair.create(classes, &class("slow", json!({}))).await?;
    let marked = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    pair.create(classes, &class("usual", marked)).await?;
    pair.would(claims, &claim(json!({}))).await?;
    for more in [
        json!({"storageClassName": "slow"}),
        json!({"storageClassName": ""}),
    ] {
        pair.would(claims, &claim(more)).await?;
    }
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "volume"},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp/x"}}});
    pair.would("/api/v1/persistentvolumes", &volume).await?;
    let attributes = json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass",
        "metadata": {"name": "fast", "finalizers": ["example.com/own"]}, "driverName": "d", "parameters": {"a": "b"}});
    pair.would(
        "/apis/storage.k8s.io/v1/volumeattributesclasses",
        &attributes,
    )
    .await?;
    ingresses(pair).await
}

async fn ingresses(pair: &mut Pair) -> Result<()> {
    let ingress = |annotations: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "i", "annotations": annotations},
            "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}})
    };
    let ingresses = "/apis/networking.k8s.io/v1/namespaces/storage/ingresses";
    pair.would(ingresses, &ingress(json!({}))).await?;
    let class = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "spec": {"controller": "example.com/c"},
        "metadata": {"name": "usual", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}});
    pair.create("/apis/networking.k8s.io/v1/ingressclasses", &class)
        .await?;
    pair.would(ingresses, &ingress(json!({}))).await?;
    let own = json!({"kubernetes.io/ingress.class": "own"});
    pair.would(ingresses, &ingress(own)).await
}
