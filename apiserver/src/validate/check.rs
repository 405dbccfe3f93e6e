//! A place within an object that is checked: its value and its path, as errors
//! name it. Knows JSON and errors of fields; knows no kind.

use serde_json::Value;

use super::{Errors, names};
use crate::field::FieldError;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct At<'a> {
    pub value: &'a Value,
    pub path: String,
}

impl<'a> At<'a> {
    pub fn new(value: &'a Value, path: impl Into<String>) -> Self {
        Self {
            value,
            path: path.into(),
        }
    }

    /// What stands in a field, unless nothing does.
    pub fn get(&self, field: &str) -> Option<Self> {
        let value = self.value.get(field).filter(|value| !value.is_null())?;
        Some(Self::new(value, self.child(field)))
    }

    /// The path of a field.
    pub fn child(&self, field: &str) -> String {
        if self.path.is_empty() {
            return field.to_owned();
        }
        format!("{}.{field}", self.path)
    }

    /// The text of a field, empty without one.
    pub fn text(&self, field: &str) -> &'a str {
        self.value.get(field).and_then(Value::as_str).unwrap_or("")
    }

    pub fn number(&self, field: &str) -> Option<i64> {
        self.value.get(field).and_then(Value::as_i64)
    }

    pub fn flag(&self, field: &str) -> bool {
        self.value.get(field) == Some(&Value::Bool(true))
    }

    /// The items of a list at a field, none without one.
    pub fn items(&self, field: &str) -> Vec<Self> {
        let list = self.value.get(field).and_then(Value::as_array);
        let path = self.child(field);
        let items = list.into_iter().flatten().enumerate();
        items
            .map(|(index, value)| Self::new(value, format!("{path}[{index}]")))
            .collect()
    }

    /// The entries of a map at a field.
    pub fn entries(&self, field: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        let map = self.value.get(field).and_then(Value::as_object);
        map.into_iter().flatten()
    }

    /// The whole value as a text.
    pub fn as_text(&self) -> &'a str {
        self.value.as_str().unwrap_or("")
    }

    /// A text that must be there.
    pub fn required(&self, field: &str, errors: &mut Errors) {
        if self.text(field).is_empty() {
            errors.push(FieldError::required(self.child(field), ""));
        }
    }

    /// One of a few words, if any.
    pub fn one_of(&self, field: &str, known: &[&str], errors: &mut Errors) {
        let given = self.text(field);
        if self.get(field).is_some() && !known.contains(&given) {
            errors.push(FieldError::unsupported(self.child(field), given, known));
        }
    }

    /// One of a few words, which must be there.
    pub fn word(&self, field: &str, known: &[&str], errors: &mut Errors) {
        if self.text(field).is_empty() {
            errors.push(FieldError::required(self.child(field), ""));
        } else {
            self.one_of(field, known, errors);
        }
    }

    /// A number between two others, if there is one.
    pub fn within(&self, field: &str, low: i64, high: i64, why: &str, errors: &mut Errors) {
        if let Some(number) = self.number(field).filter(|one| !(low..=high).contains(one)) {
            errors.push(FieldError::invalid(self.child(field), &number.into(), why));
        }
    }

    pub fn not_negative(&self, field: &str, errors: &mut Errors) {
        let why = "must be greater than or equal to 0";
        self.within(field, 0, i64::MAX, why, errors);
    }

    /// What is wrong with the name in a field, which stands there.
    pub fn named(&self, field: &str, rule: crate::kind::NameRule, errors: &mut Errors) {
        let text = self.text(field);
        all(&self.child(field), text, rule(text), errors);
    }

    /// The identity of a user or a group.
    pub fn identity(&self, field: &str, errors: &mut Errors) {
        let high = i64::from(i32::MAX);
        self.within(
            field,
            0,
            high,
            "must be between 0 and 2147483647, inclusive",
            errors,
        );
    }

    /// The mode of a file.
    pub fn file_mode(&self, field: &str, errors: &mut Errors) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        self.within(field, 0, 0o777, why, errors);
    }

    /// The number of a port, or its name.
    pub fn port(&self, field: &str, errors: &mut Errors) {
        let path = self.child(field);
        match self.value.get(field) {
            Some(Value::String(name)) => all(&path, name, port_name(name), errors),
            Some(Value::Number(number)) => {
                super::pod::port(number.as_i64().unwrap_or(0), path, errors);
            }
            _ => super::pod::port(0, path, errors),
        }
    }
}

/// Of a share.
pub const NO_PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

/// Each thing that is wrong with a text.
pub fn all(at: &str, text: &str, wrong: Vec<String>, errors: &mut Errors) {
    for why in wrong {
        errors.push(FieldError::invalid(at, &text.into(), &why));
    }
}

/// What is wrong with the name of a port, RFC 6335.
pub fn port_name(name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.len() > 15 {
        wrong.push("must be no more than 15 characters".to_owned());
    }
    if name.is_empty() || !name.bytes().all(letters) {
        wrong.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// What is wrong with a key of a config map or a secret.
pub fn data_key(key: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if key.len() > 253 {
        wrong.push("must be no more than 253 characters".to_owned());
    }
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if key.is_empty() || !key.bytes().all(good) {
        wrong.push("a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')".to_owned());
    }
    match key {
        "." => wrong.push("must not be '.'".to_owned()),
        ".." => wrong.push("must not be '..'".to_owned()),
        _ if key.starts_with("..") => wrong.push("must not start with '..'".to_owned()),
        _ => {}
    }
    wrong
}

/// A path that goes down and never up.
pub fn descending(path: &str, at: &str, errors: &mut Errors) {
    if path.starts_with('/') {
        errors.push(FieldError::invalid(
            at,
            &path.into(),
            "must be a relative path",
        ));
    }
    no_steps_back(path, at, errors);
}

pub fn no_steps_back(path: &str, at: &str, errors: &mut Errors) {
    if path.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(
            at,
            &path.into(),
            "must not contain '..'",
        ));
    }
}

/// The same, and nothing that the kubelet keeps for itself.
pub fn unreserved(path: &str, at: &str, errors: &mut Errors) {
    descending(path, at, errors);
    if path.starts_with("..") && !path.starts_with("../") {
        errors.push(FieldError::invalid(
            at,
            &path.into(),
            "must not start with '..'",
        ));
    }
}

/// A label selector.
pub fn label_selector(selector: &At<'_>, errors: &mut Errors) {
    super::meta::labels(
        selector.value.get("matchLabels"),
        &selector.child("matchLabels"),
        errors,
    );
    for one in selector.items("matchExpressions") {
        let given = !one.items("values").is_empty();
        match one.text("operator") {
            "In" | "NotIn" if !given => errors.push(FieldError::required(
                one.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if given => errors.push(FieldError::forbidden(
                one.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(
                one.child("operator"),
                &other.into(),
                "not a valid selector operator",
            )),
        }
        one.named("key", names::qualified, errors);
        for value in one.items("values") {
            let text = value.as_text();
            all(&value.path, text, names::label_value(text), errors);
        }
    }
}

/// A field that must be an address.
pub fn address(at: &str, text: &str, errors: &mut Errors) {
    if text.parse::<std::net::IpAddr>().is_err() {
        errors.push(FieldError::invalid(
            at,
            &text.into(),
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ));
    }
}

/// What is wrong with the name of a target: `iqn.DATE.DOMAIN`, `eui.HEX`, `naa.HEX`.
pub fn qualified_target(name: &str) -> Option<&'static str> {
    let hex = |rest: &str, lengths: &[usize]| {
        lengths.contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let good = if let Some(rest) = name.strip_prefix("iqn") {
        let bytes = rest.as_bytes();
        let dated = bytes.len() > 9
            && bytes[0] == b'.'
            && bytes[1..5].iter().all(u8::is_ascii_digit)
            && bytes[5] == b'-'
            && bytes[6..8].iter().all(u8::is_ascii_digit)
            && bytes[8] == b'.';
        dated
            && rest[9..]
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-:_".contains(&byte))
    } else if let Some(rest) = name.strip_prefix("eui") {
        rest.strip_prefix('.').is_some_and(|rest| hex(rest, &[16]))
    } else if let Some(rest) = name.strip_prefix("naa") {
        rest.strip_prefix('.')
            .is_some_and(|rest| hex(rest, &[16, 32]))
    } else {
        return Some("must be valid format starting with iqn, eui, or naa");
    };
    (!good).then_some("must be valid format")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_ports_and_keys() {
        assert!(port_name("http-8080").is_empty());
        for (name, wrong) in [("", 2), ("80", 1), ("a--b", 1), ("-a", 1), ("a b", 1)] {
            assert_eq!(port_name(name).len(), wrong, "{name}");
        }
        assert!(data_key("..data.x").len() == 1 && data_key("a_B-1.x").is_empty());
    }

    #[test]
    fn paths_go_down() {
        for (path, wrong) in [("a/b", 0), ("/a", 1), ("a/../b", 1), ("..a", 1), ("/..", 2)] {
            let mut errors = Vec::new();
            unreserved(path, "p", &mut errors);
            assert_eq!(errors.len(), wrong, "{path}");
        }
    }

    #[test]
    fn places_are_named() {
        let value = json!({"a": [{"b": "x", "c": null}]});
        let root = At::new(&value, "");
        let item = &root.items("a")[0];
        assert_eq!(
            (item.text("b"), item.child("b")),
            ("x", "a[0].b".to_owned())
        );
        assert!(item.get("c").is_none());
    }
}
