//! Members in one thread, on simulated disks, a network in memory and a clock
//! that moves when everybody waits, for as long as their power is on.

use hyper_util::rt::TokioIo;
use mizzen_sim::{
    Connection, Disk, Event, Flaw, Image, Network, Power, View, network::url, simulate,
};
use mizzen_wal as wal;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{future::BoxFuture, stream};
use mizzen_sim::MemEngine;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint, Server as Transport, Uri};

use crate::{
    raft::{Dial, GroupConfig, PeerNode, PeerService, Peers, Retention, hasty_rows},
    server::{DiskSpace, Server, ServerConfig, Storage},
    workers::Workers,
};

const CLUSTER: u64 = 0xc1;
pub const ELECTION_TIMEOUT: Duration = Duration::from_millis(300);
/// Small enough that a script of a few hundred entries fills several.
const SEGMENT_BYTES: u32 = 16 << 10;

#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub members: u64,
    pub seed: u64,
    pub flaw: Flaw,
}

impl Setup {
    /// Far more than a life takes, by the clock of the members. Those with a
    /// mistake may wait for ever for what they have lost.
    fn patience(&self) -> Duration {
        Duration::from_secs(if self.flaw == Flaw::None { 120 } else { 10 })
    }

    /// Disks on which nothing was ever written.
    pub fn empty(&self) -> Vec<Image> {
        (0..self.members)
            .map(|member| Image::empty(self.seed ^ member))
            .collect()
    }
}

/// One running member.
pub struct Member {
    pub server: Arc<Server<MemEngine>>,
    /// It has found that it cannot go on.
    pub failed: Arc<AtomicBool>,
}

/// How a life of the members ended.
pub struct Life<T> {
    /// What the body gave, or why a member refused to start; `None` if the
    /// power went off first.
    pub outcome: Option<io::Result<T>>,
    pub power: Power,
    pub images: Vec<Image>,
}

/// Starts members on `images` and runs `body`, until it ends or the power
/// goes off, which `event` may do before; in any case what was not synced is
/// lost then.
pub fn live<T>(
    setup: &Setup,
    images: Vec<Image>,
    event: Event,
    body: impl FnOnce(Vec<Member>) -> BoxFuture<'static, T>,
) -> Life<T> {
    hasty_rows(setup.flaw == Flaw::Hasty);
    let power = Power::new(event);
    // All are on the power before the first of them is used.
    let images = images.into_iter();
    let disks: Vec<Disk> = images
        .map(|image| power.attach(image, setup.flaw))
        .collect();
    let run = async {
        let members = start(setup, disks).await?;
        let ended = tokio::time::timeout(setup.patience(), body(members)).await;
        ended.map_err(|_| io::Error::other("the members do not get on"))
    };
    let (outcome, images) = simulate(async {
        let outcome = tokio::select! {
            biased;
            () = power.went_off() => None,
            outcome = run => Some(outcome),
        };
        // A disk that goes off makes whatever touches it fail.
        let outcome = outcome.filter(|_| !power.is_off());
        let seed = setup.seed.wrapping_mul(31).wrapping_add(power.steps());
        (outcome, power.images(seed))
    });
    Life {
        outcome,
        power,
        images,
    }
}

/// How fast a disk writes a log.
struct Pace {
    lots: StdRng,
    /// Whether it does not answer for a while, now and then.
    stalls: bool,
}

impl Pace {
    const WRITE: Duration = Duration::from_millis(1);
    const STALL: Duration = Duration::from_millis(20);
    const STALL_ONE_IN: u64 = 8;

    async fn write(mut self, log: Arc<wal::Wal>, disk: Disk) {
        while !disk.is_off() {
            let stalls = self.stalls && self.lots.random_range(0..Self::STALL_ONE_IN) == 0;
            tokio::time::sleep(if stalls { Self::STALL } else { Self::WRITE }).await;
            while log.step() {}
        }
    }
}

async fn start(setup: &Setup, disks: Vec<Disk>) -> io::Result<Vec<Member>> {
    let network = Network::default();
    let first: BTreeMap<_, _> = (1..=setup.members).map(|host| (host, node(host))).collect();
    let mut members = Vec::new();
    for (host, disk) in (1..).zip(disks) {
        let birth = Birth {
            host,
            id: host,
            first: first.clone(),
            seed: setup.seed,
            // Of several members one is behind the others.
            stalls: setup.members > 1 && host == 1,
        };
        members.push(birth.start(disk, &network).await?);
    }
    Ok(members)
}

impl Dial for View {
    fn dial(&self, peer_url: &str) -> io::Result<Channel> {
        let view = self.clone();
        let connect = move |uri: Uri| {
            let view = view.clone();
            async move {
                let connection = view.connect(uri.host().unwrap_or_default());
                connection.await.map(TokioIo::new)
            }
        };
        let endpoint = Endpoint::from_shared(peer_url.to_owned()).map_err(io::Error::other)?;
        Ok(endpoint.connect_with_connector_lazy(tower::service_fn(connect)))
    }
}

/// The first member on a host, as the others know it.
pub fn node(host: u64) -> PeerNode {
    PeerNode {
        peer_urls: vec![url(host)],
        name: format!("m{host}"),
    }
}

/// What a member is started with, beside its disk.
pub struct Birth {
    pub host: u64,
    pub id: u64,
    /// The members of a new cluster, this one among them.
    pub first: BTreeMap<u64, PeerNode>,
    pub seed: u64,
    /// Whether its disk does not answer for a while, now and then.
    pub stalls: bool,
}

impl Birth {
    pub async fn start(self, disk: Disk, network: &Network) -> io::Result<Member> {
        let id = self.id;
        let failed = Arc::new(AtomicBool::new(false));
        let seen = failed.clone();
        let options = wal::Options {
            segment_bytes: SEGMENT_BYTES,
            salt: Some(self.seed),
            execution: wal::Execution::Stepped,
            ..wal::Options::default()
        }
        .on_failure(move |_| seen.store(true, Ordering::SeqCst));
        let log = wal::Wal::open(Arc::new(disk.clone()), options);
        let (log, recovered) = log.map_err(io::Error::other)?;
        let log = Arc::new(log);
        let pace = Pace {
            lots: StdRng::seed_from_u64(self.seed ^ self.host),
            stalls: self.stalls,
        };
        tokio::spawn(pace.write(log.clone(), disk.clone()));
        let storage = Storage {
            engine: Arc::new(disk.rows()),
            wal: log,
            recovered,
        };
        let (connections, view) = network.attach(self.host);
        let seen = failed.clone();
        let server = Server::start(
            self.config(storage.recovered.last.is_none()),
            storage,
            Peers::new(Box::new(view), CLUSTER, id),
            move |_: &io::Error| seen.store(true, Ordering::SeqCst),
        )
        .await?;
        tokio::spawn(serve(connections, server.clone()));
        Ok(Member { server, failed })
    }

    fn config(self, is_first_life: bool) -> ServerConfig {
        ServerConfig {
            group: GroupConfig {
                id: self.id,
                cluster_id: CLUSTER,
                heartbeat: Duration::from_millis(30),
                election_timeout: ELECTION_TIMEOUT,
                retention: Retention {
                    snapshot_entries: Some(40),
                    catchup_entries: 20,
                },
                workers: Workers::Tasks,
            },
            auto_compaction: None,
            initial_members: if is_first_life {
                self.first
            } else {
                BTreeMap::new()
            },
            limits: mizzen_core::Limits { max_txn_ops: 128 },
            request_bytes: crate::limits::REQUEST_BYTES_MAX,
            budget: crate::server::Budget {
                replies: 128 << 20,
                reply: 64 << 20,
                proposals: 64 << 20,
                transport: 64 << 20,
            },
            rules: crate::server::Rules {
                strict: true,
                check_rows: None,
            },
            quota: None,
            disk: Arc::new(|| {
                Ok(DiskSpace {
                    total: 1 << 40,
                    free: 1 << 40,
                })
            }),
            auth: crate::auth::AuthConfig::default(),
        }
    }
}

async fn serve(connections: mpsc::Receiver<Connection>, server: Arc<Server<MemEngine>>) {
    let incoming = stream::unfold(connections, |mut connections| async move {
        connections.recv().await.map(|next| (next, connections))
    });
    let served = Transport::builder()
        .add_service(PeerService::server(server.group().clone()))
        .add_service(server.lease_service())
        .add_service(server.membership_service())
        .serve_with_incoming(incoming);
    // It ends with its listener.
    let _ = served.await;
}
