//! What reading a configuration has to tell the operator. It is known before
//! the log's outputs are, so it is kept until they are open.

/// One line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    LoadedFile {
        path: String,
    },
    FromEnvironment {
        name: String,
        value: String,
    },
    UnknownVariable(String),
    SpecialVariable {
        key: &'static str,
        value: String,
    },
    UnknownKey {
        key: String,
    },
    Deprecated(&'static str),
    /// A flag under a name that etcd does not know any more.
    Renamed {
        old: String,
        now: String,
    },
    NoEffect {
        flag: &'static str,
        reason: &'static str,
    },
    GateWithoutEffect {
        gate: &'static str,
        reason: &'static str,
    },
    DefaultName {
        name: String,
    },
    DefaultHost {
        host: String,
    },
    NoDefaultHost {
        reason: String,
    },
    DefaultDataDir {
        dir: String,
    },
    /// A setting that another one makes needless.
    Ignored(&'static str),
    /// A port that certificates do not hold for; `kind` is `client` or `peer`.
    PlainUrl {
        text: &'static str,
        kind: &'static str,
        url: String,
    },
    /// Peers need no certificate.
    OpenPeerPort,
}

impl Notice {
    /// Writes it to the log. The texts are etcd's where etcd has the line too.
    pub fn log(&self) {
        match self {
            Notice::LoadedFile { path } => tracing::info!(
                path,
                "loaded server configuration, other configuration command line flags and environment variables will be ignored if provided"
            ),
            Notice::FromEnvironment { name, value } => {
                tracing::info!(
                    variable_name = name,
                    variable_value = value,
                    "recognized and used environment variable"
                );
            }
            Notice::UnknownVariable(variable) => tracing::warn!(
                environment_variable = variable,
                "unrecognized environment variable"
            ),
            Notice::SpecialVariable { key, value } => {
                tracing::warn!(key, value, "cannot set special environment variable")
            }
            Notice::UnknownKey { key } => {
                tracing::warn!(key, "unrecognized key in the configuration file")
            }
            Notice::Deprecated(text) | Notice::Ignored(text) => tracing::warn!("{text}"),
            Notice::Renamed { old, now } => tracing::warn!(
                flag = old,
                instead = now,
                "this name of a flag is gone since etcd 3.7; use the one of today"
            ),
            // etcd's line, which its operators look for.
            Notice::NoEffect {
                flag: "bootstrap-defrag-threshold-megabytes",
                reason,
            } => tracing::info!(reason, "Skipping defragmentation"),
            Notice::NoEffect { flag, reason } => {
                tracing::warn!(flag, reason, "flag accepted without effect")
            }
            Notice::GateWithoutEffect { gate, reason } => {
                tracing::warn!(gate, reason, "feature gate accepted without effect")
            }
            Notice::DefaultName { name } => tracing::warn!(
                name,
                "it isn't recommended to use default name, please set a value for --name. \
                 Members are told apart by their names in --initial-cluster"
            ),
            Notice::DefaultHost { host } => {
                tracing::info!(host, "detected default host for advertise")
            }
            Notice::NoDefaultHost { reason } => {
                tracing::info!(error = reason, "failed to detect default host")
            }
            Notice::DefaultDataDir { dir } => {
                tracing::warn!(data_dir = dir, "'data-dir' was empty; using default")
            }
            Notice::PlainUrl {
                text,
                kind: "peer",
                url,
            } => tracing::warn!(peer_url = url, "{text}"),
            Notice::PlainUrl { text, url, .. } => tracing::warn!(client_url = url, "{text}"),
            Notice::OpenPeerPort => tracing::warn!(
                "peers need no certificate: whoever reaches --listen-peer-urls can read and write everything. \
                 Serve them with --peer-cert-file, --peer-key-file, --peer-client-cert-auth and --peer-trusted-ca-file"
            ),
        }
    }
}
