//! Secrets are encrypted where they are stored: upstream's kube-apiserver over the
//! same store reads what this server sealed and the other way round, keys are
//! changed while clients write, and nothing of a secret is in any file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use http::{HeaderMap, HeaderValue, Method};
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use mizzen_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use mizzen_proto::etcdserverpb::{PutRequest, RangeRequest, SnapshotRequest};
use mizzen_tests::api_diff::upstream::{ADMIN, TOKEN, Upstream, program};
use mizzen_tests::apiserver::ApiServer;
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::https::{Answer, Https};
use mizzen_tests::skip::{self, Why};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::endpoints;

const REPRODUCE: &str = "reproduce: cargo test --release -p mizzen-tests --test api encryption::";
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

/// Base64 of keys of 32 bytes.
const FIRST: &str = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";
const SECOND: &str = "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=";

fn keys(provider: &str, keys: &[(&str, &str)]) -> Value {
    let keys: Vec<Value> = keys
        .iter()
        .map(|(name, secret)| json!({"name": name, "secret": secret}))
        .collect();
    json!({provider: {"keys": keys}})
}

fn rule(resources: &[&str], providers: &[Value]) -> Value {
    json!({"resources": resources, "providers": providers})
}

/// A file of such rules, replaced as an operator would do it.
fn write(path: &Path, rules: &[Value]) -> Result<()> {
    let configuration = json!({"apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration", "resources": rules});
    let beside = path.with_extension("new");
    std::fs::write(&beside, configuration.to_string())?;
    Ok(std::fs::rename(beside, path)?)
}

/// A token that both servers take.
fn tokens(folder: &Path) -> Result<String> {
    let path = folder.join("tokens");
    std::fs::write(&path, ADMIN)?;
    Ok(format!("--token-auth-file={}", path.display()))
}

fn flag(path: &Path) -> String {
    format!("--encryption-provider-config={}", path.display())
}

/// All that is stored below a prefix.
async fn stored(cluster: &Cluster, prefix: &str) -> Result<Vec<(String, Bytes)>> {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().context("a prefix")? += 1;
    let request = RangeRequest {
        key: Bytes::copy_from_slice(prefix.as_bytes()),
        range_end: end.into(),
        ..RangeRequest::default()
    };
    let reply = KvClient::new(cluster.channel(0)?).range(request).await?;
    let pairs = reply.into_inner().kvs.into_iter();
    Ok(pairs
        .map(|pair| (String::from_utf8_lossy(&pair.key).into_owned(), pair.value))
        .collect())
}

async fn send(door: &Https, method: Method, path: &str, body: &Value) -> Result<Answer> {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static(TOKEN));
    headers.insert("accept", HeaderValue::from_static("application/json"));
    let bytes = if body.is_null() {
        Bytes::new()
    } else {
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        Bytes::from(body.to_string())
    };
    door.send(method, path, &headers, bytes).await
}

async fn ok(door: &Https, method: Method, path: &str, body: &Value) -> Result<Value> {
    let answer = send(door, method.clone(), path, body).await?;
    ensure!(
        answer.code.is_success(),
        "{method} {path}: {}\n{REPRODUCE}",
        String::from_utf8_lossy(&answer.body)
    );
    answer.json()
}

fn secret(name: &str, text: &str) -> Value {
    json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": name}, "stringData": {"text": text}})
}

fn map(name: &str, text: &str) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": {"text": text}})
}

fn deployment(name: &str, text: &str) -> Value {
    json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": name, "annotations": {"text": text}},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

/// Every provider of ours, and what it seals.
const SEALED: [(&str, &str, &str); 3] = [
    (
        SECRETS,
        "/registry/secrets/default/",
        "k8s:enc:aesgcm:v1:k:",
    ),
    (
        MAPS,
        "/registry/configmaps/default/",
        "k8s:enc:aescbc:v1:k:",
    ),
    (
        DEPLOYMENTS,
        "/registry/deployments/default/",
        "k8s:enc:secretbox:v1:k:",
    ),
];

fn object(path: &str, name: &str, text: &str) -> Value {
    match path {
        SECRETS => secret(name, text),
        MAPS => map(name, text),
        _ => deployment(name, text),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_can_be_shared_with_upstream() -> Result<()> {
    if program().is_err() {
        return Ok(skip::test(&Why::program("kube-apiserver"))?);
    }
    let folder = TempDir::new()?;
    let path = folder.path().join("encryption.json");
    let identity = json!({"identity": {}});
    let with = |provider: &str| keys(provider, &[("k", FIRST)]);
    write(
        &path,
        &[
            rule(&["secrets"], &[with("aesgcm"), identity.clone()]),
            rule(&["configmaps"], &[with("aescbc"), identity.clone()]),
            rule(&["*.*"], &[with("secretbox"), identity]),
        ],
    )?;
    Cluster::run(
        Options::new(cluster::mizzen()?).members(1),
        async |cluster| {
            let endpoints = cluster.endpoints();
            let (flag, tokens) = (flag(&path), tokens(folder.path())?);
            let server = ApiServer::start_with(
                &endpoints,
                &[&flag, &tokens, "--advertise-address=192.0.2.1"],
            )?;
            let ours = Https::connect(&server).await?;
            let open = "--authorization-mode=AlwaysAllow";
            let flags = [
                &*flag,
                open,
                "--advertise-address=192.0.2.4",
                "--endpoint-reconciler-type=lease",
            ];
            let endpoint = endpoints.first().context("an endpoint")?;
            let upstream = Upstream::start_with(endpoint, &flags).await?;
            let theirs = upstream.connect().await?;
            shared(cluster, &ours, &theirs).await?;
            endpoints::become_these(&ours, &["192.0.2.1", "192.0.2.4"]).await?;
            refused(cluster, &ours, &theirs).await
        },
    )
    .await
}

/// What one side writes the other one reads: by name, in a list of the store, in a
/// list of its cache.
async fn shared(cluster: &Cluster, ours: &Https, theirs: &Https) -> Result<()> {
    for (path, keys, prefix) in SEALED {
        for (name, from, to) in [("of-ours", ours, theirs), ("of-upstreams", theirs, ours)] {
            let text = format!("marker-{name}");
            let written = ok(from, Method::POST, path, &object(path, name, &text)).await?;
            let one = format!("{path}/{name}");
            let read = ok(to, Method::GET, &one, &Value::Null).await?;
            ensure!(
                read == written,
                "{written}\nis read as\n{read}\n{REPRODUCE}"
            );
            let version = &written["metadata"]["resourceVersion"];
            let version = version.as_str().context("a version")?;
            for query in [
                format!("resourceVersion={version}&resourceVersionMatch=Exact"),
                format!("resourceVersion={version}"),
            ] {
                let list = ok(to, Method::GET, &format!("{path}?{query}"), &Value::Null).await?;
                let items = list["items"].as_array().context("items")?;
                let found = items.iter().find(|item| item["metadata"]["name"] == name);
                let found = found.with_context(|| format!("{name} is not in {path}?{query}"))?;
                ensure!(
                    found["metadata"]["uid"] == written["metadata"]["uid"],
                    "{found}"
                );
            }
        }
        let sealed = stored(cluster, keys).await?;
        let named = sealed.iter().filter(|(key, _)| key.contains("/of-"));
        ensure!(named.count() == 2, "{} values below {keys}", sealed.len());
        for (key, value) in &sealed {
            ensure!(
                value.starts_with(prefix.as_bytes()),
                "{key} is not sealed\n{REPRODUCE}"
            );
            let text = String::from_utf8_lossy(value);
            ensure!(!text.contains("marker"), "{key}: {text}\n{REPRODUCE}");
        }
    }
    Ok(())
}

/// What cannot be opened is refused in the same words.
async fn refused(cluster: &Cluster, ours: &Https, theirs: &Https) -> Result<()> {
    let sealed = stored(cluster, "/registry/secrets/default/of-ours").await?;
    let (_, sealed) = sealed.first().context("it is there")?;
    let values = [
        // Of another place, damaged, too short, of no key, and sealed by nobody.
        ("moved", sealed.clone()),
        ("cut", sealed.slice(..sealed.len() - 1)),
        ("short", sealed.slice(.."k8s:enc:aesgcm:v1:k:".len() + 3)),
        (
            "foreign",
            Bytes::from_static(b"k8s:enc:aesgcm:v1:other:0123456789012345678901234567890"),
        ),
        (
            "unknown",
            Bytes::from_static(b"k8s:enc:somebody:v1:k:0123456789012345678901234567890"),
        ),
    ];
    for (name, value) in values {
        let request = PutRequest {
            key: format!("/registry/secrets/default/{name}").into(),
            value,
            ..PutRequest::default()
        };
        KvClient::new(cluster.channel(0)?).put(request).await?;
        let path = format!("{SECRETS}/{name}");
        let (we, they) = futures::try_join!(
            send(ours, Method::GET, &path, &Value::Null),
            send(theirs, Method::GET, &path, &Value::Null)
        )?;
        ensure!(
            we.code == they.code && we.json()? == they.json()?,
            "{path}:\n  upstream {} {}\n  ours     {} {}\n{REPRODUCE}",
            they.code,
            they.json()?,
            we.code,
            we.json()?
        );
    }
    Ok(())
}

/// Two servers with keys that change.
struct Rotated {
    path: PathBuf,
    servers: [ApiServer; 2],
    doors: [Https; 2],
    changes: usize,
}

impl Rotated {
    /// Puts other providers into the file, and waits until both servers use them.
    async fn become_these(&mut self, providers: &[Value]) -> Result<()> {
        self.changes += 1;
        write(&self.path, &[rule(&["secrets"], providers)])?;
        let started = Instant::now();
        for server in &self.servers {
            let seen = || {
                server
                    .log()
                    .matches("the configuration of encryption was read again")
                    .count()
            };
            while seen() < self.changes {
                ensure!(started.elapsed() < PATIENCE, "not read again\n{REPRODUCE}");
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }
}

const MARKER: &str = "marker-that-nobody-is-to-find";
/// Of a config map, which is not sealed: it is found, so the search is one.
const PLAIN: &str = "marker-that-is-not-secret";
const OBJECTS: usize = 60;
const WRITERS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_change_while_clients_write_and_nothing_of_a_secret_is_in_any_file() -> Result<()> {
    let folder = TempDir::new()?;
    let path = folder.path().join("encryption.json");
    let (old, new) = (("old", FIRST), ("new", SECOND));
    write(&path, &[rule(&["secrets"], &[keys("aesgcm", &[old])])])?;
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let flags = [
            &*flag(&path),
            &*tokens(folder.path())?,
            "--encryption-provider-config-automatic-reload=true",
        ];
        let endpoints = cluster.endpoints();
        let servers = [
            ApiServer::start_with(&endpoints, &flags)?,
            ApiServer::start_with(&endpoints, &flags)?,
        ];
        let doors = [
            Https::connect(&servers[0]).await?,
            Https::connect(&servers[1]).await?,
        ];
        let mut rotated = Rotated {
            path: path.clone(),
            servers,
            doors,
            changes: 0,
        };
        ok(&rotated.doors[0], Method::POST, MAPS, &map("plain", PLAIN)).await?;
        for number in 0..OBJECTS {
            let secret = secret(&format!("kept-{number}"), MARKER);
            ok(&rotated.doors[number % 2], Method::POST, SECRETS, &secret).await?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let writers = (0..WRITERS)
            .map(|number| tokio::spawn(written(rotated.doors.clone(), number, stop.clone())));
        let writers: Vec<_> = writers.collect();
        // Every server can read the new key before the first one writes with it,
        // and nothing is left of the old one before it goes.
        rotated.become_these(&[keys("aesgcm", &[old, new])]).await?;
        rotated.become_these(&[keys("aesgcm", &[new, old])]).await?;
        rewritten(&rotated.doors).await?;
        stop.store(true, Ordering::Relaxed);
        let writes: usize = try_join_all(writers)
            .await?
            .into_iter()
            .sum::<Result<usize>>()?;
        ensure!(writes >= WRITERS, "{writes} writes");
        rotated.become_these(&[keys("aesgcm", &[new])]).await?;
        after(cluster, &rotated.doors).await?;
        nothing_shows(cluster, &rotated.servers).await
    })
    .await
}

/// Writes an object over and over and reads it by the other server.
async fn written(doors: [Https; 2], number: usize, stop: Arc<AtomicBool>) -> Result<usize> {
    let name = format!("written-{number}");
    ok(&doors[0], Method::POST, SECRETS, &secret(&name, MARKER)).await?;
    let path = format!("{SECRETS}/{name}");
    let mut writes = 0;
    while !stop.load(Ordering::Relaxed) || writes == 0 {
        let text = format!("{MARKER}-{writes}");
        let (door, other) = (&doors[writes % 2], &doors[(writes + 1) % 2]);
        let put = ok(door, Method::PUT, &path, &secret(&name, &text)).await?;
        let read = ok(other, Method::GET, &path, &Value::Null).await?;
        ensure!(read == put, "{put}\nis read as\n{read}\n{REPRODUCE}");
        writes += 1;
    }
    Ok(writes)
}

/// Writes every secret as it was read, which seals it with the first key of now.
async fn rewritten(doors: &[Https; 2]) -> Result<()> {
    for number in 0..OBJECTS {
        let path = format!("{SECRETS}/kept-{number}");
        let read = ok(&doors[number % 2], Method::GET, &path, &Value::Null).await?;
        let written = ok(&doors[number % 2], Method::PUT, &path, &read).await?;
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        ensure!(
            version(&read) != version(&written),
            "{path} was not written\n{REPRODUCE}"
        );
        // Once is enough.
        let again = ok(&doors[number % 2], Method::PUT, &path, &written).await?;
        ensure!(again == written, "{again}\n{REPRODUCE}");
    }
    Ok(())
}

async fn after(cluster: &Cluster, doors: &[Https; 2]) -> Result<()> {
    let sealed = stored(cluster, "/registry/secrets/default/").await?;
    ensure!(
        sealed.len() == OBJECTS + WRITERS,
        "{} secrets",
        sealed.len()
    );
    for (key, value) in sealed {
        ensure!(
            value.starts_with(b"k8s:enc:aesgcm:v1:new:"),
            "{key}\n{REPRODUCE}"
        );
    }
    for door in doors {
        let list = ok(door, Method::GET, SECRETS, &Value::Null).await?;
        let items = list["items"].as_array().context("items")?;
        ensure!(items.len() == OBJECTS + WRITERS, "{} items", items.len());
    }
    Ok(())
}

/// Looks into every file of the store, every log and a snapshot.
async fn nothing_shows(cluster: &Cluster, servers: &[ApiServer; 2]) -> Result<()> {
    let mut snapshot = MaintenanceClient::new(cluster.channel(0)?)
        .snapshot(SnapshotRequest {})
        .await?
        .into_inner();
    let mut bytes = Vec::new();
    while let Some(part) = snapshot.message().await? {
        bytes.extend_from_slice(&part.blob);
    }
    ensure!(
        holds(&bytes, PLAIN),
        "the search finds nothing in a snapshot"
    );
    ensure!(
        !holds(&bytes, MARKER),
        "a secret is in a snapshot\n{REPRODUCE}"
    );
    let mut found_plain = 0;
    for index in 0..cluster.len() {
        for file in files(cluster.data_dir(index))? {
            let bytes = std::fs::read(&file)?;
            ensure!(
                !holds(&bytes, MARKER),
                "a secret is in {}\n{REPRODUCE}",
                file.display()
            );
            found_plain += usize::from(holds(&bytes, PLAIN));
        }
        let log = std::fs::read(cluster.log_path(index))?;
        ensure!(!holds(&log, MARKER), "a secret is in a log\n{REPRODUCE}");
    }
    ensure!(
        found_plain >= cluster.len(),
        "the search finds nothing in files"
    );
    for server in servers {
        let log = server.log();
        for text in [MARKER, FIRST, SECOND] {
            ensure!(!log.contains(text), "{text} is in a log\n{REPRODUCE}");
        }
    }
    Ok(())
}

/// In clear, or as JSON would have the bytes of a secret.
fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

#[test]
fn a_configuration_that_is_wrong_is_refused_without_its_keys() -> Result<()> {
    let folder = TempDir::new()?;
    let path = folder.path().join("encryption.json");
    write(
        &path,
        &[rule(&["secrets"], &[keys("aesgcm", &[("k", "c2hvcnQ=")])])],
    )?;
    let refused = ApiServer::start_with(&["127.0.0.1:1".to_owned()], &[&flag(&path)]);
    let why = refused
        .err()
        .map(|error| format!("{error:#}"))
        .unwrap_or_default();
    let expected = "resources[0].providers[0].aesgcm.keys[0].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 5, expected one of [16 24 32]";
    ensure!(why.contains(expected), "{why}\n{REPRODUCE}");
    ensure!(!why.contains("c2hvcnQ="), "{why}\n{REPRODUCE}");
    Ok(())
}
