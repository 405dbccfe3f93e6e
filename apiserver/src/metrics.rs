//! What the server counts of its requests, under upstream's names, in
//! Prometheus' text format. Knows counts and labels; must not know requests.
//!
//! Every label is one of the tables' own words, never a client's: the number of
//! series is bounded by the kinds, verbs and codes there are.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use crate::discovery;

/// Upstream's bounds of durations, in seconds.
const BOUNDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];
/// Linux counts a process's time in hundredths of a second.
const TICKS: f64 = 100.0;

/// What a request is about, as upstream labels it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Labels {
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub resource: Cow<'static, str>,
    pub subresource: &'static str,
    /// `cluster`, `namespace`, `resource` or nothing.
    pub scope: &'static str,
    /// `GET`, `LIST`, `WATCH`, `POST` and so on.
    pub verb: &'static str,
    /// `All` or nothing.
    pub dry_run: &'static str,
}

impl Labels {
    fn is_write(&self) -> bool {
        !matches!(self.verb, "GET" | "LIST" | "WATCH")
    }

    fn text(&self) -> String {
        format!(
            "component=\"apiserver\",group=\"{}\",resource=\"{}\",scope=\"{}\",subresource=\"{}\",verb=\"{}\",version=\"{}\"",
            self.group, self.resource, self.scope, self.subresource, self.verb, self.version
        )
    }
}

/// The requests of one set of labels.
#[derive(Default)]
struct Requests {
    codes: BTreeMap<u16, u64>,
    /// How many took no longer than each bound and longer than the one before;
    /// the last is of those beyond every bound.
    buckets: [u64; BOUNDS.len() + 1],
    seconds: f64,
}

/// All counts of one server.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<HashMap<Labels, Requests>>,
    reading: AtomicI64,
    writing: AtomicI64,
    watches: Mutex<BTreeMap<Labels, Watches>>,
}

#[derive(Default)]
struct Watches {
    open: i64,
    events: Arc<AtomicU64>,
}

/// A request under way; counted as such until it is dropped.
pub struct Flying<'a>(&'a AtomicI64);

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A watch under way; counted as such until it is dropped.
pub struct Watching {
    metrics: Arc<Metrics>,
    labels: Labels,
    started: std::time::Instant,
    events: Arc<AtomicU64>,
}

impl Watching {
    /// Counts events sent.
    pub fn sent(&self, events: u64) {
        self.events.fetch_add(events, Ordering::Relaxed);
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(watches) = self.metrics.watches.lock().get_mut(&self.labels) {
            watches.open -= 1;
        }
        self.metrics.done(&self.labels, 200, self.started.elapsed());
    }
}

impl Metrics {
    /// Counts a request that is not a watch as under way.
    pub fn flying(&self, labels: &Labels) -> Flying<'_> {
        let kind = if labels.is_write() {
            &self.writing
        } else {
            &self.reading
        };
        kind.fetch_add(1, Ordering::Relaxed);
        Flying(kind)
    }

    /// Counts a watch as under way.
    pub fn watching(self: &Arc<Self>, labels: &Labels) -> Watching {
        let mut watches = self.watches.lock();
        let watches = watches.entry(labels.clone()).or_default();
        watches.open += 1;
        Watching {
            metrics: self.clone(),
            labels: labels.clone(),
            started: std::time::Instant::now(),
            events: watches.events.clone(),
        }
    }

    /// Counts a request that is over.
    pub fn done(&self, labels: &Labels, code: u16, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        let mut requests = self.requests.lock();
        let requests = requests.entry(labels.clone()).or_default();
        *requests.codes.entry(code).or_default() += 1;
        requests.buckets[bucket] += 1;
        requests.seconds += seconds;
    }

    /// All counts as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.requests_text(&mut out);
        head(
            &mut out,
            "apiserver_current_inflight_requests",
            "gauge",
            "Requests under way that are not watches.",
        );
        for (kind, count) in [("mutating", &self.writing), ("readOnly", &self.reading)] {
            let count = count.load(Ordering::Relaxed);
            line(
                &mut out,
                "apiserver_current_inflight_requests",
                &format!("request_kind=\"{kind}\""),
                count,
            );
        }
        self.watches_text(&mut out);
        head(
            &mut out,
            "kubernetes_build_info",
            "gauge",
            "The version of Kubernetes whose API is spoken.",
        );
        let version = format!(
            "git_version=\"{}\",major=\"{}\",minor=\"{}\"",
            discovery::GIT_VERSION,
            discovery::MAJOR,
            discovery::MINOR
        );
        line(&mut out, "kubernetes_build_info", &version, 1);
        process_text(&mut out);
        out
    }

    fn requests_text(&self, out: &mut String) {
        let requests = self.requests.lock();
        let mut sorted: Vec<_> = requests.iter().collect();
        sorted.sort_unstable_by_key(|(labels, _)| (*labels).clone());
        head(
            out,
            "apiserver_request_total",
            "counter",
            "Requests that are over, by code.",
        );
        for (labels, requests) in &sorted {
            for (code, count) in &requests.codes {
                let labels = format!(
                    "code=\"{code}\",dry_run=\"{}\",{}",
                    labels.dry_run,
                    labels.text()
                );
                line(out, "apiserver_request_total", &labels, count);
            }
        }
        let name = "apiserver_request_duration_seconds";
        head(
            out,
            name,
            "histogram",
            "Seconds that requests took, watches from their begin to their end.",
        );
        for (labels, requests) in &sorted {
            let labels = format!("dry_run=\"{}\",{}", labels.dry_run, labels.text());
            let mut sum = 0;
            for (bound, count) in BOUNDS.iter().zip(&requests.buckets) {
                sum += count;
                let labels = format!("{labels},le=\"{bound}\"");
                line(out, &format!("{name}_bucket"), &labels, sum);
            }
            sum += requests.buckets[BOUNDS.len()];
            let all = format!("{labels},le=\"+Inf\"");
            line(out, &format!("{name}_bucket"), &all, sum);
            line(out, &format!("{name}_sum"), &labels, requests.seconds);
            line(out, &format!("{name}_count"), &labels, sum);
        }
    }

    fn watches_text(&self, out: &mut String) {
        let watches = self.watches.lock();
        head(
            out,
            "apiserver_longrunning_requests",
            "gauge",
            "Watches under way.",
        );
        for (labels, watches) in &*watches {
            line(
                out,
                "apiserver_longrunning_requests",
                &labels.text(),
                watches.open,
            );
        }
        // Watches of one kind differ in their scope; their events are told together.
        let mut events: BTreeMap<String, u64> = BTreeMap::new();
        for (labels, watches) in &*watches {
            let of = format!(
                "group=\"{}\",resource=\"{}\",version=\"{}\"",
                labels.group, labels.resource, labels.version
            );
            *events.entry(of).or_default() += watches.events.load(Ordering::Relaxed);
        }
        head(
            out,
            "apiserver_watch_events_total",
            "counter",
            "Events sent to watches.",
        );
        for (labels, count) in events {
            line(out, "apiserver_watch_events_total", &labels, count);
        }
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "{name}{{{labels}}} {value}");
}

/// The process's time and memory, where the system tells them.
fn process_text(out: &mut String) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields are counted after the name, which may hold anything in brackets.
    let mut fields = stat
        .rsplit_once(") ")
        .map_or("", |(_, rest)| rest)
        .split(' ')
        .skip(11);
    let mut ticks = || fields.next().and_then(|text| text.parse::<f64>().ok());
    if let (Some(user), Some(system)) = (ticks(), ticks()) {
        let name = "process_cpu_seconds_total";
        head(out, name, "counter", "Seconds of processor time used.");
        let _ = writeln!(out, "{name} {}", (user + system) / TICKS);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    if let Some(kilobytes) = kilobytes {
        let name = "process_resident_memory_bytes";
        head(out, name, "gauge", "Bytes of memory in use.");
        let _ = writeln!(out, "{name} {}", kilobytes << 10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_watches_are_counted() {
        let metrics = Arc::new(Metrics::default());
        let labels = Labels {
            version: "v1".into(),
            resource: "pods".into(),
            scope: "namespace",
            verb: "LIST",
            ..Labels::default()
        };
        let flying = metrics.flying(&labels);
        metrics.done(&labels, 200, Duration::from_millis(30));
        metrics.done(&labels, 200, Duration::from_secs(90));
        let watch = Labels {
            verb: "WATCH",
            ..labels
        };
        let watching = metrics.watching(&watch);
        watching.sent(3);
        let text = metrics.text();
        let of = "component=\"apiserver\",group=\"\",resource=\"pods\",scope=\"namespace\",subresource=\"\"";
        for expected in [
            format!(
                "apiserver_request_total{{code=\"200\",dry_run=\"\",{of},verb=\"LIST\",version=\"v1\"}} 2"
            ),
            format!(
                "apiserver_request_duration_seconds_bucket{{dry_run=\"\",{of},verb=\"LIST\",version=\"v1\",le=\"0.025\"}} 0"
            ),
            format!(
                "apiserver_request_duration_seconds_bucket{{dry_run=\"\",{of},verb=\"LIST\",version=\"v1\",le=\"0.05\"}} 1"
            ),
            format!(
                "apiserver_request_duration_seconds_count{{dry_run=\"\",{of},verb=\"LIST\",version=\"v1\"}} 2"
            ),
            "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 1".to_owned(),
            format!("apiserver_longrunning_requests{{{of},verb=\"WATCH\",version=\"v1\"}} 1"),
            "apiserver_watch_events_total{group=\"\",resource=\"pods\",version=\"v1\"} 3"
                .to_owned(),
        ] {
            assert!(
                text.lines().any(|line| line == expected),
                "{expected}:\n{text}"
            );
        }
        drop((flying, watching));
        let text = metrics.text();
        assert!(text.contains("{request_kind=\"readOnly\"} 0"));
        assert!(text.contains(&format!(
            "apiserver_longrunning_requests{{{of},verb=\"WATCH\",version=\"v1\"}} 0"
        )));
    }
}
