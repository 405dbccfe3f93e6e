//! The configuration of the executable: etcd 3.7.3's flags, environment and
//! configuration file, with etcd's defaults, checks and error texts.
//!
//! Knows what operators write and what follows from it, ids of the first
//! members included. Must not know how any of it is used: no sockets are
//! opened, no directories made. The environment and the arguments come in as
//! parameters.

mod auto_compaction;
mod build;
mod data_dir;
mod discovery;
mod error;
mod experimental;
mod file;
mod first_start;
mod gates;
mod help;
pub mod identity;
mod log_config;
mod notice;
mod peers;
mod security;
mod settings;
mod support;
pub mod table;
mod urls;
mod value;

#[cfg(test)]
mod tests;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use self::settings::{Request, Settings, variable};
pub use self::{
    auto_compaction::AutoCompaction,
    data_dir::{check_data_dir, check_wal_dir},
    discovery::Discovery,
    error::Error,
    first_start::{Bootstrap, FirstStart},
    identity::{Identity, InitialMember},
    log_config::{LogConfig, LogFormat, LogLevel, LogOutput},
    notice::Notice,
    security::{AutoTls, TlsInfo, TlsVersions},
    url::{Scheme, Url, parse_cluster},
    value::Kind,
};
use crate::url;

const DEFAULT_NAME: &str = "default";
const DEFAULT_PEER_URL: &str = "http://localhost:2380";

/// Whether the initial members start a cluster or this one joins one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitialClusterState {
    New,
    Existing,
}

/// How this member runs. Every field is checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub name: String,
    pub data_dir: PathBuf,
    /// Where the Raft log goes if not into `data_dir`.
    pub wal_dir: Option<PathBuf>,
    /// At least one; a Unix socket, or an IP address or `localhost`.
    pub listen_peer_urls: Vec<Url>,
    /// At least one; a Unix socket, or an IP address or `localhost`.
    pub listen_client_urls: Vec<Url>,
    /// Where only HTTP is served; may be none, and then it is served beside gRPC. The
    /// addresses are others than those of `listen_client_urls`.
    pub listen_client_http_urls: Vec<Url>,
    /// Where only probes and metrics are served; may be none.
    pub listen_metrics_urls: Vec<Url>,
    /// TLS for clients; enough for every secure URL to listen on.
    pub client_tls: TlsInfo,
    /// TLS for peers; enough for every secure URL to listen on.
    pub peer_tls: TlsInfo,
    /// Sorted, in their printed form.
    pub initial_advertise_peer_urls: Vec<String>,
    /// Sorted, in their printed form.
    pub advertise_client_urls: Vec<String>,
    pub initial_cluster_state: InitialClusterState,
    /// What a member without data needs beyond this.
    pub first_start: FirstStart,
    /// Refuse changes of the membership that would endanger the quorum.
    pub strict_reconfig_check: bool,
    /// Go on alone with the data there is.
    pub force_new_cluster: bool,
    pub heartbeat_interval: Duration,
    /// At least five heartbeats, at most 50 seconds.
    pub election_timeout: Duration,
    /// Entries after which the rows are made durable and the log is cut; `None`,
    /// for etcd's default, leaves both to bounds in bytes and time.
    pub snapshot_count: Option<u64>,
    /// Entries that then stay for followers that are behind.
    pub snapshot_catchup_entries: u64,
    /// Bytes of keys and values; `None` is no limit.
    pub quota_backend_bytes: Option<u64>,
    /// Largest request of a client, bytes.
    pub max_request_bytes: usize,
    /// Operations in one list of a transaction.
    pub max_txn_ops: usize,
    /// Streams of one client connection.
    pub max_concurrent_streams: u32,
    /// A connection on which nothing happens is pinged after this time,
    pub keepalive_interval: Duration,
    /// and closed when no answer comes in this time.
    pub keepalive_timeout: Duration,
    pub watch_progress_interval: Duration,
    /// Unary calls that take longer are logged.
    pub slow_call: Duration,
    /// Origins whose pages may show what this member answers; `*` is all.
    pub cors: Vec<String>,
    /// Names under which clients without TLS may ask; `*` is all.
    pub host_whitelist: Vec<String>,
    /// Serve calls as JSON.
    pub grpc_gateway: bool,
    /// Count how long calls take.
    pub extensive_metrics: bool,
    /// Forget old revisions without being asked.
    pub auto_compaction: Option<AutoCompaction>,
    /// Compare rows with those of the peers before clients are served.
    pub initial_corrupt_check: bool,
    /// How often a leader compares them, if at all.
    pub corrupt_check_interval: Option<Duration>,
    /// The kind of tokens, in etcd's words.
    pub auth_token: String,
    pub auth_token_ttl: Duration,
    /// As asked for, which may be none of bcrypt's.
    pub bcrypt_cost: u64,
    pub log: LogConfig,
    /// To be logged once the log is open.
    pub notices: Vec<Notice>,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Parsed {
    Run(Box<Config>),
    /// To be printed to stdout before the process ends with success.
    Print(String),
}

/// Reads the arguments after the program's name, the environment, and the
/// configuration file if one of them names it; the file then stands alone.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Parsed, Error> {
    let environment = etcd_variables(environment)?;
    let mut settings = Settings::new();
    if settings.read_arguments(arguments)? == Request::Help {
        return Ok(Parsed::Print(help::help()));
    }
    if settings.bool("version") {
        return Ok(Parsed::Print(help::version()));
    }
    let mut notices = Vec::new();
    let file = match settings.text("config-file") {
        "" => variable(&environment, "ETCD_CONFIG_FILE").map(PathBuf::from),
        path => Some(PathBuf::from(path)),
    };
    match file {
        Some(path) => {
            settings = Settings::new();
            file::read(&path, &mut settings, &mut notices)?;
        }
        None => settings.read_environment(&environment, &mut notices)?,
    }
    settings.take_old_names(&mut notices)?;
    Ok(Parsed::Run(Box::new(build::config(&settings, notices)?)))
}

/// The variables meant for this program.
fn etcd_variables(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, Error> {
    let mut variables = Vec::new();
    for (key, value) in environment {
        let Some(key) = key.to_str().filter(|key| key.starts_with("ETCD_")) else {
            continue;
        };
        let value = value
            .into_string()
            .map_err(|_| Error::invalid(format!("the value of {key} is not valid UTF-8")))?;
        variables.push((key.to_owned(), value));
    }
    Ok(variables)
}
