//! `RuntimeClass`: a pod costs what its runtime costs, and goes where that is.

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{
    Asked, Plugin, Verdict,
    asked::{map, spec},
};
use crate::{
    codec::quantity::same_amounts,
    error::ApiError,
    object::{self, Json},
};

const DIFFERS: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

pub struct RuntimeClass;

impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn resources(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "pods")]
    }

    fn admit<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        Box::pin(async {
            if let Some(class) = class(asked).await? {
                overhead(asked, &class)?;
                scheduling(asked, &class)?;
            }
            Ok(())
        })
    }

    fn validate<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        Box::pin(async {
            if !asked.creates() {
                return Ok(());
            }
            let class = class(asked).await?;
            let theirs = class.as_ref().and_then(fixed);
            let own = object::at(asked.object(), &["spec", "overhead"]);
            match (theirs, own) {
                (Some(theirs), own) if !own.is_some_and(|own| same_amounts(own, theirs)) => {
                    Err(asked.forbidden(DIFFERS))
                }
                (None, Some(_)) if !class.as_ref().is_some_and(|class| class.contains_key("overhead")) => {
                    Err(asked.forbidden(
                        "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
                    ))
                }
                _ => Ok(()),
            }
        })
    }
}

/// The class of a new pod.
async fn class(asked: &Asked<'_>) -> Result<Option<Json>, ApiError> {
    let name = object::str_at(asked.object(), &["spec", "runtimeClassName"]);
    if !asked.creates() || name.is_empty() {
        return Ok(None);
    }
    match asked
        .found("node.k8s.io", "runtimeclasses", "", name)
        .await?
    {
        Some(class) => Ok(Some(class)),
        None => Err(asked.forbidden(&format!("pod rejected: RuntimeClass {name:?} not found"))),
    }
}

fn fixed(class: &Json) -> Option<&Value> {
    object::at(class, &["overhead", "podFixed"])
}

fn overhead(asked: &mut Asked<'_>, class: &Json) -> Verdict {
    let Some(theirs) = fixed(class) else {
        return Ok(());
    };
    let own = object::at(asked.object(), &["spec", "overhead"]);
    let given = own.filter(|own| own.as_object().is_some_and(|own| !own.is_empty()));
    if given.is_some_and(|own| !same_amounts(own, theirs)) {
        return Err(asked.forbidden(DIFFERS));
    }
    spec(asked.object_mut()).insert("overhead".to_owned(), theirs.clone());
    Ok(())
}

fn scheduling(asked: &mut Asked<'_>, class: &Json) -> Verdict {
    let theirs = |field| object::at(class, &["scheduling", field]);
    let selector = theirs("nodeSelector").and_then(Value::as_object);
    for (key, value) in selector.into_iter().flatten() {
        let own = object::at(asked.object(), &["spec", "nodeSelector", key]);
        if let Some(own) = own.filter(|own| *own != value) {
            let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
            return Err(asked.forbidden(&format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                text(value),
                text(own)
            )));
        }
    }
    let spec = spec(asked.object_mut());
    if let Some(selector) = selector.filter(|selector| !selector.is_empty()) {
        map(spec, "nodeSelector").extend(selector.clone());
    }
    if class.contains_key("scheduling") {
        let list =
            |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
        let all = [list(spec.get("tolerations")), list(theirs("tolerations"))].concat();
        let merged = merged(&all);
        if !merged.is_empty() {
            spec.insert("tolerations".to_owned(), json!(merged));
        }
    }
    Ok(())
}

/// Tolerations without those that another covers; of equal ones the first stays.
fn merged(all: &[Value]) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for (place, one) in all.iter().enumerate() {
        let before = kept.iter().any(|other| covers(other, one));
        let after = all[place + 1..]
            .iter()
            .any(|other| other != one && covers(other, one));
        if !before && !after {
            kept.push(one.clone());
        }
    }
    kept
}

fn covers(wide: &Value, narrow: &Value) -> bool {
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or("").to_owned();
    let both = |field| (text(wide, field), text(narrow, field));
    if wide == narrow {
        return true;
    }
    let operator = text(wide, "operator");
    let (key, other) = both("key");
    if key != other && !(key.is_empty() && operator == "Exists") {
        return false;
    }
    let (effect, other) = both("effect");
    if effect != other && !effect.is_empty() {
        return false;
    }
    let seconds = |value: &Value| value["tolerationSeconds"].as_i64();
    if effect == "NoExecute"
        && let Some(limit) = seconds(wide)
        && seconds(narrow).is_none_or(|seconds| seconds > limit)
    {
        return false;
    }
    match &*operator {
        "Equal" | "" => {
            text(narrow, "operator") == "Equal" && text(narrow, "value") == text(wide, "value")
        }
        operator => operator == "Exists",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_toleration_covers_goes() {
        let wide = json!({"operator": "Exists"});
        let narrow = json!({"key": "a", "operator": "Equal", "value": "b"});
        assert_eq!(
            merged(&[narrow.clone(), wide.clone()]),
            std::slice::from_ref(&wide)
        );
        assert_eq!(merged(&[wide.clone(), narrow]), std::slice::from_ref(&wide));
        assert_eq!(merged(&[wide.clone(), wide.clone()]), [wide]);
    }
}
