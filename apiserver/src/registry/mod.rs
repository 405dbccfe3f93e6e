//! One code path for every kind: reads, conditional writes, deletion.
//!
//! Knows requests as targets and options, objects as canonical JSON, the store
//! and the caches. Knows no HTTP and no media type. What differs between kinds
//! is asked of `schema`, `strategy`, `defaults` and `validate`.

mod addresses;
mod delete;
mod list;
mod strategy;
pub mod sub;
mod write;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

pub use self::{
    addresses::API_ADDRESS,
    delete::{DeleteOptions, Deleted, Propagation},
    list::{ListOptions, Listed, Match},
    write::{Validation, WriteOptions, expect_kind},
};
use crate::{
    cache::Cache,
    error::ApiError,
    object::{self, Json, StoredError},
    schema::{Resource, Sub, resources},
    store::{Pair, Store},
};

/// What a request is about.
#[derive(Clone, Debug)]
pub struct Target {
    pub resource: &'static Resource,
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
        ApiError::not_found(self.resource, &self.name)
    }
}

/// An object as it leaves.
#[derive(Debug, Clone)]
pub struct Object {
    pub json: Bytes,
    pub revision: i64,
    /// What the client should know of its request.
    pub warnings: Vec<String>,
}

impl Object {
    fn new(json: Bytes, revision: i64) -> Self {
        Self {
            json,
            revision,
            warnings: Vec::new(),
        }
    }
}

/// All resources over one store.
pub struct Registry {
    store: Arc<Store>,
    caches: Vec<OnceLock<Arc<Cache>>>,
    events: tokio::sync::Mutex<Option<write::EventLease>>,
}

impl Registry {
    pub fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            caches: resources().iter().map(|_| OnceLock::new()).collect(),
            events: tokio::sync::Mutex::new(None),
        }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The cache of a resource, started with its first use.
    pub fn cache(&self, resource: &'static Resource) -> &Arc<Cache> {
        let index = resources()
            .iter()
            .position(|one| std::ptr::eq(one, resource))
            .expect("a resource is one of the table");
        self.caches[index].get_or_init(|| Cache::start(resource, self.store.clone()))
    }

    /// Reads one object: as it is now, or from the cache when the client takes
    /// any state not older than `version`.
    pub async fn get(&self, target: &Target, version: Option<i64>) -> Result<Object, ApiError> {
        if let Some(version) = version {
            let cache = self.cache(target.resource);
            cache.wait(version).await?;
            let key = format!("{}{}", target.scope(), target.name);
            let entry = cache.get(&key).ok_or_else(|| target.not_found())?;
            return Ok(Object::new(entry.json(), entry.revision));
        }
        let pair = self.read(target).await?;
        shown(target.resource, &pair.value, pair.revision)
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
