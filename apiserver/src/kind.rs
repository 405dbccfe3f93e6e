//! The shape of a kind: what one registration says, as data and pure functions.
//!
//! Knows JSON objects and no kind; `kinds` has the registrations.

use serde_json::{Map, Value};

use crate::field::FieldError;

type Json = Map<String, Value>;
pub type Errors = Vec<FieldError>;

/// What is wrong with a name, in upstream's words.
pub type NameRule = fn(&str) -> Vec<String>;

pub type Cell = fn(&Json) -> Value;

/// A column of a table: its name, whether it is shown only when more is asked
/// for, and how its cells are made.
pub struct Column(pub &'static str, pub bool, pub Cell);

/// A subresource of objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sub {
    Status,
    Scale,
    /// `pods/binding`
    Binding,
    /// `pods/eviction`
    Eviction,
    /// `namespaces/finalize`
    Finalize,
    /// `certificatesigningrequests/approval`
    Approval,
    /// `pods/ephemeralcontainers`
    EphemeralContainers,
    /// `pods/resize`
    Resize,
    /// `serviceaccounts/token`
    Token,
}

impl Sub {
    pub fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Binding => "binding",
            Self::Eviction => "eviction",
            Self::Finalize => "finalize",
            Self::Approval => "approval",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Resize => "resize",
            Self::Token => "token",
        }
    }

    pub fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::Binding | Self::Eviction | Self::Token => &["create"],
            Self::Finalize => &["update"],
            _ => &["get", "patch", "update"],
        }
    }
}

/// A field that selectors may name, and what stands for it when it is absent.
#[derive(Clone, Copy, Debug)]
pub struct Selectable {
    pub name: &'static str,
    pub path: &'static [&'static str],
    pub absent: &'static str,
}

/// What a PUT may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Put {
    /// It creates an object that is absent.
    pub creates: bool,
    /// It may name no version.
    pub unconditional: bool,
}

/// How the generations of an object's specification are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Generation {
    NONE,
    /// From 1, by one when one of these fields changes.
    Counts(&'static [&'static str]),
    /// The same, but a new object has none.
    CountsChanges(&'static [&'static str]),
    /// As the first, and when this field of the metadata changes.
    CountsWith(&'static [&'static str], &'static str),
}

/// Who writes the status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// The kind has none of its own path.
    NONE,
    /// Whoever reports it, by the subresource alone; a new object has none.
    Reported(Metadata),
    /// The same, but a new object keeps what it comes with, as a kubelet
    /// registers its node.
    Given,
}

/// What of the metadata a write of the status may change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metadata {
    Given,
    Except(&'static [&'static str]),
}

impl Metadata {
    /// Nothing that a client sets.
    pub const KEPT: Self =
        Self::Except(&["labels", "annotations", "finalizers", "ownerReferences"]);
}

/// Fields below a place. `[]` after a name stands for every item of a list; `?`
/// for an object that goes with its last field.
#[derive(Clone, Copy, Debug)]
pub struct Gated {
    pub below: &'static [&'static str],
    pub fields: &'static [&'static [&'static str]],
}

/// Paths of fields.
pub type Paths = &'static [&'static [&'static str]];

/// What a write of an object, and of its status, sets back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resets {
    pub object: Paths,
    pub status: Paths,
}

impl Resets {
    /// Nothing: the kind has no status of its own.
    pub const NONE: Self = Self {
        object: &[],
        status: &[],
    };
    /// The status, and the specification.
    pub const PLAIN: Self = Self {
        object: &[&["status"]],
        status: &[&["spec"]],
    };
    /// A report leaves the metadata alone, too.
    pub const METADATA: Self = Self {
        object: &[&["status"]],
        status: &[&["metadata"], &["spec"]],
    };
}

/// Who asks for something.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    pub user: &'a str,
    pub uid: &'a str,
    pub groups: &'a [String],
    pub extra: &'a std::collections::BTreeMap<String, Vec<String>>,
}

/// How an object of the kind is deleted.
#[derive(Clone, Copy)]
pub struct Deletion {
    /// Seconds until it may go, by what the client asks for; `None`: at once.
    pub grace: Option<fn(&Json, Option<i64>) -> i64>,
    /// Dependents are orphaned unless the client says otherwise.
    pub orphans: bool,
    /// Nobody collects what it leaves behind: what a client says of dependents is
    /// not noted.
    pub uncollected: bool,
    /// Preconditions are looked at before the store looks at them, in other words.
    pub early: bool,
    /// The answer is the object, not a `Status`.
    pub object: bool,
    /// What holds it besides finalizers.
    pub held: Option<fn(&Json) -> bool>,
    /// What its deletion changes in it besides its metadata.
    pub mark: Option<fn(&mut Json)>,
    /// Names of objects that stay, and what upstream says of that.
    pub immortal: (&'static [&'static str], &'static str),
    /// What a client is warned of that does not say what becomes of dependents.
    pub warning: Option<&'static str>,
}

/// Another version in which the objects of a kind are served.
pub struct Also {
    pub group: &'static str,
    pub version: &'static str,
    /// In the order of those of the stored version.
    pub selectable: &'static [Selectable],
    pub to_stored: fn(&mut Json),
    pub to_served: fn(&mut Json),
    /// What only this version asks of a new object.
    pub validate: Option<fn(&Json) -> Errors>,
    /// What it asks of an update, in the stored version, instead of what the
    /// stored version asks.
    pub validate_change: Option<fn(&Json, &Json, &mut Errors)>,
}

/// One kind, in the version that is stored.
pub struct Kind {
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
    /// Where it stands in the store, after `/registry/`.
    pub place: &'static str,
    pub short: &'static [&'static str],
    pub categories: &'static [&'static str],
    /// What every client of it is warned of.
    pub deprecated: Option<&'static str>,
    pub subs: &'static [Sub],
    pub selectable: &'static [Selectable],
    /// The selectable field by one value of which many watch.
    pub indexed: Option<&'static str>,
    pub also: &'static [Also],
    /// What its names must be.
    pub names: NameRule,
    /// A finalizer without a domain must be one that upstream knows.
    pub standard_finalizers: bool,
    pub put: Put,
    pub generation: Generation,
    pub status: Status,
    /// What a writer does not own though it says it: the kind's rules take it
    /// from elsewhere.
    pub resets: Resets,
    /// Fields of features that are off: they go, unless the object has them
    /// already.
    pub gated: &'static [Gated],
    /// What else the server makes of a new object, before it is checked.
    pub on_create: Option<fn(&mut Json)>,
    /// What a new object says of who asked for it.
    pub asked_by: Option<fn(&mut Json, &Requester<'_>)>,
    /// What else an update takes from the present object (the second).
    pub on_update: Option<fn(&mut Json, &Json)>,
    pub deletion: Deletion,
    /// Seconds that objects are kept; `None`: until they are deleted.
    pub lifetime: Option<i64>,
    /// Holds cluster addresses and node ports.
    pub addresses: bool,
    pub defaults: Option<fn(&mut Json)>,
    pub validate: Option<fn(&Json, &mut Errors)>,
    /// Checks an update against the present object (the second).
    pub validate_change: Option<fn(&Json, &Json, &mut Errors)>,
    /// Checks what a subresource makes of the present object (the second).
    pub validate_sub: Option<fn(Sub, &Json, &Json, &mut Errors)>,
    /// What a client is told of an object that is taken.
    pub warnings: Option<fn(&Json) -> Vec<String>>,
    /// After the name.
    pub columns: &'static [Column],
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kind({}/{} {})", self.group, self.version, self.kind)
    }
}

impl Kind {
    pub fn has(&self, sub: Sub) -> bool {
        self.subs.contains(&sub)
    }
}
