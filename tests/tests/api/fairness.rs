//! Priority and fairness: upstream's kube-apiserver has the same objects from the
//! start, and says of the same requests that they belong to the same ones.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use mizzen_tests::api_diff::upstream::{Upstream, program};
use mizzen_tests::apiserver::ApiServer;
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::https::{Answer, Https};
use mizzen_tests::skip::{self, Why};
use serde_json::Value;

use super::admission::ADMINISTRATOR;
use super::authorization::identities;

const REPRODUCE: &str = "reproduce: cargo test --release -p mizzen-tests --test api fairness::";
const GROUP: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

/// Users of many kinds, by their tokens.
const TOKENS: &str = r#"node,system:node:one,1,"system:nodes"
manager,system:kube-controller-manager,2
scheduler,system:kube-scheduler,3
kube-account,system:serviceaccount:kube-system:robot,4,"system:serviceaccounts,system:serviceaccounts:kube-system"
account,system:serviceaccount:default:robot,5,"system:serviceaccounts,system:serviceaccounts:default"
reader,reader,6
"#;
const USERS: [&str; 7] = [
    ADMINISTRATOR,
    "node",
    "manager",
    "scheduler",
    "kube-account",
    "account",
    "reader",
];
const PATHS: [(Method, &str); 8] = [
    (Method::GET, "/api/v1/pods"),
    (Method::GET, "/api/v1/namespaces/default/pods/one"),
    (Method::GET, "/api/v1/nodes"),
    (Method::PUT, "/api/v1/nodes/one/status"),
    (
        Method::GET,
        "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/one",
    ),
    (
        Method::PUT,
        "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/one",
    ),
    (Method::GET, "/version"),
    (Method::GET, "/apis"),
];

async fn send(door: &Https, user: &str, method: &Method, path: &str) -> Result<Answer> {
    let mut headers = HeaderMap::new();
    headers.insert(
        "authorization",
        HeaderValue::from_str(&format!("Bearer {user}"))?,
    );
    headers.insert("accept", HeaderValue::from_static("application/json"));
    door.send(method.clone(), path, &headers, Bytes::new())
        .await
}

/// Objects of one kind: their specifications by name, and names by uid.
struct Found {
    specs: BTreeMap<String, Value>,
    names: BTreeMap<String, String>,
}

async fn objects(door: &Https, plural: &str) -> Result<Found> {
    let answer = send(
        door,
        ADMINISTRATOR,
        &Method::GET,
        &format!("{GROUP}/{plural}"),
    )
    .await?;
    let list = answer.json()?;
    let mut found = Found {
        specs: BTreeMap::new(),
        names: BTreeMap::new(),
    };
    for item in list["items"].as_array().context("items")? {
        let text = |field: &str| item["metadata"][field].as_str().map(str::to_owned);
        let name = text("name").context("a name")?;
        let annotated = &item["metadata"]["annotations"];
        let spec = serde_json::json!({"spec": item["spec"], "annotations": annotated});
        found
            .names
            .insert(text("uid").context("a uid")?, name.clone());
        found.specs.insert(name, spec);
    }
    Ok(found)
}

/// Which schema and which level an answer names.
fn named(answer: &Answer, schemas: &Found, levels: &Found) -> [String; 2] {
    let of = |header: &str, found: &Found| {
        let uid = answer.headers.get(header).and_then(|uid| uid.to_str().ok());
        let name = uid.and_then(|uid| found.names.get(uid)).cloned();
        name.unwrap_or_else(|| format!("{uid:?}"))
    };
    [
        of("x-kubernetes-pf-flowschema-uid", schemas),
        of("x-kubernetes-pf-prioritylevel-uid", levels),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_belong_where_upstreams_do() -> Result<()> {
    if program().is_err() {
        return Ok(skip::test(&Why::program("kube-apiserver"))?);
    }
    let (_keys, mut flags) = identities("fairness-", TOKENS)?;
    flags.push("--authorization-mode=RBAC".to_owned());
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let reference = Cluster::start(Options::new(cluster::reference()?).members(1)).await?;
    let store = Cluster::start(Options::new(cluster::mizzen()?).members(1)).await?;
    let server = ApiServer::start_secured(&store.endpoints(), &flags)?;
    let endpoints = reference.endpoints();
    let endpoint = endpoints.first().context("an endpoint")?;
    let upstream = Upstream::start_with(endpoint, &flags).await?;
    let (theirs, ours) = (upstream.connect().await?, Https::connect(&server).await?);
    let mut known = Vec::new();
    for plural in ["flowschemas", "prioritylevelconfigurations"] {
        let (they, we) = (
            objects(&theirs, plural).await?,
            objects(&ours, plural).await?,
        );
        ensure!(they.specs.len() >= 8, "{} {plural}", they.specs.len());
        for (name, spec) in &they.specs {
            let own = we.specs.get(name);
            ensure!(
                own == Some(spec),
                "{plural} {name}:\n  upstream {spec}\n  ours     {own:?}\n{REPRODUCE}"
            );
        }
        ensure!(
            we.specs.len() == they.specs.len(),
            "{plural}: {:?}",
            we.specs.keys()
        );
        known.push((they, we));
    }
    let [(their_schemas, our_schemas), (their_levels, our_levels)] = &known[..] else {
        anyhow::bail!("two kinds");
    };
    let mut seen = BTreeMap::new();
    for user in USERS {
        for (method, path) in &PATHS {
            let they = send(&theirs, user, method, path).await?;
            let we = send(&ours, user, method, path).await?;
            let they = named(&they, their_schemas, their_levels);
            let we = named(&we, our_schemas, our_levels);
            ensure!(
                they == we,
                "{user} {method} {path}:\n  upstream {they:?}\n  ours     {we:?}\n{REPRODUCE}"
            );
            *seen.entry(we).or_insert(0) += 1;
        }
    }
    println!("{} requests, 0 differ: {seen:?}", USERS.len() * PATHS.len());
    ensure!(seen.len() >= 8, "{seen:?}");
    Ok(())
}
