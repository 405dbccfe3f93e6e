//! Requests that no resource API may take: mutated bodies, paths, queries,
//! headers and patches. Every one must be refused with a code of its own kind
//! (`codes.rs`) and a `Status`, and after all of them the store must be at the revision it was at before.
//!
//! A case comes from (seed, number) alone. Some are malformed in a way that a
//! change by chance can undo (a flipped byte): these ask for a dry run, must
//! not fail the server, and are counted apart.

mod bodies;
mod codes;
mod objects;
mod patches;
mod urls;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use mizzen_proto::etcdserverpb::RangeRequest;
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use tokio::sync::Mutex;
use tonic::transport::Channel;

use crate::apiserver::ApiServer;
use crate::https::{Answer, Https};
use objects::Object;

/// Connections, each with one request at a time.
const WORKERS: u64 = 8;
/// Where the objects are.
const NAMESPACE: &str = "malformed";
/// Shown of a request that failed, in bytes.
const SHOWN: usize = 2_000;

/// What to send.
#[derive(Clone, Debug)]
pub struct Settings {
    pub seed: u64,
    /// Number of the first case.
    pub first: u64,
    /// Number of surely malformed requests.
    pub requests: u64,
    /// End after so many that were not refused, 1 or more.
    pub findings: usize,
}

impl Settings {
    fn command(&self, number: u64) -> String {
        format!(
            "cargo run --release -p mizzen-tests --bin resource_api -- fuzz --seed {} --first {number} --requests 1",
            self.seed
        )
    }
}

/// How often each way of being malformed met each code.
pub type Report = BTreeMap<(&'static str, u16), u64>;

/// One request.
#[derive(Clone, Debug)]
struct Case {
    what: &'static str,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    /// Malformed for sure: it must be refused.
    sure: bool,
}

impl Case {
    fn new(what: &'static str, method: Method, path: impl Into<String>) -> Self {
        Self {
            what,
            method,
            path: path.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            sure: true,
        }
    }

    fn header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        let value = HeaderValue::from_bytes(value.as_ref()).expect("a value without line ends");
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }

    fn body(self, media: &str, body: impl Into<Bytes>) -> Self {
        let mut case = self.header("content-type", media);
        case.body = body.into();
        case
    }

    fn json(self, value: &Value) -> Self {
        self.body("application/json", value.to_string())
    }

    /// Changes nothing should it be well formed after all.
    fn by_chance(mut self) -> Self {
        self.sure = false;
        self.path
            .push(if self.path.contains('?') { '&' } else { '?' });
        self.path.push_str("dryRun=All");
        self
    }
}

fn case(objects: &[Object], seed: u64, number: u64) -> Case {
    let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number));
    let object = objects.choose(&mut rng).expect("there are objects");
    let mut case = match rng.random_range(0..20) {
        0..9 => bodies::case(&mut rng, object, number),
        9..14 => patches::case(&mut rng, object),
        _ => urls::case(&mut rng, object, number),
    };
    if rng.random_bool(0.2) {
        noise(&mut rng, &mut case);
    }
    case
}

/// Headers that mean nothing here.
fn noise(rng: &mut StdRng, case: &mut Case) {
    const NAMES: [&str; 6] = [
        "if-none-match",
        "x-remote-user",
        "user-agent",
        "accept-encoding",
        "range",
        "audit-id",
    ];
    let name = NAMES.choose(rng).expect("a name");
    let value: Vec<u8> = (0..rng.random_range(0..200))
        .map(|_| rng.random_range(0x20..=0xff))
        .filter(|byte| *byte != 0x7f)
        .collect();
    let value = HeaderValue::from_bytes(&value).expect("no control characters");
    case.headers.insert(HeaderName::from_static(name), value);
}

/// What is wrong with an answer, if anything.
fn wrong(case: &Case, answer: &Answer) -> Option<String> {
    let code = answer.code.as_u16();
    if code < 300 && !case.sure {
        return None;
    }
    let expected = codes::refusals(case.what);
    if !expected.contains(&code) {
        return Some(format!("{code}, not one of {expected:?}"));
    }
    let Ok(status) = answer.json() else {
        return Some("the body is no JSON".to_owned());
    };
    let reason = status["reason"].as_str().unwrap_or_default();
    let told = status["message"]
        .as_str()
        .is_some_and(|text| !text.is_empty());
    (status["kind"] != "Status"
        || status["apiVersion"] != "v1"
        || status["status"] != "Failure"
        || status["code"] != code
        || !codes::reasons(code).contains(&reason)
        || !told)
        .then(|| "the body is no Status of this code".to_owned())
}

async fn revision(store: &Channel) -> Result<i64> {
    let request = RangeRequest {
        key: Bytes::from_static(b"/registry/health"),
        ..RangeRequest::default()
    };
    let reply = KvClient::new(store.clone()).range(request).await?;
    Ok(reply.into_inner().header.context("a header")?.revision)
}

/// Sends what the settings ask for to a server that nobody else writes to.
///
/// # Errors
/// A request was not refused as it should be, the server ended or panicked, or
/// the store's revision moved; each says how to run it again.
pub async fn run(server: &ApiServer, store: &Channel, settings: &Settings) -> Result<Report> {
    let https = Https::connect(server).await?;
    let objects = Arc::new(objects::create(&https).await?);
    let before = revision(store).await?;
    let (numbers, sure) = (
        Arc::new(AtomicU64::new(settings.first)),
        Arc::new(AtomicU64::new(0)),
    );
    let findings: Arc<Mutex<Vec<String>>> = Arc::default();
    let workers = (0..WORKERS.min(settings.requests)).map(|_| {
        let (numbers, sure, objects) = (numbers.clone(), sure.clone(), objects.clone());
        let findings = findings.clone();
        let settings = settings.clone();
        let (url, authority) = (server.url(), server.ca());
        async move {
            let https = Https::connect_to(&url, &authority).await?;
            let mut report = Report::new();
            while sure.load(Ordering::Relaxed) < settings.requests
                && findings.lock().await.len() < settings.findings
            {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let case = case(&objects, settings.seed, number);
                let code = match send(&https, &case).await {
                    Ok(code) => code,
                    Err(error) => {
                        let mut findings = findings.lock().await;
                        findings.push(format!(
                            "{error:#}\n{}\nreproduce: {}",
                            shown(&case),
                            settings.command(number)
                        ));
                        continue;
                    }
                };
                sure.fetch_add(u64::from(case.sure), Ordering::Relaxed);
                *report.entry((case.what, code)).or_insert(0) += 1;
            }
            anyhow::Ok(report)
        }
    });
    let mut report = Report::new();
    for part in futures::future::try_join_all(workers).await? {
        for (key, count) in part {
            *report.entry(key).or_insert(0) += count;
        }
    }
    let findings = findings.lock().await;
    ensure!(findings.is_empty(), "{}", findings.join("\n\n"));
    let after = revision(store).await?;
    let again = settings.command(settings.first);
    ensure!(
        before == after,
        "the store went from revision {before} to {after}: something was changed\nreproduce: {again}"
    );
    let log = server.log();
    ensure!(
        !log.contains("panicked"),
        "the server panicked:\n{log}\nreproduce: {again}"
    );
    Ok(report)
}

async fn send(https: &Https, case: &Case) -> Result<u16> {
    let answer = https
        .send(
            case.method.clone(),
            &case.path,
            &case.headers,
            case.body.clone(),
        )
        .await?;
    match wrong(case, &answer) {
        None => Ok(answer.code.as_u16()),
        Some(why) => anyhow::bail!(
            "{why}: {} {}",
            answer.code,
            cut(&String::from_utf8_lossy(&answer.body))
        ),
    }
}

fn shown(case: &Case) -> String {
    format!(
        "{} ({})\n{} {}\n{:?}\n{}",
        case.what,
        if case.sure {
            "surely malformed"
        } else {
            "malformed by chance"
        },
        case.method,
        cut(&case.path),
        case.headers,
        cut(&String::from_utf8_lossy(&case.body))
    )
}

fn cut(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
