//! Upstream's `EncryptionConfiguration`, read and checked as upstream does. Where
//! something is wrong, the error names the place and never the value: it may be a
//! key.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use crate::codec::yaml;

/// Which providers some resources have.
pub(super) struct Rule {
    pub resources: Vec<Name>,
    pub providers: Vec<Spec>,
}

/// A resource, `*.GROUP` or `*.*`.
pub(super) struct Name {
    pub group: String,
    pub plural: String,
    pub text: String,
}

impl Name {
    pub fn is(&self, (group, plural): (&str, &str)) -> bool {
        self.group == group && self.plural == plural
    }
}

/// A provider as it is configured.
pub(super) enum Spec {
    Identity,
    Gcm(Vec<Key>),
    Cbc(Vec<Key>),
    SecretBox(Vec<Key>),
}

/// A named secret. It has no `Debug`: nobody is to print it.
pub(super) struct Key {
    pub name: String,
    pub secret: Vec<u8>,
}

/// Upstream's sizes of keys, bytes.
const AES: &[usize] = &[16, 24, 32];
const SECRET_BOX: &[usize] = &[32];

/// The rules of a text in YAML or JSON.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Rule>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is no text".to_owned())?;
    // A parser's words may hold what it read.
    let (value, twice) = yaml::read(text).map_err(|_| "it is no YAML".to_owned())?;
    if twice.is_some() {
        return Err("a key stands twice".to_owned());
    }
    let top = fields(&value, "", &["apiVersion", "kind", "resources"])?;
    let said = |name: &str| top.get(name).and_then(Value::as_str);
    let version = "apiserver.config.k8s.io/v1";
    if said("kind") != Some("EncryptionConfiguration") || said("apiVersion") != Some(version) {
        return Err(format!("it is no EncryptionConfiguration of {version}"));
    }
    let rules = list(top, "", "resources")?;
    let rules = rules.iter().enumerate();
    rules
        .map(|(index, one)| rule(one, &format!("resources[{index}]")))
        .collect()
}

fn rule(value: &Value, path: &str) -> Result<Rule, String> {
    let map = fields(value, path, &["resources", "providers"])?;
    let mut resources = Vec::new();
    for (index, one) in list(map, path, "resources")?.iter().enumerate() {
        let at = format!("{path}.resources[{index}]");
        let text = one
            .as_str()
            .ok_or_else(|| format!("{at}: a text is expected"))?;
        resources.push(name(text).map_err(|why| format!("{at}: Invalid value: {text:?}: {why}"))?);
    }
    overlap(&resources).map_err(|why| format!("{path}.resources: Invalid value: {why}"))?;
    let providers = list(map, path, "providers")?.iter().enumerate();
    let providers = providers
        .map(|(index, one)| provider(one, &format!("{path}.providers[{index}]")))
        .collect::<Result<_, _>>()?;
    Ok(Rule {
        resources,
        providers,
    })
}

/// As upstream takes a resource apart, and what it does not take.
fn name(text: &str) -> Result<Name, &'static str> {
    let (plural, group) = text.split_once('.').unwrap_or((text, ""));
    let why = if text.chars().any(char::is_uppercase) {
        "resource name should not contain capital letters"
    } else if text == "*" {
        "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
    } else if matches!(
        text,
        "apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations"
    ) {
        "resources which do not have REST API/s cannot be encrypted"
    } else if group == "events.k8s.io" {
        "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file"
    } else if group == "extensions" {
        "'extensions' group has been removed and cannot be used for encryption"
    } else if group == "*" && plural != "*" {
        "encrypting the same resource across groups is not supported"
    } else {
        return Ok(Name {
            group: group.to_owned(),
            plural: plural.to_owned(),
            text: text.to_owned(),
        });
    };
    Err(why)
}

fn overlap(names: &[Name]) -> Result<(), &'static str> {
    for (index, one) in names.iter().enumerate() {
        for other in &names[index + 1..] {
            if one.text == other.text {
                return Err("the same resource cannot be specified multiple times");
            }
            let all = |name: &Name| name.is(("*", "*"));
            let of_group = one.group == other.group && (one.plural == "*" || other.plural == "*");
            if all(one) || all(other) || of_group {
                return Err(
                    "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked",
                );
            }
        }
    }
    Ok(())
}

fn provider(value: &Value, path: &str) -> Result<Spec, String> {
    let known = ["identity", "aesgcm", "aescbc", "secretbox", "kms"];
    let map = fields(value, path, &known)?;
    let given: Vec<&str> = known
        .into_iter()
        .filter(|name| map.get(*name).is_some_and(|value| !value.is_null()))
        .collect();
    let one = match given[..] {
        [one] => one,
        [] => {
            return Err(format!(
                "{path}: Invalid value: provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity"
            ));
        }
        _ => {
            return Err(format!(
                "{path}: Invalid value: more than one provider specified in a single element, should split into different list elements"
            ));
        }
    };
    let (inner, at) = (&map[one], format!("{path}.{one}"));
    match one {
        "identity" => fields(inner, &at, &[]).map(|_| Spec::Identity),
        "aesgcm" => keys(inner, &at, AES).map(Spec::Gcm),
        "aescbc" => keys(inner, &at, AES).map(Spec::Cbc),
        "secretbox" => keys(inner, &at, SECRET_BOX).map(Spec::SecretBox),
        _ => Err(format!("{at}: a KMS is not supported yet")),
    }
}

fn keys(value: &Value, path: &str, sizes: &[usize]) -> Result<Vec<Key>, String> {
    let map = fields(value, path, &["keys"])?;
    let all = list(map, path, "keys")?.iter().enumerate();
    all.map(|(index, one)| {
        let at = format!("{path}.keys[{index}]");
        let map = fields(one, &at, &["name", "secret"])?;
        let text = |field: &str| {
            let text = map.get(field).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).ok_or_else(|| {
                format!("{at}.{field}: Required value: {field} is a mandatory field for a key")
            })
        };
        let wrong = |why: String| format!("{at}.secret: Invalid value: \"REDACTED\": {why}");
        let name = text("name")?.to_owned();
        let secret = STANDARD
            .decode(text("secret")?)
            .map_err(|_| wrong("secrets must be base64 encoded".to_owned()))?;
        if !sizes.contains(&secret.len()) {
            let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
            return Err(wrong(format!(
                "secret is not of the expected length, got {}, expected one of [{}]",
                secret.len(),
                sizes.join(" ")
            )));
        }
        Ok(Key { name, secret })
    })
    .collect()
}

/// A map, all of whose fields are known.
fn fields<'a>(
    value: &'a Value,
    path: &str,
    known: &[&str],
) -> Result<&'a Map<String, Value>, String> {
    let at = if path.is_empty() {
        "the document"
    } else {
        path
    };
    let map = value
        .as_object()
        .ok_or_else(|| format!("{at}: a map is expected"))?;
    match map.keys().find(|name| !known.contains(&name.as_str())) {
        Some(_) => Err(format!("{at}: a field is none of [{}]", known.join(" "))),
        None => Ok(map),
    }
}

/// A list that is there and not empty.
fn list<'a>(map: &'a Map<String, Value>, path: &str, field: &str) -> Result<&'a [Value], String> {
    let at = if path.is_empty() {
        field.to_owned()
    } else {
        format!("{path}.{field}")
    };
    match map.get(field) {
        Some(Value::Array(list)) if !list.is_empty() => Ok(list),
        None | Some(Value::Null | Value::Array(_)) => Err(format!(
            "{at}: Required value: at least one {field} is required"
        )),
        Some(_) => Err(format!("{at}: a list is expected")),
    }
}
