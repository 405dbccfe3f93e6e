//! Snapshots on their way between members: all rows of one, as files in
//! checksummed chunks.
//!
//! Nothing is kept for a transfer that broke off: the sender begins again with
//! newer rows, and the receiver's part is gone.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use mizzen_engine::{CopiedFile, Incoming, Outgoing};
use mizzen_planted::sometimes;
use mizzen_proto::peer as wire;
use openraft::async_runtime::watch::WatchReceiver as _;
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::Status;

use super::{
    Applied, Group, LogId, Rows, convert,
    low_priority::LowPriorityThread,
    traffic::Client,
    types::{self, RaftVote, SnapshotMeta, StoredMembership, TypeConfig},
};
use crate::limits;

/// What openraft calls the data of a snapshot.
pub enum SnapshotData {
    /// The rows of this member; a copy is made when it is sent.
    Own(Arc<dyn Rows>),
    /// Complete and checked, to be put in the place of this member's rows.
    Received {
        incoming: Box<dyn Incoming>,
        applied: Applied,
    },
}

/// What openraft needs to know of rows that contain `applied`.
pub fn meta(applied: &Applied) -> io::Result<SnapshotMeta> {
    Ok(SnapshotMeta {
        last_log_id: applied.log_id.map(Into::into),
        last_membership: stored_membership(applied)?,
    })
}

pub fn stored_membership(applied: &Applied) -> io::Result<StoredMembership> {
    Ok(match &applied.membership {
        None => StoredMembership::default(),
        Some((log_id, bytes)) => StoredMembership::new(
            Some((*log_id).into()),
            types::decode_membership(bytes).map_err(io::Error::other)?,
        ),
    })
}

/// Log positions that transfers under way depend on: the log after them must
/// stay until their receivers have caught up.
#[derive(Clone, Default)]
pub struct Holds(Arc<Mutex<Vec<u64>>>);

impl Holds {
    pub fn hold(&self, index: u64) -> Hold {
        self.0.lock().push(index);
        Hold {
            holds: self.clone(),
            index,
        }
    }

    pub fn lowest(&self) -> Option<u64> {
        self.0.lock().iter().min().copied()
    }
}

/// Given back on drop.
pub struct Hold {
    holds: Holds,
    index: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holds = self.holds.0.lock();
        if let Some(at) = holds.iter().position(|index| *index == self.index) {
            holds.swap_remove(at);
        }
    }
}

/// The sending side of one transfer, as the stream of its messages sees it.
#[derive(Clone)]
struct Progress(Arc<Mutex<(Instant, Option<io::Error>)>>);

impl Progress {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((Instant::now(), None))))
    }

    fn moved(&self) {
        self.0.lock().0 = Instant::now();
    }

    fn failed(&self, error: io::Error) {
        self.0.lock().1 = Some(error);
    }

    /// Returns when nothing has moved for too long.
    async fn stalled(&self) {
        loop {
            let deadline = self.0.lock().0 + limits::SNAPSHOT_STALL;
            if Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// Sends a copy of the rows, which contain at least `last`, and waits until
/// the receiver has installed it. The copy is made when the connection stands.
pub async fn send(
    mut client: Client,
    vote: &RaftVote,
    last: LogId,
    rows: Arc<dyn Rows>,
) -> Result<wire::SnapshotResponse, Status> {
    let progress = Progress::new();
    let header = wire::SnapshotHeader {
        vote: Some(convert::vote_to_wire(vote)),
        last_log_id: Some(convert::log_id_to_wire(last.into())),
        files: Vec::new(),
    };
    let call = client.install_snapshot(messages(rows, header, progress.clone()));
    let answer = tokio::select! {
        biased;
        answer = call => answer,
        () = progress.stalled() => {
            sometimes!("receiver-of-rows-stalled");
            Err(Status::deadline_exceeded("the receiver of a snapshot has stalled"))
        }
    };
    match progress.0.lock().1.take() {
        Some(error) => Err(Status::internal(format!(
            "a snapshot could not be read: {error}"
        ))),
        None => {
            sometimes!("rows-sent", answer.is_ok());
            answer.map(tonic::Response::into_inner)
        }
    }
}

/// Header, then all bytes of all files; ends early if they cannot be read,
/// which the receiver takes for a failure.
fn messages(
    rows: Arc<dyn Rows>,
    header: wire::SnapshotHeader,
    progress: Progress,
) -> impl Stream<Item = wire::SnapshotChunk> + Send + 'static {
    let failures = progress.clone();
    let made = stream::once(async move {
        let copy = rows.copy().await?;
        Ok((copy, LowPriorityThread::start(rows.workers())?))
    });
    made.flat_map(move |copy| match copy {
        Ok((copy, thread)) => {
            let copy: Arc<dyn Outgoing> = copy.into();
            let files = copy
                .files()
                .iter()
                .map(|file| wire::SnapshotFile {
                    name: file.name.clone(),
                    size: file.size,
                })
                .collect();
            let first = wire::SnapshotChunk {
                header: Some(wire::SnapshotHeader {
                    files,
                    ..header.clone()
                }),
                ..Default::default()
            };
            stream::once(std::future::ready(Ok(first)))
                .chain(chunks(copy, thread))
                .boxed()
        }
        Err(error) => stream::once(std::future::ready(Err(error))).boxed(),
    })
    .map(move |message| {
        progress.moved();
        message
    })
    .scan((), move |(), message| {
        std::future::ready(message.map_err(|error| failures.failed(error)).ok())
    })
}

/// Where the next chunk begins.
struct Cursor {
    copy: Arc<dyn Outgoing>,
    thread: LowPriorityThread,
    file: usize,
    offset: u64,
    pace: Pace,
}

/// Clients have the processors, the disk and the network too. So a transfer
/// rests between chunks: as long as its rate asks for, and longer where a chunk
/// takes long, because it, and with it whatever else happens there, has to wait
/// for something.
struct Pace {
    /// When the work on the last chunk began.
    began: Instant,
    bytes: usize,
}

impl Pace {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            bytes: 0,
        }
    }

    /// When the next chunk may begin, if the work on the last one, reading and
    /// handing over, took `work`.
    fn next(&self, work: Duration) -> Instant {
        let at = |rate: u64| Duration::from_secs_f64(self.bytes as f64 / rate as f64);
        let shortest = at(limits::SNAPSHOT_BYTES_PER_SECOND);
        let longest = at(limits::SNAPSHOT_BYTES_PER_SECOND_BUSY);
        self.began + (work * limits::SNAPSHOT_SHARE).clamp(shortest, longest)
    }

    /// Waits until the next chunk may begin.
    async fn rest(&mut self) {
        tokio::time::sleep_until(self.next(self.began.elapsed())).await;
        self.began = Instant::now();
    }
}

fn chunks(
    copy: Arc<dyn Outgoing>,
    thread: LowPriorityThread,
) -> impl Stream<Item = io::Result<wire::SnapshotChunk>> + Send {
    let cursor = Cursor {
        copy,
        thread,
        file: 0,
        offset: 0,
        pace: Pace::new(),
    };
    stream::try_unfold(cursor, |mut cursor| async move {
        let Some(data) = cursor.next().await? else {
            return Ok(None);
        };
        let chunk = wire::SnapshotChunk {
            header: None,
            crc32c: crc32c::crc32c(&data),
            data,
        };
        Ok(Some((chunk, cursor)))
    })
}

impl Cursor {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while let Some(file) = self.copy.files().get(self.file) {
            if self.offset < file.size {
                let data = self.read(file.clone()).await?;
                self.offset += data.len() as u64;
                return Ok(Some(data));
            }
            self.file += 1;
            self.offset = 0;
        }
        Ok(None)
    }

    async fn read(&mut self, file: CopiedFile) -> io::Result<Bytes> {
        self.pace.rest().await;
        let (copy, offset) = (self.copy.clone(), self.offset);
        let read = move || {
            copy.read(&file, offset, limits::SNAPSHOT_CHUNK_BYTES)
                .map_err(io::Error::other)
        };
        let data = self.thread.run(read).await?;
        self.pace.bytes = data.len();
        Ok(data)
    }
}

fn malformed(what: &str) -> Status {
    Status::invalid_argument(format!("malformed snapshot of a peer: {what}"))
}

fn failed(error: io::Error) -> Status {
    Status::internal(format!("a snapshot could not be received: {error}"))
}

/// Messages of a sender that may die at any moment without a word.
struct Messages<S>(S);

impl<S: Stream<Item = Result<wire::SnapshotChunk, Status>> + Unpin> Messages<S> {
    async fn next(&mut self) -> Result<wire::SnapshotChunk, Status> {
        match tokio::time::timeout(limits::SNAPSHOT_STALL, self.0.next()).await {
            Ok(Some(message)) => message,
            Ok(None) => Err(malformed("it ends too early")),
            Err(_) => Err(Status::deadline_exceeded(
                "the sender of a snapshot has stalled",
            )),
        }
    }
}

/// Receives a snapshot and puts it in the place of this member's rows, if it
/// is news.
pub async fn receive(
    group: &Group,
    messages: impl Stream<Item = Result<wire::SnapshotChunk, Status>> + Unpin,
) -> Result<wire::SnapshotResponse, Status> {
    let mut messages = Messages(messages);
    let header = messages
        .next()
        .await?
        .header
        .ok_or_else(|| malformed("no header"))?;
    let vote = header.vote.ok_or_else(|| malformed("no vote"))?;
    let vote = convert::vote_from_wire(vote);
    let last = header.last_log_id.ok_or_else(|| malformed("no log id"))?;
    let last = LogId::from(convert::log_id_from_wire(last));
    if let Some(answer) = needless(group, &vote, last) {
        return Ok(answer);
    }
    let Ok(_turn) = group.receiving.try_lock() else {
        return Err(Status::unavailable("another snapshot is being received"));
    };
    let begun = Instant::now();
    let bytes = header.files.iter().map(|file| file.size).sum::<u64>();
    tracing::info!(bytes, index = last.index, "receiving a snapshot");
    let incoming = group.rows.receive().await.map_err(failed)?;
    let thread = LowPriorityThread::start(group.rows.workers()).map_err(failed)?;
    let incoming = receive_files(incoming, &header.files, &mut messages, &thread).await?;
    let (incoming, applied) = check(incoming, &thread).await.map_err(failed)?;
    let Some(log_id) = applied.log_id.filter(|log_id| *log_id >= last) else {
        return Err(malformed("its rows are older than it says"));
    };
    if log_id.term > vote.leader_id.term {
        return Err(malformed("its rows are of a later term than its sender"));
    }
    let snapshot = openraft::storage::Snapshot {
        meta: meta(&applied).map_err(failed)?,
        snapshot: SnapshotData::Received { incoming, applied },
    };
    let answer = group.raft().install_full_snapshot(vote, snapshot).await;
    let answer =
        answer.map_err(|error| Status::unavailable(format!("this member has stopped: {error}")))?;
    tracing::info!(
        index = log_id.index,
        seconds = begun.elapsed().as_secs_f64(),
        "received a snapshot"
    );
    Ok(wire::SnapshotResponse {
        vote: Some(convert::vote_to_wire(&answer.vote)),
    })
}

/// The answer to a sender that is no leader any more, or that has not heard
/// that this member has what it sends.
fn needless(group: &Group, vote: &RaftVote, last: LogId) -> Option<wire::SnapshotResponse> {
    let metrics = group.raft().metrics();
    let metrics = metrics.borrow_watched();
    let stale = *vote < metrics.vote;
    let known = *vote == metrics.vote
        && metrics
            .last_applied
            .is_some_and(|applied| LogId::from(applied) >= last);
    (stale || known).then(|| wire::SnapshotResponse {
        vote: Some(convert::vote_to_wire(&metrics.vote)),
    })
}

async fn receive_files<S: Stream<Item = Result<wire::SnapshotChunk, Status>> + Unpin>(
    mut incoming: Box<dyn Incoming>,
    files: &[wire::SnapshotFile],
    messages: &mut Messages<S>,
    thread: &LowPriorityThread,
) -> Result<Box<dyn Incoming>, Status> {
    for file in files {
        let name = file.name.clone();
        let begin = move || {
            incoming.file(&name).map_err(io::Error::other)?;
            Ok(incoming)
        };
        incoming = thread.run(begin).await.map_err(failed)?;
        let mut left = file.size;
        while left > 0 {
            let chunk = messages.next().await?;
            let len = chunk.data.len() as u64;
            if len == 0 || len > left {
                return Err(malformed("a chunk does not fit its file"));
            }
            if crc32c::crc32c(&chunk.data) != chunk.crc32c {
                return Err(malformed("a chunk has a wrong checksum"));
            }
            left -= len;
            let write = move || {
                incoming.write(&chunk.data).map_err(io::Error::other)?;
                Ok(incoming)
            };
            incoming = thread.run(write).await.map_err(failed)?;
        }
    }
    Ok(incoming)
}

/// Completes the rows and says what they contain.
async fn check(
    mut incoming: Box<dyn Incoming>,
    thread: &LowPriorityThread,
) -> io::Result<(Box<dyn Incoming>, Applied)> {
    thread
        .run(move || {
            let mut applied = None;
            incoming
                .finish(&mut |rows| applied = Some(Applied::load(rows)))
                .map_err(io::Error::other)?;
            let applied = applied
                .ok_or_else(|| io::Error::other("the rows were not shown"))?
                .map_err(io::Error::other)?;
            Ok((incoming, applied))
        })
        .await
}

/// Only to name it once.
pub type Response = openraft::raft::SnapshotResponse<TypeConfig>;

pub fn response_from_wire(answer: wire::SnapshotResponse) -> Option<Response> {
    Some(Response::new(convert::vote_from_wire(answer.vote?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_keeps_its_rate_and_rests_longer_where_chunks_take_long() {
        let pace = Pace {
            began: Instant::now(),
            bytes: limits::SNAPSHOT_CHUNK_BYTES,
        };
        let after = |work| pace.next(work) - pace.began;
        let chunks =
            |rate: u64| Duration::from_secs_f64(limits::SNAPSHOT_CHUNK_BYTES as f64 / rate as f64);
        let shortest = chunks(limits::SNAPSHOT_BYTES_PER_SECOND);
        let longest = chunks(limits::SNAPSHOT_BYTES_PER_SECOND_BUSY);
        assert_eq!(after(Duration::ZERO), shortest);
        assert_eq!(after(shortest / (2 * limits::SNAPSHOT_SHARE)), shortest);
        let busy = 2 * shortest / limits::SNAPSHOT_SHARE;
        assert_eq!(after(busy), busy * limits::SNAPSHOT_SHARE);
        assert_eq!(after(longest), longest);
        // The first chunk waits for nothing.
        let first = Pace::new();
        assert_eq!(first.next(longest), first.began);
    }
}
