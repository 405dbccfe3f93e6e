//! Flow schemas and priority levels as objects, made into what decides: which level
//! a request belongs to, and how the seats are shared out.

use std::{collections::BTreeMap, sync::Arc};

use http::HeaderValue;
use serde::Deserialize;

use super::seats::{Excess, Share};
use crate::{authn::Identity, authz::Attributes, limits};

/// Objects of both kinds, by name.
#[derive(Default)]
pub(super) struct Objects {
    pub schemas: BTreeMap<Box<str>, FlowSchema>,
    pub levels: BTreeMap<Box<str>, PriorityLevel>,
}

#[derive(Clone, Deserialize)]
pub(super) struct FlowSchema {
    metadata: Meta,
    spec: SchemaSpec,
}

#[derive(Clone, Deserialize)]
pub(super) struct PriorityLevel {
    metadata: Meta,
    spec: LevelSpec,
}

#[derive(Clone, Default, Deserialize)]
struct Meta {
    name: String,
    #[serde(default)]
    uid: String,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SchemaSpec {
    priority_level_configuration: Named,
    #[serde(default)]
    matching_precedence: i64,
    distinguisher_method: Option<Typed>,
    #[serde(default)]
    rules: Vec<RuleSpec>,
}

#[derive(Clone, Deserialize)]
struct Named {
    name: String,
}

#[derive(Clone, Deserialize)]
struct Typed {
    #[serde(rename = "type")]
    method: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RuleSpec {
    subjects: Vec<Subject>,
    resource_rules: Vec<ResourceRule>,
    non_resource_rules: Vec<PathRule>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Subject {
    user: Option<NamedIn>,
    group: Option<NamedIn>,
    service_account: Option<NamedIn>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct NamedIn {
    namespace: String,
    name: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    cluster_scope: bool,
    namespaces: Vec<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct PathRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    urls: Vec<String>,
}

#[derive(Clone, Deserialize)]
struct LevelSpec {
    limited: Option<Limited>,
    exempt: Option<Limited>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Limited {
    nominal_concurrency_shares: Option<i64>,
    lendable_percent: Option<i64>,
    borrowing_limit_percent: Option<i64>,
    limit_response: Option<Response>,
}

#[derive(Clone, Deserialize)]
struct Response {
    #[serde(rename = "type")]
    kind: String,
    queuing: Option<Queuing>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Queuing {
    queues: i64,
    hand_size: i64,
    queue_length_limit: i64,
}

/// How flows of a schema are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    Nothing,
    User,
    Namespace,
}

/// A schema, ready for requests.
pub(super) struct Schema {
    pub name: String,
    /// What answers tell of it and of its level.
    pub uids: Option<(HeaderValue, HeaderValue)>,
    pub level: Arc<str>,
    pub exempt: bool,
    by: By,
    rules: Vec<RuleSpec>,
}

impl Schema {
    /// The flow within the schema.
    pub fn flow<'a>(&self, identity: &'a Identity, asked: &Attributes<'a>) -> &'a str {
        match self.by {
            By::Nothing => "",
            By::User => &identity.user,
            By::Namespace => asked.namespace,
        }
    }

    fn fits(&self, identity: &Identity, asked: &Attributes<'_>) -> bool {
        self.rules.iter().any(|rule| rule.fits(identity, asked))
    }
}

/// All schemas that have a level, in the order in which they are asked.
#[derive(Default)]
pub(super) struct Rules(Vec<Schema>);

impl Rules {
    pub fn new(objects: &Objects) -> Self {
        let mut all: Vec<&FlowSchema> = objects.schemas.values().collect();
        all.sort_by(|one, other| {
            let key = |schema: &FlowSchema| schema.spec.matching_precedence;
            (key(one), &one.metadata.name).cmp(&(key(other), &other.metadata.name))
        });
        let schemas = all.into_iter().filter_map(|schema| {
            let name = &schema.spec.priority_level_configuration.name;
            // One whose level is not there takes no part.
            let level = objects.levels.get(name.as_str())?;
            let uid = |meta: &Meta| {
                let uid = (!meta.uid.is_empty()).then(|| HeaderValue::from_str(&meta.uid));
                uid?.ok()
            };
            let method = schema.spec.distinguisher_method.as_ref();
            Some(Schema {
                name: schema.metadata.name.clone(),
                uids: uid(&schema.metadata).zip(uid(&level.metadata)),
                level: level.metadata.name.as_str().into(),
                exempt: level.spec.limited.is_none(),
                by: match method.map(|method| method.method.as_str()) {
                    Some("ByUser") => By::User,
                    Some("ByNamespace") => By::Namespace,
                    _ => By::Nothing,
                },
                rules: schema.spec.rules.clone(),
            })
        });
        Self(schemas.collect())
    }

    /// The first schema that a request fits.
    pub fn of(&self, identity: &Identity, asked: &Attributes<'_>) -> Option<&Schema> {
        self.0.iter().find(|schema| schema.fits(identity, asked))
    }
}

/// The seats of a server, shared out by upstream's formula. What a level does not
/// lend is its own.
pub(super) fn shares(objects: &Objects, total: usize) -> BTreeMap<Arc<str>, Share> {
    let limited = objects.levels.values().filter_map(|level| {
        let spec = level.spec.limited.as_ref()?;
        Some((&level.metadata.name, spec))
    });
    let limited: Vec<(&String, &Limited)> = limited.collect();
    let share = |spec: &Limited| to_count(spec.nominal_concurrency_shares.unwrap_or(30));
    let exempt = objects
        .levels
        .values()
        .filter_map(|level| level.spec.exempt.as_ref());
    let exempt = exempt.map(|spec| to_count(spec.nominal_concurrency_shares.unwrap_or(0)));
    let sum = limited.iter().map(|(_, spec)| share(spec)).sum::<usize>() + exempt.sum::<usize>();
    let mut left = total;
    let shares = limited.into_iter().map(|(name, spec)| {
        let nominal = (total * share(spec)).div_ceil(sum.max(1));
        let lent = to_count(spec.lendable_percent.unwrap_or(0)).min(100);
        // Upstream rounds what is lent; together they have no more than there is.
        let own = (nominal - (nominal * lent + 50) / 100).min(left);
        left -= own;
        let most = match spec.borrowing_limit_percent {
            None => total,
            Some(percent) => (nominal + (nominal * to_count(percent) + 50) / 100).min(total),
        };
        let excess = match &spec.limit_response {
            Some(Response {
                kind,
                queuing: Some(queuing),
            }) if kind == "Queue" => Excess::Queue {
                queues: to_count(queuing.queues).clamp(1, limits::QUEUES_MAX),
                hand: to_count(queuing.hand_size).clamp(1, limits::QUEUES_MAX),
                length: to_count(queuing.queue_length_limit),
            },
            _ => Excess::Reject,
        };
        (name.as_str().into(), Share { own, most, excess })
    });
    shares.collect()
}

fn to_count(number: i64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

fn has(list: &[String], text: &str) -> bool {
    list.iter().any(|one| one == "*" || one == text)
}

impl RuleSpec {
    fn fits(&self, identity: &Identity, asked: &Attributes<'_>) -> bool {
        let about = match asked.is_resource {
            true => self.resource_rules.iter().any(|rule| rule.fits(asked)),
            false => self.non_resource_rules.iter().any(|rule| rule.fits(asked)),
        };
        about && self.subjects.iter().any(|subject| subject.is(identity))
    }
}

impl Subject {
    fn is(&self, identity: &Identity) -> bool {
        if let Some(user) = &self.user {
            return user.name == "*" || user.name == identity.user;
        }
        if let Some(group) = &self.group {
            return group.name == "*" || identity.is_in(&group.name);
        }
        let Some(account) = &self.service_account else {
            return false;
        };
        let rest = identity.user.strip_prefix("system:serviceaccount:");
        rest.and_then(|rest| rest.split_once(':'))
            .is_some_and(|(namespace, name)| {
                namespace == account.namespace && (account.name == "*" || account.name == name)
            })
    }
}

impl ResourceRule {
    fn fits(&self, asked: &Attributes<'_>) -> bool {
        if !has(&self.verbs, asked.verb) || !has(&self.api_groups, asked.group) {
            return false;
        }
        let named = |one: &String| match one.split_once('/') {
            _ if one == "*" => true,
            None => one == asked.resource && asked.subresource.is_empty(),
            Some((resource, sub)) => resource == asked.resource && sub == asked.subresource,
        };
        if !self.resources.iter().any(named) {
            return false;
        }
        match asked.namespace {
            "" => self.cluster_scope,
            namespace => has(&self.namespaces, namespace),
        }
    }
}

impl PathRule {
    fn fits(&self, asked: &Attributes<'_>) -> bool {
        let path = |url: &String| {
            url == "*"
                || url == asked.path
                || url
                    .strip_suffix('*')
                    .is_some_and(|start| asked.path.starts_with(start))
        };
        has(&self.verbs, asked.verb) && self.urls.iter().any(path)
    }
}
