//! Where pods may run. Source: upstream's `pkg/apis/core/validation`.

use serde_json::Value;

use super::{
    Errors,
    check::{At, all, label_selector},
    names,
};
use crate::field::FieldError;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Affinity to nodes and to pods.
pub fn affinity(at: &At<'_>, errors: &mut Errors) {
    if let Some(nodes) = at.get("nodeAffinity") {
        if let Some(required) = nodes.get(REQUIRED) {
            node_selector(&required, errors);
        }
        for term in nodes.items(PREFERRED) {
            weight(&term, errors);
            if let Some(preference) = term.get("preference") {
                node_term(&preference, false, errors);
            }
        }
    }
    for pods in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = at.get(pods) else {
            continue;
        };
        for term in pods.items(REQUIRED) {
            pod_term(&term, errors);
        }
        for term in pods.items(PREFERRED) {
            weight(&term, errors);
            let inner = term.value.get("podAffinityTerm").unwrap_or(&Value::Null);
            pod_term(&At::new(inner, term.child("podAffinityTerm")), errors);
        }
    }
}

fn weight(term: &At<'_>, errors: &mut Errors) {
    let weight = term.number("weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        let why = "must be in the range 1-100";
        errors.push(FieldError::invalid(
            term.child("weight"),
            &weight.into(),
            why,
        ));
    }
}

/// A selector of nodes.
pub fn node_selector(at: &At<'_>, errors: &mut Errors) {
    let terms = at.items("nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(FieldError::required(
            at.child("nodeSelectorTerms"),
            "must have at least one node selector term",
        ));
    }
    for term in terms {
        node_term(&term, true, errors);
    }
}

/// One term; values of labels are looked at where the node must have them.
fn node_term(term: &At<'_>, values: bool, errors: &mut Errors) {
    for one in term.items("matchExpressions") {
        let given = one.items("values").len();
        match one.text("operator") {
            "In" | "NotIn" if given == 0 => errors.push(FieldError::required(
                one.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if given > 0 => errors.push(FieldError::forbidden(
                one.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "Gt" | "Lt" if given != 1 => errors.push(FieldError::required(
                one.child("values"),
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => unknown_operator(&one, other, errors),
        }
        one.named("key", names::qualified, errors);
        for value in one.items("values").iter().filter(|_| values) {
            let text = value.as_text();
            all(&value.path, text, names::label_value(text), errors);
        }
    }
    for one in term.items("matchFields") {
        let given = one.items("values");
        match one.text("operator") {
            "In" | "NotIn" if given.len() != 1 => errors.push(FieldError::required(
                one.child("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            )),
            "In" | "NotIn" => {}
            other => unknown_operator(&one, other, errors),
        }
        if one.text("key") == "metadata.name" {
            for value in given {
                let text = value.as_text();
                all(&value.path, text, names::subdomain(text), errors);
            }
        } else {
            let why = "not a valid field selector key";
            let key = one.text("key").into();
            errors.push(FieldError::invalid(one.child("key"), &key, why));
        }
    }
}

fn unknown_operator(one: &At<'_>, operator: &str, errors: &mut Errors) {
    let why = "not a valid selector operator";
    errors.push(FieldError::invalid(
        one.child("operator"),
        &operator.into(),
        why,
    ));
}

fn pod_term(term: &At<'_>, errors: &mut Errors) {
    for field in ["labelSelector", "namespaceSelector"] {
        if let Some(selector) = term.get(field) {
            label_selector(&selector, errors);
        }
    }
    for namespace in term.items("namespaces") {
        let name = namespace.as_text();
        all(&term.child("namespace"), name, names::label(name), errors);
    }
    label_keys(term, errors);
    let key = term.text("topologyKey");
    if key.is_empty() {
        let why = "can not be empty";
        errors.push(FieldError::required(term.child("topologyKey"), why));
    }
    term.named("topologyKey", names::qualified, errors);
}

/// Keys of labels whose values are the pod's own.
fn label_keys(term: &At<'_>, errors: &mut Errors) {
    let selector = term.get("labelSelector");
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = term.items(field);
        if !keys.is_empty() && selector.is_none() {
            let why = "must not be specified when labelSelector is not set";
            errors.push(FieldError::forbidden(term.child(field), why));
            continue;
        }
        for key in keys {
            let text = key.as_text();
            all(&key.path, text, names::qualified(text), errors);
        }
    }
    let mismatched = term.items("mismatchLabelKeys");
    for key in term.items("matchLabelKeys") {
        if mismatched.iter().any(|other| other.value == key.value) {
            let why = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.push(FieldError::invalid(key.path, key.value, why));
        }
    }
}

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Taints that pods put up with.
pub fn tolerations(spec: &At<'_>, errors: &mut Errors) {
    for one in spec.items("tolerations") {
        let (key, operator, effect) = (one.text("key"), one.text("operator"), one.text("effect"));
        let value = one.text("value");
        let at = one.child("operator");
        if !key.is_empty() {
            one.named("key", names::qualified, errors);
        }
        if key.is_empty() && operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(at.clone(), &operator.into(), why));
        }
        if one.get("tolerationSeconds").is_some() && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(
                one.child("effect"),
                &effect.into(),
                why,
            ));
        }
        match operator {
            "" | "Equal" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    errors.push(FieldError::invalid(at, &value.into(), &wrong.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(at, &value.into(), why));
            }
            "Exists" => {}
            "Lt" | "Gt" => {
                let known = ["Equal", "Exists", "Lt", "Gt"];
                errors.push(FieldError::unsupported(at, operator, &known));
            }
            other => errors.push(FieldError::unsupported(at, other, &["Equal", "Exists"])),
        }
        if !effect.is_empty() {
            one.one_of("effect", EFFECTS, errors);
        }
    }
}

/// How pods are spread.
pub fn spread(spec: &At<'_>, errors: &mut Errors) {
    let all = spec.items("topologySpreadConstraints");
    for (index, one) in all.iter().enumerate() {
        let positive = |field: &str, number: i64, errors: &mut Errors| {
            if number <= 0 {
                let why = "must be greater than zero";
                errors.push(FieldError::invalid(one.child(field), &number.into(), why));
            }
        };
        positive("maxSkew", one.number("maxSkew").unwrap_or(0), errors);
        let (key, when) = (one.text("topologyKey"), one.text("whenUnsatisfiable"));
        if key.is_empty() {
            let why = "can not be empty";
            errors.push(FieldError::required(one.child("topologyKey"), why));
        }
        let known = ["DoNotSchedule", "ScheduleAnyway"];
        if !known.contains(&when) {
            let at = one.child("whenUnsatisfiable");
            errors.push(FieldError::unsupported(at, when, &known));
        }
        let again = all[index + 1..].iter();
        let mut again = again.filter(|other| {
            (other.text("topologyKey"), other.text("whenUnsatisfiable")) == (key, when)
        });
        if again.next().is_some() {
            let shown = format!("{{{key}, {when}}}").into();
            let at = one.child("{topologyKey, whenUnsatisfiable}");
            errors.push(FieldError::duplicate(at, &shown));
        }
        if let Some(number) = one.number("minDomains") {
            positive("minDomains", number, errors);
            if when != "DoNotSchedule" {
                let why = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}"
                );
                errors.push(FieldError::invalid(
                    one.child("minDomains"),
                    &number.into(),
                    &why,
                ));
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            one.one_of(field, &["Honor", "Ignore"], errors);
        }
        label_keys(one, errors);
        if let Some(selector) = one.get("labelSelector") {
            label_selector(&selector, errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(check: fn(&At<'_>, &mut Errors), value: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        check(&At::new(value, "spec"), &mut errors);
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn tolerations_need_a_key_or_exist() {
        for (toleration, fields) in [
            (json!({"operator": "Exists"}), &[][..]),
            (json!({"key": "a", "value": "b"}), &[]),
            (json!({}), &["spec.tolerations[0].operator"]),
            (
                json!({"key": "a", "tolerationSeconds": 5}),
                &["spec.tolerations[0].effect"],
            ),
        ] {
            let spec = json!({"tolerations": [toleration]});
            assert_eq!(told(tolerations, &spec), fields, "{spec}");
        }
    }

    #[test]
    fn pods_are_spread_by_a_key() {
        let good = json!({"topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]});
        assert!(told(spread, &good).is_empty());
        let none = json!({"topologySpreadConstraints": [{}]});
        assert_eq!(told(spread, &none).len(), 3);
    }
}
