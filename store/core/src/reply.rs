//! What the state machine answers, free of any wire format but one: key-values
//! stay in the protobuf encoding of `mvccpb.KeyValue`, which clients get as it
//! stands in the rows.

use bytes::Bytes;

use crate::command::Alarm;

/// Any number of key-values, each as `tag 2, length, mvccpb.KeyValue`: the way
/// field `kvs` of `RangeResponse` stands on the wire, ready to be copied there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedKvs {
    pub bytes: Bytes,
    pub len: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeReply {
    pub revision: i64,
    pub kvs: EncodedKvs,
    pub count: i64,
    pub more: bool,
}

/// `revision` is the store's revision for the reply's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Range(RangeReply),
    Put {
        revision: i64,
        /// An encoded `mvccpb.KeyValue`, without tag and length.
        prev_kv: Option<Bytes>,
    },
    DeleteRange {
        revision: i64,
        deleted: i64,
        /// Encoded `mvccpb.KeyValue`s, without tag and length.
        prev_kvs: Vec<Bytes>,
    },
    Txn {
        revision: i64,
        succeeded: bool,
        responses: Vec<Reply>,
    },
    Compact {
        revision: i64,
    },
    LeaseGrant {
        revision: i64,
        id: i64,
        ttl: i64,
    },
    LeaseRevoke {
        revision: i64,
    },
    LeaseCheckpoint {
        revision: i64,
    },
    Alarm {
        revision: i64,
        alarms: Vec<Alarm>,
    },
}

impl Reply {
    /// The store's revision, for the reply's header.
    pub fn revision(&self) -> i64 {
        match self {
            Reply::Range(range) => range.revision,
            Reply::Put { revision, .. }
            | Reply::DeleteRange { revision, .. }
            | Reply::Txn { revision, .. }
            | Reply::Compact { revision }
            | Reply::LeaseGrant { revision, .. }
            | Reply::LeaseRevoke { revision }
            | Reply::LeaseCheckpoint { revision }
            | Reply::Alarm { revision, .. } => *revision,
        }
    }
}
