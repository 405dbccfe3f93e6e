//! What a request asks to do, read from its method, path and query as upstream
//! reads them: whether there is such a resource is not asked.

use std::borrow::Cow;

use http::Method;

/// What is asked for. Texts are empty where they do not apply.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Attributes<'a> {
    pub verb: &'a str,
    pub path: &'a str,
    /// Not a path alone.
    pub is_resource: bool,
    pub group: &'a str,
    pub version: &'a str,
    pub namespace: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub name: Cow<'a, str>,
    /// The field selector of what is about many.
    pub fields: Cow<'a, str>,
}

/// A query's parameters: the first value of a name, if it is there.
pub type Parameter<'a> = &'a dyn Fn(&str) -> Option<&'a str>;

impl<'a> Attributes<'a> {
    /// Of a request for a path, which is decoded.
    pub fn of(method: &'a Method, path: &'a str, parameter: Parameter<'a>) -> Self {
        let plain = Self {
            verb: lower(method),
            path,
            ..Self::default()
        };
        let trimmed = path.trim_matches('/');
        let mut parts = trimmed.split('/');
        let group = match (parts.next(), trimmed.split('/').count()) {
            (Some("api"), 3..) => "",
            (Some("apis"), 4..) => parts.next().unwrap_or(""),
            _ => return plain,
        };
        let version = parts.next().unwrap_or("");
        let mut rest: Vec<&str> = parts.collect();
        let mut asked = Self {
            is_resource: true,
            group,
            version,
            verb: verb(method),
            ..plain
        };
        if matches!(rest.first(), Some(&("watch" | "proxy"))) && rest.len() > 1 {
            asked.verb = rest.remove(0);
        }
        if let ["namespaces", namespace, more @ ..] = &rest[..] {
            asked.namespace = *namespace;
            if !matches!(more, [] | ["status" | "finalize", ..]) {
                rest.drain(..2);
            }
        }
        asked.resource = rest.first().copied().unwrap_or("");
        asked.name = rest.get(1).copied().unwrap_or("").into();
        if asked.verb != "proxy" {
            asked.subresource = rest.get(2).copied().unwrap_or("");
        }
        asked.collection(parameter);
        if matches!(asked.verb, "list" | "watch" | "deletecollection") {
            asked.fields = parameter("fieldSelector").unwrap_or("").into();
        }
        asked
    }

    /// Without a name it is about many, or about one that a selector names.
    fn collection(&mut self, parameter: Parameter<'a>) {
        if !self.name.is_empty() {
            return;
        }
        match self.verb {
            "get" => {
                let watch = parameter("watch").is_some_and(is_true);
                self.verb = if watch { "watch" } else { "list" };
                if let Some(name) = parameter("fieldSelector").and_then(selected) {
                    self.name = name;
                }
            }
            "delete" => self.verb = "deletecollection",
            _ => {}
        }
    }

    /// Whether only objects are asked for whose field is this.
    pub fn selects(&self, field: &str, value: &str) -> bool {
        let of = |term| equals(term).is_some_and(|(key, own)| key == field && own == value);
        terms(&self.fields).any(of) && terms(&self.fields).all(is_term)
    }

    /// Upstream's words for what is refused.
    pub fn refused(&self, user: &str) -> String {
        let Self {
            verb,
            path,
            group,
            namespace,
            ..
        } = self;
        let text = if self.is_resource {
            let resource = match self.subresource {
                "" => self.resource.to_owned(),
                sub => format!("{}/{sub}", self.resource),
            };
            let place = match namespace {
                &"" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {namespace:?}"),
            };
            format!(
                "User {user:?} cannot {verb} resource {resource:?} in API group {group:?} {place}"
            )
        } else {
            format!("User {user:?} cannot {verb} path {path:?}")
        };
        // Nothing of it may look like a page.
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
    }
}

/// A flag of a query that is given and not false.
pub fn is_true(value: &str) -> bool {
    !value.eq_ignore_ascii_case("false") && value != "0"
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

fn lower(method: &Method) -> &str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        Method::TRACE => "trace",
        Method::CONNECT => "connect",
        _ => method.as_str(),
    }
}

/// The field of a term, and what it must be.
fn equals(term: &str) -> Option<(&str, Cow<'_, str>)> {
    let (key, value) = term.split_once('=')?;
    let value = value.strip_prefix('=').unwrap_or(value);
    (!key.ends_with('!')).then_some((key, unescaped(value)?))
}

/// A selector with anything else selects nothing that is known.
fn is_term(term: &str) -> bool {
    let value = term.split_once('=').map(|(_, value)| value);
    value.is_some_and(|value| unescaped(value.strip_prefix('=').unwrap_or(value)).is_some())
}

/// The name that a field selector asks for, if it asks for one that is none of
/// a path.
fn selected(selector: &str) -> Option<Cow<'_, str>> {
    let mut name = None;
    for term in terms(selector) {
        let (key, value) = term.split_once('=')?;
        if key.ends_with('!') {
            continue;
        }
        let value = value.strip_prefix('=').unwrap_or(value);
        if key == "metadata.name" && name.is_none() {
            name = Some(unescaped(value)?);
        }
    }
    name.filter(|name| !matches!(&**name, "." | "..") && !name.contains(['/', '%']))
}

/// The terms between commas that no backslash stands before.
fn terms(selector: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    selector
        .split(move |letter| {
            let ends = letter == ',' && !escaped;
            escaped = letter == '\\' && !escaped;
            ends
        })
        .filter(|term| !term.is_empty())
}

fn unescaped(value: &str) -> Option<Cow<'_, str>> {
    if !value.contains(['\\', '=', ',']) {
        return Some(value.into());
    }
    let mut plain = String::with_capacity(value.len());
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => plain.push(
                letters
                    .next()
                    .filter(|one| matches!(one, '\\' | ',' | '='))?,
            ),
            '=' | ',' => return None,
            letter => plain.push(letter),
        }
    }
    Some(plain.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(method: &Method, target: &str) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let parameter = |name: &str| {
            let mut pairs = query.split('&');
            pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        let asked = Attributes::of(method, path, &parameter);
        if !asked.is_resource {
            return format!("{} {}", asked.verb, asked.path);
        }
        let Attributes {
            verb,
            group,
            version,
            namespace,
            resource,
            subresource,
            name,
            ..
        } = asked;
        format!("{verb} {group} {version} {namespace} {resource} {subresource} {name}")
    }

    #[test]
    fn paths_are_read_as_upstream_reads_them() {
        let get = &Method::GET;
        for (method, target, expected) in [
            (get, "/api/v1/pods", "list  v1  pods  "),
            (get, "/api/v1/pods?watch=1", "watch  v1  pods  "),
            (get, "/api/v1/pods?watch=False", "list  v1  pods  "),
            (get, "/api/v1/namespaces", "list  v1  namespaces  "),
            (get, "/api/v1/namespaces/a", "get  v1 a namespaces  a"),
            (
                &Method::PUT,
                "/api/v1/namespaces/a/finalize",
                "update  v1 a namespaces finalize a",
            ),
            (get, "/api/v1/namespaces/a/pods", "list  v1 a pods  "),
            (
                &Method::DELETE,
                "/apis/apps/v1/namespaces/a/deployments",
                "deletecollection apps v1 a deployments  ",
            ),
            (
                &Method::POST,
                "/api/v1/namespaces/a/pods/b/binding/more",
                "create  v1 a pods binding b",
            ),
            (
                get,
                "/apis/no.such/v9/things/x/y",
                "get no.such v9  things y x",
            ),
            (get, "/api/v1/watch/namespaces/a/pods", "watch  v1 a pods  "),
            (
                get,
                "/api/v1/pods?fieldSelector=metadata.name=b",
                "list  v1  pods  b",
            ),
            (
                get,
                "/api/v1/pods?fieldSelector=status.phase!=x,metadata.name==a\\,b",
                "list  v1  pods  a,b",
            ),
            (
                get,
                "/api/v1/pods?fieldSelector=metadata.name!=b",
                "list  v1  pods  ",
            ),
            (
                get,
                "/api/v1/pods?fieldSelector=metadata.name=a/b",
                "list  v1  pods  ",
            ),
            (&Method::OPTIONS, "/api/v1/pods", "  v1  pods  "),
            (get, "/api/v1", "get /api/v1"),
            (get, "/apis/apps/v1", "get /apis/apps/v1"),
            (&Method::POST, "/healthz", "post /healthz"),
            (get, "/", "get /"),
        ] {
            assert_eq!(described(method, target), expected, "{method} {target}");
        }
    }

    #[test]
    fn a_refusal_is_in_upstreams_words() {
        let none = |_: &str| None;
        let path = "/api/v1/namespaces/y/pods/p/status";
        let asked = Attributes::of(&Method::GET, path, &none);
        assert_eq!(
            asked.refused("x"),
            "User \"x\" cannot get resource \"pods/status\" in API group \"\" in the namespace \"y\""
        );
        let asked = Attributes::of(&Method::GET, "/<b>", &none);
        assert_eq!(
            asked.refused("x&y"),
            "User \"x&amp;y\" cannot get path \"/&lt;b&gt;\""
        );
    }
}
