//! Objects: the canonical JSON object of a kind, its metadata, and the two
//! forms in which it leaves: bytes for the store, JSON for clients.
//!
//! Knows metadata, which every kind has. Knows no rule of a kind.

use bytes::Bytes;
use rand::Rng as _;
use serde_json::{Map, Value};

use crate::{
    catalog::Resource,
    codec::{
        self,
        json::{self, DecodeError, Source},
        proto::{self, Envelope, ProtoError, Transcoded},
    },
    schema::schema,
    store::Pair,
};

pub type Json = Map<String, Value>;

/// A stored value that is not an object of its resource.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    #[error(transparent)]
    Proto(#[from] ProtoError),
    #[error(transparent)]
    Json(#[from] DecodeError),
    #[error("the stored object is a {found}, not a {wanted}")]
    Kind { found: String, wanted: String },
}

/// What is stored, for writing it to a client: protobuf inside its envelope,
/// or JSON as other writers may have left it.
fn raw<'a>(
    resource: &Resource,
    value: &'a [u8],
) -> Result<std::borrow::Cow<'a, [u8]>, StoredError> {
    if value.starts_with(proto::MAGIC) {
        let envelope = Envelope::open(value)?;
        if envelope.kind != resource.kind || envelope.api_version != resource.api_version() {
            return Err(StoredError::Kind {
                found: format!("{} {}", envelope.api_version, envelope.kind),
                wanted: format!("{} {}", resource.api_version(), resource.kind),
            });
        }
        return Ok(envelope.raw.into());
    }
    let decoded = json::decode(value, resource.message, Source::Client)?;
    let mut bytes = Vec::new();
    proto::encode(resource.message, &decoded.value, &mut bytes);
    Ok(bytes.into())
}

/// The JSON that clients get for a stored value.
pub fn to_client(
    resource: &Resource,
    value: &[u8],
    revision: i64,
) -> Result<Transcoded, StoredError> {
    let raw = raw(resource, value)?;
    Ok(proto::to_json(
        &resource.api_version(),
        &resource.kind,
        resource.message,
        &raw,
        revision,
    )?)
}

/// A stored object, to be changed.
pub fn from_store(resource: &Resource, pair: &Pair) -> Result<Json, StoredError> {
    let raw = raw(resource, &pair.value)?;
    let text = proto::to_internal_json(resource.message, &raw)?;
    Ok(json::decode(&text, resource.message, Source::Store)?.value)
}

/// The bytes to store: without the version, which is the store's revision.
pub fn to_store(resource: &Resource, value: &mut Json) -> Bytes {
    if let Some(meta) = meta_mut(value) {
        meta.remove("resourceVersion");
        meta.remove("selfLink");
    }
    proto::seal(
        &resource.api_version(),
        &resource.kind,
        resource.message,
        value,
    )
    .into()
}

/// The metadata of an object.
pub fn meta(value: &Json) -> Option<&Json> {
    value.get("metadata").and_then(Value::as_object)
}

/// The metadata of an object, to be changed.
pub fn meta_mut(value: &mut Json) -> Option<&mut Json> {
    value.get_mut("metadata").and_then(Value::as_object_mut)
}

/// The record of who owns which fields of an object.
pub fn managed(value: &Json) -> Option<&Value> {
    meta(value)?.get("managedFields")
}

/// A text of the metadata, empty when absent.
pub fn meta_str<'a>(value: &'a Json, field: &str) -> &'a str {
    meta(value)
        .and_then(|meta| meta.get(field))
        .and_then(Value::as_str)
        .unwrap_or("")
}

/// Sets a field of the metadata; `None` removes it.
pub fn set_meta(value: &mut Json, field: &str, to: Option<Value>) {
    let meta = value
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(meta) = meta {
        match to {
            Some(to) => {
                meta.insert(field.to_owned(), to);
            }
            None => {
                meta.remove(field);
            }
        }
    }
}

/// The value at a path of field names.
pub fn at<'a>(value: &'a Json, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter()
        .try_fold(value.get(*first)?, |value, name| value.get(name))
}

/// The text at a path, empty when there is none.
pub fn str_at<'a>(value: &'a Json, path: &[&str]) -> &'a str {
    at(value, path).and_then(Value::as_str).unwrap_or("")
}

/// The finalizers of an object.
pub fn finalizers(value: &Json) -> Vec<String> {
    let list = meta(value)
        .and_then(|meta| meta.get("finalizers"))
        .and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// Whether the object's deletion has been asked for.
pub fn is_deleting(value: &Json) -> bool {
    meta(value).is_some_and(|meta| {
        meta.get("deletionTimestamp")
            .is_some_and(|time| !time.is_null())
    })
}

/// The present time as metadata gives it.
pub fn now() -> Value {
    let (seconds, nanos) = codec::now();
    codec::format_time(seconds, nanos, codec::Precision::Seconds).into()
}

/// Whether the kind has a field `spec`, and so counts generations.
pub fn has_spec(resource: &Resource) -> bool {
    schema().field(resource.message, "spec").is_some()
}

/// A random identity, a version 4 UUID.
pub fn uid() -> String {
    let mut bytes: [u8; 16] = rand::rng().random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
