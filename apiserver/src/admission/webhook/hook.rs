//! A webhook as a configuration says it, and which writes it is about.
//!
//! Knows configurations and a write's attributes. Must not know how a webhook is
//! called.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::condition::Condition;
use crate::{
    admission::{
        Asked,
        asked::{items, text},
    },
    catalog::Resource,
    object::{self, Json},
    registry::Doing,
    select::Labels,
};

/// Where a webhook is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum HookPlace {
    Url(String),
    Service {
        namespace: String,
        name: String,
        port: u16,
        /// Begins with a slash, or is empty.
        path: String,
    },
}

/// What an operation is about, as rules name it.
struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: String,
}

/// One webhook of a configuration.
pub struct Hook {
    pub configuration: String,
    /// Its place in the configuration.
    pub index: usize,
    pub name: String,
    pub place: HookPlace,
    /// In PEM; empty: the authorities that the machine trusts.
    pub authorities: Vec<u8>,
    pub timeout: Duration,
    /// A call that fails refuses the request.
    pub fails_closed: bool,
    /// It says that a dry run has no effects.
    pub takes_dry_runs: bool,
    /// It is asked again when what it has seen was changed.
    pub is_reinvoked: bool,
    /// The version of the review that it takes, if it takes a known one.
    pub review: Option<&'static str>,
    pub conditions: Vec<Condition>,
    rules: Vec<Rule>,
    takes_equivalents: bool,
    namespaces: Labels,
    objects: Labels,
}

/// The webhooks of a configuration.
pub fn read(configuration: &Json) -> Vec<Arc<Hook>> {
    let name = object::meta_str(configuration, "name");
    let list = configuration.get("webhooks").and_then(Value::as_array);
    let hooks = list.into_iter().flatten().enumerate();
    hooks
        .map(|(index, hook)| Arc::new(Hook::read(name, index, hook)))
        .collect()
}

impl Hook {
    fn read(configuration: &str, index: usize, hook: &Value) -> Self {
        let config = &hook["clientConfig"];
        let bundle = text(config, &["caBundle"]);
        let versions: Vec<&str> = items(hook, "admissionReviewVersions")
            .filter_map(Value::as_str)
            .collect();
        let selector = |field: &str| Labels::of(&hook[field]).unwrap_or_default();
        let conditions = items(hook, "matchConditions").map(Condition::read);
        Self {
            configuration: configuration.to_owned(),
            index,
            name: text(hook, &["name"]).to_owned(),
            place: place(config),
            authorities: STANDARD.decode(bundle).unwrap_or_default(),
            timeout: Duration::from_secs(hook["timeoutSeconds"].as_u64().unwrap_or(10)),
            fails_closed: text(hook, &["failurePolicy"]) != "Ignore",
            takes_dry_runs: matches!(text(hook, &["sideEffects"]), "None" | "NoneOnDryRun"),
            is_reinvoked: text(hook, &["reinvocationPolicy"]) == "IfNeeded",
            review: versions.iter().find_map(|version| match *version {
                "v1" => Some("v1"),
                "v1beta1" => Some("v1beta1"),
                _ => None,
            }),
            conditions: conditions.collect(),
            rules: items(hook, "rules").map(Rule::read).collect(),
            takes_equivalents: text(hook, &["matchPolicy"]) != "Exact",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// Whether the labels of the object, or those before the write, are selected.
    pub fn selects(&self, asked: &Asked<'_>) -> bool {
        if self.objects.is_empty() {
            return true;
        }
        let deletes = asked.attempt.deletes();
        let new = (!deletes).then(|| asked.object());
        let old = match deletes {
            true => Some(asked.object()),
            false => asked.old(),
        };
        [new, old]
            .into_iter()
            .flatten()
            .any(|object| selects(&self.objects, object))
    }

    /// Whether it matters in which namespace a write is.
    pub fn asks_for_namespace(&self) -> bool {
        !self.namespaces.is_empty()
    }

    pub fn selects_namespace(&self, namespace: &Json) -> bool {
        selects(&self.namespaces, namespace)
    }

    /// How the write comes under the rules: as what the client asked for, or as
    /// the same thing by another name; gives the resource in whose version the webhook
    /// is told of the object.
    pub fn matching(&self, asked: &Asked<'_>) -> Option<Arc<Resource>> {
        let served = asked.served;
        if self.rules.iter().any(|rule| rule.takes(asked, served)) {
            return Some(served.clone());
        }
        if !self.takes_equivalents {
            return None;
        }
        let catalog = asked.registry().catalog();
        let stored = served.stored().id;
        let equivalent: Vec<&Arc<Resource>> = catalog
            .resources()
            .iter()
            .filter(|one| one.id != served.id && one.stored().id == stored)
            .collect();
        let mut rules = self.rules.iter();
        let found = |rule: &Rule| equivalent.iter().find(|one| rule.takes(asked, one));
        rules.find_map(found).map(|one| (*one).clone())
    }
}

fn place(config: &Value) -> HookPlace {
    let Some(service) = config.get("service").filter(|service| service.is_object()) else {
        return HookPlace::Url(text(config, &["url"]).to_owned());
    };
    let port = service["port"].as_u64().unwrap_or(443);
    HookPlace::Service {
        namespace: text(service, &["namespace"]).to_owned(),
        name: text(service, &["name"]).to_owned(),
        port: u16::try_from(port).unwrap_or(443),
        path: text(service, &["path"]).to_owned(),
    }
}

fn selects(labels: &Labels, object: &Json) -> bool {
    let own = object::at(object, &["metadata", "labels"]);
    labels.match_labels(|key| own.and_then(|own| own.get(key)).and_then(Value::as_str))
}

impl Rule {
    fn read(rule: &Value) -> Self {
        let list = |field: &str| {
            let texts = items(rule, field).filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        Self {
            operations: list("operations"),
            groups: list("apiGroups"),
            versions: list("apiVersions"),
            resources: list("resources"),
            scope: text(rule, &["scope"]).to_owned(),
        }
    }

    fn takes(&self, asked: &Asked<'_>, resource: &Resource) -> bool {
        let one = |list: &[String], value: &str| list.iter().any(|one| one == "*" || one == value);
        let operation = match asked.attempt.operation {
            Doing::Create => "CREATE",
            Doing::Update => "UPDATE",
            Doing::Delete => "DELETE",
        };
        let sub = asked.target().sub.map_or("", crate::kind::Sub::name);
        let named = |rule: &String| {
            let (plural, part) = rule.split_once('/').unwrap_or((rule, ""));
            (plural == "*" || *plural == *resource.plural) && (part == "*" || part == sub)
        };
        // A namespace's own namespace is itself.
        let in_namespace = resource.namespaced;
        let scope = match &*self.scope {
            "Namespaced" => in_namespace,
            "Cluster" => !in_namespace,
            _ => true,
        };
        scope
            && one(&self.operations, operation)
            && one(&self.groups, &resource.group)
            && one(&self.versions, &resource.version)
            && self.resources.iter().any(named)
    }
}
