//! The executable: one member of a cluster, with etcd's flags.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    process::ExitCode,
    sync::Arc,
};

use mizzen_engine::{Engine, EngineOptions, RocksRows};
use mizzen_store::{
    config::{self, Config},
    grpc::{self, Front, Listener},
    limits, logging,
    member_dir::{Identity, MemberDir},
    raft::{GroupConfig, PeerNode, PeerService, Peers, PlainDial, Retention},
    server::{Attributes, Server, ServerConfig, Storage},
    version, wal,
};
use tokio::sync::{mpsc, watch};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config = match config::parse(std::env::args_os().skip(1), std::env::vars_os()) {
        Ok(config::Parsed::Run(config)) => config,
        Ok(config::Parsed::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(error.exit_code());
        }
    };
    if let Err(error) = logging::init(&config) {
        eprintln!("mizzen: {error}");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(limits::BLOCKING_THREADS)
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(*config)),
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the member has stopped");
            ExitCode::FAILURE
        }
    }
}

/// Runs the member until a signal or a failure ends it.
async fn run(config: Config) -> io::Result<()> {
    for notice in &config.notices {
        notice.log();
    }
    let (failed, mut failures) = mpsc::channel(1);
    let fail = move |error: &io::Error| {
        // Only the first reason counts, and it is the one that fits.
        let _ = failed.try_send(error.to_string());
    };
    let peer_listeners = bind(&config.listen_peer_urls).await?;
    let client_listeners = bind(&config.listen_client_urls).await?;
    let (identity, storage) = open(&config, fail.clone())?;
    let (stop, stopping) = watch::channel(false);
    let group_config = GroupConfig {
        id: identity.member_id,
        cluster_id: identity.cluster_id,
        heartbeat: config.heartbeat_interval,
        election_timeout: config.election_timeout,
        retention: Retention {
            snapshot_entries: config.snapshot_count,
            catchup_entries: config.snapshot_catchup_entries,
        },
    };
    let peers = Peers::new(Box::new(PlainDial), identity.cluster_id);
    let server_config = ServerConfig {
        group: group_config,
        initial_members: config
            .identity
            .members
            .iter()
            .map(|member| {
                (
                    member.id,
                    PeerNode {
                        peer_urls: member.peer_urls.clone(),
                    },
                )
            })
            .collect(),
        limits: mizzen_core::Limits {
            max_txn_ops: config.max_txn_ops,
        },
        request_bytes: config.max_request_bytes,
    };
    let server = Server::start(server_config, storage, peers, fail).await?;
    let peer_service = tonic::service::Routes::new(PeerService::server(server.group().clone()));
    let mut listening = Vec::new();
    for listener in peer_listeners {
        let routes = peer_service.clone();
        let answer = move |request| tower::ServiceExt::oneshot(routes.clone(), request);
        listening.push(tokio::spawn(grpc::serve(
            listener,
            limits::STREAMS_PER_CONNECTION,
            answer,
            stopping.clone(),
        )));
    }
    tracing::info!(
        name = %config.name,
        member_id = %format_args!("{:x}", identity.member_id),
        cluster_id = %format_args!("{:x}", identity.cluster_id),
        version = version::MIZZEN,
        "started; waiting for a quorum"
    );

    let mut signals = Signals::new()?;
    let early = tokio::select! {
        ready = server.ready() => ready.map(|()| None).map_err(io::Error::other)?,
        signal = signals.next() => Some(signal),
        reason = failures.recv() => return Err(io::Error::other(reason.unwrap_or_default())),
        reason = server.stopped() => return Err(io::Error::other(reason)),
    };
    if early.is_none() {
        let front = Front::new(server.clone(), config.max_request_bytes);
        for listener in client_listeners {
            let front = front.clone();
            let answer = move |request| front.clone().answer(request);
            listening.push(tokio::spawn(grpc::serve(
                listener,
                config.max_concurrent_streams,
                answer,
                stopping.clone(),
            )));
        }
        tokio::spawn(announce(
            server.clone(),
            config.name.clone(),
            config.advertise_client_urls.clone(),
        ));
        tracing::info!("ready to serve client requests");
    }
    let signal = match early {
        Some(signal) => signal,
        None => tokio::select! {
            signal = signals.next() => signal,
            reason = failures.recv() => return Err(io::Error::other(reason.unwrap_or_default())),
            reason = server.stopped() => return Err(io::Error::other(reason)),
        },
    };
    tracing::info!(signal, "stopping");
    // Nobody may be listening any more.
    let _ = stop.send(true);
    for listener in listening {
        listener.await.map_err(io::Error::other)?;
    }
    server.stop().await?;
    tracing::info!("stopped");
    Ok(())
}

async fn announce<E: Engine>(server: Arc<Server<E>>, name: String, client_urls: Vec<String>) {
    let member = server.group().id();
    if let Err(error) = server
        .announce(Attributes {
            member,
            name,
            client_urls,
        })
        .await
    {
        tracing::warn!(%error, "the cluster was not told this member's name and client URLs");
    }
}

/// Opens log and rows, or says why they cannot be trusted.
fn open(
    config: &Config,
    fail: impl Fn(&io::Error) + Send + Sync + 'static,
) -> io::Result<(Identity, Storage<RocksRows>)> {
    config::check_data_dir(&config.data_dir).map_err(io::Error::other)?;
    if let Some(wal_dir) = &config.wal_dir {
        config::check_wal_dir(wal_dir).map_err(io::Error::other)?;
    }
    let Config { identity, .. } = config;
    let member = MemberDir::open(
        &config.data_dir,
        Identity {
            member_id: identity.member_id,
            cluster_id: identity.cluster_id,
        },
    )?;
    // The rows are locked against another process, and with them the log.
    let engine =
        RocksRows::open(&member.rows(), &EngineOptions::default()).map_err(io::Error::other)?;
    let log = wal::RealFs::open(config.wal_dir.clone().unwrap_or_else(|| member.raft_log()))?;
    let options =
        wal::Options::default().on_failure(move |error| fail(&io::Error::other(error.to_string())));
    let (wal, recovered) = wal::Wal::open(Arc::new(log), options).map_err(io::Error::other)?;
    if recovered.created && !member.created {
        return Err(io::Error::other(
            "the raft log of this member is gone: it cannot take part any more under its id",
        ));
    }
    Ok((
        member.identity,
        Storage {
            engine: Arc::new(engine),
            wal: Arc::new(wal),
            recovered,
        },
    ))
}

async fn bind(urls: &[config::Url]) -> io::Result<Vec<Listener>> {
    let mut listeners = Vec::with_capacity(urls.len());
    for url in urls {
        listeners.push(Listener::bind(address(url)?).await?);
    }
    Ok(listeners)
}

fn address(url: &config::Url) -> io::Result<SocketAddr> {
    let host = url.host_and_port();
    let mut addresses = host
        .to_socket_addrs()
        .map_err(|error| io::Error::new(error.kind(), format!("{host}: {error}")))?;
    addresses
        .next()
        .ok_or_else(|| io::Error::other(format!("{host} has no address")))
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "terminated",
            _ = self.interrupt.recv() => "interrupt",
        }
    }
}
