//! Operators' last resorts and a leader's: a cluster made anew of one member, and
//! a disk that does not answer any more.
//!
//! The test with the disk mounts file systems in files and freezes one, and is
//! skipped where it may not.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use mizzen_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, PutRequest, RangeRequest,
    cluster_client::ClusterClient, kv_client::KvClient,
};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::skip::{self, Why};
use tonic::Status;

const PATIENCE: Duration = Duration::from_secs(60);

async fn put(cluster: &Cluster, index: usize, key: &str) -> Result<(), Status> {
    let request = PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        ..PutRequest::default()
    };
    let channel = cluster.channel(index).expect("an address");
    KvClient::new(channel).put(request).await.map(drop)
}

async fn count(cluster: &Cluster, index: usize) -> Result<i64, Status> {
    let request = RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        count_only: true,
        ..RangeRequest::default()
    };
    let channel = cluster.channel(index).expect("an address");
    let reply = KvClient::new(channel).range(request).await?;
    Ok(reply.into_inner().count)
}

async fn list(cluster: &Cluster, index: usize) -> Result<Vec<Member>> {
    let request = MemberListRequest { linearizable: true };
    let mut client = ClusterClient::new(cluster.channel(index)?);
    Ok(client.member_list(request).await?.into_inner().members)
}

/// Adds a member beside `members` and waits until it serves.
async fn grow(cluster: &mut Cluster, members: &[usize]) -> Result<usize> {
    let new = cluster.reserve()?;
    let request = MemberAddRequest {
        peer_ur_ls: vec![cluster.peer_url(new)],
        is_learner: false,
    };
    let mut client = ClusterClient::new(cluster.channel(members[0])?);
    client.member_add(request).await?;
    cluster.join(new, &[members, &[new]].concat())?;
    cluster.wait_ready(new).await?;
    Ok(new)
}

#[tokio::test]
async fn one_member_goes_on_when_the_others_are_lost() -> Result<()> {
    let options = Options::new(cluster::mizzen()?).flag("--strict-reconfig-check=false");
    Cluster::run(options, async |cluster| {
        for key in 0..20 {
            put(cluster, key % 3, &format!("{key}")).await?;
        }
        let survivor = (cluster.leader().await? + 1) % 3;
        let known = list(cluster, survivor).await?;
        for index in 0..3 {
            cluster.kill(index)?;
        }
        cluster.spawn_with(survivor, &["--force-new-cluster"])?;
        cluster.wait_ready(survivor).await?;
        ensure!(count(cluster, survivor).await? == 20);
        let alone = list(cluster, survivor).await?;
        ensure!(
            alone.len() == 1 && known.contains(&alone[0]),
            "{alone:?} of {known:?}"
        );
        put(cluster, survivor, "alone").await?;

        // It stays so without the flag, and with it once more.
        for once in [&[][..], &["--force-new-cluster"]] {
            ensure!(cluster.terminate(survivor).await?.success());
            cluster.spawn_with(survivor, once)?;
            cluster.wait_ready(survivor).await?;
            ensure!(list(cluster, survivor).await? == alone);
        }
        // Who was thought lost has no place any more.
        let lost = (survivor + 1) % 3;
        cluster.spawn(lost)?;
        ensure!(cluster.wait_end(lost).await?.success());
        let log = std::fs::read_to_string(cluster.log_path(lost))?;
        ensure!(log.contains("permanently removed from the cluster"));

        let second = grow(cluster, &[survivor]).await?;
        let third = grow(cluster, &[survivor, second]).await?;
        ensure!(count(cluster, third).await? == 21);
        cluster.kill(survivor)?;
        cluster.leader().await?;
        cluster.wait_ready(second).await?;
        put(cluster, third, "after").await?;
        Ok(())
    })
    .await
}

/// A file system of its own in a file, unmounted in the end.
struct Disk {
    directory: tempfile::TempDir,
    mounted: bool,
    frozen: bool,
}

impl Disk {
    const BYTES: u64 = 1 << 30;

    /// The reason where this process may not mount or freeze.
    fn mount() -> Result<Result<Self, Why>> {
        let directory = tempfile::Builder::new().prefix("disk-").tempdir()?;
        let image = directory.path().join("image");
        std::fs::File::create(&image)?.set_len(Self::BYTES)?;
        std::fs::create_dir(directory.path().join("mounted"))?;
        let mut disk = Self {
            directory,
            mounted: false,
            frozen: false,
        };
        let made = Command::new("mkfs.ext4").arg("-q").arg(&image).output();
        if let Err(why) = worked("mkfs.ext4", made) {
            return Ok(Err(why));
        }
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(&image).arg(disk.path());
        if let Err(why) = worked("mount", mount.output()) {
            return Ok(Err(why));
        }
        disk.mounted = true;
        // Never freeze what it would have been mounted on.
        let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev());
        if device(&disk.path())? == device(disk.directory.path())? {
            return Ok(Err(Why::Refused("mount: nothing was mounted".to_owned())));
        }
        let frozen = disk.freeze();
        if let Err(why) = worked("fsfreeze", frozen) {
            disk.frozen = false;
            return Ok(Err(why));
        }
        disk.thaw()?;
        Ok(Ok(disk))
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("mounted")
    }

    /// From here on whoever writes waits.
    fn freeze(&mut self) -> std::io::Result<Output> {
        self.frozen = true;
        fsfreeze("--freeze", &self.path())
    }

    fn thaw(&mut self) -> std::io::Result<Output> {
        self.frozen = false;
        fsfreeze("--unfreeze", &self.path())
    }
}

/// Whether a command did what it was for; else why the test is skipped.
fn worked(name: &str, command: std::io::Result<Output>) -> Result<(), Why> {
    let said = match command {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    Err(Why::Refused(format!("{name}: {said}")))
}

fn fsfreeze(how: &str, path: &Path) -> std::io::Result<Output> {
    Command::new("fsfreeze").arg(how).arg(path).output()
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.frozen && self.thaw().is_err() {
            eprintln!("still frozen: {}", self.path().display());
        }
        if !self.mounted {
            return;
        }
        let unmounted = Command::new("umount")
            .arg("--lazy")
            .arg(self.path())
            .status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("still mounted: {}", self.path().display());
        }
    }
}

#[tokio::test]
async fn a_leader_whose_disk_stalls_hands_over() -> Result<()> {
    let mut options = Options::new(cluster::mizzen()?);
    let mut disks = Vec::new();
    for index in 0..3 {
        let disk = match Disk::mount()? {
            Ok(disk) => disk,
            Err(why) => return Ok(skip::test(&why)?),
        };
        let log = disk.path().join("log");
        options = options.member_flag(index, format!("--wal-dir={}", log.display()));
        disks.push(disk);
    }
    Cluster::run(options, async |cluster| {
        let result = stall(cluster, &mut disks).await;
        // A member that waits for a frozen disk cannot even be killed.
        for disk in disks.iter_mut().filter(|disk| disk.frozen) {
            disk.thaw()?;
        }
        result
    })
    .await
}

async fn stall(cluster: &Cluster, disks: &mut [Disk]) -> Result<()> {
    for round in 0..3 {
        let leader = cluster.leader().await?;
        let other = (leader + 1) % 3;
        put(cluster, other, "before").await?;
        let frozen = disks[leader].freeze()?;
        ensure!(frozen.status.success(), "{frozen:?}");
        let started = Instant::now();
        // Something that the leader must write, and cannot acknowledge alone.
        put(cluster, other, "stall").await?;
        let written = started.elapsed();
        while cluster.leader().await? == leader {
            ensure!(started.elapsed() < PATIENCE, "it leads on");
        }
        let elected = started.elapsed();
        for index in [other, (leader + 2) % 3] {
            put(cluster, index, "after").await?;
        }
        println!(
            "round {round}: a put through another member took {} ms, another leader {} ms",
            written.as_millis(),
            elected.as_millis()
        );
        let log = std::fs::read_to_string(cluster.log_path(leader))?;
        ensure!(log.contains("does not answer: handing leadership over"));
        let thawed = disks[leader].thaw()?;
        ensure!(thawed.status.success(), "{thawed:?}");
        // It is well again without a restart.
        while let Err(status) = put(cluster, leader, "again").await {
            ensure!(started.elapsed() < PATIENCE, "{status:?}");
        }
        ensure!(count(cluster, leader).await? >= 3);
        cluster.pid(leader).context("it runs")?;
    }
    Ok(())
}
