//! Requests for certificates say who asks, whatever the body says; and who may
//! report a status approves nothing by that.

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use super::{Compared, Pair, Side, until};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
/// A request of somebody's for a certificate of his, PEM in base64.
const PEM: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlISE1HNENBUUF3RERFS01BZ0dBMVVFQXd3QmVEQlpNQk1HQnlxR1NNNDlBZ0VHQ0NxR1NNNDlBd0VIQTBJQQpCQzlYWnhUSVA1bTVoUlRMaldwSm5WQ204dHZ3YzI3M3pid20vZjZPeDBSa0dwOVBmdnh0VWI2SmxkNkJTRS9nClpwdHEvQXhDREFLTXVZM21tRUFmcERLZ0FEQUtCZ2dxaGtqT1BRUURBZ05KQURCR0FpRUE3MWdKZUdROVVjRUYKSXQ3Zk96QW9Nb2RBY1FzVE5xbWhxd1p0TEJXcTI0d0NJUURZc292V21xOVgyWnprNzVmYzZSTk9qT0x5RUY4WApLNzd3WkJJWWpkQzdGdz09Ci0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo=";
/// Who asks.
const ASKERS: &[&str] = &["alice", "carol", "builder"];

/// Lets every asker do everything with requests and with their signer's.
async fn allow(side: &Side) -> Result<()> {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "asker"}, "rules": [
            {"apiGroups": ["certificates.k8s.io"], "verbs": ["*"], "resources": [
                "certificatesigningrequests", "certificatesigningrequests/status",
                "certificatesigningrequests/approval"]},
            {"apiGroups": ["certificates.k8s.io"], "verbs": ["approve", "sign"],
                "resources": ["signers"], "resourceNames": ["example.com/s"]}]});
    side.done(Method::POST, &format!("{RBAC}/clusterroles"), &role)
        .await?;
    let user =
        |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "asker"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "asker"},
        "subjects": [user("alice"), user("carol"), user("system:serviceaccount:a:builder")]});
    let path = format!("{RBAC}/clusterrolebindings");
    side.done(Method::POST, &path, &binding).await?;
    let asked = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "carol", "resourceAttributes": {"verb": "create",
            "group": "certificates.k8s.io", "resource": "certificatesigningrequests"}}});
    until(side, REVIEWS, &asked, |told| {
        told.body["status"]["allowed"] == true
    })
    .await
}

/// What one asker does: what it is called, how, where and with what.
fn attempts(asker: &str) -> Vec<(&'static str, Method, String, Value)> {
    let path = format!("{REQUESTS}/of-{asker}");
    let forged = json!({"username": "system:admin", "uid": "0", "groups": ["system:masters"],
        "extra": {"a": ["b"]}});
    let mut spec = forged.clone();
    spec["signerName"] = "example.com/s".into();
    spec["usages"] = json!(["digital signature"]);
    spec["request"] = PEM.into();
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "reason": "Test", "message": "m"});
    let status = |conditions: Value| json!({"status": {"conditions": conditions}});
    let body = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": format!("of-{asker}")}, "spec": spec});
    vec![
        ("asks", Method::POST, REQUESTS.to_owned(), body),
        (
            "changes who asked",
            Method::PATCH,
            path.clone(),
            json!({"spec": forged}),
        ),
        (
            "approves as a status",
            Method::PATCH,
            format!("{path}/status"),
            status(json!([condition("Approved")])),
        ),
        (
            "denies as a status",
            Method::PATCH,
            format!("{path}/status"),
            status(json!([condition("Denied")])),
        ),
        (
            "fails as a status",
            Method::PATCH,
            format!("{path}/status"),
            status(json!([condition("Failed")])),
        ),
        (
            "forgets the failure",
            Method::PATCH,
            format!("{path}/status"),
            status(json!([])),
        ),
        (
            "approves",
            Method::PATCH,
            format!("{path}/approval"),
            status(json!([condition("Failed"), condition("Approved")])),
        ),
        (
            "approves and denies",
            Method::PATCH,
            format!("{path}/approval"),
            status(json!([
                condition("Failed"),
                condition("Approved"),
                condition("Denied")
            ])),
        ),
        (
            "takes the approval back",
            Method::PATCH,
            format!("{path}/approval"),
            status(json!([condition("Failed")])),
        ),
        (
            "signs as an approval",
            Method::PATCH,
            format!("{path}/approval"),
            json!({"status": {"certificate": "eA=="}}),
        ),
    ]
}

/// Who asks for certificates, on both sides.
pub async fn requests(pair: &Pair) -> Result<()> {
    for side in pair.sides() {
        allow(side).await?;
    }
    let mut compared = Compared::default();
    for asker in ASKERS {
        for (what, method, path, body) in attempts(asker) {
            let mut told = Vec::new();
            for side in pair.sides() {
                let answer = side.call(asker, method.clone(), &path, &body).await?;
                let kinds: Vec<Value> = answer.body["status"]["conditions"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|one| one["type"].clone())
                    .collect();
                told.push((
                    answer.code,
                    answer.body["spec"].clone(),
                    kinds,
                    answer.body["message"].clone(),
                ));
            }
            compared.cell(&format!("{asker} {what}"), &told[0], &told[1]);
        }
    }
    compared.hold("requests for certificates", 30)
}
