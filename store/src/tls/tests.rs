//! Handshakes on loopback, with certificates made for each test.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use mizzen_certs::{Authority, Subject, write};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Bound, CLIENT, Connection, Credentials, Door, PEER, PeerCertificates, certificate::Certificate,
};
use crate::config::{AutoTls, TlsInfo, TlsVersions};

const LOOPBACK: &str = "127.0.0.1";

fn info() -> TlsInfo {
    TlsInfo {
        cert_file: None,
        key_file: None,
        client_cert_file: None,
        client_key_file: None,
        trusted_ca_file: None,
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
    }
}

fn subject(name: &str, hosts: &[&str]) -> Subject {
    Subject {
        common_name: name.to_owned(),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        ..Subject::default()
    }
}

/// A server's files, and an authority whose clients are let in.
struct Setup {
    dir: TempDir,
    authority: Authority,
    info: TlsInfo,
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("one").unwrap();
        write(&dir.path().join("ca.crt"), authority.pem().as_bytes()).unwrap();
        let server = authority.sign(&subject("server", &[LOOPBACK])).unwrap();
        server.write(dir.path(), "server").unwrap();
        let at = |name: &str| Some(dir.path().join(name));
        let info = TlsInfo {
            cert_file: at("server.crt"),
            key_file: at("server.key"),
            trusted_ca_file: at("ca.crt"),
            client_cert_auth: true,
            ..info()
        };
        Self {
            dir,
            authority,
            info,
        }
    }

    fn load(&self, kind: &'static str) -> Arc<Credentials> {
        let loaded = Credentials::load(kind, self.info.clone(), self.dir.path());
        loaded.unwrap().expect("there is a certificate")
    }

    fn revoke(&self, serials: &[u64]) {
        let list = self.authority.revoke(serials).unwrap();
        write(&self.dir.path().join("crl.der"), &list).unwrap();
    }

    /// What a client gets that shows a certificate of `authority`.
    async fn client(
        &self,
        door: &Door,
        authority: &Authority,
        shows: Option<&Subject>,
    ) -> (Option<PeerCertificates>, io::Result<u8>) {
        let signed = shows.map(|subject| {
            let signed = authority.sign(subject).unwrap();
            (signed.certificate, signed.key)
        });
        attempt(door, self.dir.path(), signed).await
    }
}

fn client_config(dir: &Path, shows: Option<(String, String)>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(dir.join("ca.crt")).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match shows {
        Some((certificate, key)) => config
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
        None => config.with_no_client_auth(),
    }
}

async fn connect(address: SocketAddr, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(LOOPBACK).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// One connection through `door`: the session, and the byte that the server
/// sends to whom it lets in.
async fn attempt(
    door: &Door,
    dir: &Path,
    shows: Option<(String, String)>,
) -> (Option<PeerCertificates>, io::Result<u8>) {
    let (bound, address) = bind().await;
    let served = async {
        let (mut connection, session) = door.open(bound.accept().await.unwrap()).await?;
        connection.write_all(b"!").await.unwrap();
        connection.flush().await.unwrap();
        Some(session)
    };
    let config = client_config(dir, shows);
    // In TLS 1.3 a client learns with its first read that it is refused.
    let asked = async { connect(address, config).await?.read_u8().await };
    tokio::join!(served, asked)
}

async fn bind() -> (Bound, SocketAddr) {
    let bound = Bound::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let Bound::Tcp(listener) = &bound else {
        unreachable!("it was bound so")
    };
    let address = listener.local_addr().unwrap();
    (bound, address)
}

#[tokio::test]
async fn who_is_let_in() {
    let mut setup = Setup::new();
    setup.info.crl_file = Some(setup.dir.path().join("crl.der"));
    setup.info.skip_client_san_verification = true;
    setup.revoke(&[66]);
    let door = Door::new(false, Some(setup.load(CLIENT)), None);
    let (one, other) = (&setup.authority, Authority::new("two").unwrap());
    let known = subject("anna", &["elsewhere.invalid"]);
    let (session, answer) = setup.client(&door, one, Some(&known)).await;
    assert_eq!(answer.unwrap(), b'!');
    assert_eq!(session.unwrap().common_name.as_deref(), Some("anna"));
    let expired = Subject {
        days: Some(-1),
        ..known.clone()
    };
    let revoked = Subject {
        serial: Some(66),
        ..known.clone()
    };
    for (authority, shows, alert) in [
        (one, None, "CertificateRequired"),
        (&other, Some(&known), "UnknownCA"),
        (one, Some(&expired), "CertificateExpired"),
        (one, Some(&revoked), "CertificateRevoked"),
    ] {
        let (session, answer) = setup.client(&door, authority, shows).await;
        assert!(session.is_none(), "{alert}");
        let error = answer.unwrap_err().to_string();
        assert!(error.contains(alert), "{error}, not {alert}");
    }
}

#[tokio::test]
async fn peers_come_from_where_their_certificates_say() {
    let mut setup = Setup::new();
    for (hosts, skips, lets_in) in [
        (&[LOOPBACK][..], false, true),
        (&["127.0.0.1", "nobody.invalid"], false, true),
        (&["localhost"], false, true),
        (&[], false, true),
        (&["10.1.2.3"], false, false),
        (&["nobody.invalid"], false, false),
        (&["10.1.2.3"], true, true),
    ] {
        setup.info.skip_client_san_verification = skips;
        let door = Door::new(false, Some(setup.load(PEER)), None);
        let shows = subject("peer", hosts);
        let (session, answer) = setup.client(&door, &setup.authority, Some(&shows)).await;
        assert_eq!(session.is_some(), lets_in, "{hosts:?}, {skips}");
        assert_eq!(answer.is_ok(), lets_in, "{hosts:?}, {skips}: {answer:?}");
    }
}

#[tokio::test]
async fn peers_have_one_of_the_names_allowed() {
    let mut setup = Setup::new();
    setup.info.allowed_common_names = vec!["anna".to_owned(), "bert".to_owned()];
    let door = Door::new(false, Some(setup.load(PEER)), None);
    let (session, _) = setup
        .client(&door, &setup.authority, Some(&subject("bert", &[])))
        .await;
    assert!(session.is_some());
    let (session, answer) = setup
        .client(&door, &setup.authority, Some(&subject("carl", &[])))
        .await;
    assert!(session.is_none());
    let error = answer.unwrap_err().to_string();
    assert!(error.contains("BadCertificate"), "{error}");

    setup.info.allowed_common_names.clear();
    setup.info.allowed_hostnames = vec!["a.example".to_owned()];
    setup.info.skip_client_san_verification = true;
    let door = Door::new(false, Some(setup.load(PEER)), None);
    for (host, lets_in) in [("*.example", true), ("b.example", false)] {
        let shows = subject("anna", &[host]);
        let (session, _) = setup.client(&door, &setup.authority, Some(&shows)).await;
        assert_eq!(session.is_some(), lets_in, "{host}");
    }
}

#[tokio::test]
async fn changed_files_are_taken_and_bad_ones_are_not() {
    let mut setup = Setup::new();
    setup.info.crl_file = Some(setup.dir.path().join("crl.der"));
    setup.revoke(&[]);
    let credentials = setup.load(PEER);
    let door = Door::new(false, Some(credentials.clone()), None);
    let shows = Subject {
        serial: Some(7),
        ..subject("anna", &[])
    };
    let (session, _) = setup.client(&door, &setup.authority, Some(&shows)).await;
    let session = session.expect("it is not revoked yet");
    let ends = credentials.expires();

    // Half written, of another key, gone, expired: nothing changes.
    let at = |name: &str| setup.dir.path().join(name);
    let (certificate, key) = (
        std::fs::read(at("server.crt")).unwrap(),
        std::fs::read(at("server.key")).unwrap(),
    );
    let strange = setup
        .authority
        .sign(&subject("server", &[LOOPBACK]))
        .unwrap();
    let expired = Subject {
        days: Some(-1),
        ..subject("server", &[LOOPBACK])
    };
    let expired = setup.authority.sign(&expired).unwrap();
    for (certificate, key) in [
        (Some(&certificate[..certificate.len() / 2]), Some(&key[..])),
        (Some(&certificate), Some(strange.key.as_bytes())),
        (None, Some(&key)),
        (
            Some(expired.certificate.as_bytes()),
            Some(expired.key.as_bytes()),
        ),
    ] {
        for (name, bytes) in [("server.crt", certificate), ("server.key", key)] {
            match bytes {
                Some(bytes) => std::fs::write(at(name), bytes).unwrap(),
                None => std::fs::remove_file(at(name)).unwrap(),
            }
        }
        credentials.look();
        assert_eq!(credentials.expires(), ends);
        let (session, answer) = setup.client(&door, &setup.authority, Some(&shows)).await;
        assert!(session.is_some() && answer.is_ok(), "{answer:?}");
    }

    // A new certificate and a new list, at once.
    let fresh = Subject {
        days: Some(30),
        ..subject("server", &[LOOPBACK])
    };
    setup
        .authority
        .sign(&fresh)
        .unwrap()
        .write(setup.dir.path(), "server")
        .unwrap();
    setup.revoke(&[7]);
    credentials.look();
    assert!(credentials.expires() < ends);
    let (refused, answer) = setup.client(&door, &setup.authority, Some(&shows)).await;
    assert!(refused.is_none() && answer.is_err());
    // Who is connected already is put out.
    tokio::time::timeout(Duration::from_secs(10), session.revoked())
        .await
        .expect("the connection learns that its certificate is revoked");

    // Another authority: its clients are let in, the old one's no more.
    let other = Authority::new("two").unwrap();
    let both = format!("{}{}", setup.authority.pem(), other.pem());
    write(&at("ca.crt"), both.as_bytes()).unwrap();
    credentials.look();
    let shows = subject("bert", &[]);
    let (session, _) = setup.client(&door, &other, Some(&shows)).await;
    assert!(session.is_some());
}

#[tokio::test]
async fn one_port_for_both() {
    let setup = Setup::new();
    let (bound, address) = bind().await;
    for (plain, first, lets_in) in [
        (true, &b"PRI * HTTP/2.0"[..], true),
        (false, b"GET / HTTP/1.1\r\n\r\n", false),
        (false, &[22, 3, 1, 0xff, 0xff, 0, 0, 0], false),
        (true, &[22, 3, 1, 0, 4, 1, 2, 3, 4], false),
        (true, b"", false),
    ] {
        let door = Door::new(plain, Some(setup.load(CLIENT)), None);
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(first).await.unwrap();
        client.shutdown().await.unwrap();
        let opened = door.open(bound.accept().await.unwrap()).await;
        assert_eq!(opened.is_some(), lets_in, "{first:?}");
        if let Some((Connection::Plain(mut socket), session)) = opened {
            assert_eq!(session.common_name, None);
            let mut read = Vec::new();
            socket.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, first, "nothing that was looked at is lost");
        }
    }
}

#[tokio::test]
async fn certificates_that_members_make_encrypt_and_stay() {
    let dir = tempfile::tempdir().unwrap();
    let auto = TlsInfo {
        auto: Some(AutoTls {
            years: 1,
            hosts: vec![LOOPBACK.to_owned(), "localhost".to_owned()],
        }),
        ..info()
    };
    let load = || {
        Credentials::load(PEER, auto.clone(), dir.path())
            .unwrap()
            .unwrap()
    };
    let credentials = load();
    let made = std::fs::read(dir.path().join("peer/cert.pem")).unwrap();
    let again = load();
    assert_eq!(again.expires(), credentials.expires());
    assert_eq!(
        std::fs::read(dir.path().join("peer/cert.pem")).unwrap(),
        made
    );
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = dir.path().join(name);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("peer"), mode("peer/key.pem")), (0o700, 0o600));

    let (bound, address) = bind().await;
    let door = Door::new(false, Some(credentials.clone()), None);
    let config = ClientConfig::clone(&credentials.client().unwrap());
    let served = async { door.open(bound.accept().await.unwrap()).await.map(|_| ()) };
    let (served, connected) = tokio::join!(served, connect(address, config));
    assert!(served.is_some() && connected.is_ok());
}

/// Large answers leave in as few writes as the socket takes: a record for each
/// 16 KiB, and one call for all of them.
#[tokio::test]
async fn records_of_one_turn_leave_together() {
    let setup = Setup::new();
    let (bound, address) = bind().await;
    let door = Door::new(false, Some(setup.load(CLIENT)), None);
    let signed = setup.authority.sign(&subject("anna", &[])).unwrap();
    let config = client_config(setup.dir.path(), Some((signed.certificate, signed.key)));
    let served = async { door.open(bound.accept().await.unwrap()).await };
    let (served, client) = tokio::join!(served, connect(address, config));
    let (mut served, mut client) = (served.unwrap().0, client.unwrap());
    let sent: Vec<u8> = (0..100_000_u32).map(|at| at as u8).collect();
    let mut read = vec![0; sent.len()];
    let (written, got) = tokio::join!(
        async {
            served.write_all(&sent).await?;
            served.flush().await
        },
        client.read_exact(&mut read)
    );
    written.unwrap();
    got.unwrap();
    assert!(read == sent, "what was sent arrives");
}

#[test]
fn names_in_certificates() {
    let certificate = |names: &[&str], addresses: &[&str]| Certificate {
        common_name: String::new(),
        dns_names: names.iter().map(|name| (*name).to_owned()).collect(),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        serial: Vec::new(),
        not_before: 10,
        not_after: 20,
    };
    let one = certificate(&["a.example", "*.wild.example"], &["10.0.0.1", "::1"]);
    for (host, valid) in [
        ("a.example", true),
        ("A.Example", true),
        ("a.example.", true),
        ("b.example", false),
        ("x.wild.example", true),
        ("x.y.wild.example", false),
        ("wild.example", false),
        (".wild.example", false),
        ("10.0.0.1", true),
        ("10.0.0.2", false),
        ("[::1]", true),
        ("", false),
    ] {
        assert_eq!(one.is_valid_for(host), valid, "{host}");
    }
    let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    assert!(one.is_current(at(10)) && one.is_current(at(20)));
    assert!(!one.is_current(at(9)) && !one.is_current(at(21)));
    let serial = [0, 0, 1, 0];
    assert_eq!(super::certificate::without_zeros(&serial), [1, 0]);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let setup = Setup::new();
    let refused = |info: &TlsInfo| {
        let loaded = Credentials::load(CLIENT, info.clone(), setup.dir.path());
        loaded.err().expect("it is refused").to_string()
    };
    let missing = setup.dir.path().join("none.crt");
    let mut info = setup.info.clone();
    info.cert_file = Some(missing.clone());
    assert_eq!(
        refused(&info),
        format!("open {}: no such file or directory", missing.display())
    );
    let mut info = setup.info.clone();
    info.cert_file = info.key_file.clone();
    assert!(refused(&info).ends_with("tls: failed to find any PEM data in certificate input"));
    let mut info = setup.info.clone();
    info.cipher_suites = vec!["TLS_NONE".to_owned()];
    assert_eq!(refused(&info), "unexpected TLS cipher suite \"TLS_NONE\"");
    let other = setup.authority.sign(&subject("other", &[])).unwrap();
    other.write(setup.dir.path(), "other").unwrap();
    let mut info = setup.info.clone();
    info.key_file = Some(setup.dir.path().join("other.key"));
    assert!(refused(&info).ends_with("tls: private key does not match public key"));
    let mut info = setup.info.clone();
    info.crl_file = info.cert_file.clone();
    assert!(refused(&info).ends_with("no certificate revocation list in it"));
}
