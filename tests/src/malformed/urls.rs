//! Paths, methods, queries and headers; subresources and deletions.

use http::Method;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::{Value, json};

use super::bodies::scrambled;
use super::{Case, NAMESPACE, Object};

/// A body of 3 MiB and a bit is sent so rarely, for it takes its time.
const LARGE: f64 = 0.002;

pub fn case(rng: &mut StdRng, object: &Object, number: u64) -> Case {
    if rng.random_bool(LARGE) {
        let body = vec![b' '; (3 << 20) + 1];
        return Case::new("a body that is too large", Method::POST, &object.collection)
            .body("application/json", body);
    }
    match rng.random_range(0..10) {
        0 | 1 => path(rng, object),
        2 => method(rng, object),
        3..6 => query(rng, object),
        6 => headers(rng, object),
        7 => subresource(rng),
        8 => place(rng, object, number),
        _ => deletion(rng, object),
    }
}

fn word(rng: &mut StdRng) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@";
    (0..rng.random_range(1..40))
        .map(|_| char::from(*LETTERS.choose(rng).expect("letters")))
        .chain("zz".chars())
        .collect()
}

fn path(rng: &mut StdRng, object: &Object) -> Case {
    let methods = [
        Method::GET,
        Method::PUT,
        Method::POST,
        Method::PATCH,
        Method::DELETE,
    ];
    let method = methods.choose(rng).expect("a method").clone();
    let word = word(rng);
    let there = object.path();
    let paths = [
        format!("/{word}"),
        format!("/api/{word}/pods"),
        format!("/apis/{word}/v1/deployments"),
        format!("/apis/apps/{word}/deployments"),
        format!("/api/v1/namespaces/{NAMESPACE}/{word}"),
        format!("/api/v1/namespaces/{NAMESPACE}/{word}/there"),
        format!("{there}/{word}"),
        format!("{there}/status/{word}"),
        format!("{}/%2f{word}", object.collection),
        format!("{}/a%2fb", object.collection),
        format!("{}/%zz", object.collection),
        format!("{}/%ff%fe", object.collection),
        format!("{}/%", object.collection),
        format!("{there}%00"),
        format!("{}/..", object.collection),
        format!("{}//there/there", object.collection),
        format!("{}/{}", object.collection, "x".repeat(4_000)),
        format!("/openapi/v3/{word}"),
        format!("/api/v1/watch/{word}"),
    ];
    let path = paths.choose(rng).expect("a path");
    Case::new("a path that names nothing", method, path).json(&object.sent)
}

fn method(rng: &mut StdRng, object: &Object) -> Case {
    let there = object.path();
    let (method, path) = match rng.random_range(0..6) {
        0 => (Method::PUT, object.collection.clone()),
        1 => (Method::PATCH, object.collection.clone()),
        2 => (Method::POST, there),
        3 => (Method::from_bytes(b"FLY").expect("a token"), there),
        4 => (Method::POST, "/version".to_owned()),
        _ => (Method::DELETE, "/apis".to_owned()),
    };
    Case::new("a method that the path has not", method, path).json(&object.sent)
}

fn query(rng: &mut StdRng, object: &Object) -> Case {
    let read = [
        "limit=x",
        "limit=9999999999999999999999",
        "resourceVersion=x",
        "resourceVersion=-1",
        "resourceVersion=1&resourceVersionMatch=Bad",
        "resourceVersionMatch=Exact",
        "resourceVersion=0&resourceVersionMatch=Exact",
        "labelSelector=a+in+(",
        "labelSelector=a+in",
        "labelSelector=!!a",
        "labelSelector=a%3D%3D%3Db",
        "labelSelector=a%20b%3Dc",
        "labelSelector=%3Db",
        "labelSelector=a%3Db%20c",
        "fieldSelector=nothing%3Da",
        "fieldSelector=metadata.name",
        "fieldSelector=%3D",
        "fieldSelector=metadata.name%3Da%5C",
        "continue=x",
        "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIvLi4ifQ",
        "continue=%00",
        "watch=1&sendInitialEvents=true",
        "watch=1&sendInitialEvents=true&resourceVersionMatch=Exact&resourceVersion=1",
        "watch=1&resourceVersionMatch=NotOlderThan",
        "watch=1&timeoutSeconds=x",
        "watch=1&labelSelector=a+in+(",
        "watch=1&resourceVersion=x",
        "labelSelector=%zz",
        "%ff=1",
    ];
    let write = [
        "fieldValidation=Bad",
        "dryRun=Bad",
        "dryRun=All&dryRun=Some",
        "dryRun=true",
    ];
    let delete = [
        "propagationPolicy=Bad",
        "gracePeriodSeconds=x",
        "dryRun=Bad",
        "gracePeriodSeconds=9999999999999999999999",
    ];
    let what = "a query that is malformed";
    let at = |path: &str, query: &str| format!("{path}?{query}");
    match rng.random_range(0..5) {
        0 => {
            let mut value = object.sent.clone();
            value["metadata"]["name"] = "fresh".into();
            let path = at(&object.collection, write.choose(rng).expect("some"));
            Case::new(what, Method::POST, path).json(&value)
        }
        1 => {
            let path = at(&object.path(), delete.choose(rng).expect("some"));
            Case::new(what, Method::DELETE, path)
        }
        _ => {
            let path = at(&object.collection, read.choose(rng).expect("some"));
            Case::new(what, Method::GET, path)
        }
    }
}

fn headers(rng: &mut StdRng, object: &Object) -> Case {
    let bad: [&[u8]; 6] = [
        b"text/html",
        b"image/png",
        b"application/xml;q=0.5",
        b"\xff\xfe/\x80",
        b"application/json;as=Nothing;g=meta.k8s.io;v=v1",
        b"application",
    ];
    let value = bad.choose(rng).expect("some");
    if rng.random_bool(0.5) {
        let path = if rng.random_bool(0.5) {
            object.path()
        } else {
            object.collection.clone()
        };
        // A header that is no text counts as none, which takes anything.
        let value = if value.is_ascii() {
            *value
        } else {
            b"text/html"
        };
        return Case::new("a form that cannot be had", Method::GET, path).header("accept", value);
    }
    let media = [
        "text/plain",
        "application/xml",
        "application/jso",
        "/",
        "application/octet-stream",
    ];
    let media = media.choose(rng).expect("some");
    Case::new("a body of an unknown type", Method::PUT, object.path())
        .body(media, object.json.to_string())
}

fn subresource(rng: &mut StdRng) -> Case {
    let what = "a subresource that is malformed";
    let at = |path: &str| format!("/api/v1/namespaces/{NAMESPACE}/{path}");
    let scale = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/there/scale");
    let of = |kind: &str, api: &str, rest: Value| {
        let mut value = json!({"kind": kind, "apiVersion": api, "metadata": {"name": "there", "namespace": NAMESPACE}});
        if let (Value::Object(all), Value::Object(rest)) = (&mut value, rest) {
            all.extend(rest);
        }
        value
    };
    let token = |spec: Value| {
        of(
            "TokenRequest",
            "authentication.k8s.io/v1",
            json!({"spec": spec}),
        )
    };
    let token_path = at("serviceaccounts/there/token");
    let cases = [
        (
            Method::PUT,
            scale.clone(),
            of("Scale", "autoscaling/v1", json!({"spec": {"replicas": -1}})),
        ),
        (
            Method::PUT,
            scale.clone(),
            of(
                "Scale",
                "autoscaling/v1",
                json!({"spec": {"replicas": "x"}}),
            ),
        ),
        (
            Method::PUT,
            scale.clone(),
            of("Other", "autoscaling/v1", json!({"spec": {"replicas": 1}})),
        ),
        (Method::PUT, scale.clone(), json!({})),
        (
            Method::POST,
            scale,
            of("Scale", "autoscaling/v1", json!({})),
        ),
        (
            Method::POST,
            at("pods/there/binding"),
            of("Binding", "v1", json!({})),
        ),
        (
            Method::POST,
            at("pods/there/binding"),
            of(
                "Binding",
                "v1",
                json!({"target": {"kind": "Pod", "name": "n"}}),
            ),
        ),
        (
            Method::POST,
            at("pods/nobody/binding"),
            of(
                "Binding",
                "v1",
                json!({"target": {"kind": "Node", "name": "n"}}),
            ),
        ),
        (
            Method::POST,
            at("pods/there/binding"),
            of(
                "Other",
                "v1",
                json!({"target": {"kind": "Node", "name": "n"}}),
            ),
        ),
        (
            Method::POST,
            at("pods/nobody/eviction"),
            of("Eviction", "policy/v1", json!({})),
        ),
        (
            Method::POST,
            at("pods/there/eviction"),
            of("Other", "policy/v1", json!({})),
        ),
        (
            Method::POST,
            at("pods/there/eviction"),
            of("Eviction", "policy/v1", json!({"deleteOptions": 5})),
        ),
        (
            Method::POST,
            at("pods/there/eviction"),
            of(
                "Eviction",
                "policy/v1",
                json!({"deleteOptions": {"preconditions": {"uid": "other"}}}),
            ),
        ),
        (
            Method::PUT,
            at("pods/nobody/status"),
            of("Pod", "v1", json!({})),
        ),
        (
            Method::PUT,
            at("pods/there/status"),
            of("Pod", "v1", json!({"status": {"phase": {}}})),
        ),
        (
            Method::POST,
            token_path.clone(),
            token(json!({"expirationSeconds": 5})),
        ),
        (
            Method::POST,
            token_path.clone(),
            token(json!({"expirationSeconds": 1_i64 << 40})),
        ),
        (
            Method::POST,
            token_path.clone(),
            token(json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "nobody"}})),
        ),
        (
            Method::POST,
            token_path.clone(),
            token(json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "../x"}})),
        ),
        (
            Method::POST,
            token_path.clone(),
            token(json!({"boundObjectRef": {"kind": "Role", "apiVersion": "v1", "name": "there"}})),
        ),
        (
            Method::POST,
            token_path.clone(),
            token(json!({"audiences": "x"})),
        ),
        (
            Method::POST,
            at("serviceaccounts/nobody/token"),
            token(json!({})),
        ),
        (Method::GET, token_path, Value::Null),
        (
            Method::PUT,
            format!("/api/v1/namespaces/{NAMESPACE}/finalize"),
            json!({"kind": "Pod", "apiVersion": "v1"}),
        ),
        (
            Method::POST,
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned(),
            json!({"kind": "Other"}),
        ),
        (
            Method::POST,
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned(),
            json!([]),
        ),
    ];
    let (method, path, body) = cases.choose(rng).expect("some").clone();
    Case::new(what, method, path).json(&body)
}

/// Writes to where they cannot go.
fn place(rng: &mut StdRng, object: &Object, number: u64) -> Case {
    let mut fresh = object.sent.clone();
    fresh["metadata"]["name"] = format!("fresh-{number}").into();
    match rng.random_range(0..4) {
        0 => {
            Case::new("what is there already", Method::POST, &object.collection).json(&object.sent)
        }
        1 if object.namespaced() => {
            let path = object.collection.replace(NAMESPACE, "nowhere");
            Case::new("a namespace that is not there", Method::POST, path).json(&fresh)
        }
        2 => {
            let path = format!("{}/nobody", object.collection);
            Case::new("a name that is not the path's", Method::PUT, path).json(&fresh)
        }
        _ => {
            let path = format!("{}/nobody", object.collection);
            Case::new("what is not there", Method::PATCH, path)
                .body("application/merge-patch+json", "{}")
        }
    }
}

fn deletion(rng: &mut StdRng, object: &Object) -> Case {
    let delete = |what| Case::new(what, Method::DELETE, object.path());
    let options = |rest: Value| {
        let mut value = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let (Value::Object(all), Value::Object(rest)) = (&mut value, rest) {
            all.extend(rest);
        }
        value
    };
    let bodies = [
        options(json!({"preconditions": {"uid": "other"}})),
        options(json!({"preconditions": {"resourceVersion": "1"}})),
        options(json!({"preconditions": {"resourceVersion": "x"}})),
        options(json!({"preconditions": 5})),
        options(json!({"propagationPolicy": "Bad"})),
        options(json!({"propagationPolicy": {}})),
        options(json!({"gracePeriodSeconds": "x"})),
        options(json!({"dryRun": 5})),
        json!([]),
        json!("text"),
    ];
    let body = bodies.choose(rng).expect("some");
    match rng.random_range(0..4) {
        0 => {
            let text = body.to_string();
            let at = rng.random_range(1..text.len());
            delete("options of a deletion cut short")
                .body("application/json", text[..at].to_owned())
        }
        1 => Case::new(
            "what is not there",
            Method::DELETE,
            format!("{}/nobody", object.collection),
        ),
        // Of nothing: options of a body are all there are, so that a dry run that
        // the query asks for would not be one.
        2 => Case::new(
            "options of a deletion with other bytes",
            Method::DELETE,
            format!("{}/nobody", object.collection),
        )
        .body(
            "application/json",
            scrambled(rng, body.to_string().as_bytes()),
        )
        .by_chance(),
        _ => delete("options of a deletion that are not allowed").json(body),
    }
}
