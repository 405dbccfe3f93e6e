//! Mutual TLS as clients see it: who is let in and who is not, beside etcd with
//! the same certificates; certificates, authorities and revocations replaced
//! under load; and what is no TLS at all.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mizzen_certs::{Authority, Signed, Subject};
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use mizzen_proto::etcdserverpb::{PutRequest, RangeRequest};
use mizzen_tests::cluster::{self, Cluster, Options, Pki, client_config, secure_channel};
use rustls::ClientConfig;
use tonic::{Code, Status};

const DEADLINE: Duration = Duration::from_secs(60);
const REVOKED: u64 = 66;

fn subject(name: &str) -> Subject {
    Subject {
        common_name: name.to_owned(),
        ..Subject::default()
    }
}

/// One etcdctl at one endpoint, with files of certificates.
fn etcdctl(program: &Path, endpoint: &str, ca: &Path, shows: Option<&Path>) -> Command {
    let mut command = Command::new(program);
    command
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints=https://{endpoint}"))
        .arg(format!("--cacert={}", ca.display()))
        .args(["--command-timeout=3s", "--dial-timeout=2s"]);
    if let Some(shows) = shows {
        command
            .arg(format!("--cert={}", shows.with_extension("crt").display()))
            .arg(format!("--key={}", shows.with_extension("key").display()));
    }
    command
}

/// What a stranger is called, the files it shows, and what a Go client says then.
type Stranger = (&'static str, Option<PathBuf>, &'static [&'static str]);

/// Bad certificates.
fn strangers(pki: &Pki) -> Result<Vec<Stranger>> {
    let ours = pki.authority("ca")?;
    let other = Authority::new("other")?;
    let expired = Subject {
        days: Some(-1),
        ..subject("expired")
    };
    let revoked = Subject {
        serial: Some(REVOKED),
        ..subject("revoked")
    };
    let dir = pki.path("");
    ours.sign(&expired)?.write(&dir, "expired")?;
    ours.sign(&revoked)?.write(&dir, "revoked")?;
    other.sign(&subject("other"))?.write(&dir, "other")?;
    pki.write("crl.der", &ours.revoke(&[REVOKED])?)?;
    let file = |name: &str| Some(pki.path(name));
    Ok(vec![
        ("none", None, &["certificate required", "bad certificate"]),
        (
            "other authority",
            file("other"),
            &["unknown certificate authority", "bad certificate"],
        ),
        (
            "expired",
            file("expired"),
            &["expired certificate", "bad certificate"],
        ),
        // etcd closes the connection after the handshake and says nothing.
        (
            "revoked",
            file("revoked"),
            &[
                "revoked certificate",
                "EOF",
                "reset",
                "closed",
                "broken pipe",
            ],
        ),
    ])
}

async fn who_is_let_in(binary: PathBuf) -> Result<()> {
    Cluster::run(Options::new(binary).tls(), async |cluster| {
        let pki = cluster.pki().context("it has certificates")?.clone();
        let programs = cluster::find_tool("etcdctl");
        if programs.is_empty() {
            println!("skipped: no etcdctl");
        }
        let strangers = strangers(&pki)?;
        let ca = pki.path("ca.crt");
        for program in &programs {
            let shows = pki.path("client");
            for index in 0..cluster.len() {
                let put = etcdctl(program, cluster.endpoint(index), &ca, Some(&shows))
                    .args(["put", "tls", "yes"])
                    .output()?;
                ensure!(
                    put.status.success(),
                    "{}: {}",
                    program.display(),
                    String::from_utf8_lossy(&put.stderr)
                );
            }
            for (name, shows, texts) in &strangers {
                eventually_refused(program, cluster.endpoint(0), &ca, shows.as_deref(), texts)
                    .with_context(|| format!("{} shows {name}", program.display()))?;
            }
            // A client that trusts another authority does not talk to us either.
            let mut wrong = etcdctl(program, cluster.endpoint(0), &pki.path("peer-ca.crt"), None);
            let wrong = wrong.args(["get", "tls"]).output()?;
            ensure!(!wrong.status.success(), "a stranger was believed");
        }
        private_files(cluster.data_dir(0))
    })
    .await
}

/// The list of revocations was written a moment ago: it holds within a second.
fn eventually_refused(
    program: &Path,
    endpoint: &str,
    ca: &Path,
    shows: Option<&Path>,
    texts: &[&str],
) -> Result<()> {
    let begun = Instant::now();
    loop {
        let output = etcdctl(program, endpoint, ca, shows)
            .args(["get", "tls"])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            // 3.4 never says why a connection is not there. 3.7 says what it
            // was told, unless it was writing when the connection was closed.
            if said.contains("all SubConns are in TransientFailure")
                || texts.iter().any(|text| said.contains(text))
            {
                return Ok(());
            }
        }
        ensure!(
            begun.elapsed() < DEADLINE,
            "it ends with {}, says {said:?}, and none of {texts:?}",
            output.status
        );
    }
}

/// Nothing in a directory, itself included, is for others.
fn private_files(dir: &Path) -> Result<()> {
    let mut left = vec![dir.to_owned()];
    let mut seen = 0;
    while let Some(path) = left.pop() {
        let metadata = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            // The engine removes files as it goes.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        let mode = metadata.permissions().mode() & 0o077;
        ensure!(mode == 0, "{} is open: {mode:o}", path.display());
        seen += 1;
        if metadata.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                left.push(entry?.path());
            }
        }
    }
    ensure!(seen > 5, "only {seen} files in {}", dir.display());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_let_in_here() -> Result<()> {
    who_is_let_in(cluster::mizzen()?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_let_in_by_etcd() -> Result<()> {
    match cluster::reference() {
        Ok(reference) => who_is_let_in(reference).await,
        Err(error) => {
            println!("skipped: {error}");
            Ok(())
        }
    }
}

/// Connections that write all the time: half of them are made anew after every
/// few puts.
struct Writers {
    stop: Arc<AtomicBool>,
    config: Arc<Mutex<Arc<ClientConfig>>>,
    puts: Arc<AtomicUsize>,
    handshakes: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<Status>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Writers {
    fn start(endpoints: &[String], connections: usize, config: Arc<ClientConfig>) -> Self {
        let mut writers = Self {
            stop: Arc::default(),
            config: Arc::new(Mutex::new(config)),
            puts: Arc::default(),
            handshakes: Arc::default(),
            failures: Arc::default(),
            tasks: Vec::new(),
        };
        for connection in 0..connections {
            let endpoint = endpoints[connection % endpoints.len()].clone();
            writers.tasks.push(tokio::spawn(write(
                endpoint,
                connection,
                writers.stop.clone(),
                writers.config.clone(),
                (writers.puts.clone(), writers.handshakes.clone()),
                writers.failures.clone(),
            )));
        }
        writers
    }

    /// Waits until so many more puts are acknowledged.
    async fn flow(&self, count: usize) -> Result<()> {
        let (goal, begun) = (self.puts.load(Ordering::Relaxed) + count, Instant::now());
        while self.puts.load(Ordering::Relaxed) < goal {
            ensure!(
                begun.elapsed() < DEADLINE,
                "no puts are acknowledged: {:?}",
                self.failed()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    fn failed(&self) -> Vec<Status> {
        self.failures.lock().expect("nobody panics in it").clone()
    }

    fn use_config(&self, config: Arc<ClientConfig>) {
        *self.config.lock().expect("nobody panics in it") = config;
    }

    async fn stop(self) -> Result<(usize, usize, Vec<Status>)> {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self.failures.clone();
        for task in self.tasks {
            task.await?;
        }
        let failed = failed.lock().expect("nobody panics in it").clone();
        let (puts, handshakes) = (&self.puts, &self.handshakes);
        Ok((
            puts.load(Ordering::Relaxed),
            handshakes.load(Ordering::Relaxed),
            failed,
        ))
    }
}

async fn write(
    endpoint: String,
    connection: usize,
    stop: Arc<AtomicBool>,
    config: Arc<Mutex<Arc<ClientConfig>>>,
    (puts, handshakes): (Arc<AtomicUsize>, Arc<AtomicUsize>),
    failures: Arc<Mutex<Vec<Status>>>,
) {
    while !stop.load(Ordering::Relaxed) {
        let config = config.lock().expect("nobody panics in it").clone();
        let channel = secure_channel(&endpoint, config).expect("an address made here");
        let mut client = KvClient::new(channel);
        handshakes.fetch_add(1, Ordering::Relaxed);
        let mut left = if connection.is_multiple_of(2) {
            usize::MAX
        } else {
            10
        };
        while left > 0 && !stop.load(Ordering::Relaxed) {
            left -= 1;
            let request = PutRequest {
                key: format!("load/{connection}").into(),
                value: "x".into(),
                ..PutRequest::default()
            };
            match client.put(request).await {
                Ok(_) => {
                    puts.fetch_add(1, Ordering::Relaxed);
                }
                Err(status) => {
                    failures.lock().expect("nobody panics in it").push(status);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    // A proper client looks at its files again, too.
                    left = 0;
                }
            }
        }
    }
}

/// How often each member has said that it took new certificates of a kind.
fn taken(cluster: &Cluster, kind: &str) -> Result<Vec<usize>> {
    (0..cluster.len())
        .map(|index| {
            let log = std::fs::read_to_string(cluster.log_path(index))?;
            let said = |line: &&str| {
                line.contains("took new TLS certificates")
                    && line.contains(&format!("\"kind\":\"{kind}\""))
            };
            Ok(log.lines().filter(said).count())
        })
        .collect()
}

/// Changes files and waits until every member has taken them. A key without its
/// certificate is not taken, so once is enough.
async fn replace(cluster: &Cluster, kind: &str, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = taken(cluster, kind)?;
    change()?;
    let begun = Instant::now();
    loop {
        let now = taken(cluster, kind)?;
        if before.iter().zip(&now).all(|(before, now)| now > before) {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < DEADLINE,
            "{kind}: {before:?}, then {now:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn both(one: &Authority, other: &Authority) -> String {
    format!("{}{}", one.pem(), other.pem())
}

fn for_loopback(name: &str) -> Subject {
    Subject {
        hosts: ["127.0.0.1", "localhost"].map(str::to_owned).to_vec(),
        ..subject(name)
    }
}

/// An authority gives way to another in the order every operator follows: both
/// are believed, all certificates are new, only the new one is believed.
async fn change_authority(
    cluster: &Cluster,
    kind: &str,
    names: (&str, &str),
    next: &Authority,
    client: impl Fn() -> Result<()>,
) -> Result<()> {
    let pki = cluster.pki().context("certificates")?;
    let (ca, server) = (format!("{}.crt", names.0), names.1);
    let before = pki.authority(names.0)?;
    replace(cluster, kind, || {
        pki.write(&ca, both(&before, next).as_bytes())
    })
    .await?;
    client()?;
    replace(cluster, kind, || {
        let signed = next.sign(&for_loopback(server))?;
        Ok(signed.write(&pki.path(""), server)?)
    })
    .await?;
    replace(cluster, kind, || pki.write(&ca, next.pem().as_bytes())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_under_load() -> Result<()> {
    Cluster::run(Options::new(cluster::mizzen()?).tls(), async |cluster| {
        let pki = cluster.pki().context("certificates")?.clone();
        let writers = Writers::start(&cluster.endpoints(), 50, pki.client()?);
        writers.flow(500).await?;

        let next = Authority::new("next")?;
        let trusts = pki.path("both.crt");
        pki.write("both.crt", both(&pki.authority("ca")?, &next).as_bytes())?;
        change_authority(cluster, "client", ("ca", "server"), &next, || {
            let shows = next.sign(&subject("client"))?;
            shows.write(&pki.path(""), "client")?;
            writers.use_config(client_config(&trusts, Some(&shows))?);
            Ok(())
        })
        .await?;
        let peers = Authority::new("next-peer")?;
        change_authority(cluster, "peer", ("peer-ca", "peer"), &peers, || Ok(())).await?;
        writers.flow(500).await?;
        let failed = writers.failed();
        ensure!(failed.is_empty(), "{} puts failed: {:?}", failed.len(), failed.first());

        revoke_one(cluster, &next, &trusts).await?;
        // Peers meet again with the new certificates only.
        let failed = writers.failed().len();
        ensure!(failed == 0, "{failed} puts failed while another client was revoked");
        for index in 0..cluster.len() {
            cluster.kill(index)?;
            cluster.restart_with(index, client_config(&trusts, Some(&signed(&pki)?))?).await?;
            writers.flow(200).await?;
        }
        for index in 0..cluster.len() {
            cluster.terminate(index).await?;
            cluster.restart_with(index, client_config(&trusts, Some(&signed(&pki)?))?).await?;
            writers.flow(200).await?;
        }
        let (puts, handshakes, failed) = writers.stop().await?;
        println!(
            "{puts} puts over {handshakes} handshakes; none failed while certificates changed, {} while members were gone",
            failed.len()
        );
        let wrong = failed.iter().find(|status| !is_of_a_closed_connection(status));
        ensure!(wrong.is_none(), "{wrong:?}");
        Ok(())
    })
    .await
}

/// What tonic makes of a connection that ends with calls under way: of one that
/// its server has said it will close as well, though that is no error.
fn is_of_a_closed_connection(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Cancelled => true,
        Code::Internal => status.message() == "h2 protocol error: http2 error",
        _ => false,
    }
}

fn signed(pki: &Pki) -> Result<Signed> {
    let read = |end: &str| std::fs::read_to_string(pki.path(&format!("client.{end}")));
    Ok(Signed {
        certificate: read("crt")?,
        key: read("key")?,
    })
}

/// A client that is connected is put out, and does not come back.
async fn revoke_one(cluster: &Cluster, authority: &Authority, trusts: &Path) -> Result<()> {
    let pki = cluster.pki().context("certificates")?;
    let shows = authority.sign(&Subject {
        serial: Some(REVOKED),
        ..subject("leaver")
    })?;
    let config = client_config(trusts, Some(&shows))?;
    let get = || RangeRequest {
        key: "tls".into(),
        ..RangeRequest::default()
    };
    let mut connected = KvClient::new(secure_channel(cluster.endpoint(1), config.clone())?);
    connected.range(get()).await?;
    replace(cluster, "client", || {
        pki.write("crl.der", &authority.revoke(&[REVOKED])?)
    })
    .await?;
    for index in 0..cluster.len() {
        let mut fresh = KvClient::new(secure_channel(cluster.endpoint(index), config.clone())?);
        ensure!(
            fresh.range(get()).await.is_err(),
            "member {index} lets it in"
        );
    }
    ensure!(
        connected.range(get()).await.is_err(),
        "its connection stays"
    );
    Ok(())
}

/// What is no handshake, and handshakes that do not go on, cost a client that is
/// let in nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tls() -> Result<()> {
    Cluster::run(
        Options::new(cluster::mizzen()?).members(1).tls(),
        async |cluster| {
            let endpoint = cluster.endpoint(0).to_owned();
            let mut silent = Vec::new();
            for length in 0..300 {
                let mut stream = TcpStream::connect(&endpoint)?;
                // The beginning of a ClientHello.
                let hello = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
                stream.write_all(&hello[..length % hello.len()])?;
                silent.push(stream);
            }
            for garbage in [
                &b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"[..],
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
                &[0xff; 4096],
                &[22, 3, 3, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
                &[21, 3, 3, 0, 2, 2, 40],
            ] {
                let mut stream = TcpStream::connect(&endpoint)?;
                stream.set_read_timeout(Some(DEADLINE))?;
                // It may be closed in the middle.
                let _ = stream.write_all(garbage);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let mut answer = Vec::new();
                if let Err(error) = stream.read_to_end(&mut answer) {
                    ensure!(
                        error.kind() != std::io::ErrorKind::WouldBlock,
                        "it is not closed"
                    );
                }
                ensure!(
                    !answer.windows(4).any(|part| part == b"HTTP"),
                    "it is answered: {answer:?}"
                );
            }
            let mut client = KvClient::new(cluster.channel(0)?);
            for _ in 0..100 {
                let request = PutRequest {
                    key: "k".into(),
                    value: "v".into(),
                    ..PutRequest::default()
                };
                client.put(request).await?;
            }
            // Whoever says nothing more is put out.
            for mut stream in silent {
                stream.set_read_timeout(Some(DEADLINE))?;
                let mut rest = Vec::new();
                match stream.read_to_end(&mut rest) {
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        bail!("a handshake may take for ever")
                    }
                    Err(_) => {}
                }
            }
            Ok(())
        },
    )
    .await
}
