//! Which objects belong to which node: what its pods refer to, the volumes that
//! are bound to their claims, and those volumes' secrets.
//!
//! Source: upstream's `plugin/pkg/auth/authorizer/node/graph.go`. Pods, volumes,
//! attachments, slices and certificate requests are told as they change; a
//! question is some look-ups.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::{
    names,
    related::{Related, What},
};
use crate::object::{self, Json};

/// What one object, such as a pod, gives to one node.
#[derive(Debug)]
struct Held {
    node: Box<str>,
    related: Vec<Related>,
}

/// A volume that is bound.
#[derive(Debug)]
struct Bound {
    claim: Related,
    secrets: Vec<Related>,
}

/// All relations.
#[derive(Debug, Default)]
pub struct Graph {
    /// By node, how many of its pods and the like give it an object.
    nodes: HashMap<Box<str>, HashMap<Related, u32>>,
    /// What gives something to a node.
    holders: HashMap<Related, Held>,
    /// By the volume's name.
    volumes: HashMap<Box<str>, Bound>,
    /// The volumes that need a secret.
    secrets: BTreeMap<Related, Vec<Box<str>>>,
}

impl Graph {
    /// Whether an object belongs to a node.
    pub fn relates(&self, node: &str, what: What, namespace: &str, name: &str) -> bool {
        let Some(objects) = self.nodes.get(node) else {
            return false;
        };
        let claims = |volume: &str| {
            let bound = self.volumes.get(volume);
            bound.is_some_and(|bound| objects.contains_key(&bound.claim))
        };
        if what == What::Volume {
            return claims(name);
        }
        let object = Related::new(what, namespace, name);
        objects.contains_key(&object)
            || what == What::Secret
                && self
                    .secrets
                    .get(&object)
                    .is_some_and(|volumes| volumes.iter().any(|volume| claims(volume)))
    }

    /// Forgets all objects of a kind.
    pub fn clear(&mut self, what: What) {
        if what == What::Volume {
            self.volumes.clear();
            self.secrets.clear();
        }
        let mut held = self.holders.keys();
        let gone: Vec<Related> = held.by_ref().filter(|one| one.is(what)).cloned().collect();
        for one in gone {
            self.release(&one);
        }
    }

    /// Forgets an object.
    pub fn remove(&mut self, what: What, key: &str) {
        if what == What::Volume {
            self.unbind(key);
        } else {
            self.release(&holder(what, key));
        }
    }

    /// Takes an object as it is now.
    pub fn put(&mut self, what: What, key: &str, object: &Json) {
        if what == What::Volume {
            return self.bind(key, object);
        }
        let node = object::str_at(object, &["spec", "nodeName"]);
        let holder = holder(what, key);
        let related = match what {
            What::Pod => names::of_pod(object),
            _ => vec![holder.clone()],
        };
        if let Some(held) = self.holders.get(&holder)
            && *held.node == *node
            && held.related == related
        {
            return;
        }
        self.release(&holder);
        if node.is_empty() {
            return;
        }
        let objects = self.nodes.entry(node.into()).or_default();
        for one in &related {
            *objects.entry(one.clone()).or_default() += 1;
        }
        let node = node.into();
        self.holders.insert(holder, Held { node, related });
    }

    /// What a pod and the like gave to its node, it gives no more.
    fn release(&mut self, holder: &Related) {
        let Some(held) = self.holders.remove(holder) else {
            return;
        };
        let Some(objects) = self.nodes.get_mut(&held.node) else {
            return;
        };
        for one in &held.related {
            if let Some(count) = objects.get_mut(one) {
                *count -= 1;
                if *count == 0 {
                    objects.remove(one);
                }
            }
        }
        if objects.is_empty() {
            self.nodes.remove(&held.node);
        }
    }

    fn bind(&mut self, name: &str, volume: &Json) {
        self.unbind(name);
        let claim = |field| object::str_at(volume, &["spec", "claimRef", field]);
        let (namespace, of) = (claim("namespace"), claim("name"));
        if of.is_empty() {
            return;
        }
        let secrets = names::of_volume(volume.get("spec").unwrap_or(&Value::Null), namespace);
        let secrets: Vec<Related> = secrets
            .iter()
            .map(|(namespace, name)| Related::new(What::Secret, namespace, name))
            .collect();
        for secret in &secrets {
            let volumes = self.secrets.entry(secret.clone()).or_default();
            volumes.push(name.into());
        }
        let claim = Related::new(What::Claim, namespace, of);
        self.volumes.insert(name.into(), Bound { claim, secrets });
    }

    fn unbind(&mut self, name: &str) {
        let Some(bound) = self.volumes.remove(name) else {
            return;
        };
        for secret in &bound.secrets {
            if let Some(volumes) = self.secrets.get_mut(secret) {
                volumes.retain(|one| **one != *name);
                if volumes.is_empty() {
                    self.secrets.remove(secret);
                }
            }
        }
    }
}

/// An object by its key in a cache: `name` or `namespace/name`.
fn holder(what: What, key: &str) -> Related {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    Related::new(what, namespace, name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn put(graph: &mut Graph, what: What, key: &str, object: &Value) {
        graph.put(what, key, object.as_object().expect("an object"));
    }

    fn pod(node: &str, secret: &str) -> Value {
        json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": node,
            "volumes": [{"secret": {"secretName": secret}}, {"persistentVolumeClaim": {"claimName": "c"}}]}})
    }

    #[test]
    fn a_node_has_what_its_pods_refer_to_as_long_as_they_are_there() {
        let mut graph = Graph::default();
        put(&mut graph, What::Pod, "n/p", &pod("", "s"));
        assert!(!graph.relates("", What::Secret, "n", "s"), "of no node");
        put(&mut graph, What::Pod, "n/p", &pod("one", "s"));
        put(&mut graph, What::Pod, "n/q", &pod("one", "s"));
        for (node, what, namespace, name, has) in [
            ("one", What::Secret, "n", "s", true),
            ("two", What::Secret, "n", "s", false),
            ("one", What::ConfigMap, "n", "s", false),
            ("one", What::Secret, "m", "s", false),
            ("one", What::Claim, "n", "c", true),
        ] {
            assert_eq!(graph.relates(node, what, namespace, name), has, "{name}");
        }
        graph.remove(What::Pod, "n/p");
        assert!(graph.relates("one", What::Secret, "n", "s"), "the other's");
        graph.remove(What::Pod, "n/q");
        assert!(!graph.relates("one", What::Secret, "n", "s"));
        assert!(graph.nodes.is_empty() && graph.holders.is_empty());
    }

    #[test]
    fn a_volume_and_its_secrets_belong_to_who_uses_its_claim() {
        let mut graph = Graph::default();
        let volume = json!({"spec": {"claimRef": {"namespace": "n", "name": "c"},
            "csi": {"nodeStageSecretRef": {"namespace": "k", "name": "stage"},
                "controllerPublishSecretRef": {"namespace": "k", "name": "publish"}}}});
        put(&mut graph, What::Volume, "v", &volume);
        assert!(!graph.relates("one", What::Volume, "", "v"));
        put(&mut graph, What::Pod, "n/p", &pod("one", "s"));
        assert!(graph.relates("one", What::Volume, "", "v"));
        assert!(graph.relates("one", What::Secret, "k", "stage"));
        assert!(!graph.relates("one", What::Secret, "k", "publish"));
        put(&mut graph, What::Volume, "v", &json!({"spec": {}}));
        assert!(!graph.relates("one", What::Volume, "", "v"));
        assert!(!graph.relates("one", What::Secret, "k", "stage"));
        assert!(graph.secrets.is_empty());
        graph.clear(What::Pod);
        assert!(graph.nodes.is_empty() && graph.holders.is_empty());
    }
}
