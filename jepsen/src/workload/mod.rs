//! Workloads: what clients ask. Each writes below its own prefix and gives
//! every written value a name used only once, so that a value seen anywhere
//! points back to the one operation that wrote it.
//!
//! Workloads choose requests; they judge nothing.

pub mod append;
pub mod auth;
pub mod compaction;
pub mod history_reads;
pub mod kubernetes;
pub mod leases;
pub mod lock;
pub mod objects;
pub mod read_write;
pub mod register;
pub mod set;
pub mod watching;

use crate::client::{Bench, Client, Holder};
use crate::history::op::{
    FailClass, Load, Outcome, RangeReq, Reply, Request, TxnOp, TxnOpReply, TxnReq,
};
use anyhow::Result;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// A client whose connection was refused waits this long.
const REFUSED: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Register,
    Set,
    Append,
    ReadWrite,
    History,
    Lease,
    Lock,
    /// Expected to lose what it writes.
    LockUnsafe,
    Watch,
    Kubernetes,
    /// Users, roles and permissions, with authentication.
    Auth,
    /// Objects of the resource API, through servers of their own.
    Objects,
    /// All of them but the locks, users and objects, and compactions.
    Mixed,
}

const NAMES: [(Kind, &str); 13] = [
    (Kind::Register, "register"),
    (Kind::Set, "set"),
    (Kind::Append, "append"),
    (Kind::ReadWrite, "readwrite"),
    (Kind::History, "history"),
    (Kind::Lease, "lease"),
    (Kind::Lock, "lock"),
    (Kind::LockUnsafe, "lock-unsafe"),
    (Kind::Watch, "watch"),
    (Kind::Kubernetes, "kubernetes"),
    (Kind::Auth, "auth"),
    (Kind::Objects, "objects"),
    (Kind::Mixed, "mixed"),
];

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(s: &str) -> Result<Kind, String> {
        let found = NAMES.iter().find(|(_, name)| *name == s).map(|(k, _)| *k);
        found.ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(_, name)| *name).collect();
            format!("one of {}", names.join(", "))
        })
    }
}

impl Kind {
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(k, _)| *k == self)
            .map_or("?", |(_, name)| name)
    }

    /// Flags that the members take for this workload.
    pub fn server_args(self) -> Vec<String> {
        match self {
            // Passwords change all the time.
            Kind::Auth => vec!["--bcrypt-cost=4".into()],
            _ => Vec::new(),
        }
    }

    /// True when revisions are compacted away during the run.
    pub fn compacts(self) -> bool {
        matches!(
            self,
            Kind::Mixed | Kind::History | Kind::Watch | Kind::Kubernetes
        )
    }
}

/// Which of so many servers a client asks. Clients that do the same are every
/// second or every third one: they ask different ones all the same.
fn spread(id: u32, servers: usize) -> usize {
    let id = id as usize;
    (id + id / servers.max(1)) % servers.max(1)
}

/// Counters by which the clients of a run agree on the keys in use.
pub struct Shared {
    pub seed: u64,
    pub registers: register::Keys,
    pub set_epoch: AtomicU64,
    pub append_epoch: AtomicU64,
    pub lock_epoch: AtomicU64,
    pub tenants: Mutex<Vec<auth::Tenant>>,
    /// The highest revision that was compacted.
    pub floor: AtomicI64,
}

impl Shared {
    pub fn new(seed: u64, clients: u32) -> Shared {
        Shared {
            seed,
            registers: register::Keys::new(clients),
            set_epoch: AtomicU64::new(0),
            append_epoch: AtomicU64::new(0),
            lock_epoch: AtomicU64::new(0),
            tenants: Mutex::default(),
            floor: AtomicI64::new(0),
        }
    }
}

/// One client with its choices.
pub struct Actor {
    pub client: Client,
    pub rng: StdRng,
    pub shared: Arc<Shared>,
    written: u64,
    leases: i64,
    /// The lease of this client's events.
    event_lease: Option<i64>,
    refused: bool,
    /// Whose rights this client changes, or whose user it is.
    tenant: Option<auth::Tenant>,
}

impl Actor {
    pub fn new(bench: &Arc<Bench>, shared: &Arc<Shared>, id: u32, holder: Holder) -> Result<Actor> {
        let member = spread(id, bench.view.members());
        Ok(Actor {
            client: Client::of(bench, id, member, holder)?,
            rng: crate::seed::stream(shared.seed, "client", u64::from(id)),
            shared: Arc::clone(shared),
            written: 0,
            leases: 0,
            event_lease: None,
            refused: false,
            tenant: None,
        })
    }

    /// A value nobody else writes and this client never writes again.
    pub fn unique(&mut self) -> String {
        self.written += 1;
        format!("{}.{}", self.client.id, self.written)
    }

    pub async fn call(&mut self, load: Load, req: Request) -> Option<Reply> {
        self.call_at(load, req).await.map(|(_, reply)| reply)
    }

    /// The same, with the revision in the reply's header.
    pub async fn call_at(&mut self, load: Load, req: Request) -> Option<(i64, Reply)> {
        match self.client.call(load, req).await {
            Outcome::Ok { rev, reply } => Some((rev, reply)),
            Outcome::Fail { class, .. } => {
                self.refused |= class == FailClass::Refused;
                None
            }
            Outcome::Unknown { .. } => None,
        }
    }

    /// A range, by itself or as the only operation of a transaction.
    pub async fn read(
        &mut self,
        load: Load,
        range: RangeReq,
    ) -> Option<crate::history::op::RangeReply> {
        if !range.serializable && range.rev == 0 && self.rng.random_ratio(1, 8) {
            let txn = TxnReq {
                then: vec![TxnOp::Range(range)],
                ..TxnReq::default()
            };
            return match self.call(load, Request::Txn(txn)).await? {
                Reply::Txn(t) => t.replies.into_iter().find_map(|r| match r {
                    TxnOpReply::Range(r) => Some(r),
                    _ => None,
                }),
                _ => None,
            };
        }
        match self.call(load, Request::Range(range)).await? {
            Reply::Range(r) => Some(r),
            _ => None,
        }
    }

    async fn step(&mut self, kind: Kind) {
        match kind {
            Kind::Register => register::step(self).await,
            Kind::Set => set::step(self).await,
            Kind::Append => append::step(self).await,
            Kind::ReadWrite => read_write::step(self).await,
            Kind::History => match self.rng.random_range(0..3u8) {
                0 => read_write::step(self).await,
                _ => history_reads::step(self).await,
            },
            Kind::Lease => leases::step(self).await,
            Kind::Lock => lock::step(self, true).await,
            Kind::LockUnsafe => lock::step(self, false).await,
            // One client in three watches, the others write what is watched.
            Kind::Watch if self.client.id % 3 == 2 => watching::step(self).await,
            Kind::Watch => match self.rng.random_range(0..8u8) {
                0 => leases::step(self).await,
                1..4 => read_write::step(self).await,
                _ => register::step(self).await,
            },
            Kind::Kubernetes => kubernetes::step(self).await,
            Kind::Auth if auth::administers(self.client.id) => auth::administer(self).await,
            Kind::Auth => auth::step(self).await,
            // Clients of another kind do that.
            Kind::Objects => sleep(REFUSED).await,
            // Leases and watches take seconds: a few clients do nothing else.
            Kind::Mixed if self.client.id % 6 == 4 => leases::step(self).await,
            Kind::Mixed if self.client.id % 6 == 5 => match self.rng.random_range(0..8u8) {
                0 => watching::step(self).await,
                _ => kubernetes::step(self).await,
            },
            Kind::Mixed => match self.rng.random_range(0..20u8) {
                0..9 => register::step(self).await,
                9..12 => set::step(self).await,
                12..15 => append::step(self).await,
                15..18 => read_write::step(self).await,
                _ => history_reads::step(self).await,
            },
        }
    }

    /// Works until told to stop, with at least `pace` from step to step.
    pub async fn run(
        mut self,
        kind: Kind,
        pace: Option<Duration>,
        stop: Arc<std::sync::atomic::AtomicBool>,
    ) {
        let mut due = Instant::now();
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            self.step(kind).await;
            if std::mem::take(&mut self.refused) {
                sleep(REFUSED).await;
            }
            if let Some(pace) = pace {
                due = (due + pace).max(Instant::now());
                sleep_until(due).await;
            }
        }
    }
}
