//! The operations of a history: what was asked, what came back, when.
//!
//! These types mirror the etcd KV API but know nothing of gRPC. They are the
//! raw evidence: nothing is dropped or corrected between the wire and here.

use crate::clock::Nanos;
use serde::{Deserialize, Serialize};

fn is_false(b: &bool) -> bool {
    !*b
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// One key-value pair as the server showed it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kv {
    #[serde(rename = "k")]
    pub key: String,
    #[serde(rename = "v")]
    pub value: String,
    #[serde(rename = "c")]
    pub create: i64,
    #[serde(rename = "m")]
    pub modified: i64,
    #[serde(rename = "n")]
    pub version: i64,
    #[serde(rename = "l", default, skip_serializing_if = "is_zero")]
    pub lease: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeReq {
    pub key: String,
    /// Empty for a single key; "\0" for every key from `key` on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub end: String,
    /// Zero reads at the head.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rev: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub limit: i64,
    #[serde(default, skip_serializing_if = "is_false")]
    pub serializable: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub count_only: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub keys_only: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutReq {
    pub key: String,
    pub value: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub prev: bool,
    /// The lease the key is attached to; zero for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lease: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteReq {
    pub key: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub end: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub prev: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cmp {
    Equal,
    Greater,
    Less,
    NotEqual,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    Version(i64),
    Create(i64),
    Mod(i64),
    Value(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    pub key: String,
    pub cmp: Cmp,
    pub target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TxnOp {
    Range(RangeReq),
    Put(PutReq),
    Delete(DeleteReq),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnReq {
    #[serde(rename = "if")]
    pub compare: Vec<Compare>,
    pub then: Vec<TxnOp>,
    #[serde(rename = "else")]
    pub or_else: Vec<TxnOp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    Range(RangeReq),
    Put(PutReq),
    Delete(DeleteReq),
    Txn(TxnReq),
    Compact {
        rev: i64,
    },
    Lease(LeaseReq),
    /// Waits for a named lock; the key `name/lease` is the holder's.
    Lock {
        name: String,
        lease: i64,
    },
    Unlock {
        key: String,
    },
    Auth(AuthReq),
}

/// What a permission is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    Read,
    Write,
    ReadWrite,
}

impl Access {
    pub fn includes(self, wanted: Access) -> bool {
        self == wanted || self == Access::ReadWrite
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthReq {
    Enable,
    AddUser {
        user: String,
        password: String,
    },
    DeleteUser {
        user: String,
    },
    Password {
        user: String,
        password: String,
    },
    AddRole {
        role: String,
    },
    DeleteRole {
        role: String,
    },
    GrantRole {
        user: String,
        role: String,
    },
    RevokeRole {
        user: String,
        role: String,
    },
    Grant {
        role: String,
        key: String,
        end: String,
        access: Access,
    },
    Revoke {
        role: String,
        key: String,
        end: String,
    },
    /// Asks for a token.
    Login {
        user: String,
        password: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseReq {
    /// `ttl` in seconds.
    Grant {
        id: i64,
        ttl: i64,
    },
    Renew {
        id: i64,
    },
    Revoke {
        id: i64,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeReply {
    pub kvs: Vec<Kv>,
    pub count: i64,
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutReply {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Kv>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteReply {
    pub deleted: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prev: Vec<Kv>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TxnOpReply {
    Range(RangeReply),
    Put(PutReply),
    Delete(DeleteReply),
    /// A response the API does not allow here; kept as text.
    Odd(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnReply {
    pub succeeded: bool,
    pub replies: Vec<TxnOpReply>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    Range(RangeReply),
    Put(PutReply),
    Delete(DeleteReply),
    Txn(TxnReply),
    Compact,
    /// The time to live in seconds; zero for a lease that is gone.
    Lease {
        ttl: i64,
    },
    /// The key that holds the lock.
    Locked {
        key: String,
    },
    Unlocked,
    Auth,
}

/// Why an operation certainly had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailClass {
    /// The revision asked for is below the compaction floor.
    Compacted,
    /// The revision asked for does not exist yet.
    Future,
    /// No connection: the request was never sent.
    Refused,
    /// The server refused it before proposing it.
    Rejected,
    /// A read that ended in any other error: reads have no effect.
    Read,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Ok {
        rev: i64,
        reply: Reply,
    },
    Fail {
        class: FailClass,
        error: String,
    },
    /// It may have taken effect, once, at any time after the invocation.
    Unknown {
        error: String,
    },
}

/// Which part of a run issued an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// Start of the run: the store must be empty.
    Initial,
    Register,
    Set,
    Append,
    ReadWrite,
    History,
    Compaction,
    Lease,
    /// Sets under a lock, each change guarded by the holder's key.
    Lock,
    /// Sets under a lock and nothing else.
    LockUnsafe,
    Kubernetes,
    /// Users and roles that change, and what users do meanwhile.
    Auth,
    /// Scans that stand in for a watch when resolving unknown outcomes.
    Evidence,
    /// After healing: every operation must succeed.
    Final,
}

impl Load {
    pub fn name(self) -> &'static str {
        match self {
            Load::Initial => "initial",
            Load::Register => "register",
            Load::Set => "set",
            Load::Append => "append",
            Load::ReadWrite => "readwrite",
            Load::History => "history",
            Load::Compaction => "compaction",
            Load::Lease => "lease",
            Load::Lock => "lock",
            Load::LockUnsafe => "lock-unsafe",
            Load::Kubernetes => "kubernetes",
            Load::Auth => "auth",
            Load::Evidence => "evidence",
            Load::Final => "final",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    pub id: u64,
    pub client: u32,
    /// Index of the member that was asked.
    pub member: usize,
    /// Which process of that member was running at the invocation.
    #[serde(rename = "gen")]
    pub incarnation: u32,
    pub load: Load,
    pub start: Nanos,
    pub end: Nanos,
    pub req: Request,
    pub out: Outcome,
    /// Whose token was sent along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
}

/// A user, and the password for which it was given its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl Op {
    /// Header revision of a successful reply.
    pub fn revision(&self) -> Option<i64> {
        match &self.out {
            Outcome::Ok { rev, .. } => Some(*rev),
            Outcome::Fail { .. } | Outcome::Unknown { .. } => None,
        }
    }

    /// True for a successful reply that says it created a revision.
    pub fn made_revision(&self) -> bool {
        let Outcome::Ok { reply, .. } = &self.out else {
            return false;
        };
        match reply {
            Reply::Put(_) => true,
            Reply::Delete(d) => d.deleted > 0,
            Reply::Txn(t) => t.replies.iter().any(|r| match r {
                TxnOpReply::Put(_) => true,
                TxnOpReply::Delete(d) => d.deleted > 0,
                TxnOpReply::Range(_) | TxnOpReply::Odd(_) => false,
            }),
            Reply::Range(_)
            | Reply::Compact
            | Reply::Lease { .. }
            | Reply::Locked { .. }
            | Reply::Unlocked
            | Reply::Auth => false,
        }
    }

    /// Serializable reads may be stale, and so may the header of a renewal;
    /// everything else is linearizable.
    pub fn linearizable(&self) -> bool {
        match &self.req {
            Request::Range(r) => !r.serializable,
            Request::Lease(LeaseReq::Renew { .. }) => false,
            _ => true,
        }
    }
}

impl Request {
    pub fn is_read(&self) -> bool {
        match self {
            Request::Range(_) => true,
            Request::Txn(t) => t
                .then
                .iter()
                .chain(&t.or_else)
                .all(|o| matches!(o, TxnOp::Range(_))),
            // A token that nobody learns of gives nobody anything.
            Request::Auth(request) => matches!(request, AuthReq::Login { .. }),
            Request::Put(_)
            | Request::Delete(_)
            | Request::Compact { .. }
            | Request::Lease(_)
            | Request::Lock { .. }
            | Request::Unlock { .. } => false,
        }
    }

    /// True when a successful reply does not tell at which revision its
    /// changes were made, if it made any.
    pub fn is_loose(&self) -> bool {
        matches!(
            self,
            Request::Lease(_) | Request::Lock { .. } | Request::Unlock { .. }
        )
    }

    /// Linearizable read of the whole key space at the head.
    pub fn scan(rev: i64) -> Request {
        Request::Range(RangeReq {
            key: "\0".into(),
            end: "\0".into(),
            rev,
            ..RangeReq::default()
        })
    }
}

/// The key by which a lease takes part in a lock.
pub fn lock_key(name: &str, lease: i64) -> String {
    format!("{name}/{lease:x}")
}

/// The end of the range that holds every key with this prefix (ASCII only).
pub fn prefix_end(prefix: &str) -> String {
    let mut bytes = prefix.as_bytes().to_vec();
    while let Some(last) = bytes.pop() {
        if last < 0x7f {
            bytes.push(last + 1);
            break;
        }
    }
    if bytes.is_empty() {
        "\0".into()
    } else {
        String::from_utf8(bytes).unwrap_or_else(|_| "\0".into())
    }
}
