//! The page: verdict, findings, charts, anomalies with their operations,
//! faults, and where the raw files are.

use super::chart::{Chart, Line, Span, svg};
use super::escape::escape;
use super::series::{Series, series};
use crate::check::{Anomaly, Finding, Verdict, overall};
use crate::clock::{SECOND, seconds};
use crate::history::History;
use crate::history::op::Op;
use crate::history::record::{Fault, Injected};
use crate::run::{HISTORY, LOGS};
use std::collections::HashMap;
use std::fmt::Write;

const STYLE: &str = "
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1140px; padding: 0 1rem; color: #1b1f24; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
code, pre { font: 13px/1.4 ui-monospace, monospace; background: #f3f4f6; border-radius: 4px; }
code { padding: 1px 4px; } pre { padding: .7rem; overflow-x: auto; white-space: pre-wrap; word-break: break-word; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: 4px 10px 4px 0; border-bottom: 1px solid #e3e6ea; vertical-align: top; }
.PASS { color: #14733b; } .VIOLATION { color: #b3261e; } .INCOMPLETE { color: #8a5a00; } .verdict { font-weight: 600; }
td:nth-child(-n+2), .faults td:nth-child(-n+3) { white-space: nowrap; }
svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: #57606a; } svg .grid { stroke: #e3e6ea; }
.key { display: inline-block; width: 12px; height: 12px; margin: 0 4px 0 14px; border-radius: 2px; vertical-align: -1px; }
.item { white-space: nowrap; }
.anomaly { border-left: 3px solid #b3261e; padding-left: 1rem; margin: 1rem 0; }
";

pub fn page(history: &History, findings: &[Finding]) -> String {
    let verdict = overall(findings);
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{}</title><style>{STYLE}</style>",
        verdict.name()
    );
    head(&mut out, history, verdict);
    table(&mut out, findings);
    charts(&mut out, history);
    anomalies(&mut out, history, findings);
    faults(&mut out, history);
    files(&mut out, history);
    out.push_str("</html>\n");
    out
}

fn head(out: &mut String, history: &History, verdict: Verdict) {
    let class = verdict.name();
    let _ = write!(
        out,
        "<h1>Fault-injection run: <span class=\"{class}\">{class}</span></h1>"
    );
    if let Some(meta) = &history.meta {
        let _ = write!(
            out,
            "<p>{} members of <code>{}</code>, version {}; workload {}, {} clients; faults: {}.</p><p>Repeat with:</p><pre>{}</pre>",
            meta.members,
            escape(&meta.binary),
            if meta.version.is_empty() {
                "unknown".into()
            } else {
                escape(&meta.version)
            },
            escape(&meta.workload),
            meta.clients,
            if meta.faults.is_empty() {
                "none".into()
            } else {
                escape(&meta.faults.join(", "))
            },
            escape(&meta.command)
        );
    }
}

fn table(out: &mut String, findings: &[Finding]) {
    out.push_str("<h2>Checks</h2><table><tr><th>verdict<th>check<th>counts<th>anomalies</tr>");
    for f in findings {
        let class = f.verdict.name();
        let gaps: String = f
            .gaps
            .iter()
            .map(|g| format!("<br><em>{}</em>", escape(g)))
            .collect();
        let _ = write!(
            out,
            "<tr><td class=\"verdict {class}\">{class}<td>{}<td>{}{gaps}<td>{}</tr>",
            f.check,
            escape(&f.summary),
            f.total
        );
    }
    out.push_str("</table>");
}

/// Families of faults and their colours.
const FAMILIES: [(&str, &str); 9] = [
    ("kill, loss of power", "#d1242f"),
    ("pause", "#8250df"),
    ("partition", "#bf5700"),
    ("delay, drip, reset", "#9a6700"),
    ("rolling restart", "#0969da"),
    ("compaction, defragmentation, leader moved", "#57606a"),
    ("membership", "#1a7f37"),
    ("disk and damage", "#bf3989"),
    ("clock", "#0a7ea4"),
];

/// The family of a kind of fault.
fn family(kind: &str) -> (&'static str, &'static str) {
    let number = match kind.split('-').next().unwrap_or_default() {
        "kill" | "power" => 0,
        "pause" => 1,
        "delay" | "drip" | "reset" | "corrupt" => 3,
        "rolling" => 4,
        "compact" | "defragment" | "move" => 5,
        "member" => 6,
        "disk" | "flip" | "truncate" => 7,
        "clock" => 8,
        _ => 2,
    };
    FAMILIES[number]
}

fn charts(out: &mut String, history: &History) {
    let Series { width, buckets } = series(history);
    let per_second = SECOND as f64 / width as f64;
    let rate = |of: fn(&super::series::Bucket) -> u64| {
        buckets
            .iter()
            .map(|b| Some(of(b) as f64 * per_second))
            .collect()
    };
    let latency = |of: fn(&super::series::Bucket) -> Option<u64>| {
        buckets
            .iter()
            .map(|b| of(b).map(|ns| ns as f64 / 1e6))
            .collect()
    };
    let spans: Vec<Span> = history
        .faults
        .iter()
        .filter(|f| f.injected != Injected::Skipped)
        .map(|f| Span {
            from: f.start,
            to: f.end,
            colour: family(&f.kind).1,
            title: format!("{} {:?}: {}", f.kind, f.members, f.detail),
        })
        .collect();
    let line = |name, colour, values| Line {
        name,
        colour,
        values,
    };
    let throughput = [line("successful", "#14733b", rate(|b| b.ok))];
    let failures = [
        line("failed for certain", "#9a6700", rate(|b| b.fail)),
        line("of unknown outcome", "#b3261e", rate(|b| b.unknown)),
    ];
    let latencies = [
        line("median", "#14733b", latency(|b| b.median)),
        line("99 %", "#0969da", latency(|b| b.p99)),
        line("longest", "#b3261e", latency(|b| b.longest)),
    ];
    shades(out, history);
    for (title, unit, lines, logarithmic) in [
        ("Throughput", "op/s", &throughput[..], false),
        (
            "Operations that did not succeed",
            "op/s",
            &failures[..],
            false,
        ),
        (
            "Latency of successful operations",
            "ms",
            &latencies[..],
            true,
        ),
    ] {
        let _ = write!(out, "<h2>{title}</h2><p>");
        for line in lines {
            let _ = write!(
                out,
                "<span class=\"item\"><span class=\"key\" style=\"background:{}\"></span>{}</span> ",
                line.colour, line.name
            );
        }
        out.push_str("</p>");
        out.push_str(&svg(&Chart {
            unit,
            bucket: width,
            lines,
            spans: &spans,
            logarithmic,
        }));
    }
}

/// What the shading of the charts below stands for.
fn shades(out: &mut String, history: &History) {
    let mut seen: Vec<_> = history.faults.iter().map(|f| family(&f.kind)).collect();
    seen.sort_unstable();
    seen.dedup();
    if seen.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Over time</h2><p>Shaded by fault, from its beginning to the members' recovery:",
    );
    for (name, colour) in seen {
        let _ = write!(
            out,
            "<span class=\"item\"><span class=\"key\" style=\"background:{colour};opacity:.4\"></span>{name}</span> "
        );
    }
    out.push_str("</p>");
}

fn anomalies(out: &mut String, history: &History, findings: &[Finding]) {
    let with: Vec<&Finding> = findings.iter().filter(|f| f.total > 0).collect();
    if with.is_empty() {
        return;
    }
    let ops: HashMap<u64, &Op> = history.ops.iter().map(|op| (op.id, op)).collect();
    out.push_str("<h2>Anomalies</h2>");
    for finding in with {
        let _ = write!(
            out,
            "<h3>{}: {} of {} shown</h3>",
            finding.check,
            finding.anomalies.len(),
            finding.total
        );
        for anomaly in &finding.anomalies {
            one(out, anomaly, &ops, &history.faults);
        }
    }
}

fn one(out: &mut String, anomaly: &Anomaly, ops: &HashMap<u64, &Op>, faults: &[Fault]) {
    let _ = write!(
        out,
        "<div class=\"anomaly\"><p>{}</p>",
        escape(&anomaly.why)
    );
    for op in anomaly.ops.iter().filter_map(|id| ops.get(id)) {
        let during: Vec<&str> = faults
            .iter()
            .filter(|f| f.injected != Injected::Skipped && f.start <= op.end && op.start <= f.end)
            .map(|f| f.kind.as_str())
            .collect();
        let text =
            |v: Result<String, serde_json::Error>| escape(&v.unwrap_or_else(|e| e.to_string()));
        let _ = write!(
            out,
            "<pre>operation {} · {} · client {} on m{} · {} s to {} s{}\n{}\n{}</pre>",
            op.id,
            op.load.name(),
            op.client,
            op.member,
            seconds(op.start),
            seconds(op.end),
            if during.is_empty() {
                String::new()
            } else {
                format!(" · during {}", escape(&during.join(", ")))
            },
            text(serde_json::to_string(&op.req)),
            text(serde_json::to_string(&op.out)),
        );
    }
    out.push_str("</div>");
}

fn faults(out: &mut String, history: &History) {
    if history.faults.is_empty() {
        return;
    }
    out.push_str("<h2>Faults</h2><table class=\"faults\"><tr><th>from<th>to<th>kind<th>members<th>leader hit<th>seen<th>detail</tr>");
    for f in &history.faults {
        let members: Vec<String> = f.members.iter().map(|m| format!("m{m}")).collect();
        let _ = write!(
            out,
            "<tr><td>{} s<td>{} s<td>{}<td>{}<td>{}<td>{:?}<td>{}</tr>",
            seconds(f.start),
            seconds(f.end),
            escape(&f.kind),
            members.join(" "),
            if f.hit_leader { "yes" } else { "no" },
            f.injected,
            escape(&f.detail)
        );
    }
    out.push_str("</table>");
}

fn files(out: &mut String, history: &History) {
    let _ = write!(
        out,
        "<h2>Raw evidence</h2><ul><li><a href=\"{HISTORY}\">{HISTORY}</a>: every operation, watch response, fault and exit, one a line"
    );
    let members = history.meta.as_ref().map_or(0, |m| m.members);
    for m in 0..members {
        let _ = write!(out, "<li><a href=\"{LOGS}/m{m}.log\">{LOGS}/m{m}.log</a>");
    }
    out.push_str("</ul>");
}
