//! What becomes of objects between their decoding and their storing: upstream's
//! kube-apiserver is told the same, with the same plugins of admission on, and
//! asked the same by nodes.

mod nodes;
mod pods;
mod quotas;
mod security;
mod storage;
mod webhooks;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use mizzen_tests::api_diff::case::Compared;
use mizzen_tests::api_diff::compare::{Answered, Mismatch, differences};
use mizzen_tests::api_diff::mask::{self, Literal};
use mizzen_tests::api_diff::upstream::{TOKEN, Upstream, program};
use mizzen_tests::apiserver::{self, ApiServer};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::https::Https;
use mizzen_tests::skip::{self, Why};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::authorization::identities;

/// How long both sides may take until they know what was written.
const DEADLINE: Duration = Duration::from_secs(15);
const REPRODUCE: &str = "reproduce: cargo test --release -p mizzen-tests --test api admission";

/// Static tokens beside the administrator's.
const TOKENS: &str = r#"one,system:node:one,1,"system:nodes"
two,system:node:two,2,"system:nodes"
nameless,system:node:,3,"system:nodes"
approver,approver,4
"#;
pub const ADMINISTRATOR: &str = "token-of-the-tests";

/// Both servers.
pub struct Pair {
    upstream: Https,
    ours: Https,
    found: Vec<String>,
    asked: usize,
    _keys: TempDir,
    _servers: (Upstream, ApiServer),
    _stores: (Cluster, Cluster),
}

impl Pair {
    async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// Both with these flags, too.
    pub async fn start_with(more: &[String]) -> Result<Self> {
        let (keys, mut flags) = identities("admission-", TOKENS)?;
        flags.extend_from_slice(more);
        flags.extend([
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            format!(
                "--disable-admission-plugins={}",
                apiserver::MISSING_PLUGINS.join(",")
            ),
        ]);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let reference = Cluster::start(Options::new(cluster::reference()?).members(1)).await?;
        let store = Cluster::start(Options::new(cluster::mizzen()?).members(1)).await?;
        let ours = ApiServer::start_secured(&store.endpoints(), &flags)?;
        let endpoints = reference.endpoints();
        let endpoint = endpoints.first().context("an endpoint")?;
        // Or it would close a connection after each request of nobody.
        let stays = "--feature-gates=UnauthenticatedHTTP2DOSMitigation=false";
        let upstream = Upstream::start_with(endpoint, &[&flags[..], &[stays]].concat()).await?;
        Ok(Self {
            upstream: upstream.connect().await?,
            ours: Https::connect(&ours).await?,
            found: Vec::new(),
            asked: 0,
            _keys: keys,
            _servers: (upstream, ours),
            _stores: (reference, store),
        })
    }

    /// Does something on both sides, as an administrator, which must work.
    pub async fn set(&mut self, method: Method, path: &str, body: &Value) -> Result<()> {
        let (upstream, ours) = self.both(ADMINISTRATOR, &method, path, body).await?;
        ensure!(
            upstream.succeeded() && ours.succeeded(),
            "{method} {path}:\n  upstream {upstream:?}\n  ours     {ours:?}"
        );
        self.judge(&method, path, body, &differing(&upstream, &ours));
        Ok(())
    }

    pub async fn create(&mut self, path: &str, body: &Value) -> Result<()> {
        self.set(Method::POST, path, body).await
    }

    /// Asks both sides, as an administrator, what would become of a new object.
    pub async fn would(&mut self, path: &str, body: &Value) -> Result<()> {
        let path = format!("{path}?dryRun=All");
        self.ask(ADMINISTRATOR, Method::POST, &path, body).await
    }

    /// Asks both sides something that changes nothing, until they say the same:
    /// what was written a moment ago is known a moment later.
    pub async fn ask(
        &mut self,
        user: &str,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<()> {
        let started = Instant::now();
        loop {
            let (upstream, ours) = self.both(user, &method, path, body).await?;
            let found = differing(&upstream, &ours);
            if found.is_empty() || started.elapsed() > DEADLINE {
                self.judge(&method, &format!("{path} ({user})"), body, &found);
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The same, as upstream is known to answer: with this code.
    pub async fn get(&mut self, user: &str, path: &str, code: u16) -> Result<()> {
        self.code(user, Method::GET, path, &Value::Null, code).await
    }

    /// Asks until upstream answers with a code, and then both sides.
    pub async fn code(
        &mut self,
        user: &str,
        method: Method,
        path: &str,
        body: &Value,
        code: u16,
    ) -> Result<()> {
        let started = Instant::now();
        loop {
            let answer = call(&self.upstream, user, &method, path, body).await?;
            if answer.code == code {
                return self.ask(user, method, path, body).await;
            }
            if started.elapsed() > DEADLINE {
                bail!("{method} {path} ({user}): upstream says {answer:?}, not {code}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Places that differ so far, and how many questions were asked.
    pub fn found(&self) -> (&[String], usize) {
        (&self.found, self.asked)
    }

    /// What an administrator sees of an object on each side.
    pub async fn shown(&self, path: &str) -> Result<(Value, Value)> {
        let get = |side| raw(side, ADMINISTRATOR, &Method::GET, path, &Value::Null);
        let (upstream, ours) = futures::try_join!(get(&self.upstream), get(&self.ours))?;
        Ok((upstream.body, ours.body))
    }

    /// What each side answers.
    pub async fn both(
        &self,
        user: &str,
        method: &Method,
        path: &str,
        body: &Value,
    ) -> Result<(Answered, Answered)> {
        futures::try_join!(
            call(&self.upstream, user, method, path, body),
            call(&self.ours, user, method, path, body)
        )
    }

    /// Remembers what differs.
    pub fn judge(&mut self, method: &Method, path: &str, body: &Value, found: &[Mismatch]) {
        self.asked += 1;
        for one in found {
            self.found.push(format!(
                "{method} {path} {body}\n  at {}\n  upstream {}\n  ours     {}",
                one.path, one.upstream, one.ours
            ));
        }
    }
}

pub fn differing(upstream: &Answered, ours: &Answered) -> Vec<Mismatch> {
    differences(upstream, ours, &Compared::Whole)
}

/// Sends a request as the user of a token.
async fn raw(
    side: &Https,
    user: &str,
    method: &Method,
    path: &str,
    body: &Value,
) -> Result<Answered> {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(&format!("Bearer {user}"))?;
    headers.insert("authorization", value);
    headers.insert("accept", HeaderValue::from_static("application/json"));
    headers.insert("user-agent", HeaderValue::from_static("tests"));
    let content = match *method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let bytes = if body.is_null() {
        Bytes::new()
    } else {
        headers.insert("content-type", HeaderValue::from_static(content));
        Bytes::from(body.to_string())
    };
    let answer = side.send(method.clone(), path, &headers, bytes).await?;
    let warnings = answer.headers.get_all("warning").iter();
    // What the kinds themselves warn of is no plugin's: `api_diff` compares it.
    let warnings = warnings
        .filter_map(|value| value.to_str().ok())
        .filter(|text| !text.contains("deprecated"));
    Ok(Answered {
        code: answer.code.as_u16(),
        headers: warnings
            .map(|value| ("warning".to_owned(), value.to_owned()))
            .collect(),
        body: serde_json::from_slice(&answer.body).unwrap_or_default(),
    })
}

/// The same, less what differs from run to run.
async fn call(
    side: &Https,
    user: &str,
    method: &Method,
    path: &str,
    body: &Value,
) -> Result<Answered> {
    let mut answered = raw(side, user, method, path, body).await?;
    let known = Literal {
        written: &body.to_string(),
        saved: &BTreeMap::new(),
    };
    mask::answer(&mut answered.body, &known, false);
    volumes(&mut answered.body);
    Ok(answered)
}

/// The names of volumes of tokens end with five letters by lot.
fn volumes(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(volumes),
        Value::Array(list) => list.iter_mut().for_each(volumes),
        Value::String(text) if text.starts_with("kube-api-access-") && text.len() == 21 => {
            *text = "kube-api-access-<random>".to_owned();
        }
        _ => {}
    }
}

/// A pod of one container, with this in its specification, too.
pub fn pod(name: &str, more: &Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (field, value) in more.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

/// A namespace with the account that a controller would make.
pub async fn namespace(pair: &mut Pair, name: &str, labels: &Value) -> Result<()> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    pair.create("/api/v1/namespaces", &namespace).await?;
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let path = format!("/api/v1/namespaces/{name}/serviceaccounts");
    pair.create(&path, &account).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admission_is_as_upstreams() -> Result<()> {
    ensure!(TOKEN.ends_with(ADMINISTRATOR));
    if program().is_err() {
        return Ok(skip::test(&Why::program("kube-apiserver"))?);
    }
    let mut pair = Pair::start().await?;
    pods::all(&mut pair).await.context(REPRODUCE)?;
    storage::all(&mut pair).await.context(REPRODUCE)?;
    security::all(&mut pair).await.context(REPRODUCE)?;
    quotas::all(&mut pair).await.context(REPRODUCE)?;
    nodes::all(&mut pair).await.context(REPRODUCE)?;
    webhooks::all(&mut pair).await.context(REPRODUCE)?;
    println!("{} questions, {} differ", pair.asked, pair.found.len());
    ensure!(pair.asked >= 100, "only {} questions", pair.asked);
    ensure!(
        pair.found.is_empty(),
        "{} places differ:\n{}\n{REPRODUCE}",
        pair.found.len(),
        pair.found.join("\n")
    );
    Ok(())
}
