//! Operations of the resource API: what was asked of a server, what came back,
//! when; and what watches of objects showed.

use crate::clock::Nanos;
use serde::{Deserialize, Serialize};

/// An object as far as the workload looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    pub namespace: String,
    pub name: String,
    /// Its resourceVersion.
    pub rev: i64,
    /// The value that the workload gave it.
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectReq {
    Create {
        namespace: String,
        name: String,
        value: String,
    },
    /// With `rev` zero whatever the object is by then.
    Update {
        namespace: String,
        name: String,
        value: String,
        rev: i64,
    },
    Delete {
        namespace: String,
        name: String,
    },
    Get {
        namespace: String,
        name: String,
    },
    /// All of a namespace, in pages of so many; zero for one page.
    List {
        namespace: String,
        limit: i64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectOut {
    Object(Object),
    /// The revision that every page gave, and the objects of all of them.
    List {
        rev: i64,
        items: Vec<Object>,
    },
    Deleted,
    /// The server refused it, with this status and reason; nothing was done.
    Refused {
        code: u16,
        reason: String,
    },
    /// It may have been done.
    Unknown {
        error: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectOp {
    pub id: u64,
    pub server: usize,
    pub start: Nanos,
    pub end: Nanos,
    pub req: ObjectReq,
    pub out: ObjectOut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Told {
    Added,
    Modified,
    Deleted,
    Bookmark,
    /// The bookmark after the objects that were there at first.
    InitialEnd,
    /// The server ended the watch.
    Error,
}

/// A watch of one namespace's objects for a while.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectWatch {
    pub server: usize,
    pub start: Nanos,
    pub end: Nanos,
    pub namespace: String,
    /// After this revision; zero for all objects that are there first.
    pub from: i64,
    pub told: Vec<(Told, Object)>,
    /// When an object was written that the watch had to tell last of all; zero
    /// if the watch had ended before.
    pub asked: Nanos,
    /// It was told.
    pub answered: bool,
    /// Why the stream broke, or was never there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}
