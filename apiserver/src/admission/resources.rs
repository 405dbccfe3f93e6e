//! What a pod asks for, and may use at most, of each resource: sums over its
//! containers as upstream reckons them from the specification.

use std::collections::BTreeMap;

use serde_json::Value;

use super::asked::{items, text};
use crate::codec::quantity::Amount;

/// Amounts by the resource's name.
pub type Amounts = BTreeMap<String, Amount>;

/// The amounts of a field such as `requests` of an object's resources.
pub fn amounts(resources: &Value, field: &str) -> Amounts {
    let listed = resources[field].as_object().into_iter().flatten();
    let listed = listed.filter_map(|(name, value)| Some((name.clone(), Amount::of(value)?)));
    listed.collect()
}

pub fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.entry(name.clone()).or_insert(Amount::ZERO);
        *sum = sum.plus(*amount);
    }
}

/// Raises what is less.
pub fn raise(to: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        let own = to.entry(name.clone()).or_insert(*amount);
        if *amount > *own {
            *own = *amount;
        }
    }
}

/// What a pod's containers have together of `requests` or of `limits`: those that
/// run, with the sidecars, or those that begin, whichever is more. Of huge pages a
/// pod can say as a whole how many, which limit ranges do not see.
pub fn of_pod(spec: &Value, field: &str, huge_pages: bool) -> Amounts {
    let own = |container: &Value| amounts(&container["resources"], field);
    let mut all = Amounts::new();
    for container in items(spec, "containers") {
        add(&mut all, &own(container));
    }
    let (mut sidecars, mut begin) = (Amounts::new(), Amounts::new());
    for container in items(spec, "initContainers") {
        let mut here = own(container);
        if text(container, &["restartPolicy"]) == "Always" {
            add(&mut all, &here);
            add(&mut sidecars, &here);
            here = sidecars.clone();
        } else {
            add(&mut here, &sidecars);
        }
        raise(&mut begin, &here);
    }
    raise(&mut all, &begin);
    // What the pod says as a whole counts.
    for (name, amount) in amounts(&spec["resources"], field) {
        let huge = huge_pages && name.starts_with("hugepages-");
        if matches!(&*name, "cpu" | "memory") || huge {
            all.insert(name, amount);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sidecars_run_with_the_rest() {
        let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
        let spec = json!({
            "containers": [{"resources": cpu("100m")}, {"resources": cpu("200m")}],
            "initContainers": [
                {"resources": cpu("1"), "restartPolicy": "Always"},
                {"resources": cpu("500m")}]});
        let of = |spec: &Value| of_pod(spec, "requests", false)["cpu"].to_string();
        assert_eq!(of(&spec), "1500m");
        let mut more = spec.clone();
        more["initContainers"][1]["resources"] = cpu("2");
        assert_eq!(of(&more), "3");
        more["resources"] = cpu("4");
        assert_eq!(of(&more), "4");
    }
}
