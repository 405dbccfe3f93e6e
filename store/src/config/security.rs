//! What the flags say of TLS, for clients and for peers, with etcd's checks in
//! etcd's words. Files are named here and not opened.

use std::path::PathBuf;

use super::{error::Error, notice::Notice, settings::Settings, url::Url};

/// Versions of TLS to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsVersions {
    pub tls12: bool,
    pub tls13: bool,
}

/// TLS on one kind of port, and as a client of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsInfo {
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// Shown as a client instead of `cert_file`.
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    pub trusted_ca_file: Option<PathBuf>,
    pub crl_file: Option<PathBuf>,
    pub client_cert_auth: bool,
    /// One of them is the certificate's, if there are any.
    pub allowed_common_names: Vec<String>,
    /// One of them is in the certificate, if there are any.
    pub allowed_hostnames: Vec<String>,
    pub skip_client_san_verification: bool,
    /// Make a certificate if none is given.
    pub auto: Option<AutoTls>,
    /// Names of suites of TLS 1.2; empty means all there are.
    pub cipher_suites: Vec<String>,
    pub versions: TlsVersions,
}

/// A certificate that the member makes for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoTls {
    pub years: u64,
    /// Names and addresses in it.
    pub hosts: Vec<String>,
}

impl TlsInfo {
    /// Whether there is no certificate to serve with.
    pub fn is_empty(&self) -> bool {
        self.cert_file.is_none() && self.key_file.is_none() && self.auto.is_none()
    }

    /// Whether who connects must show a certificate.
    pub fn requires_client_certificate(&self) -> bool {
        self.client_cert_auth || self.trusted_ca_file.is_some()
    }
}

fn version(text: &str) -> Result<Option<bool>, Error> {
    match text {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(false)),
        "TLS1.3" => Ok(Some(true)),
        other => Err(Error::invalid(format!(
            "unexpected TLS version {other:?} (must be one of: TLS1.2, TLS1.3)"
        ))),
    }
}

fn versions(settings: &Settings) -> Result<TlsVersions, Error> {
    let (min, max) = (
        settings.text("tls-min-version"),
        settings.text("tls-max-version"),
    );
    let tls12 = version(min)? != Some(true);
    let tls13 = version(max)? != Some(false);
    if !tls12 && !tls13 {
        return Err(Error::invalid(format!(
            "min version ({min}) is greater than max version ({max})"
        )));
    }
    if !tls12 && !settings.words("cipher-suites").is_empty() {
        return Err(Error::invalid(
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ));
    }
    Ok(TlsVersions { tls12, tls13 })
}

pub(super) fn path(settings: &Settings, name: &str) -> Option<PathBuf> {
    Some(settings.text(name))
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// Where clients connect to.
const CLIENT_URLS: [&str; 2] = ["listen-client-urls", "listen-client-http-urls"];

fn auto(settings: &Settings, flag: &str, listen: &[&str]) -> Result<Option<AutoTls>, Error> {
    if !settings.bool(flag) {
        return Ok(None);
    }
    let years = settings.uint("self-signed-cert-validity");
    if years == 0 {
        return Err(Error::invalid(
            "selfSignedCertValidity is invalid,it should be greater than 0",
        ));
    }
    let urls = listen.iter().flat_map(|name| settings.urls(name));
    let hosts = urls.filter(|url| !url.is_unix());
    Ok(Some(AutoTls {
        years,
        hosts: hosts.map(|url| url.host().to_owned()).collect(),
    }))
}

fn check(info: &TlsInfo) -> Result<(), Error> {
    let shown = |path: &Option<PathBuf>| {
        path.as_ref()
            .map_or_else(String::new, |path| path.display().to_string())
    };
    if info.cert_file.is_some() != info.key_file.is_some() {
        return Err(Error::invalid(format!(
            "KeyFile and CertFile must both be present[key: {}, cert: {}]",
            shown(&info.key_file),
            shown(&info.cert_file)
        )));
    }
    if info.client_cert_file.is_some() != info.client_key_file.is_some() {
        return Err(Error::invalid(format!(
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: {}, cert: {}]",
            shown(&info.client_key_file),
            shown(&info.client_cert_file)
        )));
    }
    if !info.allowed_common_names.is_empty() && !info.allowed_hostnames.is_empty() {
        return Err(Error::invalid(format!(
            "AllowedCNs and AllowedHostnames are mutually exclusive (cns={:?}, hostnames={:?})",
            info.allowed_common_names, info.allowed_hostnames
        )));
    }
    Ok(())
}

/// For clients and for peers.
pub(super) fn read(
    settings: &Settings,
    notices: &mut Vec<Notice>,
) -> Result<(TlsInfo, TlsInfo), Error> {
    let versions = versions(settings)?;
    let cipher_suites = settings.words("cipher-suites").to_vec();
    let client = TlsInfo {
        cert_file: path(settings, "cert-file"),
        key_file: path(settings, "key-file"),
        client_cert_file: path(settings, "client-cert-file"),
        client_key_file: path(settings, "client-key-file"),
        trusted_ca_file: path(settings, "trusted-ca-file"),
        crl_file: path(settings, "client-crl-file"),
        client_cert_auth: settings.bool("client-cert-auth"),
        allowed_common_names: Vec::new(),
        allowed_hostnames: settings.words("client-cert-allowed-hostname").to_vec(),
        // etcd holds addresses against certificates on the peers' port only.
        skip_client_san_verification: true,
        auto: auto(settings, "auto-tls", &CLIENT_URLS)?,
        cipher_suites: cipher_suites.clone(),
        versions,
    };
    let peer = TlsInfo {
        cert_file: path(settings, "peer-cert-file"),
        key_file: path(settings, "peer-key-file"),
        client_cert_file: path(settings, "peer-client-cert-file"),
        client_key_file: path(settings, "peer-client-key-file"),
        trusted_ca_file: path(settings, "peer-trusted-ca-file"),
        crl_file: path(settings, "peer-crl-file"),
        client_cert_auth: settings.bool("peer-client-cert-auth"),
        allowed_common_names: settings.words("peer-cert-allowed-cn").to_vec(),
        allowed_hostnames: settings.words("peer-cert-allowed-hostname").to_vec(),
        skip_client_san_verification: settings.bool("peer-skip-client-san-verification"),
        auto: auto(settings, "peer-auto-tls", &["listen-peer-urls"])?,
        cipher_suites,
        versions,
    };
    check(&client)?;
    check(&peer)?;
    if peer.auto.is_some() && peer.cert_file.is_none() && peer.requires_client_certificate() {
        return Err(Error::invalid(
            "--peer-auto-tls cannot be used with --peer-client-cert-auth or --peer-trusted-ca-file: \
             no authority signs the certificates it makes, so no peer would be let in",
        ));
    }
    let peer = without_needless(peer, "ignoring peer auto TLS since certs given", notices);
    let client = without_needless(
        client,
        "ignoring client auto TLS since certs given",
        notices,
    );
    check_listeners(settings, &client, &peer)?;
    note_plain(settings, &client, &peer, notices);
    Ok((client, peer))
}

fn without_needless(mut info: TlsInfo, text: &'static str, notices: &mut Vec<Notice>) -> TlsInfo {
    if info.cert_file.is_some() && info.auto.take().is_some() {
        notices.push(Notice::Ignored(text));
    }
    info
}

fn check_listeners(settings: &Settings, client: &TlsInfo, peer: &TlsInfo) -> Result<(), Error> {
    let secure = |name| {
        settings
            .urls(name)
            .iter()
            .find(|url: &&Url| url.is_secure())
    };
    if let Some(url) = secure("listen-peer-urls").filter(|_| peer.is_empty()) {
        return Err(Error::invalid(format!(
            "cannot listen on TLS for {}: KeyFile and CertFile are not presented",
            url.host_and_port()
        )));
    }
    let secure_client = CLIENT_URLS.into_iter().find_map(secure);
    if let Some(url) = secure_client.filter(|_| client.is_empty()) {
        return Err(Error::invalid(format!(
            "TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with HTTPS scheme"
        )));
    }
    if secure("listen-metrics-urls").is_some() && client.is_empty() {
        return Err(Error::invalid(
            "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url",
        ));
    }
    Ok(())
}

/// What is let in although certificates are there. etcd's lines, and one that
/// says what a peers' port means that asks for no certificate.
fn note_plain(settings: &Settings, client: &TlsInfo, peer: &TlsInfo, notices: &mut Vec<Notice>) {
    let mut note = |text, kind, url: &Url| {
        notices.push(Notice::PlainUrl {
            text,
            kind,
            url: url.to_string(),
        });
    };
    for url in settings
        .urls("listen-peer-urls")
        .iter()
        .filter(|url| !url.is_secure())
    {
        if !peer.is_empty() {
            note(
                "scheme is HTTP while key and cert files are present; ignoring key and cert files",
                "peer",
                url,
            );
        }
        if peer.client_cert_auth {
            note(
                "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL",
                "peer",
                url,
            );
        }
    }
    let to_clients = CLIENT_URLS.into_iter().flat_map(|name| settings.urls(name));
    for url in to_clients.filter(|url| !url.is_secure()) {
        if !client.is_empty() {
            note(
                "scheme is http or unix while key and cert files are present; ignoring key and cert files",
                "client",
                url,
            );
        }
        if client.client_cert_auth {
            note(
                "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL",
                "client",
                url,
            );
        }
    }
    let plain = settings
        .urls("listen-peer-urls")
        .iter()
        .any(|url| !url.is_secure());
    if plain || !peer.requires_client_certificate() {
        notices.push(Notice::OpenPeerPort);
    }
}
