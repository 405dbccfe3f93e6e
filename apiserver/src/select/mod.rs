//! Label and field selectors. Knows texts and maps; knows no object's form.

use serde_json::Value;

use crate::catalog::Resource;

/// What one label must be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Need {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

/// A label selector: all requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<(String, Need)>);

/// A field selector: all requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    field: String,
    value: String,
    equal: bool,
}

/// Both, as a request gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    pub labels: Labels,
    pub fields: Fields,
}

impl Selector {
    pub fn is_empty(&self) -> bool {
        self.labels.0.is_empty() && self.fields.0.is_empty()
    }

    /// Whether an object is selected: `label` and `field` look its values up.
    pub fn matches<'a>(
        &self,
        label: impl Fn(&str) -> Option<&'a str>,
        field: impl Fn(&str) -> Option<&'a str>,
    ) -> bool {
        self.labels.match_labels(label)
            && self.fields.0.iter().all(|requirement| {
                (field(&requirement.field).unwrap_or("") == requirement.value) == requirement.equal
            })
    }
}

fn holds(need: &Need, value: Option<&str>) -> bool {
    match (need, value) {
        (Need::In(values), Some(value)) => values.iter().any(|one| one == value),
        (Need::NotIn(values), Some(value)) => !values.iter().any(|one| one == value),
        (Need::NotIn(_), None) => true,
        (Need::Exists, value) => value.is_some(),
        (Need::Absent, value) => value.is_none(),
        (Need::Greater(bound), Some(value)) => {
            value.parse::<i64>().is_ok_and(|value| value > *bound)
        }
        (Need::Less(bound), Some(value)) => value.parse::<i64>().is_ok_and(|value| value < *bound),
        (_, None) => false,
    }
}

impl Labels {
    /// Reads `a=b,c!=d,e in (f,g),h,!i,j>1`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut needs = Vec::new();
        for part in split(text) {
            let part = part.trim();
            if !part.is_empty() {
                needs.push(requirement(part).ok_or_else(|| misread(part))?);
            } else if !text.trim().is_empty() {
                return Err(format!(
                    "unable to parse requirement: found ',', expected: identifier in {text:?}"
                ));
            }
        }
        Ok(Self(needs))
    }

    /// A `LabelSelector` as a selector; `None` when it is none.
    pub fn of(selector: &Value) -> Option<Self> {
        let mut parts = Vec::new();
        for (key, value) in selector
            .get("matchLabels")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            parts.push(format!("{key}={}", value.as_str()?));
        }
        for expression in selector
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let key = expression.get("key")?.as_str()?;
            let values: Vec<_> = expression
                .get("values")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            parts.push(match expression.get("operator")?.as_str()? {
                "In" => format!("{key} in ({})", values.join(",")),
                "NotIn" => format!("{key} notin ({})", values.join(",")),
                "Exists" => key.to_owned(),
                "DoesNotExist" => format!("!{key}"),
                _ => return None,
            });
        }
        Self::parse(&parts.join(",")).ok()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether labels are selected: `label` looks their values up.
    pub fn match_labels<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|(key, need)| holds(need, label(key)))
    }
}

/// Upstream's words for a requirement that is none.
fn misread(part: &str) -> String {
    let mut words = part.split_whitespace();
    match (words.next(), words.next()) {
        (Some(first), Some(second))
            if !first.contains(['=', '!', '<', '>', '(']) && !matches!(second, "in" | "notin") =>
        {
            format!(
                "unable to parse requirement: found '{second}', expected: in, notin, =, ==, !=, gt, lt"
            )
        }
        _ => format!("unable to parse requirement: {part:?}"),
    }
}

/// Splits at the commas that stand outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_i32);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(part: &str) -> Option<(String, Need)> {
    if let Some(key) = part.strip_prefix('!') {
        return Some((label_key(key.trim())?, Need::Absent));
    }
    if let Some(open) = part.find('(') {
        let values = part.get(open + 1..)?.trim_end().strip_suffix(')')?;
        let values: Option<Vec<_>> = values
            .split(',')
            .map(|value| label_value(value.trim()))
            .collect();
        let (key, operator) = part[..open].trim_end().rsplit_once(char::is_whitespace)?;
        let key = label_key(key.trim())?;
        return match operator {
            "in" => Some((key, Need::In(values?))),
            "notin" => Some((key, Need::NotIn(values?))),
            _ => None,
        };
    }
    for (operator, need) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((key, value)) = part.split_once(operator) {
            let (key, value) = (label_key(key.trim())?, vec![label_value(value.trim())?]);
            return Some((
                key,
                if need {
                    Need::In(value)
                } else {
                    Need::NotIn(value)
                },
            ));
        }
    }
    if let Some((key, value)) = part.split_once('>') {
        return Some((
            label_key(key.trim())?,
            Need::Greater(value.trim().parse().ok()?),
        ));
    }
    if let Some((key, value)) = part.split_once('<') {
        return Some((
            label_key(key.trim())?,
            Need::Less(value.trim().parse().ok()?),
        ));
    }
    Some((label_key(part)?, Need::Exists))
}

fn label_key(text: &str) -> Option<String> {
    let name = text.rsplit_once('/').map_or(text, |(_, name)| name);
    (!name.is_empty()
        && name.len() <= 63
        && text.len() <= 317
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte)))
    .then(|| text.to_owned())
}

fn label_value(text: &str) -> Option<String> {
    (text.len() <= 63
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)))
    .then(|| text.to_owned())
}

/// Upstream's words for a field that no selector may name.
fn unknown_field(field: &str, resource: &Resource) -> String {
    let of = match &*resource.kind {
        _ if resource.selectable.is_empty() => {
            return format!(
                "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            );
        }
        "Job" => return format!("field label {field:?} not supported for Job"),
        "ResourceSlice" => format!(" for {}, Kind=ResourceSlice", resource.api_version()),
        _ => String::new(),
    };
    format!("field label not supported{of}: {field}")
}

impl Fields {
    /// Reads `a=b,c!=d`; a backslash takes the next character as it is.
    pub fn parse(text: &str, resource: &Resource) -> Result<Self, String> {
        let mut requirements = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = unescaped(rest, ',').unwrap_or(rest.len());
            let part = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or("");
            if part.is_empty() {
                continue;
            }
            let at = unescaped(part, '=')
                .ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{part}'"))?;
            let (left, right) = (&part[..at], &part[at + 1..]);
            let right = right.strip_prefix('=').unwrap_or(right);
            let (field, equal) = match left.strip_suffix('!') {
                Some(field) => (field, false),
                None => (left, true),
            };
            let field = field.trim();
            let known = field == "metadata.name"
                || (field == "metadata.namespace"
                    && (resource.namespaced || resource.selectable.is_empty())
                    && resource.kind != "PodCertificateRequest")
                || resource.selectable.iter().any(|one| one.name == field);
            if !known {
                return Err(unknown_field(field, resource));
            }
            requirements.push(Requirement {
                field: field.to_owned(),
                value: plain(right)
                    .ok_or_else(|| format!("invalid field selector: {right:?}: a lone '\\'"))?,
                equal,
            });
        }
        Ok(Self(requirements))
    }

    /// The same in the words of another version of the resource, whose fields
    /// stand in the same order.
    #[must_use]
    pub fn renamed(mut self, from: &Resource, to: &Resource) -> Self {
        for requirement in &mut self.0 {
            let mut pairs = from.selectable.iter().zip(to.selectable.iter());
            if let Some((_, known)) = pairs.find(|(one, _)| one.name == requirement.field) {
                requirement.field = known.name.to_owned();
            }
        }
        self
    }

    /// What a field must be, if that is said.
    pub fn value(&self, field: &str) -> Option<&str> {
        let mut needs = self.0.iter();
        let need = needs.find(|need| need.equal && need.field == field)?;
        Some(&need.value)
    }

    /// The only name that can match, if there is one.
    pub fn name(&self) -> Option<&str> {
        self.0
            .iter()
            .find(|one| one.equal && one.field == "metadata.name")
            .map(|one| one.value.as_str())
    }
}

fn unescaped(text: &str, wanted: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let found = !escaped && c == wanted;
        escaped = !escaped && c == '\\';
        found.then_some(at)
    })
}

/// A value without its escapes; `None` when it ends within one.
fn plain(text: &str) -> Option<String> {
    let mut escaped = false;
    let plain = text
        .chars()
        .filter(|c| {
            escaped = !escaped && *c == '\\';
            !escaped
        })
        .collect();
    (!escaped).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let selector = Selector {
            labels: Labels::parse(selector).expect("a selector"),
            ..Selector::default()
        };
        selector.matches(
            |key| {
                labels
                    .iter()
                    .find(|(name, _)| *name == key)
                    .map(|(_, value)| *value)
            },
            |_| None,
        )
    }

    #[test]
    fn label_selectors() {
        let labels = &[("app", "web"), ("tier", "2"), ("example.com/x", "")];
        for (selector, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app = web , tier=2", true),
            ("app!=web", false),
            ("none!=web", true),
            ("app in (db, web)", true),
            ("app notin (db,web)", false),
            ("none notin (a)", true),
            ("app", true),
            ("!app", false),
            ("!none", true),
            ("tier>1", true),
            ("tier<2", false),
            ("example.com/x=", true),
            ("app in (web),tier in (1,2)", true),
            ("none in (a)", false),
        ] {
            assert_eq!(selects(selector, labels), expected, "{selector}");
        }
        for selector in [
            "a b",
            "a=b=c",
            "=",
            "a in (b",
            "a within (b)",
            ",",
            "a,,b",
            "a>x",
            "ä=1",
            "!",
            "a=(b",
        ] {
            assert!(Labels::parse(selector).is_err(), "{selector}");
        }
    }

    #[test]
    fn field_selectors() {
        let pods = crate::kinds::built_in().own("", "v1", "pods").clone();
        let fields = Fields::parse(
            "spec.nodeName=a\\,b,status.phase!=Failed,metadata.name==x",
            &pods,
        )
        .expect("a selector");
        assert_eq!(fields.name(), Some("x"));
        let selector = Selector {
            fields,
            ..Selector::default()
        };
        let get = |phase: &'static str| {
            selector.matches(
                |_| None,
                |field| match field {
                    "spec.nodeName" => Some("a,b"),
                    "metadata.name" => Some("x"),
                    _ => Some(phase),
                },
            )
        };
        assert!(get("Running") && !get("Failed"));
        assert!(Fields::parse("spec.image=a", &pods).is_err());
        assert!(Fields::parse("spec.nodeName", &pods).is_err());
    }
}
