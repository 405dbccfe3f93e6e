//! What a change makes of an object: a replacement, a patch, what is applied.
//!
//! Knows objects and changes of them; knows no store.

use serde_json::Value;

use super::{
    Target,
    body::{Validation, expect_kind, left_out, not_registered, parse_version, unknown},
};
use crate::{
    codec::json::{self, DecodeError, Decoded, Source, zero_of},
    defaults,
    error::{ApiError, FieldError},
    object::{self, Json},
    ownership::{self, Applied, Configuration, Unapplied, Written},
    patch::{self, Patch, PatchError},
    schema::Type,
    versions::View,
};

/// What an update makes of the present object.
pub(super) enum Change<'a> {
    Replace(&'a Decoded),
    /// In the version of the view.
    Patch(&'a Patch, &'a View),
    /// As the writer says.
    Apply(&'a Configuration, Written<'a>),
    With(&'a (dyn Fn(&Json) -> Result<Json, ApiError> + Sync)),
}

/// What a change makes of an object.
pub struct Made {
    pub wanted: Json,
    /// The version that it replaces, if it names one.
    pub version: Option<i64>,
    pub warnings: Vec<String>,
}

pub fn made(
    target: &Target,
    change: &Change<'_>,
    current: &Json,
    revision: i64,
    validation: Validation,
) -> Result<Made, ApiError> {
    let resource = &*target.resource;
    let (wanted, warnings) = match change {
        Change::Replace(body) => (body.value.clone(), left_out(resource, body, validation)?),
        Change::With(make) => (make(current)?, Vec::new()),
        Change::Patch(patch, view) => {
            let resource = &*view.served;
            let unfit = |error: DecodeError| ApiError::invalid_body(resource, &error.to_string());
            let wrong = |patched: &Value, why: &str| {
                let shown = patch::shown(patched, patch, resource.message).into();
                let error = FieldError::invalid("patch", &shown, why);
                ApiError::invalid_kind("", "", "", &[error])
            };
            let shown = as_served(view, current.clone(), Some(revision)).map_err(unfit)?;
            let patched = patch
                .apply(shown, resource.message)
                .map_err(ApiError::from)?;
            let decoded = json::conform(patched.clone(), resource.message, Source::Store)
                .map_err(|error| wrong(&patched, &error.to_string()))?;
            expect_kind(resource, &decoded).map_err(|_| {
                wrong(
                    &patched,
                    &not_registered(&decoded.kind, &decoded.api_version),
                )
            })?;
            let warnings = match unknown(&decoded, validation) {
                Ok(warnings) => warnings,
                Err(why) => return Err(wrong(&patched, &why)),
            };
            let mut wanted = view.to_stored(decoded.value).map_err(unfit)?;
            defaults::apply(&view.stored, &mut wanted);
            if let Some(Value::Array(record)) = patched.pointer("/metadata/managedFields")
                && record.is_empty()
            {
                // A record of nobody: it is to begin anew.
                let nobody = serde_json::json!([{}]);
                object::set_meta(&mut wanted, "managedFields", Some(nobody));
            }
            (wanted, warnings)
        }
        Change::Apply(configuration, write) => {
            let view = &write.writer.view;
            let shown = as_served(view, current.clone(), Some(revision))
                .map_err(|error| ApiError::invalid_body(&view.served, &error.to_string()))?;
            let applied = ownership::apply(*write, Some(current), &shown, configuration);
            (
                whole(view, applied.map_err(unapplied)?, configuration)?,
                Vec::new(),
            )
        }
    };
    let version = object::meta_str(&wanted, "resourceVersion");
    if version.is_empty() || version == "0" {
        return Ok(Made {
            wanted,
            version: None,
            warnings,
        });
    }
    let version = parse_version(version).map_err(ApiError::plain)?;
    // A patch that leaves the version alone names none.
    let patches = matches!(change, Change::Patch(..) | Change::Apply(..));
    let named = !patches || version != revision || names_version(change);
    Ok(Made {
        wanted,
        version: named.then_some(version),
        warnings,
    })
}

/// An object as a version of its kind has it, with what tells which that is.
fn as_served(view: &View, stored: Json, revision: Option<i64>) -> Result<Json, DecodeError> {
    let mut shown = view.to_served(stored)?;
    if let Some(revision) = revision {
        let version = Some(revision.to_string().into());
        object::set_meta(&mut shown, "resourceVersion", version);
    }
    Ok(named(view, shown))
}

fn named(view: &View, mut value: Json) -> Json {
    let served = &view.served;
    value.insert("kind".to_owned(), served.kind.clone().into());
    value.insert("apiVersion".to_owned(), served.api_version().into());
    value
}

/// What is applied where there is no object, to be created.
pub fn applied_to_nothing(
    target: &Target,
    configuration: &Configuration,
    write: Written<'_>,
) -> Result<Decoded, ApiError> {
    let view = &write.writer.view;
    let uid = object::meta_str(&configuration.object, "uid");
    let nothing = match zero_of(&Type::Message(view.served.message)) {
        Value::Object(zero) => named(view, zero),
        _ => Json::new(),
    };
    let applied = ownership::apply(write, None, &nothing, configuration).map_err(unapplied)?;
    let mut value = whole(view, applied, configuration)?;
    if !uid.is_empty() {
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        return Err(ApiError::conflict(&target.resource, &target.name, &why));
    }
    object::set_meta(&mut value, "creationTimestamp", None);
    Ok(Decoded {
        value,
        kind: view.stored.kind.clone().into_owned(),
        api_version: view.stored.api_version(),
        ..Decoded::default()
    })
}

/// What came of an application as it is stored, with its kind's defaults and its
/// record.
fn whole(view: &View, applied: Applied, configuration: &Configuration) -> Result<Json, ApiError> {
    let unfit = |error: DecodeError| {
        let given = &configuration.object;
        let (served, text) = (&view.served, |field| object::meta_str(given, field));
        let kind = format!("{}/{}, Kind={}", served.group, served.version, served.kind);
        ApiError::plain(format!(
            "failed to convert new object ({}/{}; {kind}) to proper version: unable to convert unstructured object to {kind}: {error}",
            text("namespace"),
            text("name")
        ))
    };
    let object = Value::Object(applied.object);
    let decoded = json::conform(object, view.served.message, Source::Store).map_err(unfit)?;
    let mut wanted = view.to_stored(decoded.value).map_err(unfit)?;
    defaults::apply(&view.stored, &mut wanted);
    object::set_meta(&mut wanted, "managedFields", applied.record);
    Ok(wanted)
}

fn unapplied(why: Unapplied) -> ApiError {
    match why {
        Unapplied::Refused(why) => ApiError::bad_request(why),
        Unapplied::Untyped(why) => ApiError::plain(why),
        Unapplied::Conflicts(conflicts) => {
            let of = conflicts.iter();
            let of = of.map(|one| (format!("conflict with {}", one.with), one.field.as_str()));
            ApiError::not_applied(&ownership::told(&conflicts), of)
        }
    }
}

/// Whether a patch speaks of the version.
fn names_version(change: &Change<'_>) -> bool {
    match change {
        Change::Patch(Patch::Merge(value), _) => {
            value.pointer("/metadata/resourceVersion").is_some()
        }
        Change::Patch(Patch::Strategic(map), _) => {
            object::at(map, &["metadata", "resourceVersion"]).is_some()
        }
        Change::Apply(configuration, _) => {
            !object::meta_str(&configuration.object, "resourceVersion").is_empty()
        }
        _ => false,
    }
}

impl From<PatchError> for ApiError {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Malformed(message) => Self::bad_request(message),
            PatchError::Unfit => Self::unfit(),
            PatchError::TooLong(message) => Self::too_large(&message),
            PatchError::Plain(message) => Self::plain(message),
        }
    }
}
