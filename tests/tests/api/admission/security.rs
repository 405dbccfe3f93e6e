//! Pod security by labels of namespaces, and who approves and signs.

use anyhow::Result;
use base64::Engine as _;
use http::Method;
use serde_json::{Value, json};

use super::{Pair, namespace, pod};

pub async fn all(pair: &mut Pair) -> Result<()> {
    standards(pair).await?;
    certificates(pair).await
}

/// Specifications that one standard or the other does not take.
fn specifications() -> Vec<Value> {
    let container = |context: Value| json!({"containers": [{"name": "c", "image": "i", "securityContext": context}]});
    let kept = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    let with = |field: &str, value: Value| {
        let mut context = kept.clone();
        context[field] = value;
        container(context)
    };
    let beside = |field: &str, value: Value| {
        let mut spec = container(kept.clone());
        spec[field] = value;
        spec
    };
    vec![
        json!({}),
        container(kept.clone()),
        container(json!({"privileged": true})),
        with("runAsUser", 0.into()),
        with("runAsNonRoot", false.into()),
        with("procMount", "Unmasked".into()),
        with(
            "capabilities",
            json!({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}),
        ),
        with(
            "capabilities",
            json!({"add": ["CHOWN", "SYS_ADMIN", "NET_RAW"]}),
        ),
        with("seLinuxOptions", json!({"type": "spc_t", "user": "u"})),
        with("seccompProfile", json!({"type": "Unconfined"})),
        with("appArmorProfile", json!({"type": "Unconfined"})),
        beside("hostNetwork", true.into()),
        beside("hostPID", true.into()),
        beside(
            "securityContext",
            json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
        ),
        beside(
            "securityContext",
            json!({"runAsUser": 0, "runAsNonRoot": false}),
        ),
        beside(
            "volumes",
            json!([{"name": "h", "hostPath": {"path": "/"}}, {"name": "n", "nfs": {"server": "s", "path": "/"}}]),
        ),
        json!({"containers": [{"name": "a", "image": "i", "ports": [{"containerPort": 80, "hostPort": 8080}]}, {"name": "b", "image": "i"}]}),
        json!({"containers": [{"name": "c", "image": "i", "livenessProbe": {"httpGet": {"port": 80, "host": "h"}}}]}),
    ]
}

async fn standards(pair: &mut Pair) -> Result<()> {
    let label = |name: &str| format!("pod-security.kubernetes.io/{name}");
    for (name, labels) in [
        ("baseline", json!({label("enforce"): "baseline"})),
        (
            "restricted",
            json!({label("enforce"): "restricted", label("enforce-version"): "v1.30"}),
        ),
        (
            "warned",
            json!({label("enforce"): "privileged", label("warn"): "restricted"}),
        ),
    ] {
        namespace(pair, name, &labels).await?;
        for spec in specifications() {
            let path = format!("/api/v1/namespaces/{name}/pods");
            pair.would(&path, &pod("judged", &spec)).await?;
        }
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
                "spec": {"hostPID": true, "containers": [{"name": "c", "image": "i"}]}}}});
        let path = format!("/apis/apps/v1/namespaces/{name}/deployments");
        pair.would(&path, &deployment).await?;
    }
    for (field, value) in [("enforce", "none"), ("warn-version", "v2.0"), ("audit", "")] {
        let wrong = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "wrong", "labels": {label(field): value}}});
        pair.would("/api/v1/namespaces", &wrong).await?;
    }
    // What is there already is told when the namespace becomes stricter.
    for name in ["first", "second"] {
        pair.create(
            "/api/v1/namespaces/warned/pods",
            &pod(name, &json!({"hostPID": true})),
        )
        .await?;
    }
    let stricter = json!({"metadata": {"labels": {label("enforce"): "baseline"}}});
    let path = "/api/v1/namespaces/warned?dryRun=All";
    pair.ask(super::ADMINISTRATOR, Method::PATCH, path, &stricter)
        .await
}

async fn certificates(pair: &mut Pair) -> Result<()> {
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let request = |name: &str, signer: &str, organization: &str| -> Result<Value> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "someone");
        params
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, organization);
        let pem = params
            .serialize_request(&rcgen::KeyPair::generate()?)?
            .pem()?;
        let text = base64::engine::general_purpose::STANDARD.encode(pem);
        Ok(
            json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
            "spec": {"request": text, "signerName": signer, "usages": ["client auth"]}}),
        )
    };
    let clients = "kubernetes.io/kube-apiserver-client";
    for (signer, organization) in [
        (clients, "system:masters"),
        (clients, "others"),
        ("example.com/own", "system:masters"),
    ] {
        pair.would(requests, &request("asked", signer, organization)?)
            .await?;
    }
    pair.create(requests, &request("mine", "example.com/own", "o")?)
        .await?;
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "approver"},
        "rules": [{"apiGroups": ["certificates.k8s.io"], "verbs": ["get", "update", "patch"],
            "resources": ["certificatesigningrequests/approval", "certificatesigningrequests/status"]}]});
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    pair.create(&format!("{rbac}/clusterroles"), &role).await?;
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "approver"},
        "subjects": [{"kind": "User", "name": "approver", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": "approver", "apiGroup": "rbac.authorization.k8s.io"}});
    pair.create(&format!("{rbac}/clusterrolebindings"), &binding)
        .await?;
    let condition = |kind: &str| json!({"status": {"conditions": [{"type": kind, "status": "True", "reason": "r", "message": "m"}]}});
    let dry = "dryRun=All";
    for (sub, kind) in [("approval", "Approved"), ("status", "Failed")] {
        let path = format!("{requests}/mine/{sub}?{dry}");
        pair.code("approver", Method::PATCH, &path, &condition(kind), 403)
            .await?;
    }
    let more = json!({"rules": [
        {"apiGroups": ["certificates.k8s.io"], "verbs": ["get", "update", "patch"],
            "resources": ["certificatesigningrequests/approval", "certificatesigningrequests/status"]},
        {"apiGroups": ["certificates.k8s.io"], "verbs": ["approve"], "resources": ["signers"], "resourceNames": ["example.com/*"]}]});
    pair.set(
        Method::PATCH,
        &format!("{rbac}/clusterroles/approver"),
        &more,
    )
    .await?;
    let path = format!("{requests}/mine/approval?{dry}");
    pair.code(
        "approver",
        Method::PATCH,
        &path,
        &condition("Approved"),
        200,
    )
    .await
}
