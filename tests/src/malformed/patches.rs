//! Patches of an object that is there.

use http::Method;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::{Value, json};

use super::bodies::scrambled;
use super::{Case, Object};

const OPERATIONS: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

pub fn case(rng: &mut StdRng, object: &Object) -> Case {
    let patch = |what| Case::new(what, Method::PATCH, object.path());
    match rng.random_range(0..10) {
        0..3 => {
            let all = operations();
            let body = all.choose(rng).expect("there are some");
            patch("operations that do not fit").body(OPERATIONS, body.to_string())
        }
        3..5 => {
            let all = merges(object);
            let body = all.choose(rng).expect("there are some");
            patch("a merge that is not allowed").body(MERGE, body.to_string())
        }
        5..7 => {
            let mut all = merges(object);
            all.extend(directives());
            let body = all.choose(rng).expect("there are some");
            patch("a strategic merge that is not allowed").body(STRATEGIC, body.to_string())
        }
        7 => {
            let (media, body) = well_formed(rng);
            let at = rng.random_range(0..body.len());
            patch("a patch cut short").body(media, body.into_bytes()[..at].to_vec())
        }
        8 => {
            let (_, body) = well_formed(rng);
            let media = [
                "application/json",
                "text/plain",
                "application/apply-patch",
                "application/json-patch",
                ";",
                "application/merge-patch+json+json",
            ];
            patch("a patch of an unknown type").body(media.choose(rng).expect("a type"), body)
        }
        _ => {
            let (media, body) = well_formed(rng);
            patch("a patch with other bytes")
                .body(media, scrambled(rng, body.as_bytes()))
                .by_chance()
        }
    }
}

fn well_formed(rng: &mut StdRng) -> (&'static str, String) {
    let merge = json!({"metadata": {"labels": {"a": "b"}}}).to_string();
    let operations = json!([{"op": "add", "path": "/metadata/labels/a", "value": "b"}]).to_string();
    let all = [
        (OPERATIONS, operations),
        (MERGE, merge.clone()),
        (STRATEGIC, merge),
    ];
    all.choose(rng).expect("three of them").clone()
}

fn operations() -> Vec<Value> {
    let many = vec![json!({"op": "test", "path": "/kind", "value": "x"}); 10_001];
    vec![
        json!([{"op": "remove", "path": "/nothing"}]),
        json!([{"op": "replace", "path": "/nothing/there", "value": 1}]),
        json!([{"op": "test", "path": "/metadata/name", "value": "other"}]),
        json!([{"op": "copy", "from": "/nothing", "path": "/metadata/labels/a"}]),
        json!([{"op": "move", "from": "/nothing", "path": "/metadata/labels/a"}]),
        json!([{"op": "fly", "path": "/metadata/labels/a", "value": "b"}]),
        json!([{"op": "", "path": "/metadata"}]),
        json!([{"path": "/metadata/labels/a", "value": "b"}]),
        json!([{"op": "add", "value": 1}]),
        json!([{"op": "replace", "path": "/metadata/name", "value": "other"}]),
        json!([{"op": "replace", "path": "/kind", "value": "Other"}]),
        json!([{"op": "replace", "path": "/apiVersion", "value": "v9"}]),
        json!([{"op": "add", "path": "/metadata/labels", "value": 5}]),
        json!([{"op": "add", "path": "/metadata/labels/a", "value": {"b": "c"}}]),
        json!([{"op": "add", "path": "metadata/labels/a", "value": "b"}]),
        json!([{"op": "add", "path": "/a/b/c", "value": 1}]),
        json!([{"op": "add", "path": "/metadata/finalizers/7", "value": "a/b"}]),
        json!([{"op": "add", "path": "/metadata/labels/a~2", "value": {}}]),
        json!([{"op": "replace", "path": "", "value": {}}]),
        json!([{"op": "replace", "path": "", "value": 5}]),
        json!([{"op": "remove", "path": "/metadata"}]),
        json!([{"op": "add", "path": "/metadata/resourceVersion", "value": "1"}]),
        json!([{"op": "replace", "path": "/metadata/uid", "value": "other"}]),
        json!({"op": "add", "path": "/metadata/labels/a", "value": "b"}),
        json!("text"),
        json!(5),
        json!([5]),
        json!([[]]),
        Value::Array(many),
    ]
}

fn merges(object: &Object) -> Vec<Value> {
    let mut all = vec![
        json!("text"),
        json!(5),
        json!([]),
        json!({"metadata": {"name": "other"}}),
        json!({"metadata": {"uid": "other"}}),
        json!({"metadata": {"resourceVersion": "1"}}),
        json!({"metadata": {"resourceVersion": "x"}}),
        json!({"metadata": 5}),
        json!({"metadata": {"labels": {"a b": "c"}}}),
        json!({"metadata": {"labels": {"a": "b c"}}}),
        json!({"metadata": {"labels": {"a": {"b": "c"}}}}),
        json!({"metadata": {"labels": 5}}),
        json!({"metadata": {"annotations": {"a b": "c"}}}),
        json!({"metadata": {"finalizers": {"a": 1}}}),
        json!({"metadata": {"finalizers": ["a b"]}}),
        json!({"metadata": {"ownerReferences": [{"uid": "u"}]}}),
        json!({"kind": "Other"}),
        json!({"apiVersion": "v9"}),
    ];
    if object.namespaced() {
        all.push(json!({"metadata": {"namespace": "other"}}));
    }
    all
}

fn directives() -> Vec<Value> {
    vec![
        json!({"$patch": "bad"}),
        json!({"$patch": 5}),
        json!({"metadata": {"$patch": "bad"}}),
        json!({"metadata": {"ownerReferences": [{"name": "without its key"}]}}),
        json!({"metadata": {"ownerReferences": [5]}}),
        json!({"metadata": {"$setElementOrder/finalizers": 5}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": 5}}),
    ]
}
