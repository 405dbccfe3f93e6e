//! The store, through the etcd v3 API: reads, conditional writes, watches,
//! over several endpoints.
//!
//! Knows keys, bytes and revisions, and what they are sealed with on the way. Knows
//! no object, no kind, no request.
//!
//! A write whose outcome is unknown (the connection broke) is sent again: each
//! names the revision it replaces, so it takes effect at most once, and when
//! the second finds the first one's work it is told as success.

pub mod compact;
mod endpoints;
mod reads;
mod sealed;
mod tls;
mod watch;

use std::sync::Arc;

use bytes::Bytes;
use mizzen_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    kv_client::KvClient,
    lease_client::LeaseClient,
    request_op, response_op,
};
use tonic::{Code, Status};

pub use self::tls::Tls;
pub use self::watch::{Batch, Change, Watch};
use self::{endpoints::Endpoints, reads::Reads, sealed::Sealing};
use crate::{encryption::Encryption, limits};

/// A stored pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub key: Bytes,
    pub value: Bytes,
    /// The revision of its last change.
    pub revision: i64,
    /// It is sealed otherwise than it would be today.
    pub stale: bool,
}

/// Part of a range.
#[derive(Debug)]
pub struct Page {
    pub pairs: Vec<Pair>,
    /// Pairs of the whole range, these included.
    pub count: i64,
    /// The store's revision when it was read.
    pub revision: i64,
}

/// What became of a conditional write.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, at this revision.
    Done(i64),
    /// The condition did not hold; what is there instead.
    Differs(Option<Pair>),
    /// The condition of a write that goes with it did not hold.
    Contended,
}

/// A write of one key that names the revision it replaces (0: none).
#[derive(Clone, Debug)]
pub struct Write {
    pub key: String,
    action: Action,
    expected: i64,
    lease: i64,
}

#[derive(Clone, Debug)]
enum Action {
    Put(Bytes),
    Delete,
    Keep,
}

impl Write {
    pub fn put(key: String, value: Bytes, expected: i64) -> Self {
        Self {
            key,
            action: Action::Put(value),
            expected,
            lease: 0,
        }
    }

    pub fn delete(key: String, expected: i64) -> Self {
        Self {
            key,
            action: Action::Delete,
            expected,
            lease: 0,
        }
    }

    /// Leaves the key as it is: a condition of the writes that it goes with.
    pub fn keep(key: String, expected: i64) -> Self {
        Self {
            key,
            action: Action::Keep,
            expected,
            lease: 0,
        }
    }

    /// The same, kept as long as a lease (0: for ever).
    #[must_use]
    pub fn under(mut self, lease: i64) -> Self {
        self.lease = lease;
        self
    }

    fn compare(&self) -> Compare {
        Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: self.key.clone().into(),
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::ModRevision(self.expected)),
        }
    }

    fn operation(&self) -> Option<request_op::Request> {
        let key = Bytes::from(self.key.clone());
        match &self.action {
            Action::Put(value) => Some(request_op::Request::RequestPut(PutRequest {
                key,
                value: value.clone(),
                lease: self.lease,
                ..PutRequest::default()
            })),
            Action::Delete => Some(request_op::Request::RequestDeleteRange(
                DeleteRangeRequest {
                    key,
                    ..DeleteRangeRequest::default()
                },
            )),
            Action::Keep => None,
        }
    }
}

/// Why the store did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the revision is compacted")]
    Compacted,
    #[error("revision {asked} lies ahead of {current}")]
    Future { asked: i64, current: i64 },
    #[error("the request is too large")]
    TooLarge,
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    #[error("the store did not answer in time")]
    Timeout,
    #[error("the value of {key} cannot be opened: {why}")]
    Sealed { key: String, why: String },
    #[error("{0}")]
    Other(String),
}

impl StoreError {
    fn of(status: &Status, asked: i64) -> Self {
        let message = status.message();
        if message.contains("required revision has been compacted") {
            Self::Compacted
        } else if message.contains("required revision is a future revision") {
            Self::Future { asked, current: 0 }
        } else if message.contains("request is too large") {
            Self::TooLarge
        } else {
            match status.code() {
                Code::Unavailable | Code::ResourceExhausted => {
                    Self::Unavailable(message.to_owned())
                }
                Code::DeadlineExceeded | Code::Cancelled => Self::Timeout,
                _ => Self::Other(message.to_owned()),
            }
        }
    }
}

/// Another endpoint, or the same one a little later, may do it.
fn passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
    ) || (status.code() == Code::Unknown && std::error::Error::source(status).is_some())
}

/// The end of the range of keys that begin with `prefix`.
pub fn prefix_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}

/// A client of all endpoints of one store.
pub struct Store {
    endpoints: Arc<Endpoints>,
    reads: Reads,
    sealing: Sealing,
}

impl Store {
    /// Connects lazily: nothing is sent before the first call.
    /// `tls` is for the endpoints that begin with `https`.
    pub fn new(endpoints: &[String], tls: Option<&Tls>) -> Result<Self, StoreError> {
        let endpoints = Arc::new(Endpoints::new(endpoints, tls)?);
        Ok(Self {
            reads: Reads::new(endpoints.clone()),
            endpoints,
            sealing: Sealing::default(),
        })
    }

    /// Seals what it writes, and opens what it reads.
    #[must_use]
    pub fn sealed_by(mut self, encryption: Option<Arc<Encryption>>) -> Self {
        self.sealing = Sealing(encryption);
        self
    }

    async fn range(&self, request: RangeRequest) -> Result<Page, StoreError> {
        let asked = request.revision;
        let (reply, _) = self
            .endpoints
            .call(asked, |channel| {
                let request = request.clone();
                async move {
                    let mut client =
                        KvClient::new(channel).max_decoding_message_size(limits::REPLY_BYTES_MAX);
                    client.range(request).await.map(tonic::Response::into_inner)
                }
            })
            .await?;
        Ok(Page {
            count: reply.count,
            revision: reply.header.map_or(0, |header| header.revision),
            pairs: reply
                .kvs
                .into_iter()
                .map(|kv| self.sealing.pair(pair(kv)))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Reads one key, linearizably; also the store's revision.
    pub async fn get(&self, key: &str) -> Result<(Option<Pair>, i64), StoreError> {
        let found = self.reads.get(Bytes::copy_from_slice(key.as_bytes()));
        let (pair, revision) = found.await?;
        let pair = pair.map(|pair| self.sealing.pair(pair)).transpose()?;
        Ok((pair, revision))
    }

    /// Reads up to `limit` pairs from `start` to the end of `prefix`, at
    /// `revision` (0: now).
    pub async fn page(
        &self,
        prefix: &str,
        start: &str,
        limit: i64,
        revision: i64,
    ) -> Result<Page, StoreError> {
        self.range(RangeRequest {
            key: Bytes::copy_from_slice(start.as_bytes()),
            range_end: prefix_end(prefix),
            limit,
            revision,
            ..RangeRequest::default()
        })
        .await
    }

    /// The store's revision now.
    pub async fn revision(&self) -> Result<i64, StoreError> {
        self.get("/registry/health")
            .await
            .map(|(_, revision)| revision)
    }

    /// Grants a lease of `ttl` seconds.
    pub async fn grant(&self, ttl: i64) -> Result<i64, StoreError> {
        let (reply, _) = self
            .endpoints
            .call(0, |channel| async move {
                let mut client = LeaseClient::new(channel);
                client
                    .lease_grant(LeaseGrantRequest { ttl, id: 0 })
                    .await
                    .map(tonic::Response::into_inner)
            })
            .await?;
        if reply.error.is_empty() {
            Ok(reply.id)
        } else {
            Err(StoreError::Other(reply.error))
        }
    }

    /// Does `write`, and those that go with it, if every key was last changed
    /// at the revision its write names; all of them or none.
    pub async fn commit(&self, write: &Write, with: &[Write]) -> Result<Outcome, StoreError> {
        let write = &self.sealing.write(write.clone())?;
        let with = with.iter().map(|one| self.sealing.write(one.clone()));
        let with: Vec<Write> = with.collect::<Result<_, _>>()?;
        let (outcome, again) = self.conditional(write, &with).await?;
        match (outcome, &write.action) {
            // An earlier try did it.
            (Outcome::Differs(Some(pair)), Action::Put(value))
                if again && pair.value == *value && pair.revision > write.expected =>
            {
                Ok(Outcome::Done(pair.revision))
            }
            // At the latest now.
            (Outcome::Differs(None), Action::Delete) if again => {
                Ok(Outcome::Done(self.revision().await?))
            }
            (Outcome::Differs(Some(pair)), _) => {
                Ok(Outcome::Differs(Some(self.sealing.pair(pair)?)))
            }
            (outcome, _) => Ok(outcome),
        }
    }

    async fn conditional(
        &self,
        write: &Write,
        with: &[Write],
    ) -> Result<(Outcome, bool), StoreError> {
        let op = |request| RequestOp {
            request: Some(request),
        };
        let all = || std::iter::once(write).chain(with);
        let request = TxnRequest {
            compare: all().map(Write::compare).collect(),
            success: all().filter_map(Write::operation).map(op).collect(),
            failure: vec![op(request_op::Request::RequestRange(RangeRequest {
                key: write.key.clone().into(),
                ..RangeRequest::default()
            }))],
        };
        let (reply, again) = self
            .endpoints
            .call(0, |channel| {
                let request = request.clone();
                async move {
                    let mut client =
                        KvClient::new(channel).max_decoding_message_size(limits::REPLY_BYTES_MAX);
                    client.txn(request).await.map(tonic::Response::into_inner)
                }
            })
            .await?;
        if reply.succeeded {
            return Ok((
                Outcome::Done(reply.header.map_or(0, |header| header.revision)),
                again,
            ));
        }
        let current =
            reply
                .responses
                .into_iter()
                .next()
                .and_then(|response| match response.response {
                    Some(response_op::Response::ResponseRange(range)) => {
                        range.kvs.into_iter().next().map(pair)
                    }
                    _ => None,
                });
        let found = current.as_ref().map_or(0, |pair| pair.revision);
        let outcome = if found == write.expected {
            Outcome::Contended
        } else {
            Outcome::Differs(current)
        };
        Ok((outcome, again))
    }

    /// Watches every key that begins with `prefix`, from revision `start` on.
    pub async fn watch(&self, prefix: &str, start: i64) -> Result<Watch, StoreError> {
        let (index, channel) = self.endpoints.channel();
        let opened = Watch::open(channel, prefix, start, self.sealing.clone());
        let opened = tokio::time::timeout(limits::STORE_CALL, opened).await;
        let result = opened.unwrap_or(Err(StoreError::Timeout));
        if matches!(
            result,
            Err(StoreError::Unavailable(_) | StoreError::Timeout)
        ) {
            self.endpoints.failed(index);
        }
        result
    }

    /// Moves to another endpoint, after a watch broke.
    pub fn turn(&self) {
        let (index, _) = self.endpoints.channel();
        self.endpoints.failed(index);
    }
}

fn pair(kv: mizzen_proto::mvccpb::KeyValue) -> Pair {
    Pair {
        key: kv.key,
        value: kv.value,
        revision: kv.mod_revision,
        stale: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next() {
        assert_eq!(
            prefix_end("/registry/pods/"),
            Bytes::from_static(b"/registry/pods0")
        );
    }

    #[test]
    fn errors_are_told_apart_by_etcds_texts() {
        let status = Status::out_of_range("etcdserver: mvcc: required revision has been compacted");
        assert!(matches!(StoreError::of(&status, 1), StoreError::Compacted));
        let status =
            Status::out_of_range("etcdserver: mvcc: required revision is a future revision");
        assert!(matches!(
            StoreError::of(&status, 7),
            StoreError::Future { asked: 7, .. }
        ));
        assert!(passing(&Status::unavailable("etcdserver: no leader")));
        assert!(!passing(&Status::invalid_argument(
            "etcdserver: request is too large"
        )));
    }

    #[tokio::test]
    async fn a_store_needs_an_endpoint() {
        assert!(Store::new(&[], None).is_err());
        assert!(Store::new(&["not a url".to_owned()], None).is_err());
        assert!(Store::new(&["https://a:1".to_owned()], None).is_err());
    }
}
