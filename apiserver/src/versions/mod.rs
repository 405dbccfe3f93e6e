//! Kinds that are served in another version than they are stored in: one
//! becomes the other by a function of the object alone. Knows fields of these
//! kinds; must not know requests or the store.
//!
//! A request for such a version is one for the stored version whose body is
//! converted when it comes and whose answer is converted when it leaves.

pub mod autoscaler;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::{
    catalog::Resource,
    codec::json::{self, DecodeError, Source},
    object::Json,
};

/// A resource as a client asks for it and as it is stored.
#[derive(Clone, Debug)]
pub struct View {
    pub served: Arc<Resource>,
    pub stored: Arc<Resource>,
}

/// What the same fields are called: in the core group's events, in those of
/// `events.k8s.io`.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

impl View {
    pub fn of(served: &Arc<Resource>) -> Self {
        Self {
            served: served.clone(),
            stored: served.stored().clone(),
        }
    }

    /// Whether nothing is to be converted.
    pub fn is_plain(&self) -> bool {
        self.served.stored_as.is_none()
    }

    /// An object of the served version as one of the stored version, both in
    /// canonical form.
    ///
    /// # Errors
    /// What an annotation carries is not of its type.
    pub fn to_stored(&self, mut value: Json) -> Result<Json, DecodeError> {
        let Some(stored) = &self.served.stored_as else {
            return Ok(value);
        };
        (stored.conversion.to_stored)(&mut value);
        Ok(json::conform(Value::Object(value), self.stored.message, Source::Store)?.value)
    }

    /// An object of the stored version as one of the served version, both in
    /// canonical form.
    ///
    /// # Errors
    /// The object is not of its type.
    pub fn to_served(&self, value: Json) -> Result<Json, DecodeError> {
        self.converted(value, Source::Store)
    }

    fn converted(&self, mut value: Json, source: Source) -> Result<Json, DecodeError> {
        let Some(stored) = &self.served.stored_as else {
            return Ok(value);
        };
        (stored.conversion.to_served)(&mut value);
        Ok(json::conform(Value::Object(value), self.served.message, source)?.value)
    }

    /// What clients of the stored version get, for clients of the served one.
    ///
    /// # Errors
    /// The object is not of its type.
    pub fn shown(&self, json: &Bytes) -> Result<Bytes, DecodeError> {
        if self.is_plain() {
            return Ok(json.clone());
        }
        let value = json::decode(json, self.stored.message, Source::Client)?.value;
        let mut value = self.converted(value, Source::Client)?;
        value.insert("kind".to_owned(), self.served.kind.clone().into());
        value.insert("apiVersion".to_owned(), self.served.api_version().into());
        Ok(Value::Object(value).to_string().into())
    }
}

/// An event of `events.k8s.io` in the words of the core group.
pub fn event_to_core(value: &mut Json) {
    renamed(value, |(core, events)| (events, core));
}

/// The same the other way.
pub fn event_to_events(value: &mut Json) {
    renamed(value, |pair| *pair);
}

fn renamed(
    value: &mut Json,
    direction: impl Fn(&(&'static str, &'static str)) -> (&'static str, &'static str),
) {
    for pair in EVENT_FIELDS {
        let (from, to) = direction(pair);
        if let Some(field) = value.remove(from) {
            value.insert(to.to_owned(), field);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view(group: &str, plural: &str) -> View {
        View::of(crate::kinds::built_in().own(group, "v1", plural))
    }

    fn canonical(resource: &Resource, value: &Value) -> Json {
        json::conform(value.clone(), resource.message, Source::Client)
            .expect("an object")
            .value
    }

    #[test]
    fn fields_that_selectors_name_stand_in_the_same_order() {
        for (group, plural) in [
            ("events.k8s.io", "events"),
            ("autoscaling", "horizontalpodautoscalers"),
        ] {
            let view = view(group, plural);
            assert!(!view.is_plain());
            let paths = |resource: &Resource| resource.selectable.len();
            assert_eq!(paths(&view.served), paths(&view.stored), "{plural}");
        }
    }

    #[test]
    fn an_event_goes_both_ways() {
        let view = view("events.k8s.io", "events");
        let given = json!({
            "metadata": {"name": "e", "namespace": "n"}, "eventTime": "2026-01-02T03:04:05.000006Z",
            "reportingController": "a/b", "reportingInstance": "i", "action": "x", "reason": "r", "type": "Normal",
            "regarding": {"kind": "Pod", "name": "p"}, "note": "text", "deprecatedCount": 3,
            "series": {"count": 4, "lastObservedTime": "2026-01-02T03:04:06.000000Z"},
        });
        let given = canonical(&view.served, &given);
        let stored = view.to_stored(given.clone()).expect("it converts");
        assert_eq!(stored["involvedObject"]["name"], "p");
        assert_eq!(stored["message"], "text");
        assert_eq!(stored["count"], 3);
        assert_eq!(stored["reportingComponent"], "a/b");
        assert_eq!(view.to_served(stored).expect("it converts"), given);
    }

    #[test]
    fn an_autoscaler_goes_both_ways() {
        let view = view("autoscaling", "horizontalpodautoscalers");
        let metrics = json!([
            {"type": "Pods", "pods": {"metric": {"name": "hits", "selector": {"matchLabels": {"a": "b"}}}, "target": {"type": "AverageValue", "averageValue": "5"}}},
            {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "m"}, "target": {"type": "Value", "value": "7"}}},
            {"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "9"}}},
            {"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}},
        ]);
        let stored = json!({
            "metadata": {"name": "h", "namespace": "n", "annotations": {"own": "kept"}},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "minReplicas": 2, "maxReplicas": 5,
                "metrics": metrics, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}},
            "status": {"currentReplicas": 3, "desiredReplicas": 4,
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 55, "averageValue": "10m"}}}],
                "conditions": [{"type": "AbleToScale", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}]},
        });
        let stored = canonical(&view.stored, &stored);
        let served = view.to_served(stored.clone()).expect("it converts");
        assert_eq!(served["spec"]["targetCPUUtilizationPercentage"], 70);
        assert_eq!(served["status"]["currentCPUUtilizationPercentage"], 55);
        let annotations = served["metadata"]["annotations"]
            .as_object()
            .expect("annotations");
        assert_eq!(annotations.len(), 5);
        let other: Value = serde_json::from_str(
            annotations["autoscaling.alpha.kubernetes.io/metrics"]
                .as_str()
                .expect("text"),
        )
        .expect("JSON");
        assert_eq!(
            other[0]["pods"],
            json!({"metricName": "hits", "selector": {"matchLabels": {"a": "b"}}, "targetAverageValue": "5"})
        );
        assert_eq!(view.to_stored(served).expect("it converts"), stored);
    }

    #[test]
    fn annotations_that_are_no_metrics_are_refused_or_dropped() {
        let view = view("autoscaling", "horizontalpodautoscalers");
        let given = json!({
            "metadata": {"name": "h", "annotations": {"autoscaling.alpha.kubernetes.io/metrics": "no JSON"}},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 5},
        });
        let stored = view
            .to_stored(canonical(&view.served, &given))
            .expect("it converts");
        assert!(stored["spec"].get("metrics").is_none_or(Value::is_null));
    }
}
