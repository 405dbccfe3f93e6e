//! A document as a JSON value.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};

use super::{Plain, resolve, tabs};
use crate::limits;

/// Why a text is no document.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ReadError {
    #[error("yaml: line {0}: {1}")]
    Syntax(usize, String),
    #[error("yaml: document contains excessive aliasing")]
    Aliases,
    #[error("yaml: exceeded max depth of {max}", max = limits::YAML_DEPTH_MAX)]
    Depth,
}

/// A list or map that is being read.
enum Open {
    List(Vec<Value>),
    /// With the key whose value comes next.
    Map(Map<String, Value>, Option<String>),
}

struct Reader {
    open: Vec<(Open, usize)>,
    /// What anchors stand for, and how many values that is.
    anchors: HashMap<usize, (Value, usize)>,
    /// Values that aliases made.
    aliased: usize,
    line: usize,
    /// Keys that a map has already, and where they stand again.
    twice: Vec<(usize, String)>,
    done: Option<Value>,
}

/// At most so many keys that stand twice are named.
const NAMED_MAX: usize = 64;

/// The first document of a text, the value of none is null; and what a strict
/// reader would say of keys that stand twice, of which the last one counts.
///
/// # Errors
/// It is none, or uses what JSON has not.
pub fn read(text: &str) -> Result<(Value, Option<String>), ReadError> {
    let tab = tabs::indenting(text);
    match document(text) {
        Err(ReadError::Syntax(line, why)) if tab.is_none_or(|tab| line < tab) => {
            Err(ReadError::Syntax(line, why))
        }
        _ if tab.is_some() => {
            let why = "found character that cannot start any token";
            Err(ReadError::Syntax(tab.unwrap_or(0), why.to_owned()))
        }
        other => other,
    }
}

fn document(text: &str) -> Result<(Value, Option<String>), ReadError> {
    let mut reader = Reader {
        open: Vec::new(),
        anchors: HashMap::new(),
        aliased: 0,
        line: 0,
        twice: Vec::new(),
        done: None,
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = event
            .map_err(|error| ReadError::Syntax(error.marker().line(), error.info().to_owned()))?;
        reader.line = span.start.line();
        match event {
            Event::Alias(anchor) => reader.alias(anchor)?,
            Event::Scalar(word, style, anchor, tag) => {
                let value = reader.scalar(&word, style, tag.as_deref())?;
                reader.put(value, anchor)?;
            }
            Event::SequenceStart(anchor, _) => reader.begin(Open::List(Vec::new()), anchor)?,
            Event::MappingStart(anchor, _) => {
                reader.begin(Open::Map(Map::new(), None), anchor)?;
            }
            Event::SequenceEnd | Event::MappingEnd => reader.end()?,
            Event::DocumentEnd => break,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
        }
    }
    let named = reader.twice.iter().take(NAMED_MAX);
    let named = named.map(|(line, key)| format!("\n  line {line}: key {key:?} already set in map"));
    let twice = (!reader.twice.is_empty())
        .then(|| format!("yaml: unmarshal errors:{}", named.collect::<String>()));
    Ok((reader.done.unwrap_or_default(), twice))
}

impl Reader {
    fn wrong(&self, why: impl Into<String>) -> ReadError {
        ReadError::Syntax(self.line, why.into())
    }

    fn begin(&mut self, open: Open, anchor: usize) -> Result<(), ReadError> {
        if self.open.len() == limits::YAML_DEPTH_MAX {
            return Err(ReadError::Depth);
        }
        self.open.push((open, anchor));
        Ok(())
    }

    fn end(&mut self) -> Result<(), ReadError> {
        match self.open.pop() {
            Some((Open::List(list), anchor)) => self.put(list.into(), anchor),
            Some((Open::Map(map, _), anchor)) => self.put(map.into(), anchor),
            None => Err(self.wrong("did not find expected node content")),
        }
    }

    fn alias(&mut self, anchor: usize) -> Result<(), ReadError> {
        let Some((value, size)) = self.anchors.get(&anchor) else {
            return Err(self.wrong("unknown anchor referenced"));
        };
        self.aliased += size;
        if self.aliased > limits::YAML_ALIASED_MAX {
            return Err(ReadError::Aliases);
        }
        self.put(value.clone(), 0)
    }

    /// Puts a value where the next one belongs.
    fn put(&mut self, value: Value, anchor: usize) -> Result<(), ReadError> {
        if anchor > 0 {
            self.anchors.insert(anchor, (value.clone(), size(&value)));
        }
        let line = self.line;
        match self.open.last_mut().map(|(open, _)| open) {
            None => self.done = Some(value),
            Some(Open::List(list)) => list.push(value),
            Some(Open::Map(map, key)) => match key.take() {
                Some(name) if name == "<<" => merge(map, value),
                Some(name) => {
                    map.insert(name, value);
                }
                None => {
                    let name = key_of(value)
                        .ok_or_else(|| ReadError::Syntax(line, "unsupported map key".to_owned()))?;
                    if map.contains_key(&name) {
                        self.twice.push((line, name.clone()));
                    }
                    *key = Some(name);
                }
            },
        }
        Ok(())
    }

    fn scalar(
        &self,
        word: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
    ) -> Result<Value, ReadError> {
        let text = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
        if style != ScalarStyle::Plain || text {
            return Ok(word.into());
        }
        Ok(match resolve(word) {
            Plain::Null => Value::Null,
            Plain::Bool(truth) => truth.into(),
            Plain::Integer(number) => match (i64::try_from(number), u64::try_from(number)) {
                (Ok(number), _) => number.into(),
                (_, Ok(number)) => number.into(),
                _ => return Err(self.wrong("a number out of range")),
            },
            Plain::Float(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
            Plain::Other if word.ends_with(['f', 'F', 'n', 'N']) => {
                return Err(self.wrong(format!("json: unsupported value: {word}")));
            }
            Plain::Other | Plain::Text => word.into(),
        })
    }
}

/// The key that a value makes.
fn key_of(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// What a map takes of others that it names under `<<`.
fn merge(map: &mut Map<String, Value>, value: Value) {
    match value {
        Value::Object(other) => {
            for (key, value) in other {
                map.entry(key).or_insert(value);
            }
        }
        Value::Array(list) => list.into_iter().for_each(|one| merge(map, one)),
        _ => {}
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(size).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(size).sum::<usize>(),
        _ => 1,
    }
}
