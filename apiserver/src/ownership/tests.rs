use serde_json::json;

use super::*;
use crate::codec::json::{self as codec, Source};

struct Catalog(crate::catalog::Catalog);

impl Served for Catalog {
    fn in_version(&self, stored: &Arc<Resource>, version: &str) -> Option<Arc<Resource>> {
        let mut all = self.0.resources().iter();
        all.find(|one| one.stored().id == stored.id && one.api_version() == version)
            .cloned()
    }
}

/// Writes objects of one kind one after the other.
struct History {
    catalog: Catalog,
    resource: Arc<Resource>,
    live: Option<Json>,
}

impl History {
    fn of(group: &str, version: &str, plural: &str) -> Self {
        let catalog = Catalog(crate::kinds::built_in());
        let resource = catalog.0.own(group, version, plural).clone();
        Self {
            catalog,
            resource,
            live: None,
        }
    }

    /// The record after a write, without times.
    fn write(&mut self, manager: &str, sub: Option<Sub>, value: &Value) -> Value {
        let view = View::of(&self.resource);
        let writer = Writer::new(manager, "", &view);
        let decoded = codec::conform(value.clone(), self.resource.message, Source::Client);
        let mut new = decoded.expect("an object").value;
        let write = Written {
            writer: &writer,
            sub,
            served: &self.catalog,
        };
        let record = record(write, self.live.as_ref(), &new);
        object::set_meta(&mut new, "managedFields", record.clone());
        self.live = Some(new);
        let mut record = record.unwrap_or_default();
        for entry in record.as_array_mut().into_iter().flatten() {
            entry.as_object_mut().expect("an entry").remove("time");
        }
        record
    }
}

fn entry(manager: &str, version: &str, fields: &Value) -> Value {
    json!({"manager": manager, "operation": "Update", "apiVersion": version, "fieldsType": "FieldsV1", "fieldsV1": fields})
}

#[test]
fn whoever_sets_a_field_owns_it() {
    let mut maps = History::of("", "v1", "configmaps");
    let map = |data: Value| json!({"metadata": {"name": "m"}, "data": data});
    assert_eq!(
        maps.write("one", None, &map(json!({"a": "1", "b": "2"}))),
        json!([entry(
            "one",
            "v1",
            &json!({"f:data": {".": {}, "f:a": {}, "f:b": {}}})
        )])
    );
    assert_eq!(
        maps.write("two", None, &map(json!({"a": "2", "c": "3"}))),
        json!([
            entry("one", "v1", &json!({"f:data": {}})),
            entry("two", "v1", &json!({"f:data": {"f:a": {}, "f:c": {}}})),
        ])
    );
    assert_eq!(maps.write("three", None, &map(json!(null))), Value::Null);
    // An object without a record gets none.
    assert_eq!(
        maps.write("four", None, &map(json!({"a": "1"}))),
        Value::Null
    );
}

#[test]
fn items_of_lists_have_their_keys_for_names() {
    let mut pods = History::of("", "v1", "pods");
    let pod = json!({"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {"containers": [
        {"name": "c", "image": "i", "args": ["x"], "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}});
    let record = pods.write("one", None, &pod);
    let container = &record[0]["fieldsV1"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"];
    assert_eq!(container["."], json!({}));
    assert_eq!(container["f:args"], json!({}));
    assert_eq!(
        container["f:ports"],
        json!({".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}})
    );
    assert_eq!(
        record[0]["fieldsV1"]["f:metadata"],
        json!({"f:labels": {".": {}, "f:a": {}}})
    );
}

#[test]
fn a_report_owns_the_status_alone() {
    let mut pods = History::of("", "v1", "pods");
    let pod = |phase: &str| json!({"metadata": {"name": "p"}, "spec": {"nodeName": phase}, "status": {"phase": phase}});
    let record = pods.write("one", None, &pod("a"));
    assert!(record[0]["fieldsV1"].get("f:status").is_none());
    let record = pods.write("kubelet", Some(Sub::Status), &pod("b"));
    let entries = record.as_array().expect("a record");
    let of_the_kubelet = entries.iter().find(|entry| entry["manager"] == "kubelet");
    let report = of_the_kubelet.expect("it wrote");
    assert_eq!(report["fieldsV1"], json!({"f:status": {"f:phase": {}}}));
    assert_eq!(report["subresource"], "status");
}

#[test]
fn writers_of_other_versions_lose_what_changes() {
    let mut scalers = History::of("autoscaling", "v2", "horizontalpodautoscalers");
    let scaler = |most: i64| json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": most, "scaleTargetRef": {"kind": "D", "name": "d"}}});
    scalers.write("one", None, &scaler(1));
    let stored = scalers.resource.clone();
    scalers.resource = scalers
        .catalog
        .in_version(&stored, "autoscaling/v1")
        .expect("served");
    let record = scalers.write("two", None, &scaler(2));
    assert_eq!(record[1]["apiVersion"], "autoscaling/v1");
    assert_eq!(
        record[1]["fieldsV1"],
        json!({"f:spec": {"f:maxReplicas": {}}})
    );
    assert!(
        record[0]["fieldsV1"]["f:spec"]
            .get("f:maxReplicas")
            .is_none()
    );
}

#[test]
fn the_oldest_writers_become_one() {
    let mut maps = History::of("", "v1", "configmaps");
    let mut data = Map::new();
    let mut record = Value::Null;
    for number in 0..14 {
        data.insert(format!("k{number}"), "v".into());
        let map = json!({"metadata": {"name": "m"}, "data": data});
        record = maps.write(&format!("w{number:02}"), None, &map);
    }
    let names: Vec<_> = record
        .as_array()
        .expect("a record")
        .iter()
        .map(|one| one["manager"].clone())
        .collect();
    assert_eq!(names.len(), WRITERS_MAX);
    assert!(names.contains(&OLDEST.into()) && names.contains(&"w13".into()));
}

#[test]
fn replicas_are_owned_by_their_scale() {
    let mut sets = History::of("apps", "v1", "replicasets");
    let set = json!({"metadata": {"name": "r"}, "spec": {"replicas": 1, "minReadySeconds": 1, "selector": {"matchLabels": {"a": "b"}}}});
    sets.write("one", None, &set);
    let writer = Writer::new("", "kubectl/v1.37 (linux)", &View::of(&sets.resource));
    let record = record_scale(&writer, sets.live.as_ref().expect("written")).expect("a record");
    let scaled = record
        .as_array()
        .expect("a list")
        .iter()
        .find(|one| one["manager"] == "kubectl");
    let scaled = scaled.expect("an entry");
    assert_eq!(scaled["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(scaled["subresource"], "scale");
    assert!(
        !record
            .to_string()
            .replace(&scaled.to_string(), "")
            .contains("f:replicas")
    );
}

impl History {
    /// Applies a configuration; gives the object and its record without times.
    fn apply(&mut self, manager: &str, object: &Value, force: bool) -> Result<Value, String> {
        let view = View::of(&self.resource);
        let writer = Writer::new(manager, "", &view);
        let write = Written {
            writer: &writer,
            sub: None,
            served: &self.catalog,
        };
        let configuration = Configuration {
            object: object.as_object().cloned().expect("an object"),
            force,
        };
        let zero = zero_of(&Type::Message(self.resource.message));
        let mut shown = match &self.live {
            Some(live) => live.clone(),
            None => zero.as_object().cloned().expect("an object"),
        };
        shown.insert("kind".to_owned(), self.resource.kind.clone().into());
        shown.insert("apiVersion".to_owned(), self.resource.api_version().into());
        let applied = apply(write, self.live.as_ref(), &shown, &configuration);
        let applied = applied.map_err(|why| match why {
            Unapplied::Conflicts(conflicts) => told(&conflicts),
            other => other.to_string(),
        })?;
        let object = Value::Object(applied.object);
        let decoded = codec::conform(object, self.resource.message, Source::Client);
        let mut new = decoded.expect("an object").value;
        object::set_meta(&mut new, "managedFields", applied.record);
        self.live = Some(new.clone());
        let managed = new["metadata"]["managedFields"].as_array_mut();
        for entry in managed.into_iter().flatten() {
            entry.as_object_mut().expect("an entry").remove("time");
        }
        Ok(Value::Object(new))
    }
}

fn map(data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data})
}

#[test]
fn what_is_not_applied_any_more_goes() {
    let mut maps = History::of("", "v1", "configmaps");
    let new = maps.apply("one", &map(&json!({"a": "1", "b": "2"})), false);
    let new = new.expect("nobody owns it");
    assert_eq!(new["data"], json!({"a": "1", "b": "2"}));
    let record = &new["metadata"]["managedFields"];
    assert_eq!(record[0]["operation"], "Apply");
    assert_eq!(
        record[0]["fieldsV1"],
        json!({"f:data": {"f:a": {}, "f:b": {}}})
    );
    let new = maps.apply("two", &map(&json!({"b": "2", "c": "3"})), false);
    assert_eq!(
        new.expect("they agree")["data"],
        json!({"a": "1", "b": "2", "c": "3"})
    );
    let new = maps
        .apply("one", &map(&json!({})), false)
        .expect("it owns them");
    assert_eq!(new["data"], json!({"b": "2", "c": "3"}));
    let new = maps
        .apply("two", &map(&json!({})), false)
        .expect("it owns them");
    assert_eq!(new["data"], Value::Null, "{new}");
    // An empty map is something that both speak of.
    let record = new["metadata"]["managedFields"].as_array();
    for entry in record.expect("a record") {
        assert_eq!(entry["fieldsV1"], json!({"f:data": {}}));
    }
}

#[test]
fn others_changes_are_conflicts() {
    let mut maps = History::of("", "v1", "configmaps");
    maps.write(
        "maker",
        None,
        &json!({"metadata": {"name": "m"}, "data": {"a": "1", "b": "2"}}),
    );
    let told = maps.apply("one", &map(&json!({"a": "2", "b": "2"})), false);
    let wanted = "Apply failed with 1 conflict: conflict with \"maker\" using v1: .data.a";
    assert_eq!(told, Err(wanted.to_owned()));
    let told = maps.apply("one", &map(&json!({"a": "2", "b": "3"})), false);
    let wanted =
        "Apply failed with 2 conflicts: conflicts with \"maker\" using v1:\n- .data.a\n- .data.b";
    assert_eq!(told, Err(wanted.to_owned()));
    let new = maps
        .apply("one", &map(&json!({"a": "2", "b": "2"})), true)
        .expect("by force");
    let record = new["metadata"]["managedFields"]
        .as_array()
        .expect("a record")
        .clone();
    let of = |manager: &str| record.iter().find(|entry| entry["manager"] == manager);
    let left = &of("maker").expect("it owns b")["fieldsV1"];
    assert_eq!(left, &json!({"f:data": {".": {}, "f:b": {}}}));
    assert!(of("one").is_some());
}

#[test]
fn whoever_came_before_the_first_apply_owns_what_is_there() {
    let mut maps = History::of("", "v1", "configmaps");
    maps.apply("one", &map(&json!({"a": "1"})), false)
        .expect("nobody owns it");
    if let Some(live) = &mut maps.live {
        object::set_meta(live, "managedFields", None);
    }
    let told = maps.apply("one", &map(&json!({"a": "2"})), false);
    let wanted =
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.a";
    assert_eq!(told, Err(wanted.to_owned()));
    let told = maps.apply("one", &json!({"apiVersion": "v1", "kind": "Pod"}), false);
    assert_eq!(told, Err("invalid object type: /v1, Kind=Pod".to_owned()));
}
