//! What clients ask of the state machine, free of any wire format.
//!
//! Numbers that the wire leaves open (revisions, limits, lease ids) keep the
//! wire's signed range: a negative value has etcd's meaning, never a panic.

use bytes::Bytes;

/// A command as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Put(Put),
    DeleteRange(DeleteRange),
    Txn(Txn),
    Compact(Compaction),
    LeaseGrant(LeaseGrant),
    LeaseRevoke(LeaseRevoke),
    Alarm(SetAlarm),
    LeaseCheckpoint(Vec<LeaseCheckpoint>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Put {
    pub key: Bytes,
    pub value: Bytes,
    pub lease: i64,
    pub prev_kv: bool,
    pub ignore_value: bool,
    pub ignore_lease: bool,
}

/// `range_end`: empty = the single `key`; `[0]` = every key >= `key`;
/// otherwise keys in `[key, range_end)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRange {
    pub key: Bytes,
    pub range_end: Bytes,
    pub prev_kv: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    pub key: Bytes,
    pub range_end: Bytes,
    pub limit: i64,
    pub revision: i64,
    pub sort_order: SortOrder,
    pub sort_target: SortTarget,
    pub serializable: bool,
    pub keys_only: bool,
    pub count_only: bool,
    pub min_mod_revision: i64,
    pub max_mod_revision: i64,
    pub min_create_revision: i64,
    pub max_create_revision: i64,
}

/// The wire may carry any number; `Undefined` keeps one that has no name, and
/// only such a one. So do the other enumerations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    #[default]
    None,
    Ascend,
    Descend,
    Undefined(i32),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    #[default]
    Key,
    Version,
    Create,
    Mod,
    Value,
    Undefined(i32),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub success: Vec<Operation>,
    pub failure: Vec<Operation>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub key: Bytes,
    pub range_end: Bytes,
    pub op: CompareOp,
    pub target: CompareTarget,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompareOp {
    #[default]
    Equal,
    Greater,
    Less,
    NotEqual,
    Undefined(i32),
}

/// What is compared, with the operand. A wire message may name a target and
/// carry the operand of another, or none; how etcd reads those is settled
/// where wire types are translated, and what it cannot read is `Undefined`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    Version(i64),
    Create(i64),
    Mod(i64),
    Value(Bytes),
    Lease(i64),
    Undefined(i32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Range(Range),
    Put(Put),
    DeleteRange(DeleteRange),
    Txn(Txn),
    /// An operation whose union is not set on the wire.
    Empty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    pub revision: i64,
}

/// `id` is never 0 here: the proposer chose one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseGrant {
    pub id: i64,
    /// Seconds.
    pub ttl: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRevoke {
    pub id: i64,
}

/// What is left of a lease, for whoever leads next. Leases that are gone are
/// passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseCheckpoint {
    pub id: i64,
    /// Seconds; 0 takes an earlier checkpoint back.
    pub remaining: i64,
}

/// The numbers are etcd's, on the wire and in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmKind {
    /// A member is out of space: nothing that needs more is accepted.
    NoSpace = 1,
    /// A member's rows differ from the others': nothing is read or written.
    Corrupt = 2,
}

impl AlarmKind {
    const ALL: [AlarmKind; 2] = [AlarmKind::NoSpace, AlarmKind::Corrupt];

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    pub kind: AlarmKind,
    pub member: u64,
}

/// Raises an alarm or ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetAlarm {
    pub alarm: Alarm,
    pub active: bool,
}

impl Command {
    /// Whether it can make the store larger: puts, on whichever branch, and
    /// grants of leases. Deletions do too, by a little, but without them space
    /// could never be given back.
    pub fn needs_space(&self) -> bool {
        match self {
            Command::Put(_) | Command::LeaseGrant(_) => true,
            Command::Txn(txn) => txn.has_put(),
            Command::DeleteRange(_)
            | Command::Compact(_)
            | Command::LeaseRevoke(_)
            | Command::LeaseCheckpoint(_)
            | Command::Alarm(_) => false,
        }
    }
}

impl Txn {
    fn has_put(&self) -> bool {
        self.success
            .iter()
            .chain(&self.failure)
            .any(|operation| match operation {
                Operation::Put(_) => true,
                Operation::Txn(nested) => nested.has_put(),
                Operation::Range(_) | Operation::DeleteRange(_) | Operation::Empty => false,
            })
    }
}

/// Numbers of the wire's enumerations, both ways.
macro_rules! numbered {
    ($type:ident: $($name:ident = $number:literal),+) => {
        impl From<i32> for $type {
            fn from(number: i32) -> Self {
                match number {
                    $($number => Self::$name,)+
                    _ => Self::Undefined(number),
                }
            }
        }

        impl From<$type> for i32 {
            fn from(value: $type) -> Self {
                match value {
                    $($type::$name => $number,)+
                    $type::Undefined(number) => number,
                }
            }
        }
    };
}

numbered!(SortOrder: None = 0, Ascend = 1, Descend = 2);
numbered!(SortTarget: Key = 0, Version = 1, Create = 2, Mod = 3, Value = 4);
numbered!(CompareOp: Equal = 0, Greater = 1, Less = 2, NotEqual = 3);
