//! Requests that cost far more than they look like, to members that may not use
//! much memory.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use mizzen_proto::etcdserverpb::{
    PutRequest, RangeRequest, RequestOp, TxnRequest, kv_client::KvClient, request_op::Request,
};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::process;
use tonic::{Code, transport::Channel};

/// What each member may allocate in all: `ulimit -v`, bytes.
const MEMORY: u64 = 3 << 30;
/// Keys, and bytes of each value.
const KEYS: usize = 64;
const VALUE: usize = 1 << 20;
/// Ranges of one transaction, each over all keys: more than MEMORY together.
const RANGES: usize = 100;

fn put(key: String, bytes: usize) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: Bytes::from(vec![b'v'; bytes]),
        ..PutRequest::default()
    }
}

fn everything() -> RangeRequest {
    RangeRequest {
        key: b"k".as_slice().into(),
        range_end: b"l".as_slice().into(),
        ..RangeRequest::default()
    }
}

/// A put, and then all there is again and again.
fn writes_and_reads_much() -> TxnRequest {
    let put = Request::RequestPut(put("marker".to_owned(), 1));
    let range = Request::RequestRange(everything());
    let success = std::iter::once(put).chain(std::iter::repeat_n(range, RANGES));
    TxnRequest {
        success: success
            .map(|request| RequestOp {
                request: Some(request),
            })
            .collect(),
        ..TxnRequest::default()
    }
}

async fn ensure_alive(cluster: &mut Cluster) -> Result<()> {
    for index in 0..cluster.len() {
        ensure!(!cluster.has_ended(index)?, "member {index} has ended");
        let mut client = KvClient::new(cluster.channel(index)?);
        client
            .put(put(format!("after/{index}"), 1))
            .await
            .with_context(|| format!("a put to member {index}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_reads_much_ends_no_member() -> Result<()> {
    let memory = format!("--as={MEMORY}:{MEMORY}");
    let options = Options::new(cluster::mizzen()?).run_by(&["prlimit", &memory]);
    Cluster::run(options, async |cluster| {
        let mut client = KvClient::new(cluster.channel(0)?);
        for key in 0..KEYS {
            client.put(put(format!("k{key}"), VALUE)).await?;
        }
        for index in 0..cluster.len() {
            let refused = KvClient::<Channel>::new(cluster.channel(index)?)
                .txn(writes_and_reads_much())
                .await
                .err()
                .context("more than memory was answered")?;
            ensure!(
                refused.code() == Code::ResourceExhausted,
                "member {index}: {refused:?}"
            );
            let mut client = KvClient::new(cluster.channel(index)?);
            let marker = RangeRequest {
                key: b"marker".as_slice().into(),
                ..RangeRequest::default()
            };
            let found = client.range(marker).await?.into_inner();
            ensure!(found.kvs.is_empty(), "what was refused has been done");
        }
        ensure_alive(cluster).await?;
        for index in 0..cluster.len() {
            let pid = cluster.pid(index).context("a member has ended")?;
            println!("member {index}: {} MiB", process::rss(pid)? >> 20);
        }
        // What is in the log is read again, and costs no more than at first.
        for index in 0..cluster.len() {
            cluster.kill(index)?;
            cluster.restart(index).await?;
        }
        ensure_alive(cluster).await
    })
    .await
}

/// What one member takes into its log the others must be able to receive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_larger_limit_of_requests_is_kept_by_all() -> Result<()> {
    let options = Options::new(cluster::mizzen()?).flag("--max-request-bytes=8388608");
    Cluster::run(options, async |cluster| {
        for index in 0..cluster.len() {
            let mut client = KvClient::new(cluster.channel(index)?)
                .max_encoding_message_size(64 << 20)
                .max_decoding_message_size(64 << 20);
            let large = put(format!("large/{index}"), 5 << 20);
            client.put(large).await.context("a put within the limit")?;
            let beyond = client.put(put("beyond".to_owned(), 9 << 20)).await;
            let refused = beyond.err().context("a put beyond the limit was taken")?;
            ensure!(
                refused.message() == "etcdserver: request is too large"
                    || refused.code() == Code::ResourceExhausted,
                "{refused:?}"
            );
            ensure_alive(cluster).await?;
        }
        Ok(())
    })
    .await
}
