//! From a question to the rows: read indexes, who asks and what they may see, views
//! with a budget, ranges in chunks, copies of everything, and the watches of what was
//! applied.

pub mod access;
pub mod budgeted_view;
pub mod copy;
pub mod range_stream;
pub mod read_index;
pub mod watching;

use std::sync::Arc;

use bytes::Bytes;
use mizzen_core::{
    Alarm, KvHash, Range, RangeReply, Reply, Room, Txn, Unbounded, View, ViewError,
    auth::{By, Check},
};
use mizzen_engine::{Engine, Snapshot};
use tokio::sync::Semaphore;

use super::{
    error::Error,
    memory::{Grant, Memory, NoRoom},
    model::{
        caller::Caller,
        published::{Published, SharedPublished},
        turn::{Held, Turn},
    },
};
use crate::{auth::Authentication, limits, workers::Workers};
use access::Access;
use budgeted_view::BudgetedView;
use range_stream::{Chunks, RangeStreamError};
use read_index::ReadIndex;

/// Reads of this member's rows.
pub struct Reads<E: Engine> {
    pub published: SharedPublished<E>,
    pub index: Arc<ReadIndex>,
    pub access: Access<E>,
    memory: Arc<Memory>,
    /// Reads that wait for a thread, or have one.
    places: Arc<Semaphore>,
    /// Copies under way.
    copies: Arc<Semaphore>,
    /// Bytes of one chunk of a range.
    chunk_bytes: usize,
    workers: Workers,
}

impl<E: Engine> Reads<E> {
    pub fn new(
        published: SharedPublished<E>,
        index: Arc<ReadIndex>,
        tokens: Arc<Authentication>,
        memory: Arc<Memory>,
        chunk_bytes: usize,
        workers: Workers,
    ) -> Arc<Self> {
        Arc::new(Self {
            access: Access {
                published: published.clone(),
                tokens,
                index: index.clone(),
            },
            published,
            index,
            memory,
            places: Arc::new(Semaphore::new(limits::BLOCKING_READS)),
            copies: Arc::new(Semaphore::new(limits::COPIES)),
            chunk_bytes,
            workers,
        })
    }

    /// The alarms that this member knows of.
    pub async fn alarms_here(&self) -> Result<Vec<Alarm>, Error> {
        self.read(&Caller::default(), (), |(), _, _, view, _| {
            Ok(Ok(mizzen_core::alarms(view)?))
        })
        .await
    }

    /// Tries a read for a probe: of this member's rows, and unless `serializable` of
    /// what a quorum confirms. Probes need not say who they are and are told nothing
    /// of the rows.
    pub async fn probe(&self, serializable: bool) -> Result<(), Error> {
        if !serializable {
            self.index.confirmed().await?;
        }
        let range = Range {
            key: Bytes::from_static(b"health"),
            limit: 1,
            keys_only: true,
            serializable: true,
            ..Range::default()
        };
        let anybody = Caller::default();
        let read = self.read(&anybody, range, |range, _, state, view, room| {
            mizzen_core::range(state, view, range, room)
        });
        match read.await {
            // What that alarm means is not that rows cannot be read.
            Ok(_) | Err(Error::Refused(mizzen_core::Error::Corrupt)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub async fn read_txn(&self, caller: &Caller, txn: Txn) -> Result<Reply, Error> {
        if !txn.is_serializable() {
            self.linearize(caller).await?;
        }
        self.read(caller, txn, |txn, check, state, view, room| {
            match check.read_txn(view, txn)? {
                Ok(()) => mizzen_core::read_only_txn(state, view, txn, room),
                Err(refusal) => Ok(Err(refusal)),
            }
        })
        .await
    }

    pub async fn range(&self, caller: &Caller, range: Range) -> Result<RangeReply, Error> {
        range.check()?;
        if !range.serializable {
            self.linearize(caller).await?;
        }
        self.read(caller, range, |range, check, state, view, room| match check
            .read(&range.key, &range.range_end)
        {
            Ok(()) => mizzen_core::range(state, view, range, room),
            Err(refusal) => Ok(Err(refusal.into())),
        })
        .await
    }

    /// Returns when this member's rows hold every write acknowledged so far.
    pub async fn linearize(&self, caller: &Caller) -> Result<(), Error> {
        let _round = caller.turn.round().await;
        self.index.wait().await
    }

    /// A range in chunks, all at the revision it begins at.
    pub async fn range_stream(
        &self,
        caller: &Caller,
        range: Range,
    ) -> Result<Chunks<E>, RangeStreamError> {
        range.check().map_err(Error::from)?;
        if !range.serializable {
            self.index.wait().await?;
        }
        let (published, by) = self.access.sight(caller).await?;
        Check::new(&published.auth, &by)
            .read(&range.key, &range.range_end)
            .map_err(access::refused)?;
        let by = access::lasting(by, caller, &published.auth);
        Chunks::new(
            self.published.clone(),
            by,
            &range,
            self.chunk_bytes,
            self.workers,
        )
    }

    /// Hash of the history up to `revision` (0: the newest).
    pub async fn hash_kv(&self, caller: &Caller, revision: i64) -> Result<KvHash, Error> {
        self.read_at_leisure(
            caller,
            revision,
            |revision, check, state, view, _| match check.root() {
                Ok(()) => mizzen_core::hash_kv(state, view, *revision),
                Err(refusal) => Ok(Err(refusal.into())),
            },
        )
        .await
    }

    /// The same for a member that compares its rows with those of its peers.
    pub async fn hash_for_peers(&self, revision: i64) -> Result<KvHash, Error> {
        let published = self.published.load_full();
        self.aside(
            published,
            By::Store,
            &Turn::default(),
            revision,
            |revision, _, state, view, _| mizzen_core::hash_kv(state, view, *revision),
        )
        .await
    }

    /// Answers from memory if that is quick; otherwise on a thread that may
    /// wait for the disk. What the caller may do is looked at in the same
    /// moment of the rows as what it asks for.
    pub async fn read<Q, T>(
        &self,
        caller: &Caller,
        question: Q,
        answer: impl Fn(&Q, Check<'_>, &mizzen_core::State, &dyn View, &dyn Room) -> ReadResult<T>
        + Send
        + 'static,
    ) -> Result<T, Error>
    where
        Q: Send + 'static,
        T: Send + 'static,
    {
        let (published, by) = self.access.sight(caller).await?;
        {
            let budgeted = budgeted(&published);
            let check = Check::new(&published.auth, &by);
            // The view's bound is the reply's.
            match answer(&question, check, &published.state, &budgeted, &Unbounded) {
                Err(ViewError::WouldBlock) => {}
                other => return Ok(other??),
            }
        }
        drop(published);
        self.read_at_leisure(caller, question, answer).await
    }

    /// On a thread, when it is this call's turn.
    pub async fn read_at_leisure<Q, T>(
        &self,
        caller: &Caller,
        question: Q,
        answer: impl Fn(&Q, Check<'_>, &mizzen_core::State, &dyn View, &dyn Room) -> ReadResult<T>
        + Send
        + 'static,
    ) -> Result<T, Error>
    where
        Q: Send + 'static,
        T: Send + 'static,
    {
        // Who waits keeps no sight of the rows.
        caller.turn.wait().await;
        let (published, by) = self.access.sight(caller).await?;
        self.aside(published, by, &caller.turn, question, answer)
            .await
    }

    pub async fn aside<Q, T>(
        &self,
        published: Arc<Published<E::Snapshot>>,
        by: By,
        turn: &Turn,
        question: Q,
        answer: impl Fn(&Q, Check<'_>, &mizzen_core::State, &dyn View, &dyn Room) -> ReadResult<T>
        + Send
        + 'static,
    ) -> Result<T, Error>
    where
        Q: Send + 'static,
        T: Send + 'static,
    {
        let read = move |published: &Published<E::Snapshot>, room: &Grant| {
            let check = Check::new(&published.auth, &by);
            answer(&question, check, &published.state, &published.rows, room)
        };
        let held = turn.wait().await;
        let (answer, room) = self.with_room(published, held, read).await?;
        if room.used() < limits::LARGE_REPLY_BYTES {
            turn.end();
        }
        match answer? {
            Err(refusal) => Err(refused(refusal, &room)),
            Ok(answer) => Ok(answer),
        }
    }

    /// Reads on a thread that may wait for the disk, with room for what it reads
    /// until the caller gives up: a client that takes its requests back must not
    /// keep the threads busy with them. `held` is its connection's turn.
    pub async fn with_room<T: Send + 'static>(
        &self,
        published: Arc<Published<E::Snapshot>>,
        held: Option<Held>,
        read: impl FnOnce(&Published<E::Snapshot>, &Grant) -> T + Send + 'static,
    ) -> Result<(T, Grant), Error> {
        // Whoever waits for a thread keeps a sight of all rows.
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return Err(Error::TooManyRequests);
        };
        let (room, _wanted) = self.memory.grant_while_wanted();
        let read = move || {
            let found = read(&published, &room);
            drop((place, held));
            (found, room)
        };
        let (found, mut room) = self.workers.run(read).await.map_err(|_| Error::Stopped)?;
        room.claim();
        Ok((found, room))
    }

    /// All alarms of the cluster.
    pub async fn alarms(&self, caller: &Caller) -> Result<Vec<Alarm>, Error> {
        self.index.wait().await?;
        self.read_at_leisure(caller, (), |(), _, _, view, _| {
            Ok(Ok(mizzen_core::alarms(view)?))
        })
        .await
    }
}

/// The rows for a read on a thread that serves clients.
pub fn budgeted<S: Snapshot>(published: &Published<S>) -> BudgetedView<S> {
    BudgetedView::new(
        published.rows.in_memory(),
        limits::INLINE_ROWS,
        limits::INLINE_BYTES,
    )
}

/// A refusal before anything was changed: who finds no room because of others may
/// come again.
pub fn refused(refusal: mizzen_core::Error, room: &Grant) -> Error {
    match room.refused() {
        Some(NoRoom::Busy) => Error::TooManyRequests,
        Some(NoRoom::TooLarge) | None => Error::Refused(refusal),
    }
}

pub type ReadResult<T> = Result<Result<T, mizzen_core::Error>, ViewError>;
