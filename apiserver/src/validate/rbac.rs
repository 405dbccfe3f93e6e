//! What bindings of roles and aggregated roles must be.

use serde_json::Value;

use super::{
    Errors,
    check::{At, label_selector},
    names,
};
use crate::{
    field::FieldError,
    object::{self, Json},
};

const GROUP: &str = "rbac.authorization.k8s.io";

/// A binding, of a namespace or of the cluster.
pub fn binding(value: &Json, namespaced: bool, errors: &mut Errors) {
    let whole = Value::Object(value.clone());
    let whole = At::new(&whole, "");
    let none = Value::Null;
    let role = value.get("roleRef").unwrap_or(&none);
    let role = At::new(role, "roleRef");
    let known: &[&str] = if namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    for (field, known) in [("apiGroup", &[GROUP][..]), ("kind", known)] {
        let given = role.text(field);
        if !known.contains(&given) {
            errors.push(FieldError::unsupported(role.child(field), given, known));
        }
    }
    role.required("name", errors);
    role.named("name", names::PATH_SEGMENT_RULE, errors);
    let subjects = whole.items("subjects");
    for subject in &subjects {
        self::subject(subject, namespaced, errors);
    }
    // What is declared beside the types is looked at last.
    for subject in &subjects {
        subject.required("name", errors);
    }
}

/// The role of a binding stays.
pub fn role_kept(value: &Json, current: &Json, errors: &mut Errors) {
    if value.get("roleRef") != current.get("roleRef") {
        let of = |field: &str| object::str_at(value, &["roleRef", field]).to_owned();
        let shown =
            serde_json::json!({"APIGroup": of("apiGroup"), "Kind": of("kind"), "Name": of("name")});
        errors.push(FieldError::invalid("roleRef", &shown, "field is immutable"));
    }
}

fn subject(at: &At<'_>, namespaced: bool, errors: &mut Errors) {
    let (name, kind) = (at.text("name"), at.text("kind"));
    let group = |known: &str, errors: &mut Errors| {
        let given = at.text("apiGroup");
        if given != known {
            errors.push(FieldError::unsupported(
                at.child("apiGroup"),
                given,
                &[known],
            ));
        }
    };
    match kind {
        "ServiceAccount" => {
            if !name.is_empty() {
                at.named("name", names::SUBDOMAIN_RULE, errors);
            }
            group("", errors);
            if !namespaced && at.text("namespace").is_empty() {
                errors.push(FieldError::required(at.child("namespace"), ""));
            }
        }
        "User" | "Group" => group(GROUP, errors),
        other => {
            let known = ["ServiceAccount", "User", "Group"];
            errors.push(FieldError::unsupported(at.child("kind"), other, &known));
        }
    }
}

/// The rule by which a role is made of others.
pub fn aggregation(value: &Json, errors: &mut Errors) {
    let Some(rule) = value.get("aggregationRule").filter(|rule| !rule.is_null()) else {
        return;
    };
    let rule = At::new(rule, "aggregationRule");
    let selectors = rule.items("clusterRoleSelectors");
    if selectors.is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(FieldError::required(
            rule.child("clusterRoleSelectors"),
            why,
        ));
    }
    for one in selectors {
        let before = errors.len();
        label_selector(&one, errors);
        if errors.len() > before {
            let why = "invalid label selector.";
            errors.push(FieldError::invalid(&one.path, &Value::Null, why));
        }
    }
}
