//! A running etcd is taken over under writes: three members follow it, and go on where
//! it ended, with the same revisions, so that no watcher has to list again.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use etcd_client::{Client, LeaseGrantOptions, PutOptions, Txn, TxnOp, WatchOptions};
use mizzen_tests::cluster::{self, Cluster, Options};
use rustix::process::{Pid, Signal, kill_process};

use super::restore::same_everywhere;
use super::snapshot::{fill, run, see, tool};

/// A `mizzen migrate` under way.
pub struct Following {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Following {
    pub fn start(ours: &Cluster, index: usize, from: &[String]) -> Result<Self> {
        let members: Vec<String> = (0..ours.len())
            .map(|index| format!("{}={}", ours.name(index), ours.peer_url(index)))
            .collect();
        let mut child = Command::new(cluster::mizzen()?)
            .arg("migrate")
            .args(from)
            .arg(format!("--data-dir={}", ours.data_dir(index).display()))
            .arg(format!("--name={}", ours.name(index)))
            .arg(format!("--initial-cluster={}", members.join(",")))
            .arg(format!(
                "--initial-advertise-peer-urls={}",
                ours.peer_url(index)
            ))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().context("stdout")?);
        Ok(Self { child, lines })
    }

    /// Reads up to the line that begins so.
    pub fn says(&mut self, begin: &str) -> Result<String> {
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line)?;
            ensure!(read > 0, "it ended without {begin:?}");
            if line.starts_with(begin) {
                return Ok(line);
            }
        }
    }

    /// Tells it that writes have ended.
    pub fn stop(&self) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::TERM)?)
    }

    /// What it says in the end, once it was told.
    pub fn finish(mut self) -> Result<String> {
        let said = self.says("migrated up to revision ");
        let status = self.child.wait()?;
        ensure!(
            status.success(),
            "mizzen migrate ended with {status}: {said:?}"
        );
        said
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // It has ended already, unless the test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes of every kind until it is stopped; how many.
async fn write(mut client: Client, stop: Arc<AtomicBool>) -> Result<u64> {
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        let key = format!("live/{}", rounds % 50);
        client.put(key.clone(), rounds.to_string(), None).await?;
        let both = vec![
            TxnOp::put(format!("both/{rounds}"), "1", None),
            TxnOp::delete(key, None),
            TxnOp::put(format!("both/{}", rounds / 2 + 1_000_000), "2", None),
        ];
        client.txn(Txn::new().and_then(both)).await?;
        if rounds % 10 == 0 {
            let id = i64::try_from(rounds)? + 100;
            let options = LeaseGrantOptions::new().with_id(id);
            client.lease_grant(3_600, Some(options)).await?;
            let options = PutOptions::new().with_lease(id);
            client
                .put(format!("leased/{id}"), "x", Some(options))
                .await?;
        }
        if rounds % 20 == 10 {
            client.lease_revoke(i64::try_from(rounds)? + 90).await?;
        }
        rounds += 1;
    }
    Ok(rounds)
}

async fn leases(client: &mut Client) -> Result<Vec<(i64, i64, usize)>> {
    let mut all = Vec::new();
    let ids: Vec<i64> = client
        .leases()
        .await?
        .leases()
        .iter()
        .map(|lease| lease.id())
        .collect();
    for id in ids {
        let keys = etcd_client::LeaseTimeToLiveOptions::new().with_keys();
        let told = client.lease_time_to_live(id, Some(keys)).await?;
        all.push((id, told.granted_ttl(), told.keys().len()));
    }
    all.sort_unstable();
    Ok(all)
}

#[tokio::test]
async fn a_running_etcd_is_taken_over_under_writes() -> Result<()> {
    let etcd = Cluster::start(Options::new(cluster::reference()?)).await?;
    let mut client = Client::connect(etcd.endpoints(), None).await?;
    let compacted = fill(&mut client).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = Client::connect(etcd.endpoints(), None).await?;
    let writing = tokio::spawn(write(writing, stop.clone()));
    let ours = Cluster::prepare(Options::new(cluster::mizzen()?)).await?;
    let mut following = Vec::new();
    for index in 0..ours.len() {
        let from = format!("--from=http://{}", etcd.endpoint(index));
        let mut one = Following::start(&ours, index, &[from])?;
        one.says("following")?;
        following.push(one);
    }
    // Something happens after the last one's snapshot.
    let begun = see(&mut client, compacted).await?.revision;
    while see(&mut client, compacted).await?.revision < begun + 200 {}
    stop.store(true, Ordering::Relaxed);
    let rounds = writing.await??;
    ensure!(rounds > 50, "only {rounds} rounds of writes");
    let theirs = see(&mut client, compacted).await?;
    let their_leases = leases(&mut client).await?;
    ensure!(their_leases.len() > 2, "{their_leases:?}");
    let paused = Instant::now();
    let mut said = Vec::new();
    for one in &following {
        one.stop()?;
    }
    for one in following {
        said.push(one.finish()?);
    }
    ensure!(said.windows(2).all(|pair| pair[0] == pair[1]), "{said:?}");
    let mut ours = ours;
    for index in 0..ours.len() {
        ours.spawn(index)?;
    }
    ours.wait_ready(0).await?;
    let mut client = Client::connect(ours.endpoints(), None).await?;
    // A watcher that goes on where it was.
    let options = WatchOptions::new()
        .with_prefix()
        .with_start_revision(theirs.revision + 1);
    let mut watch = client.watch("", Some(options)).await?;
    client.put("after", "1", None).await?;
    println!(
        "{rounds} rounds of writes; the pause took {:?}; {}",
        paused.elapsed(),
        said[0]
    );
    let event = async {
        loop {
            let message = watch.message().await?.context("an event")?;
            ensure!(!message.canceled(), "{message:?}");
            if let Some(event) = message.events().first() {
                let kv = event.kv().context("a key")?;
                return Ok((kv.key().to_vec(), kv.mod_revision()));
            }
        }
    };
    let event = tokio::time::timeout(Duration::from_secs(30), event).await??;
    ensure!(
        event == (b"after".to_vec(), theirs.revision + 1),
        "{event:?}"
    );
    client.delete("after", None).await?;
    for index in 0..ours.len() {
        ours.wait_ready(index).await?;
    }
    let our_leases = leases(&mut client).await?;
    ensure!(
        our_leases == their_leases,
        "{our_leases:?}, there {their_leases:?}"
    );
    ours.attend(async |ours| {
        let mut seen = see(
            &mut Client::connect(ours.endpoints(), None).await?,
            compacted,
        )
        .await?;
        ensure!(seen.revision == theirs.revision + 2, "{}", seen.revision);
        seen.forget_after(theirs.revision);
        ensure!(seen == theirs, "they differ after the migration");
        let again = see(
            &mut Client::connect([ours.endpoint(0)], None).await?,
            compacted,
        )
        .await?;
        same_everywhere(ours, compacted, &again).await
    })
    .await
}

/// With certificates and as root.
#[tokio::test]
async fn an_etcd_with_tls_and_users_is_taken_over() -> Result<()> {
    let etcd = Options::new(cluster::reference()?)
        .tls()
        .members(1)
        .flag("--bcrypt-cost=4");
    let etcd = Cluster::start(etcd).await?;
    let pki = etcd.pki().context("it has certificates")?;
    let path = |name: &str| pki.path(name).display().to_string();
    let flags = [
        format!("--cacert={}", path("ca.crt")),
        format!("--cert={}", path("client.crt")),
        format!("--key={}", path("client.key")),
    ];
    let url = format!("https://{}", etcd.endpoint(0));
    let etcdctl = |words: &[&str]| {
        let endpoint = format!("--endpoints={url}");
        let flags = flags.iter().map(String::as_str);
        let all: Vec<&str> = std::iter::once(endpoint.as_str())
            .chain(flags)
            .chain(words.iter().copied())
            .collect();
        run(&tool("etcdctl")?, &all)
    };
    etcdctl(&["put", "k", "v"])?;
    etcdctl(&["user", "add", "root:p"])?;
    etcdctl(&["auth", "enable"])?;
    let ours = Cluster::prepare(Options::new(cluster::mizzen()?).members(1)).await?;
    let mut from = flags.to_vec();
    from.extend([format!("--from={url}"), "--user=root:p".to_owned()]);
    let mut one = Following::start(&ours, 0, &from)?;
    one.says("following")?;
    etcdctl(&["--user=root:p", "put", "k", "w"])?;
    one.stop()?;
    one.finish()?;
    let mut ours = ours;
    ours.spawn(0)?;
    ours.wait_ready(0).await?;
    let endpoint = format!("--endpoints={}", ours.endpoint(0));
    let value = run(&tool("etcdctl")?, &[&endpoint, "--user=root:p", "get", "k"])?;
    ensure!(value == "k\nw\n", "{value:?}");
    let refused = run(&tool("etcdctl")?, &[&endpoint, "get", "k"]);
    ensure!(refused.is_err(), "without a user: {refused:?}");
    Ok(())
}
