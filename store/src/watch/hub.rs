//! All watches of a member: takes revisions from the applying thread, tells live
//! watches of them, and has the past read for those that lag.
//!
//! Locks are taken in the order index, ring, list of streams, stream. The
//! applying thread takes the ring's only, and never waits for a reader.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use mizzen_core::{History, Interest};
use mizzen_planted::{bug, sometimes};
use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::{Notify, Semaphore, mpsc};

use super::{
    catch_up::{self, Step},
    event::News,
    index::{DeferredWakes, Index},
    ring::Ring,
    spans::Span,
    stream::{Create, End, Lagging, Message, Stream, Watch},
};
use crate::workers::{self, Workers};

/// How much a hub keeps.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes queued on one stream beyond which its watches read the past.
    pub stream_bytes: usize,
    /// Bytes queued on all streams beyond which each may have a sixty-fourth of
    /// that only.
    pub all_bytes: usize,
    /// Bytes of newest revisions kept in memory.
    pub ring_bytes: usize,
    /// Revisions told to live watches before others get the index.
    pub dispatch_revisions: usize,
    /// Bytes of one page of history.
    pub page_bytes: usize,
    /// Rows looked at for one page of history.
    pub page_rows: usize,
    /// Bytes of one revision that is read from history.
    pub revision_bytes: usize,
    /// Watches of one member.
    pub watches: usize,
    /// Streams of one member.
    pub streams: usize,
}

/// Where the past is read.
pub trait Past: Send + Sync + 'static {
    /// The newest revision that can be read, and the compaction floor.
    fn now(&self) -> (i64, i64);

    /// May block.
    fn read(&self, from: i64, interest: &mut dyn Interest) -> Result<History, PastError>;
}

#[derive(Debug, thiserror::Error)]
pub enum PastError {
    #[error("the revision has been compacted")]
    Compacted,
    /// The rows cannot be read; fatal for the member.
    #[error("{0}")]
    Failed(String),
}

/// All watches of a member.
pub struct Hub {
    pub(super) index: Mutex<Index>,
    pub(super) ring: Mutex<Ring>,
    /// Something is to be told, or the hub has stopped.
    grown: Notify,
    /// So that nobody is woken for nothing.
    watches: AtomicUsize,
    stopped: AtomicBool,
    /// Bytes queued on all streams.
    queued: Arc<AtomicUsize>,
    streams: Mutex<Slab<Arc<Stream>>>,
    behind: mpsc::Sender<Arc<Stream>>,
    pub(super) past: Box<dyn Past>,
    pub(super) bounds: Bounds,
}

impl Hub {
    /// Starts telling what comes after `past.now()`. `fail` is called when
    /// history cannot be read.
    pub fn start(
        past: Box<dyn Past>,
        bounds: Bounds,
        readers: usize,
        workers: Workers,
        fail: impl Fn(&io::Error) + Send + Sync + 'static,
    ) -> io::Result<Arc<Self>> {
        let (hub, behind) = Self::new(past, bounds);
        let hub = Arc::new(hub);
        let dispatcher = hub.clone();
        let dispatching = async move { while dispatcher.dispatch_next().await {} };
        workers.start("watch", dispatching)?;
        let catching_up = catch_up(hub.clone(), behind, readers, workers, fail);
        workers::spawn("watches of the past", catching_up);
        Ok(hub)
    }

    /// A hub that works only when its parts are called.
    pub(super) fn new(past: Box<dyn Past>, bounds: Bounds) -> (Self, mpsc::Receiver<Arc<Stream>>) {
        let (now, _) = past.now();
        // A stream is in it once at most, and keeps its place meanwhile.
        let (behind, queue) = mpsc::channel(bounds.streams);
        let hub = Self {
            index: Mutex::new(Index::new(now)),
            ring: Mutex::new(Ring::new(now, bounds.ring_bytes)),
            grown: Notify::new(),
            watches: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            queued: Arc::new(AtomicUsize::new(0)),
            streams: Mutex::new(Slab::new()),
            behind,
            past,
            bounds,
        };
        (hub, queue)
    }

    /// Takes what was applied, in order. The rows must show it already.
    pub fn publish(&self, news: Vec<News>) {
        let mut ring = self.ring.lock();
        for news in news {
            match news {
                News::Revision(revision) => ring.push(Arc::new(revision)),
                News::InLog(revision) => ring.forget(revision),
            }
        }
        drop(ring);
        self.wake_dispatcher();
    }

    /// The rows were replaced by others that go up to `revision`: live watches
    /// must read what came in between.
    pub fn jump(&self, revision: i64) {
        self.ring.lock().forget(revision);
        self.wake_dispatcher();
    }

    fn wake_dispatcher(&self) {
        if self.watches.load(Ordering::Acquire) > 0 {
            self.grown.notify_one();
        }
    }

    /// Ends every stream, and the thread that serves them.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.grown.notify_one();
        for (_, stream) in &*self.streams.lock() {
            stream.end(End::Stopped);
        }
    }

    /// Waits until there is something to tell, and tells it; false when the
    /// hub has stopped.
    async fn dispatch_next(&self) -> bool {
        // What comes between a look and the wait ends the wait. A report of
        // progress never waits for more than that.
        while !self.has_news() && !self.stopped.load(Ordering::Acquire) {
            self.grown.notified().await;
        }
        bug!("dispatch-panics" => panic!("planted"));
        self.dispatch();
        !self.stopped.load(Ordering::Acquire)
    }

    fn has_news(&self) -> bool {
        let dispatched = self.index.lock().dispatched;
        self.ring.lock().newest() > dispatched
    }

    /// Tells live watches of the next revisions.
    pub(super) fn dispatch(&self) {
        let mut after = DeferredWakes::default();
        let mut index = self.index.lock();
        let news = {
            let ring = self.ring.lock();
            match ring.from(index.dispatched + 1, self.bounds.dispatch_revisions) {
                Some(news) => news,
                None => {
                    sometimes!("live-watches-read-the-rows");
                    index.skip_to(ring.oldest() - 1, &mut after);
                    Vec::new()
                }
            }
        };
        for revision in &news {
            index.dispatch(revision, self.stream_bytes(), &mut after);
        }
        index.report_progress(&mut after);
        drop(index);
        self.settle(after);
    }

    /// Bytes one stream may have queued.
    pub(super) fn stream_bytes(&self) -> usize {
        if self.queued.load(Ordering::Relaxed) < self.bounds.all_bytes {
            self.bounds.stream_bytes
        } else {
            self.bounds.stream_bytes / 64
        }
    }

    pub(super) fn settle(&self, after: DeferredWakes) {
        for stream in after.settle() {
            self.read_past(&stream);
        }
    }

    /// Has the past read for a stream that lags behind and has room.
    fn read_past(&self, stream: &Arc<Stream>) {
        let starts = stream.state.lock().starts_catching_up(self.stream_bytes());
        if starts {
            self.enqueue(stream.clone());
        }
    }

    fn enqueue(&self, stream: Arc<Stream>) {
        // Never full: there is room for every stream with a place. Closed when
        // the hub has stopped.
        let _ = self.behind.try_send(stream);
    }

    /// Frees the place of a stream that is closed, as soon as nobody reads the
    /// past for it.
    pub(super) fn release(&self, stream: &Stream) {
        let mut streams = self.streams.lock();
        let mut state = stream.state.lock();
        if state.closed
            && !state.catching_up
            && let Some(place) = state.place.take()
        {
            streams.try_remove(place);
        }
    }

    /// A new stream; `None` if there are too many.
    pub fn open(self: &Arc<Self>) -> Option<WatchStream> {
        let stream = Arc::new(Stream::new(self.queued.clone()));
        {
            let mut streams = self.streams.lock();
            if streams.len() >= self.bounds.streams {
                return None;
            }
            let place = streams.insert(stream.clone());
            stream.state.lock().place = Some(place);
        }
        if self.stopped.load(Ordering::Acquire) {
            stream.end(End::Stopped);
        }
        Some(WatchStream {
            hub: self.clone(),
            stream,
        })
    }

    pub(super) fn create(&self, stream: &Arc<Stream>, create: &Create) {
        let mut after = DeferredWakes::default();
        let mut first = false;
        {
            let mut index = self.index.lock();
            if index.len() == 0 {
                // Nobody was told of what came meanwhile.
                index.dispatched = self.ring.lock().newest();
            }
            // Not older than what was dispatched, since rows come first.
            let (now, _) = self.past.now();
            let mut state = stream.state.lock();
            if state.closed {
                return;
            }
            match self.admit(create, &index, &mut state) {
                Ok(id) => {
                    let live = create.start == 0 || create.start > now;
                    sometimes!("watch-from-the-future", create.start > now + 1);
                    let start = if create.start == 0 {
                        now + 1
                    } else {
                        create.start
                    };
                    let watch = Arc::new(Watch::new(id, start, create));
                    let next = live.then_some(start);
                    let place = index.add(stream, watch.clone(), &create.span, next);
                    state.watches.insert(id, place);
                    state.tell(Message::Created { id, revision: now });
                    if !live {
                        let lagging = Lagging {
                            watch,
                            span: create.span.clone(),
                            next: start,
                        };
                        state.lagging.insert(place, lagging);
                        after.behind.push(stream.clone());
                    }
                    first = self.watches.swap(index.len(), Ordering::AcqRel) == 0;
                }
                Err(reason) => state.tell(Message::Refused {
                    revision: now,
                    reason,
                }),
            }
            after.wake(&mut state);
        }
        if first {
            // Whoever published just now may have seen no watches.
            self.grown.notify_one();
        }
        self.settle(after);
    }

    /// The id of the watch to be made, or etcd's words against it.
    fn admit(
        &self,
        create: &Create,
        index: &Index,
        state: &mut super::stream::State,
    ) -> Result<i64, &'static str> {
        if create.start < 0 {
            return Err("etcdserver: mvcc: required revision has been compacted");
        }
        if let Span::Keys { from, to: Some(to) } = &create.span
            && from >= to
        {
            return Err("mvcc: watcher range is empty");
        }
        if index.len() >= self.bounds.watches {
            return Err("etcdserver: too many requests");
        }
        if create.id == 0 {
            while state.watches.contains_key(&state.next_id) {
                state.next_id += 1;
            }
            state.next_id += 1;
            return Ok(state.next_id - 1);
        }
        if state.watches.contains_key(&create.id) {
            return Err("mvcc: duplicate watch ID provided on the WatchStream");
        }
        Ok(create.id)
    }

    fn cancel(&self, stream: &Arc<Stream>, id: i64) {
        let mut after = DeferredWakes::default();
        {
            let mut index = self.index.lock();
            let (revision, _) = self.past.now();
            let mut state = stream.state.lock();
            let Some(place) = state.watches.remove(&id) else {
                return;
            };
            index.remove(place);
            self.watches.store(index.len(), Ordering::Release);
            state.lagging.remove(&place);
            state.tell(Message::Canceled { id, revision });
            after.wake(&mut state);
            if state.progress_due.is_some() {
                // It may have been the watch that was waited for.
                drop(state);
                index.report_progress(&mut after);
            }
        }
        self.settle(after);
    }

    /// Answers a request for a watch that is not made.
    fn refuse(&self, stream: &Arc<Stream>, reason: &'static str) {
        let mut after = DeferredWakes::default();
        let (revision, _) = self.past.now();
        let mut state = stream.state.lock();
        state.tell(Message::Refused { revision, reason });
        after.wake(&mut state);
        drop(state);
        self.settle(after);
    }

    /// Ends the watches of a stream against which `denied` has a reason.
    fn revoke(&self, stream: &Arc<Stream>, denied: impl Fn(&Span) -> Option<&'static str>) {
        let mut after = DeferredWakes::default();
        {
            let mut index = self.index.lock();
            let (revision, _) = self.past.now();
            let mut state = stream.state.lock();
            let ends: Vec<_> = state
                .watches
                .iter()
                .filter_map(|(id, place)| Some((*id, *place, denied(index.span(*place)?)?)))
                .collect();
            for (id, place, reason) in ends {
                state.watches.remove(&id);
                index.remove(place);
                state.lagging.remove(&place);
                state.tell(Message::Revoked {
                    id,
                    revision,
                    reason,
                });
            }
            self.watches.store(index.len(), Ordering::Release);
            after.wake(&mut state);
            if state.progress_due.is_some() {
                drop(state);
                index.report_progress(&mut after);
            }
        }
        self.settle(after);
    }

    fn close(&self, stream: &Arc<Stream>) {
        let mut index = self.index.lock();
        for place in stream.state.lock().close() {
            index.remove(place);
        }
        self.watches.store(index.len(), Ordering::Release);
    }

    /// Reports, in order with changes, how far all watches of the stream were
    /// told, as soon as that is not behind what can be read now. As in etcd, a
    /// stream without watches, or with one that begins in the future, gets no
    /// report.
    fn request_progress(&self, stream: &Arc<Stream>) {
        let mut after = DeferredWakes::default();
        {
            let mut index = self.index.lock();
            let (now, _) = self.past.now();
            let mut state = stream.state.lock();
            let future = |place: &usize| {
                index
                    .watch(*place)
                    .is_none_or(|watch| watch.start > now + 1)
            };
            if state.watches.is_empty() || state.watches.values().any(future) {
                return;
            }
            if state.progress_due.replace(now).is_none() {
                index.progress.push(stream.clone());
            }
            drop(state);
            index.report_progress(&mut after);
        }
        self.settle(after);
    }

    /// Reports progress to the watches that want it and were told of nothing
    /// since the last time.
    fn tick(&self, stream: &Arc<Stream>) {
        let mut after = DeferredWakes::default();
        {
            let index = self.index.lock();
            let revision = index.dispatched;
            let mut state = stream.state.lock();
            let idle: Vec<i64> = state
                .watches
                .values()
                .filter_map(|place| index.live(*place, revision))
                .filter(|watch| watch.progress && !watch.told.swap(false, Ordering::Relaxed))
                .map(|watch| watch.id)
                .collect();
            for id in idle {
                state.tell(Message::Progress { id, revision });
            }
            after.wake(&mut state);
        }
        self.settle(after);
    }

    /// Bytes that one revision from the past may take on a stream.
    pub(super) fn revision_bytes(&self) -> usize {
        let queued = self.queued.load(Ordering::Relaxed);
        let free = self.bounds.all_bytes.saturating_sub(queued);
        self.bounds
            .revision_bytes
            .min(free)
            .max(self.bounds.page_bytes)
    }

    /// Ends a lagging watch, with `message` for its id as the last one.
    pub(super) fn end_lagging(
        &self,
        stream: &Arc<Stream>,
        place: usize,
        message: impl FnOnce(i64) -> Message,
    ) {
        let mut after = DeferredWakes::default();
        {
            let mut index = self.index.lock();
            let mut state = stream.state.lock();
            let Some(Lagging { watch, .. }) = state.lagging.remove(&place) else {
                return;
            };
            state.watches.remove(&watch.id);
            index.remove(place);
            self.watches.store(index.len(), Ordering::Release);
            state.tell(message(watch.id));
            after.wake(&mut state);
        }
        self.settle(after);
    }
}

/// Reads the past for streams that need it, a page for one, then a page for
/// the next.
async fn catch_up(
    hub: Arc<Hub>,
    mut behind: mpsc::Receiver<Arc<Stream>>,
    readers: usize,
    workers: Workers,
    fail: impl Fn(&io::Error) + Send + Sync + 'static,
) {
    let readers = Arc::new(Semaphore::new(readers));
    let fail = Arc::new(fail);
    while let Some(stream) = behind.recv().await {
        let Ok(place) = readers.clone().acquire_owned().await else {
            return;
        };
        let (hub, fail) = (hub.clone(), fail.clone());
        workers.beside("reading the past", move || {
            match catch_up::step(&hub, &stream) {
                Ok(Step::More) => hub.enqueue(stream),
                Ok(Step::Done) => {}
                Err(error) => fail(&io::Error::other(error)),
            }
            drop(place);
        });
    }
}

/// A client's stream of watches. Dropping it ends them.
pub struct WatchStream {
    hub: Arc<Hub>,
    stream: Arc<Stream>,
}

impl WatchStream {
    pub fn create(&self, create: &Create) {
        self.hub.create(&self.stream, create);
    }

    /// Ends a watch; nothing if there is none.
    pub fn cancel(&self, id: i64) {
        self.hub.cancel(&self.stream, id);
    }

    /// Answers a request for a watch that is not made.
    pub fn refuse(&self, reason: &'static str) {
        self.hub.refuse(&self.stream, reason);
    }

    /// Ends the watches against which `denied` has a reason.
    pub fn revoke(&self, denied: impl Fn(&Span) -> Option<&'static str>) {
        self.hub.revoke(&self.stream, denied);
    }

    pub fn request_progress(&self) {
        self.hub.request_progress(&self.stream);
    }

    /// The time of a report to idle watches that asked for reports.
    pub fn tick(&self) {
        self.hub.tick(&self.stream);
    }

    pub fn end(&self, end: End) {
        self.stream.end(end);
    }

    /// Returns when the client has read enough for it to be listened to.
    pub async fn room(&self) {
        self.stream.room(self.hub.stream_bytes()).await;
    }

    /// The messages that are ready, about `weight` bytes of changes at most;
    /// `Err` after the last message. For one reader.
    pub fn poll(
        &self,
        cx: &mut std::task::Context<'_>,
        weight: usize,
    ) -> std::task::Poll<Result<Vec<Message>, End>> {
        let messages = self.stream.poll(cx, weight);
        if messages.is_ready() {
            self.hub.read_past(&self.stream);
        }
        messages
    }
}

#[cfg(test)]
impl WatchStream {
    /// Bytes queued.
    pub(super) fn queued(&self) -> usize {
        self.stream.state.lock().bytes()
    }

    /// Whether a request for progress waits for its answer.
    pub(super) fn owes_progress(&self) -> bool {
        self.stream.state.lock().progress_due.is_some()
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.hub.close(&self.stream);
        self.hub.release(&self.stream);
    }
}
