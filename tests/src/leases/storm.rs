//! Leases that all end in the same second, beside puts at a fixed rate: what
//! the ends do to how long puts take.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use mizzen_proto::etcdserverpb::PutRequest;
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, sleep, sleep_until};
use tonic::transport::Channel;

use super::book::Book;
use super::{PATIENCE, grant, observe};
use crate::cluster::Cluster;

/// Leases are granted before this much of the time to their end is left, so
/// that a quiet time comes before the storm.
const RESERVE: Duration = Duration::from_secs(2);
const GIVEN_UP: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub leases: usize,
    /// Time for the grants.
    pub lead: Duration,
    /// Time of puts alone before the storm.
    pub control: Duration,
    /// Puts a second.
    pub rate: u32,
}

#[derive(Debug)]
pub struct Report {
    /// Puts before the storm and during it.
    pub puts: (usize, usize),
    pub p50: (Duration, Duration),
    pub p99: (Duration, Duration),
    pub failed: usize,
    /// From the first end to the last.
    pub ends_took: Duration,
    /// From the last moment at which a lease was due to the last end.
    pub after_due: Duration,
    pub early: usize,
}

/// # Errors
/// A lease ended early or never, or the puts failed.
pub async fn run(cluster: &mut Cluster, plan: Plan) -> Result<Report> {
    let members = (0..cluster.len())
        .map(|index| cluster.channel(index))
        .collect::<Result<Vec<_>>>()?;
    let book = Book::new(plan.leases);
    let mut observers = JoinSet::new();
    // One member is enough to see the ends: whoever sees them all has a part in
    // what they cost.
    let observed = members.first().context("no member")?.clone();
    observers.spawn(observe::ends(book.clone(), observed));
    let began = Instant::now();
    let end = plan.lead + plan.control + RESERVE;
    // Whatever the moment of the grant, the lease ends within the second after
    // `end`.
    let left =
        move || i64::try_from(end.saturating_sub(began.elapsed()).as_secs() + 1).unwrap_or(1);
    grant::all(&book, &members, left).await?;
    let granted = began.elapsed();
    ensure!(
        granted <= plan.lead,
        "{} leases took {granted:?} to grant; more than {:?} is needed for that",
        plan.leases,
        plan.lead
    );
    let storm = began + end;
    sleep_until((storm - plan.control - RESERVE).into()).await;
    let puts = Puts::start(members, plan.rate);
    sleep_until(storm.into()).await;
    let limit = storm + GIVEN_UP;
    while book.count(|lease| lease.gone.is_none()) > 0 {
        ensure!(Instant::now() < limit, "leases have not ended");
        sleep(Duration::from_millis(100)).await;
    }
    report(&book, puts.stop().await?, storm)
}

fn report(book: &Book, puts: Taken, storm: Instant) -> Result<Report> {
    let ends: Vec<Instant> = book.all().iter().filter_map(|lease| lease.gone).collect();
    let first = *ends.iter().min().context("no leases")?;
    let last = *ends.iter().max().context("no leases")?;
    let between = |from: Instant, to: Instant| -> Result<Vec<Duration>> {
        let mut times: Vec<Duration> = puts
            .times
            .iter()
            .filter(|(sent, _)| (from..to).contains(sent))
            .map(|(_, took)| *took)
            .collect();
        ensure!(times.len() > 1, "no puts were acknowledged");
        times.sort_unstable();
        Ok(times)
    };
    let start = puts
        .times
        .iter()
        .map(|(sent, _)| *sent)
        .min()
        .context("no puts")?;
    // The first second of the puts opens connections.
    let quiet = between(start + Duration::from_secs(1), storm.min(first))?;
    let busy = between(storm.min(first), last)?;
    let at = |times: &[Duration], percent: usize| times[times.len() * percent / 100];
    Ok(Report {
        puts: (quiet.len(), busy.len()),
        p50: (at(&quiet, 50), at(&busy, 50)),
        p99: (at(&quiet, 99), at(&busy, 99)),
        failed: puts.failed,
        ends_took: last - first,
        after_due: last.saturating_duration_since(storm + Duration::from_secs(1)),
        early: ends.iter().filter(|end| **end < storm).count(),
    })
}

/// What became of the puts.
#[derive(Default)]
struct Taken {
    times: Vec<(Instant, Duration)>,
    failed: usize,
}

/// Puts sent at their moments whether or not earlier ones have come back.
struct Puts {
    taken: Arc<Mutex<Taken>>,
    pacer: tokio::task::JoinHandle<JoinSet<()>>,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Puts {
    fn start(members: Vec<Channel>, rate: u32) -> Self {
        let taken = Arc::new(Mutex::new(Taken::default()));
        let (stop, mut stopped) = tokio::sync::watch::channel(false);
        let into = taken.clone();
        let pacer = tokio::spawn(async move {
            let mut under_way = JoinSet::new();
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut number = 0_usize;
            loop {
                tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stopped| *stopped) => return under_way,
                    _ = ticks.tick() => {}
                }
                let channel = members[number % members.len()].clone();
                under_way.spawn(put(channel, number, into.clone()));
                number += 1;
                while under_way.try_join_next().is_some() {}
            }
        });
        Self { taken, pacer, stop }
    }

    async fn stop(self) -> Result<Taken> {
        self.stop.send_replace(true);
        let mut under_way = self.pacer.await?;
        while let Some(ended) = under_way.join_next().await {
            ended?;
        }
        Ok(std::mem::take(
            &mut *self.taken.lock().expect("nobody panics in it"),
        ))
    }
}

async fn put(channel: Channel, number: usize, into: Arc<Mutex<Taken>>) {
    let request = PutRequest {
        key: format!("put/{:04}", number % 1_000).into(),
        value: Bytes::from_static(&[7; 100]),
        ..PutRequest::default()
    };
    let sent = Instant::now();
    let answer = tokio::time::timeout(PATIENCE, KvClient::new(channel).put(request)).await;
    let mut taken = into.lock().expect("nobody panics in it");
    match answer {
        Ok(Ok(_)) => taken.times.push((sent, sent.elapsed())),
        _ => taken.failed += 1,
    }
}
