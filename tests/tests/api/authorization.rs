//! Who somebody is and what he may do: upstream's kube-apiserver is asked the
//! same, with the same roles, bindings and tokens.

mod escalation;
mod matrix;
mod objects;
mod tokens;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use mizzen_tests::api_diff::upstream::{ADMIN, TOKEN, Upstream, program};
use mizzen_tests::apiserver::ApiServer;
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::https::Https;
use mizzen_tests::skip::{self, Why};
use serde_json::Value;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(30);
const REPRODUCE: &str = "reproduce: cargo test --release -p mizzen-tests --test api authorization";

/// Static tokens, the name of a user each: token, user, uid, groups.
const TOKENS: &str = r#"alice,alice,1,"devs"
bob,bob,2,"ops,devs"
carol,carol,3
dave,dave,4,"nobodies"
erin,erin,5,"escalators"
frank,frank,6,"binders"
builder,system:serviceaccount:a:builder,7,"system:serviceaccounts,system:serviceaccounts:a"
other,system:serviceaccount:b:builder,8,"system:serviceaccounts,system:serviceaccounts:b"
scheduler,system:kube-scheduler,9
manager,system:kube-controller-manager,10
lost,lost,11,"lost"
"#;

/// All of them, and who shows nothing.
const USERS: &[&str] = &[
    "alice",
    "bob",
    "carol",
    "dave",
    "erin",
    "frank",
    "builder",
    "other",
    "scheduler",
    "manager",
    "lost",
    "",
];

/// An answer: its code, and its body.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    code: u16,
    body: Value,
}

/// One server and a connection to it.
#[derive(Clone)]
struct Side {
    https: Https,
}

impl Side {
    /// Sends a request with a token, or with none when it is empty.
    async fn call(&self, token: &str, method: Method, path: &str, body: &Value) -> Result<Told> {
        let mut headers = HeaderMap::new();
        if !token.is_empty() {
            let value = HeaderValue::from_str(&format!("Bearer {token}"))?;
            headers.insert("authorization", value);
        }
        let content = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = if body.is_null() {
            Bytes::new()
        } else {
            headers.insert("content-type", HeaderValue::from_static(content));
            Bytes::from(body.to_string())
        };
        let answer = self.https.send(method, path, &headers, body).await?;
        let json = serde_json::from_slice(&answer.body).unwrap_or_default();
        Ok(Told {
            code: answer.code.as_u16(),
            body: json,
        })
    }

    async fn admin(&self, method: Method, path: &str, body: &Value) -> Result<Told> {
        let token = TOKEN.trim_start_matches("Bearer ");
        self.call(token, method, path, body).await
    }

    /// What an administrator does, which must work.
    async fn done(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let told = self.admin(method.clone(), path, body).await?;
        ensure!(told.code < 300, "{method} {path}: {told:?}");
        Ok(told.body)
    }
}

/// Both servers, set up alike.
struct Pair {
    upstream: Side,
    ours: Side,
    keys: TempDir,
    _servers: (Upstream, ApiServer),
    _stores: (Cluster, Cluster),
}

/// A folder with tokens, the administrator's and those given, and the key of service
/// accounts' tokens; and the flags that name them.
pub fn identities(prefix: &str, tokens: &str) -> Result<(TempDir, Vec<String>)> {
    let keys = tempfile::Builder::new().prefix(prefix).tempdir()?;
    std::fs::write(keys.path().join("tokens"), format!("{ADMIN}{tokens}"))?;
    let key = rcgen::KeyPair::generate()?;
    std::fs::write(keys.path().join("sa.key"), key.serialize_pem())?;
    std::fs::write(keys.path().join("sa.pub"), key.public_key_pem())?;
    let flag = |name: &str, file: &str| format!("--{name}={}", keys.path().join(file).display());
    let flags = vec![
        flag("token-auth-file", "tokens"),
        flag("service-account-signing-key-file", "sa.key"),
        flag("service-account-key-file", "sa.pub"),
    ];
    Ok((keys, flags))
}

impl Pair {
    async fn start() -> Result<Self> {
        let (keys, mut flags) = identities("authorization-", TOKENS)?;
        flags.extend([
            "--authorization-mode=RBAC".to_owned(),
            "--anonymous-auth=true".to_owned(),
            "--enable-bootstrap-token-auth".to_owned(),
        ]);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let reference = Cluster::start(Options::new(cluster::reference()?).members(1)).await?;
        let store = Cluster::start(Options::new(cluster::mizzen()?).members(1)).await?;
        let ours = ApiServer::start_secured(&store.endpoints(), &flags)?;
        let endpoint = reference
            .endpoints()
            .into_iter()
            .next()
            .context("an endpoint")?;
        // Or it would close a connection after each request of nobody.
        let stays = "--feature-gates=UnauthenticatedHTTP2DOSMitigation=false";
        let upstream = Upstream::start_with(&endpoint, &[&flags[..], &[stays]].concat()).await?;
        let pair = Self {
            upstream: Side {
                https: upstream.connect().await?,
            },
            ours: Side {
                https: Https::connect(&ours).await?,
            },
            keys,
            _servers: (upstream, ours),
            _stores: (reference, store),
        };
        for side in pair.sides() {
            objects::create(side).await?;
        }
        Ok(pair)
    }

    fn sides(&self) -> [&Side; 2] {
        [&self.upstream, &self.ours]
    }

    fn keys(&self) -> &Path {
        self.keys.path()
    }
}

/// Asks until the answer is the one that is waited for: what was written is
/// known a moment later.
async fn until(side: &Side, path: &str, body: &Value, holds: impl Fn(&Told) -> bool) -> Result<()> {
    let started = Instant::now();
    loop {
        let told = side.admin(Method::POST, path, body).await?;
        if holds(&told) {
            return Ok(());
        }
        ensure!(
            started.elapsed() < DEADLINE,
            "{path} {body}: still {told:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What differs, with what was asked.
#[derive(Default)]
struct Compared {
    cells: usize,
    differing: Vec<String>,
}

impl Compared {
    fn cell(&mut self, asked: &str, upstream: &impl std::fmt::Debug, ours: &impl std::fmt::Debug) {
        self.cells += 1;
        let (upstream, ours) = (format!("{upstream:?}"), format!("{ours:?}"));
        if upstream != ours {
            self.differing
                .push(format!("{asked}\n  upstream {upstream}\n  ours     {ours}"));
        }
    }

    /// # Errors
    /// There are fewer cells, or some differ.
    fn hold(&self, what: &str, least: usize) -> Result<()> {
        println!(
            "{what}: {} cells, {} differ",
            self.cells,
            self.differing.len()
        );
        ensure!(self.cells >= least, "only {} cells: {what}", self.cells);
        let shown: Vec<&str> = self.differing.iter().take(20).map(String::as_str).collect();
        ensure!(
            shown.is_empty(),
            "{} of {} differ:\n{}\n{REPRODUCE}",
            self.differing.len(),
            self.cells,
            shown.join("\n")
        );
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorization_is_as_upstreams() -> Result<()> {
    if program().is_err() {
        return Ok(skip::test(&Why::program("kube-apiserver"))?);
    }
    let pair = Pair::start().await?;
    // Each part is told, whatever another says.
    let parts = [
        objects::policy(&pair).await,
        matrix::reviews(&pair).await,
        matrix::requests(&pair).await,
        matrix::questions(&pair).await,
        escalation::attempts(&pair).await,
        tokens::accounts(&pair).await,
        tokens::bootstrap(&pair).await,
    ];
    let failed: Vec<String> = parts
        .iter()
        .filter_map(|part| part.as_ref().err())
        .map(|error| format!("{error:#}"))
        .collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}
