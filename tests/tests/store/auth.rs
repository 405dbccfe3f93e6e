//! Users and roles beside the reference etcd: random sequences of changes and
//! of calls, made by root, by users with some rights, without credentials and
//! with a token that is nobody's; every answer is the same.
//!
//! `cargo test --release -p mizzen-tests --test store auth`

mod matrix;
mod revoked;
mod secrets;
mod shapes;
mod token;

use anyhow::{Context as _, Result, ensure};
use mizzen_tests::{
    auth::{
        call::{Asked, Call},
        random::{Chance, beginning},
    },
    cluster::{self, Cluster, Options},
    setting,
};

/// Sequences, each in new clusters, and calls of one. `MIZZEN_AUTH_SEQUENCES`
/// and `MIZZEN_SEED` change them.
const SEQUENCES: u64 = 20;
const CALLS: usize = 400;

#[tokio::test]
async fn answers_are_those_of_etcd() -> Result<()> {
    let first = setting("MIZZEN_SEED", 1);
    for seed in first..first + setting("MIZZEN_AUTH_SEQUENCES", SEQUENCES) {
        sequence(seed)
            .await
            .with_context(|| format!("again: MIZZEN_AUTH_SEQUENCES=1 MIZZEN_SEED={seed} cargo test --release -p mizzen-tests --test store auth"))?;
    }
    Ok(())
}

async fn sequence(seed: u64) -> Result<()> {
    let flags = |options: Options| options.flag("--bcrypt-cost=4");
    let ours = Cluster::start(flags(Options::new(cluster::mizzen()?))).await?;
    let theirs = Options::new(cluster::reference()?).members(1);
    let theirs = Cluster::start(flags(theirs)).await?;
    // One member of ours, a follower or not: as etcd's, another one may be
    // behind.
    let mut ours = Asked::new(ours.channel(1)?);
    let mut theirs = Asked::new(theirs.channel(0)?);
    let mut generator = Chance::new(seed);
    let begin = beginning().into_iter().map(|call| (None, call));
    let then = std::iter::repeat_with(|| generator.draw()).take(CALLS);
    let (mut carried_out, mut refused) = (0, 0);
    for (number, (user, call)) in begin.chain(then).enumerate() {
        let answers = (
            ours.make(user, &call).await?,
            theirs.make(user, &call).await?,
        );
        ensure!(
            answers.0 == answers.1,
            "call {number}, {call:?} by {user:?}:\nours   {:?}\ntheirs {:?}",
            answers.0,
            answers.1
        );
        match answers.0 {
            Ok(_) => carried_out += 1,
            Err(_) => refused += 1,
        }
        if let Call::Disable = call {
            anyhow::bail!("nobody switches authentication off here");
        }
    }
    println!("seed {seed}: {carried_out} carried out, {refused} refused");
    ensure!(carried_out > 30 && refused > 50, "too few of a kind");
    Ok(())
}
