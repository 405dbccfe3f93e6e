//! What the harness asks members outside the workload: who leads, who answers.

use crate::client::Bench;
use anyhow::Result;
use mizzen_proto::etcdserverpb as pb;
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use mizzen_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const ANSWER: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub struct Probe {
    bench: Arc<Bench>,
}

struct Seen {
    member: usize,
    id: u64,
    leader: u64,
    term: u64,
}

impl Probe {
    pub fn new(bench: &Arc<Bench>) -> Probe {
        Probe {
            bench: Arc::clone(bench),
        }
    }

    async fn status(self, member: usize) -> Result<(usize, pb::StatusResponse)> {
        let mut client = MaintenanceClient::new(self.bench.channel(member)?);
        let reply = timeout(ANSWER, client.status(pb::StatusRequest::default())).await??;
        Ok((member, reply.into_inner()))
    }

    /// The member that calls itself the leader of the highest term.
    pub async fn leader(&self, among: &[usize]) -> Option<usize> {
        let calls: Vec<_> = among
            .iter()
            .map(|&m| tokio::spawn(self.clone().status(m)))
            .collect();
        let mut best: Option<Seen> = None;
        for call in calls {
            let Ok(Ok((member, status))) = call.await else {
                continue;
            };
            let id = status.header.map_or(0, |h| h.member_id);
            let seen = Seen {
                member,
                id,
                leader: status.leader,
                term: status.raft_term,
            };
            if seen.id == seen.leader && best.as_ref().is_none_or(|b| b.term < seen.term) {
                best = Some(seen);
            }
        }
        best.map(|b| b.member)
    }

    /// The id a member has now.
    pub async fn id(&self, member: usize) -> Option<u64> {
        let (_, status) = self.clone().status(member).await.ok()?;
        status.header.map(|header| header.member_id)
    }

    /// The version a member reports; empty if it reports none.
    pub async fn version(&self, member: usize) -> String {
        self.clone()
            .status(member)
            .await
            .map(|(_, s)| s.version)
            .unwrap_or_default()
    }

    /// True once a member answers a linearizable read.
    pub async fn healthy(&self, member: usize, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            if self.answers(member).await.is_ok() {
                return true;
            }
            if Instant::now() + RETRY > deadline {
                return false;
            }
            sleep(RETRY).await;
        }
    }

    async fn answers(&self, member: usize) -> Result<()> {
        let mut client = KvClient::new(self.bench.channel(member)?);
        let range = pb::RangeRequest {
            key: b"health".to_vec().into(),
            ..pb::RangeRequest::default()
        };
        timeout(ANSWER * 2, client.range(range)).await??;
        Ok(())
    }

    /// The members that do not answer within `patience`.
    pub async fn unhealthy(&self, patience: Duration) -> Vec<usize> {
        let checks: Vec<_> = (0..self.bench.view.members())
            .map(|m| {
                let probe = self.clone();
                tokio::spawn(async move { probe.healthy(m, patience).await })
            })
            .collect();
        let mut bad = Vec::new();
        for (member, check) in checks.into_iter().enumerate() {
            if !check.await.unwrap_or(false) {
                bad.push(member);
            }
        }
        bad
    }
}
