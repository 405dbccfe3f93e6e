//! Probes: `/health`, and the checks of `/livez` and `/readyz`, together and one
//! by one.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Response, StatusCode};
use mizzen_core::AlarmKind;
use mizzen_engine::Engine;

use super::{
    probes::Probes,
    respond::{error, plain, text},
};
use crate::server::{Error, Server};

/// What a probe's query says.
struct Query {
    exclude: BTreeSet<String>,
    serializable: bool,
    verbose: bool,
}

impl Query {
    /// Of several values the first counts, except of `exclude`. As Go's, which
    /// takes what is written wrongly for not written.
    fn read(query: Option<&str>) -> Self {
        let pairs: Vec<_> = query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.contains(';'))
            .flat_map(|pair| form_urlencoded::parse(pair.as_bytes()))
            .collect();
        let values = |wanted: &'static str| {
            let found = pairs.iter().filter(move |(name, _)| name == wanted);
            found.map(|(_, value)| value.as_ref())
        };
        Self {
            exclude: values("exclude")
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
            serializable: values("serializable").next() == Some("true"),
            verbose: values("verbose").next().is_some(),
        }
    }
}

fn alarm_name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}

/// `/health`: the older page, with its answer in JSON.
pub async fn whole<E: Engine>(
    server: &Server<E>,
    probes: &Probes,
    query: Option<&str>,
) -> Response<Bytes> {
    let unhealthy = unhealthy(server, &Query::read(query)).await;
    probes.whole(unhealthy.is_none());
    match unhealthy {
        None => text(r#"{"health":"true","reason":""}"#.to_owned()),
        Some(reason) => {
            let answer = serde_json::json!({"health": "false", "reason": reason}).to_string();
            tracing::warn!(output = answer, "/health error");
            error(StatusCode::SERVICE_UNAVAILABLE, &answer)
        }
    }
}

async fn unhealthy<E: Engine>(server: &Server<E>, query: &Query) -> Option<String> {
    let alarms = match server.known_alarms().await {
        Ok(alarms) => alarms,
        Err(error) => return Some(format!("RANGE ERROR:{error}")),
    };
    let mut names = alarms.iter().map(|alarm| alarm_name(alarm.kind));
    if let Some(name) = names.find(|name| !query.exclude.contains(*name)) {
        return Some(format!("ALARM {name}"));
    }
    if !query.serializable && !server.has_leader() {
        return Some("RAFT NO LEADER".to_owned());
    }
    let read = server.probe(query.serializable).await;
    read.err().map(|error| format!("RANGE ERROR:{error}"))
}

/// One thing that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    pub fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    async fn run<E: Engine>(self, server: &Server<E>) -> Result<(), String> {
        let text = |error: Error| error.to_string();
        match self {
            Check::DataCorruption => {
                let alarms = server.known_alarms().await.map_err(text)?;
                let corrupt = |alarm: &mizzen_core::Alarm| alarm.kind == AlarmKind::Corrupt;
                match alarms.iter().any(corrupt) {
                    true => Err("alarm activated: CORRUPT".to_owned()),
                    false => Ok(()),
                }
            }
            Check::SerializableRead => server.probe(true).await.map_err(text),
            Check::LinearizableRead => server.probe(false).await.map_err(text),
            Check::NonLearner => match server.is_learner() {
                true => Err("not supported for learner".to_owned()),
                false => Ok(()),
            },
        }
    }
}

/// A page of checks.
#[derive(Debug, PartialEq, Eq)]
pub struct Registry {
    pub name: &'static str,
    pub checks: &'static [Check],
}

/// Whether the process can go on, or is better started again.
pub const LIVEZ: Registry = Registry {
    name: "livez",
    checks: &[Check::SerializableRead],
};

/// Whether clients should be sent here.
pub const READYZ: Registry = Registry {
    name: "readyz",
    checks: &[
        Check::DataCorruption,
        Check::SerializableRead,
        Check::LinearizableRead,
        Check::NonLearner,
    ],
};

impl Registry {
    /// Whose page `path` is, and of which check alone if it is one's.
    pub fn find(path: &str) -> Option<(&'static Self, Option<Check>)> {
        let path = path.strip_prefix('/')?;
        [&LIVEZ, &READYZ].into_iter().find_map(|registry| {
            let rest = path.strip_prefix(registry.name)?;
            if rest.is_empty() {
                return Some((registry, None));
            }
            let wanted = rest.strip_prefix('/')?;
            let mut checks = registry.checks.iter();
            let only = checks.find(|check| check.name() == wanted)?;
            Some((registry, Some(*only)))
        })
    }

    pub async fn answer<E: Engine>(
        &self,
        server: &Server<E>,
        probes: &Probes,
        only: Option<Check>,
        query: Option<&str>,
    ) -> Response<Bytes> {
        let mut query = Query::read(query);
        let checks: Vec<Check> = match only {
            Some(check) => vec![check],
            None => {
                let all = self.checks.iter().copied();
                all.filter(|check| !query.exclude.remove(check.name()))
                    .collect()
            }
        };
        if only.is_none() && !query.exclude.is_empty() {
            // Checks come and go with versions: that is no reason to fail.
            let missing = format!("{:?}", query.exclude);
            tracing::warn!(missing, "some health checks cannot be excluded");
        }
        let (mut report, mut failed) = (String::new(), false);
        for check in checks {
            let name = check.name();
            let outcome = check.run(server).await;
            probes.check(self.name, name, outcome.is_ok());
            report += &match outcome {
                Ok(()) => format!("[+]{name} ok\n"),
                Err(reason) => {
                    failed = true;
                    format!("[-]{name} failed: {reason}\n")
                }
            };
        }
        if failed {
            tracing::warn!(path = self.name, reason = report, "health check error");
            return error(StatusCode::SERVICE_UNAVAILABLE, &report);
        }
        if !query.verbose {
            report.clear();
        }
        plain(report + "ok\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_has_a_page_and_nothing_else_has() {
        for registry in [&LIVEZ, &READYZ] {
            let page = format!("/{}", registry.name);
            assert_eq!(Registry::find(&page), Some((registry, None)));
            for check in registry.checks {
                let page = format!("{page}/{}", check.name());
                assert_eq!(Registry::find(&page), Some((registry, Some(*check))));
            }
        }
        for page in [
            "/",
            "/livez/",
            "/livez/non_learner",
            "/readyzx",
            "/readyz/x",
            "readyz",
        ] {
            assert_eq!(Registry::find(page), None, "{page}");
        }
    }

    #[test]
    fn queries_are_read_as_go_reads_them() {
        let query = Query::read(Some(
            "verbose&exclude=a&exclude=&exclude=b%20c&serializable=true",
        ));
        assert_eq!(
            query.exclude.iter().collect::<Vec<_>>(),
            ["a", "b c"].iter().collect::<Vec<_>>()
        );
        assert!(query.serializable && query.verbose);
        assert!(!Query::read(Some("serializable=false&serializable=true")).serializable);
        assert!(!Query::read(Some("verbose;x&serializable=True")).verbose);
        assert!(!Query::read(None).verbose);
    }
}
