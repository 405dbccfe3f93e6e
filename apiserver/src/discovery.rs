//! Discovery: which groups, versions and resources there are, in the old form
//! and in the aggregated one. Made of the table of resources alone.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::catalog::{Catalog, REVIEWS, Resource, Review};
use crate::kind::Sub;

/// What can be done with a stored kind.
const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

impl Resource {
    /// What can be done with it. Namespaces go one by one.
    pub fn verbs(&self) -> Vec<&'static str> {
        let single = self.group.is_empty() && self.plural == "namespaces";
        let verbs = VERBS.into_iter();
        verbs
            .filter(|verb| !single || *verb != "deletecollection")
            .collect()
    }

    /// What tells the versions apart in which objects are stored.
    fn storage_hash(&self) -> String {
        let stored = self.stored_as.as_ref();
        let stored = stored.map_or(self, |stored| &stored.resource);
        let text = format!("{}/{}/{}", stored.group, stored.version, stored.kind);
        STANDARD.encode(&Sha256::digest(text)[..8])
    }

    /// The subresources in the order of their names.
    fn sorted_subs(&self) -> Vec<Sub> {
        let mut subs = self.subs.to_vec();
        subs.sort_by_key(|sub| sub.name());
        subs
    }
}

/// The version of Kubernetes whose API is spoken.
pub const MAJOR: &str = "1";
pub const MINOR: &str = "37";
pub const GIT_VERSION: &str = "v1.37.2";

/// `/version`.
pub fn version() -> Value {
    json!({
        "major": MAJOR, "minor": MINOR, "gitVersion": format!("{GIT_VERSION}+mizzen-{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }),
    })
}

/// Groups with a name and their versions, the preferred first, in the order of
/// the tables.
fn groups(catalog: &Catalog) -> Vec<(String, String)> {
    let mut groups: Vec<(String, String)> = Vec::new();
    let stored = catalog
        .resources()
        .iter()
        .map(|resource| (&*resource.group, &*resource.version));
    let reviews = REVIEWS.iter().map(|review| (review.group, "v1"));
    for (group, version) in stored.chain(reviews).filter(|(group, _)| !group.is_empty()) {
        if !groups.iter().any(|(of, one)| of == group && one == version) {
            groups.push((group.to_owned(), version.to_owned()));
        }
    }
    // Stable: a group's versions stay in the order of their preference.
    groups.sort_by(|one, other| one.0.cmp(&other.0));
    groups
}

/// Groups with a name, each once.
fn group_names(catalog: &Catalog) -> Vec<String> {
    let mut names: Vec<_> = groups(catalog)
        .into_iter()
        .map(|(group, _)| group)
        .collect();
    names.dedup();
    names
}

/// The versions of a group, the preferred first.
fn versions(catalog: &Catalog, group: &str) -> Vec<String> {
    let all = group_versions(catalog).into_iter();
    all.filter(|(of, _)| of == group)
        .map(|(_, version)| version)
        .collect()
}

/// Every group version, the core one included.
pub fn group_versions(catalog: &Catalog) -> Vec<(String, String)> {
    let mut all = vec![(String::new(), "v1".to_owned())];
    all.extend(groups(catalog));
    all
}

fn api_group(catalog: &Catalog, group: &str) -> Value {
    let versions: Vec<Value> = versions(catalog, group)
        .into_iter()
        .map(|version| json!({"groupVersion": format!("{group}/{version}"), "version": version}))
        .collect();
    json!({"name": group, "preferredVersion": versions.first(), "versions": versions})
}

/// `/api`.
pub fn core_versions(server: &str) -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}],
    })
}

/// `/apis`.
pub fn group_list(catalog: &Catalog) -> Value {
    let groups: Vec<_> = group_names(catalog)
        .into_iter()
        .map(|group| api_group(catalog, &group))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
pub fn group(catalog: &Catalog, name: &str) -> Option<Value> {
    let group = group_names(catalog)
        .into_iter()
        .find(|group| group == name)?;
    let mut value = api_group(catalog, &group);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Some(value)
}

fn of<'c>(catalog: &'c Catalog, group: &str, version: &str) -> Vec<&'c Arc<Resource>> {
    catalog
        .resources()
        .iter()
        .filter(|one| one.group == group && one.version == version)
        .collect()
}

/// The kind that a subresource reads and writes.
fn sub_kind(resource: &Resource, sub: Sub) -> (&str, &str, &str) {
    match sub {
        Sub::Scale => ("autoscaling", "v1", "Scale"),
        Sub::Binding => ("", "v1", "Binding"),
        Sub::Eviction => ("policy", "v1", "Eviction"),
        Sub::Token => ("authentication.k8s.io", "v1", "TokenRequest"),
        _ => (&resource.group, &resource.version, &resource.kind),
    }
}

/// `/api/v1` and `/apis/GROUP/VERSION`.
pub fn resource_list(catalog: &Catalog, group: &str, version: &str) -> Option<Value> {
    let mut list = Vec::new();
    for resource in of(catalog, group, version) {
        let mut value = json!({
            "name": resource.plural, "singularName": resource.singular(), "namespaced": resource.namespaced,
            "kind": resource.kind, "verbs": resource.verbs(), "storageVersionHash": resource.storage_hash(),
        });
        if !resource.short.is_empty() {
            value["shortNames"] = json!(resource.short);
        }
        if !resource.categories.is_empty() {
            value["categories"] = json!(resource.categories);
        }
        list.push(value);
        for sub in resource.sorted_subs() {
            let (sub_group, sub_version, kind) = sub_kind(resource, sub);
            let mut value = json!({
                "name": format!("{}/{}", resource.plural, sub.name()), "singularName": "",
                "namespaced": resource.namespaced, "kind": kind, "verbs": sub.verbs(),
            });
            if sub_group != group {
                value["group"] = sub_group.into();
                value["version"] = sub_version.into();
            }
            list.push(value);
        }
    }
    for Review {
        plural,
        kind,
        namespaced,
        ..
    } in REVIEWS
        .iter()
        .filter(|one| one.group == group && version == "v1")
    {
        list.push(json!({"name": plural, "singularName": kind.to_ascii_lowercase(), "namespaced": namespaced, "kind": kind, "verbs": ["create"]}));
    }
    if list.is_empty() {
        return None;
    }
    let name = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    Some(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": list}),
    )
}

fn scope(namespaced: bool) -> &'static str {
    if namespaced { "Namespaced" } else { "Cluster" }
}

fn kind(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn aggregated_group(catalog: &Catalog, group: &str) -> Value {
    let versions: Vec<Value> = versions(catalog, group)
        .into_iter()
        .map(|version| aggregated_version(catalog, group, &version))
        .collect();
    json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions})
}

fn aggregated_version(catalog: &Catalog, group: &str, version: &str) -> Value {
    let mut list = Vec::new();
    for resource in of(catalog, group, version) {
        let mut value = json!({
            "resource": resource.plural, "responseKind": kind(group, version, &resource.kind),
            "scope": scope(resource.namespaced), "singularResource": resource.singular(), "verbs": resource.verbs(),
        });
        if !resource.short.is_empty() {
            value["shortNames"] = json!(resource.short);
        }
        if !resource.categories.is_empty() {
            value["categories"] = json!(resource.categories);
        }
        if !resource.subs.is_empty() {
            let subs = resource.sorted_subs().into_iter().map(|sub| {
                let (group, version, name) = sub_kind(resource, sub);
                json!({"subresource": sub.name(), "responseKind": kind(group, version, name), "verbs": sub.verbs()})
            });
            value["subresources"] = subs.collect();
        }
        list.push(value);
    }
    for Review {
        plural,
        kind: name,
        namespaced,
        ..
    } in REVIEWS.iter().filter(|one| one.group == group)
    {
        list.push(json!({
            "resource": plural, "responseKind": kind(group, version, name), "scope": scope(*namespaced),
            "singularResource": name.to_ascii_lowercase(), "verbs": ["create"],
        }));
    }
    json!({"version": version, "resources": list, "freshness": "Current"})
}

/// `/api` or `/apis`, aggregated, of version `v2` or `v2beta1` of the form.
pub fn aggregated(catalog: &Catalog, core: bool, version: &str) -> Value {
    let items: Vec<_> = if core {
        vec![aggregated_group(catalog, "")]
    } else {
        group_names(catalog)
            .into_iter()
            .map(|group| aggregated_group(catalog, &group))
            .collect()
    };
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {}, "items": items,
    })
}

/// `/`.
pub fn paths(catalog: &Catalog) -> Value {
    let mut paths: Vec<String> = ["/api", "/api/v1", "/apis"].map(str::to_owned).into();
    for group in group_names(catalog) {
        paths.push(format!("/apis/{group}"));
        paths.extend(
            versions(catalog, &group)
                .iter()
                .map(|version| format!("/apis/{group}/{version}")),
        );
    }
    paths.extend(
        [
            "/healthz",
            "/livez",
            "/metrics",
            "/openapi/v2",
            "/openapi/v3",
            "/readyz",
            "/version",
        ]
        .map(str::to_owned),
    );
    json!({"paths": paths})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_version_comes_first() {
        let value = group(&crate::kinds::built_in(), "autoscaling").expect("a group");
        assert_eq!(value["preferredVersion"]["version"], "v2");
        assert_eq!(value["versions"][1]["groupVersion"], "autoscaling/v1");
        let new = aggregated_group(&crate::kinds::built_in(), "autoscaling");
        assert_eq!(new["versions"][0]["version"], "v2");
        assert_eq!(new["versions"][1]["version"], "v1");
    }

    #[test]
    fn both_forms_tell_the_same() {
        let catalog = crate::kinds::built_in();
        for (group, version) in group_versions(&catalog) {
            let list = resource_list(&catalog, &group, &version).expect("a group version");
            let old: Vec<&str> = list["resources"]
                .as_array()
                .expect("a list")
                .iter()
                .filter_map(|one| one["name"].as_str())
                .collect();
            let new = aggregated_version(&catalog, &group, &version);
            let mut names = Vec::new();
            for resource in new["resources"].as_array().expect("a list") {
                let name = resource["resource"].as_str().expect("a name");
                names.push(name.to_owned());
                for sub in resource["subresources"].as_array().into_iter().flatten() {
                    names.push(format!(
                        "{name}/{}",
                        sub["subresource"].as_str().expect("a name")
                    ));
                }
            }
            assert_eq!(names, old, "{group}/{version}");
        }
    }
}
