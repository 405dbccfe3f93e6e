use std::path::PathBuf;

use super::*;

/// What was recorded.
async fn lines(test: impl FnOnce(&Arc<Audit>)) -> Vec<Value> {
    let folder = std::env::temp_dir().join(format!("audit-{}", object::uid()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let policy = folder.join("policy.yaml");
    let text = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitManagedFields: true\nrules:\n- {level: None, verbs: [list]}\n- {level: Metadata, resources: [{group: \"\", resources: [secrets]}]}\n- {level: RequestResponse}\n";
    std::fs::write(&policy, text).expect("written");
    let files = LogFiles {
        path: folder.join("log"),
        size: 0,
        backups: 0,
        age: std::time::Duration::ZERO,
    };
    let (audit, writer) = Audit::new(&policy, files).expect("a policy");
    let audit = Arc::new(audit);
    test(&audit);
    drop(audit);
    writer.run().await;
    let text = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    std::fs::remove_dir_all(&folder).expect("removed");
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    lines.collect()
}

fn asked(verb: &'static str, resource: &'static str, sub: &'static str) -> Attributes<'static> {
    Attributes {
        verb,
        is_resource: true,
        version: "v1",
        namespace: "one",
        resource,
        subresource: sub,
        name: "it".into(),
        ..Attributes::default()
    }
}

fn origin() -> Origin {
    Origin {
        uri: "/api/v1".to_owned(),
        id: String::new(),
        user_agent: "a".repeat(2_000),
        addresses: vec!["192.0.2.1".to_owned()],
    }
}

fn body() -> Json {
    let body = json!({"kind": "Secret", "metadata": {"name": "it", "uid": "u", "managedFields": []},
        "data": {"a": "hidden"}});
    body.as_object().cloned().expect("an object")
}

fn somebody() -> Identity {
    Identity {
        user: "somebody".to_owned(),
        groups: vec!["some".to_owned()],
        ..Identity::default()
    }
}

/// A request from its beginning to its end.
fn request(audit: &Arc<Audit>, asked: &Attributes<'_>) {
    let Some(record) = audit.begin(Some(&somebody()), asked, origin) else {
        return;
    };
    record.decided(true, "because");
    record.asked(&body(), || Some(Value::Object(body())));
    record.answered(201, Some(Value::Object(body())));
}

#[tokio::test]
async fn no_more_is_recorded_than_the_policy_says() {
    let found = lines(|audit| {
        request(audit, &asked("create", "configmaps", ""));
        request(audit, &asked("create", "secrets", ""));
        request(audit, &asked("create", "serviceaccounts", "token"));
        request(audit, &asked("list", "configmaps", ""));
    })
    .await;
    assert_eq!(found.len(), 6);
    let (received, complete) = (&found[0], &found[1]);
    assert_eq!(received["stage"], "RequestReceived");
    assert_eq!(
        received["stageTimestamp"],
        received["requestReceivedTimestamp"]
    );
    assert_eq!(received["auditID"], complete["auditID"]);
    assert_eq!(complete["stage"], "ResponseComplete");
    assert_eq!(
        complete["user"],
        json!({"username": "somebody", "groups": ["some"]})
    );
    let reference = json!({"resource": "configmaps", "namespace": "one", "name": "it", "uid": "u", "apiVersion": "v1"});
    assert_eq!(complete["objectRef"], reference);
    assert_eq!(
        complete["responseStatus"],
        json!({"metadata": {}, "code": 201})
    );
    let agent = complete["userAgent"].as_str().expect("a text");
    assert!(agent.len() == 1_024 + 12 && agent.ends_with("...TRUNCATED"));
    let object =
        json!({"kind": "Secret", "metadata": {"name": "it", "uid": "u"}, "data": {"a": "hidden"}});
    assert_eq!(
        (&complete["requestObject"], &complete["responseObject"]),
        (&object, &object)
    );
    for event in &found[2..] {
        assert_eq!(event["level"], "Metadata");
        assert!(!event.to_string().contains("hidden"), "{event}");
    }
    assert_eq!(found[5]["objectRef"]["subresource"], "token");
}

#[tokio::test]
async fn every_request_ends_in_the_log() {
    let found = lines(|audit| {
        // Nobody waited for the answer.
        drop(audit.begin(Some(&somebody()), &asked("get", "pods", ""), origin));
        // It was refused.
        let record = audit.begin(Some(&somebody()), &asked("get", "pods", ""), origin);
        let refused = json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "message": "no", "code": 403});
        record.expect("a record").answered(403, Some(refused));
        // Nobody knows who asked.
        let record = audit.begin(None, &asked("get", "pods", ""), origin);
        let refused = json!({"kind": "Status", "status": "Failure", "reason": "Unauthorized", "message": "who?", "code": 401});
        record.expect("a record").failed_authentication(401, refused);
        // A fault of ours.
        let panics = std::panic::AssertUnwindSafe(|| {
            let _record = audit.begin(Some(&somebody()), &asked("get", "pods", ""), origin);
            panic!("on purpose");
        });
        assert!(std::panic::catch_unwind(panics).is_err());
    })
    .await;
    let ends: Vec<String> = found
        .iter()
        .filter(|event| event["stage"] != "RequestReceived")
        .map(|event| format!("{} {}", event["stage"], event["responseStatus"]["code"]))
        .collect();
    assert_eq!(
        ends,
        [
            "\"ResponseComplete\" 200",
            "\"ResponseComplete\" 403",
            "\"ResponseStarted\" 401",
            "\"Panic\" 500"
        ]
    );
    assert_eq!(found[3]["responseStatus"]["reason"], "Forbidden");
    assert_eq!(found[4]["user"], json!({}));
}

#[test]
fn a_policy_that_is_not_there_is_an_error() {
    let files = LogFiles {
        path: PathBuf::from("-"),
        size: 0,
        backups: 0,
        age: std::time::Duration::ZERO,
    };
    let error = Audit::new(Path::new("/nowhere/policy"), files).expect_err("there is none");
    assert!(error.to_string().contains("/nowhere/policy"));
}
