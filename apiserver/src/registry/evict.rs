//! Eviction: a pod is deleted if its disruption budget allows it, and its status
//! says why.
//!
//! Source: upstream's `pkg/registry/core/pod/storage/eviction.go`.

use serde_json::{Value, json};

use super::{DeleteOptions, Registry, Target, WriteOptions, list::selects, sub};
use crate::{
    codec::json::Decoded,
    error::ApiError,
    kind::Sub,
    object::{self, Json},
    select::{Labels, Selector},
};

impl Registry {
    /// Deletes a pod if its disruption budget allows it.
    pub async fn evict(
        &self,
        target: &Target,
        body: &Decoded,
        mut options: DeleteOptions,
    ) -> Result<(), ApiError> {
        sub::expect(body, "policy/v1", "Eviction")?;
        if object::meta_str(&body.value, "name") != target.name {
            let why = "name in URL does not match name in Eviction object";
            return Err(ApiError::bad_request(why));
        }
        let pod = Target {
            sub: None,
            ..target.clone()
        };
        let current = self.get(&pod, None).await?;
        let value: Json = serde_json::from_slice(&current.json)
            .map_err(|error| ApiError::internal(error.to_string()))?;
        let phase = object::str_at(&value, &["status", "phase"]);
        let ended = matches!(phase, "Succeeded" | "Failed" | "Pending");
        if !ended && !object::is_deleting(&value) {
            self.take_disruption(&pod, &value, options.dry_run).await?;
        }
        super::delete::check(&pod, &options, &value, current.revision)?;
        if !options.dry_run {
            self.say_why(&pod, &value).await?;
        }
        // Checked above; telling why made a newer version.
        options.version = None;
        let uid = object::meta_str(&value, "uid").to_owned();
        options.uid.get_or_insert(uid);
        self.delete(&pod, &options).await.map(|_| ())
    }

    /// Puts the reason into the pod's status, for whoever replaces it.
    async fn say_why(&self, pod: &Target, value: &Json) -> Result<(), ApiError> {
        let status = Target {
            sub: Some(Sub::Status),
            ..pod.clone()
        };
        let uid = object::meta_str(value, "uid");
        let make = |current: &Json| {
            if object::meta_str(current, "uid") != uid {
                return Err(pod.not_found());
            }
            Ok(disrupted(current))
        };
        self.with(&status, &make, WriteOptions::default())
            .await
            .map(|_| ())
    }

    /// Takes one disruption from the budget that covers a pod.
    async fn take_disruption(
        &self,
        pod: &Target,
        value: &Json,
        dry_run: bool,
    ) -> Result<(), ApiError> {
        let catalog = self.catalog();
        let scope = Target {
            resource: catalog.own("policy", "v1", "poddisruptionbudgets").clone(),
            namespace: pod.namespace.clone(),
            name: String::new(),
            sub: None,
        };
        drop(catalog);
        let (_, all) = self.matching(&scope, &Selector::default()).await?;
        let covering: Vec<_> = all.iter().filter(|one| covers(one, pod, value)).collect();
        let budget = match covering[..] {
            [] => return Ok(()),
            [one] => one,
            _ => {
                return Err(ApiError::plain(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        };
        if !is_ready(value) && unready_may_go(budget) {
            return Ok(());
        }
        let one = Target {
            name: object::meta_str(budget, "name").to_owned(),
            sub: Some(Sub::Status),
            ..scope
        };
        let options = WriteOptions {
            dry_run,
            ..WriteOptions::default()
        };
        let make = |current: &Json| taken(current, &pod.name);
        self.with(&one, &make, options).await.map(|_| ())
    }
}

/// A pod whose status says that it is disrupted.
fn disrupted(pod: &Json) -> Json {
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": object::now(),
    });
    let mut wanted = pod.clone();
    let status = wanted.entry("status").or_insert_with(|| json!({}));
    let known = status.get("conditions").and_then(Value::as_array).cloned();
    let mut conditions = known.unwrap_or_default();
    conditions.retain(|one| one["type"] != condition["type"]);
    conditions.push(condition);
    status["conditions"] = conditions.into();
    wanted
}

fn is_ready(pod: &Json) -> bool {
    let conditions = object::at(pod, &["status", "conditions"]).and_then(Value::as_array);
    let ready = |one: &Value| one["type"] == "Ready" && one["status"] == "True";
    conditions.is_some_and(|all| all.iter().any(ready))
}

/// A number of a budget's status.
fn number(budget: &Json, field: &str) -> i64 {
    let number = object::at(budget, &["status", field]).and_then(Value::as_i64);
    number.unwrap_or(0)
}

/// Whether a pod that is not ready counts for nothing: the budget says so, or
/// enough others are ready.
fn unready_may_go(budget: &Json) -> bool {
    let policy = object::str_at(budget, &["spec", "unhealthyPodEvictionPolicy"]);
    let desired = number(budget, "desiredHealthy");
    policy == "AlwaysAllow" || (desired > 0 && number(budget, "currentHealthy") >= desired)
}

/// The budget with one disruption less, for a pod of this name.
fn taken(budget: &Json, pod: &str) -> Result<Json, ApiError> {
    let name = object::meta_str(budget, "name");
    let generation = object::at(budget, &["metadata", "generation"]).and_then(Value::as_i64);
    if number(budget, "observedGeneration") < generation.unwrap_or(0) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(ApiError::disruption(&why, Some(10)));
    }
    let allowed = number(budget, "disruptionsAllowed");
    if allowed <= 0 {
        let (desired, healthy) = (
            number(budget, "desiredHealthy"),
            number(budget, "currentHealthy"),
        );
        let why = format!(
            "The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
        );
        return Err(ApiError::disruption(&why, None));
    }
    let mut wanted = budget.clone();
    if let Some(status) = wanted.get_mut("status") {
        status["disruptionsAllowed"] = (allowed - 1).into();
        status["disruptedPods"][pod] = object::now();
    }
    Ok(wanted)
}

fn covers(budget: &Json, pod: &Target, value: &Json) -> bool {
    let Some(selector) = object::at(budget, &["spec", "selector"]) else {
        return false;
    };
    Labels::of(selector).is_some_and(|labels| {
        let selector = Selector {
            labels,
            ..Selector::default()
        };
        selects(&pod.resource, &selector, value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(status: Value) -> Json {
        let value =
            json!({"metadata": {"name": "b", "generation": 2}, "spec": {}, "status": status});
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn a_budget_that_is_not_observed_yet_allows_nothing() {
        let stale = budget(json!({"observedGeneration": 1, "disruptionsAllowed": 3}));
        assert_eq!(taken(&stale, "p").expect_err("refused").code, 429);
        let observed = budget(json!({"observedGeneration": 2, "disruptionsAllowed": 3}));
        let taken = taken(&observed, "p").expect("allowed");
        assert_eq!(taken["status"]["disruptionsAllowed"], 2);
        assert!(taken["status"]["disruptedPods"]["p"].is_string());
    }

    #[test]
    fn an_unready_pod_goes_when_enough_others_are_ready() {
        for (status, goes) in [
            (json!({"desiredHealthy": 2, "currentHealthy": 2}), true),
            (json!({"desiredHealthy": 2, "currentHealthy": 1}), false),
            (json!({"desiredHealthy": 0, "currentHealthy": 0}), false),
        ] {
            assert_eq!(unready_may_go(&budget(status.clone())), goes, "{status}");
        }
        let mut always = budget(json!({}));
        always.insert(
            "spec".to_owned(),
            json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"}),
        );
        assert!(unready_may_go(&always));
    }
}
