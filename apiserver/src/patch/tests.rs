use serde_json::json;

use super::*;
use crate::schema::schema;

fn apply(media: &str, to: &Value, patch: &Value, message: &str) -> Result<Value, PatchError> {
    let id = schema().find(message).expect("a message");
    let patch = Patch::read(
        &format!("application/{media}+json"),
        patch.to_string().as_bytes(),
    )
    .expect("a patch's type")?;
    patch.apply(to.as_object().expect("an object").clone(), id)
}

fn strategic(to: Value, patch: Value) -> Value {
    apply(
        "strategic-merge-patch",
        &to,
        &patch,
        "io.k8s.api.core.v1.Pod",
    )
    .expect("it applies")
}

#[test]
fn merge_patches() {
    let to = json!({"a": {"b": 1, "c": [1]}, "d": 2});
    let patch = json!({"a": {"b": null, "c": [2], "e": {"f": null}}, "g": "h"});
    assert_eq!(
        apply("merge-patch", &to, &patch, "io.k8s.api.core.v1.Pod"),
        Ok(json!({"a": {"c": [2], "e": {}}, "d": 2, "g": "h"}))
    );
}

#[test]
fn json_patches() {
    let to = json!({"a": [1, 2], "b/c": {"~": 1}});
    for (patch, expected) in [
        (
            json!([{"op": "add", "path": "/a/-", "value": 3}]),
            Some(json!({"a": [1, 2, 3], "b/c": {"~": 1}})),
        ),
        (
            json!([{"op": "add", "path": "/a/0", "value": 3}]),
            Some(json!({"a": [3, 1, 2], "b/c": {"~": 1}})),
        ),
        (
            json!([{"op": "replace", "path": "/b~1c/~0", "value": null}]),
            Some(json!({"a": [1, 2], "b/c": {"~": null}})),
        ),
        (
            json!([{"op": "remove", "path": "/a/1"}, {"op": "test", "path": "/a", "value": [1]}]),
            Some(json!({"a": [1], "b/c": {"~": 1}})),
        ),
        (
            json!([{"op": "move", "from": "/a", "path": "/z"}]),
            Some(json!({"z": [1, 2], "b/c": {"~": 1}})),
        ),
        (
            json!([{"op": "copy", "from": "/a/0", "path": "/z"}]),
            Some(json!({"a": [1, 2], "b/c": {"~": 1}, "z": 1})),
        ),
        (json!([{"op": "test", "path": "/a/0", "value": 2}]), None),
        (json!([{"op": "remove", "path": "/x"}]), None),
        (json!([{"op": "add", "path": "/a/5", "value": 1}]), None),
        (json!([{"op": "add", "path": "/a/01", "value": 1}]), None),
        (
            json!([{"op": "move", "from": "/b~1c", "path": "/b~1c/x"}]),
            None,
        ),
        (json!([{"op": "fly", "path": "/x"}]), None),
        (json!([{"op": "remove", "path": ""}]), None),
        (json!({}), None),
    ] {
        assert_eq!(
            apply("json-patch", &to, &patch, "io.k8s.api.core.v1.Pod").ok(),
            expected,
            "{patch}"
        );
    }
}

#[test]
fn copies_cannot_multiply_an_object() {
    let mut operations = vec![json!({"op": "add", "path": "/a", "value": ["x".repeat(1_000)]})];
    for _ in 0..30 {
        operations.push(json!({"op": "copy", "from": "/a", "path": "/a/-"}));
    }
    let result = apply(
        "json-patch",
        &json!({}),
        &Value::Array(operations),
        "io.k8s.api.core.v1.Pod",
    );
    assert!(result.is_err());
}

#[test]
fn lists_are_merged_by_their_keys() {
    let pod = json!({"spec": {"containers": [
        {"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}], "args": ["p"]}, {"name": "b"}]}});
    let patched = strategic(
        pod,
        json!({"spec": {"containers": [
            {"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}], "args": ["q"]},
            {"name": "b", "$patch": "delete"}, {"name": "c", "image": "3"}]}}),
    );
    assert_eq!(
        patched,
        json!({"spec": {"containers": [
            {"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}], "args": ["q"]},
            {"name": "c", "image": "3"}]}})
    );
}

#[test]
fn directives() {
    let pod = json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1"}}});
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"],
        "$setElementOrder/finalizers": ["c", "b"], "labels": {"$patch": "replace", "y": "2"}}});
    assert_eq!(
        strategic(pod, patch),
        json!({"metadata": {"finalizers": ["c", "b"], "labels": {"y": "2"}}})
    );
    let pod = json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}});
    let patch = json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}});
    assert_eq!(
        strategic(pod, patch),
        json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}})
    );
    let pod = json!({"spec": {"containers": [{"name": "a"}]}});
    let patch = json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}});
    assert_eq!(
        strategic(pod, patch),
        json!({"spec": {"containers": [{"name": "z"}]}})
    );
}

#[test]
fn the_order_of_a_patch_leaves_others_where_they_were() {
    let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "other"}, {"name": "b"}]}});
    let patch = json!({"spec": {"$setElementOrder/containers": [{"name": "new"}, {"name": "b"}, {"name": "a"}],
        "containers": [{"name": "new"}]}});
    let patched = strategic(pod, patch);
    let names: Vec<_> = patched["spec"]["containers"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["new", "other", "b", "a"]);
}

fn of_pod(patch: &Value) -> Result<Value, PatchError> {
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
    apply(
        "strategic-merge-patch",
        &pod,
        patch,
        "io.k8s.api.core.v1.Pod",
    )
}

#[test]
fn a_directive_about_what_is_not_there_does_nothing() {
    let deployment = json!({"spec": {"strategy": {"type": "Recreate"}}});
    for patch in [
        json!({"spec": {"strategy": {"rollingUpdate": {"$patch": "delete"}}}}),
        json!({"spec": {"template": {"$patch": "delete"}}}),
    ] {
        let patched = apply(
            "strategic-merge-patch",
            &deployment,
            &patch,
            "io.k8s.api.apps.v1.Deployment",
        );
        assert_eq!(patched, Ok(deployment.clone()), "{patch}");
    }
}

#[test]
fn malformed_patches_are_refused() {
    for patch in [
        json!([]),
        json!(3),
        json!({"metadata": {"$retainKeys": 1}}),
        json!({"metadata": {"$retainKeys": ["name"], "labels": {}}}),
        json!({"metadata": {"\0": "AAAA"}}),
    ] {
        let result = of_pod(&patch);
        assert!(
            matches!(result, Err(PatchError::Malformed(_))),
            "{patch}: {result:?}"
        );
    }
    for (patch, text) in [
        (
            json!({"$patch": "fly"}),
            "unknown patch type: fly in map: map[$patch:fly]",
        ),
        (
            json!({"spec": {"containers": [{"image": "x"}]}}),
            "map: map[image:x] does not contain declared merge key: name",
        ),
        (
            json!({"spec": {"containers": [{"$patch": "delete"}]}}),
            "map: map[$patch:delete] does not contain declared merge key: name",
        ),
        (
            json!({"spec": {"$setElementOrder/containers": [{"name": "c"}], "containers": [{"name": "d"}]}}),
            "The order in patch list:\n[map[name:d]]\n doesn't match $setElementOrder list:\n[map[name:c]]\n",
        ),
    ] {
        assert_eq!(of_pod(&patch), Err(PatchError::Plain(text.to_owned())));
    }
    assert!(Patch::read("application/json", b"{}").is_none());
}
