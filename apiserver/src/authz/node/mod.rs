//! What nodes may do: what `system:node` says, but of secrets, config maps,
//! volumes, claims, accounts and pods only those that belong to them.
//!
//! Source: upstream's `plugin/pkg/auth/authorizer/node/node_authorizer.go`. What
//! they may write into the objects is for admission (`NodeRestriction`).

mod graph;
mod names;
mod related;

use std::sync::Arc;

use parking_lot::RwLock;

use self::graph::Graph;
pub use self::{
    names::{MIRROR, is_mirror, referred},
    related::What,
};
use super::{Attributes, Decision, Rule, policy};
use crate::{
    authn::Identity,
    cache::{self, Entry, News, Reader},
    error::ApiError,
    registry::Registry,
    tasks,
};

const PREFIX: &str = "system:node:";
const GROUP: &str = "system:nodes";
const LEASES: &str = "kube-node-lease";

/// What the graph is made of.
const SOURCES: [(&str, &str, What); 5] = [
    ("", "pods", What::Pod),
    ("", "persistentvolumes", What::Volume),
    ("storage.k8s.io", "volumeattachments", What::Attachment),
    ("resource.k8s.io", "resourceslices", What::Slice),
    (
        "certificates.k8s.io",
        "podcertificaterequests",
        What::CertificateRequest,
    ),
];

/// The node that somebody is.
pub fn name(identity: &Identity) -> Option<&str> {
    let name = identity.user.strip_prefix(PREFIX)?;
    identity.is_in(GROUP).then_some(name)
}

/// Decides about nodes.
pub struct Nodes {
    graph: Arc<RwLock<Graph>>,
    /// What all of them may do.
    rules: Vec<Rule>,
    allowed: Arc<str>,
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            graph: Arc::default(),
            rules: policy::rules_of("system:node"),
            allowed: "".into(),
        }
    }
}

impl Nodes {
    /// Begins to keep the graph as the caches show it, once they are filled.
    ///
    /// # Errors
    /// They are not filled in time.
    pub async fn start(&self, registry: &Registry) -> Result<(), ApiError> {
        let catalog = registry.catalog().clone();
        let (mut readers, mut of) = (Vec::new(), Vec::new());
        for (group, plural, what) in SOURCES {
            let Some(resource) = catalog.find(group, "v1", plural) else {
                continue;
            };
            let reader = Reader::new(registry.cache(resource));
            reader.filled().await?;
            readers.push(reader);
            of.push(what);
        }
        let graph = self.graph.clone();
        let renew = move |readers: &mut [Reader]| {
            for (reader, what) in readers.iter_mut().zip(&of) {
                reader.read(&mut |change| told(&graph, *what, &change));
            }
        };
        renew(&mut readers);
        tasks::spawn("what belongs to nodes", cache::keep(readers, renew));
        Ok(())
    }

    /// `None`: no node asks.
    pub fn decide(&self, identity: &Identity, asked: &Attributes<'_>) -> Option<Decision> {
        let node = name(identity)?;
        let verdict = if node.is_empty() {
            Err(format!("unknown node for user {:?}", identity.user))
        } else {
            self.verdict(node, asked)
        };
        Some(match verdict {
            Ok(()) => Decision::Allowed(self.allowed.clone()),
            Err(why) => Decision::Refused(why),
        })
    }

    fn verdict(&self, node: &str, asked: &Attributes<'_>) -> Result<(), String> {
        let one = |what| self.one(node, what, asked);
        if asked.is_resource {
            match (asked.group, asked.resource) {
                ("", "secrets") => return self.readable(node, What::Secret, asked),
                ("", "configmaps") => return self.readable(node, What::ConfigMap, asked),
                ("", "persistentvolumeclaims") if asked.subresource == "status" => {
                    return match asked.verb {
                        "update" | "patch" => self.related(node, What::Claim, asked),
                        _ => no("can only get/update/patch this type"),
                    };
                }
                ("", "persistentvolumeclaims") => return one(What::Claim),
                ("", "persistentvolumes") => return one(What::Volume),
                ("resource.k8s.io", "resourceclaims") => return one(What::ResourceClaim),
                ("storage.k8s.io", "volumeattachments") => return one(What::Attachment),
                ("", "serviceaccounts") => return self.account(node, asked),
                ("coordination.k8s.io", "leases") => return lease(node, asked),
                ("storage.k8s.io", "csinodes") => return csi_node(node, asked),
                ("resource.k8s.io", "resourceslices") => return self.slice(node, asked),
                ("", "nodes") => return own_node(node, asked),
                ("", "pods") => return self.pod(node, asked),
                ("certificates.k8s.io", "podcertificaterequests") => {
                    return self.certificate_request(node, asked);
                }
                _ => {}
            }
        }
        match self.rules.iter().any(|rule| rule.allows(asked)) {
            true => Ok(()),
            false => no(""),
        }
    }

    fn related(&self, node: &str, what: What, asked: &Attributes<'_>) -> Result<(), String> {
        if asked.name.is_empty() {
            return no("No Object name found");
        }
        let graph = self.graph.read();
        match graph.relates(node, what, asked.namespace, &asked.name) {
            true => Ok(()),
            false => Err(format!(
                "no relationship found between node '{node}' and this object"
            )),
        }
    }

    fn one(&self, node: &str, what: What, asked: &Attributes<'_>) -> Result<(), String> {
        if asked.verb != "get" {
            return no("can only get individual resources of this type");
        }
        if !asked.subresource.is_empty() {
            return no("cannot get subresource");
        }
        self.related(node, what, asked)
    }

    fn readable(&self, node: &str, what: What, asked: &Attributes<'_>) -> Result<(), String> {
        if !matches!(asked.verb, "get" | "list" | "watch") {
            return no("can only read resources of this type");
        }
        if !asked.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if asked.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(node, what, asked)
    }

    fn account(&self, node: &str, asked: &Attributes<'_>) -> Result<(), String> {
        if asked.verb == "get" && asked.subresource.is_empty() {
            return self.readable(node, What::Account, asked);
        }
        if asked.verb != "create" || asked.name.is_empty() {
            return no("can only create tokens for individual service accounts");
        }
        if asked.subresource != "token" {
            return no("can only create token subresource of serviceaccount");
        }
        self.related(node, What::Account, asked)
    }

    fn slice(&self, node: &str, asked: &Attributes<'_>) -> Result<(), String> {
        if !asked.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match asked.verb {
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.related(node, What::Slice, asked),
            "watch" | "list" | "deletecollection" if asked.selects("spec.nodeName", node) => Ok(()),
            "watch" | "list" | "deletecollection" => no(
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn pod(&self, node: &str, asked: &Attributes<'_>) -> Result<(), String> {
        match (asked.subresource, asked.verb) {
            ("", "get") => self.one(node, What::Pod, asked),
            ("", "list" | "watch") if asked.selects("spec.nodeName", node) => Ok(()),
            ("", "list" | "watch") if !asked.name.is_empty() => {
                self.related(node, What::Pod, asked)
            }
            ("", "list" | "watch") => {
                no("can only list/watch pods with spec.nodeName field selector")
            }
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                Ok(())
            }
            _ => no(""),
        }
    }

    fn certificate_request(&self, node: &str, asked: &Attributes<'_>) -> Result<(), String> {
        if !asked.subresource.is_empty() {
            return no("nodes may not access the status subresource of PodCertificateRequests");
        }
        match asked.verb {
            "create" => Ok(()),
            "get" => self.related(node, What::CertificateRequest, asked),
            "list" | "watch" if asked.selects("spec.nodeName", node) => Ok(()),
            "list" | "watch" => {
                no("can only list/watch podcertificaterequests with nodeName field selector")
            }
            verb => Err(format!("nodes may not {verb} podcertificaterequests")),
        }
    }
}

fn no(why: &str) -> Result<(), String> {
    Err(why.to_owned())
}

fn lease(node: &str, asked: &Attributes<'_>) -> Result<(), String> {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if asked.namespace != LEASES {
        return Err(format!(
            "can only access leases in the {LEASES:?} system namespace"
        ));
    }
    if asked.verb != "create" && asked.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    Ok(())
}

fn csi_node(node: &str, asked: &Attributes<'_>) -> Result<(), String> {
    match (asked.subresource, asked.verb) {
        ("", "get" | "create" | "update" | "patch" | "delete") => {}
        ("", _) => return no("can only get, create, update, patch, or delete a CSINode"),
        // The feature is off by default.
        ("status", _) => return no("CSINode status access requires CSIVolumeHealth feature"),
        _ => return no("cannot authorize CSINode subresources"),
    }
    if asked.verb != "create" && asked.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    Ok(())
}

fn own_node(node: &str, asked: &Attributes<'_>) -> Result<(), String> {
    match (asked.subresource, asked.verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") => match &*asked.name {
            name if name == node => Ok(()),
            "" => Err(format!(
                "node '{node}' cannot read all nodes, only its own Node object"
            )),
            name => Err(format!(
                "node '{node}' cannot read '{name}', only its own Node object"
            )),
        },
        _ => no(""),
    }
}

/// Takes a change into the graph.
fn told(graph: &RwLock<Graph>, what: What, change: &News<'_>) {
    let read = |entry: &Entry| serde_json::from_slice(&entry.json());
    match change {
        News::Anew => graph.write().clear(what),
        News::Gone(entry) => graph.write().remove(what, &entry.key),
        // Read outside the lock.
        News::Put(entry) => match read(entry) {
            Ok(object) => graph.write().put(what, &entry.key, &object),
            Err(error) => {
                tracing::error!(key = &*entry.key, %error, "cannot be read: it gives its node nothing");
                graph.write().remove(what, &entry.key);
            }
        },
    }
}
