//! openraft's state machine as a thin adapter: hands committed entries to
//! whoever owns the rows, in order and only once they are durable in the log.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use mizzen_engine::{Incoming, Outgoing};
use mizzen_wal as wal;
use openraft::{
    EntryPayload, RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine, Snapshot},
};
use parking_lot::Mutex;

use super::{
    log::LogStore,
    snapshot::{self, SnapshotData},
    types::{self, LogId, PeerNode, RaftLogId, SnapshotMeta, StoredMembership, TypeConfig},
};
use crate::{limits, workers::Workers};

pub type Raft = openraft::Raft<TypeConfig, Machine>;

/// What the rows contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub log_id: Option<LogId>,
    /// The newest membership among the applied entries, encoded, with its
    /// position.
    pub membership: Option<(LogId, Bytes)>,
}

impl Applied {
    /// Of the last entry; 0 before the first one.
    pub fn index(&self) -> u64 {
        self.log_id.map_or(0, |id| id.index)
    }

    /// The members of [`Applied::membership`]; none before the first one.
    pub fn nodes(&self) -> io::Result<BTreeMap<u64, PeerNode>> {
        let Some((_, encoded)) = &self.membership else {
            return Ok(BTreeMap::new());
        };
        let membership = types::decode_membership(encoded).map_err(io::Error::other)?;
        Ok(membership
            .nodes()
            .map(|(id, node)| (*id, node.clone()))
            .collect())
    }
}

/// A run of committed entries, contiguous, in log order.
pub struct Committed {
    /// What the rows contain once this run is in them. The log's first
    /// membership is always the last entry of its run.
    pub applied: Applied,
    /// The proposals of the run. Entries without one (a leader's first entry,
    /// membership changes) only move `applied`.
    pub proposals: Vec<Bytes>,
    /// Blocks until the log holds every entry of the run durably. Rows must
    /// not be written before: they could outlive the entries they came from.
    pub durable: Box<dyn FnOnce() -> io::Result<()> + Send>,
    /// Called when the run is visible to readers.
    pub done: Box<dyn FnOnce() + Send>,
}

/// Rows of another member, to be put in the place of this one's.
pub struct Received {
    pub incoming: Box<dyn Incoming>,
    /// What they contain.
    pub applied: Applied,
    /// To be kept with the rows; see [`Rows::label`].
    pub label: Bytes,
    /// As [`Committed::durable`], for the log as it was when this was decided:
    /// a truncation that is not durable could contradict the new rows.
    pub durable: Box<dyn FnOnce() -> io::Result<()> + Send>,
}

pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The owner of the rows.
pub trait Rows: Send + Sync + 'static {
    /// Read from the rows, at start.
    fn applied(&self) -> io::Result<Applied>;

    /// What [`Received::label`] was, if the rows came from another member.
    fn label(&self) -> Option<Bytes>;

    /// Who does what may wait for their disk.
    fn workers(&self) -> Workers;

    /// Makes the run visible. Runs arrive one at a time.
    fn apply(&self, run: Committed) -> BoxFuture<io::Result<()>>;

    /// Makes durable what had been applied before the call, and says what that
    /// is.
    fn flush(&self) -> BoxFuture<io::Result<Applied>>;

    /// A copy of the rows, to be sent to another member.
    fn copy(&self) -> BoxFuture<io::Result<Box<dyn Outgoing>>>;

    /// A place for the rows of another member.
    fn receive(&self) -> BoxFuture<io::Result<Box<dyn Incoming>>>;

    /// Replaces the rows, and makes them visible. Never while a run is applied.
    fn install(&self, received: Received) -> BoxFuture<io::Result<()>>;
}

pub struct Machine {
    rows: Arc<dyn Rows>,
    wal: Arc<wal::Wal>,
    applied: Applied,
    /// What a crash leaves of it, at least.
    flushed: Arc<Mutex<Applied>>,
    /// Whether the group has started: from then on openraft asks for a snapshot
    /// only to send it, not to learn what it may rely on.
    started: Arc<AtomicBool>,
}

impl Machine {
    pub fn new(rows: Arc<dyn Rows>, wal: Arc<wal::Wal>) -> io::Result<Self> {
        let applied = rows.applied()?;
        Ok(Self {
            rows,
            wal,
            flushed: Arc::new(Mutex::new(applied.clone())),
            started: Arc::default(),
            applied,
        })
    }

    /// To be set when the group has started.
    pub fn started(&self) -> Arc<AtomicBool> {
        self.started.clone()
    }

    pub fn applied(&self) -> &Applied {
        &self.applied
    }

    /// Applies what is known to be committed, in runs as large as any. openraft
    /// does so too, but few entries at a time, each of which is read, applied
    /// and made visible by itself.
    pub async fn replay(&mut self, log: &LogStore) -> io::Result<()> {
        let end = log.committed().map_or(0, |id| id.index + 1);
        loop {
            let start = self.applied.log_id.map_or(0, |id| id.index + 1);
            if start >= end {
                return Ok(());
            }
            let stop = end.min(start + limits::APPLY_RUN_ENTRIES as u64);
            let entries = log.read(start, stop, limits::APPLY_RUN_BYTES).await?;
            if entries.is_empty() {
                return Err(io::Error::other(format!(
                    "the raft log has no entry {start}, which is committed and not applied"
                )));
            }
            let entries = entries.into_iter().map(|entry| Ok((entry, None)));
            self.apply(futures::stream::iter(entries)).await?;
        }
    }

    /// Adds one entry to the run under construction; true when the run is full.
    fn push(&mut self, run: &mut Run, (entry, responder): EntryResponder<TypeConfig>) -> bool {
        let mut last = false;
        let log_id = LogId::from(entry.log_id);
        self.applied.log_id = Some(log_id);
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(payload) => {
                run.bytes += payload.0.len();
                run.proposals.push(payload.content());
            }
            EntryPayload::Membership(membership) => {
                // Rows are made from it, whatever comes later.
                last = self.applied.membership.is_none();
                self.applied.membership = Some((log_id, types::encode_membership(&membership)));
            }
        }
        run.responders.extend(responder);
        run.entries += 1;
        last || run.entries >= limits::APPLY_RUN_ENTRIES || run.bytes >= limits::APPLY_RUN_BYTES
    }

    async fn finish(&self, run: Run) -> io::Result<()> {
        let Some(log_id) = self.applied.log_id.filter(|_| run.entries > 0) else {
            return Ok(());
        };
        let wal = self.wal.clone();
        let wait = waits_for_the_log();
        let responders = run.responders;
        self.rows
            .apply(Committed {
                applied: self.applied.clone(),
                proposals: run.proposals,
                durable: Box::new(move || {
                    if wait {
                        wal.wait_durable(log_id.index).map_err(io::Error::other)?;
                    }
                    Ok(())
                }),
                done: Box::new(move || {
                    responders
                        .into_iter()
                        .for_each(|responder| responder.send(()))
                }),
            })
            .await
    }
}

#[cfg(not(test))]
fn waits_for_the_log() -> bool {
    mizzen_planted::bug!("applied-before-durable", true => false)
}

#[cfg(test)]
thread_local! {
    static HASTY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[cfg(test)]
fn waits_for_the_log() -> bool {
    !HASTY.get()
}

/// Plants a mistake in the groups of this thread: their rows do not wait for
/// the log.
#[cfg(test)]
pub fn hasty_rows(hasty: bool) {
    HASTY.set(hasty);
}

#[derive(Default)]
struct Run {
    proposals: Vec<Bytes>,
    responders: Vec<openraft::storage::ApplyResponder<TypeConfig>>,
    entries: usize,
    bytes: usize,
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Flush;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, StoredMembership)> {
        let membership = snapshot::stored_membership(&self.applied)?;
        Ok((self.applied.log_id.map(RaftLogId::from), membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let mut run = Run::default();
        while let Some(entry) = entries.next().await {
            if self.push(&mut run, entry?) {
                self.finish(std::mem::take(&mut run)).await?;
            }
        }
        self.finish(run).await
    }

    async fn get_snapshot_builder(&mut self) -> Flush {
        Flush {
            rows: self.rows.clone(),
            flushed: self.flushed.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta,
        data: SnapshotData,
    ) -> io::Result<()> {
        let SnapshotData::Received { incoming, applied } = data else {
            return Err(io::Error::other("these are this member's own rows"));
        };
        let wal = self.wal.clone();
        let queued = wal.submitted_sequence();
        self.rows
            .install(Received {
                incoming,
                label: applied.log_id.map(LogId::encode).unwrap_or_default(),
                applied: applied.clone(),
                durable: Box::new(move || wal.wait_sequence(queued).map_err(io::Error::other)),
            })
            .await?;
        *self.flushed.lock() = applied.clone();
        self.applied = applied;
        Ok(())
    }

    /// Openraft sends it to followers that the log cannot help, and then goes on
    /// with the log after what this says: the rows are copied after that, so they
    /// hold what is applied now. At its start it takes it for durable instead, and
    /// never purges the log beyond it.
    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<openraft::alias::SnapshotOf<TypeConfig, SnapshotData>>> {
        let contained = if self.started.load(Ordering::Acquire) {
            self.applied.clone()
        } else {
            self.flushed.lock().clone()
        };
        if contained.log_id.is_none() {
            return Ok(None);
        }
        Ok(Some(Snapshot {
            meta: snapshot::meta(&contained)?,
            snapshot: SnapshotData::Own(self.rows.clone()),
        }))
    }
}

/// Building a snapshot is making the rows durable: they are their own snapshot.
pub struct Flush {
    rows: Arc<dyn Rows>,
    flushed: Arc<Mutex<Applied>>,
}

impl RaftSnapshotBuilder<TypeConfig> for Flush {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(
        &mut self,
    ) -> io::Result<openraft::alias::SnapshotOf<TypeConfig, SnapshotData>> {
        let applied = self.rows.flush().await?;
        let meta = snapshot::meta(&applied)?;
        let mut flushed = self.flushed.lock();
        // Rows may have been received meanwhile, and those are newer.
        if applied.log_id > flushed.log_id {
            *flushed = applied;
        }
        Ok(Snapshot {
            meta,
            snapshot: SnapshotData::Own(self.rows.clone()),
        })
    }
}
