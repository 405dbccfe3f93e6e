//! Random interleavings of everything that happens to a hub, each step taken
//! by hand, held against what a list of all revisions says.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use mizzen_core::{Event, EventKind, History, Interest, Wanted};
use mizzen_proto::etcdserverpb::WatchResponse;
use parking_lot::Mutex;
use proptest::prelude::*;
use prost::Message as _;
use tokio::sync::mpsc;

use super::{
    catch_up::{self, Step},
    hub::{Bounds, Hub, Past, PastError, WatchStream},
    stream::{Create, Message, Stream},
    *,
};
use crate::workers::{Owner, Workers};

type Story = Vec<(Bytes, EventKind)>;

/// All revisions from 2 on, and the floor.
#[derive(Default)]
struct Book {
    revisions: Vec<Story>,
    floor: i64,
    /// Written to the rows and not yet published.
    unpublished: Vec<Revision>,
}

impl Book {
    fn now(&self) -> i64 {
        1 + self.revisions.len() as i64
    }

    fn write(&mut self, story: Story) {
        let number = self.now() + 1;
        let events = story
            .iter()
            .map(|(key, kind)| event(number, key, *kind, true))
            .collect();
        self.unpublished.push(Revision::new(number, events));
        self.revisions.push(story);
    }

    fn compact(&mut self, share: u8) {
        let to = self.now() * i64::from(share) / 255;
        self.floor = self.floor.max(to);
    }
}

/// What happens while a page is being read.
type Meanwhile = Box<dyn FnOnce() + Send>;

#[derive(Clone, Default)]
struct Shelf {
    book: Arc<Mutex<Book>>,
    meanwhile: Arc<Mutex<Option<Meanwhile>>>,
}

/// The rest of a key-value that was changed at `number` and made before.
fn rest(number: i64) -> Bytes {
    let mut rest = bytes::BytesMut::new();
    prost::encoding::int64::encode(3, &number, &mut rest);
    rest.freeze()
}

/// Every change has a previous key-value, for whoever asks for it.
fn event(number: i64, key: &Bytes, kind: EventKind, with_previous: bool) -> Event {
    Event {
        kind,
        key: key.clone(),
        kv: rest(number),
        prev: with_previous.then(|| rest(number - 1)),
        mod_revision: number,
    }
}

impl Past for Shelf {
    fn now(&self) -> (i64, i64) {
        let book = self.book.lock();
        (book.now(), book.floor)
    }

    fn read(&self, from: i64, interest: &mut dyn Interest) -> Result<History, PastError> {
        let history = self.book.lock().read(from, interest);
        if let Some(meanwhile) = self.meanwhile.lock().take() {
            meanwhile();
        }
        history
    }
}

impl Book {
    fn read(&self, from: i64, interest: &mut dyn Interest) -> Result<History, PastError> {
        if from < self.floor {
            return Err(PastError::Compacted);
        }
        let mut history = History {
            revisions: Vec::new(),
            next: from.max(self.now() + 1),
            too_large: false,
        };
        for (story, number) in self.revisions.iter().zip(2..) {
            if number < from {
                continue;
            }
            if number > from && interest.full() {
                history.next = number;
                break;
            }
            let events: Vec<Event> = story
                .iter()
                .filter_map(|(key, kind)| match interest.wants(key, number, 10) {
                    Wanted::No => None,
                    wanted => {
                        let with_previous = wanted == Wanted::WithPrevious && number > self.floor;
                        Some(event(number, key, *kind, with_previous))
                    }
                })
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
    stream: Arc<WatchStream>,
    sent: Arc<Mutex<VecDeque<Create>>>,
    watches: BTreeMap<i64, Seen>,
    /// The newest revisions when progress was asked for. A report answers one
    /// request at least; not every request gets an answer.
    asked: VecDeque<i64>,
    /// The last report for all watches.
    report: i64,
}

struct World {
    shelf: Shelf,
    hub: Arc<Hub>,
    behind: mpsc::Receiver<Arc<Stream>>,
    waiting: Vec<Arc<Stream>>,
    clients: Vec<Client>,
}

#[derive(Clone, Debug)]
enum Act {
    Write(Vec<Story>),
    Publish,
    Dispatch,
    CatchUp(usize, Vec<Interruption>),
    Read(usize, usize),
    Create(usize, Create),
    Cancel(usize, i64),
    Progress(usize),
    Compact(u8),
    Jump,
    Lose,
    Reopen(usize),
}

/// What may happen between the locks of a step.
#[derive(Clone, Debug)]
enum Interruption {
    Create(usize, Create),
    Cancel(usize, i64),
    Write(Story),
    Publish,
    Dispatch,
    Compact(u8),
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
    (0..4_i64, span, 0..40_i64, any::<[bool; 3]>()).prop_map(|(id, span, start, filters)| Create {
        id,
        span,
        start,
        prev_kv: filters[2],
        progress: true,
        fragment: false,
        no_put: filters[0] && !filters[1],
        no_delete: filters[1] && !filters[0],
    })
}

fn interruption() -> impl Strategy<Value = Interruption> {
    prop_oneof![
        3 => (0..CLIENTS, create()).prop_map(|(client, create)| Interruption::Create(client, create)),
        3 => (0..CLIENTS, 0..5_i64).prop_map(|(client, id)| Interruption::Cancel(client, id)),
        2 => story().prop_map(Interruption::Write),
        2 => Just(Interruption::Publish),
        2 => Just(Interruption::Dispatch),
        1 => any::<u8>().prop_map(Interruption::Compact),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => prop::collection::vec(story(), 1..4).prop_map(Act::Write),
        5 => Just(Act::Publish),
        5 => Just(Act::Dispatch),
        6 => (0..CLIENTS, prop::collection::vec(interruption(), 0..4))
            .prop_map(|(choice, meanwhile)| Act::CatchUp(choice, meanwhile)),
        4 => (0..CLIENTS, 1..2_000_usize).prop_map(|(client, weight)| Act::Read(client, weight)),
        4 => (0..CLIENTS, create()).prop_map(|(client, create)| Act::Create(client, create)),
        1 => (0..CLIENTS, 0..5_i64).prop_map(|(client, id)| Act::Cancel(client, id)),
        1 => (0..CLIENTS).prop_map(Act::Progress),
        1 => any::<u8>().prop_map(Act::Compact),
        1 => Just(Act::Jump),
        1 => Just(Act::Lose),
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
            clients,
        }
    }

    fn client(hub: &Arc<Hub>) -> Client {
        Client {
            stream: Arc::new(hub.open().expect("there is room")),
            sent: Arc::default(),
            watches: BTreeMap::new(),
            asked: VecDeque::new(),
            report: 0,
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Write(stories) => {
                let mut book = self.shelf.book.lock();
                stories.into_iter().for_each(|story| book.write(story));
            }
            Act::Publish => publish(&self.shelf, &self.hub),
            Act::Dispatch => dispatch(&self.hub),
            Act::CatchUp(choice, meanwhile) => self.catch_up(choice, meanwhile),
            Act::Read(client, weight) => self.read(client, weight),
            Act::Create(client, create) => {
                let client = &mut self.clients[client];
                client.sent.lock().push_back(create.clone());
                client.stream.create(&create);
            }
            Act::Cancel(client, id) => self.clients[client].stream.cancel(id),
            Act::Progress(client) => {
                let client = &mut self.clients[client];
                client.asked.push_back(self.shelf.book.lock().now());
                client.stream.request_progress();
                client.stream.tick();
            }
            Act::Compact(share) => self.shelf.book.lock().compact(share),
            Act::Jump => {
                let now = {
                    let mut book = self.shelf.book.lock();
                    book.unpublished.clear();
                    book.now()
                };
                self.hub.jump(now);
            }
            Act::Lose => self.shelf.book.lock().unpublished.clear(),
            Act::Reopen(client) => self.clients[client] = Self::client(&self.hub),
        }
    }

    fn catch_up(&mut self, choice: usize, meanwhile: Vec<Interruption>) {
        while let Ok(stream) = self.behind.try_recv() {
            self.waiting.push(stream);
        }
        if self.waiting.is_empty() {
            return;
        }
        let stream = self.waiting.remove(choice % self.waiting.len());
        *self.shelf.meanwhile.lock() = Some(self.meanwhile(meanwhile));
        let step = catch_up::step(&self.hub, &stream).expect("the past can be read");
        // A step that reads no rows is not interrupted.
        *self.shelf.meanwhile.lock() = None;
        if step == Step::More {
            self.waiting.push(stream);
        }
    }

    /// Does to the hub what may be done to it while a page is read.
    fn meanwhile(&self, interruptions: Vec<Interruption>) -> Meanwhile {
        let (hub, shelf) = (self.hub.clone(), self.shelf.clone());
        let clients = self.clients.iter();
        let clients: Vec<_> = clients
            .map(|client| (client.stream.clone(), client.sent.clone()))
            .collect();
        Box::new(move || {
            for interruption in interruptions {
                match interruption {
                    Interruption::Create(client, create) => {
                        let (stream, sent) = &clients[client];
                        sent.lock().push_back(create.clone());
                        stream.create(&create);
                    }
                    Interruption::Cancel(client, id) => clients[client].0.cancel(id),
                    Interruption::Write(story) => shelf.book.lock().write(story),
                    Interruption::Publish => publish(&shelf, &hub),
                    Interruption::Dispatch => dispatch(&hub),
                    Interruption::Compact(share) => shelf.book.lock().compact(share),
                }
            }
        })
    }

    fn read(&mut self, client: usize, weight: usize) {
        let mut cx = Context::from_waker(Waker::noop());
        let client = &mut self.clients[client];
        let Poll::Ready(messages) = client.stream.poll(&mut cx, weight) else {
            return;
        };
        let book = self.shelf.book.lock();
        for message in messages.expect("the stream goes on") {
            client.take(&book, message);
        }
    }

    /// Goes on until nothing more happens, and looks whether all is told.
    fn settle(mut self) {
        // A revision after those that were lost shows that they were.
        self.act(Act::Write(vec![vec![("last".into(), EventKind::Put)]]));
        self.act(Act::Publish);
        self.exhaust();
        let mut alive = 0;
        for client in &self.clients {
            let seen = client.watches.values().filter(|seen| !seen.over);
            alive += seen.count();
            assert!(!client.stream.owes_progress(), "no report of progress");
        }
        assert_eq!(self.hub.index.lock().len(), alive, "watches are left");
        let mut reporting = Vec::new();
        {
            let book = self.shelf.book.lock();
            for (number, client) in self.clients.iter_mut().enumerate() {
                let watches = &mut client.watches;
                for (id, seen) in watches.iter_mut().filter(|(_, seen)| !seen.over) {
                    let missed = seen.skip(&book, book.now() + 1);
                    assert_eq!(missed, None, "watch {id} was not told of a revision");
                }
                let mut alive = watches.values().filter(|seen| !seen.over).peekable();
                let any = alive.peek().is_some();
                if any && alive.all(|seen| seen.create.start <= book.now() + 1) {
                    reporting.push(number);
                }
            }
        }
        for number in &reporting {
            self.act(Act::Progress(*number));
        }
        self.exhaust();
        let now = self.shelf.book.lock().now();
        for number in reporting {
            assert_eq!(self.clients[number].report, now, "no report of progress");
        }
        self.clients.clear();
        assert_eq!(self.hub.index.lock().len(), 0, "watches are left");
    }

    fn exhaust(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            let before = self.hub.index.lock().dispatched;
            dispatch(&self.hub);
            let mut worked = self.hub.index.lock().dispatched > before;
            let mut cx = Context::from_waker(Waker::noop());
            for client in &mut self.clients {
                if let Poll::Ready(messages) = client.stream.poll(&mut cx, usize::MAX) {
                    worked = true;
                    let book = self.shelf.book.lock();
                    for message in messages.expect("the stream goes on") {
                        client.take(&book, message);
                    }
                }
            }
            self.catch_up(0, Vec::new());
            worked |= !self.waiting.is_empty() || !self.behind.is_empty();
            quiet = if worked { 0 } else { quiet + 1 };
        }
    }
}

/// Dispatches when the thread that does so would: if there is something new.
fn dispatch(hub: &Hub) {
    if hub.ring.lock().newest() > hub.index.lock().dispatched {
        hub.dispatch();
    }
}

fn publish(shelf: &Shelf, hub: &Hub) {
    let revisions = std::mem::take(&mut shelf.book.lock().unpublished);
    hub.publish(revisions.into_iter().map(News::Revision).collect());
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
                let create = self.sent.lock().pop_front().expect("a request");
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
            Message::Refused { .. } | Message::Revoked { .. } => {
                let create = self.sent.lock().pop_front().expect("a request");
                let empty = matches!(&create.span, Span::Keys { from, to: Some(to) } if from >= to);
                let doubled = self
                    .watches
                    .get(&create.id)
                    .is_some_and(|seen| create.id != 0 && !seen.over);
                assert!(empty || doubled, "{create:?} was refused");
            }
            Message::Canceled { id, .. } => self.watch(id).over = true,
            Message::TooLarge { .. } => panic!("no revision is large here"),
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
                if id == ALL_WATCHES {
                    let asked = self.asked.pop_front().expect("a request for progress");
                    assert!(asked <= revision, "progress {revision}, asked at {asked}");
                    self.report = revision;
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
                let encoded: Vec<_> = changes.encoded().map(decoded).collect();
                let compacted = encoded.iter().all(|told| told.previous.is_none());
                let previous = match seen.create.prev_kv {
                    true if compacted && number <= book.floor => None,
                    true => Some(number - 1),
                    false => None,
                };
                let expected = told.into_iter().map(|(key, kind)| Told {
                    key,
                    kind,
                    revision: number,
                    previous,
                });
                assert_eq!(encoded, expected.collect::<Vec<_>>());
                seen.next += 1;
            }
        }
    }

    fn watch(&mut self, id: i64) -> &mut Seen {
        self.watches.get_mut(&id).expect("a watch that was made")
    }
}

/// What a client decodes of a change.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    key: Bytes,
    kind: EventKind,
    revision: i64,
    previous: Option<i64>,
}

fn decoded(encoded: &Bytes) -> Told {
    let mut response = WatchResponse::decode(encoded.clone()).expect("protobuf");
    assert_eq!(response.events.len(), 1);
    let event = response.events.remove(0);
    let kv = event.kv.expect("a key-value");
    Told {
        key: kv.key,
        kind: if event.r#type == 0 {
            EventKind::Put
        } else {
            EventKind::Delete
        },
        revision: kv.mod_revision,
        previous: event.prev_kv.map(|previous| previous.mod_revision),
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
            revision_bytes: 1 << 20,
            watches: 100,
            streams: 100,
        });
        for act in acts {
            world.act(act);
        }
        world.settle();
    }
}

fn everything(id: i64, start: i64) -> Create {
    Create {
        id,
        span: Span::Keys {
            from: Bytes::from_static(&[0]),
            to: None,
        },
        start,
        prev_kv: false,
        progress: false,
        fragment: false,
        no_put: false,
        no_delete: false,
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
        revision_bytes: 1 << 20,
        watches: 100,
        streams: 100,
    };
    let mut world = World::new(bounds);
    for id in 1..50 {
        world.act(Act::Create(0, everything(id, 1)));
    }
    for number in 0..2_000_u32 {
        let key = Bytes::copy_from_slice(&number.to_be_bytes());
        world.act(Act::Write(vec![vec![(key, EventKind::Put)]]));
        world.act(Act::Publish);
        world.act(Act::Dispatch);
        world.act(Act::CatchUp(0, Vec::new()));
    }
    let queued = world.clients[0].stream.queued();
    assert!(
        queued < bounds.stream_bytes + bounds.page_bytes + 50 * 1_000,
        "{queued} bytes are queued"
    );
    world.settle();
}

/// Room for everything, and for `streams` streams.
fn roomy(streams: usize) -> Bounds {
    Bounds {
        stream_bytes: 100_000,
        all_bytes: 1_000_000,
        ring_bytes: 100_000,
        dispatch_revisions: 64,
        page_bytes: 50_000,
        page_rows: 100,
        revision_bytes: 1 << 20,
        watches: 100,
        streams,
    }
}

#[test]
fn a_report_of_progress_does_not_wait_for_a_watch_that_was_ended() {
    let mut world = World::new(roomy(10));
    world.act(Act::Write(vec![vec![("k".into(), EventKind::Put)]]));
    world.act(Act::Publish);
    world.act(Act::Dispatch);
    world.act(Act::Create(0, everything(1, 0)));
    world.act(Act::Create(0, everything(2, 1)));
    world.act(Act::Progress(0));
    world.act(Act::Cancel(0, 2));
    world.exhaust();
    assert_eq!(world.clients[0].report, 2, "no report of progress");
}

#[test]
fn streams_that_come_and_go_do_not_stop_those_that_stay() {
    let mut world = World::new(roomy(CLIENTS + 1));
    world.act(Act::Write(vec![vec![("k".into(), EventKind::Put)]]));
    world.act(Act::Publish);
    world.act(Act::Dispatch);
    for _ in 0..10 * CLIENTS {
        if let Some(stream) = world.hub.open() {
            stream.create(&everything(0, 2));
        }
    }
    // Whoever is let in is told everything.
    world.act(Act::Create(0, everything(1, 2)));
    world.exhaust();
    assert_eq!(world.clients[0].watches[&1].next, 3, "it was not told");
}

/// A hub with threads of its own, whose owner tells why it failed.
async fn owned(past: impl Past) -> (Arc<Hub>, mpsc::Receiver<String>) {
    let (failed, failures) = mpsc::channel(8);
    let owner = Owner::new(move |error: &std::io::Error| {
        failed.try_send(error.to_string()).expect("room");
    });
    let hub = owner
        .scope(async { Hub::start(Box::new(past), roomy(10), 1, Workers::Threads, |_| ()) })
        .await;
    (hub.expect("started"), failures)
}

/// Who is told panics when it is woken.
struct Fragile;

impl std::task::Wake for Fragile {
    fn wake(self: Arc<Self>) {
        panic!("woken");
    }
}

#[tokio::test]
async fn a_panic_of_the_dispatcher_is_told() {
    let shelf = Shelf::default();
    let (hub, mut failures) = owned(shelf.clone()).await;
    let stream = hub.open().expect("room");
    let mut told = Context::from_waker(Waker::noop());
    stream.create(&everything(1, 0));
    assert!(stream.poll(&mut told, 1).is_ready(), "created");
    let fragile = Waker::from(Arc::new(Fragile));
    let mut fragile = Context::from_waker(&fragile);
    assert!(stream.poll(&mut fragile, 1).is_pending());
    shelf.book.lock().write(vec![("k".into(), EventKind::Put)]);
    publish(&shelf, &hub);
    assert_eq!(
        failures.recv().await.as_deref(),
        Some("watch panicked: woken")
    );
}

/// Whose past cannot be read.
struct Lost;

impl Past for Lost {
    fn now(&self) -> (i64, i64) {
        (5, -1)
    }

    fn read(&self, _: i64, _: &mut dyn Interest) -> Result<History, PastError> {
        panic!("lost")
    }
}

#[tokio::test]
async fn a_panic_of_a_reader_of_the_past_is_told() {
    let (hub, mut failures) = owned(Lost).await;
    let stream = hub.open().expect("room");
    stream.create(&everything(1, 2));
    assert_eq!(
        failures.recv().await.as_deref(),
        Some("reading the past panicked: lost")
    );
    hub.stop();
}
