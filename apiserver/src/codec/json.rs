//! JSON to the canonical form, by the schema.

use std::{borrow::Cow, cell::RefCell, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{
    mistake::{self, Found, Way},
    quantity,
    time::{self, Precision},
};
use crate::schema::{Field, MessageId, Type, schema};

/// Under this key a decoded object carries, in base64, protobuf fields that
/// the schema does not know, so that a change made here does not drop what a
/// newer writer stored. No client sees it and none can set it.
pub const UNKNOWN: &str = "\0";

/// At most so many unknown or duplicate fields are named.
const NAMED_MAX: usize = 64;

/// An object in canonical form, and what was left out of it.
#[derive(Debug, Default, Clone)]
pub struct Decoded {
    pub value: Map<String, Value>,
    pub kind: String,
    pub api_version: String,
    /// Paths of fields that the type does not have.
    pub unknown: Vec<String>,
    /// Paths of fields given twice; the last one counts.
    pub duplicate: Vec<String>,
    /// What else is not as it should be, in whole sentences.
    pub irregular: Vec<String>,
}

/// Why a text is not an object of its type, in Go's words.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// It is no JSON, or none of an object.
    #[error("{0}")]
    Syntax(String),
    /// A value in it is not of its field's type.
    #[error("{0}")]
    Type(String),
}

/// What Go's decoder wants before it knows the kind.
const ANY_KIND: &str = r#"json: cannot unmarshal @ into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;

/// Who wrote the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    Client,
    /// This program, from stored bytes: [`UNKNOWN`] is kept.
    Store,
}

/// Whether a text is JSON of an object, or why not.
///
/// # Errors
/// In Go's words.
pub fn any_map(text: &[u8]) -> Result<(), String> {
    let value: Value =
        serde_json::from_slice(text).map_err(|error| mistake::syntax(&error, text))?;
    let found = match value {
        Value::Object(_) | Value::Null => return Ok(()),
        Value::Array(_) => Found::Array,
        Value::Bool(_) => Found::Bool,
        Value::Number(_) => Found::Number,
        Value::String(_) => Found::Text,
    };
    Err(format!(
        "json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
    ))
}

/// Decodes a JSON text as message `id`.
pub fn decode(text: &[u8], id: MessageId, source: Source) -> Result<Decoded, DecodeError> {
    let context = Context::new(source);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = root(&context, id, &mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| context.error(|| mistake::syntax(&error, text)))?;
    Ok(context.finish(value))
}

/// Brings an object that was put together from parts into canonical form.
pub fn conform(value: Value, id: MessageId, source: Source) -> Result<Decoded, DecodeError> {
    let context = Context::new(source);
    let value = root(&context, id, value).map_err(|error| context.error(|| error.to_string()))?;
    Ok(context.finish(value))
}

fn root<'de, D: Deserializer<'de>>(
    context: &Context,
    id: MessageId,
    deserializer: D,
) -> Result<Value, D::Error> {
    deserializer.deserialize_any(MessageVisitor {
        context,
        ty: &Type::Message(id),
        id,
        root: true,
    })
}

struct Context {
    source: Source,
    path: RefCell<String>,
    /// The fields on the way to where decoding is.
    way: RefCell<Way>,
    /// What went wrong, where serde's words are not Go's.
    mistake: RefCell<Option<DecodeError>>,
    kind: RefCell<String>,
    api_version: RefCell<String>,
    unknown: RefCell<Vec<String>>,
    duplicate: RefCell<Vec<String>>,
}

impl Context {
    fn new(source: Source) -> Self {
        Self {
            source,
            path: RefCell::default(),
            way: RefCell::default(),
            mistake: RefCell::default(),
            kind: RefCell::default(),
            api_version: RefCell::default(),
            unknown: RefCell::default(),
            duplicate: RefCell::default(),
        }
    }

    fn error(&self, otherwise: impl FnOnce() -> String) -> DecodeError {
        let mistake = self.mistake.borrow_mut().take();
        mistake.unwrap_or_else(|| DecodeError::Syntax(otherwise()))
    }

    /// Notes a value that is not of its type. What serde is told goes nowhere.
    fn wrong<E: de::Error>(&self, ty: &Type, found: Found<'_>) -> E {
        self.refuse(DecodeError::Type(mistake::wrong_type(
            &self.way.borrow(),
            ty,
            found,
        )))
    }

    /// Notes a text that its type is not written as.
    fn wrong_text<E: de::Error>(&self, ty: &Type, text: &str) -> E {
        self.refuse(DecodeError::Type(mistake::wrong_text(ty, text)))
    }

    /// Whether decoding is in a list of resources.
    fn in_amounts(&self) -> bool {
        let way = self.way.borrow();
        way.last()
            .is_some_and(|(_, field)| field.go == Some("v1.ResourceList"))
    }

    fn refuse<E: de::Error>(&self, error: DecodeError) -> E {
        let text = error.to_string();
        self.mistake.borrow_mut().get_or_insert(error);
        E::custom(text)
    }

    fn finish(self, value: Value) -> Decoded {
        Decoded {
            value: match value {
                Value::Object(map) => map,
                _ => Map::new(),
            },
            kind: self.kind.into_inner(),
            api_version: self.api_version.into_inner(),
            unknown: self.unknown.into_inner(),
            duplicate: self.duplicate.into_inner(),
            irregular: Vec::new(),
        }
    }

    fn enter(&self, segment: fmt::Arguments<'_>) -> usize {
        let mut path = self.path.borrow_mut();
        let length = path.len();
        // Writing to a string cannot fail.
        let _ = fmt::Write::write_fmt(&mut *path, segment);
        length
    }

    fn enter_field(&self, name: &str) -> usize {
        let dot = if self.path.borrow().is_empty() {
            ""
        } else {
            "."
        };
        self.enter(format_args!("{dot}{name}"))
    }

    fn leave(&self, length: usize) {
        self.path.borrow_mut().truncate(length);
    }

    fn note(&self, list: &RefCell<Vec<String>>, name: &str) {
        let mut list = list.borrow_mut();
        if list.len() < NAMED_MAX {
            let path = self.path.borrow();
            list.push(if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            });
        }
    }
}

struct MessageVisitor<'a> {
    context: &'a Context,
    ty: &'a Type,
    id: MessageId,
    root: bool,
}

impl<'de> Visitor<'de> for MessageVisitor<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        if self.root {
            // As an object without anything.
            let mut map = Map::new();
            fill(self.id, &mut map);
            return Ok(Value::Object(map));
        }
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Value, E> {
        Err(self.wrong(Found::Bool))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Value, E> {
        Err(self.wrong(Found::Number))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Value, E> {
        Err(self.wrong(Found::Number))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Value, E> {
        Err(self.wrong(Found::Number))
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Value, E> {
        Err(self.wrong(Found::Text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(self.wrong(Found::Array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let context = self.context;
        let mut map = Map::new();
        let mut given: Vec<&'static str> = Vec::new();
        while let Some(Name(name)) = access.next_key()? {
            if let Some(field) = schema().field(self.id, &name) {
                let outer = context.enter_field(field.name);
                context.way.borrow_mut().push((self.id, field));
                let value = access.next_value_seed(Seed {
                    context,
                    ty: &field.ty,
                })?;
                context.way.borrow_mut().pop();
                context.leave(outer);
                if given.contains(&field.name) {
                    context.note(&context.duplicate, field.name);
                    map.remove(field.name);
                }
                given.push(field.name);
                if !value.is_null() && (field.presence || !is_zero(&value, &field.ty)) {
                    map.insert(field.name.to_owned(), value);
                }
            } else if matches!(&*name, "kind" | "apiVersion") && schema().message(self.id).object {
                let outer = context.enter_field(&name);
                let text: Option<String> = access.next_value()?;
                context.leave(outer);
                if self.root {
                    let place = if name == "kind" {
                        &context.kind
                    } else {
                        &context.api_version
                    };
                    *place.borrow_mut() = text.unwrap_or_default();
                }
            } else if name == UNKNOWN && context.source == Source::Store {
                map.insert(UNKNOWN.to_owned(), access.next_value()?);
            } else {
                context.note(&context.unknown, &name);
                access.next_value::<IgnoredAny>()?;
            }
        }
        fill(self.id, &mut map);
        Ok(Value::Object(map))
    }
}

impl MessageVisitor<'_> {
    fn wrong<E: de::Error>(&self, found: Found<'_>) -> E {
        if self.root {
            let text = ANY_KIND.replace('@', &found.to_string());
            return self.context.refuse(DecodeError::Syntax(text));
        }
        self.context.wrong(self.ty, found)
    }
}

struct Name<'a>(Cow<'a, str>);

impl<'de> de::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
            fn visit_string<E>(self, text: String) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// Adds the fields that Go prints even when they are empty.
fn fill(id: MessageId, map: &mut Map<String, Value>) {
    for field in &schema().message(id).fields {
        if field.inline {
            if let Type::Message(inner) = field.ty {
                fill(inner, map);
            }
        } else if field.always && !map.contains_key(field.name) {
            map.insert(field.name.to_owned(), zero(field));
        }
    }
}

fn zero(field: &Field) -> Value {
    if field.presence {
        Value::Null
    } else {
        zero_of(&field.ty)
    }
}

/// What Go prints for the empty value of a type.
pub fn zero_of(ty: &Type) -> Value {
    match ty {
        Type::String => Value::String(String::new()),
        Type::Bool => Value::Bool(false),
        Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => Value::from(0),
        Type::Quantity => Value::String("0".to_owned()),
        Type::Message(id) => {
            let mut map = Map::new();
            fill(*id, &mut map);
            Value::Object(map)
        }
        Type::Bytes
        | Type::Time
        | Type::MicroTime
        | Type::Raw
        | Type::FieldsV1
        | Type::List(_)
        | Type::Map(_)
        | Type::Wrapped(_) => Value::Null,
    }
}

fn is_zero(value: &Value, ty: &Type) -> bool {
    match (value, ty) {
        (Value::String(text), Type::String | Type::Bytes) => text.is_empty(),
        (Value::Bool(flag), _) => !flag,
        (Value::Number(number), Type::Int32 | Type::Int64 | Type::Double) => {
            number.as_f64() == Some(0.0)
        }
        (Value::Array(list), _) => list.is_empty(),
        (Value::Object(map), Type::Map(_)) => map.is_empty(),
        (Value::Object(_), Type::Message(_)) => *value == zero_of(ty),
        _ => false,
    }
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    context: &'a Context,
    ty: &'a Type,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.ty {
            Type::Message(id) => deserializer.deserialize_any(MessageVisitor {
                context: self.context,
                ty: self.ty,
                id: *id,
                root: false,
            }),
            Type::List(_) | Type::Wrapped(_) | Type::Map(_) => {
                deserializer.deserialize_any(CollectionVisitor(self))
            }
            Type::Raw | Type::FieldsV1 => de::Deserialize::deserialize(deserializer),
            _ => deserializer.deserialize_any(ScalarVisitor(self)),
        }
    }
}

struct CollectionVisitor<'a>(Seed<'a>);

impl<'de> Visitor<'de> for CollectionVisitor<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self.0.ty, Type::Map(_)) {
            "an object"
        } else {
            "an array"
        })
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Value, E> {
        Err(self.0.context.wrong(self.0.ty, Found::Bool))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Value, E> {
        Err(self.0.context.wrong(self.0.ty, Found::Number))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Value, E> {
        Err(self.0.context.wrong(self.0.ty, Found::Number))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Value, E> {
        Err(self.0.context.wrong(self.0.ty, Found::Number))
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Value, E> {
        Err(self.0.context.wrong(self.0.ty, Found::Text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let (Type::List(inner) | Type::Wrapped(inner)) = self.0.ty else {
            return Err(self.0.context.wrong(self.0.ty, Found::Array));
        };
        let context = self.0.context;
        let mut list = Vec::new();
        loop {
            let outer = context.enter(format_args!("[{}]", list.len()));
            let Some(value) = access.next_element_seed(Seed { context, ty: inner })? else {
                context.leave(outer);
                return Ok(Value::Array(list));
            };
            context.leave(outer);
            list.push(if value.is_null() {
                zero_of(inner)
            } else {
                value
            });
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let Type::Map(inner) = self.0.ty else {
            return Err(self.0.context.wrong(self.0.ty, Found::Object));
        };
        let context = self.0.context;
        let mut map = Map::new();
        while let Some(Name(key)) = access.next_key()? {
            let outer = context.enter_field(&key);
            let value = access.next_value_seed(Seed { context, ty: inner })?;
            context.leave(outer);
            let value = if value.is_null() {
                zero_of(inner)
            } else {
                value
            };
            if map.insert(key.clone().into_owned(), value).is_some() {
                context.note(&context.duplicate, &key);
            }
        }
        Ok(Value::Object(map))
    }
}

struct ScalarVisitor<'a>(Seed<'a>);

impl ScalarVisitor<'_> {
    fn wrong<E: de::Error>(&self, found: Found<'_>) -> E {
        self.0.context.wrong(self.0.ty, found)
    }

    fn integer<E: de::Error>(self, number: i64) -> Result<Value, E> {
        let fits = match self.0.ty {
            Type::Int32 | Type::IntOrString => i32::try_from(number).is_ok(),
            Type::Int64 | Type::Double => true,
            Type::Quantity => return self.text(&number.to_string()),
            _ => return Err(self.wrong(Found::Number)),
        };
        if fits {
            Ok(Value::from(number))
        } else {
            Err(self.wrong(Found::Literal(&number)))
        }
    }

    fn text<E: de::Error>(self, text: &str) -> Result<Value, E> {
        let ty = self.0.ty;
        let canonical = match ty {
            Type::String | Type::IntOrString => Some(text.to_owned()),
            // Go's decoder also takes texts with line breaks.
            Type::Bytes => {
                let packed: Cow<'_, str> = if text.contains(['\n', '\r']) {
                    Cow::Owned(text.replace(['\n', '\r'], ""))
                } else {
                    Cow::Borrowed(text)
                };
                BASE64
                    .decode(packed.as_bytes())
                    .ok()
                    .map(|bytes| BASE64.encode(bytes))
            }
            Type::Quantity if self.0.context.in_amounts() => quantity::canonical_amount(text),
            Type::Quantity => quantity::canonical(text),
            Type::Time => time::parse(text).map(|(s, n)| time::format(s, n, Precision::Seconds)),
            Type::MicroTime => {
                let formed = self.0.context.source == Source::Store || time::has_micros(text);
                let parsed = time::parse(text).filter(|_| formed);
                parsed.map(|(s, n)| time::format(s, n, Precision::Micros))
            }
            _ => return Err(self.wrong(Found::Text)),
        };
        canonical
            .map(Value::String)
            .ok_or_else(|| self.0.context.wrong_text(ty, text))
    }
}

impl<'de> Visitor<'de> for ScalarVisitor<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of {:?}", self.0.ty)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Value, E> {
        if *self.0.ty == Type::Bool {
            Ok(Value::Bool(flag))
        } else {
            Err(self.wrong(Found::Bool))
        }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
        self.integer(number)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        match (i64::try_from(number), self.0.ty) {
            (Ok(number), _) => self.integer(number),
            (Err(_), Type::Quantity) => self.text(&number.to_string()),
            (Err(_), Type::Int32 | Type::Int64 | Type::IntOrString) => {
                Err(self.wrong(Found::Literal(&number)))
            }
            (Err(_), _) => Err(self.wrong(Found::Number)),
        }
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        match self.0.ty {
            Type::Double => Number::from_f64(number)
                .map(Value::Number)
                .ok_or_else(|| self.wrong(Found::Literal(&number))),
            Type::Quantity => self.text(&number.to_string()),
            Type::Int32 | Type::Int64 | Type::IntOrString => {
                Err(self.wrong(Found::Literal(&number)))
            }
            _ => Err(self.wrong(Found::Number)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        self.text(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(self.wrong(Found::Array))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(self.wrong(Found::Object))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn id(name: &str) -> MessageId {
        schema().find(name).expect("a known message")
    }

    fn decoded(name: &str, value: &Value) -> Decoded {
        decode(value.to_string().as_bytes(), id(name), Source::Client).expect("it decodes")
    }

    #[test]
    fn unknown_fields_are_named_and_left_out() {
        let pod = decoded(
            "io.k8s.api.core.v1.Pod",
            &json!({"kind": "Pod", "apiVersion": "v1", "spec": {"containers": [{"name": "a", "imagee": "x"}]}, "extra": {"a": [1]}}),
        );
        assert_eq!(
            pod.unknown,
            ["extra", "spec.containers[0].imagee"].map(str::to_owned)
        );
        assert_eq!(pod.kind, "Pod");
        assert_eq!(
            pod.value["spec"]["containers"][0],
            json!({"name": "a", "resources": {}})
        );
        let error = decode(
            b"{\"\\u0000\": \"AAAA\"}",
            id("io.k8s.api.core.v1.Pod"),
            Source::Client,
        );
        assert_eq!(error.expect("unknown is no error").unknown, ["\0"]);
    }

    #[test]
    fn duplicates_are_named_and_the_last_counts() {
        let text = br#"{"data": {"a": "1", "a": "2"}, "immutable": true, "immutable": null}"#;
        let map =
            decode(text, id("io.k8s.api.core.v1.ConfigMap"), Source::Client).expect("it decodes");
        assert_eq!(map.duplicate, ["data.a", "immutable"]);
        assert_eq!(map.value["data"], json!({"a": "2"}));
        assert!(!map.value.contains_key("immutable"));
    }

    #[test]
    fn the_form_is_the_one_go_prints() {
        let role = decoded(
            "io.k8s.api.rbac.v1.Role",
            &json!({"metadata": {"labels": {}}, "rules": []}),
        );
        assert_eq!(role.value["rules"], Value::Null);
        assert_eq!(role.value["metadata"].get("labels"), None);
        let pod = decoded(
            "io.k8s.api.core.v1.Pod",
            &json!({"spec": {"containers": [{"name": "a",
            "resources": {"requests": {"cpu": 0.5, "memory": "1024Mi"}}}], "restartPolicy": ""}}),
        );
        assert_eq!(
            pod.value["spec"]["containers"][0]["resources"]["requests"],
            json!({"cpu": "500m", "memory": "1Gi"})
        );
        assert_eq!(pod.value["spec"].get("restartPolicy"), None);
        assert_eq!(pod.value["status"], json!({}));
    }

    #[test]
    fn a_wrong_type_is_told_in_gos_words() {
        for (value, words) in [
            (
                json!({"spec": {"replicas": "3"}}),
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                json!({"spec": {"template": {"spec": {"containers": [{"ports": [{"containerPort": 9_999_999_999_i64}]}]}}}}),
                "json: cannot unmarshal number 9999999999 into Go struct field ContainerPort.spec.template.spec.containers.ports.containerPort of type int32",
            ),
            (
                json!({"spec": {"template": {"spec": {"volumes": [{"cinder": {"fsType": 7}}]}}}}),
                "json: cannot unmarshal number into Go struct field CinderVolumeSource.spec.template.spec.volumes.VolumeSource.cinder.fsType of type string",
            ),
            (
                json!({"spec": {"selector": {"matchExpressions": [{"operator": 7}]}}}),
                "json: cannot unmarshal number into Go struct field LabelSelectorRequirement.spec.selector.matchExpressions.operator of type v1.LabelSelectorOperator",
            ),
            (
                json!({"spec": {"selector": {"matchExpressions": "x"}}}),
                "json: cannot unmarshal string into Go struct field LabelSelector.spec.selector.matchExpressions of type []v1.LabelSelectorRequirement",
            ),
            (
                json!({"metadata": {"creationTimestamp": 5}}),
                "json: cannot unmarshal number into Go value of type string",
            ),
            (
                json!({"metadata": {"labels": {"a": 1}}}),
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (
                json!({"metadata": []}),
                "json: cannot unmarshal array into Go struct field Deployment.metadata of type v1.ObjectMeta",
            ),
        ] {
            let error = decode(
                value.to_string().as_bytes(),
                id("io.k8s.api.apps.v1.Deployment"),
                Source::Client,
            )
            .expect_err("a wrong type");
            assert_eq!(error.to_string(), words);
            assert!(matches!(error, DecodeError::Type(_)));
        }
        let whole = |text: &str| {
            let id = id("io.k8s.api.apps.v1.Deployment");
            decode(text.as_bytes(), id, Source::Client)
        };
        for text in ["", "[]", "3", "{", "{}}", "\"x\"", "true"] {
            assert!(matches!(whole(text), Err(DecodeError::Syntax(_))), "{text}");
        }
        assert!(whole("null").is_ok());
    }
}
