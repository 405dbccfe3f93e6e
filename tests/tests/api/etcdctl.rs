//! The commands of etcdctl against each member of a three-replica cluster, with
//! every etcdctl that is there: an old client (3.4) and the current one (3.7).

mod every_command;
mod sessions;
mod users;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mizzen_proto::etcdserverpb::{
    AlarmRequest, AlarmType, alarm_request::AlarmAction, maintenance_client::MaintenanceClient,
};
use mizzen_tests::cluster::{self, Cluster};
use mizzen_tests::shared;
use mizzen_tests::skip::{self, Why};
use serde_json::Value;

const VERSIONS: [&str; 2] = ["3.4", "3.7"];

/// One etcdctl bound to one member.
#[derive(Clone)]
struct Etcdctl {
    program: PathBuf,
    version: &'static str,
    endpoint: String,
}

struct Printed {
    success: bool,
    stdout: String,
    stderr: String,
}

impl Etcdctl {
    fn run(&self, arguments: &[&str], input: &str) -> Result<Printed> {
        let mut child = Command::new(&self.program)
            .arg(format!("--endpoints={}", self.endpoint))
            .args(arguments)
            // 3.4 needs to be told; later versions know no other API.
            .env("ETCDCTL_API", "3")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("run {}", self.program.display()))?;
        let mut stdin = child.stdin.take().context("stdin")?;
        stdin.write_all(input.as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        Ok(Printed {
            success: output.status.success(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    fn command(&self, arguments: &[&str]) -> String {
        format!(
            "ETCDCTL_API=3 {} --endpoints={} {}",
            self.program.display(),
            self.endpoint,
            arguments.join(" ")
        )
    }

    /// The output of a command that must succeed.
    fn output(&self, arguments: &[&str], input: &str) -> Result<String> {
        let printed = self.run(arguments, input)?;
        ensure!(
            printed.success,
            "{}: {}",
            self.command(arguments),
            printed.stderr
        );
        Ok(printed.stdout)
    }

    fn prints(&self, arguments: &[&str], input: &str, expected: &str) -> Result<()> {
        let stdout = self.output(arguments, input)?;
        ensure!(
            stdout == expected,
            "{} printed {stdout:?}, expected {expected:?}",
            self.command(arguments)
        );
        Ok(())
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let arguments = [arguments, &["-w", "json"]].concat();
        Ok(serde_json::from_str(&self.output(&arguments, "")?)?)
    }

    fn fails(&self, arguments: &[&str], expected: &str) -> Result<()> {
        let printed = self.run(arguments, "")?;
        let last = printed.stderr.lines().last().unwrap_or_default();
        ensure!(
            !printed.success && last == format!("Error: {expected}"),
            "{} printed {:?}, expected error {expected:?}",
            self.command(arguments),
            printed.stderr
        );
        Ok(())
    }
}

/// The version of an etcdctl, as `major.minor`.
fn version(program: &Path) -> Result<String> {
    let output = Command::new(program)
        .arg("version")
        .env("ETCDCTL_API", "3")
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let full = text
        .lines()
        .find_map(|line| line.strip_prefix("etcdctl version: "))
        .with_context(|| format!("{} version printed {text:?}", program.display()))?;
    Ok(full.split('.').take(2).collect::<Vec<_>>().join("."))
}

/// Every etcdctl of the versions that is there.
fn etcdctls() -> Result<Vec<(&'static str, PathBuf)>> {
    let mut found = Vec::new();
    for program in cluster::find_tool("etcdctl") {
        found.push((version(&program)?, program));
    }
    let mut chosen = Vec::new();
    for wanted in VERSIONS {
        match found.iter().find(|(version, _)| version == wanted) {
            Some((_, program)) => chosen.push((wanted, program.clone())),
            None => skip::part(wanted, &Why::program(&format!("etcdctl {wanted}")))?,
        }
    }
    Ok(chosen)
}

/// Runs a group of commands with each etcdctl against each member.
async fn each(group: impl AsyncFn(&Etcdctl, &Cluster) -> Result<()>) -> Result<()> {
    let cluster = shared::store().await?;
    let mut failures = Vec::new();
    for (version, program) in etcdctls()? {
        for endpoint in cluster.endpoints() {
            let etcdctl = Etcdctl {
                program: program.clone(),
                version,
                endpoint,
            };
            if let Err(error) = group(&etcdctl, &cluster).await {
                failures.push(format!("{error:#}"));
            }
        }
    }
    ensure!(
        failures.is_empty(),
        "{}\n{}",
        failures.join("\n"),
        cluster.failure_report()
    );
    Ok(())
}

macro_rules! groups {
    ($($name:ident: $group:path;)*) => {$(
        #[tokio::test]
        async fn $name() -> Result<()> {
            each(async |etcdctl, _| $group(etcdctl)).await
        }
    )*};
}

groups! {
    put_get_and_del: keys;
    txn: transaction;
    compact: compaction;
    watch: sessions::watch;
    lease: sessions::lease;
    lock: sessions::lock;
    elect: sessions::elect;
    endpoint_status_and_health: status;
    member_changes: member_change;
}

#[tokio::test]
async fn member_list() -> Result<()> {
    each(async |etcdctl, cluster| members(etcdctl, cluster)).await
}

#[tokio::test]
async fn alarm() -> Result<()> {
    each(alarms).await
}

#[tokio::test]
async fn endpoint_hashkv() -> Result<()> {
    let cluster = shared::store().await?;
    for (_, program) in etcdctls()? {
        ensure_equal_hashes(&program, &cluster)?;
    }
    Ok(())
}

fn keys(etcdctl: &Etcdctl) -> Result<()> {
    etcdctl.prints(&["put", "smoke/a", "1"], "", "OK\n")?;
    etcdctl.prints(
        &["put", "smoke/a", "2", "--prev-kv"],
        "",
        "OK\nsmoke/a\n1\n",
    )?;
    etcdctl.prints(&["put", "smoke/b", "from\nstdin"], "", "OK\n")?;
    etcdctl.prints(&["get", "smoke/a"], "", "smoke/a\n2\n")?;
    etcdctl.prints(&["get", "smoke/missing"], "", "")?;
    etcdctl.prints(
        &["get", "smoke/", "--prefix", "--keys-only"],
        "",
        "smoke/a\n\nsmoke/b\n\n",
    )?;
    etcdctl.prints(
        &["get", "smoke/", "--prefix", "--order=DESCEND", "--limit=1"],
        "",
        "smoke/b\nfrom\nstdin\n",
    )?;
    etcdctl.prints(
        &["get", "smoke/a", "--print-value-only", "--consistency=s"],
        "",
        "2\n",
    )?;
    etcdctl.fails(&["get", ""], "etcdserver: key is not provided")?;
    etcdctl.prints(
        &["del", "smoke/", "--prefix", "--prev-kv"],
        "",
        "2\nsmoke/a\n2\nsmoke/b\nfrom\nstdin\n",
    )?;
    etcdctl.prints(&["del", "smoke/a"], "", "0\n")
}

fn transaction(etcdctl: &Etcdctl) -> Result<()> {
    etcdctl.prints(&["put", "smoke/k", "v"], "", "OK\n")?;
    let request = "value(\"smoke/k\") = \"v\"\n\nput smoke/k w\nget smoke/k\n\nget smoke/k\n\n";
    etcdctl.prints(&["txn"], request, "SUCCESS\n\nOK\n\nsmoke/k\nw\n")?;
    etcdctl.prints(&["txn"], request, "FAILURE\n\nsmoke/k\nw\n")?;
    etcdctl.prints(&["del", "smoke/k"], "", "1\n")
}

fn compaction(etcdctl: &Etcdctl) -> Result<()> {
    etcdctl.prints(&["put", "smoke/k", "v"], "", "OK\n")?;
    let reply = etcdctl.json(&["get", "smoke/k"])?;
    let revision = reply["header"]["revision"].as_i64().context("revision")?;
    let kv = &reply["kvs"][0];
    ensure!(
        kv["mod_revision"] == revision && kv["key"] == "c21va2Uvaw==" && kv["value"] == "dg==",
        "get -w json printed {reply}"
    );
    let at = revision.to_string();
    etcdctl.prints(
        &["compaction", &at],
        "",
        &format!("compacted revision {revision}\n"),
    )?;
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    etcdctl.fails(&["compaction", &at], compacted)?;
    let below = format!("--rev={}", revision - 1);
    etcdctl.fails(&["get", "smoke/k", &below], compacted)?;
    etcdctl.fails(
        &["compaction", &(revision + 1000).to_string()],
        "etcdserver: mvcc: required revision is a future revision",
    )?;
    let rev = format!("--rev={revision}");
    etcdctl.prints(&["get", "smoke/k", &rev], "", "smoke/k\nv\n")?;
    etcdctl.prints(&["del", "smoke/k"], "", "1\n")
}

fn status(etcdctl: &Etcdctl) -> Result<()> {
    let reply = etcdctl.json(&["endpoint", "status"])?;
    ensure!(
        reply[0]["Endpoint"] == etcdctl.endpoint,
        "status printed {reply}"
    );
    let status = &reply[0]["Status"];
    let positive = [
        "dbSize",
        "dbSizeInUse",
        "leader",
        "raftIndex",
        "raftTerm",
        "raftAppliedIndex",
    ];
    for field in positive {
        ensure!(
            status[field].as_u64().is_some_and(|number| number > 0),
            "{field} in {reply}"
        );
    }
    ensure!(
        status["version"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.7.")),
        "version in {reply}"
    );
    let health = etcdctl.run(&["endpoint", "health"], "")?;
    // 3.4 prints this to the standard error output.
    let text = health.stdout + &health.stderr;
    ensure!(
        health.success && text.contains(&format!("{} is healthy", etcdctl.endpoint)),
        "health printed {text}"
    );
    Ok(())
}

fn members(etcdctl: &Etcdctl, cluster: &Cluster) -> Result<()> {
    let list = etcdctl.output(&["member", "list"], "")?;
    ensure!(
        list.lines().count() == cluster.len(),
        "member list printed {list}"
    );
    for (index, endpoint) in cluster.endpoints().iter().enumerate() {
        let (name, client) = (format!("m{}", index + 1), format!("http://{endpoint}"));
        let found = list.lines().any(|line| {
            let fields: Vec<&str> = line.split(", ").collect();
            matches!(fields[..], [id, "started", listed, _, url, "false"]
                if u64::from_str_radix(id, 16).is_ok() && listed == name && url == client)
        });
        ensure!(found, "no {name} at {client} in {list}");
    }
    Ok(())
}

fn member_change(etcdctl: &Etcdctl) -> Result<()> {
    let add = [
        "member",
        "add",
        "new",
        "--learner",
        "--peer-urls=http://127.0.0.1:9",
    ];
    let added = allowed(etcdctl, &add)?;
    // `Member <id> added to cluster <id>`.
    let id = added
        .split_whitespace()
        .nth(1)
        .with_context(|| format!("member add printed {added:?}"))?;
    let listed = |expected: &str| {
        let list = etcdctl.output(&["member", "list"], "")?;
        let line = list.lines().find(|line| line.starts_with(id));
        ensure!(
            line == Some(expected),
            "member list printed {list}, expected {expected:?}"
        );
        Ok(())
    };
    listed(&format!("{id}, unstarted, , http://127.0.0.1:9, , true"))?;
    let update = ["member", "update", id, "--peer-urls=http://127.0.0.1:10"];
    etcdctl.output(&update, "")?;
    listed(&format!("{id}, unstarted, , http://127.0.0.1:10, , true"))?;
    etcdctl.fails(
        &["member", "promote", id],
        "etcdserver: can only promote a learner member which is in sync with leader",
    )?;
    etcdctl.output(&["member", "remove", id], "")?;
    etcdctl.fails(&["member", "remove", id], "etcdserver: member not found")
}

/// An alarm raised through the API is listed, makes a member unhealthy, refuses
/// what it forbids, and is ended by `alarm disarm`.
async fn alarms(raised: &Etcdctl, cluster: &Cluster) -> Result<()> {
    let other = Etcdctl {
        endpoint: cluster.endpoint(1).to_owned(),
        ..raised.clone()
    };
    raised.prints(&["alarm", "list"], "", "")?;
    raised.prints(&["alarm", "disarm"], "", "")?;
    let request = AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id: 7,
        alarm: AlarmType::Nospace.into(),
    };
    MaintenanceClient::new(cluster.channel(0)?)
        .alarm(request)
        .await?;
    // Go's printer of messages puts one space or two between fields.
    let listed = |arguments: &[&str]| {
        let text = other.output(arguments, "")?;
        ensure!(
            text.split_whitespace().eq(["memberID:7", "alarm:NOSPACE"]),
            "{} printed {text:?}",
            other.command(arguments)
        );
        Ok(())
    };
    listed(&["alarm", "list"])?;
    other.fails(
        &["put", "smoke/k", "v"],
        "etcdserver: mvcc: database space exceeded",
    )?;
    other.output(&["del", "smoke/k"], "")?;
    // Older ones look at no alarms.
    if raised.version != "3.4" {
        let health = other.run(&["endpoint", "health"], "")?;
        let text = health.stdout + &health.stderr;
        ensure!(
            !health.success && text.contains("NOSPACE"),
            "health printed {text}"
        );
    }
    listed(&["alarm", "disarm"])?;
    other.prints(&["alarm", "list"], "", "")?;
    raised.prints(&["put", "smoke/k", "v"], "", "OK\n")?;
    other.prints(&["del", "smoke/k"], "", "1\n")
}

/// The output of a change that is refused as long as connections between
/// members are younger than a few seconds, as by etcd.
fn allowed(etcdctl: &Etcdctl, arguments: &[&str]) -> Result<String> {
    let started = Instant::now();
    loop {
        let printed = etcdctl.run(arguments, "")?;
        if printed.success {
            return Ok(printed.stdout);
        }
        ensure!(
            printed.stderr.contains("etcdserver: unhealthy cluster")
                && started.elapsed() < Duration::from_secs(10),
            "{}: {}",
            etcdctl.command(arguments),
            printed.stderr
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn ensure_equal_hashes(program: &Path, cluster: &Cluster) -> Result<()> {
    let mut hashes = Vec::new();
    for endpoint in cluster.endpoints() {
        let etcdctl = Etcdctl {
            program: program.to_owned(),
            version: "",
            endpoint,
        };
        // A linearizable read: the member has applied all writes from here on.
        etcdctl.output(&["get", "smoke/k"], "")?;
        let line = etcdctl.output(&["endpoint", "hashkv"], "")?;
        let Some(("", rest)) = line.split_once(&format!("{}, ", etcdctl.endpoint)) else {
            bail!(
                "{} printed {line:?}",
                etcdctl.command(&["endpoint", "hashkv"])
            );
        };
        let hash: u32 = rest
            .split([',', '\n'])
            .next()
            .unwrap_or_default()
            .trim()
            .parse()
            .with_context(|| format!("hash in {line:?}"))?;
        let reply = etcdctl.json(&["endpoint", "hashkv"])?;
        ensure!(
            reply[0]["HashKV"]["hash"] == hash,
            "{line:?}, but as JSON {reply}"
        );
        hashes.push(hash);
    }
    ensure!(
        hashes.windows(2).all(|pair| pair[0] == pair[1]),
        "hashes differ: {hashes:?}"
    );
    Ok(())
}
