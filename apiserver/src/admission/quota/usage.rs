//! How much of what quotas limit an object takes, and whether a quota is about
//! it.
//!
//! Source: upstream's `pkg/quota/v1/evaluator`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    admission::{
        asked::{annotation, items, text},
        resources::{Amounts, add, amounts, of_pod},
    },
    codec::quantity::Amount,
    object::{self, Json},
};

/// What an object is to a quota.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limited<'a> {
    Pod,
    Service,
    Claim,
    /// It is counted, by its group and plural.
    Counted(&'a str, &'a str),
}

/// What is counted under a name of its own, too.
const ALIASES: &[&str] = &[
    "configmaps",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
];
/// What every container must ask for if a quota limits it.
const ASKED: &[&str] = &[
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];
const PLAIN: &[&str] = &["cpu", "memory", "ephemeral-storage"];
const CLASS: &str = ".storageclass.storage.k8s.io/";
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

impl<'a> Limited<'a> {
    pub fn of(group: &'a str, plural: &'a str) -> Self {
        match (group, plural) {
            ("", "pods") => Self::Pod,
            ("", "services") => Self::Service,
            ("", "persistentvolumeclaims") => Self::Claim,
            (group, plural) => Self::Counted(group, plural),
        }
    }

    /// The name under which objects are counted.
    fn counted(self) -> String {
        match self {
            Self::Pod => "count/pods".to_owned(),
            Self::Service => "count/services".to_owned(),
            Self::Claim => "count/persistentvolumeclaims".to_owned(),
            Self::Counted("", plural) => format!("count/{plural}"),
            Self::Counted(group, plural) => format!("count/{plural}.{group}"),
        }
    }

    /// Whether a limit is about such objects.
    pub fn is_limited(self, name: &str) -> bool {
        if name == self.counted() {
            return true;
        }
        match self {
            Self::Pod => {
                let (kind, plain) = name.split_once('.').unwrap_or(("", name));
                let known = PLAIN.contains(&plain) && matches!(kind, "" | "requests" | "limits");
                known && name.split('.').count() <= 2
                    || name == "pods"
                    || name.starts_with("hugepages-")
                    || name.starts_with("requests.hugepages-")
                    || name.strip_prefix("requests.").is_some_and(is_extended)
            }
            Self::Service => matches!(
                name,
                "services" | "services.nodeports" | "services.loadbalancers"
            ),
            Self::Claim => {
                matches!(name, "persistentvolumeclaims" | "requests.storage")
                    || name.ends_with(&format!("{CLASS}persistentvolumeclaims"))
                    || name.ends_with(&format!("{CLASS}requests.storage"))
            }
            Self::Counted("", plural) => ALIASES.contains(&plural) && name == plural,
            Self::Counted(..) => false,
        }
    }

    /// What an object takes.
    pub fn usage(self, object: &Json) -> Amounts {
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let one = Amount::count(1);
        let mut used = Amounts::from([(self.counted(), one)]);
        match self {
            Self::Pod => {
                let phase = object::str_at(object, &["status", "phase"]);
                if !matches!(phase, "Failed" | "Succeeded") {
                    used.insert("pods".to_owned(), one);
                    used.extend(computed(&whole(spec, "requests"), &whole(spec, "limits")));
                }
            }
            Self::Service => {
                used.insert("services".to_owned(), one);
                used.extend(ports(spec));
            }
            Self::Claim => claim(object, spec, &mut used),
            Self::Counted("", plural) if ALIASES.contains(&plural) => {
                used.insert(plural.to_owned(), one);
            }
            Self::Counted(..) => {}
        }
        used
    }

    /// What the containers of a pod would have to ask for, in upstream's words.
    pub fn unasked(self, object: &Json, limits: &[&str]) -> Option<String> {
        let spec = object.get("spec")?;
        let as_a_whole = spec["resources"]
            .as_object()
            .is_some_and(|all| !all.is_empty());
        if self != Self::Pod || as_a_whole {
            return None;
        }
        let required: BTreeSet<&str> = limits
            .iter()
            .copied()
            .filter(|name| ASKED.contains(name))
            .collect();
        let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for list in ["containers", "initContainers"] {
            for container in items(spec, list) {
                let own = |field| amounts(&container["resources"], field);
                let asked = computed(&own("requests"), &own("limits"));
                let absent = required.iter().filter(|name| !asked.contains_key(**name));
                for name in absent {
                    let names = missing.entry(name).or_default();
                    names.insert(text(container, &["name"]));
                }
            }
        }
        if missing.is_empty() {
            return None;
        }
        let each = missing.iter().map(|(name, containers)| {
            let containers: Vec<&str> = containers.iter().copied().collect();
            format!("{name} for: {}", containers.join(","))
        });
        Some(format!(
            "must specify {}",
            each.collect::<Vec<_>>().join("; ")
        ))
    }

    /// Whether a scope of a quota is the object's.
    pub fn is_in(self, object: &Json, scope: &Value) -> bool {
        if self != Self::Pod {
            return false;
        }
        let deadline = object::at(object, &["spec", "activeDeadlineSeconds"]);
        let ends = deadline.and_then(Value::as_i64).is_some_and(|at| at >= 0);
        let effort = object::str_at(object, &["status", "qosClass"]);
        match text(scope, &["scopeName"]) {
            "Terminating" => ends,
            "NotTerminating" => !ends,
            "BestEffort" => best_effort(object, effort),
            "NotBestEffort" => !best_effort(object, effort),
            "PriorityClass" => in_class(object, scope),
            "CrossNamespacePodAffinity" => crosses(object),
            _ => false,
        }
    }
}

fn is_extended(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    !native || name.starts_with("deviceclass.resource.kubernetes.io/")
}

/// What a pod asks for, or may use, with what its runtime costs.
fn whole(spec: &Value, field: &str) -> Amounts {
    let mut all = of_pod(spec, field, true);
    let overhead = amounts(spec, "overhead");
    if field == "requests" {
        add(&mut all, &overhead);
    } else {
        let mut limited = overhead;
        limited.retain(|name, _| all.get(name).is_some_and(|own| !own.is_zero()));
        add(&mut all, &limited);
    }
    all
}

/// The same under the names of quotas.
fn computed(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut all = Amounts::new();
    for (name, amount) in requests {
        if PLAIN.contains(&&**name) || name.starts_with("hugepages-") {
            all.insert(name.clone(), *amount);
            all.insert(format!("requests.{name}"), *amount);
        } else if is_extended(name) {
            all.insert(format!("requests.{name}"), *amount);
        }
    }
    for name in PLAIN {
        if let Some(amount) = limits.get(*name) {
            all.insert(format!("limits.{name}"), *amount);
        }
    }
    all
}

fn ports(spec: &Value) -> [(String, Amount); 2] {
    let count = |count: usize| Amount::count(i64::try_from(count).unwrap_or(i64::MAX));
    let all = items(spec, "ports").count();
    let given = items(spec, "ports").filter(|port| port["nodePort"].as_i64().unwrap_or(0) != 0);
    let balanced = text(spec, &["type"]) == "LoadBalancer";
    let taken = match text(spec, &["type"]) {
        "NodePort" => all,
        "LoadBalancer" if spec["allocateLoadBalancerNodePorts"] == false => given.count(),
        "LoadBalancer" => all,
        _ => 0,
    };
    [
        ("services.nodeports".to_owned(), count(taken)),
        (
            "services.loadbalancers".to_owned(),
            count(usize::from(balanced)),
        ),
    ]
}

fn claim(object: &Json, spec: &Value, used: &mut Amounts) {
    let one = Amount::count(1);
    used.insert("persistentvolumeclaims".to_owned(), one);
    let old = annotation(object, BETA_CLASS);
    let class = old.unwrap_or_else(|| text(spec, &["storageClassName"]));
    let storage = Amount::of(&spec["resources"]["requests"]["storage"]);
    if !class.is_empty() {
        used.insert(format!("{class}{CLASS}persistentvolumeclaims"), one);
    }
    if let Some(storage) = storage {
        used.insert("requests.storage".to_owned(), storage);
        if !class.is_empty() {
            used.insert(format!("{class}{CLASS}requests.storage"), storage);
        }
    }
}

fn best_effort(pod: &Json, class: &str) -> bool {
    if !class.is_empty() {
        return class == "BestEffort";
    }
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let asks = |container: &Value| {
        let of = |field| {
            let all = amounts(&container["resources"], field);
            all.iter()
                .any(|(name, amount)| matches!(&**name, "cpu" | "memory") && !amount.is_zero())
        };
        of("requests") || of("limits")
    };
    let mut all = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|list| items(spec, list));
    !all.any(asks) && !asks(spec)
}

fn in_class(pod: &Json, scope: &Value) -> bool {
    let class = object::str_at(pod, &["spec", "priorityClassName"]);
    let mut values = items(scope, "values");
    match text(scope, &["operator"]) {
        "In" => !class.is_empty() && values.any(|value| value == class),
        "NotIn" => class.is_empty() || !values.any(|value| value == class),
        "DoesNotExist" => class.is_empty(),
        _ => !class.is_empty(),
    }
}

/// Whether a pod wants to be near pods of other namespaces, or far from them.
fn crosses(pod: &Json) -> bool {
    let affinity = object::at(pod, &["spec", "affinity"]).unwrap_or(&Value::Null);
    let other = |term: &Value| {
        items(term, "namespaces").next().is_some()
            || term
                .get("namespaceSelector")
                .is_some_and(|one| !one.is_null())
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let kind = &affinity[*kind];
        items(kind, "requiredDuringSchedulingIgnoredDuringExecution").any(other)
            || items(kind, "preferredDuringSchedulingIgnoredDuringExecution")
                .any(|term| other(&term["podAffinityTerm"]))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn used(what: Limited<'_>, object: &Value) -> Vec<String> {
        let used = what.usage(object.as_object().expect("an object"));
        let used = used.iter();
        used.map(|(name, amount)| format!("{name}={amount}"))
            .collect()
    }

    #[test]
    fn objects_take_what_upstream_counts() {
        let pod = json!({"spec": {"overhead": {"cpu": "10m"}, "containers": [
            {"resources": {"requests": {"cpu": "100m", "example.com/gpu": "1"}, "limits": {"memory": "1Gi"}}}]}});
        assert_eq!(
            used(Limited::Pod, &pod),
            [
                "count/pods=1",
                "cpu=110m",
                "limits.memory=1Gi",
                "pods=1",
                "requests.cpu=110m",
                "requests.example.com/gpu=1"
            ]
        );
        let service = json!({"spec": {"type": "NodePort", "ports": [{}, {}]}});
        assert_eq!(
            used(Limited::Service, &service),
            [
                "count/services=1",
                "services=1",
                "services.loadbalancers=0",
                "services.nodeports=2"
            ]
        );
        let claim = json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}});
        assert_eq!(used(Limited::Claim, &claim).len(), 5);
        assert_eq!(
            used(Limited::of("apps", "deployments"), &json!({})),
            ["count/deployments.apps=1"]
        );
    }

    #[test]
    fn a_limit_is_about_what_it_names() {
        for (name, limited) in [
            ("pods", true),
            ("cpu", true),
            ("limits.memory", true),
            ("requests.example.com/gpu", true),
            ("example.com/gpu", false),
            ("services", false),
            ("requests.storage", false),
            ("count/pods", true),
        ] {
            assert_eq!(Limited::Pod.is_limited(name), limited, "{name}");
        }
    }

    #[test]
    fn what_is_limited_must_be_asked_for() {
        let pod = json!({"spec": {"containers": [{"name": "b"}, {"name": "a",
            "resources": {"requests": {"cpu": "1"}}}]}});
        let pod = pod.as_object().expect("an object");
        let told = Limited::Pod.unasked(pod, &["limits.memory", "pods", "requests.cpu"]);
        let expected = "must specify limits.memory for: a,b; requests.cpu for: b";
        assert_eq!(told.as_deref(), Some(expected));
    }
}
