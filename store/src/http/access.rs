//! Who may ask by HTTP on a client port: which pages of others a browser may show
//! the answers to, and under which names of this machine.
//! Source: etcd's access control against DNS rebinding (CVE-2018-5702), and CORS.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};

use super::{gateway, respond::error};

/// Of `--cors` and `--host-whitelist`.
#[derive(Clone, Debug)]
pub struct BrowserAccess {
    /// `None`: all.
    origins: Option<Vec<String>>,
    /// `None`: all.
    hosts: Option<Vec<String>>,
}

impl BrowserAccess {
    /// Lists that are empty or have `*` in them let in everybody.
    pub fn new(origins: &[String], hosts: &[String]) -> Self {
        let some = |list: &[String]| {
            let all = list.is_empty() || list.iter().any(|one| one == "*");
            (!all).then(|| list.to_vec())
        };
        Self {
            origins: some(origins),
            hosts: some(hosts),
        }
    }

    /// The origin that is to be told that it may read the answer.
    pub fn origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let Some(origins) = &self.origins else {
            return Some(HeaderValue::from_static("*"));
        };
        let origin = headers.get(header::ORIGIN)?;
        let known = origins
            .iter()
            .any(|one| one.as_bytes() == origin.as_bytes());
        known.then(|| origin.clone())
    }

    /// The refusal of a request for another host.
    pub fn refusal<B>(&self, request: &Request<B>) -> Option<Response<Bytes>> {
        let hosts = self.hosts.as_ref()?;
        let said = request.headers().get(header::HOST);
        let host = match (request.uri().authority(), said) {
            (Some(authority), _) => authority.as_str().as_bytes(),
            (None, Some(host)) => host.as_bytes(),
            (None, None) => &[],
        };
        let host = String::from_utf8_lossy(host);
        let name = without_port(&host);
        if hosts.iter().any(|one| one == name) {
            return None;
        }
        tracing::warn!(
            host = name,
            "rejecting HTTP request to prevent DNS rebinding attacks"
        );
        Some(error(StatusCode::MISDIRECTED_REQUEST, &unrecognized(name)))
    }
}

/// As Go's `net.SplitHostPort`; what has no port is a name.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, _)) if name.starts_with('[') && name.ends_with(']') => {
            name.trim_matches(['[', ']'])
        }
        Some((name, _)) if !name.contains([':', '[', ']']) => name,
        _ => host,
    }
}

fn unrecognized(host: &str) -> String {
    format!(
        "
etcd received your request, but the Host header was unrecognized.

To fix this, choose one of the following options:
- Enable TLS, then any HTTPS request will be allowed.
- Add the hostname you want to use to the whitelist in settings.
  - e.g. etcd --host-whitelist {}

This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).
",
        gateway::quoted(host.as_bytes())
    )
}

/// etcd's headers for browsers.
pub fn allow<B>(response: &mut Response<B>, origin: HeaderValue) {
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
        ),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("accept, content-type, authorization"),
        ),
    ] {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(origins: &[&str], hosts: &[&str]) -> BrowserAccess {
        let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        BrowserAccess::new(&owned(origins), &owned(hosts))
    }

    #[test]
    fn hosts_are_compared_without_their_ports() {
        let strict = access(&[], &["localhost", "::1"]);
        for (host, allowed) in [
            ("localhost", true),
            ("localhost:2379", true),
            ("[::1]:2379", true),
            ("example.com:2379", false),
            ("localhost.example.com", false),
            ("", false),
        ] {
            let request = Request::builder().header(header::HOST, host).body(());
            let request = request.expect("a request");
            assert_eq!(strict.refusal(&request).is_none(), allowed, "{host}");
            assert!(access(&[], &["x", "*"]).refusal(&request).is_none());
        }
    }

    #[test]
    fn origins_are_told_only_of_themselves() {
        let strict = access(&["http://a:80"], &[]);
        let asked = |origin: &'static str| {
            let headers = [(header::ORIGIN, HeaderValue::from_static(origin))];
            strict.origin(&headers.into_iter().collect())
        };
        assert_eq!(
            asked("http://a:80"),
            Some(HeaderValue::from_static("http://a:80"))
        );
        assert_eq!(asked("http://b:80"), None);
        assert_eq!(strict.origin(&HeaderMap::new()), None);
        let all = access(&["*"], &[]).origin(&HeaderMap::new());
        assert_eq!(all, Some(HeaderValue::from_static("*")));
    }
}
