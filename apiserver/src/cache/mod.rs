//! The watch cache of one resource: every object once, as the bytes clients
//! get, and the latest changes, fed by one watch of the store.
//!
//! Knows keys, labels, selectable fields and bytes. Knows no request and no
//! rule of a kind; changes nothing in the store.
//!
//! A reader holds a cursor into the history, never a queue: of its readers the
//! cache knows only whom to wake, and one that falls behind is told so.

mod feed;
mod followers;
mod reader;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use self::followers::Followers;
pub use self::{
    followers::Place,
    reader::{News, Reader, keep},
};
use crate::{
    catalog::Resource,
    error::ApiError,
    limits,
    object::{self, StoredError},
    select::Selector,
    store::Store,
    tasks,
};

/// One object as clients get it.
#[derive(Debug)]
pub struct Entry {
    /// The key after the resource's prefix: `namespace/name` or `name`.
    pub key: Box<str>,
    pub revision: i64,
    /// Its deletion has been asked for.
    pub deleting: bool,
    /// A whole watch event around the object.
    frame: Bytes,
    object: Range<usize>,
    /// Where the version's digits stand in the frame.
    version: Range<usize>,
    labels: Box<[(Box<str>, Box<str>)]>,
    /// In the order of the resource's selectable fields.
    fields: Box<[Box<str>]>,
}

/// What happened to an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Added,
    Modified,
    Deleted,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One change.
#[derive(Debug)]
pub struct Event {
    pub revision: i64,
    pub kind: Kind,
    /// The object after the change; as it was, with the revision of its
    /// deletion, when it was deleted.
    pub entry: Arc<Entry>,
    /// The object before the change.
    previous: Option<Arc<Entry>>,
}

/// The bytes around an object in a watch event.
pub fn frame(kind: &str, object: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(object.len() + kind.len() + 24);
    frame.extend_from_slice(b"{\"type\":\"");
    frame.extend_from_slice(kind.as_bytes());
    frame.extend_from_slice(b"\",\"object\":");
    frame.extend_from_slice(object);
    frame.extend_from_slice(b"}\n");
    frame
}

impl Entry {
    fn new(
        resource: &Resource,
        key: &str,
        value: &[u8],
        revision: i64,
        kind: Kind,
    ) -> Result<Self, StoredError> {
        let transcoded = object::to_client(resource, value, revision)?;
        let start = kind.name().len() + 20;
        let object = start..start + transcoded.json.len();
        let shift = |range: Range<usize>| range.start + start..range.end + start;
        // What selectors may ask for is read once, here.
        let read: Selected = serde_json::from_slice(&transcoded.json).unwrap_or_default();
        let labels = read.metadata.labels.unwrap_or_default().into_iter();
        Ok(Self {
            key: key.into(),
            revision,
            frame: frame(kind.name(), &transcoded.json).into(),
            object,
            version: shift(transcoded.revision),
            labels: labels
                .map(|(key, value)| (key.into(), value.unwrap_or_default().into()))
                .collect(),
            deleting: read.metadata.deletion_timestamp.is_some(),
            fields: selectable(resource, &transcoded.json),
        })
    }

    /// The object in JSON.
    pub fn json(&self) -> Bytes {
        self.frame.slice(self.object.clone())
    }

    /// The same object at another revision, in an event of its deletion.
    fn deleted_at(&self, revision: i64) -> Self {
        let object = &self.frame[self.object.clone()];
        let (from, to) = (
            self.version.start - self.object.start,
            self.version.end - self.object.start,
        );
        let digits = revision.to_string();
        let mut json = Vec::with_capacity(object.len() + digits.len());
        json.extend_from_slice(&object[..from]);
        json.extend_from_slice(digits.as_bytes());
        json.extend_from_slice(&object[to..]);
        let start = Kind::Deleted.name().len() + 20;
        Self {
            key: self.key.clone(),
            revision,
            frame: frame(Kind::Deleted.name(), &json).into(),
            object: start..start + json.len(),
            version: start + from..start + from + digits.len(),
            labels: self.labels.clone(),
            deleting: self.deleting,
            fields: self.fields.clone(),
        }
    }

    /// The names of its labels.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().map(|(name, _)| &**name)
    }

    /// Namespace (empty for kinds without one) and name.
    pub fn names(&self) -> (&str, &str) {
        self.key.split_once('/').unwrap_or(("", &self.key))
    }

    /// Whether a selector takes this object.
    pub fn matches(&self, resource: &Resource, selector: &Selector) -> bool {
        if selector.is_empty() {
            return true;
        }
        let (namespace, name) = self.names();
        selector.matches(
            |key| {
                self.labels
                    .iter()
                    .find(|(label, _)| **label == *key)
                    .map(|(_, value)| &**value)
            },
            |field| match field {
                "metadata.name" => Some(name),
                "metadata.namespace" => Some(namespace),
                field => {
                    let index = resource
                        .selectable
                        .iter()
                        .position(|one| one.name == field)?;
                    self.fields.get(index).map(|value| &**value)
                }
            },
        )
    }

    fn size(&self) -> usize {
        self.frame.len()
    }
}

#[derive(Default, serde::Deserialize)]
struct Selected {
    #[serde(default)]
    metadata: SelectedMeta,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct SelectedMeta {
    labels: Option<BTreeMap<String, Option<String>>>,
    deletion_timestamp: Option<serde::de::IgnoredAny>,
}

fn selectable(resource: &Resource, json: &[u8]) -> Box<[Box<str>]> {
    if resource.selectable.is_empty() {
        return Box::default();
    }
    let value: object::Json = serde_json::from_slice(json).unwrap_or_default();
    resource
        .selectable
        .iter()
        .map(|field| field_text(field, &value).into())
        .collect()
}

/// The text that a field selector compares.
pub fn field_text(field: &crate::kind::Selectable, value: &object::Json) -> String {
    match object::at(value, field.path) {
        None | Some(serde_json::Value::Null) => field.absent.to_owned(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

impl Event {
    /// How a watch with this selector sees the change, if at all: an object
    /// that begins to match appears, one that ceases to match disappears.
    pub fn seen(&self, resource: &Resource, selector: &Selector) -> Option<Kind> {
        let before = self
            .previous
            .as_ref()
            .is_some_and(|entry| entry.matches(resource, selector));
        let after = self.kind != Kind::Deleted && self.entry.matches(resource, selector);
        match (before, after) {
            (false, false) => None,
            (false, true) => Some(Kind::Added),
            (true, true) => Some(Kind::Modified),
            (true, false) => Some(Kind::Deleted),
        }
    }

    /// The bytes of the event as `kind`.
    pub fn frame(&self, kind: Kind) -> Bytes {
        match (kind, self.kind, &self.previous) {
            (seen, own, _) if seen == own => self.entry.frame.clone(),
            // Out of the selection: as it was, at the revision of the change.
            (Kind::Deleted, _, Some(previous)) => previous.deleted_at(self.revision).frame,
            _ => frame(kind.name(), &self.entry.frame[self.entry.object.clone()]).into(),
        }
    }
}

/// By what single objects are mostly watched: a cache finds changes of one value of
/// it without looking at others.
#[derive(Clone, Copy)]
enum Index {
    Name,
    /// A selectable field, by its place.
    Field(usize),
}

impl Index {
    fn of(resource: &Resource) -> Option<Self> {
        let field = resource.rules.indexed?;
        if field == NAME {
            return Some(Self::Name);
        }
        let mut fields = resource.selectable.iter();
        fields.position(|one| one.name == field).map(Self::Field)
    }

    fn value(self, entry: &Entry) -> &str {
        match self {
            Self::Name => entry.names().1,
            Self::Field(at) => entry.fields.get(at).map_or("", |value| &**value),
        }
    }

    /// Of an object before and after a change.
    fn values(self, event: &Event) -> impl Iterator<Item = &str> {
        let now = self.value(&event.entry);
        let before = event.previous.as_ref().map(|entry| self.value(entry));
        std::iter::once(now).chain(before.filter(move |before| *before != now))
    }
}

const NAME: &str = "metadata.name";

struct State {
    /// All objects by key after the prefix.
    objects: BTreeMap<Box<str>, Arc<Entry>>,
    /// The store's revision that `objects` shows.
    revision: i64,
    /// Changes after `floor`, oldest first; `first` is the number of the
    /// oldest one kept.
    history: VecDeque<Arc<Event>>,
    history_bytes: usize,
    first: u64,
    /// A watch can resume after this revision or a later one.
    floor: i64,
    /// Whether the cache has been filled.
    filled: bool,
}

/// A place in the history.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor(u64);

/// The cache of one resource.
pub struct Cache {
    resource: Arc<Resource>,
    index: Option<Index>,
    state: Mutex<State>,
    /// The revision shown, for those who wait for one.
    progress: watch::Sender<i64>,
    /// Those who read all changes.
    followers: Arc<Followers>,
    /// Set when someone waits for the store's progress.
    wanted: Notify,
    /// Its watches are to end.
    closing: AtomicBool,
}

/// Objects at one revision and where their changes begin.
pub struct Snapshot {
    pub entries: Vec<Arc<Entry>>,
    pub revision: i64,
    pub cursor: Cursor,
}

impl Cache {
    /// Starts a cache and the task that feeds it, which ends with the last
    /// user of the cache. Its history begins at `revision` (0: now), if the store
    /// still has it.
    pub fn start(resource: Arc<Resource>, store: Arc<Store>, revision: i64) -> Arc<Self> {
        let cache = Arc::new(Self::empty(resource));
        tasks::spawn(
            "feeding a cache",
            feed::run(Arc::downgrade(&cache), store, revision),
        );
        cache
    }

    fn empty(resource: Arc<Resource>) -> Self {
        Self {
            index: Index::of(&resource),
            resource,
            state: Mutex::new(State {
                objects: BTreeMap::new(),
                revision: 0,
                history: VecDeque::new(),
                history_bytes: 0,
                first: 0,
                floor: 0,
                filled: false,
            }),
            progress: watch::channel(0).0,
            followers: Arc::default(),
            wanted: Notify::new(),
            closing: AtomicBool::new(false),
        }
    }

    /// The revision that the cache shows; 0 before it is filled.
    pub fn revision(&self) -> i64 {
        *self.progress.borrow()
    }

    /// The revision shown, for those who wait for more.
    pub fn shows_more(&self) -> watch::Receiver<i64> {
        self.progress.subscribe()
    }

    /// Waits until the cache shows `revision` or a later one.
    pub async fn wait(&self, revision: i64) -> Result<(), ApiError> {
        let mut progress = self.progress.subscribe();
        let deadline = tokio::time::Instant::now() + limits::FRESH;
        while !self.shows(*progress.borrow_and_update(), revision) {
            self.wanted.notify_one();
            let turn = (tokio::time::Instant::now() + limits::PROGRESS).min(deadline);
            let _ = tokio::time::timeout_at(turn, progress.changed()).await;
            if tokio::time::Instant::now() >= deadline && !self.shows(*progress.borrow(), revision)
            {
                let current = self.revision();
                return Err(if current == 0 {
                    ApiError::unavailable("the cache of this resource is not filled yet")
                } else {
                    ApiError::version_ahead(revision, current)
                });
            }
        }
        Ok(())
    }

    fn shows(&self, shown: i64, revision: i64) -> bool {
        shown > 0 && shown >= revision
    }

    /// One object.
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.state.lock().objects.get(key).cloned()
    }

    /// All objects whose key begins with `scope`.
    pub fn snapshot(&self, scope: &str) -> Snapshot {
        let state = self.state.lock();
        let entries = if scope.is_empty() {
            state.objects.values().cloned().collect()
        } else {
            let from = (std::ops::Bound::Included(scope), std::ops::Bound::Unbounded);
            let within = state
                .objects
                .range::<str, _>(from)
                .take_while(|(key, _)| key.starts_with(scope));
            within.map(|(_, entry)| entry.clone()).collect()
        };
        Snapshot {
            entries,
            revision: state.revision,
            cursor: state.end(),
        }
    }

    /// Where the changes after `revision` begin; `None` when they are gone.
    pub fn after(&self, revision: i64) -> Option<Cursor> {
        let state = self.state.lock();
        if revision < state.floor {
            return None;
        }
        let skipped = state
            .history
            .partition_point(|event| event.revision <= revision);
        Some(Cursor(state.first + skipped as u64))
    }

    /// Puts the changes at a cursor into `into`, at most [`limits::WATCH_TURN`];
    /// gives the cursor after them, and the revision up to which a reader is
    /// then; `None` when they are gone.
    pub fn read(&self, cursor: Cursor, into: &mut VecDeque<Arc<Event>>) -> Option<(Cursor, i64)> {
        into.clear();
        let state = self.state.lock();
        let skipped = usize::try_from(cursor.0.checked_sub(state.first)?).ok()?;
        let end = (skipped + limits::WATCH_TURN).min(state.history.len());
        into.extend(state.history.range(skipped.min(end)..end).cloned());
        let after = Cursor(cursor.0 + into.len() as u64);
        let revision = if after.0 == state.end().0 {
            state.revision
        } else {
            into.back().map_or(0, |event| event.revision)
        };
        Some((after, revision))
    }

    /// Ends all watches, those that begin later too.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.followers.wake();
    }

    /// Whether watches are to end.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// The changes at a cursor that a follower of one value is to see; the rest as
    /// [`read`](Self::read). Also gives whether there are more.
    pub fn read_for(
        &self,
        place: &Place,
        cursor: Cursor,
        into: &mut VecDeque<Arc<Event>>,
    ) -> Option<(Cursor, i64, bool)> {
        let Some(value) = place.value() else {
            let (next, revision) = self.read(cursor, into)?;
            return Some((next, revision, into.len() == limits::WATCH_TURN));
        };
        into.clear();
        let state = self.state.lock();
        let numbers = self.followers.numbers(value, cursor.0, limits::WATCH_TURN);
        let (numbers, more) = numbers?;
        for number in &numbers {
            let at = usize::try_from(number.checked_sub(state.first)?).ok()?;
            into.push_back(state.history.get(at)?.clone());
        }
        if let (true, Some(last), Some(event)) = (more, numbers.last(), into.back()) {
            return Some((Cursor(last + 1), event.revision, true));
        }
        Some((state.end(), state.revision, false))
    }

    /// A place among those who are told that there is more to read of what a
    /// selector takes.
    pub fn follow(&self, selector: &Selector) -> Place {
        let value = self.index.and_then(|index| {
            let field = match index {
                Index::Name => NAME,
                Index::Field(at) => self.resource.selectable.get(at)?.name,
            };
            Some((index, selector.fields.value(field)?))
        });
        let Some((index, value)) = value else {
            return self.followers.join();
        };
        let state = self.state.lock();
        self.followers.join_value(value, || {
            let numbered = (state.first..).zip(&state.history);
            let own = numbered.filter(|(_, event)| index.values(event).any(|one| one == value));
            (state.first, own.map(|(number, _)| number).collect())
        })
    }

    /// Adds a change to the history, and takes out the oldest ones beyond its
    /// bounds.
    fn push(&self, state: &mut State, event: Event) {
        if let Some(index) = self.index {
            self.followers.changed(state.end().0, index.values(&event));
        }
        state.history_bytes += event.entry.size();
        state.history.push_back(Arc::new(event));
        while state.history.len() > limits::HISTORY_EVENTS_MAX
            || state.history_bytes > limits::HISTORY_BYTES_MAX
        {
            let Some(oldest) = state.history.pop_front() else {
                break;
            };
            if let Some(index) = self.index {
                self.followers.forgotten(state.first, index.values(&oldest));
            }
            state.history_bytes -= oldest.entry.size();
            state.first += 1;
            // The rest of this revision, if any, goes unseen without it.
            state.floor = oldest.revision;
        }
    }

    /// Forgets all changes: no old cursor is valid.
    fn forget(&self, state: &mut State) {
        // One past the end.
        state.first = state.end().0 + 1;
        state.history.clear();
        state.history_bytes = 0;
        self.followers.begin_anew(state.first);
    }

    /// Tells those who wait what the cache shows now.
    fn shown(&self, revision: i64) {
        self.progress.send_replace(revision);
        self.followers.wake();
    }
}

impl State {
    fn end(&self) -> Cursor {
        Cursor(self.first + self.history.len() as u64)
    }
}

#[cfg(test)]
mod tests;
