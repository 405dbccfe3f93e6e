//! What a pod and its containers may do. Source: upstream's
//! `pkg/apis/core/validation`.

use serde_json::Value;

use super::{
    Errors,
    check::{At, descending},
};
use crate::field::FieldError;

/// A pod's own.
pub fn pod(at: &At<'_>, errors: &mut Errors) {
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        at.identity(field, errors);
    }
    for group in at.items("supplementalGroups") {
        let number = group.value.as_i64().unwrap_or(0);
        if !(0..=i64::from(i32::MAX)).contains(&number) {
            let why = "must be between 0 and 2147483647, inclusive";
            errors.push(FieldError::invalid(group.path, &number.into(), why));
        }
    }
    sysctls(at, errors);
    at.one_of("fsGroupChangePolicy", &["Always", "OnRootMismatch"], errors);
    profiles(at, errors);
    at.one_of("supplementalGroupsPolicy", &["Merge", "Strict"], errors);
    at.one_of("seLinuxChangePolicy", &["MountOption", "Recursive"], errors);
}

fn host_process<'a>(at: &At<'a>) -> Option<At<'a>> {
    let context = at.get("securityContext")?;
    context.get("windowsOptions")?.get("hostProcess")
}

/// Containers that are processes of a host of Windows: all or none, and in its
/// network.
pub fn host_processes(pod: &At<'_>, errors: &mut Errors) {
    let own = host_process(pod).map(|one| one.value == &Value::Bool(true));
    let (mut all, mut processes) = (0, 0);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for one in pod.items(list) {
            all += 1;
            let given = host_process(&one);
            let process = given.as_ref().map(|one| one.value == &Value::Bool(true));
            if let (Some(own), Some(process), Some(at)) = (own, process, given)
                && own != process
            {
                let why = format!(
                    "pod hostProcess value must be identical if both are specified, was {own}"
                );
                errors.push(FieldError::invalid(at.path, &process.into(), &why));
            }
            processes += usize::from(process.or(own).unwrap_or(false));
        }
    }
    if processes == 0 {
        return;
    }
    if processes != all {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(FieldError::invalid(&pod.path, &"".into(), why));
    }
    if !pod.flag("hostNetwork") {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        let path = pod.child("hostNetwork");
        errors.push(FieldError::invalid(path, &false.into(), why));
    }
}

fn sysctls(at: &At<'_>, errors: &mut Errors) {
    let mut seen = std::collections::HashSet::new();
    for one in at.items("sysctls") {
        let name = one.text("name");
        let part = |part: &str| {
            let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            let ends = |byte: Option<&u8>| byte.is_some_and(|byte| good(*byte));
            ends(part.as_bytes().first())
                && ends(part.as_bytes().last())
                && part.bytes().all(|byte| good(byte) || b"-_".contains(&byte))
        };
        if name.is_empty() {
            one.required("name", errors);
        } else if name.len() > 253 || !name.split(['.', '/']).all(part) {
            let why = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.push(FieldError::invalid(one.child("name"), &name.into(), why));
        } else if !seen.insert(name) {
            errors.push(FieldError::duplicate(one.child("name"), &name.into()));
        }
    }
}

/// A container's own.
pub fn container(at: &At<'_>, errors: &mut Errors) {
    for field in ["runAsUser", "runAsGroup"] {
        at.identity(field, errors);
    }
    at.one_of("procMount", &["Default", "Unmasked"], errors);
    if at.text("procMount") == "Unmasked" {
        let why = "`hostUsers` must be false to use `Unmasked`";
        errors.push(FieldError::invalid(
            at.child("procMount"),
            &"Unmasked".into(),
            why,
        ));
    }
    seccomp(at, errors);
    if at.value.get("allowPrivilegeEscalation") == Some(&Value::Bool(false)) {
        if at.flag("privileged") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid(at.path.clone(), at.value, why));
        }
        let added = at
            .value
            .pointer("/capabilities/add")
            .and_then(Value::as_array);
        for _ in added
            .into_iter()
            .flatten()
            .filter(|one| *one == "CAP_SYS_ADMIN")
        {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(at.path.clone(), at.value, why));
        }
    }
    windows(at, errors);
    app_armor(at, errors);
}

fn profiles(at: &At<'_>, errors: &mut Errors) {
    seccomp(at, errors);
    windows(at, errors);
    app_armor(at, errors);
}

fn seccomp(at: &At<'_>, errors: &mut Errors) {
    let Some(profile) = at.get("seccompProfile") else {
        return;
    };
    let (kind, known) = (
        profile.text("type"),
        ["Localhost", "RuntimeDefault", "Unconfined"],
    );
    if kind.is_empty() {
        let why = "type is required when seccompProfile is set";
        errors.push(FieldError::required(profile.child("type"), why));
    } else {
        profile.one_of("type", &known, errors);
    }
    let path = profile.child("localhostProfile");
    match (kind, profile.get("localhostProfile")) {
        ("Localhost", None) => {
            let why = "must be set when seccomp type is Localhost";
            errors.push(FieldError::required(path, why));
        }
        ("Localhost", Some(file)) => descending(file.as_text(), &path, errors),
        (_, Some(_)) => {
            let why = "can only be set when seccomp type is Localhost";
            let file = profile
                .value
                .get("localhostProfile")
                .unwrap_or(&Value::Null);
            let shown = format!(
                "{{\"Type\":{},\"LocalhostProfile\":{file}}}",
                Value::from(kind)
            );
            errors.push(FieldError::invalid_shown(path, &shown, why));
        }
        (_, None) => {}
    }
}

fn app_armor(at: &At<'_>, errors: &mut Errors) {
    const NEEDED: &str = "must be set when AppArmor type is Localhost";
    let Some(profile) = at.get("appArmorProfile") else {
        return;
    };
    let path = profile.child("localhostProfile");
    let own = profile.get("localhostProfile");
    match profile.text("type") {
        "Localhost" => match own.as_ref().map(At::as_text) {
            None | Some("") => errors.push(FieldError::required(path, NEEDED)),
            Some(text) if text.trim() != text => {
                let why = "must not be padded with whitespace";
                errors.push(FieldError::invalid(path, &text.into(), why));
            }
            Some(text) if text.len() > 4_095 => errors.push(FieldError::too_long(path, 4_095)),
            Some(_) => {}
        },
        "RuntimeDefault" | "Unconfined" => {
            if let Some(own) = own {
                let why = "can only be set when AppArmor type is Localhost";
                errors.push(FieldError::invalid(path, own.value, why));
            }
        }
        "" => {
            let why = "type is required when appArmorProfile is set";
            errors.push(FieldError::required(profile.child("type"), why));
        }
        other => {
            let known = ["Localhost", "RuntimeDefault", "Unconfined"];
            errors.push(FieldError::unsupported(
                profile.child("type"),
                other,
                &known,
            ));
        }
    }
}

/// Users and credentials of Windows, by their least rules.
fn windows(at: &At<'_>, errors: &mut Errors) {
    let Some(options) = at.get("windowsOptions") else {
        return;
    };
    if options.get("gmsaCredentialSpecName").is_some() {
        options.named("gmsaCredentialSpecName", super::names::subdomain, errors);
    }
    for (field, why) in [
        (
            "gmsaCredentialSpec",
            "gmsaCredentialSpec cannot be an empty string",
        ),
        ("runAsUserName", "runAsUserName cannot be an empty string"),
    ] {
        if options
            .get(field)
            .is_some_and(|one| one.as_text().is_empty())
        {
            errors.push(FieldError::invalid(options.child(field), &"".into(), why));
        }
    }
}
