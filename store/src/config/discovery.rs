//! Discovery: the first members of a cluster find each other through an etcd that
//! runs already.

use std::time::Duration;

use super::{
    error::Error,
    security::{self, TlsInfo, TlsVersions},
    settings::Settings,
};

/// How to find the other first members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// Which cluster of those that are put together there.
    pub token: String,
    /// URLs of the etcd that the members meet at; one at least.
    pub endpoints: Vec<String>,
    /// How long one attempt to connect and to ask may take together.
    pub request_timeout: Duration,
    /// How long nothing may be heard of others before all is asked again.
    pub silence: Duration,
    pub tls: TlsInfo,
    /// Believe whoever answers.
    pub any_server: bool,
    /// A name and a password.
    pub user: Option<(String, String)>,
}

/// The flags of discovery, with etcd's checks in etcd's words; `None` without them.
pub(super) fn read(settings: &Settings) -> Result<Option<Discovery>, Error> {
    let token = settings.text("discovery-token").to_owned();
    let endpoints = settings.words("discovery-endpoints");
    if !endpoints.is_empty() && !settings.text("initial-cluster").is_empty() {
        return Err(Error::invalid(
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
             \"discovery-endpoints\" or \"discovery-srv\"",
        ));
    }
    if token.is_empty() != endpoints.is_empty() {
        return Err(Error::invalid(
            "both --discovery-token and --discovery-endpoints must be set",
        ));
    }
    if token.is_empty() {
        return Ok(None);
    }
    let tls = TlsInfo {
        cert_file: security::path(settings, "discovery-cert"),
        key_file: security::path(settings, "discovery-key"),
        client_cert_file: None,
        client_key_file: None,
        trusted_ca_file: security::path(settings, "discovery-cacert"),
        crl_file: None,
        client_cert_auth: false,
        allowed_common_names: Vec::new(),
        allowed_hostnames: Vec::new(),
        skip_client_san_verification: false,
        auto: None,
        cipher_suites: Vec::new(),
        versions: TlsVersions {
            tls12: true,
            tls13: true,
        },
    };
    let any_server = settings.bool("discovery-insecure-skip-tls-verify");
    let secure = !tls.is_empty()
        || tls.trusted_ca_file.is_some()
        || any_server
        || !settings.bool("discovery-insecure-transport");
    Ok(Some(Discovery {
        token,
        endpoints: endpoints.iter().map(|given| url(given, secure)).collect(),
        request_timeout: settings.duration("discovery-dial-timeout")
            + settings.duration("discovery-request-timeout"),
        silence: settings.duration("discovery-keepalive-time")
            + settings.duration("discovery-keepalive-timeout"),
        tls,
        any_server,
        user: user(settings),
    }))
}

/// As etcd's client reads an endpoint: the scheme decides, if there is one.
fn url(given: &str, secure: bool) -> String {
    match given.contains("://") {
        true => given.to_owned(),
        false if secure => format!("https://{given}"),
        false => format!("http://{given}"),
    }
}

fn user(settings: &Settings) -> Option<(String, String)> {
    let (name, password) = (
        settings.text("discovery-user"),
        settings.text("discovery-password"),
    );
    let (name, password) = match name.split_once(':') {
        Some((name, own)) if password.is_empty() => (name, own),
        _ => (name, password),
    };
    (!name.is_empty() && !password.is_empty()).then(|| (name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::url;

    #[test]
    fn an_endpoint_without_a_scheme_is_asked_as_the_rest_says() {
        for (given, secure, expected) in [
            ("a:2379", false, "http://a:2379"),
            ("a:2379", true, "https://a:2379"),
            ("http://a:2379", true, "http://a:2379"),
            ("https://a:2379", false, "https://a:2379"),
        ] {
            assert_eq!(url(given, secure), expected, "{given} {secure}");
        }
    }
}
