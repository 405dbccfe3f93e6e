//! `LimitRanger`: what containers ask for if they say nothing, and how much they
//! and pods and claims may ask for, by the namespace's limit ranges.

use futures::future::BoxFuture;
use serde_json::{Map, Value};

use super::{
    Asked, Plugin, Verdict,
    asked::{items, map, read, spec, text},
    resources::{Amounts, amounts, of_pod},
};
use crate::{
    authz::together,
    codec::quantity::Amount,
    kind::Sub,
    object::{self, Json},
};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub struct LimitRanger;

impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn resources(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "pods"), ("", "persistentvolumeclaims")]
    }

    fn admit<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        if asked.is_about("pods") && concerns(asked) {
            for range in ranges(asked) {
                default(asked.object_mut(), &range);
            }
        }
        Box::pin(async { Ok(()) })
    }

    fn validate<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        let verdict = match concerns(asked) {
            true => validated(asked),
            false => Ok(()),
        };
        Box::pin(async { verdict })
    }
}

/// New pods and pods whose resources change; claims, new and changed.
fn concerns(asked: &Asked<'_>) -> bool {
    let changes = if asked.is_about("pods") {
        asked.updates(Some(Sub::Resize))
    } else {
        asked.updates(None)
    };
    let deleting = asked.old().is_some_and(object::is_deleting);
    asked.creates() || changes && !deleting
}

fn ranges(asked: &Asked<'_>) -> Vec<Json> {
    let entries = asked.all("", "limitranges", asked.namespace());
    entries.iter().filter_map(|entry| read(entry)).collect()
}

fn limits(range: &Json) -> impl Iterator<Item = &Value> {
    let limits = object::at(range, &["spec", "limits"]).and_then(Value::as_array);
    limits.into_iter().flatten()
}

/// Gives containers what they do not say.
fn default(pod: &mut Json, range: &Json) {
    let mut given = [Map::new(), Map::new()];
    for limit in limits(range).filter(|limit| limit["type"] == "Container") {
        for (field, given) in ["defaultRequest", "default"].iter().zip(&mut given) {
            given.extend(limit[*field].as_object().cloned().unwrap_or_default());
        }
    }
    let [requests, most] = given;
    let mut done = Vec::new();
    for (list, what) in [
        ("containers", "container"),
        ("initContainers", "init container"),
    ] {
        let containers = spec(pod).get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = text(container, &["name"]).to_owned();
            let Value::Object(container) = container else {
                continue;
            };
            for (field, given, word) in [
                ("requests", &requests, "request"),
                ("limits", &most, "limit"),
            ] {
                let set = fill(container, field, given);
                if !set.is_empty() {
                    done.push(format!("{} {word} for {what} {name}", set.join(", ")));
                }
            }
        }
    }
    if !done.is_empty() {
        let text = format!("LimitRanger plugin set: {}", done.join("; "));
        let meta = map(pod, "metadata");
        map(meta, "annotations").insert(ANNOTATION.to_owned(), text.into());
    }
}

/// Puts in what is missing; gives the names, in their order.
fn fill(container: &mut Json, field: &str, given: &Map<String, Value>) -> Vec<String> {
    let own = |name: &String| {
        container
            .get("resources")
            .and_then(|all| all[field].get(name))
            .is_some()
    };
    let missing = given.iter().filter(|(name, _)| !own(name));
    let missing: Vec<_> = missing
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let mut names: Vec<String> = missing.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    map(map(container, "resources"), field).extend(missing);
    names
}

fn validated(asked: &Asked<'_>) -> Verdict {
    let spec = asked.object().get("spec").unwrap_or(&Value::Null);
    for range in ranges(asked) {
        let mut errors = Vec::new();
        for limit in limits(&range) {
            if asked.is_about("pods") {
                pod(spec, limit, &mut errors);
            } else if limit["type"] == "PersistentVolumeClaim" {
                claim(spec, limit, &mut errors);
            }
        }
        if !errors.is_empty() {
            return Err(asked.forbidden(&together(&errors)));
        }
    }
    Ok(())
}

fn pod(spec: &Value, limit: &Value, errors: &mut Vec<String>) {
    match text(limit, &["type"]) {
        "Container" => {
            for list in ["containers", "initContainers"] {
                for container in items(spec, list) {
                    let resources = &container["resources"];
                    let has = Has {
                        requests: amounts(resources, "requests"),
                        limits: amounts(resources, "limits"),
                    };
                    has.within(limit, errors);
                }
            }
        }
        "Pod" => {
            let has = Has {
                requests: of_pod(spec, "requests", false),
                limits: of_pod(spec, "limits", false),
            };
            has.within(limit, errors);
        }
        _ => {}
    }
}

fn claim(spec: &Value, limit: &Value, errors: &mut Vec<String>) {
    let has = Has {
        requests: amounts(&spec["resources"], "requests"),
        limits: Amounts::new(),
    };
    for (name, least) in amounts(limit, "min") {
        errors.extend(has.least("PersistentVolumeClaim", &name, least));
    }
    for (name, most) in amounts(limit, "max") {
        let words = format!("maximum {name} usage per PersistentVolumeClaim is {most}");
        match has.requests.get(&name) {
            None => errors.push(format!("{words}.  No request is specified")),
            Some(asked) if more(*asked, most) => {
                errors.push(format!("{words}, but request is {asked}"));
            }
            Some(_) => {}
        }
    }
}

/// What one container, or one pod, asks for and may use.
struct Has {
    requests: Amounts,
    limits: Amounts,
}

/// Thousandths count as long as they can be reckoned with.
fn more(one: Amount, than: Amount) -> bool {
    let most = i128::from(i64::MAX / 1_000);
    if one.whole() <= most && than.whole() <= most {
        return one.milli() > than.milli();
    }
    one.whole() > than.whole()
}

impl Has {
    fn within(&self, limit: &Value, errors: &mut Vec<String>) {
        let kind = text(limit, &["type"]);
        for (name, least) in amounts(limit, "min") {
            errors.extend(self.least(kind, &name, least));
        }
        for (name, most) in amounts(limit, "max") {
            errors.extend(self.most(kind, &name, most));
        }
        for (name, most) in amounts(limit, "maxLimitRequestRatio") {
            errors.extend(self.ratio(kind, &name, most));
        }
    }

    fn least(&self, kind: &str, name: &str, least: Amount) -> Option<String> {
        let words = format!("minimum {name} usage per {kind} is {least}");
        let Some(request) = self.requests.get(name) else {
            return Some(format!("{words}.  No request is specified"));
        };
        if more(least, *request) {
            return Some(format!("{words}, but request is {request}"));
        }
        let limit = self.limits.get(name).filter(|limit| more(least, **limit))?;
        Some(format!("{words}, but limit is {limit}"))
    }

    fn most(&self, kind: &str, name: &str, most: Amount) -> Option<String> {
        let words = format!("maximum {name} usage per {kind} is {most}");
        let Some(limit) = self.limits.get(name) else {
            return Some(format!("{words}.  No limit is specified"));
        };
        if more(*limit, most) {
            return Some(format!("{words}, but limit is {limit}"));
        }
        let request = self.requests.get(name);
        let request = request.filter(|request| more(**request, most))?;
        Some(format!("{words}, but request is {request}"))
    }

    fn ratio(&self, kind: &str, name: &str, most: Amount) -> Option<String> {
        let words = format!("{name} max limit to request ratio per {kind} is {most}");
        let given = |amounts: &Amounts| amounts.get(name).copied().filter(|one| !one.is_zero());
        let Some(request) = given(&self.requests) else {
            return Some(format!(
                "{words}, but no request is specified or request is 0"
            ));
        };
        let Some(limit) = given(&self.limits) else {
            return Some(format!("{words}, but no limit is specified or limit is 0"));
        };
        let ratio = limit.milli() as f64 / request.milli() as f64;
        (ratio * 1_000.0 > most.milli() as f64)
            .then(|| format!("{words}, but provided ratio is {ratio:.6}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: &Value) -> Json {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn what_is_not_said_is_given_and_told() {
        let range = object(&json!({"spec": {"limits": [{"type": "Container",
            "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "500m"}}]}}));
        let mut pod = object(&json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "a", "resources": {"limits": {"memory": "2Gi"}}}]}}));
        default(&mut pod, &range);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"limits": {"memory": "2Gi", "cpu": "1"}, "requests": {"cpu": "500m"}})
        );
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container a; cpu limit for container a"
        );
    }

    #[test]
    fn what_is_too_much_is_told_in_upstreams_words() {
        let spec = json!({"containers": [
            {"resources": {"requests": {"cpu": "3"}, "limits": {"cpu": "4"}}}]});
        for (limit, expected) in [
            (
                json!({"max": {"cpu": "2"}}),
                "maximum cpu usage per Container is 2, but limit is 4",
            ),
            (
                json!({"min": {"cpu": "3500m"}}),
                "minimum cpu usage per Container is 3500m, but request is 3",
            ),
            (
                json!({"max": {"memory": "1"}}),
                "maximum memory usage per Container is 1.  No limit is specified",
            ),
            (
                json!({"maxLimitRequestRatio": {"cpu": "1"}}),
                "cpu max limit to request ratio per Container is 1, but provided ratio is 1.333333",
            ),
        ] {
            let mut limit = limit;
            limit["type"] = "Container".into();
            let mut errors = Vec::new();
            pod(&spec, &limit, &mut errors);
            assert_eq!(errors, [expected]);
        }
    }
}
