//! Watches: what a cache has seen, as a stream of events.
//!
//! A watch is a cursor into the cache's history. It has no task of its own and
//! no queue: whoever writes its chunks asks for the next one, so an event costs
//! one waking, and a client that does not read holds one chunk and the changes
//! of one turn.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::Stream;
use mizzen_planted::bug;
use rand::Rng as _;
use serde_json::{Value, json};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};

use super::{accept::Form, respond};
use crate::{
    cache::{Cache, Cursor, Entry, Event, Kind, Place, frame},
    codec::{json::zero_of, proto},
    error::ApiError,
    limits,
    metrics::Watching,
    object::Json,
    schema::Type,
    select::Selector,
    table::{self, Include},
    versions::View,
};

/// What a watch asks for.
pub struct WatchOptions {
    pub selector: Selector,
    pub scope: String,
    pub form: Form,
    pub include: Include,
    /// The version in which objects go with the rows of a table.
    pub row: View,
    pub bookmarks: bool,
    /// Seconds; `None`: the server chooses.
    pub timeout: Option<u64>,
    pub start: Start,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// After this revision.
    After(i64),
    /// With the objects as they are, at least as new as this revision.
    State(i64),
    /// The same, and a bookmark says where they end.
    StateThenMark(i64),
    /// With the changes from now on, once the cache shows this revision.
    Now(i64),
}

/// What a watch holds while it lasts.
pub struct Hold {
    pub counted: Watching,
    pub _permit: OwnedSemaphorePermit,
}

/// The chunks of a watch, made as they are asked for.
pub struct Chunks {
    hold: Hold,
    view: View,
    cache: Arc<Cache>,
    options: WatchOptions,
    /// Objects that are there at the beginning.
    entries: std::vec::IntoIter<Arc<Entry>>,
    /// The revision of these objects, if a bookmark is to say where they end.
    mark: Option<i64>,
    /// Changes read and not looked at yet.
    events: VecDeque<Arc<Event>>,
    /// Where the changes after these begin.
    cursor: Cursor,
    /// Whether there may be some that have not been told of.
    more: bool,
    /// The client has been told of all changes up to here, once it has been
    /// told of these.
    reached: i64,
    place: Place,
    /// Rings for the next bookmark or the end.
    alarm: Pin<Box<Sleep>>,
    deadline: Instant,
    /// What is to be sent.
    chunk: Vec<u8>,
    /// Whether a table's columns have been told.
    columns: bool,
    /// Nothing comes after what is to be sent.
    over: bool,
}

impl Stream for Chunks {
    type Item = Bytes;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let this = self.get_mut();
        loop {
            if let Some(chunk) = this.gather() {
                return Poll::Ready(Some(chunk));
            }
            if this.over {
                return Poll::Ready(None);
            }
            if !this.find(context) {
                return Poll::Pending;
            }
        }
    }
}

/// Starts a watch.
pub async fn start(
    view: View,
    cache: Arc<Cache>,
    options: WatchOptions,
    hold: Hold,
) -> Result<Chunks, ApiError> {
    let begin = match options.start {
        Start::After(revision) => {
            cache.wait(1).await?;
            let too_old = || {
                let now = cache.revision();
                ApiError::expired(format!("too old resource version: {revision} ({now})"))
            };
            let cursor = cache.after(revision).ok_or_else(too_old);
            cursor.map(|cursor| Begin {
                entries: Vec::new(),
                cursor,
                revision,
            })
        }
        Start::State(least) | Start::StateThenMark(least) | Start::Now(least) => {
            cache.wait(least).await?;
            let snapshot = cache.snapshot(&options.scope);
            let state = !matches!(options.start, Start::Now(_));
            let entries = if state { snapshot.entries } else { Vec::new() };
            Ok(Begin {
                entries,
                cursor: snapshot.cursor,
                revision: snapshot.revision,
            })
        }
    };
    let now = Instant::now();
    let lasts = options.timeout.map_or_else(
        || limits::WATCH_MIN.mul_f64(1.0 + rand::rng().random::<f64>()),
        |seconds| Duration::from_secs(seconds).min(limits::WATCH_MAX),
    );
    let deadline = now + lasts;
    let place = cache.follow(&options.selector);
    let mut chunks = Chunks {
        hold,
        view,
        cache,
        entries: Vec::new().into_iter(),
        mark: None,
        events: VecDeque::new(),
        cursor: Cursor::default(),
        more: false,
        reached: 0,
        place,
        alarm: Box::pin(sleep_until(deadline.min(now + limits::BOOKMARK))),
        deadline,
        chunk: Vec::new(),
        columns: false,
        over: false,
        options,
    };
    match begin {
        Ok(begin) => {
            let marked = matches!(chunks.options.start, Start::StateThenMark(_));
            chunks.mark = marked.then_some(begin.revision);
            chunks.entries = begin.entries.into_iter();
            chunks.cursor = begin.cursor;
            chunks.reached = begin.revision;
        }
        // As an event of a watch that began, as upstream does: kube-rs lists
        // again upon no other answer.
        Err(error) => chunks.fail(&error),
    }
    Ok(chunks)
}

struct Begin {
    entries: Vec<Arc<Entry>>,
    cursor: Cursor,
    revision: i64,
}

impl Chunks {
    /// The next chunk of what has been found, if anything has.
    fn gather(&mut self) -> Option<Bytes> {
        while let Some(entry) = self.entries.next() {
            if entry.matches(&self.view.stored, &self.options.selector) {
                self.hold.counted.sent(1);
                let kind = Kind::Added.name();
                let object = entry.json();
                self.event(kind, &frame(kind, &object), &object);
                if self.chunk.len() >= limits::CHUNK_BYTES {
                    return self.take();
                }
            }
        }
        if let Some(revision) = self.mark.take() {
            self.bookmark(revision, true);
        }
        while let Some(event) = self.events.pop_front() {
            if event.revision <= self.first()
                || !event.entry.key.starts_with(self.options.scope.as_str())
            {
                continue;
            }
            let Some(kind) = event.seen(&self.view.stored, &self.options.selector) else {
                continue;
            };
            self.hold.counted.sent(1);
            let framed = event.frame(kind);
            let plain = self.options.form == Form::Json && self.view.is_plain();
            if plain && self.chunk.is_empty() && self.events.is_empty() {
                // Alone it leaves as it is, shared by all who watch.
                return Some(framed);
            }
            let object = framed.slice(kind.name().len() + 20..framed.len() - 2);
            self.event(kind.name(), &framed, &object);
            if self.chunk.len() >= limits::CHUNK_BYTES {
                break;
            }
        }
        self.take()
    }

    /// What is to be sent.
    fn take(&mut self) -> Option<Bytes> {
        let chunk = Bytes::from(std::mem::take(&mut self.chunk));
        (!chunk.is_empty()).then_some(chunk)
    }

    /// Looks for something to send after everything found was sent. When there
    /// is nothing, the task is woken once there may be.
    fn find(&mut self, context: &mut Context<'_>) -> bool {
        let other = self.place.register(context.waker());
        if self.cache.is_closing() {
            self.over = true;
            return true;
        }
        // A timer knows its task, too: it is asked only when it must be.
        if (other || self.alarm.is_elapsed()) && self.rung(context) {
            return true;
        }
        self.look()
    }

    /// Reads what there is to see. Gives whether there is something to send now.
    fn look(&mut self) -> bool {
        if !self.place.has_news() && !self.more {
            return false;
        }
        // Room for the usual turn, not for the largest one there was.
        self.events.shrink_to(4);
        let found = self
            .cache
            .read_for(&self.place, self.cursor, &mut self.events);
        match found {
            Some((next, revision, more)) => {
                self.cursor = next;
                self.more = more;
                self.reached = self.reached.max(revision);
            }
            None => {
                let why = "the watch fell behind the changes that are kept: list again";
                self.fail(&ApiError::expired(why));
            }
        }
        self.over || !self.events.is_empty()
    }

    /// Does what is due by the clock. Gives whether there is something to send
    /// now; else the task is woken when something is due.
    fn rung(&mut self, context: &mut Context<'_>) -> bool {
        loop {
            // Outside the budget of the task's turn: beyond it the timer would
            // not register the task.
            let alarm = tokio::task::unconstrained(self.alarm.as_mut());
            if std::pin::pin!(alarm).poll(context).is_pending() {
                return !self.chunk.is_empty();
            }
            let now = Instant::now();
            // Who is woken by few changes catches up with the others.
            if self.place.value().is_some() && now < self.deadline && self.look() {
                return true;
            }
            self.bookmark(
                bug!("bookmark-ahead", self.reached => self.reached + 3),
                false,
            );
            if now >= self.deadline {
                self.over = true;
                return true;
            }
            // It forgets the task, and is asked again.
            let next = self.deadline.min(now + limits::BOOKMARK);
            self.alarm.as_mut().reset(next);
        }
    }

    /// Events up to here are not told: the client has them.
    fn first(&self) -> i64 {
        match self.options.start {
            Start::After(revision) => revision,
            _ => 0,
        }
    }

    /// Ends the watch with an error.
    fn fail(&mut self, error: &ApiError) {
        self.over = true;
        let status = error.status().to_string();
        match self.options.form {
            Form::Protobuf => {
                if let Ok(sealed) = respond::protobuf_status(status.as_bytes()) {
                    self.protobuf("ERROR", &sealed);
                }
            }
            _ => self
                .chunk
                .extend_from_slice(&frame("ERROR", status.as_bytes())),
        }
    }

    /// Adds an event in the client's form; `framed` is the whole of it in JSON.
    fn event(&mut self, kind: &str, framed: &[u8], object: &Bytes) {
        if self.view.is_plain() {
            self.add(kind, framed, object);
        } else if let Ok(object) = self.view.shown(object) {
            self.add(kind, &frame(kind, &object), &object);
        }
    }

    /// The same of an object in the version that is served.
    fn add(&mut self, kind: &str, framed: &[u8], object: &[u8]) {
        match self.options.form {
            Form::Json | Form::Yaml => self.chunk.extend_from_slice(framed),
            Form::Partial | Form::PartialList => {
                if let Ok(partial) = respond::partial(object) {
                    self.chunk
                        .extend_from_slice(&frame(kind, partial.to_string().as_bytes()));
                }
            }
            Form::Table => {
                if let Ok(value) = serde_json::from_slice::<Json>(object) {
                    let version = value
                        .get("metadata")
                        .and_then(|meta| meta.get("resourceVersion"))
                        .cloned();
                    let meta = json!({"resourceVersion": version.unwrap_or(Value::Null)});
                    let table = table::of(
                        &self.view.served,
                        &[value],
                        &meta,
                        self.options.include,
                        &|value| respond::in_row(&self.options.row, value),
                        !self.columns,
                    );
                    self.columns = true;
                    self.chunk
                        .extend_from_slice(&frame(kind, table.to_string().as_bytes()));
                }
            }
            Form::Protobuf => {
                if let Ok(sealed) = respond::protobuf(&self.view.served, object) {
                    self.protobuf(kind, &sealed);
                }
            }
        }
    }

    /// A frame of four bytes of length and a `WatchEvent`.
    fn protobuf(&mut self, kind: &str, sealed: &[u8]) {
        let mut event = Vec::with_capacity(sealed.len() + 32);
        proto::put_len(1, kind.as_bytes(), &mut event);
        proto::nested(2, &mut event, |out| proto::put_len(1, sealed, out));
        let length = u32::try_from(event.len()).unwrap_or(u32::MAX);
        self.chunk.extend_from_slice(&length.to_be_bytes());
        self.chunk.extend_from_slice(&event);
    }

    fn bookmark(&mut self, revision: i64, end: bool) {
        if !self.options.bookmarks {
            return;
        }
        let mut meta = json!({"resourceVersion": revision.to_string()});
        if end {
            meta["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, version) = match self.options.form {
            Form::Partial | Form::PartialList => {
                ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned())
            }
            _ => (&*self.view.served.kind, self.view.served.api_version()),
        };
        let mut object = match self.options.form {
            // An object of the kind, all empty but for this.
            Form::Json | Form::Yaml => zero_of(&Type::Message(self.view.served.message)),
            _ => json!({}),
        };
        object["kind"] = kind.into();
        object["apiVersion"] = version.as_str().into();
        object["metadata"] = meta.clone();
        let object = object.to_string();
        match self.options.form {
            Form::Json | Form::Yaml | Form::Partial | Form::PartialList => self
                .chunk
                .extend_from_slice(&frame("BOOKMARK", object.as_bytes())),
            Form::Protobuf => {
                if let Ok(sealed) = respond::protobuf(&self.view.served, object.as_bytes()) {
                    self.protobuf("BOOKMARK", &sealed);
                }
            }
            Form::Table => {
                let value = json!({"kind": kind, "apiVersion": version, "metadata": meta});
                let rows = json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "columnDefinitions": null,
                    "rows": [{"cells": [], "object": value}]});
                self.chunk
                    .extend_from_slice(&frame("BOOKMARK", rows.to_string().as_bytes()));
            }
        }
    }
}
