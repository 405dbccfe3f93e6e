//! Requests in another's name, as their headers ask for it. Whom upstream lets do
//! so in part, by constrained rights, is not read yet: members of
//! `system:masters` may take any name, and nobody else one.

use std::collections::BTreeMap;

use http::HeaderMap;

use super::route;
use crate::{
    authn::{Identity, MASTERS},
    error::ApiError,
};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// Whom a request is to be taken for, if for somebody else.
pub fn wanted(headers: &HeaderMap, asking: &Identity) -> Result<Option<Identity>, ApiError> {
    let Some(wanted) = named(headers) else {
        return Ok(None);
    };
    if wanted.user.is_empty() {
        return Err(ApiError::bad_request(format!(
            "requested {} without impersonating a user name",
            shown(&wanted)
        )));
    }
    if !asking.is_in(MASTERS) {
        // Not to be done in the asker's own name instead.
        let why = format!(
            "User {:?} cannot impersonate: members of {MASTERS} alone may",
            asking.user
        );
        return Err(ApiError::denied("", "users", &wanted.user, &why));
    }
    Ok(Some(wanted.impersonated()))
}

/// What the headers say.
fn named(headers: &HeaderMap) -> Option<Identity> {
    let text = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or("").to_owned()
    };
    let mut wanted = Identity {
        user: text(USER),
        uid: text(UID),
        ..Identity::default()
    };
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let Ok(value) = value.to_str() else {
            continue;
        };
        if name == GROUP {
            wanted.groups.push(value.to_owned());
        } else if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            let key = route::decoded(key).into_owned();
            extra.entry(key).or_default().push(value.to_owned());
        }
    }
    wanted.extra = extra;
    (wanted != Identity::default()).then_some(wanted)
}

/// As Go shows its own type.
fn shown(wanted: &Identity) -> String {
    let list = |texts: &[String]| match texts {
        [] => "[]string(nil)".to_owned(),
        texts => {
            let texts: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
            format!("[]string{{{}}}", texts.join(", "))
        }
    };
    let extra = match wanted.extra.is_empty() {
        true => "(nil)".to_owned(),
        false => {
            let extra = wanted.extra.iter();
            let extra: Vec<String> = extra
                .map(|(key, values)| format!("{key:?}:{}", list(values)))
                .collect();
            format!("{{{}}}", extra.join(", "))
        }
    };
    format!(
        "&user.DefaultInfo{{Name:\"\", UID:{:?}, Groups:{}, Extra:map[string][]string{extra}}}",
        wanted.uid,
        list(&wanted.groups)
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn asked(
        headers: &[(&'static str, &'static str)],
        group: &str,
    ) -> Result<Option<Identity>, ApiError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let asking = Identity {
            user: "x".to_owned(),
            groups: vec![group.to_owned()],
            ..Identity::default()
        };
        wanted(&map, &asking)
    }

    #[test]
    fn a_master_takes_any_name() {
        let who = asked(
            &[
                (USER, "alice"),
                (GROUP, "a"),
                (GROUP, "b"),
                ("impersonate-extra-foo%2fbar", "z"),
            ],
            MASTERS,
        );
        let who = who.expect("allowed").expect("somebody");
        assert_eq!(who.groups, ["a", "b", "system:authenticated"]);
        assert_eq!(who.extra["foo/bar"], ["z"]);
        let account = asked(&[(USER, "system:serviceaccount:a:b")], MASTERS);
        let account = account.expect("allowed").expect("somebody");
        assert!(account.is_in("system:serviceaccounts:a"));
        let nobody = asked(&[(USER, "system:anonymous")], MASTERS);
        let nobody = nobody.expect("allowed").expect("somebody");
        assert_eq!(nobody.groups, ["system:unauthenticated"]);
    }

    #[test]
    fn nobody_else_does() {
        assert!(matches!(asked(&[], "devs"), Ok(None)));
        let error = asked(&[(USER, "alice")], "devs").expect_err("refused");
        assert_eq!(error.code, 403);
        let error = asked(&[(GROUP, "x")], MASTERS).expect_err("nobody is named");
        assert_eq!(
            error.message,
            "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"x\"}, Extra:map[string][]string(nil)} without impersonating a user name"
        );
    }
}
