//! `mizzen snapshot`: backups of etcd and of our own become clusters that serve
//! what was in them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use etcd_client::Client;
use mizzen_proto::etcdserverpb::MemberAddRequest;
use mizzen_proto::etcdserverpb::cluster_client::ClusterClient;
use mizzen_tests::cluster::{self, Cluster, Options};
use tokio::time::timeout;

use super::snapshot::{Seen, ask_users, fill, raise_alarm, run, save, save_as, see, tool, users};
use mizzen_tests::auth::call::Asked;

/// A cluster of three, each member restored from the file, or what flags name.
pub async fn restored(file: &str, more: &[&str]) -> Result<Cluster> {
    let mizzen = cluster::mizzen()?;
    let mut cluster = Cluster::prepare(Options::new(&mizzen)).await?;
    let members: Vec<String> = (0..cluster.len())
        .map(|index| format!("{}={}", cluster.name(index), cluster.peer_url(index)))
        .collect();
    let members = format!("--initial-cluster={}", members.join(","));
    for index in 0..cluster.len() {
        let dir = cluster.data_dir(index).display().to_string();
        let arguments = [
            &["snapshot", "restore"][..],
            &[file, &members],
            &["--data-dir", &dir, "--name", &cluster.name(index)],
            &["--initial-advertise-peer-urls", &cluster.peer_url(index)],
            &["--initial-cluster-token", "restored"],
            more,
        ];
        run(&mizzen, &arguments.concat())?;
    }
    for index in 0..cluster.len() {
        cluster.spawn(index)?;
    }
    for index in 0..cluster.len() {
        cluster.wait_ready(index).await?;
    }
    Ok(cluster)
}

/// Each member by itself, the leader among them.
pub async fn same_everywhere(cluster: &Cluster, compacted: i64, expected: &Seen) -> Result<()> {
    for endpoint in cluster.endpoints() {
        let mut client = Client::connect([&endpoint], None).await?;
        let seen = see(&mut client, compacted).await?;
        ensure!(
            seen.revision == expected.revision,
            "{}: {}",
            endpoint,
            seen.revision
        );
        for (seen, expected) in seen.head.iter().zip(&expected.head) {
            ensure!(
                seen == expected,
                "{endpoint}: {seen:?}, and in etcd {expected:?}"
            );
        }
        ensure!(seen == *expected, "{endpoint}: they differ");
    }
    Ok(())
}

/// Keys, history, leases, users: then the members fall and come back, one joins, and
/// all of it goes back to etcd.
#[tokio::test]
async fn a_backup_of_etcd_becomes_a_cluster() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("etcd.db").display().to_string();
    let own = folder.path().join("own.db").display().to_string();
    let mut before = None;
    let etcd = Options::new(cluster::reference()?).members(1);
    Cluster::run(etcd, async |etcd| {
        let mut client = Client::connect(etcd.endpoints(), None).await?;
        let compacted = fill(&mut client).await?;
        before = Some((
            compacted,
            see(&mut client, compacted).await?,
            etcd.status(0).await?.raft_term,
        ));
        raise_alarm(etcd).await?;
        save(etcd.endpoint(0), &file)
    })
    .await?;
    let (compacted, theirs, term) = before.context("it was looked at")?;
    restored(&file, &[])
        .await?
        .attend(async |ours| {
            same_everywhere(ours, compacted, &theirs).await?;
            let status = ours.status(0).await?;
            ensure!(status.raft_term > term, "{} after {term}", status.raft_term);
            ensure!(
                status.errors.len() == 1 && status.errors[0].contains("NOSPACE"),
                "{status:?}"
            );
            // Nothing is in memory only.
            for index in 0..ours.len() {
                ours.kill(index)?;
            }
            for index in 0..ours.len() {
                ours.spawn(index)?;
            }
            for index in 0..ours.len() {
                ours.wait_ready(index).await?;
            }
            same_everywhere(ours, compacted, &theirs).await?;
            save(ours.endpoint(1), &own)?;
            join(ours).await?;
            same_everywhere(ours, compacted, &theirs).await
        })
        .await?;
    goes_back(&own, compacted, &theirs).await
}

/// Stock etcdutl restores what was saved here, and it is what was there before.
pub async fn goes_back(file: &str, compacted: i64, theirs: &Seen) -> Result<()> {
    super::snapshot::restored(file)
        .await?
        .attend(async |etcd| {
            let mut client = Client::connect(etcd.endpoints(), None).await?;
            let seen = see(&mut client, compacted).await?;
            ensure!(seen == *theirs, "they differ after the way there and back");
            Ok(())
        })
        .await
}

/// A new member has to get the rows: the log of a restored cluster lacks them.
async fn join(cluster: &mut Cluster) -> Result<()> {
    let mut client = ClusterClient::new(cluster.channel(0)?);
    let there: Vec<usize> = (0..cluster.len()).collect();
    let index = cluster.reserve()?;
    let request = MemberAddRequest {
        peer_ur_ls: vec![cluster.peer_url(index)],
        is_learner: false,
    };
    // Not before the members have known each other for some seconds.
    let added = async {
        while let Err(refused) = client.member_add(request.clone()).await {
            if !refused.message().contains("unhealthy cluster") {
                return Err(refused);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    };
    timeout(Duration::from_secs(30), added).await??;
    cluster.join(index, &[there, vec![index]].concat())?;
    cluster.wait_ready(index).await
}

#[tokio::test]
async fn users_and_roles_are_restored() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("etcd.db").display().to_string();
    let mut theirs = None;
    let etcd = Options::new(cluster::reference()?)
        .members(1)
        .flag("--bcrypt-cost=4");
    Cluster::run(etcd, async |etcd| {
        let mut server = Asked::new(etcd.channel(0)?);
        for call in users() {
            let made = server.make(None, &call).await?;
            made.map_err(|refused| anyhow::anyhow!("{call:?}: {refused:?}"))?;
        }
        theirs = Some(ask_users(etcd).await?);
        save_as(&["--user=root:root-password"], etcd.endpoint(0), &file)
    })
    .await?;
    restored(&file, &[])
        .await?
        .attend(async |cluster| {
            let ours = ask_users(cluster).await?;
            ensure!(
                Some(&ours) == theirs.as_ref(),
                "here {ours:#?}, in etcd {theirs:#?}"
            );
            Ok(())
        })
        .await
}

/// For clients that would not notice that revisions went back.
#[tokio::test]
async fn revisions_go_on_after_those_that_were_lost() -> Result<()> {
    const BUMP: i64 = 1_000_000;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("own.db").display().to_string();
    let mut before = 0;
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let mut client = Client::connect(cluster.endpoints(), None).await?;
        let compacted = fill(&mut client).await?;
        before = see(&mut client, compacted).await?.revision;
        save(cluster.endpoint(0), &file)
    })
    .await?;
    let bump = BUMP.to_string();
    let flags = ["--bump-revision", &bump, "--mark-compacted"];
    restored(&file, &flags)
        .await?
        .attend(async |cluster| {
            let mut client = Client::connect(cluster.endpoints(), None).await?;
            let found = client.get("huge", None).await?;
            let revision = found.header().context("a header")?.revision();
            ensure!(revision == before + BUMP, "{revision} after {before}");
            let old = etcd_client::GetOptions::new().with_revision(before);
            let refused = client.get("huge", Some(old)).await.err();
            let refused = refused.context("an old revision can be read")?.to_string();
            ensure!(
                refused.contains("required revision has been compacted"),
                "{refused}"
            );
            let put = client.put("huge", "new", None).await?;
            let revision = put.header().context("a header")?.revision();
            ensure!(revision == before + BUMP + 1, "{revision}");
            Ok(())
        })
        .await
}

/// Exit code, and what is printed.
pub fn said(program: &Path, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let output = Command::new(program).args(arguments).output()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text)?;
    // Logs come before it, if there are any.
    let text = text
        .lines()
        .filter(|line| !line.starts_with('{') && !line.starts_with("20"));
    Ok((output.status.code(), text.collect::<Vec<_>>().join("\n")))
}

/// The first two pages of a database say where everything is.
const PAGE: usize = 4096;

/// Beside etcdutl: what a backup holds, and files that are none.
#[tokio::test]
async fn backups_are_judged_as_by_etcdutl() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let file = path("etcd.db");
    Cluster::run(
        Options::new(cluster::reference()?).members(1),
        async |etcd| {
            let mut client = Client::connect(etcd.endpoints(), None).await?;
            fill(&mut client).await?;
            save(etcd.endpoint(0), &file)
        },
    )
    .await?;
    let (mizzen, etcdutl) = (cluster::mizzen()?, tool("etcdutl")?);
    for form in ["simple", "json", "fields", "table"] {
        let arguments = ["snapshot", "status", &file, "-w", form];
        let (ours, theirs) = (run(&mizzen, &arguments)?, run(&etcdutl, &arguments)?);
        ensure!(ours == theirs, "{form}: {ours:?}, of etcdutl {theirs:?}");
    }
    let whole = std::fs::read(&file)?;
    let mut broken = whole.clone();
    broken[whole.len() / 2] ^= 1;
    std::fs::write(path("broken.db"), &broken)?;
    std::fs::write(path("bare.db"), &whole[..whole.len() - 32])?;
    let full = path("full");
    std::fs::create_dir(&full)?;
    std::fs::write(Path::new(&full).join("file"), "")?;
    let (a, b) = (path("a"), path("b"));
    for (name, flags) in [
        ("broken.db", &[][..]),
        ("bare.db", &[]),
        ("none.db", &[]),
        ("etcd.db", &["--data-dir", &full]),
        ("etcd.db", &["--name", "another"]),
        ("etcd.db", &["--bump-revision", "5"]),
        ("etcd.db", &["--initial-cluster", "default=none"]),
    ] {
        let from = path(name);
        let mut answers = Vec::new();
        for (program, dir) in [(&mizzen, &a), (&etcdutl, &b)] {
            let arguments = [&["snapshot", "restore", &from, "--data-dir", dir], flags].concat();
            let (code, text) = said(program, &arguments)?;
            ensure!(code != Some(0), "{program:?} {arguments:?}: {text}");
            let _ = std::fs::remove_dir_all(dir);
            answers.push((code, text));
        }
        let (ours, theirs) = (&answers[0], &answers[1]);
        // etcdutl explains itself further.
        let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        ensure!(ours.0 == theirs.0, "{name} {flags:?}: {answers:#?}");
        if name != "none.db" {
            ensure!(
                first(&ours.1) == first(&theirs.1),
                "{name} {flags:?}: {answers:#?}"
            );
        }
    }
    // Without its hash, on request.
    let arguments = [
        "snapshot",
        "restore",
        &path("bare.db"),
        "--skip-hash-check",
        "--data-dir",
        &a,
    ];
    run(&mizzen, &arguments)?;
    ensure!(Path::new(&a).join("member/identity").exists());
    // One that breaks off leaves a directory that no member begins on.
    let mut damaged = whole[..whole.len() - 32].to_vec();
    damaged[2 * PAGE..].fill(0);
    std::fs::write(path("damaged.db"), &damaged)?;
    let half = path("half");
    let arguments = [
        "snapshot",
        "restore",
        &path("damaged.db"),
        "--skip-hash-check",
        "--data-dir",
        &half,
    ];
    let (code, text) = said(&mizzen, &arguments)?;
    ensure!(code == Some(1), "{arguments:?} ended with {code:?}: {text}");
    for _ in 0..2 {
        let ended = Command::new(&mizzen).args(["--data-dir", &half]).output()?;
        let text = String::from_utf8_lossy(&ended.stderr);
        ensure!(
            !ended.status.success() && text.contains("that was interrupted"),
            "a member on half of a backup ended with {ended:?}"
        );
    }
    Ok(())
}
