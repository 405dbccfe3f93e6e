//! Defaults of flow control. Source: upstream's `pkg/apis/flowcontrol/v1`.

use super::{made, set, with};
use crate::object::Json;

pub fn schema(value: &mut Json) {
    made(value, "spec", |spec| {
        at_least(spec, "matchingPrecedence", 1_000)
    });
}

pub fn level(value: &mut Json) {
    with(value, "spec", |spec| {
        with(spec, "exempt", |exempt| {
            set(exempt, "nominalConcurrencyShares", 0);
            set(exempt, "lendablePercent", 0);
        });
        with(spec, "limited", |limited| {
            set(limited, "nominalConcurrencyShares", 30);
            set(limited, "lendablePercent", 0);
            with(limited, "limitResponse", |response| {
                with(response, "queuing", |queuing| {
                    at_least(queuing, "handSize", 8);
                    at_least(queuing, "queues", 64);
                    at_least(queuing, "queueLengthLimit", 50);
                });
            });
        });
    });
}

/// Sets a number that is absent or zero.
fn at_least(map: &mut Json, field: &str, number: i32) {
    if map
        .get(field)
        .and_then(serde_json::Value::as_i64)
        .unwrap_or(0)
        == 0
    {
        map.insert(field.to_owned(), number.into());
    }
}
