//! What the rules of fairness between requests must be.

use serde_json::{Value, json};

use super::{
    Errors,
    check::{At, all},
    names,
};
use crate::{
    field::FieldError,
    object::{self, Json},
};

/// The last in the order of schemas.
const PRECEDENCE_MAX: i64 = 10_000;
const VERBS: [&str; 9] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];
const SUBJECTS: [&str; 3] = ["Group", "ServiceAccount", "User"];

/// Which requests are of one flow.
pub fn schema(value: &Json, errors: &mut Errors) {
    let spec = At::new(value.get("spec").unwrap_or(&Value::Null), "spec");
    let precedence = spec.number("matchingPrecedence").unwrap_or(0);
    let mut wrong = |why: &str| {
        let path = spec.child("matchingPrecedence");
        errors.push(FieldError::invalid(path, &precedence.into(), why));
    };
    if precedence <= 0 {
        wrong("must be a positive value");
    }
    if precedence > PRECEDENCE_MAX {
        wrong(&format!("must not be greater than {PRECEDENCE_MAX}"));
    }
    if precedence == 1 && object::meta_str(value, "name") != "exempt" {
        wrong("only the schema named 'exempt' may have matchingPrecedence 1");
    }
    if let Some(method) = spec.get("distinguisherMethod") {
        let kind = method.text("type");
        let known = ["ByNamespace", "ByUser"];
        if !known.contains(&kind) {
            // Upstream shows the method, not its type.
            let shown = json!({"Type": kind});
            let path = method.child("type");
            errors.push(FieldError::unsupported_value(path, &shown, &known));
        }
    }
    let level = spec.get("priorityLevelConfiguration");
    let level =
        level.unwrap_or_else(|| At::new(&Value::Null, spec.child("priorityLevelConfiguration")));
    if level.text("name").is_empty() {
        let why = "must reference a priority level";
        errors.push(FieldError::required(level.child("name"), why));
    } else {
        level.named("name", names::SUBDOMAIN_RULE, errors);
    }
    for rule in spec.items("rules") {
        self::rule(&rule, errors);
    }
}

fn rule(at: &At<'_>, errors: &mut Errors) {
    let subjects = at.items("subjects");
    if subjects.is_empty() {
        let why = "subjects must contain at least one value";
        errors.push(FieldError::required(at.child("subjects"), why));
    }
    for one in subjects {
        subject(&one, errors);
    }
    let (resources, others) = (at.items("resourceRules"), at.items("nonResourceRules"));
    if resources.is_empty() && others.is_empty() {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(FieldError::required(&at.path, why));
    }
    for one in resources {
        resource_rule(&one, errors);
    }
    for one in others {
        verbs(&one, errors);
        let given = one.items("nonResourceURLs");
        if some(
            &one,
            "nonResourceURLs",
            "nonResourceURLs must contain at least one value",
            errors,
        ) && !wild(&one, "nonResourceURLs", "non-resource URLs", errors)
        {
            for url in given {
                non_resource_url(&url, errors);
            }
        }
    }
}

fn subject(at: &At<'_>, errors: &mut Errors) {
    let kind = at.text("kind");
    if !SUBJECTS.contains(&kind) {
        errors.push(FieldError::unsupported(at.child("kind"), kind, &SUBJECTS));
        return;
    }
    let fields = [
        ("ServiceAccount", "serviceAccount"),
        ("User", "user"),
        ("Group", "group"),
    ];
    for (_, field) in fields.iter().filter(|(one, _)| *one == kind) {
        match at.get(field) {
            None => {
                let why = format!("{field} is required when subject kind is '{kind}'");
                errors.push(FieldError::required(at.child(field), &why));
            }
            Some(who) => {
                let name = who.text("name");
                who.required("name", errors);
                if kind == "ServiceAccount" {
                    if !name.is_empty() && name != "*" {
                        who.named("name", names::SUBDOMAIN_RULE, errors);
                    }
                    if who.text("namespace").is_empty() {
                        let why = "must specify namespace for service account";
                        errors.push(FieldError::required(who.child("namespace"), why));
                    } else {
                        who.named("namespace", names::LABEL_RULE, errors);
                    }
                }
            }
        }
    }
    for (other, field) in fields.iter().filter(|(one, _)| *one != kind) {
        if at.get(field).is_some() {
            let why = format!("{field} is forbidden when subject kind is not '{other}'");
            errors.push(FieldError::forbidden(at.child(field), &why));
        }
    }
}

/// Whether a list has items, which it must.
fn some(at: &At<'_>, field: &str, why: &str, errors: &mut Errors) -> bool {
    let some = !at.items(field).is_empty();
    if !some {
        errors.push(FieldError::required(at.child(field), why));
    }
    some
}

/// Whether a list has `*`, which then must be alone.
fn wild(at: &At<'_>, field: &str, what: &str, errors: &mut Errors) -> bool {
    let given = at.items(field);
    let wild = given.iter().any(|one| one.as_text() == "*");
    if wild && given.len() > 1 {
        let shown = at.value.get(field).unwrap_or(&Value::Null);
        let why = format!("if '*' is present, must not specify other {what}");
        errors.push(FieldError::invalid(at.child(field), shown, &why));
    }
    wild
}

fn verbs(at: &At<'_>, errors: &mut Errors) {
    if !some(at, "verbs", "verbs must contain at least one value", errors)
        || wild(at, "verbs", "verbs", errors)
    {
        return;
    }
    if !at
        .items("verbs")
        .iter()
        .all(|one| VERBS.contains(&one.as_text()))
    {
        let shown = at.value.get("verbs").unwrap_or(&Value::Null);
        errors.push(FieldError::unsupported_value(
            at.child("verbs"),
            shown,
            &VERBS,
        ));
    }
}

fn resource_rule(at: &At<'_>, errors: &mut Errors) {
    verbs(at, errors);
    for (field, one, what) in [
        ("apiGroups", "api group", "api groups"),
        ("resources", "resource", "resources"),
    ] {
        let why = format!("resource rules must supply at least one {one}");
        if some(at, field, &why, errors) {
            wild(at, field, what, errors);
        }
    }
    let spaces = at.items("namespaces");
    if spaces.is_empty() && !at.flag("clusterScope") {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.push(FieldError::required(at.child("namespaces"), why));
    } else if !wild(at, "namespaces", "namespaces", errors) {
        for one in spaces {
            let wrong = names::label(one.as_text()).into_iter();
            let wrong = wrong.map(|why| {
                format!("each member of this list must be '*' or a DNS-1123 label; {why}")
            });
            all(&one.path, one.as_text(), wrong.collect(), errors);
        }
    }
}

fn non_resource_url(at: &At<'_>, errors: &mut Errors) {
    let text = at.as_text();
    let why = if text.is_empty() {
        "must not be empty"
    } else if text == "/" {
        return;
    } else if !text.starts_with('/') {
        "must start with slash"
    } else if text.contains(' ') {
        "must not contain white-space"
    } else if text.contains("//") {
        "must not contain double slash"
    } else {
        let rest = text.strip_suffix("/*").unwrap_or(text);
        if !rest.contains('*') {
            return;
        }
        "wildcard can only do suffix matching"
    };
    errors.push(FieldError::invalid(&at.path, &text.into(), why));
}

/// A priority level.
pub fn level(value: &Json, errors: &mut Errors) {
    let spec = At::new(value.get("spec").unwrap_or(&Value::Null), "spec");
    let mut declared = Errors::new();
    let kind = spec.text("type");
    if (object::meta_str(value, "name") == "exempt") != (kind == "Exempt") {
        let why = "must be 'Exempt' if and only if `name` is 'exempt'";
        errors.push(FieldError::invalid(spec.child("type"), &kind.into(), why));
    }
    let (limited, exempt) = (spec.get("limited"), spec.get("exempt"));
    match kind {
        "Exempt" => {
            if let Some(exempt) = &exempt {
                shares(exempt, errors);
            }
        }
        "Limited" => match &limited {
            Some(limited) => self::limited(limited, errors, &mut declared),
            None => declared.push(FieldError::required(spec.child("limited"), "")),
        },
        "" => {}
        other => {
            let known = ["Exempt", "Limited"];
            errors.push(FieldError::unsupported(spec.child("type"), other, &known));
        }
    }
    // Declared: members of a union, in the order of their fields.
    if limited.is_some() && kind != "Limited" {
        declared.push(FieldError::forbidden(spec.child("limited"), ""));
    }
    if exempt.is_some() && kind != "Exempt" {
        declared.push(FieldError::forbidden(spec.child("exempt"), ""));
    }
    if kind.is_empty() {
        declared.push(FieldError::required(spec.child("type"), ""));
    }
    errors.extend(declared);
}

fn shares(at: &At<'_>, errors: &mut Errors) {
    let why = "must be a non-negative integer";
    at.within("nominalConcurrencyShares", 0, i64::MAX, why, errors);
    lendable(at, errors);
}

fn lendable(at: &At<'_>, errors: &mut Errors) {
    let why = "must be between 0 and 100, inclusive";
    at.within("lendablePercent", 0, 100, why, errors);
}

fn limited(at: &At<'_>, errors: &mut Errors, declared: &mut Errors) {
    let why = "must be a non-negative integer";
    at.within("nominalConcurrencyShares", 0, i64::MAX, why, errors);
    if let Some(response) = at.get("limitResponse") {
        self::response(&response, errors, declared);
    }
    lendable(at, errors);
    let why = "if specified, must be a non-negative integer";
    at.within("borrowingLimitPercent", 0, i64::MAX, why, errors);
}

fn response(at: &At<'_>, errors: &mut Errors, declared: &mut Errors) {
    let kind = at.text("type");
    let queuing = at.get("queuing");
    match (kind, &queuing) {
        ("Queue", Some(queuing)) => self::queuing(queuing, errors),
        ("Queue", None) => declared.push(FieldError::required(at.child("queuing"), "")),
        ("Reject" | "", _) => {}
        (other, _) => {
            let known = ["Queue", "Reject"];
            errors.push(FieldError::unsupported(at.child("type"), other, &known));
        }
    }
    if queuing.is_some() && kind != "Queue" {
        declared.push(FieldError::forbidden(at.child("queuing"), ""));
    }
    if kind.is_empty() {
        declared.push(FieldError::required(at.child("type"), ""));
    }
}

fn queuing(at: &At<'_>, errors: &mut Errors) {
    const QUEUES_MAX: i64 = 10_000_000;
    let of = |field: &str| at.number(field).unwrap_or(0);
    let queues = of("queues");
    let mut wrong = |field: &str, why: &str| {
        errors.push(FieldError::invalid(at.child(field), &of(field).into(), why));
    };
    if of("queueLengthLimit") <= 0 {
        wrong("queueLengthLimit", "must be positive");
    }
    if queues <= 0 {
        wrong("queues", "must be positive");
    } else if queues > QUEUES_MAX {
        wrong("queues", &format!("must not be greater than {QUEUES_MAX}"));
    }
    let hand = of("handSize");
    if hand <= 0 {
        wrong("handSize", "must be positive");
    } else if hand > queues {
        wrong(
            "handSize",
            &format!("should not be greater than queues ({queues})"),
        );
    } else if entropy_bits(queues, hand) > 60 {
        let why = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than 60"
        );
        wrong("handSize", &why);
    }
}

/// The bits of a hash that dealing a hand from a deck takes.
fn entropy_bits(deck: i64, hand: i64) -> i64 {
    ((deck as f64).log2() * hand as f64).ceil() as i64
}
