//! `/metrics`: what is counted everywhere, under the names that etcd's dashboards
//! and alerts know. Names and types are etcd's, also where a gauge is called a
//! total. A series exists only if what it says is counted here; what etcd does not
//! have begins with `mizzen`.

mod families;
mod process;

use bytes::Bytes;
use http::{Response, StatusCode};
use mizzen_engine::Engine;

use super::{
    Shared,
    probes::Probes,
    respond::{content, error},
};
use crate::{
    grpc::{CODES, CallFigures},
    server::{Figures, PeerFigures, Server},
    version,
    workers::Workers,
};
use families::{FORMAT, Families};

/// All of it, put together on a thread that may wait: it reads /proc.
pub async fn page<E: Engine>(
    server: &std::sync::Arc<Server<E>>,
    shared: &std::sync::Arc<Shared>,
) -> Response<Bytes> {
    let (server, shared) = (server.clone(), shared.clone());
    let text = Workers::Threads.run(move || {
        let mut figures = server.figures();
        figures.keys = server.keys(figures.keys);
        text(&figures, &shared)
    });
    match text.await {
        Ok(Ok(text)) => content(FORMAT, text),
        Ok(Err(reason)) => error(StatusCode::INTERNAL_SERVER_ERROR, &reason.to_string()),
        Err(reason) => error(StatusCode::INTERNAL_SERVER_ERROR, &reason.to_string()),
    }
}

fn text(figures: &Figures, shared: &Shared) -> Result<String, prometheus::Error> {
    let mut families = Families::default();
    member(&mut families, figures);
    proposals(&mut families, figures);
    store(&mut families, figures);
    disk(&mut families, figures);
    peers(&mut families, figures);
    let (calls, received, sent) = shared.calls.read();
    grpc(&mut families, &calls);
    families.counter(
        "etcd_network_client_grpc_received_bytes_total",
        "Bytes of messages received from clients.",
        received,
    );
    families.counter(
        "etcd_network_client_grpc_sent_bytes_total",
        "Bytes of messages sent to clients.",
        sent,
    );
    probes(&mut families, &shared.probes);
    let mut expires = families.gauges(
        "mizzen_certificate_expiration_timestamp_seconds",
        "When the certificate shown expires, by what it is for.",
    );
    for (kind, at) in (shared.certificates)() {
        expires.add(&[("type", kind)], at as f64);
    }
    if let Err(reason) = process::collect(&mut families) {
        // Everything else is worth telling without it.
        tracing::warn!(%reason, "the kernel does not tell of this process");
    }
    families.encode()
}

/// Major and minor number of a version.
fn minor(version: &str) -> &str {
    version.rsplit_once('.').map_or(version, |(minor, _)| minor)
}

fn number(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

fn member(families: &mut Families, figures: &Figures) {
    if let Some(version) = figures.cluster_version {
        families
            .gauges(
                "etcd_cluster_version",
                "The version that all members have agreed on, as a label.",
            )
            .add(&[("cluster_version", minor(version))], 1.0);
    }
    families
        .gauges(
            "etcd_server_version",
            "The etcd release that is served, as a label.",
        )
        .add(&[("server_version", version::ETCD)], 1.0);
    families
        .gauges("mizzen_build_info", "This program's version, as a label.")
        .add(&[("version", version::MIZZEN)], 1.0);
    let id = format!("{:x}", figures.member_id);
    families
        .gauges("etcd_server_id", "This member's id, as a label.")
        .add(&[("server_id", &id)], 1.0);
    families.gauge(
        "etcd_server_has_leader",
        "1 if this member knows a leader that it can reach.",
        number(figures.has_leader),
    );
    families.gauge(
        "etcd_server_is_leader",
        "1 if this member leads.",
        number(figures.is_leader),
    );
    families.gauge(
        "etcd_server_is_learner",
        "1 if this member does not vote.",
        number(figures.is_learner),
    );
    families.counter(
        "etcd_server_leader_changes_seen_total",
        "How often this member has heard of another leader than before.",
        figures.leader_changes,
    );
}

fn proposals(families: &mut Families, figures: &Figures) {
    families.gauge(
        "etcd_server_proposals_committed_total",
        "Index of the last entry of the log known to be committed.",
        figures.committed_index as f64,
    );
    families.gauge(
        "etcd_server_proposals_applied_total",
        "Index of the last entry of the log applied.",
        figures.applied_index as f64,
    );
    families.gauge(
        "etcd_server_proposals_pending",
        "Proposals of this member's clients that wait for their outcome.",
        figures.proposals_pending as f64,
    );
    families.counter(
        "etcd_server_proposals_failed_total",
        "Proposals of this member's clients without an outcome, or refused before they were in the log.",
        figures.proposals_failed,
    );
    families.counter(
        "etcd_server_slow_apply_total",
        "Runs of entries that took more than 100 ms to apply.",
        figures.slow_runs,
    );
}

fn store(families: &mut Families, figures: &Figures) {
    families.gauge(
        "etcd_server_quota_backend_bytes",
        "Bytes of versions that the store may keep; 0 without a limit.",
        figures.quota.unwrap_or(0) as f64,
    );
    families.gauge(
        "etcd_mvcc_db_total_size_in_bytes",
        "Bytes of all versions kept, which the quota is for.",
        figures.db_bytes as f64,
    );
    families.gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Bytes of the newest versions.",
        figures.db_bytes_in_use as f64,
    );
    families.gauge(
        "etcd_debugging_mvcc_keys_total",
        "How many keys there are; beyond a thousand about, for one that was written again and again may be counted several times for a while.",
        figures.keys as f64,
    );
    families.gauge(
        "etcd_debugging_mvcc_current_revision",
        "The store's revision.",
        figures.revision as f64,
    );
    families.gauge(
        "etcd_debugging_mvcc_compact_revision",
        "The revision of the last compaction.",
        figures.compact_revision as f64,
    );
    families.gauge(
        "etcd_debugging_auth_revision",
        "The revision of users and roles.",
        figures.auth_revision as f64,
    );
    for (name, help, value) in [
        ("etcd_mvcc_put_total", "Puts applied.", figures.puts),
        (
            "etcd_mvcc_delete_total",
            "Deletions applied.",
            figures.deletes,
        ),
        ("etcd_mvcc_txn_total", "Transactions applied.", figures.txns),
        (
            "mizzen_compactions_total",
            "Compactions applied.",
            figures.compactions,
        ),
        (
            "etcd_debugging_lease_granted_total",
            "Leases granted.",
            figures.leases_granted,
        ),
        (
            "etcd_debugging_lease_revoked_total",
            "Leases ended, by request or because their time was over.",
            figures.leases_revoked,
        ),
        (
            "etcd_debugging_server_lease_expired_total",
            "Leases ended because their time was over.",
            figures.leases_expired,
        ),
    ] {
        families.counter(name, help, value);
    }
}

fn disk(families: &mut Families, figures: &Figures) {
    families
        .histograms(
            "etcd_disk_wal_fsync_duration_seconds",
            "How long the log's fdatasync took.",
        )
        .observed(&[], &figures.log_syncs);
    families.gauge(
        "etcd_disk_wal_write_bytes_total",
        "Bytes written to the log.",
        figures.log_written_bytes as f64,
    );
    families
        .histograms(
            "etcd_disk_backend_commit_duration_seconds",
            "How long it took to write a batch of rows.",
        )
        .observed(&[], &figures.commits);
}

/// A number of each peer, with the label that names the peer.
type OfPeers = (
    &'static str,
    &'static str,
    &'static str,
    fn(&PeerFigures) -> u64,
);

const OF_PEERS: [OfPeers; 4] = [
    (
        "etcd_network_peer_sent_bytes_total",
        "Bytes of messages sent to a peer.",
        "To",
        |peer| peer.sent_bytes,
    ),
    (
        "etcd_network_peer_received_bytes_total",
        "Bytes of messages received from a peer.",
        "From",
        |peer| peer.received_bytes,
    ),
    (
        "etcd_network_peer_sent_failures_total",
        "Calls to a peer that could not be made.",
        "To",
        |peer| peer.sent_failures,
    ),
    (
        "etcd_network_peer_received_failures_total",
        "Messages of a peer that broke off.",
        "From",
        |peer| peer.received_failures,
    ),
];

fn peers(families: &mut Families, figures: &Figures) {
    let peers: Vec<_> = figures
        .peers
        .iter()
        .map(|(id, peer)| (format!("{id:x}"), peer))
        .collect();
    for (name, help, label, value) in OF_PEERS {
        let mut family = families.counters(name, help);
        for (id, peer) in &peers {
            family.add(&[(label, id)], value(peer) as f64);
        }
    }
    let mut round_trips = families.histograms(
        "etcd_network_peer_round_trip_time_seconds",
        "How long a question to a peer took there and back.",
    );
    for (id, peer) in &peers {
        round_trips.observed(&[("To", id)], &peer.round_trips);
    }
    let own = format!("{:x}", figures.member_id);
    let mut known = families.gauges("etcd_network_known_peers", "Members of the cluster.");
    for id in std::iter::once(&own).chain(peers.iter().map(|(id, _)| id)) {
        known.add(&[("Local", &own), ("Remote", id)], 1.0);
    }
}

fn grpc(families: &mut Families, calls: &[CallFigures]) {
    type Read = fn(&CallFigures) -> u64;
    let by_call: [(&str, &str, Read); 3] = [
        ("grpc_server_started_total", "Calls begun.", |call| {
            call.started
        }),
        (
            "grpc_server_msg_received_total",
            "Messages received from clients.",
            |call| call.received,
        ),
        (
            "grpc_server_msg_sent_total",
            "Messages sent to clients.",
            |call| call.sent,
        ),
    ];
    let labels = |call: &CallFigures| {
        [
            ("grpc_method", call.method),
            ("grpc_service", call.service),
            ("grpc_type", call.kind.label()),
        ]
    };
    for (name, help, value) in by_call {
        let mut family = families.counters(name, help);
        for call in calls {
            family.add(&labels(call), value(call) as f64);
        }
    }
    let mut handled = families.counters("grpc_server_handled_total", "Calls ended, by their code.");
    for call in calls {
        let [method, service, kind] = labels(call);
        for (code, count) in CODES.iter().zip(call.handled) {
            handled.add(&[("grpc_code", code), method, service, kind], count as f64);
        }
    }
    let mut handling = families.histograms(
        "grpc_server_handling_seconds",
        "How long calls took to their end.",
    );
    for call in calls {
        if let Some(times) = &call.handling {
            handling.observed(&labels(call), times);
        }
    }
}

fn probes(families: &mut Families, probes: &Probes) {
    let whole = probes.read_whole();
    families.counter(
        "etcd_server_health_success",
        "Probes of /health answered with true.",
        whole.success,
    );
    families.counter(
        "etcd_server_health_failures",
        "Probes of /health answered with false.",
        whole.error,
    );
    let checks = probes.read_checks();
    let mut last = families.gauges(
        "etcd_server_healthcheck",
        "1 if a check of a page came out well the last time.",
    );
    for ((page, check), outcomes) in &checks {
        last.add(&[("name", check), ("type", page)], number(outcomes.last));
    }
    let mut all = families.counters(
        "etcd_server_healthchecks_total",
        "Checks of pages by how they came out.",
    );
    for ((page, check), outcomes) in &checks {
        for (status, count) in [("success", outcomes.success), ("error", outcomes.error)] {
            let labels = [("name", *check), ("status", status), ("type", *page)];
            all.add(&labels, count as f64);
        }
    }
}
