//! Every flag of etcd 3.7.3 as data: its type, its default, where it stands in
//! a configuration file, and what it means here.
//!
//! A flag that an operator relies on is never ignored in silence: it works, or
//! the member refuses to start. Only flags that tune the insides of etcd and
//! promise nothing that can be observed are accepted without effect, each with
//! its reason, and the log says so.

use super::{support::Support, value::Kind};

/// One flag.
#[derive(Debug)]
pub struct Flag {
    pub name: &'static str,
    pub kind: Kind,
    /// As it would be written on the command line.
    pub default: &'static str,
    pub support: Support,
    /// Its place in a configuration file, keys joined by dots; `None` if etcd
    /// does not read it from one.
    pub file: Option<&'static str>,
    /// What etcd logs when it is given, for flags on their way out.
    pub deprecated: Option<&'static str>,
}

impl Flag {
    /// Read from another place in the configuration file than its name says.
    const fn at(mut self, path: &'static str) -> Self {
        self.file = Some(path);
        self
    }

    const fn not_in_file(mut self) -> Self {
        self.file = None;
        self
    }

    const fn deprecated(mut self, text: &'static str) -> Self {
        self.deprecated = Some(text);
        self
    }

    /// The environment variable that sets it.
    pub fn environment(&self) -> String {
        format!("ETCD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}

const fn flag(name: &'static str, kind: Kind, default: &'static str, support: Support) -> Flag {
    Flag {
        name,
        kind,
        default,
        support,
        file: Some(name),
        deprecated: None,
    }
}

const fn used(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Flag {
    flag(name, kind, default, Support::Used(about))
}

const fn accepted(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    reason: &'static str,
) -> Flag {
    flag(name, kind, default, Support::Accepted(reason))
}

const fn refused(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    reason: &'static str,
) -> Flag {
    flag(name, kind, default, Support::Refused(reason))
}

/// A flag of old releases that etcd itself accepts and ignores.
const fn legacy(name: &'static str) -> Flag {
    flag(
        name,
        Kind::Legacy,
        "",
        Support::Accepted("no longer supported by etcd either"),
    )
    .not_in_file()
}

const DNS: &str = "records are not asked for; use --discovery-endpoints, or give every member in --initial-cluster";
const TRACING: &str = "it means nothing without --enable-distributed-tracing, which is refused";
const BBOLT: &str = "it tunes bbolt, which is not the storage engine here";
const RAFTHTTP: &str = "it tunes etcd's peer transport, which is not the one used here";
const FILES: &str = "no such files are kept here";
const RECLAIM: &str = "compacted revisions are reclaimed in the background at a rate of its own";

pub const CLUSTER_STATES: &[&str] = &["new", "existing"];
const V2_STAGES: &[&str] = &[
    "write-only",
    "write-only-skip-check",
    "write-only-drop-data",
    "gone",
];

use Kind::{
    Bool, Duration, Gates, Int, Names, OneOf, Origins, SomeOf, Text, Uint, Uint32, Urls, Words,
};

#[rustfmt::skip]
pub const FLAGS: &[Flag] = &[
    // Member.
    used("name", Text, "default", "Name of this member, as in --initial-cluster."),
    used("data-dir", Text, "", "Directory of the data. Empty means ${name}.etcd."),
    used("wal-dir", Text, "", "Directory of the Raft log, if it is not to be in the data directory."),
    used("snapshot-count", Uint, "10000", "Entries after which the log is cut. At the default, bytes and time decide."),
    used("heartbeat-interval", Uint, "100", "Milliseconds between heartbeats of the leader."),
    used("election-timeout", Uint, "1000", "Milliseconds without a leader after which followers elect one."),
    accepted("initial-election-tick-advance", Bool, "true", "the first election does not wait for ticks here"),
    used("listen-peer-urls", Urls, "http://localhost:2380", "URLs to listen on for peers."),
    used("listen-client-urls", Urls, "http://localhost:2379", "URLs to listen on for clients."),
    used("listen-client-http-urls", Urls, "", "URLs to listen on for HTTP alone; --listen-client-urls then serve gRPC alone."),
    accepted("max-snapshots", Uint, "5", FILES)
        .deprecated("--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."),
    accepted("max-wals", Uint, "5", FILES),
    refused("memory-mlock", Bool, "false", "locking memory is not implemented"),
    used("quota-backend-bytes", Int, "0", "Bytes of versions the store may keep. 0 means 2 GiB, a negative number no limit."),
    accepted("backend-bbolt-freelist-type", Text, "", BBOLT),
    accepted("backend-batch-interval", Duration, "0s", BBOLT),
    accepted("backend-batch-limit", Int, "0", BBOLT),
    used("max-txn-ops", Uint, "128", "Operations permitted in one list of a transaction."),
    used("max-request-bytes", Uint, "1572864", "Largest request accepted, bytes."),
    used("max-concurrent-streams", Uint32, "4294967295", "Streams a client may have open on one connection. Not given, it is 100000."),
    accepted("grpc-keepalive-min-time", Duration, "5s", "clients are not punished for pinging often"),
    used("grpc-keepalive-interval", Duration, "2h0m0s", "A connection on which nothing happens is pinged after this time, a second at least; 0 never."),
    used("grpc-keepalive-timeout", Duration, "20s", "And closed if no answer comes in this time; 0 never."),
    refused("socket-reuse-port", Bool, "false", "SO_REUSEPORT is not implemented").at("socket-options.reuse-port"),
    accepted("socket-reuse-address", Bool, "false", "listeners always set SO_REUSEADDR").at("socket-options.reuse-address"),
    used("enable-grpc-gateway", Bool, "true", "Serve calls as JSON on the client port."),
    accepted("raft-read-timeout", Duration, "5s", RAFTHTTP).not_in_file(),
    accepted("raft-write-timeout", Duration, "5s", RAFTHTTP).not_in_file(),
    used("feature-gates", Gates, "", "Name=true,... for etcd's feature gates; those not implemented are refused."),
    // Cluster.
    used("initial-advertise-peer-urls", Urls, "http://localhost:2380", "URLs the other members reach this one at."),
    used("initial-cluster", Text, "", "name=url,... of every first member. Empty means this member alone."),
    used("initial-cluster-state", OneOf(CLUSTER_STATES), "new", "new, or existing to join a running cluster."),
    used("initial-cluster-token", Text, "etcd-cluster", "Text that keeps clusters with equal URLs apart."),
    used("advertise-client-urls", Urls, "http://localhost:2379", "URLs clients are told to reach this member at."),
    used("discovery-token", Text, "", "Which cluster of those put together at --discovery-endpoints the first members form.").at("discovery-config.token"),
    used("discovery-endpoints", Words, "", "URLs of an etcd at which the first members of a new cluster find each other.").at("discovery-config.client.endpoints"),
    used("discovery-dial-timeout", Duration, "2s", "How long connecting to it may take, together with --discovery-request-timeout,").at("discovery-config.client.dial-timeout"),
    used("discovery-request-timeout", Duration, "5s", "and how long an answer may take after that.").at("discovery-config.client.request-timeout"),
    used("discovery-keepalive-time", Duration, "2s", "When nothing has been heard of others for this time and").at("discovery-config.client.keepalive-time"),
    used("discovery-keepalive-timeout", Duration, "6s", "this one, it is asked again.").at("discovery-config.client.keepalive-timeout"),
    used("discovery-insecure-transport", Bool, "true", "false: TLS also without any of the files below, if the URLs have no scheme.").at("discovery-config.client.secure.insecure-transport"),
    used("discovery-insecure-skip-tls-verify", Bool, "false", "Believe whoever answers by TLS. For tests alone.").at("discovery-config.client.secure.insecure-skip-tls-verify"),
    used("discovery-cert", Text, "", "PEM file of the certificate to show there.").at("discovery-config.client.secure.cert"),
    used("discovery-key", Text, "", "PEM file of the key of --discovery-cert.").at("discovery-config.client.secure.key"),
    used("discovery-cacert", Text, "", "PEM file of the authorities of that etcd's certificates.").at("discovery-config.client.secure.cacert"),
    used("discovery-user", Text, "", "Name and password, as name:password, to log in there with.").at("discovery-config.client.auth.username"),
    used("discovery-password", Text, "", "The password, if it is not in --discovery-user.").at("discovery-config.client.auth.password"),
    refused("discovery-fallback", OneOf(&["exit", "proxy"]), "exit", "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"").not_in_file(),
    refused("discovery-srv", Text, "", DNS),
    refused("discovery-srv-name", Text, "", DNS),
    used("strict-reconfig-check", Bool, "true", "Refuse changes of the membership that would endanger the quorum."),
    accepted("pre-vote", Bool, "true", "a member that returns never disrupts a leader its peers still hear"),
    used("auto-compaction-retention", Text, "0", "What stays readable of the past: a duration, in hours without a unit, or a number of revisions. 0 compacts nothing."),
    used("auto-compaction-mode", Text, "periodic", "What --auto-compaction-retention counts: periodic for time, revision for revisions."),
    accepted("v2-deprecation", SomeOf(V2_STAGES), "write-only", "etcd ignores it as well")
        .deprecated("--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input."),
    // Security.
    used("cert-file", Text, "", "PEM file of the certificate shown to clients.").at("client-transport-security.cert-file"),
    used("key-file", Text, "", "PEM file of the key of --cert-file.").at("client-transport-security.key-file"),
    used("client-cert-auth", Bool, "false", "Require of clients a certificate of an authority in --trusted-ca-file.").at("client-transport-security.client-cert-auth"),
    used("client-cert-file", Text, "", "Certificate to show as a client, instead of --cert-file.").at("client-transport-security.client-cert-file"),
    used("client-key-file", Text, "", "Key of --client-cert-file.").at("client-transport-security.client-key-file"),
    used("client-crl-file", Text, "", "Revocation list, DER or PEM: clients with a certificate of a serial number in it are refused.").not_in_file(),
    used("client-cert-allowed-hostname", Words, "", "Names or addresses, one of which a client's certificate must hold.").at("client-transport-security.allowed-hostname"),
    used("trusted-ca-file", Text, "", "PEM file of the authorities of clients. Given, clients need a certificate.").at("client-transport-security.trusted-ca-file"),
    used("auto-tls", Bool, "false", "Make a self-signed certificate for clients' connections if none is given.").at("client-transport-security.auto-tls"),
    used("peer-cert-file", Text, "", "PEM file of the certificate shown to peers.").at("peer-transport-security.cert-file"),
    used("peer-key-file", Text, "", "PEM file of the key of --peer-cert-file.").at("peer-transport-security.key-file"),
    used("peer-client-cert-auth", Bool, "false", "Require of peers a certificate of an authority in --peer-trusted-ca-file.").at("peer-transport-security.client-cert-auth"),
    used("peer-client-cert-file", Text, "", "Certificate to show when connecting to peers, instead of --peer-cert-file.").at("peer-transport-security.client-cert-file"),
    used("peer-client-key-file", Text, "", "Key of --peer-client-cert-file.").at("peer-transport-security.client-key-file"),
    used("peer-trusted-ca-file", Text, "", "PEM file of the authorities of peers. Given, peers need a certificate.").at("peer-transport-security.trusted-ca-file"),
    used("peer-cert-allowed-cn", Words, "", "Common names, one of which a peer's certificate must have.").at("peer-transport-security.allowed-cn"),
    used("peer-cert-allowed-hostname", Words, "", "Names or addresses, one of which a peer's certificate must hold.").at("peer-transport-security.allowed-hostname"),
    used("peer-auto-tls", Bool, "false", "Make a self-signed certificate for peers' connections if none is given. It encrypts and lets everybody in.").at("peer-transport-security.auto-tls"),
    used("self-signed-cert-validity", Uint, "1", "Years that the certificates of --auto-tls and --peer-auto-tls are valid."),
    used("peer-crl-file", Text, "", "As --client-crl-file, for peers.").not_in_file(),
    used("peer-skip-client-san-verification", Bool, "false", "Do not hold a peer's address against the names in its certificate.").at("peer-transport-security.skip-client-san-verification"),
    used("cipher-suites", Words, "", "Suites of TLS 1.2 to use, by the names of IANA. Those of TLS 1.3 cannot be chosen."),
    used("tls-min-version", Text, "TLS1.2", "TLS1.2 or TLS1.3."),
    used("tls-max-version", Text, "", "TLS1.2 or TLS1.3; empty means the highest."),
    used("cors", Origins, "*", "Origins whose pages may show this member's answers, as URLs with ports."),
    used("host-whitelist", Names, "*", "Host names that requests by HTTP without TLS may be for."),
    // Authentication.
    used("auth-token", Text, "simple", "simple, or jwt with its options: jwt,pub-key=FILE,priv-key=FILE,sign-method=RS256,ttl=5m."),
    used("bcrypt-cost", Uint, "10", "Cost of hashing passwords, 4 to 31; each step doubles the time."),
    used("auth-token-ttl", Uint, "300", "Seconds a simple token lives after it was used last."),
    // Monitoring.
    accepted("enable-pprof", Bool, "false", "it serves profiles of the Go runtime, which is not used here"),
    used("metrics", Text, "basic", "extensive: how long calls take is counted as well."),
    used("listen-metrics-urls", Urls, "", "URLs of listeners for probes and metrics alone."),
    // Logging.
    refused("logger", Text, "zap", "only the value zap is known"),
    used("log-outputs", Words, "default", "default, stderr, stdout or file paths, separated by commas."),
    used("log-level", Text, "info", "debug, info, warn, error, panic or fatal."),
    used("log-format", Text, "json", "json or console. Not given, it is text on a terminal and json elsewhere."),
    refused("enable-log-rotation", Bool, "false", "log rotation is not implemented; rotate the file with copy and truncate"),
    accepted("log-rotation-config-json", Text, r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#,
        "it means nothing without --enable-log-rotation, which is refused"),
    used("warning-unary-request-duration", Duration, "300ms", "Unary requests that take longer are logged, up to 100 a second."),
    // Distributed tracing.
    refused("enable-distributed-tracing", Bool, "false", "distributed tracing is not implemented"),
    accepted("distributed-tracing-address", Text, "localhost:4317", TRACING),
    accepted("distributed-tracing-service-name", Text, "etcd", TRACING),
    accepted("distributed-tracing-instance-id", Text, "", TRACING),
    accepted("distributed-tracing-sampling-rate", Int, "0", TRACING),
    // Features.
    used("corrupt-check-time", Duration, "0s", "How often the leader compares its data with that of the others, by reading all of it; 0 never."),
    accepted("compact-hash-check-time", Duration, "1m0s", "it means nothing without the gate CompactHashCheck, which is refused"),
    accepted("compaction-batch-limit", Int, "0", RECLAIM),
    accepted("compaction-sleep-interval", Duration, "0s", RECLAIM),
    used("watch-progress-notify-interval", Duration, "0s", "How often idle watches that ask for it are told that they miss nothing; 0: every 10 minutes."),
    accepted("warning-apply-duration", Duration, "100ms", "entries are applied many at a time; etcd_server_slow_apply_total counts those runs that take 100 ms"),
    accepted("bootstrap-defrag-threshold-megabytes", Uint, "0", "there is no file to defragment; free space is reclaimed all the time"),
    refused("max-learners", Int, "1", "the number of learners cannot be set yet"),
    accepted("downgrade-check-time", Duration, "5s", "it only paces etcd's own check"),
    used("snapshot-catchup-entries", Uint, "5000", "Entries that --snapshot-count leaves for followers that are behind."),
    // Unsafe.
    used("force-new-cluster", Bool, "false", "Make this member the only one of its cluster, keeping its data. For when a majority is lost for good."),
    accepted("unsafe-no-fsync", Bool, "false", "writes are always made durable, which is the safe side"),
    // The command itself.
    used("config-file", Text, "", "YAML file; all other flags and the environment are then ignored.").not_in_file(),
    used("version", Bool, "false", "Print the version and exit.").not_in_file(),
    legacy("cluster-active-size"),
    legacy("cluster-remove-delay"),
    legacy("cluster-sync-interval"),
    legacy("config"),
    legacy("force"),
    legacy("max-result-buffer"),
    legacy("max-retry-attempts"),
    legacy("peer-heartbeat-interval"),
    legacy("peer-election-timeout"),
    legacy("retry-interval"),
    legacy("snapshot"),
    legacy("v"),
    legacy("vv"),
    legacy("test.coverprofile"),
    legacy("test.outputdir"),
];
