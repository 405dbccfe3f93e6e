//! What a member without data learns from the others before it starts.

use std::{collections::BTreeSet, io, time::Duration};

use mizzen_proto::peer::{DescribeRequest, membership_client::MembershipClient};

use crate::raft::Dial;
use crate::server::model::members::Member;

/// A running cluster, as one of its members describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub cluster_id: u64,
    /// By id.
    pub members: Vec<Member>,
    pub removed: BTreeSet<u64>,
    /// Features of this level and below may be in use.
    pub level: u32,
}

/// Asks the members at `urls` one by one, each for at most `limit`; the first
/// answer counts.
pub async fn describe(
    dial: &dyn Dial,
    urls: impl IntoIterator<Item = &String>,
    limit: Duration,
) -> Option<Description> {
    for url in urls {
        match tokio::time::timeout(limit, ask(dial, url)).await {
            Ok(Ok(description)) => return Some(description),
            Ok(Err(error)) => tracing::info!(url, %error, "no member answers there"),
            Err(_) => tracing::info!(url, "no member answers there in time"),
        }
    }
    None
}

async fn ask(dial: &dyn Dial, url: &str) -> io::Result<Description> {
    let answer = MembershipClient::new(dial.dial(url)?)
        .describe(DescribeRequest {})
        .await
        .map_err(|status| io::Error::other(status.message().to_owned()))?
        .into_inner();
    Ok(Description {
        cluster_id: answer.cluster_id,
        members: answer
            .members
            .into_iter()
            .map(|member| Member {
                id: member.id,
                name: member.name,
                peer_urls: member.peer_urls,
                client_urls: member.client_urls,
                learner: member.learner,
            })
            .collect(),
        removed: answer.removed.into_iter().collect(),
        level: answer.level,
    })
}
