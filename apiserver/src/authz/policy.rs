//! Upstream's roles and bindings, which are there from the start: what is
//! missing of them is put back, what was added stays.
//!
//! `policy.json` holds them as upstream's kube-apiserver makes them, an object
//! a line. A test asks one for its own, compares, and writes the file anew when
//! it is told to.

use serde_json::{Value, json};

use super::{Rule, rule::lacking};
use crate::object::{self, Json};

const POLICY: &str = include_str!("policy.json");
/// `false`: its owner looks after it himself.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// All of them.
pub fn objects() -> Vec<Json> {
    let lines = POLICY.lines().filter(|line| line.starts_with('{'));
    let objects = lines.map(|line| serde_json::from_str(line.trim_end_matches(',')));
    objects.filter_map(Result::ok).collect()
}

/// The rules of one of the cluster roles.
pub fn rules_of(name: &str) -> Vec<Rule> {
    let mut roles = objects().into_iter().filter(|one| {
        object::str_at(one, &["kind"]) == "ClusterRole" && object::meta_str(one, "name") == name
    });
    roles.next().as_ref().map(rules).unwrap_or_default()
}

/// What becomes of an object that is there already.
#[derive(Clone, PartialEq, Debug)]
pub enum Reconciled {
    Same,
    Changed(Json),
    /// It refers to another role, which cannot be changed: it is made anew.
    Anew(Json),
}

/// Puts what is missing of an object into the one that is there.
pub fn reconciled(expected: &Json, present: &Json) -> Reconciled {
    let annotations = object::at(present, &["metadata", "annotations"]);
    if annotations.is_some_and(|all| all[AUTOUPDATE] == "false") {
        return Reconciled::Same;
    }
    let mut object = present.clone();
    for field in ["labels", "annotations"] {
        let own = object::at(expected, &["metadata", field]).and_then(Value::as_object);
        let there = object::at(present, &["metadata", field]).and_then(Value::as_object);
        let mut merged = own.cloned().unwrap_or_default();
        merged.extend(there.cloned().unwrap_or_default());
        if !merged.is_empty() {
            object::set_meta(&mut object, field, Some(merged.into()));
        }
    }
    if let Some(role) = expected.get("roleRef") {
        extend(&mut object, "subjects", expected, same_subject);
        if present.get("roleRef") != Some(role) {
            object.insert("roleRef".to_owned(), role.clone());
            for field in ["resourceVersion", "uid", "creationTimestamp"] {
                object::set_meta(&mut object, field, None);
            }
            return Reconciled::Anew(object);
        }
    } else if let Some(rule) = expected.get("aggregationRule") {
        // The rules are gathered by a controller.
        let mut own = object
            .get("aggregationRule")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        if let Some(rule) = rule.as_object() {
            extend(&mut own, "clusterRoleSelectors", rule, |one, other| {
                one == other
            });
        }
        object.insert("aggregationRule".to_owned(), own.into());
    } else {
        let held = rules(present);
        let missing = rules(expected).into_iter();
        let missing: Vec<Rule> = missing
            .filter(|rule| !lacking(&held, std::slice::from_ref(rule)).is_empty())
            .collect();
        if !missing.is_empty() {
            let all: Vec<Rule> = held.into_iter().chain(missing).collect();
            object.insert("rules".to_owned(), json!(all));
        }
    }
    match object == *present {
        true => Reconciled::Same,
        false => Reconciled::Changed(object),
    }
}

fn rules(role: &Json) -> Vec<Rule> {
    let rules = role.get("rules").cloned().unwrap_or_default();
    serde_json::from_value::<Option<Vec<Rule>>>(rules)
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// Adds what a list does not have of another.
fn extend(object: &mut Json, field: &str, expected: &Json, same: fn(&Value, &Value) -> bool) {
    let own = object.get(field).and_then(Value::as_array);
    let mut list = own.cloned().unwrap_or_default();
    let wanted = expected.get(field).and_then(Value::as_array);
    for one in wanted.into_iter().flatten() {
        if !list.iter().any(|other| same(one, other)) {
            list.push(one.clone());
        }
    }
    if !list.is_empty() {
        object.insert(field.to_owned(), list.into());
    }
}

fn same_subject(one: &Value, other: &Value) -> bool {
    let of = |subject: &Value, field: &str| subject[field].as_str().unwrap_or("").to_owned();
    ["kind", "namespace", "name"]
        .iter()
        .all(|field| of(one, field) == of(other, field))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_nodes_may_do_is_there() {
        assert!(super::rules_of("system:node").len() > 20);
    }

    use super::*;

    fn object(value: Value) -> Json {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn the_policy_is_whole() {
        let objects = objects();
        let of = |kind: &str| objects.iter().filter(|one| one["kind"] == kind).count();
        assert_eq!(
            objects.len() + 2,
            POLICY.lines().count(),
            "a line cannot be read"
        );
        assert!(of("ClusterRole") > 70 && of("ClusterRoleBinding") > 50);
        assert!(of("Role") == 7 && of("RoleBinding") == 7);
    }

    #[test]
    fn what_is_missing_comes_back_and_what_was_added_stays() {
        let rule =
            |resource: &str| json!({"verbs": ["get"], "apiGroups": [""], "resources": [resource]});
        let role = |rules: Value| {
            object(json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "rules": rules}))
        };
        let expected = role(json!([rule("pods"), rule("nodes")]));
        assert_eq!(reconciled(&expected, &expected), Reconciled::Same);
        let present = role(json!([rule("secrets"), rule("pods")]));
        let wanted = role(json!([rule("secrets"), rule("pods"), rule("nodes")]));
        assert_eq!(reconciled(&expected, &present), Reconciled::Changed(wanted));
        let mut kept = present;
        let kept_annotations = json!({AUTOUPDATE: "false"});
        object::set_meta(&mut kept, "annotations", Some(kept_annotations));
        assert_eq!(reconciled(&expected, &kept), Reconciled::Same);
    }

    #[test]
    fn a_binding_gets_its_subjects_back_and_its_role() {
        let binding = |role: &str, subjects: Value| {
            object(
                json!({"metadata": {"name": "a"}, "roleRef": {"name": role}, "subjects": subjects}),
            )
        };
        let group = |name: &str| json!({"kind": "Group", "name": name});
        let expected = binding("r", json!([group("a")]));
        let present = binding("r", json!([group("b")]));
        let both = json!([group("b"), group("a")]);
        assert_eq!(
            reconciled(&expected, &present),
            Reconciled::Changed(binding("r", both.clone()))
        );
        let other = binding("s", json!([group("b")]));
        assert_eq!(
            reconciled(&expected, &other),
            Reconciled::Anew(binding("r", both))
        );
    }
}
