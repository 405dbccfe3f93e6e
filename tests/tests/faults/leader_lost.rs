//! Streams on a member that loses the others, be it leader or follower: those
//! that asked for one end, the others go on when there is one again. Passes
//! against etcd too: name it in `MIZZEN_BIN`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use mizzen_proto::etcdserverpb::lease_client::LeaseClient;
use mizzen_proto::etcdserverpb::watch_client::WatchClient;
use mizzen_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, PutRequest,
    WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use mizzen_tests::cluster::{self, Cluster, Options};
use tokio::time::timeout;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

/// Bound of every wait. Far above what any takes.
const DEADLINE: Duration = Duration::from_secs(60);
const KEY: &str = "watched";

/// A request stream that goes on with nothing more to ask.
fn stream<T: Send + 'static>(
    first: T,
    with_leader: bool,
) -> Request<impl futures::Stream<Item = T> + Send + 'static> {
    use futures::StreamExt as _;
    let first = futures::stream::once(async { first });
    let mut request = Request::new(first.chain(futures::stream::pending()));
    if with_leader {
        let yes = MetadataValue::from_static("true");
        request.metadata_mut().insert("hasleader", yes);
    }
    request
}

async fn watch(member: &Channel, with_leader: bool) -> Result<Streaming<WatchResponse>, Status> {
    let create = RequestUnion::CreateRequest(WatchCreateRequest {
        key: KEY.into(),
        ..WatchCreateRequest::default()
    });
    let create = WatchRequest {
        request_union: Some(create),
    };
    let mut client = WatchClient::new(member.clone());
    let mut responses = client
        .watch(stream(create, with_leader))
        .await?
        .into_inner();
    let created = responses.message().await?;
    match created {
        Some(response) if response.created && !response.canceled => Ok(responses),
        other => Err(Status::internal(format!("created: {other:?}"))),
    }
}

async fn keep_alive(
    member: &Channel,
    id: i64,
    with_leader: bool,
) -> Result<Streaming<LeaseKeepAliveResponse>, Status> {
    let request = stream(LeaseKeepAliveRequest { id }, with_leader);
    let mut client = LeaseClient::new(member.clone());
    let mut answers = client.lease_keep_alive(request).await?.into_inner();
    match answers.message().await? {
        Some(answer) if answer.id == id && answer.ttl > 0 => Ok(answers),
        other => Err(Status::internal(format!("renewed: {other:?}"))),
    }
}

fn ensure_no_leader(what: &str, status: &Status) -> Result<()> {
    ensure!(
        status.code() == Code::Unavailable && status.message() == "etcdserver: no leader",
        "{what} ended with {status:?}"
    );
    Ok(())
}

/// The end of a stream on which nothing comes.
async fn end<T: std::fmt::Debug>(what: &str, stream: &mut Streaming<T>) -> Result<()> {
    match timeout(DEADLINE, stream.message()).await {
        Ok(Err(status)) => ensure_no_leader(what, &status),
        Ok(Ok(other)) => bail!("{what}: {other:?}"),
        Err(_) => bail!("{what} goes on"),
    }
}

async fn put(member: &Channel, value: &'static str) -> Result<()> {
    let request = PutRequest {
        key: KEY.into(),
        value: value.into(),
        ..PutRequest::default()
    };
    KvClient::new(member.clone()).put(request).await?;
    Ok(())
}

#[tokio::test]
async fn streams_of_a_follower_end_that_asked_for_a_leader() -> Result<()> {
    streams_end(1).await
}

#[tokio::test]
async fn streams_of_a_leader_end_that_asked_for_one() -> Result<()> {
    streams_end(0).await
}

/// On the member that is so many places after the leader.
async fn streams_end(after: usize) -> Result<()> {
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let leader = cluster.leader().await?;
        let own = (leader + after) % cluster.len();
        let others = [(own + 1) % cluster.len(), (own + 2) % cluster.len()];
        let member = cluster.channel(own)?;
        let grant = LeaseGrantRequest { ttl: 3600, id: 0 };
        let granted = LeaseClient::new(member.clone()).lease_grant(grant).await?;
        let lease = granted.into_inner().id;

        let mut with = watch(&member, true).await?;
        let mut without = watch(&member, false).await?;
        let mut renewals = keep_alive(&member, lease, true).await?;
        let mut kept = keep_alive(&member, lease, false).await?;
        for other in others {
            cluster.kill(other)?;
        }
        end("a watch", &mut with).await?;
        end("a stream of renewals", &mut renewals).await?;
        let refused = timeout(DEADLINE, watch(&member, true)).await?;
        let refused = refused.err().context("watched without a leader")?;
        ensure_no_leader("a new watch", &refused)?;

        for other in others {
            cluster.spawn(other)?;
        }
        for index in 0..cluster.len() {
            cluster.wait_ready(index).await?;
        }
        put(&member, "again").await?;
        let told = timeout(DEADLINE, without.message()).await??;
        let told = told.context("the end of a watch that asked for no leader")?;
        let values: Vec<_> = told
            .events
            .iter()
            .filter_map(|event| event.kv.as_ref())
            .map(|kv| kv.value.clone())
            .collect();
        ensure!(values == ["again"], "{told:?}");
        let more = timeout(Duration::ZERO, kept.message()).await;
        ensure!(more.is_err(), "renewals that asked for no leader: {more:?}");
        // A member may take a moment to see that the others are back.
        let end = Instant::now() + DEADLINE;
        loop {
            match watch(&member, true).await {
                Ok(_) => return Ok(()),
                Err(status) => ensure_no_leader("a watch later on", &status)?,
            }
            ensure!(Instant::now() < end, "no watch although all are back");
        }
    })
    .await
}
