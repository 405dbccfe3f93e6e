//! What one client stream is told, in order, and what it may cost.
//!
//! Knows messages and bytes. Must not know how they travel.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use mizzen_core::EventKind;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{event::Revision, spans::Span};

/// The id of what concerns all watches of a stream.
pub const ALL_WATCHES: i64 = -1;

/// Memory of one queued message besides the changes it refers to, bytes.
pub(super) const MESSAGE_BYTES: usize = 64;

/// What a client wants to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// 0: the stream chooses one.
    pub id: i64,
    pub span: Span,
    /// 0: from now on.
    pub start: i64,
    pub prev_kv: bool,
    pub progress: bool,
    pub fragment: bool,
    pub no_put: bool,
    pub no_delete: bool,
}

/// One watch, as its stream knows it.
#[derive(Debug)]
pub struct Watch {
    pub id: i64,
    pub prev_kv: bool,
    pub fragment: bool,
    pub(super) progress: bool,
    /// The first revision it asked for; the next one if it named none.
    pub(super) start: i64,
    no_put: bool,
    no_delete: bool,
    /// Whether it was told of changes since the last progress report.
    pub(super) told: AtomicBool,
}

impl Watch {
    pub(super) fn new(id: i64, start: i64, create: &Create) -> Self {
        Self {
            id,
            prev_kv: create.prev_kv,
            fragment: create.fragment,
            progress: create.progress,
            start,
            no_put: create.no_put,
            no_delete: create.no_delete,
            told: AtomicBool::new(false),
        }
    }

    fn takes(&self, kind: EventKind) -> bool {
        match kind {
            EventKind::Put => !self.no_put,
            EventKind::Delete => !self.no_delete,
        }
    }
}

/// Which of a revision's changes lie in a watch's span.
#[derive(Clone, Debug)]
pub(super) enum Picked {
    All,
    Some(Arc<[usize]>),
}

/// The changes of one revision that a watch is told of; at least one.
#[derive(Clone, Debug)]
pub struct Changes {
    pub watch: Arc<Watch>,
    revision: Arc<Revision>,
    picked: Picked,
}

impl Changes {
    /// `None` if the watch takes none of them.
    pub(super) fn new(
        watch: &Arc<Watch>,
        revision: &Arc<Revision>,
        picked: &Picked,
    ) -> Option<Self> {
        let changes = Self {
            watch: watch.clone(),
            revision: revision.clone(),
            picked: picked.clone(),
        };
        let any = changes.kinds().any(|kind| watch.takes(kind));
        any.then_some(changes)
    }

    pub fn revision(&self) -> i64 {
        self.revision.number
    }

    fn places(&self) -> impl Iterator<Item = usize> {
        let count = match &self.picked {
            Picked::All => self.revision.changes.len(),
            Picked::Some(places) => places.len(),
        };
        (0..count).map(|number| match &self.picked {
            Picked::All => number,
            Picked::Some(places) => places[number],
        })
    }

    fn kinds(&self) -> impl Iterator<Item = EventKind> {
        self.places()
            .map(|place| self.revision.changes[place].kind())
    }

    /// Keys and kinds of the changes.
    pub fn keys(&self) -> impl Iterator<Item = (&Bytes, EventKind)> {
        self.places()
            .map(|place| &self.revision.changes[place])
            .filter(|change| self.watch.takes(change.kind()))
            .map(|change| (change.key(), change.kind()))
    }

    /// The changes as elements of a `WatchResponse`.
    pub fn encoded(&self) -> impl Iterator<Item = &Bytes> {
        self.places()
            .map(|place| &self.revision.changes[place])
            .filter(|change| self.watch.takes(change.kind()))
            .map(|change| change.encoded(self.watch.prev_kv))
    }
}

/// What a client is told.
#[derive(Clone, Debug)]
pub enum Message {
    /// The watch is there; everything after `revision` will be told, or from
    /// the revision asked for.
    Created {
        id: i64,
        revision: i64,
    },
    /// There is no watch, and why.
    Refused {
        revision: i64,
        reason: &'static str,
    },
    /// The watch has ended: its client may not see it any more.
    Revoked {
        id: i64,
        revision: i64,
        reason: &'static str,
    },
    /// The client ended the watch.
    Canceled {
        id: i64,
        revision: i64,
    },
    /// The watch has ended: what it was to be told next is compacted.
    Compacted {
        id: i64,
        floor: i64,
    },
    /// The watch has ended: what it was to be told next is one revision that is
    /// larger than there is room for.
    TooLarge {
        id: i64,
        revision: i64,
    },
    /// The watch (or [`ALL_WATCHES`]) was told everything up to `revision`.
    Progress {
        id: i64,
        revision: i64,
    },
    Changes(Changes),
}

/// Why a stream ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    NoLeader,
    Stopped,
    /// The client sent what is no request.
    Invalid(String),
}

/// A watch that is told of the past, until it has come to the present.
#[derive(Clone, Debug)]
pub(super) struct Lagging {
    pub watch: Arc<Watch>,
    pub span: Span,
    /// The first revision it was not told of.
    pub next: i64,
}

#[derive(Debug)]
struct Queued {
    message: Message,
    charge: usize,
    weight: usize,
}

#[derive(Debug, Default)]
pub(super) struct State {
    queue: VecDeque<Queued>,
    bytes: usize,
    /// Bytes queued on all streams.
    all: Arc<AtomicUsize>,
    /// The revision whose changes were charged last: watches of one stream
    /// share them.
    charged: i64,
    /// Each watch's place in the index.
    pub watches: HashMap<i64, usize>,
    pub next_id: i64,
    /// By place in the index.
    pub lagging: BTreeMap<usize, Lagging>,
    /// Someone is reading the past for this stream, or is about to.
    pub catching_up: bool,
    /// The client asked for a progress report; due when this revision has been
    /// told.
    pub progress_due: Option<i64>,
    pub closed: bool,
    /// In the list of streams, until the stream is closed and done with.
    pub place: Option<usize>,
    end: Option<End>,
    waker: Option<Waker>,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub state: Mutex<State>,
    room: Notify,
}

impl State {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn tell(&mut self, message: Message) {
        self.queue_up(Queued {
            message,
            charge: MESSAGE_BYTES,
            weight: MESSAGE_BYTES,
        });
    }

    pub fn tell_changes(&mut self, changes: Changes) {
        changes.watch.told.store(true, Ordering::Relaxed);
        let revision = &changes.revision;
        let weight = match &changes.picked {
            Picked::All => revision.bytes(),
            Picked::Some(places) => revision.bytes() / revision.changes.len() * places.len(),
        };
        let mut charge = MESSAGE_BYTES;
        if self.charged != revision.number {
            self.charged = revision.number;
            charge += revision.bytes();
        }
        self.queue_up(Queued {
            message: Message::Changes(changes),
            charge,
            weight,
        });
    }

    fn queue_up(&mut self, queued: Queued) {
        if self.closed || self.end.is_some() {
            return;
        }
        self.bytes += queued.charge;
        self.all.fetch_add(queued.charge, Ordering::Relaxed);
        self.queue.push_back(queued);
    }

    /// To be called, outside all locks, after something was queued.
    pub fn waker(&mut self) -> Option<Waker> {
        if self.queue.is_empty() && self.end.is_none() {
            return None;
        }
        self.waker.take()
    }

    /// Whether the past must be read for this stream; if so, it is marked as
    /// being read.
    pub fn starts_catching_up(&mut self, stream_bytes: usize) -> bool {
        let starts = !self.closed
            && !self.catching_up
            && !self.lagging.is_empty()
            && self.bytes <= stream_bytes / 2;
        self.catching_up |= starts;
        starts
    }

    pub fn close(&mut self) -> Vec<usize> {
        self.closed = true;
        self.queue = VecDeque::new();
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
        self.lagging.clear();
        self.watches.drain().map(|(_, place)| place).collect()
    }
}

impl Stream {
    /// `all` counts the bytes queued on all streams.
    pub fn new(all: Arc<AtomicUsize>) -> Self {
        Self {
            state: Mutex::new(State {
                all,
                ..State::default()
            }),
            room: Notify::new(),
        }
    }

    /// The messages that are ready, up to about `weight` bytes of changes;
    /// `Err` after the last message of a stream that has ended.
    pub fn poll(&self, cx: &mut Context<'_>, weight: usize) -> Poll<Result<Vec<Message>, End>> {
        let mut state = self.state.lock();
        if state.queue.is_empty() {
            if let Some(end) = &state.end {
                return Poll::Ready(Err(end.clone()));
            }
            match &mut state.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        let mut messages = Vec::new();
        let mut taken = 0;
        while taken < weight {
            let Some(queued) = state.queue.pop_front() else {
                break;
            };
            taken += queued.weight;
            state.bytes -= queued.charge;
            state.all.fetch_sub(queued.charge, Ordering::Relaxed);
            messages.push(queued.message);
        }
        if state.queue.is_empty() {
            // The next message of the same revision keeps its changes alive by
            // itself.
            state.charged = 0;
        }
        drop(state);
        self.room.notify_one();
        Poll::Ready(Ok(messages))
    }

    /// Ends the stream after what is queued.
    pub fn end(&self, end: End) {
        let mut state = self.state.lock();
        state.end.get_or_insert(end);
        let waker = state.waker();
        drop(state);
        self.room.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Returns when fewer than `bytes` are queued: a client that does not read
    /// is not listened to. For one waiter.
    pub async fn room(&self, bytes: usize) {
        while self.state.lock().bytes >= bytes {
            self.room.notified().await;
        }
    }
}
