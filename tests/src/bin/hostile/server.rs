//! Servers under attack: clusters of this tool's, or one that runs already.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::process;
use tokio::runtime::Runtime;

/// Longest wait for what a flood has left behind to be worked off.
const SETTLED: Duration = Duration::from_secs(30);
/// A server is at rest that works for a tenth of this time.
const LOOK: Duration = Duration::from_millis(500);

pub struct Server {
    pub name: &'static str,
    /// Where it is attacked, `host:port`.
    pub endpoint: String,
    /// Processes whose memory is looked at.
    pids: Vec<u32>,
    cluster: Option<(Cluster, Runtime)>,
}

impl Server {
    /// One that runs already.
    pub fn running(endpoint: &str, pids: &[u32]) -> Self {
        Self {
            name: "given",
            endpoint: endpoint.to_owned(),
            pids: pids.to_vec(),
            cluster: None,
        }
    }

    /// A cluster of three, each of which may use so many bytes. Its leader is
    /// attacked.
    pub fn start(reference: bool, memory: u64) -> Result<Self> {
        let (name, binary) = match reference {
            true => ("reference", cluster::reference()?),
            false => ("mizzen", cluster::mizzen()?),
        };
        let runtime = Runtime::new()?;
        let limited = process::limited(memory)?;
        let words: Vec<&str> = limited.iter().map(String::as_str).collect();
        let options = Options::new(binary).run_by(&words);
        let cluster = runtime.block_on(Cluster::start(options))?;
        let mut server = Self {
            name,
            endpoint: String::new(),
            pids: Vec::new(),
            cluster: Some((cluster, runtime)),
        };
        server.revive()?;
        Ok(server)
    }

    /// Bytes that its processes hold together. One that has ended holds nothing.
    pub fn memory(&self) -> u64 {
        self.pids.iter().flat_map(|pid| process::rss(*pid)).sum()
    }

    /// Starts those again that have ended, and tells how many those were.
    pub fn revive(&mut self) -> Result<usize> {
        let Some((cluster, runtime)) = &mut self.cluster else {
            let ended = self.pids.iter().filter(|pid| process::rss(**pid).is_err());
            ensure!(ended.count() == 0, "a process of the server has ended");
            return Ok(0);
        };
        let mut ended = Vec::new();
        for index in 0..cluster.len() {
            if cluster.has_ended(index)? {
                cluster.spawn(index)?;
                ended.push(index);
            }
        }
        for index in &ended {
            runtime.block_on(cluster.wait_ready(*index))?;
        }
        let leader = runtime.block_on(cluster.leader())?;
        self.endpoint = cluster.endpoint(leader).to_owned();
        self.pids = (0..cluster.len())
            .filter_map(|index| cluster.pid(index))
            .collect();
        Ok(ended.len())
    }

    /// Waits until it has worked off what it was asked for.
    pub fn settle(&self) {
        let worked = || -> Duration {
            let each = self.pids.iter().flat_map(|pid| process::worked(*pid));
            each.sum()
        };
        let (begun, mut before) = (Instant::now(), worked());
        while begun.elapsed() < SETTLED {
            thread::sleep(LOOK);
            let now = worked();
            if now.saturating_sub(before) < LOOK / 10 {
                return;
            }
            before = now;
        }
    }
}
