//! What config maps and secrets must be.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    Errors,
    check::{At, all, data_key},
};
use crate::{
    codec,
    field::FieldError,
    limits,
    object::{self, Json},
};

fn bytes(value: &Value) -> Vec<u8> {
    STANDARD
        .decode(value.as_str().unwrap_or(""))
        .unwrap_or_default()
}

/// A config map.
pub fn config_map(value: &Json, errors: &mut Errors) {
    let whole = Value::Object(value.clone());
    let whole = At::new(&whole, "");
    let other = whole.get("binaryData");
    let mut size = 0;
    for (key, text) in whole.entries("data") {
        let path = format!("data[{key}]");
        all(&path, key, data_key(key), errors);
        if other
            .as_ref()
            .is_some_and(|other| other.value.get(key).is_some())
        {
            let why = "duplicate of key present in binaryData";
            errors.push(FieldError::invalid(path, &key.as_str().into(), why));
        }
        size += text.as_str().map_or(0, str::len);
    }
    for (key, data) in whole.entries("binaryData") {
        all(&format!("binaryData[{key}]"), key, data_key(key), errors);
        size += bytes(data).len();
    }
    if size > limits::DATA_BYTES_MAX {
        errors.push(FieldError::too_long("", limits::DATA_BYTES_MAX));
    }
}

/// A secret: its size, and what its type asks for.
pub fn secret(value: &Json, errors: &mut Errors) {
    const ACCOUNT: &str = "kubernetes.io/service-account.name";
    let whole = Value::Object(value.clone());
    let whole = At::new(&whole, "");
    let mut size = 0;
    for (key, data) in whole.entries("data") {
        all(&format!("data[{key}]"), key, data_key(key), errors);
        size += bytes(data).len();
    }
    if size > limits::DATA_BYTES_MAX {
        errors.push(FieldError::too_long("data", limits::DATA_BYTES_MAX));
    }
    let data = whole.get("data");
    let given = |key: &str| data.as_ref().and_then(|data| data.value.get(key));
    let missing = |key: &str| FieldError::required(format!("data[{key}]"), "");
    match whole.text("type") {
        "kubernetes.io/service-account-token"
            if object::str_at(value, &["metadata", "annotations", ACCOUNT]).is_empty() =>
        {
            let path = format!("metadata.annotations[{ACCOUNT}]");
            errors.push(FieldError::required(path, ""));
        }
        "kubernetes.io/dockercfg" => registries(given(".dockercfg"), ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => {
            registries(given(".dockerconfigjson"), ".dockerconfigjson", errors);
        }
        "kubernetes.io/basic-auth" => {
            let fields = ["username", "password"];
            if fields.iter().all(|field| given(field).is_none()) {
                errors.extend(fields.map(missing));
            }
        }
        "kubernetes.io/ssh-auth"
            if given("ssh-privatekey").is_none_or(|key| bytes(key).is_empty()) =>
        {
            errors.push(missing("ssh-privatekey"));
        }
        "kubernetes.io/tls" => {
            let fields = ["tls.crt", "tls.key"].into_iter();
            errors.extend(fields.filter(|field| given(field).is_none()).map(missing));
        }
        _ => {}
    }
}

/// Who may read from which registry: JSON of an object.
fn registries(given: Option<&Value>, key: &str, errors: &mut Errors) {
    let path = format!("data[{key}]");
    let Some(given) = given else {
        errors.push(FieldError::required(path, ""));
        return;
    };
    if let Err(why) = codec::json::any_map(&bytes(given)) {
        let shown = "<secret contents redacted>".into();
        errors.push(FieldError::invalid(path, &shown, &why));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(check: fn(&Json, &mut Errors), value: Value) -> Vec<String> {
        let mut errors = Errors::new();
        check(value.as_object().expect("an object"), &mut errors);
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn a_key_stands_in_one_of_two_maps() {
        let value = json!({"data": {"a": "b", "..": ""}, "binaryData": {"a": "Yg=="}});
        assert_eq!(wrong(config_map, value), ["data[..]", "data[a]"]);
    }

    #[test]
    fn a_secret_is_of_its_type() {
        for (kind, data, expected) in [
            ("Opaque", json!({}), vec![]),
            (
                "kubernetes.io/tls",
                json!({"tls.crt": ""}),
                vec!["data[tls.key]"],
            ),
            (
                "kubernetes.io/ssh-auth",
                json!({"ssh-privatekey": ""}),
                vec!["data[ssh-privatekey]"],
            ),
            ("kubernetes.io/basic-auth", json!({"password": ""}), vec![]),
            (
                "kubernetes.io/dockerconfigjson",
                json!({".dockerconfigjson": "e30="}),
                vec![],
            ),
            (
                "kubernetes.io/dockerconfigjson",
                json!({".dockerconfigjson": "e30"}),
                vec!["data[.dockerconfigjson]"],
            ),
        ] {
            let value = json!({"type": kind, "data": data});
            assert_eq!(wrong(secret, value), expected, "{kind}");
        }
    }
}
