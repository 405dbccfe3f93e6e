//! Random interleavings of everything that happens to a hub, each step taken
//! by hand, held against what a list of all revisions says.

use std::{
    collections::BTreeMap,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use mizzen_core::{Event, EventKind, History, Interest, Wanted};
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::{
    catch_up::{self, Step},
    hub::{Bounds, Hub, Past, PastError, WatchStream},
    stream::{Create, Message, Stream},
    *,
};

type Story = Vec<(Bytes, EventKind)>;

/// All revisions from 2 on, and the floor.
#[derive(Default)]
struct Book {
    revisions: Vec<Story>,
    floor: i64,
}

impl Book {
    fn now(&self) -> i64 {
        1 + self.revisions.len() as i64
    }
}

#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Book>>);

fn event(number: i64, key: &Bytes, kind: EventKind) -> Event {
    let mut rest = bytes::BytesMut::new();
    prost::encoding::int64::encode(3, &number, &mut rest);
    Event {
        kind,
        key: key.clone(),
        kv: rest.freeze(),
        prev: None,
        mod_revision: number,
    }
}

impl Past for Shelf {
    fn now(&self) -> (i64, i64) {
        let book = self.0.lock();
        (book.now(), book.floor)
    }

    fn read(&self, from: i64, interest: &mut dyn Interest) -> Result<History, PastError> {
        let book = self.0.lock();
        if from < book.floor {
            return Err(PastError::Compacted);
        }
        let mut history = History {
            revisions: Vec::new(),
            next: from.max(book.now() + 1),
        };
        for (story, number) in book.revisions.iter().zip(2..) {
            if number < from {
                continue;
            }
            if number > from && interest.full() {
                history.next = number;
                break;
            }
            let events: Vec<Event> = story
                .iter()
                .filter(|(key, _)| interest.wants(key, number, 10) != Wanted::No)
                .map(|(key, kind)| event(number, key, *kind))
                .collect();
            if !events.is_empty() {
                history.revisions.push((number, events));
            }
        }
        Ok(history)
    }
}

/// What a client has seen of one watch.
struct Seen {
    create: Create,
    next: i64,
    over: bool,
}

struct Client {
    stream: WatchStream,
    sent: Vec<Create>,
    watches: BTreeMap<i64, Seen>,
}

struct World {
    shelf: Shelf,
    hub: Arc<Hub>,
    behind: mpsc::Receiver<Arc<Stream>>,
    waiting: Vec<Arc<Stream>>,
    /// Written to the rows and not yet published.
    unpublished: Vec<Revision>,
    clients: Vec<Client>,
}

#[derive(Clone, Debug)]
enum Act {
    Write(Vec<Story>),
    Publish,
    Dispatch,
    CatchUp(usize),
    Read(usize, usize),
    Create(usize, Create),
    Cancel(usize, i64),
    Progress(usize),
    Compact(u8),
    Jump,
    Reopen(usize),
}

const CLIENTS: usize = 3;

fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(0..3_u8, 1..3).prop_map(Bytes::from)
}

fn story() -> impl Strategy<Value = Story> {
    let kind = prop_oneof![Just(EventKind::Put), Just(EventKind::Delete)];
    prop::collection::btree_map(key(), kind, 1..4).prop_map(|story| story.into_iter().collect())
}

fn create() -> impl Strategy<Value = Create> {
    let span = prop_oneof![
        key().prop_map(Span::Key),
        (key(), prop::option::of(key())).prop_map(|(from, to)| Span::Keys { from, to }),
    ];
    (0..4_i64, span, 0..40_i64, any::<[bool; 2]>()).prop_map(|(id, span, start, filters)| Create {
        id,
        span,
        start,
        prev_kv: false,
        progress: true,
        fragment: false,
        no_put: filters[0] && !filters[1],
        no_delete: filters[1] && !filters[0],
    })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => prop::collection::vec(story(), 1..4).prop_map(Act::Write),
        5 => Just(Act::Publish),
        5 => Just(Act::Dispatch),
        6 => (0..CLIENTS).prop_map(Act::CatchUp),
        4 => (0..CLIENTS, 1..2_000_usize).prop_map(|(client, weight)| Act::Read(client, weight)),
        4 => (0..CLIENTS, create()).prop_map(|(client, create)| Act::Create(client, create)),
        1 => (0..CLIENTS, 0..5_i64).prop_map(|(client, id)| Act::Cancel(client, id)),
        1 => (0..CLIENTS).prop_map(Act::Progress),
        1 => any::<u8>().prop_map(Act::Compact),
        1 => Just(Act::Jump),
        1 => (0..CLIENTS).prop_map(Act::Reopen),
    ]
}

impl World {
    fn new(bounds: Bounds) -> Self {
        let shelf = Shelf::default();
        let (hub, behind) = Hub::new(Box::new(shelf.clone()), bounds);
        let hub = Arc::new(hub);
        let clients = (0..CLIENTS).map(|_| Self::client(&hub)).collect();
        Self {
            shelf,
            hub,
            behind,
            waiting: Vec::new(),
            unpublished: Vec::new(),
            clients,
        }
    }

    fn client(hub: &Arc<Hub>) -> Client {
        Client {
            stream: hub.open().expect("there is room"),
            sent: Vec::new(),
            watches: BTreeMap::new(),
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Write(stories) => {
                let mut book = self.shelf.0.lock();
                for story in stories {
                    let number = book.now() + 1;
                    let events = story
                        .iter()
                        .map(|(key, kind)| event(number, key, *kind))
                        .collect();
                    self.unpublished.push(Revision::new(number, events));
                    book.revisions.push(story);
                }
            }
            Act::Publish => self.hub.publish(std::mem::take(&mut self.unpublished)),
            Act::Dispatch => self.hub.dispatch(),
            Act::CatchUp(choice) => self.catch_up(choice),
            Act::Read(client, weight) => self.read(client, weight),
            Act::Create(client, create) => {
                let client = &mut self.clients[client];
                client.stream.create(&create);
                client.sent.push(create);
            }
            Act::Cancel(client, id) => self.clients[client].stream.cancel(id),
            Act::Progress(client) => {
                self.clients[client].stream.request_progress();
                self.clients[client].stream.tick();
            }
            Act::Compact(share) => {
                let mut book = self.shelf.0.lock();
                let to = book.now() * i64::from(share) / 255;
                book.floor = book.floor.max(to);
            }
            Act::Jump => {
                self.unpublished.clear();
                let now = self.shelf.0.lock().now();
                self.hub.jump(now);
            }
            Act::Reopen(client) => self.clients[client] = Self::client(&self.hub),
        }
    }

    fn catch_up(&mut self, choice: usize) {
        while let Ok(stream) = self.behind.try_recv() {
            self.waiting.push(stream);
        }
        if self.waiting.is_empty() {
            return;
        }
        let stream = self.waiting.remove(choice % self.waiting.len());
        match catch_up::step(&self.hub, &stream).expect("the past can be read") {
            Step::More => self.waiting.push(stream),
            Step::Done => {}
        }
    }

    fn read(&mut self, client: usize, weight: usize) {
        let mut cx = Context::from_waker(Waker::noop());
        let client = &mut self.clients[client];
        let Poll::Ready(messages) = client.stream.poll(&mut cx, weight) else {
            return;
        };
        let book = self.shelf.0.lock();
        for message in messages.expect("the stream goes on") {
            client.take(&book, message);
        }
    }

    /// Goes on until nothing more happens, and looks whether all is told.
    fn settle(mut self) {
        self.act(Act::Publish);
        let mut quiet = 0;
        while quiet < 3 {
            let before = self.hub.index.lock().dispatched;
            self.hub.dispatch();
            let mut worked = self.hub.index.lock().dispatched > before;
            let mut cx = Context::from_waker(Waker::noop());
            for client in &mut self.clients {
                if let Poll::Ready(messages) = client.stream.poll(&mut cx, usize::MAX) {
                    worked = true;
                    let book = self.shelf.0.lock();
                    for message in messages.expect("the stream goes on") {
                        client.take(&book, message);
                    }
                }
            }
            self.catch_up(0);
            worked |= !self.waiting.is_empty() || !self.behind.is_empty();
            quiet = if worked { 0 } else { quiet + 1 };
        }
        let book = self.shelf.0.lock();
        for client in &mut self.clients {
            for (id, seen) in client.watches.iter_mut().filter(|(_, seen)| !seen.over) {
                let missed = seen.skip(&book, book.now() + 1);
                assert_eq!(missed, None, "watch {id} was not told of a revision");
            }
        }
    }
}

impl Seen {
    fn changes(&self, book: &Book, number: i64) -> Vec<(Bytes, EventKind)> {
        let story = &book.revisions[usize::try_from(number - 2).expect("a revision")];
        story
            .iter()
            .filter(|(key, kind)| {
                self.create.span.contains(key)
                    && match kind {
                        EventKind::Put => !self.create.no_put,
                        EventKind::Delete => !self.create.no_delete,
                    }
            })
            .cloned()
            .collect()
    }

    /// Goes on to `next`; the first revision on the way that concerns it.
    fn skip(&mut self, book: &Book, next: i64) -> Option<i64> {
        while self.next < next {
            if self.next >= 2 && !self.changes(book, self.next).is_empty() {
                return Some(self.next);
            }
            self.next += 1;
        }
        None
    }
}

impl Client {
    fn take(&mut self, book: &Book, message: Message) {
        match message {
            Message::Created { id, revision } => {
                let create = self.sent.remove(0);
                let next = if create.start == 0 {
                    revision + 1
                } else {
                    create.start
                };
                assert!(create.id == 0 || create.id == id);
                let seen = Seen {
                    create,
                    next,
                    over: false,
                };
                let before = self.watches.insert(id, seen);
                assert!(before.is_none_or(|seen| seen.over), "watch {id} is doubled");
            }
            Message::Refused { .. } => {
                let create = self.sent.remove(0);
                let empty = matches!(&create.span, Span::Keys { from, to: Some(to) } if from >= to);
                let doubled = self
                    .watches
                    .get(&create.id)
                    .is_some_and(|seen| create.id != 0 && !seen.over);
                assert!(empty || doubled, "{create:?} was refused");
            }
            Message::Canceled { id, .. } => self.watch(id).over = true,
            Message::Compacted { id, floor } => {
                let seen = self.watch(id);
                seen.over = true;
                assert_eq!(seen.skip(book, seen.next), None);
                assert!(floor <= book.floor);
                assert!(
                    seen.next < floor,
                    "watch {id} could still be told of {}",
                    seen.next
                );
            }
            Message::Progress { id, revision } => {
                for (number, seen) in &mut self.watches {
                    if !seen.over && (id == ALL_WATCHES || id == *number) {
                        let missed = seen.skip(book, revision + 1);
                        assert_eq!(
                            missed, None,
                            "progress {revision} is ahead of watch {number}"
                        );
                    }
                }
            }
            Message::Changes(changes) => {
                let number = changes.revision();
                let seen = self.watch(changes.watch.id);
                assert!(!seen.over, "told after the end");
                assert_eq!(seen.skip(book, number), None, "a revision was left out");
                assert_eq!(seen.next, number, "told twice");
                let told: Vec<_> = changes
                    .keys()
                    .map(|(key, kind)| (key.clone(), kind))
                    .collect();
                assert_eq!(told, seen.changes(book, number), "revision {number}");
                assert_eq!(changes.encoded().count(), told.len());
                seen.next += 1;
            }
        }
    }

    fn watch(&mut self, id: i64) -> &mut Seen {
        self.watches.get_mut(&id).expect("a watch that was made")
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_watch_is_told_everything_once_in_order(
        acts in prop::collection::vec(act(), 1..120),
        stream_bytes in 64..4_000_usize,
        all_bytes in 64..10_000_usize,
        ring_bytes in 1..4_000_usize,
        dispatch_revisions in 1..4_usize,
        page_bytes in 1..2_000_usize,
        page_rows in 1..12_usize,
    ) {
        let mut world = World::new(Bounds {
            stream_bytes,
            all_bytes,
            ring_bytes,
            dispatch_revisions,
            page_bytes,
            page_rows,
            watches: 100,
            streams: 100,
        });
        for act in acts {
            world.act(act);
        }
        world.settle();
    }
}

#[test]
fn a_client_that_does_not_read_costs_its_budget_and_no_more() {
    let bounds = Bounds {
        stream_bytes: 10_000,
        all_bytes: 100_000,
        ring_bytes: 10_000,
        dispatch_revisions: 64,
        page_bytes: 5_000,
        page_rows: 100,
        watches: 100,
        streams: 100,
    };
    let mut world = World::new(bounds);
    for id in 1..50 {
        world.act(Act::Create(
            0,
            Create {
                id,
                span: Span::Keys {
                    from: Bytes::from_static(&[0]),
                    to: None,
                },
                start: 1,
                prev_kv: false,
                progress: false,
                fragment: false,
                no_put: false,
                no_delete: false,
            },
        ));
    }
    for number in 0..2_000_u32 {
        let key = Bytes::copy_from_slice(&number.to_be_bytes());
        world.act(Act::Write(vec![vec![(key, EventKind::Put)]]));
        world.act(Act::Publish);
        world.act(Act::Dispatch);
        world.act(Act::CatchUp(0));
    }
    let queued = world.clients[0].stream.queued();
    assert!(
        queued < bounds.stream_bytes + bounds.page_bytes + 50 * 1_000,
        "{queued} bytes are queued"
    );
    world.settle();
}
