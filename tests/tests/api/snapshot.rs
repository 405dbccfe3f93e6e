//! Backups: stock `etcdctl snapshot save` takes one, stock `etcdutl` checks and
//! restores it, and an etcd that starts on it has what was here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use etcd_client::{
    Client, CompactionOptions, DeleteOptions, GetOptions, LeaseGrantOptions, PutOptions, Txn,
    TxnOp, WatchOptions,
};
use mizzen_proto::etcdserverpb::alarm_request::AlarmAction;
use mizzen_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use mizzen_proto::etcdserverpb::{AlarmRequest, AlarmType};
use mizzen_tests::cluster::{self, Cluster, Options};
use serde_json::Value;

const KEYS: usize = 3_000;
const LEASE: i64 = 7_777;

fn tool(name: &str) -> Result<PathBuf> {
    let found = cluster::find_tool(name).into_iter().next();
    found.with_context(|| format!("no {name}: MIZZEN_REFERENCE_DIR has it"))
}

fn run(program: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .env("ETCDCTL_API", "3")
        .output()
        .with_context(|| format!("run {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} {arguments:?}: {said}",
        program.display()
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn save(endpoint: &str, file: &str) -> Result<()> {
    let endpoint = format!("--endpoints={endpoint}");
    run(&tool("etcdctl")?, &[&endpoint, "snapshot", "save", file])?;
    Ok(())
}

fn status(file: &str) -> Result<Value> {
    let printed = run(
        &tool("etcdutl")?,
        &["snapshot", "status", file, "-w", "json"],
    )?;
    Ok(serde_json::from_str(&printed)?)
}

/// Keys of all sizes, with history: updated, deleted, made again, in transactions,
/// with leases. Gives the revision that is compacted.
async fn fill(client: &mut Client) -> Result<i64> {
    let lease = LeaseGrantOptions::new().with_id(LEASE);
    client.lease_grant(3_600, Some(lease)).await?;
    for number in 0..KEYS {
        let size = match number % 100 {
            0 => 20_000,
            1 => 4_096,
            small => small,
        };
        let value = vec![u8::try_from(number % 251)?; size];
        let options = (number % 10 == 0).then(|| PutOptions::new().with_lease(LEASE));
        client
            .put(format!("key/{number:05}"), value, options)
            .await?;
    }
    client.put("huge", vec![b'x'; 1_000_000], None).await?;
    let prefix = DeleteOptions::new().with_prefix();
    client.delete("key/001", Some(prefix)).await?;
    let middle = client.put("key/00100", "again", None).await?;
    let middle = middle.header().context("a header")?.revision();
    for number in 0..200 {
        let ops = vec![
            TxnOp::put(format!("key/{number:05}"), "both", None),
            TxnOp::put(format!("other/{number}"), "both", None),
        ];
        client.txn(Txn::new().and_then(ops)).await?;
    }
    client
        .compact(middle, Some(CompactionOptions::new()))
        .await?;
    client.delete("other/7", None).await?;
    Ok(middle)
}

/// All that a client can ask.
#[derive(Debug, PartialEq)]
struct Seen {
    revision: i64,
    /// Key, value, create, mod, version, lease.
    head: Vec<(Vec<u8>, Vec<u8>, i64, i64, i64, i64)>,
    past: Vec<(Vec<u8>, Vec<u8>, i64, i64, i64, i64)>,
    before: String,
    lease: (i64, usize),
    events: Vec<(bool, Vec<u8>, i64)>,
}

async fn range(
    client: &mut Client,
    revision: i64,
) -> Result<Vec<(Vec<u8>, Vec<u8>, i64, i64, i64, i64)>> {
    let all = GetOptions::new().with_all_keys().with_revision(revision);
    let found = client.get("", Some(all)).await?;
    let kvs = found.kvs().iter().map(|kv| {
        (
            kv.key().to_vec(),
            kv.value().to_vec(),
            kv.create_revision(),
            kv.mod_revision(),
            kv.version(),
            kv.lease(),
        )
    });
    Ok(kvs.collect())
}

async fn see(client: &mut Client, compacted: i64) -> Result<Seen> {
    let head = client.get("huge", None).await?;
    let revision = head.header().context("a header")?.revision();
    let before = range(client, compacted - 1).await;
    let keys = etcd_client::LeaseTimeToLiveOptions::new().with_keys();
    let lease = client.lease_time_to_live(LEASE, Some(keys)).await?;
    let options = WatchOptions::new()
        .with_prefix()
        .with_start_revision(compacted + 1);
    let mut watch = client.watch("", Some(options)).await?;
    let mut events = Vec::new();
    while events.last().is_none_or(|(_, _, last)| *last < revision) {
        let told = watch.message().await?.context("events")?;
        for event in told.events() {
            let kv = event.kv().context("a key-value")?;
            let put = event.event_type() == etcd_client::EventType::Put;
            events.push((put, kv.key().to_vec(), kv.mod_revision()));
        }
    }
    Ok(Seen {
        revision,
        head: range(client, 0).await?,
        past: range(client, compacted + 50).await?,
        before: before.err().context("compacted")?.to_string(),
        lease: (lease.granted_ttl(), lease.keys().len()),
        events,
    })
}

async fn raise_alarm(cluster: &Cluster) -> Result<()> {
    let mut client = MaintenanceClient::new(cluster.channel(0)?);
    let request = AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id: 66,
        alarm: AlarmType::Nospace.into(),
    };
    client.alarm(request).await?;
    Ok(())
}

/// A stopped etcd of one member, restored from a file.
async fn restored(file: &str) -> Result<Cluster> {
    let mut etcd = Cluster::prepare(Options::new(cluster::reference()?).members(1)).await?;
    let (name, url) = (etcd.name(0), etcd.peer_url(0));
    let dir = etcd.data_dir(0).display().to_string();
    // It is to be made.
    if etcd.data_dir(0).exists() {
        std::fs::remove_dir_all(etcd.data_dir(0))?;
    }
    run(
        &tool("etcdutl")?,
        &[
            "snapshot",
            "restore",
            file,
            "--data-dir",
            &dir,
            "--name",
            &name,
            "--initial-cluster",
            &format!("{name}={url}"),
            "--initial-advertise-peer-urls",
            &url,
            "--initial-cluster-token",
            "mizzen-tests",
        ],
    )?;
    etcd.spawn(0)?;
    etcd.wait_ready(0).await?;
    Ok(etcd)
}

#[tokio::test]
async fn etcd_restores_what_etcdctl_saves() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("snapshot.db").display().to_string();
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let mut client = Client::connect(cluster.endpoints(), None).await?;
        let compacted = fill(&mut client).await?;
        let ours = see(&mut client, compacted).await?;
        raise_alarm(cluster).await?;
        save(cluster.endpoint(1), &file)?;
        let status = status(&file)?;
        ensure!(status["version"] == "3.7.0", "{status}");
        ensure!(
            status["revision"] == ours.revision,
            "{status}: {}",
            ours.revision
        );
        ensure!(
            status["totalKey"] == ours.head.len(),
            "{status}: {}",
            ours.head.len()
        );
        let size = std::fs::metadata(&file)?.len();
        ensure!(size % 512 == 32, "{size} bytes");
        restored(&file)
            .await?
            .attend(async |etcd| {
                let mut client = Client::connect(etcd.endpoints(), None).await?;
                let theirs = see(&mut client, compacted).await?;
                ensure!(ours.revision == theirs.revision);
                for (ours, theirs) in ours.head.iter().zip(&theirs.head) {
                    ensure!(ours == theirs, "here {ours:?}, in etcd {theirs:?}");
                }
                ensure!(ours == theirs, "they differ");
                let errors = etcd.status(0).await?.errors;
                ensure!(
                    errors.len() == 1 && errors[0].contains("NOSPACE"),
                    "{errors:?}"
                );
                let members = client.member_list().await?;
                ensure!(members.members().len() == 1, "{members:?}");
                Ok(())
            })
            .await
    })
    .await
}

#[tokio::test]
async fn a_snapshot_is_taken_while_clients_write() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("snapshot.db").display().to_string();
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let mut client = Client::connect(cluster.endpoints(), None).await?;
        fill(&mut client).await?;
        let done = Arc::new(AtomicBool::new(false));
        let (stop, mut writer) = (done.clone(), client.clone());
        let writing = tokio::spawn(async move {
            let mut written = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                writer
                    .put(format!("key/{:05}", written % 500), "new", None)
                    .await?;
                written += 1;
            }
            Ok::<_, anyhow::Error>(written)
        });
        for index in 0..cluster.len() {
            let (endpoint, into) = (cluster.endpoint(index).to_owned(), file.clone());
            tokio::task::spawn_blocking(move || {
                save(&endpoint, &into)?;
                status(&into)
            })
            .await??;
            std::fs::remove_file(&file)?;
        }
        done.store(true, Ordering::Relaxed);
        ensure!(writing.await?? > 0, "nothing was written meanwhile");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_empty_store_is_saved_and_restored() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("snapshot.db").display().to_string();
    Cluster::run(
        Options::new(cluster::mizzen()?).members(1),
        async |cluster| {
            save(cluster.endpoint(0), &file)?;
            let status = status(&file)?;
            ensure!(status["totalKey"] == 0, "{status}");
            restored(&file)
                .await?
                .attend(async |etcd| {
                    let mut client = Client::connect(etcd.endpoints(), None).await?;
                    let found = client.put("a", "b", None).await?;
                    let revision = found.header().context("a header")?.revision();
                    ensure!(revision == 2, "{revision}");
                    Ok(())
                })
                .await
        },
    )
    .await
}
