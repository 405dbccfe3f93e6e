//! Who has a say in a write after it was decoded and before it is stored: the
//! plugins that upstream has on by default, in its order, from memory.
//!
//! Knows objects, identities and what the watch cache shows. Must not know HTTP,
//! nor how an object is stored. A plugin is a file and one value of [`Plugin`];
//! it says which resources it is about, and no other write ever meets it.

mod asked;
mod certificates;
mod classes;
mod gate;
mod in_use;
mod limits;
mod nodes;
mod pod_security;
mod priority;
mod quota;
mod resources;
mod round;
mod runtime_class;
mod service_account;
mod taint;
mod tolerations;
mod webhook;

use std::{collections::HashMap, str::FromStr};

use futures::future::BoxFuture;

pub use self::{
    asked::{Asked, Options},
    gate::Gatekeeper,
};
use crate::{authn::Identity, catalog::Resource, error::ApiError, registry::Registry};

/// What a plugin says; an error is what the client is told.
pub type Verdict = Result<(), ApiError>;

/// One that has a say.
pub trait Plugin: Send + Sync {
    fn name(&self) -> &'static str;

    /// The resources that it is about, each with its group.
    fn resources(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// It is about every resource.
    fn is_about_all(&self) -> bool {
        false
    }

    /// It has a say in who deletes what.
    fn sees_deletions(&self, _registry: &Registry, _identity: &Identity) -> bool {
        false
    }

    /// Changes the object, or refuses it.
    fn admit<'a>(&'a self, _asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        Box::pin(async { Ok(()) })
    }

    /// Refuses the object, which is valid by itself.
    fn validate<'a>(&'a self, _asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        Box::pin(async { Ok(()) })
    }
}

/// All of them, in upstream's order.
fn all() -> Vec<Box<dyn Plugin>> {
    let (mutating, validating) = webhook::plugins();
    vec![
        Box::new(limits::LimitRanger),
        Box::new(service_account::ServiceAccount),
        Box::new(nodes::NodeRestriction),
        Box::new(taint::TaintNodesByCondition),
        Box::new(pod_security::PodSecurity),
        Box::new(priority::Priority),
        Box::new(tolerations::DefaultTolerationSeconds),
        Box::new(classes::DefaultStorageClass),
        Box::new(in_use::StorageObjectInUseProtection),
        Box::new(runtime_class::RuntimeClass),
        Box::new(certificates::CertificateApproval),
        Box::new(certificates::CertificateSigning),
        Box::new(certificates::CertificateSubjectRestriction),
        Box::new(classes::DefaultIngressClass),
        Box::new(mutating),
        Box::new(validating),
        Box::new(quota::ResourceQuota),
    ]
}

/// The plugins that are on, by what they are about.
pub struct Admission {
    plugins: Vec<Box<dyn Plugin>>,
    /// Group and plural, and the places of those that are about them.
    index: HashMap<(&'static str, &'static str), Vec<usize>>,
    /// Those that are about every resource; they come last.
    rest: Vec<usize>,
}

impl Admission {
    /// Those that are on by default, and those that are named, but for those that
    /// are to be off.
    ///
    /// # Errors
    /// One is to be on that is not here, or off that is part of every write.
    pub fn new(enabled: &[Name], disabled: &[Name]) -> Result<Self, String> {
        let named = |list: &[Name], name: &str| list.iter().any(|one| one.0 == name);
        if named(disabled, ALWAYS) {
            return Err(format!("{ALWAYS} is part of every write: it is never off"));
        }
        let mut plugins = all();
        let here =
            |one: &&Name| one.0 == ALWAYS || plugins.iter().any(|plugin| plugin.name() == one.0);
        if let Some(absent) = enabled.iter().find(|one| !here(one)) {
            return Err(format!("the plugin {} is not here", absent.0));
        }
        plugins.retain(|plugin| {
            let name = plugin.name();
            named(enabled, name) || !OFF.contains(&name) && !named(disabled, name)
        });
        let mut index: HashMap<_, Vec<usize>> = HashMap::new();
        for (place, plugin) in plugins.iter().enumerate() {
            for about in plugin.resources() {
                index.entry(*about).or_default().push(place);
            }
        }
        let rest = plugins.iter().enumerate();
        let rest = rest.filter(|(_, plugin)| plugin.is_about_all());
        let rest = rest.map(|(place, _)| place).collect();
        Ok(Self {
            plugins,
            index,
            rest,
        })
    }

    /// Those that are about a resource.
    fn about<'a>(&'a self, resource: &'a Resource) -> impl Iterator<Item = &'a dyn Plugin> {
        let places = self.index.get(&(&*resource.group, &*resource.plural));
        let places = places.map_or(&[][..], Vec::as_slice);
        let places = places.iter().chain(&self.rest);
        places.map(|place| &*self.plugins[*place])
    }
}

/// Those that are off unless they are named, as upstream's.
const OFF: &[&str] = &["NodeRestriction"];

/// What is part of every write: it cannot be off.
const ALWAYS: &str = "NamespaceLifecycle";

/// All plugins of upstream, here or not.
const NAMES: &[&str] = &[
    "AlwaysAdmit",
    "AlwaysDeny",
    "AlwaysPullImages",
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "ClusterTrustBundleAttest",
    "DefaultIngressClass",
    "DefaultStorageClass",
    "DefaultTolerationSeconds",
    "DenyServiceExternalIPs",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "ImagePolicyWebhook",
    "LimitPodHardAntiAffinityTopology",
    "LimitRanger",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "NamespaceAutoProvision",
    "NamespaceExists",
    "NamespaceLifecycle",
    "NodeDeclaredFeatureValidator",
    "NodeRestriction",
    "OwnerReferencesPermissionEnforcement",
    "PersistentVolumeClaimResize",
    "PodGroupProtection",
    "PodNodeSelector",
    "PodResizeValidator",
    "PodSecurity",
    "PodTolerationRestriction",
    "PodTopologyLabels",
    "Priority",
    "ResourceQuota",
    "RuntimeClass",
    "ServiceAccount",
    "StorageObjectInUseProtection",
    "TaintNodesByCondition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
];

/// A plugin's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name(String);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match NAMES.contains(&text) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!(
                "{text:?} is no plugin of admission: {}",
                NAMES.join(", ")
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<Name> {
        let parsed = list.iter().map(|name| name.parse());
        parsed.collect::<Result<_, _>>().expect("names of plugins")
    }

    fn on(enabled: &[&str], disabled: &[&str]) -> Result<Vec<&'static str>, String> {
        let admission = Admission::new(&names(enabled), &names(disabled))?;
        Ok(admission.plugins.iter().map(|one| one.name()).collect())
    }

    #[test]
    fn plugins_are_on_as_upstreams() {
        let has = |enabled: &[&str], disabled: &[&str], name| {
            on(enabled, disabled).expect("plugins").contains(&name)
        };
        assert!(has(&[], &[], "ServiceAccount"));
        assert!(!has(&[], &[], "NodeRestriction"));
        assert!(has(&["NodeRestriction"], &[], "NodeRestriction"));
        assert!(!has(&[], &["Priority"], "Priority"));
        assert!("NoSuch".parse::<Name>().is_err());
        assert!(on(&["AlwaysDeny"], &[]).is_err(), "it is not here");
        assert!(on(&[], &[ALWAYS]).is_err());
        assert!(all().iter().all(|plugin| NAMES.contains(&plugin.name())));
    }
}
