//! A short slice of the differential test and of the fuzzer; the programs
//! `differential` and `fuzz_member` run for longer. `MIZZEN_TEST_SEQUENCES` and
//! `MIZZEN_TEST_CASES` set how long these are (20 and 1,500 if not given).

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use mizzen_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    request_op::Request,
};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::machine;
use mizzen_tests::setting;
use mizzen_tests::skip::{self, Why};

/// Runs `differential` with the arguments; skips the test without a reference.
fn compare(arguments: &[&str]) -> Result<()> {
    if reference()?.is_none() {
        return Ok(());
    }
    let _machine = machine::shared_blocking();
    let status = Command::new(env!("CARGO_BIN_EXE_differential"))
        .args(arguments)
        .status()?;
    ensure!(status.success(), "see the command printed above");
    Ok(())
}

/// The reference, none if nothing names one.
fn reference() -> Result<Option<PathBuf>> {
    match cluster::reference() {
        Ok(path) => Ok(Some(path)),
        Err(error) if env::var_os("ETCD_REFERENCE_BIN").is_none() => {
            skip::test(&Why::Program(format!("{error:#}")))?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[test]
fn etcd_answers_like_itself() -> Result<()> {
    compare(&[
        "--candidate-is=etcd",
        "--candidate-members=3",
        "--seed=1",
        "--sequences=5",
    ])
}

#[test]
fn mizzen_answers_like_etcd() -> Result<()> {
    let sequences = format!("--sequences={}", setting("MIZZEN_TEST_SEQUENCES", 20));
    compare(&["--candidate-members=3", "--seed=1", &sequences])
}

#[test]
fn mizzen_stays_up_when_fuzzed() -> Result<()> {
    let _machine = machine::shared_blocking();
    let status = Command::new(env!("CARGO_BIN_EXE_fuzz_member"))
        .arg("--seed=1")
        .arg(format!("--cases={}", setting("MIZZEN_TEST_CASES", 1_500)))
        .status()?;
    ensure!(status.success(), "see the command printed above");
    Ok(())
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn put(value: &'static str, ignore_lease: bool) -> PutRequest {
    PutRequest {
        key: "key".into(),
        value: value.into(),
        ignore_lease,
        ..PutRequest::default()
    }
}

fn delete_open() -> RequestOp {
    op(Request::RequestDeleteRange(DeleteRangeRequest {
        key: "key".into(),
        range_end: "\0".into(),
        prev_kv: false,
    }))
}

async fn value(cluster: &Cluster) -> Result<String> {
    let request = RangeRequest {
        key: "key".into(),
        ..RangeRequest::default()
    };
    let reply = KvClient::new(cluster.channel(0)?).range(request).await?;
    let pair = reply.into_inner().kvs.pop().context("the key is gone")?;
    Ok(String::from_utf8(pair.value.to_vec())?)
}

/// Two requests that end every etcd they reach, again at every restart.
#[tokio::test]
async fn mizzen_survives_what_stops_an_etcd() -> Result<()> {
    let mut cluster = Cluster::start(Options::new(cluster::mizzen()?).members(1)).await?;
    let mut client = KvClient::new(cluster.channel(0)?);
    client.put(put("first", false)).await?;

    // A put that needs a key which the same transaction deleted.
    let needing = TxnRequest {
        success: vec![delete_open(), op(Request::RequestPut(put("lost", true)))],
        ..TxnRequest::default()
    };
    let refusal = client.txn(needing).await.err().context("it is refused")?;
    assert_eq!(refusal.code(), tonic::Code::InvalidArgument);
    assert_eq!(refusal.message(), "etcdserver: key not found");
    assert_eq!(value(&cluster).await?, "first");

    // A compaction at the revision that deleted a key and put it again.
    let renewing = TxnRequest {
        success: vec![delete_open(), op(Request::RequestPut(put("second", false)))],
        ..TxnRequest::default()
    };
    let reply = client.txn(renewing).await?.into_inner();
    let compaction = CompactionRequest {
        revision: reply.header.context("a header")?.revision,
        physical: true,
    };
    client.compact(compaction).await?;
    assert_eq!(value(&cluster).await?, "second");

    cluster.kill(0)?;
    cluster.restart(0).await?;
    assert_eq!(value(&cluster).await?, "second");
    Ok(())
}
