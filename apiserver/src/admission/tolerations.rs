//! `DefaultTolerationSeconds`: a pod stays for five minutes on a node that is
//! not ready or not reached, unless it says otherwise.

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{
    Asked, Plugin, Verdict,
    asked::{list, spec},
};

/// Upstream's default of both flags.
const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];

pub struct DefaultTolerationSeconds;

impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn resources(&self) -> &'static [(&'static str, &'static str)] {
        &[("", "pods")]
    }

    fn admit<'a>(&'a self, asked: &'a mut Asked<'_>) -> BoxFuture<'a, Verdict> {
        if asked.target().sub.is_none() {
            let tolerations = list(spec(asked.object_mut()), "tolerations");
            for taint in missing(tolerations) {
                tolerations.push(json!({"key": taint, "operator": "Exists",
                    "effect": "NoExecute", "tolerationSeconds": SECONDS}));
            }
            if tolerations.is_empty() {
                spec(asked.object_mut()).remove("tolerations");
            }
        }
        Box::pin(async { Ok(()) })
    }
}

/// The taints of which nothing is said.
fn missing(tolerations: &[Value]) -> Vec<&'static str> {
    let is = |value: &Value, wanted: &str| {
        value
            .as_str()
            .is_none_or(|own| own.is_empty() || own == wanted)
    };
    let tolerated = |taint: &str| {
        let of = |one: &Value| is(&one["key"], taint) && is(&one["effect"], "NoExecute");
        tolerations.iter().any(of)
    };
    TAINTS
        .into_iter()
        .filter(|taint| !tolerated(taint))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_stays() {
        let own = json!([{"key": TAINTS[0], "operator": "Exists", "effect": "NoExecute"}]);
        assert_eq!(missing(own.as_array().expect("a list")), [TAINTS[1]]);
        assert!(missing(&[json!({"operator": "Exists"})]).is_empty());
        assert_eq!(
            missing(&[json!({"operator": "Exists", "effect": "NoSchedule"})]),
            TAINTS
        );
    }
}
