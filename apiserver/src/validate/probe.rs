//! Probes and hooks of containers. Source: upstream's `pkg/apis/core/validation`.

use serde_json::Value;

use super::{
    Errors,
    check::{At, all as each},
};
use crate::field::FieldError;

/// The hooks and probes of a container, whose pod has so many seconds to end.
pub fn all(one: &At<'_>, grace: Option<i64>, errors: &mut Errors) {
    if let Some(lifecycle) = one.get("lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(hook) = lifecycle.get(hook) {
                handler(&hook, grace, errors);
            }
        }
    }
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = one.get(kind) else {
            continue;
        };
        handler(&probe, grace, errors);
        for field in [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ] {
            probe.not_negative(field, errors);
        }
        let end = "terminationGracePeriodSeconds";
        probe.within(end, 1, i64::MAX, "must be greater than 0", errors);
        let thrice = probe.number("successThreshold").unwrap_or(0);
        if kind == "readinessProbe" {
            if let Some(set) = probe.get(end) {
                let why = "must not be set for readinessProbes";
                errors.push(FieldError::invalid(set.path, set.value, why));
            }
        } else if thrice != 1 {
            let at = probe.child("successThreshold");
            errors.push(FieldError::invalid(at, &thrice.into(), "must be 1"));
        }
    }
}

/// What is done: one of a few actions.
fn handler(at: &At<'_>, grace: Option<i64>, errors: &mut Errors) {
    let mut found = false;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let Some(action) = at.get(kind) else {
            continue;
        };
        if std::mem::replace(&mut found, true) {
            let why = "may not specify more than 1 handler type";
            errors.push(FieldError::forbidden(action.path, why));
            continue;
        }
        match kind {
            "exec" => {
                if action.items("command").is_empty() {
                    errors.push(FieldError::required(action.child("command"), ""));
                }
            }
            "httpGet" => http_get(&action, errors),
            "sleep" => sleep(&action, grace, errors),
            _ => action.port("port", errors),
        }
    }
    if !found {
        let why = "must specify a handler type";
        errors.push(FieldError::required(at.path.clone(), why));
    }
}

fn http_get(at: &At<'_>, errors: &mut Errors) {
    at.required("path", errors);
    at.port("port", errors);
    let (scheme, known) = (at.text("scheme"), ["HTTP", "HTTPS"]);
    if !known.contains(&scheme) {
        errors.push(FieldError::unsupported(at.child("scheme"), scheme, &known));
    }
    for header in at.items("httpHeaders") {
        let name = header.text("name");
        each(&at.child("httpHeaders"), name, header_name(name), errors);
    }
}

fn header_name(name: &str) -> Vec<String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !name.is_empty() && name.bytes().all(good) {
        return Vec::new();
    }
    vec!["a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')".to_owned()]
}

fn sleep(at: &At<'_>, grace: Option<i64>, errors: &mut Errors) {
    let seconds = at.value.get("seconds").and_then(Value::as_i64).unwrap_or(0);
    if let Some(grace) = grace.filter(|grace| !(0..=*grace).contains(&seconds)) {
        let why =
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(FieldError::invalid(at.path.clone(), &seconds.into(), &why));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_probe_does_one_thing() {
        for (probe, wrong) in [
            (
                json!({"exec": {"command": ["a"]}, "successThreshold": 1}),
                0,
            ),
            (json!({"successThreshold": 1}), 1),
            (
                json!({"tcpSocket": {"port": 80}, "exec": {"command": ["a"]}, "successThreshold": 1}),
                1,
            ),
            (
                json!({"httpGet": {"path": "/", "port": "http", "scheme": "HTTP"}, "successThreshold": 2}),
                1,
            ),
        ] {
            let container = json!({"livenessProbe": probe});
            let mut errors = Vec::new();
            all(&At::new(&container, "c"), None, &mut errors);
            assert_eq!(errors.len(), wrong, "{container}: {errors:?}");
        }
    }
}
