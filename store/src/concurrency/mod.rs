//! Locks and elections among clients, made of transactions, leases and watches
//! as etcd's clients make them: whoever holds the oldest key under a name
//! owns it, and its lease bounds for how long.
//!
//! Knows the server and wire key-values. Must not know how calls come in.
//! Names and keys are those of etcd's own `concurrency` package, so clients
//! that use that package and clients of these services meet.

mod election;
mod events;
mod lock;

use std::sync::Arc;

use bytes::Bytes;
use mizzen_core::{
    Command, Compare, CompareOp, CompareTarget, Operation, Put, Range, Reply, SortOrder,
    SortTarget, Txn,
};
use mizzen_engine::Engine;
use mizzen_proto::{etcdserverpb::RangeResponse, mvccpb::KeyValue};
use prost::Message;

pub use election::{Announcement, Leadership, campaign, leader, observe, proclaim, resign};
pub use lock::{Locked, lock, unlock};

use crate::server::{self, Caller, Server};
use events::Events;

/// Seconds a lease lives that is granted here (etcd's defaultSessionTTL).
const SESSION_TTL: i64 = 60;

/// Why a call was not carried out. The texts are etcd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Server(#[from] server::Error),
    /// The caller's lease ended while it waited.
    #[error("mutex: session is expired")]
    SessionExpired,
    #[error("election: not leader")]
    NotLeader,
    #[error("election: no leader")]
    NoLeader,
}

impl From<mizzen_core::Error> for Error {
    fn from(error: mizzen_core::Error) -> Self {
        Self::Server(error.into())
    }
}

/// A caller with the lease that bounds what it owns.
pub struct Session<E: Engine> {
    server: Arc<Server<E>>,
    caller: Caller,
    lease: i64,
}

impl<E: Engine> Session<E> {
    /// A `lease` of 0 has one granted.
    pub async fn new(server: Arc<Server<E>>, caller: Caller, lease: i64) -> Result<Self, Error> {
        let lease = match lease {
            0 => match server.lease_grant(&caller, 0, SESSION_TTL).await? {
                Reply::LeaseGrant { id, .. } => id,
                other => return Err(unexpected(&other)),
            },
            lease => lease,
        };
        Ok(Self {
            server,
            caller,
            lease,
        })
    }

    pub fn lease(&self) -> i64 {
        self.lease
    }

    /// The key of this session under a name: the name, a slash, and the lease
    /// in hexadecimal, with a sign if it is negative.
    fn key(&self, prefix: &Bytes) -> Bytes {
        let sign = if self.lease < 0 { "-" } else { "" };
        let lease = format!("{sign}{:x}", self.lease.unsigned_abs());
        [prefix, lease.as_bytes()].concat().into()
    }

    fn put(&self, key: &Bytes, value: Bytes) -> Operation {
        Operation::Put(Put {
            key: key.clone(),
            value,
            lease: self.lease,
            ..Put::default()
        })
    }

    /// Carries out `success` if the key was created at `revision` (0: if there
    /// is none), else `failure`.
    async fn if_created(
        &self,
        key: &Bytes,
        revision: i64,
        success: Vec<Operation>,
        failure: Vec<Operation>,
    ) -> Result<Decided, Error> {
        let txn = Txn {
            compare: vec![Compare {
                key: key.clone(),
                range_end: Bytes::new(),
                op: CompareOp::Equal,
                target: CompareTarget::Create(revision),
            }],
            success,
            failure,
        };
        match self.server.write(&self.caller, Command::Txn(txn)).await? {
            Reply::Txn {
                revision,
                succeeded,
                responses,
            } => Ok(Decided {
                revision,
                succeeded,
                responses,
            }),
            other => Err(unexpected(&other)),
        }
    }

    async fn range(&self, range: Range) -> Result<(i64, Option<KeyValue>), Error> {
        let reply = self.server.range(&self.caller, range).await?;
        Ok((reply.revision, first(&reply)?))
    }

    /// Returns when no key under `prefix` is older than `revision`.
    async fn wait_for_turn(&self, prefix: &Bytes, revision: i64) -> Result<(), Error> {
        loop {
            let newest_before = Range {
                sort_order: SortOrder::Descend,
                max_create_revision: revision - 1,
                ..oldest(prefix)
            };
            let (seen_at, before) = self.range(newest_before).await?;
            let Some(before) = before else {
                return Ok(());
            };
            let events = Events::of_key(&self.server, &self.caller, before.key, seen_at);
            let mut events = events.await?;
            // What was compacted meanwhile is looked at again.
            while let Some(told) = events.next().await? {
                if told.iter().any(events::is_delete) {
                    break;
                }
            }
        }
    }
}

/// What came of a transaction.
struct Decided {
    revision: i64,
    succeeded: bool,
    responses: Vec<Reply>,
}

impl Decided {
    /// The first key-value that the operation at `place` found.
    fn found(&self, place: usize) -> Result<Option<KeyValue>, Error> {
        match self.responses.get(place) {
            Some(Reply::Range(reply)) => first(reply),
            Some(other) => Err(unexpected(other)),
            None => Ok(None),
        }
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::Server(server::Error::Failed(format!("answered with {reply:?}")))
}

/// Key-values in a reply stand as field 2 of `RangeResponse`.
fn first(reply: &mizzen_core::RangeReply) -> Result<Option<KeyValue>, Error> {
    let decoded = RangeResponse::decode(reply.kvs.bytes.clone())
        .map_err(|error| Error::Server(server::Error::Failed(error.to_string())))?;
    Ok(decoded.kvs.into_iter().next())
}

/// What all keys under a name begin with.
fn prefix(name: &Bytes) -> Bytes {
    [name, &b"/"[..]].concat().into()
}

/// The first key after those that begin with a prefix that [`prefix`] made.
fn prefix_end(prefix: &Bytes) -> Bytes {
    let name = prefix.strip_suffix(b"/").unwrap_or(prefix);
    [name, &[b'/' + 1]].concat().into()
}

fn key_range(key: &Bytes) -> Range {
    Range {
        key: key.clone(),
        ..Range::default()
    }
}

/// The owner's key-value under a prefix.
fn oldest(prefix: &Bytes) -> Range {
    Range {
        key: prefix.clone(),
        range_end: prefix_end(prefix),
        limit: 1,
        sort_order: SortOrder::Ascend,
        sort_target: SortTarget::Create,
        ..Range::default()
    }
}
