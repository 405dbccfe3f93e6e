//! One member of a cluster as a process, with etcd's flags: puts the parts
//! together.
//!
//! In the library, so that whatever is an executable of it is only linked.

mod listeners;
mod opening;

use std::{collections::BTreeMap, ffi::OsStr, io, process::ExitCode, sync::Arc};

use mizzen_descriptors::Places;
use mizzen_engine::{Engine, EngineOptions, RocksRows};
use mizzen_wal as wal;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use crate::{
    auth::{self, TokenOptions},
    config::{self, AutoCompaction, Config, Discovery, InitialClusterState},
    descriptors::Descriptors,
    first_start,
    grpc::{Backend, Calls, Front, NoPages, OnlyPages, Pages, Remote},
    http::{BrowserAccess, Expiries, Shared, Site},
    limits, listen, logging,
    member_dir::{self, Identity, MemberDir},
    memory,
    raft::{Dial, GroupConfig, PeerNode, PeerService, Peers, Retention},
    server::{self, Attributes, DiskSpace, Kept, LookAtDisk, Rules, Server, ServerConfig, Storage},
    snapshot,
    tls::{self, ClientDial, Credentials, PeerDial},
    url, version,
    workers::{self, Owner, Workers},
};
use listeners::{bind_clients, bind_peers};
use opening::Parts;

/// Runs the member that arguments and environment describe until a signal or a
/// failure ends it. `level` is the highest level of features it may use, from 1
/// to [`server::NEWEST_LEVEL`].
pub fn run(level: u32) -> ExitCode {
    server::use_level(level);
    let arguments = std::env::args_os().skip(2);
    match std::env::args_os()
        .nth(1)
        .as_deref()
        .and_then(OsStr::to_str)
    {
        Some("snapshot") => return snapshot::run(arguments),
        Some("migrate") => return snapshot::migrate(arguments),
        _ => {}
    }
    #[cfg(feature = "planted")]
    if let Ok(bug) = std::env::var("MIZZEN_PLANTED") {
        mizzen_planted::plant(bug);
    }
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
    let descriptors = match descriptors() {
        Ok(descriptors) => descriptors,
        Err(error) => {
            tracing::error!(%error, "the member cannot start");
            return ExitCode::FAILURE;
        }
    };
    workers::log_panics();
    match run_apart(*config, descriptors) {
        Ok(()) => {
            if !mizzen_engine::wait_closed(limits::CLOSE_LIMIT) {
                tracing::warn!("the rows are still open");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(%error, "the member has stopped");
            ExitCode::FAILURE
        }
    }
}

/// As much memory as is good for speed, or less where there is little.
fn row_options(share: memory::RowsShare, max_open_files: u16) -> EngineOptions {
    let most = EngineOptions::default();
    EngineOptions {
        cache_bytes: most.cache_bytes.min(share.cache),
        write_buffer_bytes: most.write_buffer_bytes.min(share.write_buffer),
        max_open_files,
        ..most
    }
}

/// Raises the limit of open files as far as it may be, and shares it out.
fn descriptors() -> Result<Descriptors, String> {
    let limit = mizzen_descriptors::raise()
        .map_err(|error| format!("cannot raise the limit of open files: {error}"))?;
    Descriptors::share(limit, EngineOptions::default().max_open_files)
}

/// Runs what the members say to each other on this thread, and what clients
/// ask on threads of their own. An entry of the log is many small steps one
/// after the other; on several threads each would wake the next one.
fn run_apart(config: Config, descriptors: Descriptors) -> io::Result<()> {
    let clients = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("clients")
        .max_blocking_threads(limits::BLOCKING_THREADS)
        .build()?;
    let group = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(limits::BLOCKING_THREADS)
        .build()?;
    group.block_on(serve(config, descriptors, clients.handle()))
}

/// What a member stops for when it is one no longer.
const REMOVED: &str = "removed from the cluster";

/// Runs the member until a signal or a failure ends it.
async fn serve(mut config: Config, descriptors: Descriptors, clients: &Handle) -> io::Result<()> {
    for notice in &config.notices {
        notice.log();
    }
    let (failed, mut failures) = mpsc::channel(1);
    let fail = move |error: &io::Error| {
        // Only the first reason counts, and it is the one that fits.
        let _ = failed.try_send(error.to_string());
    };
    let owner = Owner::new(fail.clone());
    tell_settings(&config);
    private_files(&config)?;
    tracing::info!(
        descriptors = descriptors.limit,
        client_connections = descriptors.clients,
        peer_connections = descriptors.peers,
        open_files_of_rows = descriptors.rows,
        "budgets"
    );
    let fixtures = config.data_dir.join("fixtures");
    let peer_tls = Credentials::load(tls::PEER, config.peer_tls.clone(), &fixtures)?;
    let client_tls = Credentials::load(tls::CLIENT, config.client_tls.clone(), &fixtures)?;
    for credentials in peer_tls.iter().chain(&client_tls) {
        let watching = Credentials::watch(Arc::downgrade(credentials));
        owner.spawn_on(clients, "watching certificates", watching);
    }
    let places = Places::new(descriptors.peers);
    let peer_listeners = bind_peers(
        &config.listen_peer_urls,
        peer_tls.as_ref(),
        &places,
        clients,
    )
    .await?;
    let places = Places::new(descriptors.clients);
    let client_listeners =
        bind_clients(&config.listen_client_urls, client_tls.as_ref(), &places).await?;
    let http_listeners = bind_clients(
        &config.listen_client_http_urls,
        client_tls.as_ref(),
        &places,
    )
    .await?;
    let places = Places::new(descriptors.metrics);
    let metrics_listeners =
        bind_clients(&config.listen_metrics_urls, client_tls.as_ref(), &places).await?;
    let certificates = [(tls::CLIENT, client_tls), (tls::PEER, peer_tls.clone())];
    let expiries: Expiries = Box::new(move || {
        let shown = certificates.iter();
        shown
            .filter_map(|(kind, credentials)| Some((*kind, credentials.as_ref()?.expires())))
            .collect()
    });
    let dial = PeerDial {
        credentials: peer_tls,
    };
    let memory = memory::available();
    let rows = row_options(memory::rows(memory), descriptors.rows);
    let (identity, mut storage) = open(&mut config, &dial, &rows, fail.clone()).await?;
    if config.force_new_cluster && storage.recovered.last.is_some() {
        let urls = config.initial_advertise_peer_urls.clone();
        server::force_new_cluster(&mut storage, identity.member_id, urls).await?;
        tracing::warn!("this member is the only one of its cluster from here on");
    }
    let budget = memory::budget(memory);
    tracing::info!(
        memory_bytes = memory,
        replies_bytes = budget.replies,
        reply_bytes = budget.reply,
        proposals_bytes = budget.proposals,
        transport_bytes = budget.transport,
        "memory for clients"
    );
    let (stop, stopping) = watch::channel(false);
    let (stop_peers, peers_stopping) = watch::channel(false);
    let server_config = ServerConfig {
        group: GroupConfig {
            id: identity.member_id,
            cluster_id: identity.cluster_id,
            heartbeat: config.heartbeat_interval,
            election_timeout: config.election_timeout,
            retention: Retention {
                snapshot_entries: config.snapshot_count,
                catchup_entries: config.snapshot_catchup_entries,
            },
            workers: Workers::Threads,
        },
        initial_members: initial_members(&config, identity, &storage)?,
        limits: mizzen_core::Limits {
            max_txn_ops: config.max_txn_ops,
        },
        request_bytes: config.max_request_bytes,
        budget,
        rules: Rules {
            strict: config.strict_reconfig_check,
            check_rows: config.corrupt_check_interval,
        },
        quota: config.quota_backend_bytes,
        disk: look_at_disk(&config),
        auth: authentication(&config)?,
        auto_compaction: config.auto_compaction.map(kept),
    };
    let peers = Peers::new(Box::new(dial), identity.cluster_id, identity.member_id);
    let server = Server::start(server_config, storage, peers, fail).await?;
    let peer_service = tonic::service::Routes::new(PeerService::server(server.group().clone()))
        .add_service(server.lease_service())
        .add_service(server.membership_service());
    let (mut listening, mut listening_to_peers) = (Vec::new(), Vec::new());
    for listener in peer_listeners {
        let routes = peer_service.clone();
        let traffic = server.group().traffic().clone();
        let answer = move |request| {
            let (routes, traffic) = (routes.clone(), traffic.clone());
            async move {
                let answer = |request| tower::ServiceExt::oneshot(routes, request);
                traffic.serve(request, answer).await
            }
        };
        let serving = listen::serve_peers(listener, answer, peers_stopping.clone());
        listening_to_peers.push(owner.spawn_on(&Handle::current(), "listening to peers", serving));
    }
    let calls = Calls::for_the_process(config.extensive_metrics, config.slow_call);
    let mut transport = listen::transport(config.max_concurrent_streams, budget.transport);
    transport.keepalive_interval = config.keepalive_interval;
    transport.keepalive_timeout = config.keepalive_timeout;
    let shared = Shared::new(calls, expiries, Box::new(listen::stopped(&transport)));
    // What clients use up is not the probes'.
    let probing = listen::transport(limits::STREAMS_PER_CONNECTION, limits::PROBES_BYTES);
    for listener in metrics_listeners {
        let site = Site::for_metrics(server.clone(), shared.clone());
        let pages: Arc<dyn Pages> = Arc::new(site);
        let serving = listen::serve_clients(
            listener,
            probing.clone(),
            |_: &tls::PeerCertificates| Remote::default(),
            {
                let pages = pages.clone();
                move |remote: &Remote| OnlyPages::of(pages.clone(), remote.clone())
            },
            pages,
            stopping.clone(),
        );
        listening.push(owner.spawn_on(clients, "listening for probes", serving));
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
        biased;
        signal = signals.next() => Some(signal),
        () = server.removed() => Some(REMOVED),
        // What has failed says why better than the group that stops for it.
        reason = failures.recv() => return Err(io::Error::other(reason.unwrap_or_default())),
        reason = server.stopped() => return Err(io::Error::other(reason)),
        ready = ready(&server, &config) => ready.map(|()| None)?,
    };
    if early.is_none() {
        let backend = Backend::new(
            server.clone(),
            calls,
            config.max_request_bytes,
            config.watch_progress_interval,
            transport.budget.clone(),
        );
        let access = BrowserAccess::new(&config.cors, &config.host_whitelist);
        let gateway = config.grpc_gateway.then(|| backend.clone());
        let site = Site::for_clients(server.clone(), shared, access, gateway);
        let pages: Arc<dyn Pages> = Arc::new(site);
        let users = config.client_tls.client_cert_auth;
        let remote = move |session: &tls::PeerCertificates| Remote {
            secure: session.is_secure(),
            common_name: session.common_name.clone().filter(|_| users),
        };
        let split = !http_listeners.is_empty();
        for listener in http_listeners {
            listener.tell("http");
            let only = pages.clone();
            let serving = listen::serve_clients(
                listener,
                transport.clone(),
                remote,
                move |remote: &Remote| OnlyPages::of(only.clone(), remote.clone()),
                pages.clone(),
                stopping.clone(),
            );
            listening.push(owner.spawn_on(clients, "listening for HTTP", serving));
        }
        let pages: Arc<dyn Pages> = match split {
            true => Arc::new(NoPages),
            false => pages,
        };
        let front = Front::new(backend, pages.clone());
        for listener in client_listeners {
            listener.tell(if split { "grpc" } else { "grpc+http" });
            let front = front.clone();
            let serving = listen::serve_clients(
                listener,
                transport.clone(),
                remote,
                move |remote: &Remote| front.of(remote),
                pages.clone(),
                stopping.clone(),
            );
            listening.push(owner.spawn_on(clients, "listening to clients", serving));
        }
        tracing::info!("ready to serve client requests");
    }
    let signal = match early {
        Some(signal) => signal,
        None => tokio::select! {
            biased;
            signal = signals.next() => signal,
            () = server.removed() => REMOVED,
            reason = failures.recv() => return Err(io::Error::other(reason.unwrap_or_default())),
            reason = server.stopped() => return Err(io::Error::other(reason)),
        },
    };
    if signal == REMOVED {
        tracing::warn!(
            member_id = %format_args!("{:x}", identity.member_id),
            "the member has been permanently removed from the cluster; its data directory can be deleted"
        );
    }
    tracing::info!(signal, "stopping");
    owner.stop();
    server.hand_over().await;
    server.end_streams();
    // Clients' last requests are answered when they are applied here, for which
    // this member must still hear of the leader.
    for (stop, listening) in [(stop, listening), (stop_peers, listening_to_peers)] {
        // Nobody may be listening any more.
        let _ = stop.send(true);
        for listener in listening {
            listener.await.map_err(io::Error::other)?;
        }
    }
    server.stop().await?;
    tracing::info!("stopped");
    Ok(())
}

/// What is logged of the settings, under etcd's names.
fn tell_settings(config: &Config) {
    tracing::info!(
        etcd_version = version::ETCD,
        version = version::MIZZEN,
        name = config.name,
        data_dir = %config.data_dir.display(),
        wal_dir = ?config.wal_dir,
        force_new_cluster = config.force_new_cluster,
        heartbeat_interval = ?config.heartbeat_interval,
        election_timeout = ?config.election_timeout,
        snapshot_count = ?config.snapshot_count,
        snapshot_catchup_entries = config.snapshot_catchup_entries,
        initial_advertise_peer_urls = ?config.initial_advertise_peer_urls,
        listen_peer_urls = %url::join(&config.listen_peer_urls),
        advertise_client_urls = ?config.advertise_client_urls,
        listen_client_urls = %url::join(&config.listen_client_urls),
        listen_client_http_urls = %url::join(&config.listen_client_http_urls),
        listen_metrics_urls = %url::join(&config.listen_metrics_urls),
        initial_cluster_state = ?config.initial_cluster_state,
        quota_backend_bytes = config.quota_backend_bytes,
        max_request_bytes = config.max_request_bytes,
        max_concurrent_streams = config.max_concurrent_streams,
        initial_corrupt_check = config.initial_corrupt_check,
        corrupt_check_time_interval = ?config.corrupt_check_interval,
        auto_compaction = ?config.auto_compaction,
        // There is nothing of etcd's API of version 2 here.
        v2_deprecation = "write-only",
        "starting an etcd server"
    );
}

/// Waits until this member may serve clients, and has told the cluster how.
async fn ready<E: Engine>(server: &Server<E>, config: &Config) -> io::Result<()> {
    server.ready().await.map_err(io::Error::other)?;
    if config.initial_corrupt_check {
        server.check_with_peers().await.map_err(io::Error::other)?;
    }
    let attributes = Attributes {
        member: server.group().id(),
        name: config.name.clone(),
        client_urls: config.advertise_client_urls.clone(),
    };
    if let Err(error) = server.announce(attributes).await {
        tracing::warn!(%error, "the cluster was not told this member's name and client URLs");
    }
    server.voting().await;
    // Some ask for it at once, to decide what the cluster can do.
    if tokio::time::timeout(limits::VERSION_WAIT, server.version_decided())
        .await
        .is_err()
    {
        tracing::warn!("the cluster has no version yet: not all members are there");
    }
    Ok(())
}

/// What stays of the past.
fn kept(compaction: AutoCompaction) -> Kept {
    match compaction {
        AutoCompaction::Periodic(age) => Kept::Age(age),
        AutoCompaction::Revision(revisions) => Kept::Revisions(revisions),
    }
}

/// How clients are known, in etcd's words where it has a warning.
fn authentication(config: &Config) -> io::Result<auth::AuthConfig> {
    let tokens = TokenOptions::parse(&config.auth_token).map_err(io::Error::other)?;
    let default = auth::AuthConfig::default();
    let bcrypt_cost = auth::bcrypt_cost(config.bcrypt_cost).unwrap_or_else(|| {
        tracing::warn!(
            given_cost = config.bcrypt_cost,
            default_cost = default.bcrypt_cost,
            "use default bcrypt cost instead of the invalid given cost"
        );
        default.bcrypt_cost
    });
    Ok(auth::AuthConfig {
        tokens,
        // As in etcd, 0 is the default.
        token_ttl: match config.auth_token_ttl.is_zero() {
            true => default.token_ttl,
            false => config.auth_token_ttl,
        },
        bcrypt_cost,
    })
}

/// Looks at the disks of rows and log.
fn look_at_disk(config: &Config) -> LookAtDisk {
    let mut dirs = vec![config.data_dir.clone()];
    dirs.extend(config.wal_dir.clone());
    Arc::new(move || {
        let spaces = dirs.iter().map(|dir| {
            let disk = rustix::fs::statvfs(dir)?;
            Ok(DiskSpace {
                free: disk.f_bavail.saturating_mul(disk.f_frsize),
                total: disk.f_blocks.saturating_mul(disk.f_frsize),
            })
        });
        let spaces = spaces.collect::<io::Result<Vec<_>>>()?;
        let least = spaces.into_iter().min_by_key(|space| space.free);
        least.ok_or_else(|| io::Error::other("no directory"))
    })
}

/// The members to begin a new cluster with: none if the log has begun, or if
/// this member joined a running cluster.
fn initial_members(
    config: &Config,
    identity: Identity,
    storage: &Storage<RocksRows>,
) -> io::Result<BTreeMap<u64, PeerNode>> {
    if storage.recovered.last.is_some()
        || config.initial_cluster_state == InitialClusterState::Existing
    {
        return Ok(BTreeMap::new());
    }
    let bootstrap = config.first_start.bootstrap().map_err(io::Error::other)?;
    Ok(if first_start::first_identity(&bootstrap) == identity {
        first_start::first_members(&bootstrap)
    } else {
        BTreeMap::new()
    })
}

/// What this process makes from here on is for its owner only, rows made by the
/// engine included; says so if the directory that holds them is not.
fn private_files(config: &Config) -> io::Result<()> {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    for dir in [Some(&config.data_dir), config.wal_dir.as_ref()]
        .into_iter()
        .flatten()
    {
        if let Some(error) = member_dir::too_open(dir)? {
            tracing::warn!(error, "check file permission");
        }
    }
    Ok(())
}

/// Opens log and rows, or says why they cannot be trusted.
async fn open(
    config: &mut Config,
    dial: &PeerDial,
    rows: &EngineOptions,
    fail: impl Fn(&io::Error) + Send + Sync + 'static,
) -> io::Result<(Identity, Storage<RocksRows>)> {
    config::check_data_dir(&config.data_dir).map_err(io::Error::other)?;
    if let Some(wal_dir) = &config.wal_dir {
        config::check_wal_dir(wal_dir).map_err(io::Error::other)?;
    }
    let dir = MemberDir::open(&config.data_dir)?;
    if dir.is_half_restored()? {
        return Err(io::Error::other(format!(
            "{} holds what a restore or a migration that was interrupted, or still runs, has put there so far: \
             remove the directory and begin again",
            config.data_dir.display()
        )));
    }
    let identity = match dir.identity()? {
        Some(identity) => identity,
        None => {
            let dial_service = |discovery: &Discovery| -> io::Result<Box<dyn Dial>> {
                let service = ClientDial::load(&discovery.tls, discovery.any_server)?;
                Ok(Box::new(service))
            };
            first_start::discover(&mut config.first_start, dial_service).await?;
            first_start::identify(config, dial).await?
        }
    };
    let log_dir = config.wal_dir.clone().unwrap_or_else(|| dir.raft_log());
    let parts = Parts {
        dir: &dir,
        log: disk(wal::RealFs::open(&log_dir)?),
        log_dir: &log_dir,
        engine: rows,
    };
    let options =
        wal::Options::default().on_failure(move |error| fail(&io::Error::other(error.to_string())));
    parts.open(identity, options)
}

#[cfg(not(feature = "planted"))]
fn disk(log: wal::RealFs) -> Arc<dyn wal::LogFs> {
    Arc::new(log)
}

/// With `MIZZEN_FORGETS`, killing this member is a loss of its power.
#[cfg(feature = "planted")]
fn disk(log: wal::RealFs) -> Arc<dyn wal::LogFs> {
    if std::env::var_os("MIZZEN_FORGETS").is_none() {
        return Arc::new(log);
    }
    tracing::warn!("the raft log forgets what is not synced when this process ends");
    let syncs = mizzen_planted::bug!("log-not-synced", true => false);
    Arc::new(mizzen_sim::Forgetful::new(log, syncs))
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
