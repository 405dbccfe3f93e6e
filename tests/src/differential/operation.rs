//! One operation of a sequence and what a member answered to it.

use std::fmt;

use mizzen_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseLeasesResponse, LeaseRevokeRequest,
    LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RangeStreamResponse, RequestOp, ResponseHeader, TxnRequest,
    TxnResponse, request_op::Request,
};
use tonic::Code;

/// A request of the client API that the test sends to both sides.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    Range(RangeRequest),
    RangeStream(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    LeaseGrant(LeaseGrantRequest),
    LeaseRevoke(LeaseRevokeRequest),
    LeaseTimeToLive(LeaseTimeToLiveRequest),
    LeaseLeases,
}

impl Operation {
    /// Whether a member may answer from a state older than the last
    /// acknowledged write, so that a linearizable read of the same member has
    /// to come first for the reply to be determined.
    pub fn may_lag(&self) -> bool {
        match self {
            Self::Range(range) | Self::RangeStream(range) => range.serializable,
            Self::Txn(txn) => [&txn.success, &txn.failure]
                .into_iter()
                .flatten()
                .all(is_serializable_range),
            Self::LeaseTimeToLive(_) | Self::LeaseLeases => true,
            Self::Put(_)
            | Self::DeleteRange(_)
            | Self::Compact(_)
            | Self::LeaseGrant(_)
            | Self::LeaseRevoke(_) => false,
        }
    }

    /// The method's name, for counts.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Range(_) => "Range",
            Self::RangeStream(_) => "RangeStream",
            Self::Put(_) => "Put",
            Self::DeleteRange(_) => "DeleteRange",
            Self::Txn(_) => "Txn",
            Self::Compact(_) => "Compact",
            Self::LeaseGrant(_) => "LeaseGrant",
            Self::LeaseRevoke(_) => "LeaseRevoke",
            Self::LeaseTimeToLive(_) => "LeaseTimeToLive",
            Self::LeaseLeases => "LeaseLeases",
        }
    }
}

fn is_serializable_range(op: &RequestOp) -> bool {
    matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable)
}

/// A successful answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Range(RangeResponse),
    RangeStream(Streamed),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact(CompactionResponse),
    LeaseGrant(LeaseGrantResponse),
    LeaseRevoke(LeaseRevokeResponse),
    LeaseTimeToLive(LeaseTimeToLiveResponse),
    LeaseLeases(LeaseLeasesResponse),
}

impl Reply {
    /// The reply's header, if it has one.
    pub fn header(&self) -> Option<&ResponseHeader> {
        match self {
            Self::Range(reply) => reply.header.as_ref(),
            Self::RangeStream(reply) => reply.merged.header.as_ref(),
            Self::Put(reply) => reply.header.as_ref(),
            Self::DeleteRange(reply) => reply.header.as_ref(),
            Self::Txn(reply) => reply.header.as_ref(),
            Self::Compact(reply) => reply.header.as_ref(),
            Self::LeaseGrant(reply) => reply.header.as_ref(),
            Self::LeaseRevoke(reply) => reply.header.as_ref(),
            Self::LeaseTimeToLive(reply) => reply.header.as_ref(),
            Self::LeaseLeases(reply) => reply.header.as_ref(),
        }
    }
}

/// A whole RangeStream reply: the chunks merged, since their sizes are the
/// member's choice, and what the rules for single chunks forbid.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Streamed {
    /// Pairs of all chunks in order; header, more and count of the last one.
    pub merged: RangeResponse,
    /// Chunks that broke a rule: only the last one carries header, more or
    /// count, each has a response, and none but a sole one is empty.
    pub violations: Vec<String>,
    /// How the stream ended, if with an error.
    pub error: Option<Failure>,
}

impl Streamed {
    /// Adds the next chunk.
    pub fn push(&mut self, index: usize, chunk: RangeStreamResponse) {
        if self.merged.header.is_some() {
            self.violations
                .push(format!("chunk {index} follows one with a header"));
        }
        let Some(response) = chunk.range_response else {
            self.violations
                .push(format!("chunk {index} has no range_response"));
            return;
        };
        if response.header.is_none() && (response.more || response.count != 0) {
            self.violations
                .push(format!("chunk {index} has more or count without a header"));
        }
        if index > 0 && response.kvs.is_empty() {
            self.violations.push(format!("chunk {index} is empty"));
        }
        self.merged.kvs.extend(response.kvs);
        self.merged.header = response.header;
        self.merged.more = response.more;
        self.merged.count = response.count;
    }
}

/// A gRPC status other than OK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    pub message: String,
}

impl Failure {
    /// Whether the failure says nothing about the request, so that a write may
    /// or may not have happened: no leader, a timeout, a lost connection.
    pub fn is_interruption(&self) -> bool {
        matches!(
            self.code,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
        )
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        Self {
            code: status.code(),
            message: status.message().to_owned(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)
    }
}

/// What a member answered.
pub type Outcome = Result<Reply, Failure>;

/// Text of a message for people, cut to a readable length.
pub fn readable(value: &impl fmt::Debug) -> String {
    const LONGEST: usize = 6000;
    let text = format!("{value:?}");
    if text.len() <= LONGEST {
        return text;
    }
    let cut = text
        .char_indices()
        .map(|(at, _)| at)
        .take_while(|at| *at <= LONGEST)
        .last()
        .unwrap_or(0);
    format!("{}... ({} characters in all)", &text[..cut], text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(response: RangeResponse) -> RangeStreamResponse {
        RangeStreamResponse {
            range_response: Some(response),
        }
    }

    #[test]
    fn a_stream_has_its_header_on_the_last_chunk_only() {
        let with_header = RangeResponse {
            header: Some(ResponseHeader::default()),
            kvs: vec![mizzen_proto::mvccpb::KeyValue::default()],
            ..RangeResponse::default()
        };
        let mut good = Streamed::default();
        good.push(0, chunk(with_header.clone()));
        assert!(good.violations.is_empty());

        let mut bad = Streamed::default();
        bad.push(0, chunk(with_header.clone()));
        bad.push(1, chunk(with_header));
        assert_eq!(bad.violations.len(), 1);

        let mut bad = Streamed::default();
        bad.push(0, RangeStreamResponse::default());
        assert_eq!(bad.violations.len(), 1);
    }

    #[test]
    fn transactions_of_serializable_ranges_may_lag() {
        assert!(Operation::Txn(TxnRequest::default()).may_lag());
        let range = |serializable| RequestOp {
            request: Some(Request::RequestRange(RangeRequest {
                serializable,
                ..RangeRequest::default()
            })),
        };
        let txn = |success, failure| {
            Operation::Txn(TxnRequest {
                compare: Vec::new(),
                success,
                failure,
            })
        };
        assert!(txn(vec![range(true)], vec![range(true)]).may_lag());
        assert!(!txn(vec![range(true)], vec![range(false)]).may_lag());
        assert!(!txn(vec![RequestOp::default()], vec![]).may_lag());
    }
}
