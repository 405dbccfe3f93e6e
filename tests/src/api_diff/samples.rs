//! The least object that upstream accepts of every kind, and where the kind is
//! served: data, in `kinds.yaml`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::yaml;

/// The file.
pub const TEXT: &str = include_str!("../../api_cases/samples/kinds.yaml");

/// One kind.
#[derive(Clone, Debug)]
pub struct Sample {
    pub kind: String,
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    pub plural: String,
    pub namespaced: bool,
    /// A whole object named `${ns}`.
    pub object: Value,
    /// A merge patch of the object that upstream accepts, null when there is none.
    pub change: Value,
    /// A merge patch of the status that upstream accepts.
    pub status: Value,
}

impl Sample {
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Where objects are listed, those of the case's namespace if they have one.
    pub fn path(&self) -> String {
        let root = if self.group.is_empty() {
            "/api"
        } else {
            "/apis"
        };
        let scope = if self.namespaced {
            "namespaces/${ns}/"
        } else {
            ""
        };
        format!("{root}/{}/{scope}{}", self.api_version(), self.plural)
    }

    /// Where they are listed in all namespaces.
    pub fn everywhere(&self) -> String {
        self.path().replace("namespaces/${ns}/", "")
    }
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Samples(Vec<Sample>);

impl Samples {
    /// Those of the tree.
    ///
    /// # Errors
    /// The file is not written as it should be.
    pub fn read() -> Result<Self> {
        let Value::Object(kinds) = yaml::parse(TEXT)? else {
            bail!("kinds.yaml: no mapping");
        };
        let kinds = kinds
            .into_iter()
            .map(|(name, fields)| sample(&name, &fields).with_context(|| name.clone()))
            .collect::<Result<_>>()?;
        Ok(Self(kinds))
    }

    pub fn all(&self) -> &[Sample] {
        &self.0
    }

    /// By kind, or by `Kind.group` where two groups have one.
    pub fn kind(&self, name: &str) -> Option<&Sample> {
        let (kind, group) = name.split_once('.').unwrap_or((name, ""));
        self.0
            .iter()
            .find(|one| one.kind == kind && (group.is_empty() || one.group == group))
    }

    /// By group, version and plural.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Sample> {
        self.0
            .iter()
            .find(|one| (&*one.group, &*one.version, &*one.plural) == (group, version, plural))
    }

    /// The path that begins with a plural, or with `plural.group`.
    ///
    /// # Errors
    /// No kind is called so.
    pub fn expand(&self, path: &str) -> Result<String> {
        if path.starts_with('/') {
            return Ok(path.to_owned());
        }
        let end = path.find(['/', '?']).unwrap_or(path.len());
        let (name, rest) = path.split_at(end);
        let (plural, group) = name.split_once('.').unwrap_or((name, ""));
        let sample = self
            .0
            .iter()
            .find(|one| one.plural == plural && (group.is_empty() || one.group == group))
            .with_context(|| format!("no kind {name}"))?;
        Ok(format!("{}{rest}", sample.path()))
    }
}

fn sample(name: &str, fields: &Value) -> Result<Sample> {
    let fields: BTreeMap<String, Value> = serde_json::from_value(fields.clone())?;
    if let Some(other) = fields
        .keys()
        .find(|key| !["resource", "cluster", "object", "change", "status"].contains(&key.as_str()))
    {
        bail!("not understood: {other}");
    }
    let resource = fields
        .get("resource")
        .and_then(Value::as_str)
        .context("no resource")?;
    let mut parts = resource.rsplitn(3, '/');
    let plural = parts.next().context("no plural")?.to_owned();
    let version = parts.next().context("no version")?.to_owned();
    let group = parts.next().unwrap_or_default().to_owned();
    let kind = name.split('.').next().unwrap_or(name).to_owned();
    let mut object = fields.get("object").cloned().context("no object")?;
    let api_version = if group.is_empty() {
        version.clone()
    } else {
        format!("{group}/{version}")
    };
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.clone().into();
    if object["metadata"]["name"].is_null() {
        object["metadata"]["name"] = "${ns}".into();
    }
    Ok(Sample {
        kind,
        group,
        version,
        plural,
        namespaced: !fields.contains_key("cluster"),
        object,
        change: fields.get("change").cloned().unwrap_or_default(),
        status: fields.get("status").cloned().unwrap_or_default(),
    })
}
