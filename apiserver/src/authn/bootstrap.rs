//! Bootstrap tokens: secrets in `kube-system`, by which nodes that have nothing
//! else join.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Identity;
use crate::{codec, registry::Registry};

const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";
/// Upstream's longest name of a further group, after the prefix, less its last
/// letter.
const GROUP_BYTES_MAX: usize = 255;

/// Whose token it is, if there is such a secret.
pub async fn token(registry: &Registry, token: &str) -> Option<Identity> {
    let (id, secret) = parts(token)?;
    let secrets = registry.catalog().own("", "v1", "secrets").clone();
    let cache = registry.cache(&secrets);
    let entry = cache.get(&format!("kube-system/bootstrap-token-{id}"))?;
    if entry.deleting {
        return None;
    }
    let value: Value = serde_json::from_slice(&entry.json()).ok()?;
    match identity(&value, id, secret, codec::now().0) {
        Ok(identity) => Some(identity),
        Err(why) => {
            tracing::debug!(id, why, "a bootstrap token is not taken");
            None
        }
    }
}

/// The id and the secret.
fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |part: &str, length: usize| {
        part.len() == length
            && part
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
    };
    (plain(id, 6) && plain(secret, 16)).then_some((id, secret))
}

fn identity(object: &Value, id: &str, secret: &str, now: i64) -> Result<Identity, &'static str> {
    if object["type"] != TYPE {
        return Err("the secret is of another type");
    }
    let data = |key: &str| {
        let text = object["data"][key].as_str()?;
        String::from_utf8(BASE64.decode(text).ok()?).ok()
    };
    let told = data("token-secret").unwrap_or_default();
    // Hashes, so that no comparison tells how much of it was right.
    if Sha256::digest(told.as_bytes()) != Sha256::digest(secret.as_bytes()) {
        return Err("the secret part is another");
    }
    if data("token-id").as_deref() != Some(id) {
        return Err("the secret is of another id");
    }
    if let Some(expiration) = data("expiration").filter(|text| !text.is_empty()) {
        let ends = codec::parse_time(&expiration).map_or(0, |(seconds, _)| seconds);
        if ends <= now {
            return Err("it has expired");
        }
    }
    if data("usage-bootstrap-authentication").as_deref() != Some("true") {
        return Err("it is not for authentication");
    }
    let mut groups = BTreeSet::from([GROUP.to_owned()]);
    let further = data("auth-extra-groups").unwrap_or_default();
    for group in further.split(',').filter(|_| !further.is_empty()) {
        if !may_be_group(group) {
            return Err("it names a group that it may not");
        }
        groups.insert(group.to_owned());
    }
    Ok(Identity {
        user: format!("system:bootstrap:{id}"),
        groups: groups.into_iter().collect(),
        ..Identity::default()
    })
}

fn may_be_group(group: &str) -> bool {
    let rest = group
        .strip_prefix(GROUP)
        .and_then(|rest| rest.strip_prefix(':'));
    let plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    rest.is_some_and(|rest| {
        rest.len() <= GROUP_BYTES_MAX + 1
            && rest.bytes().last().is_some_and(plain)
            && rest
                .bytes()
                .all(|byte| plain(byte) || matches!(byte, b':' | b'-'))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(more: &[(&str, &str)]) -> Value {
        let plain = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
        ];
        let mut object = json!({"type": TYPE, "data": {}});
        for (key, value) in plain.iter().chain(more) {
            object["data"][key] = BASE64.encode(value).into();
        }
        object
    }

    fn of(more: &[(&str, &str)]) -> Result<Identity, &'static str> {
        identity(&secret(more), "abcdef", "0123456789abcdef", 1_000)
    }

    #[test]
    fn a_secret_makes_a_token() {
        let groups = "system:bootstrappers:workers,system:bootstrappers:a";
        let plain = of(&[("auth-extra-groups", groups)]).expect("a token");
        assert_eq!(plain.user, "system:bootstrap:abcdef");
        assert_eq!(
            plain.groups,
            [
                "system:bootstrappers",
                "system:bootstrappers:a",
                "system:bootstrappers:workers"
            ]
        );
        assert!(of(&[("expiration", "2100-01-01T00:00:00Z")]).is_ok());
    }

    #[test]
    fn what_is_not_whole_makes_none() {
        for more in [
            ("token-secret", "0123456789abcdeg"),
            ("token-id", "abcdeg"),
            ("expiration", "1970-01-01T00:00:01Z"),
            ("expiration", "tomorrow"),
            ("usage-bootstrap-authentication", "false"),
            ("auth-extra-groups", "system:masters"),
            ("auth-extra-groups", "system:bootstrappers:"),
        ] {
            assert!(of(&[more]).is_err(), "{more:?}");
        }
        let mut other = secret(&[]);
        other["type"] = "Opaque".into();
        assert!(identity(&other, "abcdef", "0123456789abcdef", 0).is_err());
        assert!(parts("abcdef.0123456789abcdef").is_some());
        for text in [
            "abcdef.0123456789abcde",
            "ABCDEF.0123456789abcdef",
            "abcdef",
            "a.b",
        ] {
            assert!(parts(text).is_none(), "{text}");
        }
    }
}
