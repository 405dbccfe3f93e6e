//! The configuration file, and directories that belong to an etcd.

use std::fs;

use super::{read, refusal};
use crate::config::{Config, Error, LogOutput, Notice, check_data_dir, check_wal_dir};

fn from_file(text: &str) -> Result<Config, Error> {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("etcd.yml");
    fs::write(&path, text).expect("written");
    read(&["--config-file", path.to_str().expect("UTF-8")], &[])
}

const FILE: &str = "
name: m1
data-dir:
wal-dir: /w
Election-Timeout: 2000
listen-client-urls: http://127.0.0.1:1
initial-advertise-peer-urls: http://127.0.0.1:3,http://127.0.0.1:2
initial-cluster: 'm1=http://127.0.0.1:2,m1=http://127.0.0.1:3'
pre-vote: off
quota-backend-bytes: -1
max-txn-ops: 0x80
log-outputs: [stdout]
warning-apply-duration: 5000000
auto-compaction-retention: 0
client-transport-security:
  cert-file:
  client-cert-auth: false
proxy: 'off'
initial-cluster-state: ''
v2-deprecation: not-yet
";

#[test]
fn a_file_is_read() {
    let config = from_file(FILE).expect("valid");
    assert_eq!(config.name, "m1");
    assert_eq!(config.data_dir.to_str(), Some("m1.etcd"));
    assert_eq!(config.wal_dir, Some("/w".into()));
    assert_eq!(config.election_timeout.as_millis(), 2000);
    assert_eq!(config.listen_client_urls[0].as_str(), "http://127.0.0.1:1");
    // Unlike the command line, a file need not give both.
    assert_eq!(config.advertise_client_urls, ["http://localhost:2379"]);
    assert_eq!(
        config.initial_advertise_peer_urls,
        ["http://127.0.0.1:2", "http://127.0.0.1:3"]
    );
    assert_eq!(
        (config.quota_backend_bytes, config.max_txn_ops),
        (None, 128)
    );
    assert_eq!(config.log.outputs, [LogOutput::Stdout]);
    assert!(
        config.notices.contains(&Notice::UnknownKey {
            key: "proxy".into()
        }),
        "{:?}",
        config.notices
    );
    assert!(matches!(config.notices[0], Notice::LoadedFile { .. }));
    assert!(config.notices.iter().any(|notice| matches!(
        notice,
        Notice::NoEffect {
            flag: "pre-vote",
            ..
        }
    )));
}

#[test]
fn a_file_stands_alone() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("etcd.yml");
    fs::write(&path, "name: file").expect("written");
    let path = path.to_str().expect("UTF-8");
    let ignored = ["--name=flag", "--heartbeat-interval=0", "--cert-file=x"];
    let config = read(
        &[&ignored[..], &["--config-file", path]].concat(),
        &[("ETCD_NAME", "env")],
    )
    .expect("valid");
    assert_eq!(config.name, "file");
    let config = read(
        &ignored,
        &[("ETCD_CONFIG_FILE", path), ("ETCD_ELECTION_TIMEOUT", "x")],
    )
    .expect("valid");
    assert_eq!(
        (config.name.as_str(), config.election_timeout.as_millis()),
        ("file", 1000)
    );
    fs::write(path, "").expect("written");
    assert_eq!(
        read(&["--config-file", path], &[])
            .expect("an empty file is valid")
            .name,
        "default"
    );
}

#[test]
fn files_that_are_refused() {
    for (text, reason) in [
        (
            "election-timeout: 2s",
            "configuration file: election-timeout must be a whole number",
        ),
        (
            "backend-batch-interval: 10ms",
            "configuration file: backend-batch-interval must be a whole number of nanoseconds",
        ),
        (
            "snapshot-count: -1",
            "configuration file: snapshot-count must be a number of at least 0",
        ),
        (
            "pre-vote: maybe",
            "configuration file: pre-vote must be true or false",
        ),
        (
            "log-outputs: stderr",
            "configuration file: log-outputs must be a list of texts",
        ),
        ("name: [a]", "configuration file: name must be a text"),
        ("name:\n  a: b\nx", "configuration file: "),
        (
            "- a",
            "configuration file: not a mapping of names to values",
        ),
        ("1: a", "configuration file: a key is not a text"),
        (
            "initial-cluster-state: foo",
            r#"unexpected clusterState "foo""#,
        ),
        (
            "listen-peer-urls: foo",
            "unexpected error setting up listen-peer-urls: URL scheme must be http, https, unix, or unixs: foo",
        ),
        (
            "heartbeat-interval: 0",
            "--heartbeat-interval must be >0 (set to 0ms)",
        ),
        (
            "peer-transport-security:\n  cert-file: x",
            "KeyFile and CertFile must both be present[key: , cert: x]",
        ),
        (
            "client-transport-security:\n  allowed-cn: [x]",
            "configuration file: client-transport-security.allowed-cn is not known",
        ),
        (
            "discovery-config:\n  token: x",
            "both --discovery-token and --discovery-endpoints must be set",
        ),
        (
            "discovery-srv: example.com",
            "--discovery-srv (set by discovery-srv in the configuration file) is not supported",
        ),
    ] {
        let error = from_file(text).map(|_| ()).expect_err(text);
        assert!(
            error.to_string().starts_with(reason),
            "{text:?} gives {error}"
        );
        assert_eq!(error.exit_code(), 1, "{text:?}");
    }
    let (text, code) = refusal(&["--config-file=/nonexistent"], &[]);
    assert_eq!(
        (text.as_str(), code),
        ("open /nonexistent: no such file or directory", 1)
    );
}

#[test]
fn the_data_of_an_etcd_is_not_taken_for_nothing() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let data = dir.path().join("data");
    assert_eq!(check_data_dir(&data), Ok(()));
    fs::create_dir_all(data.join("member/rows")).expect("created");
    fs::create_dir_all(data.join("member/wal")).expect("created");
    fs::create_dir_all(data.join("member/snap")).expect("created");
    assert_eq!(check_data_dir(&data), Ok(()));
    for file in [
        "member/snap/db",
        "member/snap/0000000000000002-000000000000000a.snap",
        "member/wal/0000000000000000-0000000000000000.wal",
    ] {
        fs::write(data.join(file), "x").expect("written");
        let text = check_data_dir(&data).expect_err(file).to_string();
        assert!(
            text.contains(file) && text.contains("mizzen snapshot restore"),
            "{text}"
        );
        assert_eq!(fs::read(data.join(file)).expect("still there"), b"x");
        fs::remove_file(data.join(file)).expect("removed");
    }
    assert_eq!(check_data_dir(&data), Ok(()));
}

#[test]
fn the_log_of_an_etcd_is_not_taken_for_ours() {
    let dir = tempfile::tempdir().expect("temporary directory");
    assert_eq!(check_wal_dir(&dir.path().join("none")), Ok(()));
    fs::write(dir.path().join("0000000000000001.wal"), "ours").expect("written");
    assert_eq!(check_wal_dir(dir.path()), Ok(()));
    fs::write(
        dir.path().join("0000000000000000-0000000000000000.wal"),
        "x",
    )
    .expect("written");
    let text = check_wal_dir(dir.path()).expect_err("etcd's").to_string();
    assert!(
        text.contains("0000000000000000-0000000000000000.wal"),
        "{text}"
    );
}
