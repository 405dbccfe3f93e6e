//! Watchers in a storm: each is told of every revision once and in order,
//! whichever members serve it, and all are told the same as the writers.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use mizzen_core::EventKind;
use mizzen_proto::etcdserverpb::WatchResponse;
use parking_lot::Mutex;
use prost::Message as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::storm::{Server, Up};
use crate::{
    server::Caller,
    watch::{Changes, Create, Message, Span},
};

/// The first revision that a client makes.
const FIRST: i64 = 2;
/// Bytes of messages taken at once.
const WEIGHT: usize = 1 << 10;
/// How long a watcher stays with a member that says nothing.
const SILENCE: Duration = Duration::from_secs(2);

/// What one revision was: each write of a storm makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    key: Bytes,
    value: u64,
    /// The value that the key had before.
    previous: Option<u64>,
}

/// What the watchers were told, by revisions.
#[derive(Default)]
pub struct Sequence {
    events: BTreeMap<i64, Event>,
    newest: BTreeMap<Bytes, u64>,
}

impl Sequence {
    /// A watcher that was told of everything before `next` is told of this.
    fn told(&mut self, next: i64, revision: i64, event: Event) -> Result<(), String> {
        if revision != next {
            return Err(format!("told of {revision} instead of {next}"));
        }
        if let Some(known) = self.events.get(&revision) {
            return match *known == event {
                true => Ok(()),
                false => Err(format!(
                    "{revision} is {event:?}, and was {known:?} for another"
                )),
            };
        }
        let previous = self.newest.insert(event.key.clone(), event.value);
        if previous != event.previous {
            return Err(format!(
                "{revision} is {event:?}, and before was {previous:?}"
            ));
        }
        self.events.insert(revision, event);
        Ok(())
    }

    /// Holds what the watchers were told against the writes acknowledged.
    pub fn check(&self, made: &BTreeMap<i64, (Bytes, u64)>) -> Result<(), String> {
        for (revision, write) in made {
            let told = self.events.get(revision);
            if told.is_none_or(|told| (&told.key, told.value) != (&write.0, write.1)) {
                return Err(format!(
                    "{revision} was written as {write:?}, and watchers were told {told:?}"
                ));
            }
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.events.len()
    }
}

/// The value of the only event of a revision.
fn event(changes: &Changes) -> Result<Event, String> {
    let encoded: Vec<u8> = changes.encoded().flatten().copied().collect();
    let response = WatchResponse::decode(&encoded[..]).map_err(|error| error.to_string())?;
    let number = |value: &[u8]| String::from_utf8_lossy(value).parse().ok();
    let [event] = &response.events[..] else {
        return Err(format!("{} events of one write", response.events.len()));
    };
    let kv = event.kv.as_ref().ok_or("an event without its key")?;
    let kinds: Vec<EventKind> = changes.keys().map(|(_, kind)| kind).collect();
    if kinds != [EventKind::Put] || kv.mod_revision != changes.revision() {
        return Err(format!("{event:?} at {}", changes.revision()));
    }
    Ok(Event {
        key: kv.key.clone(),
        value: number(&kv.value).ok_or("no number")?,
        previous: event.prev_kv.as_ref().and_then(|kv| number(&kv.value)),
    })
}

pub struct Watcher {
    pub lots: StdRng,
    pub sequence: Arc<Mutex<Sequence>>,
    /// The first revision it was not told of.
    pub next: Arc<AtomicI64>,
    pub up: watch::Receiver<Up>,
}

impl Watcher {
    pub fn new(seed: u64, sequence: Arc<Mutex<Sequence>>, up: watch::Receiver<Up>) -> Self {
        Self {
            lots: StdRng::seed_from_u64(seed),
            sequence,
            next: Arc::new(AtomicI64::new(FIRST)),
            up,
        }
    }

    /// Watches everything, at one member after the other, until it is told what
    /// cannot be.
    pub async fn follow(mut self) -> String {
        loop {
            let up = self.up.borrow().clone();
            let number = self.lots.random_range(0..up.len().max(1));
            let Some((host, server)) = up.iter().nth(number) else {
                sleep(Duration::from_millis(10)).await;
                continue;
            };
            let mut lives = self.up.clone();
            let ended =
                lives.wait_for(|up| !up.get(host).is_some_and(|now| Arc::ptr_eq(now, server)));
            let outcome = tokio::select! {
                biased;
                outcome = self.stay(server) => outcome,
                _ = ended => Ok(()),
            };
            if let Err(wrong) = outcome {
                return format!("a watcher at host {host}: {wrong}");
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Watches at one member, for a while.
    async fn stay(&mut self, server: &Server) -> Result<(), String> {
        let Ok(stream) = server.watch(&Caller::default()) else {
            return Ok(());
        };
        stream.create(&Create {
            id: 0,
            span: Span::Keys {
                from: Bytes::new(),
                to: None,
            },
            start: self.next.load(Ordering::SeqCst),
            prev_kv: true,
            progress: false,
            fragment: false,
            no_put: false,
            no_delete: false,
        });
        for _ in 0..self.lots.random_range(1..200) {
            let messages = poll_fn(|cx| stream.poll(cx, WEIGHT));
            let Ok(Ok(messages)) = timeout(SILENCE, messages).await else {
                return Ok(());
            };
            for message in &messages {
                self.judge(message)?;
            }
            if self.lots.random_range(0..8) == 0 {
                stream.request_progress();
            }
        }
        Ok(())
    }

    fn judge(&self, message: &Message) -> Result<(), String> {
        let next = self.next.load(Ordering::SeqCst);
        match message {
            Message::Created { .. } => Ok(()),
            Message::Progress { revision, .. } if *revision < next => Ok(()),
            Message::Changes(changes) => {
                let event = event(changes)?;
                self.sequence.lock().told(next, changes.revision(), event)?;
                self.next.store(next + 1, Ordering::SeqCst);
                Ok(())
            }
            other => Err(format!("told {other:?}, and of nothing from {next} on")),
        }
    }
}

#[test]
fn what_cannot_be_is_not_taken() {
    let event = |key: &'static str, value, previous| Event {
        key: key.into(),
        value,
        previous,
    };
    let mut sequence = Sequence::default();
    let mut tell = |next, revision, event| sequence.told(next, revision, event);
    assert_eq!(tell(2, 2, event("a", 1, None)), Ok(()));
    assert_eq!(tell(3, 3, event("a", 2, Some(1))), Ok(()));
    assert_eq!(
        tell(2, 2, event("a", 1, None)),
        Ok(()),
        "of another watcher"
    );
    assert!(tell(4, 5, event("a", 3, Some(2))).is_err(), "left out");
    assert!(tell(4, 3, event("a", 2, Some(1))).is_err(), "repeated");
    assert!(tell(3, 3, event("b", 2, None)).is_err(), "not the same");
    assert!(tell(4, 4, event("a", 3, Some(1))).is_err(), "previous");
    let made = |revision, value| BTreeMap::from([(revision, (Bytes::from_static(b"a"), value))]);
    assert_eq!(sequence.check(&made(3, 2)), Ok(()));
    assert!(sequence.check(&made(3, 3)).is_err(), "another write");
    assert!(sequence.check(&made(9, 3)).is_err(), "never told");
}
