//! The URLs members and clients are reached at, parsed, ordered and printed as
//! etcd does: member ids are hashes of the printed form, so it must not differ
//! by a byte.

use std::{collections::BTreeMap, fmt};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
    /// A Unix socket.
    Unix,
    /// A Unix socket with TLS.
    Unixs,
}

/// One URL: a scheme with `host:port`, or with the path of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    scheme: Scheme,
    /// The printed form: lower-case scheme, the rest as it was given.
    text: String,
    /// `host:port`; IPv6 hosts in brackets. For Unix sockets the path.
    address: String,
}

impl Url {
    /// Parses one URL; surrounding white space is dropped.
    ///
    /// Stricter than etcd in what could never be listened on or reached: user
    /// information, queries, fragments and an empty or too large port are
    /// refused here, not later.
    pub fn parse(given: &str) -> Result<Self, String> {
        let given = given.trim();
        let (scheme, rest) = split_scheme(given)?;
        let (name, scheme) = match scheme.to_ascii_lowercase().as_str() {
            "http" => ("http", Scheme::Http),
            "https" => ("https", Scheme::Https),
            "unix" => ("unix", Scheme::Unix),
            "unixs" => ("unixs", Scheme::Unixs),
            _ => {
                return Err(format!(
                    "URL scheme must be http, https, unix, or unixs: {given}"
                ));
            }
        };
        let address = match scheme {
            Scheme::Http | Scheme::Https => network_address(given, rest)?.replace("%25", "%"),
            Scheme::Unix | Scheme::Unixs => rest.strip_prefix("//").unwrap_or(rest).to_owned(),
        };
        Ok(Self {
            scheme,
            text: format!("{name}:{rest}"),
            address,
        })
    }

    /// Parses a list separated by commas, and sorts it by the printed form.
    pub fn parse_list(given: &str) -> Result<Vec<Self>, String> {
        let mut urls = given
            .split(',')
            .map(Self::parse)
            .collect::<Result<Vec<_>, _>>()?;
        sort(&mut urls);
        Ok(urls)
    }

    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether TLS is spoken there.
    pub fn is_secure(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::Unixs)
    }

    pub fn is_unix(&self) -> bool {
        matches!(self.scheme, Scheme::Unix | Scheme::Unixs)
    }

    /// `host:port`, with an IPv6 host in brackets; the path of a Unix socket.
    pub fn host_and_port(&self) -> &str {
        &self.address
    }

    /// The host, without brackets; empty for Unix sockets.
    pub fn host(&self) -> &str {
        if self.is_unix() {
            return "";
        }
        let host = self
            .address
            .rsplit_once(':')
            .map_or(self.address.as_str(), |(host, _)| host);
        host.strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host)
    }

    /// The port; none for Unix sockets.
    pub fn port(&self) -> Option<u16> {
        if self.is_unix() {
            return None;
        }
        self.address
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
    }

    /// The printed form, which etcd compares, sorts and hashes.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

pub fn sort(urls: &mut [Url]) {
    urls.sort_by(|a, b| a.text.cmp(&b.text));
}

/// The printed forms joined by commas.
pub fn join(urls: &[Url]) -> String {
    urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",")
}

/// Parses `name=url,name=url`. A name given more than once has several URLs.
pub fn parse_cluster(given: &str) -> Result<BTreeMap<String, Vec<Url>>, String> {
    let mut cluster: BTreeMap<String, Vec<Url>> = BTreeMap::new();
    for item in given.split(',').filter(|item| !item.is_empty()) {
        let (name, url) = item.split_once('=').unwrap_or((item, ""));
        cluster
            .entry(name.to_owned())
            .or_default()
            .push(Url::parse(url)?);
    }
    for urls in cluster.values_mut() {
        sort(urls);
    }
    Ok(cluster)
}

/// Prints a cluster the way `parse_cluster` reads it, sorted.
pub fn print_cluster<'a>(cluster: impl IntoIterator<Item = (&'a String, &'a Vec<Url>)>) -> String {
    let mut pairs: Vec<String> = cluster
        .into_iter()
        .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")))
        .collect();
    pairs.sort();
    pairs.join(",")
}

/// Splits `scheme:rest`. The scheme is empty when there is none.
fn split_scheme(given: &str) -> Result<(&str, &str), String> {
    let fail = |reason: &str| Err(format!("parse {given:?}: {reason}"));
    if given.chars().any(|c| c.is_ascii_control()) {
        return fail("net/url: invalid control character in URL");
    }
    let Some((scheme, rest)) = given.split_once(':') else {
        return Ok(("", given));
    };
    if scheme.is_empty() {
        return fail("missing protocol scheme");
    }
    let mut letters = scheme.chars();
    let starts_well = letters.next().is_some_and(|c| c.is_ascii_alphabetic());
    if starts_well && letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')) {
        return Ok((scheme, rest));
    }
    // Not a scheme, so the text is a path, whose first segment may not hold
    // a colon.
    if scheme.contains('/') {
        Ok(("", given))
    } else {
        fail("first path segment in URL cannot contain colon")
    }
}

/// Checks the part after `http:` and gives its `host:port`.
fn network_address<'a>(given: &str, rest: &'a str) -> Result<&'a str, String> {
    let fail = |reason: String| Err(format!("parse {given:?}: {reason}"));
    let no_port = || {
        Err(format!(
            "URL address does not have the form \"host:port\": {given}"
        ))
    };
    let Some(rest) = rest.strip_prefix("//") else {
        return no_port();
    };
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => match bracketed.split_once(']') {
            Some((_, port)) => (&authority[..authority.len() - port.len()], port),
            None => return fail("missing ']' in host".to_owned()),
        },
        // An unbracketed host ends at its first colon, so that an IPv6
        // address without brackets is an invalid port and not a wrong host.
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    if let Some(c) = host.chars().find(|c| !is_host_char(*c)) {
        return fail(format!(
            "invalid character {:?} in host name",
            c.to_string()
        ));
    }
    match port.strip_prefix(':') {
        Some(digits) if digits.chars().all(|c| c.is_ascii_digit()) => {
            if digits.is_empty() {
                return no_port();
            }
            if digits.parse::<u16>().is_err() {
                return fail(format!("invalid port {port:?} after host"));
            }
        }
        None if port.is_empty() => return no_port(),
        _ => return fail(format!("invalid port {port:?} after host")),
    }
    if tail.starts_with('/') {
        return Err(format!("URL must not contain a path: {given}"));
    }
    if !tail.is_empty() {
        return Err(format!(
            "URL must not contain a query or a fragment: {given}"
        ));
    }
    Ok(authority)
}

/// Letters, digits, and what addresses and names are written with. `%` is the
/// zone of a link-local address, written `%25` in a URL.
fn is_host_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | ':' | '[' | ']' | '%')
}
