//! What the resource API owes clients beside objects: compressed answers,
//! counts, OpenAPI v2, kinds in two versions, addresses of services. Two
//! servers over a three-replica store.

use std::collections::BTreeSet;
use std::io::Read as _;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use flate2::read::GzDecoder;
use futures::future::try_join_all;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use mizzen_proto::etcdserverpb::{PutRequest, RangeRequest};
use mizzen_tests::apiserver::ApiServer;
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::https::Https;
use mizzen_tests::shared;
use serde_json::{Value, json};

/// Runs a test on two servers that others use too.
async fn on_both(test: impl AsyncFnOnce(&[Https; 2]) -> Result<()>) -> Result<()> {
    let api = shared::resource_api().await?;
    let tested = test(&api.doors().await?).await;
    tested.with_context(|| api.failure_report())
}

/// Runs a test on two servers and a store that nobody else uses.
async fn alone(test: impl AsyncFnOnce(&Cluster, &[Https; 2]) -> Result<()>) -> Result<()> {
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let endpoints = cluster.endpoints();
        let servers = [ApiServer::start(&endpoints)?, ApiServer::start(&endpoints)?];
        let doors = [
            Https::connect(&servers[0]).await?,
            Https::connect(&servers[1]).await?,
        ];
        test(cluster, &doors).await
    })
    .await
}

#[tokio::test]
async fn large_answers_are_compressed() -> Result<()> {
    on_both(async |[door, _]| compressed(door).await).await
}

#[tokio::test]
async fn requests_are_counted() -> Result<()> {
    let api = shared::resource_api().await?;
    // Its counts are of this test alone.
    let server = ApiServer::start(&api.cluster.endpoints())?;
    counted(&Https::connect(&server).await?).await
}

#[tokio::test]
async fn openapi_v2_is_served() -> Result<()> {
    on_both(async |[door, _]| openapi_v2(door).await).await
}

#[tokio::test]
async fn a_watch_from_long_ago_is_told_so() -> Result<()> {
    on_both(async |[door, _]| too_old(door).await).await
}

#[tokio::test]
async fn events_are_served_in_two_versions() -> Result<()> {
    on_both(events_in_two_versions).await
}

#[tokio::test]
async fn services_have_addresses_and_ports_of_their_own() -> Result<()> {
    alone(addresses_of_services).await
}

#[tokio::test]
async fn nothing_is_created_in_a_namespace_that_ends() -> Result<()> {
    on_both(namespaces_that_end).await
}

#[tokio::test]
async fn the_service_kubernetes_comes_back() -> Result<()> {
    on_both(service_kubernetes).await
}

#[tokio::test]
async fn an_object_stored_without_defaults_can_be_updated() -> Result<()> {
    let api = shared::resource_api().await?;
    stored_without_defaults(&api.cluster, &api.doors().await?[0]).await
}

fn header(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(
        http::HeaderName::from_static(name),
        HeaderValue::from_static(value),
    )])
}

async fn compressed(door: &Https) -> Result<()> {
    let path = "/api/v1/namespaces/default/configmaps";
    for number in 0..3 {
        let map = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": format!("large-{number}")},
            "data": {"text": "mizzen ".repeat(10_000)}});
        door.json(Method::POST, path, Some(&map)).await?;
    }
    let gzip = header("accept-encoding", "gzip");
    let plain = door
        .send(Method::GET, path, &HeaderMap::new(), Bytes::new())
        .await?;
    ensure!(!plain.headers.contains_key("content-encoding"));
    let packed = door.send(Method::GET, path, &gzip, Bytes::new()).await?;
    ensure!(packed.headers["content-encoding"] == "gzip");
    ensure!(packed.body.len() < plain.body.len() / 10);
    let mut text = Vec::new();
    GzDecoder::new(&packed.body[..]).read_to_end(&mut text)?;
    // A server that has just started writes what belongs to the system: the list is of
    // another moment.
    let items = |text: &[u8]| -> Result<Value> {
        Ok(serde_json::from_slice::<Value>(text)?["items"].take())
    };
    let (unpacked, expected) = (items(&text)?, items(&plain.body)?);
    ensure!(
        unpacked
            .as_array()
            .is_some_and(|all| all.len() == 4 || all.len() == 3)
    );
    ensure!(unpacked == expected, "what was unpacked is something else");
    let one = format!("{path}/large-0");
    let small = door.send(Method::GET, &one, &gzip, Bytes::new()).await?;
    ensure!(!small.headers.contains_key("content-encoding"));
    Ok(())
}

async fn metrics(door: &Https) -> Result<String> {
    let answer = door
        .send(Method::GET, "/metrics", &HeaderMap::new(), Bytes::new())
        .await?;
    ensure!(answer.code == StatusCode::OK);
    Ok(String::from_utf8(answer.body.to_vec())?)
}

/// The value of a series whose line holds all of these.
fn value(metrics: &str, words: &[&str]) -> Result<f64> {
    let line = metrics
        .lines()
        .find(|line| !line.starts_with('#') && words.iter().all(|word| line.contains(word)))
        .with_context(|| format!("no series of {words:?}:\n{metrics}"))?;
    let (_, value) = line.rsplit_once(' ').context("a value")?;
    Ok(value.parse()?)
}

async fn counted(door: &Https) -> Result<()> {
    let path = "/api/v1/namespaces/kube-public/secrets";
    let watch = door
        .open(
            Method::GET,
            &format!("{path}?watch=1"),
            &HeaderMap::new(),
            Bytes::new(),
        )
        .await?;
    ensure!(watch.status() == StatusCode::OK);
    let mut watch = watch.into_body();
    let secret = json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "counted"}});
    door.json(Method::POST, path, Some(&secret)).await?;
    let event = watch.frame().await.context("an event")??;
    ensure!(event.is_data());
    for _ in 0..3 {
        door.json(Method::GET, &format!("{path}/counted"), None)
            .await?;
    }
    let missing = door
        .send(
            Method::GET,
            &format!("{path}/nothing"),
            &HeaderMap::new(),
            Bytes::new(),
        )
        .await?;
    ensure!(missing.code == StatusCode::NOT_FOUND);
    let text = metrics(door).await?;
    let get =
        "resource=\"secrets\",scope=\"resource\",subresource=\"\",verb=\"GET\",version=\"v1\"";
    for (words, expected) in [
        (&["apiserver_request_total{code=\"200\"", get][..], 3.0),
        (&["apiserver_request_total{code=\"404\"", get], 1.0),
        (
            &["apiserver_request_total{code=\"201\"", "secrets", "POST"],
            1.0,
        ),
        (&["apiserver_request_duration_seconds_count", get], 4.0),
        (
            &["apiserver_request_duration_seconds_bucket", get, "+Inf"],
            4.0,
        ),
        (&["apiserver_longrunning_requests", "secrets", "WATCH"], 1.0),
        (&["apiserver_watch_events_total", "secrets"], 1.0),
        // The one that asks.
        (&["apiserver_current_inflight_requests", "readOnly"], 1.0),
    ] {
        let found = value(&text, words)?;
        ensure!(found == expected, "{words:?}: {found}, not {expected}");
    }
    ensure!(value(&text, &["process_resident_memory_bytes"])? > 1e6);
    Ok(())
}

async fn openapi_v2(door: &Https) -> Result<()> {
    let document = door.json(Method::GET, "/openapi/v2", None).await?;
    ensure!(document["swagger"] == "2.0");
    let containers =
        &document["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    ensure!(containers["x-kubernetes-patch-merge-key"] == "name");
    let patch =
        &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    ensure!(patch["x-kubernetes-group-version-kind"]["kind"] == "Deployment");
    let protobuf = header(
        "accept",
        "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    );
    let answer = door
        .send(Method::GET, "/openapi/v2", &protobuf, Bytes::new())
        .await?;
    ensure!(
        answer.headers["content-type"]
            == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    );
    Ok(())
}

/// What a watch cannot begin with is told as its first event: kube-rs lists
/// again upon no other answer.
async fn too_old(door: &Https) -> Result<()> {
    let path = "/api/v1/namespaces?watch=1&resourceVersion=1";
    door.json(Method::GET, "/api/v1/namespaces?resourceVersion=0", None)
        .await?;
    for accept in ["application/json", "application/vnd.kubernetes.protobuf"] {
        let answer = door
            .send(Method::GET, path, &header("accept", accept), Bytes::new())
            .await?;
        ensure!(answer.code == StatusCode::OK, "{}", answer.code);
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(text.contains("ERROR") && text.contains("Expired"), "{text}");
    }
    Ok(())
}

async fn events_in_two_versions(doors: &[Https; 2]) -> Result<()> {
    let new = "/apis/events.k8s.io/v1/namespaces/default/events";
    let watch = doors[1]
        .open(
            Method::GET,
            &format!("{new}?watch=1&fieldSelector=regarding.name%3Dp"),
            &HeaderMap::new(),
            Bytes::new(),
        )
        .await?;
    let mut watch = watch.into_body();
    let mut event = json!({"kind": "Event", "apiVersion": "events.k8s.io/v1", "metadata": {"name": "e"},
        "eventTime": "2026-01-02T03:04:05.000006Z", "reportingController": "tests", "reportingInstance": "one",
        "action": "test", "reason": "Tested", "type": "Normal", "note": "a text",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"}});
    let mut without = event.clone();
    without["reportingInstance"] = "".into();
    let headers = header("content-type", "application/json");
    let refused = doors[0]
        .send(Method::POST, new, &headers, without.to_string().into())
        .await?;
    ensure!(refused.code == StatusCode::UNPROCESSABLE_ENTITY);
    let made = doors[0].json(Method::POST, new, Some(&event)).await?;
    ensure!(made["apiVersion"] == "events.k8s.io/v1" && made["note"] == "a text");
    let old = doors[1]
        .json(Method::GET, "/api/v1/namespaces/default/events/e", None)
        .await?;
    ensure!(old["message"] == "a text" && old["involvedObject"]["name"] == "p");
    ensure!(old["reportingComponent"] == "tests" && old["apiVersion"] == "v1");
    let told = watch.frame().await.context("an event")??;
    let told: Value = serde_json::from_slice(told.data_ref().context("data")?)?;
    ensure!(told["type"] == "ADDED" && told["object"] == made, "{told}");

    event["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    // Nothing else of it can change.
    event["series"] = json!({"count": 2, "lastObservedTime": "2026-11-29T12:00:01.000000Z"});
    let changed = doors[1]
        .json(Method::PUT, &format!("{new}/e"), Some(&event))
        .await?;
    ensure!(changed["series"]["count"] == 2);
    let listed = doors[0]
        .json(
            Method::GET,
            &format!("{new}?fieldSelector=regarding.name%3Dp"),
            None,
        )
        .await?;
    ensure!(listed["kind"] == "EventList" && listed["apiVersion"] == "events.k8s.io/v1");
    // The list says for all what each is.
    let mut bare = changed.clone();
    if let Some(fields) = bare.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    ensure!(listed["items"] == json!([bare]), "{listed}");
    // The version in the body must be that of the URL.
    let mixed = old.to_string();
    let refused = doors[0]
        .send(Method::PUT, &format!("{new}/e"), &headers, mixed.into())
        .await?;
    ensure!(refused.code == StatusCode::BAD_REQUEST);
    doors[0]
        .json(Method::DELETE, &format!("{new}/e"), None)
        .await?;
    Ok(())
}

const SERVICES: &str = "/api/v1/namespaces/kube-public/services";

/// Node ports as upstream records them.
async fn ports_given(cluster: &Cluster) -> Result<usize> {
    let request = RangeRequest {
        key: "/registry/ranges/servicenodeports".into(),
        ..RangeRequest::default()
    };
    let reply = KvClient::new(cluster.channel(0)?).range(request).await?;
    let pair = reply.into_inner().kvs.into_iter().next();
    let value = pair.context("a record")?.value;
    let at = value
        .windows(11)
        .position(|window| window == b"30000-32767")
        .context("the range")?;
    // Field 3, its length, the bits; without any the field may be left out.
    let data = value.get(at + 11..).unwrap_or_default();
    let (Some(0x1a), Some(low)) = (data.first(), data.get(1)) else {
        return Ok(0);
    };
    let wide = usize::from(low & 0x80 != 0);
    let high = usize::from(data.get(2).copied().unwrap_or(0));
    let length = usize::from(low & 0x7f) + wide * (high << 7);
    let bits = data.get(2 + wide..2 + wide + length).context("the bits")?;
    Ok(bits.iter().map(|byte| byte.count_ones() as usize).sum())
}

async fn addresses_of_services(cluster: &Cluster, doors: &[Https; 2]) -> Result<()> {
    let service = |name: String, kind: &str| {
        json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": name},
        "spec": {"type": kind, "ports": [{"port": 80}]}})
    };
    let made = (0..60).map(|number| {
        let door = &doors[number % 2];
        let object = service(format!("s-{number}"), "NodePort");
        async move { door.json(Method::POST, SERVICES, Some(&object)).await }
    });
    let made = try_join_all(made).await?;
    let ports: BTreeSet<u64> = made
        .iter()
        .filter_map(|one| one["spec"]["ports"][0]["nodePort"].as_u64())
        .collect();
    let addresses: BTreeSet<&str> = made
        .iter()
        .filter_map(|one| one["spec"]["clusterIP"].as_str())
        .collect();
    ensure!(ports.len() == 60, "node ports given twice: {ports:?}");
    ensure!(
        addresses.len() == 60,
        "addresses given twice: {addresses:?}"
    );
    ensure!(ports_given(cluster).await? == 60);
    let records = "/apis/networking.k8s.io/v1/ipaddresses";
    let listed = doors[0].json(Method::GET, records, None).await?;
    let listed = listed["items"].as_array().context("items")?;
    // One more is that of the Service `kubernetes`.
    ensure!(listed.len() == 61, "{} records", listed.len());
    for record in listed {
        ensure!(record["spec"]["parentRef"]["resource"] == "services");
    }

    // A port that is taken, and one outside the range.
    let taken = made[0]["spec"]["ports"][0]["nodePort"].clone();
    let headers = header("content-type", "application/json");
    for (port, why) in [
        (taken, "already allocated"),
        (80.into(), "not in the valid range"),
    ] {
        let mut object = service("refused".to_owned(), "NodePort");
        object["spec"]["ports"][0]["nodePort"] = port;
        let answer = doors[1]
            .send(Method::POST, SERVICES, &headers, object.to_string().into())
            .await?;
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(answer.code == StatusCode::UNPROCESSABLE_ENTITY, "{text}");
        ensure!(text.contains(why), "{text}");
    }
    // Another type gives the port back and keeps the address; what an update
    // leaves out stays.
    let mut object = service("s-0".to_owned(), "ClusterIP");
    let changed = doors[1]
        .json(Method::PUT, &format!("{SERVICES}/s-0"), Some(&object))
        .await?;
    ensure!(changed["spec"]["clusterIP"] == made[0]["spec"]["clusterIP"]);
    ensure!(
        changed["spec"]["ports"][0].get("nodePort").is_none(),
        "{changed}"
    );
    ensure!(ports_given(cluster).await? == 59);
    object["spec"]["clusterIP"] = "10.96.0.77".into();
    let moved = doors[0]
        .send(
            Method::PUT,
            &format!("{SERVICES}/s-0"),
            &headers,
            object.to_string().into(),
        )
        .await?;
    ensure!(moved.code == StatusCode::UNPROCESSABLE_ENTITY);
    doors[0].json(Method::DELETE, SERVICES, None).await?;
    let listed = doors[1].json(Method::GET, records, None).await?;
    ensure!(
        listed["items"]
            .as_array()
            .is_some_and(|list| list.len() == 1),
        "{listed}"
    );
    ensure!(ports_given(cluster).await? == 0);
    Ok(())
}

/// A pod that was stored without fields that have defaults: a client sends it
/// back as it read it, and changes nothing that must not change.
async fn stored_without_defaults(cluster: &Cluster, door: &Https) -> Result<()> {
    let field = |number: u8, bytes: &[u8]| {
        let mut field = vec![number << 3 | 2, bytes.len() as u8];
        field.extend(bytes);
        field
    };
    let uid = b"00000000-0000-4000-8000-000000000000";
    let meta = [field(1, b"bare"), field(3, b"default"), field(5, uid)].concat();
    let container = [field(1, b"c"), field(2, b"nginx:1")].concat();
    let pod = [field(1, &meta), field(2, &field(2, &container))].concat();
    let kind = [field(1, b"v1"), field(2, b"Pod")].concat();
    let value = [b"k8s\0".to_vec(), field(1, &kind), field(2, &pod)].concat();
    let put = PutRequest {
        key: "/registry/pods/default/bare".into(),
        value: value.into(),
        ..PutRequest::default()
    };
    KvClient::new(cluster.channel(0)?).put(put).await?;
    let path = "/api/v1/namespaces/default/pods/bare";
    let mut pod = door.json(Method::GET, path, None).await?;
    pod["metadata"]["labels"] = json!({"a": "b"});
    let changed = door.json(Method::PUT, path, Some(&pod)).await?;
    ensure!(changed["metadata"]["labels"]["a"] == "b", "{changed}");
    ensure!(changed["spec"]["dnsPolicy"] == "ClusterFirst", "{changed}");
    Ok(())
}

/// A server whose cache still shows a namespace that another one has begun to
/// end creates nothing in it.
async fn namespaces_that_end(doors: &[Https; 2]) -> Result<()> {
    let headers = header("content-type", "application/json");
    let map =
        |name: &str| json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}});
    for number in 0..20 {
        let name = format!("ends-{number}");
        let namespace =
            json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}});
        doors[0]
            .json(Method::POST, "/api/v1/namespaces", Some(&namespace))
            .await?;
        let maps = format!("/api/v1/namespaces/{name}/configmaps");
        doors[0]
            .json(Method::POST, &maps, Some(&map("early")))
            .await?;
        doors[1]
            .json(Method::DELETE, &format!("/api/v1/namespaces/{name}"), None)
            .await?;
        let late = map("late").to_string();
        let answer = doors[0]
            .send(Method::POST, &maps, &headers, late.into())
            .await?;
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(answer.code == StatusCode::FORBIDDEN, "{name}: {text}");
        ensure!(text.contains("being terminated"), "{name}: {text}");
    }
    Ok(())
}

/// The Service `kubernetes` is there from the start, and comes back.
async fn service_kubernetes(doors: &[Https; 2]) -> Result<()> {
    let path = "/api/v1/namespaces/default/services/kubernetes";
    let first = doors[0].json(Method::GET, path, None).await?;
    ensure!(first["spec"]["clusterIP"] == "10.96.0.1", "{first}");
    ensure!(first["spec"]["ports"][0]["port"] == 443, "{first}");
    doors[1].json(Method::DELETE, path, None).await?;
    let watch = "/api/v1/namespaces/default/services?watch=1&timeoutSeconds=60&fieldSelector=metadata.name%3Dkubernetes&resourceVersion=0";
    let answer = doors[0]
        .open(Method::GET, watch, &HeaderMap::new(), Bytes::new())
        .await?;
    let (mut body, mut told) = (answer.into_body(), Vec::new());
    // It may be told of as it was, as deleted, and as it is again.
    loop {
        let frame = body.frame().await.context("it did not come back")??;
        told.extend_from_slice(&frame.into_data().unwrap_or_default());
        while let Some(end) = told.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = told.drain(..=end).collect();
            let event: Value = serde_json::from_slice(&line)?;
            let object = &event["object"];
            if event["type"] == "ADDED" && object["metadata"]["uid"] != first["metadata"]["uid"] {
                ensure!(object["spec"]["clusterIP"] == "10.96.0.1", "{object}");
                return Ok(());
            }
        }
    }
}
