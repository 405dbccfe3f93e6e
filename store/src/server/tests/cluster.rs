//! Members that lose their power one by one, and come back.

use mizzen_sim::{Event, Flaw, Image, Network, Power};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{collections::BTreeMap, io, sync::Arc};

use mizzen_sim::MemEngine;

use super::members::{Birth, Member, node};
use crate::{
    raft::PeerNode,
    server::{Attributes, Error, Server},
};

pub struct Cluster {
    pub network: Network,
    flaw: Flaw,
    lots: StdRng,
    hosts: BTreeMap<u64, Host>,
}

struct Host {
    id: u64,
    first: BTreeMap<u64, PeerNode>,
    state: State,
}

enum State {
    Up(Member, Power),
    Down(Image),
}

impl Cluster {
    /// A new cluster of the members 1 to `members`, each on the host of its
    /// number.
    pub async fn start(seed: u64, members: u64, flaw: Flaw) -> io::Result<Self> {
        let mut cluster = Self {
            network: Network::default(),
            flaw,
            lots: StdRng::seed_from_u64(seed),
            hosts: BTreeMap::new(),
        };
        let first: BTreeMap<_, _> = (1..=members).map(|host| (host, node(host))).collect();
        for host in 1..=members {
            cluster.put(host, host, first.clone());
        }
        for host in 1..=members {
            cluster.boot(host).await?;
        }
        Ok(cluster)
    }

    fn put(&mut self, host: u64, id: u64, first: BTreeMap<u64, PeerNode>) {
        let image = Image::empty(self.lots.random());
        let state = State::Down(image);
        self.hosts.insert(host, Host { id, first, state });
    }

    /// A host for a member that joins; it is down.
    pub fn add(&mut self, host: u64, id: u64) {
        self.put(host, id, BTreeMap::new());
    }

    /// Returns when every member that is up may serve clients.
    pub async fn ready(&self) -> io::Result<()> {
        for host in self.up() {
            if let Some(member) = self.member(host) {
                member.server.ready().await.map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    /// The member that is up on a host.
    pub fn member(&self, host: u64) -> Option<&Member> {
        match &self.hosts.get(&host)?.state {
            State::Up(member, _) => Some(member),
            State::Down(_) => None,
        }
    }

    /// The power of a host that is up.
    pub fn power(&self, host: u64) -> Option<&Power> {
        match &self.hosts.get(&host)?.state {
            State::Up(_, power) => Some(power),
            State::Down(_) => None,
        }
    }

    /// The hosts that are up.
    pub fn up(&self) -> Vec<u64> {
        let up = self.hosts.iter();
        up.filter(|(_, host)| matches!(host.state, State::Up(..)))
            .map(|(host, _)| *host)
            .collect()
    }

    pub fn is_up(&self, host: u64) -> bool {
        self.member(host).is_some()
    }

    /// The host of the member that leads, as one of them says.
    pub fn leader(&self) -> Option<u64> {
        let leads = |host: &u64| {
            let member = self.member(*host);
            member.is_some_and(|member| member.server.group().is_leader())
        };
        self.up().into_iter().rev().find(leads)
    }

    /// The power of a host goes off, if it has not.
    pub fn crash(&mut self, host: u64) {
        let seed = self.lots.random();
        let Some(found) = self.hosts.get_mut(&host) else {
            return;
        };
        let State::Up(_, power) = &found.state else {
            return;
        };
        let image = power.images(seed).pop().expect("a power of one disk");
        found.state = State::Down(image);
        self.network.detach(host);
    }

    /// Starts the member of a host that is down.
    pub async fn boot(&mut self, host: u64) -> io::Result<()> {
        let seed = self.lots.random();
        let gone = || io::Error::other("no such host");
        let found = self.hosts.get_mut(&host).ok_or_else(gone)?;
        let State::Down(image) = &found.state else {
            return Ok(());
        };
        let power = Power::new(Event::Never);
        let disk = power.attach(image.clone(), self.flaw);
        let birth = Birth {
            host,
            id: found.id,
            first: found.first.clone(),
            seed,
            stalls: host == 1,
        };
        let member = birth.start(disk, &self.network).await?;
        tokio::spawn(announce(member.server.clone(), host));
        found.state = State::Up(member, power);
        Ok(())
    }
}

/// What a process does once its member is there.
async fn announce(server: Arc<Server<MemEngine>>, host: u64) -> Result<(), Error> {
    server.ready().await?;
    let attributes = Attributes {
        member: server.group().id(),
        name: format!("m{host}"),
        client_urls: vec![format!("http://{host}.client")],
    };
    server.announce(attributes).await
}
