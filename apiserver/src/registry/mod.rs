//! One code path for every kind: reads, conditional writes, deletion.
//!
//! Knows requests as targets and options, objects as canonical JSON, the store
//! and the caches. Knows no HTTP and no media type. What differs between kinds
//! is asked of the resource's `kinds::Kind`.

mod addresses;
mod body;
mod delete;
mod evict;
mod gate;
mod gated;
mod list;
mod made;
mod strategy;
pub mod sub;
mod write;

use std::{collections::HashMap, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use parking_lot::RwLock;

pub use self::{
    addresses::API_ADDRESS,
    body::{Validation, expect_kind, not_registered, parse_version},
    delete::{DeleteOptions, Deleted, Propagation},
    gate::{Attempt, Doing, Gate},
    list::{ListOptions, Listed, Match},
    write::{WriteOptions, generated_name},
};
use crate::{
    cache::Cache,
    catalog::{Catalog, Resource, ResourceId},
    encryption::Location,
    error::ApiError,
    kind::Sub,
    object::{self, Json, StoredError},
    store::{Pair, Store, Write},
};

/// Where objects are stored, by what they are called where their encryption is
/// configured. What is of no resource is never encrypted, as with upstream: node
/// ports that are given, servers that live.
pub fn places(catalog: &Catalog) -> Vec<Location> {
    let stored = catalog.resources().iter();
    let stored = stored.filter(|one| one.stored_as.is_none());
    let places = stored.map(|one| Location::new(&one.group, &one.plural, &one.prefix));
    places.collect()
}

/// What a request is about.
#[derive(Clone, Debug)]
pub struct Target {
    pub resource: Arc<Resource>,
    /// Empty for kinds without one, and for all namespaces.
    pub namespace: String,
    /// Empty for the collection.
    pub name: String,
    pub sub: Option<Sub>,
}

impl Target {
    pub fn key(&self) -> String {
        self.resource.key(&self.namespace, &self.name)
    }

    /// The part of the resource's keys that the request is about.
    pub fn scope(&self) -> String {
        if self.resource.namespaced && !self.namespace.is_empty() {
            format!("{}/", self.namespace)
        } else {
            String::new()
        }
    }

    fn not_found(&self) -> ApiError {
        ApiError::not_found(&self.resource, &self.name)
    }
}

/// An object as it leaves.
#[derive(Debug, Clone)]
pub struct Object {
    pub json: Bytes,
    pub revision: i64,
    /// What the client should know of its request.
    pub warnings: Vec<String>,
    /// A PUT or an apply made it.
    pub created: bool,
}

impl Object {
    fn new(json: Bytes, revision: i64) -> Self {
        Self {
            json,
            revision,
            warnings: Vec::new(),
            created: false,
        }
    }
}

/// All resources over one store.
pub struct Registry {
    store: Arc<Store>,
    catalog: ArcSwap<Catalog>,
    /// Started with the server, or with their first use, by the identity of their
    /// resource.
    caches: RwLock<HashMap<ResourceId, Arc<Cache>>>,
    leases: tokio::sync::Mutex<Option<write::SharedLease>>,
}

impl Registry {
    pub fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            catalog: ArcSwap::from_pointee(crate::kinds::built_in()),
            caches: RwLock::default(),
            leases: tokio::sync::Mutex::new(None),
        }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The resources that are served now. A request asks once.
    pub fn catalog(&self) -> Guard<Arc<Catalog>> {
        self.catalog.load()
    }

    /// Serves these resources from now on. Requests under way keep the
    /// resources they began with; caches of resources that are gone end with
    /// their last watch.
    pub fn replace_catalog(&self, catalog: Catalog) {
        let kept: Vec<ResourceId> = catalog.resources().iter().map(|one| one.id).collect();
        self.catalog.store(Arc::new(catalog));
        self.caches.write().retain(|id, _| kept.contains(id));
    }

    /// The cache of a resource, started with its first use.
    pub fn cache(&self, resource: &Arc<Resource>) -> Arc<Cache> {
        self.cache_from(resource, 0)
    }

    /// Starts the caches of all resources but those whose objects are kept for a
    /// time only, as upstream does, and waits a while until they are filled: a
    /// watch can begin at any revision from now on.
    pub async fn fill_caches(&self) {
        let catalog = self.catalog().clone();
        let stored = catalog.resources().iter();
        let stored = stored.filter(|one| one.stored_as.is_none() && one.rules.lifetime.is_none());
        let filled = stored.map(|resource| {
            let cache = self.cache(resource);
            async move {
                if let Err(error) = cache.wait(1).await {
                    tracing::warn!(resource = %resource.plural, %error, "its cache is not filled yet");
                }
            }
        });
        futures::future::join_all(filled).await;
    }

    /// Ends all watches, as the server is about to stop.
    pub fn close_watches(&self) {
        self.caches.read().values().for_each(|cache| cache.close());
    }

    /// The cache of a resource for a watch from a revision on: one that is not
    /// there yet begins with that revision.
    pub fn cache_from(&self, resource: &Arc<Resource>, revision: i64) -> Arc<Cache> {
        if let Some(cache) = self.caches.read().get(&resource.id) {
            return cache.clone();
        }
        let mut caches = self.caches.write();
        caches
            .entry(resource.id)
            .or_insert_with(|| Cache::start(resource.clone(), self.store.clone(), revision))
            .clone()
    }

    /// Reads one object: as it is now, or from the cache when the client takes
    /// any state not older than `version`.
    pub async fn get(&self, target: &Target, version: Option<i64>) -> Result<Object, ApiError> {
        if let Some(version) = version {
            let cache = self.cache(&target.resource);
            cache.wait(version).await?;
            let key = format!("{}{}", target.scope(), target.name);
            let entry = cache.get(&key).ok_or_else(|| target.not_found())?;
            return Ok(Object::new(entry.json(), entry.revision));
        }
        let pair = self.read(target).await?;
        shown(&target.resource, &pair.value, pair.revision)
    }

    /// An object as the store has it, to be changed, and its version.
    pub async fn held(&self, target: &Target) -> Result<Option<(Json, i64)>, ApiError> {
        match self.read(target).await {
            Ok(pair) => Ok(Some((opened(&target.resource, &pair)?, pair.revision))),
            Err(error) if error.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A write that puts an object in the place of its version.
    pub fn replacement(target: &Target, object: &mut Json, revision: i64) -> Write {
        let bytes = object::to_store(&target.resource, object);
        Write::put(target.key(), bytes, revision)
    }

    /// The stored pair of an object.
    async fn read(&self, target: &Target) -> Result<Pair, ApiError> {
        let (pair, _) = self.store.get(&target.key()).await?;
        pair.ok_or_else(|| target.not_found())
    }
}

/// A stored value as clients get it.
fn shown(resource: &Resource, value: &[u8], revision: i64) -> Result<Object, ApiError> {
    let transcoded = object::to_client(resource, value, revision)?;
    Ok(Object::new(transcoded.json.into(), revision))
}

fn opened(resource: &Resource, pair: &Pair) -> Result<Json, ApiError> {
    Ok(object::from_store(resource, pair)?)
}

impl From<StoredError> for ApiError {
    fn from(error: StoredError) -> Self {
        Self::internal(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ResourceId;

    #[tokio::test]
    async fn a_resource_is_added_and_removed_while_others_are_served() {
        let store = Store::new(&["http://127.0.0.1:1".to_owned()], None).expect("a store");
        let registry = Registry::new(Arc::new(store));
        let before = registry.catalog().clone();
        let pods = before.own("", "v1", "pods").clone();
        let cached = registry.cache(&pods);
        let maps = before.own("", "v1", "configmaps").clone();
        let widgets = Resource {
            id: ResourceId::new(),
            group: "example.com".to_owned().into(),
            version: "v1".into(),
            plural: "widgets".to_owned().into(),
            kind: "Widget".to_owned().into(),
            namespaced: true,
            short: Vec::new(),
            categories: Vec::new(),
            subs: (&[]).into(),
            selectable: (&[]).into(),
            message: maps.message,
            prefix: "/registry/example.com/widgets/".to_owned(),
            rules: maps.rules,
            stored_as: None,
        };
        registry.replace_catalog(before.with(widgets));
        let catalog = registry.catalog().clone();
        let added = catalog.find("example.com", "v1", "widgets").expect("added");
        assert!(Arc::ptr_eq(&registry.cache(added), &registry.cache(added)));
        assert!(before.find("example.com", "v1", "widgets").is_none());
        // What both have goes on.
        let same = registry.catalog().own("", "v1", "pods").clone();
        assert!(Arc::ptr_eq(&registry.cache(&same), &cached));
        let gone = registry.cache(added);
        registry.replace_catalog(Catalog::of(before.resources().to_vec()));
        assert_eq!(Arc::strong_count(&gone), 1, "the registry let it go");
    }
}
