//! Backups: stock `etcdctl snapshot save` takes one, stock `etcdutl` checks and
//! restores it, and an etcd that starts on it has what was here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use etcd_client::{
    Client, CompactionOptions, DeleteOptions, GetOptions, LeaseGrantOptions, PutOptions, Txn,
    TxnOp, WatchOptions,
};
use mizzen_proto::authpb::{Permission, permission::Type};
use mizzen_proto::etcdserverpb::alarm_request::AlarmAction;
use mizzen_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use mizzen_proto::etcdserverpb::{AlarmRequest, AlarmType, PutRequest, RangeRequest};
use mizzen_tests::auth::call::{Asked, Call, CallResult};
use mizzen_tests::cluster::{self, Cluster, Options};
use serde_json::Value;

const KEYS: usize = 3_000;
const LEASE: i64 = 7_777;

pub fn tool(name: &str) -> Result<PathBuf> {
    let found = cluster::find_tool(name).into_iter().next();
    found.with_context(|| format!("no {name}: MIZZEN_REFERENCE_DIR has it"))
}

pub fn run(program: &Path, arguments: &[&str]) -> Result<String> {
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

pub fn save(endpoint: &str, file: &str) -> Result<()> {
    save_as(&[], endpoint, file)
}

pub fn save_as(user: &[&str], endpoint: &str, file: &str) -> Result<()> {
    let endpoint = format!("--endpoints={endpoint}");
    let save = ["snapshot", "save", file];
    let arguments = [&[endpoint.as_str()], user, &save].concat();
    run(&tool("etcdctl")?, &arguments)?;
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
pub async fn fill(client: &mut Client) -> Result<i64> {
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

/// Key, value, create, mod, version, lease.
type Row = (Vec<u8>, Vec<u8>, i64, i64, i64, i64);

/// All that a client can ask.
#[derive(Debug, PartialEq)]
pub struct Seen {
    pub revision: i64,
    pub head: Vec<Row>,
    past: Vec<Row>,
    before: String,
    lease: (i64, usize),
    events: Vec<(bool, Vec<u8>, i64)>,
}

impl Seen {
    /// As it was before what happened later, which left no key behind.
    pub fn forget_after(&mut self, revision: i64) {
        self.revision = revision;
        self.events.retain(|(_, _, at)| *at <= revision);
    }
}

async fn range(client: &mut Client, revision: i64) -> Result<Vec<Row>> {
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

pub async fn see(client: &mut Client, compacted: i64) -> Result<Seen> {
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

pub async fn raise_alarm(cluster: &Cluster) -> Result<()> {
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
pub async fn restored(file: &str) -> Result<Cluster> {
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

fn permission(kind: Type, key: &'static str, range_end: &'static str) -> Permission {
    Permission {
        perm_type: kind.into(),
        key: Bytes::from_static(key.as_bytes()),
        range_end: Bytes::from_static(range_end.as_bytes()),
    }
}

fn range_of(key: &'static str) -> Call {
    Call::Range(RangeRequest {
        key: Bytes::from_static(key.as_bytes()),
        ..RangeRequest::default()
    })
}

fn put_of(key: &'static str) -> Call {
    Call::Put(PutRequest {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(b"value"),
        ..PutRequest::default()
    })
}

/// Users of every kind: with and without a password, roles and permissions. The last
/// call switches authentication on.
pub fn users() -> Vec<Call> {
    let text = str::to_owned;
    let add = |name: &str| Call::UserAdd(text(name), Some(format!("{name}-password")));
    let grant = |permission| Call::GrantPermission(text("mixed"), Some(permission));
    vec![
        put_of("read/1"),
        put_of("other"),
        add("root"),
        add("reader"),
        add("roleless"),
        Call::UserAdd(text("by-certificate"), None),
        Call::RoleAdd(text("root")),
        Call::RoleAdd(text("mixed")),
        Call::RoleAdd(text("empty")),
        grant(permission(Type::Read, "read/", "read0")),
        grant(permission(Type::Write, "write", "")),
        grant(permission(Type::Readwrite, "z", "\0")),
        Call::GrantRole(text("root"), text("root")),
        Call::GrantRole(text("reader"), text("mixed")),
        Call::GrantRole(text("reader"), text("empty")),
        Call::GrantRole(text("by-certificate"), text("mixed")),
        Call::Enable,
    ]
}

/// What root is told of users and roles, and what the others may do.
pub async fn ask_users(cluster: &Cluster) -> Result<Vec<CallResult>> {
    let text = str::to_owned;
    let login = |name: &str, password: &str| (None, Call::Login(text(name), text(password)));
    let mut calls = vec![
        login("root", "root-password"),
        login("reader", "reader-password"),
        login("roleless", "roleless-password"),
        login("reader", "another"),
        login("by-certificate", "none"),
    ];
    let asked = [Call::Status, Call::UserList, Call::RoleList].into_iter();
    let users = ["root", "reader", "roleless", "by-certificate"];
    let roles = ["root", "mixed", "empty"];
    let asked = asked
        .chain(users.map(|user| Call::UserGet(text(user))))
        .chain(roles.map(|role| Call::RoleGet(text(role))));
    calls.extend(asked.map(|call| (Some("root"), call)));
    for user in [None, Some("reader"), Some("roleless")] {
        for call in [range_of("read/1"), range_of("other"), put_of("other")] {
            calls.push((user, call));
        }
    }
    calls.push((Some("root"), range_of("other")));
    let mut server = Asked::new(cluster.channel(0)?);
    let mut answers = Vec::new();
    for (user, call) in calls {
        answers.push(server.make(user, &call).await?);
    }
    Ok(answers)
}

#[tokio::test]
async fn users_and_roles_are_saved_and_root_alone_may_save() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("snapshot.db").display().to_string();
    let options = Options::new(cluster::mizzen()?).members(1);
    Cluster::run(options.flag("--bcrypt-cost=4"), async |cluster| {
        let mut server = Asked::new(cluster.channel(0)?);
        for call in users() {
            let made = server.make(None, &call).await?;
            made.map_err(|refused| anyhow::anyhow!("{call:?}: {refused:?}"))?;
        }
        let ours = ask_users(cluster).await?;
        for (user, refusal) in [
            (&[][..], "user name is empty"),
            (&["--user=reader:reader-password"], "permission denied"),
        ] {
            let saved = save_as(user, cluster.endpoint(0), &file);
            let said = saved.err().context("somebody else has saved it")?;
            ensure!(said.to_string().contains(refusal), "{user:?}: {said}");
        }
        save_as(&["--user=root:root-password"], cluster.endpoint(0), &file)?;
        restored(&file)
            .await?
            .attend(async |etcd| {
                let theirs = ask_users(etcd).await?;
                ensure!(ours == theirs, "here {ours:#?}, in etcd {theirs:#?}");
                let carried_out = ours.iter().filter(|answer| answer.is_ok()).count();
                ensure!(
                    carried_out > 12 && carried_out < ours.len(),
                    "{carried_out} of {}",
                    ours.len()
                );
                Ok(())
            })
            .await
    })
    .await
}
