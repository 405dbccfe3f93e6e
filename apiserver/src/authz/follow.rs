//! Keeps the index as the watch cache shows roles and bindings.

use std::{collections::VecDeque, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::index::{Binding, Index, Objects, Role};
use crate::{
    cache::{Cache, Cursor, Entry, Kind},
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

/// One cache and what was read of it.
struct Source {
    of: Of,
    cache: Arc<Cache>,
    cursor: Option<Cursor>,
    revision: i64,
}

fn caches(registry: &Registry) -> Vec<Source> {
    let catalog = registry.catalog();
    let sources = ALL.iter().map(|(plural, of)| Source {
        of: *of,
        cache: registry.cache(catalog.own(GROUP, "v1", plural)),
        cursor: None,
        revision: 0,
    });
    sources.collect()
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
    let mut sources = caches(registry);
    for source in &sources {
        source.cache.wait(1).await?;
    }
    let mut objects = Objects::default();
    renew(&mut sources, &mut objects, &current);
    tasks::spawn("roles and bindings", async move {
        let mut shown: Vec<_> = sources
            .iter()
            .map(|source| source.cache.shows_more())
            .collect();
        loop {
            let more = shown.iter_mut().map(|shown| Box::pin(shown.changed()));
            if futures::future::select_all(more).await.0.is_err() {
                // Its cache ended, which this task holds: it does not happen.
                return;
            }
            renew(&mut sources, &mut objects, &current);
        }
    });
    Ok(())
}

/// Waits until the index shows a revision.
pub async fn wait(registry: &Registry, current: &Current, revision: i64) -> Result<(), ApiError> {
    for source in caches(registry) {
        source.cache.wait(revision).await?;
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
fn renew(sources: &mut [Source], objects: &mut Objects, current: &Current) {
    let mut changed = false;
    for source in sources.iter_mut() {
        changed |= source.read(objects);
    }
    // All that was written until then is in it.
    let revision = sources.iter().map(|source| source.revision).min();
    let revision = revision.unwrap_or(0);
    if changed {
        current.index.store(Arc::new(Index::new(objects)));
    }
    current.shown.send_replace(revision);
}

impl Source {
    /// Reads what is new; gives whether there was something.
    fn read(&mut self, objects: &mut Objects) -> bool {
        let mut changed = false;
        let mut events = VecDeque::new();
        while let Some(cursor) = self.cursor {
            let Some((after, revision)) = self.cache.read(cursor, &mut events) else {
                self.cursor = None;
                break;
            };
            self.cursor = Some(after);
            if events.is_empty() {
                self.revision = self.revision.max(revision);
                return changed;
            }
            changed = true;
            for event in &events {
                let entry = (event.kind != Kind::Deleted).then_some(&*event.entry);
                self.of.put(objects, &event.entry.key, entry);
            }
        }
        // At first, and when the cache began anew. One that shows nothing at
        // the moment has no say: what was known goes on.
        let snapshot = self.cache.snapshot("");
        if snapshot.revision == 0 {
            return changed;
        }
        self.of.clear(objects);
        for entry in &snapshot.entries {
            self.of.put(objects, &entry.key, Some(entry));
        }
        self.cursor = Some(snapshot.cursor);
        self.revision = snapshot.revision;
        true
    }
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
