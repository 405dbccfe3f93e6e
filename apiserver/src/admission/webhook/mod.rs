//! `MutatingAdmissionWebhook` and `ValidatingAdmissionWebhook`: programs elsewhere
//! that have a say, as configurations name them.
//!
//! Source: upstream's `pkg/admission/plugin/webhook`. Where there is no configuration
//! nothing is looked at but that.

mod condition;
mod hook;
mod review;

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use futures::future::{BoxFuture, join_all};
use http::Uri;
use parking_lot::Mutex;
use serde_json::Value;

use self::{
    hook::{Hook, HookPlace},
    review::Told,
};
use super::{Asked, Plugin, Verdict, asked::text};
use crate::{
    authn::Identity,
    calls::{Callee, Calls, Host},
    catalog::Resource,
    codec::json::{self, Source},
    defaults,
    error::ApiError,
    kind::Sub,
    object::{self, Json},
    patch::Patch,
    registry::{Registry, sub},
    schema::MessageId,
    versions::View,
};

const GROUP: &str = "admissionregistration.k8s.io";
const JSON_PATCH: &str = "application/json-patch+json";

/// The webhooks of a configuration, and its version.
type Read = (i64, Arc<[Arc<Hook>]>);

/// The webhooks of all configurations of a kind, each read once.
struct Hooks {
    plural: &'static str,
    read: Mutex<HashMap<Box<str>, Read>>,
}

impl Hooks {
    fn new(plural: &'static str) -> Self {
        Self {
            plural,
            read: Mutex::default(),
        }
    }

    fn are_none(&self, registry: &Registry) -> bool {
        let catalog = registry.catalog();
        catalog
            .find(GROUP, "v1", self.plural)
            .is_none_or(|resource| registry.cache(resource).snapshot("").entries.is_empty())
    }

    /// In the order of their configurations' names.
    fn all(&self, asked: &Asked<'_>) -> Vec<Arc<Hook>> {
        let entries = asked.all(GROUP, self.plural, "");
        let mut read = self.read.lock();
        if read.len() > entries.len() {
            read.retain(|key, _| entries.iter().any(|entry| entry.key == *key));
        }
        let mut all = Vec::new();
        for entry in entries {
            let known = read.get(&*entry.key);
            let hooks = match known.filter(|(revision, _)| *revision == entry.revision) {
                Some((_, hooks)) => hooks.clone(),
                None => {
                    let object = super::asked::read(&entry).unwrap_or_default();
                    let hooks: Arc<[Arc<Hook>]> = hook::read(&object).into();
                    let key = entry.key.to_string().into_boxed_str();
                    read.insert(key, (entry.revision, hooks.clone()));
                    hooks
                }
            };
            all.extend(hooks.iter().cloned());
        }
        all
    }
}

/// Configurations are no matter for webhooks: a wrong one could not be mended.
fn is_exempt(asked: &Asked<'_>) -> bool {
    let resource = &asked.target().resource;
    resource.group == GROUP
        && matches!(
            &*resource.kind,
            "ValidatingWebhookConfiguration"
                | "MutatingWebhookConfiguration"
                | "ValidatingAdmissionPolicy"
                | "ValidatingAdmissionPolicyBinding"
                | "MutatingAdmissionPolicy"
                | "MutatingAdmissionPolicyBinding"
        )
}

/// Both plugins, with one store of connections.
pub fn plugins() -> (Mutating, Validating) {
    let calls = Arc::new(Calls::default());
    let mutating = Mutating {
        hooks: Hooks::new("mutatingwebhookconfigurations"),
        calls: calls.clone(),
    };
    let validating = Validating {
        hooks: Hooks::new("validatingwebhookconfigurations"),
        calls,
    };
    (mutating, validating)
}

pub struct Mutating {
    hooks: Hooks,
    calls: Arc<Calls>,
}

pub struct Validating {
    hooks: Hooks,
    calls: Arc<Calls>,
}

impl Plugin for Mutating {
    fn name(&self) -> &'static str {
        "MutatingAdmissionWebhook"
    }

    fn is_about_all(&self) -> bool {
        true
    }

    fn sees_deletions(&self, registry: &Registry, _: &Identity) -> bool {
        !self.hooks.are_none(registry)
    }

    fn admit<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        Box::pin(async {
            let hooks = self.hooks.all(asked);
            match hooks.is_empty() || is_exempt(asked) {
                true => Ok(()),
                false => mutate(&self.calls, &hooks, asked).await,
            }
        })
    }
}

impl Plugin for Validating {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn is_about_all(&self) -> bool {
        true
    }

    fn sees_deletions(&self, registry: &Registry, _: &Identity) -> bool {
        !self.hooks.are_none(registry)
    }

    fn validate<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        Box::pin(async {
            let hooks = self.hooks.all(asked);
            match hooks.is_empty() || is_exempt(asked) {
                true => Ok(()),
                false => validate(&self.calls, &hooks, asked).await,
            }
        })
    }
}

/// What went wrong with a webhook.
enum Failure {
    /// It could not be asked: its policy decides.
    Calling(String),
    /// The request fails.
    Final(ApiError),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Final(error)
    }
}

/// What its policy makes of a failure.
fn judged(hook: &Hook, failure: Failure) -> Verdict {
    match failure {
        Failure::Final(error) => Err(error),
        Failure::Calling(why) => {
            let why = format!("failed calling webhook {:?}: {why}", hook.name);
            match hook.fails_closed {
                true => {
                    tracing::warn!(webhook = hook.name, %why, "the request is refused");
                    Err(ApiError::internal(why))
                }
                false => {
                    tracing::warn!(webhook = hook.name, %why, "the request goes on");
                    Ok(())
                }
            }
        }
    }
}

async fn mutate(calls: &Calls, hooks: &[Arc<Hook>], asked: &mut Asked<'_>) -> Verdict {
    if asked.round.is_second && asked.round.output.as_ref() != Some(asked.object()) {
        asked.round.changed();
    }
    for hook in hooks {
        let id = (hook.configuration.clone(), hook.index);
        let Some(question) = Question::of(hook, asked).await? else {
            continue;
        };
        if asked.round.is_second && !asked.round.wanted.contains(&id) {
            continue;
        }
        let changed = match changed_by(calls, hook, &question, asked).await {
            Ok(changed) => changed,
            Err(failure) => {
                judged(hook, failure)?;
                false
            }
        };
        if changed {
            asked.round.changed();
        }
        if hook.is_reinvoked {
            asked.round.asked.insert(id);
        }
    }
    asked.round.output = Some(asked.object().clone());
    Ok(())
}

/// Asks a webhook, and makes of the object what it says.
async fn changed_by(
    calls: &Calls,
    hook: &Hook,
    question: &Question,
    asked: &mut Asked<'_>,
) -> Result<bool, Failure> {
    let answer = question.ask(calls, hook, asked, true).await?;
    asked.attempt.warnings.extend(answer.warnings);
    if !answer.allowed {
        return Err(ApiError::by_webhook(&hook.name, answer.status).into());
    }
    if answer.patch.is_empty() {
        return Ok(false);
    }
    let patch = match Patch::read(JSON_PATCH, &answer.patch) {
        Some(Ok(patch)) => patch,
        Some(Err(error)) => {
            let why = format!("received undecodable patch in webhook response: {error}");
            return Err(Failure::Calling(why));
        }
        None => unreachable!("a patch of this type is read above"),
    };
    if matches!(&patch, Patch::Json(operations) if operations.is_empty()) {
        return Ok(false);
    }
    let Some(before) = &question.object else {
        let why = format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        );
        return Err(ApiError::internal(why).into());
    };
    let internal = |why: String| Failure::Final(ApiError::internal(why));
    let message = question.message(asked.target().sub);
    let patched = patch
        .apply(before.clone(), message)
        .map_err(|error| internal(error.to_string()))?;
    let patched = json::conform(patched, message, Source::Store)
        .map_err(|error| internal(error.to_string()))?
        .value;
    let mut stored = patched;
    if question.is_of_resource(asked.target().sub) {
        let view = View::of(&question.resource);
        let converted = view.to_stored(stored);
        stored = converted.map_err(|error| internal(error.to_string()))?;
        defaults::apply(&view.stored, &mut stored);
    }
    let changed = stored != *asked.object();
    *asked.object_mut() = stored;
    Ok(changed)
}

async fn validate(calls: &Calls, hooks: &[Arc<Hook>], asked: &mut Asked<'_>) -> Verdict {
    let mut questions = Vec::new();
    for hook in hooks {
        if let Some(question) = Question::of(hook, asked).await? {
            questions.push((hook, question));
        }
    }
    // All at once, as upstream.
    let shared = &*asked;
    let answers = questions
        .iter()
        .map(|(hook, question)| question.ask(calls, hook, shared, false));
    let answers = join_all(answers).await;
    let mut verdict = Ok(());
    for ((hook, _), answer) in questions.iter().zip(answers) {
        let told = match answer {
            Ok(answer) => {
                asked.attempt.warnings.extend(answer.warnings);
                match answer.allowed {
                    true => Ok(()),
                    false => Err(ApiError::by_webhook(&hook.name, answer.status)),
                }
            }
            Err(failure) => judged(hook, failure),
        };
        verdict = verdict.and(told);
    }
    verdict
}

/// A write as one webhook is told of it.
struct Question {
    resource: Arc<Resource>,
    object: Option<Json>,
    old: Option<Json>,
}

impl Question {
    /// What a webhook is asked, if it is to be asked at all.
    async fn of(hook: &Hook, asked: &Asked<'_>) -> Result<Option<Self>, ApiError> {
        let Some(found) = hook.matching(asked) else {
            return Ok(None);
        };
        if !hook.selects(asked) || !in_namespace(hook, asked).await? {
            return Ok(None);
        }
        let deletes = asked.attempt.deletes();
        let told = |object: &Json| told(&found, object, asked);
        let mut old = match deletes {
            true => Some(told(asked.object())?),
            false => asked.old().map(told).transpose()?,
        };
        if let Some(old) = &mut old
            && asked.attempt.revision > 0
        {
            let version = asked.attempt.revision.to_string();
            object::set_meta(old, "resourceVersion", Some(version.into()));
        }
        let question = Self {
            object: (!deletes).then(|| told(asked.object())).transpose()?,
            old,
            resource: found,
        };
        if hook.conditions.is_empty() {
            return Ok(Some(question));
        }
        let request = question.request(hook, "v1", "", asked);
        match condition::hold(&hook.conditions, &request["request"]) {
            Ok(true) => Ok(Some(question)),
            Ok(false) => Ok(None),
            Err(why) if hook.fails_closed => {
                tracing::warn!(
                    webhook = hook.name,
                    why,
                    "its conditions cannot be evaluated"
                );
                Err(asked.forbidden(&why))
            }
            Err(_) => Ok(None),
        }
    }

    fn request(&self, hook: &Hook, version: &str, uid: &str, asked: &Asked<'_>) -> Value {
        let told = Told {
            object: self.object.as_ref(),
            old: self.old.as_ref(),
            resource: &self.resource,
        };
        review::request(hook, version, uid, asked, &told)
    }

    /// Whether it is about an object of the resource, and not a part that is of a
    /// kind of its own.
    fn is_of_resource(&self, sub: Option<Sub>) -> bool {
        review::kind(&self.resource, sub).2 == self.resource.kind
    }

    fn message(&self, of: Option<Sub>) -> MessageId {
        match of {
            Some(Sub::Scale) => sub::message(sub::SCALE),
            Some(Sub::Binding) => sub::message(sub::BINDING),
            Some(Sub::Eviction) => sub::message(sub::EVICTION),
            Some(Sub::Token) => sub::message(sub::TOKEN_REQUEST),
            _ => self.resource.message,
        }
    }

    async fn ask(
        &self,
        calls: &Calls,
        hook: &Hook,
        asked: &Asked<'_>,
        mutating: bool,
    ) -> Result<review::ReviewAnswer, Failure> {
        if asked.attempt.dry_run && !hook.takes_dry_runs {
            let why = format!("admission webhook {:?} does not support dry run", hook.name);
            return Err(ApiError::bad_request(why).into());
        }
        let Some(version) = hook.review else {
            let why = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
            return Err(Failure::Calling(why.to_owned()));
        };
        let uid = object::uid();
        let body = self.request(hook, version, &uid, asked).to_string();
        let calling = |why| Failure::Calling(format!("failed to call webhook: {why}"));
        let (callee, url) = callee(hook, asked).await.map_err(calling)?;
        let answer = calls.post(&callee, &url, body, hook.timeout).await;
        let answer = answer.map_err(calling)?;
        review::answer(&answer, version, &uid, mutating)
            .map_err(|why| Failure::Calling(format!("received invalid webhook response: {why}")))
    }
}

/// An object in the version that a webhook's rules name, with its kind.
fn told(resource: &Arc<Resource>, object: &Json, asked: &Asked<'_>) -> Result<Json, ApiError> {
    let (group, version, kind) = review::kind(resource, asked.target().sub);
    let mut value = object.clone();
    if kind == resource.kind {
        let served = View::of(resource).to_served(value);
        value = served.map_err(|error| ApiError::internal(error.to_string()))?;
    }
    let api_version = match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    value.insert("kind".to_owned(), kind.into());
    value.insert("apiVersion".to_owned(), api_version.into());
    Ok(value)
}

/// Whether the namespace of a write is selected. A namespace that is written counts
/// as it will be.
async fn in_namespace(hook: &Hook, asked: &Asked<'_>) -> Result<bool, ApiError> {
    let resource = &asked.target().resource;
    let is_namespace = resource.group.is_empty() && asked.is_about("namespaces");
    if !hook.asks_for_namespace() || !is_namespace && asked.namespace().is_empty() {
        return Ok(true);
    }
    if is_namespace && asked.target().sub.is_none() && !asked.attempt.deletes() {
        return Ok(hook.selects_namespace(asked.object()));
    }
    let name = match is_namespace {
        true => &*asked.target().name,
        false => asked.namespace(),
    };
    let found = asked.found("", "namespaces", "", name).await?;
    let namespace = found.ok_or_else(|| ApiError::absent("namespaces", name))?;
    Ok(hook.selects_namespace(&namespace))
}

/// Whom to call for a webhook, and the URL.
async fn callee(hook: &Hook, asked: &Asked<'_>) -> Result<(Callee, String), String> {
    let seconds = hook.timeout.as_secs();
    let (host, url) = match &hook.place {
        HookPlace::Url(url) => {
            let uri: Uri = url.parse().map_err(|_| format!("Unparsable URL: {url}"))?;
            let authority = uri.authority().map_or("", |authority| authority.as_str());
            let url = format!("https://{authority}{}?timeout={seconds}s", uri.path());
            (Host::Named, url)
        }
        HookPlace::Service {
            namespace,
            name,
            port,
            path,
        } => {
            let path = match &**path {
                "" => "/",
                path => path,
            };
            let url = format!("https://{name}.{namespace}.svc:{port}{path}?timeout={seconds}s");
            let told = |why: String| format!("Post {url:?}: {why}");
            let found = asked.found("", "services", namespace, name).await;
            let service = found.map_err(|error| told(error.message))?;
            let service = service.ok_or_else(|| told(format!("service {name:?} not found")))?;
            (address(&service, name, *port).map_err(told)?, url)
        }
    };
    let authorities = hook.authorities.clone();
    Ok((Callee { host, authorities }, url))
}

/// Where a service is reached.
fn address(service: &Json, name: &str, port: u16) -> Result<Host, String> {
    let spec = service.get("spec").unwrap_or(&Value::Null);
    let of = |field: &str| text(spec, &[field]);
    match of("type") {
        "ExternalName" => return Ok(Host::As(of("externalName").to_owned())),
        "ClusterIP" if of("clusterIP") == "None" => {
            return Err("cannot route to service with ClusterIP \"None\"".to_owned());
        }
        "ClusterIP" | "LoadBalancer" | "NodePort" => {}
        other => return Err(format!("unsupported service type {other:?}")),
    }
    let mut ports = super::asked::items(spec, "ports");
    if !ports.any(|one| one["port"] == port) {
        return Err(format!("no service port {port} found for service {name:?}"));
    }
    let address: Result<IpAddr, _> = of("clusterIP").parse();
    address
        .map(Host::At)
        .map_err(|_| format!("service {name:?} has no address"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn services_are_reached_where_upstream_reaches_them() {
        let address = |spec: Value| {
            let service = json!({"spec": spec});
            address(service.as_object().expect("an object"), "s", 443)
        };
        let ports = json!([{"port": 443}]);
        let at = address(json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": ports}));
        assert_eq!(at, Ok(Host::At(IpAddr::from([10, 0, 0, 1]))));
        let named = address(json!({"type": "ExternalName", "externalName": "else.where"}));
        assert_eq!(named, Ok(Host::As("else.where".to_owned())));
        for (spec, why) in [
            (
                json!({"type": "ClusterIP", "clusterIP": "None"}),
                "cannot route to service with ClusterIP \"None\"",
            ),
            (
                json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": [{"port": 80}]}),
                "no service port 443 found for service \"s\"",
            ),
            (
                json!({"type": "Other"}),
                "unsupported service type \"Other\"",
            ),
        ] {
            assert_eq!(address(spec), Err(why.to_owned()));
        }
    }
}
