//! A leader that vanishes without a word.

use mizzen_sim::{Flaw, simulate};
use std::{io, time::Duration};

use bytes::Bytes;
use mizzen_core::Range;
use tokio::time::Instant;

use super::{
    cluster::Cluster,
    members::{ELECTION_TIMEOUT, Member},
};
use crate::server::{Caller, Error};

/// What a reader waits for at most, if the leader vanishes when it has been
/// asked: the others' elections, of which some may be split, and then an answer.
const READER_WAITS: Duration = ELECTION_TIMEOUT.saturating_mul(4);

async fn read(member: &Member) -> Result<(), Error> {
    let range = Range {
        key: Bytes::from_static(b"key"),
        ..Range::default()
    };
    let caller = Caller::default();
    member.server.range(&caller, range).await.map(drop)
}

/// How long a reader on a follower waits.
async fn read_without_leader(seed: u64) -> io::Result<Duration> {
    let cluster = Cluster::start(seed, 3, Flaw::None).await?;
    cluster.ready().await?;
    let none = || io::Error::other("no leader");
    let leader = cluster.leader().ok_or_else(none)?;
    let follower = cluster.member(1 + leader % 3).ok_or_else(none)?;
    // The connection stands.
    read(follower).await.map_err(io::Error::other)?;
    cluster.network.cut_off([leader]);
    let asked = Instant::now();
    read(follower).await.map_err(io::Error::other)?;
    Ok(asked.elapsed())
}

#[test]
fn a_reader_asks_the_next_leader_when_the_one_it_asked_vanishes() {
    for seed in 0..20 {
        let waited = simulate(read_without_leader(seed))
            .unwrap_or_else(|error| panic!("seed {seed}: not read: {error}"));
        assert!(
            waited <= READER_WAITS,
            "seed {seed}: a reader waited for {waited:?}"
        );
    }
}
