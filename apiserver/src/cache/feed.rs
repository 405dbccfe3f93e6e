//! Fills a cache from the store and keeps it fed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use bytes::Bytes;

use super::{Cache, Entry, Event, Kind};
use crate::{
    catalog::Resource,
    limits,
    store::{Batch, Store, StoreError, Watch},
};

/// Runs until nobody uses the cache any more.
pub(super) async fn run(cache: Weak<Cache>, store: Arc<Store>) {
    let mut at = None;
    loop {
        let Some(strong) = cache.upgrade() else {
            return;
        };
        let resource = strong.resource.clone();
        drop(strong);
        let result = match at {
            None => fill(&cache, &store, &resource)
                .await
                .map(|revision| at = Some(revision)),
            Some(revision) => follow(&cache, &store, &resource, revision).await,
        };
        if let Some(cache) = cache.upgrade()
            && at.is_some()
        {
            at = Some(cache.revision());
        }
        if let Err(error) = result {
            if matches!(error, StoreError::Compacted | StoreError::Future { .. }) {
                at = None;
            }
            tracing::warn!(resource = %resource.plural, %error, "the watch of the store broke: again");
            store.turn();
            tokio::time::sleep(limits::STORE_PAUSE).await;
        }
    }
}

/// Reads all objects at one revision.
async fn fill(cache: &Weak<Cache>, store: &Store, resource: &Resource) -> Result<i64, StoreError> {
    let mut objects = BTreeMap::new();
    let mut start = resource.prefix.clone();
    let mut revision = 0;
    loop {
        let page = store
            .page(&resource.prefix, &start, limits::PAGE_OBJECTS, revision)
            .await?;
        if revision == 0 {
            revision = page.revision;
        }
        let more = (page.pairs.len() as i64) < page.count;
        for pair in &page.pairs {
            if let Some(entry) = entry(resource, &pair.key, &pair.value, pair.revision, Kind::Added)
            {
                objects.insert(entry.key.clone(), entry);
            }
        }
        match page.pairs.last() {
            Some(last) if more => start = format!("{}\0", String::from_utf8_lossy(&last.key)),
            _ => break,
        }
    }
    if let Some(cache) = cache.upgrade() {
        cache.replace(objects, revision);
    }
    Ok(revision)
}

/// A stored object, or nothing when it cannot be read: it is left out, not a
/// reason to serve no other.
fn entry(
    resource: &Resource,
    key: &Bytes,
    value: &[u8],
    revision: i64,
    kind: Kind,
) -> Option<Arc<Entry>> {
    let key = std::str::from_utf8(key)
        .ok()?
        .strip_prefix(resource.prefix.as_str())?;
    match Entry::new(resource, key, value, revision, kind) {
        Ok(entry) => Some(Arc::new(entry)),
        Err(error) => {
            tracing::error!(resource = %resource.plural, key, %error, "a stored object cannot be read");
            None
        }
    }
}

async fn follow(
    cache: &Weak<Cache>,
    store: &Store,
    resource: &Resource,
    revision: i64,
) -> Result<(), StoreError> {
    let mut watch = store.watch(&resource.prefix, revision + 1).await?;
    loop {
        let Some(strong) = cache.upgrade() else {
            return Ok(());
        };
        let batch = next(&strong, &mut watch).await?;
        strong.apply(&batch);
    }
}

async fn next(cache: &Cache, watch: &mut Watch) -> Result<Batch, StoreError> {
    loop {
        tokio::select! {
            batch = watch.next() => return batch,
            () = cache.wanted.notified() => watch.ask_progress(),
        }
    }
}

impl Cache {
    /// Begins anew: readers of the old history are told to begin anew too.
    fn replace(&self, objects: BTreeMap<Box<str>, Arc<Entry>>, revision: i64) {
        let mut state = self.state.lock();
        // One past the end, so that no old cursor is valid.
        state.first = state.end().0 + 1;
        state.history.clear();
        state.history_bytes = 0;
        state.floor = revision;
        state.objects = objects;
        state.revision = revision;
        state.filled = true;
        self.shown(revision);
    }

    pub(super) fn apply(&self, batch: &Batch) {
        let mut state = self.state.lock();
        for change in &batch.changes {
            let Some(key) = std::str::from_utf8(&change.key)
                .ok()
                .and_then(|key| key.strip_prefix(self.resource.prefix.as_str()))
            else {
                continue;
            };
            let previous = state.objects.get(key).cloned();
            if previous
                .as_ref()
                .is_some_and(|entry| entry.revision >= change.revision)
            {
                continue;
            }
            let kind = match (&previous, &change.value) {
                (_, None) => Kind::Deleted,
                (None, Some(_)) => Kind::Added,
                (Some(_), Some(_)) => Kind::Modified,
            };
            let made = match &change.value {
                Some(value) => entry(&self.resource, &change.key, value, change.revision, kind),
                None => previous
                    .as_ref()
                    .map(|entry| Arc::new(entry.deleted_at(change.revision))),
            };
            let gone = made.is_none() || kind == Kind::Deleted;
            if gone {
                state.objects.remove(key);
            } else if let Some(entry) = &made {
                state.objects.insert(entry.key.clone(), entry.clone());
            }
            let told = match (made, previous) {
                (Some(entry), previous) => Some((kind, entry, previous)),
                // It cannot be read any more: to clients it is gone.
                (None, Some(previous)) => Some((
                    Kind::Deleted,
                    Arc::new(previous.deleted_at(change.revision)),
                    Some(previous),
                )),
                (None, None) => None,
            };
            if let Some((kind, entry, previous)) = told {
                state.push(Event {
                    revision: change.revision,
                    kind,
                    entry,
                    previous,
                });
            }
        }
        state.revision = state.revision.max(batch.revision);
        let revision = state.revision;
        drop(state);
        self.shown(revision);
    }
}
