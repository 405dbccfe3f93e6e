//! Data directories of etcd: taken over once etcd was stopped, refused where the log
//! knows more than the database, where an etcd is at work, and as a member's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use etcd_client::Client;
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::skip::{self, Why};
use serde_json::Value;

use super::restore::{goes_back, restored, said, same_everywhere};
use super::snapshot::{Seen, fill, run, save, see, tool};

/// An etcd of one member.
fn etcd(program: &Path) -> Options {
    Options::new(program).members(1)
}

/// Fills an etcd and stops it; what was in it.
async fn filled(program: &Path, dir: &Path) -> Result<(i64, Seen)> {
    let mut etcd = Cluster::start(etcd(program).directory(dir)).await?;
    let mut client = Client::connect(etcd.endpoints(), None).await?;
    let compacted = fill(&mut client).await?;
    let seen = see(&mut client, compacted).await?;
    etcd.terminate(0).await?;
    copy(etcd.data_dir(0), &dir.join("old"))?;
    Ok((compacted, seen))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg("-r").args([from, to]).status()?;
    ensure!(copied.success(), "cp -r {from:?} {to:?}");
    Ok(())
}

async fn taken_over(program: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (compacted, theirs) = filled(program, folder.path()).await?;
    let old = folder.path().join("old");
    let from = format!("--from-data-dir={}", old.display());
    let file = folder.path().join("own.db").display().to_string();
    restored(&from, &[])
        .await?
        .attend(async |ours| {
            same_everywhere(ours, compacted, &theirs).await?;
            save(ours.endpoint(0), &file)?;
            hashes_agree(ours.endpoint(0), &file)
        })
        .await?;
    goes_back(&file, compacted, &theirs).await
}

/// The hash of a backup, by stock etcdutl, is the one that the member tells.
fn hashes_agree(endpoint: &str, file: &str) -> Result<()> {
    // It writes into the file, which is no backup any more afterwards.
    let looked_at = format!("{file}.hashed");
    std::fs::copy(file, &looked_at)?;
    let printed = run(&tool("etcdutl")?, &["hashkv", &looked_at, "-w", "json"])?;
    let of_file: Value = serde_json::from_str(&printed)?;
    let endpoint = format!("--endpoints={endpoint}");
    let arguments = [&endpoint, "endpoint", "hashkv", "-w", "json"];
    let of_member: Value = serde_json::from_str(&run(&tool("etcdctl")?, &arguments)?)?;
    let of_member = &of_member[0]["HashKV"];
    ensure!(
        of_file["hash"].is_u64() && of_file["hash"] == of_member["hash"],
        "{of_file} of the file, {of_member} of the member"
    );
    Ok(())
}

#[tokio::test]
async fn a_data_directory_of_etcd_becomes_a_cluster() -> Result<()> {
    taken_over(&cluster::reference()?).await
}

/// Debian's etcd, which `tests/etcd-3.4.sh` puts beside the reference.
pub fn etcd_3_4() -> Result<Option<PathBuf>> {
    let names = ["etcd-3.4", "etcd"];
    for program in names.iter().flat_map(|name| cluster::find_tool(name)) {
        let version = Command::new(&program).arg("--version").output()?;
        if String::from_utf8_lossy(&version.stdout).starts_with("etcd Version: 3.4.") {
            return Ok(Some(program));
        }
    }
    Ok(None)
}

#[tokio::test]
async fn a_data_directory_of_etcd_3_4_becomes_a_cluster() -> Result<()> {
    match etcd_3_4()? {
        Some(program) => taken_over(&program).await,
        None => Ok(skip::test(&Why::program("etcd 3.4"))?),
    }
}

/// What is said of a directory that is not taken.
fn refusal(dir: &Path, to: &Path) -> Result<String> {
    let from = format!("--from-data-dir={}", dir.display());
    let to = format!("--data-dir={}", to.display());
    let arguments = ["snapshot", "restore", &from, &to];
    let (code, text) = said(&cluster::mizzen()?, &arguments)?;
    ensure!(code == Some(1), "{arguments:?} ended with {code:?}: {text}");
    Ok(text)
}

#[tokio::test]
async fn what_cannot_be_taken_over_whole_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let new = folder.path().join("new");
    // It keeps what it applies in memory until it is stopped.
    let lazy = etcd(&cluster::reference()?)
        .flag("--backend-batch-interval=1h")
        .flag("--backend-batch-limit=1000000");
    let mut etcd = Cluster::start(lazy).await?;
    let mut client = Client::connect(etcd.endpoints(), None).await?;
    client.put("k", "v", None).await?;
    let dir = etcd.data_dir(0).to_owned();
    let running = refusal(&dir, &new)?;
    ensure!(running.contains("is in use: stop the etcd"), "{running}");
    etcd.kill(0)?;
    let killed = refusal(&dir, &new)?;
    ensure!(
        killed.contains("entries of the log") && killed.contains("stop it cleanly"),
        "{killed}"
    );
    ensure!(!new.exists(), "something was made of it");
    // A member takes no such directory for its own.
    let output = Command::new(cluster::mizzen()?)
        .arg(format!("--data-dir={}", dir.display()))
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !output.status.success() && text.contains("holds the data of an etcd member"),
        "{text}"
    );
    // Started once more and stopped cleanly, as the text says, it can be taken.
    etcd.spawn(0)?;
    etcd.wait_ready(0).await?;
    etcd.terminate(0).await?;
    let from = format!("--from-data-dir={}", dir.display());
    restored(&from, &[])
        .await?
        .attend(async |ours| {
            let mut client = Client::connect(ours.endpoints(), None).await?;
            let found = client.get("k", None).await?;
            let value = found.kvs().first().context("the key")?.value().to_vec();
            ensure!(value == b"v", "{value:?}");
            Ok(())
        })
        .await
}
