//! Clients that write all the time, while the power of all members goes off
//! again and again.

use mizzen_sim::{Event, Flaw};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::join_all};
use mizzen_core::{Command, Put, Range};
use mizzen_proto::etcdserverpb::RangeResponse;
use prost::Message;

use super::{
    members::{Member, Setup, live},
    setting,
};
use crate::server::Caller;

const CLIENTS: usize = 24;
const KEYS_PER_CLIENT: u64 = 8;
const SEED: u64 = 11;

/// What one client knows of one of its keys: values are numbers that grow.
#[derive(Clone, Copy, Default)]
struct Written {
    acknowledged: u64,
    tried: u64,
}

#[derive(Default)]
struct Client {
    keys: parking_lot::Mutex<BTreeMap<u64, Written>>,
    writes: AtomicU64,
    /// The newest revision it was told of.
    revision: AtomicU64,
}

fn key(client: usize, number: u64) -> Bytes {
    format!("{client}/{number}").into()
}

/// Writes until told to stop, by the power at the latest.
async fn write(member: &Member, number: usize, client: &Client) {
    loop {
        let value = client.writes.fetch_add(1, Ordering::SeqCst) + 1;
        let turn = value % KEYS_PER_CLIENT;
        client.keys.lock().entry(turn).or_default().tried = value;
        let command = Command::Put(Put {
            key: key(number, turn),
            value: value.to_string().repeat(20).into(),
            ..Put::default()
        });
        let outcome = member.server.write(&Caller::default(), command).await;
        if let Ok(mizzen_core::Reply::Put { revision, .. }) = outcome {
            client.keys.lock().entry(turn).or_default().acknowledged = value;
            let revision = u64::try_from(revision).unwrap_or(0);
            client.revision.fetch_max(revision, Ordering::SeqCst);
        } else {
            // Its outcome is unknown; the next one goes to a quorum or fails too.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn check(members: &[Member], clients: &[Client]) -> Result<i64, String> {
    let known = clients
        .iter()
        .map(|client| client.revision.load(Ordering::SeqCst));
    let known = known.max().unwrap_or(0);
    let mut newest = 0;
    for (id, member) in (1..).zip(members) {
        let ready = member.server.ready().await;
        ready.map_err(|error| format!("member {id} is not ready: {error}"))?;
        let all = Range {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            ..Range::default()
        };
        let reply = member.server.range(&Caller::default(), all).await;
        let reply = reply.map_err(|error| format!("member {id} cannot read: {error}"))?;
        newest = newest.max(reply.revision);
        if u64::try_from(reply.revision).unwrap_or(0) < known {
            return Err(format!(
                "member {id} is at revision {}, {known} was told",
                reply.revision
            ));
        }
        let kvs = RangeResponse::decode(reply.kvs.bytes).map_err(|error| error.to_string())?;
        let found: BTreeMap<_, _> = kvs.kvs.into_iter().map(|kv| (kv.key, kv.value)).collect();
        for (number, client) in clients.iter().enumerate() {
            for (turn, written) in client.keys.lock().iter() {
                let name = key(number, *turn);
                let texts = (written.acknowledged..=written.tried)
                    .filter(|value| *value % KEYS_PER_CLIENT == *turn);
                let row = found.get(&name);
                let fits = match row {
                    None => written.acknowledged == 0,
                    Some(row) => texts
                        .into_iter()
                        .any(|value| *row == value.to_string().repeat(20)),
                };
                if !fits {
                    return Err(format!(
                        "member {id}: {name:?} had {} acknowledged and {} tried; found {row:?}",
                        written.acknowledged, written.tried
                    ));
                }
            }
        }
    }
    Ok(newest)
}

#[test]
fn the_power_of_all_goes_off_under_load() {
    let losses = setting("MIZZEN_POWER_LOSSES", 4);
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut setup = Setup {
        members: 3,
        seed: SEED,
        flaw: Flaw::None,
    };
    let clients: Arc<Vec<Client>> = Arc::new((0..CLIENTS).map(|_| Client::default()).collect());
    let mut images = setup.empty();
    for loss in 0..=losses {
        setup.seed = SEED + loss;
        let event = if loss == losses {
            Event::Never
        } else {
            Event::PowerOff(200 + rng.random_range(0..2_000))
        };
        let known = clients.clone();
        let life = live(&setup, images, event, move |members| {
            async move {
                let newest = check(&members, &known).await?;
                if event == Event::Never {
                    return Ok::<_, String>(newest);
                }
                let writers = known.iter().enumerate().map(|(number, client)| {
                    write(&members[number % members.len()], number, client)
                });
                join_all(writers).await;
                Ok(newest)
            }
            .boxed()
        });
        match life.outcome {
            Some(Ok(Ok(newest))) => {
                let writes = clients
                    .iter()
                    .map(|client| client.writes.load(Ordering::SeqCst));
                println!(
                    "{losses} losses of power, {} writes tried, revision {newest}",
                    writes.sum::<u64>()
                );
            }
            Some(Ok(Err(error))) => panic!(
                "after {loss} losses: {error}; again: MIZZEN_POWER_LOSSES={losses} cargo test --release -p mizzen-store --lib the_power_of_all"
            ),
            Some(Err(error)) => panic!("after {loss} losses a member refuses to start: {error}"),
            None => {}
        }
        images = life.images;
    }
}
