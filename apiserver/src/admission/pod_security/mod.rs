//! `PodSecurity`: pods of a namespace are as the namespace's labels say, or are
//! refused, or warned of. Upstream's third mode is for its audit log.

mod checks;

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use serde_json::Value;

use self::checks::{Judged, NEWEST, Wrong, wrong};
use super::{
    Asked, Plugin, Verdict,
    asked::{items, read, text},
};
use crate::{
    error::{ApiError, FieldError},
    kind::Sub,
    limits,
    object::{self, Json},
};

const LABELS: &str = "pod-security.kubernetes.io/";

/// What upstream calls a level.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn read(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// A level of a version; `None` is the latest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Standard {
    level: Level,
    minor: Option<u32>,
}

impl std::fmt::Display for Standard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.minor {
            Some(minor) => write!(f, "{}:v1.{minor}", self.level.name()),
            None => write!(f, "{}:latest", self.level.name()),
        }
    }
}

impl Standard {
    fn wrong(self, meta: &Json, spec: &Value) -> Vec<Wrong> {
        let minor = self.minor.unwrap_or(NEWEST).min(NEWEST);
        wrong(self.level, minor, &Judged { meta, spec })
    }
}

/// What a namespace says.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Policy {
    enforce: Standard,
    audit: Standard,
    warn: Standard,
}

impl Policy {
    /// Of a namespace's labels, and what is wrong with them.
    fn of(namespace: &Json) -> (Self, Vec<FieldError>) {
        let free = Standard {
            level: Level::Privileged,
            minor: None,
        };
        let mut errors = Vec::new();
        let label = |name: &str| {
            let label = format!("{LABELS}{name}");
            object::at(namespace, &["metadata", "labels", &label])
                .and_then(Value::as_str)
                .map(|text| (format!("metadata.labels[{label}]"), text.to_owned()))
        };
        let mut read = |mode: &str, otherwise: Level| {
            let mut standard = free;
            let mut given = None;
            if let Some((field, text)) = label(mode) {
                given = Level::read(&text);
                if given.is_none() {
                    let why = "must be one of privileged, baseline, restricted";
                    errors.push(FieldError::invalid(field, &text.into(), why));
                }
                standard.level = given.unwrap_or(otherwise);
            }
            let mut versioned = false;
            if let Some((field, text)) = label(&format!("{mode}-version")) {
                versioned = true;
                match version(&text) {
                    Some(minor) => standard.minor = minor,
                    None => {
                        let why = "must be \"latest\" or \"v1.x\"";
                        errors.push(FieldError::invalid(field, &text.into(), why));
                    }
                }
            }
            (standard, given, versioned)
        };
        let (enforce, enforced, _) = read("enforce", Level::Restricted);
        let (audit, ..) = read("audit", Level::Privileged);
        let (mut warn, _, versioned) = read("warn", Level::Privileged);
        // What is enforced is warned of, too, as a controller's pods come later.
        if label("warn").is_none() && enforced.is_some_and(|level| level > warn.level) {
            warn.level = enforce.level;
            if !versioned {
                warn.minor = enforce.minor;
            }
        }
        let policy = Self {
            enforce,
            audit,
            warn,
        };
        (policy, errors)
    }
}

/// A version as labels name it; `None` is the latest.
fn version(text: &str) -> Option<Option<u32>> {
    if text == "latest" {
        return Some(None);
    }
    let digits = text.strip_prefix("v1.")?;
    let plain = digits == "0" || !digits.starts_with('0');
    let digits = Some(digits).filter(|all| plain && all.bytes().all(|one| one.is_ascii_digit()))?;
    digits.parse().ok().map(Some)
}

pub struct PodSecurity;

impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn resources(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("", "namespaces"),
            ("", "pods"),
            ("", "replicationcontrollers"),
            ("", "podtemplates"),
            ("apps", "replicasets"),
            ("apps", "deployments"),
            ("apps", "statefulsets"),
            ("apps", "daemonsets"),
            ("batch", "jobs"),
            ("batch", "cronjobs"),
        ]
    }

    fn validate<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        Box::pin(async {
            let sub = asked.target().sub;
            match &*asked.target().resource.plural {
                "namespaces" if sub.is_none() => namespace(asked),
                "pods" if !matches!(sub, Some(Sub::Status | Sub::Binding | Sub::Eviction)) => {
                    pod(asked).await
                }
                "namespaces" | "pods" => Ok(()),
                _ if sub.is_none() => {
                    let object = asked.object().clone();
                    if let Some((meta, spec)) = template(&object)
                        && let Some(policy) = policy(asked).await?
                    {
                        warn(asked, policy, meta, spec);
                    }
                    Ok(())
                }
                _ => Ok(()),
            }
        })
    }
}

/// What the namespace of an object says, unless it says nothing.
async fn policy(asked: &Asked<'_>) -> Result<Option<Policy>, ApiError> {
    let name = asked.namespace();
    // Most say nothing: that is known without reading them.
    let entry = asked.entry("", "namespaces", name);
    if entry.is_some_and(|entry| !entry.labels().any(|label| label.starts_with(LABELS))) {
        return Ok(None);
    }
    let found = asked.found("", "namespaces", "", name).await?;
    let (policy, errors) = Policy::of(&found.unwrap_or_default());
    let free = |standard: Standard| standard.level == Level::Privileged;
    let all = free(policy.enforce) && free(policy.warn) && free(policy.audit);
    Ok((!all || !errors.is_empty()).then_some(policy))
}

async fn pod(asked: &mut Asked<'_>) -> Verdict {
    if let Some(old) = asked.old()
        && !is_other(asked.object(), old)
    {
        return Ok(());
    }
    let Some(policy) = policy(asked).await? else {
        return Ok(());
    };
    let object = asked.object().clone();
    let (meta, spec) = parts(&object);
    let found = policy.enforce.wrong(meta, spec);
    if !found.is_empty() {
        return Err(asked.forbidden(&format!(
            "violates PodSecurity \"{}\": {}",
            policy.enforce,
            details(&found)
        )));
    }
    warn(asked, policy, meta, spec);
    Ok(())
}

fn warn(asked: &mut Asked<'_>, policy: Policy, meta: &Json, spec: &Value) {
    let found = policy.warn.wrong(meta, spec);
    if !found.is_empty() {
        let text = format!(
            "would violate PodSecurity \"{}\": {}",
            policy.warn,
            details(&found)
        );
        asked.attempt.warnings.push(text);
    }
}

fn details(all: &[Wrong]) -> String {
    let all = all.iter().map(|one| match &*one.detail {
        "" => one.reason.clone(),
        detail => format!("{} ({detail})", one.reason),
    });
    all.collect::<Vec<_>>().join(", ")
}

fn parts(pod: &Json) -> (&Json, &Value) {
    static NOTHING: std::sync::LazyLock<Json> = std::sync::LazyLock::new(Json::new);
    let meta = object::meta(pod).unwrap_or(&NOTHING);
    (meta, pod.get("spec").unwrap_or(&Value::Null))
}

/// The pod that an object makes.
fn template(object: &Json) -> Option<(&Json, &Value)> {
    let template = object
        .get("template")
        .or_else(|| object::at(object, &["spec", "template"]))
        .or_else(|| object::at(object, &["spec", "jobTemplate", "spec", "template"]))?;
    Some(parts(template.as_object()?))
}

/// Whether an update changes what is checked: containers and their images.
fn is_other(new: &Json, old: &Json) -> bool {
    let list = |pod: &'_ Json, field: &str| -> Vec<(String, String)> {
        let (_, spec) = parts(pod);
        let all = items(spec, field).map(|container| {
            let of = |field| text(container, &[field]).to_owned();
            (of("name"), of("image"))
        });
        all.collect()
    };
    let images = |pod, field| -> Vec<String> {
        let all = list(pod, field).into_iter();
        all.map(|(_, image)| image).collect()
    };
    let fixed = ["containers", "initContainers"]
        .iter()
        .any(|field| images(new, field) != images(old, field));
    let there = list(old, "ephemeralContainers");
    let more = list(new, "ephemeralContainers");
    fixed || more.iter().any(|one| !there.contains(one))
}

/// Labels must say something that there is. What the pods that are there do not
/// keep to is told.
fn namespace(asked: &mut Asked<'_>) -> Verdict {
    let (policy, errors) = Policy::of(asked.object());
    let before = asked.old().map(Policy::of);
    let same = |old: &Vec<FieldError>| !old.is_empty() && *old == errors;
    if !errors.is_empty() && !before.as_ref().is_some_and(|(_, old)| same(old)) {
        let name = object::meta_str(asked.object(), "name");
        return Err(ApiError::invalid(&asked.target().resource, name, &errors));
    }
    let Some((before, _)) = before else {
        return Ok(());
    };
    let (new, old) = (policy.enforce, before.enforce);
    if new == old
        || new.level == Level::Privileged
        || new.minor == old.minor && new.level <= old.level
    {
        return Ok(());
    }
    let name = object::meta_str(asked.object(), "name").to_owned();
    let told = existing(asked, &name, new);
    asked.attempt.warnings.extend(told);
    Ok(())
}

/// What is wrong with the pods that are there: each thing once, with the first
/// pod's name.
fn existing(asked: &Asked<'_>, namespace: &str, standard: Standard) -> Vec<String> {
    let entries = asked.all("", "pods", namespace);
    let (total, checked) = (entries.len(), entries.len().min(limits::PODS_CHECKED));
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in entries.iter().take(checked).filter_map(|entry| read(entry)) {
        let (meta, spec) = parts(&pod);
        let reasons = standard.wrong(meta, spec).into_iter().map(|one| one.reason);
        let reasons: Vec<String> = reasons.collect();
        if !reasons.is_empty() {
            let name = object::meta_str(&pod, "name").to_owned();
            let known = found.entry(reasons.join(", ")).or_insert((name, 0));
            known.1 += 1;
        }
    }
    let mut told = Vec::new();
    if checked < total {
        told.push(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {total} existing pods"
        ));
    }
    if !found.is_empty() {
        told.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{standard}\""
        ));
    }
    let mut each: Vec<String> = found
        .into_iter()
        .map(|(reasons, (name, count))| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            count => format!("{name} (and {} other pods): {reasons}", count - 1),
        })
        .collect();
    each.sort();
    told.extend(each);
    told
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(labels: &Value) -> (Policy, usize) {
        let mut all = Json::new();
        for (name, value) in labels.as_object().expect("labels") {
            all.insert(format!("{LABELS}{name}"), value.clone());
        }
        let namespace = json!({"metadata": {"labels": all}});
        let (policy, errors) = Policy::of(namespace.as_object().expect("an object"));
        (policy, errors.len())
    }

    #[test]
    fn what_is_enforced_is_warned_of() {
        let (policy, errors) = of(&json!({"enforce": "baseline", "enforce-version": "v1.30"}));
        assert_eq!(errors, 0);
        assert_eq!(policy.enforce.to_string(), "baseline:v1.30");
        assert_eq!(policy.warn, policy.enforce);
        let (policy, _) = of(&json!({"enforce": "baseline", "warn": "restricted"}));
        assert_eq!(policy.warn.to_string(), "restricted:latest");
    }

    #[test]
    fn what_is_no_level_is_the_strictest() {
        let (policy, errors) = of(&json!({"enforce": "none", "warn": "none"}));
        assert_eq!(errors, 2);
        assert_eq!(policy.enforce.level, Level::Restricted);
        assert_eq!(policy.warn.level, Level::Privileged);
        for (text, version) in [
            ("latest", Some(None)),
            ("v1.0", Some(Some(0))),
            ("v1.37", Some(Some(37))),
            ("v1.01", None),
            ("v2.0", None),
            ("", None),
        ] {
            assert_eq!(super::version(text), version, "{text}");
        }
    }
}
