//! The checks of upstream's Pod Security Standards, by level and version of the
//! policy, with its words.
//!
//! Source: `k8s.io/pod-security-admission/policy`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Level;
use crate::{
    admission::asked::{items, text},
    object::{self, Json},
};

/// What a pod is, for a check.
pub struct Judged<'a> {
    pub meta: &'a Json,
    pub spec: &'a Value,
}

/// What is wrong: the reason, and what of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrong {
    pub reason: String,
    pub detail: String,
}

type Found = Option<Wrong>;
type Check = fn(&Judged<'_>, u32) -> Found;

/// The newest version that a check changed with.
pub const NEWEST: u32 = 37;

/// All that a level finds wrong, in upstream's order: what baseline says first.
pub fn wrong(level: Level, minor: u32, pod: &Judged<'_>) -> Vec<Wrong> {
    let restricted = level == Level::Restricted;
    // A stricter check stands for the one of baseline.
    let stricter = |since: u32| restricted && minor >= since;
    let in_user_namespace = pod.spec["hostUsers"] == false;
    let baseline: [(bool, Check); 12] = [
        (true, app_armor),
        (!stricter(22), capabilities),
        (true, host_namespaces),
        (!restricted, host_paths),
        (true, host_ports),
        (minor >= 34, probe_hosts),
        (true, privileged),
        (minor < 35 || !restricted && !in_user_namespace, proc_mount),
        (true, selinux),
        (!stricter(19), seccomp),
        (true, sysctls),
        (true, host_process),
    ];
    let windows = minor >= 25 && text(pod.spec, &["os", "name"]) == "windows";
    let relaxed = minor >= 35 && in_user_namespace;
    let more: [(bool, Check); 7] = [
        (minor >= 8 && !windows, escalation),
        (minor >= 22 && !windows, dropped),
        (minor >= 35, proc_mount),
        (true, volumes),
        (!relaxed, non_root),
        (minor >= 23 && !relaxed, user),
        (minor >= 19 && !windows, seccomp_set),
    ];
    let more = more.iter().filter(|_| restricted);
    let checks = baseline.iter().chain(more).filter(|(on, _)| *on);
    match level {
        Level::Privileged => Vec::new(),
        _ => checks.filter_map(|(_, check)| check(pod, minor)).collect(),
    }
}

impl<'a> Judged<'a> {
    fn containers(&self) -> impl Iterator<Item = &'a Value> {
        let spec = self.spec;
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        lists.into_iter().flat_map(|list| items(spec, list))
    }

    /// The names of the containers of which something holds.
    fn named(&self, mut holds: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        let found = self.containers().filter(|one| holds(one));
        found.map(|one| text(one, &["name"])).collect()
    }

    fn security(&self) -> &'a Value {
        &self.spec["securityContext"]
    }
}

fn security(container: &Value) -> &Value {
    &container["securityContext"]
}

fn says(value: &Value) -> bool {
    !value.is_null()
}

fn quoted<'a>(list: impl IntoIterator<Item = &'a str>) -> String {
    let list: Vec<String> = list.into_iter().map(|one| format!("\"{one}\"")).collect();
    list.join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

fn containers(names: &[&str]) -> String {
    let word = plural("container", "containers", names.len());
    format!("{word} {}", quoted(names.iter().copied()))
}

fn forbidden(reason: &str, detail: String) -> Found {
    Some(Wrong {
        reason: reason.to_owned(),
        detail,
    })
}

/// Who has set something: the pod, and containers.
fn setters(pod: bool, names: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    if pod {
        all.push("pod".to_owned());
    }
    if !names.is_empty() {
        all.push(containers(names));
    }
    all
}

fn app_armor(pod: &Judged<'_>, _: u32) -> Found {
    let mut values = BTreeSet::new();
    let mut bad = |context: &Value| {
        let profile = &context["appArmorProfile"];
        let kind = text(profile, &["type"]);
        let bad = says(profile) && !matches!(kind, "RuntimeDefault" | "Localhost");
        if bad {
            values.insert(kind.to_owned());
        }
        bad
    };
    let own = bad(pod.security());
    let names = pod.named(|container| bad(security(container)));
    let mut who = setters(own, &names);
    let mut values: Vec<String> = values.into_iter().collect();
    let annotations = pod.meta.get("annotations").and_then(Value::as_object);
    let mut set: Vec<String> = Vec::new();
    for (key, value) in annotations.into_iter().flatten() {
        let value = value.as_str().unwrap_or("");
        let allowed =
            value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
        if key.starts_with("container.apparmor.security.beta.kubernetes.io/") && !allowed {
            set.push(format!("{key}={value:?}"));
        }
    }
    if !set.is_empty() {
        set.sort();
        who.push(plural("annotation", "annotations", set.len()).to_owned());
        values.extend(set);
    }
    if who.is_empty() {
        return None;
    }
    let reason = plural(
        "forbidden AppArmor profile",
        "forbidden AppArmor profiles",
        values.len(),
    );
    let list = quoted(values.iter().map(String::as_str));
    let detail = format!(
        "{} must not set AppArmor profile type to {list}",
        who.join(" and ")
    );
    forbidden(reason, detail)
}

const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The containers that add other capabilities, and those.
fn added<'a>(pod: &Judged<'a>, allowed: &[&str]) -> (Vec<&'a str>, BTreeSet<&'a str>) {
    let mut others = BTreeSet::new();
    let names = pod.named(|container| {
        let added = items(&security(container)["capabilities"], "add");
        let bad: Vec<&str> = added
            .filter_map(Value::as_str)
            .filter(|one| !allowed.contains(one))
            .collect();
        others.extend(bad.iter().copied());
        !bad.is_empty()
    });
    (names, others)
}

fn must_not_add(names: &[&str], others: BTreeSet<&str>) -> String {
    format!(
        "{} must not include {} in securityContext.capabilities.add",
        containers(names),
        quoted(others)
    )
}

fn capabilities(pod: &Judged<'_>, _: u32) -> Found {
    let (names, others) = added(pod, CAPABILITIES);
    if names.is_empty() {
        return None;
    }
    forbidden("non-default capabilities", must_not_add(&names, others))
}

fn dropped(pod: &Judged<'_>, _: u32) -> Found {
    let missing = pod.named(|container| {
        !items(&security(container)["capabilities"], "drop").any(|one| one == "ALL")
    });
    let (names, others) = added(pod, &["NET_BIND_SERVICE"]);
    let mut details = Vec::new();
    if !missing.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            containers(&missing)
        ));
    }
    if !names.is_empty() {
        details.push(must_not_add(&names, others));
    }
    if details.is_empty() {
        return None;
    }
    forbidden("unrestricted capabilities", details.join("; "))
}

fn host_namespaces(pod: &Judged<'_>, _: u32) -> Found {
    let fields = ["hostNetwork", "hostPID", "hostIPC"].iter();
    let set: Vec<String> = fields
        .filter(|field| pod.spec[**field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    if set.is_empty() {
        return None;
    }
    forbidden("host namespaces", set.join(", "))
}

fn host_paths(pod: &Judged<'_>, _: u32) -> Found {
    let names: Vec<&str> = items(pod.spec, "volumes")
        .filter(|volume| says(&volume["hostPath"]))
        .map(|volume| text(volume, &["name"]))
        .collect();
    if names.is_empty() {
        return None;
    }
    let word = plural("volume", "volumes", names.len());
    forbidden("hostPath volumes", format!("{word} {}", quoted(names)))
}

fn host_ports(pod: &Judged<'_>, _: u32) -> Found {
    let mut ports = BTreeSet::new();
    let names = pod.named(|container| {
        let used = items(container, "ports").filter_map(|port| port["hostPort"].as_i64());
        let used: Vec<String> = used
            .filter(|port| *port != 0)
            .map(|port| port.to_string())
            .collect();
        let uses = !used.is_empty();
        ports.extend(used);
        uses
    });
    if names.is_empty() {
        return None;
    }
    let list: Vec<String> = ports.into_iter().collect();
    let detail = format!(
        "{} {} {} {}",
        containers(&names),
        plural("uses", "use", names.len()),
        plural("hostPort", "hostPorts", list.len()),
        list.join(", ")
    );
    forbidden("hostPort", detail)
}

fn probe_hosts(pod: &Judged<'_>, _: u32) -> Found {
    let mut hosts = BTreeSet::new();
    let names = pod.named(|container| {
        let handlers = [
            &container["livenessProbe"],
            &container["readinessProbe"],
            &container["startupProbe"],
            &container["lifecycle"]["postStart"],
            &container["lifecycle"]["preStop"],
        ];
        let used = handlers.into_iter().flat_map(|handler| {
            let of = |kind| text(handler, &[kind, "host"]);
            [of("httpGet"), of("tcpSocket")]
        });
        let used: Vec<&str> = used.filter(|host| !host.is_empty()).collect();
        let uses = !used.is_empty();
        hosts.extend(used);
        uses
    });
    if names.is_empty() {
        return None;
    }
    let names: BTreeSet<&str> = names.into_iter().collect();
    let names: Vec<&str> = names.into_iter().collect();
    let detail = format!(
        "{} {} {} {}",
        containers(&names),
        plural("uses", "use", names.len()),
        plural(
            "probe or lifecycle host",
            "probe or lifecycle hosts",
            hosts.len()
        ),
        quoted(hosts)
    );
    forbidden("probe or lifecycle host", detail)
}

fn privileged(pod: &Judged<'_>, _: u32) -> Found {
    let names = pod.named(|container| security(container)["privileged"] == true);
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.privileged=true",
        containers(&names)
    );
    forbidden("privileged", detail)
}

fn proc_mount(pod: &Judged<'_>, _: u32) -> Found {
    let mut kinds = BTreeSet::new();
    let names = pod.named(|container| {
        let kind = security(container)["procMount"].as_str();
        let bad = kind.filter(|kind| *kind != "Default");
        kinds.extend(bad);
        bad.is_some()
    });
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.procMount to {}",
        containers(&names),
        quoted(kinds)
    );
    forbidden("procMount", detail)
}

fn selinux(pod: &Judged<'_>, minor: u32) -> Found {
    let mut kinds = BTreeSet::new();
    let (mut user, mut role) = (false, false);
    let mut bad = |context: &Value| {
        let of = |field| text(&context["seLinuxOptions"], &[field]).to_owned();
        let kind = of("type");
        let allowed = matches!(
            &*kind,
            "" | "container_t" | "container_init_t" | "container_kvm_t"
        ) || minor >= 31 && kind == "container_engine_t";
        let set = (!of("user").is_empty(), !of("role").is_empty());
        (user, role) = (user || set.0, role || set.1);
        if !allowed {
            kinds.insert(kind);
        }
        !allowed || set.0 || set.1
    };
    let own = bad(pod.security());
    let names = pod.named(|container| bad(security(container)));
    let who = setters(own, &names);
    if who.is_empty() {
        return None;
    }
    let mut what = Vec::new();
    if !kinds.is_empty() {
        let list = quoted(kinds.iter().map(String::as_str));
        what.push(format!("{} {list}", plural("type", "types", kinds.len())));
    }
    for (set, words) in [(user, "user may not be set"), (role, "role may not be set")] {
        if set {
            what.push(words.to_owned());
        }
    }
    let detail = format!(
        "{} set forbidden securityContext.seLinuxOptions: {}",
        who.join(" and "),
        what.join("; ")
    );
    forbidden("seLinuxOptions", detail)
}

/// Who sets a seccomp profile that is none of the two, and which.
fn bad_profiles(pod: &Judged<'_>) -> Found {
    let mut kinds = BTreeSet::new();
    let mut bad = |context: &Value| {
        let profile = &context["seccompProfile"];
        let kind = text(profile, &["type"]);
        let bad = says(profile) && !matches!(kind, "RuntimeDefault" | "Localhost");
        if bad {
            kinds.insert(kind.to_owned());
        }
        bad
    };
    let own = bad(pod.security());
    let names = pod.named(|container| bad(security(container)));
    let who = setters(own, &names);
    if who.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.seccompProfile.type to {}",
        who.join(" and "),
        quoted(kinds.iter().map(String::as_str))
    );
    forbidden("seccompProfile", detail)
}

fn seccomp(pod: &Judged<'_>, minor: u32) -> Found {
    if minor >= 19 {
        return bad_profiles(pod);
    }
    let mut set = BTreeSet::new();
    let mut look = |name: &str| {
        let Some(value) = object::at(pod.meta, &["annotations", name]).and_then(Value::as_str)
        else {
            return;
        };
        let allowed = matches!(value, "runtime/default" | "docker/default")
            || value.starts_with("localhost/");
        if !allowed {
            set.insert(format!("{name}={value:?}"));
        }
    };
    look("seccomp.security.alpha.kubernetes.io/pod");
    for container in pod.containers() {
        let name = text(container, &["name"]);
        look(&format!(
            "container.seccomp.security.alpha.kubernetes.io/{name}"
        ));
    }
    if set.is_empty() {
        return None;
    }
    let list: Vec<String> = set.into_iter().collect();
    let word = plural("annotation", "annotations", list.len());
    forbidden(
        "seccompProfile",
        format!("forbidden {word} {}", list.join(", ")),
    )
}

fn seccomp_set(pod: &Judged<'_>, _: u32) -> Found {
    if let Some(bad) = bad_profiles(pod) {
        return Some(bad);
    }
    if says(&pod.security()["seccompProfile"]) {
        return None;
    }
    let names = pod.named(|container| !says(&security(container)["seccompProfile"]));
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        containers(&names)
    );
    forbidden("seccompProfile", detail)
}

/// Each with the version since which it is safe.
const SYSCTLS: &[(&str, u32)] = &[
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
    ("net.ipv4.tcp_slow_start_after_idle", 37),
    ("net.ipv4.tcp_notsent_lowat", 37),
];

fn sysctls(pod: &Judged<'_>, minor: u32) -> Found {
    let safe = |name: &str| {
        let mut all = SYSCTLS.iter();
        all.any(|(one, since)| *one == name && minor >= *since)
    };
    let set = items(pod.security(), "sysctls").map(|one| text(one, &["name"]));
    let set: Vec<&str> = set.filter(|name| !safe(name)).collect();
    if set.is_empty() {
        return None;
    }
    forbidden("forbidden sysctls", set.join(", "))
}

fn host_process(pod: &Judged<'_>, _: u32) -> Found {
    let set = |context: &Value| context["windowsOptions"]["hostProcess"] == true;
    let names = pod.named(|container| set(security(container)));
    let who = setters(set(pod.security()), &names);
    if who.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.windowsOptions.hostProcess=true",
        who.join(" and ")
    );
    forbidden("hostProcess", detail)
}

fn escalation(pod: &Judged<'_>, _: u32) -> Found {
    let names = pod.named(|container| security(container)["allowPrivilegeEscalation"] != false);
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must set securityContext.allowPrivilegeEscalation=false",
        containers(&names)
    );
    forbidden("allowPrivilegeEscalation != false", detail)
}

const RESTRICTED: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

fn volumes(pod: &Judged<'_>, _: u32) -> Found {
    const ALLOWED: &[&str] = &[
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let mut kinds = BTreeSet::new();
    let mut names = Vec::new();
    for volume in items(pod.spec, "volumes") {
        if ALLOWED.iter().any(|kind| says(&volume[*kind])) {
            continue;
        }
        names.push(text(volume, &["name"]));
        let kind = RESTRICTED.iter().find(|kind| says(&volume[**kind]));
        kinds.insert(kind.copied().unwrap_or("unknown"));
    }
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", names.len()),
        quoted(names.iter().copied()),
        plural("uses", "use", names.len()),
        plural(
            "restricted volume type",
            "restricted volume types",
            kinds.len()
        ),
        quoted(kinds)
    );
    forbidden("restricted volume types", detail)
}

fn non_root(pod: &Judged<'_>, _: u32) -> Found {
    const REASON: &str = "runAsNonRoot != true";
    let set = |context: &Value| context["runAsNonRoot"].as_bool();
    let own = set(pod.security());
    let names = pod.named(|container| set(security(container)) == Some(false));
    let who = setters(own == Some(false), &names);
    if !who.is_empty() {
        let detail = format!(
            "{} must not set securityContext.runAsNonRoot=false",
            who.join(" and ")
        );
        return forbidden(REASON, detail);
    }
    let names = pod.named(|container| own != Some(true) && set(security(container)).is_none());
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.runAsNonRoot=true",
        containers(&names)
    );
    forbidden(REASON, detail)
}

fn user(pod: &Judged<'_>, _: u32) -> Found {
    let root = |context: &Value| context["runAsUser"] == 0;
    let names = pod.named(|container| root(security(container)));
    let who = setters(root(pod.security()), &names);
    if who.is_empty() {
        return None;
    }
    let detail = format!("{} must not set runAsUser=0", who.join(" and "));
    forbidden("runAsUser=0", detail)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(level: Level, minor: u32, spec: &Value) -> Vec<String> {
        let meta = Json::new();
        let pod = Judged { meta: &meta, spec };
        let all = wrong(level, minor, &pod).into_iter();
        all.map(|one| format!("{} ({})", one.reason, one.detail))
            .collect()
    }

    #[test]
    fn each_level_says_what_is_wrong_in_upstreams_words() {
        let plain = json!({"containers": [{"name": "a"}]});
        assert!(told(Level::Baseline, NEWEST, &plain).is_empty());
        assert_eq!(
            told(Level::Restricted, NEWEST, &plain),
            [
                "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false)",
                "unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"])",
                "runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true)",
                "seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
            ]
        );
        let bad = json!({"hostPID": true, "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
            "containers": [{"name": "a", "ports": [{"hostPort": 80}],
                "securityContext": {"privileged": true, "capabilities": {"add": ["SYS_ADMIN"]}}}]});
        assert_eq!(
            told(Level::Baseline, NEWEST, &bad),
            [
                "non-default capabilities (container \"a\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
                "host namespaces (hostPID=true)",
                "hostPath volumes (volume \"v\")",
                "hostPort (container \"a\" uses hostPort 80)",
                "privileged (container \"a\" must not set securityContext.privileged=true)",
            ]
        );
        assert!(told(Level::Privileged, NEWEST, &bad).is_empty());
    }

    #[test]
    fn a_policy_of_another_version_is_that_versions() {
        let sysctl = json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}});
        assert_eq!(told(Level::Baseline, 31, &sysctl).len(), 1);
        assert!(told(Level::Baseline, 32, &sysctl).is_empty());
        let probe = json!({"containers": [{"livenessProbe": {"httpGet": {"host": "h"}}}]});
        assert!(told(Level::Baseline, 33, &probe).is_empty());
        assert_eq!(told(Level::Baseline, 34, &probe).len(), 1);
    }
}
