//! Deletion: preconditions, grace, finalizers, and what becomes of dependents.

use bytes::Bytes;
use serde_json::Value;

use super::{Gate, ListOptions, Listed, Object, Registry, Target, opened, shown};
use crate::{
    catalog::Resource,
    codec::{self, Precision},
    error::ApiError,
    limits,
    object::{self, Json},
    select::Selector,
    store::{Outcome, Write},
};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

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
    pub version: Option<String>,
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
    /// As the client is told of it, where that is not as it is stored.
    Remove(Option<Json>),
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
        let resource = &*target.resource;
        let (immortal, why) = resource.rules.deletion.immortal;
        if immortal.contains(&target.name.as_str()) {
            return Err(ApiError::forbidden(resource, &target.name, why));
        }
        let mut pair = self.read(target).await?;
        let (mut tries, mut contended) = (0, 0);
        while tries < limits::UPDATE_TRIES && contended < limits::CLAIM_TRIES {
            let current = opened(resource, &pair)?;
            check(target, options, &current, pair.revision)?;
            let step = step(resource, options, &current);
            if options.dry_run {
                let bytes = match step {
                    Step::Mark(mut marked) => {
                        let bytes = object::to_store(resource, &mut marked);
                        return Ok(Deleted::Pending(shown(resource, &bytes, pair.revision)?));
                    }
                    Step::Remove(last) => {
                        let bytes = last_seen(resource, last, &pair.value);
                        return Ok(Deleted::Gone(shown(resource, &bytes, pair.revision)?));
                    }
                    Step::Nothing => &pair.value,
                };
                let object = shown(resource, bytes, pair.revision)?;
                return Ok(Deleted::Pending(object));
            }
            let (outcome, object) = match step {
                Step::Nothing => {
                    return Ok(Deleted::Pending(shown(
                        resource,
                        &pair.value,
                        pair.revision,
                    )?));
                }
                Step::Remove(last) => {
                    let claims = self.claims(resource, Some(&current), None).await?;
                    let write = Write::delete(target.key(), pair.revision);
                    let outcome = self.store.commit(&write, &claims).await?;
                    (outcome, Err(last_seen(resource, last, &pair.value)))
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

    /// Deletes every selected object of a scope; as they were listed before.
    pub async fn delete_collection(
        &self,
        target: &Target,
        selector: &Selector,
        options: &DeleteOptions,
        gate: Option<&dyn Gate>,
    ) -> Result<Listed, ApiError> {
        let selected = ListOptions {
            selector: selector.clone(),
            ..ListOptions::default()
        };
        let listed = self.list(target, &selected).await?;
        for item in &listed.items {
            let object: Json = serde_json::from_slice(item)
                .map_err(|error| ApiError::internal(error.to_string()))?;
            let one = Target {
                namespace: object::meta_str(&object, "namespace").to_owned(),
                name: object::meta_str(&object, "name").to_owned(),
                ..target.clone()
            };
            if let Some(gate) = gate {
                match gate.may_delete(self, &one, options).await {
                    Err(error) if error.code != 404 => return Err(error),
                    _ => {}
                }
            }
            match self.delete(&one, options).await {
                // Or somebody else was faster.
                Err(error) if error.code != 404 => return Err(error),
                _ => {}
            }
        }
        Ok(listed)
    }
}

pub(super) fn check(
    target: &Target,
    options: &DeleteOptions,
    current: &Json,
    revision: i64,
) -> Result<(), ApiError> {
    let failed = |what: &str, wanted: &str, found: &str, happened: &str| {
        if target.resource.rules.deletion.early {
            let why = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
            );
            return ApiError::conflict(&target.resource, &target.name, &why);
        }
        let why = format!(
            "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might have been {happened}"
        );
        ApiError::conflict_of_kind(&target.resource, &target.name, &why)
    };
    let uid = object::meta_str(current, "uid");
    if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != uid) {
        return Err(failed("UID", wanted, uid, "deleted and then recreated"));
    }
    let version = revision.to_string();
    match options.version.as_deref() {
        Some(wanted) if wanted != version => {
            Err(failed("ResourceVersion", wanted, &version, "modified"))
        }
        _ => Ok(()),
    }
}

fn step(resource: &Resource, options: &DeleteOptions, current: &Json) -> Step {
    let rules = &resource.rules.deletion;
    let finalizers = finalizers(resource, options.propagation, current);
    let held = !finalizers.is_empty() || rules.held.is_some_and(|held| held(current));
    let running = running_grace(current);
    let (grace, time) = match (rules.grace, running) {
        // Under way: only a shorter grace changes anything.
        (Some(_), Some((left, until))) => match options.grace {
            None => return Step::Nothing,
            Some(asked) if positive(asked) >= left => return Step::Nothing,
            Some(asked) => shortened(positive(asked), left, until),
        },
        (Some(grace), None) => {
            let grace = grace(current, options.grace);
            (grace, codec::now().0.saturating_add(grace))
        }
        (None, _) => (0, codec::now().0),
    };
    if !held && grace == 0 {
        // What has a grace is told to have none left.
        return Step::Remove(rules.grace.map(|_| {
            let mut last = current.clone();
            begin(&mut last, grace, time);
            last
        }));
    }
    let mut marked = current.clone();
    let list = (!finalizers.is_empty()).then(|| finalizers.into());
    object::set_meta(&mut marked, "finalizers", list);
    if !object::is_deleting(current) || running.is_some() {
        begin(&mut marked, grace, time);
        if let Some(mark) = rules.mark {
            mark(&mut marked);
        }
    }
    if marked == *current {
        Step::Nothing
    } else {
        Step::Mark(marked)
    }
}

/// The value of an object that is gone, as the client is told of it.
fn last_seen(resource: &Resource, last: Option<Json>, stored: &Bytes) -> Bytes {
    last.map_or_else(
        || stored.clone(),
        |mut last| object::to_store(resource, &mut last),
    )
}

/// Marks an object as being deleted; the first time that is a change of it.
fn begin(marked: &mut Json, grace: i64, time: i64) {
    let first = !object::is_deleting(marked);
    mark(marked, grace, time);
    if first {
        next_generation(marked);
    }
}

/// Less than none is a second.
fn positive(seconds: i64) -> i64 {
    if seconds < 0 { 1 } else { seconds }
}

/// The grace that runs, in seconds, and when it ends, in seconds since 1970.
fn running_grace(current: &Json) -> Option<(i64, i64)> {
    let meta = object::meta(current)?;
    let grace = meta.get("deletionGracePeriodSeconds")?.as_i64()?;
    let (until, _) = codec::parse_time(object::meta_str(current, "deletionTimestamp"))?;
    (grace != 0).then_some((positive(grace), until))
}

/// A grace of `asked` seconds instead of `left` from the same beginning, but
/// not into the past: whoever ends the object must hear of it.
fn shortened(asked: i64, left: i64, until: i64) -> (i64, i64) {
    let (now, _) = codec::now();
    let time = until.saturating_sub(left).saturating_add(asked);
    match time < now {
        true => (asked.min(1), now),
        false => (asked, time),
    }
}

fn mark(marked: &mut Json, grace: i64, time: i64) {
    let at = codec::format_time(time, 0, Precision::Seconds);
    object::set_meta(marked, "deletionTimestamp", Some(at.into()));
    object::set_meta(marked, "deletionGracePeriodSeconds", Some(grace.into()));
}

fn next_generation(marked: &mut Json) {
    let generation = object::meta(marked)
        .and_then(|meta| meta.get("generation"))
        .and_then(Value::as_i64);
    if let Some(generation) = generation {
        let next = generation.saturating_add(1);
        object::set_meta(marked, "generation", Some(next.into()));
    }
}

/// The finalizers that the object has from now on.
fn finalizers(
    resource: &Resource,
    propagation: Option<Propagation>,
    current: &Json,
) -> Vec<String> {
    let mut finalizers = object::finalizers(current);
    if resource.rules.deletion.uncollected {
        return finalizers;
    }
    // What an object says of itself counts when the client says nothing.
    let own = || match () {
        () if finalizers.iter().any(|one| one == ORPHAN) => Some(Propagation::Orphan),
        () if finalizers.iter().any(|one| one == FOREGROUND) => Some(Propagation::Foreground),
        () if resource.rules.deletion.orphans => Some(Propagation::Orphan),
        () => None,
    };
    let propagation = propagation.or_else(own);
    finalizers.retain(|one| one != ORPHAN && one != FOREGROUND);
    match propagation {
        Some(Propagation::Orphan) => finalizers.push(ORPHAN.to_owned()),
        Some(Propagation::Foreground) => finalizers.push(FOREGROUND.to_owned()),
        Some(Propagation::Background) | None => {}
    }
    finalizers
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(meta: &Value) -> Json {
        let value = json!({"metadata": meta, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}});
        value.as_object().expect("an object").clone()
    }

    fn step_of(pod: &Json, grace: Option<i64>) -> Step {
        let options = DeleteOptions {
            grace,
            ..DeleteOptions::default()
        };
        let catalog = crate::kinds::built_in();
        step(catalog.own("", "v1", "pods"), &options, pod)
    }

    #[test]
    fn a_grace_that_runs_is_only_shortened() {
        let (now, _) = codec::now();
        let until = codec::format_time(now + 20, 0, Precision::Seconds);
        let running = pod(
            &json!({"deletionTimestamp": until, "deletionGracePeriodSeconds": 30, "generation": 3}),
        );
        for same in [None, Some(30), Some(60)] {
            assert!(matches!(step_of(&running, same), Step::Nothing), "{same:?}");
        }
        let Step::Mark(marked) = step_of(&running, Some(20)) else {
            panic!("it is shortened")
        };
        let meta = object::meta(&marked).expect("metadata");
        let at = codec::format_time(now + 10, 0, Precision::Seconds);
        assert_eq!(meta["deletionTimestamp"], at);
        assert_eq!(meta["deletionGracePeriodSeconds"], 20);
        assert_eq!(meta["generation"], 3);
        // Already over: a second is left, so that the kubelet hears of it.
        let Step::Mark(marked) = step_of(&running, Some(5)) else {
            panic!("it is shortened")
        };
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 1);
        assert!(matches!(step_of(&running, Some(0)), Step::Remove(Some(_))));
    }

    #[test]
    fn a_first_deletion_takes_its_grace_and_counts() {
        let Step::Mark(marked) = step_of(&pod(&json!({"generation": 1})), Some(-5)) else {
            panic!("it is marked")
        };
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 1);
        assert_eq!(marked["metadata"]["generation"], 2);
    }
}
