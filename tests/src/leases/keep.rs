//! Keepalives: each stream keeps a share of the leases, one renewal of each in
//! a third of its time to live, and moves to the next member when it breaks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mizzen_proto::etcdserverpb as pb;
use mizzen_proto::etcdserverpb::lease_client::LeaseClient;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::book::{Book, id, index};
use super::{PATIENCE, RETRY};

/// Requests on their way to the stream.
const QUEUE: usize = 64;

#[derive(Default)]
pub struct Counts {
    pub acknowledged: AtomicU64,
    pub broken: AtomicU64,
}

pub struct Keeper {
    pub book: Arc<Book>,
    pub members: Vec<Channel>,
    /// The member asked first.
    pub first: usize,
    pub ttl: Duration,
    /// Indexes of the leases, and when each is left alone; `None` for never.
    pub share: Vec<(usize, Option<Instant>)>,
    pub counts: Arc<Counts>,
    pub stopped: watch::Receiver<bool>,
}

impl Keeper {
    pub async fn run(mut self) {
        let mut place = 0;
        let mut member = self.first;
        while !self.share.is_empty() && !*self.stopped.borrow() {
            self.stream(member % self.members.len(), &mut place).await;
            if *self.stopped.borrow() {
                return;
            }
            self.counts.broken.fetch_add(1, Ordering::Relaxed);
            member += 1;
            sleep(RETRY).await;
        }
    }

    /// One stream, until it breaks or all is done.
    async fn stream(&mut self, member: usize, place: &mut usize) {
        let (requests, outgoing) = mpsc::channel(QUEUE);
        let stream = ReceiverStream::new(outgoing);
        let mut client = LeaseClient::new(self.members[member].clone());
        let opened = timeout(PATIENCE, client.lease_keep_alive(stream)).await;
        let Ok(Ok(opened)) = opened else { return };
        let mut replies = opened.into_inner();
        // What was sent and is not answered, with when it was sent.
        let mut open: HashMap<usize, Instant> = HashMap::new();
        let mut stopped = self.stopped.clone();
        let mut due = Instant::now();
        loop {
            let broken = tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => true,
                reply = replies.message() => match reply {
                    Ok(Some(reply)) => {
                        self.answered(&reply, &mut open);
                        false
                    }
                    _ => true,
                },
                () = sleep_until(due.into()) => {
                    due += (self.ttl / 3).div_f64(self.share.len().max(1) as f64);
                    !self.send_next(place, &mut open, &requests)
                }
            };
            let now = Instant::now();
            let silent = open
                .values()
                .any(|sent| now.duration_since(*sent) > PATIENCE);
            if broken || silent || self.share.is_empty() {
                break;
            }
        }
        for index in open.into_keys() {
            self.book.touched(index);
        }
    }

    fn answered(&self, reply: &pb::LeaseKeepAliveResponse, open: &mut HashMap<usize, Instant>) {
        let Some(index) = index(reply.id) else { return };
        let Some(sent) = open.remove(&index) else {
            return;
        };
        if reply.ttl > 0 {
            self.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
            self.book.renewed(index, sent);
        } else {
            self.book.refused(index);
        }
    }

    /// Sends the next renewal; false if the stream takes no more.
    fn send_next(
        &mut self,
        place: &mut usize,
        open: &mut HashMap<usize, Instant>,
        requests: &mpsc::Sender<pb::LeaseKeepAliveRequest>,
    ) -> bool {
        let now = Instant::now();
        while !self.share.is_empty() {
            if *place >= self.share.len() {
                *place = 0;
            }
            let (index, until) = self.share[*place];
            if until.is_some_and(|until| until <= now) {
                self.share.swap_remove(*place);
                self.book.abandon(index);
                continue;
            }
            if open.contains_key(&index) || !self.book.is_granted(index) {
                *place += 1;
                return true;
            }
            return match requests.try_send(pb::LeaseKeepAliveRequest { id: id(index) }) {
                Ok(()) => {
                    open.insert(index, now);
                    *place += 1;
                    true
                }
                Err(mpsc::error::TrySendError::Full(_)) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            };
        }
        true
    }
}
