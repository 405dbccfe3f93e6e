//! How the types of the API say that values are owned: as a whole or by their
//! parts, and what the parts of lists are called. Knows types; knows no writer.

use std::collections::BTreeMap;

use serde_json::Value;

use super::set::by_keys;
use crate::schema::{Field, MessageId, Type, schema};

/// An item of a list has none of the list's keys: there is no name for it.
#[derive(Debug, thiserror::Error)]
#[error("an item of a list has none of its keys")]
pub struct NoKey;

/// What is to be known of a place besides its value.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Field(&'a Field),
    Item(&'a Type),
}

/// How a value is owned.
#[derive(Clone, Copy)]
pub(super) enum Shape<'a> {
    /// As a whole.
    Leaf,
    Object(MessageId),
    Map(&'a Type),
    Keyed(&'a [&'static str], &'a Type),
    Set(&'a Type),
}

impl<'a> Place<'a> {
    pub fn ty(self) -> &'a Type {
        match self {
            Self::Field(field) => &field.ty,
            Self::Item(ty) => ty,
        }
    }

    pub fn shape(self) -> Shape<'a> {
        let (ty, field) = match self {
            Self::Field(field) => (&field.ty, Some(field)),
            Self::Item(ty) => (ty, None),
        };
        if field.is_some_and(|field| field.atomic) {
            return Shape::Leaf;
        }
        match ty {
            Type::Message(id) if schema().message(*id).atomic => Shape::Leaf,
            Type::Message(id) => Shape::Object(*id),
            Type::Map(inner) => Shape::Map(inner),
            Type::List(inner) => match field {
                Some(field) if !field.list_keys.is_empty() => Shape::Keyed(&field.list_keys, inner),
                Some(field) if field.set => Shape::Set(inner),
                _ => Shape::Leaf,
            },
            _ => Shape::Leaf,
        }
    }
}

impl<'a> Shape<'a> {
    /// What stands under a name, unless the type has nothing there.
    pub fn named(self, name: &str) -> Option<Place<'a>> {
        match self {
            Self::Object(id) => schema().field(id, name).map(Place::Field),
            Self::Map(inner) => Some(Place::Item(inner)),
            _ => None,
        }
    }

    /// What an item of a list is, and its step; `None` when it is no list.
    ///
    /// # Errors
    /// The item has no name.
    pub fn item(self, item: &Value) -> Result<Option<(Place<'a>, String)>, NoKey> {
        Ok(match self {
            Self::Keyed(keys, inner) => Some((Place::Item(inner), step_of(item, keys, inner)?)),
            Self::Set(inner) => Some((Place::Item(inner), step_of_value(item))),
            _ => None,
        })
    }
}

/// The step to an item of a list by its keys; those that it leaves out may have
/// defaults.
///
/// # Errors
/// It has none of them.
pub fn step_of(item: &Value, keys: &[&'static str], inner: &Type) -> Result<String, NoKey> {
    let default = |key: &str| match inner {
        Type::Message(id) => schema().field(*id, key).and_then(default_of),
        _ => None,
    };
    let of = |key: &'static str| {
        let given = item.get(key).cloned();
        Some((key, given.or_else(|| default(key))?))
    };
    let keys: BTreeMap<&str, Value> = keys.iter().filter_map(|key| of(key)).collect();
    if keys.is_empty() {
        return Err(NoKey);
    }
    Ok(by_keys(&keys))
}

/// What stands for a key that is left out: its default, or nothing of its type
/// where the type always has one.
fn default_of(field: &Field) -> Option<Value> {
    if let Some(default) = field.default {
        return Some(default.into());
    }
    let always = field.always && !field.presence;
    match field.ty {
        Type::String if always => Some("".into()),
        Type::Int32 | Type::Int64 if always => Some(0.into()),
        _ => None,
    }
}

/// The step to an item of a set.
pub fn step_of_value(item: &Value) -> String {
    format!("v:{item}")
}
