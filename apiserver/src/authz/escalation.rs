//! What a write needs beyond the right to write: nobody gives what he does not
//! have, with upstream's exceptions for who may `escalate` and `bind`, and who
//! creates an object by an update needs the right to create it.

use serde_json::Value;

use super::{
    Attributes, Authorizer, Decision, Rule, index::RoleRef, index::together, refusal, rule::lacking,
};
use crate::{
    authn::{Identity, MASTERS},
    error::ApiError,
    object::{self, Json},
    registry::Target,
};

const GROUP: &str = "rbac.authorization.k8s.io";

/// What somebody may write, beyond what his request says.
pub struct Granted<'a> {
    authorizer: &'a Authorizer,
    identity: &'a Identity,
}

impl<'a> Granted<'a> {
    /// The check of somebody's writes, if they have to be checked. The authorizer
    /// must be fresh when they give rights.
    pub fn of(authorizer: &'a Authorizer, identity: &'a Identity) -> Option<Self> {
        let needed = !identity.is_in(MASTERS) && authorizer.has(super::Mode::Rbac);
        needed.then_some(Self {
            authorizer,
            identity,
        })
    }

    /// Whether what is written of a target gives rights.
    pub fn gives_rights(target: &Target) -> bool {
        target.resource.group == GROUP
    }

    fn may(&self, verb: &str, resource: &str, name: &str, namespace: &str) -> bool {
        let asked = Attributes {
            verb,
            is_resource: true,
            group: GROUP,
            version: "*",
            namespace,
            resource,
            name: name.into(),
            ..Attributes::default()
        };
        self.authorizer.decide(self.identity, &asked).is_allowed()
    }

    /// Upstream's words when something is given that is not held.
    fn confirm(&self, rules: &[Rule], namespace: &str) -> Result<(), String> {
        let (held, errors) = self.authorizer.rules(self.identity, namespace);
        let lines = lacking(&held, rules);
        if lines.is_empty() {
            return Ok(());
        }
        let groups = self.identity.groups.iter();
        let groups: Vec<String> = groups.map(|group| format!("{group:?}")).collect();
        let mut why = format!(
            "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
            self.identity.user,
            groups.join(" "),
            lines.join("\n")
        );
        if !errors.is_empty() {
            why.push_str(&format!("; resolution errors: [{}]", together(&errors)));
        }
        Err(why)
    }

    fn role(&self, target: &Target, new: &Json, old: Option<&Json>) -> Result<(), ApiError> {
        let plural = &target.resource.plural;
        if self.may("escalate", plural, &target.name, &target.namespace) {
            return Ok(());
        }
        let refused = |why: &str| {
            let name = object::meta_str(new, "name");
            ApiError::forbidden(&target.resource, name, why)
        };
        self.confirm(&rules(new)?, &target.namespace)
            .map_err(|why| refused(&why))?;
        if aggregates(new) || old.is_some_and(aggregates) {
            // It may gather anything.
            self.confirm(&Rule::all(), &target.namespace).map_err(|_| {
                refused("must have cluster-admin privileges to use the aggregationRule")
            })?;
        }
        Ok(())
    }

    fn binding(&self, target: &Target, new: &Json) -> Result<(), ApiError> {
        let role: RoleRef = new
            .get("roleRef")
            .and_then(|role| serde_json::from_value(role.clone()).ok())
            .unwrap_or_default();
        let namespace = &target.namespace;
        let plural = match &*role.kind {
            "ClusterRole" => "clusterroles",
            "Role" => "roles",
            other => {
                let why = format!("unsupported role reference kind: {other:?}");
                return Err(ApiError::plain(why));
            }
        };
        if role.api_group == GROUP && self.may("bind", plural, &role.name, namespace) {
            return Ok(());
        }
        let Some(rules) = self.authorizer.role(&role, namespace) else {
            // Upstream names the resource of the request, not the role's.
            return Err(ApiError::not_found(&target.resource, &role.name));
        };
        self.confirm(&rules, namespace).map_err(|why| {
            let name = object::meta_str(new, "name");
            ApiError::forbidden(&target.resource, name, &why)
        })
    }
}

impl Granted<'_> {
    /// Who creates an object by an update needs the right to create it.
    ///
    /// # Errors
    /// He has not.
    pub fn may_create(&self, target: &Target) -> Result<(), ApiError> {
        let resource = &target.resource;
        let asked = Attributes {
            verb: "create",
            is_resource: true,
            group: &resource.group,
            version: &resource.version,
            namespace: &target.namespace,
            resource: &resource.plural,
            name: target.name.as_str().into(),
            ..Attributes::default()
        };
        match self.authorizer.decide(self.identity, &asked) {
            Decision::Allowed(_) => Ok(()),
            Decision::Refused(reason) => Err(refusal(self.identity, &asked, &reason)),
        }
    }

    /// # Errors
    /// It gives what its writer does not have.
    pub fn check(&self, target: &Target, new: &Json, old: Option<&Json>) -> Result<(), ApiError> {
        if !Self::gives_rights(target) {
            return Ok(());
        }
        if old.is_some_and(|old| only_collected(new, old)) {
            return Ok(());
        }
        match &*target.resource.plural {
            "roles" | "clusterroles" => self.role(target, new, old),
            "rolebindings" | "clusterrolebindings" => self.binding(target, new),
            _ => Ok(()),
        }
    }
}

fn rules(role: &Json) -> Result<Vec<Rule>, ApiError> {
    match role.get("rules") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(rules) => serde_json::from_value(rules.clone())
            .map_err(|error| ApiError::bad_request(error.to_string())),
    }
}

fn aggregates(role: &Json) -> bool {
    let selectors = object::at(role, &["aggregationRule", "clusterRoleSelectors"]);
    selectors
        .and_then(Value::as_array)
        .is_some_and(|selectors| !selectors.is_empty())
}

/// Whether a write changes nothing but what the garbage collector needs.
fn only_collected(new: &Json, old: &Json) -> bool {
    let without = |value: &Json| {
        let mut value = value.clone();
        for field in [
            "ownerReferences",
            "finalizers",
            "selfLink",
            "managedFields",
            "resourceVersion",
        ] {
            object::set_meta(&mut value, field, None);
        }
        value.retain(|_, one| !one.is_null());
        value
    };
    let (mut new, mut old) = (without(new), without(old));
    for field in ["kind", "apiVersion"] {
        new.remove(field);
        old.remove(field);
    }
    new == old
}
