//! YAML as JSON values: what cases are written in.

use anyhow::{Context as _, Result, bail, ensure};
use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde_json::{Map, Value};

/// The one document of a text.
///
/// # Errors
/// It is no YAML, has several documents, or uses what JSON has not.
pub fn parse(text: &str) -> Result<Value> {
    let mut documents = Yaml::load_from_str(text)?;
    ensure!(documents.len() == 1, "{} documents", documents.len());
    value(&documents.remove(0))
}

fn value(node: &Yaml<'_>) -> Result<Value> {
    Ok(match node {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(truth)) => Value::from(*truth),
        Yaml::Value(Scalar::Integer(number)) => Value::from(*number),
        Yaml::Value(Scalar::FloatingPoint(number)) => Value::from(number.into_inner()),
        Yaml::Value(Scalar::String(text)) => Value::from(text.as_ref()),
        Yaml::Sequence(items) => items.iter().map(value).collect::<Result<_>>()?,
        Yaml::Mapping(pairs) => {
            let mut object = Map::new();
            for (key, inner) in pairs {
                let Value::String(key) = value(key)? else {
                    bail!("a key that is no string: {key:?}");
                };
                let inner = value(inner).with_context(|| key.clone())?;
                object.insert(key, inner);
            }
            Value::Object(object)
        }
        other => bail!("what JSON has not: {other:?}"),
    })
}
