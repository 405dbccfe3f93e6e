//! Paths and queries: what a request is about. Knows URLs and the table of
//! resources; answers nothing.

use std::sync::Arc;

use crate::{
    authz::is_true,
    catalog::{Catalog, REVIEWS, Resource, Review},
    kind::Sub,
    registry::Target,
};

/// What a path names.
#[derive(Debug)]
pub enum Route {
    Root,
    Version,
    /// `healthz`, `livez` or `readyz`.
    Health,
    Metrics,
    /// `/.well-known/openid-configuration`
    OpenId,
    /// The keys of tokens.
    Keys,
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/GROUP`
    Group(String),
    /// `/api/v1` or `/apis/GROUP/VERSION`
    Resources(String, String),
    /// `/openapi/v2`
    OpenApiV2,
    /// `/openapi/v3`
    OpenApi,
    /// `/openapi/v3/apis/GROUP/VERSION`, after `v3/`
    OpenApiOf(String),
    /// A kind that is answered, not stored, and its namespace.
    Review(&'static Review, String),
    Object(Target),
    /// An object or a collection, to be watched by its path.
    Watch(Target),
    /// What is behind an object: its log, a command in it, what it serves.
    Beyond(Target),
}

/// A path without its escapes; as it is when they are malformed.
pub fn decoded(path: &str) -> std::borrow::Cow<'_, str> {
    if !path.contains('%') {
        return path.into();
    }
    unescape(path, false).map_or(path.into(), Into::into)
}

/// Decodes `%xx` and, in queries, `+`; `None` when it is malformed.
fn unescape(text: &str, plus: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit()?, digit()?);
                bytes.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'+' if plus => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// The parameters of a query.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query; `None` when it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((unescape(key, true)?, unescape(value, true)?))
        });
        pairs.collect::<Option<Vec<_>>>().map(Self)
    }

    /// The first value of a parameter, empty when absent.
    pub fn get(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }

    /// The first value of a parameter.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Whether a collection is to be watched, as upstream reads it: what is
    /// authorized is what is done.
    pub fn asks_to_watch(&self) -> bool {
        self.first("watch").is_some_and(is_true)
    }

    /// Every value of a parameter.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is given and not false.
    pub fn flag(&self, name: &str) -> bool {
        self.0
            .iter()
            .any(|(key, value)| key == name && value != "false" && value != "0")
    }
}

/// Reads a path; `None` when it names nothing.
pub fn route(catalog: &Catalog, path: &str) -> Option<Route> {
    let parts: Option<Vec<String>> = path
        .trim_matches('/')
        .split('/')
        .map(|part| unescape(part, false))
        .collect();
    let parts = parts?;
    let words: Vec<&str> = parts.iter().map(String::as_str).collect();
    match &words[..] {
        [""] => Some(Route::Root),
        ["version"] => Some(Route::Version),
        ["healthz" | "livez" | "readyz"] => Some(Route::Health),
        [
            "healthz" | "livez" | "readyz",
            "ping" | "log" | "etcd" | "etcd-readiness" | "informer-sync" | "shutdown",
        ] => Some(Route::Health),
        [".well-known", "openid-configuration"] => Some(Route::OpenId),
        ["openid", "v1", "jwks"] => Some(Route::Keys),
        ["metrics"] => Some(Route::Metrics),
        ["api"] => Some(Route::CoreVersions),
        ["apis"] => Some(Route::Groups),
        ["apis", group] => Some(Route::Group((*group).to_owned())),
        ["api", "v1"] => Some(Route::Resources(String::new(), "v1".to_owned())),
        ["apis", group, version] => {
            Some(Route::Resources((*group).to_owned(), (*version).to_owned()))
        }
        ["openapi", "v2"] => Some(Route::OpenApiV2),
        ["openapi", "v3"] => Some(Route::OpenApi),
        ["openapi", "v3", rest @ ..] => Some(Route::OpenApiOf(rest.join("/"))),
        ["api", "v1", rest @ ..] => resource(catalog, "", "v1", rest),
        ["apis", group, version, rest @ ..] => resource(catalog, group, version, rest),
        _ => None,
    }
}

fn resource(catalog: &Catalog, group: &str, version: &str, parts: &[&str]) -> Option<Route> {
    if let ["watch", rest @ ..] = parts {
        return match resource(catalog, group, version, rest)? {
            Route::Object(target) if target.sub.is_none() => Some(Route::Watch(target)),
            _ => None,
        };
    }
    if let Some((review, namespace)) = review(group, version, parts) {
        return Some(Route::Review(review, namespace.to_owned()));
    }
    let find = |plural: &str| catalog.find(group, version, plural).cloned();
    if let Some((namespace, plural, name)) = beyond(parts).filter(|_| group.is_empty()) {
        return match target(find(plural)?, namespace, name, None)? {
            Route::Object(target) => Some(Route::Beyond(target)),
            other => Some(other),
        };
    }
    match parts {
        // A namespace is an object and a place for others.
        ["namespaces", name] => target(find("namespaces")?, "", name, None),
        ["namespaces", name, sub @ ("status" | "finalize")] if group.is_empty() => {
            target(find("namespaces")?, "", name, Some(sub))
        }
        ["namespaces", namespace, plural] => target(
            find(plural).filter(|found| found.namespaced)?,
            namespace,
            "",
            None,
        ),
        ["namespaces", namespace, plural, name] => target(
            find(plural).filter(|found| found.namespaced)?,
            namespace,
            name,
            None,
        ),
        ["namespaces", namespace, plural, name, sub] => target(
            find(plural).filter(|found| found.namespaced)?,
            namespace,
            name,
            Some(sub),
        ),
        [plural] => target(find(plural)?, "", "", None),
        [plural, name] => target(
            find(plural).filter(|found| !found.namespaced)?,
            "",
            name,
            None,
        ),
        [plural, name, sub] => target(
            find(plural).filter(|found| !found.namespaced)?,
            "",
            name,
            Some(sub),
        ),
        _ => None,
    }
}

/// The namespace, kind and name of what is to be spoken to through this server.
fn beyond<'a>(parts: &[&'a str]) -> Option<(&'a str, &'a str, &'a str)> {
    match parts {
        ["namespaces", namespace, "pods", name, sub, ..]
            if matches!(*sub, "log" | "exec" | "attach" | "portforward" | "proxy") =>
        {
            Some((*namespace, "pods", *name))
        }
        ["namespaces", namespace, "services", name, "proxy", ..] => {
            Some((*namespace, "services", *name))
        }
        ["nodes", name, "proxy", ..] => Some(("", "nodes", *name)),
        _ => None,
    }
}

fn review<'a>(group: &str, version: &str, parts: &[&'a str]) -> Option<(&'static Review, &'a str)> {
    let (plural, namespace) = match parts {
        ["namespaces", namespace, plural] => (plural, *namespace),
        [plural] => (plural, ""),
        _ => return None,
    };
    let found = REVIEWS.iter().find(|one| {
        version == "v1"
            && one.group == group
            && one.plural == *plural
            && one.namespaced != namespace.is_empty()
    });
    Some((found?, namespace))
}

fn target(
    resource: Arc<Resource>,
    namespace: &str,
    name: &str,
    sub: Option<&str>,
) -> Option<Route> {
    let sub = match sub {
        None => None,
        Some(wanted) => Some(
            resource
                .subs
                .iter()
                .copied()
                .find(|sub: &Sub| sub.name() == wanted)?,
        ),
    };
    // A slash would make another key of it.
    let plain = |part: &str| !part.contains('/') && part != "." && part != "..";
    (plain(namespace) && plain(name)).then(|| {
        Route::Object(Target {
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            sub,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(path: &str) -> String {
        match route(&crate::kinds::built_in(), path) {
            Some(Route::Object(target)) => {
                let sub = target.sub.map_or("", Sub::name);
                format!(
                    "{} {} {} {sub}",
                    target.resource.qualified(),
                    target.namespace,
                    target.name
                )
            }
            Some(Route::Beyond(target)) => format!("beyond {}", target.name),
            Some(Route::Review(review, _)) => {
                format!("Review({}, {})", review.group, review.plural)
            }
            Some(other) => format!("{other:?}"),
            None => "nothing".to_owned(),
        }
    }

    #[test]
    fn paths() {
        for (path, expected) in [
            ("/api/v1/pods", "pods   "),
            ("/api/v1/namespaces", "namespaces   "),
            ("/api/v1/namespaces/a", "namespaces  a "),
            ("/api/v1/namespaces/a/status", "namespaces  a status"),
            ("/api/v1/namespaces/a/finalize", "namespaces  a finalize"),
            ("/api/v1/namespaces/a/pods/b", "pods a b "),
            ("/api/v1/namespaces/a/pods/b/binding", "pods a b binding"),
            (
                "/apis/apps/v1/namespaces/a/deployments/b/scale",
                "deployments.apps a b scale",
            ),
            (
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Ax",
                "clusterroles.rbac.authorization.k8s.io  system:x ",
            ),
            ("/api/v1/nodes/n/status", "nodes  n status"),
            ("/api/v1/nodes/n/fly", "nothing"),
            ("/api/v1/nodes/n/proxy/a/b", "beyond n"),
            ("/api/v1/namespaces/a/pods/b/log", "beyond b"),
            ("/apis/apps/v1/namespaces/a/pods/b/log", "nothing"),
            ("/api/v1/pods/b", "nothing"),
            ("/api/v1/namespaces/a/nodes", "nothing"),
            ("/api/v1/namespaces/a/pods/b%2fc", "nothing"),
            ("/api/v1/namespaces/../pods/b", "nothing"),
            ("/api/v2/pods", "nothing"),
            ("/apis/apps/v1", "Resources(\"apps\", \"v1\")"),
            (
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                "Review(authorization.k8s.io, selfsubjectaccessreviews)",
            ),
            ("/", "Root"),
            ("/%zz", "nothing"),
        ] {
            assert_eq!(described(path), expected, "{path}");
        }
    }

    #[test]
    fn queries() {
        let query =
            Query::parse("labelSelector=a%3Db%2Cc+in+(d)&watch=1&limit=5&x").expect("a query");
        assert_eq!(query.get("labelSelector"), "a=b,c in (d)");
        assert!(query.asks_to_watch());
        for text in ["watch=False&watch=1", "watch=0", "x=1"] {
            let query = Query::parse(text).expect("a query");
            assert!(!query.asks_to_watch(), "{text}");
        }
        assert!(query.flag("watch") && query.flag("x") && !query.flag("y"));
        assert!(Query::parse("a=%f").is_none());
    }
}
