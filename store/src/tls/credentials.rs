//! The certificates of one kind of port, and their replacements.
//!
//! Files are looked at once a second. When one has changed, all are read,
//! checked, and put in the place of the old ones together; handshakes that
//! begin from then on use them. What cannot be used is logged once, and the old
//! ones stay.

use std::{
    collections::HashSet,
    io,
    path::Path,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    ClientConfig, ServerConfig, client::Resumption, crypto::CryptoProvider, pki_types::UnixTime,
    server::NoServerSessionStorage,
};
use tokio::sync::watch;

use super::{
    auto,
    certificate::Certificate,
    files::{Contents, Pair},
    provider,
    verify::{Checks, Clients, Revoked, Servers, Trust},
};
use crate::{config::TlsInfo, limits, workers::Workers};

/// The kind of credentials that are for connecting as well.
pub const PEER: &str = "peer";
/// The kind that are for serving only.
pub const CLIENT: &str = "client";

/// Offered by clients' libraries; the front speaks both.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What handshakes use.
struct Loaded {
    server: Arc<ServerConfig>,
    /// Only peers are connected to.
    client: Option<Arc<ClientConfig>>,
    /// When the served certificate ends, seconds since 1970.
    expires: i64,
}

/// Certificates, authorities and revocations as they are now.
pub struct Credentials {
    /// `client` or `peer`, for the log.
    kind: &'static str,
    info: TlsInfo,
    loaded: ArcSwap<Loaded>,
    revoked: watch::Sender<Arc<Revoked>>,
    /// What was looked at last, if it could be read, and why it was not taken.
    seen: Mutex<(Contents, Option<String>)>,
}

impl Credentials {
    /// Reads the files, or makes a certificate in `dir` if that is asked for;
    /// `None` if there is nothing to serve with.
    ///
    /// # Errors
    /// A file that cannot be read or used, in etcd's words.
    pub fn load(
        kind: &'static str,
        mut info: TlsInfo,
        dir: &Path,
    ) -> io::Result<Option<Arc<Self>>> {
        if info.is_empty() {
            return Ok(None);
        }
        if let Some(auto) = &info.auto {
            let (certificate, key) = auto::certificate(&dir.join(kind), auto)?;
            info.cert_file = Some(certificate);
            info.key_file = Some(key);
        }
        let contents = Contents::read(&info)?;
        let revoked = Arc::new(revoked(&contents)?);
        let loaded = build(kind, &info, &contents, &revoked)?;
        let credentials = Self {
            kind,
            loaded: ArcSwap::from_pointee(loaded),
            revoked: watch::Sender::new(revoked),
            seen: Mutex::new((contents, None)),
            info,
        };
        tracing::info!(
            kind,
            cert = %shown(credentials.info.cert_file.as_deref()),
            trusted_ca = %shown(credentials.info.trusted_ca_file.as_deref()),
            client_cert_auth = credentials.info.client_cert_auth,
            crl_file = %shown(credentials.info.crl_file.as_deref()),
            cipher_suites = ?credentials.info.cipher_suites,
            "starting with {kind} TLS"
        );
        if credentials.expires() < now() {
            tracing::warn!(kind, "the certificate has expired");
        }
        Ok(Some(Arc::new(credentials)))
    }

    /// For a handshake as the server.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        self.loaded.load().server.clone()
    }

    /// For a handshake as the client, if these are for connecting as well.
    pub(super) fn client(&self) -> Option<Arc<ClientConfig>> {
        self.loaded.load().client.clone()
    }

    /// When the certificate that is served ends, seconds since 1970.
    pub fn expires(&self) -> i64 {
        self.loaded.load().expires
    }

    /// What is revoked, now and later.
    pub(super) fn revoked(&self) -> watch::Receiver<Arc<Revoked>> {
        self.revoked.subscribe()
    }

    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(super) fn skips_san(&self) -> bool {
        self.info.skip_client_san_verification
    }

    /// Looks at the files as long as the credentials are in use.
    pub async fn watch(credentials: Weak<Self>) {
        loop {
            tokio::time::sleep(limits::TLS_RELOAD_INTERVAL).await;
            let Some(credentials) = credentials.upgrade() else {
                return;
            };
            // A network file system may take its time.
            let look = Workers::Threads.run(move || credentials.look());
            if look.await.is_err() {
                return;
            }
        }
    }

    /// Takes what has changed.
    pub(super) fn look(&self) {
        let mut seen = self.seen.lock();
        let contents = match Contents::read(&self.info) {
            Ok(contents) if contents == seen.0 => {
                return;
            }
            Ok(contents) => contents,
            Err(error) => return self.keep(&mut seen.1, &error),
        };
        match self.take(&contents) {
            Ok(()) => {
                tracing::info!(
                    kind = self.kind,
                    expires = self.expires(),
                    "took new TLS certificates"
                );
                *seen = (contents, None);
            }
            Err(error) => {
                self.keep(&mut seen.1, &error);
            }
        }
    }

    fn take(&self, contents: &Contents) -> io::Result<()> {
        let revoked = Arc::new(revoked(contents)?);
        let loaded = build(self.kind, &self.info, contents, &revoked)?;
        if loaded.expires < now() && self.expires() >= now() {
            return Err(io::Error::other("the certificate has expired"));
        }
        self.loaded.store(Arc::new(loaded));
        self.revoked.send_replace(revoked);
        Ok(())
    }

    /// Says once why the old ones stay.
    fn keep(&self, said: &mut Option<String>, error: &io::Error) {
        let text = error.to_string();
        if said.as_ref() != Some(&text) {
            tracing::warn!(
                kind = self.kind,
                error = text,
                "cannot use the changed TLS files; going on with those before"
            );
            *said = Some(text);
        }
    }
}

fn shown(path: Option<&Path>) -> std::path::Display<'_> {
    path.unwrap_or(Path::new("")).display()
}

fn now() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX)
}

fn revoked(contents: &Contents) -> io::Result<Revoked> {
    match &contents.revoked {
        Some(file) => Ok(file.serials()?.into_iter().collect()),
        None => Ok(HashSet::new()),
    }
}

fn build(
    kind: &str,
    info: &TlsInfo,
    contents: &Contents,
    revoked: &Arc<Revoked>,
) -> io::Result<Loaded> {
    let pair = contents
        .server
        .as_ref()
        .ok_or_else(|| io::Error::other("KeyFile and CertFile are not presented"))?;
    let leaf = pair.certificate.certificates()?.swap_remove(0);
    let expires = Certificate::parse(&leaf).map_err(|error| pair.certificate.error(error))?;
    let parts = Parts {
        info,
        contents,
        revoked,
        provider: provider::provider(info)?,
    };
    Ok(Loaded {
        server: Arc::new(parts.server(pair)?),
        client: match kind {
            PEER => {
                let own = contents.client.as_ref().unwrap_or(pair);
                Some(Arc::new(parts.client(Some(own), info.auto.is_some())?))
            }
            _ => None,
        },
        expires: expires.not_after,
    })
}

/// What both sides of a handshake are made of.
struct Parts<'a> {
    info: &'a TlsInfo,
    contents: &'a Contents,
    revoked: &'a Arc<Revoked>,
    provider: Arc<CryptoProvider>,
}

impl Parts<'_> {
    fn checks(&self) -> io::Result<Checks> {
        let trust = Trust::new(self.contents)?;
        Ok(Checks::new(
            self.info,
            trust,
            self.revoked.clone(),
            &self.provider,
        ))
    }

    fn server(&self, pair: &Pair) -> io::Result<ServerConfig> {
        let server = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&provider::versions(self.info.versions))
            .map_err(io::Error::other)?;
        let server = if self.info.requires_client_certificate() {
            let clients = Clients::new(self.checks()?, self.provider.clone())?;
            server.with_client_cert_verifier(Arc::new(clients))
        } else {
            server.with_no_client_auth()
        };
        let mut server = server
            .with_single_cert(pair.certificate.certificates()?, pair.key.key()?)
            .map_err(|error| unusable(pair, &error))?;
        server.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        // A resumed session would skip the check of a certificate that has been
        // revoked or has expired since.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(server)
    }

    /// `any`: whoever answers is believed.
    fn client(&self, pair: Option<&Pair>, any: bool) -> io::Result<ClientConfig> {
        let servers = Servers::new(self.checks()?, self.provider.clone(), any)?;
        let client = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&provider::versions(self.info.versions))
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(servers));
        let mut client = match pair {
            Some(pair) => client
                .with_client_auth_cert(pair.certificate.certificates()?, pair.key.key()?)
                .map_err(|error| unusable(pair, &error))?,
            None => client.with_no_client_auth(),
        };
        client.alpn_protocols = vec![PROTOCOLS[0].to_vec()];
        client.resumption = Resumption::disabled();
        Ok(client)
    }
}

/// For connecting alone, with a certificate if one is given. `any`: whoever answers is
/// believed.
///
/// # Errors
/// A file that cannot be read or used, in etcd's words.
pub(super) fn of_client(info: &TlsInfo, any: bool) -> io::Result<ClientConfig> {
    let contents = Contents::read(info)?;
    let parts = Parts {
        info,
        contents: &contents,
        revoked: &Arc::new(revoked(&contents)?),
        provider: provider::provider(info)?,
    };
    parts.client(contents.server.as_ref(), any)
}

fn unusable(pair: &Pair, error: &rustls::Error) -> io::Error {
    pair.key.error(match error {
        rustls::Error::InconsistentKeys(_) => {
            "tls: private key does not match public key".to_owned()
        }
        other => format!("tls: {other}"),
    })
}
