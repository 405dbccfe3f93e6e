//! Leases kept over all members and abandoned one by one, while the leader is
//! killed: none may end early, and every abandoned one must end in time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mizzen_proto::etcdserverpb::LeaseLeasesRequest;
use mizzen_proto::etcdserverpb::lease_client::LeaseClient;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::transport::Channel;

use super::book::{Book, Known, Takeover};
use super::keep::{Counts, Keeper};
use super::observe::{self, Takeovers};
use super::{PATIENCE, grant};
use crate::cluster::Cluster;

const STREAMS: usize = 12;
/// What was asked for and not seen counts as missing after this time more.
const GIVEN_UP: Duration = Duration::from_secs(30);
/// How long a killed member stays away.
const AWAY: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub leases: usize,
    /// Time to live, in whole seconds.
    pub ttl: Duration,
    /// How often the leader is killed while leases are kept.
    pub kills: u32,
    /// How long leases are kept; half of them are abandoned within it.
    pub time: Duration,
    /// The election timeout that the members were started with.
    pub election: Duration,
    /// How much later than the election timeout allows an abandoned lease may
    /// end.
    pub slack: Duration,
    pub seed: u64,
}

#[derive(Debug)]
pub struct Report {
    pub granted_in: Duration,
    pub renewals: u64,
    pub broken_streams: u64,
    pub takeovers: usize,
    pub abandoned: usize,
    pub kept: usize,
    /// The least time by which an end came after its earliest moment.
    pub closest: Duration,
    /// How late abandoned leases ended: in the middle, for 99 of 100, at most.
    pub late: (Duration, Duration, Duration),
}

/// # Errors
/// A lease ended early, or an abandoned one late or never.
pub async fn run(cluster: &mut Cluster, plan: Plan) -> Result<Report> {
    let members = (0..cluster.len())
        .map(|index| cluster.channel(index))
        .collect::<Result<Vec<_>>>()?;
    let book = Book::new(plan.leases);
    let takeovers = Takeovers::default();
    let mut observers = JoinSet::new();
    observers.spawn(takeovers.clone().look(members.clone()));
    for member in &members {
        observers.spawn(observe::ends(book.clone(), member.clone()));
    }
    let (stop, stopped) = watch::channel(false);
    let began = Instant::now();
    let seconds = i64::try_from(plan.ttl.as_secs())?;
    // A lease is kept from its grant on, or the first would end before the
    // last is granted.
    let counts = Arc::new(Counts::default());
    let mut keepers = keep(&book, &members, plan, &counts, &stopped);
    grant::all(&book, &members, move || seconds).await?;
    let granted_in = began.elapsed();

    for _ in 0..plan.kills {
        sleep(plan.time / (plan.kills + 1)).await;
        let leader = cluster.leader().await?;
        cluster.kill(leader)?;
        sleep(AWAY).await;
        cluster.restart(leader).await?;
    }
    wait_for_ends(&book, plan).await;
    stop.send_replace(true);
    while let Some(ended) = keepers.join_next().await {
        ended?;
    }
    let all = book.all();
    let kept = book.count(|lease| !lease.abandoned);
    count_leases(&members, kept).await?;
    let takeovers = takeovers.all();
    judge(&all, plan, &takeovers)?;
    Ok(Report {
        granted_in,
        renewals: counts.acknowledged.load(Ordering::Relaxed),
        broken_streams: counts.broken.load(Ordering::Relaxed),
        takeovers: takeovers.len(),
        abandoned: all.len() - kept,
        kept,
        closest: closest(&all, plan.ttl),
        late: spread(&all, plan.ttl, &takeovers)?,
    })
}

/// Starts the streams. The leases with odd numbers are abandoned, at moments
/// that the seed gives.
fn keep(
    book: &Arc<Book>,
    members: &[Channel],
    plan: Plan,
    counts: &Arc<Counts>,
    stopped: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let now = Instant::now();
    let mut shares = vec![Vec::new(); STREAMS];
    for index in 0..plan.leases {
        let until = (index % 2 == 1).then(|| now + plan.time.mul_f64(rng.random()));
        shares[index % STREAMS].push((index, until));
    }
    let mut keepers = JoinSet::new();
    for (first, share) in shares.into_iter().enumerate() {
        let keeper = Keeper {
            book: book.clone(),
            members: members.to_vec(),
            first,
            ttl: plan.ttl,
            share,
            counts: counts.clone(),
            stopped: stopped.clone(),
        };
        keepers.spawn(keeper.run());
    }
    keepers
}

/// Until every abandoned lease has ended, or is long overdue.
async fn wait_for_ends(book: &Book, plan: Plan) {
    let limit = Instant::now() + plan.time + plan.ttl + plan.election + plan.slack + GIVEN_UP;
    let odd = plan.leases / 2;
    while Instant::now() < limit {
        let ended = book.count(|lease| lease.abandoned && lease.gone.is_some());
        if ended >= odd {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Every member knows exactly the leases that were kept.
async fn count_leases(members: &[Channel], kept: usize) -> Result<()> {
    for member in members {
        let mut client = LeaseClient::new(member.clone()).max_decoding_message_size(usize::MAX);
        let asked = client.lease_leases(LeaseLeasesRequest {});
        let reply = tokio::time::timeout(PATIENCE, asked).await??.into_inner();
        ensure!(
            reply.leases.len() == kept,
            "a member lists {} leases; {kept} were kept",
            reply.leases.len()
        );
    }
    Ok(())
}

fn judge(all: &[Known], plan: Plan, takeovers: &[Takeover]) -> Result<()> {
    let early: Vec<(usize, Duration)> = all
        .iter()
        .enumerate()
        .filter_map(|(index, lease)| Some((index, lease.early(plan.ttl)?)))
        .collect();
    ensure!(
        early.is_empty(),
        "{} leases ended early: {:?}...",
        early.len(),
        &early[..early.len().min(5)]
    );
    let kept_and_gone = all.iter().filter(|l| !l.abandoned && l.gone.is_some());
    let unkept = kept_and_gone.count();
    ensure!(unkept == 0, "{unkept} leases ended though they were kept");
    let stays = all
        .iter()
        .filter(|l| l.abandoned && l.gone.is_none())
        .count();
    ensure!(stays == 0, "{stays} abandoned leases did not end");
    let bound = plan.election + plan.slack;
    let late: Vec<(usize, Duration)> = all
        .iter()
        .enumerate()
        .filter_map(|(index, lease)| Some((index, lease.late(plan.ttl, takeovers)?)))
        .filter(|(_, late)| *late > bound)
        .collect();
    ensure!(
        late.is_empty(),
        "{} leases ended more than {bound:?} late: {:?}...; late in the middle, for 99 of 100, at most: {:?}",
        late.len(),
        &late[..late.len().min(5)],
        spread(all, plan.ttl, takeovers)?
    );
    Ok(())
}

fn closest(all: &[Known], ttl: Duration) -> Duration {
    let margins = all
        .iter()
        .filter_map(|l| Some(l.gone?.saturating_duration_since(l.sure? + ttl)));
    margins.min().unwrap_or_default()
}

fn spread(
    all: &[Known],
    ttl: Duration,
    takeovers: &[Takeover],
) -> Result<(Duration, Duration, Duration)> {
    let mut late: Vec<Duration> = all.iter().filter_map(|l| l.late(ttl, takeovers)).collect();
    late.sort_unstable();
    let last = *late.last().context("no lease was abandoned")?;
    Ok((late[late.len() / 2], late[late.len() * 99 / 100], last))
}
