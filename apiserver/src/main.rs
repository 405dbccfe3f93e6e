//! The executable: flags, certificates, the listener.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use futures::FutureExt as _;
use mizzen_apiserver::{
    admission::{Admission, Name as Plugin},
    audit::{self, Audit},
    authn::{Accounts, Anonymous, Authenticators, Oidc, OidcFlags, Tokens},
    authz::{Authorizer, Mode},
    bootstrap::{self, endpoints::Reconciler},
    encryption::Encryption,
    error::ApiError,
    fairness::Fairness,
    http::{self, Api, Contents, Credentials, Files},
    kinds, limits,
    registry::{self, Registry},
    store::{Store, Tls, compact},
    tasks,
    token::{Keys, Signer},
};
use mizzen_descriptors::Places;
use tokio::{
    net::{TcpListener, TcpSocket},
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Serves Kubernetes' REST conventions over HTTPS, from a store that speaks
/// etcd's API.
#[derive(Parser)]
#[command(name = "mizzen-apiserver", version)]
struct Flags {
    /// Endpoints of the store.
    #[arg(long, value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    etcd_servers: Vec<String>,
    /// The authority of the store's certificates, in PEM, for endpoints that
    /// begin with https.
    #[arg(long)]
    etcd_cafile: Option<PathBuf>,
    /// The certificate to show to the store, in PEM.
    #[arg(long, requires = "etcd_keyfile", requires = "etcd_cafile")]
    etcd_certfile: Option<PathBuf>,
    /// The key of --etcd-certfile.
    #[arg(long, requires = "etcd_certfile")]
    etcd_keyfile: Option<PathBuf>,
    /// Address to listen on. Where everybody may do everything it must be a
    /// loopback address.
    #[arg(long, default_value = "127.0.0.1:6443")]
    listen: SocketAddr,
    /// An address that other servers of this machine listen on, too: a connection
    /// to it goes to one of those that live.
    #[arg(long)]
    listen_shared: Option<SocketAddr>,
    /// The address at which this server is kept among the endpoints of the Service
    /// `kubernetes` while it lives. By default that of --listen, or that of this
    /// machine's route to elsewhere if it listens on all addresses; a server that
    /// listens on a loopback address alone is kept nowhere.
    #[arg(long)]
    advertise_address: Option<IpAddr>,
    /// How the endpoints of the Service `kubernetes` are kept: by keys of the
    /// servers that live (lease), or not at all (none).
    #[arg(long, default_value = "lease", value_parser = ["lease", "none"])]
    endpoint_reconciler_type: String,
    /// Directory of what is made at the first start where no file is given: the
    /// server's certificate and its authority, the authority of clients and an
    /// administrator's certificate.
    #[arg(long, default_value = "apiserver-pki")]
    cert_dir: PathBuf,
    /// The server's certificate in PEM, instead of one in --cert-dir.
    #[arg(long, requires = "tls_private_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// The key of --tls-cert-file.
    #[arg(long, requires = "tls_cert_file")]
    tls_private_key_file: Option<PathBuf>,
    /// The authorities whose certificates clients may show, in PEM: the common
    /// name is the user, organizations are groups. By default client-ca.crt in
    /// --cert-dir, made at the first start.
    #[arg(long)]
    client_ca_file: Option<PathBuf>,
    /// Static tokens: lines of token, user, uid and, quoted, groups.
    #[arg(long)]
    token_auth_file: Option<PathBuf>,
    /// Takes the tokens in secrets of kube-system by which nodes join.
    #[arg(long)]
    enable_bootstrap_token_auth: bool,
    /// Whether requests may show nothing: all (true) or none (false). By default
    /// those for /healthz, /livez and /readyz.
    #[arg(long, action = clap::ArgAction::Set)]
    anonymous_auth: Option<bool>,
    #[command(flatten)]
    oidc: OidcFlags,
    /// Who decides what somebody may do: Node, RBAC, or AlwaysAllow.
    #[arg(long, value_delimiter = ',', default_value = "RBAC")]
    authorization_mode: Vec<Mode>,
    /// Whether requests are served by priority levels and flow schemas; otherwise as
    /// many at once as the two flags below say, whoever asks.
    #[arg(long, action = clap::ArgAction::Set, default_value_t = true,
        num_args = 0..=1, default_missing_value = "true")]
    enable_priority_and_fairness: bool,
    /// Requests that read and are served at once.
    #[arg(long, default_value_t = 400)]
    max_requests_inflight: usize,
    /// Requests that write and are served at once; what counts is the sum of both.
    #[arg(long, default_value_t = 200)]
    max_mutating_requests_inflight: usize,
    /// Plugins of admission that are on besides those that are by default.
    #[arg(long, value_delimiter = ',')]
    enable_admission_plugins: Vec<Plugin>,
    /// Plugins of admission that are off though they are on by default.
    #[arg(long, value_delimiter = ',')]
    disable_admission_plugins: Vec<Plugin>,
    /// The key that signs tokens of service accounts, in PEM (PKCS #8, ECDSA on
    /// P-256), the same for all servers; by default sa.key in --cert-dir, made
    /// at the first start.
    #[arg(long)]
    service_account_signing_key_file: Option<PathBuf>,
    /// Keys by which tokens of service accounts are checked besides that which
    /// signs, in PEM (public keys on P-256); may be repeated.
    #[arg(long)]
    service_account_key_file: Vec<PathBuf>,
    /// How often history is taken out of the store, as Go writes durations. What
    /// is older than this goes; 0 leaves it to others, and then the store's quota
    /// fills until it refuses every write.
    #[arg(long, default_value = "5m0s", value_parser = duration)]
    etcd_compaction_interval: Duration,
    /// How long the server goes on after it was told to stop and says that it is
    /// not ready, as Go writes durations: time for a balancer to send clients
    /// elsewhere.
    #[arg(long, default_value = "0s", value_parser = duration)]
    shutdown_delay_duration: Duration,
    /// How what is stored is encrypted: upstream's EncryptionConfiguration, with
    /// the providers identity, aesgcm, aescbc and secretbox.
    #[arg(long)]
    encryption_provider_config: Option<PathBuf>,
    /// Looks at --encryption-provider-config once a second and takes what is new;
    /// what cannot be used is logged, and what was before stays.
    #[arg(long, action = clap::ArgAction::Set, default_value_t = false,
        num_args = 0..=1, default_missing_value = "true", requires = "encryption_provider_config")]
    encryption_provider_config_automatic_reload: bool,
    /// How much of which requests goes into the audit log: upstream's Policy.
    #[arg(long, requires = "audit_log_path")]
    audit_policy_file: Option<PathBuf>,
    /// The file of the audit log, a line of JSON for each event; - is the standard
    /// output.
    #[arg(long, requires = "audit_policy_file")]
    audit_log_path: Option<PathBuf>,
    /// Megabytes of the audit log's file before a new one is begun; 0 is 100.
    #[arg(long, default_value_t = 0)]
    audit_log_maxsize: u64,
    /// Files of the audit log that were before and are kept; 0 keeps all.
    #[arg(long, default_value_t = 0)]
    audit_log_maxbackup: usize,
    /// Days for which they are kept; 0 is for ever.
    #[arg(long, default_value_t = 0)]
    audit_log_maxage: u64,
    /// Writes a kubeconfig for this server, with the administrator's certificate
    /// unless --client-ca-file is given.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    mizzen_planted::plant_by_environment();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("a runtime")?
        .block_on(run(flags))
}

async fn run(flags: Flags) -> anyhow::Result<()> {
    for address in std::iter::once(flags.listen).chain(flags.listen_shared) {
        anyhow::ensure!(
            address.ip().is_loopback() || !flags.authorization_mode.contains(&Mode::AlwaysAllow),
            "{address} is not a loopback address, and with AlwaysAllow everybody may do everything"
        );
    }
    let (credentials, contents) = Credentials::load(files(&flags)?)?;
    let credentials = Arc::new(credentials);
    let signer = signer(&flags)?;
    let authenticators = authenticators(&flags, &credentials, &signer)?;
    let admission = Admission::new(
        &flags.enable_admission_plugins,
        &flags.disable_admission_plugins,
    );
    let admission = admission.map_err(anyhow::Error::msg)?;
    let places = places()?;
    let tls = flags.etcd_cafile.clone().map(|authority| Tls {
        authority,
        own: flags.etcd_certfile.clone().zip(flags.etcd_keyfile.clone()),
    });
    let (encryption, rules) = encryption(&flags)?.unzip();
    let store = Store::new(&flags.etcd_servers, tls.as_ref())?.sealed_by(encryption.clone());
    let store = Arc::new(store);
    let compacted = store.clone();
    let listener = TcpListener::bind(flags.listen)
        .await
        .with_context(|| format!("listening on {}", flags.listen))?;
    let address = listener.local_addr()?;
    let mut listeners = vec![listener];
    if let Some(address) = flags.listen_shared {
        let listener = shared(address).with_context(|| format!("listening on {address}"))?;
        listeners.push(listener);
    }
    let fairness = fairness(&flags)?;
    let (audit, written) = audit(&flags).await?.unzip();
    let api = Api::new(
        Registry::new(store),
        address.to_string(),
        signer,
        authenticators,
        Authorizer::new(flags.authorization_mode.clone()),
        admission,
    );
    let api = Arc::new(api.audited(audit).fair(fairness.clone()));
    let reconciler = reconciler(&flags, address)?;
    prepare(&api, address.port(), reconciler.as_ref(), fairness.as_ref()).await;
    if let Some(path) = &flags.kubeconfig {
        std::fs::write(path, kubeconfig(&flags, address)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    tracing::info!(%address, "serving");
    let stop = stop()?.shared();
    let fair = fairness.is_some();
    let mut kept = keepers(&api, address.port(), fair, &credentials, contents);
    let interval = flags.etcd_compaction_interval;
    if !interval.is_zero() {
        kept.push(tasks::spawn(
            "compaction",
            compact::run(compacted, interval),
        ));
    }
    if let (true, Some(encryption), Some(rules)) = (
        flags.encryption_provider_config_automatic_reload,
        encryption,
        rules,
    ) {
        kept.push(tasks::spawn("encryption", async move {
            encryption.keep(rules).await;
        }));
    }
    let living = living(&api, reconciler, stop.clone());
    let delay = flags.shutdown_delay_duration;
    tokio::join!(
        http::serve(listeners, credentials, api.clone(), places, stop, delay),
        living
    );
    kept.iter().for_each(JoinHandle::abort);
    // What was recorded is written, now that nobody records any more.
    drop(api);
    if let Some(written) = written {
        let _ = tokio::time::timeout(limits::AUDIT_STOP, written).await;
    }
    Ok(())
}

/// Done when the process is told to stop.
fn stop() -> std::io::Result<impl Future<Output = ()>> {
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// What goes on as long as the server.
fn keepers(
    api: &Arc<Api>,
    port: u16,
    fair: bool,
    credentials: &Arc<Credentials>,
    contents: Contents,
) -> Vec<JoinHandle<()>> {
    let (kept, renewed) = (api.clone(), credentials.clone());
    vec![
        tasks::spawn("bootstrap", async move {
            bootstrap::keep(kept.registry(), port, fair).await;
        }),
        tasks::spawn("certificates", async move {
            renewed.keep(contents).await;
        }),
    ]
}

/// Keeps this server among the endpoints until it is told to stop, and takes it
/// from them at once then.
async fn living(api: &Arc<Api>, reconciler: Option<Reconciler>, stop: impl Future<Output = ()>) {
    let Some(reconciler) = reconciler else {
        return;
    };
    let (keeper, kept) = (reconciler.clone(), api.clone());
    let task = tasks::spawn("endpoints", async move {
        keeper.keep(kept.registry()).await;
    });
    stop.await;
    task.abort();
    // What it has begun to write is not to come after what follows.
    let _ = task.await;
    reconciler.leave(api.registry()).await;
}

/// What keeps this server among the endpoints of the Service `kubernetes`.
fn reconciler(flags: &Flags, address: SocketAddr) -> anyhow::Result<Option<Reconciler>> {
    if flags.endpoint_reconciler_type == "none" {
        return Ok(None);
    }
    let listening = match address.ip() {
        ip if ip.is_unspecified() => bootstrap::endpoints::routed(),
        ip => Some(ip).filter(|ip| !ip.is_loopback()),
    };
    let Some(ip) = flags.advertise_address.or(listening) else {
        return Ok(None);
    };
    let reconciler = Reconciler::new(ip, address.port()).map_err(anyhow::Error::msg)?;
    Ok(Some(reconciler))
}

/// Listens beside others.
fn shared(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(limits::BACKLOG)
}

/// What must be there before the first client is served.
async fn prepare(
    api: &Api,
    port: u16,
    reconciler: Option<&Reconciler>,
    fairness: Option<&Arc<Fairness>>,
) {
    let mut waited = false;
    let fair = fairness.is_some();
    while let Err(error) = bootstrapped(api.registry(), port, fair).await {
        if !std::mem::replace(&mut waited, true) {
            tracing::warn!(%error.message, "the store is not ready: waiting for it");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    if let Some(reconciler) = reconciler {
        reconciler.leave(api.registry()).await;
    }
    api.registry().fill_caches().await;
    while let Err(error) = api.authorizer().start(api.registry()).await {
        tracing::warn!(%error.message, "roles and bindings are not there yet: waiting for them");
    }
    let Some(fairness) = fairness else {
        return;
    };
    while let Err(error) = fairness.clone().start(api.registry()).await {
        tracing::warn!(%error.message, "priority levels are not there yet: waiting for them");
    }
}

async fn bootstrapped(registry: &Registry, port: u16, fair: bool) -> Result<(), ApiError> {
    bootstrap::run(registry, port).await?;
    if fair {
        bootstrap::flows(registry, None).await?;
    }
    bootstrap::policy(registry).await
}

/// Where certificates lie, which are made if none are given.
fn files(flags: &Flags) -> anyhow::Result<Files> {
    let dir = &flags.cert_dir;
    let client_ca = match &flags.client_ca_file {
        Some(path) => path.clone(),
        None => {
            http::make_clients(dir)?;
            dir.join("client-ca.crt")
        }
    };
    if let (Some(cert), Some(key)) = (&flags.tls_cert_file, &flags.tls_private_key_file) {
        return Ok(Files {
            cert: cert.clone(),
            key: key.clone(),
            client_ca,
        });
    }
    let mut hosts = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    let address = flags.listen.ip();
    if !address.is_loopback() && !address.is_unspecified() {
        hosts.push(address.to_string());
    }
    http::make_server(dir, &hosts)?;
    Ok(Files {
        cert: dir.join("apiserver.crt"),
        key: dir.join("apiserver.key"),
        client_ca,
    })
}

/// Who is served when.
fn fairness(flags: &Flags) -> anyhow::Result<Option<Arc<Fairness>>> {
    let (reads, writes) = (
        flags.max_requests_inflight,
        flags.max_mutating_requests_inflight,
    );
    let total = reads.saturating_add(writes);
    anyhow::ensure!(total > 0, "no request is to be served at any time");
    let fair = flags.enable_priority_and_fairness;
    Ok(fair.then(|| Arc::new(Fairness::new(total))))
}

/// The audit log, and the task that writes it.
async fn audit(flags: &Flags) -> anyhow::Result<Option<(Arc<Audit>, JoinHandle<()>)>> {
    let (Some(policy), Some(path)) = (&flags.audit_policy_file, &flags.audit_log_path) else {
        return Ok(None);
    };
    let megabytes = match flags.audit_log_maxsize {
        0 => 100,
        given => given,
    };
    let files = audit::LogFiles {
        path: path.clone(),
        size: megabytes.saturating_mul(1 << 20),
        backups: flags.audit_log_maxbackup,
        age: Duration::from_secs(flags.audit_log_maxage.saturating_mul(24 * 3_600)),
    };
    let (audit, mut writer) = Audit::new(policy, files)?;
    let opened = writer.prepare().await;
    opened.with_context(|| format!("opening {}", path.display()))?;
    Ok(Some((
        Arc::new(audit),
        tasks::spawn("audit log", writer.run()),
    )))
}

/// How what is stored is encrypted, and what the file says.
fn encryption(flags: &Flags) -> anyhow::Result<Option<(Arc<Encryption>, Vec<u8>)>> {
    let Some(path) = &flags.encryption_provider_config else {
        return Ok(None);
    };
    let places = registry::places(&kinds::built_in());
    let (encryption, text) = Encryption::load(path.clone(), places)?;
    Ok(Some((Arc::new(encryption), text)))
}

fn signer(flags: &Flags) -> anyhow::Result<Signer> {
    if let Some(path) = &flags.service_account_signing_key_file {
        return Ok(Signer::read(path)?);
    }
    let path = flags.cert_dir.join("sa.key");
    http::make_key(&path)?;
    Ok(Signer::read(&path)?)
}

fn authenticators(
    flags: &Flags,
    credentials: &Credentials,
    signer: &Signer,
) -> anyhow::Result<Authenticators> {
    let configured = flags.oidc.read()?;
    let oidc = Oidc::new(&configured);
    oidc.start();
    Ok(Authenticators {
        oidc,
        trust: credentials.trust(),
        tokens: match &flags.token_auth_file {
            Some(path) => Tokens::read(path)?,
            None => Tokens::default(),
        },
        accounts: Accounts::new(Keys::new(signer, &flags.service_account_key_file)?),
        bootstrap: flags.enable_bootstrap_token_auth,
        anonymous: match flags.anonymous_auth {
            None => configured.anonymous.unwrap_or(Anonymous::Health),
            Some(true) => Anonymous::All,
            Some(false) => Anonymous::None,
        },
    })
}

/// A duration as Go writes it, in whole numbers: `5m0s`, `90s`, `500ms`, `0`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 5m0s");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut sum = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let milliseconds = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        rest = &rest[letters..];
        let part = number.checked_mul(milliseconds).ok_or_else(wrong)?;
        let part = Duration::from_millis(part);
        sum = sum.checked_add(part).ok_or_else(wrong)?;
    }
    if text.is_empty() {
        return Err(wrong());
    }
    Ok(sum)
}

/// Places for connections within the limit of open files, which is raised as far as
/// it may be.
fn places() -> anyhow::Result<Places> {
    let limit = mizzen_descriptors::raise().context("raising the limit of open files")?;
    let least = limits::DESCRIPTORS_OWN + limits::CONNECTIONS_MIN;
    anyhow::ensure!(
        limit >= least,
        "the limit of open files is {limit}, and {least} are needed: {} for clients, the rest for this process itself; raise the hard limit (ulimit -Hn, LimitNOFILE)",
        limits::CONNECTIONS_MIN
    );
    let left = usize::try_from(limit - limits::DESCRIPTORS_OWN).unwrap_or(usize::MAX);
    let connections = left.min(limits::CONNECTIONS_MAX);
    tracing::info!(descriptors = limit, connections, "budgets");
    Ok(Places::new(connections))
}

fn kubeconfig(flags: &Flags, address: SocketAddr) -> anyhow::Result<String> {
    let dir = std::path::absolute(&flags.cert_dir)?;
    let ca = match &flags.tls_cert_file {
        Some(cert) => std::path::absolute(cert)?,
        None => dir.join("ca.crt"),
    };
    let user = match &flags.client_ca_file {
        Some(_) => "{}".to_owned(),
        None => format!(
            "\n    client-certificate: {dir}/admin.crt\n    client-key: {dir}/admin.key",
            dir = dir.display()
        ),
    };
    Ok(format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: mizzen\n  cluster:\n    server: https://{address}\n    certificate-authority: {ca}\ncontexts:\n- name: mizzen\n  context:\n    cluster: mizzen\n    user: mizzen\ncurrent-context: mizzen\nusers:\n- name: mizzen\n  user: {user}\n",
        ca = ca.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_go() {
        for (text, milliseconds) in [
            ("5m0s", 300_000),
            ("500ms", 500),
            ("1h2m", 3_720_000),
            ("0", 0),
        ] {
            assert_eq!(
                duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in ["", "5", "m", "5x", "-1s", "1.5s", "99999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
