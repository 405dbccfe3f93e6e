//! One side of the comparison: the members of a cluster and how to call them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mizzen_proto::etcdserverpb::{
    HashKvRequest, HashKvResponse, LeaseLeasesRequest, RangeRequest, kv_client::KvClient,
    lease_client::LeaseClient, maintenance_client::MaintenanceClient, watch_client::WatchClient,
};
use tonic::transport::{Channel, Endpoint};

use super::operation::{Failure, Operation, Outcome, Reply, Streamed};

/// Longer than the reference takes to report a timeout of its own (7 s with
/// default timing), so that its answer is seen instead of ours.
const DEADLINE: Duration = Duration::from_secs(30);

/// A cluster under comparison.
#[derive(Clone)]
pub struct Side {
    name: &'static str,
    members: Vec<Member>,
}

impl Side {
    /// Connects lazily to client endpoints such as `127.0.0.1:2379`.
    ///
    /// # Errors
    /// If there is no endpoint or one cannot be parsed.
    pub fn new(name: &'static str, endpoints: &[String]) -> Result<Self> {
        ensure!(!endpoints.is_empty(), "{name} has no endpoint");
        let members = endpoints
            .iter()
            .map(|endpoint| Member::new(endpoint))
            .collect::<Result<_>>()?;
        Ok(Self { name, members })
    }

    /// `reference` or `candidate`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// All members, at least one.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member that a draw chooses, the same for the same draw.
    pub fn member(&self, draw: usize) -> &Member {
        &self.members[draw % self.members.len()]
    }
}

/// One member's client port.
#[derive(Clone)]
pub struct Member {
    endpoint: String,
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
    watch: WatchClient<Channel>,
}

impl Member {
    fn new(endpoint: &str) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{endpoint}"))
            .with_context(|| format!("endpoint {endpoint}"))?
            .timeout(DEADLINE)
            .connect_lazy();
        Ok(Self {
            endpoint: endpoint.to_owned(),
            kv: KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            lease: LeaseClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel.clone()),
            watch: WatchClient::new(channel).max_decoding_message_size(usize::MAX),
        })
    }

    /// The address this member is called at.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Sends the operation, after a linearizable read of this member if it may
    /// otherwise answer from an older state.
    pub async fn call(&self, operation: &Operation) -> Outcome {
        if operation.may_lag() {
            self.revision().await?;
        }
        self.send(operation.clone()).await
    }

    async fn send(&self, operation: Operation) -> Outcome {
        let mut kv = self.kv.clone();
        let mut lease = self.lease.clone();
        Ok(match operation {
            Operation::Range(request) => Reply::Range(kv.range(request).await?.into_inner()),
            Operation::RangeStream(request) => Reply::RangeStream(stream(kv, request).await?),
            Operation::Put(request) => Reply::Put(kv.put(request).await?.into_inner()),
            Operation::DeleteRange(request) => {
                Reply::DeleteRange(kv.delete_range(request).await?.into_inner())
            }
            Operation::Txn(request) => Reply::Txn(kv.txn(request).await?.into_inner()),
            Operation::Compact(request) => Reply::Compact(kv.compact(request).await?.into_inner()),
            Operation::LeaseGrant(request) => {
                Reply::LeaseGrant(lease.lease_grant(request).await?.into_inner())
            }
            Operation::LeaseRevoke(request) => {
                Reply::LeaseRevoke(lease.lease_revoke(request).await?.into_inner())
            }
            Operation::LeaseTimeToLive(request) => {
                Reply::LeaseTimeToLive(lease.lease_time_to_live(request).await?.into_inner())
            }
            Operation::LeaseLeases => Reply::LeaseLeases(
                lease
                    .lease_leases(LeaseLeasesRequest {})
                    .await?
                    .into_inner(),
            ),
        })
    }

    /// A client for streams of watches.
    pub fn watch_client(&self) -> WatchClient<Channel> {
        self.watch.clone()
    }

    /// The store revision, by a linearizable read of this member.
    ///
    /// # Errors
    /// Whatever the member answers.
    pub async fn revision(&self) -> Result<i64, Failure> {
        let request = RangeRequest {
            key: "\0".into(),
            count_only: true,
            ..RangeRequest::default()
        };
        let reply = self.kv.clone().range(request).await?.into_inner();
        Ok(reply.header.map_or(0, |header| header.revision))
    }

    /// `HashKV` after a linearizable read of this member, so that it has the
    /// last acknowledged write; `revision` 0 is the newest.
    ///
    /// # Errors
    /// Whatever the member answers.
    pub async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse, Failure> {
        self.revision().await?;
        let request = HashKvRequest { revision };
        Ok(self
            .maintenance
            .clone()
            .hash_kv(request)
            .await?
            .into_inner())
    }

    /// The version that the member reports of itself.
    ///
    /// # Errors
    /// Whatever the member answers.
    pub async fn version(&self) -> Result<String, Failure> {
        let request = mizzen_proto::etcdserverpb::StatusRequest::default();
        Ok(self
            .maintenance
            .clone()
            .status(request)
            .await?
            .into_inner()
            .version)
    }
}

/// Reads the whole stream; an error on the way is part of the reply, since the
/// chunks before it count.
async fn stream(
    mut kv: KvClient<Channel>,
    request: RangeRequest,
) -> Result<Streamed, tonic::Status> {
    let mut chunks = kv.range_stream(request).await?.into_inner();
    let mut streamed = Streamed::default();
    let mut index = 0;
    loop {
        match chunks.message().await {
            Ok(Some(chunk)) => streamed.push(index, chunk),
            Ok(None) => return Ok(streamed),
            Err(status) if index == 0 => return Err(status),
            Err(status) => {
                streamed.error = Some(status.into());
                return Ok(streamed);
            }
        }
        index += 1;
    }
}
