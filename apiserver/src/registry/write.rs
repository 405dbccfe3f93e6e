//! Create, update and patch: read, change, check, write if nothing came
//! between, or again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::Rng as _;
use serde_json::Value;

use super::{
    Object, Registry, Target,
    body::{Validation, expect_kind, left_out},
    gate::{Gate, Old, Say},
    made::{self, Change, Made, made},
    opened, shown, strategy,
};
use crate::{
    catalog::Resource,
    codec::json::Decoded,
    defaults,
    error::{ApiError, FieldError},
    kind::Sub,
    limits,
    object::{self, Json},
    ownership::{self, Configuration, Writer},
    patch::Patch,
    store::{Outcome, Write},
    validate,
    versions::View,
};

/// What every write may ask for.
#[derive(Clone, Default)]
pub struct WriteOptions<'a> {
    /// Do everything but write.
    pub dry_run: bool,
    /// What becomes of fields that the kind does not have.
    pub validation: Validation,
    /// Who has a say before an object is validated.
    pub gate: Option<&'a dyn Gate>,
    /// Who owns what it writes; nobody when the server itself writes.
    pub writer: Option<Arc<Writer>>,
}

/// A lease that many objects of a lifetime share.
pub(super) struct SharedLease {
    id: i64,
    until: Instant,
    uses: u32,
}

/// A lease is shared for so long and by so many, as upstream does.
const LEASE_SHARED: Duration = Duration::from_secs(60);
const LEASE_USES: u32 = 1_000;
/// Letters that make no words.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// A generated name is cut to this before five letters are added.
const GENERATED_BASE: usize = 58;
/// Tries to find a generated name that is free.
const GENERATED_TRIES: usize = 8;

impl Registry {
    /// Creates an object, whose body has its kind's defaults.
    pub async fn create(
        &self,
        target: &Target,
        body: Decoded,
        options: WriteOptions<'_>,
    ) -> Result<Object, ApiError> {
        let resource = &*target.resource;
        expect_kind(resource, &body)?;
        let mut warnings = left_out(resource, &body, options.validation)?;
        let mut value = body.value;
        place(target, &mut value)?;
        if !target.name.is_empty() {
            check_name(target, &value)?;
        }
        let given = object::meta_str(&value, "resourceVersion").parse().ok();
        let twice = own_once(&mut value);
        warnings.extend(twice);
        let named = Target {
            name: object::meta_str(&value, "name").to_owned(),
            ..target.clone()
        };
        let mut namespace = self.namespace(&named, options.dry_run).await?;
        let record = self.record(&options, None, None, &value);
        object::set_meta(&mut value, "managedFields", record);
        let say = self.say(&options, &named);
        say.admit(&mut value, None, &mut warnings).await?;
        own_once(&mut value);
        let base = object::meta_str(&value, "generateName").to_owned();
        let generated = object::meta_str(&value, "name").is_empty() && !base.is_empty();
        let (mut tries, mut contended) = (0, 0);
        loop {
            if generated {
                object::set_meta(&mut value, "name", Some(generated_name(&base).into()));
            }
            let mut value = value.clone();
            strategy::prepare_create(resource, &mut value);
            // What the server made of it may have defaults, too.
            defaults::apply(resource, &mut value);
            if let Some(gate) = options.gate {
                gate.check(target, &value, None)?;
            }
            let name = object::meta_str(&value, "name").to_owned();
            let errors = validate::create(resource, &value);
            if !errors.is_empty() {
                return Err(ApiError::invalid(resource, &name, &errors));
            }
            if let Some(gate) = options.gate.filter(|_| !target.name.is_empty()) {
                gate.may_create(target)?;
            }
            let mut warnings = warnings.clone();
            warnings.extend(told(resource, &value));
            let mut with = say
                .validate(&mut value, None, contended > 0, &mut warnings)
                .await?;
            with.extend(namespace.clone());
            with.extend(self.claims(resource, None, Some(&mut value)).await?);
            let bytes = object::to_store(resource, &mut value);
            let key = resource.key(&target.namespace, &name);
            if options.dry_run {
                let (present, _) = self.store.get(&key).await?;
                return match present {
                    Some(_) => Err(ApiError::already_exists(resource, &name)),
                    // What a client says of its version stays what it says.
                    None => {
                        let object = shown(resource, &bytes, given.unwrap_or(0))?;
                        let object = match given {
                            Some(_) => object,
                            None => without_version(object)?,
                        };
                        Ok(object.warned(warnings))
                    }
                };
            }
            // Upstream's store refuses it, which a dry run does not reach, and takes
            // what is no number for none.
            if given.is_some_and(|version| version > 0) {
                return Err(ApiError::plain(
                    "resourceVersion should not be set on objects to be created",
                ));
            }
            let lease = self.lease_for(resource).await?;
            let write = Write::put(key, bytes.clone(), 0).under(lease);
            match self.store.commit(&write, &with).await? {
                Outcome::Done(revision) => {
                    return Ok(shown(resource, &bytes, revision)?.warned(warnings));
                }
                Outcome::Contended if contended < limits::CLAIM_TRIES => {
                    contended += 1;
                    namespace = self.namespace(&named, true).await?;
                }
                Outcome::Contended => return Err(ApiError::modified(resource, &name)),
                Outcome::Differs(_) if generated && tries < GENERATED_TRIES => tries += 1,
                Outcome::Differs(_) => return Err(ApiError::already_exists(resource, &name)),
            }
        }
    }

    /// Replaces an object, or the part of it that a subresource is, by a body
    /// that has its kind's defaults. Creates it where the kind allows that.
    pub async fn update(
        &self,
        target: &Target,
        body: Decoded,
        options: WriteOptions<'_>,
    ) -> Result<Object, ApiError> {
        let rules = target.resource.rules;
        expect_kind(&target.resource, &body)?;
        // Whether there is such an object or not.
        check_name(target, &body.value)?;
        let creates = rules.put.creates && target.sub.is_none();
        let change = Change::Replace(&body);
        match self.change(target, &change, options.clone()).await {
            Err(error) if creates && error.code == 404 => {}
            done => return done,
        }
        let mut new = body.clone();
        for field in ["resourceVersion", "uid", "creationTimestamp"] {
            object::set_meta(&mut new.value, field, None);
        }
        match self.create(target, new, options.clone()).await {
            Ok(object) => Ok(Object {
                created: true,
                ..object
            }),
            // Another client was faster.
            Err(error) if error.reason == "AlreadyExists" => {
                self.change(target, &change, options).await
            }
            Err(error) => Err(error),
        }
    }

    /// Patches an object, or the part of it that a subresource is, as `view`
    /// shows it.
    pub async fn patch(
        &self,
        target: &Target,
        patch: &Patch,
        view: &View,
        options: WriteOptions<'_>,
    ) -> Result<Object, ApiError> {
        self.change(target, &Change::Patch(patch, view), options)
            .await
    }

    /// Applies a configuration to an object, as `view` shows it, or to the part of
    /// it that a subresource is. Creates it where it is not there.
    pub async fn apply(
        &self,
        target: &Target,
        configuration: &Configuration,
        options: WriteOptions<'_>,
    ) -> Result<Object, ApiError> {
        let writer = options.writer.clone();
        let writer = writer.ok_or_else(|| ApiError::internal("nobody applies"))?;
        let write = ownership::Written {
            writer: &writer,
            sub: target.sub,
            served: self,
        };
        let change = Change::Apply(configuration, write);
        match self.change(target, &change, options.clone()).await {
            Err(error) if error.code == 404 && target.sub.is_none() => {}
            done => return done,
        }
        let mut new = made::applied_to_nothing(target, configuration, write)?;
        if !options.dry_run {
            object::set_meta(&mut new.value, "resourceVersion", None);
        }
        // The record comes with the object.
        let recorded = WriteOptions {
            writer: None,
            ..options.clone()
        };
        match self.create(target, new, recorded).await {
            Ok(object) => Ok(Object {
                created: true,
                ..object
            }),
            // Another client was faster.
            Err(error) if error.reason == "AlreadyExists" => {
                self.change(target, &change, options).await
            }
            Err(error) => Err(error),
        }
    }

    /// Changes an object by a function of its present state.
    pub(super) async fn with(
        &self,
        target: &Target,
        make: &(dyn Fn(&Json) -> Result<Json, ApiError> + Sync),
        options: WriteOptions<'_>,
    ) -> Result<Object, ApiError> {
        self.change(target, &Change::With(make), options).await
    }

    async fn change(
        &self,
        target: &Target,
        change: &Change<'_>,
        options: WriteOptions<'_>,
    ) -> Result<Object, ApiError> {
        let resource = &*target.resource;
        let mut pair = self.read(target).await?;
        let mut say = self.say(&options, target);
        // What the server does itself was admitted where it was asked for.
        say.gate = say.gate.filter(|_| !matches!(change, Change::With(_)));
        let (mut tries, mut contended) = (0, 0);
        while tries < limits::UPDATE_TRIES && contended < limits::CLAIM_TRIES {
            let mut current = opened(resource, &pair)?;
            // Who stored it may not have known of a default, and a client that
            // sends back what it read changes nothing.
            defaults::apply(resource, &mut current);
            let Made {
                mut wanted,
                version,
                mut warnings,
            } = made(target, change, &current, pair.revision, options.validation)?;
            place(target, &mut wanted)?;
            check_name(target, &wanted)?;
            if let Some(gate) = options.gate {
                gate.check(target, &wanted, Some(&current))?;
            }
            if version.is_none() && matches!(change, Change::Replace(_)) {
                may_be_unconditional(target)?;
            }
            if version.is_some_and(|version| version != pair.revision) {
                return Err(ApiError::modified(resource, &target.name));
            }
            if matches!(change, Change::Replace(_)) {
                check_uid(target, &wanted, &current)?;
            }
            warnings.extend(own_once(&mut wanted));
            let record = match change {
                // The server's own doing, or recorded there.
                Change::With(_) | Change::Apply(..) => object::managed(&wanted).cloned(),
                _ => self.record(&options, target.sub, Some(&current), &wanted),
            };
            object::set_meta(&mut wanted, "managedFields", record);
            let old = Some(Old {
                object: &current,
                revision: pair.revision,
            });
            say.admit(&mut wanted, old, &mut warnings).await?;
            let record =
                object::meta_mut(&mut wanted).and_then(|meta| meta.remove("managedFields"));
            strategy::prepare_update(target, &mut wanted, &current);
            object::set_meta(&mut wanted, "managedFields", record);
            let served = options.writer.as_ref().map(|writer| &*writer.view.served);
            let errors = validate::update(resource, &wanted, &current, target.sub, served);
            if !errors.is_empty() {
                return Err(ApiError::invalid(resource, &target.name, &errors));
            }
            if target.sub.is_none() {
                warnings.extend(told(resource, &wanted));
            }
            let mut with = say
                .validate(&mut wanted, old, contended > 0, &mut warnings)
                .await?;
            let ends = strategy::ends(resource, &wanted, &current);
            let claims = match target.sub {
                _ if ends => self.claims(resource, Some(&current), None).await?,
                None => {
                    self.claims(resource, Some(&current), Some(&mut wanted))
                        .await?
                }
                Some(_) => Vec::new(),
            };
            with.extend(claims);
            let bytes = encoded(resource, &mut wanted, &current, &pair.value);
            if options.dry_run || (bytes == pair.value && !pair.stale && !ends) {
                return Ok(shown(resource, &bytes, pair.revision)?.warned(warnings));
            }
            let write = if ends {
                Write::delete(target.key(), pair.revision)
            } else {
                let lease = self.lease_for(resource).await?;
                Write::put(target.key(), bytes.clone(), pair.revision).under(lease)
            };
            match self.store.commit(&write, &with).await? {
                Outcome::Done(revision) => {
                    return Ok(shown(resource, &bytes, revision)?.warned(warnings));
                }
                Outcome::Differs(None) => return Err(target.not_found()),
                Outcome::Differs(Some(_)) if version.is_some() => {
                    return Err(ApiError::modified(resource, &target.name));
                }
                Outcome::Differs(Some(newer)) => {
                    pair = newer;
                    tries += 1;
                }
                Outcome::Contended => contended += 1,
            }
        }
        Err(ApiError::modified(resource, &target.name))
    }

    pub(super) fn say<'a>(&'a self, options: &WriteOptions<'a>, target: &'a Target) -> Say<'a> {
        Say {
            registry: self,
            gate: options.gate,
            target,
            dry_run: options.dry_run,
        }
    }

    /// The record of who owns which fields of `wanted`, after this write of a
    /// part of an object.
    fn record(
        &self,
        options: &WriteOptions<'_>,
        sub: Option<Sub>,
        live: Option<&Json>,
        wanted: &Json,
    ) -> Option<Value> {
        let Some(writer) = &options.writer else {
            let record = live.map_or_else(|| object::managed(wanted), object::managed);
            return record.cloned();
        };
        let write = ownership::Written {
            writer,
            sub,
            served: self,
        };
        ownership::record(write, live, wanted)
    }

    /// The lease under which an object of this kind is kept, 0 for none.
    async fn lease_for(&self, resource: &Resource) -> Result<i64, ApiError> {
        let Some(lifetime) = resource.rules.lifetime else {
            return Ok(0);
        };
        let mut shared = self.leases.lock().await;
        if let Some(lease) = shared.as_mut()
            && lease.uses < LEASE_USES
            && lease.until > Instant::now()
        {
            lease.uses += 1;
            return Ok(lease.id);
        }
        let id = self.store.grant(lifetime).await?;
        *shared = Some(SharedLease {
            id,
            until: Instant::now() + LEASE_SHARED,
            uses: 1,
        });
        Ok(id)
    }

    /// The condition of a create: the target's namespace is as it was when it
    /// took objects. The cache tells unless it must be `fresh`. What the cache
    /// tells may be old: then the create is not done, and asks again.
    async fn namespace(&self, target: &Target, fresh: bool) -> Result<Option<Write>, ApiError> {
        if !target.resource.namespaced {
            return Ok(None);
        }
        let namespaces = self.catalog().own("", "v1", "namespaces").clone();
        let wanted = Target {
            resource: namespaces.clone(),
            namespace: String::new(),
            name: target.namespace.clone(),
            sub: None,
        };
        let known = self.cache(&namespaces).get(&target.namespace);
        if let Some(entry) = known.filter(|entry| !fresh && !entry.deleting) {
            return Ok(Some(Write::keep(wanted.key(), entry.revision)));
        }
        let pair = self.read(&wanted).await?;
        if object::is_deleting(&opened(&namespaces, &pair)?) {
            return Err(ApiError::terminating(
                &target.resource,
                &target.name,
                &target.namespace,
            ));
        }
        Ok(Some(Write::keep(wanted.key(), pair.revision)))
    }
}

impl ownership::Served for Registry {
    fn in_version(&self, stored: &Arc<Resource>, version: &str) -> Option<Arc<Resource>> {
        let catalog = self.catalog();
        let mut all = catalog.resources().iter();
        all.find(|one| one.stored().id == stored.id && one.api_version() == version)
            .cloned()
    }
}

/// The bytes to store. A write that would renew nothing but times in the record
/// of owners changes nothing.
fn encoded(resource: &Resource, wanted: &mut Json, current: &Json, stored: &Bytes) -> Bytes {
    let (new, old) = (object::managed(wanted), object::managed(current));
    if ownership::same_but_times(new, old) {
        let (new, old) = (new.cloned(), old.cloned());
        object::set_meta(wanted, "managedFields", old);
        let bytes = object::to_store(resource, wanted);
        if bytes == *stored {
            return bytes;
        }
        object::set_meta(wanted, "managedFields", new);
    }
    object::to_store(resource, wanted)
}

/// What a client is told of an object that is taken.
fn told(resource: &Resource, value: &Json) -> Vec<String> {
    let warnings = resource.rules.warnings;
    warnings.map_or_else(Vec::new, |warnings| warnings(value))
}

/// Whether a replacement may name no version.
fn may_be_unconditional(target: &Target) -> Result<(), ApiError> {
    if target.resource.rules.put.unconditional {
        return Ok(());
    }
    let why = "must be specified for an update";
    let error = FieldError::invalid("metadata.resourceVersion", &0.into(), why);
    Err(ApiError::invalid_kind(
        &target.resource.group,
        &target.resource.plural,
        &target.name,
        &[error],
    ))
}

impl Object {
    fn warned(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }
}

/// Puts the object into the namespace of the URL; kinds without namespaces are
/// in none, whatever they say.
fn place(target: &Target, value: &mut Json) -> Result<(), ApiError> {
    let given = object::meta_str(value, "namespace");
    if given == target.namespace {
        return Ok(());
    }
    if !target.resource.namespaced {
        object::set_meta(value, "namespace", None);
        return Ok(());
    }
    if !given.is_empty() {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    object::set_meta(value, "namespace", Some(target.namespace.clone().into()));
    Ok(())
}

/// Checks that an object has the name of the URL.
pub(super) fn check_name(target: &Target, value: &Json) -> Result<(), ApiError> {
    let (name, wanted) = (object::meta_str(value, "name"), &target.name);
    if name == wanted {
        return Ok(());
    }
    Err(ApiError::bad_request(if name.is_empty() {
        format!(
            "the name of the object ({wanted} based on URL) was undeterminable: name must be provided"
        )
    } else {
        format!("the name of the object ({name}) does not match the name on the URL ({wanted})")
    }))
}

fn check_uid(target: &Target, wanted: &Json, current: &Json) -> Result<(), ApiError> {
    let (wanted, current) = (
        object::meta_str(wanted, "uid"),
        object::meta_str(current, "uid"),
    );
    if wanted.is_empty() || wanted == current {
        return Ok(());
    }
    Err(ApiError::conflict(
        &target.resource,
        &target.name,
        &format!(
            "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {wanted}, UID in object meta: {current}",
            target.key().trim_start_matches("/registry")
        ),
    ))
}

/// An owner that is named twice is one owner, and the client is told.
fn own_once(value: &mut Json) -> Option<String> {
    let owners = object::meta_mut(value)?.get_mut("ownerReferences")?;
    let owners = owners.as_array_mut()?;
    let mut twice: Vec<String> = Vec::new();
    let mut once: Vec<Value> = Vec::new();
    for owner in owners.drain(..) {
        if once.contains(&owner) {
            let uid = owner.get("uid").and_then(Value::as_str).unwrap_or("");
            twice.push(uid.to_owned());
        } else {
            once.push(owner);
        }
    }
    *owners = once;
    twice.dedup();
    (!twice.is_empty()).then(|| {
        format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            twice.join(", ")
        )
    })
}

/// A name that begins so and that nothing has yet, but for a rare chance.
pub fn generated_name(base: &str) -> String {
    let mut name: String = base.chars().take(GENERATED_BASE).collect();
    let mut rng = rand::rng();
    name.extend((0..5).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])));
    name
}

/// An object that was not stored has no version.
fn without_version(object: Object) -> Result<Object, ApiError> {
    let mut value: Value = serde_json::from_slice(&object.json)
        .map_err(|error| ApiError::internal(error.to_string()))?;
    if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("resourceVersion");
    }
    Ok(Object::new(Bytes::from(value.to_string()), 0))
}
