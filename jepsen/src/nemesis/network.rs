//! Faults of the network between members, by the links of the proxies.

use super::kind::Kind;
use super::{Done, Nemesis};
use crate::history::record::Injected;
use crate::net::link::{Links, Mode};
use rand::Rng;
use rand::seq::SliceRandom;
use std::time::Duration;

/// Delays one way, in milliseconds: below and above etcd's heartbeat of 100.
const DELAYS: [u64; 3] = [30, 100, 250];
/// Resets follow each other at this distance.
const RESET_EVERY: Duration = Duration::from_millis(100);

/// Directed links, each from one member to another.
type Cut = Vec<(usize, usize)>;

fn between(left: &[usize], right: &[usize]) -> Cut {
    let pairs = left
        .iter()
        .flat_map(|&a| right.iter().map(move |&b| (a, b)));
    pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
}

fn every_link(members: usize) -> Cut {
    let all = (0..members).flat_map(|a| (0..members).map(move |b| (a, b)));
    all.filter(|(a, b)| a != b).collect()
}

/// In a ring of `order`, each member keeps the neighbours that make a majority
/// with it. With three members that cuts one link only.
fn ring(order: &[usize]) -> Cut {
    let n = order.len();
    let reach = n / 4 + usize::from(n < 4);
    let far = |i: usize, j: usize| {
        let apart = i.abs_diff(j);
        apart.min(n - apart) > reach
    };
    let pairs = (0..n).flat_map(|i| (0..n).map(move |j| (i, j)));
    let cut: Cut = pairs
        .filter(|&(i, j)| far(i, j))
        .map(|(i, j)| (order[i], order[j]))
        .collect();
    if cut.is_empty() && n > 1 {
        between(&order[..1], &order[1..2])
    } else {
        cut
    }
}

struct Aim {
    links: Cut,
    /// The members on the side without a majority, or at the ends of a cut link.
    members: Vec<usize>,
    /// Members that can still form a majority among themselves.
    rest: Vec<usize>,
    hit_leader: bool,
}

fn aim(n: &mut Nemesis, kind: Kind, leader: Option<usize>) -> Option<Aim> {
    let count = n.bench.view.members();
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut n.rng);
    let others = |m: usize| (0..count).filter(|o| *o != m).collect::<Vec<_>>();
    let aim = match kind {
        Kind::PartitionLeader => {
            let leader = leader?;
            Aim {
                links: between(&[leader], &others(leader)),
                members: vec![leader],
                rest: others(leader),
                hit_leader: true,
            }
        }
        Kind::LeaderDeaf | Kind::LeaderMute => {
            let leader = leader?;
            let deaf = kind == Kind::LeaderDeaf;
            let links = others(leader)
                .into_iter()
                .map(|o| if deaf { (o, leader) } else { (leader, o) })
                .collect();
            Aim {
                links,
                members: vec![leader],
                rest: others(leader),
                hit_leader: true,
            }
        }
        Kind::PartitionHalves => {
            let (minority, majority) = order.split_at((count - 1) / 2);
            let hit_leader = leader.is_some_and(|l| minority.contains(&l));
            Aim {
                links: between(minority, majority),
                members: minority.to_vec(),
                rest: majority.to_vec(),
                hit_leader,
            }
        }
        Kind::PartitionRing => Aim {
            links: ring(&order),
            members: order.clone(),
            rest: order,
            hit_leader: leader.is_some(),
        },
        Kind::PartitionLink => {
            let pair = order.get(..2)?.to_vec();
            let hit_leader = leader.is_some_and(|l| pair.contains(&l));
            Aim {
                links: between(&pair[..1], &pair[1..]),
                members: pair,
                rest: order,
                hit_leader,
            }
        }
        _ => Aim {
            links: every_link(count),
            members: order.clone(),
            rest: order,
            hit_leader: true,
        },
    };
    Some(aim)
}

pub async fn inject(n: &mut Nemesis, kind: Kind) -> Done {
    let Some(links) = n.links.clone() else {
        return Done::skipped("no link proxies");
    };
    let leader = n.leader().await;
    let Some(aim) = aim(n, kind, leader) else {
        return Done::skipped("no leader known");
    };
    let before = links.hits(&aim.links);
    let length = n.cut_time();
    let what = apply(n, kind, &links, &aim.links, length).await;
    let new_leader = n.probe.leader(&aim.rest).await;
    links.heal();
    let bytes = links.hits(&aim.links) - before;
    let recovered = n
        .recover(&(0..n.bench.view.members()).collect::<Vec<_>>(), false)
        .await;
    let show = |l: Option<usize>| l.map_or("none".to_string(), |l| format!("m{l}"));
    let detail = format!(
        "{what} for {:.1} s; {bytes} bytes met it; leader before {}, at the end {}; {recovered}",
        length.as_secs_f64(),
        show(leader),
        show(new_leader)
    );
    let injected = if bytes > 0 || kind == Kind::Reset {
        Injected::Installed
    } else {
        Injected::Indeterminate
    };
    Done {
        members: aim.members,
        hit_leader: aim.hit_leader,
        injected,
        kills: 0,
        detail,
    }
}

/// Puts the fault on the links and keeps it there for `length`.
async fn apply(n: &mut Nemesis, kind: Kind, links: &Links, cut: &Cut, length: Duration) -> String {
    match kind {
        Kind::Delay => {
            let delay = Duration::from_millis(DELAYS[n.rng.random_range(0..DELAYS.len())]);
            cut.iter()
                .for_each(|&(a, b)| links.set(a, b, Mode::Delay(delay)));
            n.hold(length).await;
            format!("{} ms one way on every link", delay.as_millis())
        }
        Kind::Drip | Kind::Corrupt => {
            let mode = if kind == Kind::Drip {
                Mode::Drip
            } else {
                Mode::Corrupt
            };
            cut.iter().for_each(|&(a, b)| links.set(a, b, mode));
            n.hold(length).await;
            format!("{} on every link", kind.name())
        }
        Kind::Reset => {
            let until = tokio::time::Instant::now() + length;
            let mut resets = 0;
            while tokio::time::Instant::now() < until
                && !n.stop.load(std::sync::atomic::Ordering::Relaxed)
            {
                let (a, b) = cut[n.rng.random_range(0..cut.len())];
                links.reset(a, b);
                resets += 1;
                n.hold(RESET_EVERY).await;
            }
            format!("{resets} links reset")
        }
        _ => {
            cut.iter().for_each(|&(a, b)| links.set(a, b, Mode::Hold));
            n.hold(length).await;
            format!("{} directed links held", cut.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_of_a_ring_sees_a_majority() {
        for n in [3, 5] {
            let order: Vec<usize> = (0..n).collect();
            let cut = ring(&order);
            assert!(!cut.is_empty());
            for a in 0..n {
                let seen = (0..n).filter(|&b| !cut.contains(&(a, b))).count();
                assert!(seen > n / 2, "{n} members: {a} sees {seen}");
            }
            assert!(cut.iter().all(|&(a, b)| cut.contains(&(b, a))));
        }
    }
}
