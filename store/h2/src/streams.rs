//! The open streams of a connection, each in a place that has a waker.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
    task::Waker,
};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::Response;

use crate::{
    Block, Head, Reply,
    body::Sender,
    wake::{Place, Wakes},
};

/// What of the request is still to come.
pub enum Receiving {
    /// It is answered when it is whole.
    Whole {
        head: Arc<Head>,
        held: BytesMut,
        limit: usize,
    },
    Body(Sender),
    /// Nobody wants it.
    Ignored,
    /// Nothing.
    Ended,
}

/// Where the response comes from.
pub enum Work<B> {
    /// Nowhere yet, or there is no more to come.
    None,
    Answer(BoxFuture<'static, Reply>),
    Call(BoxFuture<'static, Response<B>>),
    Body(Pin<Box<B>>),
}

/// Of the response, not sent yet.
pub enum Piece {
    /// The last one of the response if so marked.
    Data(Bytes, bool),
    Trailers(Block),
}

pub struct Stream<B> {
    pub id: u32,
    pub receiving: Receiving,
    pub work: Work<B>,
    pub pieces: VecDeque<Piece>,
    /// Bytes that may be sent; a change of settings can make it negative.
    pub send_window: i64,
    /// Bytes that may be received.
    pub receive_window: i64,
    /// Bytes received and not granted again, unless a body counts them.
    pub received: usize,
    /// What is left of the announced length of the request.
    pub announced: Option<u64>,
}

struct Slot<B> {
    waker: Waker,
    place: Arc<Place>,
    /// It is among the streams to be looked at.
    queued: bool,
    /// It is among the streams that wait for the connection's window.
    blocked: bool,
    stream: Option<Stream<B>>,
}

pub struct Streams<B> {
    slots: Vec<Slot<B>>,
    free: Vec<usize>,
    places: HashMap<u32, usize>,
    /// To be looked at, in this order.
    runnable: VecDeque<usize>,
    blocked: VecDeque<usize>,
    wakes: Arc<Wakes>,
    woken: Vec<usize>,
}

impl<B> Streams<B> {
    pub fn new(wakes: Arc<Wakes>) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            places: HashMap::new(),
            runnable: VecDeque::new(),
            blocked: VecDeque::new(),
            wakes,
            woken: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// A place for the stream that comes next, with its waker.
    pub fn vacant(&mut self) -> (usize, Waker) {
        let place = self.free.last().copied().unwrap_or_else(|| {
            let place = self.slots.len();
            let shared = Place::new(self.wakes.clone(), place);
            self.slots.push(Slot {
                waker: shared.clone().into(),
                place: shared,
                queued: false,
                blocked: false,
                stream: None,
            });
            self.free.push(place);
            place
        });
        (place, self.slots[place].waker.clone())
    }

    /// Puts a stream into the place that [`Streams::vacant`] gave.
    pub fn insert(&mut self, place: usize, stream: Stream<B>) {
        let taken = self.free.pop();
        debug_assert_eq!(taken, Some(place));
        self.places.insert(stream.id, place);
        self.slots[place].stream = Some(stream);
    }

    pub fn place(&self, id: u32) -> Option<usize> {
        self.places.get(&id).copied()
    }

    pub fn get(&mut self, place: usize) -> Option<&mut Stream<B>> {
        self.slots[place].stream.as_mut()
    }

    /// The stream to be polled, with its waker. Whatever comes from here on
    /// wakes it again.
    pub fn look(&mut self, place: usize) -> Option<(&mut Stream<B>, &Waker)> {
        let slot = &mut self.slots[place];
        slot.place.look();
        Some((slot.stream.as_mut()?, &slot.waker))
    }

    /// The stream is over; what it was doing is dropped.
    pub fn remove(&mut self, place: usize) {
        if let Some(stream) = self.slots[place].stream.take() {
            self.places.remove(&stream.id);
            self.free.push(place);
        }
    }

    /// To be looked at soon.
    pub fn run(&mut self, place: usize) {
        if !std::mem::replace(&mut self.slots[place].queued, true) {
            self.runnable.push_back(place);
        }
    }

    /// To be looked at when the connection's window opens.
    pub fn block(&mut self, place: usize) {
        if !std::mem::replace(&mut self.slots[place].blocked, true) {
            self.blocked.push_back(place);
        }
    }

    pub fn unblock(&mut self) {
        while let Some(place) = self.blocked.pop_front() {
            self.slots[place].blocked = false;
            self.run(place);
        }
    }

    /// Every stream may send more or less from here on. False: more than there
    /// can be.
    pub fn widen(&mut self, by: i64, limit: i64) -> bool {
        let mut good = true;
        for place in 0..self.slots.len() {
            if let Some(stream) = &mut self.slots[place].stream {
                stream.send_window += by;
                good &= stream.send_window <= limit;
                self.run(place);
            }
        }
        good
    }

    /// The next place to look at.
    pub fn next(&mut self) -> Option<usize> {
        if self.runnable.is_empty() {
            self.wakes.take(&mut self.woken);
            for place in std::mem::take(&mut self.woken) {
                self.run(place);
            }
        }
        let place = self.runnable.pop_front()?;
        self.slots[place].queued = false;
        Some(place)
    }
}
