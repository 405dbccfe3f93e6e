//! Users by verbs by resources by scopes: asked as reviews, and as requests.

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _};
use http::Method;
use serde_json::{Value, json};

use super::{Compared, Pair, Side, TOKENS, Told, USERS};

const AUTHORIZATION: &str = "/apis/authorization.k8s.io/v1";
/// Requests under way at once.
const TOGETHER: usize = 16;

const VERBS: &[&str] = &[
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "bind",
];
/// Group, resource, subresource.
const RESOURCES: &[(&str, &str, &str)] = &[
    ("", "pods", ""),
    ("", "pods", "log"),
    ("", "pods", "status"),
    ("", "configmaps", ""),
    ("", "services", ""),
    ("", "nodes", "status"),
    ("apps", "deployments", ""),
    ("apps", "deployments", "scale"),
    ("rbac.authorization.k8s.io", "clusterroles", ""),
    ("no.such.group", "deployments", ""),
];
/// Namespace and name.
const SCOPES: &[(&str, &str)] = &[
    ("", ""),
    ("a", ""),
    ("b", ""),
    ("a", "one"),
    ("", "pod-reader"),
];
const PATHS: &[&str] = &[
    "/",
    "/healthz",
    "/healthz/etcd",
    "/metrics",
    "/debug",
    "/debugger",
    "/version",
    "/api",
    "/apis/apps",
    "/openapi/v3",
    "/nothing",
];

/// User and groups of a token, as its line says.
fn who(token: &str) -> (String, Vec<String>) {
    let Some(line) = TOKENS
        .lines()
        .find(|line| line.split(',').next() == Some(token))
    else {
        return (
            "system:anonymous".to_owned(),
            vec!["system:unauthenticated".to_owned()],
        );
    };
    let mut fields = line.splitn(4, ',').skip(1);
    let user = fields.next().unwrap_or_default().to_owned();
    let groups = fields.nth(1).unwrap_or_default().trim_matches('"');
    let groups = groups.split(',').filter(|group| !group.is_empty());
    let groups = groups.chain(["system:authenticated"]).map(str::to_owned);
    (user, groups.collect())
}

/// What a review says, less the words for which of several bindings allowed it.
fn verdict(told: &Told) -> (u16, Value, Value) {
    let status = &told.body["status"];
    let reason = match status["allowed"] == true {
        true => Value::Null,
        false => sorted(&status["reason"]),
    };
    (told.code, status["allowed"].clone(), reason)
}

/// Several errors, whose order is that of a map in Go.
fn sorted(text: &Value) -> Value {
    let Some(text) = text.as_str() else {
        return text.clone();
    };
    let Some((head, list)) = text
        .split_once(": [")
        .and_then(|(head, list)| Some((head, list.strip_suffix(']')?)))
    else {
        return text.into();
    };
    let mut list: Vec<&str> = list.split(", ").collect();
    list.sort_unstable();
    format!("{head}: {list:?}").into()
}

/// Asks both sides many things at once; gives the answers in the order of the
/// questions.
async fn asked<'a>(
    pair: &'a Pair,
    questions: &'a [(String, String, Method, String, Value)],
) -> Result<Vec<(&'a str, Told, Told)>> {
    let both =
        futures::stream::iter(questions).map(|(name, token, method, path, body)| async move {
            let ask = |side: &'a Side| side.call(token, method.clone(), path, body);
            let (upstream, ours) = futures::try_join!(ask(&pair.upstream), ask(&pair.ours))?;
            anyhow::Ok((name.as_str(), upstream, ours))
        });
    both.buffered(TOGETHER).try_collect().await
}

/// All users, verbs, resources and scopes, by reviews.
pub async fn reviews(pair: &Pair) -> Result<()> {
    let token = mizzen_tests::api_diff::upstream::TOKEN.trim_start_matches("Bearer ");
    let mut questions = Vec::new();
    let mut ask = |user: &str, attributes: Value| {
        let (name, groups) = who(user);
        let mut body = json!({"spec": attributes});
        body["spec"]["user"] = name.into();
        body["spec"]["groups"] = json!(groups);
        questions.push((
            format!("{user:?} {}", body["spec"]),
            token.to_owned(),
            Method::POST,
            format!("{AUTHORIZATION}/subjectaccessreviews"),
            body,
        ));
    };
    for user in USERS {
        for verb in VERBS {
            for (group, resource, sub) in RESOURCES {
                for (namespace, name) in SCOPES {
                    ask(
                        user,
                        json!({"resourceAttributes": {"verb": verb, "group": group, "resource": resource,
                        "subresource": sub, "namespace": namespace, "name": name}}),
                    );
                }
            }
        }
        for path in PATHS {
            for verb in ["get", "post"] {
                ask(
                    user,
                    json!({"nonResourceAttributes": {"verb": verb, "path": path}}),
                );
            }
        }
    }
    let mut compared = Compared::default();
    let mut allowed = 0;
    for (name, upstream, ours) in asked(pair, &questions).await? {
        allowed += usize::from(upstream.body["status"]["allowed"] == true);
        compared.cell(name, &verdict(&upstream), &verdict(&ours));
    }
    println!("reviews: {allowed} allowed");
    compared.hold("reviews", 5_000)
}

/// Requests that change nothing, or nothing that is there.
fn requests_of(user: &str) -> Vec<(Method, &'static str, Value)> {
    let get = |path| (Method::GET, path, Value::Null);
    let mut all: Vec<_> = [
        "/api/v1/pods",
        "/api/v1/namespaces/a/pods",
        "/api/v1/namespaces/a/pods/none",
        "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Done",
        "/api/v1/namespaces/a/configmaps?fieldSelector=metadata.name%3Done",
        "/api/v1/namespaces/a/configmaps/two",
        "/api/v1/namespaces/a/configmaps/three",
        "/api/v1/namespaces/b/services",
        "/api/v1/namespaces",
        "/api/v1/namespaces/a",
        "/api/v1/nodes",
        "/api/v1/nodes/none/status",
        "/apis/apps/v1/deployments",
        "/apis/apps/v1/namespaces/a/deployments",
        "/apis/apps/v1/namespaces/a/deployments/none/scale",
        "/apis/apps/v1/namespaces/b/deployments",
        "/apis/no.such.group/v1/things",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/none",
        "/api",
        "/apis",
        "/apis/apps",
        "/api/v1",
        "/version",
        "/healthz",
        "/livez",
        "/readyz",
        "/openapi/v3",
        "/metrics",
        "/",
        "/nothing",
        "/a%20%3Cb%3E",
        "/debug",
    ]
    .map(get)
    .into();
    all.push((
        Method::DELETE,
        "/api/v1/namespaces/a/pods/none",
        Value::Null,
    ));
    all.push((Method::DELETE, "/api/v1/namespaces/a/secrets", Value::Null));
    all.push((
        Method::DELETE,
        "/apis/apps/v1/namespaces/a/deployments",
        Value::Null,
    ));
    let patch = json!({"metadata": {"labels": {"a": "b"}}});
    for path in [
        "/api/v1/namespaces/a/pods/none",
        "/api/v1/namespaces/a/pods/none/status",
        "/api/v1/namespaces/b/configmaps/none",
        "/apis/apps/v1/namespaces/a/deployments/none/scale",
    ] {
        all.push((Method::PATCH, path, patch.clone()));
    }
    let map = json!({"metadata": {"name": format!("of-{user}")}});
    for path in [
        "/api/v1/namespaces/a/configmaps",
        "/api/v1/namespaces/b/configmaps",
        "/api/v1/namespaces/a/secrets",
    ] {
        all.push((Method::POST, path, map.clone()));
    }
    all.push((Method::POST, "/healthz", Value::Null));
    all
}

/// What is compared of a request: all of a refusal, the code of the rest.
fn refusal(told: &Told) -> (u16, Value) {
    match told.code {
        401 | 403 => (told.code, told.body.clone()),
        code => (code, Value::Null),
    }
}

/// Requests by all users.
pub async fn requests(pair: &Pair) -> Result<()> {
    let mut questions = Vec::new();
    for user in USERS.iter().chain(&["no-such-token"]) {
        for (method, path, body) in requests_of(user) {
            let name = format!("{user:?} {method} {path}");
            questions.push((name, (*user).to_owned(), method, path.to_owned(), body));
        }
    }
    let mut compared = Compared::default();
    for (name, upstream, ours) in asked(pair, &questions).await? {
        let (upstream, ours) = (refusal(&upstream), refusal(&ours));
        let words = |(code, body): &(u16, Value)| {
            let mut body = body.clone();
            body["message"] = sorted(&body["message"]);
            (*code, body)
        };
        compared.cell(name, &words(&upstream), &words(&ours));
    }
    compared.hold("requests", 500)
}

/// Questions about oneself, and those that are not well put.
pub async fn questions(pair: &Pair) -> Result<()> {
    let access = json!({"verb": "get", "resource": "pods"});
    let path = json!({"verb": "get", "path": "/x"});
    let selected = json!({"verb": "get", "resource": "pods", "fieldSelector": {}});
    let mut all = Vec::new();
    let mut ask = |user: &str, path: String, body: Value| {
        all.push((
            format!("{user:?} {path} {body}"),
            user.to_owned(),
            Method::POST,
            path,
            body,
        ));
    };
    let bodies = [
        json!({"spec": {}}),
        json!({"spec": {"resourceAttributes": access, "nonResourceAttributes": path}}),
        json!({"spec": {"resourceAttributes": access}}),
        json!({"spec": {"nonResourceAttributes": path}}),
        json!({"spec": {"resourceAttributes": selected}}),
        json!({"spec": {"resourceAttributes": access, "user": "alice"}}),
        json!({"spec": {"resourceAttributes": access, "groups": ["devs"]}}),
        json!({"spec": {"nonResourceAttributes": path, "user": "alice"}}),
    ];
    let admin = mizzen_tests::api_diff::upstream::TOKEN.trim_start_matches("Bearer ");
    for body in bodies {
        for user in ["alice", admin] {
            ask(
                user,
                format!("{AUTHORIZATION}/selfsubjectaccessreviews"),
                body.clone(),
            );
        }
        ask(
            admin,
            format!("{AUTHORIZATION}/subjectaccessreviews"),
            body.clone(),
        );
        ask(
            admin,
            format!("{AUTHORIZATION}/namespaces/a/localsubjectaccessreviews"),
            body.clone(),
        );
    }
    for user in USERS {
        let review = "/apis/authentication.k8s.io/v1/selfsubjectreviews".to_owned();
        ask(user, review, json!({}));
        for namespace in ["", "a", "b"] {
            let rules = format!("{AUTHORIZATION}/selfsubjectrulesreviews");
            ask(user, rules, json!({"spec": {"namespace": namespace}}));
        }
    }
    let mut compared = Compared::default();
    for (name, upstream, ours) in asked(pair, &all).await? {
        compared.cell(name, &plain(upstream), &plain(ours));
    }
    compared.hold("questions", 60)
}

/// An answer without what is managed or of the moment, its lists in order.
fn plain(mut told: Told) -> Told {
    let meta = told.body.pointer_mut("/metadata");
    if let Some(meta) = meta.and_then(Value::as_object_mut) {
        meta.remove("managedFields");
        meta.remove("creationTimestamp");
    }
    for list in ["resourceRules", "nonResourceRules"] {
        let list = told.body.pointer_mut(&format!("/status/{list}"));
        if let Some(list) = list.and_then(Value::as_array_mut) {
            list.sort_by_key(Value::to_string);
        }
    }
    if let Some(error) = told.body.pointer_mut("/status/evaluationError") {
        *error = sorted(&json!(format!("e: {}", error.as_str().unwrap_or(""))));
    }
    told
}
