//! Sends a member what no sane client sends, and checks that it stays up and
//! keeps its data.
//!
//! A case is a pure function of seed, number and the store's revision: mutated
//! and random messages in sound gRPC calls ([`message`]), unsound gRPC calls in
//! sound HTTP/2 ([`call`]), and bytes that are no HTTP/2 at all ([`wire`]).

mod call;
mod message;
mod wire;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use mizzen_proto::etcdserverpb::{PutRequest, RangeRequest};
use mizzen_proto::mvccpb::KeyValue;
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::differential::side::Member;
use mizzen_tests::differential::{Operation, Reply, Side, View};
use mizzen_tests::process;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Keys before those that the cases use, so that an open range over the latter
/// leaves them alone.
const CANARIES: [&str; 3] = ["\0\0canary-a", "\0\0canary-b", "\0\0canary-c"];
/// Cases between two looks at the canaries.
const BATCH: u64 = 64;

/// Sends random messages, calls and bytes to one member of a cluster.
///
/// A cluster given by its endpoint must be for this test only: its keys are
/// overwritten and deleted.
#[derive(Parser)]
struct Arguments {
    /// Client endpoint of the member, instead of starting a cluster.
    #[arg(long)]
    endpoint: Option<String>,
    /// Members of the cluster that is started; what one is sent must stop none.
    #[arg(long, default_value_t = 1)]
    members: usize,
    /// An etcd is asked nothing that is known to stop one.
    #[arg(long, value_enum, default_value_t = Target::Mizzen)]
    target: Target,
    /// How long to run, unless the number of cases is given.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    #[arg(long)]
    cases: Option<u64>,
    /// Number of the first case.
    #[arg(long, default_value_t = 0)]
    first_case: u64,
    /// Seed of the run [default: from the clock].
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    Mizzen,
    Etcd,
}

/// Answers by kind, for the summary.
type Counts = BTreeMap<String, u64>;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() % 1_000_000_000,
    };
    let mut started = None;
    let endpoint = match &arguments.endpoint {
        Some(endpoint) => endpoint.clone(),
        None => {
            let binary = match arguments.target {
                Target::Mizzen => cluster::mizzen()?,
                Target::Etcd => cluster::reference()?,
            };
            let options = Options::new(binary).members(arguments.members);
            let cluster = started.insert(Cluster::start(options).await?);
            cluster.endpoint(0).to_owned()
        }
    };
    println!("seed {seed}, member {endpoint}");

    let mut run = Run {
        member: Side::new("member", std::slice::from_ref(&endpoint))?
            .member(0)
            .clone(),
        messages: message::Sender::new(&endpoint, arguments.target == Target::Etcd)?,
        endpoint,
        seed,
        counts: Counts::new(),
        view: View {
            start: 1,
            current: 1,
            compacted: 1,
        },
    };
    let result = run.cases(&arguments, &mut started).await;
    for (answer, count) in &run.counts {
        println!("{count:9} {answer}");
    }
    let pids = started
        .iter()
        .flat_map(|cluster| (0..cluster.len()).filter_map(|index| cluster.pid(index)));
    for peak in pids.filter_map(|pid| process::peak(pid).ok()) {
        println!("peak memory of a member: {} MiB", peak >> 20);
    }
    match result {
        Ok(cases) => {
            println!("{cases} cases, the member is up and its canary keys are unchanged");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            println!("{error:#}");
            if let Some(cluster) = &started {
                println!("{}", cluster.log_tails());
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

struct Run {
    member: Member,
    messages: message::Sender,
    endpoint: String,
    seed: u64,
    counts: Counts,
    view: View,
}

impl Run {
    /// Returns the number of cases when the time or the cases are over.
    async fn cases(&mut self, arguments: &Arguments, cluster: &mut Option<Cluster>) -> Result<u64> {
        self.put_canaries().await?;
        let canaries = self.read_canaries().await?;
        ensure!(
            canaries.len() == CANARIES.len(),
            "canary keys are missing at the start"
        );
        let until = Instant::now() + Duration::from_secs(arguments.seconds);
        let mut done = 0;
        while arguments
            .cases
            .map_or_else(|| Instant::now() < until, |cases| done < cases)
        {
            let batch = arguments
                .cases
                .map_or(BATCH, |cases| BATCH.min(cases - done));
            let first = arguments.first_case + done;
            for number in first..first + batch {
                self.case(number).await;
            }
            done += batch;
            self.check(&canaries, cluster).await.with_context(|| {
                let target = match arguments.target {
                    Target::Mizzen => "",
                    Target::Etcd => " --target etcd",
                };
                format!(
                    "after cases {first} to {}, reproduce: cargo run --release -p mizzen-tests \
                     --bin fuzz_member --{target} --seed {} --first-case {first} --cases {batch}",
                    first + batch - 1,
                    self.seed
                )
            })?;
        }
        Ok(done)
    }

    async fn case(&mut self, number: u64) {
        let mut rng = StdRng::seed_from_u64(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let answer = match rng.random_range(0..100u32) {
            0..80 => self.messages.case(&mut rng, &self.view).await,
            80..90 => call::case(&mut rng, &self.endpoint).await,
            _ => wire::case(&mut rng, &self.endpoint).await,
        };
        *self.counts.entry(answer).or_default() += 1;
    }

    /// The member runs, answers a linearizable read, and the canaries are as
    /// they were.
    async fn check(&mut self, before: &[KeyValue], cluster: &mut Option<Cluster>) -> Result<()> {
        if let Some(cluster) = cluster {
            for index in 0..cluster.len() {
                cluster.wait_ready(index).await?;
            }
        }
        let now = self.read_canaries().await?;
        ensure!(
            now == before,
            "canary keys changed from {before:?} to {now:?}"
        );
        Ok(())
    }

    async fn put_canaries(&self) -> Result<()> {
        for key in CANARIES {
            let request = PutRequest {
                key: key.into(),
                value: "unchanged".into(),
                ..PutRequest::default()
            };
            let answer = self.member.call(&Operation::Put(request)).await;
            answer.map_err(|failure| anyhow::anyhow!("put of a canary key: {failure}"))?;
        }
        Ok(())
    }

    /// Reads the canary keys, and what revision the store is at.
    async fn read_canaries(&mut self) -> Result<Vec<KeyValue>> {
        let request = RangeRequest {
            key: CANARIES[0].into(),
            range_end: Bytes::from_static(b"\0\0canary-d"),
            ..RangeRequest::default()
        };
        match self.member.call(&Operation::Range(request)).await {
            Ok(Reply::Range(reply)) => {
                let revision = reply.header.map_or(1, |header| header.revision);
                self.view.current = self.view.current.max(revision);
                Ok(reply.kvs)
            }
            Ok(other) => anyhow::bail!("canary keys: {other:?}"),
            Err(failure) => anyhow::bail!("canary keys: {failure}"),
        }
    }
}

/// Whether a write to the key or range would touch a canary.
fn touches_canary(key: &[u8], range_end: &[u8]) -> bool {
    CANARIES
        .iter()
        .map(|canary| canary.as_bytes())
        .any(|canary| match range_end {
            b"" => key == canary,
            b"\0" => key <= canary,
            end => key <= canary && canary < end,
        })
}
