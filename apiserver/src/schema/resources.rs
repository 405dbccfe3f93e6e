//! The resources that are served: where they stand in URLs and in the store,
//! what they are called, what can be done with them.

use std::{collections::HashMap, sync::LazyLock};

use super::{MessageId, schema};

/// A subresource of objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sub {
    Status,
    Scale,
    /// `pods/binding`
    Binding,
    /// `pods/eviction`
    Eviction,
    /// `namespaces/finalize`
    Finalize,
    /// `certificatesigningrequests/approval`
    Approval,
    /// `pods/ephemeralcontainers`
    EphemeralContainers,
    /// `pods/resize`
    Resize,
    /// `serviceaccounts/token`
    Token,
}

impl Sub {
    pub fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Binding => "binding",
            Self::Eviction => "eviction",
            Self::Finalize => "finalize",
            Self::Approval => "approval",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Resize => "resize",
            Self::Token => "token",
        }
    }

    pub fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::Binding | Self::Eviction | Self::Token => &["create"],
            Self::Finalize => &["update"],
            _ => &["get", "patch", "update"],
        }
    }
}

/// A field that selectors may name, and what stands for it when it is absent.
#[derive(Clone, Copy, Debug)]
pub struct Selectable {
    pub name: &'static str,
    pub path: &'static [&'static str],
    pub absent: &'static str,
}

/// One resource of one version.
#[derive(Debug)]
pub struct Resource {
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
    pub short: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub subs: &'static [Sub],
    pub selectable: &'static [Selectable],
    pub message: MessageId,
    /// Keys begin with this, which ends in `/`.
    pub prefix: String,
}

impl Resource {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods` or `deployments.apps`, as messages name it.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// The resource as which objects of this one are stored: itself, unless
    /// this is another version of it.
    pub fn stored(&'static self) -> &'static Self {
        STORED_AS
            .iter()
            .find(|(served, _)| *served == (self.group, self.version))
            .and_then(|(_, (group, version))| find(group, version, self.plural))
            .unwrap_or(self)
    }

    pub fn singular(&self) -> String {
        self.kind.to_ascii_lowercase()
    }

    pub fn has(&self, sub: Sub) -> bool {
        self.subs.contains(&sub)
    }

    /// The key of an object. `namespace` is empty for kinds without one.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if self.namespaced {
            format!("{}{namespace}/{name}", self.prefix)
        } else {
            format!("{}{name}", self.prefix)
        }
    }
}

const fn field(
    name: &'static str,
    path: &'static [&'static str],
    absent: &'static str,
) -> Selectable {
    Selectable { name, path, absent }
}

const POD_FIELDS: &[Selectable] = &[
    field("spec.nodeName", &["spec", "nodeName"], ""),
    field("spec.restartPolicy", &["spec", "restartPolicy"], ""),
    field("spec.schedulerName", &["spec", "schedulerName"], ""),
    field(
        "spec.serviceAccountName",
        &["spec", "serviceAccountName"],
        "",
    ),
    field("spec.hostNetwork", &["spec", "hostNetwork"], "false"),
    field("status.phase", &["status", "phase"], ""),
    field("status.podIP", &["status", "podIP"], ""),
    field(
        "status.nominatedNodeName",
        &["status", "nominatedNodeName"],
        "",
    ),
];
const EVENT_FIELDS: &[Selectable] = &[
    field("involvedObject.kind", &["involvedObject", "kind"], ""),
    field(
        "involvedObject.namespace",
        &["involvedObject", "namespace"],
        "",
    ),
    field("involvedObject.name", &["involvedObject", "name"], ""),
    field("involvedObject.uid", &["involvedObject", "uid"], ""),
    field(
        "involvedObject.apiVersion",
        &["involvedObject", "apiVersion"],
        "",
    ),
    field(
        "involvedObject.resourceVersion",
        &["involvedObject", "resourceVersion"],
        "",
    ),
    field(
        "involvedObject.fieldPath",
        &["involvedObject", "fieldPath"],
        "",
    ),
    field("reason", &["reason"], ""),
    field("reportingComponent", &["reportingComponent"], ""),
    field("source", &["source", "component"], ""),
    field("type", &["type"], ""),
];
/// The same in the words of `events.k8s.io`, in the same order.
const NEW_EVENT_FIELDS: &[Selectable] = &[
    field("regarding.kind", &["regarding", "kind"], ""),
    field("regarding.namespace", &["regarding", "namespace"], ""),
    field("regarding.name", &["regarding", "name"], ""),
    field("regarding.uid", &["regarding", "uid"], ""),
    field("regarding.apiVersion", &["regarding", "apiVersion"], ""),
    field(
        "regarding.resourceVersion",
        &["regarding", "resourceVersion"],
        "",
    ),
    field("regarding.fieldPath", &["regarding", "fieldPath"], ""),
    field("reason", &["reason"], ""),
    field("reportingController", &["reportingController"], ""),
    field(
        "deprecatedSource.component",
        &["deprecatedSource", "component"],
        "",
    ),
    field("type", &["type"], ""),
];
const NODE_FIELDS: &[Selectable] = &[field(
    "spec.unschedulable",
    &["spec", "unschedulable"],
    "false",
)];
const PHASE_FIELDS: &[Selectable] = &[field("status.phase", &["status", "phase"], "")];
const SECRET_FIELDS: &[Selectable] = &[field("type", &["type"], "")];
const SERVICE_FIELDS: &[Selectable] = &[
    field("spec.clusterIP", &["spec", "clusterIP"], ""),
    field("spec.type", &["spec", "type"], ""),
];
const REPLICAS_FIELDS: &[Selectable] = &[field("status.replicas", &["status", "replicas"], "0")];
const JOB_FIELDS: &[Selectable] = &[field("status.successful", &["status", "succeeded"], "0")];
const CSR_FIELDS: &[Selectable] = &[field("spec.signerName", &["spec", "signerName"], "")];
const SLICE_FIELDS: &[Selectable] = &[
    field("spec.nodeName", &["spec", "nodeName"], ""),
    field("spec.driver", &["spec", "driver"], ""),
];

const ALL: &[&str] = &["all"];
const STATUS: &[Sub] = &[Sub::Status];
const SCALED: &[Sub] = &[Sub::Status, Sub::Scale];

struct Row(
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    &'static [Sub],
    &'static [Selectable],
);

/// A group version: group, version, resources with a namespace, without one.
type Group = (&'static str, &'static str, &'static [Row], &'static [Row]);

const GROUPS: &[Group] = &[
    (
        "",
        "v1",
        &[
            Row("configmaps", "ConfigMap", &["cm"], &[], &[], &[]),
            Row("endpoints", "Endpoints", &["ep"], &[], &[], &[]),
            Row("events", "Event", &["ev"], &[], &[], EVENT_FIELDS),
            Row("limitranges", "LimitRange", &["limits"], &[], &[], &[]),
            Row(
                "persistentvolumeclaims",
                "PersistentVolumeClaim",
                &["pvc"],
                &[],
                STATUS,
                &[],
            ),
            Row(
                "pods",
                "Pod",
                &["po"],
                ALL,
                &[
                    Sub::Binding,
                    Sub::EphemeralContainers,
                    Sub::Eviction,
                    Sub::Resize,
                    Sub::Status,
                ],
                POD_FIELDS,
            ),
            Row("podtemplates", "PodTemplate", &[], &[], &[], &[]),
            Row(
                "replicationcontrollers",
                "ReplicationController",
                &["rc"],
                ALL,
                SCALED,
                REPLICAS_FIELDS,
            ),
            Row(
                "resourcequotas",
                "ResourceQuota",
                &["quota"],
                &[],
                STATUS,
                &[],
            ),
            Row("secrets", "Secret", &[], &[], &[], SECRET_FIELDS),
            Row(
                "serviceaccounts",
                "ServiceAccount",
                &["sa"],
                &[],
                &[Sub::Token],
                &[],
            ),
            Row("services", "Service", &["svc"], ALL, STATUS, SERVICE_FIELDS),
        ],
        &[
            Row(
                "namespaces",
                "Namespace",
                &["ns"],
                &[],
                &[Sub::Finalize, Sub::Status],
                PHASE_FIELDS,
            ),
            Row("nodes", "Node", &["no"], &[], STATUS, NODE_FIELDS),
            Row(
                "persistentvolumes",
                "PersistentVolume",
                &["pv"],
                &[],
                STATUS,
                &[],
            ),
        ],
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        &[],
        &[
            Row(
                "mutatingadmissionpolicies",
                "MutatingAdmissionPolicy",
                &[],
                &["api-extensions"],
                &[],
                &[],
            ),
            Row(
                "mutatingadmissionpolicybindings",
                "MutatingAdmissionPolicyBinding",
                &[],
                &["api-extensions"],
                &[],
                &[],
            ),
            Row(
                "mutatingwebhookconfigurations",
                "MutatingWebhookConfiguration",
                &[],
                &["api-extensions"],
                &[],
                &[],
            ),
            Row(
                "validatingadmissionpolicies",
                "ValidatingAdmissionPolicy",
                &[],
                &["api-extensions"],
                STATUS,
                &[],
            ),
            Row(
                "validatingadmissionpolicybindings",
                "ValidatingAdmissionPolicyBinding",
                &[],
                &["api-extensions"],
                &[],
                &[],
            ),
            Row(
                "validatingwebhookconfigurations",
                "ValidatingWebhookConfiguration",
                &[],
                &["api-extensions"],
                &[],
                &[],
            ),
        ],
    ),
    (
        "apps",
        "v1",
        &[
            Row(
                "controllerrevisions",
                "ControllerRevision",
                &[],
                &[],
                &[],
                &[],
            ),
            Row("daemonsets", "DaemonSet", &["ds"], ALL, STATUS, &[]),
            Row("deployments", "Deployment", &["deploy"], ALL, SCALED, &[]),
            Row(
                "replicasets",
                "ReplicaSet",
                &["rs"],
                ALL,
                SCALED,
                REPLICAS_FIELDS,
            ),
            Row("statefulsets", "StatefulSet", &["sts"], ALL, SCALED, &[]),
        ],
        &[],
    ),
    (
        "autoscaling",
        "v2",
        &[Row(
            "horizontalpodautoscalers",
            "HorizontalPodAutoscaler",
            &["hpa"],
            ALL,
            STATUS,
            &[],
        )],
        &[],
    ),
    (
        "autoscaling",
        "v1",
        &[Row(
            "horizontalpodautoscalers",
            "HorizontalPodAutoscaler",
            &["hpa"],
            ALL,
            STATUS,
            &[],
        )],
        &[],
    ),
    (
        "batch",
        "v1",
        &[
            Row("cronjobs", "CronJob", &["cj"], ALL, STATUS, &[]),
            Row("jobs", "Job", &[], ALL, STATUS, JOB_FIELDS),
        ],
        &[],
    ),
    (
        "certificates.k8s.io",
        "v1",
        &[],
        &[Row(
            "certificatesigningrequests",
            "CertificateSigningRequest",
            &["csr"],
            &[],
            &[Sub::Approval, Sub::Status],
            CSR_FIELDS,
        )],
    ),
    (
        "coordination.k8s.io",
        "v1",
        &[Row("leases", "Lease", &[], &[], &[], &[])],
        &[],
    ),
    (
        "discovery.k8s.io",
        "v1",
        &[Row("endpointslices", "EndpointSlice", &[], &[], &[], &[])],
        &[],
    ),
    (
        "events.k8s.io",
        "v1",
        &[Row("events", "Event", &["ev"], &[], &[], NEW_EVENT_FIELDS)],
        &[],
    ),
    (
        "flowcontrol.apiserver.k8s.io",
        "v1",
        &[],
        &[
            Row("flowschemas", "FlowSchema", &[], &[], STATUS, &[]),
            Row(
                "prioritylevelconfigurations",
                "PriorityLevelConfiguration",
                &[],
                &[],
                STATUS,
                &[],
            ),
        ],
    ),
    (
        "networking.k8s.io",
        "v1",
        &[
            Row("ingresses", "Ingress", &["ing"], &[], STATUS, &[]),
            Row(
                "networkpolicies",
                "NetworkPolicy",
                &["netpol"],
                &[],
                &[],
                &[],
            ),
        ],
        &[
            Row("ingressclasses", "IngressClass", &[], &[], &[], &[]),
            Row("ipaddresses", "IPAddress", &["ip"], &[], &[], &[]),
            Row("servicecidrs", "ServiceCIDR", &[], &[], STATUS, &[]),
        ],
    ),
    (
        "node.k8s.io",
        "v1",
        &[],
        &[Row("runtimeclasses", "RuntimeClass", &[], &[], &[], &[])],
    ),
    (
        "policy",
        "v1",
        &[Row(
            "poddisruptionbudgets",
            "PodDisruptionBudget",
            &["pdb"],
            &[],
            STATUS,
            &[],
        )],
        &[],
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        &[
            Row("rolebindings", "RoleBinding", &[], &[], &[], &[]),
            Row("roles", "Role", &[], &[], &[], &[]),
        ],
        &[
            Row(
                "clusterrolebindings",
                "ClusterRoleBinding",
                &[],
                &[],
                &[],
                &[],
            ),
            Row("clusterroles", "ClusterRole", &[], &[], &[], &[]),
        ],
    ),
    (
        "resource.k8s.io",
        "v1",
        &[
            Row("resourceclaims", "ResourceClaim", &[], &[], STATUS, &[]),
            Row(
                "resourceclaimtemplates",
                "ResourceClaimTemplate",
                &[],
                &[],
                &[],
                &[],
            ),
        ],
        &[
            Row("deviceclasses", "DeviceClass", &[], &[], &[], &[]),
            Row(
                "resourceslices",
                "ResourceSlice",
                &[],
                &[],
                &[],
                SLICE_FIELDS,
            ),
        ],
    ),
    (
        "scheduling.k8s.io",
        "v1",
        &[],
        &[Row(
            "priorityclasses",
            "PriorityClass",
            &["pc"],
            &[],
            &[],
            &[],
        )],
    ),
    (
        "storage.k8s.io",
        "v1",
        &[Row(
            "csistoragecapacities",
            "CSIStorageCapacity",
            &[],
            &[],
            &[],
            &[],
        )],
        &[
            Row("csidrivers", "CSIDriver", &[], &[], &[], &[]),
            Row("csinodes", "CSINode", &[], &[], &[], &[]),
            Row("storageclasses", "StorageClass", &["sc"], &[], &[], &[]),
            Row(
                "volumeattachments",
                "VolumeAttachment",
                &[],
                &[],
                STATUS,
                &[],
            ),
            Row(
                "volumeattributesclasses",
                "VolumeAttributesClass",
                &["vac"],
                &[],
                &[],
                &[],
            ),
        ],
    ),
];

type GroupVersion = (&'static str, &'static str);

/// Group versions whose objects are stored as those of another one.
const STORED_AS: &[(GroupVersion, GroupVersion)] = &[
    (("autoscaling", "v1"), ("autoscaling", "v2")),
    (("events.k8s.io", "v1"), ("", "v1")),
];

/// Resources that are answered, not stored: group, plural, kind, and whether
/// they stand in a namespace. All are of version `v1`.
pub const REVIEWS: &[(&str, &str, &str, bool)] = &[
    (
        "authentication.k8s.io",
        "selfsubjectreviews",
        "SelfSubjectReview",
        false,
    ),
    (
        "authorization.k8s.io",
        "localsubjectaccessreviews",
        "LocalSubjectAccessReview",
        true,
    ),
    (
        "authorization.k8s.io",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        false,
    ),
    (
        "authorization.k8s.io",
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        false,
    ),
    (
        "authorization.k8s.io",
        "subjectaccessreviews",
        "SubjectAccessReview",
        false,
    ),
];

/// The directory of a group's types in `k8s.io/api`.
pub fn package(group: &str) -> &str {
    match group {
        "" => "core",
        group => group.split('.').next().unwrap_or(group),
    }
}

/// Upstream's places of old kinds; every other stands under its plural.
fn place(plural: &str) -> &str {
    match plural {
        "endpoints" => "services/endpoints",
        "ingresses" => "ingress",
        "nodes" => "minions",
        "replicationcontrollers" => "controllers",
        "services" => "services/specs",
        plural => plural,
    }
}

/// Every resource that is served, groups and resources in alphabetical order,
/// the preferred version of a group first.
pub fn all() -> &'static [Resource] {
    static ALL: LazyLock<Vec<Resource>> = LazyLock::new(build);
    &ALL
}

/// Looks a resource up.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    type Index = HashMap<(&'static str, &'static str, &'static str), &'static Resource>;
    static INDEX: LazyLock<Index> = LazyLock::new(|| {
        let all = all().iter();
        all.map(|resource| {
            (
                (resource.group, resource.version, resource.plural),
                resource,
            )
        })
        .collect()
    });
    INDEX.get(&(group, version, plural)).copied()
}

fn build() -> Vec<Resource> {
    let mut all = Vec::new();
    for (group, version, namespaced, cluster) in GROUPS {
        let rows = namespaced.iter().map(|row| (row, true));
        let mut resources: Vec<_> = rows
            .chain(cluster.iter().map(|row| (row, false)))
            .map(
                |(Row(plural, kind, short, categories, subs, selectable), namespaced)| Resource {
                    group,
                    version,
                    plural,
                    kind,
                    namespaced,
                    short,
                    categories,
                    subs,
                    selectable,
                    message: schema()
                        .find(&format!("io.k8s.api.{}.{version}.{kind}", package(group)))
                        .expect("every row has a message: a test builds the table"),
                    prefix: format!("/registry/{}/", place(plural)),
                },
            )
            .collect();
        resources.sort_by_key(|resource| resource.plural);
        all.extend(resources);
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_is_whole() {
        let stored: Vec<_> = all()
            .iter()
            .filter(|one| std::ptr::eq(*one, one.stored()))
            .collect();
        assert_eq!(stored.len(), all().len() - STORED_AS.len());
        let prefixes: HashSet<_> = stored.iter().map(|resource| &resource.prefix).collect();
        assert_eq!(
            prefixes.len(),
            stored.len(),
            "two resources share their keys"
        );
        let pods = find("", "v1", "pods").expect("a resource");
        assert_eq!(pods.key("default", "a"), "/registry/pods/default/a");
        assert_eq!(
            find("", "v1", "nodes").expect("a resource").key("", "n"),
            "/registry/minions/n"
        );
        assert!(find("apps", "v1beta1", "deployments").is_none());
        assert_eq!(
            find("apps", "v1", "deployments")
                .expect("a resource")
                .qualified(),
            "deployments.apps"
        );
    }
}
