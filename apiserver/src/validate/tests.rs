use serde_json::json;

use super::*;
use crate::{
    codec::json::{self, Source},
    defaults,
};

fn object(group: &str, plural: &str, value: &Value) -> (std::sync::Arc<Resource>, Json) {
    let resource = crate::kinds::built_in().own(group, "v1", plural).clone();
    let mut value = json::decode(
        value.to_string().as_bytes(),
        resource.message,
        Source::Client,
    )
    .expect("it decodes")
    .value;
    defaults::apply(&resource, &mut value);
    (resource, value)
}

fn fields(errors: &Errors) -> Vec<&str> {
    errors.iter().map(|error| error.field.as_str()).collect()
}

fn created(group: &str, plural: &str, value: &Value) -> Vec<String> {
    let (resource, value) = object(group, plural, value);
    fields(&create(&resource, &value))
        .into_iter()
        .map(str::to_owned)
        .collect()
}

#[test]
fn what_is_right_passes() {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i",
        "volumeMounts": [{"name": "v", "mountPath": "/v"}]}], "volumes": [{"name": "v"}]}});
    for (group, plural, value) in [
        (
            "",
            "pods",
            json!({"metadata": {"name": "p"}, "spec": template["spec"]}),
        ),
        (
            "",
            "configmaps",
            json!({"metadata": {"name": "a.b"}, "data": {"k_1": "v"}}),
        ),
        (
            "",
            "services",
            json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}),
        ),
        (
            "apps",
            "deployments",
            json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}),
        ),
        (
            "batch",
            "jobs",
            json!({"metadata": {"name": "j"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}),
        ),
        (
            "rbac.authorization.k8s.io",
            "clusterroles",
            json!({"metadata": {"name": "system:x"}}),
        ),
    ] {
        assert_eq!(
            created(group, plural, &value),
            Vec::<String>::new(),
            "{plural}"
        );
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (group, plural, value, expected) in [
        (
            "",
            "pods",
            json!({"metadata": {"name": "P"}, "spec": {}}),
            vec!["metadata.name", "spec.containers"],
        ),
        (
            "",
            "pods",
            json!({"metadata": {"name": "p", "labels": {"a b": "c"}}, "spec": {"containers": [
                {"name": "c", "image": "i", "ports": [{"containerPort": 70_000}]}, {"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/"}]}]}}),
            vec![
                "metadata.labels",
                "spec.containers[0].ports[0].containerPort",
                "spec.containers[1].image",
                "spec.containers[1].volumeMounts[0].name",
                "spec.containers[1].name",
            ],
        ),
        (
            "",
            "configmaps",
            json!({"metadata": {"name": "a"}, "data": {"k/1": "v"}}),
            vec!["data[k/1]"],
        ),
        (
            "",
            "services",
            json!({"metadata": {"name": "1S"}, "spec": {}}),
            vec!["metadata.name", "spec.ports"],
        ),
        (
            "apps",
            "deployments",
            json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}}),
            vec!["spec.template.metadata.labels"],
        ),
        (
            "batch",
            "cronjobs",
            json!({"metadata": {"name": "c"}, "spec": {"schedule": "* *", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}}}),
            vec!["spec.schedule"],
        ),
        (
            "",
            "secrets",
            json!({"metadata": {"name": "s", "annotations": {"a": "x".repeat(300_000)}}}),
            vec!["metadata.annotations"],
        ),
    ] {
        assert_eq!(created(group, plural, &value), expected, "{value}");
    }
}

#[test]
fn some_fields_stay() {
    let (resource, before) = object(
        "",
        "configmaps",
        &json!({"metadata": {"name": "c"}, "immutable": true, "data": {"a": "1"}}),
    );
    let (_, after) = object(
        "",
        "configmaps",
        &json!({"metadata": {"name": "c"}, "immutable": true, "data": {"a": "2"}}),
    );
    assert_eq!(
        fields(&update(&resource, &after, &before, None, None)),
        ["data"]
    );
    let pod = |image: &str, node: &str| {
        object(
            "",
            "pods",
            &json!({"metadata": {"name": "p"}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": image, "imagePullPolicy": "Always"}]}}),
        )
    };
    let (resource, before) = pod("a", "");
    assert_eq!(
        fields(&update(&resource, &pod("b", "").1, &before, None, None)),
        Vec::<&str>::new()
    );
    assert_eq!(
        fields(&update(&resource, &pod("a", "n").1, &before, None, None)),
        ["spec"]
    );
}

#[test]
fn kinds_with_a_few_rules() {
    let meta = json!({"name": "a"});
    for (group, plural, rest, expected) in [
        (
            "coordination.k8s.io",
            "leases",
            json!({"spec": {"leaseDurationSeconds": 0}}),
            &["spec.leaseDurationSeconds"][..],
        ),
        (
            "rbac.authorization.k8s.io",
            "roles",
            json!({"rules": [{"verbs": [], "resources": ["pods"]}]}),
            &["rules[0].apiGroups", "rules[0].verbs"],
        ),
        (
            "rbac.authorization.k8s.io",
            "clusterroles",
            json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}),
            &[],
        ),
        (
            "",
            "nodes",
            json!({"spec": {"taints": [{"key": "a b", "effect": "Bad"}]}}),
            &["metadata.taints[0].key", "metadata.taints[0].effect"],
        ),
        (
            "networking.k8s.io",
            "ingresses",
            json!({"spec": {}}),
            &["spec"],
        ),
        (
            "networking.k8s.io",
            "ingresses",
            json!({"spec": {"rules": [{"host": "*.a.b", "http": {"paths": [
                {"path": "x", "pathType": "Exact", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}}),
            &["spec.rules[0].http.paths[0].path"],
        ),
        (
            "",
            "persistentvolumeclaims",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "0"}}}}),
            &["spec.resources[storage]"],
        ),
        (
            "policy",
            "poddisruptionbudgets",
            json!({"spec": {"minAvailable": "101%"}}),
            &["spec.minAvailable"],
        ),
    ] {
        let mut value = rest;
        value["metadata"] = meta.clone();
        assert_eq!(created(group, plural, &value), expected, "{plural}");
    }
}

#[test]
fn expressions_of_a_selector() {
    for (expression, expected) in [
        (json!({"key": "a", "operator": "Bad"}), Some("operator")),
        (json!({"key": "a", "operator": "In"}), Some("values")),
        (
            json!({"key": "a", "operator": "Exists", "values": ["b"]}),
            Some("values"),
        ),
        (json!({"key": "a", "operator": "In", "values": ["b"]}), None),
        (json!({"key": "c", "operator": "DoesNotExist"}), None),
    ] {
        let value = json!({"metadata": {"name": "a"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}, "matchExpressions": [expression]},
            "template": {"metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        let expected: Vec<String> = expected
            .into_iter()
            .flat_map(|field| {
                let field = format!("spec.selector.matchExpressions[0].{field}");
                [field, "spec.selector".to_owned()]
            })
            .collect();
        assert_eq!(created("apps", "deployments", &value), expected);
    }
}
