//! Keeps kube-rs's watcher and store on the config maps of a namespace until
//! the store shows what it is told to expect, and reports what it saw: the same
//! words as the follower of client-go beside it in `../kubernetes/follow`.
//!
//!     kube-rs-follow KUBECONFIG NAMESPACE

use std::collections::HashMap;
use std::io::BufRead as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Config, ResourceExt as _};
use serde::Serialize;

/// The cache must become what is expected within this time.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default, Serialize)]
struct Report {
    objects: usize,
    events: usize,
    lists: usize,
    watches: usize,
    repeated: usize,
    jumped: usize,
}

#[derive(Default)]
struct Follower {
    report: Report,
    /// Version and counter of every object ever seen.
    seen: HashMap<String, (u64, u64)>,
    /// The cache: name to `version/counter`.
    cache: HashMap<String, String>,
    /// The cache that a list under way makes.
    listed: HashMap<String, String>,
    filled: bool,
}

fn parts(object: &ConfigMap) -> Result<(String, u64, u64)> {
    let version = object.resource_version().context("a version")?.parse()?;
    let counter = object.data.as_ref().and_then(|data| data.get("n"));
    let counter = counter.context("a counter")?.parse()?;
    Ok((object.name_any(), version, counter))
}

impl Follower {
    /// What changed one at a time must count one at a time, and only forward.
    fn note(&mut self, name: &str, version: u64, counter: u64, step: u64) {
        self.report.events += 1;
        if let Some((before, counted)) = self.seen.get(name) {
            self.report.repeated += usize::from(version <= *before);
            self.report.jumped += usize::from(counter != counted + step);
        }
        self.seen.insert(name.to_owned(), (version, counter));
    }

    fn take(&mut self, event: Event<ConfigMap>) -> Result<()> {
        match event {
            Event::Init => {
                self.report.lists += 1;
                self.listed.clear();
            }
            Event::InitApply(object) => {
                let (name, version, counter) = parts(&object)?;
                // What is as it was comes again with every list, by design.
                if self
                    .seen
                    .get(&name)
                    .is_none_or(|(before, _)| *before != version)
                {
                    self.note(&name, version, counter, 1);
                }
                self.listed.insert(name, format!("{version}/{counter}"));
            }
            Event::InitDone => {
                self.cache = std::mem::take(&mut self.listed);
                if !std::mem::replace(&mut self.filled, true) {
                    println!("synced");
                }
            }
            Event::Apply(object) => {
                let (name, version, counter) = parts(&object)?;
                self.note(&name, version, counter, 1);
                self.cache.insert(name, format!("{version}/{counter}"));
            }
            Event::Delete(object) => {
                let (name, version, counter) = parts(&object)?;
                self.note(&name, version, counter, 0);
                self.cache.remove(&name);
            }
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, kubeconfig, namespace] = &arguments[..] else {
        bail!("usage: kube-rs-follow KUBECONFIG NAMESPACE");
    };
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let maps: Api<ConfigMap> = Api::namespaced(Client::try_from(config)?, namespace);
    let config = watcher::Config::default().streaming_lists();
    let mut events = watcher::watcher(maps, config).default_backoff().boxed();
    let mut expected = tokio::task::spawn_blocking(|| -> Result<HashMap<String, String>> {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    });
    let mut follower = Follower::default();
    let (mut wanted, mut until) = (None, None);
    while wanted.as_ref() != Some(&follower.cache) {
        ensure!(
            until.is_none_or(|until| Instant::now() < until),
            "the cache is not what the store has"
        );
        tokio::select! {
            event = events.next() => match event.context("the watch ended for good")? {
                Ok(event) => follower.take(event)?,
                // It broke and is taken up again.
                Err(_) => follower.report.watches += 1,
            },
            line = &mut expected, if wanted.is_none() => {
                wanted = Some(line??);
                until = Some(Instant::now() + PATIENCE);
            }
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
    }
    follower.report.objects = follower.cache.len();
    println!("{}", serde_json::to_string(&follower.report)?);
    Ok(())
}
