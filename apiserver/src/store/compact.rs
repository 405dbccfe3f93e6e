//! Takes old history out of the store, as every kube-apiserver does: whichever
//! server is there, one of them does it, once in an interval.
//!
//! They agree by the key `compact_rev_key`, whose version counts the rounds and
//! whose value is the revision of the latest. A server that finds the version it
//! remembers begins the next round, and takes out what was history one interval
//! ago; one that finds another version takes note of it and of the revision now.
//! So history is kept between one interval and two, and a store that serves
//! upstream's kube-apiserver at the same time is compacted no more often.
//!
//! Must not know what the keys hold.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mizzen_proto::etcdserverpb::{
    CompactionRequest, Compare, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    kv_client::KvClient,
    request_op, response_op,
};
use tonic::Response;

use super::{Store, StoreError};

/// Upstream's name: outside the prefix of its objects.
const KEY: &[u8] = b"compact_rev_key";

/// What a server remembers between two rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Remembered {
    /// The key's version, 0 while there is no such key.
    version: i64,
    /// The store's revision at that time, 0 before the first round.
    revision: i64,
}

/// What the key was found to be.
#[derive(Debug, PartialEq, Eq)]
enum Round {
    /// This server's, at this revision of the store.
    Ours(i64),
    /// Another server's: the key's version now, and the store's revision.
    Others(Remembered),
}

/// Compacts once in an interval, as long as the process lives.
pub async fn run(store: Arc<Store>, interval: Duration) {
    let mut remembered = Remembered::default();
    loop {
        tokio::time::sleep(interval).await;
        match store.next_round(&mut remembered).await {
            Ok(Some(revision)) => tracing::debug!(revision, "the store was compacted"),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "the store was not compacted: again in {interval:?}")
            }
        }
    }
}

impl Store {
    /// Gives the revision at which the store was compacted, if it was this
    /// server's turn.
    async fn next_round(&self, remembered: &mut Remembered) -> Result<Option<i64>, StoreError> {
        let before = *remembered;
        match self.claim(before).await? {
            Round::Others(found) => {
                *remembered = found;
                Ok(None)
            }
            Round::Ours(revision) => {
                *remembered = Remembered {
                    version: before.version + 1,
                    revision,
                };
                if before.revision == 0 {
                    return Ok(None);
                }
                self.compact(before.revision).await?;
                Ok(Some(before.revision))
            }
        }
    }

    /// Begins a round if nobody else has since.
    async fn claim(&self, remembered: Remembered) -> Result<Round, StoreError> {
        let value = Bytes::from(remembered.revision.to_string());
        let key = Bytes::from_static(KEY);
        let operation = |request| RequestOp {
            request: Some(request),
        };
        let request = TxnRequest {
            compare: vec![Compare {
                result: CompareResult::Equal.into(),
                target: CompareTarget::Version.into(),
                key: key.clone(),
                range_end: Bytes::new(),
                target_union: Some(TargetUnion::Version(remembered.version)),
            }],
            success: vec![operation(request_op::Request::RequestPut(PutRequest {
                key: key.clone(),
                value: value.clone(),
                ..PutRequest::default()
            }))],
            failure: vec![operation(request_op::Request::RequestRange(RangeRequest {
                key,
                ..RangeRequest::default()
            }))],
        };
        let (reply, again) = self
            .endpoints
            .call(0, |channel| {
                let request = request.clone();
                async move {
                    let mut client = KvClient::new(channel);
                    client.txn(request).await.map(Response::into_inner)
                }
            })
            .await?;
        let revision = reply.header.map_or(0, |header| header.revision);
        if reply.succeeded {
            return Ok(Round::Ours(revision));
        }
        let found = reply
            .responses
            .into_iter()
            .find_map(|one| match one.response {
                Some(response_op::Response::ResponseRange(range)) => range.kvs.into_iter().next(),
                _ => None,
            });
        let version = found.as_ref().map_or(0, |pair| pair.version);
        // An earlier try of this very call did it, and its answer was lost.
        let own = again
            && version == remembered.version + 1
            && found.is_some_and(|pair| pair.value == value);
        Ok(if own {
            Round::Ours(revision)
        } else {
            Round::Others(Remembered { version, revision })
        })
    }

    /// Takes out what only older revisions show. Done already is done.
    async fn compact(&self, revision: i64) -> Result<(), StoreError> {
        let compacted = self
            .endpoints
            .call(revision, |channel| async move {
                let request = CompactionRequest {
                    revision,
                    ..CompactionRequest::default()
                };
                let mut client = KvClient::new(channel);
                client.compact(request).await.map(Response::into_inner)
            })
            .await;
        match compacted {
            Ok(_) | Err(StoreError::Compacted) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
