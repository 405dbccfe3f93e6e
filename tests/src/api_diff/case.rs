//! What a case is and how it is written.
//!
//! A file holds a group: a mapping of case names to lists of steps. A step is a
//! mapping with one method and its path, and any of:
//!
//! - `body`: a mapping is sent as JSON, a string as it is. In it
//!   `$sample: KIND` stands for the least object of a kind, `$kept: NAME` for
//!   what an earlier step kept, both with the other keys merged over it, and
//!   `{$repeat: [TEXT, TIMES, BEFORE, AFTER]}` for a long string.
//! - `as`, `accept`: media types, or short names of them; `headers`: more.
//! - `keep: NAME`: the answer is kept whole; `save: {NAME: PATH}`: a part of it.
//! - `compare`: `code`, or a list of paths; the whole answer without it.
//! - `events`: how many events a watch is read for.
//!
//! `${NAME}` stands for what was saved, `${ns}` for the case's own namespace. A
//! path without a slash in front begins with a plural, as `pods/a/status`, and
//! is of that namespace.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value};

use super::yaml;

/// Requests in their order, in a namespace of their own.
#[derive(Clone, Debug)]
pub struct Case {
    pub group: String,
    pub name: String,
    pub steps: Vec<CaseStep>,
}

impl Case {
    pub fn new(group: &str, name: impl Into<String>, steps: Vec<CaseStep>) -> Self {
        Self {
            group: group.to_owned(),
            name: name.into(),
            steps,
        }
    }

    /// What the command line calls it.
    pub fn id(&self) -> String {
        format!("{}/{}", self.group, self.name)
    }

    /// Its namespace: the same on both servers, and of no other case.
    pub fn namespace(&self) -> String {
        let name: String = self
            .id()
            .to_ascii_lowercase()
            .chars()
            .map(|letter| {
                if letter.is_ascii_alphanumeric() {
                    letter
                } else {
                    '-'
                }
            })
            .collect();
        // Names longer than a label keep their ends apart by a checksum.
        if name.len() <= 40 {
            return name;
        }
        format!("{}-{:08x}", &name[..31], checksum(&name))
    }
}

/// FNV-1a.
pub fn checksum(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |sum: u32, byte| {
        (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// What a step does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// One request and its whole answer.
    Request,
    /// A watch, read for some events and closed.
    Watch,
    /// A watch that stays open, to be read by `Read`.
    Open,
    /// Reads a watch that an earlier step opened; its path is that one's `keep`.
    Read,
}

/// What of two answers must be equal, beside their codes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Compared {
    #[default]
    Whole,
    /// The whole answer with the record of who owns which field.
    Managed,
    /// The code, and the reason of a failure.
    Code,
    /// Paths of dots and indexes.
    Paths(Vec<String>),
}

/// One request.
#[derive(Clone, Debug)]
pub struct CaseStep {
    pub action: Action,
    pub method: String,
    pub path: String,
    pub body: Value,
    pub media: Option<String>,
    pub accept: Option<String>,
    pub headers: Vec<(String, String)>,
    pub keep: Option<String>,
    pub save: Vec<(String, String)>,
    pub compared: Compared,
    pub events: usize,
}

impl CaseStep {
    pub fn new(method: &str, path: impl Into<String>) -> Self {
        let action = match method {
            "WATCH" => Action::Watch,
            "OPEN" => Action::Open,
            "READ" => Action::Read,
            _ => Action::Request,
        };
        let method = if action == Action::Request {
            method
        } else {
            "GET"
        };
        Self {
            action,
            method: method.to_owned(),
            path: path.into(),
            body: Value::Null,
            media: None,
            accept: None,
            headers: Vec::new(),
            keep: None,
            save: Vec::new(),
            compared: Compared::Whole,
            events: 1,
        }
    }

    #[must_use]
    pub fn body(mut self, body: Value) -> Self {
        self.body = body;
        self
    }

    /// The media type of the body, or a short name of it.
    #[must_use]
    pub fn media(mut self, media: &str) -> Self {
        self.media = Some(media_type(media).to_owned());
        self
    }

    #[must_use]
    pub fn accept(mut self, media: &str) -> Self {
        self.accept = Some(media_type(media).to_owned());
        self
    }

    #[must_use]
    pub fn keep(mut self, name: &str) -> Self {
        self.keep = Some(name.to_owned());
        self
    }

    #[must_use]
    pub fn save(mut self, name: &str, path: &str) -> Self {
        self.save.push((name.to_owned(), path.to_owned()));
        self
    }

    #[must_use]
    pub fn events(mut self, events: usize) -> Self {
        self.events = events;
        self
    }

    #[must_use]
    pub fn managed(mut self) -> Self {
        self.compared = Compared::Managed;
        self
    }

    #[must_use]
    pub fn code_only(mut self) -> Self {
        self.compared = Compared::Code;
        self
    }
}

/// The cases of a file.
///
/// # Errors
/// It is not written as the module says.
pub fn read(group: &str, text: &str) -> Result<Vec<Case>> {
    let Value::Object(cases) = yaml::parse(text)? else {
        bail!("no mapping of cases");
    };
    cases
        .into_iter()
        .map(|(name, steps)| {
            let Value::Array(steps) = steps else {
                bail!("{group}/{name}: no list of steps");
            };
            ensure!(!steps.is_empty(), "{group}/{name}: no step");
            let steps = steps
                .into_iter()
                .enumerate()
                .map(|(index, one)| {
                    step(one).with_context(|| format!("{group}/{name}/{}", index + 1))
                })
                .collect::<Result<_>>()?;
            Ok(Case::new(group, name, steps))
        })
        .collect()
}

const METHODS: [&str; 10] = [
    "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "WATCH", "OPEN", "READ",
];

fn step(written: Value) -> Result<CaseStep> {
    let Value::Object(mut fields) = written else {
        bail!("no mapping");
    };
    let method = METHODS
        .into_iter()
        .find(|method| fields.contains_key(*method))
        .context("no method")?;
    let path = text(&mut fields, method)?.context("no path")?;
    let mut step = CaseStep::new(method, path);
    if method == "PATCH" {
        step.media = Some(media_type("merge").to_owned());
    }
    if let Some(body) = fields.remove("body") {
        step.body = body;
    }
    if let Some(media) = text(&mut fields, "as")? {
        step = step.media(&media);
    }
    if let Some(media) = text(&mut fields, "accept")? {
        step = step.accept(&media);
    }
    step.keep = text(&mut fields, "keep")?;
    step.headers = pairs(&mut fields, "headers")?;
    step.save = pairs(&mut fields, "save")?;
    if let Some(events) = fields.remove("events") {
        let events = events.as_u64().context("events: no number")?;
        step.events = usize::try_from(events)?;
    }
    step.compared = match fields.remove("compare") {
        None => Compared::Whole,
        Some(Value::String(word)) if word == "code" => Compared::Code,
        Some(Value::String(word)) if word == "managed" => Compared::Managed,
        Some(Value::Array(paths)) => Compared::Paths(
            paths
                .into_iter()
                .map(|path| path.as_str().map(str::to_owned).context("no path"))
                .collect::<Result<_>>()?,
        ),
        Some(other) => bail!("compare: {other}"),
    };
    ensure!(fields.is_empty(), "not understood: {fields:?}");
    Ok(step)
}

fn text(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>> {
    match fields.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => bail!("{name}: no string: {other}"),
    }
}

fn pairs(fields: &mut Map<String, Value>, name: &str) -> Result<Vec<(String, String)>> {
    let Some(value) = fields.remove(name) else {
        return Ok(Vec::new());
    };
    let Value::Object(value) = value else {
        bail!("{name}: no mapping");
    };
    value
        .into_iter()
        .map(|(key, value)| match value {
            Value::String(value) => Ok((key, value)),
            other => bail!("{name}.{key}: no string: {other}"),
        })
        .collect()
}

/// The media type that a short name stands for.
fn media_type(name: &str) -> &str {
    match name {
        "json" => "application/json",
        "yaml" => "application/yaml",
        "proto" => "application/vnd.kubernetes.protobuf",
        "merge" => "application/merge-patch+json",
        "json-patch" => "application/json-patch+json",
        "strategic" => "application/strategic-merge-patch+json",
        "apply" => "application/apply-patch+yaml",
        "table" => "application/json;as=Table;v=v1;g=meta.k8s.io",
        "partial" => "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        "partial-list" => "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
        whole => whole,
    }
}
