//! A write as plugins see it, and what they look up for it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::round::Round;
use crate::{
    authn::Identity,
    authz::{Attributes, Authorizer},
    cache::Entry,
    catalog::Resource,
    error::ApiError,
    kind::Sub,
    object::{self, Json},
    registry::{Attempt, Doing, Registry, Target},
};

/// A write that somebody asks for.
pub struct Asked<'a> {
    pub identity: &'a Identity,
    pub authorizer: &'a Authorizer,
    pub attempt: Attempt<'a>,
    /// The resource in the version in which the client asked for it.
    pub served: &'a Arc<Resource>,
    /// How the client asked for it.
    pub options: Options<'a>,
    /// What webhooks have been asked.
    pub round: Round,
}

/// What a client says of a write beside the object.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// As the parameters of these names.
    pub field_manager: &'a str,
    pub field_validation: &'a str,
}

impl Asked<'_> {
    pub fn registry(&self) -> &Registry {
        self.attempt.registry
    }

    pub fn object(&self) -> &Json {
        self.attempt.object
    }

    pub fn object_mut(&mut self) -> &mut Json {
        self.attempt.object
    }

    pub fn old(&self) -> Option<&Json> {
        self.attempt.old
    }

    pub fn target(&self) -> &Target {
        self.attempt.target
    }

    /// The options of the operation as an object.
    pub fn options(&self) -> Value {
        let mut options = Json::new();
        let mut set = |field: &str, value: Value| options.insert(field.to_owned(), value);
        set("apiVersion", "meta.k8s.io/v1".into());
        let kind = match self.attempt.operation {
            Doing::Create => "CreateOptions",
            Doing::Update => "UpdateOptions",
            Doing::Delete => "DeleteOptions",
        };
        set("kind", kind.into());
        if self.attempt.dry_run {
            set("dryRun", json!(["All"]));
        }
        if let Some(deletion) = self.attempt.deletion {
            let mut preconditions = Json::new();
            for (field, value) in [
                ("uid", &deletion.uid),
                ("resourceVersion", &deletion.version),
            ] {
                if let Some(value) = value {
                    preconditions.insert(field.to_owned(), value.clone().into());
                }
            }
            if !preconditions.is_empty() {
                set("preconditions", preconditions.into());
            }
            if let Some(grace) = deletion.grace {
                set("gracePeriodSeconds", grace.into());
            }
            if let Some(propagation) = deletion.propagation {
                set("propagationPolicy", format!("{propagation:?}").into());
            }
            return options.into();
        }
        for (field, value) in [
            ("fieldManager", self.options.field_manager),
            ("fieldValidation", self.options.field_validation),
        ] {
            if !value.is_empty() {
                set(field, value.into());
            }
        }
        options.into()
    }

    pub fn namespace(&self) -> &str {
        &self.attempt.target.namespace
    }

    /// A new object, and no part of one.
    pub fn creates(&self) -> bool {
        self.attempt.operation == Doing::Create && self.attempt.target.sub.is_none()
    }

    /// An update of a part of an object, or of all of it (`None`).
    pub fn updates(&self, sub: Option<Sub>) -> bool {
        self.attempt.operation == Doing::Update && self.attempt.target.sub == sub
    }

    pub fn is_about(&self, plural: &str) -> bool {
        *self.attempt.target.resource.plural == *plural
    }

    /// Upstream's answer to who may not write this.
    pub fn forbidden(&self, why: &str) -> ApiError {
        let given = |field| object::meta_str(self.attempt.object, field);
        let names = [
            &*self.attempt.target.name,
            given("name"),
            given("generateName"),
            "Unknown",
        ];
        let name = names.into_iter().find(|name| !name.is_empty());
        ApiError::forbidden(&self.attempt.target.resource, name.unwrap_or(""), why)
    }

    /// Whether who asks may do something else, too.
    pub fn may(&self, asked: &Attributes<'_>) -> bool {
        let decision = self.authorizer.decide(self.identity, asked);
        decision.is_allowed()
    }

    /// An entry of a cache.
    pub fn entry(&self, group: &str, plural: &str, key: &str) -> Option<Arc<Entry>> {
        let catalog = self.registry().catalog();
        let resource = catalog.find(group, "v1", plural)?;
        self.registry().cache(resource).get(key)
    }

    /// An object as the cache shows it.
    pub fn cached(&self, group: &str, plural: &str, key: &str) -> Option<Json> {
        read(&*self.entry(group, plural, key)?)
    }

    /// An object as the store has it.
    pub async fn stored(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Json>, ApiError> {
        let resource = self.registry().catalog().own(group, "v1", plural).clone();
        let target = Target {
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            sub: None,
        };
        match self.registry().get(&target, None).await {
            Ok(found) => serde_json::from_slice(&found.json)
                .map(Some)
                .map_err(|error| ApiError::internal(error.to_string())),
            Err(error) if error.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An object as the cache shows it, or as the store has it should the cache
    /// not know it yet.
    pub async fn found(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Json>, ApiError> {
        let key = match namespace {
            "" => name.to_owned(),
            namespace => format!("{namespace}/{name}"),
        };
        match self.cached(group, plural, &key) {
            Some(object) => Ok(Some(object)),
            None => self.stored(group, plural, namespace, name).await,
        }
    }

    /// All objects of a namespace, or of all (empty), as the cache shows them.
    pub fn all(&self, group: &str, plural: &str, namespace: &str) -> Vec<Arc<Entry>> {
        let catalog = self.registry().catalog();
        let Some(resource) = catalog.find(group, "v1", plural) else {
            return Vec::new();
        };
        let scope = match namespace {
            "" => String::new(),
            namespace => format!("{namespace}/"),
        };
        self.registry().cache(resource).snapshot(&scope).entries
    }
}

/// The object of an entry.
pub fn read(entry: &Entry) -> Option<Json> {
    serde_json::from_slice(&entry.json())
        .inspect_err(|error| tracing::error!(key = &*entry.key, %error, "cannot be read"))
        .ok()
}

/// The field of an object's specification, made if need be.
pub fn spec(object: &mut Json) -> &mut Json {
    map(object, "spec")
}

/// A field that is an object, made if need be.
pub fn map<'a>(object: &'a mut Json, field: &str) -> &'a mut Json {
    let value = object
        .entry(field)
        .or_insert_with(|| Value::Object(Json::new()));
    if !value.is_object() {
        *value = Value::Object(Json::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made above"),
    }
}

/// A field that is a list, made if need be.
pub fn list<'a>(object: &'a mut Json, field: &str) -> &'a mut Vec<Value> {
    let value = object
        .entry(field)
        .or_insert_with(|| Value::Array(Vec::new()));
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("made above"),
    }
}

/// The items of a list.
pub fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

/// The text at a path, empty when there is none.
pub fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    let found = path
        .iter()
        .try_fold(value, |value, name| value.get(name))
        .and_then(Value::as_str);
    found.unwrap_or("")
}

/// An annotation.
pub fn annotation<'a>(object: &'a Json, name: &str) -> Option<&'a str> {
    object::meta(object)?
        .get("annotations")?
        .get(name)?
        .as_str()
}
