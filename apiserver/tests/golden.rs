//! The maximal objects that ship with the Go module `k8s.io/api`, in JSON and
//! in protobuf, made by upstream's own code: ours makes the same of them.

#[path = "../../tests/src/skip.rs"]
#[allow(dead_code, reason = "shared with the black-box tests")]
mod skip;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use mizzen_apiserver::{
    codec::{
        json::{self, Source},
        proto,
    },
    schema::{MessageId, schema},
};
use serde_json::{Map, Value};

/// The directory of the vectors, if Go can tell it.
fn vectors() -> Option<PathBuf> {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/generate");
    let output = Command::new("go")
        .args(["list", "-m", "-f", "{{.Dir}}", "k8s.io/api"])
        .current_dir(&module)
        .output()
        .ok()?;
    // Listing does not fetch; building what needs the module does.
    let mut dir = String::from_utf8(output.stdout).ok()?;
    if dir.trim().is_empty() {
        let fetched = Command::new("go")
            .args(["mod", "download"])
            .current_dir(&module)
            .status()
            .ok()?;
        if !fetched.success() {
            return None;
        }
        let again = Command::new("go")
            .args(["list", "-m", "-f", "{{.Dir}}", "k8s.io/api"])
            .current_dir(&module)
            .output()
            .ok()?;
        dir = String::from_utf8(again.stdout).ok()?;
    }
    let dir = PathBuf::from(dir.trim()).join("testdata");
    dir.is_dir().then_some(dir)
}

/// The message of a vector file such as `apps.v1.Deployment.json`.
fn message_of(stem: &str, object: &Value) -> Option<MessageId> {
    let kind = stem.rsplit('.').next()?;
    let api_version = object.get("apiVersion")?.as_str()?;
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let package = match group {
        "rbac.authorization.k8s.io" => "rbac",
        "flowcontrol.apiserver.k8s.io" => "flowcontrol",
        "internal.apiserver.k8s.io" => "apiserverinternal",
        group => group.trim_end_matches(".k8s.io"),
    };
    schema().find(&format!("io.k8s.api.{package}.{version}.{kind}"))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("not an object: {other}"),
    }
}

#[test]
fn maximal_objects_are_encoded_as_upstream_encodes_them() {
    let Some(dir) = vectors() else {
        let why = "no go on the PATH, or its module k8s.io/api cannot be had";
        skip::test(&skip::Why::Program(why.to_owned())).expect("it may be skipped");
        return;
    };
    let mut checked = 0;
    let mut wrong = Vec::new();
    let mut files: Vec<_> = fs::read_dir(dir.join("HEAD"))
        .expect("the vectors can be listed")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    files.sort();
    for path in files {
        let text = fs::read(&path).expect("a vector");
        let theirs: Value = serde_json::from_slice(&text).expect("JSON");
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("a name");
        let Some(id) = message_of(stem, &theirs) else {
            continue;
        };
        let sealed = fs::read(path.with_extension("pb")).expect("the same in protobuf");
        let decoded = json::decode(&text, id, Source::Client)
            .unwrap_or_else(|error| panic!("{stem}: {error}"));
        let unknown: Vec<_> = decoded.unknown.iter().collect();
        if !unknown.is_empty() || !decoded.duplicate.is_empty() {
            wrong.push(format!(
                "{stem}: unknown {unknown:?}, twice {:?}",
                decoded.duplicate
            ));
        }
        let ours = proto::seal(&decoded.api_version, &decoded.kind, id, &decoded.value);
        if ours != sealed {
            let at = ours.iter().zip(&sealed).take_while(|(a, b)| a == b).count();
            let near = at.saturating_sub(40);
            wrong.push(format!(
                "{stem}: encoded otherwise at byte {at}:\n ours   {:?}\n theirs {:?}",
                String::from_utf8_lossy(&ours[near..(at + 40).min(ours.len())]),
                String::from_utf8_lossy(&sealed[near..(at + 40).min(sealed.len())])
            ));
        }
        let envelope = proto::Envelope::open(&sealed).expect("an envelope");
        let back = proto::to_internal_json(id, envelope.raw)
            .unwrap_or_else(|error| panic!("{stem}: {error}"));
        let back: Value = serde_json::from_slice(&back).expect("our JSON");
        let mut expected = object(theirs);
        expected.remove("kind");
        expected.remove("apiVersion");
        if object(back.clone()) != expected {
            wrong.push(format!(
                "{stem}: decoded otherwise:\n ours   {back}\n theirs {}",
                Value::Object(expected)
            ));
        }
        checked += 1;
    }
    assert!(
        wrong.is_empty(),
        "{} of {checked} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(checked > 75, "only {checked} vectors belong to the schema");
    println!("{checked} vectors");
}
