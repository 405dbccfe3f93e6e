//! `ResourceQuota`: a namespace takes no more than its quotas say, however many
//! servers there are: what an object takes is written into the quota's status in
//! the transaction that writes the object.

mod usage;

use futures::future::BoxFuture;
use serde_json::{Value, json};

use self::usage::Limited;
use super::{
    Asked, Plugin, Verdict,
    asked::{items, read},
    resources::{Amounts, add, amounts},
};
use crate::{
    codec::quantity::Amount,
    error::ApiError,
    kind::Sub,
    object::{self, Json},
    registry::{Registry, Target},
};

pub struct ResourceQuota;

impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn is_about_all(&self) -> bool {
        true
    }

    fn validate<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        Box::pin(validated(asked))
    }
}

async fn validated(asked: &mut Asked<'_>) -> Verdict {
    let resource = asked.target().resource.clone();
    let what = Limited::of(&resource.group, &resource.plural);
    if !concerns(asked, what) {
        return Ok(());
    }
    let shown = asked.all("", "resourcequotas", asked.namespace());
    for entry in shown {
        // What the cache shows tells which are about the object; what they say
        // is asked of the store.
        let about = read(&entry).is_some_and(|quota| matches(what, &quota, asked.object()));
        if !about {
            continue;
        }
        let target = Target {
            resource: asked
                .registry()
                .catalog()
                .own("", "v1", "resourcequotas")
                .clone(),
            namespace: asked.namespace().to_owned(),
            name: entry.names().1.to_owned(),
            sub: None,
        };
        let Some((mut quota, revision)) = asked.registry().held(&target).await? else {
            continue;
        };
        if matches(what, &quota, asked.object()) && charge(asked, what, &mut quota)? {
            let write = Registry::replacement(&target, &mut quota, revision);
            asked.attempt.with.push(write);
        }
    }
    Ok(())
}

/// What may take more than before.
fn concerns(asked: &Asked<'_>, what: Limited<'_>) -> bool {
    if asked.namespace().is_empty() || asked.is_about("events") {
        return false;
    }
    match what {
        _ if asked.creates() => true,
        Limited::Pod => asked.updates(Some(Sub::Resize)) || asked.updates(None) && ends_anew(asked),
        Limited::Service | Limited::Claim => asked.updates(None),
        Limited::Counted(..) => false,
    }
}

/// Whether an update makes of a pod one that ends by itself, or the other way
/// round.
fn ends_anew(asked: &Asked<'_>) -> bool {
    let ends = json!({"scopeName": "Terminating"});
    let of = |pod| Limited::Pod.is_in(pod, &ends);
    asked.old().is_some_and(|old| of(old) != of(asked.object()))
}

fn part<'a>(quota: &'a Json, field: &str) -> &'a Value {
    quota.get(field).unwrap_or(&Value::Null)
}

/// Whether a quota is about an object: it limits such, and all its scopes are the
/// object's.
fn matches(what: Limited<'_>, quota: &Json, object: &Json) -> bool {
    let limited = part(quota, "status")["hard"].as_object();
    let names = limited.into_iter().flatten();
    let about = names
        .map(|(name, _)| name)
        .any(|name| what.is_limited(name));
    about && scopes(part(quota, "spec")).all(|scope| what.is_in(object, &scope))
}

fn scopes(spec: &Value) -> impl Iterator<Item = Value> {
    let named = items(spec, "scopes").map(|name| json!({"scopeName": name, "operator": "Exists"}));
    let selected = items(&spec["scopeSelector"], "matchExpressions").cloned();
    named.chain(selected)
}

/// Puts what the object takes into the quota's status; gives whether there is
/// something to write.
fn charge(asked: &Asked<'_>, what: Limited<'_>, quota: &mut Json) -> Result<bool, ApiError> {
    let name = object::meta_str(quota, "name").to_owned();
    let status = part(quota, "status");
    let (hard, used) = (amounts(status, "hard"), amounts(status, "used"));
    let limited: Vec<&str> = hard.keys().map(String::as_str).collect();
    let limited: Vec<&str> = limited
        .into_iter()
        .filter(|name| what.is_limited(name))
        .collect();
    if let Some(why) = what.unasked(asked.object(), &limited) {
        return Err(asked.forbidden(&format!("failed quota: {name}: {why}")));
    }
    if limited.iter().any(|one| !used.contains_key(*one)) {
        return Err(asked.forbidden(&format!(
            "status unknown for quota: {name}, resources: {}",
            limited.join(",")
        )));
    }
    let mut delta = what.usage(asked.object());
    // What the object had before is in the quota already, if it was about it.
    if let Some(old) = asked.old().filter(|old| matches(what, quota, old)) {
        let before = what.usage(old);
        for (resource, amount) in &mut delta {
            if let Some(before) = before.get(resource) {
                *amount = amount.minus(*before);
            }
        }
        delta.retain(|_, amount| *amount > Amount::ZERO);
    }
    delta.retain(|resource, amount| hard.contains_key(resource) && !amount.is_zero());
    if delta.is_empty() {
        return Ok(false);
    }
    let mut sum = used.clone();
    add(&mut sum, &delta);
    let exceeded: Vec<&String> = delta
        .keys()
        .filter(|resource| sum.get(*resource) > hard.get(*resource))
        .collect();
    if !exceeded.is_empty() {
        let told = |of: &Amounts| {
            let parts = exceeded.iter().filter_map(|resource| {
                let amount = of.get(*resource)?;
                Some(format!("{resource}={amount}"))
            });
            parts.collect::<Vec<_>>().join(",")
        };
        return Err(asked.forbidden(&format!(
            "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
            told(&delta),
            told(&used),
            told(&hard)
        )));
    }
    let used: Json = sum
        .iter()
        .map(|(resource, amount)| (resource.clone(), amount.to_string().into()))
        .collect();
    if let Some(Value::Object(status)) = quota.get_mut("status") {
        status.insert("used".to_owned(), used.into());
    }
    Ok(true)
}
