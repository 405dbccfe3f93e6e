//! Runs cases against both servers, each in a namespace of its own.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use futures::stream::{self, StreamExt as _};
use http::Method;
use serde_json::{Value, json};

use super::case::{Action, Case, CaseStep};
use super::compare::{Answered, Mismatch, differences};
use super::generate::Served;
use super::samples::Samples;
use super::side::Party;
use super::upstream::{TOKEN, Upstream};
use crate::apiserver::ApiServer;
use crate::https::Https;

/// Cases at a time.
const AT_ONCE: usize = 8;

/// Both servers.
#[derive(Debug)]
pub struct Servers {
    pub upstream: Upstream,
    pub ours: ApiServer,
}

/// A difference and the step that met it, `group/case/number`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Found {
    pub step: String,
    pub request: String,
    pub difference: Mismatch,
}

impl Found {
    /// The case it was met in.
    pub fn case(&self) -> &str {
        self.step.rsplit_once('/').map_or("", |(case, _)| case)
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Mismatch {
            path,
            upstream,
            ours,
        } = &self.difference;
        write!(
            out,
            "{} [{}]: {path}: upstream {upstream}, ours {ours}",
            self.step, self.request
        )
    }
}

/// What a group's cases came to.
#[derive(Clone, Copy, Default, Debug)]
pub struct GroupTally {
    pub cases: usize,
    pub steps: usize,
    /// Steps with a difference.
    pub differing: usize,
    pub differences: usize,
    /// Steps after one that succeeded on one side alone: what they say follows
    /// from it.
    pub not_reached: usize,
}

/// What all came to.
#[derive(Clone, Default, Debug)]
pub struct Report {
    pub groups: BTreeMap<String, GroupTally>,
    pub findings: Vec<Found>,
}

struct Ran {
    case: Case,
    findings: Vec<Found>,
    reached: usize,
}

/// Runs them all.
///
/// # Errors
/// A server cannot be reached, or a case is not written as it should be.
pub async fn run(
    servers: &Servers,
    cases: Vec<Case>,
    samples: &Samples,
    print: bool,
) -> Result<Report> {
    let at_once = if print { 1 } else { AT_ONCE };
    let mut ran: Vec<Ran> = stream::iter(cases)
        .map(|case| async move {
            let id = case.id();
            one(servers, case, samples, print).await.context(id)
        })
        .buffer_unordered(at_once)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<Result<_>>()?;
    ran.sort_by_key(|ran| ran.case.id());
    let mut report = Report::default();
    for ran in ran {
        let tally = report.groups.entry(ran.case.group.clone()).or_default();
        tally.cases += 1;
        tally.steps += ran.reached;
        tally.not_reached += ran.case.steps.len() - ran.reached;
        tally.differences += ran.findings.len();
        let mut steps: Vec<_> = ran.findings.iter().map(|finding| &finding.step).collect();
        steps.dedup();
        tally.differing += steps.len();
        report.findings.extend(ran.findings);
    }
    Ok(report)
}

/// Lists the kinds once on both whose history a server keeps only from the first
/// request for it: those whose objects are kept for a time.
///
/// # Errors
/// A server does not answer.
pub async fn warm(servers: &Servers, samples: &Samples) -> Result<()> {
    let ours = Https::connect(&servers.ours).await?;
    for https in [servers.upstream.connect().await?, ours] {
        let mut party = Party::new(https, TOKEN, "default", false);
        for sample in samples.all().iter().filter(|one| one.plural == "events") {
            let path = format!("{}?resourceVersion=0", sample.everywhere());
            party.run(&CaseStep::new("GET", path), samples).await?;
        }
    }
    Ok(())
}

async fn one(servers: &Servers, case: Case, samples: &Samples, print: bool) -> Result<Ran> {
    let namespace = case.namespace();
    let mut upstream = Party::new(servers.upstream.connect().await?, TOKEN, &namespace, print);
    let ours = Https::connect(&servers.ours).await?;
    let mut ours = Party::new(ours, TOKEN, &namespace, print);
    let made = CaseStep::new("POST", "/api/v1/namespaces")
        .body(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "${ns}"}}));
    for side in [&mut upstream, &mut ours] {
        let answered = side.run(&made, samples).await?;
        anyhow::ensure!(
            answered.code == 201,
            "the namespace: {} {}",
            answered.code,
            answered.body
        );
    }
    let mut findings = Vec::new();
    let mut reached = 0;
    for (index, step) in case.steps.iter().enumerate() {
        let number = format!("{}/{}", case.id(), index + 1);
        if print {
            println!("{number}");
        }
        let (left, right) =
            futures::future::try_join(upstream.run(step, samples), ours.run(step, samples))
                .await
                .context(number.clone())?;
        reached += 1;
        let found = differences(&left, &right, &step.compared);
        findings.extend(found.into_iter().map(|difference| Found {
            step: number.clone(),
            request: format!("{} {}", step.method, step.path),
            difference,
        }));
        if parted(step, &left, &right) {
            break;
        }
    }
    release(&case, [&mut upstream, &mut ours], samples).await?;
    Ok(Ran {
        case,
        findings,
        reached,
    })
}

/// Whether the servers hold different objects now.
fn parted(step: &CaseStep, upstream: &Answered, ours: &Answered) -> bool {
    step.action == Action::Request
        && step.method != "GET"
        && !step.path.contains("dryRun=")
        && upstream.succeeded() != ours.succeeded()
}

/// Addresses of services are few.
async fn release(case: &Case, parties: [&mut Party; 2], samples: &Samples) -> Result<()> {
    if case.steps.iter().any(|step| step.path.contains("services")) {
        let step = CaseStep::new("DELETE", "/api/v1/namespaces/${ns}/services");
        for party in parties {
            party.run(&step, samples).await?;
        }
    }
    Ok(())
}

/// A document that upstream serves.
async fn document(upstream: &Upstream, path: &str) -> Result<Value> {
    let mut headers = http::HeaderMap::new();
    headers.insert("authorization", http::HeaderValue::from_static(TOKEN));
    let https = upstream.connect().await?;
    let answer = https.send(Method::GET, path, &headers, bytes::Bytes::new());
    answer.await?.json()
}

/// The OpenAPI v3 of a group version.
///
/// # Errors
/// Upstream does not answer.
pub async fn openapi(upstream: &Upstream, api_version: &str) -> Result<Value> {
    let root = if api_version.contains('/') {
        "apis"
    } else {
        "api"
    };
    document(upstream, &format!("/openapi/v3/{root}/{api_version}")).await
}

/// What upstream says it serves, groups in its order.
///
/// # Errors
/// It does not answer.
pub async fn served(upstream: &Upstream) -> Result<Vec<Served>> {
    let groups = document(upstream, "/apis").await?;
    let mut versions = vec![(String::new(), "v1".to_owned(), "/api/v1".to_owned())];
    for group in groups["groups"].as_array().context("groups")? {
        let name = group["name"].as_str().context("a name")?;
        for version in group["versions"].as_array().context("versions")? {
            let version = version["version"].as_str().context("a version")?;
            versions.push((
                name.to_owned(),
                version.to_owned(),
                format!("/apis/{name}/{version}"),
            ));
        }
    }
    let mut served = Vec::new();
    for (group, version, path) in versions {
        let list = document(upstream, &path).await?;
        for resource in list["resources"].as_array().context("resources")? {
            let verbs = resource["verbs"].as_array().context("verbs")?.iter();
            let verbs = verbs.filter_map(Value::as_str).map(str::to_owned);
            served.push(Served {
                group: group.clone(),
                version: version.clone(),
                name: resource["name"].as_str().context("a name")?.to_owned(),
                verbs: verbs.collect(),
            });
        }
    }
    Ok(served)
}
