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
    budget::Account,
    limits,
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
    /// What the head counts for, bytes.
    pub head_bytes: usize,
    /// What was taken for the stream beside its place, bytes.
    pub charged: usize,
    /// Bytes sent since `since`.
    pub sent: usize,
    /// The tick (see [`crate::connection`]) at which it began, or at which its
    /// client last did what it is waited for.
    pub since: u32,
}

struct Slot<B> {
    waker: Waker,
    place: Arc<Place>,
    /// It is among the streams to be looked at.
    queued: bool,
    /// It is among the streams that wait for the connection's window, or room.
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
    account: Arc<Account>,
}

/// A window is larger than there can be.
pub struct TooWide;

impl<B> Streams<B> {
    /// What the streams hold is paid from `account`.
    pub fn new(wakes: Arc<Wakes>, account: Arc<Account>) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            places: HashMap::new(),
            runnable: VecDeque::new(),
            blocked: VecDeque::new(),
            wakes,
            woken: Vec::new(),
            account,
        }
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// A place for the stream that comes next, with its waker; `None`: there is
    /// no memory for it.
    pub fn vacant(&mut self) -> Option<(usize, Waker)> {
        let place = match self.free.last() {
            Some(place) => *place,
            None => self.one_more()?,
        };
        Some((place, self.slots[place].waker.clone()))
    }

    fn one_more(&mut self) -> Option<usize> {
        if !self.account.take(limits::STREAM_BYTES) {
            return None;
        }
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
        Some(place)
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
        self.slots.get_mut(place)?.stream.as_mut()
    }

    /// How many places there are, of open streams and of former ones.
    pub fn places_made(&self) -> usize {
        self.slots.len()
    }

    /// All open ones, in no order.
    pub fn places(&self) -> Vec<usize> {
        self.places.values().copied().collect()
    }

    /// From here on the stream counts for so many bytes beside its place.
    /// False: there is no memory for more, and it counts for what it did.
    pub fn charge(&mut self, place: usize, bytes: usize) -> bool {
        let Some(stream) = self
            .slots
            .get_mut(place)
            .and_then(|slot| slot.stream.as_mut())
        else {
            return true;
        };
        match bytes.checked_sub(stream.charged) {
            Some(0) => {}
            Some(more) if !self.account.take(more) => return false,
            Some(_) => {}
            None => self.account.give_back(stream.charged - bytes),
        }
        stream.charged = bytes;
        true
    }

    /// The stream to be polled, with its waker. Whatever comes from here on
    /// wakes it again.
    pub fn look(&mut self, place: usize) -> Option<(&mut Stream<B>, &Waker)> {
        let slot = self.slots.get_mut(place)?;
        slot.place.look();
        Some((slot.stream.as_mut()?, &slot.waker))
    }

    /// The stream is over; what it was doing is dropped.
    pub fn remove(&mut self, place: usize) {
        let Some(stream) = self
            .slots
            .get_mut(place)
            .and_then(|slot| slot.stream.take())
        else {
            return;
        };
        self.account.give_back(stream.charged);
        self.places.remove(&stream.id);
        self.free.push(place);
        if self.places.is_empty() && self.slots.len() > limits::SPARE_PLACES {
            self.clear();
        }
    }

    /// Drops all streams, and their places.
    pub fn clear(&mut self) {
        let charged: usize = self
            .slots
            .iter()
            .filter_map(|slot| slot.stream.as_ref())
            .map(|stream| stream.charged)
            .sum();
        let places = self.slots.len() * limits::STREAM_BYTES;
        self.slots = Vec::new();
        self.free = Vec::new();
        self.places = HashMap::new();
        self.runnable = VecDeque::new();
        self.blocked = VecDeque::new();
        self.account.give_back(charged + places);
    }

    /// To be looked at soon.
    pub fn run(&mut self, place: usize) {
        // One that is gone may be woken late.
        if let Some(slot) = self.slots.get_mut(place)
            && !std::mem::replace(&mut slot.queued, true)
        {
            self.runnable.push_back(place);
        }
    }

    /// To be looked at when the connection's window opens, or there is room.
    pub fn block(&mut self, place: usize) {
        if let Some(slot) = self.slots.get_mut(place)
            && !std::mem::replace(&mut slot.blocked, true)
        {
            self.blocked.push_back(place);
        }
    }

    /// Every stream may send `by` more or less from here on, and for a moment
    /// `most` more.
    pub fn widen(&mut self, by: i64, most: i64, limit: i64) -> Result<(), TooWide> {
        for place in 0..self.slots.len() {
            let Some(stream) = &mut self.slots[place].stream else {
                continue;
            };
            if stream.send_window + most > limit {
                return Err(TooWide);
            }
            stream.send_window += by;
            if by > 0 {
                self.run(place);
            }
        }
        Ok(())
    }

    /// The next place to look at. `open`: there is room, and the connection's
    /// window is open; those that waited for it come first, one by one, as it
    /// may be closed again after each.
    pub fn next(&mut self, open: bool) -> Option<usize> {
        if open && let Some(place) = self.blocked.pop_front() {
            self.slots[place].blocked = false;
            return Some(place);
        }
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

impl<B> Drop for Streams<B> {
    fn drop(&mut self) {
        self.clear();
    }
}
