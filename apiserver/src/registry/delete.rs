//! Deletion: preconditions, grace, finalizers, and what becomes of dependents.

use serde_json::Value;

use super::{Object, Registry, Target, opened, shown};
use crate::{
    codec::{self, Precision},
    error::ApiError,
    limits,
    object::{self, Json},
    schema::Resource,
    select::Selector,
    store::{Outcome, Write},
};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Upstream's grace for a pod that names none, in seconds.
const GRACE: i64 = 30;

/// What becomes of the objects that a deleted one owns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// What a deletion asks for.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub dry_run: bool,
    /// Seconds.
    pub grace: Option<i64>,
    pub uid: Option<String>,
    pub version: Option<i64>,
    pub propagation: Option<Propagation>,
}

/// What became of the object.
#[derive(Debug)]
pub enum Deleted {
    /// It is gone; as it was.
    Gone(Object),
    /// It waits for its grace to pass or its finalizers to be removed.
    Pending(Object),
}

/// The next step of a deletion.
enum Step {
    Remove,
    Mark(Json),
    /// Already marked so.
    Nothing,
}

impl Registry {
    /// Deletes one object.
    pub async fn delete(
        &self,
        target: &Target,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        let resource = target.resource;
        let mut pair = self.read(target).await?;
        let (mut tries, mut contended) = (0, 0);
        while tries < limits::UPDATE_TRIES && contended < limits::CLAIM_TRIES {
            let current = opened(resource, &pair)?;
            check(target, options, &current, pair.revision)?;
            let step = step(resource, options, &current);
            if options.dry_run {
                return Ok(Deleted::Gone(shown(resource, &pair.value, pair.revision)?));
            }
            let (outcome, object) = match step {
                Step::Nothing => {
                    return Ok(Deleted::Pending(shown(
                        resource,
                        &pair.value,
                        pair.revision,
                    )?));
                }
                Step::Remove => {
                    let claims = self.claims(resource, Some(&current), None).await?;
                    let write = Write::delete(target.key(), pair.revision);
                    let outcome = self.store.commit(&write, &claims).await?;
                    (outcome, Err(pair.value.clone()))
                }
                Step::Mark(mut marked) => {
                    let bytes = object::to_store(resource, &mut marked);
                    let write = Write::put(target.key(), bytes.clone(), pair.revision);
                    (self.store.commit(&write, &[]).await?, Ok(bytes))
                }
            };
            match (outcome, object) {
                (Outcome::Done(revision), Ok(bytes)) => {
                    return Ok(Deleted::Pending(shown(resource, &bytes, revision)?));
                }
                (Outcome::Done(revision), Err(bytes)) => {
                    return Ok(Deleted::Gone(shown(resource, &bytes, revision)?));
                }
                (Outcome::Differs(None), _) => return Err(target.not_found()),
                (Outcome::Differs(Some(newer)), _) => {
                    pair = newer;
                    tries += 1;
                }
                (Outcome::Contended, _) => contended += 1,
            }
        }
        Err(ApiError::modified(resource, &target.name))
    }

    /// Deletes every selected object of a scope; as they were.
    pub async fn delete_collection(
        &self,
        target: &Target,
        selector: &Selector,
        options: &DeleteOptions,
    ) -> Result<Vec<Object>, ApiError> {
        let mut gone = Vec::new();
        for object in self.matching(target, selector).await? {
            let one = Target {
                namespace: object::meta_str(&object, "namespace").to_owned(),
                name: object::meta_str(&object, "name").to_owned(),
                ..target.clone()
            };
            match self.delete(&one, options).await {
                Ok(Deleted::Gone(object) | Deleted::Pending(object)) => gone.push(object),
                // Somebody else was faster.
                Err(error) if error.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }
}

fn check(
    target: &Target,
    options: &DeleteOptions,
    current: &Json,
    revision: i64,
) -> Result<(), ApiError> {
    let failed = |what: &str, wanted: &str, found: &str| {
        let why = format!(
            "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
        );
        ApiError::conflict(target.resource, &target.name, &why)
    };
    if let Some(uid) = &options.uid
        && uid != object::meta_str(current, "uid")
    {
        return Err(failed("UID", uid, object::meta_str(current, "uid")));
    }
    match options.version {
        Some(version) if version != revision => Err(failed(
            "ResourceVersion",
            &version.to_string(),
            &revision.to_string(),
        )),
        _ => Ok(()),
    }
}

fn step(resource: &Resource, options: &DeleteOptions, current: &Json) -> Step {
    let finalizers = finalizers(resource, options.propagation, current);
    let held = !finalizers.is_empty()
        || (resource.kind == "Namespace" && !spec_finalizers(current).is_empty());
    let grace = grace(resource, options, current);
    if !held && grace == 0 {
        return Step::Remove;
    }
    let mut marked = current.clone();
    object::set_meta(
        &mut marked,
        "finalizers",
        (!finalizers.is_empty()).then(|| finalizers.clone().into()),
    );
    let meta = object::meta(current);
    let before = meta
        .and_then(|meta| meta.get("deletionGracePeriodSeconds"))
        .and_then(Value::as_i64)
        .unwrap_or(0);
    // A grace that runs can only be shortened.
    if !object::is_deleting(current) || grace < before {
        let (seconds, nanos) = codec::now();
        let at = codec::format_time(seconds.saturating_add(grace), nanos, Precision::Seconds);
        object::set_meta(&mut marked, "deletionTimestamp", Some(at.into()));
        object::set_meta(
            &mut marked,
            "deletionGracePeriodSeconds",
            Some(grace.into()),
        );
        if let Some(generation) = meta
            .and_then(|meta| meta.get("generation"))
            .and_then(Value::as_i64)
        {
            object::set_meta(
                &mut marked,
                "generation",
                Some(generation.saturating_add(1).into()),
            );
        }
        if resource.kind == "Namespace"
            && let Some(Value::Object(status)) = marked.get_mut("status")
        {
            status.insert("phase".to_owned(), "Terminating".into());
        }
    }
    if marked == *current {
        Step::Nothing
    } else {
        Step::Mark(marked)
    }
}

fn spec_finalizers(value: &Json) -> &[Value] {
    object::at(value, &["spec", "finalizers"])
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The finalizers that the object has from now on.
fn finalizers(
    resource: &Resource,
    propagation: Option<Propagation>,
    current: &Json,
) -> Vec<String> {
    let mut finalizers = object::finalizers(current);
    let propagation = propagation.or_else(|| match resource.kind {
        // What an object says of itself counts when the client says nothing.
        _ if finalizers.iter().any(|one| one == ORPHAN) => Some(Propagation::Orphan),
        _ if finalizers.iter().any(|one| one == FOREGROUND) => Some(Propagation::Foreground),
        "Job" | "ReplicationController" => Some(Propagation::Orphan),
        _ => None,
    });
    finalizers.retain(|one| one != ORPHAN && one != FOREGROUND);
    match propagation {
        Some(Propagation::Orphan) => finalizers.push(ORPHAN.to_owned()),
        Some(Propagation::Foreground) => finalizers.push(FOREGROUND.to_owned()),
        Some(Propagation::Background) | None => {}
    }
    finalizers
}

/// Seconds until the object may go. Only pods take time: whoever runs them
/// ends them and then deletes them without any.
fn grace(resource: &Resource, options: &DeleteOptions, current: &Json) -> i64 {
    if resource.kind != "Pod" {
        return 0;
    }
    let phase = object::str_at(current, &["status", "phase"]);
    if object::str_at(current, &["spec", "nodeName"]).is_empty()
        || phase == "Failed"
        || phase == "Succeeded"
    {
        return 0;
    }
    let own =
        || object::at(current, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64);
    match options.grace.or_else(own).unwrap_or(GRACE) {
        seconds if seconds < 0 => 1,
        seconds => seconds,
    }
}
