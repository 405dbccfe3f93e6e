//! Cases of every field of every kind, made from upstream's own OpenAPI: the
//! sample with one field set to what fits its type, and to what does not. All are
//! dry runs, so that each step stands alone.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::case::{Case, CaseStep};
use super::samples::Sample;

/// Deeper than any field lies, schemas that contain themselves apart.
const DEPTH: usize = 12;
/// Kinds contain it again and again: its fields are those of PodTemplate.
const TEMPLATE: &str = "PodTemplateSpec";

/// The cases of one kind; `document` is the OpenAPI v3 of its group version.
///
/// # Errors
/// The document does not describe the kind.
pub fn cases(sample: &Sample, document: &Value) -> Result<Vec<Case>> {
    let schemas = document["components"]["schemas"]
        .as_object()
        .context("schemas")?;
    let (name, _) = schemas
        .iter()
        .find(|(_, schema)| {
            let kinds = schema["x-kubernetes-group-version-kind"].as_array();
            kinds.is_some_and(|kinds| {
                kinds.iter().any(|kind| {
                    kind["kind"] == *sample.kind
                        && kind["group"] == *sample.group
                        && kind["version"] == *sample.version
                })
            })
        })
        .with_context(|| format!("no schema of {}", sample.kind))?;
    let mut walk = Walk {
        document,
        sample,
        found: Vec::new(),
    };
    walk.object(name, &mut Vec::new());
    Ok(walk.into_cases())
}

/// Where a value is put: a key, or the first item of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Key(String),
    Item,
}

struct Walk<'a> {
    document: &'a Value,
    sample: &'a Sample,
    found: Vec<(Vec<Part>, Value)>,
}

impl Walk<'_> {
    fn schema(&self, name: &str) -> &Value {
        &self.document["components"]["schemas"][name]
    }

    fn object(&mut self, name: &str, path: &mut Vec<Part>) {
        if path.len() > DEPTH || name.ends_with(TEMPLATE) && self.sample.kind != "PodTemplate" {
            return;
        }
        let Some(properties) = self.schema(name)["properties"].as_object().cloned() else {
            return;
        };
        for (key, schema) in &properties {
            let own = path.is_empty()
                && ["apiVersion", "kind", "metadata", "status"].contains(&key.as_str());
            let nested = key == "metadata" && name.ends_with(TEMPLATE);
            if own || nested {
                continue;
            }
            path.push(Part::Key(key.clone()));
            self.field(schema, path);
            path.pop();
        }
    }

    fn field(&mut self, schema: &Value, path: &mut Vec<Part>) {
        let target = reference(schema).map(str::to_owned);
        let resolved = target
            .as_deref()
            .map_or(schema, |name| self.schema(name))
            .clone();
        for value in values(target.as_deref().unwrap_or_default(), &resolved) {
            self.found.push((path.clone(), value));
        }
        if resolved["type"] == "array" {
            path.push(Part::Item);
            self.field(&resolved["items"], path);
            path.pop();
        } else if let (Some(name), true) = (target, resolved["properties"].is_object()) {
            self.object(&name, path);
        }
    }

    /// One case for each field of the first two levels.
    fn into_cases(self) -> Vec<Case> {
        let group = self.sample.group.split('.').next().unwrap_or_default();
        let kind =
            format!("{}.{group}.{}", self.sample.plural, self.sample.version).replace("..", ".");
        let mut cases: Vec<Case> = Vec::new();
        for (path, value) in self.found {
            let keys = path.iter().filter_map(|part| match part {
                Part::Key(key) => Some(key.as_str()),
                Part::Item => None,
            });
            let head = keys.take(2).collect::<Vec<_>>().join(".");
            let name = format!("{kind}/{head}");
            let mut object = self.sample.object.clone();
            put(&mut object, &path, value);
            let step =
                CaseStep::new("POST", format!("{}?dryRun=All", self.sample.path())).body(object);
            match cases.last_mut() {
                Some(case) if case.name == name => case.steps.push(step),
                _ => cases.push(Case::new("fields", name, vec![step])),
            }
        }
        cases
    }
}

fn reference(schema: &Value) -> Option<&str> {
    let target = schema["$ref"]
        .as_str()
        .or_else(|| schema["allOf"][0]["$ref"].as_str())?;
    target.rsplit('/').next()
}

/// Values that fit the type, and values that do not, for a field.
fn values(name: &str, schema: &Value) -> Vec<Value> {
    let kind = schema["type"].as_str().unwrap_or_default();
    let format = schema["format"].as_str().unwrap_or_default();
    if name.ends_with("Quantity") {
        return vec![json!("1"), json!("-1"), json!("x")];
    }
    match (kind, format) {
        (_, "int-or-string") => vec![json!(5), json!(-1), json!("10%"), json!("x y"), json!(true)],
        (_, "date-time") => vec![json!("2026-01-02T03:04:05Z"), json!("yesterday")],
        (_, "byte") => vec![json!("YQ=="), json!("?")],
        ("string", _) => match schema["enum"].as_array() {
            Some(known) => known
                .iter()
                .cloned()
                .chain([json!("Unknown"), json!("")])
                .collect(),
            None => vec![json!("a"), json!("Bad Value!"), json!(""), json!(7)],
        },
        ("integer" | "number", _) => vec![
            json!(5),
            json!(0),
            json!(-1),
            json!(9_999_999_999_i64),
            json!("x"),
        ],
        ("boolean", _) => vec![json!(true), json!(false), json!("x")],
        ("array", _) => vec![json!([]), json!([null]), json!("x")],
        ("object", _) if schema["properties"].is_object() => vec![json!({}), json!([])],
        _ => vec![
            json!({"a": "b"}),
            json!({"Bad Key!": "b"}),
            json!({"": "b"}),
            json!({"a": 1}),
            json!("x"),
        ],
    }
}

/// Sets the value, making what it lies in where the sample has it not.
fn put(target: &mut Value, path: &[Part], value: Value) {
    match path.split_first() {
        None => *target = value,
        Some((Part::Key(key), rest)) => {
            if !target.is_object() {
                *target = json!({});
            }
            put(&mut target[key.as_str()], rest, value);
        }
        Some((Part::Item, rest)) => {
            if target.as_array().is_none_or(Vec::is_empty) {
                *target = json!([null]);
            }
            put(&mut target[0], rest, value);
        }
    }
}
