//! Expressions in CEL over JSON values. Knows the language; must not know what is
//! decided by one.

use std::{collections::HashMap, sync::Arc};

use cel::{Context, Program, Value as Cel, objects::Key};
use serde_json::Value;

use crate::limits;

/// An expression, or why it is none.
pub struct Expression(Result<Program, String>);

/// What expressions can name.
pub struct Variables(Context<'static, 'static>);

impl Variables {
    pub fn new<'a>(named: impl IntoIterator<Item = (&'static str, &'a Value)>) -> Self {
        let mut context = Context::default();
        for (name, value) in named {
            context.add_variable_from_value(name, to_cel(value));
        }
        Self(context)
    }
}

impl Expression {
    pub fn read(text: &str) -> Self {
        Self(match text.len() > limits::EXPRESSION_BYTES_MAX {
            true => Err("the expression is too long".to_owned()),
            false => Program::compile(text).map_err(|error| error.to_string()),
        })
    }

    /// Why it is no expression.
    pub fn wrong(&self) -> Option<&str> {
        self.0.as_ref().err().map(String::as_str)
    }

    /// Its value.
    ///
    /// # Errors
    /// It is none, or names what is not there, or its value is none of JSON.
    pub fn value(&self, variables: &Variables) -> Result<Value, String> {
        let program = self.0.as_ref().map_err(String::clone)?;
        let value = program.execute(&variables.0);
        from_cel(&value.map_err(|error| error.to_string())?)
    }
}

/// Whole numbers are CEL's `int`, as upstream's types make them.
fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Cel::Int(whole),
            None => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::Array(list) => Cel::List(Arc::new(list.iter().map(to_cel).collect())),
        Value::Object(map) => {
            let pairs = map
                .iter()
                .map(|(key, value)| (Key::from(key.clone()), to_cel(value)));
            Cel::from(pairs.collect::<HashMap<Key, Cel>>())
        }
    }
}

fn from_cel(value: &Cel) -> Result<Value, String> {
    Ok(match value {
        Cel::Null => Value::Null,
        Cel::Bool(value) => (*value).into(),
        Cel::String(text) => text.as_str().into(),
        Cel::Int(number) => (*number).into(),
        Cel::UInt(number) => (*number).into(),
        Cel::Float(number) => (*number).into(),
        Cel::List(list) => {
            let items = list.iter().map(from_cel);
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        other => return Err(format!("a value of type {} is of no use", other.type_of())),
    })
}
