//! What must be there whenever clients come: the system's namespaces, its priority
//! classes, its roles and bindings, its priority levels and flow schemas, and the Service `kubernetes`, by which programs inside a cluster
//! name its API, with the servers that live as its [`endpoints`].

pub mod endpoints;

use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use crate::{
    authz::policy::{self, Reconciled},
    codec::json::{self, Decoded, Source},
    defaults,
    error::ApiError,
    fairness, limits,
    object::{self, Json},
    registry::{API_ADDRESS, DeleteOptions, Registry, Target, WriteOptions},
};

const NAMESPACES: &[&str] = &["default", "kube-node-lease", "kube-public", "kube-system"];

/// Upstream's priority classes of the system.
const CLASSES: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

/// Creates what is missing. Any number of servers may do so at once. `port` is
/// where servers listen.
///
/// # Errors
/// The store does not answer.
pub async fn run(registry: &Registry, port: u16) -> Result<(), ApiError> {
    for name in NAMESPACES {
        let object = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}});
        ensure(registry, ("", "namespaces"), "", name, &object).await?;
    }
    for (name, value, description) in CLASSES {
        let object = json!({"kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1",
            "metadata": {"name": name}, "value": value, "description": description});
        let of = ("scheduling.k8s.io", "priorityclasses");
        ensure(registry, of, "", name, &object).await?;
    }
    let of = ("", "services");
    ensure(registry, of, "default", "kubernetes", &service(port)).await
}

/// Does so again and again, as what is deleted comes back. `fair`: priority levels
/// and flow schemas, too.
pub async fn keep(registry: &Registry, port: u16, fair: bool) {
    loop {
        tokio::time::sleep(limits::BOOTSTRAP).await;
        let mut done = run(registry, port).await;
        if fair && done.is_ok() {
            done = flows(registry, Some(0)).await;
        }
        if let Err(error) = done {
            tracing::warn!(%error.message, "what must be there could not be looked after");
        }
    }
}

/// Puts back what is missing of upstream's roles and bindings. What was added to
/// them stays. Once, at the start: any number of servers may do so at once.
///
/// # Errors
/// The store does not answer.
pub async fn policy(registry: &Registry) -> Result<(), ApiError> {
    let objects = futures::stream::iter(policy::objects());
    let done = objects.map(|object| async move { reconcile(registry, &object).await });
    done.buffer_unordered(limits::POLICY_TOGETHER)
        .try_collect()
        .await
}

/// Puts upstream's priority levels and flow schemas where they are missing, and back
/// where they were changed by somebody who does not look after them himself.
/// `version`: what is there is asked of the cache, not of the store.
///
/// # Errors
/// The store does not answer.
pub async fn flows(registry: &Registry, version: Option<i64>) -> Result<(), ApiError> {
    let objects = futures::stream::iter(fairness::objects());
    let done = objects.map(|object| async move { flow(registry, &object, version).await });
    done.buffer_unordered(limits::POLICY_TOGETHER)
        .try_collect()
        .await
}

async fn flow(registry: &Registry, expected: &Json, version: Option<i64>) -> Result<(), ApiError> {
    let kind = object::str_at(expected, &["kind"]);
    let plural = format!("{}s", kind.to_ascii_lowercase());
    let catalog = registry.catalog();
    let target = Target {
        resource: catalog
            .own("flowcontrol.apiserver.k8s.io", "v1", &plural)
            .clone(),
        namespace: String::new(),
        name: object::meta_str(expected, "name").to_owned(),
        sub: None,
    };
    drop(catalog);
    let done = match registry.get(&target, version).await {
        Err(error) if error.code == 404 => create(registry, &target, expected).await,
        Err(error) => return Err(error),
        Ok(present) => {
            let present: Json = serde_json::from_slice(&present.json)
                .map_err(|error| ApiError::internal(error.to_string()))?;
            let Some(wanted) = fairness::reconciled(expected, &present) else {
                return Ok(());
            };
            let body = decoded(&target, &wanted)?;
            let options = WriteOptions::default();
            registry.update(&target, body, options).await.map(|_| ())
        }
    };
    match done {
        // Another server was faster, or somebody was: it is looked at again.
        Err(error) if error.code < 500 => {
            tracing::debug!(kind, name = target.name, %error.message, "is not reconciled");
            Ok(())
        }
        done => done,
    }
}

async fn reconcile(registry: &Registry, expected: &Json) -> Result<(), ApiError> {
    let kind = object::str_at(expected, &["kind"]);
    let plural = format!("{}s", kind.to_ascii_lowercase());
    let target = Target {
        resource: registry
            .catalog()
            .own("rbac.authorization.k8s.io", "v1", &plural)
            .clone(),
        namespace: object::meta_str(expected, "namespace").to_owned(),
        name: object::meta_str(expected, "name").to_owned(),
        sub: None,
    };
    for _ in 0..limits::UPDATE_TRIES {
        let done = match registry.get(&target, None).await {
            Err(error) if error.code == 404 => create(registry, &target, expected).await,
            Err(error) => return Err(error),
            Ok(present) => {
                let present: Json = serde_json::from_slice(&present.json)
                    .map_err(|error| ApiError::internal(error.to_string()))?;
                match policy::reconciled(expected, &present) {
                    Reconciled::Same => return Ok(()),
                    Reconciled::Changed(object) => {
                        let body = decoded(&target, &object)?;
                        let options = WriteOptions::default();
                        registry.update(&target, body, options).await.map(|_| ())
                    }
                    Reconciled::Anew(object) => {
                        registry.delete(&target, &DeleteOptions::default()).await?;
                        create(registry, &target, &object).await
                    }
                }
            }
        };
        match done {
            // Another server, or somebody, was faster: look again.
            Err(error) if matches!(error.code, 404 | 409) => {}
            Err(error) if error.code < 500 => {
                tracing::warn!(kind, name = target.name, %error.message, "cannot be reconciled");
                return Ok(());
            }
            done => return done,
        }
    }
    tracing::warn!(
        kind,
        name = target.name,
        "is changed faster than it is reconciled"
    );
    Ok(())
}

async fn create(registry: &Registry, target: &Target, object: &Json) -> Result<(), ApiError> {
    let body = decoded(target, object)?;
    let options = WriteOptions::default();
    registry.create(target, body, options).await.map(|_| ())
}

fn decoded(target: &Target, object: &Json) -> Result<Decoded, ApiError> {
    let text = Value::Object(object.clone()).to_string();
    let mut body = json::decode(text.as_bytes(), target.resource.message, Source::Client)
        .map_err(|error| ApiError::internal(error.to_string()))?;
    defaults::apply(&target.resource, &mut body.value);
    Ok(body)
}

/// As upstream's, with the first address of the range for services.
fn service(port: u16) -> Value {
    json!({"kind": "Service", "apiVersion": "v1",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": API_ADDRESS.to_string(), "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}]}})
}

async fn ensure(
    registry: &Registry,
    (group, plural): (&str, &str),
    namespace: &str,
    name: &str,
    object: &Value,
) -> Result<(), ApiError> {
    let target = Target {
        resource: registry.catalog().own(group, "v1", plural).clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        sub: None,
    };
    match registry.get(&target, None).await {
        Ok(_) => return Ok(()),
        Err(error) if error.code == 404 => {}
        Err(error) => return Err(error),
    }
    let Value::Object(object) = object else {
        return Ok(());
    };
    let body = decoded(&target, object)?;
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
