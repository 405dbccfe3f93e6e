//! Webhooks: whether they are asked, what they are asked, and what becomes of what
//! they say.

use anyhow::{Context as _, Result, ensure};
use http::Method;
use mizzen_tests::webhook::Webhook;
use serde_json::{Value, json};

use super::{ADMINISTRATOR, DEADLINE, Pair, call, differing};

const NAMESPACE: &str = "/api/v1/namespaces/hooks";
const MAPS: &str = "/api/v1/namespaces/hooks/configmaps";

/// What each path says.
fn say(path: &str, request: &Value) -> Option<(u16, String)> {
    let review = |mut response: Value| {
        if response.get("uid").is_none() {
            response["uid"] = request["uid"].clone();
        }
        let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
        Some((200, review.to_string()))
    };
    let patch = |operations: Value| {
        let patch = base64(operations.to_string().as_bytes());
        review(json!({"allowed": true, "patch": patch, "patchType": "JSONPatch"}))
    };
    match path {
        "/allow" => review(json!({"allowed": true, "warnings": ["take care"]})),
        "/deny" => review(json!({"allowed": false, "status": {"message": "not today"}})),
        "/deny-bare" => review(json!({"allowed": false})),
        "/deny-reason" => review(json!({"allowed": false, "status": {"reason": "Teapot"}})),
        "/deny-whole" => review(json!({"allowed": false, "status": {
            "code": 418, "reason": "Teapot", "message": "short and stout",
            "details": {"name": "tea", "causes": [{"reason": "r", "message": "m", "field": "f"}]},
        }})),
        "/deny-200" => review(json!({"allowed": false, "status": {"code": 200, "message": "ok?"}})),
        "/mark" => patch(json!([{"op": "add", "path": "/data", "value": {"marked": "yes"}}])),
        // As often as it is asked.
        "/count" => {
            let count = request["object"]["data"]["count"].as_str().unwrap_or("");
            let count = format!("{count}i");
            match request["object"].get("data").is_some_and(Value::is_object) {
                true => patch(json!([{"op": "add", "path": "/data/count", "value": count}])),
                false => patch(json!([{"op": "add", "path": "/data", "value": {"count": count}}])),
            }
        }
        "/patch-alone" => review(json!({"allowed": true, "patch": base64(b"[]")})),
        "/type-alone" => review(json!({"allowed": true, "patchType": "JSONPatch"})),
        "/other-uid" => review(json!({"allowed": true, "uid": "another"})),
        "/no-response" => Some((
            200,
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}).to_string(),
        )),
        "/500" => Some((500, "broken".to_owned())),
        "/404" => Some((404, String::new())),
        "/503" => Some((503, String::new())),
        "/hangs" => None,
        other => Some((400, format!("no such path: {other}"))),
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// One configuration: its name, what it says instead of the usual, and whether it may
/// change objects.
struct Hook {
    name: &'static str,
    mutating: bool,
    more: Value,
}

/// Who knows the last one of a kind knows all before it.
fn hooks() -> Vec<Hook> {
    let of = |mutating: bool| {
        move |(name, more): (&'static str, Value)| Hook {
            name,
            mutating,
            more,
        }
    };
    let all = validating().into_iter().map(of(false));
    all.chain(mutating().into_iter().map(of(true))).collect()
}

fn path(path: &str) -> Value {
    json!({"path": path})
}

fn ignored(path: &str) -> Value {
    json!({"path": path, "failurePolicy": "Ignore"})
}

fn condition(expression: &str) -> Value {
    json!({"path": "/deny", "matchConditions": [{"name": "one", "expression": expression}]})
}

fn validating() -> Vec<(&'static str, Value)> {
    vec![
        ("allow", path("/allow")),
        ("deny", path("/deny")),
        ("deny-bare", path("/deny-bare")),
        ("deny-reason", path("/deny-reason")),
        ("deny-whole", path("/deny-whole")),
        ("deny-200", path("/deny-200")),
        ("patches", path("/mark")),
        ("other-uid", path("/other-uid")),
        ("no-response", path("/no-response")),
        ("s500", path("/500")),
        ("s404", path("/404")),
        ("s503", path("/503")),
        ("s500-ignored", ignored("/500")),
        ("refused", json!({"url": "https://127.0.0.1:1/"})),
        (
            "refused-ignored",
            json!({"url": "https://127.0.0.1:1/", "failurePolicy": "Ignore"}),
        ),
        ("untrusted", json!({"path": "/allow", "caBundle": true})),
        ("hangs", json!({"path": "/hangs", "timeoutSeconds": 1})),
        (
            "hangs-ignored",
            json!({"path": "/hangs", "timeoutSeconds": 1, "failurePolicy": "Ignore"}),
        ),
        (
            "effects",
            json!({"path": "/allow", "sideEffects": "NoneOnDryRun"}),
        ),
        (
            "updates",
            json!({"path": "/deny", "operations": ["UPDATE"]}),
        ),
        (
            "deletes",
            json!({"path": "/deny", "operations": ["DELETE"]}),
        ),
        (
            "others",
            json!({"path": "/deny", "namespaceSelector": {"matchLabels": {"kind": "other"}}}),
        ),
        (
            "these",
            json!({"path": "/deny", "namespaceSelector": {"matchLabels": {"kind": "these"}}}),
        ),
        ("cluster", json!({"path": "/deny", "scope": "Cluster"})),
        ("v2", json!({"path": "/deny", "apiVersions": ["v2"]})),
        (
            "secrets",
            json!({"path": "/deny", "resources": ["secrets", "pods/*"]}),
        ),
        (
            "not-me",
            condition(
                "request.userInfo.username != 'system:admin' && !('system:masters' in request.userInfo.groups)",
            ),
        ),
        (
            "named",
            condition("object.metadata.name.startsWith('named')"),
        ),
        (
            "not-there",
            json!({"service": {"namespace": "hooks", "name": "absent", "path": "/x"}}),
        ),
        (
            "headless",
            json!({"service": {"namespace": "hooks", "name": "headless"}}),
        ),
        (
            "scaled",
            json!({"path": "/deny", "resources": ["deployments/scale"], "apiGroups": ["apps"]}),
        ),
        ("last", path("/deny")),
    ]
}

fn mutating() -> Vec<(&'static str, Value)> {
    vec![
        ("m-allow", path("/allow")),
        ("m-deny", path("/deny")),
        ("m-mark", path("/mark")),
        ("m-patch-alone", path("/patch-alone")),
        ("m-type-alone", path("/type-alone")),
        ("m-s500", path("/500")),
        ("m-s500-ignored", ignored("/500")),
        (
            "m-deletes",
            json!({"path": "/mark", "operations": ["DELETE"]}),
        ),
        // The one is asked again after the other.
        (
            "again-1",
            json!({"path": "/count", "reinvocationPolicy": "IfNeeded", "case": "again"}),
        ),
        ("again-2", json!({"path": "/mark", "case": "again"})),
        ("m-last", path("/deny")),
    ]
}

impl Hook {
    fn case(&self) -> String {
        let case = self.more["case"].as_str().unwrap_or(self.name);
        case.to_owned()
    }

    /// It is asked of what has the case's label.
    fn configuration(&self, webhook: &Webhook) -> Value {
        let said = |field: &str, usual: Value| match &self.more[field] {
            Value::Null => usual,
            value => value.clone(),
        };
        let mut client = json!({"caBundle": base64(webhook.authority.as_bytes())});
        if self.more["caBundle"] == true {
            // Another authority's.
            let other = mizzen_certs::Authority::new("another").expect("an authority");
            client["caBundle"] = base64(other.pem().as_bytes()).into();
        }
        match (self.more["url"].as_str(), &self.more["service"]) {
            (Some(url), _) => client["url"] = url.into(),
            (None, Value::Null) => {
                client["url"] = webhook
                    .url(self.more["path"].as_str().unwrap_or("/"))
                    .into();
            }
            (None, service) => client["service"] = service.clone(),
        }
        let mut hook = json!({
            "name": format!("{}.example.com", self.name),
            "clientConfig": client,
            "rules": [{
                "operations": said("operations", json!(["CREATE", "UPDATE"])),
                "apiGroups": said("apiGroups", json!([""])),
                "apiVersions": said("apiVersions", json!(["v1"])),
                "resources": said("resources", json!(["configmaps"])),
                "scope": said("scope", json!("*")),
            }],
            "objectSelector": {"matchLabels": {"case": self.case()}},
            "sideEffects": said("sideEffects", json!("None")),
            "admissionReviewVersions": ["v1"],
        });
        for field in [
            "failurePolicy",
            "timeoutSeconds",
            "namespaceSelector",
            "matchConditions",
            "reinvocationPolicy",
        ] {
            if !self.more[field].is_null() {
                hook[field] = self.more[field].clone();
            }
        }
        let kind = match self.mutating {
            true => "MutatingWebhookConfiguration",
            false => "ValidatingWebhookConfiguration",
        };
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": self.name}, "webhooks": [hook]})
    }
}

/// What is told of a write, less what differs from run to run.
fn plain(request: &mut Value) {
    request["uid"] = "<uid>".into();
    for object in ["object", "oldObject"] {
        let Some(meta) = request[object]["metadata"].as_object_mut() else {
            continue;
        };
        for field in ["uid", "creationTimestamp", "resourceVersion"] {
            if let Some(value) = meta.get_mut(field).filter(|value| !value.is_null()) {
                *value = format!("<{field}>").into();
            }
        }
        for one in meta
            .get_mut("managedFields")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            one["time"] = "<time>".into();
        }
    }
}

struct Asking<'a> {
    pair: &'a mut Pair,
    webhook: &'a Webhook,
}

impl Asking<'_> {
    /// One request of each side, and what webhooks were asked meanwhile.
    async fn ask(&mut self, method: Method, path: &str, body: &Value) -> Result<()> {
        drop(self.webhook.asked());
        let upstream = call(&self.pair.upstream, ADMINISTRATOR, &method, path, body).await?;
        let mut theirs = self.webhook.asked();
        let ours = call(&self.pair.ours, ADMINISTRATOR, &method, path, body).await?;
        let mut own = self.webhook.asked();
        self.pair
            .judge(&method, path, body, &differing(&upstream, &ours));
        for (_, request) in theirs.iter_mut().chain(&mut own) {
            plain(request);
        }
        // Those that validate are asked at once.
        theirs.sort_by(|one, other| one.0.cmp(&other.0));
        own.sort_by(|one, other| one.0.cmp(&other.0));
        if theirs != own {
            let why = format!(
                "{method} {path} {body}: webhooks were asked\n  upstream {}\n  ours     {}",
                json!(theirs),
                json!(own)
            );
            self.pair.found.push(why);
        }
        Ok(())
    }
}

/// Waits until both sides know a configuration.
async fn known(pair: &Pair, case: &str) -> Result<()> {
    let started = std::time::Instant::now();
    let map = map("known", case);
    let path = format!("{MAPS}?dryRun=All");
    loop {
        let (upstream, ours) = pair.both(ADMINISTRATOR, &Method::POST, &path, &map).await?;
        if !upstream.succeeded() && !ours.succeeded() {
            return Ok(());
        }
        ensure!(
            started.elapsed() < DEADLINE,
            "{case} is not known: {upstream:?}, {ours:?}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn map(name: &str, case: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"case": case}}})
}

pub async fn all(pair: &mut Pair) -> Result<()> {
    let webhook = Webhook::start(say).await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "hooks", "labels": {"kind": "these"}}});
    pair.create("/api/v1/namespaces", &namespace).await?;
    let headless = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "headless"},
        "spec": {"clusterIP": "None", "ports": [{"port": 443}]}});
    pair.create(&format!("{NAMESPACE}/services"), &headless)
        .await?;
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "labels": {"case": "scaled"}},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    pair.create("/apis/apps/v1/namespaces/hooks/deployments", &deployment)
        .await?;
    let hooks = hooks();
    for hook in &hooks {
        let plural = match hook.mutating {
            true => "mutatingwebhookconfigurations",
            false => "validatingwebhookconfigurations",
        };
        let path = format!("/apis/admissionregistration.k8s.io/v1/{plural}");
        pair.create(&path, &hook.configuration(&webhook))
            .await
            .with_context(|| hook.name)?;
    }
    for case in ["last", "m-last"] {
        known(pair, case).await?;
    }
    let mut asking = Asking {
        pair,
        webhook: &webhook,
    };
    for hook in &hooks {
        let case = hook.case();
        let path = format!("{MAPS}/{}", hook.name);
        let wanted = map(hook.name, &case);
        asking.ask(Method::POST, MAPS, &wanted).await?;
        let dry = format!("{MAPS}?dryRun=All&fieldManager=tests");
        asking.ask(Method::POST, &dry, &map("dry", &case)).await?;
        let change = json!({"data": {"a": "b"}});
        asking.ask(Method::PATCH, &path, &change).await?;
        asking.ask(Method::DELETE, &path, &Value::Null).await?;
    }
    let scale = "/apis/apps/v1/namespaces/hooks/deployments/d/scale";
    let change = json!({"spec": {"replicas": 2}});
    asking.ask(Method::PATCH, scale, &change).await?;
    Ok(())
}
