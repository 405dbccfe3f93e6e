//! Clusters that are short of something: space by their quota, room on the
//! disk, a quorum, trust in their data.
//!
//! The test of a full disk mounts a small file system in memory, and is skipped
//! where it may not. `MIZZEN_TEST_ROUNDS` sets how often the disk is filled (3
//! if not given).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use mizzen_proto::etcdserverpb::alarm_request::AlarmAction;
use mizzen_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest,
    PutRequest, RangeRequest, RequestOp, TxnRequest, kv_client::KvClient,
    lease_client::LeaseClient, maintenance_client::MaintenanceClient, request_op,
};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::setting;
use mizzen_tests::skip::{self, Why};
use tonic::transport::Channel;
use tonic::{Code, Status};

const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
const PATIENCE: Duration = Duration::from_secs(60);

fn kv(cluster: &Cluster, index: usize) -> Result<KvClient<Channel>> {
    Ok(KvClient::new(cluster.channel(index)?))
}

fn put_request(key: &str, bytes: usize) -> PutRequest {
    PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: vec![b'v'; bytes].into(),
        ..PutRequest::default()
    }
}

async fn put(cluster: &Cluster, index: usize, key: &str, bytes: usize) -> Result<i64, Status> {
    let mut client = kv(cluster, index).expect("an address");
    let reply = client.put(put_request(key, bytes)).await?.into_inner();
    Ok(reply.header.expect("a header").revision)
}

async fn get(cluster: &Cluster, index: usize, serializable: bool) -> Result<i64, Status> {
    let request = RangeRequest {
        key: Bytes::from_static(b"key"),
        serializable,
        ..RangeRequest::default()
    };
    let mut client = kv(cluster, index).expect("an address");
    Ok(client.range(request).await?.into_inner().count)
}

async fn alarm(
    cluster: &Cluster,
    index: usize,
    action: AlarmAction,
    member_id: u64,
    alarm: AlarmType,
) -> Result<Vec<AlarmMember>, Status> {
    let request = AlarmRequest {
        action: action.into(),
        member_id,
        alarm: alarm.into(),
    };
    let channel = cluster.channel(index).expect("an address");
    let reply = MaintenanceClient::new(channel).alarm(request).await?;
    Ok(reply.into_inner().alarms)
}

fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, message: &str) -> Result<()> {
    let status = result.err().context("it was not refused")?;
    ensure!(
        (status.code(), status.message()) == (code, message),
        "refused with {status:?}, expected {code:?} {message:?}"
    );
    Ok(())
}

/// etcd's way out of an exceeded quota: compact, then end the alarm.
#[tokio::test]
async fn a_quota_is_kept_and_space_comes_back() -> Result<()> {
    let options = Options::new(cluster::mizzen()?).flag("--quota-backend-bytes=100000");
    Cluster::run(options, async |cluster| {
        let mut revision = put(cluster, 0, "key", 1_000).await?;
        let status = loop {
            match put(cluster, 1, "key", 1_000).await {
                Ok(newer) => revision = newer,
                Err(status) => break status,
            }
        };
        ensure!((90..100).contains(&revision), "full at revision {revision}");
        refused(Err::<(), _>(status), Code::ResourceExhausted, NO_SPACE)?;
        let alarms = alarm(cluster, 2, AlarmAction::Get, 0, AlarmType::None).await?;
        ensure!(
            matches!(alarms[..], [AlarmMember { alarm: 1, .. }]),
            "alarms: {alarms:?}"
        );
        let member_id = alarms[0].member_id;
        let errors = cluster.status(0).await?.errors;
        ensure!(
            errors == [format!("memberID:{member_id} alarm:NOSPACE")],
            "{errors:?}"
        );

        // Also a small put, and on every member.
        for index in 0..3 {
            let small = put(cluster, index, "small", 0).await;
            refused(small, Code::ResourceExhausted, NO_SPACE)?;
        }
        let transaction = TxnRequest {
            success: vec![RequestOp {
                request: Some(request_op::Request::RequestPut(put_request("key", 0))),
            }],
            ..TxnRequest::default()
        };
        refused(
            kv(cluster, 0)?.txn(transaction).await,
            Code::ResourceExhausted,
            NO_SPACE,
        )?;
        let lease = LeaseGrantRequest { ttl: 60, id: 0 };
        refused(
            LeaseClient::new(cluster.channel(0)?)
                .lease_grant(lease)
                .await,
            Code::ResourceExhausted,
            NO_SPACE,
        )?;
        ensure!(get(cluster, 0, false).await? == 1);

        let compaction = CompactionRequest {
            revision,
            physical: true,
        };
        kv(cluster, 0)?.compact(compaction).await?;
        let full = put(cluster, 0, "small", 0).await;
        refused(full, Code::ResourceExhausted, NO_SPACE)?;
        let ended = alarm(
            cluster,
            1,
            AlarmAction::Deactivate,
            member_id,
            AlarmType::Nospace,
        );
        ensure!(ended.await? == alarms);
        put(cluster, 2, "key", 1_000).await?;
        let status = cluster.status(2).await?;
        ensure!(status.errors.is_empty() && status.db_size_quota == 100_000);
        ensure!(status.db_size < 50_000, "size {}", status.db_size);

        // Deletions need no space, whatever the alarm.
        let raised = alarm(cluster, 0, AlarmAction::Activate, 7, AlarmType::Nospace);
        ensure!(raised.await?.len() == 1);
        let request = DeleteRangeRequest {
            key: Bytes::from_static(b"key"),
            ..DeleteRangeRequest::default()
        };
        let reply = kv(cluster, 1)?.delete_range(request).await?.into_inner();
        ensure!(reply.deleted == 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_corrupt_cluster_answers_nothing_until_the_alarm_ends() -> Result<()> {
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        put(cluster, 0, "key", 1).await?;
        alarm(cluster, 0, AlarmAction::Activate, 5, AlarmType::Corrupt).await?;
        let corrupt = "etcdserver: corrupt cluster";
        for index in 0..3 {
            refused(put(cluster, index, "key", 1).await, Code::DataLoss, corrupt)?;
            refused(get(cluster, index, false).await, Code::DataLoss, corrupt)?;
            refused(get(cluster, index, true).await, Code::DataLoss, corrupt)?;
        }
        // It outlives a restart.
        cluster.terminate(1).await?;
        cluster.spawn(1)?;
        let started = Instant::now();
        let listed = loop {
            match alarm(cluster, 1, AlarmAction::Get, 0, AlarmType::None).await {
                Ok(listed) => break listed,
                Err(status) => ensure!(started.elapsed() < PATIENCE, "{status:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        ensure!(listed.len() == 1 && listed[0].member_id == 5, "{listed:?}");
        refused(get(cluster, 1, false).await, Code::DataLoss, corrupt)?;
        alarm(cluster, 2, AlarmAction::Deactivate, 5, AlarmType::Corrupt).await?;
        put(cluster, 1, "key", 1).await?;
        ensure!(get(cluster, 1, false).await? == 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn without_a_quorum_writes_are_refused_and_stale_reads_served() -> Result<()> {
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        put(cluster, 0, "key", 1).await?;
        let leader = cluster.leader().await?;
        // One leader that stays and one follower that stays.
        for left in [leader, (leader + 1) % 3] {
            let gone: Vec<usize> = (0..3).filter(|index| *index != left).collect();
            for &index in &gone {
                cluster.kill(index)?;
            }
            let write = tokio::time::timeout(PATIENCE, put(cluster, left, "key", 2)).await?;
            let status = write.err().context("a write without a quorum")?;
            ensure!(status.code() == Code::Unavailable, "{status:?}");
            let read = tokio::time::timeout(PATIENCE, get(cluster, left, false)).await?;
            let status = read.err().context("a read without a quorum")?;
            ensure!(status.code() == Code::Unavailable, "{status:?}");
            ensure!(get(cluster, left, true).await? == 1);
            for &index in &gone {
                cluster.spawn(index)?;
            }
            for index in 0..3 {
                cluster.wait_ready(index).await?;
            }
            put(cluster, left, "key", 3).await?;
        }
        Ok(())
    })
    .await
}

/// A file system of its own, in memory, unmounted in the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// The reason where this process may not mount.
    fn mount(bytes: u64) -> Result<Result<Self, Why>> {
        let directory = tempfile::Builder::new().prefix("small-disk-").tempdir()?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(directory.path())
            .output()?;
        if mounted.status.success() {
            return Ok(Ok(Self(directory)));
        }
        let said = String::from_utf8_lossy(&mounted.stderr);
        Ok(Err(Why::Refused(format!("mount: {said}"))))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn free(&self) -> Result<u64> {
        let disk = rustix::fs::statvfs(self.path())?;
        Ok(disk.f_bavail * disk.f_frsize)
    }

    /// Takes what others shall not have, until it is given back.
    fn fill(&self, leave: u64) -> Result<()> {
        let mut ballast = std::fs::File::create(self.ballast())?;
        let chunk = vec![1; 1 << 20];
        while self.free()? > leave {
            ballast.write_all(&chunk)?;
        }
        Ok(())
    }

    fn empty(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a member that was killed a moment ago may still hold files.
        let unmounted = Command::new("umount")
            .arg("--lazy")
            .arg(self.path())
            .status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("still mounted: {}", self.path().display());
        }
    }
}

const DISK: u64 = 2 << 30;
/// What others leave: less than the members' reserve. Writes alone would not
/// get there, because the log is cut and what is overwritten is given back.
const ROOM: u64 = 250 << 20;
/// At least this is left when writes are refused.
const LEFT: u64 = 100 << 20;
const DISK_FULL: &str = "etcdserver: no space left on the disk of a member";

#[tokio::test]
async fn a_full_disk_refuses_writes_until_it_has_room() -> Result<()> {
    let disk = match SmallDisk::mount(DISK)? {
        Ok(disk) => disk,
        Err(why) => return Ok(skip::test(&why)?),
    };
    let rounds = setting("MIZZEN_TEST_ROUNDS", 3);
    let options = Options::new(cluster::mizzen()?).directory(disk.path());
    Cluster::run(options, async |cluster| {
        let processes: Vec<_> = (0..3).map(|index| cluster.pid(index)).collect();
        put(cluster, 0, "key", 1).await?;
        let mut least = u64::MAX;
        for _ in 0..rounds {
            disk.fill(ROOM)?;
            let started = Instant::now();
            let mut refusals = Vec::new();
            // Until every member has noticed.
            while refusals.len() < 3 {
                refusals.clear();
                for index in 0..3 {
                    refusals.extend(put(cluster, index, "key", 100_000).await.err());
                }
                ensure!(started.elapsed() < PATIENCE, "writes go on: {refusals:?}");
            }
            for status in refusals {
                refused(Err::<(), _>(status), Code::ResourceExhausted, DISK_FULL)?;
            }
            least = least.min(disk.free()?);
            ensure!(least > LEFT, "{least} bytes were left");
            let request = DeleteRangeRequest {
                key: Bytes::from_static(b"key"),
                ..DeleteRangeRequest::default()
            };
            let reply = kv(cluster, 1)?.delete_range(request).await?.into_inner();
            ensure!(reply.deleted == 1);
            let revision = reply.header.context("a header")?.revision;
            let compaction = CompactionRequest {
                revision,
                physical: true,
            };
            kv(cluster, 2)?.compact(compaction).await?;
            ensure!(get(cluster, 0, false).await? == 0);

            disk.empty()?;
            let started = Instant::now();
            for index in 0..3 {
                while let Err(status) = put(cluster, index, "key", 1).await {
                    ensure!(
                        started.elapsed() < PATIENCE,
                        "no write comes back: {status:?}"
                    );
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        ensure!((0..3).all(|index| cluster.pid(index) == processes[index]));
        println!("filled and freed {rounds} times; at least {least} bytes were left");
        Ok(())
    })
    .await
}
