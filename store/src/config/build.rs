//! From settings to a configuration: what is refused, etcd's checks in etcd's
//! words, and what follows from the rest.

use std::{
    net::{IpAddr, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use super::{
    Config, DEFAULT_NAME, DEFAULT_PEER_URL, InitialClusterState, auto_compaction, discovery,
    error::Error,
    first_start::FirstStart,
    gates::GATES,
    log_config,
    notice::Notice,
    security,
    settings::{Setting, Settings, Source},
    support::Support,
    url::{self, Url},
    urls::strings,
    value::Value,
};
use crate::limits;

/// Longest election timeout, milliseconds (etcd's value).
const MAX_ELECTION_MS: u64 = 50_000;

pub(super) fn config(settings: &Settings, mut notices: Vec<Notice>) -> Result<Config, Error> {
    let log = log_config::read(settings)?;
    refuse_unsupported(settings)?;
    note_without_effect(settings, &mut notices);
    check_urls(settings)?;
    check_timing(settings)?;
    check_split(settings)?;
    let advertise_client_urls = advertised_to_clients(settings)?;
    let auto_compaction = auto_compaction::read(settings)?;
    let compact_hash_check = settings.int("compact-hash-check-time");
    if compact_hash_check <= 0 {
        return Err(Error::invalid(format!(
            "--compact-hash-check-time must be >0 (set to {compact_hash_check}ns)"
        )));
    }
    let name = settings.text("name").to_owned();
    if name == DEFAULT_NAME {
        notices.push(Notice::DefaultName { name: name.clone() });
    }

    let initial_advertise_peer_urls = advertised_to_peers(settings, &mut notices);
    let state = match settings.text("initial-cluster-state") {
        "existing" => InitialClusterState::Existing,
        _ => InitialClusterState::New,
    };
    let discovery = discovery::read(settings)?;
    let first_start = FirstStart::new(
        settings,
        &name,
        &initial_advertise_peer_urls,
        state,
        discovery,
    );

    let (client_tls, peer_tls) = security::read(settings, &mut notices)?;
    let data_dir = match settings.text("data-dir") {
        "" => {
            let dir = format!("{name}.etcd");
            notices.push(Notice::DefaultDataDir { dir: dir.clone() });
            dir
        }
        dir => dir.to_owned(),
    };
    let wal_dir = Some(settings.text("wal-dir"))
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from);
    Ok(Config {
        name,
        data_dir: data_dir.into(),
        wal_dir,
        listen_peer_urls: settings.urls("listen-peer-urls").to_vec(),
        listen_client_urls: settings.urls("listen-client-urls").to_vec(),
        listen_client_http_urls: settings.urls("listen-client-http-urls").to_vec(),
        listen_metrics_urls: settings.urls("listen-metrics-urls").to_vec(),
        client_tls,
        peer_tls,
        initial_advertise_peer_urls: strings(&initial_advertise_peer_urls),
        advertise_client_urls: strings(&advertise_client_urls),
        initial_cluster_state: state,
        first_start,
        strict_reconfig_check: settings.bool("strict-reconfig-check"),
        force_new_cluster: settings.bool("force-new-cluster"),
        heartbeat_interval: Duration::from_millis(settings.uint("heartbeat-interval")),
        election_timeout: Duration::from_millis(settings.uint("election-timeout")),
        snapshot_count: snapshot_count(settings),
        snapshot_catchup_entries: settings.uint("snapshot-catchup-entries"),
        quota_backend_bytes: quota(settings.int("quota-backend-bytes")),
        max_request_bytes: request_bytes(settings)?,
        max_txn_ops: size(settings, "max-txn-ops")?,
        max_concurrent_streams: streams(settings),
        keepalive_interval: never_if_zero(settings, "grpc-keepalive-interval")
            .max(limits::KEEPALIVE_INTERVAL_MIN),
        keepalive_timeout: never_if_zero(settings, "grpc-keepalive-timeout"),
        slow_call: settings.duration("warning-unary-request-duration"),
        watch_progress_interval: progress_interval(settings),
        cors: settings.words("cors").to_vec(),
        host_whitelist: settings.words("host-whitelist").to_vec(),
        grpc_gateway: settings.bool("enable-grpc-gateway"),
        extensive_metrics: settings.text("metrics") == "extensive",
        auto_compaction,
        initial_corrupt_check: settings.gate("InitialCorruptCheck"),
        corrupt_check_interval: Some(settings.duration("corrupt-check-time"))
            .filter(|interval| !interval.is_zero()),
        auth_token: settings.text("auth-token").to_owned(),
        auth_token_ttl: Duration::from_secs(settings.uint("auth-token-ttl")),
        bcrypt_cost: settings.uint("bcrypt-cost"),
        log,
        notices,
    })
}

/// What the log cannot hold must not be accepted from a client.
fn request_bytes(settings: &Settings) -> Result<usize, Error> {
    let bytes = size(settings, "max-request-bytes")?;
    if bytes > limits::REQUEST_BYTES_MAX {
        return Err(Error::invalid(format!(
            "--max-request-bytes={bytes} is more than an entry of the raft log holds: at most {}",
            limits::REQUEST_BYTES_MAX
        )));
    }
    Ok(bytes)
}

/// Refuses every flag that is known, not implemented and not at its default.
fn refuse_unsupported(settings: &Settings) -> Result<(), Error> {
    let mut refusals: Vec<String> = Vec::new();
    for setting in settings.iter().filter(|setting| !setting.is_default()) {
        match (setting.flag.name, setting.flag.support, &setting.value) {
            // Checked with the outputs of the log, in etcd's words.
            ("logger", ..) => {}
            // etcd's own reason, word for word.
            ("discovery-fallback", Support::Refused(reason), _) => refusals.push(reason.to_owned()),
            (name, Support::Refused(reason), _) => refusals.push(format!(
                "--{name}{} is not supported: {reason}",
                origin(setting)
            )),
            ("feature-gates", _, Value::Gates(gates)) => {
                for gate in GATES
                    .iter()
                    .filter(|gate| gates.get(gate.name) != Some(&gate.default))
                {
                    if let Support::Refused(reason) = gate.support {
                        refusals.push(format!(
                            "feature gate {}={} is not supported: {reason}",
                            gate.name, !gate.default
                        ));
                    }
                }
            }
            _ => {}
        }
    }
    if refusals.is_empty() {
        Ok(())
    } else {
        Err(Error::invalid(refusals.join("; ")))
    }
}

fn origin(setting: &Setting) -> String {
    match setting.source {
        Source::Environment => format!(" (set by {})", setting.flag.environment()),
        Source::File => format!(
            " (set by {} in the configuration file)",
            setting.flag.file.unwrap_or(setting.flag.name)
        ),
        Source::Default | Source::CommandLine => String::new(),
    }
}

fn note_without_effect(settings: &Settings, notices: &mut Vec<Notice>) {
    for setting in settings
        .iter()
        .filter(|setting| setting.source != Source::Default)
    {
        if let Some(text) = setting.flag.deprecated {
            notices.push(Notice::Deprecated(text));
        }
        match (&setting.value, setting.flag.support) {
            (_, Support::Accepted(reason)) if !setting.is_default() => {
                notices.push(Notice::NoEffect {
                    flag: setting.flag.name,
                    reason,
                })
            }
            (Value::Gates(gates), _) => {
                for gate in GATES
                    .iter()
                    .filter(|gate| gates.get(gate.name) != Some(&gate.default))
                {
                    if let Support::Accepted(reason) = gate.support {
                        notices.push(Notice::GateWithoutEffect {
                            gate: gate.name,
                            reason,
                        });
                    }
                }
            }
            _ => {}
        }
    }
}

fn check_urls(settings: &Settings) -> Result<(), Error> {
    for name in [
        "listen-peer-urls",
        "listen-client-urls",
        "listen-client-http-urls",
        "listen-metrics-urls",
    ] {
        let urls = settings.urls(name);
        if let Some(url) = urls
            .iter()
            .find(|url| !url.is_unix() && url.host() != "localhost" && !is_ip(url.host()))
        {
            return Err(Error::invalid(format!(
                "expected IP in URL for binding ({url})"
            )));
        }
    }
    for (name, form) in [
        ("initial-advertise-peer-urls", r#"must be "host:port""#),
        (
            "advertise-client-urls",
            r#"must be in the format "host:port", "unix:/path/to/socket" or "unixs:/path/to/socket""#,
        ),
    ] {
        let urls = settings.urls(name);
        if let Some(url) = urls
            .iter()
            .find(|url| !url.is_unix() && url.host().is_empty())
        {
            return Err(Error::invalid(format!(
                "--{name} {:?} {form} (unexpected empty host ({url}))",
                url::join(urls)
            )));
        }
    }
    Ok(())
}

/// An address, if need be with the zone of a link-local one.
fn is_ip(host: &str) -> bool {
    host.split('%')
        .next()
        .unwrap_or(host)
        .parse::<IpAddr>()
        .is_ok()
}

fn check_timing(settings: &Settings) -> Result<(), Error> {
    let heartbeat = settings.uint("heartbeat-interval");
    let election = settings.uint("election-timeout");
    let text = if heartbeat == 0 {
        format!("--heartbeat-interval must be >0 (set to {heartbeat}ms)")
    } else if election == 0 {
        format!("--election-timeout must be >0 (set to {election}ms)")
    } else if heartbeat.saturating_mul(5) > election {
        format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
        )
    } else if election > MAX_ELECTION_MS {
        format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {MAX_ELECTION_MS}ms"
        )
    } else {
        return Ok(());
    };
    Err(Error::invalid(text))
}

/// The client URLs to advertise. Listening elsewhere than by default needs
/// them given, or clients would be sent to the wrong place. As in etcd the
/// configuration file is not held to that.
fn advertised_to_clients(settings: &Settings) -> Result<Vec<Url>, Error> {
    let from_file = settings.is_from_file("listen-client-urls");
    if settings.is_set("listen-client-urls")
        && !from_file
        && !settings.is_set("advertise-client-urls")
    {
        return Err(Error::invalid(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ));
    }
    Ok(settings.urls("advertise-client-urls").to_vec())
}

/// The peer URLs to advertise. If they are the default while the member
/// listens on every interface, localhost is replaced by the host's address.
fn advertised_to_peers(settings: &Settings, notices: &mut Vec<Notice>) -> Vec<Url> {
    let urls = settings.urls("initial-advertise-peer-urls");
    let listen = settings.urls("listen-peer-urls").first();
    let default = matches!(urls, [url] if url.as_str() == DEFAULT_PEER_URL);
    let Some(port) = listen
        .filter(|url| default && url.host() == "0.0.0.0")
        .and_then(Url::port)
    else {
        return urls.to_vec();
    };
    let host =
        default_host().and_then(|host| Ok((host, Url::parse(&format!("http://{host}:{port}"))?)));
    match host {
        Ok((host, url)) => {
            notices.push(Notice::DefaultHost {
                host: host.to_string(),
            });
            vec![url]
        }
        Err(reason) => {
            notices.push(Notice::NoDefaultHost { reason });
            urls.to_vec()
        }
    }
}

/// The address this host sends from by default. Connecting a datagram socket
/// chooses a route and sends nothing; the destination is reserved for
/// documentation (RFC 5737).
fn default_host() -> Result<IpAddr, String> {
    let address = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    address
        .map(|address| address.ip())
        .map_err(|error| error.to_string())
}

/// 0 is the default quota, a negative number none.
fn quota(bytes: i64) -> Option<u64> {
    match bytes {
        0 => u64::try_from(limits::QUOTA_BYTES).ok(),
        bytes => u64::try_from(bytes).ok(),
    }
}

fn size(settings: &Settings, name: &str) -> Result<usize, Error> {
    let value = settings.uint(name);
    usize::try_from(value).map_err(|_| Error::invalid(format!("--{name} is too large ({value})")))
}

/// etcd's default would write out the rows several times a second, and is what
/// generated configurations repeat: only another value is an order.
fn snapshot_count(settings: &Settings) -> Option<u64> {
    let count = settings.uint("snapshot-count");
    settings
        .iter()
        .any(|setting| setting.flag.name == "snapshot-count" && !setting.is_default())
        .then_some(count)
}

/// etcd's default is no limit at all; here a limit of its own stands in for
/// it, and only a given value replaces that.
fn streams(settings: &Settings) -> u32 {
    match settings.is_set("max-concurrent-streams") {
        false => limits::STREAMS_PER_CONNECTION,
        true => u32::try_from(settings.uint("max-concurrent-streams")).unwrap_or(u32::MAX),
    }
}

/// A time after which something happens, which is never if it is 0.
fn never_if_zero(settings: &Settings, name: &str) -> Duration {
    match settings.duration(name) {
        Duration::ZERO => limits::NEVER,
        time => time,
    }
}

/// Addresses for gRPC alone and for HTTP alone are different ones.
fn check_split(settings: &Settings) -> Result<(), Error> {
    let grpc = settings.urls("listen-client-urls");
    let taken = |url: &&Url| {
        grpc.iter()
            .any(|other| other.host_and_port() == url.host_and_port())
    };
    match settings.urls("listen-client-http-urls").iter().find(taken) {
        Some(url) => Err(Error::invalid(format!(
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {url}"
        ))),
        None => Ok(()),
    }
}

/// 0 is the default; etcd takes a negative one for the default as well.
fn progress_interval(settings: &Settings) -> Duration {
    match u64::try_from(settings.int("watch-progress-notify-interval")) {
        Ok(0) | Err(_) => limits::WATCH_PROGRESS_INTERVAL,
        Ok(nanoseconds) => Duration::from_nanos(nanoseconds),
    }
}
