//! One server: sends a step's request and gives the answer, masked.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::case::{Action, CaseStep, Compared};
use super::compare::{Answered, HEADERS};
use super::mask::{self, Literal};
use super::samples::Samples;
use super::vars::{Variables, at};
use super::wire;
use crate::https::Https;

/// Bound of one answer; a healthy server needs a thousandth.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a watch is waited for when it has not told all that a step reads.
const EVENTS: Duration = Duration::from_secs(5);

/// A server and what a case knows of its answers.
pub struct Party {
    https: Https,
    token: &'static str,
    pub variables: Variables,
    /// What the samples and the case's steps say, before anything is filled in.
    written: String,
    watches: BTreeMap<String, Stream>,
    print: bool,
}

struct Stream {
    body: Incoming,
    buffer: BytesMut,
}

impl Party {
    pub fn new(https: Https, token: &'static str, namespace: &str, print: bool) -> Self {
        let mut variables = Variables::default();
        variables
            .saved
            .insert("ns".to_owned(), namespace.to_owned());
        // Names of IPAddress objects: one for each case.
        let [_, _, first, second] = super::case::checksum(namespace).to_be_bytes();
        variables
            .saved
            .insert("ip".to_owned(), format!("172.30.{first}.{second}"));
        Self {
            https,
            token,
            variables,
            written: super::samples::TEXT.to_owned(),
            watches: BTreeMap::new(),
            print,
        }
    }

    /// Sends the step. What goes wrong below HTTP is an answer too.
    ///
    /// # Errors
    /// The step is not written as it should be.
    pub async fn run(&mut self, step: &CaseStep, samples: &Samples) -> Result<Answered> {
        let managed = step.compared == Compared::Managed;
        let mut answered = match step.action {
            Action::Read => self.read(step).await?,
            _ => {
                let (path, headers, body) = self.request(step, samples)?;
                if self.print {
                    println!(
                        "  {} {path} {}",
                        step.method,
                        String::from_utf8_lossy(&body)
                    );
                }
                self.send(step, &path, &headers, body).await?
            }
        };
        self.remember(step, &answered.body);
        let known = Literal {
            written: &self.written,
            saved: &self.variables.saved,
        };
        mask::answer(&mut answered.body, &known, managed);
        for (_, value) in &mut answered.headers {
            let mut masked = Value::from(value.as_str());
            mask::answer(&mut masked, &known, managed);
            if let Value::String(masked) = masked {
                *value = masked;
            }
        }
        Ok(answered)
    }

    fn request(
        &mut self,
        step: &CaseStep,
        samples: &Samples,
    ) -> Result<(String, HeaderMap, Bytes)> {
        let path = self.variables.fill(&samples.expand(&step.path)?);
        let body = match &step.body {
            Value::Null => Bytes::new(),
            Value::String(text) => match text.strip_prefix("$raw:") {
                Some(name) => self
                    .variables
                    .raw
                    .get(name)
                    .cloned()
                    .unwrap_or_default()
                    .into(),
                None => self.variables.fill(text).into(),
            },
            written => match self.variables.body(written, samples)? {
                Value::String(text) => text.into(),
                body => body.to_string().into(),
            },
        };
        self.written.push_str(&step.path);
        self.written.push_str(&step.body.to_string());
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static(self.token));
        if !body.is_empty() || step.media.is_some() {
            let media = step.media.as_deref().unwrap_or("application/json");
            if !media.is_empty() {
                headers.insert("content-type", HeaderValue::from_str(media)?);
            }
        }
        if let Some(accept) = &step.accept {
            headers.insert("accept", HeaderValue::from_str(accept)?);
        }
        for (name, value) in &step.headers {
            headers.append(
                HeaderName::try_from(name.as_str())?,
                HeaderValue::from_str(&self.variables.fill(value))?,
            );
        }
        Ok((path, headers, body))
    }

    async fn send(
        &mut self,
        step: &CaseStep,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Answered> {
        let method = Method::from_bytes(step.method.as_bytes())?;
        if step.action == Action::Request {
            let answer = match timeout(ANSWER, self.https.send(method, path, headers, body)).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => return self.broken(&format!("{error:#}")).await,
                Err(_) => return self.broken("no answer").await,
            };
            if let Some(name) = &step.keep {
                self.variables
                    .raw
                    .insert(name.clone(), answer.body.to_vec());
            }
            if self.print {
                println!(
                    "    {} {:?}",
                    answer.code,
                    String::from_utf8_lossy(&answer.body)
                );
            }
            return Ok(Answered {
                code: answer.code.as_u16(),
                headers: compared(&answer.headers),
                body: decoded(
                    &answer.headers,
                    &answer.body,
                    step.compared == Compared::Managed,
                ),
            });
        }
        let answer = match timeout(ANSWER, self.https.open(method, path, headers, body)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return self.broken(&format!("{error:#}")).await,
            Err(_) => return self.broken("no answer").await,
        };
        let (parts, body) = answer.into_parts();
        let mut stream = Stream {
            body,
            buffer: BytesMut::new(),
        };
        let body = if !parts.status.is_success() {
            let bytes = stream.body.collect().await?.to_bytes();
            decoded(&parts.headers, &bytes, false)
        } else if step.action == Action::Open {
            let name = step.keep.clone().context("OPEN without keep")?;
            self.watches.insert(name, stream);
            Value::Null
        } else {
            stream.events(step.events).await
        };
        Ok(Answered {
            code: parts.status.as_u16(),
            headers: compared(&parts.headers),
            body,
        })
    }

    async fn read(&mut self, step: &CaseStep) -> Result<Answered> {
        let body = match self.watches.get_mut(&step.path) {
            Some(stream) => stream.events(step.events).await,
            None => "the watch is not open".into(),
        };
        Ok(Answered {
            code: 200,
            headers: Vec::new(),
            body,
        })
    }

    /// A connection that broke is replaced for the steps that follow.
    async fn broken(&mut self, why: &str) -> Result<Answered> {
        self.https = self.https.again().await?;
        let why = why.chars().take(120).collect::<String>();
        Ok(Answered {
            code: 0,
            headers: Vec::new(),
            body: json!({"message": why, "reason": "connection"}),
        })
    }

    fn remember(&mut self, step: &CaseStep, body: &Value) {
        if let (Some(name), Action::Request) = (&step.keep, step.action) {
            self.variables.kept.insert(name.clone(), body.clone());
        }
        for (name, path) in &step.save {
            let value = match at(body, path) {
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => continue,
            };
            self.variables.saved.insert(name.clone(), value);
        }
    }
}

fn compared(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for name in HEADERS {
        for value in headers.get_all(name) {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            found.push((name.to_owned(), value));
        }
    }
    found
}

/// JSON as it is, protobuf as a tree of field numbers, the rest as text.
fn decoded(headers: &HeaderMap, body: &[u8], managed: bool) -> Value {
    let media = headers.get("content-type").map(HeaderValue::as_bytes);
    if media.is_some_and(|media| media.starts_with(b"application/vnd.kubernetes.protobuf")) {
        return wire::object(body, managed);
    }
    serde_json::from_slice(body)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(body).into_owned()))
}

impl Stream {
    /// The next events, fewer when no more come. Bookmarks that only tell a
    /// revision come when a server likes: they are no events here.
    async fn events(&mut self, wanted: usize) -> Value {
        let mut events = Vec::new();
        while events.len() < wanted {
            match timeout(EVENTS, self.line()).await {
                Ok(Some(line)) => match serde_json::from_slice::<Value>(&line) {
                    Ok(event) if is_progress(&event) => {}
                    Ok(event) => events.push(event),
                    Err(_) => events.push(String::from_utf8_lossy(&line).into_owned().into()),
                },
                Ok(None) => {
                    events.push("the end".into());
                    break;
                }
                Err(_) => {
                    events.push("nothing more".into());
                    break;
                }
            }
        }
        Value::Array(events)
    }

    async fn line(&mut self) -> Option<Bytes> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                return Some(self.buffer.split_to(end + 1).freeze());
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}

fn is_progress(event: &Value) -> bool {
    event["type"] == "BOOKMARK" && event["object"]["metadata"]["annotations"].is_null()
}
