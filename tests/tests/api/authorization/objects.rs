//! The same roles, bindings and accounts on both sides, and upstream's own.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::{Pair, Side, until};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const FILE: &str = "../apiserver/src/authz/policy.json";

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

fn named(mut rule: Value, names: &[&str]) -> Value {
    rule["resourceNames"] = json!(names);
    rule
}

/// Roles: their names, and the rules of each. A name with a slash is of a
/// namespace.
fn roles() -> Vec<(&'static str, Value)> {
    let rbac = "rbac.authorization.k8s.io";
    let roles = ["roles", "clusterroles"];
    let bindings = ["rolebindings", "clusterrolebindings"];
    let read = ["get", "list", "watch"];
    let write = ["create", "update", "patch", "delete"];
    vec![
        (
            "pod-reader",
            json!([rule(&[""], &["pods", "pods/log"], &read)]),
        ),
        (
            "one-map",
            json!([named(
                rule(&[""], &["configmaps"], &["get", "update", "watch"]),
                &["one", "two"]
            )]),
        ),
        (
            "scaler",
            json!([
                rule(&["apps"], &["*/scale"], &["get", "update", "patch"]),
                rule(&[""], &["pods/status"], &["*"])
            ]),
        ),
        ("apps", json!([rule(&["apps"], &["*"], &["*"])])),
        (
            "paths",
            json!([{"nonResourceURLs": ["/metrics", "/healthz/*", "/debug*"], "verbs": ["get", "post"]}]),
        ),
        (
            "any-group",
            json!([rule(
                &["*"],
                &["deployments", "nodes/status"],
                &["get", "deletecollection"]
            )]),
        ),
        ("everything-there", json!([rule(&["*"], &["*"], &["*"])])),
        (
            "escalator",
            json!([
                rule(&[rbac], &roles, &["escalate"]),
                rule(&[rbac], &roles, &write),
                rule(&[rbac], &bindings, &write)
            ]),
        ),
        (
            "binder",
            json!([
                named(rule(&[rbac], &["clusterroles"], &["bind"]), &["pod-reader"]),
                rule(&[rbac], &bindings, &write),
                rule(&[rbac], &roles, &write)
            ]),
        ),
        (
            "a/writer",
            json!([rule(&[""], &["pods", "secrets"], &write)]),
        ),
        (
            "a/looker",
            json!([rule(&[""], &["services", "endpoints"], &read)]),
        ),
        (
            "b/looker",
            json!([rule(&["", "apps"], &["services", "deployments"], &["list"])]),
        ),
    ]
}

/// Its name, the role (`r:` one of the namespace), and subjects as kind and name.
type Binding = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const BINDINGS: &[Binding] = &[
    ("pod-readers", "pod-reader", &[("Group", "devs")]),
    ("maps", "one-map", &[("User", "carol"), ("Group", "ops")]),
    ("scalers", "scaler", &[("User", "bob")]),
    (
        "paths",
        "paths",
        &[("User", "alice"), ("Group", "escalators")],
    ),
    ("any-group", "any-group", &[("Group", "ops")]),
    ("escalators", "escalator", &[("Group", "escalators")]),
    ("binders", "binder", &[("Group", "binders")]),
    ("nothing", "no-such-role", &[("Group", "lost")]),
    (
        "a/writers",
        "r:writer",
        &[("User", "carol"), ("ServiceAccount", "builder")],
    ),
    ("a/apps", "apps", &[("User", "alice")]),
    (
        "b/all",
        "everything-there",
        &[("ServiceAccount", "a/builder")],
    ),
    (
        "b/lookers",
        "r:looker",
        &[("Group", "system:serviceaccounts"), ("User", "dave")],
    ),
    (
        "b/nothing",
        "r:gone",
        &[("Group", "lost"), ("Group", "nobodies")],
    ),
    // Last: when they are known, all of them are.
    ("a/last", "r:looker", &[("User", "last-in-a")]),
    ("last", "pod-reader", &[("User", "last")]),
];

fn subject(kind: &str, name: &str) -> Value {
    let group = "rbac.authorization.k8s.io";
    match (kind, name.split_once('/')) {
        ("ServiceAccount", Some((namespace, name))) => {
            json!({"kind": kind, "name": name, "namespace": namespace})
        }
        ("ServiceAccount", None) => json!({"kind": kind, "name": name, "namespace": "a"}),
        _ => json!({"kind": kind, "name": name, "apiGroup": group}),
    }
}

/// Where an object of a cluster's or a namespace's kind is created, and its name.
fn place<'a>(cluster: &str, namespaced: &str, name: &'a str) -> (String, &'a str) {
    match name.split_once('/') {
        Some((namespace, name)) => (format!("{RBAC}/namespaces/{namespace}/{namespaced}"), name),
        None => (format!("{RBAC}/{cluster}"), name),
    }
}

/// Creates all of them, and waits until they are known.
pub async fn create(side: &Side) -> Result<()> {
    for name in ["a", "b"] {
        let body = json!({"metadata": {"name": name}});
        side.done(Method::POST, "/api/v1/namespaces", &body).await?;
    }
    for (name, rules) in roles() {
        let (path, name) = place("clusterroles", "roles", name);
        let body = json!({"metadata": {"name": name}, "rules": rules});
        side.done(Method::POST, &path, &body).await?;
    }
    for (name, role, subjects) in BINDINGS {
        let (path, name) = place("clusterrolebindings", "rolebindings", name);
        let (kind, role) = match role.strip_prefix("r:") {
            Some(role) => ("Role", role),
            None => ("ClusterRole", *role),
        };
        let subjects: Vec<Value> = subjects
            .iter()
            .map(|(kind, name)| subject(kind, name))
            .collect();
        let body = json!({"metadata": {"name": name}, "subjects": subjects,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}});
        side.done(Method::POST, &path, &body).await?;
    }
    for (user, resource, namespace) in [("last", "pods", ""), ("last-in-a", "services", "a")] {
        let body = json!({"spec": {"user": user, "resourceAttributes":
            {"verb": "list", "resource": resource, "namespace": namespace}}});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        until(side, path, &body, |told| {
            told.body["status"]["allowed"] == true
        })
        .await?;
    }
    Ok(())
}

/// Upstream's own roles and bindings, an object a line, without what is of one
/// cluster.
async fn own(side: &Side, skip: &BTreeSet<String>) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (plural, kind) in [
        ("clusterroles", "ClusterRole"),
        ("clusterrolebindings", "ClusterRoleBinding"),
        ("roles", "Role"),
        ("rolebindings", "RoleBinding"),
    ] {
        let list = side
            .done(Method::GET, &format!("{RBAC}/{plural}"), &Value::Null)
            .await?;
        for item in list["items"].as_array().into_iter().flatten() {
            let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind});
            let fields = item.as_object().into_iter().flatten();
            for (field, value) in fields.filter(|(_, value)| !value.is_null()) {
                object[field] = value.clone();
            }
            let meta = &item["metadata"];
            object["metadata"] = json!({});
            for field in ["name", "namespace", "labels", "annotations"] {
                if !meta[field].is_null() {
                    object["metadata"][field] = meta[field].clone();
                }
            }
            let name = meta["name"].as_str().unwrap_or_default();
            if !skip.contains(name) {
                lines.push(object.to_string());
            }
        }
    }
    lines.sort();
    Ok(lines)
}

/// The roles and bindings that are there from the start are upstream's: those it
/// serves, those in the file, and those served here.
pub async fn policy(pair: &Pair) -> Result<()> {
    let roles = roles();
    let made = roles
        .iter()
        .map(|(name, _)| *name)
        .chain(BINDINGS.iter().map(|(name, ..)| *name));
    let made: BTreeSet<String> = made
        .map(|name| name.rsplit('/').next().unwrap_or(name).to_owned())
        .collect();
    let upstream = own(&pair.upstream, &made).await?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let text = format!("[\n{}\n]\n", upstream.join(",\n"));
    if std::env::var_os("MIZZEN_BLESS").is_some() {
        std::fs::write(&file, &text)?;
    }
    ensure!(upstream.len() >= 140, "only {} objects", upstream.len());
    ensure!(
        std::fs::read_to_string(&file)? == text,
        "{FILE} is not what upstream has: with MIZZEN_BLESS=1 this test writes it anew"
    );
    let ours = own(&pair.ours, &made).await?;
    ensure!(ours == upstream, "what is served here differs from {FILE}");
    println!("policy: {} objects", ours.len());
    Ok(())
}
