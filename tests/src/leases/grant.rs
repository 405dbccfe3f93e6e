//! Grants leases and puts a key with each, over all members in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};
use bytes::Bytes;
use mizzen_proto::etcdserverpb as pb;
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use mizzen_proto::etcdserverpb::lease_client::LeaseClient;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::Code;
use tonic::transport::Channel;

use super::book::{Book, id, key};
use super::{PATIENCE, RETRY};

/// Leases being granted at once.
const AT_ONCE: usize = 128;
const TRIES: usize = 200;

/// Grants every lease of the book, for `ttl` seconds as asked when its turn
/// has come.
///
/// # Errors
/// A call fails again and again.
pub async fn all(
    book: &Arc<Book>,
    members: &[Channel],
    ttl: impl Fn() -> i64 + Clone + Send + Sync + 'static,
) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let leases = book.all().len();
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (book, next, ttl) = (book.clone(), next.clone(), ttl.clone());
        let members = members.to_vec();
        tasks.spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= leases {
                    return Ok(());
                }
                one(&book, &members, index, ttl()).await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        let done: Result<()> = done?;
        done?;
    }
    Ok(())
}

async fn one(book: &Book, members: &[Channel], index: usize, ttl: i64) -> Result<()> {
    let sent = Instant::now();
    let grant = pb::LeaseGrantRequest { ttl, id: id(index) };
    retried(members, index, |channel| async move {
        match LeaseClient::new(channel).lease_grant(grant).await {
            // An attempt that seemed to fail has been carried out.
            Err(status) if status.code() == Code::FailedPrecondition => Ok(()),
            other => other.map(drop),
        }
    })
    .await?;
    book.renewed(index, sent);
    let put = pb::PutRequest {
        key: key(index),
        value: Bytes::from_static(b"held"),
        lease: id(index),
        ..pb::PutRequest::default()
    };
    retried(members, index, |channel| {
        let put = put.clone();
        async move { KvClient::new(channel).put(put).await.map(drop) }
    })
    .await
}

/// The same call at one member after the other, until one carries it out.
async fn retried<F: Future<Output = Result<(), tonic::Status>>>(
    members: &[Channel],
    first: usize,
    call: impl Fn(Channel) -> F,
) -> Result<()> {
    let mut last = String::new();
    for turn in 0..TRIES {
        let channel = members[(first + turn) % members.len()].clone();
        match timeout(PATIENCE, call(channel)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(status)) => last = status.to_string(),
            Err(_) => last = "no answer".to_owned(),
        }
        sleep(RETRY).await;
    }
    ensure!(last.is_empty(), "given up after {TRIES} attempts: {last}");
    Ok(())
}
