//! Roles and bindings by subject: what a request needs is found by its user's
//! name and groups, not by going through all bindings.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::ControlFlow,
    sync::Arc,
};

use serde::Deserialize;

use super::{Attributes, Decision, Rule};
use crate::authn::Identity;

const GROUP: &str = "rbac.authorization.k8s.io";

/// What is read of a role.
#[derive(Debug, Default, Deserialize)]
pub struct Role {
    #[serde(default)]
    rules: Option<Vec<Rule>>,
}

/// What is read of a binding.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
    role_ref: RoleRef,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RoleRef {
    pub api_group: String,
    pub kind: String,
    pub name: String,
}

/// Where the rules of a binding come from.
type Found = Result<Arc<[Rule]>, Arc<str>>;

/// What one binding gives to one subject.
#[derive(Debug)]
struct Grant {
    /// The binding, which may name a user by several of its subjects.
    binding: usize,
    /// Upstream's words for binding and subject.
    source: Arc<str>,
    rules: Found,
}

/// What is given to one user or group.
#[derive(Debug, Default)]
struct Given {
    everywhere: Vec<Grant>,
    within: HashMap<Arc<str>, Vec<Grant>>,
}

/// All objects by their keys after the prefix: `name` or `namespace/name`.
#[derive(Debug, Default)]
pub struct Objects {
    pub roles: BTreeMap<Box<str>, Arc<[Rule]>>,
    pub cluster_roles: BTreeMap<Box<str>, Arc<[Rule]>>,
    pub bindings: BTreeMap<Box<str>, Binding>,
    pub cluster_bindings: BTreeMap<Box<str>, Binding>,
}

impl Role {
    pub fn rules(self) -> Arc<[Rule]> {
        self.rules.unwrap_or_default().into()
    }
}

/// Who may do what.
#[derive(Debug, Default)]
pub struct Index {
    users: HashMap<Box<str>, Given>,
    groups: HashMap<Box<str>, Given>,
    roles: HashMap<Box<str>, Arc<[Rule]>>,
    cluster_roles: HashMap<Box<str>, Arc<[Rule]>>,
}

impl Index {
    pub fn new(objects: &Objects) -> Self {
        let cloned = |of: &BTreeMap<Box<str>, Arc<[Rule]>>| {
            of.iter()
                .map(|(key, rules)| (key.clone(), rules.clone()))
                .collect()
        };
        let mut index = Self {
            roles: cloned(&objects.roles),
            cluster_roles: cloned(&objects.cluster_roles),
            ..Self::default()
        };
        let all = objects.cluster_bindings.iter().chain(&objects.bindings);
        for (number, (key, binding)) in all.enumerate() {
            index.add(number, key, binding);
        }
        index
    }

    fn add(&mut self, number: usize, key: &str, binding: &Binding) {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        let rules = self.referred(&binding.role_ref, namespace);
        let within: Arc<str> = namespace.into();
        for subject in binding.subjects.iter().flatten() {
            let given = match &*subject.kind {
                "User" => self.users.entry((&*subject.name).into()),
                "Group" => self.groups.entry((&*subject.name).into()),
                "ServiceAccount" => match subject.place(namespace) {
                    "" => continue,
                    place => {
                        let user = format!("system:serviceaccount:{place}:{}", subject.name);
                        self.users.entry(user.into())
                    }
                },
                _ => continue,
            };
            let given = given.or_default();
            let grants = match namespace {
                "" => &mut given.everywhere,
                _ => given.within.entry(within.clone()).or_default(),
            };
            grants.push(Grant {
                binding: number,
                source: source(namespace, name, &binding.role_ref, subject).into(),
                rules: rules.clone(),
            });
        }
    }

    /// The rules of a role that is referred to from a namespace, empty for all.
    fn referred(&self, role: &RoleRef, namespace: &str) -> Found {
        let (found, kind) = match &*role.kind {
            "ClusterRole" => (self.cluster_roles.get(&*role.name), "clusterrole"),
            "Role" => (
                self.roles.get(&*format!("{namespace}/{}", role.name)),
                "role",
            ),
            other => {
                return Err(format!("unsupported role reference kind: {other:?}").into());
            }
        };
        found
            .cloned()
            .ok_or_else(|| format!("{kind}.{GROUP} {:?} not found", role.name).into())
    }

    /// The rules of a role that a binding is to refer to.
    pub fn role(&self, role: &RoleRef, namespace: &str) -> Option<Arc<[Rule]>> {
        self.referred(role, namespace).ok()
    }

    /// Shows all that is given to somebody in a namespace: first what is given
    /// everywhere.
    fn visit<'a>(
        &'a self,
        identity: &Identity,
        namespace: &str,
        show: &mut dyn FnMut(&'a Grant) -> ControlFlow<()>,
    ) {
        let user = self.users.get(&*identity.user).into_iter();
        let groups = identity.groups.iter();
        let given = || {
            let groups = groups
                .clone()
                .filter_map(move |group| self.groups.get(&**group));
            user.clone().chain(groups)
        };
        for grant in given().flat_map(|given| &given.everywhere) {
            if show(grant).is_break() {
                return;
            }
        }
        if namespace.is_empty() {
            return;
        }
        let within = given().filter_map(|given| given.within.get(namespace));
        for grant in within.flatten() {
            if show(grant).is_break() {
                return;
            }
        }
    }

    pub fn decide(&self, identity: &Identity, asked: &Attributes<'_>) -> Decision {
        let mut allowed = None;
        let mut missing: Vec<Arc<str>> = Vec::new();
        self.visit(identity, asked.namespace, &mut |grant| match &grant.rules {
            Ok(rules) if rules.iter().any(|rule| rule.allows(asked)) => {
                allowed = Some(grant.source.clone());
                ControlFlow::Break(())
            }
            Ok(_) => ControlFlow::Continue(()),
            Err(why) => {
                missing.push(why.clone());
                ControlFlow::Continue(())
            }
        });
        match allowed {
            Some(source) => Decision::Allowed(source),
            None if missing.is_empty() => Decision::Refused(String::new()),
            None => Decision::Refused(format!("RBAC: {}", together(&missing))),
        }
    }

    /// All rules of somebody in a namespace and everywhere.
    pub fn collect(
        &self,
        identity: &Identity,
        namespace: &str,
        rules: &mut Vec<Rule>,
        errors: &mut Vec<String>,
    ) {
        let mut seen = HashSet::new();
        self.visit(identity, namespace, &mut |grant| {
            if seen.insert(grant.binding) {
                match &grant.rules {
                    Ok(own) => rules.extend(own.iter().cloned()),
                    Err(why) => errors.push(why.to_string()),
                }
            }
            ControlFlow::Continue(())
        });
    }
}

/// Errors as Go writes several: each once.
pub fn together(errors: &[impl AsRef<str>]) -> String {
    let mut once: Vec<&str> = Vec::new();
    for error in errors.iter().map(AsRef::as_ref) {
        if !once.contains(&error) {
            once.push(error);
        }
    }
    match &once[..] {
        [one] => (*one).to_owned(),
        many => format!("[{}]", many.join(", ")),
    }
}

impl Subject {
    /// The namespace of a service account, by default that of the binding.
    fn place<'a>(&'a self, namespace: &'a str) -> &'a str {
        match &*self.namespace {
            "" => namespace,
            own => own,
        }
    }
}

fn source(namespace: &str, name: &str, role: &RoleRef, subject: &Subject) -> String {
    let (kind, binding) = match namespace {
        "" => ("ClusterRoleBinding", name.to_owned()),
        namespace => ("RoleBinding", format!("{name}/{namespace}")),
    };
    let to = match &*subject.kind {
        "ServiceAccount" => format!("{}/{}", subject.name, subject.place(namespace)),
        _ => subject.name.clone(),
    };
    format!(
        "RBAC: allowed by {kind} {binding:?} of {} {:?} to {} {to:?}",
        role.kind, role.name, subject.kind
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn binding(role: Value, subjects: Value) -> Binding {
        serde_json::from_value(json!({"roleRef": role, "subjects": subjects})).expect("a binding")
    }

    fn index() -> Index {
        let rules = |resource: &str, verb: &str| -> Arc<[Rule]> {
            let role =
                json!({"rules": [{"verbs": [verb], "apiGroups": [""], "resources": [resource]}]});
            serde_json::from_value::<Role>(role)
                .expect("a role")
                .rules()
        };
        let cluster = |name: &str| json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": name});
        let mut objects = Objects::default();
        objects
            .cluster_roles
            .insert("reader".into(), rules("pods", "get"));
        objects
            .roles
            .insert("a/writer".into(), rules("pods", "create"));
        objects.cluster_bindings.insert(
            "all".into(),
            binding(
                cluster("reader"),
                json!([{"kind": "Group", "name": "devs"}, {"kind": "User", "name": "alice"}]),
            ),
        );
        objects.cluster_bindings.insert(
            "none".into(),
            binding(
                cluster("gone"),
                json!([{"kind": "User", "name": "bob"}, {"kind": "ServiceAccount", "name": "x"}]),
            ),
        );
        objects.bindings.insert(
            "a/local".into(),
            binding(
                json!({"apiGroup": GROUP, "kind": "Role", "name": "writer"}),
                json!([{"kind": "ServiceAccount", "name": "s"}, {"kind": "ServiceAccount", "name": "s", "namespace": "b"}]),
            ),
        );
        Index::new(&objects)
    }

    fn who(user: &str, groups: &[&str]) -> Identity {
        Identity {
            user: user.to_owned(),
            groups: groups.iter().map(|one| (*one).to_owned()).collect(),
            ..Identity::default()
        }
    }

    fn decided(user: &str, groups: &[&str], verb: &str, namespace: &str) -> Decision {
        let asked = Attributes {
            verb,
            is_resource: true,
            namespace,
            resource: "pods",
            ..Attributes::default()
        };
        index().decide(&who(user, groups), &asked)
    }

    #[test]
    fn a_binding_gives_its_roles_rules_to_its_subjects() {
        assert_eq!(
            decided("x", &["devs"], "get", "").reason(),
            "RBAC: allowed by ClusterRoleBinding \"all\" of ClusterRole \"reader\" to Group \"devs\""
        );
        assert!(decided("alice", &[], "get", "anywhere").is_allowed());
        assert!(!decided("alice", &[], "create", "a").is_allowed());
        let account = "system:serviceaccount:a:s";
        assert_eq!(
            decided(account, &[], "create", "a").reason(),
            "RBAC: allowed by RoleBinding \"local/a\" of Role \"writer\" to ServiceAccount \"s/a\""
        );
        assert!(decided("system:serviceaccount:b:s", &[], "create", "a").is_allowed());
        assert!(!decided(account, &[], "create", "b").is_allowed());
        assert!(!decided(account, &[], "create", "").is_allowed());
    }

    #[test]
    fn a_role_that_is_not_there_is_told() {
        let refused = decided("bob", &[], "get", "");
        assert_eq!(
            refused,
            Decision::Refused(
                "RBAC: clusterrole.rbac.authorization.k8s.io \"gone\" not found".to_owned()
            )
        );
        assert_eq!(
            decided("nobody", &[], "get", ""),
            Decision::Refused(String::new())
        );
    }

    #[test]
    fn who_is_named_twice_has_the_rules_once() {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        index().collect(&who("alice", &["devs"]), "a", &mut rules, &mut errors);
        assert_eq!((rules.len(), errors.len()), (1, 0));
    }
}
