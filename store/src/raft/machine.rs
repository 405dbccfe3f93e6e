//! openraft's state machine as a thin adapter: hands committed entries to
//! whoever owns the rows, in order and only once they are durable in the log.

use std::{collections::BTreeMap, future::Future, io, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::{
    EntryPayload, RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine},
};

use super::types::{self, LogId, PeerNode, RaftLogId, SnapshotMeta, StoredMembership, TypeConfig};
use crate::{limits, wal};

/// What the rows contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub log_id: Option<LogId>,
    /// The newest membership among the applied entries, encoded, with its
    /// position.
    pub membership: Option<(LogId, Bytes)>,
}

impl Applied {
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

pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The owner of the rows.
pub trait Rows: Send + Sync + 'static {
    /// Read from the rows, at start.
    fn applied(&self) -> io::Result<Applied>;

    /// Makes the run visible. Runs arrive one at a time.
    fn apply(&self, run: Committed) -> BoxFuture<io::Result<()>>;
}

pub struct Machine {
    rows: Arc<dyn Rows>,
    wal: Arc<wal::Wal>,
    applied: Applied,
}

impl Machine {
    pub fn new(rows: Arc<dyn Rows>, wal: Arc<wal::Wal>) -> io::Result<Self> {
        let applied = rows.applied()?;
        Ok(Self { rows, wal, applied })
    }

    pub fn applied(&self) -> &Applied {
        &self.applied
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
        let responders = run.responders;
        self.rows
            .apply(Committed {
                applied: self.applied.clone(),
                proposals: run.proposals,
                durable: Box::new(move || wal.wait_durable(log_id.index).map_err(io::Error::other)),
                done: Box::new(move || {
                    responders
                        .into_iter()
                        .for_each(|responder| responder.send(()))
                }),
            })
            .await
    }
}

#[derive(Default)]
struct Run {
    proposals: Vec<Bytes>,
    responders: Vec<openraft::storage::ApplyResponder<TypeConfig>>,
    entries: usize,
    bytes: usize,
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = NoSnapshots;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, StoredMembership)> {
        let membership = match &self.applied.membership {
            None => StoredMembership::default(),
            Some((log_id, bytes)) => StoredMembership::new(
                Some((*log_id).into()),
                types::decode_membership(bytes).map_err(io::Error::other)?,
            ),
        };
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

    async fn get_snapshot_builder(&mut self) -> NoSnapshots {
        NoSnapshots
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, _snapshot: ()) -> io::Result<()> {
        Err(no_snapshots())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<openraft::alias::SnapshotOf<TypeConfig, ()>>> {
        Ok(None)
    }
}

/// The log is never purged yet, so that every member can be brought up to date
/// from it and openraft has no reason to ask for a snapshot.
pub struct NoSnapshots;

fn no_snapshots() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "snapshots are not taken: the raft log is kept whole",
    )
}

impl RaftSnapshotBuilder<TypeConfig> for NoSnapshots {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<openraft::alias::SnapshotOf<TypeConfig, ()>> {
        Err(no_snapshots())
    }
}
