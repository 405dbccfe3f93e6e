//! What the kinds of dynamic resource allocation must be. Expressions are not
//! compiled: there is no compiler of CEL here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Errors, affinity,
    check::{At, all},
    names, volume,
};
use crate::{
    field::FieldError,
    object::{self, Json},
};

/// What upstream's declarations find comes after all else.
struct Found<'a> {
    errors: &'a mut Errors,
    declared: Errors,
}

fn spec(value: &Json) -> At<'_> {
    At::new(value.get("spec").unwrap_or(&Value::Null), "spec")
}

const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// A claim.
pub fn claim(value: &Json, errors: &mut Errors) {
    claim_spec(&spec(value), errors);
}

/// A template of claims.
pub fn claim_template(value: &Json, errors: &mut Errors) {
    let spec = spec(value);
    if let Some(meta) = spec.get("metadata") {
        template_meta(&meta, errors);
    }
    if let Some(claim) = spec.get("spec") {
        claim_spec(&claim, errors);
    }
}

/// The metadata of a template sets nothing but labels and annotations.
fn template_meta(at: &At<'_>, errors: &mut Errors) {
    super::meta::annotations(
        at.value.get("annotations"),
        &at.child("annotations"),
        errors,
    );
    super::meta::labels(at.value.get("labels"), &at.child("labels"), errors);
    for (field, shown) in [
        ("name", "name"),
        ("generateName", "generateName"),
        ("namespace", "namespace"),
        ("selfLink", "selfLink"),
        ("uid", "uID"),
        ("resourceVersion", "resourceVersion"),
        ("generation", "generation"),
        ("creationTimestamp", "creationTimestamp"),
        ("deletionTimestamp", "deletionTimestamp"),
        ("deletionGracePeriodSeconds", "deletionGracePeriodSeconds"),
        ("ownerReferences", "ownerReferences"),
        ("finalizers", "finalizers"),
        ("managedFields", "managedFields"),
    ] {
        let given = at.get(field).is_some_and(|one| match one.value {
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Number(number) => {
                field == "deletionGracePeriodSeconds" || number.as_i64() != Some(0)
            }
            _ => true,
        });
        if given {
            errors.push(FieldError::forbidden(at.child(shown), "cannot be set"));
        }
    }
}

/// The names of a claim's requests, with those of what stands for them.
type Requests<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

fn claim_spec(at: &At<'_>, errors: &mut Errors) {
    let Some(devices) = at.get("devices") else {
        return;
    };
    let mut found = Found {
        errors,
        declared: Errors::new(),
    };
    let requests = devices.items("requests");
    let mut names = Requests::new();
    for one in &requests {
        let subs = one.items("firstAvailable");
        names.insert(
            one.text("name"),
            subs.iter().map(|sub| sub.text("name")).collect(),
        );
    }
    for one in &requests {
        request(one, &mut found);
    }
    for one in devices.items("constraints") {
        request_refs(&one, &names, &mut found);
        let fields = ["matchAttribute", "distinctAttribute"];
        match fields.iter().find_map(|field| one.get(field)) {
            Some(name) => full_name(&name, &mut found.declared),
            None => {
                let why = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
                found.errors.push(FieldError::required(&one.path, why));
            }
        }
    }
    for one in devices.items("config") {
        request_refs(&one, &names, &mut found);
        configuration(&one, &mut found);
    }
    let declared = found.declared;
    errors.extend(declared);
}

fn request(at: &At<'_>, found: &mut Found<'_>) {
    at.named("name", names::LABEL_RULE, found.errors);
    let (first, exactly) = (at.items("firstAvailable"), at.get("exactly"));
    match (first.is_empty(), &exactly) {
        (true, None) => {
            let why = "exactly one of `exactly` or `firstAvailable` is required";
            found.errors.push(FieldError::required(&at.path, why));
        }
        (false, Some(_)) => {
            let why = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            found
                .errors
                .push(FieldError::invalid(&at.path, &Value::Null, why));
            for sub in &first {
                declared(sub, &mut found.declared);
            }
        }
        (false, None) => {
            for sub in &first {
                sub.named("name", names::LABEL_RULE, found.errors);
                exact(sub, found);
            }
        }
        (true, Some(exactly)) => {
            class(exactly, found.errors);
            exact(exactly, found);
        }
    }
}

/// The class of a device, which must be named.
fn class(at: &At<'_>, errors: &mut Errors) {
    if at.text("deviceClassName").is_empty() {
        errors.push(FieldError::required(at.child("deviceClassName"), ""));
    } else {
        at.named("deviceClassName", names::SUBDOMAIN_RULE, errors);
    }
}

/// What is declared of a request: of one among several the class, too.
fn declared(at: &At<'_>, errors: &mut Errors) {
    if at.path.contains("firstAvailable") {
        class(at, errors);
    }
    at.one_of("allocationMode", &["All", "ExactCount"], errors);
    for one in at.items("tolerations") {
        if !one.text("key").is_empty() {
            one.named("key", names::qualified, errors);
        }
        one.word("operator", &["Equal", "Exists"], errors);
        if !one.text("effect").is_empty() {
            one.one_of("effect", &EFFECTS, errors);
        }
    }
}

fn exact(at: &At<'_>, found: &mut Found<'_>) {
    selectors(at, found.errors);
    let count = at.number("count").unwrap_or(0);
    let mode = at.text("allocationMode");
    let why = match mode {
        "All" if count != 0 => "must not be specified when allocationMode is 'All'",
        "ExactCount" if count <= 0 => "must be greater than zero",
        _ => "",
    };
    if !why.is_empty() {
        let path = at.child("count");
        found
            .errors
            .push(FieldError::invalid(path, &count.into(), why));
    }
    for one in at.items("tolerations") {
        let value = one.text("value");
        match one.text("operator") {
            "Exists" if !value.is_empty() => {
                let why = "must be empty for operator `Exists`";
                let path = one.child("value");
                found
                    .errors
                    .push(FieldError::invalid(path, &value.into(), why));
            }
            "Equal" => one.named("value", names::label_value, found.errors),
            _ => {}
        }
    }
    declared(at, &mut found.declared);
}

fn selectors(at: &At<'_>, errors: &mut Errors) {
    for one in at.items("selectors") {
        if one.get("cel").is_none() {
            errors.push(FieldError::required(one.child("cel"), ""));
        }
    }
}

fn request_refs(at: &At<'_>, known: &Requests<'_>, found: &mut Found<'_>) {
    for one in at.items("requests") {
        let name = one.as_text();
        let parts: Vec<&str> = name.split('/').collect();
        let is_known = match parts[..] {
            [request] => known.contains_key(request),
            [request, sub] => known.get(request).is_some_and(|subs| subs.contains(sub)),
            _ => false,
        };
        if parts.len() <= 2 {
            for part in parts {
                all(&one.path, part, names::label(part), found.errors);
            }
        }
        if !is_known {
            let why = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
            found
                .errors
                .push(FieldError::invalid(&one.path, one.value, why));
        }
    }
}

fn configuration(at: &At<'_>, found: &mut Found<'_>) {
    let Some(opaque) = at.get("opaque") else {
        found
            .errors
            .push(FieldError::required(at.child("opaque"), ""));
        return;
    };
    match opaque.get("parameters").map(|one| one.value.is_object()) {
        Some(true) => {}
        Some(false) => {
            let shown = "<value omitted>".into();
            let why = "must be a valid JSON object";
            let path = opaque.child("parameters");
            found.errors.push(FieldError::invalid(path, &shown, why));
        }
        None => {
            let path = opaque.child("parameters");
            found.errors.push(FieldError::required(path, ""));
        }
    }
    driver(&opaque, &mut found.declared);
}

/// The name of a driver, with capitals or without.
fn driver(at: &At<'_>, errors: &mut Errors) {
    let name = at.text("driver");
    if name.is_empty() {
        errors.push(FieldError::required(at.child("driver"), ""));
        return;
    }
    if name.len() > 63 {
        errors.push(FieldError::too_long(at.child("driver"), 63));
    }
    if !names::is_subdomain(&name.to_ascii_lowercase()) {
        let path = at.child("driver");
        errors.push(FieldError::invalid(path, &name.into(), CASELESS));
    }
}

const CASELESS: &str = "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'Example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";

fn identifier(path: &str, text: &str, errors: &mut Errors) {
    if text.len() > 32 {
        errors.push(FieldError::too_long(path, 32));
    }
    let first = |byte: u8| byte == b'_' || byte.is_ascii_alphabetic();
    let good = text.bytes().next().is_some_and(first)
        && text
            .bytes()
            .all(|byte| first(byte) || byte.is_ascii_digit());
    if !good {
        errors.push(FieldError::invalid(path, &text.into(), IDENTIFIER));
    }
}

/// A name with its domain.
fn full_name(at: &At<'_>, errors: &mut Errors) {
    let text = at.as_text();
    match text.split_once('/') {
        None => {
            identifier(&at.path, text, errors);
            let why = "a fully qualified name must be a domain and a name separated by a slash";
            errors.push(FieldError::invalid(&at.path, at.value, why));
        }
        Some((domain, name)) => {
            if domain.is_empty() {
                let why = "the domain must not be empty";
                errors.push(FieldError::invalid(&at.path, &"".into(), why));
            }
            if name.is_empty() {
                let why = "the name must not be empty";
                errors.push(FieldError::invalid(&at.path, &"".into(), why));
            } else {
                identifier(&at.path, name, errors);
            }
        }
    }
}

/// A class of devices.
pub fn device_class(value: &Json, errors: &mut Errors) {
    let spec = spec(value);
    let mut found = Found {
        errors,
        declared: Errors::new(),
    };
    selectors(&spec, found.errors);
    for one in spec.items("config") {
        configuration(&one, &mut found);
    }
    if let Some(name) = spec.get("extendedResourceName") {
        let text = name.as_text();
        if !text.contains('/') {
            let why = "a name must be a domain-prefixed path, such as 'example.com/my-prop'";
            found
                .declared
                .push(FieldError::invalid(&name.path, name.value, why));
        }
        let wrong = names::qualified(text);
        let wrong = wrong
            .into_iter()
            .filter(|why| why != "name part must be non-empty");
        all(&name.path, text, wrong.collect(), &mut found.declared);
    }
    let declared = found.declared;
    errors.extend(declared);
}

/// A rule that taints devices.
pub fn taint_rule(value: &Json, errors: &mut Errors) {
    let spec = spec(value);
    let mut declared = Errors::new();
    if let Some(selector) = spec.get("deviceSelector") {
        if selector.get("driver").is_some() {
            volume::driver(&selector, "driver", errors);
        }
        if selector.get("pool").is_some() {
            pool_name(&selector, "pool", errors);
        }
        if selector.get("device").is_some() {
            selector.named("device", names::LABEL_RULE, errors);
        }
    }
    if let Some(taint) = spec.get("taint") {
        self::taint(&taint, errors, &mut declared);
    }
    errors.extend(declared);
}

fn pool_name(at: &At<'_>, field: &str, errors: &mut Errors) {
    let name = at.text(field);
    let path = at.child(field);
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if name.len() > 253 {
        errors.push(FieldError::too_long(&path, 253));
    }
    for part in name.split('/') {
        all(&path, part, names::subdomain(part), errors);
    }
}

fn taint(at: &At<'_>, errors: &mut Errors, declared: &mut Errors) {
    at.named("key", names::qualified, errors);
    if !at.text("value").is_empty() {
        at.named("value", names::label_value, errors);
    }
    at.word("effect", &EFFECTS, declared);
}

/// A slice of the devices of a pool.
pub fn slice(value: &Json, errors: &mut Errors) {
    let spec = spec(value);
    let mut declared = Errors::new();
    volume::driver(&spec, "driver", errors);
    let pool = spec.get("pool");
    let pool = pool.unwrap_or_else(|| At::new(&Value::Null, "spec.pool"));
    pool_name(&pool, "name", errors);
    let slices = pool.number("resourceSliceCount").unwrap_or(0);
    if slices <= 0 {
        let path = pool.child("resourceSliceCount");
        let why = "must be greater than zero";
        errors.push(FieldError::invalid(path, &slices.into(), why));
    }
    let why = "must be greater than or equal to zero";
    pool.within("generation", 0, i64::MAX, why, errors);
    let chosen = placement(&spec, errors);
    match chosen.len() {
        0 => {
            let why = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
            errors.push(FieldError::required("spec", why));
        }
        1 => {}
        _ => {
            let shown = format!("{{{}}}", chosen.join(", ")).into();
            let why = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set";
            errors.push(FieldError::invalid("spec", &shown, why));
        }
    }
    if spec.get("sharedCounters").is_some() && spec.get("devices").is_some() {
        let why = "only one of `sharedCounters` or `devices` is allowed";
        errors.push(FieldError::invalid("spec", &"".into(), why));
    }
    let each = spec.flag("perDeviceNodeSelection");
    let mut seen = BTreeSet::new();
    for one in spec.items("devices") {
        device(&one, each, errors, &mut declared);
        if !seen.insert(one.text("name")) {
            let name = one.text("name").into();
            errors.push(FieldError::duplicate(one.child("name"), &name));
        }
    }
    for one in spec.items("sharedCounters") {
        counters(&one, "name", &mut declared);
    }
    errors.extend(declared);
}

/// Whose a slice is stays.
pub fn slice_kept(value: &Json, current: &Json, errors: &mut Errors) {
    let why = "field is immutable";
    let mut found = Errors::new();
    for path in [
        &["spec", "pool", "name"][..],
        &["spec", "driver"],
        &["spec", "nodeName"],
    ] {
        let (new, old) = (object::at(value, path), object::at(current, path));
        if new != old {
            let shown = new.cloned().unwrap_or(Value::Null);
            found.push(FieldError::invalid(path.join("."), &shown, why));
        }
    }
    // After what is wrong with these themselves.
    let own = ["metadata", "spec.driver", "spec.pool"];
    let at = errors
        .iter()
        .take_while(|error| own.iter().any(|field| error.field.starts_with(field)))
        .count();
    errors.splice(at..at, found);
}

/// What a template of claims makes stays.
pub fn template_kept(value: &Json, current: &Json, errors: &mut Errors) {
    if value.get("spec") != current.get("spec") {
        errors.retain(|error| error.field.starts_with("metadata"));
        let of = |field: &str| object::at(value, &["spec", "spec", "devices", field]);
        let shown = serde_json::json!({"Spec": {"Devices": {
            "Requests": of("requests"), "Constraints": of("constraints"), "Config": of("config"),
        }}});
        // In the order of Go's fields.
        let devices = &shown["Spec"]["Devices"];
        let shown = format!(
            "{{\"Spec\":{{\"Devices\":{{\"Requests\":{},\"Constraints\":{},\"Config\":{}}}}}}}",
            devices["Requests"], devices["Constraints"], devices["Config"]
        );
        errors.push(FieldError::invalid_shown(
            "spec",
            &shown,
            "field is immutable",
        ));
    }
}

/// Where the devices of a slice are: the fields that say it.
fn placement(at: &At<'_>, errors: &mut Errors) -> Vec<&'static str> {
    let mut chosen = Vec::new();
    if let Some(node) = at.get("nodeName") {
        if node.as_text().is_empty() {
            let why = "must be either unset or set to a non-empty string";
            errors.push(FieldError::invalid(node.path, node.value, why));
        } else {
            chosen.push("`nodeName`");
            at.named("nodeName", names::SUBDOMAIN_RULE, errors);
        }
    }
    if let Some(selector) = at.get("nodeSelector") {
        chosen.push("`nodeSelector`");
        affinity::node_selector(&selector, errors);
        let terms = selector
            .value
            .get("nodeSelectorTerms")
            .unwrap_or(&Value::Null);
        if terms.as_array().map_or(0, Vec::len) != 1 {
            let why = "must have exactly one node selector term";
            let path = selector.child("nodeSelectorTerms");
            errors.push(FieldError::invalid(path, terms, why));
        }
    }
    for (field, name) in [
        ("allNodes", "`allNodes`"),
        ("perDeviceNodeSelection", "`perDeviceNodeSelection`"),
    ] {
        match at.get(field).map(|one| one.value == &Value::Bool(true)) {
            Some(true) => chosen.push(name),
            Some(false) => {
                let why = "must be either unset or set to true";
                errors.push(FieldError::invalid(at.child(field), &false.into(), why));
            }
            None => {}
        }
    }
    chosen
}

fn device(at: &At<'_>, each: bool, errors: &mut Errors, declared: &mut Errors) {
    at.named("name", names::LABEL_RULE, errors);
    for one in at.items("taints") {
        taint(&one, errors, declared);
    }
    for one in at.items("consumesCounters") {
        counters(&one, "counterSet", declared);
    }
    let placed = ["nodeName", "nodeSelector", "allNodes"];
    let placed = placed
        .iter()
        .filter(|field| at.get(field).is_some())
        .count();
    if !each && placed > 0 {
        let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
        errors.push(FieldError::invalid(&at.path, &Value::Null, why));
    }
    if each && placed == 0 {
        let why = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
        errors.push(FieldError::required(&at.path, why));
    }
    let fields = ["bindingConditions", "bindingFailureConditions"];
    let lists = fields.map(|field| at.items(field));
    for one in lists.iter().flatten() {
        all(
            &one.path,
            one.as_text(),
            names::qualified(one.as_text()),
            errors,
        );
    }
    for (index, why) in [
        (
            0,
            "bindingConditions are required to use bindingFailureConditions",
        ),
        (
            1,
            "bindingFailureConditions are required to use bindingConditions",
        ),
    ] {
        if lists[index].is_empty() && !lists[1 - index].is_empty() {
            let path = at.child(fields[index]);
            errors.push(FieldError::invalid(path, &Value::Null, why));
        }
    }
}

/// A set of counters, and where its name stands.
fn counters(at: &At<'_>, field: &str, errors: &mut Errors) {
    if at.text(field).is_empty() {
        errors.push(FieldError::required(at.child(field), ""));
    } else {
        at.named(field, names::LABEL_RULE, errors);
    }
    if at.entries("counters").next().is_none() {
        errors.push(FieldError::required(at.child("counters"), ""));
    }
}
