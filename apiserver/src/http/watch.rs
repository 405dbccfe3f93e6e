//! Watches: what a cache has seen, as a stream of events.
//!
//! A watch is a cursor into the cache's history and a few chunks that wait for
//! the client. It has no task of its own: whoever writes its chunks drives it,
//! so an event costs one waking, and a client that does not read holds only
//! the chunks.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::Stream;
use parking_lot::Mutex;
use rand::Rng as _;
use serde_json::{Value, json};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{accept::Form, respond};
use crate::{
    cache::{Cache, Cursor, Entry, Kind, frame},
    codec::proto,
    error::ApiError,
    limits,
    metrics::Watching,
    object::Json,
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

struct Watcher {
    hold: Hold,
    view: View,
    cache: Arc<Cache>,
    options: WatchOptions,
    ready: Ready,
    /// What is to be sent.
    chunk: Vec<u8>,
    /// Whether a table's columns have been told.
    columns: bool,
    deadline: Instant,
}

/// Chunks on their way from a watch's work to who asks for them. Both are the
/// same task, so nobody is woken.
#[derive(Clone, Default)]
struct Ready(Arc<Mutex<VecDeque<Bytes>>>);

impl Ready {
    fn take(&self) -> Option<Bytes> {
        self.0.lock().pop_front()
    }

    /// Waits while [`limits::CHUNKS_MAX`] are there: the work is polled again
    /// when all have been taken.
    async fn put(&self, chunk: Bytes) {
        poll_fn(|_| {
            if self.0.lock().len() < limits::CHUNKS_MAX {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        self.0.lock().push_back(chunk);
    }
}

/// The chunks of a watch, made as they are asked for.
pub struct Chunks {
    /// `None` once the watch is over.
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    ready: Ready,
}

impl Stream for Chunks {
    type Item = Bytes;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let this = self.get_mut();
        if let Some(chunk) = this.ready.take() {
            return Poll::Ready(Some(chunk));
        }
        let Some(work) = &mut this.work else {
            return Poll::Ready(None);
        };
        let over = work.as_mut().poll(context).is_ready();
        if over {
            this.work = None;
        }
        match this.ready.take() {
            None if !over => Poll::Pending,
            chunk => Poll::Ready(chunk),
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
                state: false,
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
                state,
            })
        }
    };
    let ready = Ready::default();
    let lasts = options.timeout.map_or_else(
        || limits::WATCH_MIN.mul_f64(1.0 + rand::rng().random::<f64>()),
        |seconds| Duration::from_secs(seconds).min(limits::WATCH_MAX),
    );
    let mut watcher = Watcher {
        hold,
        view,
        cache,
        options,
        ready: ready.clone(),
        chunk: Vec::new(),
        columns: false,
        deadline: Instant::now() + lasts,
    };
    let work = async move {
        match begin {
            Ok(begin) => watcher.run(begin).await,
            // As an event of a watch that began, as upstream does: kube-rs
            // lists again upon no other answer.
            Err(error) => watcher.failed(&error).await,
        }
    };
    Ok(Chunks {
        work: Some(Box::pin(work)),
        ready,
    })
}

struct Begin {
    entries: Vec<Arc<Entry>>,
    cursor: Cursor,
    revision: i64,
    state: bool,
}

impl Watcher {
    async fn run(&mut self, begin: Begin) {
        for entry in begin.entries {
            if entry.matches(self.view.stored, &self.options.selector) {
                self.hold.counted.sent(1);
                self.event(
                    Kind::Added.name(),
                    &frame(Kind::Added.name(), &entry.json()),
                    &entry.json(),
                );
                self.flush(false).await;
            }
        }
        if begin.state && matches!(self.options.start, Start::StateThenMark(_)) {
            self.bookmark(begin.revision, true);
        }
        self.flush(true).await;
        self.follow(begin.cursor, begin.revision).await
    }

    async fn follow(&mut self, mut cursor: Cursor, mut reached: i64) {
        let mut progress = self.cache.subscribe();
        let mut events = Vec::new();
        let mut marked = Instant::now();
        // One timer for all turns: setting one for each costs more than the rest.
        let alarm = tokio::time::sleep_until(self.deadline);
        tokio::pin!(alarm);
        loop {
            progress.mark_unchanged();
            let Some((next, revision)) = self.cache.read(cursor, &mut events) else {
                return self.expired().await;
            };
            cursor = next;
            let more = events.len() == limits::WATCH_TURN;
            let mut sent = 0;
            let alone =
                events.len() == 1 && self.options.form == Form::Json && self.view.is_plain();
            for event in events.drain(..) {
                if event.revision <= self.first()
                    || !event.entry.key.starts_with(self.options.scope.as_str())
                {
                    continue;
                }
                if let Some(kind) = event.seen(self.view.stored, &self.options.selector) {
                    sent += 1;
                    let framed = event.frame(kind);
                    if alone {
                        self.ready.put(framed).await;
                        continue;
                    }
                    let object = framed.slice(kind.name().len() + 20..framed.len() - 2);
                    self.event(kind.name(), &framed, &object);
                    self.flush(false).await;
                }
            }
            // Room for the usual turn, not for the largest one there was.
            events.shrink_to(4);
            self.hold.counted.sent(sent);
            reached = reached.max(revision);
            self.flush(true).await;
            if more {
                continue;
            }
            let now = Instant::now();
            if now >= self.deadline {
                self.bookmark(reached, false);
                self.flush(true).await;
                return;
            }
            if now >= marked + limits::BOOKMARK {
                marked = now;
                self.bookmark(reached, false);
                self.flush(true).await;
            }
            let until = (marked + limits::BOOKMARK).min(self.deadline);
            if alarm.deadline() != until {
                alarm.as_mut().reset(until);
            }
            tokio::select! {
                biased;
                changed = progress.changed() => if changed.is_err() { return },
                () = &mut alarm => {}
            }
        }
    }

    /// Events up to here are not told: the client has them.
    fn first(&self) -> i64 {
        match self.options.start {
            Start::After(revision) => revision,
            _ => 0,
        }
    }

    async fn expired(&mut self) {
        let why = "the watch fell behind the changes that are kept: list again";
        self.failed(&ApiError::expired(why)).await
    }

    /// Ends the watch with an error.
    async fn failed(&mut self, error: &ApiError) {
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
        self.flush(true).await
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
            Form::Json => self.chunk.extend_from_slice(framed),
            Form::Partial => {
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
                        self.view.served,
                        &[value],
                        &meta,
                        self.options.include,
                        !self.columns,
                    );
                    self.columns = true;
                    self.chunk
                        .extend_from_slice(&frame(kind, table.to_string().as_bytes()));
                }
            }
            Form::Protobuf => {
                if let Ok(sealed) = respond::protobuf(self.view.served, object) {
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
        let mut meta = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if end {
            meta["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, version) = match self.options.form {
            Form::Partial => ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned()),
            _ => (self.view.served.kind, self.view.served.api_version()),
        };
        let object = json!({"kind": kind, "apiVersion": version, "metadata": meta}).to_string();
        match self.options.form {
            Form::Json | Form::Partial => self
                .chunk
                .extend_from_slice(&frame("BOOKMARK", object.as_bytes())),
            Form::Protobuf => {
                if let Ok(sealed) = respond::protobuf(self.view.served, object.as_bytes()) {
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

    /// Sends what is gathered, or, unless `all`, once it fills a chunk.
    async fn flush(&mut self, all: bool) {
        if self.chunk.is_empty() || (!all && self.chunk.len() < limits::CHUNK_BYTES) {
            return;
        }
        let chunk = Bytes::from(std::mem::take(&mut self.chunk));
        self.ready.put(chunk).await;
    }
}
