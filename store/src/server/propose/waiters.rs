//! Clients of this member that wait for what becomes of their proposals.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use mizzen_core::Reply;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::limits;
use crate::server::{
    error::Error,
    memory::{Grant, Memory},
    model::proposal::RequestId,
};

/// What applying a proposal answered, with the room it takes until somebody has
/// come for it.
pub struct Answer {
    pub reply: Result<Reply, Error>,
    _room: Grant,
}

/// Who waits for an answer, with the room it may take.
pub struct Waiting {
    answer: oneshot::Sender<Answer>,
    pub room: Grant,
}

impl Waiting {
    pub fn answer(self, reply: Result<Reply, Error>) {
        let Self { answer, room } = self;
        // A client that went away no longer wants it.
        let _ = answer.send(Answer { reply, _room: room });
    }
}

/// Keeps lock holders apart; any power of two near the number of cores does.
const SHARDS: usize = 16;

pub struct Waiters {
    member: u64,
    next: AtomicU64,
    in_flight: AtomicUsize,
    bytes_in_flight: AtomicUsize,
    bytes_limit: usize,
    memory: Arc<Memory>,
    shards: [Mutex<HashMap<u64, Waiting>>; SHARDS],
}

impl Waiters {
    /// `first`: a random number. Numbers must not repeat after a restart, when
    /// old entries of this member are applied again. `bytes_limit`: of all
    /// proposals that are waited for.
    pub fn new(member: u64, first: u64, bytes_limit: usize, memory: Arc<Memory>) -> Self {
        Self {
            member,
            next: AtomicU64::new(first),
            in_flight: AtomicUsize::new(0),
            bytes_in_flight: AtomicUsize::new(0),
            bytes_limit,
            memory,
            shards: Default::default(),
        }
    }

    /// How many wait.
    pub fn pending(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn shard(&self, number: u64) -> &Mutex<HashMap<u64, Waiting>> {
        &self.shards[number as usize % SHARDS]
    }

    /// A place among those who wait, with room for the answer; refused at once
    /// when all are taken.
    pub fn register(&self, room: Option<Grant>) -> Result<Waiter<'_>, Error> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let waiter = Waiter {
            waiters: self,
            number,
            bytes: 0,
            answer,
        };
        if before >= limits::PROPOSALS_IN_FLIGHT {
            return Err(Error::TooManyRequests);
        }
        let waiting = Waiting {
            answer: sender,
            room: room.unwrap_or_else(|| self.memory.grant()),
        };
        self.shard(number).lock().insert(number, waiting);
        Ok(waiter)
    }

    /// The id of a proposal that nobody waits for.
    pub fn unanswered(&self) -> RequestId {
        RequestId {
            member: self.member,
            number: self.next.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Who waits for the proposal `id`, if anybody here does.
    pub fn take(&self, id: RequestId) -> Option<Waiting> {
        if id.member != self.member {
            return None;
        }
        self.shard(id.number).lock().remove(&id.number)
    }
}

/// A place among those who wait; given back on drop.
pub struct Waiter<'a> {
    waiters: &'a Waiters,
    number: u64,
    bytes: usize,
    answer: oneshot::Receiver<Answer>,
}

impl Waiter<'_> {
    /// Counts the proposal's bytes in; refused when too many wait already.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes;
        let before = self
            .waiters
            .bytes_in_flight
            .fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.waiters.bytes_limit {
            Err(Error::TooManyRequests)
        } else {
            Ok(())
        }
    }

    pub fn id(&self) -> RequestId {
        RequestId {
            member: self.waiters.member,
            number: self.number,
        }
    }

    pub async fn answer(&mut self) -> Result<Answer, Error> {
        (&mut self.answer).await.map_err(|_| Error::Stopped)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.waiters.shard(self.number).lock().remove(&self.number);
        self.waiters.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.waiters
            .bytes_in_flight
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
