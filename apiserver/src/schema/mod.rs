//! What the built-in kinds look like, as data: messages with their fields'
//! JSON names, protobuf numbers, Go's rules for absent values, patch and
//! list-map keys.
//!
//! Knows names, numbers and types. Knows no object, no request, no store.
//!
//! `schema/types.txt` is generated (see `schema/generate`). A line without
//! indentation opens a message (`object` marks one with `kind` and
//! `apiVersion`, `atomic` one that has one owner as a whole); an indented line is a field: JSON name (`-` when its message's
//! fields stand in the owner's JSON object), protobuf number, type, flags.

use std::{collections::HashMap, sync::LazyLock};

const TYPES: &str = include_str!("../../schema/types.txt");

/// Index of a message in the schema.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MessageId(u32);

/// The type of a field's value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Type {
    String,
    Bool,
    Int32,
    Int64,
    Double,
    /// Base64 in JSON.
    Bytes,
    /// RFC 3339 in whole seconds.
    Time,
    /// RFC 3339 with six decimals.
    MicroTime,
    Quantity,
    IntOrString,
    /// Any JSON object, kept as its text.
    Raw,
    /// A field set, kept as its JSON text.
    FieldsV1,
    Message(MessageId),
    List(Box<Type>),
    Map(Box<Type>),
    /// A list that is a message of its own in protobuf, repeated field 1.
    Wrapped(Box<Type>),
}

/// One field of a message.
#[derive(Debug)]
pub struct Field {
    /// JSON name.
    pub name: &'static str,
    pub number: u32,
    pub ty: Type,
    /// Appears in JSON even when it is empty.
    pub always: bool,
    /// Absent differs from empty.
    pub presence: bool,
    /// The fields of its message stand in the owner's JSON object.
    pub inline: bool,
    /// Must be given.
    pub required: bool,
    /// Strategic merge patch: elements are merged, not replaced.
    pub patch_merge: bool,
    /// Strategic merge patch: keys that the patch does not retain are removed.
    pub patch_retain_keys: bool,
    /// Strategic merge patch: the key by which elements are matched.
    pub patch_key: Option<&'static str>,
    /// The keys of a list that is a map.
    pub list_keys: Vec<&'static str>,
    /// A list without duplicates.
    pub set: bool,
    /// Replaced as a whole.
    pub atomic: bool,
    /// What stands for it where it is left out, when that is a text. The values
    /// themselves are set by `defaults`, which knows their conditions.
    pub default: Option<&'static str>,
    /// Go's name of the type, where the type here does not tell it.
    pub go: Option<&'static str>,
}

/// One message: a struct of the API.
#[derive(Debug)]
pub struct Message {
    /// Such as `io.k8s.api.core.v1.Pod`.
    pub name: &'static str,
    /// Has `kind` and `apiVersion`.
    pub object: bool,
    /// Owned as a whole, not field by field.
    pub atomic: bool,
    /// In the order of their JSON form.
    pub fields: Vec<Field>,
    /// Indices of `fields` by ascending protobuf number.
    pub by_number: Vec<usize>,
}

impl Message {
    /// The index in `fields` of protobuf field `number`.
    pub fn index_of(&self, number: u32) -> Option<usize> {
        self.by_number
            .binary_search_by_key(&number, |&index| self.fields[index].number)
            .ok()
            .map(|at| self.by_number[at])
    }
}

/// All messages.
pub struct Schema {
    messages: Vec<Message>,
    by_name: HashMap<&'static str, MessageId>,
    object_meta: MessageId,
}

impl Schema {
    /// The message with this id.
    pub fn message(&self, id: MessageId) -> &Message {
        // Ids are made by `parse` alone, each from an index it filled.
        &self.messages[id.0 as usize]
    }

    /// Looks a message up by its full name.
    pub fn find(&self, name: &str) -> Option<MessageId> {
        self.by_name.get(name).copied()
    }

    /// `ObjectMeta`, which every stored kind carries.
    pub fn object_meta(&self) -> MessageId {
        self.object_meta
    }

    /// Every message with its id.
    pub fn messages(&self) -> impl Iterator<Item = (MessageId, &Message)> {
        (0..).map(MessageId).zip(&self.messages)
    }

    /// The field called `name` in the JSON object of message `id`, in it or in
    /// one of its inline messages.
    pub fn field(&self, id: MessageId, name: &str) -> Option<&Field> {
        let fields = &self.message(id).fields;
        fields.iter().find(|field| field.name == name).or_else(|| {
            fields
                .iter()
                .filter(|field| field.inline)
                .find_map(|field| match field.ty {
                    Type::Message(inner) => self.field(inner, name),
                    _ => None,
                })
        })
    }
}

/// The schema of the built-in kinds.
pub fn schema() -> &'static Schema {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
        parse(TYPES).expect("the generated table is well formed: a test reads it")
    });
    &SCHEMA
}

fn parse(text: &'static str) -> Result<Schema, String> {
    let mut by_name = HashMap::new();
    let headers = text.lines().filter(|line| !line.starts_with('\t'));
    for (index, line) in headers.enumerate() {
        let name = line.split(' ').next().unwrap_or(line);
        by_name.insert(name, MessageId(index as u32));
    }
    let mut messages: Vec<Message> = Vec::with_capacity(by_name.len());
    for line in text.lines() {
        if let Some(field) = line.strip_prefix('\t') {
            let message = messages.last_mut().ok_or("a field before any message")?;
            let package = message
                .name
                .rsplit_once('.')
                .map_or("", |(package, _)| package);
            message.fields.push(parse_field(field, package, &by_name)?);
        } else {
            let (name, flags) = line.split_once(' ').unwrap_or((line, ""));
            let has = |flag: &str| flags.split(' ').any(|one| one == flag);
            messages.push(Message {
                name,
                object: has("object"),
                atomic: has("atomic"),
                fields: Vec::new(),
                by_number: Vec::new(),
            });
        }
    }
    for message in &mut messages {
        message.by_number = (0..message.fields.len()).collect();
        let fields = &message.fields;
        message.by_number.sort_by_key(|&index| fields[index].number);
    }
    let object_meta = *by_name
        .get("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
        .ok_or("no ObjectMeta")?;
    Ok(Schema {
        messages,
        by_name,
        object_meta,
    })
}

fn parse_field(
    line: &'static str,
    package: &str,
    names: &HashMap<&'static str, MessageId>,
) -> Result<Field, String> {
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or_else(|| format!("short line: {line}"));
    let (name, number, ty) = (word()?, word()?, word()?);
    let mut field = Field {
        name,
        number: number.parse().map_err(|_| format!("number in: {line}"))?,
        ty: parse_type(ty, package, names)?,
        always: false,
        presence: false,
        inline: false,
        required: false,
        patch_merge: false,
        patch_retain_keys: false,
        patch_key: None,
        list_keys: Vec::new(),
        set: false,
        atomic: false,
        default: None,
        go: None,
    };
    for flag in words {
        let (flag, value) = flag.split_once('=').unwrap_or((flag, ""));
        match flag {
            "always" => field.always = true,
            "presence" => field.presence = true,
            "inline" => field.inline = true,
            "required" => field.required = true,
            "set" => field.set = true,
            "atomic" => field.atomic = true,
            "patch" => {
                for strategy in value.split(',') {
                    match strategy {
                        "merge" => field.patch_merge = true,
                        "retainKeys" => field.patch_retain_keys = true,
                        "replace" => {}
                        _ => return Err(format!("patch strategy in: {line}")),
                    }
                }
            }
            "patchkey" => field.patch_key = Some(value),
            "go" => field.go = Some(value),
            "keys" => field.list_keys = value.split(',').collect(),
            "default" => {
                let text = value.strip_prefix('"');
                field.default = text.and_then(|text| text.strip_suffix('"'));
            }
            _ => return Err(format!("flag {flag} in: {line}")),
        }
    }
    Ok(field)
}

fn parse_type(
    text: &str,
    package: &str,
    names: &HashMap<&'static str, MessageId>,
) -> Result<Type, String> {
    for (prefix, wrap) in [
        ("[]", Type::List as fn(Box<Type>) -> Type),
        ("map:", Type::Map),
        ("wrapped:", Type::Wrapped),
    ] {
        if let Some(inner) = text.strip_prefix(prefix) {
            return Ok(wrap(Box::new(parse_type(inner, package, names)?)));
        }
    }
    Ok(match text {
        "string" => Type::String,
        "bool" => Type::Bool,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "double" => Type::Double,
        "bytes" => Type::Bytes,
        "time" => Type::Time,
        "microtime" => Type::MicroTime,
        "quantity" => Type::Quantity,
        "intorstring" => Type::IntOrString,
        "raw" => Type::Raw,
        "fieldsv1" => Type::FieldsV1,
        name => {
            let full = match name.strip_prefix('.') {
                Some(short) => format!("{package}.{short}"),
                None => name.to_owned(),
            };
            Type::Message(
                *names
                    .get(full.as_str())
                    .ok_or_else(|| format!("unknown type {full}"))?,
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let schema = schema();
        assert!(schema.messages().count() > 500);
        for (_, message) in schema.messages() {
            let numbers: Vec<_> = message
                .by_number
                .iter()
                .map(|&i| message.fields[i].number)
                .collect();
            assert!(
                numbers.windows(2).all(|pair| pair[0] < pair[1]),
                "{}: a number twice: {numbers:?}",
                message.name
            );
        }
    }

    #[test]
    fn fields_of_inline_messages_are_found() {
        let schema = schema();
        let volume = schema.find("io.k8s.api.core.v1.Volume").expect("a kind");
        assert_eq!(
            schema.field(volume, "hostPath").map(|field| field.number),
            Some(1)
        );
        assert_eq!(
            schema.field(volume, "name").map(|field| field.number),
            Some(1)
        );
        assert!(schema.field(volume, "nothing").is_none());
    }

    #[test]
    fn patch_and_list_keys_are_read() {
        let schema = schema();
        let container = schema.find("io.k8s.api.core.v1.Container").expect("a kind");
        let ports = schema.field(container, "ports").expect("a field");
        assert_eq!(ports.patch_key, Some("containerPort"));
        assert_eq!(ports.list_keys, ["containerPort", "protocol"]);
    }
}
