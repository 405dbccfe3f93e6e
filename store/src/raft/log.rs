//! openraft's log storage over our write-ahead log: translates types, and
//! keeps the order openraft asks for. Holds no state of its own but the vote.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use mizzen_planted::bug;
use mizzen_wal as wal;
use openraft::{
    RaftLogReader,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::types::{self, Entry, LogId, RaftLogId, RaftVote, TypeConfig};
use crate::{limits, workers::Workers};

/// What clients and peers may send is derived from what the log can hold.
const _: () = assert!(limits::LOG_ENTRY_BYTES == wal::MAX_ENTRY_BYTES);

#[derive(Clone)]
pub struct LogStore {
    wal: Arc<wal::Wal>,
    vote: Arc<Mutex<Option<RaftVote>>>,
    committed: Option<LogId>,
    workers: Workers,
}

impl LogStore {
    /// `applied`: what the rows of this member contain. `received`: what they
    /// contained when they came from another member, if they did.
    pub fn new(
        wal: Arc<wal::Wal>,
        recovered: &wal::Recovered,
        applied: Option<LogId>,
        received: Option<LogId>,
        workers: Workers,
    ) -> io::Result<Self> {
        let vote = recovered
            .vote
            .as_ref()
            .map(|vote| types::decode_vote(vote))
            .transpose()
            .map_err(io::Error::other)?;
        match_rows(&wal, applied, received)?;
        // Never beyond the last entry: the log sees to that when it is opened.
        let committed = recovered.committed.map(LogId::from);
        Ok(Self {
            wal,
            vote: Arc::new(Mutex::new(vote)),
            committed,
            workers,
        })
    }

    /// The last entry known to be committed.
    pub fn committed(&self) -> Option<LogId> {
        self.committed
    }

    /// Entries from `start` on to below `end`; fewer if they are larger than
    /// `max_bytes` together, but one at least if there is one.
    pub async fn read(&self, start: u64, end: u64, max_bytes: usize) -> io::Result<Vec<Entry>> {
        let records = if self.wal.is_in_memory(start) {
            self.wal.read(start..end, max_bytes)
        } else {
            let wal = self.wal.clone();
            let read = move || wal.read(start..end, max_bytes);
            self.workers.run(read).await?
        };
        let records = records.map_err(io::Error::other)?;
        // The log checks this too; a gap here would be a lost write.
        if let Some(wrong) = (start..)
            .zip(&records)
            .find(|(index, record)| record.index != *index)
        {
            return Err(io::Error::other(format!(
                "the raft log gave entry {} for index {}",
                wrong.1.index, wrong.0
            )));
        }
        records
            .into_iter()
            .map(|record| {
                types::entry(
                    LogId {
                        term: record.term,
                        index: record.index,
                    },
                    record.payload,
                )
                .map_err(io::Error::other)
            })
            .collect()
    }
}

/// Checks that rows and log belong together, whatever a crash left of them.
fn match_rows(wal: &wal::Wal, applied: Option<LogId>, received: Option<LogId>) -> io::Result<()> {
    let id = |id: (u64, u64)| LogId::from(id);
    let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
    let (purged, last) = (wal.purged().map(id), wal.last().map(id));
    if index(purged) > index(applied) {
        return Err(io::Error::other(format!(
            "the raft log begins after {purged:?}, but the rows are applied through {applied:?} only: rows were lost"
        )));
    }
    let Some(applied) = applied else {
        return Ok(());
    };
    if applied.index > index(last) {
        // Rows that were received are ahead of the log until the log, which
        // they made needless, is purged. In all other cases the log is made
        // durable before the rows are written.
        if received != Some(applied) {
            return Err(io::Error::other(format!(
                "the rows are applied through {applied:?}, but the raft log ends at {last:?}: the log has lost acknowledged entries"
            )));
        }
        return wal.purge(applied.into()).map_err(io::Error::other);
    }
    match wal.term_of(applied.index) {
        Some(term) if term != applied.term => Err(io::Error::other(format!(
            "the rows are applied through {applied:?}, but the raft log has an entry of term {term} there"
        ))),
        _ => Ok(()),
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (start, end) = bounds(&range);
        let mut entries = Vec::new();
        let mut next = start;
        // A read is bounded in bytes; openraft wants the whole range here, and
        // asks for short ones only.
        while next < end {
            let part = self.read(next, end, limits::RAFT_READ_BYTES).await?;
            let Some(last) = part.last() else { break };
            next = last.log_id.index + 1;
            entries.extend(part);
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        Ok(*self.vote.lock())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, limits::RAFT_READ_BYTES).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let id = |id: (u64, u64)| LogId::from(id).into();
        Ok(LogState {
            last_purged_log_id: self.wal.purged().map(id),
            last_log_id: self.wal.last().map(id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        let (done, saved) = oneshot::channel();
        let done = Box::new(move |result| {
            // The receiver lives as long as this call; openraft never drops it.
            let _ = done.send(result);
        });
        self.wal
            .save_vote(types::encode_vote(vote), done)
            .map_err(io::Error::other)?;
        saved
            .await
            .map_err(|_| io::Error::other("the raft log was closed"))??;
        *self.vote.lock() = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> io::Result<()> {
        let Some(committed) = committed.map(LogId::from) else {
            return Ok(());
        };
        self.wal
            .save_committed(committed.into())
            .map_err(io::Error::other)
    }

    async fn read_committed(&mut self) -> io::Result<Option<RaftLogId>> {
        Ok(self.committed.map(RaftLogId::from))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let records = entries
            .into_iter()
            .map(|entry| wal::Entry {
                term: entry.log_id.leader_id.term,
                index: entry.log_id.index,
                payload: types::encode_payload(&entry.payload),
            })
            .collect();
        let done = move |result| callback.io_completed(result);
        let done: wal::Done =
            bug!("acknowledged-before-written", Box::new(done) => { done(Ok(())); Box::new(drop) });
        self.wal
            .append(records, done)
            .map(drop)
            .map_err(io::Error::other)
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        // Durable with the next batch; whoever depends on it waits for that
        // batch, because records reach the disk in order.
        self.wal
            .truncate_after(last.map(|last| last.index), Box::new(|_| ()))
            .map(drop)
            .map_err(io::Error::other)
    }

    async fn purge(&mut self, upto: RaftLogId) -> io::Result<()> {
        self.wal
            .purge(LogId::from(upto).into())
            .map(drop)
            .map_err(io::Error::other)
    }
}
