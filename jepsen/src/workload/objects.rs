//! Objects of the resource API: created, updated, deleted and read through
//! several servers, listed in pages, and watched from a list on or with all
//! that is there first. A watch ends when it has told of an object that was
//! written last of all.
//!
//! The API answers with revisions of the store, so what the store's own
//! watches show is what every answer is held to.

use super::spread;
use crate::client::Bench;
use crate::client::rest::{Address, Rest, Trouble};
use crate::history::object::{Object, ObjectOp, ObjectOut, ObjectReq, ObjectWatch, Told};
use crate::history::record::Record;
use crate::seed;
use anyhow::{Result, bail};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

const NAMESPACES: [&str; 2] = ["jepsen-a", "jepsen-b"];
const NAMES: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST_WATCH: Duration = Duration::from_secs(6);
/// How long the object that was written last may take to be told.
const ANSWER: Duration = Duration::from_secs(20);
const REFUSED: Duration = Duration::from_millis(100);
const BOOT: Duration = Duration::from_secs(60);

/// What all clients of a run share.
pub struct Api {
    pub bench: Arc<Bench>,
    pub servers: Arc<Vec<Address>>,
    pub seed: u64,
    next: AtomicU64,
}

impl Api {
    pub fn new(bench: Arc<Bench>, servers: Vec<Address>, seed: u64) -> Api {
        Api {
            bench,
            servers: Arc::new(servers),
            seed,
            next: AtomicU64::new(0),
        }
    }

    /// Makes the namespaces.
    pub async fn prepare(&self) -> Result<()> {
        let begun = Instant::now();
        for server in 0..self.servers.len() {
            let mut rest = Rest::new(&self.servers, server);
            for name in NAMESPACES {
                let body = json!({"metadata": {"name": name}});
                loop {
                    let sent = rest.send("POST", "/api/v1/namespaces", Some(&body));
                    match timeout(PATIENCE, sent).await {
                        Ok(Ok((201 | 409, _))) => break,
                        _ if begun.elapsed() > BOOT => bail!("a{server} makes no namespace"),
                        _ => sleep(REFUSED).await,
                    }
                }
            }
        }
        Ok(())
    }
}

pub struct ApiActor {
    api: Arc<Api>,
    rest: Rest,
    rng: StdRng,
    id: u32,
    written: u64,
}

impl ApiActor {
    pub fn new(api: &Arc<Api>, id: u32) -> ApiActor {
        ApiActor {
            rest: Rest::new(&api.servers, spread(id, api.servers.len())),
            rng: seed::stream(api.seed, "object", u64::from(id)),
            api: Arc::clone(api),
            id,
            written: 0,
        }
    }

    /// Works until told to stop. One client in three watches.
    pub async fn run(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            if self.id % 3 == 2 {
                self.watch().await;
            } else {
                self.step().await;
            }
        }
    }

    /// Nanoseconds since the run began.
    fn now(&self) -> u64 {
        self.api.bench.clock.now()
    }

    fn unique(&mut self) -> String {
        self.written += 1;
        format!("v{}.{}.", self.id, self.written)
    }

    async fn step(&mut self) {
        let namespace = NAMESPACES[self.rng.random_range(0..NAMESPACES.len())].to_string();
        let name = format!("o{}", self.rng.random_range(0..NAMES));
        match self.rng.random_range(0..12u8) {
            0..3 => {
                let value = self.unique();
                self.call(ObjectReq::Create {
                    namespace,
                    name,
                    value,
                })
                .await;
            }
            3..7 => {
                let get = ObjectReq::Get {
                    namespace: namespace.clone(),
                    name: name.clone(),
                };
                let seen = self.call(get).await;
                let ObjectOut::Object(seen) = seen else {
                    return;
                };
                let value = self.unique();
                let rev = if self.rng.random_ratio(1, 6) {
                    0
                } else {
                    seen.rev
                };
                self.call(ObjectReq::Update {
                    namespace,
                    name,
                    value,
                    rev,
                })
                .await;
            }
            7..9 => {
                self.call(ObjectReq::Delete { namespace, name }).await;
            }
            9 => {
                self.call(ObjectReq::Get { namespace, name }).await;
            }
            _ => {
                let limit = [0, 1, 3][self.rng.random_range(0..3)];
                self.call(ObjectReq::List { namespace, limit }).await;
            }
        }
    }

    /// Sends one request, records it and returns what came of it.
    async fn call(&mut self, req: ObjectReq) -> ObjectOut {
        let id = self.api.next.fetch_add(1, Ordering::Relaxed);
        let (start, server) = (self.now(), self.rest.server());
        let out = match timeout(PATIENCE, self.send(&req)).await {
            Ok(out) => out,
            Err(_) => ObjectOut::Unknown {
                error: "client timeout".into(),
            },
        };
        let end = self.now();
        let op = ObjectOp {
            id,
            server,
            start,
            end,
            req,
            out: out.clone(),
        };
        self.api.bench.sink.record(Record::Object(op)).await;
        if matches!(
            &out,
            ObjectOut::Refused { code: 0, .. } | ObjectOut::Unknown { .. }
        ) {
            self.rest.move_on();
            sleep(REFUSED).await;
        }
        out
    }

    async fn send(&mut self, req: &ObjectReq) -> ObjectOut {
        let rest = &mut self.rest;
        let sent = match req {
            ObjectReq::Create {
                namespace,
                name,
                value,
            } => {
                let body = object(name, value, 0);
                rest.send("POST", &path(namespace), Some(&body)).await
            }
            ObjectReq::Update {
                namespace,
                name,
                value,
                rev,
            } => {
                let body = object(name, value, *rev);
                let path = format!("{}/{name}", path(namespace));
                rest.send("PUT", &path, Some(&body)).await
            }
            ObjectReq::Delete { namespace, name } => {
                rest.send("DELETE", &format!("{}/{name}", path(namespace)), None)
                    .await
            }
            ObjectReq::Get { namespace, name } => {
                rest.send("GET", &format!("{}/{name}", path(namespace)), None)
                    .await
            }
            ObjectReq::List { namespace, limit } => return list(rest, namespace, *limit).await,
        };
        match sent {
            Ok((200..=299, value)) if matches!(req, ObjectReq::Delete { .. }) => {
                match value["status"].as_str() {
                    Some("Success") | None => ObjectOut::Deleted,
                    Some(other) => ObjectOut::Unknown {
                        error: other.into(),
                    },
                }
            }
            Ok((200..=299, value)) => ObjectOut::Object(parsed(&value)),
            other => failed(other),
        }
    }

    /// Watches for a while, then until what it wrote itself is told.
    async fn watch(&mut self) {
        let namespace = NAMESPACES[self.rng.random_range(0..NAMESPACES.len())];
        let mut from = 0;
        if self.rng.random_ratio(2, 3) {
            let namespace = namespace.to_string();
            let limit = 0;
            match self.call(ObjectReq::List { namespace, limit }).await {
                ObjectOut::List { rev, .. } => from = rev,
                _ => return,
            }
        }
        let mut watch = ObjectWatch {
            server: self.rest.server(),
            start: self.now(),
            namespace: namespace.into(),
            from,
            ..ObjectWatch::default()
        };
        let until = Instant::now() + LONGEST_WATCH.mul_f64(self.rng.random());
        watch.broken = self.follow(&mut watch, until).await.err();
        watch.end = self.now();
        if watch.broken.is_some() {
            self.rest.move_on();
            sleep(REFUSED).await;
        }
        self.api.bench.sink.record(Record::ObjectWatch(watch)).await;
    }

    async fn follow(&mut self, watch: &mut ObjectWatch, until: Instant) -> Result<(), String> {
        let how = match watch.from {
            0 => "sendInitialEvents=true&resourceVersionMatch=NotOlderThan".to_string(),
            from => format!("resourceVersion={from}"),
        };
        // Some end by themselves, which a bookmark comes before.
        let seconds: u16 = match self.rng.random_ratio(1, 3) {
            true => self.rng.random_range(1..5),
            false => 600,
        };
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&{how}",
            path(&watch.namespace)
        );
        let ends = Instant::now() + Duration::from_secs(seconds.into());
        let opened = timeout(PATIENCE, self.rest.open("GET", &path, None)).await;
        let opened = opened.map_err(|_| "not opened in time".to_string())?;
        let (status, mut body) = opened.map_err(|trouble| match trouble {
            Trouble::NotSent(error) | Trouble::Broken(error) => error,
        })?;
        // Too old by now: a list comes next.
        if status == 410 {
            watch.told.push((Told::Error, Object::default()));
            return Ok(());
        }
        if status != 200 {
            return Err(format!("status {status}"));
        }
        let mut lines = Lines::default();
        let mut last = until;
        let mut goal = i64::MAX;
        loop {
            match timeout_at(last, lines.next(&mut body)).await {
                Ok(Ok(Some(line))) => watch.told.push(told(&line)?),
                Ok(Ok(None)) if Instant::now() >= ends => {
                    watch.asked = 0;
                    return Ok(());
                }
                Ok(Ok(None)) => return Err("the stream ended".into()),
                Ok(Err(error)) => return Err(error),
                Err(_) if watch.asked > 0 => return Ok(()),
                Err(_) => {
                    watch.asked = self.now();
                    last = Instant::now() + ANSWER;
                    goal = self.mark(&watch.namespace).await;
                    if goal == i64::MAX {
                        watch.asked = 0;
                        return Ok(());
                    }
                }
            }
            let Some((kind, object)) = watch.told.last() else {
                continue;
            };
            if *kind == Told::Error {
                return Ok(());
            }
            watch.answered = object.rev >= goal;
            if watch.answered {
                return Ok(());
            }
        }
    }

    /// Writes an object that nobody else writes; its revision.
    async fn mark(&mut self, namespace: &str) -> i64 {
        let name = format!("mark-{}", self.id);
        for _ in 0..2 {
            let (namespace, name, value) = (namespace.to_string(), name.clone(), self.unique());
            let create = ObjectReq::Create {
                namespace: namespace.clone(),
                name: name.clone(),
                value: value.clone(),
            };
            let update = ObjectReq::Update {
                namespace,
                name,
                value,
                rev: 0,
            };
            for req in [update, create] {
                if let ObjectOut::Object(object) = self.call(req).await {
                    return object.rev;
                }
            }
        }
        i64::MAX
    }
}

fn path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

fn object(name: &str, value: &str, rev: i64) -> Value {
    let mut metadata = json!({"name": name});
    if rev > 0 {
        metadata["resourceVersion"] = json!(rev.to_string());
    }
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, "data": {"v": value}})
}

fn number(text: &Value) -> i64 {
    text.as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn parsed(value: &Value) -> Object {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let metadata = &value["metadata"];
    Object {
        namespace: text(&metadata["namespace"]),
        name: text(&metadata["name"]),
        rev: number(&metadata["resourceVersion"]),
        value: text(&value["data"]["v"]),
    }
}

/// What is no success.
fn failed(sent: Result<(u16, Value), Trouble>) -> ObjectOut {
    match sent {
        Err(Trouble::NotSent(reason)) => ObjectOut::Refused { code: 0, reason },
        Err(Trouble::Broken(error)) => ObjectOut::Unknown { error },
        // The store's trouble: what was asked may have been done.
        Ok((500.., value)) => ObjectOut::Unknown {
            error: value["message"].to_string(),
        },
        Ok((code, value)) => ObjectOut::Refused {
            code,
            reason: value["reason"].as_str().unwrap_or_default().to_string(),
        },
    }
}

async fn list(rest: &mut Rest, namespace: &str, limit: i64) -> ObjectOut {
    let mut items = Vec::new();
    let mut rev = 0;
    let mut token = String::new();
    loop {
        let query = match (limit, token.as_str()) {
            (0, _) => String::new(),
            (limit, "") => format!("?limit={limit}"),
            (limit, token) => format!("?limit={limit}&continue={token}"),
        };
        let sent = rest
            .send("GET", &format!("{}{query}", path(namespace)), None)
            .await;
        let page = match sent {
            Ok((200, page)) => page,
            other => return failed(other),
        };
        let at = number(&page["metadata"]["resourceVersion"]);
        if rev != 0 && rev != at {
            // No page may be of another moment; the checker is told of both.
            return ObjectOut::List { rev: -at, items };
        }
        rev = at;
        let page_items = page["items"].as_array().cloned().unwrap_or_default();
        items.extend(page_items.iter().map(parsed));
        match page["metadata"]["continue"].as_str() {
            None | Some("") => return ObjectOut::List { rev, items },
            Some(next) => token = next.to_string(),
        }
    }
}

/// One event of a watch.
fn told(line: &[u8]) -> Result<(Told, Object), String> {
    let event: Value = serde_json::from_slice(line).map_err(|e| e.to_string())?;
    let object = &event["object"];
    let ends = object["metadata"]["annotations"]["k8s.io/initial-events-end"] == json!("true");
    let kind = match event["type"].as_str() {
        Some("ADDED") => Told::Added,
        Some("MODIFIED") => Told::Modified,
        Some("DELETED") => Told::Deleted,
        Some("BOOKMARK") if ends => Told::InitialEnd,
        Some("BOOKMARK") => Told::Bookmark,
        _ => Told::Error,
    };
    Ok((kind, parsed(object)))
}

/// Lines of a body as they come.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
}

impl Lines {
    async fn next(&mut self, body: &mut Incoming) -> Result<Option<Vec<u8>>, String> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let rest = self.bytes.split_off(end + 1);
                let line = std::mem::replace(&mut self.bytes, rest);
                return Ok(Some(line));
            }
            match body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(error.to_string()),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.bytes.extend_from_slice(data);
                    }
                }
            }
        }
    }
}
