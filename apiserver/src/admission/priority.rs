//! `Priority`: a pod's class says its priority and whether it preempts others.

use futures::future::BoxFuture;
use serde_json::Value;

use super::{
    Asked, Plugin, Verdict,
    asked::{read, spec},
};
use crate::object::{self, Json};

const GROUP: &str = "scheduling.k8s.io";

pub struct Priority;

impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn resources(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "pods"), (GROUP, "priorityclasses")]
    }

    fn admit<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        let verdict = if !asked.is_about("pods") {
            Ok(())
        } else if asked.creates() {
            created(asked)
        } else {
            if asked.updates(None) {
                kept(asked);
            }
            Ok(())
        };
        Box::pin(async { verdict })
    }

    fn validate<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        let whole = asked.target().sub.is_none();
        let verdict = match whole && asked.is_about("priorityclasses") {
            true => one_default(asked),
            false => Ok(()),
        };
        Box::pin(async { verdict })
    }
}

/// What a pod gets of its class.
struct Class {
    name: String,
    value: i64,
    preemption: Option<String>,
}

impl Class {
    fn of(class: &Json) -> Self {
        let preemption = object::str_at(class, &["preemptionPolicy"]);
        Self {
            name: object::meta_str(class, "name").to_owned(),
            value: class.get("value").and_then(Value::as_i64).unwrap_or(0),
            preemption: Some(preemption)
                .filter(|text| !text.is_empty())
                .map(str::to_owned),
        }
    }
}

fn created(asked: &mut Asked<'_>) -> Verdict {
    let given = object::str_at(asked.object(), &["spec", "priorityClassName"]);
    let class = if given.is_empty() {
        default(asked).unwrap_or(Class {
            name: String::new(),
            value: 0,
            preemption: Some("PreemptLowerPriority".to_owned()),
        })
    } else {
        let Some(class) = asked.cached(GROUP, "priorityclasses", given) else {
            let why = format!("no PriorityClass with name {given} was found");
            return Err(asked.forbidden(&why));
        };
        Class::of(&class)
    };
    let own = object::at(asked.object(), &["spec", "priority"]).and_then(Value::as_i64);
    if let Some(own) = own.filter(|own| *own != class.value) {
        let why = format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
            class.value
        );
        return Err(asked.forbidden(&why));
    }
    if let Some(policy) = &class.preemption {
        let own = object::str_at(asked.object(), &["spec", "preemptionPolicy"]);
        if !own.is_empty() && own != policy {
            let why = format!(
                "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            );
            return Err(asked.forbidden(&why));
        }
    }
    let spec = spec(asked.object_mut());
    if !class.name.is_empty() {
        spec.insert("priorityClassName".to_owned(), class.name.into());
    }
    spec.insert("priority".to_owned(), class.value.into());
    if let Some(policy) = class.preemption {
        spec.insert("preemptionPolicy".to_owned(), policy.into());
    }
    Ok(())
}

/// An update that says nothing of them keeps them.
fn kept(asked: &mut Asked<'_>) {
    for field in ["priority", "preemptionPolicy"] {
        let old = asked
            .old()
            .and_then(|old| object::at(old, &["spec", field]))
            .cloned();
        let spec = spec(asked.object_mut());
        if let Some(old) = old.filter(|_| spec.get(field).is_none_or(Value::is_null)) {
            spec.insert(field.to_owned(), old);
        }
    }
}

/// The class of pods that name none: of several the least.
fn default(asked: &Asked<'_>) -> Option<Class> {
    let entries = asked.all(GROUP, "priorityclasses", "");
    let classes = entries.iter().filter_map(|entry| read(entry));
    let marked = classes.filter(|class| class.get("globalDefault") == Some(&Value::Bool(true)));
    marked
        .map(|class| Class::of(&class))
        .min_by_key(|class| class.value)
}

fn one_default(asked: &Asked<'_>) -> Verdict {
    if asked.object().get("globalDefault") != Some(&Value::Bool(true)) {
        return Ok(());
    }
    let own = object::meta_str(asked.object(), "name");
    match default(asked) {
        Some(other) if asked.creates() || other.name != own => Err(asked.forbidden(&format!(
            "PriorityClass {} is already marked as default. Only one default can exist",
            other.name
        ))),
        _ => Ok(()),
    }
}
