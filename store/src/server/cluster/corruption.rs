//! What a member finds when it compares its rows with those of its peers.

use std::{sync::Arc, time::Duration};

use futures::future;
use mizzen_core::{Alarm, AlarmKind, Command, KvHash, SetAlarm, auth::By};
use mizzen_engine::Engine;
use mizzen_proto::peer::{HashKvRequest, HashKvResponse, membership_client::MembershipClient};

use crate::{
    raft::Group,
    server::{error::Error, model::proposal::Body, propose::Proposer, read::Reads},
};

/// What hashes go over, so that members of different versions take no difference of
/// their ways for one of their rows: 0 was a form of its own, 1 is etcd's.
pub const HASH_FORM: u32 = 1;

/// What comparing with one peer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    Same,
    Different,
    /// It has compacted up to another revision, or hashes otherwise: the hashes say
    /// nothing.
    NotComparable,
}

fn compare(own: &KvHash, peer: &HashKvResponse) -> Compared {
    if own.compact_revision != peer.compact_revision
        || own.hash_revision != peer.hash_revision
        || peer.form != HASH_FORM
    {
        Compared::NotComparable
    } else if own.hash == peer.hash {
        Compared::Same
    } else {
        Compared::Different
    }
}

/// Compares this member's rows with its peers'.
pub struct Comparison<E: Engine> {
    pub group: Arc<Group>,
    pub reads: Arc<Reads<E>>,
    /// How long a peer is waited for.
    pub limit: Duration,
}

impl<E: Engine> Comparison<E> {
    /// Compares the hash of this member's rows with those of the peers that answer;
    /// that they do not is no error.
    ///
    /// # Errors
    /// A peer has other rows at the same revision. The text is etcd's.
    pub async fn with_peers(&self) -> Result<(), String> {
        let own_id = format!("{:x}", self.group.id());
        tracing::info!(
            local_member_id = own_id,
            "starting initial corruption check"
        );
        if !self.differing().await?.is_empty() {
            return Err(format!("{own_id} found data inconsistency with peers"));
        }
        tracing::info!(
            local_member_id = own_id,
            "initial corruption checking passed; no corruption"
        );
        Ok(())
    }

    /// The peers that have other rows at the revision that this member has now.
    ///
    /// # Errors
    /// This member's own rows cannot be read.
    async fn differing(&self) -> Result<Vec<u64>, String> {
        let id = self.group.id();
        let own = self.reads.hash_for_peers(0).await;
        let own = own.map_err(|error| format!("{id:x} cannot hash its rows: {error}"))?;
        let peers = self.group.configuration().nodes.into_keys();
        let asked = peers.filter(|peer| *peer != id).map(async |peer| {
            let answer = self.hash_of(peer, own.hash_revision).await;
            (peer, answer)
        });
        let mut different = Vec::new();
        for (peer, answer) in future::join_all(asked).await {
            let remote_peer_id = format!("{peer:x}");
            let compared = match answer {
                Ok(answer) => compare(&own, &answer),
                Err(reason) => {
                    tracing::warn!(remote_peer_id, reason, "failed hash kv request");
                    continue;
                }
            };
            match compared {
                Compared::Same => {}
                Compared::Different => {
                    different.push(peer);
                    tracing::warn!(
                        remote_peer_id,
                        revision = own.hash_revision,
                        "found different hash values from remote peer"
                    );
                }
                Compared::NotComparable => tracing::warn!(
                    remote_peer_id,
                    revision = own.hash_revision,
                    "found different compact revision values from remote peer"
                ),
            }
        }
        Ok(different)
    }

    async fn hash_of(&self, peer: u64, revision: i64) -> Result<HashKvResponse, String> {
        let channel = self
            .group
            .channel(peer)
            .map_err(|error| error.to_string())?;
        let mut client = MembershipClient::new(channel);
        let answer = client.hash_kv(HashKvRequest { revision });
        match tokio::time::timeout(self.limit, answer).await {
            Ok(answer) => answer
                .map(tonic::Response::into_inner)
                .map_err(|status| status.message().to_owned()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }
}

/// Compares at such intervals, while this member leads, and raises an alarm for every
/// member that has other rows (`--corrupt-check-time`).
pub async fn check_at_intervals<E: Engine>(
    comparison: Arc<Comparison<E>>,
    proposer: Arc<Proposer<E>>,
    interval: Duration,
) {
    loop {
        tokio::time::sleep(interval).await;
        if !comparison.group.is_leader() {
            continue;
        }
        match comparison.differing().await {
            Ok(different) => {
                for member in different {
                    raise(&proposer, member).await;
                }
            }
            Err(reason) => tracing::warn!(reason, "failed to check hash KV"),
        }
    }
}

async fn raise<E: Engine>(proposer: &Proposer<E>, member: u64) {
    let alarm = SetAlarm {
        alarm: Alarm {
            kind: AlarmKind::Corrupt,
            member,
        },
        active: true,
    };
    let alarm = Body::Command(Command::Alarm(alarm));
    if let Err(error) = proposer.submit(By::Store, alarm, None).await {
        tracing::warn!(%error, "the alarm was not raised");
    }
}

/// The hash of these rows at `revision`, for a peer that compares. This member may
/// be a moment behind it.
pub async fn hash_at<E: Engine>(reads: &Reads<E>, revision: i64) -> Result<KvHash, Error> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let reached = async {
        while reads.published.load().state.revision() < revision {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // Else the hash is refused.
    let _ = tokio::time::timeout(PATIENCE, reached).await;
    reads.hash_for_peers(revision).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_comparable_differs() {
        let own = KvHash {
            hash: 1,
            hash_revision: 10,
            compact_revision: 4,
            revision: 12,
        };
        let peer = |hash, compact_revision| HashKvResponse {
            hash,
            compact_revision,
            hash_revision: 10,
            form: HASH_FORM,
        };
        assert_eq!(compare(&own, &peer(1, 4)), Compared::Same);
        assert_eq!(compare(&own, &peer(2, 4)), Compared::Different);
        assert_eq!(compare(&own, &peer(2, 5)), Compared::NotComparable);
        let older = HashKvResponse {
            form: 0,
            ..peer(2, 4)
        };
        assert_eq!(compare(&own, &older), Compared::NotComparable);
    }
}
