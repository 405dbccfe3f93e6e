//! The audit log: kube-apiserver is asked the same under the same policy, and both
//! must have recorded the same events of each request.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use mizzen_tests::api_diff::case::Compared;
use mizzen_tests::api_diff::compare::{Answered, differences};
use mizzen_tests::api_diff::mask::{self, Literal};
use mizzen_tests::api_diff::upstream::{Upstream, program};
use mizzen_tests::apiserver::ApiServer;
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::https::Https;
use mizzen_tests::skip::{self, Why};
use serde_json::{Value, json};

use super::admission::ADMINISTRATOR;
use super::authorization::identities;

const REPRODUCE: &str = "reproduce: cargo test --release -p mizzen-tests --test api audit::";
const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

const TOKENS: &str = "reader,reader,1\n";
const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
- level: None
  resources: [{group: "", resources: [configmaps], resourceNames: [silent]}]
- level: Metadata
  resources: [{group: "", resources: [secrets]}]
- level: Request
  verbs: [list]
- level: RequestResponse
  resources: [{group: authentication.k8s.io}, {group: ""}, {group: apps}, {group: authorization.k8s.io}]
- level: Metadata
  nonResourceURLs: ["/version", "/api*"]
  omitStages: [RequestReceived]
"#;
const HIDDEN: &str = "marker-that-nobody-records";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

/// A request of both servers.
struct Asked {
    name: &'static str,
    method: Method,
    path: String,
    body: Value,
    headers: Vec<(&'static str, &'static str)>,
}

fn asked(name: &'static str, method: Method, path: impl Into<String>, body: Value) -> Asked {
    Asked {
        name,
        method,
        path: path.into(),
        body,
        headers: vec![("authorization", "admin")],
    }
}

impl Asked {
    /// The same with a header, which takes the place of one that is there.
    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.retain(|(one, _)| *one != name);
        self.headers.push((name, value));
        self
    }

    fn headers(&self) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", HeaderValue::from_static("tests"));
        headers.insert("accept", HeaderValue::from_static("application/json"));
        headers.insert("audit-id", HeaderValue::from_str(self.name)?);
        if !self.body.is_null() {
            headers.insert("content-type", HeaderValue::from_static("application/json"));
        }
        for (name, value) in &self.headers {
            let value = match (*name, *value) {
                ("authorization", "") => continue,
                ("authorization", "admin") => format!("Bearer {ADMINISTRATOR}"),
                (_, value) => value.to_owned(),
            };
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_str(&value)?,
            );
        }
        Ok(headers)
    }
}

fn map(name: &str, text: &str) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": {"text": text}})
}

fn secret(name: &str) -> Value {
    json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": name}, "stringData": {"text": HIDDEN}})
}

fn deployment() -> Value {
    json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

fn requests() -> Vec<Asked> {
    let none = || Value::Null;
    let one = format!("{MAPS}/one");
    let review = json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let (merge, protobuf) = (
        "application/merge-patch+json",
        "application/vnd.kubernetes.protobuf",
    );
    vec![
        asked("create", Method::POST, MAPS, map("one", "first")),
        asked("create-again", Method::POST, MAPS, map("one", "first")),
        asked(
            "create-dry",
            Method::POST,
            format!("{MAPS}?dryRun=All"),
            map("two", "dry"),
        ),
        asked("get", Method::GET, &one, none()),
        asked("get-protobuf", Method::GET, &one, none()).with("accept", protobuf),
        asked("get-absent", Method::GET, format!("{MAPS}/absent"), none()),
        asked("silent", Method::GET, format!("{MAPS}/silent"), none()),
        asked("update", Method::PUT, &one, map("one", "second")),
        asked(
            "patch",
            Method::PATCH,
            &one,
            json!({"data": {"more": "third"}}),
        )
        .with("content-type", merge),
        asked("list", Method::GET, format!("{MAPS}?limit=1"), none()),
        asked(
            "watch",
            Method::GET,
            format!("{MAPS}?watch=1&timeoutSeconds=1"),
            none(),
        ),
        asked(
            "delete",
            Method::DELETE,
            &one,
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}),
        ),
        asked(
            "delete-bare",
            Method::DELETE,
            format!("{MAPS}/absent"),
            none(),
        ),
        asked("secret", Method::POST, SECRETS, secret("one")),
        asked("secret-get", Method::GET, format!("{SECRETS}/one"), none()),
        asked("secret-list", Method::GET, SECRETS, none()),
        asked("deployment", Method::POST, DEPLOYMENTS, deployment()),
        asked(
            "scale",
            Method::GET,
            format!("{DEPLOYMENTS}/web/scale"),
            none(),
        ),
        asked(
            "review",
            Method::POST,
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            review,
        ),
        asked("forbidden", Method::GET, MAPS, none()).with("authorization", "Bearer reader"),
        asked("unknown", Method::GET, MAPS, none()).with("authorization", "Bearer nobodys"),
        asked("nothing", Method::POST, MAPS, map("one", "x")).with("authorization", ""),
        asked("as-another", Method::GET, MAPS, none()).with("impersonate-user", "somebody"),
        asked("version", Method::GET, "/version", none()),
        asked("version-forwarded", Method::GET, "/version", none())
            .with("x-forwarded-for", "192.0.2.7, 192.0.2.8"),
        asked(
            "no-resource",
            Method::GET,
            "/api/v1/namespaces/default/nothings",
            none(),
        ),
        asked(
            "bad-body",
            Method::POST,
            MAPS,
            json!({"kind": "ConfigMap", "apiVersion": "v1", "data": 1}),
        ),
    ]
}

/// Requests whose bodies or answers hold tokens: what we record of them is less than
/// upstream does.
fn with_tokens() -> Vec<Asked> {
    let token = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {"audiences": []}});
    let review = json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "spec": {"token": HIDDEN}});
    let account =
        json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "robot"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    vec![
        asked("account", Method::POST, accounts, account),
        asked(
            "token",
            Method::POST,
            format!("{accounts}/robot/token"),
            token,
        ),
        asked(
            "token-review",
            Method::POST,
            "/apis/authentication.k8s.io/v1/tokenreviews",
            review,
        ),
    ]
}

/// One server and its log.
struct Side {
    door: Https,
    log: PathBuf,
}

/// The events of requests by their names, stage by stage.
type Events = BTreeMap<String, Vec<Value>>;

impl Side {
    async fn send(&self, asked: &Asked) -> Result<u16> {
        // Not to end on a connection that one side closes after a refusal.
        let door = self.door.again().await?;
        let bytes = match asked.body.is_null() {
            true => Bytes::new(),
            false => Bytes::from(asked.body.to_string()),
        };
        let headers = asked.headers()?;
        let answer = door.send(asked.method.clone(), &asked.path, &headers, bytes);
        let answer = answer.await.with_context(|| asked.name.to_owned())?;
        Ok(answer.code.as_u16())
    }

    fn events(&self) -> Result<Events> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let mut events = Events::new();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            let id = event["auditID"].as_str().unwrap_or("").to_owned();
            events.entry(id).or_default().push(event);
        }
        Ok(events)
    }

    /// Waits until the last of the requests has been recorded to its end.
    async fn recorded(&self, last: &str) -> Result<Events> {
        let started = Instant::now();
        loop {
            let events = self.events()?;
            let of_last = events.get(last).into_iter().flatten();
            if of_last
                .into_iter()
                .any(|event| event["stage"] == "ResponseComplete")
            {
                return Ok(events);
            }
            ensure!(
                started.elapsed() < DEADLINE,
                "{last} is not recorded\n{REPRODUCE}"
            );
            tokio::time::sleep(POLL).await;
        }
    }
}

/// What is the same on both sides of an event.
fn masked(event: &Value, written: &str) -> Value {
    let mut event = event.clone();
    for field in ["requestReceivedTimestamp", "stageTimestamp"] {
        let time = event[field].as_str().unwrap_or("");
        let shaped = time.len() == "2006-01-02T15:04:05.000000Z".len() && time.ends_with('Z');
        event[field] = json!(shaped);
    }
    let saved = BTreeMap::new();
    let known = Literal {
        written,
        saved: &saved,
    };
    mask::answer(&mut event, &known, false);
    event
}

fn compare(asked: &[Asked], upstream: &Events, ours: &Events) -> Vec<String> {
    let mut found = Vec::new();
    for one in asked {
        let none = Vec::new();
        let of = |events: &Events| -> BTreeMap<String, Value> {
            let events = events.get(one.name).unwrap_or(&none).iter();
            let by_stage = events.map(|event| {
                let stage = event["stage"].as_str().unwrap_or("").to_owned();
                (stage, masked(event, &one.body.to_string()))
            });
            by_stage.collect()
        };
        let answered = |events: BTreeMap<String, Value>| Answered {
            code: 0,
            headers: Vec::new(),
            body: json!(events),
        };
        let (theirs, own) = (answered(of(upstream)), answered(of(ours)));
        for mismatch in differences(&theirs, &own, &Compared::Whole) {
            found.push(format!(
                "{} at {}\n  upstream {}\n  ours     {}",
                one.name, mismatch.path, mismatch.upstream, mismatch.ours
            ));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_as_upstreams() -> Result<()> {
    if program().is_err() {
        return Ok(skip::test(&Why::program("kube-apiserver"))?);
    }
    let (keys, mut flags) = identities("audit-", TOKENS)?;
    std::fs::write(keys.path().join("policy.yaml"), POLICY)?;
    let path = |name: &str| keys.path().join(name);
    flags.extend([
        "--authorization-mode=RBAC".to_owned(),
        "--anonymous-auth=false".to_owned(),
        format!("--audit-policy-file={}", path("policy.yaml").display()),
    ]);
    let log = |name: &str| format!("--audit-log-path={}", path(name).display());
    let (theirs, ours) = (log("upstream.log"), log("ours.log"));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let reference = Cluster::start(Options::new(cluster::reference()?).members(1)).await?;
    let store = Cluster::start(Options::new(cluster::mizzen()?).members(1)).await?;
    let server = ApiServer::start_secured(&store.endpoints(), &[&flags[..], &[&*ours]].concat())?;
    let endpoints = reference.endpoints();
    let endpoint = endpoints.first().context("an endpoint")?;
    let upstream = Upstream::start_with(endpoint, &[&flags[..], &[&*theirs]].concat()).await?;
    let (theirs, ours) = (
        Side {
            door: upstream.connect().await?,
            log: path("upstream.log"),
        },
        Side {
            door: Https::connect(&server).await?,
            log: path("ours.log"),
        },
    );
    let requests = requests();
    for one in requests.iter().chain(&with_tokens()) {
        let (they, we) = futures::try_join!(theirs.send(one), ours.send(one))?;
        ensure!(
            they == we,
            "{}: upstream {they}, ours {we}\n{REPRODUCE}",
            one.name
        );
    }
    let (upstream, own) = futures::try_join!(
        theirs.recorded("token-review"),
        ours.recorded("token-review")
    )?;
    let found = compare(&requests, &upstream, &own);
    ensure!(
        found.is_empty(),
        "{} places differ:\n{}\n{REPRODUCE}",
        found.len(),
        found.join("\n")
    );
    let events: usize = requests
        .iter()
        .filter_map(|one| own.get(one.name))
        .map(Vec::len)
        .sum();
    println!(
        "{} requests, {events} events, 0 places differ",
        requests.len()
    );
    ensure!(events > requests.len(), "only {events} events");
    for name in ["token", "token-review"] {
        let events = own.get(name).with_context(|| name.to_owned())?;
        ensure!(
            events.iter().all(|event| event["level"] == "Metadata"),
            "{events:?}"
        );
    }
    let text = std::fs::read_to_string(path("ours.log"))?;
    for hidden in [HIDDEN, "bWFya2VyLXRoYXQtbm9ib2R5", "eyJ", ADMINISTRATOR] {
        ensure!(
            !text.contains(hidden),
            "{hidden} is in the audit log\n{REPRODUCE}"
        );
    }
    Ok(())
}
