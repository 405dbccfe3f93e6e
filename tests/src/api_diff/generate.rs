//! Cases of every kind, made from its sample: the same for all, so that no kind
//! falls through. A kind that upstream serves and that has no sample is an error.

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use super::case::{Case, CaseStep};
use super::samples::{Sample, Samples};

/// Kinds that are not compared, and why.
const WITHOUT_SAMPLE: &[(&str, &str)] = &[
    (
        "componentstatuses",
        "reads the health of components that the set-up has not",
    ),
    ("apiservices", "aggregation is not served"),
    (
        "customresourcedefinitions",
        "custom resources are not served",
    ),
];

/// What a kind can do, out of upstream's discovery.
#[derive(Clone, Debug)]
pub struct Served {
    pub group: String,
    pub version: String,
    /// With the subresource, if it is one.
    pub name: String,
    pub verbs: Vec<String>,
}

/// The cases of every kind that upstream serves.
///
/// # Errors
/// One has no sample.
pub fn cases(served: &[Served], samples: &Samples) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for one in served {
        let stored = one.verbs.iter().any(|verb| verb == "list") && !one.name.contains('/');
        if !stored || WITHOUT_SAMPLE.iter().any(|(name, _)| *name == one.name) {
            continue;
        }
        let Some(sample) = samples.resource(&one.group, &one.version, &one.name) else {
            bail!("no sample of {}/{}/{}", one.group, one.version, one.name);
        };
        let has = |sub: &str| {
            served.iter().any(|other| {
                (&other.group, &other.version) == (&one.group, &one.version)
                    && other.name == format!("{}/{sub}", one.name)
            })
        };
        let kind = Kind {
            sample,
            status: has("status"),
            scale: has("scale"),
        };
        cases.extend(kind.cases());
    }
    Ok(cases)
}

struct Kind<'a> {
    sample: &'a Sample,
    status: bool,
    scale: bool,
}

impl Kind<'_> {
    fn cases(&self) -> Vec<Case> {
        let name = |what: &str| {
            let group = self.sample.group.split('.').next().unwrap_or_default();
            format!(
                "{}.{group}.{}/{what}",
                self.sample.plural, self.sample.version
            )
            .replace("..", ".")
        };
        let mut cases = Vec::new();
        for (group, steps) in [
            ("life", self.life()),
            ("create", self.create()),
            ("refused", self.refused()),
            ("update", self.update()),
            ("patch", self.patch()),
            ("patched", self.patched()),
            ("delete", self.delete()),
            ("delete-many", self.delete_many()),
            ("list", self.list()),
            ("watch", self.watch()),
            ("media", self.media()),
        ] {
            cases.push(Case::new(group, name(group), steps));
        }
        if self.status {
            cases.push(Case::new(
                "status",
                name("status"),
                self.subresource("status"),
            ));
        }
        if self.scale {
            cases.push(Case::new("scale", name("scale"), self.subresource("scale")));
        }
        cases
    }

    fn object(&self) -> Value {
        self.sample.object.clone()
    }

    /// The object with other fields merged over it.
    fn with(&self, patch: &Value) -> Value {
        let mut object = self.object();
        super::vars::merge(&mut object, patch);
        object
    }

    fn path(&self) -> String {
        self.sample.path()
    }

    fn name(&self) -> String {
        let name = &self.sample.object["metadata"]["name"];
        name.as_str().unwrap_or("${ns}").to_owned()
    }

    fn one(&self) -> String {
        format!("{}/{}", self.path(), self.name())
    }

    fn post(&self) -> CaseStep {
        CaseStep::new("POST", self.path()).body(self.object())
    }

    fn life(&self) -> Vec<CaseStep> {
        let mut steps = vec![
            self.post()
                .keep("made")
                .save("rv", "metadata.resourceVersion"),
            CaseStep::new("GET", self.one()),
            self.post(),
            CaseStep::new("PATCH", self.one())
                .media("merge")
                .body(self.change())
                .keep("changed"),
            CaseStep::new("PUT", self.one()).body(json!({"$kept": "made"})),
            CaseStep::new("PUT", self.one())
                .body(json!({"$kept": "changed", "metadata": {"annotations": {"k": "v"}}})),
            CaseStep::new("GET", self.one()),
            CaseStep::new("DELETE", self.one()),
            CaseStep::new("GET", self.one()),
            CaseStep::new("DELETE", self.one()),
        ];
        if self.sample.plural == "namespaces" {
            steps.truncate(8);
        }
        steps
    }

    fn change(&self) -> Value {
        if self.sample.change.is_null() {
            json!({"metadata": {"labels": {"c": "d"}}})
        } else {
            self.sample.change.clone()
        }
    }

    /// Creations that upstream takes.
    fn create(&self) -> Vec<CaseStep> {
        let query = |query: &str| format!("{}?{query}", self.path());
        let extra = self.with(&json!({"unknownField": 1, "metadata": {"unknownToo": 2}}));
        let mut bare = self.object();
        if let Some(fields) = bare.as_object_mut() {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
        vec![
            CaseStep::new("POST", query("dryRun=All")).body(self.object()).managed(),
            CaseStep::new("POST", query("dryRun=All&fieldManager=tester")).body(self.object()).managed(),
            CaseStep::new("POST", query("dryRun=All&fieldValidation=Ignore")).body(extra.clone()),
            CaseStep::new("POST", query("dryRun=All&fieldValidation=Warn")).body(extra.clone()),
            CaseStep::new("POST", query("dryRun=All&fieldValidation=Strict")).body(extra),
            CaseStep::new("POST", query("dryRun=All")).body(bare),
            CaseStep::new("POST", query("dryRun=All")).body(self.with(&json!({"metadata": {
                "uid": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "generation": 7,
                "creationTimestamp": "2020-01-01T00:00:00Z", "selfLink": "/x",
                "deletionTimestamp": "2020-01-01T00:00:00Z", "deletionGracePeriodSeconds": 5,
                "labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": ["example.com/f"],
                "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "o",
                    "uid": "aaaaaaaa-bbbb-cccc-dddd-ffffffffffff"}]}}))),
            CaseStep::new("POST", query("dryRun=All")).body(self.with(&json!({"status": {}}))),
            CaseStep::new("POST", query("dryRun=All")).body(self.with(
                &json!({"metadata": {"name": null, "generateName": self.generate_name()}}),
            )),
            CaseStep::new("POST", query("dryRun=All")).body(self.with(&json!({"metadata": {
                "namespace": if self.sample.namespaced { Value::from("${ns}") } else { "x".into() }}}))),
        ]
    }

    fn generate_name(&self) -> &'static str {
        match self.sample.plural.as_str() {
            "ipaddresses" => "10.9.8.",
            _ => "generated-",
        }
    }

    /// Creations that upstream refuses, or whose texts clients match.
    fn refused(&self) -> Vec<CaseStep> {
        let post = |patch: &Value| {
            CaseStep::new("POST", format!("{}?dryRun=All", self.path())).body(self.with(patch))
        };
        let raw = |text: &str| {
            CaseStep::new("POST", format!("{}?dryRun=All", self.path())).body(text.into())
        };
        let kind = &self.sample.kind;
        let version = self.sample.api_version();
        let text = self.object().to_string();
        let twice = text.replacen('{', "{\"metadata\":{},", 1);
        vec![
            post(&json!({"metadata": {"name": "Bad_Name"}})),
            post(&json!({"metadata": {"name": ""}})),
            post(&json!({"metadata": {"name": "a".repeat(254)}})),
            post(&json!({"metadata": {"name": "a/b"}})),
            post(&json!({"metadata": {"name": "a..b"}})),
            post(&json!({"metadata": {"name": "a.b.c"}})),
            post(&json!({"metadata": {"namespace": "elsewhere"}})),
            post(&json!({"metadata": {"resourceVersion": "5"}})),
            // One at a time: upstream tells several in any order.
            post(&json!({"metadata": {"labels": {"-a": "b"}}})),
            post(&json!({"metadata": {"labels": {"c": "d e"}}})),
            post(&json!({"metadata": {"annotations": {"A B": "x"}}})),
            post(&json!({"metadata": {"finalizers": ["nodomain"]}})),
            post(&json!({"metadata": {"ownerReferences": [{"kind": "X"}]}})),
            post(&json!({"metadata": {"generation": -1}})),
            post(&json!({"metadata": {"labels": {"a": 1}}})),
            post(&json!({"metadata": {"labels": []}})),
            post(&json!({"metadata": null})),
            post(&json!({"kind": "Other"})),
            post(&json!({"apiVersion": "example.com/v9"})),
            post(&json!({"spec": "text"})),
            raw(""),
            raw("{"),
            raw("[]"),
            raw("null"),
            raw("{}"),
            raw(&format!(
                "{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\"}}"
            )),
            raw(&twice),
            CaseStep::new("POST", format!("{}?dryRun=Some", self.path())).body(self.object()),
            CaseStep::new("POST", format!("{}?fieldValidation=Some", self.path()))
                .body(self.object()),
            CaseStep::new(
                "POST",
                format!("{}?fieldManager={}", self.path(), "a".repeat(129)),
            )
            .body(self.object()),
            CaseStep::new("POST", self.one()).body(self.object()),
            CaseStep::new("PUT", self.path()).body(self.object()),
            CaseStep::new("PATCH", self.path())
                .media("merge")
                .body(json!({})),
            CaseStep::new("POST", self.path())
                .media("text/plain")
                .body(self.object()),
        ]
    }

    fn update(&self) -> Vec<CaseStep> {
        // Refusals are asked for as dry runs: one that is taken changes nothing.
        let dry = format!("{}?dryRun=All", self.one());
        let put = |patch: Value| CaseStep::new("PUT", dry.clone()).body(patch);
        let kept = |patch: Value| {
            let mut body = json!({"$kept": "made"});
            super::vars::merge(&mut body, &patch);
            body
        };
        vec![
            CaseStep::new("PUT", format!("{}?dryRun=All", self.one())).body(self.object()),
            self.post().keep("made"),
            put(kept(json!({"metadata": {"name": "another"}}))),
            put(kept(json!({"metadata": {"namespace": "another"}}))),
            put(kept(
                json!({"metadata": {"uid": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"}}),
            )),
            put(kept(json!({"metadata": {"resourceVersion": "x"}}))),
            put(kept(json!({"metadata": {"resourceVersion": "1"}}))),
            put(kept(json!({"kind": "Other"}))),
            put(json!("")),
            put(json!({"$kept": "made"})),
            put(kept(
                json!({"metadata": {"generation": 50, "creationTimestamp": "2020-01-01T00:00:00Z",
                "deletionTimestamp": "2020-01-01T00:00:00Z"}}),
            )),
            CaseStep::new("PUT", format!("{}?dryRun=All", self.one()))
                .body(kept(json!({"metadata": {"labels": {"x": "y"}}})))
                .managed(),
            put(self.with(&json!({"metadata": {"labels": {"without": "version"}}}))),
            put(
                json!({"$kept": "made", "metadata": {"resourceVersion": "0", "labels": {"zero": "0"}}}),
            ),
            CaseStep::new("PUT", self.one())
                .body(kept(json!({"metadata": {"labels": {"x": "y"}}})))
                .keep("made"),
            CaseStep::new("PUT", self.one()).body(json!({"$kept": "made"})),
            CaseStep::new("GET", self.one()),
            CaseStep::new("DELETE", self.one()).code_only(),
            // Some kinds are created by it.
            CaseStep::new("PUT", self.one()).body(self.object()),
        ]
    }

    fn patch(&self) -> Vec<CaseStep> {
        let patch =
            |media: &str, body: Value| CaseStep::new("PATCH", self.one()).media(media).body(body);
        vec![
            patch("merge", json!({"metadata": {"labels": {"a": "b"}}})),
            self.post().save("uid", "metadata.uid"),
            patch("merge", json!({"metadata": {"labels": {"a": "b"}}})).managed(),
            patch(
                "strategic",
                json!({"metadata": {"labels": {"c": "d"}, "finalizers": ["example.com/f"]}}),
            ),
            patch(
                "strategic",
                json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/f"]}}),
            ),
            patch(
                "json-patch",
                json!([{"op": "add", "path": "/metadata/labels/e", "value": "f"}]),
            ),
            patch(
                "json-patch",
                json!([{"op": "test", "path": "/metadata/labels/e", "value": "g"}]),
            ),
            patch(
                "json-patch",
                json!([{"op": "remove", "path": "/metadata/labels/none"}]),
            ),
            patch("json-patch", json!([{"op": "unknown", "path": "/x"}])),
            patch("json-patch", json!({"op": "add"})),
            patch("merge", json!([])),
            patch("strategic", json!("{")),
            patch("text/plain", json!({})),
            patch(
                "merge",
                json!({"metadata": {"uid": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"}}),
            ),
            patch("merge", json!({"metadata": {"resourceVersion": "1"}})),
            patch("merge", json!({"metadata": {"name": "another"}})),
            patch("merge", json!({"kind": "Other"})),
            patch("merge", json!({"metadata": {"labels": {"a": 1}}})),
            patch("merge", json!({})),
            CaseStep::new("PATCH", format!("{}?fieldValidation=Strict", self.one()))
                .media("merge")
                .body(json!({"unknownField": 1})),
            CaseStep::new("GET", self.one()),
        ]
    }

    /// The kind's own change, by every kind of patch.
    fn patched(&self) -> Vec<CaseStep> {
        let dry = format!("{}?dryRun=All", self.one());
        let mut steps = vec![self.post().keep("made")];
        for media in ["merge", "strategic"] {
            steps.push(
                CaseStep::new("PATCH", dry.clone())
                    .media(media)
                    .body(self.change())
                    .managed(),
            );
        }
        // As JSON patches: every first field of spec removed, one by one.
        let spec = self.sample.object.as_object().cloned().unwrap_or_default();
        for (field, value) in &spec {
            if ["apiVersion", "kind", "metadata"].contains(&field.as_str()) {
                continue;
            }
            steps.push(removal(&dry, &format!("/{field}")));
            for inner in value.as_object().unwrap_or(&Map::new()).keys() {
                steps.push(removal(&dry, &format!("/{field}/{inner}")));
            }
        }
        steps
    }

    fn delete(&self) -> Vec<CaseStep> {
        let delete = |body: Value| CaseStep::new("DELETE", self.one()).body(body);
        let options = |fields: Value| {
            let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
            super::vars::merge(&mut body, &fields);
            body
        };
        let dry = |fields: Value| {
            // Both places say so: neither server may take the object away.
            let mut body = json!({"dryRun": ["All"]});
            super::vars::merge(&mut body, &fields);
            CaseStep::new("DELETE", format!("{}?dryRun=All", self.one())).body(options(body))
        };
        let mut steps = vec![
            CaseStep::new("DELETE", self.one()),
            CaseStep::new("POST", self.path())
                .body(self.with(&json!({"metadata": {"finalizers": ["example.com/f"]}}))),
            delete(options(json!({"dryRun": ["All"]}))),
            CaseStep::new("DELETE", format!("{}?dryRun=All", self.one())),
            dry(json!({"dryRun": ["x"]})),
            dry(json!({"preconditions": {"uid": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"}})),
            dry(json!({"preconditions": {"resourceVersion": "1"}})),
            dry(json!({"propagationPolicy": "Some"})),
            dry(json!({"propagationPolicy": "Orphan", "orphanDependents": true})),
            dry(json!({"gracePeriodSeconds": -1})),
            CaseStep::new("DELETE", format!("{}?dryRun=All", self.one())).body(json!("{")),
            CaseStep::new("DELETE", format!("{}?dryRun=All", self.one()))
                .body(json!({"kind": "Pod", "apiVersion": "v1"})),
        ];
        if self.sample.plural == "namespaces" {
            return steps;
        }
        steps.extend([
            CaseStep::new(
                "DELETE",
                format!("{}?propagationPolicy=Foreground", self.one()),
            ),
            CaseStep::new("GET", self.one()),
            CaseStep::new("PATCH", self.one())
                .media("merge")
                .body(json!({"metadata": {"labels": {"x": "y"}}})),
            CaseStep::new("PATCH", self.one())
                .media("merge")
                .body(json!({"metadata": {"finalizers": ["example.com/g"]}})),
            CaseStep::new("DELETE", format!("{}?gracePeriodSeconds=0", self.one())),
            CaseStep::new("PATCH", self.one())
                .media("merge")
                .body(json!({"metadata": {"finalizers": null}})),
            CaseStep::new("GET", self.one()),
        ]);
        steps
    }

    fn labelled(&self) -> CaseStep {
        CaseStep::new("POST", self.path())
            .body(self.with(&json!({"metadata": {"labels": {"case": "${ns}"}}})))
    }

    fn delete_many(&self) -> Vec<CaseStep> {
        if self.sample.plural == "namespaces" {
            return vec![CaseStep::new(
                "DELETE",
                "/api/v1/namespaces?labelSelector=case%3Dnone",
            )];
        }
        let chosen = format!("{}?labelSelector=case%3D${{ns}}", self.path());
        vec![
            self.labelled(),
            CaseStep::new("DELETE", format!("{}?labelSelector=a%20b", self.path())),
            CaseStep::new("DELETE", format!("{chosen}&dryRun=All")),
            CaseStep::new("GET", self.one()),
            CaseStep::new("DELETE", format!("{chosen}&gracePeriodSeconds=0")),
            CaseStep::new("GET", chosen),
        ]
    }

    fn list(&self) -> Vec<CaseStep> {
        let list = |query: &str| {
            CaseStep::new(
                "GET",
                format!("{}?labelSelector=case%3D${{ns}}&{query}", self.path()),
            )
        };
        let field = |name: &str| list(&format!("fieldSelector={name}"));
        vec![
            self.labelled().save("rv", "metadata.resourceVersion"),
            list(""),
            CaseStep::new(
                "GET",
                format!("{}?labelSelector=case%3D${{ns}}", self.sample.everywhere()),
            ),
            list("limit=1"),
            list("resourceVersion=0"),
            list("resourceVersion=${rv}&resourceVersionMatch=NotOlderThan"),
            list("resourceVersion=${rv}&resourceVersionMatch=Exact"),
            list("resourceVersion=x"),
            list("resourceVersionMatch=Exact"),
            list("resourceVersion=1&resourceVersionMatch=Some"),
            list("resourceVersion=0&resourceVersionMatch=Exact"),
            list("limit=x"),
            list("limit=-1"),
            list("continue=x"),
            list("sendInitialEvents=true"),
            field(&format!("metadata.name%3D{}", self.name())),
            field("metadata.namespace%3D${ns}"),
            field("metadata.name%21%3D${ns}"),
            field("spec.unknown%3Dx"),
            field("a"),
            list("timeoutSeconds=x"),
            CaseStep::new("GET", format!("{}?labelSelector=a%20b", self.path())),
            CaseStep::new(
                "GET",
                format!(
                    "{}?labelSelector=case+in+(${{ns}}),x+notin+(y),!z",
                    self.path()
                ),
            ),
            CaseStep::new("GET", format!("{}?resourceVersion=${{rv}}", self.one())),
            CaseStep::new("GET", format!("{}?resourceVersion=0", self.one())),
            CaseStep::new("GET", format!("{}?resourceVersion=x", self.one())),
            CaseStep::new("GET", format!("{}/absent", self.path())),
        ]
    }

    fn watch(&self) -> Vec<CaseStep> {
        let watch = |query: &str| {
            CaseStep::new(
                "WATCH",
                format!(
                    "{}?watch=1&labelSelector=case%3D${{ns}}&timeoutSeconds=30&{query}",
                    self.path()
                ),
            )
        };
        vec![
            self.labelled().save("rv", "metadata.resourceVersion"),
            CaseStep::new("PATCH", self.one())
                .media("merge")
                .body(json!({"metadata": {"annotations": {"a": "b"}}})),
            CaseStep::new("PATCH", self.one())
                .media("merge")
                .body(json!({"metadata": {"labels": {"case": "gone"}}})),
            CaseStep::new("PATCH", self.one())
                .media("merge")
                .body(json!({"metadata": {"labels": {"case": "${ns}"}}})),
            watch("resourceVersion=${rv}").events(3),
            watch(""),
            watch("resourceVersion=0"),
            watch("resourceVersion=x"),
            watch("sendInitialEvents=true"),
            watch(
                "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
            )
            .events(2),
            watch("sendInitialEvents=true&resourceVersionMatch=Exact"),
            watch("resourceVersionMatch=NotOlderThan"),
            watch("resourceVersion=${rv}").accept("table").events(3),
            watch("resourceVersion=${rv}").accept("partial").events(3),
            watch("fieldSelector=spec.unknown%3Dx"),
        ]
    }

    fn media(&self) -> Vec<CaseStep> {
        let get = |accept: &str| CaseStep::new("GET", self.one()).accept(accept);
        let list = |accept: &str| {
            CaseStep::new(
                "GET",
                format!("{}?labelSelector=case%3D${{ns}}", self.path()),
            )
            .accept(accept)
        };
        vec![
            self.labelled(),
            get("yaml"),
            get("proto").keep("proto"),
            get("table"),
            get("partial"),
            get("partial-list"),
            get("text/plain"),
            get("application/json;as=Table;v=v9;g=meta.k8s.io"),
            get("text/html, */*;q=0.1"),
            list("yaml"),
            list("proto"),
            list("table"),
            list("partial-list"),
            list("partial"),
            CaseStep::new(
                "GET",
                format!(
                    "{}?labelSelector=case%3D${{ns}}&includeObject=Object",
                    self.path()
                ),
            )
            .accept("table"),
            CaseStep::new(
                "GET",
                format!(
                    "{}?labelSelector=case%3D${{ns}}&includeObject=None",
                    self.path()
                ),
            )
            .accept("table"),
            CaseStep::new("GET", format!("{}?includeObject=Some", self.path())).accept("table"),
            CaseStep::new("PUT", format!("{}?dryRun=All", self.one()))
                .media("proto")
                .body("$raw:proto".into()),
            CaseStep::new("PUT", format!("{}?dryRun=All", self.one()))
                .media("proto")
                .body("text".into()),
            CaseStep::new("PATCH", self.one())
                .media("proto")
                .body("$raw:proto".into()),
            CaseStep::new("DELETE", format!("{}?dryRun=All", self.one())).accept("yaml"),
        ]
    }

    fn subresource(&self, sub: &str) -> Vec<CaseStep> {
        let path = format!("{}/{sub}", self.one());
        let change = if sub == "scale" {
            json!({"spec": {"replicas": 4}})
        } else if self.sample.status.is_null() {
            json!({"status": {}})
        } else {
            self.sample.status.clone()
        };
        let patch =
            |media: &str, body: Value| CaseStep::new("PATCH", path.clone()).media(media).body(body);
        vec![
            CaseStep::new("GET", path.clone()),
            self.post().save("rv", "metadata.resourceVersion"),
            CaseStep::new("GET", path.clone()).keep("sub"),
            patch("merge", change.clone()).managed(),
            patch("strategic", change.clone()),
            patch(
                "merge",
                json!({"metadata": {"labels": {"a": "b"}, "annotations": {"a": "b"},
                "finalizers": ["example.com/f"], "ownerReferences": [{"apiVersion": "v1",
                "kind": "ConfigMap", "name": "o", "uid": "aaaaaaaa-bbbb-cccc-dddd-ffffffffffff"}]}}),
            ),
            patch("merge", json!({"metadata": {"ownerReferences": null}})),
            patch("merge", self.change()),
            patch("merge", json!({"spec": {"replicas": -1}})),
            CaseStep::new("PUT", path.clone()).body(json!({"$kept": "sub"})),
            CaseStep::new("GET", path.clone()).keep("sub"),
            CaseStep::new("PUT", path.clone())
                .body(json!({"$kept": "sub"}))
                .managed(),
            patch("merge", json!({"metadata": {"resourceVersion": "1"}})),
            CaseStep::new("GET", path.clone()).accept("table"),
            CaseStep::new("DELETE", path.clone()),
            CaseStep::new("POST", path.clone()).body(self.object()),
            CaseStep::new("GET", self.one()),
        ]
    }
}

fn removal(path: &str, field: &str) -> CaseStep {
    CaseStep::new("PATCH", path)
        .media("json-patch")
        .body(json!([{"op": "remove", "path": field}]))
}
