//! Priority and fairness: who is served when more is asked than can be served at
//! once, by flow schemas and priority levels as upstream's.
//!
//! A request belongs to the first schema that it fits. Its level has a share of the
//! server's seats and queues for those who find none, in which the flows of its
//! schemas take turns.
//!
//! Knows requests by their attributes and who asks. Must not know HTTP, but for the
//! two headers in which answers tell the schema and the level.

mod rules;
mod seats;

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use arc_swap::ArcSwap;
use http::HeaderValue;
use serde_json::Value;

pub use self::seats::Seat;
use self::{
    rules::{Objects, Rules},
    seats::Seats,
};
use crate::{
    authn::Identity,
    authz::Attributes,
    cache::{self, Entry, News, Reader},
    error::ApiError,
    limits,
    object::{self, Json},
    registry::Registry,
    tasks,
};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// Upstream's objects, which are there from the start, an object a line. A test asks
/// its server for its own and compares.
const BOOTSTRAP: &str = include_str!("bootstrap.json");
/// `false`: its owner looks after it himself.
const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// All of upstream's levels, and then its schemas.
pub fn objects() -> Vec<Json> {
    let lines = BOOTSTRAP.lines().filter(|line| line.starts_with('{'));
    let objects = lines.map(|line| serde_json::from_str(line.trim_end_matches(',')));
    objects.filter_map(Result::ok).collect()
}

/// What one of them is to be, if it is to be another than it is.
pub fn reconciled(expected: &Json, present: &Json) -> Option<Json> {
    let annotations = object::at(present, &["metadata", "annotations"]);
    let kept = annotations.and_then(|all| all.get(AUTOUPDATE));
    if kept.is_none_or(|kept| kept != "true") || present.get("spec") == expected.get("spec") {
        return None;
    }
    let mut object = present.clone();
    object.insert("spec".to_owned(), expected.get("spec")?.clone());
    Some(object)
}

/// Shares out the seats of a server.
pub struct Fairness {
    seats: Seats,
    total: usize,
    rules: ArcSwap<Rules>,
}

/// That a request is served, and what its answer tells of why.
pub struct Turn {
    /// None for who is exempt.
    pub seat: Option<Seat>,
    pub uids: Option<(HeaderValue, HeaderValue)>,
}

impl Fairness {
    /// With upstream's levels, until those that are stored are known.
    pub fn new(total: usize) -> Self {
        let mut known = Objects::default();
        for object in objects() {
            let kind = object::str_at(&object, &["kind"]).to_owned();
            let name = object::meta_str(&object, "name").into();
            let value = Value::Object(object);
            match kind.as_str() {
                "FlowSchema" => put(&mut known.schemas, name, serde_json::from_value(value).ok()),
                _ => put(&mut known.levels, name, serde_json::from_value(value).ok()),
            }
        }
        let fairness = Self {
            seats: Seats::new(total),
            total,
            rules: ArcSwap::default(),
        };
        fairness.renew(&known);
        fairness
    }

    fn renew(&self, objects: &Objects) {
        self.seats.share(rules::shares(objects, self.total));
        self.rules.store(Arc::new(Rules::new(objects)));
    }

    /// Waits until a request may be served.
    ///
    /// # Errors
    /// It may not, or not in time.
    pub async fn turn(
        &self,
        identity: &Identity,
        asked: &Attributes<'_>,
    ) -> Result<Turn, ApiError> {
        let (level, flow, uids) = {
            let rules = self.rules.load();
            // Upstream's last schema takes everybody; who deleted it has no order.
            let Some(schema) = rules.of(identity, asked) else {
                return Err(ApiError::too_many());
            };
            let uids = schema.uids.clone();
            if schema.exempt {
                return Ok(Turn { seat: None, uids });
            }
            let mut hasher = DefaultHasher::new();
            (&schema.name, schema.flow(identity, asked)).hash(&mut hasher);
            (schema.level.clone(), hasher.finish(), uids)
        };
        let seat = self.seats.take(&level, flow, limits::QUEUED);
        let seat = seat.await.ok_or_else(ApiError::too_many)?;
        Ok(Turn {
            seat: Some(seat),
            uids,
        })
    }

    /// Follows the objects as the watch cache shows them.
    ///
    /// # Errors
    /// They are not there yet.
    pub async fn start(self: Arc<Self>, registry: &Registry) -> Result<(), ApiError> {
        let catalog = registry.catalog().clone();
        let reader = |plural| Reader::new(registry.cache(catalog.own(GROUP, "v1", plural)));
        let readers = vec![reader("prioritylevelconfigurations"), reader("flowschemas")];
        for reader in &readers {
            reader.filled().await?;
        }
        let mut known = Objects::default();
        tasks::spawn("priority levels", async move {
            cache::keep(readers, |readers| self.read(readers, &mut known)).await;
        });
        Ok(())
    }

    fn read(&self, readers: &mut [Reader], known: &mut Objects) {
        let mut changed = false;
        if let [levels, schemas] = readers {
            changed |= levels.read(&mut |news| match news {
                News::Anew => known.levels.clear(),
                News::Put(entry) => put(&mut known.levels, entry.key.clone(), parsed(entry)),
                News::Gone(entry) => put(&mut known.levels, entry.key.clone(), None),
            });
            changed |= schemas.read(&mut |news| match news {
                News::Anew => known.schemas.clear(),
                News::Put(entry) => put(&mut known.schemas, entry.key.clone(), parsed(entry)),
                News::Gone(entry) => put(&mut known.schemas, entry.key.clone(), None),
            });
        }
        if changed {
            self.renew(known);
        }
    }
}

fn put<T>(map: &mut std::collections::BTreeMap<Box<str>, T>, key: Box<str>, value: Option<T>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

/// What cannot be read takes no part.
fn parsed<T: serde::de::DeserializeOwned>(entry: &Entry) -> Option<T> {
    serde_json::from_slice(&entry.json())
        .inspect_err(|error| {
            tracing::error!(key = &*entry.key, %error, "a flow schema or priority level cannot be read: it takes no part");
        })
        .ok()
}

#[cfg(test)]
mod tests;
