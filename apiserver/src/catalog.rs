//! The resources that are served, as one value that is replaced whole while
//! requests run: each request keeps the one it began with.
//!
//! Knows where resources stand in URLs and in the store, and what is particular
//! to their kinds. Must not know objects, requests, the store or a cache.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    kind::{Also, Kind, Selectable, Sub},
    schema::{MessageId, schema},
};

/// A resource is the same one as long as its identity is: caches are kept by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ResourceId(u64);

impl ResourceId {
    /// One that no other resource of this process has or had.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Default for ResourceId {
    fn default() -> Self {
        Self::new()
    }
}

/// One resource of one version.
#[derive(Debug)]
pub struct Resource {
    pub id: ResourceId,
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub plural: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub namespaced: bool,
    pub short: Vec<Cow<'static, str>>,
    pub categories: Vec<Cow<'static, str>>,
    pub subs: Cow<'static, [Sub]>,
    pub selectable: Cow<'static, [Selectable]>,
    pub message: MessageId,
    /// Keys begin with this, which ends in `/`.
    pub prefix: String,
    /// What is particular to the kind.
    pub rules: &'static Kind,
    /// The resource as which its objects are stored, if it is another, and how
    /// one becomes the other.
    pub stored_as: Option<Stored>,
}

/// The stored version of a resource that is served in another one, too.
pub struct Stored {
    pub resource: Arc<Resource>,
    pub conversion: &'static Also,
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stored({})", self.resource.api_version())
    }
}

impl Resource {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone().into_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods` or `deployments.apps`, as messages name it.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone().into_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// The resource as which objects of this one are stored: itself, unless
    /// this is another version of it.
    pub fn stored(self: &Arc<Self>) -> &Arc<Self> {
        self.stored_as
            .as_ref()
            .map_or(self, |stored| &stored.resource)
    }

    fn stands_at(&self, group: &str, version: &str, plural: &str) -> bool {
        self.plural == plural && self.group == group && self.version == version
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

    fn built_in(kind: &'static Kind) -> Self {
        Self {
            id: ResourceId::new(),
            group: kind.group.into(),
            version: kind.version.into(),
            plural: kind.plural.into(),
            kind: kind.kind.into(),
            namespaced: kind.namespaced,
            short: kind.short.iter().map(|one| Cow::Borrowed(*one)).collect(),
            categories: kind
                .categories
                .iter()
                .map(|one| Cow::Borrowed(*one))
                .collect(),
            subs: kind.subs.into(),
            selectable: kind.selectable.into(),
            message: message(kind.group, kind.version, kind.kind),
            prefix: format!("/registry/{}/", kind.place),
            rules: kind,
            stored_as: None,
        }
    }

    fn also(stored: &Arc<Self>, also: &'static Also) -> Self {
        let kind = stored.rules;
        Self {
            group: also.group.into(),
            version: also.version.into(),
            selectable: also.selectable.into(),
            message: message(also.group, also.version, kind.kind),
            stored_as: Some(Stored {
                resource: stored.clone(),
                conversion: also,
            }),
            ..Self::built_in(kind)
        }
    }
}

fn message(group: &str, version: &str, kind: &str) -> MessageId {
    schema()
        .find(&format!("io.k8s.api.{}.{version}.{kind}", package(group)))
        .expect("every built-in kind has a message: a test builds the catalog")
}

/// A resource that is answered, not stored; of version `v1`.
#[derive(Debug)]
pub struct Review {
    pub group: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
}

const fn review(group: &'static str, plural: &'static str, kind: &'static str) -> Review {
    Review {
        group,
        plural,
        kind,
        namespaced: false,
    }
}

const AUTHORIZATION: &str = "authorization.k8s.io";
pub const REVIEWS: &[Review] = &[
    review(
        "authentication.k8s.io",
        "selfsubjectreviews",
        "SelfSubjectReview",
    ),
    review("authentication.k8s.io", "tokenreviews", "TokenReview"),
    Review {
        namespaced: true,
        ..review(
            AUTHORIZATION,
            "localsubjectaccessreviews",
            "LocalSubjectAccessReview",
        )
    },
    review(
        AUTHORIZATION,
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
    ),
    review(
        AUTHORIZATION,
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
    ),
    review(AUTHORIZATION, "subjectaccessreviews", "SubjectAccessReview"),
];

/// The directory of a group's types in `k8s.io/api`.
pub fn package(group: &str) -> &str {
    match group {
        "" => "core",
        group => group.split('.').next().unwrap_or(group),
    }
}

/// All resources by their place in URLs.
#[derive(Debug)]
pub struct Catalog {
    /// Groups and resources in alphabetical order, a group's preferred version
    /// first.
    resources: Vec<Arc<Resource>>,
    /// By plural: few share one, and a request finds its own without an
    /// allocation.
    index: HashMap<String, Vec<Arc<Resource>>>,
}

impl Catalog {
    /// Of these kinds, in all their versions.
    pub fn built_in(kinds: impl Iterator<Item = &'static Kind>) -> Self {
        let mut resources = Vec::new();
        for kind in kinds {
            let stored = Arc::new(Resource::built_in(kind));
            let also = kind.also.iter();
            resources.extend(also.map(|also| Arc::new(Resource::also(&stored, also))));
            resources.push(stored);
        }
        Self::of(resources)
    }

    /// These resources and no other. A resource that two catalogs share is the
    /// same one: its cache and its watches go on.
    pub fn of(mut resources: Vec<Arc<Resource>>) -> Self {
        // The newest version first, which is the preferred one.
        resources.sort_by(|one, other| {
            let by = |one: &Arc<Resource>, other: &Arc<Resource>| one.plural.cmp(&other.plural);
            one.group
                .cmp(&other.group)
                .then_with(|| other.version.cmp(&one.version))
                .then_with(|| by(one, other))
        });
        let mut index: HashMap<String, Vec<Arc<Resource>>> = HashMap::new();
        for one in &resources {
            let of = index.entry(one.plural.clone().into_owned()).or_default();
            of.push(one.clone());
        }
        Self { resources, index }
    }

    /// The same with one more resource, in place of one of the same place.
    #[must_use]
    pub fn with(&self, resource: Resource) -> Self {
        let others = self
            .resources
            .iter()
            .filter(|one| !one.stands_at(&resource.group, &resource.version, &resource.plural));
        let mut all: Vec<_> = others.cloned().collect();
        all.push(Arc::new(resource));
        Self::of(all)
    }

    pub fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// Looks a resource up.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        let mut of = self.index.get(plural)?.iter();
        of.find(|one| one.stands_at(group, version, plural))
    }

    /// A built-in resource that this program itself needs.
    pub fn own(&self, group: &str, version: &str, plural: &str) -> &Arc<Resource> {
        self.find(group, version, plural)
            .expect("a built-in resource: no catalog is without them")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn the_built_in_catalog_is_whole() {
        let catalog = crate::kinds::built_in();
        let all = catalog.resources();
        let stored: Vec<_> = all.iter().filter(|one| one.stored_as.is_none()).collect();
        assert_eq!(stored.len(), all.len() - 2);
        let prefixes: HashSet<_> = stored.iter().map(|resource| &resource.prefix).collect();
        assert_eq!(
            prefixes.len(),
            stored.len(),
            "two resources share their keys"
        );
        let pods = catalog.own("", "v1", "pods");
        assert_eq!(pods.key("default", "a"), "/registry/pods/default/a");
        assert_eq!(
            catalog.own("", "v1", "nodes").key("", "n"),
            "/registry/minions/n"
        );
        assert!(catalog.find("apps", "v1beta1", "deployments").is_none());
        assert_eq!(
            catalog.own("apps", "v1", "deployments").qualified(),
            "deployments.apps"
        );
        let events = catalog.own("events.k8s.io", "v1", "events");
        assert_eq!(events.stored().group, "");
    }
}
