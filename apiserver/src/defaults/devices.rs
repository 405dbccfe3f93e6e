//! Defaults of claims of devices. Source: upstream's `pkg/apis/resource/v1`.

use super::{each, made, set, text, with};
use crate::object::{self, Json};

pub fn claim(value: &mut Json) {
    with(value, "spec", spec);
}

pub fn claim_template(value: &mut Json) {
    with(value, "spec", |outer| with(outer, "spec", spec));
}

fn spec(spec: &mut Json) {
    with(spec, "devices", |devices| {
        each(devices, "requests", |request| {
            with(request, "exactly", counted);
            each(request, "firstAvailable", counted);
        });
    });
}

/// A request takes one device unless it says how many.
fn counted(request: &mut Json) {
    if text(request, "allocationMode").is_empty() {
        request.insert("allocationMode".to_owned(), "ExactCount".into());
    }
    if text(request, "allocationMode") == "ExactCount" {
        set(request, "count", 1);
    }
    each(request, "tolerations", |toleration| {
        set(toleration, "operator", "Equal");
    });
}

pub fn slice(value: &mut Json) {
    with(value, "spec", |spec| {
        each(spec, "devices", |device| {
            each(device, "taints", |taint| {
                set(taint, "timeAdded", object::now())
            });
        });
    });
}

pub fn taint_rule(value: &mut Json) {
    made(value, "spec", |spec| {
        made(spec, "taint", |taint| {
            set(taint, "timeAdded", object::now())
        });
    });
}
