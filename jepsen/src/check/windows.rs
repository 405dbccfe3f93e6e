//! Watches of a while, each against what the replay says every revision did:
//! nothing of its range is left out, repeated, split or out of order from the
//! first revision asked for to the last one told, progress notifications
//! included; filters, previous pairs and cancellations as asked.

use super::Finding;
use super::numbers::Windows as Faults;
use super::watch::{Floors, difference, sorted};
use crate::clock::seconds;
use crate::history::History;
use crate::history::op::{Outcome, Request};
use crate::history::record::{Event, Window};
use std::collections::BTreeMap;

type Done = BTreeMap<i64, Vec<Event>>;

pub fn check(history: &History, done: &Done) -> Finding {
    let mut finding = Finding::new("watch-windows");
    let floors = Floors::of(history);
    let faults = Faults::of(&history.faults);
    let mut events = 0;
    let (mut progress, mut answered, mut broken) = (0, 0, 0);
    for window in &history.windows {
        events += window.parts.iter().map(|p| p.events.len()).sum::<usize>();
        progress += window.parts.iter().filter(|p| p.events.is_empty()).count();
        answered += usize::from(window.answered);
        broken += usize::from(window.broken.is_some());
        let why = judge(window, done, floors.at(window.end), history);
        if let Some(why) = why.or_else(|| stalled(window, &faults)) {
            let from = window.from;
            finding.violation(
                format!(
                    "the watch of {:?} on m{} from revision {from} on: {why}",
                    window.key, window.member
                ),
                &[],
            );
        }
    }
    finding.summary = format!(
        "windows={} answered={answered} broken={broken} events={events} progress={progress}",
        history.windows.len()
    );
    finding.rests_on("windows with an answered last question", answered);
    finding.rests_on("events in windows", events);
    finding
}

/// Whether a watch was refused, broke off or fell silent with no fault about.
fn stalled(window: &Window, faults: &Faults) -> Option<String> {
    if let Some(error) = &window.broken {
        let about = faults.overlap(window.start, window.end);
        return (!about).then(|| format!("it broke off without a fault: {error}"));
    }
    let silent = window.asked > 0 && !window.answered;
    let about = faults.overlap(window.asked, window.end);
    (silent && !about).then(|| {
        format!(
            "nobody answered when it was asked for its progress from {} s to {} s",
            seconds(window.asked),
            seconds(window.end)
        )
    })
}

/// The first thing that is wrong with a window.
fn judge(window: &Window, done: &Done, floor: i64, history: &History) -> Option<String> {
    if window.created == 0 {
        return None;
    }
    let begin = match window.from {
        0 => window.created + 1,
        from => from,
    };
    // Everything in the range up to here was delivered or did not happen.
    let mut told = begin - 1;
    for part in &window.parts {
        if let Some(compact) = part.canceled {
            return canceled(window, told + 1, compact, history);
        }
        if part.events.is_empty() {
            // Progress before the first revision asked for says nothing.
            if part.rev > told {
                if let Some(why) = silent(window, done, told + 1, part.rev) {
                    return Some(format!("progress to revision {} came, but {why}", part.rev));
                }
                told = part.rev;
            }
            continue;
        }
        for shown in part.events.chunk_by(|a, b| a.kv.modified == b.kv.modified) {
            let rev = shown[0].kv.modified;
            if rev <= told {
                return Some(format!(
                    "revision {rev} is shown after everything up to {told} was"
                ));
            }
            if rev > part.rev {
                return Some(format!(
                    "revision {rev} is shown under header revision {}",
                    part.rev
                ));
            }
            if let Some(why) = silent(window, done, told + 1, rev - 1) {
                return Some(format!("before revision {rev}, {why}"));
            }
            let wanted = wanted(window, done, rev);
            let lacks = !window.prev || rev <= floor;
            if let Some(why) = difference(&sorted(shown), &wanted, lacks) {
                return Some(format!("at revision {rev}: {why}"));
            }
            if !window.prev && shown.iter().any(|e| e.prev.is_some()) {
                return Some(format!(
                    "revision {rev} shows a previous pair nobody asked for"
                ));
            }
            told = rev;
        }
    }
    None
}

/// Whether something between two revisions should have been shown.
fn silent(window: &Window, done: &Done, from: i64, to: i64) -> Option<String> {
    if from > to {
        return None;
    }
    let missing = done
        .range(from..=to)
        .map(|(rev, _)| *rev)
        .find(|rev| !wanted(window, done, *rev).is_empty());
    missing.map(|rev| format!("revision {rev} was left out"))
}

/// What a revision did in the window's range, less what it filters out.
fn wanted<'a>(window: &Window, done: &'a Done, rev: i64) -> Vec<&'a Event> {
    let within = |key: &str| match window.range_end.as_str() {
        "" => key == window.key,
        "\0" => key >= window.key.as_str(),
        end => key >= window.key.as_str() && key < end,
    };
    let events = done.get(&rev).map_or(&[][..], Vec::as_slice);
    let mut wanted: Vec<&Event> = events
        .iter()
        .filter(|e| within(&e.kv.key))
        .filter(|e| {
            !(if e.delete {
                window.no_delete
            } else {
                window.no_put
            })
        })
        .collect();
    wanted.sort_by(|a, b| a.kv.key.cmp(&b.kv.key));
    wanted
}

/// A watch may be canceled for a compaction above what it still needs.
fn canceled(window: &Window, next: i64, compact: i64, history: &History) -> Option<String> {
    let asked = history.ops.iter().any(|op| {
        let may = !matches!(op.out, Outcome::Fail { .. }) && op.start < window.end;
        matches!(op.req, Request::Compact { rev } if rev == compact && may)
    });
    if compact == 0 {
        Some("it was canceled without a reason".into())
    } else if !asked {
        Some(format!(
            "it was canceled for a compaction at {compact} that nobody had asked for"
        ))
    } else if next >= compact {
        Some(format!(
            "it was canceled for a compaction at {compact}, though it needed nothing below revision {next}"
        ))
    } else {
        None
    }
}
