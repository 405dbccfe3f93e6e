//! Upstream's defaults of the kinds that clients and controllers rely on.
//! Knows objects; knows no request.

pub mod admission;
pub mod devices;
pub mod flow;
pub mod pod;

use serde_json::{Value, json};

use crate::{catalog::Resource, object::Json};

/// Sets `field` when it is absent.
fn set(map: &mut Json, field: &str, value: impl Into<Value>) {
    let present = map.entry(field).or_insert(Value::Null);
    if present.is_null() {
        *present = value.into();
    }
}

/// Calls `f` with the object at `field`, if there is one.
pub fn with(map: &mut Json, field: &str, f: impl FnOnce(&mut Json)) {
    if let Some(Value::Object(inner)) = map.get_mut(field) {
        f(inner);
    }
}

/// Calls `f` with the object at `field`, made if there is none.
fn made(map: &mut Json, field: &str, f: impl FnOnce(&mut Json)) {
    set(map, field, json!({}));
    with(map, field, f);
}

/// Calls `f` with every object of the list at `field`.
fn each(map: &mut Json, field: &str, mut f: impl FnMut(&mut Json)) {
    if let Some(Value::Array(list)) = map.get_mut(field) {
        list.iter_mut()
            .filter_map(Value::as_object_mut)
            .for_each(&mut f);
    }
}

fn text<'a>(map: &'a Json, field: &str) -> &'a str {
    map.get(field).and_then(Value::as_str).unwrap_or("")
}

/// Sets what upstream sets, if the kind has defaults.
pub fn apply(resource: &Resource, value: &mut Json) {
    if let Some(defaults) = resource.rules.defaults {
        defaults(value);
    }
}

pub fn endpoints(value: &mut Json) {
    each(value, "subsets", |subset| {
        each(subset, "ports", |port| set(port, "protocol", "TCP"))
    });
}

pub fn endpoint_slice(value: &mut Json) {
    each(value, "ports", |port| {
        set(port, "name", "");
        set(port, "protocol", "TCP");
    });
}

pub fn volume(value: &mut Json) {
    with(value, "spec", |spec| {
        set(spec, "persistentVolumeReclaimPolicy", "Retain");
        set(spec, "volumeMode", "Filesystem");
        with(spec, "hostPath", |path| set(path, "type", ""));
        with(spec, "azureDisk", pod::azure_disk);
    });
    made(value, "status", |status| set(status, "phase", "Pending"));
}

pub fn replica_set(value: &mut Json) {
    with(value, "spec", |spec| {
        set(spec, "replicas", 1);
        with(spec, "template", pod::template);
    });
}

pub fn cron_job(value: &mut Json) {
    with(value, "spec", |spec| {
        set(spec, "concurrencyPolicy", "Allow");
        set(spec, "suspend", false);
        set(spec, "successfulJobsHistoryLimit", 3);
        set(spec, "failedJobsHistoryLimit", 1);
        // A job of the template gets its own defaults when it is made.
        with(spec, "jobTemplate", |job| {
            with(job, "spec", |spec| {
                conditions_of_failure(spec);
                with(spec, "template", pod::template);
            })
        });
    });
}

pub fn autoscaler(value: &mut Json) {
    with(value, "spec", |spec| {
        set(spec, "minReplicas", 1);
        set(
            spec,
            "metrics",
            json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]),
        );
        // Each direction, where one is told anything of.
        let Some(Value::Object(behavior)) = spec.get_mut("behavior") else {
            return;
        };
        for (direction, policies) in [
            (
                "scaleUp",
                json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]),
            ),
            (
                "scaleDown",
                json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]),
            ),
        ] {
            let rules = behavior.entry(direction).or_insert_with(|| json!({}));
            let Some(rules) = rules.as_object_mut() else {
                continue;
            };
            set(rules, "selectPolicy", "Max");
            if direction == "scaleUp" {
                set(rules, "stabilizationWindowSeconds", 0);
            }
            set(rules, "policies", policies);
        }
    });
}

pub fn storage_class(value: &mut Json) {
    set(value, "reclaimPolicy", "Delete");
    set(value, "volumeBindingMode", "Immediate");
}

pub fn priority_class(value: &mut Json) {
    set(value, "preemptionPolicy", "PreemptLowerPriority");
}

pub fn csi_driver(value: &mut Json) {
    with(value, "spec", |spec| {
        set(spec, "attachRequired", true);
        set(spec, "podInfoOnMount", false);
        set(spec, "storageCapacity", false);
        set(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        set(spec, "volumeLifecycleModes", json!(["Persistent"]));
        set(spec, "requiresRepublish", false);
        set(spec, "seLinuxMount", false);
        set(spec, "preventPodSchedulingIfMissing", false);
    });
}

pub fn namespace(value: &mut Json) {
    let name = crate::object::meta_str(value, "name").to_owned();
    if !name.is_empty() {
        made(value, "metadata", |meta| {
            made(meta, "labels", |labels| {
                labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
            });
        });
    }
    made(value, "spec", |_| {});
    made(value, "status", |status| set(status, "phase", "Active"));
}

pub fn secret(value: &mut Json) {
    set(value, "type", "Opaque");
    // Given for writing only: it lands in `data`.
    if let Some(Value::Object(plain)) = value.remove("stringData") {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        made(value, "data", |data| {
            for (key, text) in plain {
                let text = text.as_str().unwrap_or("").to_owned();
                data.insert(key, STANDARD.encode(text).into());
            }
        });
    }
}

pub fn service(value: &mut Json) {
    made(value, "spec", |spec| {
        let affinity = text(spec, "sessionAffinity").to_owned();
        match &*affinity {
            "" | "None" => {
                spec.insert("sessionAffinity".to_owned(), "None".into());
                spec.remove("sessionAffinityConfig");
            }
            "ClientIP" => {
                let config = spec.get("sessionAffinityConfig");
                let seconds = config.and_then(|one| one.pointer("/clientIP/timeoutSeconds"));
                if seconds.is_none_or(Value::is_null) {
                    let config = json!({"clientIP": {"timeoutSeconds": 10_800}});
                    spec.insert("sessionAffinityConfig".to_owned(), config);
                }
            }
            _ => {}
        }
        if text(spec, "type").is_empty() {
            spec.insert("type".to_owned(), "ClusterIP".into());
        }
        each(spec, "ports", |port| {
            set(port, "protocol", "TCP");
            let number = port.get("port").cloned().unwrap_or(Value::Null);
            if port
                .get("targetPort")
                .is_some_and(|one| one == 0 || one == "")
            {
                port.insert("targetPort".to_owned(), Value::Null);
            }
            set(port, "targetPort", number);
        });
    });
    let external = crate::service::is_external(value);
    with(value, "spec", |spec| {
        let kind = text(spec, "type").to_owned();
        if external && text(spec, "externalTrafficPolicy").is_empty() {
            spec.insert("externalTrafficPolicy".to_owned(), "Cluster".into());
        }
        if matches!(&*kind, "NodePort" | "LoadBalancer" | "ClusterIP") {
            set(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            set(spec, "allocateLoadBalancerNodePorts", true);
        }
    });
    if crate::service::kind_of(value) == "LoadBalancer" {
        with(value, "status", |status| {
            with(status, "loadBalancer", |balancer| {
                each(balancer, "ingress", |one| {
                    if !text(one, "ip").is_empty() {
                        set(one, "ipMode", "VIP");
                    }
                });
            });
        });
    }
}

pub fn claim(value: &mut Json) {
    with(value, "spec", |spec| set(spec, "volumeMode", "Filesystem"));
    made(value, "status", |status| set(status, "phase", "Pending"));
}

pub fn controller(value: &mut Json) {
    let labels = value
        .get("spec")
        .and_then(|spec| spec.get("template"))
        .and_then(|template| template.get("metadata"))
        .and_then(|meta| meta.get("labels"))
        .cloned();
    with(value, "spec", |spec| {
        set(spec, "replicas", 1);
        if let Some(labels) = labels {
            set(spec, "selector", labels);
        }
        with(spec, "template", pod::template);
    });
    labels_of_template(value);
}

pub fn deployment(value: &mut Json) {
    with(value, "spec", |spec| {
        set(spec, "replicas", 1);
        made(spec, "strategy", |strategy| {
            set(strategy, "type", "RollingUpdate");
            if text(strategy, "type") == "RollingUpdate" {
                made(strategy, "rollingUpdate", |update| {
                    set(update, "maxUnavailable", "25%");
                    set(update, "maxSurge", "25%");
                });
            }
        });
        set(spec, "revisionHistoryLimit", 10);
        set(spec, "progressDeadlineSeconds", 600);
        with(spec, "template", pod::template);
    });
}

pub fn stateful_set(value: &mut Json) {
    with(value, "spec", |spec| {
        set(spec, "podManagementPolicy", "OrderedReady");
        made(spec, "updateStrategy", |strategy| {
            if text(strategy, "type").is_empty() {
                strategy.insert("type".to_owned(), "RollingUpdate".into());
                made(strategy, "rollingUpdate", |_| {});
            }
            if text(strategy, "type") == "RollingUpdate" {
                with(strategy, "rollingUpdate", |update| {
                    set(update, "partition", 0);
                    set(update, "maxUnavailable", 1);
                });
            }
        });
        made(spec, "persistentVolumeClaimRetentionPolicy", |policy| {
            set(policy, "whenDeleted", "Retain");
            set(policy, "whenScaled", "Retain");
        });
        set(spec, "replicas", 1);
        set(spec, "revisionHistoryLimit", 10);
        each(spec, "volumeClaimTemplates", claim);
        with(spec, "template", pod::template);
    });
}

pub fn daemon_set(value: &mut Json) {
    with(value, "spec", |spec| {
        made(spec, "updateStrategy", |strategy| {
            set(strategy, "type", "RollingUpdate");
            if text(strategy, "type") == "RollingUpdate" {
                made(strategy, "rollingUpdate", |update| {
                    set(update, "maxUnavailable", 1);
                    set(update, "maxSurge", 0);
                });
            }
        });
        set(spec, "revisionHistoryLimit", 10);
        with(spec, "template", pod::template);
    });
    // Upstream counts templates in a field of its own, which this stands for.
    made(value, "metadata", |meta| {
        made(meta, "annotations", |annotations| {
            set(annotations, "deprecated.daemonset.template.generation", "0");
        });
    });
}

pub fn job(value: &mut Json) {
    with(value, "spec", job_spec);
    labels_of_template(value);
}

fn job_spec(spec: &mut Json) {
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        set(spec, "completions", 1);
    }
    set(spec, "parallelism", 1);
    set(spec, "backoffLimit", 6);
    set(spec, "completionMode", "NonIndexed");
    set(spec, "suspend", false);
    set(spec, "manualSelector", false);
    let policy = if spec.contains_key("podFailurePolicy") {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    set(spec, "podReplacementPolicy", policy);
    conditions_of_failure(spec);
    with(spec, "template", pod::template);
}

/// A condition of a policy is met when it is true.
fn conditions_of_failure(spec: &mut Json) {
    with(spec, "podFailurePolicy", |policy| {
        each(policy, "rules", |rule| {
            each(rule, "onPodConditions", |one| {
                if text(one, "status").is_empty() {
                    one.insert("status".to_owned(), "True".into());
                }
            });
        });
    });
}

pub fn ingress_class(value: &mut Json) {
    with(value, "spec", |spec| {
        with(spec, "parameters", |one| set(one, "scope", "Cluster"))
    });
}

pub fn network_policy(value: &mut Json) {
    with(value, "spec", |spec| {
        let egress = spec
            .get("egress")
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty());
        set(
            spec,
            "policyTypes",
            if egress {
                json!(["Ingress", "Egress"])
            } else {
                json!(["Ingress"])
            },
        );
        for direction in ["ingress", "egress"] {
            each(spec, direction, |rule| {
                each(rule, "ports", |port| set(port, "protocol", "TCP"))
            });
        }
    });
}

pub fn binding(value: &mut Json) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    with(value, "roleRef", |role| {
        if text(role, "apiGroup").is_empty() {
            role.insert("apiGroup".to_owned(), GROUP.into());
        }
    });
    each(value, "subjects", |subject| {
        if text(subject, "apiGroup").is_empty() && matches!(text(subject, "kind"), "User" | "Group")
        {
            subject.insert("apiGroup".to_owned(), GROUP.into());
        }
    });
}

/// Labels that an object without any takes from its pods' template.
fn labels_of_template(value: &mut Json) {
    let template = crate::object::at(value, &["spec", "template", "metadata", "labels"]);
    let Some(Value::Object(labels)) = template.cloned() else {
        return;
    };
    let own = crate::object::at(value, &["metadata", "labels"]).and_then(Value::as_object);
    if own.is_none_or(Json::is_empty) && !labels.is_empty() {
        made(value, "metadata", |meta| {
            meta.insert("labels".to_owned(), labels.into());
        });
    }
}

pub fn pod_certificate_request(value: &mut Json) {
    with(value, "spec", |spec| {
        set(spec, "maxExpirationSeconds", 86_400)
    });
}

/// A node can give all that it has, unless it says otherwise.
pub fn node(value: &mut Json) {
    with(value, "status", |status| {
        if let Some(capacity) = status.get("capacity").cloned() {
            set(status, "allocatable", capacity);
        }
    });
}

/// What a container gets that says nothing: limits, and requests, from the other
/// bounds of its namespace.
pub fn limit_range(value: &mut Json) {
    with(value, "spec", |spec| {
        each(spec, "limits", |limit| {
            if text(limit, "type") != "Container" {
                return;
            }
            for (to, from) in [
                ("default", "max"),
                ("defaultRequest", "default"),
                ("defaultRequest", "min"),
            ] {
                let Some(Value::Object(bounds)) = limit.get(from).cloned() else {
                    continue;
                };
                made(limit, to, |amounts| {
                    for (name, amount) in bounds {
                        set(amounts, &name, amount);
                    }
                });
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::json::{self, Source};

    fn defaulted(group: &str, plural: &str, value: &Value) -> Value {
        let version = if group == "autoscaling" { "v2" } else { "v1" };
        let catalog = crate::kinds::built_in();
        let resource = catalog.own(group, version, plural);
        let decoded = json::decode(
            value.to_string().as_bytes(),
            resource.message,
            Source::Client,
        )
        .expect("it decodes");
        let mut value = decoded.value;
        apply(resource, &mut value);
        let mut again = value.clone();
        apply(resource, &mut again);
        assert_eq!(again, value, "defaults change what they made");
        Value::Object(value)
    }

    #[test]
    fn a_deployment_is_whole() {
        let value = defaulted(
            "apps",
            "deployments",
            &json!({"spec": {"template": {"spec": {"containers": [
            {"name": "a", "image": "nginx", "ports": [{"containerPort": 80}]}]}}}}),
        );
        assert_eq!(value["spec"]["replicas"], 1);
        assert_eq!(
            value["spec"]["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
        );
        let pod = &value["spec"]["template"]["spec"];
        assert_eq!(pod["restartPolicy"], "Always");
        assert_eq!(pod["containers"][0]["imagePullPolicy"], "Always");
        assert_eq!(pod["containers"][0]["ports"][0]["protocol"], "TCP");
        assert_eq!(pod.get("enableServiceLinks"), None);
    }

    #[test]
    fn services_secrets_and_namespaces() {
        let value = defaulted("", "services", &json!({"spec": {"ports": [{"port": 80}]}}));
        assert_eq!(
            value["spec"]["ports"],
            json!([{"port": 80, "protocol": "TCP", "targetPort": 80}])
        );
        let value = defaulted("", "secrets", &json!({"stringData": {"a": "b"}}));
        assert_eq!(
            (&value["data"], &value["type"]),
            (&json!({"a": "Yg=="}), &json!("Opaque"))
        );
        let value = defaulted("", "namespaces", &json!({"metadata": {"name": "n"}}));
        // A body of `finalize` says by leaving them out that they are gone.
        assert!(value["spec"].get("finalizers").is_none());
        assert_eq!(
            value["metadata"]["labels"]["kubernetes.io/metadata.name"],
            "n"
        );
    }

    #[test]
    fn limits_are_requests() {
        let value = defaulted(
            "",
            "pods",
            &json!({"spec": {"containers": [{"name": "a", "image": "a:1",
            "resources": {"limits": {"cpu": "1"}}}], "volumes": [{"name": "v"}]}}),
        );
        assert_eq!(
            value["spec"]["containers"][0]["resources"]["requests"]["cpu"],
            "1"
        );
        assert_eq!(
            value["spec"]["containers"][0]["imagePullPolicy"],
            "IfNotPresent"
        );
        assert_eq!(
            value["spec"]["volumes"][0],
            json!({"name": "v", "emptyDir": {}})
        );
        assert_eq!(value["status"]["phase"], "Pending");
    }
}
