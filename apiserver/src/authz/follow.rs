//! Keeps the index as the watch cache shows roles and bindings.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::index::{Binding, Index, Objects, Role};
use crate::{
    cache::{self, Entry, News, Reader},
    error::ApiError,
    limits,
    registry::Registry,
    tasks,
};

const GROUP: &str = "rbac.authorization.k8s.io";

/// The four resources, each with the map it is read into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Of {
    Roles,
    ClusterRoles,
    Bindings,
    ClusterBindings,
}

const ALL: [(&str, Of); 4] = [
    ("roles", Of::Roles),
    ("clusterroles", Of::ClusterRoles),
    ("rolebindings", Of::Bindings),
    ("clusterrolebindings", Of::ClusterBindings),
];

fn readers(registry: &Registry) -> Vec<Reader> {
    let catalog = registry.catalog();
    let resources = ALL
        .iter()
        .map(|(plural, _)| catalog.own(GROUP, "v1", plural));
    resources
        .map(|resource| Reader::new(registry.cache(resource)))
        .collect()
}

/// The index as it is, and the store's revision that it shows.
pub struct Current {
    index: ArcSwap<Index>,
    shown: watch::Sender<i64>,
}

impl Default for Current {
    fn default() -> Self {
        Self {
            index: ArcSwap::default(),
            shown: watch::channel(0).0,
        }
    }
}

impl Current {
    pub fn index(&self) -> Guard<Arc<Index>> {
        self.index.load()
    }
}

/// Makes the index once and keeps it.
pub async fn start(registry: &Registry, current: Arc<Current>) -> Result<(), ApiError> {
    let mut readers = readers(registry);
    for reader in &readers {
        reader.filled().await?;
    }
    let mut objects = Objects::default();
    renew(&mut readers, &mut objects, &current);
    tasks::spawn("roles and bindings", async move {
        cache::keep(readers, |readers| renew(readers, &mut objects, &current)).await;
    });
    Ok(())
}

/// Waits until the index shows a revision.
pub async fn wait(registry: &Registry, current: &Current, revision: i64) -> Result<(), ApiError> {
    let catalog = registry.catalog().clone();
    for (plural, _) in ALL {
        let cache = registry.cache(catalog.own(GROUP, "v1", plural));
        cache.wait(revision).await?;
    }
    // The task that keeps it was woken by what these waits saw.
    let mut shown = current.shown.subscribe();
    let reached = shown.wait_for(|shown| *shown >= revision);
    match tokio::time::timeout(limits::FRESH, reached).await {
        Ok(_) => Ok(()),
        Err(_) => Err(ApiError::version_ahead(revision, *current.shown.borrow())),
    }
}

/// Takes what has changed into the index.
fn renew(readers: &mut [Reader], objects: &mut Objects, current: &Current) {
    let mut changed = false;
    for (reader, (_, of)) in readers.iter_mut().zip(ALL) {
        changed |= reader.read(&mut |change| match change {
            News::Anew => of.clear(objects),
            News::Put(entry) => of.put(objects, &entry.key, Some(entry)),
            News::Gone(entry) => of.put(objects, &entry.key, None),
        });
    }
    // All that was written until then is in it.
    let revision = readers.iter().map(Reader::revision).min();
    let revision = revision.unwrap_or(0);
    if changed {
        current.index.store(Arc::new(Index::new(objects)));
    }
    current.shown.send_replace(revision);
}

impl Of {
    fn clear(self, objects: &mut Objects) {
        match self {
            Self::Roles => objects.roles.clear(),
            Self::ClusterRoles => objects.cluster_roles.clear(),
            Self::Bindings => objects.bindings.clear(),
            Self::ClusterBindings => objects.cluster_bindings.clear(),
        }
    }

    fn put(self, objects: &mut Objects, key: &str, entry: Option<&Entry>) {
        let Objects {
            roles,
            cluster_roles,
            bindings,
            cluster_bindings,
        } = objects;
        match self {
            Self::Roles => put(roles, key, read(entry).map(Role::rules)),
            Self::ClusterRoles => put(cluster_roles, key, read(entry).map(Role::rules)),
            Self::Bindings => put(bindings, key, read::<Binding>(entry)),
            Self::ClusterBindings => put(cluster_bindings, key, read::<Binding>(entry)),
        }
    }
}

fn put<T>(map: &mut std::collections::BTreeMap<Box<str>, T>, key: &str, value: Option<T>) {
    match value {
        Some(value) => map.insert(key.into(), value),
        None => map.remove(key),
    };
}

/// What gives rights that cannot be read gives none.
fn read<T: serde::de::DeserializeOwned>(entry: Option<&Entry>) -> Option<T> {
    let entry = entry?;
    serde_json::from_slice(&entry.json())
        .inspect_err(|error| {
            tracing::error!(key = &*entry.key, %error, "a role or binding cannot be read: it gives nothing");
        })
        .ok()
}
