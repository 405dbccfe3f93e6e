//! Upstream's audit policy: how much of which requests is recorded.
//!
//! Knows requests by their attributes and who asks. Must not know how anything is
//! recorded.

use serde::Deserialize;

use crate::{authn::Identity, authz::Attributes, codec::yaml};

/// How much of a request is recorded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Deserialize)]
pub enum AuditLevel {
    #[default]
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl AuditLevel {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// What a request has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub enum Stage {
    RequestReceived,
    /// Of a watch alone: its events are to follow.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// What the policy says of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Extent {
    pub level: AuditLevel,
    /// One bit for each stage of which nothing is recorded.
    omitted: u8,
    pub omit_managed_fields: bool,
}

impl Extent {
    pub fn omits(self, stage: Stage) -> bool {
        self.omitted & bit(stage) != 0
    }
}

fn bit(stage: Stage) -> u8 {
    1 << stage as u8
}

fn bits(stages: &[Stage]) -> u8 {
    stages.iter().fold(0, |bits, stage| bits | bit(*stage))
}

/// Rules in their order: the first that fits decides.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    /// Where no rule fits, nothing is recorded.
    otherwise: Extent,
}

#[derive(Debug)]
struct Rule {
    verdict: Extent,
    when: RuleFile,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PolicyFile {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    rules: Vec<RuleFile>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleFile {
    level: AuditLevel,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

impl Policy {
    /// Reads a policy in YAML or JSON. Fields that it does not have are ignored, as
    /// upstream does after a warning.
    ///
    /// # Errors
    /// It is none, or upstream would not take it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (value, _) = yaml::read(text).map_err(|error| error.to_string())?;
        let file: PolicyFile = serde_json::from_value(value).map_err(|error| error.to_string())?;
        if (file.kind.as_str(), file.api_version.as_str()) != ("Policy", "audit.k8s.io/v1") {
            return Err(format!(
                "unknown group version field {}, Kind={} in policy",
                file.api_version, file.kind
            ));
        }
        if file.rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".to_owned());
        }
        for (index, rule) in file.rules.iter().enumerate() {
            rule.check()
                .map_err(|why| format!("rules[{index}].{why}"))?;
        }
        let omitted = bits(&file.omit_stages);
        let managed = file.omit_managed_fields;
        let rules = file.rules.into_iter().map(|rule| Rule {
            verdict: Extent {
                level: rule.level,
                omitted: omitted | bits(&rule.omit_stages),
                omit_managed_fields: rule.omit_managed_fields.unwrap_or(managed),
            },
            when: rule,
        });
        Ok(Self {
            rules: rules.collect(),
            otherwise: Extent {
                level: AuditLevel::None,
                omitted,
                omit_managed_fields: managed,
            },
        })
    }

    /// What is to be recorded of a request. `identity` is nobody's for one that
    /// shows nothing that holds.
    pub fn of(&self, identity: Option<&Identity>, asked: &Attributes<'_>) -> Extent {
        let rule = self
            .rules
            .iter()
            .find(|rule| rule.when.fits(identity, asked));
        rule.map_or(self.otherwise, |rule| rule.verdict)
    }
}

impl RuleFile {
    fn check(&self) -> Result<(), String> {
        for (index, url) in self.non_resource_urls.iter().enumerate() {
            let at = format!("nonResourceURLs[{index}]: Invalid value: {url:?}");
            if url != "*" && !url.starts_with('/') {
                return Err(format!(
                    "{at}: non-resource URL rules must begin with a '/' character"
                ));
            }
            let mut letters = url.chars();
            letters.next_back();
            if url != "*" && letters.any(|letter| letter == '*') {
                return Err(format!(
                    "{at}: non-resource URL wildcards '*' must be the final character of the rule"
                ));
            }
        }
        if self
            .resources
            .iter()
            .any(|one| !one.resource_names.is_empty() && one.resources.is_empty())
        {
            return Err(
                "resources.resourceNames: Invalid value: using resourceNames requires at least one resource".to_owned(),
            );
        }
        let of_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if !self.non_resource_urls.is_empty() && of_resources {
            return Err(
                "nonResourceURLs: Invalid value: rules cannot apply to both regular resources and non-resource URLs".to_owned(),
            );
        }
        Ok(())
    }

    fn fits(&self, identity: Option<&Identity>, asked: &Attributes<'_>) -> bool {
        let has = |list: &[String], text: &str| list.iter().any(|one| one == text);
        let user = |identity: &Identity| has(&self.users, &identity.user);
        if !self.users.is_empty() && !identity.is_some_and(user) {
            return false;
        }
        let group = |identity: &Identity| {
            let mut groups = identity.groups.iter();
            groups.any(|group| has(&self.user_groups, group))
        };
        if !self.user_groups.is_empty() && !identity.is_some_and(group) {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, asked.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return asked.is_resource
                && (self.namespaces.is_empty() || has(&self.namespaces, asked.namespace))
                && (self.resources.is_empty() || self.resources.iter().any(|one| one.fits(asked)));
        }
        if !self.non_resource_urls.is_empty() {
            let paths = &mut self.non_resource_urls.iter();
            return !asked.is_resource && paths.any(|spec| path_fits(asked.path, spec));
        }
        true
    }
}

fn path_fits(path: &str, spec: &str) -> bool {
    spec == "*"
        || spec == path
        || spec.ends_with('*') && path.starts_with(spec.trim_end_matches('*'))
}

impl GroupResources {
    fn fits(&self, asked: &Attributes<'_>) -> bool {
        if self.group != "*" && self.group != asked.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let named = self.resource_names.is_empty()
            || self.resource_names.iter().any(|name| *name == asked.name);
        named && self.resources.iter().any(|one| resource_fits(one, asked))
    }
}

fn resource_fits(spec: &str, asked: &Attributes<'_>) -> bool {
    if spec == "*" {
        return true;
    }
    let (resource, sub) = spec
        .split_once('/')
        .map_or((spec, None), |(a, b)| (a, Some(b)));
    match sub {
        None => resource == asked.resource && asked.subresource.is_empty(),
        Some("*") => resource == asked.resource,
        Some(sub) => {
            sub == asked.subresource
                && !sub.is_empty()
                && (resource == "*" || resource == asked.resource)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn policy(rules: &str) -> Result<Policy, String> {
        Policy::parse(&format!(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nomitManagedFields: true\nrules:\n{rules}"
        ))
    }

    fn asked<'a>(
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        sub: &'a str,
        name: &'a str,
    ) -> Attributes<'a> {
        Attributes {
            verb,
            is_resource: true,
            group,
            version: "v1",
            namespace: "one",
            resource,
            subresource: sub,
            name: Cow::Borrowed(name),
            ..Attributes::default()
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let policy = policy(
            r#"
- level: None
  users: ["system:kube-proxy"]
  verbs: [watch]
- level: None
  nonResourceURLs: ["/healthz*", /version]
- level: Metadata
  resources:
  - group: ""
    resources: [secrets, configmaps]
  - group: "*"
    resources: ["*/scale", "pods/*"]
- level: Request
  userGroups: ["system:nodes"]
  omitStages: [ResponseStarted]
- level: RequestResponse
  omitManagedFields: false
  namespaces: [one]
  resources: [{group: apps, resources: [deployments], resourceNames: [web]}]
"#,
        )
        .expect("a policy");
        let identity = |user: &str, groups: &[&str]| Identity {
            user: user.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..Identity::default()
        };
        let (proxy, node, other) = (
            identity("system:kube-proxy", &[]),
            identity("n", &["system:nodes"]),
            identity("o", &[]),
        );
        let level = |identity, asked: &Attributes<'_>| policy.of(Some(identity), asked).level;
        let secrets = asked("watch", "", "secrets", "", "");
        assert_eq!(level(&proxy, &secrets), AuditLevel::None);
        assert_eq!(level(&other, &secrets), AuditLevel::Metadata);
        assert_eq!(policy.of(None, &secrets).level, AuditLevel::Metadata);
        assert_eq!(
            level(&other, &asked("get", "", "secrets", "status", "")),
            AuditLevel::None
        );
        assert_eq!(
            level(
                &other,
                &asked("update", "apps", "deployments", "scale", "web")
            ),
            AuditLevel::Metadata
        );
        assert_eq!(
            level(&other, &asked("get", "", "pods", "log", "p")),
            AuditLevel::Metadata
        );
        assert_eq!(
            level(&other, &asked("get", "", "pods", "", "p")),
            AuditLevel::Metadata
        );
        let pods = asked("get", "", "services", "", "p");
        assert_eq!(level(&node, &pods), AuditLevel::Request);
        let node = policy.of(Some(&node), &pods);
        assert!(node.omits(Stage::RequestReceived) && node.omits(Stage::ResponseStarted));
        assert!(!node.omits(Stage::ResponseComplete) && node.omit_managed_fields);
        let web = policy.of(
            Some(&other),
            &asked("get", "apps", "deployments", "", "web"),
        );
        assert_eq!(
            (web.level, web.omit_managed_fields),
            (AuditLevel::RequestResponse, false)
        );
        assert_eq!(
            level(&other, &asked("get", "apps", "deployments", "", "db")),
            AuditLevel::None
        );
        let path = |path| Attributes {
            verb: "get",
            path,
            ..Attributes::default()
        };
        assert_eq!(level(&other, &path("/healthz/etcd")), AuditLevel::None);
    }

    #[test]
    fn what_upstream_refuses_is_refused() {
        for (rules, why) in [
            ("- level: Everything\n", "unknown variant"),
            ("- users: [a]\n", "missing field `level`"),
            ("- {level: None, omitStages: [Later]}\n", "unknown variant"),
            (
                "- {level: None, nonResourceURLs: [api]}\n",
                "must begin with a '/'",
            ),
            (
                "- {level: None, nonResourceURLs: [\"/a*b\"]}\n",
                "must be the final character",
            ),
            (
                "- {level: None, nonResourceURLs: [/a], namespaces: [b]}\n",
                "cannot apply to both",
            ),
            (
                "- {level: None, resources: [{resourceNames: [a]}]}\n",
                "requires at least one resource",
            ),
            (" []\n", "0 rules"),
        ] {
            let said = policy(rules).expect_err("it is refused");
            assert!(said.contains(why), "{said}");
        }
        assert!(
            Policy::parse("kind: Policy\napiVersion: audit.k8s.io/v1beta1\nrules: [{level: None}]")
                .is_err()
        );
    }
}
