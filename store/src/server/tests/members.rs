//! Members in one thread, on simulated disks and a network in memory, for as
//! long as their power is on.

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
use hyper_util::rt::TokioIo;
use mizzen_engine::{MemEngine, MemOptions};
use parking_lot::Mutex;
use tokio::{io::DuplexStream, sync::mpsc};
use tonic::transport::{Channel, Endpoint, Server as Transport, Uri};

use super::power::{Disk, Event, Flaw, Image, Power};
use crate::{
    raft::{Dial, GroupConfig, PeerNode, PeerService, Peers, Retention, hasty_rows},
    server::{DiskSpace, MembershipService, Server, ServerConfig, Storage},
    wal,
};

const CLUSTER: u64 = 0xc1;
/// Small enough that a script of a few hundred entries fills several.
const SEGMENT_BYTES: u32 = 16 << 10;
const PIPE_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub members: u64,
    pub seed: u64,
    pub flaw: Flaw,
}

impl Setup {
    /// Far more than a life takes. Members with a mistake may wait for ever
    /// for what they have lost.
    fn patience(&self) -> Duration {
        Duration::from_secs(if self.flaw == Flaw::None { 120 } else { 10 })
    }

    /// Disks on which nothing was ever written.
    pub fn empty(&self) -> Vec<Image> {
        (0..self.members)
            .map(|member| Image {
                log: wal::MemFs::new(),
                rows: MemEngine::new(MemOptions {
                    seed: self.seed ^ member,
                    flush_one_in: 3,
                    cold_one_in: 0,
                }),
            })
            .collect()
    }
}

/// One running member.
pub struct Member {
    pub server: Arc<Server<MemEngine>>,
    /// It has found that it cannot go on.
    pub failed: Arc<AtomicBool>,
}

#[derive(Clone, Default)]
struct Network(Arc<Mutex<BTreeMap<String, mpsc::Sender<io::Result<DuplexStream>>>>>);

fn url(member: u64) -> String {
    format!("http://member-{member}")
}

impl Network {
    fn listen(&self, member: u64) -> mpsc::Receiver<io::Result<DuplexStream>> {
        let (sender, connections) = mpsc::channel(16);
        self.0.lock().insert(format!("member-{member}"), sender);
        connections
    }
}

impl Dial for Network {
    fn dial(&self, peer_url: &str) -> io::Result<Channel> {
        let network = self.clone();
        let connect = move |uri: Uri| {
            let network = network.clone();
            async move {
                let listener = network.0.lock().get(uri.host().unwrap_or("")).cloned();
                let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
                let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
                let listener = listener.ok_or_else(refused)?;
                listener.send(Ok(theirs)).await.map_err(|_| refused())?;
                Ok::<_, io::Error>(TokioIo::new(ours))
            }
        };
        let endpoint = Endpoint::from_shared(peer_url.to_owned()).map_err(io::Error::other)?;
        Ok(endpoint.connect_with_connector_lazy(tower::service_fn(connect)))
    }
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
    let disks = attach(setup, images, &power);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built");
    let run = async {
        let members = start(setup, disks).await?;
        let ended = tokio::time::timeout(setup.patience(), body(members)).await;
        ended.map_err(|_| io::Error::other("the members do not get on"))
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            biased;
            () = power.went_off() => None,
            outcome = run => Some(outcome),
        }
    });
    // A disk that goes off makes whatever touches it fail.
    let outcome = outcome.filter(|_| !power.is_off());
    let images = power.images(setup.seed.wrapping_mul(31).wrapping_add(power.steps()));
    runtime.shutdown_background();
    Life {
        outcome,
        power,
        images,
    }
}

/// Puts the members' disks on the power, all before the first of them is used.
fn attach(setup: &Setup, images: Vec<Image>, power: &Power) -> Vec<Disk> {
    // The first member's disk is slow, so that the others are ahead of it.
    let stall = |member| match (setup.members, member, setup.flaw) {
        (1, ..) | (_, 1.., _) => None,
        (_, _, Flaw::Hasty) => Some(Duration::from_millis(300)),
        _ => Some(Duration::from_millis(20)),
    };
    let images = images.into_iter().enumerate();
    images
        .map(|(member, image)| power.attach(image, setup.flaw, stall(member)))
        .collect()
}

async fn start(setup: &Setup, disks: Vec<Disk>) -> io::Result<Vec<Member>> {
    let network = Network::default();
    let mut members = Vec::new();
    for (id, disk) in (1..).zip(disks) {
        let rows = Arc::new(disk.rows());
        let options = wal::Options {
            segment_bytes: SEGMENT_BYTES,
            salt: Some(setup.seed),
            ..wal::Options::default()
        };
        let failed = Arc::new(AtomicBool::new(false));
        let seen = failed.clone();
        let options = options.on_failure(move |_| seen.store(true, Ordering::SeqCst));
        let (log, recovered) = wal::Wal::open(Arc::new(disk), options).map_err(io::Error::other)?;
        let first = recovered.last.is_none();
        let storage = Storage {
            engine: rows,
            wal: Arc::new(log),
            recovered,
        };
        let seen = failed.clone();
        let server = Server::start(
            config(setup, id, first),
            storage,
            Peers::new(Box::new(network.clone()), CLUSTER),
            move |_: &io::Error| seen.store(true, Ordering::SeqCst),
        )
        .await?;
        tokio::spawn(serve(network.listen(id), server.clone()));
        members.push(Member { server, failed });
    }
    Ok(members)
}

fn config(setup: &Setup, id: u64, first: bool) -> ServerConfig {
    let node = |member| PeerNode {
        peer_urls: vec![url(member)],
        name: format!("m{member}"),
    };
    let initial_members = (1..=setup.members)
        .filter(|_| first)
        .map(|member| (member, node(member)))
        .collect();
    ServerConfig {
        group: GroupConfig {
            id,
            cluster_id: CLUSTER,
            heartbeat: Duration::from_millis(30),
            election_timeout: Duration::from_millis(300),
            retention: Retention {
                snapshot_entries: Some(40),
                catchup_entries: 20,
            },
        },
        initial_members,
        limits: mizzen_core::Limits { max_txn_ops: 128 },
        request_bytes: crate::limits::REQUEST_BYTES,
        strict_reconfig: true,
        quota: None,
        disk: Arc::new(|| {
            Ok(DiskSpace {
                total: 1 << 40,
                free: 1 << 40,
            })
        }),
    }
}

async fn serve(
    connections: mpsc::Receiver<io::Result<DuplexStream>>,
    server: Arc<Server<MemEngine>>,
) {
    let incoming = stream::unfold(connections, |mut connections| async move {
        connections.recv().await.map(|next| (next, connections))
    });
    let served = Transport::builder()
        .add_service(PeerService::server(server.group().clone()))
        .add_service(server.lease_service())
        .add_service(MembershipService::server(server))
        .serve_with_incoming(incoming);
    // It ends with its listener.
    let _ = served.await;
}
