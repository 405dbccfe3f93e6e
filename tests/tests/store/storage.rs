//! What lies in the store: every kind's maximal object survives JSON,
//! protobuf, the store and JSON again, and upstream's own types make the same
//! of the stored bytes. The latter needs `go` on the PATH.

mod maximal;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::Method;
use mizzen_apiserver::catalog::Resource;
use mizzen_apiserver::codec::json::{self, Source};
use mizzen_apiserver::object;
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use mizzen_proto::etcdserverpb::{PutRequest, RangeRequest};
use mizzen_tests::apiserver::ApiServer;
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::https::Https;
use mizzen_tests::skip::{self, Why};
use serde_json::Value;
use tonic::transport::Channel;

const REPRODUCE: &str = "reproduce: cargo test --release -p mizzen-tests --test store storage";

fn key(resource: &Resource) -> String {
    resource.key(maximal::NAMESPACE, maximal::NAME)
}

fn path(resource: &Resource) -> String {
    let root = if resource.group.is_empty() {
        "/api/v1".to_owned()
    } else {
        format!("/apis/{}", resource.api_version())
    };
    let place = if resource.namespaced {
        format!("namespaces/{}/", maximal::NAMESPACE)
    } else {
        String::new()
    };
    format!("{root}/{place}{}", resource.plural)
}

/// Stores the maximal object of a kind as a server would.
async fn store(kv: &mut KvClient<Channel>, resource: &Resource) -> Result<()> {
    let text = Value::Object(maximal::object(resource)).to_string();
    let decoded = json::decode(text.as_bytes(), resource.message, Source::Client)?;
    ensure!(
        decoded.unknown.is_empty() && decoded.duplicate.is_empty(),
        "{}: unknown {:?}, twice {:?}",
        &resource.kind,
        decoded.unknown,
        decoded.duplicate
    );
    let mut value = decoded.value;
    kv.put(PutRequest {
        key: key(resource).into(),
        value: object::to_store(resource, &mut value),
        ..PutRequest::default()
    })
    .await?;
    Ok(())
}

/// The object as it is shown by name and in a list, which must be what was
/// stored.
async fn shown(https: &Https, resource: &Resource) -> Result<Value> {
    let collection = path(resource);
    let one = format!("{collection}/{}", maximal::NAME);
    let shown = https.json(Method::GET, &one, None).await?;
    let mut expected = Value::Object(maximal::object(resource));
    let version = shown["metadata"]["resourceVersion"].clone();
    ensure!(version.is_string(), "{one} has no version");
    expected["metadata"]["resourceVersion"] = version;
    ensure!(
        shown == expected,
        "{one} came back otherwise:\n{shown}\nexpected:\n{expected}\n{REPRODUCE}"
    );
    let list = https.json(Method::GET, &collection, None).await?;
    let items = list["items"].as_array().context("items")?;
    let mut found = items
        .iter()
        .find(|item| item["metadata"]["name"] == maximal::NAME)
        .with_context(|| format!("{one} is not in its list"))?
        .clone();
    // Upstream's lists name the kind once, for all of them.
    found["kind"] = resource.kind.clone().into();
    found["apiVersion"] = resource.api_version().into();
    ensure!(
        found == expected,
        "{one} is otherwise in its list:\n{found}\n{REPRODUCE}"
    );
    Ok(shown)
}

/// Gives stored objects to upstream's types, which must make the same of them.
fn judge(objects: &[(String, Bytes, Value)]) -> Result<()> {
    if cluster::find_tool("go").is_empty() {
        return Ok(skip::part("upstream's types", &Why::program("go"))?);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes");
    let mut child = Command::new("go")
        .args(["run", "./decode"])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run go")?;
    let mut lines = String::new();
    for (key, value, shown) in objects {
        let value = STANDARD.encode(value);
        let line = serde_json::json!({"key": key, "value": value, "shown": shown});
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    // It may end at the first that is wrong: its words count, not the pipe's.
    let fed = child
        .stdin
        .take()
        .context("stdin")?
        .write_all(lines.as_bytes());
    let output = child.wait_with_output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "upstream's types differ: {}\n{REPRODUCE}",
        String::from_utf8_lossy(&output.stderr)
    );
    fed?;
    ensure!(
        printed.trim() == format!("{} objects", objects.len()),
        "{printed}"
    );
    println!("upstream's types: {printed}");
    Ok(())
}

#[tokio::test]
async fn maximal_objects_survive_the_store() -> Result<()> {
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let server = ApiServer::start(&cluster.endpoints())?;
        let https = Https::connect(&server).await?;
        let mut kv = KvClient::new(cluster.channel(0)?);
        let mut objects = Vec::new();
        let catalog = mizzen_apiserver::kinds::built_in();
        let stored = catalog
            .resources()
            .iter()
            .filter(|one| one.stored_as.is_none());
        for resource in stored {
            store(&mut kv, resource)
                .await
                .with_context(|| resource.kind.clone())?;
            let shown = shown(&https, resource)
                .await
                .with_context(|| resource.kind.clone())?;
            let request = RangeRequest {
                key: key(resource).into(),
                ..RangeRequest::default()
            };
            let reply = kv.range(request).await?.into_inner();
            let pair = reply.kvs.into_iter().next().context("what was stored")?;
            objects.push((key(resource), pair.value, shown));
        }
        println!("{} kinds", objects.len());
        // And what the server makes itself: namespaces, by way of create.
        for name in ["default", "kube-system"] {
            let request = RangeRequest {
                key: format!("/registry/namespaces/{name}").into(),
                ..RangeRequest::default()
            };
            let reply = kv.range(request).await?.into_inner();
            let pair = reply.kvs.into_iter().next().context("a namespace")?;
            let path = format!("/api/v1/namespaces/{name}");
            let shown = https.json(Method::GET, &path, None).await?;
            objects.push((path, pair.value, shown));
        }
        judge(&objects)
    })
    .await
}
