//! Flags under the names that etcd gave them up to 3.6, which 3.7 does not know any
//! more: command lines and files that were written for those go on, with a warning.

/// What every such name begins with.
const PREFIX: &str = "experimental-";

/// Names whose switch is a feature gate now.
const GATES: &[(&str, &str)] = &[
    ("compact-hash-check-enabled", "CompactHashCheck"),
    ("enable-lease-checkpoint", "LeaseCheckpoint"),
    ("enable-lease-checkpoint-persist", "LeaseCheckpointPersist"),
    ("initial-corrupt-check", "InitialCorruptCheck"),
    ("set-member-localaddr", "SetMemberLocalAddr"),
    ("stop-grpc-service-on-defrag", "StopGRPCServiceOnDefrag"),
    (
        "txn-mode-write-with-shared-buffer",
        "TxnModeWriteWithSharedBuffer",
    ),
];

/// Names of flags that lost the prefix and nothing else.
const FLAGS: &[&str] = &[
    "backend-bbolt-freelist-type",
    "bootstrap-defrag-threshold-megabytes",
    "compact-hash-check-time",
    "compaction-batch-limit",
    "compaction-sleep-interval",
    "corrupt-check-time",
    "distributed-tracing-address",
    "distributed-tracing-instance-id",
    "distributed-tracing-sampling-rate",
    "distributed-tracing-service-name",
    "downgrade-check-time",
    "enable-distributed-tracing",
    "max-learners",
    "memory-mlock",
    "peer-skip-client-san-verification",
    "snapshot-catchup-entries",
    "warning-apply-duration",
    "warning-unary-request-duration",
    "watch-progress-notify-interval",
];

/// What an old name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renamed {
    Flag(&'static str),
    Gate(&'static str),
}

impl Renamed {
    /// What `name` stands for now, if it is an old one.
    pub fn find(name: &str) -> Option<Self> {
        let rest = name.strip_prefix(PREFIX)?;
        let gate = GATES.iter().find(|(old, _)| *old == rest);
        let flag = FLAGS.iter().find(|old| **old == rest);
        gate.map(|(_, gate)| Self::Gate(gate))
            .or_else(|| flag.map(|flag| Self::Flag(flag)))
    }

    /// All variables of the environment that set an old name.
    pub fn variables() -> impl Iterator<Item = (String, String)> {
        let names = GATES
            .iter()
            .map(|(old, _)| *old)
            .chain(FLAGS.iter().copied());
        names.map(|name| {
            let name = format!("{PREFIX}{name}");
            let variable = name.to_ascii_uppercase().replace('-', "_");
            (format!("ETCD_{variable}"), name)
        })
    }
}
