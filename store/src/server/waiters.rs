//! Clients of this member that wait for what becomes of their proposals.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use mizzen_core::Reply;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{error::Error, proposal::RequestId};
use crate::limits;

/// What applying a proposal answered.
pub type Answer = Result<Reply, Error>;

/// Keeps lock holders apart; any power of two near the number of cores does.
const SHARDS: usize = 16;

pub struct Waiters {
    member: u64,
    next: AtomicU64,
    in_flight: AtomicUsize,
    bytes_in_flight: AtomicUsize,
    shards: [Mutex<HashMap<u64, oneshot::Sender<Answer>>>; SHARDS],
}

impl Waiters {
    /// `first`: a random number. Numbers must not repeat after a restart, when
    /// old entries of this member are applied again.
    pub fn new(member: u64, first: u64) -> Self {
        Self {
            member,
            next: AtomicU64::new(first),
            in_flight: AtomicUsize::new(0),
            bytes_in_flight: AtomicUsize::new(0),
            shards: Default::default(),
        }
    }

    fn shard(&self, number: u64) -> &Mutex<HashMap<u64, oneshot::Sender<Answer>>> {
        &self.shards[number as usize % SHARDS]
    }

    /// A place among those who wait; refused at once when all are taken.
    pub fn register(&self) -> Result<Waiter<'_>, Error> {
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
        self.shard(number).lock().insert(number, sender);
        Ok(waiter)
    }

    /// The id of a proposal that nobody waits for.
    pub fn unanswered(&self) -> RequestId {
        RequestId {
            member: self.member,
            number: self.next.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The proposal `id` was applied; nothing if nobody here waits for it.
    pub fn answer(&self, id: RequestId, answer: Answer) {
        if id.member != self.member {
            return;
        }
        if let Some(sender) = self.shard(id.number).lock().remove(&id.number) {
            // A client that went away no longer wants it.
            let _ = sender.send(answer);
        }
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
        if before >= limits::PROPOSAL_BYTES_IN_FLIGHT {
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
