//! Who makes something else of all objects of a resource: told of each once, and
//! of every change.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::watch;

use super::{Cache, Cursor, Entry, Kind};
use crate::error::ApiError;

/// What a reader is told.
#[derive(Debug)]
pub enum News<'a> {
    /// Nothing of what was told before holds; what is there follows.
    Anew,
    Put(&'a Entry),
    Gone(&'a Entry),
}

/// A reader of a cache, and how far it has read.
pub struct Reader {
    cache: Arc<Cache>,
    cursor: Option<Cursor>,
    revision: i64,
}

impl Reader {
    pub fn new(cache: Arc<Cache>) -> Self {
        Self {
            cache,
            cursor: None,
            revision: 0,
        }
    }

    /// The revision whose objects were told.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Waits until the cache is filled.
    ///
    /// # Errors
    /// It is not in time.
    pub async fn filled(&self) -> Result<(), ApiError> {
        self.cache.wait(1).await
    }

    /// Tells what is new; gives whether there was something.
    pub fn read(&mut self, told: &mut dyn FnMut(News<'_>)) -> bool {
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
                told(match event.kind {
                    Kind::Deleted => News::Gone(&event.entry),
                    Kind::Added | Kind::Modified => News::Put(&event.entry),
                });
            }
        }
        // At first, and when the cache began anew. One that shows nothing at
        // the moment has no say: what was known goes on.
        let snapshot = self.cache.snapshot("");
        if snapshot.revision == 0 {
            return changed;
        }
        told(News::Anew);
        for entry in &snapshot.entries {
            told(News::Put(entry));
        }
        self.cursor = Some(snapshot.cursor);
        self.revision = snapshot.revision;
        true
    }
}

/// Calls `renew` whenever one of the readers may have more to read; for ever.
pub async fn keep(mut readers: Vec<Reader>, mut renew: impl FnMut(&mut [Reader])) {
    let mut shown: Vec<watch::Receiver<i64>> = readers
        .iter()
        .map(|reader| reader.cache.shows_more())
        .collect();
    loop {
        renew(&mut readers);
        let more = shown.iter_mut().map(|shown| Box::pin(shown.changed()));
        if futures::future::select_all(more).await.0.is_err() {
            // Its cache ended, which these readers hold: it does not happen.
            return;
        }
    }
}
