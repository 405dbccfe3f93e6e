//! Wall clocks that jump, back and forth, under some of the members.
//!
//! libfaketime does it, for programs that ask the C library for the time; the
//! monotonic clock goes on as it is. It does not reach a program that asks the
//! kernel by itself, as Go's do: that is seen, and then nothing was shown.

use super::{Done, Nemesis};
use crate::history::record::Injected;
use anyhow::Result;
use rand::Rng;
use rand::seq::SliceRandom;
use std::time::Duration;

/// Seconds of a jump, either way: from less than a lease to years.
const JUMPS: [i64; 6] = [1, 5, 60, 3_600, 86_400, 100_000_000];
const STROBE: Duration = Duration::from_millis(300);

pub async fn inject(n: &mut Nemesis) -> Result<Done> {
    let leader = n.leader().await;
    let mut members = n.cluster.lock().await.running();
    members.shuffle(&mut n.rng);
    members.truncate(n.rng.random_range(1..=members.len().max(1)));
    let length = n.cut_time();
    let until = tokio::time::Instant::now() + length;
    let strobe: bool = n.rng.random();
    let mut jumps = Vec::new();
    let mut seen = true;
    while tokio::time::Instant::now() < until && !n.finished() {
        for &m in &members {
            let jump = JUMPS[n.rng.random_range(0..JUMPS.len())];
            let jump = if n.rng.random() { jump } else { -jump };
            jumps.push(format!("m{m} {jump:+} s"));
            seen &= n.cluster.lock().await.shift_clock(m, jump)?;
        }
        n.hold(if strobe { STROBE } else { length }).await;
    }
    for &m in &members {
        n.cluster.lock().await.shift_clock(m, 0)?;
    }
    let recovered = n.recover(&members, false).await;
    jumps.truncate(12);
    Ok(Done {
        hit_leader: leader.is_some_and(|l| members.contains(&l)),
        members,
        injected: if seen {
            Injected::Installed
        } else {
            Injected::Indeterminate
        },
        kills: 0,
        detail: format!(
            "{} for {:.1} s; {recovered}",
            jumps.join(", "),
            length.as_secs_f64()
        ),
    })
}
