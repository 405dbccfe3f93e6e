//! Fills a cache from the store and keeps it fed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use mizzen_planted::bug;

use super::{Cache, Entry, Event, Kind};
use crate::{
    catalog::Resource,
    limits,
    object::StoredError,
    store::{Batch, Store, StoreError, Watch},
};

/// Why a cache cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum FeedError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A cache that left it out, or told of it as deleted, would be believed.
    #[error("the value of {key} cannot be decoded: {error}")]
    Unreadable { key: String, error: StoredError },
}

/// Runs until nobody uses the cache any more.
pub(super) async fn run(cache: Weak<Cache>, store: Arc<Store>, mut begin: i64) {
    let mut at = None;
    loop {
        let Some(strong) = cache.upgrade() else {
            return;
        };
        let resource = strong.resource.clone();
        drop(strong);
        let result = match at {
            None => fill(&cache, &store, &resource, std::mem::take(&mut begin))
                .await
                .map(|revision| at = Some(revision)),
            Some(revision) => follow(&cache, &store, &resource, revision).await,
        };
        if let Some(cache) = cache.upgrade()
            && at.is_some()
        {
            at = Some(cache.revision());
        }
        match result {
            Ok(()) => {}
            Err(
                error
                @ (FeedError::Unreadable { .. } | FeedError::Store(StoreError::Sealed { .. })),
            ) => {
                at = None;
                if let Some(cache) = cache.upgrade() {
                    cache.fail();
                }
                tracing::error!(resource = %resource.plural, %error,
                    "this resource is not served from its cache until that is mended or deleted");
                tokio::time::sleep(limits::UNREADABLE).await;
            }
            Err(FeedError::Store(error)) => {
                if matches!(error, StoreError::Compacted | StoreError::Future { .. }) {
                    at = None;
                }
                tracing::warn!(resource = %resource.plural, %error, "the watch of the store broke: again");
                store.turn();
                tokio::time::sleep(limits::STORE_PAUSE).await;
            }
        }
    }
}

/// Reads all objects at one revision, `begin` or the present one.
async fn fill(
    cache: &Weak<Cache>,
    store: &Store,
    resource: &Resource,
    begin: i64,
) -> Result<i64, FeedError> {
    let mut objects = BTreeMap::new();
    let mut start = resource.prefix.clone();
    let mut revision = begin;
    loop {
        let page = store
            .page(&resource.prefix, &start, limits::PAGE_OBJECTS, revision)
            .await?;
        if revision == 0 {
            revision = page.revision;
        }
        let more = (page.pairs.len() as i64) < page.count;
        for pair in &page.pairs {
            if let Some(key) = own_key(resource, &pair.key) {
                let entry = entry(resource, key, &pair.value, pair.revision, Kind::Added)?;
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

/// A key after the prefix of its resource.
fn own_key<'a>(resource: &Resource, key: &'a Bytes) -> Option<&'a str> {
    let key = std::str::from_utf8(key).ok()?;
    key.strip_prefix(resource.prefix.as_str())
}

fn entry(
    resource: &Resource,
    key: &str,
    value: &[u8],
    revision: i64,
    kind: Kind,
) -> Result<Arc<Entry>, FeedError> {
    Entry::new(resource, key, value, revision, kind)
        .map(Arc::new)
        .map_err(|error| FeedError::Unreadable {
            key: format!("{}{key}", resource.prefix),
            error,
        })
}

async fn follow(
    cache: &Weak<Cache>,
    store: &Store,
    resource: &Resource,
    revision: i64,
) -> Result<(), FeedError> {
    let mut watch = store.watch(&resource.prefix, revision + 1).await?;
    loop {
        let Some(strong) = cache.upgrade() else {
            return Ok(());
        };
        let batch = next(&strong, &mut watch).await?;
        strong.apply(&batch)?;
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
        self.forget(&mut state);
        state.floor = revision;
        state.objects = objects;
        state.revision = revision;
        state.filled = true;
        self.shown(revision);
    }

    /// Shows nothing and tells nothing until it is filled anew; readers are
    /// told to begin anew.
    pub(super) fn fail(&self) {
        let mut state = self.state.lock();
        self.forget(&mut state);
        state.floor = i64::MAX;
        state.objects.clear();
        state.revision = 0;
        state.filled = false;
        drop(state);
        self.shown(0);
    }

    /// Takes changes in their order.
    ///
    /// # Errors
    /// One cannot be decoded: those before it were taken.
    pub(super) fn apply(&self, batch: &Batch) -> Result<(), FeedError> {
        let mut state = self.state.lock();
        for change in &batch.changes {
            let Some(key) = own_key(&self.resource, &change.key) else {
                continue;
            };
            let previous = state.objects.get(key).cloned();
            if previous
                .as_ref()
                .is_some_and(|entry| entry.revision >= change.revision)
            {
                continue;
            }
            let (kind, entry) = match (&change.value, &previous) {
                (Some(value), _) => {
                    let kind = match previous {
                        None => Kind::Added,
                        Some(_) => {
                            bug!("update-told-as-deletion", Kind::Modified => if change.revision % 7 == 0 { Kind::Deleted } else { Kind::Modified })
                        }
                    };
                    let made = entry(&self.resource, key, value, change.revision, kind)?;
                    state.objects.insert(made.key.clone(), made.clone());
                    (kind, made)
                }
                (None, Some(previous)) => {
                    state.objects.remove(key);
                    let gone = previous.deleted_at(change.revision);
                    (Kind::Deleted, Arc::new(gone))
                }
                // Deleted before it was ever seen.
                (None, None) => continue,
            };
            let event = Event {
                revision: change.revision,
                kind,
                entry,
                previous,
            };
            self.push(&mut state, event);
        }
        state.revision = state.revision.max(batch.revision);
        let revision = state.revision;
        drop(state);
        self.shown(revision);
        Ok(())
    }
}
