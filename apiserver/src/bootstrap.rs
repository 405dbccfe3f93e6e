//! What must be there whenever clients come: the system's namespaces and the
//! Service `kubernetes`, by which programs inside a cluster name its API.
//!
//! The Service has no endpoints yet: an address of theirs must not be a
//! loopback one, and no other is served.

use serde_json::{Value, json};

use crate::{
    codec::json::{self, Source},
    defaults,
    error::ApiError,
    limits,
    registry::{API_ADDRESS, Registry, Target, WriteOptions},
};

const NAMESPACES: &[&str] = &["default", "kube-node-lease", "kube-public", "kube-system"];

/// Creates what is missing. Any number of servers may do so at once.
///
/// # Errors
/// The store does not answer.
pub async fn run(registry: &Registry) -> Result<(), ApiError> {
    for name in NAMESPACES {
        let object = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}});
        ensure(registry, "namespaces", "", name, &object).await?;
    }
    ensure(registry, "services", "default", "kubernetes", &service()).await
}

/// Does so again and again, as what is deleted comes back.
pub async fn keep(registry: &Registry) {
    loop {
        tokio::time::sleep(limits::BOOTSTRAP).await;
        if let Err(error) = run(registry).await {
            tracing::warn!(%error.message, "what must be there could not be looked after");
        }
    }
}

/// As upstream's, with the first address of the range for services.
fn service() -> Value {
    json!({"kind": "Service", "apiVersion": "v1",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": API_ADDRESS.to_string(), "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": 6443}]}})
}

async fn ensure(
    registry: &Registry,
    plural: &str,
    namespace: &str,
    name: &str,
    object: &Value,
) -> Result<(), ApiError> {
    let resource = registry.catalog().own("", "v1", plural).clone();
    let target = Target {
        resource: resource.clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        sub: None,
    };
    match registry.get(&target, None).await {
        Ok(_) => return Ok(()),
        Err(error) if error.code == 404 => {}
        Err(error) => return Err(error),
    }
    let text = object.to_string();
    let mut body = json::decode(text.as_bytes(), resource.message, Source::Client)
        .map_err(|error| ApiError::internal(error.to_string()))?;
    defaults::apply(&resource, &mut body.value);
    match registry
        .create(&target, body, WriteOptions::default())
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if error.code < 500 => {
            // Another server was faster, or something stands in the way, which
            // is for people to remove: the rest is served.
            if registry.get(&target, None).await.is_err() {
                tracing::warn!(plural, name, %error.message, "cannot be created");
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}
