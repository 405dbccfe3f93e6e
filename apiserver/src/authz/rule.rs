//! A rule of a role: what it allows, and whether others hold as much.

use serde::{Deserialize, Deserializer, Serialize};

use super::Attributes;

/// Everything.
const ALL: &str = "*";

/// What somebody may do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    #[serde(deserialize_with = "list")]
    pub verbs: Vec<String>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    #[serde(
        rename = "nonResourceURLs",
        deserialize_with = "list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub urls: Vec<String>,
}

/// An absent list may be null.
fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(from)?.unwrap_or_default())
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == ALL || one == wanted)
}

fn one(text: &str) -> Vec<String> {
    vec![text.to_owned()]
}

impl Rule {
    /// Every verb on every resource, and on every path.
    pub fn all() -> [Self; 2] {
        let resources = Self {
            verbs: one(ALL),
            api_groups: one(ALL),
            resources: one(ALL),
            ..Self::default()
        };
        let paths = Self {
            verbs: one(ALL),
            urls: one(ALL),
            ..Self::default()
        };
        [resources, paths]
    }

    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        if !has(&self.verbs, asked.verb) {
            return false;
        }
        if !asked.is_resource {
            return self.urls.iter().any(|url| url_covers(url, asked.path));
        }
        has(&self.api_groups, asked.group)
            && self
                .resources
                .iter()
                .any(|resource| names(resource, asked.resource, asked.subresource))
            && (self.resource_names.is_empty()
                || self.resource_names.iter().any(|name| *name == asked.name))
    }

    /// Rules of one verb, one resource and one name, or of one verb and one path.
    fn parts(&self) -> Vec<Self> {
        let mut parts = Vec::new();
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let part = Self {
                        verbs: one(verb),
                        api_groups: one(group),
                        resources: one(resource),
                        ..Self::default()
                    };
                    if self.resource_names.is_empty() {
                        parts.push(part);
                        continue;
                    }
                    parts.extend(self.resource_names.iter().map(|name| Self {
                        resource_names: one(name),
                        ..part.clone()
                    }));
                }
            }
        }
        for url in &self.urls {
            parts.extend(self.verbs.iter().map(|verb| Self {
                verbs: one(verb),
                urls: one(url),
                ..Self::default()
            }));
        }
        parts
    }

    /// Whether whoever has this rule has that one, which is a part.
    fn covers(&self, part: &Self) -> bool {
        let all = |own: &[String], wanted: &[String]| {
            own.iter().any(|one| one == ALL) || wanted.iter().all(|one| own.contains(one))
        };
        all(&self.verbs, &part.verbs)
            && all(&self.api_groups, &part.api_groups)
            && part.resources.iter().all(|wanted| {
                self.resources.iter().any(|own| {
                    own == ALL
                        || own == wanted
                        || wanted.split_once('/').is_some_and(|(_, sub)| {
                            own.strip_prefix("*/").is_some_and(|own| own == sub)
                        })
                })
            })
            && (self.resource_names.is_empty()
                || !part.resource_names.is_empty()
                    && part
                        .resource_names
                        .iter()
                        .all(|name| self.resource_names.contains(name)))
            && part
                .urls
                .iter()
                .all(|url| self.urls.iter().any(|own| own == url || ends(own, url)))
    }

    /// As refusals write it.
    fn text(&self) -> String {
        let fields = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let fields = fields.iter().filter(|(_, list)| !list.is_empty());
        let fields: Vec<String> = fields
            .map(|(name, list)| {
                let list: Vec<String> = list.iter().map(|one| format!("{one:?}")).collect();
                format!("{name}:[{}]", list.join(" "))
            })
            .collect();
        format!("{{{}}}", fields.join(", "))
    }
}

fn url_covers(own: &str, asked: &str) -> bool {
    own == ALL || own == asked || ends(own, asked)
}

/// Whether it ends in a star and begins as that.
fn ends(own: &str, asked: &str) -> bool {
    own.ends_with('*') && asked.starts_with(own.trim_end_matches('*'))
}

/// Whether a rule's resource is what is asked for.
fn names(own: &str, resource: &str, sub: &str) -> bool {
    if own == ALL {
        return true;
    }
    if sub.is_empty() {
        return own == resource;
    }
    let Some((first, rest)) = own.split_once('/') else {
        return false;
    };
    rest == sub && (first == resource || first == ALL)
}

/// What those who have `held` lack of `wanted`, as upstream writes it, a line
/// for each; empty when they lack nothing.
pub fn lacking(held: &[Rule], wanted: &[Rule]) -> Vec<String> {
    let parts = wanted.iter().flat_map(Rule::parts);
    let missing = parts.filter(|part| !held.iter().any(|own| own.covers(part)));
    // Those that differ in their verbs alone are one.
    let mut whole: Vec<Rule> = Vec::new();
    for part in missing {
        let same = |one: &&mut Rule| {
            part.urls.is_empty()
                && one.urls.is_empty()
                && one.api_groups == part.api_groups
                && one.resources == part.resources
                && one.resource_names == part.resource_names
        };
        match whole.iter_mut().find(same) {
            Some(one) => one.verbs.extend(part.verbs),
            None => whole.push(part),
        }
    }
    let mut lines: Vec<String> = whole.iter().map(Rule::text).collect();
    lines.sort();
    lines.dedup();
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rule(value: Value) -> Rule {
        serde_json::from_value(value).expect("a rule")
    }

    fn asked(
        verb: &'static str,
        resource: &'static str,
        name: &'static str,
    ) -> Attributes<'static> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            verb,
            is_resource: true,
            resource,
            subresource,
            name: name.into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn a_rule_allows_what_it_names() {
        let pods = rule(
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "*/scale"], "resourceNames": null}),
        );
        assert!(pods.allows(&asked("get", "pods", "a")));
        assert!(!pods.allows(&asked("list", "pods", "")));
        assert!(!pods.allows(&asked("get", "pods/log", "a")));
        assert!(pods.allows(&asked("get", "anything/scale", "a")));
        assert!(!pods.allows(&asked("get", "scale", "a")));
        let one = rule(
            json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "resourceNames": ["a"]}),
        );
        assert!(one.allows(&asked("delete", "pods/x", "a")));
        assert!(!one.allows(&asked("list", "pods", "")));
        let paths = rule(json!({"verbs": ["get"], "nonResourceURLs": ["/healthz/*", "/version"]}));
        let path = |path| Attributes {
            verb: "get",
            path,
            ..Attributes::default()
        };
        assert!(paths.allows(&path("/healthz/etcd")) && paths.allows(&path("/version")));
        assert!(!paths.allows(&path("/healthz")) && !paths.allows(&asked("get", "pods", "")));
    }

    #[test]
    fn what_is_lacking_is_told() {
        let held = [rule(
            json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "*/status"]}),
        )];
        let wanted = |verbs: Value, resources: Value| {
            let rule = rule(json!({"verbs": verbs, "apiGroups": [""], "resources": resources}));
            lacking(&held, &[rule])
        };
        assert!(wanted(json!(["get"]), json!(["pods", "nodes/status"])).is_empty());
        assert_eq!(
            wanted(
                json!(["get", "update", "delete"]),
                json!(["pods", "secrets"])
            ),
            [
                "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"update\" \"delete\"]}",
                "{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"update\" \"delete\"]}",
            ]
        );
        assert_eq!(
            lacking(&held, &Rule::all()),
            [
                "{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}",
                "{NonResourceURLs:[\"*\"], Verbs:[\"*\"]}"
            ]
        );
        assert!(lacking(&Rule::all(), &held).is_empty());
        let named = rule(
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}),
        );
        assert!(lacking(&held, std::slice::from_ref(&named)).is_empty());
        let all = rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}));
        assert_eq!(lacking(&[named], &[all]).len(), 1);
    }
}
