//! The one writer of this member's rows: applies committed runs in order and
//! publishes what readers see.
//!
//! Everything here runs on one thread, so that no run waits for the disk on a
//! thread that serves clients.

use std::{io, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use mizzen_core::{Batch, Command, Event, Family, Overlay, Reply, Room, State, View, auth::Auth};
use mizzen_engine::{Engine, Incoming, Outgoing, Transfer};
use mizzen_planted::{bug, sometimes};
use tokio::sync::{mpsc, oneshot, watch};

use super::users;
use crate::server::{
    error::Error,
    lease::{Change, PrimaryLessor},
    memory::Grant,
    model::{
        counted::Counted,
        level,
        members::Members,
        proposal::{Body, Proposal},
        published::{Published, SharedPublished},
    },
    propose::waiters::{Waiters, Waiting},
};
use crate::{
    auth::Authentication,
    limits,
    raft::{Applied, BoxFuture, Committed, Received, Rows},
    watch::{Hub, News, Revision},
    workers::Workers,
};

/// Who is told what has been applied.
pub struct Listeners {
    pub waiters: Arc<Waiters>,
    pub leases: Arc<PrimaryLessor>,
    pub auth: Arc<Authentication>,
}

/// What [`Applier::start`] starts.
pub struct Started<E: Engine> {
    pub applier: Applier<E>,
    pub published: SharedPublished<E>,
    /// Index of the last entry applied.
    pub applied: watch::Receiver<u64>,
    /// Changes when the members, the group's configuration, the compaction floor
    /// or all rows do: for those who need not be woken by every entry.
    pub cluster_changed: watch::Receiver<()>,
    pub watches: Arc<Hub>,
    pub counted: Arc<Counted>,
}

/// A step of giving back the space of compacted versions.
pub struct Reclaim {
    /// [`Published::replaced`] of the rows it was worked out from.
    pub replaced: u64,
    /// Newest rows of keys that were deleted before a compaction. Only the
    /// applying thread may remove them: a key may be written again at any
    /// moment.
    pub tombstones: Vec<(Bytes, i64)>,
    /// What goes after them.
    pub batch: Batch,
}

enum Work {
    Run(Committed),
    Install(Received),
    Reclaim(Reclaim),
}

type Job = (Work, oneshot::Sender<io::Result<()>>);

/// Hands work to the applying thread. openraft sends one run or snapshot at a
/// time and the compactor one step, so the queue never holds more than two.
pub struct Applier<E: Engine> {
    jobs: mpsc::Sender<Job>,
    pub engine: Arc<E>,
    pub published: SharedPublished<E>,
    pub workers: Workers,
}

impl<E: Engine> Clone for Applier<E> {
    fn clone(&self) -> Self {
        Self {
            jobs: self.jobs.clone(),
            engine: self.engine.clone(),
            published: self.published.clone(),
            workers: self.workers,
        }
    }
}

impl<E: Transfer> Applier<E> {
    /// Starts the thread on what the rows contain. Entries through `replayed`
    /// are those of an earlier life. `fail` is called when the rows cannot be
    /// read or written: nothing more can be applied then.
    pub fn start(
        engine: Arc<E>,
        replayed: u64,
        cluster_id: u64,
        effects: Listeners,
        workers: Workers,
        fail: impl Fn(&io::Error) + Clone + Send + Sync + 'static,
    ) -> io::Result<Started<E>> {
        let rows = engine.snapshot();
        let state = State::load(&rows).map_err(io::Error::other)?;
        let applied = Applied::load(&rows).map_err(io::Error::other)?;
        let members = Members::load(&rows).map_err(io::Error::other)?;
        let users = Auth::load(&rows).map_err(io::Error::other)?;
        if members.cluster_id().is_some_and(|id| id != cluster_id) {
            return Err(io::Error::other("the rows are those of another cluster"));
        }
        let published = Published {
            state,
            members: Arc::new(members),
            auth: Arc::new(users),
            applied,
            rows,
            replaced: 0,
        };
        check_level(&published.members)?;
        let (index, index_seen) = watch::channel(published.applied_index());
        let (cluster_changed, cluster_changes) = watch::channel(());
        let published = Arc::new(ArcSwap::from_pointee(published));
        let watches =
            crate::server::read::watching::start::<E>(published.clone(), workers, fail.clone())?;
        let (jobs, queue) = mpsc::channel(2);
        let applier = Self {
            jobs,
            engine: engine.clone(),
            published: published.clone(),
            workers,
        };
        let counted = Arc::new(Counted::new());
        let thread = Thread {
            counted: counted.clone(),
            engine,
            replayed,
            cluster_id,
            waiters: effects.waiters,
            leases: effects.leases,
            auth: effects.auth,
            watches: watches.clone(),
            published: published.clone(),
            index,
            cluster_changed,
        };
        workers.start("apply", thread.work(queue, fail))?;
        Ok(Started {
            applier,
            published,
            applied: index_seen,
            cluster_changed: cluster_changes,
            watches,
            counted,
        })
    }

    async fn send(&self, work: Work) -> io::Result<()> {
        let gone = || io::Error::other("the applying thread has stopped");
        let (done, result) = oneshot::channel();
        self.jobs.send((work, done)).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// Takes a step; nothing if the rows have been replaced meanwhile.
    pub async fn reclaim(&self, step: Reclaim) -> io::Result<()> {
        self.send(Work::Reclaim(step)).await
    }

    /// Runs what may wait for the disk beside the applying thread.
    fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<io::Result<T>> {
        let this = self.clone();
        Box::pin(async move {
            let workers = this.workers;
            workers.run(move || work(&this)).await?
        })
    }
}

impl<E: Transfer> Rows for Applier<E> {
    fn applied(&self) -> io::Result<Applied> {
        Ok(self.published.load().applied.clone())
    }

    fn label(&self) -> Option<Bytes> {
        self.engine.label()
    }

    fn workers(&self) -> Workers {
        self.workers
    }

    fn apply(&self, run: Committed) -> BoxFuture<io::Result<()>> {
        let this = self.clone();
        Box::pin(async move { this.send(Work::Run(run)).await })
    }

    fn flush(&self) -> BoxFuture<io::Result<Applied>> {
        self.aside(|this| {
            let applied = this.published.load().applied.clone();
            this.engine.flush().map_err(io::Error::other)?;
            Ok(applied)
        })
    }

    fn copy(&self) -> BoxFuture<io::Result<Box<dyn Outgoing>>> {
        self.aside(|this| this.engine.copy().map_err(io::Error::other))
    }

    fn receive(&self) -> BoxFuture<io::Result<Box<dyn Incoming>>> {
        self.aside(|this| this.engine.receive().map_err(io::Error::other))
    }

    fn install(&self, received: Received) -> BoxFuture<io::Result<()>> {
        let this = self.clone();
        Box::pin(async move { this.send(Work::Install(received)).await })
    }
}

struct Thread<E: Engine> {
    engine: Arc<E>,
    replayed: u64,
    cluster_id: u64,
    waiters: Arc<Waiters>,
    leases: Arc<PrimaryLessor>,
    auth: Arc<Authentication>,
    watches: Arc<Hub>,
    published: SharedPublished<E>,
    index: watch::Sender<u64>,
    cluster_changed: watch::Sender<()>,
    counted: Arc<Counted>,
}

impl<E: Transfer> Thread<E> {
    async fn work(self, mut queue: mpsc::Receiver<Job>, fail: impl Fn(&io::Error)) {
        while let Some((work, done)) = queue.recv().await {
            let result = match work {
                Work::Run(run) => self.counted.run(|| self.run(run)),
                Work::Install(received) => self.install(received),
                Work::Reclaim(step) => self.reclaim(&step),
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
        let mut overlay = Overlay::new(&before.rows);
        let proposals = run
            .proposals
            .into_iter()
            .map(Proposal::decode)
            .collect::<Result<Vec<_>, _>>()
            .map_err(io::Error::other)?;
        sometimes!("many-commands-in-one-run", proposals.len() > 15);
        let keys = keys(&proposals);
        if run
            .applied
            .log_id
            .is_some_and(|id| id.index <= self.replayed)
        {
            warm(&before.rows, &keys, &expired(&proposals));
        }
        // Reads in one go what the commands of the run will ask for.
        overlay
            .prefetch(Family::Head, &keys)
            .map_err(io::Error::other)?;
        let mut pass = Pass {
            state: before.state,
            overlay,
            members: before.members.clone(),
            users: before.auth.clone(),
            effects: Effects::default(),
        };
        let mut answers: Vec<(Waiting, Result<Reply, Error>)> = Vec::new();
        #[cfg(feature = "planted")]
        for id in self.leases.ended_here() {
            let revoke = Command::LeaseRevoke(mizzen_core::LeaseRevoke { id });
            let _ = pass.carry_out(&revoke, None)?;
        }
        for (place, proposal) in proposals.iter().enumerate() {
            bug!("compaction-differs" => if matches!(proposal.body, Body::Command(Command::Compact(_))) && std::env::args().any(|flag| flag == "--name=m1") { continue });
            bug!("write-lost-on-one-member" => if pass.state.revision() % 101 == 0 && std::env::args().any(|flag| flag == "--name=m1") { continue });
            let waiting = self.waiters.take(proposal.id);
            bug!("apply-depends-on-cut" => if place == 3 && waiting.is_none() { continue });
            let room = waiting.as_ref().map(|waiting| &waiting.room);
            let answer = pass.apply(proposal, room)?;
            if answer.is_ok() {
                self.counted.applied(&proposal.body);
            }
            answers.extend(waiting.map(|waiting| (waiting, answer)));
        }
        let Pass {
            state,
            mut overlay,
            mut members,
            users,
            effects,
        } = pass;
        check_level(&members)?;
        if members.cluster_id().is_none() && run.applied.membership.is_some() {
            let nodes = run.applied.nodes()?;
            Arc::make_mut(&mut members).begin(&mut overlay, self.cluster_id, nodes);
        }
        for (key, row) in run.applied.rows() {
            overlay.put(Family::Meta, key, row);
        }
        (run.durable)()?;
        let batch = overlay.into_batch();
        self.counted
            .commit(|| self.engine.write(&batch))
            .map_err(io::Error::other)?;
        let index = run.applied.index();
        let replayed = index <= self.replayed;
        sometimes!("log-replayed", replayed);
        let cluster_changed = !Arc::ptr_eq(&members, &before.members)
            || !Arc::ptr_eq(&users, &before.auth)
            || run.applied.membership != before.applied.membership
            || state.compact_revision() != before.state.compact_revision();
        // Before the rows show who is who: nobody is taken for another.
        users::tell(&self.auth, &effects.auth, replayed);
        self.show(state, members, users, run.applied);
        if cluster_changed {
            self.cluster_changed.send_replace(());
        }
        // After the rows show them: whoever reads the rows now misses none.
        // Before the index is effects: whoever waits for it knows of them.
        self.leases.applied(index, &effects.leases);
        self.index.send_replace(index);
        for (waiting, answer) in answers {
            waiting.answer(answer);
        }
        if !effects.revisions.is_empty() {
            self.watches.publish(effects.revisions);
        }
        (run.done)();
        Ok(())
    }

    /// Puts the rows of another member in the place of these.
    fn install(&self, received: Received) -> io::Result<()> {
        (received.durable)()?;
        received
            .incoming
            .install(&received.label)
            .map_err(io::Error::other)?;
        bug!("snapshot-without-leases" => self.forget_leases()?);
        let rows = self.engine.snapshot();
        let state = State::load(&rows).map_err(io::Error::other)?;
        let members = Members::load(&rows).map_err(io::Error::other)?;
        let users = Auth::load(&rows).map_err(io::Error::other)?;
        let users =
            bug!("users-not-reloaded", users => self.published.load().auth.as_ref().clone());
        check_level(&members)?;
        // Whom they were given to may be somebody else now.
        self.auth.forget_all();
        sometimes!("rows-received");
        let replaced = self.published.load().replaced + 1;
        let revision = state.revision();
        tracing::info!(revision, "the rows are those of another member now");
        // Here the rows jump to `revision`: there are no events of the
        // revisions in between, and nobody is answered who waits for one of
        // their proposals.
        let index = received.applied.index();
        self.published.store(Arc::new(Published {
            state,
            members: Arc::new(members),
            auth: Arc::new(users),
            applied: received.applied,
            rows,
            replaced,
        }));
        self.cluster_changed.send_replace(());
        self.index.send_replace(index);
        self.watches.jump(revision);
        Ok(())
    }

    /// Only for that bug.
    fn forget_leases(&self) -> io::Result<()> {
        let rows = self.engine.snapshot();
        let mut overlay = Overlay::new(&rows);
        for (id, _) in mizzen_core::leases(&rows).map_err(io::Error::other)? {
            overlay.delete(Family::Meta, mizzen_core::rows::meta::lease_key(id));
        }
        let batch = overlay.into_batch();
        self.engine.write(&batch).map_err(io::Error::other)
    }

    fn reclaim(&self, step: &Reclaim) -> io::Result<()> {
        let before = self.published.load();
        if before.replaced != step.replaced {
            return Ok(());
        }
        // First the newest rows, then the history that leads to them: a crash
        // in between leaves history behind, which the next pass finds again.
        if !step.tombstones.is_empty() {
            let mut overlay = Overlay::new(&before.rows);
            mizzen_core::drop_tombstones(&before.state, &mut overlay, &step.tombstones)
                .map_err(io::Error::other)?;
            self.engine
                .write(&overlay.into_batch())
                .map_err(io::Error::other)?;
            let (members, users) = (before.members.clone(), before.auth.clone());
            self.show(before.state, members, users, before.applied.clone());
        }
        self.engine.write(&step.batch).map_err(io::Error::other)
    }

    /// Readers see the rows as they are now, with this beside them.
    fn show(&self, state: State, members: Arc<Members>, auth: Arc<Auth>, applied: Applied) {
        self.published.store(Arc::new(Published {
            state,
            members,
            auth,
            applied,
            rows: self.engine.snapshot(),
            replaced: self.published.load().replaced,
        }));
    }
}

/// What a run makes known beside the rows.
#[derive(Default)]
struct Effects {
    leases: Vec<Change>,
    revisions: Vec<News>,
    auth: Vec<mizzen_core::auth::AuthChange>,
}

impl Effects {
    fn events(&mut self, revision: i64, mut events: Vec<Event>, in_log: bool) {
        if in_log {
            self.revisions.push(News::InLog(revision));
            return;
        }
        if events.is_empty() {
            return;
        }
        bug!("half-revision-watched" => events.truncate(1));
        self.revisions
            .push(News::Revision(Revision::new(revision, events)));
    }
}

/// Rows, and what is kept beside them, while a run is applied.
struct Pass<'a, V: View> {
    state: State,
    overlay: Overlay<'a, V>,
    members: Arc<Members>,
    users: Arc<Auth>,
    effects: Effects,
}

impl<V: View> Pass<'_, V> {
    /// Applies a proposal, or refuses it.
    fn apply(
        &mut self,
        proposal: &Proposal,
        room: Option<&Grant>,
    ) -> io::Result<Result<Reply, Error>> {
        let permitted = users::permit(&self.users, proposal, &self.state, &self.overlay);
        if let Err(refusal) = permitted.map_err(io::Error::other)? {
            return Ok(Err(refusal.into()));
        }
        let done = match &proposal.body {
            Body::Command(command) => return self.carry_out(command, room),
            Body::Auth(change) => {
                let applied =
                    users::apply(&mut self.users, &mut self.overlay, &proposal.by, change);
                if applied.is_ok() {
                    self.effects.auth.push(change.clone());
                }
                applied.map_err(|refusal| mizzen_core::Error::from(refusal).into())
            }
            Body::Expiry(ids) => {
                let ended = mizzen_core::end_leases(&mut self.state, &mut self.overlay, ids);
                for lease in ended.map_err(io::Error::other)? {
                    self.effects.leases.push(Change::Revoked { id: lease.id });
                    self.effects
                        .events(lease.revision, lease.events, lease.events_in_log);
                }
                Ok(())
            }
            Body::Members(change) => Arc::make_mut(&mut self.members)
                .apply(&mut self.overlay, change)
                .map_err(Error::from),
        };
        Ok(done.map(|()| Reply::Compact {
            revision: self.state.revision(),
        }))
    }

    fn carry_out(
        &mut self,
        command: &Command,
        room: Option<&Grant>,
    ) -> io::Result<Result<Reply, Error>> {
        if let Some(room) = room {
            room.rewind();
        }
        let room = room.map(|room| room as &dyn Room);
        let outcome = mizzen_core::apply(&mut self.state, &mut self.overlay, command, room)
            .map_err(io::Error::other)?;
        if let Ok(reply) = &outcome.reply {
            self.effects.leases.extend(Change::of(command, reply));
        }
        self.effects
            .events(self.state.revision(), outcome.events, outcome.events_in_log);
        Ok(outcome.reply.map_err(Error::from))
    }
}

/// Whoever cannot read what the cluster may write from now on must not go on.
fn check_level(members: &Members) -> io::Result<()> {
    if members.level() <= level::own() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "the cluster uses features of level {}, this program knows those up to {}: it is too old for this data",
        members.level(),
        level::own()
    )))
}

/// What the commands of a run will ask for.
fn keys(proposals: &[Proposal]) -> Vec<Bytes> {
    let mut keys = Vec::with_capacity(proposals.len());
    for proposal in proposals {
        if let Body::Command(command) = &proposal.body {
            mizzen_core::prefetch_keys(command, &mut keys);
        }
    }
    keys
}

/// The leases that end in a run.
fn expired(proposals: &[Proposal]) -> Vec<i64> {
    let bodies = proposals.iter().map(|proposal| &proposal.body);
    bodies
        .filter_map(|body| match body {
            Body::Expiry(ids) => Some(ids),
            Body::Command(_) | Body::Members(_) | Body::Auth(_) => None,
        })
        .flatten()
        .copied()
        .collect()
}

/// Has many rows read at the same time, so that they are in the cache. After a
/// restart nothing is, and one read after the other would make the replay wait
/// for the disk once per entry.
fn warm<V: View + Sync>(rows: &V, keys: &[Bytes], leases: &[i64]) {
    let share = |len: usize| len.div_ceil(limits::REPLAY_READERS).max(1);
    std::thread::scope(|scope| {
        // Whoever needs the rows sees an error too. Without a thread they are
        // read later, one after the other.
        for part in keys.chunks(share(keys.len())) {
            let read = move || {
                for key in part {
                    let _ = rows.get(Family::Head, key);
                }
            };
            let _ = std::thread::Builder::new().spawn_scoped(scope, read);
        }
        for part in leases.chunks(share(leases.len())) {
            let read = move || {
                for id in part {
                    let _ = mizzen_core::lease(rows, *id);
                    for key in mizzen_core::lease_keys(rows, *id).unwrap_or_default() {
                        let _ = rows.get(Family::Head, &key);
                    }
                }
            };
            let _ = std::thread::Builder::new().spawn_scoped(scope, read);
        }
    });
}
