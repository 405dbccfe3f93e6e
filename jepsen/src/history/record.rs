//! Everything a history file holds beside operations, one record a line.

use super::object::{ObjectOp, ObjectWatch};
use super::op::{Kv, Op};
use crate::clock::Nanos;
use serde::{Deserialize, Serialize};

/// One change of one key, as a watch shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// For a deletion only the key and `modified` are set.
    pub kv: Kv,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Kv>,
}

/// One watch response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchBatch {
    pub member: usize,
    pub at: Nanos,
    /// Header revision.
    pub rev: i64,
    pub events: Vec<Event>,
}

/// What one response of a [`Window`] showed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Header revision.
    pub rev: i64,
    /// None for a progress notification.
    pub events: Vec<Event>,
    /// The watch was canceled, with its floor or zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canceled: Option<i64>,
}

/// A watch of some keys from some revision on for some time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub member: usize,
    pub start: Nanos,
    pub end: Nanos,
    pub key: String,
    /// The end of the range, as in a range request.
    pub range_end: String,
    /// The first revision asked for; zero for what comes.
    pub from: i64,
    /// Previous pairs were asked for.
    pub prev: bool,
    /// Puts were filtered out.
    pub no_put: bool,
    /// Deletions were filtered out.
    pub no_delete: bool,
    /// Header revision of the answer to the request; zero without one.
    pub created: i64,
    pub parts: Vec<Part>,
    /// When progress was asked for a last time; zero if the watch had ended.
    #[serde(default)]
    pub asked: Nanos,
    /// That was answered.
    #[serde(default)]
    pub answered: bool,
    /// Why the stream broke, or was never there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

/// Watches run from revision 1 to the end of a run, one for each member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WatchNote {
    /// A stream was opened, asking for this first revision.
    Opened {
        from: i64,
    },
    Ended {
        error: String,
    },
    /// The server ended the watch, naming its compaction floor (or zero).
    Canceled {
        compact: i64,
        reason: String,
    },
    Unimplemented,
    /// The final revision was seen.
    Complete {
        through: i64,
    },
    /// The final revision was not seen in time.
    Incomplete {
        through: i64,
        wanted: i64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Injected {
    /// The fault was seen to be in place.
    Installed,
    /// It could not be tried, for instance because no leader was known.
    Skipped,
    /// It was tried and its effect was not seen.
    Indeterminate,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The name used on the command line.
    pub kind: String,
    pub members: Vec<usize>,
    /// True when the leader of that moment was among the members hit.
    pub hit_leader: bool,
    pub start: Nanos,
    /// When it was undone and the cluster answered again, or the wait for that ended.
    pub end: Nanos,
    pub injected: Injected,
    /// Processes ended by this fault.
    pub kills: u32,
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hash {
    pub member: usize,
    pub at: Nanos,
    pub rev: i64,
    pub compact: i64,
    pub hash: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default)]
    pub unimplemented: bool,
}

/// Bytes of a stopped member's files were changed, and it was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    pub member: usize,
    pub at: Nanos,
    /// The file's name.
    pub file: String,
    /// What it said, if it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// It answered reads.
    pub served: bool,
}

/// A member was added to the cluster, or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub member: usize,
    pub at: Nanos,
    /// The id by which the cluster knows it.
    pub id: u64,
    pub added: bool,
}

/// A member's process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub member: usize,
    pub at: Nanos,
    /// False when nobody asked it to.
    pub asked: bool,
    pub status: String,
}

/// What the run promised, and its phases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    pub command: String,
    pub binary: String,
    pub version: String,
    pub seed: u64,
    pub members: usize,
    pub clients: u32,
    pub workload: String,
    /// Kinds of faults promised, and how many of each at the least.
    pub faults: Vec<String>,
    pub times: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    LoadStart,
    LoadEnd,
    /// All faults undone; every member must answer soon.
    Healed,
    /// Every member answered a linearizable read.
    AllHealthy,
    /// At least one member did not answer in time.
    Unhealthy,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Record {
    Meta(Meta),
    Phase {
        at: Nanos,
        phase: Phase,
    },
    Op(Op),
    Watch(WatchBatch),
    WatchNote {
        member: usize,
        at: Nanos,
        note: WatchNote,
    },
    Window(Window),
    Fault(Fault),
    Hash(Hash),
    Exit(Exit),
    Change(Change),
    Damage(Damage),
    Object(ObjectOp),
    ObjectWatch(ObjectWatch),
}
