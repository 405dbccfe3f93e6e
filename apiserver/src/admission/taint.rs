//! `TaintNodesByCondition`: a node is not ready until a controller says so.

use futures::future::BoxFuture;
use serde_json::json;

use super::{
    Asked, Plugin, Verdict,
    asked::{list, spec},
};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub struct TaintNodesByCondition;

impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn resources(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "nodes")]
    }

    fn admit<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        if asked.creates() {
            let taints = list(spec(asked.object_mut()), "taints");
            let same =
                |one: &serde_json::Value| one["key"] == NOT_READY && one["effect"] == "NoSchedule";
            if !taints.iter().any(same) {
                taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
            }
        }
        Box::pin(async { Ok(()) })
    }
}
