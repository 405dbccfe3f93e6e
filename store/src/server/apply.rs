//! The one writer of this member's rows: applies committed runs in order and
//! publishes what readers see.
//!
//! Everything here runs on one thread, so that no run waits for the disk on a
//! thread that serves clients.

use std::{io, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use mizzen_core::{Family, Overlay, State, planted};
use mizzen_engine::Engine;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Error,
    lease::{Change, Primary},
    members::Members,
    proposal::{Body, Proposal},
    waiters::Waiters,
};
use crate::{
    raft::{Applied, BoxFuture, Committed, Rows},
    watch::{Hub, Revision},
};

/// What readers see: one moment of the rows, with the state that goes with it.
pub struct Published<S> {
    pub state: State,
    pub members: Arc<Members>,
    pub applied: Applied,
    pub rows: S,
}

impl<S> Published<S> {
    pub fn applied_index(&self) -> u64 {
        self.applied.log_id.map_or(0, |id| id.index)
    }
}

pub type SharedPublished<E> = Arc<ArcSwap<Published<<E as Engine>::Snapshot>>>;

/// What [`Applier::start`] starts.
pub struct Started<E: Engine> {
    pub applier: Applier,
    pub published: SharedPublished<E>,
    /// Index of the last entry applied.
    pub applied: watch::Receiver<u64>,
    pub watches: Arc<Hub>,
}

enum Job {
    Run(Committed, oneshot::Sender<io::Result<()>>),
    DropTombstones(Vec<(Bytes, i64)>, oneshot::Sender<io::Result<()>>),
}

/// Hands work to the applying thread. openraft sends one run at a time and the
/// compactor one list of tombstones, so the queue never holds more than two.
#[derive(Clone)]
pub struct Applier {
    jobs: mpsc::Sender<Job>,
    applied: Applied,
}

impl Applier {
    /// Starts the thread on what the rows contain. `fail` is called when the
    /// rows cannot be read or written: nothing more can be applied then.
    pub fn start<E: Engine>(
        engine: Arc<E>,
        cluster_id: u64,
        waiters: Arc<Waiters>,
        leases: Arc<Primary>,
        fail: impl Fn(&io::Error) + Clone + Send + Sync + 'static,
    ) -> io::Result<Started<E>> {
        let rows = engine.snapshot();
        let state = State::load(&rows).map_err(io::Error::other)?;
        let applied = Applied::load(&rows).map_err(io::Error::other)?;
        let members = Members::load(&rows).map_err(io::Error::other)?;
        if members.cluster_id().is_some_and(|id| id != cluster_id) {
            return Err(io::Error::other("the rows are those of another cluster"));
        }
        let published = Published {
            state,
            members: Arc::new(members),
            applied: applied.clone(),
            rows,
        };
        let (index, index_seen) = watch::channel(published.applied_index());
        let published = Arc::new(ArcSwap::from_pointee(published));
        let watches = super::watching::start::<E>(published.clone(), fail.clone())?;
        let (jobs, queue) = mpsc::channel(2);
        let thread = Thread {
            engine,
            cluster_id,
            waiters,
            leases,
            watches: watches.clone(),
            published: published.clone(),
            index,
        };
        std::thread::Builder::new()
            .name("apply".to_owned())
            .spawn(move || thread.work(queue, fail))?;
        Ok(Started {
            applier: Self { jobs, applied },
            published,
            applied: index_seen,
            watches,
        })
    }

    async fn send(
        &self,
        job: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Job,
    ) -> io::Result<()> {
        let gone = || io::Error::other("the applying thread has stopped");
        let (done, result) = oneshot::channel();
        self.jobs.send(job(done)).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// Removes the newest rows of keys that were deleted before a compaction.
    /// Only this thread may: a key may be written again at any moment.
    pub async fn drop_tombstones(&self, tombstones: Vec<(Bytes, i64)>) -> io::Result<()> {
        self.send(|done| Job::DropTombstones(tombstones, done))
            .await
    }
}

impl Rows for Applier {
    fn applied(&self) -> io::Result<Applied> {
        Ok(self.applied.clone())
    }

    fn apply(&self, run: Committed) -> BoxFuture<io::Result<()>> {
        let this = self.clone();
        Box::pin(async move { this.send(|done| Job::Run(run, done)).await })
    }
}

struct Thread<E: Engine> {
    engine: Arc<E>,
    cluster_id: u64,
    waiters: Arc<Waiters>,
    leases: Arc<Primary>,
    watches: Arc<Hub>,
    published: SharedPublished<E>,
    index: watch::Sender<u64>,
}

impl<E: Engine> Thread<E> {
    fn work(self, mut queue: mpsc::Receiver<Job>, fail: impl Fn(&io::Error)) {
        while let Some(job) = queue.blocking_recv() {
            let (result, done) = match job {
                Job::Run(run, done) => (self.run(run), done),
                Job::DropTombstones(tombstones, done) => (self.drop_tombstones(&tombstones), done),
            };
            let failed = result.is_err();
            if let Err(error) = &result {
                fail(error);
            }
            // Whoever asked may be shutting down.
            let _ = done.send(result);
            if failed {
                return;
            }
        }
    }

    fn run(&self, run: Committed) -> io::Result<()> {
        let before = self.published.load();
        let mut state = before.state;
        let mut overlay = Overlay::new(&before.rows);
        let proposals = run
            .proposals
            .into_iter()
            .map(Proposal::decode)
            .collect::<Result<Vec<_>, _>>()
            .map_err(io::Error::other)?;
        prefetch(&mut overlay, &proposals)?;
        let mut members = before.members.clone();
        let mut answers = Vec::with_capacity(proposals.len());
        let mut leases = Vec::new();
        let mut revisions = Vec::new();
        for proposal in &proposals {
            if planted::has("write-lost-on-one-member")
                && state.revision() % 101 == 0
                && std::env::args().any(|flag| flag == "--name=m1")
            {
                continue;
            }
            let answer = match &proposal.body {
                Body::Command(command) => {
                    let outcome = mizzen_core::apply(&mut state, &mut overlay, command)
                        .map_err(io::Error::other)?;
                    if let Ok(reply) = &outcome.reply {
                        leases.extend(Change::of(command, reply));
                    }
                    if !outcome.events.is_empty() {
                        let mut events = outcome.events;
                        if planted::has("half-revision-watched") {
                            events.truncate(1);
                        }
                        revisions.push(Revision::new(state.revision(), events));
                    }
                    outcome.reply.map_err(Error::from)
                }
                Body::Members(change) => Arc::make_mut(&mut members)
                    .apply(&mut overlay, change)
                    .map(|()| mizzen_core::Reply::Compact {
                        revision: state.revision(),
                    })
                    .map_err(Error::from),
            };
            answers.push((proposal.id, answer));
        }
        if members.cluster_id().is_none() && run.applied.membership.is_some() {
            let nodes = run.applied.nodes()?;
            Arc::make_mut(&mut members).begin(&mut overlay, self.cluster_id, nodes);
        }
        for (key, row) in run.applied.rows() {
            overlay.put(Family::Meta, key, row);
        }
        (run.durable)()?;
        self.engine
            .write(&overlay.into_batch())
            .map_err(io::Error::other)?;
        let index = run.applied.log_id.map_or(0, |id| id.index);
        self.publish(state, members, run.applied);
        // After the rows show them: whoever reads the rows now misses none.
        self.leases.applied(index, &leases);
        for (id, answer) in answers {
            self.waiters.answer(id, answer);
        }
        if !revisions.is_empty() {
            self.watches.publish(revisions);
        }
        (run.done)();
        Ok(())
    }

    fn drop_tombstones(&self, tombstones: &[(Bytes, i64)]) -> io::Result<()> {
        let before = self.published.load();
        let mut overlay = Overlay::new(&before.rows);
        mizzen_core::drop_tombstones(&before.state, &mut overlay, tombstones)
            .map_err(io::Error::other)?;
        self.engine
            .write(&overlay.into_batch())
            .map_err(io::Error::other)?;
        self.publish(before.state, before.members.clone(), before.applied.clone());
        Ok(())
    }

    fn publish(&self, state: State, members: Arc<Members>, applied: Applied) {
        let published = Published {
            state,
            members,
            applied,
            rows: self.engine.snapshot(),
        };
        let index = published.applied_index();
        self.published.store(Arc::new(published));
        self.index.send_replace(index);
    }
}

/// Reads in one go what the commands of a run will ask for.
fn prefetch<V: mizzen_core::View>(
    overlay: &mut Overlay<'_, V>,
    proposals: &[Proposal],
) -> io::Result<()> {
    let mut keys = Vec::with_capacity(proposals.len());
    for proposal in proposals {
        if let Body::Command(command) = &proposal.body {
            mizzen_core::prefetch_keys(command, &mut keys);
        }
    }
    overlay
        .prefetch(Family::Head, &keys)
        .map_err(io::Error::other)
}
