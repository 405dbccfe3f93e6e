//! `mizzen migrate`: a member with the data of an etcd that goes on serving. It takes
//! a snapshot, then every change as it happens, and ends when it is told that writes
//! to the other store have ended: what is left to do then is a moment's work.

use std::{collections::BTreeSet, io, time::Duration};

use mizzen_bolt::File;
use mizzen_core::{KvHash, Lease, rows::Revision};
use mizzen_engine::RocksRows;
use mizzen_proto::{
    etcdserverpb::{HashKvResponse, WatchResponse},
    mvccpb::{Event, event::EventType},
};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Failure,
    arguments::MigrateFlags,
    file::Backup,
    new_member::{Begun, NewMember},
    source::{History, Moment, RunningEtcd, failed},
};
use crate::{etcd_file, raft::Dial as _, server::Restore, tls::ClientDial};

/// How long the next change is waited for that has to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the other store may have gone on when all has been taken.
const TRIES: usize = 100;

/// Carries out the command; returns when the member is made.
pub fn migrate(flags: &MigrateFlags) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(flags))
}

async fn run(flags: &MigrateFlags) -> Result<(), Failure> {
    let new = NewMember::prepare(&flags.member)?;
    // With a certificate or without, as that etcd wants it.
    let channel = ClientDial::load(&new.config.peer_tls, false)?.dial(&flags.from)?;
    let source = RunningEtcd::connect(channel, flags.user.as_ref()).await?;
    let auth = source.auth_revision().await?;
    let backup = new.config.data_dir.with_extension("snapshot");
    source.snapshot(&backup).await?;
    let begun = new.begin()?;
    let mut copy = Copy::of(&begun, &backup)?;
    std::fs::remove_file(&backup)?;
    println!("copied up to revision {}", copy.last.main);
    let mut changes = source.changes(copy.last.main + 1).await?;
    copy.follow(&mut changes).await?;
    let moment = copy.take_rest(&source, &mut changes).await?;
    drop(changes);
    if source.auth_revision().await? != auth {
        return Err(Failure::Failed(
            "users or roles have changed meanwhile: begin again".to_owned(),
        ));
    }
    copy.settle_leases(&source).await?;
    let theirs = source.hash(moment.revision).await?;
    let ours = copy.end(&begun, moment, &theirs)?;
    if !flags.skip_hash_check {
        compare(&ours, &theirs)?;
    }
    begun.settle()?;
    println!(
        "migrated up to revision {}, hash {}, compacted {}",
        moment.revision, ours.hash, ours.compact_revision
    );
    Ok(())
}

fn compare(ours: &KvHash, theirs: &HashKvResponse) -> Result<(), Failure> {
    if (ours.hash, ours.compact_revision) == (theirs.hash, theirs.compact_revision) {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "the copy is not equal: hash {} with compaction at {}, and there {} with {}",
        ours.hash, ours.compact_revision, theirs.hash, theirs.compact_revision
    )))
}

/// The data of the other store, as far as it has come.
struct Copy {
    into: Restore<RocksRows>,
    /// The last change.
    last: Revision,
    /// More of the same response is to come.
    broken_off: bool,
    leases: BTreeSet<i64>,
}

impl Copy {
    /// What is in a snapshot.
    fn of(begun: &Begun<'_>, backup: &std::path::Path) -> Result<Self, Failure> {
        let backup = Backup::open(backup)?;
        backup.check_hash()?;
        let file = File::open(&backup).map_err(io::Error::other)?;
        let leases = etcd_file::lease_ids(&file)?;
        let mut into = begun.rows();
        etcd_file::read(&file, &mut into)?;
        let last = Revision::new(into.revision()?, 0);
        Ok(Self {
            into,
            last,
            broken_off: false,
            leases,
        })
    }

    /// Takes changes until a signal comes.
    async fn follow(&mut self, changes: &mut History) -> Result<(), Failure> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        println!("following; when writes have ended there, end this with SIGTERM or Ctrl-C");
        loop {
            tokio::select! {
                biased;
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                response = next(changes) => self.take(response?)?,
            }
        }
    }

    /// Takes what the other store has beyond, until it goes on no more.
    async fn take_rest(
        &mut self,
        source: &RunningEtcd,
        changes: &mut History,
    ) -> Result<Moment, Failure> {
        let mut moment = source.now().await?;
        for _ in 0..TRIES {
            while self.last.main < moment.revision || self.broken_off {
                let response = tokio::time::timeout(PATIENCE, next(changes)).await;
                let response = response.map_err(|_| {
                    Failure::Failed(format!(
                        "no change came after revision {}, and there it is {}",
                        self.last.main, moment.revision
                    ))
                })?;
                self.take(response?)?;
            }
            let newer = source.now().await?;
            if newer == moment {
                return Ok(moment);
            }
            moment = newer;
        }
        Err(Failure::Failed(
            "writes to the other store go on: stop them first".to_owned(),
        ))
    }

    fn take(&mut self, response: WatchResponse) -> Result<(), Failure> {
        if response.canceled {
            return Err(Failure::Failed(format!(
                "the other store ended the watch: {} (compacted up to {})",
                response.cancel_reason, response.compact_revision
            )));
        }
        self.broken_off = response.fragment;
        for event in response.events {
            self.change(event)?;
        }
        Ok(())
    }

    fn change(&mut self, event: Event) -> Result<(), Failure> {
        let put = event.r#type() == EventType::Put;
        let kv = event.kv.unwrap_or_default();
        let main = kv.mod_revision;
        let sub = match main == self.last.main {
            true => self.last.sub + 1,
            false => 0,
        };
        self.last = Revision::new(main, sub);
        if !put {
            return Ok(self.into.delete(self.last, kv.key)?);
        }
        // How long it is for is asked in the end.
        if kv.lease != 0 && self.leases.insert(kv.lease) {
            self.into.lease(kv.lease, lease(1))?;
        }
        Ok(self.into.put(self.last, kv)?)
    }

    /// Leases as they are now. Each has its whole time again, as after an election.
    async fn settle_leases(&mut self, source: &RunningEtcd) -> Result<(), Failure> {
        let mut gone = std::mem::take(&mut self.leases);
        for (id, ttl) in source.leases().await? {
            gone.remove(&id);
            self.into.lease(id, lease(ttl))?;
        }
        for id in gone {
            self.into.end_lease(id)?;
        }
        Ok(())
    }

    /// Makes it the store of the member; its hash.
    fn end(
        self,
        begun: &Begun<'_>,
        moment: Moment,
        theirs: &HashKvResponse,
    ) -> Result<KvHash, Failure> {
        let compacted = Some(theirs.compact_revision).filter(|revision| *revision > 0);
        // All members have to begin with the same position, whenever each was made.
        let position = (moment.term, moment.revision.unsigned_abs());
        begun.end(self.into, compacted, position)?;
        begun.hash(moment.revision)
    }
}

fn lease(ttl: i64) -> Lease {
    Lease { ttl, remaining: 0 }
}

async fn next(changes: &mut History) -> Result<WatchResponse, Failure> {
    let response = changes.message().await;
    let response = response.map_err(|status| failed("watch", &status))?;
    response.ok_or_else(|| Failure::Failed("the other store ended the watch".to_owned()))
}
