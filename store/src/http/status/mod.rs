//! `/status`: how this member and its cluster are, for a person. What programs
//! want of it is in `/metrics`.

mod html;
mod rates;

use std::{
    fmt::Display,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::Response;
use mizzen_counters::Distribution;
use mizzen_engine::Engine;
use tokio::time::Instant;
use tonic::Code;

use super::{Shared, respond::content};
use crate::{
    grpc::{CODES, CallFigures},
    limits,
    server::{Figures, MemberFigures, Server},
    version,
};
use html::{Cell, Html};
pub use rates::Rates;

const HTML: &str = "text/html; charset=utf-8";
const DAY: u64 = 86_400;
/// A certificate that ends so soon is told as bad news.
const SOON: i64 = 7 * DAY as i64;

pub fn page<E: Engine>(server: &Arc<Server<E>>, shared: &Shared) -> Response<Bytes> {
    let (calls, ..) = shared.calls.read();
    let started = calls.iter().map(|call| call.started).collect();
    let recent = shared.rates.look(Instant::now(), started);
    let figures = server.figures();
    let members = server.member_figures();
    let own = members.iter().find(|member| member.own);
    let name = own.map_or("", |own| own.member.name.as_str());
    let mut page = Html::new(&format!("Mizzen, member {name}"), limits::STATUS_REFRESH_S);
    page.paragraph(&summary(&figures, &members));
    members_table(&mut page, &members);
    store_table(&mut page, &figures);
    calls_table(&mut page, &calls, recent.as_ref());
    refusals(&mut page, &calls, (shared.stopped)());
    certificates(&mut page, (shared.certificates)());
    content(HTML, page.finish())
}

fn summary(figures: &Figures, members: &[MemberFigures]) -> String {
    let leader = members.iter().find(|member| member.leads);
    let leader = match leader {
        _ if !figures.has_leader => "No leader is known that can be reached".to_owned(),
        Some(leader) if leader.own => "This member leads".to_owned(),
        Some(leader) => format!("{} leads", named(leader)),
        None => "The leader is no member yet".to_owned(),
    };
    let up = members.iter().filter(|member| member.is_up()).count();
    format!(
        "{leader}; {up} of {} members are up, as this one sees it. Mizzen {}, serving etcd {}.",
        members.len(),
        version::MIZZEN,
        version::ETCD,
    )
}

/// One that has not started has no name.
fn named(member: &MemberFigures) -> String {
    match member.member.name.as_str() {
        "" => format!("{:x}", member.member.id),
        name => name.to_owned(),
    }
}

fn members_table(page: &mut Html, members: &[MemberFigures]) {
    let rows: Vec<_> = members
        .iter()
        .map(|figures| {
            let member = &figures.member;
            let role = match (figures.leads, member.learner) {
                (true, _) => "leader",
                (false, true) => "learner",
                (false, false) => "follower",
            };
            let state = match (figures.own, figures.up_for) {
                (true, _) => Cell::Good("this one".to_owned()),
                (false, Some(time)) => Cell::Good(format!("up for {}", lasting(time))),
                (false, None) if member.is_started() => Cell::Bad("not reached".to_owned()),
                (false, None) => Cell::Bad("not started".to_owned()),
            };
            vec![
                Cell::text(&member.name),
                Cell::text(format!("{:x}", member.id)),
                Cell::text(role),
                state,
                Cell::number(
                    figures
                        .behind
                        .map_or(String::new(), |behind| behind.to_string()),
                ),
                Cell::text(member.peer_urls.join(" ")),
                Cell::text(member.client_urls.join(" ")),
            ]
        })
        .collect();
    page.heading("Members");
    let behind = "entries behind (on the leader)";
    let columns = [
        "name",
        "id",
        "role",
        "state",
        behind,
        "for peers",
        "for clients",
    ];
    page.table(&columns, &rows);
}

fn store_table(page: &mut Html, figures: &Figures) {
    let row = |what: &str, value: String| vec![Cell::text(what), Cell::text(value)];
    let space = match figures.quota {
        Some(quota) => {
            let text = format!("{} of {}", bytes(figures.db_bytes), bytes(quota));
            let used = u64::try_from(figures.db_bytes).unwrap_or(0);
            // Beyond nine tenths.
            match used / 9 > quota / 10 {
                true => Cell::Bad(text),
                false => Cell::text(text),
            }
        }
        None => Cell::text(bytes(figures.db_bytes)),
    };
    let unapplied = figures
        .committed_index
        .saturating_sub(figures.applied_index);
    let compacted = match figures.compact_revision {
        ..=0 => "none".to_owned(),
        revision => revision.to_string(),
    };
    let rows = [
        row("revision", figures.revision.to_string()),
        row("compacted through revision", compacted),
        vec![Cell::text("bytes of all versions"), space],
        row(
            "bytes of the newest versions",
            bytes(figures.db_bytes_in_use),
        ),
        row(
            "entries committed and not applied here",
            unapplied.to_string(),
        ),
        row("proposals waiting", figures.proposals_pending.to_string()),
        row("proposals failed", figures.proposals_failed.to_string()),
        row(
            "runs of entries that took over 100 ms to apply",
            figures.slow_runs.to_string(),
        ),
        row(
            "changes of the leader seen",
            figures.leader_changes.to_string(),
        ),
        row(
            "99 % of the log's fdatasyncs took at most",
            at_most(&figures.log_syncs),
        ),
        row(
            "99 % of the batches of rows took at most",
            at_most(&figures.commits),
        ),
    ];
    page.heading("Store");
    page.table(&["what", "now"], &rows);
}

fn calls_table(page: &mut Html, calls: &[CallFigures], recent: Option<&(Duration, Vec<u64>)>) {
    let rows: Vec<_> = calls
        .iter()
        .enumerate()
        .filter(|(_, call)| call.started > 0)
        .map(|(number, call)| {
            let rate = recent.and_then(|(time, added)| {
                let added = added.get(number)?;
                Some(*added as f64 / time.as_secs_f64())
            });
            let ended: u64 = call.handled.iter().sum();
            vec![
                Cell::text(format!("{}/{}", call.service, call.method)),
                Cell::number(call.started),
                Cell::number(rate.map_or(String::new(), |rate| format!("{rate:.1}"))),
                Cell::number(call.started.saturating_sub(ended)),
            ]
        })
        .collect();
    page.heading("Calls of clients, since this member started");
    match recent {
        Some((time, _)) => page.paragraph(&format!("Rates are of the last {}.", lasting(*time))),
        None => page.paragraph("Rates come with the next look."),
    }
    page.table(&["call", "begun", "a second", "under way"], &rows);
}

/// What ended otherwise than well. That a client went away is no refusal.
fn refusals(page: &mut Html, calls: &[CallFigures], stopped: Vec<(&str, u64)>) {
    let well = [Code::Ok, Code::Cancelled].map(|code| code as usize);
    let mut rows: Vec<_> = calls
        .iter()
        .flat_map(|call| {
            let codes = CODES.iter().zip(call.handled).enumerate();
            codes.filter_map(move |(code, (name, count))| {
                let told = count > 0 && !well.contains(&code);
                let what = format!("{}/{}: {name}", call.service, call.method);
                told.then(|| vec![Cell::text(what), Cell::number(count)])
            })
        })
        .collect();
    rows.extend(stopped.into_iter().filter_map(|(reason, count)| {
        let what = format!("connections: {reason}");
        (count > 0).then(|| vec![Cell::text(what), Cell::number(count)])
    }));
    page.heading("Refused, since this member started");
    match rows.is_empty() {
        true => page.paragraph("Nobody."),
        false => page.table(&["what, and why", "times"], &rows),
    }
}

fn certificates(page: &mut Html, expiries: Vec<(&'static str, i64)>) {
    page.heading("Certificates");
    if expiries.is_empty() {
        return page.paragraph("None: neither clients nor peers speak TLS with this member.");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    let rows: Vec<_> = expiries
        .into_iter()
        .map(|(purpose, at)| {
            let left = at.saturating_sub(now);
            let time = Duration::from_secs(left.unsigned_abs());
            let cell = match left {
                ..=0 => Cell::Bad(format!("expired {} ago", lasting(time))),
                1..=SOON => Cell::Bad(format!("expires in {}", lasting(time))),
                _ => Cell::Good(format!("expires in {}", lasting(time))),
            };
            vec![Cell::text(purpose), cell]
        })
        .collect();
    page.table(&["for", "state"], &rows);
}

/// In the two largest units that are worth it.
fn lasting(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(DAY, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let at = units.iter().position(|(unit, _)| seconds >= *unit);
    let Some(at) = at else {
        return "0 s".to_owned();
    };
    let (unit, name) = units[at];
    let first = format!("{} {name}", seconds / unit);
    let rest = units
        .get(at + 1)
        .map(|(small, name)| (seconds % unit / small, name));
    match rest {
        Some((count, name)) if count > 0 => format!("{first} {count} {name}"),
        _ => first,
    }
}

fn bytes(count: impl TryInto<u64> + Display + Copy) -> String {
    let Ok(exact) = count.try_into() else {
        return count.to_string();
    };
    let mut units = ["KiB", "MiB", "GiB", "TiB"].into_iter();
    let (mut value, mut unit) = (exact as f64, "bytes");
    while value >= 1_024.0 {
        let Some(next) = units.next() else { break };
        (value, unit) = (value / 1_024.0, next);
    }
    match unit {
        "bytes" => format!("{exact} bytes"),
        _ => format!("{value:.1} {unit}"),
    }
}

/// The bound of the bucket in which the 99th percentile is.
fn at_most(times: &Distribution) -> String {
    let enough = times.count - times.count / 100;
    let bucket = times.buckets.iter().find(|(_, count)| *count >= enough);
    match (times.count, bucket) {
        (0, _) => "none yet".to_owned(),
        (_, Some((bound, _))) => format!("{} ms", bound * 1e3),
        (_, None) => match times.buckets.last() {
            Some((bound, _)) => format!("more than {} ms", bound * 1e3),
            None => "not counted".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_told_in_units_of_people() {
        let told = [0, 59, 60, 3_661, 90_000, 172_800].map(|s| lasting(Duration::from_secs(s)));
        assert_eq!(
            told,
            ["0 s", "59 s", "1 min", "1 h 1 min", "1 d 1 h", "2 d"]
        );
        let told = [0, 1_023, 1_536, 5 << 30].map(|count: i64| bytes(count));
        assert_eq!(told, ["0 bytes", "1023 bytes", "1.5 KiB", "5.0 GiB"]);
        assert_eq!(bytes(-1), "-1");
    }

    #[test]
    fn the_99th_percentile_is_in_a_bucket_or_beyond() {
        let times = |counts: [u64; 2], count| Distribution {
            buckets: vec![(0.001, counts[0]), (0.002, counts[1])],
            count,
            sum: 0.0,
        };
        assert_eq!(at_most(&times([0, 0], 0)), "none yet");
        assert_eq!(at_most(&times([99, 100], 100)), "1 ms");
        assert_eq!(at_most(&times([98, 100], 100)), "2 ms");
        assert_eq!(at_most(&times([0, 0], 3)), "more than 2 ms");
    }

    #[test]
    fn who_is_down_or_late_is_told() {
        let member = |name: &str, up_for, leads| MemberFigures {
            member: crate::server::Member {
                id: 10,
                name: name.to_owned(),
                ..Default::default()
            },
            own: false,
            leads,
            up_for,
            behind: None,
        };
        let members = [
            member("up", Some(Duration::from_secs(61)), true),
            member("gone", None, false),
            member("", None, false),
        ];
        let mut page = Html::new("", 1);
        members_table(&mut page, &members);
        certificates(&mut page, vec![("client", 0), ("peer", i64::MAX)]);
        let text = page.finish();
        for told in [
            "up for 1 min 1 s",
            "not reached",
            "not started",
            "expired",
            "class=good>expires in",
        ] {
            assert!(text.contains(told), "{told}: {text}");
        }
        let figures = Figures {
            has_leader: true,
            ..Figures::default()
        };
        assert!(summary(&figures, &members).starts_with("up leads; 1 of 3 members are up"));
        assert!(summary(&Figures::default(), &members).starts_with("No leader"));
    }
}
