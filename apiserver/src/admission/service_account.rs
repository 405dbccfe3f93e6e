//! `ServiceAccount`: every pod has an account, which is there, and a token of it
//! where programs look for one.

use std::time::Duration;

use futures::future::BoxFuture;
use rand::Rng as _;
use serde_json::{Value, json};

use super::{
    Asked, Plugin, Verdict,
    asked::{annotation, items, list, spec, text},
};
use crate::{
    authz::node,
    error::ApiError,
    kind::Sub,
    limits,
    object::{self, Json},
    registry::generated_name,
};

const DEFAULT: &str = "default";
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
const VOLUME: &str = "kube-api-access-";
const PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Seconds that a token of the volume lasts, upstream's for tokens whose use
/// beyond an hour is only warned of.
const SECONDS: i64 = 3_607;

pub struct ServiceAccount;

impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn resources(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "pods")]
    }

    fn admit<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        Box::pin(admitted(asked))
    }

    fn validate<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        Box::pin(validated(asked))
    }
}

async fn admitted(asked: &mut Asked<'_>) -> Verdict {
    if !asked.creates() {
        return Ok(());
    }
    if node::is_mirror(asked.object()) {
        return mirror(asked);
    }
    if name(asked.object()).is_empty() {
        let spec = spec(asked.object_mut());
        for field in ["serviceAccountName", "serviceAccount"] {
            spec.insert(field.to_owned(), DEFAULT.into());
        }
    }
    let account = account(asked).await?;
    let flag = |object: Option<&Value>| {
        object
            .and_then(|object| object.get("automountServiceAccountToken"))
            .and_then(Value::as_bool)
    };
    let own = flag(asked.object().get("spec"));
    let theirs = account
        .get("automountServiceAccountToken")
        .and_then(Value::as_bool);
    if own.or(theirs).unwrap_or(true) {
        mount(spec(asked.object_mut()));
    }
    pull(spec(asked.object_mut()), &account);
    allowed(asked, &account)
}

async fn validated(asked: &Asked<'_>) -> Verdict {
    let later = asked.updates(Some(Sub::EphemeralContainers));
    if !later && !asked.creates() {
        return Ok(());
    }
    if !later && node::is_mirror(asked.object()) {
        return mirror(asked);
    }
    if name(asked.object()).is_empty() {
        let pod = object::meta_str(asked.object(), "name");
        return Err(asked.forbidden(&format!(
            "no service account specified for pod {}/{pod}",
            asked.namespace()
        )));
    }
    let account = account(asked).await?;
    if !later {
        return allowed(asked, &account);
    }
    if !enforced(&account) {
        return Ok(());
    }
    let spec = asked.object().get("spec").unwrap_or(&Value::Null);
    containers(spec, "ephemeralContainers", "ephemeral container", &account)
        .map_err(|why| asked.forbidden(&why))
}

fn name(pod: &Json) -> &str {
    object::str_at(pod, &["spec", "serviceAccountName"])
}

/// What a node made refers to nothing.
fn mirror(asked: &Asked<'_>) -> Verdict {
    let pod = asked.object();
    if !name(pod).is_empty() {
        return Err(asked.forbidden("a mirror pod may not reference service accounts"));
    }
    if node::referred(pod)
        .iter()
        .any(|one| one.is(node::What::Secret))
    {
        return Err(asked.forbidden("a mirror pod may not reference secrets"));
    }
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let mut sources =
        items(spec, "volumes").flat_map(|volume| items(&volume["projected"], "sources"));
    if sources.any(|source| source.get("serviceAccountToken").is_some()) {
        let why = "a mirror pod may not use ServiceAccountToken volume projections";
        return Err(asked.forbidden(why));
    }
    Ok(())
}

/// The pod's account. That of a new namespace is made by a controller, which
/// may take a moment.
async fn account(asked: &Asked<'_>) -> Result<Json, ApiError> {
    let (namespace, name) = (asked.namespace(), name(asked.object()));
    let tries = match name {
        DEFAULT => limits::ACCOUNT_TRIES,
        _ => 1,
    };
    let pause = Duration::from_millis(rand::rng().random_range(100..200));
    for number in 0..tries {
        if number > 0 {
            tokio::time::sleep(pause).await;
        }
        if let Some(account) = asked.found("", "serviceaccounts", namespace, name).await? {
            return Ok(account);
        }
    }
    Err(asked.forbidden(&format!(
        "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
    )))
}

/// Puts the token where programs look for it, in every container that has
/// nothing there.
fn mount(spec: &mut Json) {
    let volumes = spec.get("volumes").and_then(Value::as_array);
    let own = volumes.into_iter().flatten().find_map(|volume| {
        let name = volume["name"].as_str()?;
        name.starts_with(VOLUME).then(|| name.to_owned())
    });
    let volume = own.clone().unwrap_or_else(|| generated_name(VOLUME));
    let mut needed = false;
    for containers in ["initContainers", "containers"] {
        let containers = spec.get_mut(containers).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            if items(container, "volumeMounts").any(|one| one["mountPath"] == PATH) {
                continue;
            }
            if let Value::Object(container) = container {
                list(container, "volumeMounts")
                    .push(json!({"name": volume, "readOnly": true, "mountPath": PATH}));
                needed = true;
            }
        }
    }
    if own.is_some() || !needed {
        return;
    }
    list(spec, "volumes").push(json!({"name": volume, "projected": {
    "defaultMode": 0o644,
    "sources": [
        {"serviceAccountToken": {"expirationSeconds": SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace",
            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}}));
}

/// A pod that names no secrets to pull images with has those of its account.
fn pull(spec: &mut Json, account: &Json) {
    let own = spec.get("imagePullSecrets").and_then(Value::as_array);
    let theirs = account.get("imagePullSecrets").and_then(Value::as_array);
    if own.is_none_or(Vec::is_empty)
        && let Some(secrets) = theirs.filter(|secrets| !secrets.is_empty())
    {
        spec.insert("imagePullSecrets".to_owned(), secrets.clone().into());
    }
}

/// Whether an account says that its pods may have its secrets only.
fn enforced(account: &Json) -> bool {
    let value = annotation(account, ENFORCE);
    matches!(value, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

fn allowed(asked: &Asked<'_>, account: &Json) -> Verdict {
    if !enforced(account) {
        return Ok(());
    }
    let spec = asked.object().get("spec").unwrap_or(&Value::Null);
    secrets(spec, account).map_err(|why| asked.forbidden(&why))
}

fn has(account: &Json, field: &str, name: &str) -> bool {
    let list = account.get(field).and_then(Value::as_array);
    list.into_iter().flatten().any(|one| one["name"] == name)
}

fn secrets(spec: &Value, account: &Json) -> Result<(), String> {
    let owner = object::meta_str(account, "name");
    for volume in items(spec, "volumes").filter(|volume| volume.get("secret").is_some()) {
        let name = text(volume, &["secret", "secretName"]);
        if !has(account, "secrets", name) {
            return Err(format!(
                "volume with secret.secretName=\"{name}\" is not allowed because service account {owner} does not reference that secret"
            ));
        }
    }
    containers(spec, "initContainers", "init container", account)?;
    containers(spec, "containers", "container", account)?;
    for (place, secret) in items(spec, "imagePullSecrets").enumerate() {
        let name = text(secret, &["name"]);
        if !has(account, "imagePullSecrets", name) {
            return Err(format!(
                "imagePullSecrets[{place}].name=\"{name}\" is not allowed because service account {owner} does not reference that imagePullSecret"
            ));
        }
    }
    Ok(())
}

fn containers(spec: &Value, field: &str, what: &str, account: &Json) -> Result<(), String> {
    let owner = object::meta_str(account, "name");
    for container in items(spec, field) {
        let of = text(container, &["name"]);
        for one in items(container, "env") {
            let Some(secret) = one.pointer("/valueFrom/secretKeyRef") else {
                continue;
            };
            let name = text(secret, &["name"]);
            if !has(account, "secrets", name) {
                return Err(format!(
                    "{what} {of} with envVar {} referencing secret.secretName=\"{name}\" is not allowed because service account {owner} does not reference that secret",
                    text(one, &["name"])
                ));
            }
        }
        for one in items(container, "envFrom") {
            let Some(secret) = one.get("secretRef") else {
                continue;
            };
            let name = text(secret, &["name"]);
            if !has(account, "secrets", name) {
                return Err(format!(
                    "{what} {of} with envFrom referencing secret.secretName=\"{name}\" is not allowed because service account {owner} does not reference that secret"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_at_the_tokens_place_stays() {
        let spec = json!({"containers": [
            {"name": "a", "volumeMounts": [{"name": "own", "mountPath": PATH}]}, {"name": "b"}]});
        let mut spec = spec.as_object().expect("an object").clone();
        mount(&mut spec);
        let containers = &spec["containers"];
        assert_eq!(
            containers[0]["volumeMounts"].as_array().map(Vec::len),
            Some(1)
        );
        let name = &containers[1]["volumeMounts"][0]["name"];
        assert_eq!(*name, spec["volumes"][0]["name"]);
        assert!(
            name.as_str()
                .is_some_and(|name| name.len() == VOLUME.len() + 5)
        );
        // Another one is not made.
        mount(&mut spec);
        assert_eq!(spec["volumes"].as_array().map(Vec::len), Some(1));
    }
}
