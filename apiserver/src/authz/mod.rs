//! What somebody may do: roles and bindings as the watch cache shows them,
//! compiled into an index by subject.
//!
//! Knows requests as attributes, identities, and the objects of
//! `rbac.authorization.k8s.io`. Must not know HTTP, nor ask the store for a
//! decision.

mod attributes;
mod escalation;
mod follow;
mod index;
pub mod node;
pub mod policy;
mod rule;

use std::sync::Arc;

pub use self::{
    attributes::{Attributes, is_true},
    escalation::Granted,
    index::together,
    rule::Rule,
};
use self::{follow::Current, index::RoleRef, node::Nodes};
use crate::{
    authn::{Identity, MASTERS},
    error::ApiError,
    registry::Registry,
};

/// Who decides, in this order; who has no opinion leaves it to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// What belongs to nodes.
    Node,
    /// Roles and bindings.
    Rbac,
    AlwaysAllow,
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "Node" => Ok(Self::Node),
            "RBAC" => Ok(Self::Rbac),
            "AlwaysAllow" => Ok(Self::AlwaysAllow),
            other => Err(format!(
                "{other:?} is no mode of authorization: Node, RBAC, AlwaysAllow"
            )),
        }
    }
}

/// What was decided, and upstream's words for why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    Allowed(Arc<str>),
    /// Nobody has allowed it.
    Refused(String),
}

impl Decision {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    pub fn reason(&self) -> &str {
        match self {
            Self::Allowed(why) => why,
            Self::Refused(why) => why,
        }
    }
}

/// What somebody is told who may not.
pub fn refusal(identity: &Identity, asked: &Attributes<'_>, reason: &str) -> ApiError {
    let mut why = asked.refused(&identity.user);
    if !reason.is_empty() {
        why = format!("{why}: {reason}");
    }
    ApiError::denied(asked.group, asked.resource, &asked.name, &why)
}

/// Decides.
pub struct Authorizer {
    modes: Vec<Mode>,
    /// Replaced whole with every change of roles and bindings.
    current: Arc<Current>,
    nodes: Nodes,
    nothing: Arc<str>,
}

impl Authorizer {
    pub fn new(modes: Vec<Mode>) -> Self {
        Self {
            modes,
            current: Arc::default(),
            nodes: Nodes::default(),
            nothing: "".into(),
        }
    }

    /// Whether roles and bindings are asked at all.
    pub fn has(&self, mode: Mode) -> bool {
        self.modes.contains(&mode)
    }

    pub fn decide(&self, identity: &Identity, asked: &Attributes<'_>) -> Decision {
        if identity.is_in(MASTERS) {
            return Decision::Allowed(self.nothing.clone());
        }
        let mut reasons = Vec::new();
        for mode in &self.modes {
            let (name, decision) = match mode {
                Mode::AlwaysAllow => return Decision::Allowed(self.nothing.clone()),
                Mode::Node => match self.nodes.decide(identity, asked) {
                    Some(decision) => ("node", decision),
                    None => continue,
                },
                Mode::Rbac => ("rbac", self.current.index().decide(identity, asked)),
            };
            match decision {
                Decision::Refused(why) if why.is_empty() => {}
                // As upstream names who of several has said so.
                Decision::Refused(why) => reasons.push(format!("{name}: {why}")),
                allowed @ Decision::Allowed(_) => return allowed,
            }
        }
        Decision::Refused(reasons.join("\n"))
    }

    /// All rules that somebody has in a namespace and everywhere, and what
    /// could not be found.
    pub fn rules(&self, identity: &Identity, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let mut rules = Vec::new();
        let mut errors = Vec::new();
        for mode in &self.modes {
            match mode {
                Mode::AlwaysAllow => rules.extend(Rule::all()),
                // What it allows is no list: see `untold`.
                Mode::Node => {}
                Mode::Rbac => {
                    let index = self.current.index();
                    index.collect(identity, namespace, &mut rules, &mut errors);
                }
            }
        }
        (rules, errors)
    }

    /// Why not all that somebody may do are rules, in upstream's words.
    pub fn untold(&self, identity: &Identity) -> Option<&'static str> {
        let node = self.has(Mode::Node) && node::name(identity).is_some();
        node.then_some("node authorizer does not support user rule resolution")
    }

    /// The rules of a role that a binding in a namespace, or in none, is to refer
    /// to.
    fn role(&self, role: &RoleRef, namespace: &str) -> Option<Arc<[Rule]>> {
        self.current.index().role(role, namespace)
    }

    /// Begins to keep the index as the caches show it, once they are filled.
    ///
    /// # Errors
    /// They are not filled in time.
    pub async fn start(&self, registry: &Registry) -> Result<(), ApiError> {
        if self.has(Mode::Node) {
            self.nodes.start(registry).await?;
        }
        if !self.has(Mode::Rbac) {
            return Ok(());
        }
        follow::start(registry, self.current.clone()).await
    }

    /// Waits until the index shows all that was written before.
    ///
    /// # Errors
    /// The store or its caches do not answer in time.
    pub async fn fresh(&self, registry: &Registry) -> Result<(), ApiError> {
        let revision = registry.store().revision().await?;
        follow::wait(registry, &self.current, revision).await
    }
}
