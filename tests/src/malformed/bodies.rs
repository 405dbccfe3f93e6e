//! Bodies of creations and replacements.

use http::Method;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde_json::{Value, json};

use super::{Case, Object};

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A creation of a new object or a replacement of the one that is there.
fn write(rng: &mut StdRng, what: &'static str, object: &Object, number: u64) -> (Case, Value) {
    if rng.random_bool(0.5) {
        let mut value = object.sent.clone();
        value["metadata"]["name"] = format!("fresh-{number}").into();
        return (Case::new(what, Method::POST, &object.collection), value);
    }
    (
        Case::new(what, Method::PUT, object.path()),
        object.json.clone(),
    )
}

pub fn case(rng: &mut StdRng, object: &Object, number: u64) -> Case {
    match rng.random_range(0..14) {
        0 | 1 => {
            let (case, value) = write(rng, "JSON cut short", object, number);
            let text = value.to_string();
            let at = rng.random_range(0..text.len());
            // An empty body would be another case: it says nothing.
            case.body(JSON, text.into_bytes()[..at.max(1)].to_vec())
        }
        2..=4 => {
            let (case, mut value) = write(rng, "a value of another type", object, number);
            mistype(rng, &mut value);
            case.json(&value)
        }
        5..=7 => {
            let (case, mut value) = write(rng, "a value that is not allowed", object, number);
            let (pointer, wrong) = not_allowed(rng, object, &case.method);
            set(&mut value, &pointer, wrong);
            case.json(&value)
        }
        8 => {
            let (mut case, mut value) = write(rng, "a field that is unknown", object, number);
            case.path.push_str("?fieldValidation=Strict");
            if rng.random_bool(0.5) {
                value["metadata"]["nothing"] = json!({"a": [1, null]});
            } else {
                value["nothing"] = json!(7);
            }
            case.json(&value)
        }
        9 => {
            let (mut case, value) = write(rng, "a field that stands twice", object, number);
            case.path.push_str("?fieldValidation=Strict");
            let text = value.to_string();
            case.body(JSON, format!("{{\"metadata\":{{}},{}", &text[1..]))
        }
        10 => protobuf(rng, object),
        11 => nested(rng, object, number),
        12 => {
            let (case, value) = write(rng, "JSON with other bytes", object, number);
            case.body(JSON, scrambled(rng, value.to_string().as_bytes()))
                .by_chance()
        }
        _ => Case::new("protobuf with other bytes", Method::PUT, object.path())
            .body(PROTOBUF, scrambled(rng, &object.protobuf))
            .by_chance(),
    }
}

/// Some bytes changed, put in or taken out.
pub fn scrambled(rng: &mut StdRng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..3) {
            0 => bytes[at] = rng.random(),
            1 => bytes.insert(at, rng.random()),
            _ if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => {}
        }
    }
    bytes
}

fn protobuf(rng: &mut StdRng, object: &Object) -> Case {
    let whole = &object.protobuf;
    let put = |what| Case::new(what, Method::PUT, object.path());
    match rng.random_range(0..4) {
        0 => {
            // Within the object: what follows it is a few bytes.
            let at = rng.random_range(0..whole.len() - 20);
            put("protobuf cut short").body(PROTOBUF, whole.slice(..at))
        }
        1 => put("protobuf without its magic").body(PROTOBUF, whole.slice(4..)),
        2 => put("JSON that is called protobuf").body(PROTOBUF, object.json.to_string()),
        _ => put("protobuf that is called JSON").body(JSON, whole.clone()),
    }
}

/// Nesting without end where a map of texts is expected.
fn nested(rng: &mut StdRng, object: &Object, number: u64) -> Case {
    let depth = [200, 5_000, 100_000].choose(rng).expect("a depth");
    let (open, close) = [("[", "]"), ("{\"a\":", "}")].choose(rng).expect("a form");
    let closed = rng.random_bool(0.5);
    let inner = format!(
        "{}1{}",
        open.repeat(*depth),
        if closed {
            close.repeat(*depth)
        } else {
            String::new()
        }
    );
    let (case, mut value) = write(rng, "nesting without end", object, number);
    value["metadata"]["labels"] = "%".into();
    case.body(JSON, value.to_string().replacen("\"%\"", &inner, 1))
}

/// Puts a value of a type that Go's decoder refuses somewhere into an object.
fn mistype(rng: &mut StdRng, value: &mut Value) {
    let mut places = Vec::new();
    pointers(value, String::new(), &mut places);
    let place = places.choose(rng).expect("an object has fields");
    let target = value.pointer_mut(place).expect("it was just there");
    let wrong = match target {
        Value::Object(_) => [json!("text"), json!([]), json!(5)],
        Value::Array(_) => [json!({}), json!("text"), json!(true)],
        // A quantity and a port may be a number or a text, bytes a list.
        Value::String(_) | Value::Number(_) => [json!({}), json!(true), json!([{}])],
        _ => [json!({}), json!("true"), json!(5)],
    };
    *target = wrong.choose(rng).expect("three of them").clone();
}

fn pointers(value: &Value, at: String, places: &mut Vec<String>) {
    let mut inside = |key: &str, value: &Value| {
        // Whatever it is, it is kept as it is.
        if key == "fieldsV1" {
            return;
        }
        let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        if !value.is_null() {
            places.push(at.clone());
        }
        pointers(value, at, places);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| inside(key, value)),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(index, value)| inside(&index.to_string(), value)),
        _ => {}
    }
}

/// Sets what a pointer names, and makes the maps on its way.
fn set(value: &mut Value, pointer: &str, to: Value) {
    let mut target = value;
    for word in pointer.split('/').skip(1) {
        target = match word.parse::<usize>() {
            Ok(index) => &mut target[index],
            Err(_) => &mut target[word],
        };
    }
    *target = to;
}

type Wrong = (&'static str, Vec<Value>);

/// What no kind may have.
fn anywhere(method: &Method, namespaced: bool) -> Vec<Wrong> {
    let mut all = vec![
        (
            "/metadata/name",
            vec![
                json!(".."),
                json!("."),
                json!("a/b"),
                json!("a%b"),
                json!(""),
            ],
        ),
        (
            "/metadata/labels",
            vec![
                json!({"a b": "c"}),
                json!({"a": "b c"}),
                json!({"a": "x".repeat(64)}),
                json!({"/a": "b"}),
                json!({"": "b"}),
                json!({"a/b/c": "d"}),
            ],
        ),
        (
            "/metadata/annotations",
            vec![
                json!({"a b": "c"}),
                json!({"": ""}),
                json!({"x": "y".repeat(300 << 10)}),
            ],
        ),
        (
            "/metadata/finalizers",
            vec![json!(["a b"]), json!([""]), json!(["/"])],
        ),
        (
            "/metadata/ownerReferences",
            vec![
                json!([{}]),
                json!([{"apiVersion": "v1", "kind": "Pod", "name": "", "uid": "u"}]),
                json!([{"apiVersion": "v1", "kind": "Pod", "name": "n", "uid": ""}]),
            ],
        ),
        // Upstream takes one that is no number above 0 for none.
        ("/metadata/resourceVersion", vec![json!("1")]),
        (
            "/metadata/creationTimestamp",
            vec![json!("yesterday"), json!("2020-13-01T00:00:00Z")],
        ),
        // What a body leaves empty of these is taken from the URL, as upstream does.
        ("/kind", vec![json!("Other")]),
        (
            "/apiVersion",
            vec![json!("v9"), json!("apps/v1beta1"), json!("a/b/c")],
        ),
    ];
    // Kinds without namespaces are in none, whatever they say, as upstream has it.
    if namespaced {
        all.push(("/metadata/namespace", vec![json!("other"), json!("a/b")]));
    }
    if *method == Method::PUT {
        all.push(("/metadata/uid", vec![json!("another")]));
    }
    all
}

/// What this kind may not have.
fn in_kind(plural: &str, method: &Method) -> Vec<Wrong> {
    let pod = |prefix: &'static str| -> Vec<Wrong> {
        let at = |inner: &'static str| -> &'static str { format!("{prefix}{inner}").leak() };
        vec![
            (at("/containers"), vec![json!([])]),
            (
                at("/containers/0/name"),
                vec![json!("A"), json!(""), json!("a b")],
            ),
            (at("/containers/0/imagePullPolicy"), vec![json!("Bad")]),
            (
                at("/containers/0/ports"),
                vec![
                    json!([{"containerPort": 0}]),
                    json!([{"containerPort": 70_000}]),
                    json!([{"containerPort": 80, "protocol": "Bad"}]),
                ],
            ),
            (
                at("/containers/0/env"),
                vec![json!([{"name": ""}]), json!([{"name": "a=b"}])],
            ),
            (
                at("/containers/0/resources"),
                vec![
                    json!({"limits": {"cpu": "abc"}}),
                    json!({"limits": {"cpu": "-1"}}),
                    json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
                ],
            ),
            (
                at("/containers/0/volumeMounts"),
                vec![json!([{"name": "none", "mountPath": "/x"}])],
            ),
            (
                at("/volumes"),
                vec![
                    json!([{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]),
                    json!([{"name": "A b", "emptyDir": {}}]),
                ],
            ),
            (at("/dnsPolicy"), vec![json!("Bad")]),
            (at("/restartPolicy"), vec![json!("Bad")]),
        ]
    };
    let mut all: Vec<Wrong> = match plural {
        "pods" => pod("/spec"),
        "deployments" | "statefulsets" => {
            let mut all = pod("/spec/template/spec");
            all.extend([
                ("/spec/replicas", vec![json!(-1)]),
                (
                    "/spec/selector",
                    vec![
                        json!({}),
                        json!(null),
                        json!({"matchLabels": {"other": "y"}}),
                        json!({"matchLabels": {"a b": "c"}}),
                        json!({"matchExpressions": [{"key": "a", "operator": "Bad"}]}),
                    ],
                ),
                (
                    "/spec/template/metadata/labels",
                    vec![json!({"other": "y"})],
                ),
                (
                    "/spec/template/spec/restartPolicy",
                    vec![json!("Never"), json!("OnFailure")],
                ),
                // Of revisions a stateful set may keep all.
                ("/spec/minReadySeconds", vec![json!(-1)]),
            ]);
            all
        }
        "jobs" => vec![
            ("/spec/parallelism", vec![json!(-1)]),
            ("/spec/completions", vec![json!(-1)]),
            ("/spec/backoffLimit", vec![json!(-1)]),
            (
                "/spec/template/spec/restartPolicy",
                vec![json!("Always"), json!("Bad")],
            ),
            ("/spec/template/spec/containers", vec![json!([])]),
        ],
        "services" => vec![
            (
                "/spec/ports",
                vec![
                    json!([]),
                    json!([{"port": 0}]),
                    json!([{"port": 80}, {"port": 81}]),
                    json!([{"port": 80, "protocol": "Bad"}]),
                    json!([{"port": 80, "targetPort": 70_000}]),
                ],
            ),
            ("/spec/type", vec![json!("Bad")]),
            ("/spec/sessionAffinity", vec![json!("Bad")]),
            ("/spec/selector", vec![json!({"a b": "c"})]),
        ],
        "configmaps" => vec![(
            "/data",
            vec![
                json!({"a b": "x"}),
                json!({"..": "x"}),
                json!({"": "x"}),
                json!({"a": "x".repeat((1 << 20) + 1)}),
            ],
        )],
        "secrets" => vec![(
            "/data",
            vec![
                json!({"a": "***"}),
                json!({"a b": "eA=="}),
                json!({"..": "eA=="}),
            ],
        )],
        "roles" => vec![(
            "/rules",
            vec![json!([{"apiGroups": [""], "resources": ["pods"], "verbs": []}])],
        )],
        "ingresses" => vec![(
            "/spec",
            vec![json!({}), json!({"rules": [{"host": "A b"}]})],
        )],
        "persistentvolumeclaims" => vec![
            ("/spec/accessModes", vec![json!([]), json!(["Bad"])]),
            (
                "/spec/resources",
                vec![json!({}), json!({"requests": {"storage": "-1"}})],
            ),
        ],
        "leases" => vec![("/spec/leaseDurationSeconds", vec![json!(0), json!(-1)])],
        "poddisruptionbudgets" => vec![
            ("/spec/maxUnavailable", vec![json!(1)]),
            (
                "/spec/minAvailable",
                vec![json!(-1), json!("x%"), json!("101%")],
            ),
        ],
        "nodes" => vec![(
            "/spec/taints",
            vec![
                json!([{"key": "a b", "effect": "NoSchedule"}]),
                json!([{"key": "k", "effect": "Bad"}]),
            ],
        )],
        _ => Vec::new(),
    };
    if *method == Method::PUT {
        all.extend(match plural {
            "secrets" => vec![("/type", vec![json!("another")])],
            "deployments" => vec![("/spec/selector", vec![json!({"matchLabels": {"app": "y"}})])],
            "statefulsets" => vec![("/spec/serviceName", vec![json!("another")])],
            "jobs" => vec![(
                "/spec/template/spec/containers/0/image",
                vec![json!("another")],
            )],
            "pods" => vec![
                ("/spec/nodeName", vec![json!("n")]),
                ("/spec/hostNetwork", vec![json!(true)]),
            ],
            _ => Vec::new(),
        });
    }
    all
}

fn not_allowed(rng: &mut StdRng, object: &Object, method: &Method) -> (String, Value) {
    let own = in_kind(object.plural, method);
    let list = if own.is_empty() || rng.random_bool(0.4) {
        anywhere(method, object.namespaced())
    } else {
        own
    };
    let (pointer, values) = list.choose(rng).expect("never empty");
    let value = values.choose(rng).expect("never empty");
    ((*pointer).to_owned(), value.clone())
}
