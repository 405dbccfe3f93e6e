//! Defaults of webhooks and admission policies. Source: upstream's
//! `pkg/apis/admissionregistration/v1`.

use serde_json::json;

use super::{each, made, set, with};
use crate::object::Json;

pub fn mutating_webhooks(value: &mut Json) {
    webhooks(value);
    each(value, "webhooks", |webhook| {
        set(webhook, "reinvocationPolicy", "Never");
    });
}

pub fn webhooks(value: &mut Json) {
    each(value, "webhooks", |webhook| {
        set(webhook, "failurePolicy", "Fail");
        set(webhook, "matchPolicy", "Equivalent");
        set(webhook, "namespaceSelector", json!({}));
        set(webhook, "objectSelector", json!({}));
        set(webhook, "timeoutSeconds", 10);
        each(webhook, "rules", |rule| set(rule, "scope", "*"));
        with(webhook, "clientConfig", |config| {
            with(config, "service", |service| set(service, "port", 443))
        });
    });
}

pub fn policy(value: &mut Json) {
    made(value, "spec", |spec| {
        set(spec, "failurePolicy", "Fail");
        with(spec, "matchConstraints", matched);
    });
}

pub fn policy_binding(value: &mut Json) {
    with(value, "spec", |spec| with(spec, "matchResources", matched));
}

/// What a policy is about.
fn matched(resources: &mut Json) {
    set(resources, "matchPolicy", "Equivalent");
    set(resources, "namespaceSelector", json!({}));
    set(resources, "objectSelector", json!({}));
    for rules in ["resourceRules", "excludeResourceRules"] {
        each(resources, rules, |rule| set(rule, "scope", "*"));
    }
}
