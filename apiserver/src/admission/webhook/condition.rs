//! `matchConditions`: expressions that say whether a webhook is asked.
//!
//! They see `object`, `oldObject` and `request`. What they use beyond the language
//! itself (`authorizer`, upstream's libraries of quantities, addresses and URLs) is an
//! error, and the webhook's failure policy decides.

use serde_json::Value;

use crate::{
    admission::asked::text,
    expression::{Expression, Variables},
};

/// One expression.
pub struct Condition {
    name: String,
    expression: Expression,
}

impl Condition {
    pub fn read(condition: &Value) -> Self {
        Self {
            name: text(condition, &["name"]).to_owned(),
            expression: Expression::read(text(condition, &["expression"])),
        }
    }
}

/// Whether all conditions hold. One that does not hold outweighs those that fail.
///
/// # Errors
/// None says no, and some cannot be evaluated.
pub fn hold(conditions: &[Condition], request: &Value) -> Result<bool, String> {
    let variables = Variables::new([
        ("object", &request["object"]),
        ("oldObject", &request["oldObject"]),
        ("request", request),
    ]);
    let mut failed = Vec::new();
    for condition in conditions {
        match condition.expression.value(&variables) {
            Ok(Value::Bool(true)) => {}
            Ok(Value::Bool(false)) => return Ok(false),
            Ok(other) => failed.push(format!(
                "expression of matchCondition {:?} gave {other}, which is no bool",
                condition.name
            )),
            Err(why) => failed.push(format!(
                "expression of matchCondition {:?} resulted in error: {why}",
                condition.name
            )),
        }
    }
    match &failed[..] {
        [] => Ok(true),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(expressions: &[&str]) -> Result<bool, String> {
        let conditions: Vec<Condition> = expressions
            .iter()
            .map(|expression| Condition::read(&json!({"name": "c", "expression": expression})))
            .collect();
        let request = json!({
            "operation": "CREATE", "oldObject": null, "namespace": "n",
            "userInfo": {"username": "u", "groups": ["a", "b"]},
            "object": {"metadata": {"name": "web-1", "labels": {"app": "web"}}, "spec": {"replicas": 3}},
        });
        hold(&conditions, &request)
    }

    #[test]
    fn expressions_see_the_request() {
        for (expression, expected) in [
            ("request.operation == 'CREATE'", true),
            ("request.userInfo.username != 'system:node'", true),
            ("!('b' in request.userInfo.groups)", false),
            (
                "has(object.metadata.labels) && object.metadata.labels['app'] == 'web'",
                true,
            ),
            ("object.spec.replicas > 5", false),
            ("object.metadata.name.startsWith('web-')", true),
            ("oldObject == null", true),
            ("request.userInfo.groups.exists(g, g == 'a')", true),
            ("object.metadata.name.matches('^web-[0-9]+$')", true),
        ] {
            assert_eq!(holds(&[expression]), Ok(expected), "{expression}");
        }
    }

    #[test]
    fn what_does_not_hold_outweighs_what_fails() {
        let unknown = "authorizer.group('').resource('pods').check('get').allowed()";
        assert!(holds(&[unknown]).is_err());
        assert!(holds(&["object.metadata.nothing == 'x'"]).is_err());
        assert!(holds(&["'text'"]).is_err());
        assert!(holds(&["request."]).is_err());
        assert!(holds(&[&"!".repeat(crate::limits::EXPRESSION_BYTES_MAX + 1)]).is_err());
        assert_eq!(holds(&[unknown, "false"]), Ok(false));
    }
}
