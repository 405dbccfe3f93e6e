//! The audit log: who did what, as upstream records it, as much of it as the policy
//! says.
//!
//! A request's [`Record`] goes with it. It gathers what is found out, and writes the
//! last event itself when it is dropped, however the request ends.
//!
//! Knows requests by their attributes and objects as JSON. Must not know HTTP, nor
//! what is allowed.

mod event;
mod log;
mod policy;

use std::{fmt::Write as _, io, path::Path, sync::Arc, sync::atomic::Ordering};

use parking_lot::Mutex;
use serde_json::{Value, json};

use self::{
    event::{Event, Reference, User, now},
    log::Sink,
    policy::{Extent, Policy},
};
pub use self::{
    log::{LogFiles, LogWriter},
    policy::{AuditLevel, Stage},
};
use crate::{
    authn::Identity,
    authz::Attributes,
    limits,
    object::{self, Json},
};

/// Upstream's mark of an event that does not tell all.
const TRUNCATED: &str = "audit.k8s.io/truncated";

/// Why the audit log cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("{0}: {1}")]
    File(String, io::Error),
    #[error("{0}: {1}")]
    Policy(String, String),
}

/// The policy, and where events go.
#[derive(Debug)]
pub struct Audit {
    policy: Policy,
    sink: Sink,
}

/// What a request shows of where it comes from.
pub struct Origin {
    pub uri: String,
    /// The client's own, or none.
    pub id: String,
    pub user_agent: String,
    /// As proxies tell them, the connection's own last.
    pub addresses: Vec<String>,
}

impl Audit {
    /// Reads the policy. The writer must [`run`](LogWriter::run).
    ///
    /// # Errors
    /// The policy cannot be read or used.
    pub fn new(policy: &Path, files: LogFiles) -> Result<(Self, LogWriter), AuditError> {
        let shown = policy.display().to_string();
        let text = std::fs::read_to_string(policy)
            .map_err(|error| AuditError::File(shown.clone(), error))?;
        let policy = Policy::parse(&text).map_err(|why| AuditError::Policy(shown, why))?;
        let (sink, writer) = log::new(files);
        Ok((Self { policy, sink }, writer))
    }

    /// Begins to record a request, if it is to be. `identity` is none for who shows
    /// nothing that holds.
    pub fn begin(
        self: &Arc<Self>,
        identity: Option<&Identity>,
        asked: &Attributes<'_>,
        origin: impl FnOnce() -> Origin,
    ) -> Option<Record> {
        let mut verdict = self.policy.of(identity, asked);
        if verdict.level == AuditLevel::None {
            return None;
        }
        if carries_tokens(asked) {
            verdict.level = AuditLevel::Metadata;
        }
        let origin = origin();
        let received = now();
        let event = Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: verdict.level.name(),
            audit_id: if origin.id.is_empty() {
                object::uid()
            } else {
                origin.id
            },
            stage: Stage::RequestReceived.name(),
            request_uri: origin.uri,
            verb: asked.verb.to_owned(),
            user: identity.map(User::from).unwrap_or_default(),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: origin.addresses,
            user_agent: cut(origin.user_agent),
            object_ref: Reference::of(asked),
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: received.clone(),
            stage_timestamp: received,
            annotations: std::collections::BTreeMap::new(),
        };
        let record = Record {
            audit: self.clone(),
            verdict,
            event: Mutex::new(event),
            last: Stage::ResponseComplete,
        };
        if identity.is_some() {
            record.write(Stage::RequestReceived);
        }
        Some(record)
    }

    /// Counts under upstream's names, in Prometheus' text format.
    pub fn metrics(&self, out: &mut String) {
        let counts = &self.sink.counts;
        for (name, help, value) in [
            (
                "apiserver_audit_event_total",
                "Audit events written to the log.",
                &counts.written,
            ),
            (
                "apiserver_audit_error_total",
                "Audit events that were lost: there was no room, or they could not be written.",
                &counts.dropped,
            ),
        ] {
            let value = value.load(Ordering::Relaxed);
            let labels = match name {
                "apiserver_audit_error_total" => "{plugin=\"log\"}",
                _ => "",
            };
            // To a string: it does not fail.
            let _ = write!(
                out,
                "# HELP {name} {help}\n# TYPE {name} counter\n{name}{labels} {value}\n"
            );
        }
    }
}

/// The right by which upstream lets who may do everything take a name.
fn constraint(user: &str) -> &'static str {
    if user.starts_with("system:node:") {
        "impersonate:arbitrary-node"
    } else if user.starts_with("system:serviceaccount:") {
        "impersonate:serviceaccount"
    } else {
        "impersonate:user-info"
    }
}

/// Whether tokens are in the body or in the answer: neither is recorded, whatever
/// the policy says.
fn carries_tokens(asked: &Attributes<'_>) -> bool {
    matches!(
        (asked.group, asked.resource, asked.subresource),
        ("", "serviceaccounts", "token") | ("authentication.k8s.io", "tokenreviews", _)
    )
}

/// Upstream's bound on what a client calls itself.
fn cut(mut agent: String) -> String {
    if agent.len() > limits::AUDIT_AGENT_BYTES_MAX {
        let mut end = limits::AUDIT_AGENT_BYTES_MAX;
        while !agent.is_char_boundary(end) {
            end -= 1;
        }
        agent.truncate(end);
        agent.push_str("...TRUNCATED");
    }
    agent
}

/// What is known of a request.
#[derive(Debug)]
pub struct Record {
    audit: Arc<Audit>,
    verdict: Extent,
    event: Mutex<Event>,
    /// The stage of the last event.
    last: Stage,
}

impl Record {
    pub fn id(&self) -> String {
        self.event.lock().audit_id.clone()
    }

    pub fn level(&self) -> AuditLevel {
        self.verdict.level
    }

    pub fn impersonated(&self, identity: &Identity) {
        let mut event = self.event.lock();
        event.impersonated_user = Some(identity.into());
        event.authentication_metadata = Some(event::Metadata {
            impersonation_constraint: constraint(&identity.user),
        });
    }

    pub fn decided(&self, allowed: bool, reason: &str) {
        let decision = if allowed { "allow" } else { "forbid" };
        let mut event = self.event.lock();
        event
            .annotations
            .insert("authorization.k8s.io/decision", decision.to_owned());
        event
            .annotations
            .insert("authorization.k8s.io/reason", reason.to_owned());
    }

    /// The object of a request's body; `whole` makes what is recorded of it.
    pub fn asked(&self, object: &Json, whole: impl FnOnce() -> Option<Value>) {
        let whole = (self.verdict.level >= AuditLevel::Request)
            .then(whole)
            .flatten()
            .map(|object| self.bare(object));
        let mut event = self.event.lock();
        if let Some(reference) = &mut event.object_ref {
            for (to, field) in [
                (&mut reference.namespace, "namespace"),
                (&mut reference.name, "name"),
                (&mut reference.uid, "uid"),
                (&mut reference.resource_version, "resourceVersion"),
            ] {
                if to.is_empty() {
                    object::meta_str(object, field).clone_into(to);
                }
            }
        }
        if whole.is_some() {
            event.request_object = whole;
        }
    }

    /// A request's patch, as it came.
    pub fn patched(&self, patch: &[u8]) {
        if self.verdict.level >= AuditLevel::Request
            && let Ok(patch) = serde_json::from_slice(patch)
        {
            self.event.lock().request_object = Some(patch);
        }
    }

    /// What is answered: its `Status` if it is one, and else the object that it is,
    /// if that is to be recorded.
    pub fn answered(&self, code: u16, body: Option<Value>) {
        let is_status = body.as_ref().is_some_and(|body| body["kind"] == "Status");
        let mut status = json!({"metadata": {}, "code": code});
        if let Some(body) = body.as_ref().filter(|_| is_status) {
            for field in ["status", "message", "reason", "details"] {
                if let Some(value) = body.get(field) {
                    status[field] = value.clone();
                }
            }
        }
        let object = body
            .filter(|_| self.verdict.level >= AuditLevel::RequestResponse)
            .map(|object| self.bare(object));
        let mut event = self.event.lock();
        event.response_status = Some(status);
        event.response_object = object.filter(|_| event.object_ref.is_some());
    }

    /// The answer is too large to be recorded.
    pub fn too_large(&self) {
        let mut event = self.event.lock();
        event.annotations.insert(TRUNCATED, "true".to_owned());
    }

    /// Nobody was let in: it ends with this answer, and begins nowhere.
    pub fn failed_authentication(mut self, code: u16, body: Value) {
        self.last = Stage::ResponseStarted;
        self.answered(code, Some(body));
    }

    /// The events of a watch are to follow.
    pub fn started(&self) {
        self.write(Stage::ResponseStarted);
    }

    /// Without what the policy leaves out of objects.
    fn bare(&self, mut object: Value) -> Value {
        if self.verdict.omit_managed_fields {
            let strip = |one: &mut Value| {
                if let Some(meta) = one.get_mut("metadata").and_then(Value::as_object_mut) {
                    meta.remove("managedFields");
                }
            };
            strip(&mut object);
            for (list, within) in [("items", None), ("rows", Some("object"))] {
                let list = object.get_mut(list).and_then(Value::as_array_mut);
                for one in list.into_iter().flatten() {
                    match within {
                        Some(field) => one.get_mut(field).into_iter().for_each(strip),
                        None => strip(one),
                    }
                }
            }
        }
        object
    }

    fn write(&self, stage: Stage) {
        if self.verdict.omits(stage) {
            return;
        }
        let mut event = self.event.lock();
        event.stage = stage.name();
        if stage != Stage::RequestReceived {
            event.stage_timestamp = now();
        }
        // Maps with texts for keys: it does not fail.
        if let Ok(mut line) = serde_json::to_vec(&*event) {
            line.push(b'\n');
            self.audit.sink.take(line);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let event = self.event.get_mut();
        if std::thread::panicking() {
            event.response_status = Some(json!({"metadata": {}, "status": "Failure",
                "message": "APIServer panic'd", "reason": "InternalError", "code": 500}));
            self.last = Stage::Panic;
        } else if event.response_status.is_none() {
            // The client went away before it was answered.
            event.response_status = Some(json!({"metadata": {}, "status": "Success",
                "message": "Connection closed early", "code": 200}));
        }
        self.write(self.last);
    }
}

#[cfg(test)]
mod tests;
