//! Attempts to give what one does not have.

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use super::{Compared, Pair, USERS};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn role(name: &str, rules: Value) -> Value {
    json!({"metadata": {"name": name}, "rules": rules})
}

fn binding(name: &str, kind: &str, role: &str) -> Value {
    let group = "rbac.authorization.k8s.io";
    json!({"metadata": {"name": name},
        "subjects": [{"kind": "User", "name": "mallory", "apiGroup": group}],
        "roleRef": {"apiGroup": group, "kind": kind, "name": role}})
}

/// What is written, by path; each name is the writer's own.
fn writes(user: &str) -> Vec<(Method, String, Value)> {
    let name = |what: &str| format!("{what}-{user}");
    let pods = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]});
    let log = json!({"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]});
    let secrets = json!({"apiGroups": ["", "apps"], "resources": ["secrets", "pods"], "verbs": ["delete", "get"]});
    let all = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]});
    let paths = json!({"nonResourceURLs": ["/metrics", "/other"], "verbs": ["get"]});
    let one = json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one", "three"], "verbs": ["get"]});
    let (roles, cluster) = (
        format!("{RBAC}/namespaces/a/roles"),
        format!("{RBAC}/clusterroles"),
    );
    let bindings = format!("{RBAC}/namespaces/a/rolebindings");
    let cluster_bindings = format!("{RBAC}/clusterrolebindings");
    let mut writes = Vec::new();
    let mut post = |path: &str, body: Value| writes.push((Method::POST, path.to_owned(), body));
    for (what, rules) in [
        ("pods", json!([pods])),
        ("log", json!([pods, log])),
        ("secrets", json!([pods, secrets])),
        ("all", json!([all])),
        ("one", json!([one])),
        ("none", json!([])),
    ] {
        post(&roles, role(&name(what), rules.clone()));
        post(&cluster, role(&name(what), rules));
    }
    post(&cluster, role(&name("paths"), json!([paths])));
    // Refused for what it gives before it is refused for what it is.
    post(
        &roles,
        role(
            &name("wrong"),
            json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}, paths]),
        ),
    );
    let mut gathering = role(&name("gathering"), json!([]));
    gathering["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
    post(&cluster, gathering);
    for (what, kind, of) in [
        ("reader", "ClusterRole", "pod-reader"),
        ("everything", "ClusterRole", "everything-there"),
        ("admin", "ClusterRole", "cluster-admin"),
        ("apps", "ClusterRole", "apps"),
        ("gone", "ClusterRole", "no-such-role"),
    ] {
        post(&bindings, binding(&name(what), kind, of));
        post(&cluster_bindings, binding(&name(what), kind, of));
    }
    post(&bindings, binding(&name("writer"), "Role", "writer"));
    post(&bindings, binding(&name("absent"), "Role", "absent"));
    let more = json!({"rules": [all]});
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let finalizer = json!({"metadata": {"finalizers": ["example.com/x"]}});
    let clear = json!({"metadata": {"finalizers": null}});
    for (path, body) in [
        (format!("{cluster}/pod-reader"), &more),
        (format!("{cluster}/everything-there"), &label),
        (format!("{cluster}/everything-there"), &finalizer),
        (format!("{cluster}/everything-there"), &clear),
        (format!("{roles}/writer"), &label),
        (format!("{roles}/none"), &label),
        (format!("{cluster_bindings}/pod-readers"), &label),
        (format!("{RBAC}/namespaces/b/rolebindings/all"), &label),
    ] {
        writes.push((Method::PATCH, path, body.clone()));
    }
    let put = |path: String, body: Value| (Method::PUT, path, body);
    let (wide, every) = (name("wide"), name("every"));
    writes.push(put(format!("{cluster}/{wide}"), role(&wide, json!([all]))));
    writes.push(put(
        format!("{bindings}/{every}"),
        binding(&every, "ClusterRole", "everything-there"),
    ));
    writes
}

/// All users try all of it, one after the other, as what one made is there for
/// the next.
pub async fn attempts(pair: &Pair) -> Result<()> {
    let mut compared = Compared::default();
    for user in USERS {
        for (method, path, body) in writes(user) {
            let ask = |side: &super::Side| {
                let (side, path, body, method) =
                    (side.clone(), path.clone(), body.clone(), method.clone());
                async move { side.call(user, method, &path, &body).await }
            };
            let (upstream, ours) = futures::try_join!(ask(&pair.upstream), ask(&pair.ours))?;
            let told = |told: super::Told| match told.code {
                200 | 201 => (told.code, Value::Null),
                code => (code, told.body),
            };
            compared.cell(
                &format!("{user:?} {method} {path} {body}"),
                &told(upstream),
                &told(ours),
            );
        }
    }
    compared.hold("escalation", 400)
}
