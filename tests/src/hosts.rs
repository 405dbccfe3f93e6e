//! Hosts of their own for members: network namespaces on this machine, each on
//! a cable that can be pulled out without anybody being told.
//!
//! Needs root and `ip`. What is made here goes when it is dropped.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context as _, Result, ensure};

/// Networks made by this process.
static MADE: AtomicU8 = AtomicU8::new(0);

/// Some hosts on one network, which this machine reaches too.
#[derive(Debug)]
pub struct Hosts {
    network: Network,
    count: u8,
}

/// What its names and addresses are made of.
#[derive(Clone, Copy, Debug)]
struct Network {
    process: u32,
    number: u8,
}

impl Network {
    fn bridge(self) -> String {
        format!("mz{:x}b{}", self.process, self.number)
    }

    fn cable(self, host: u8) -> String {
        format!("mz{:x}c{}x{host}", self.process, self.number)
    }

    fn namespace(self, host: u8) -> String {
        format!("mizzen-{}-{}-{host}", self.process, self.number)
    }

    /// In a block that is set aside for tests of networks (RFC 2544).
    fn address(self, host: u8) -> Ipv4Addr {
        let process = u8::try_from(self.process % 256).expect("below 256");
        Ipv4Addr::new(198, 18 + self.number % 2, process, host)
    }
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .context("no ip on the PATH")?;
    ensure!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

impl Hosts {
    /// # Errors
    /// This process may not make any, or cannot.
    pub fn new(count: u8) -> Result<Self> {
        let network = Network {
            process: std::process::id() & 0xf_ffff,
            number: MADE.fetch_add(1, Ordering::Relaxed),
        };
        let hosts = Self { network, count };
        let bridge = network.bridge();
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!(
            "addr add {}/24 dev {bridge}",
            network.address(254)
        ))?;
        ip(&format!("link set {bridge} up"))?;
        for host in 1..=count {
            let (cable, namespace) = (network.cable(host), network.namespace(host));
            ip(&format!("netns add {namespace}"))?;
            ip(&format!(
                "link add {cable} type veth peer name eth0 netns {namespace}"
            ))?;
            ip(&format!("link set {cable} master {bridge} up"))?;
            let address = network.address(host);
            for command in [
                format!("addr add {address}/24 dev eth0"),
                "link set eth0 up".to_owned(),
                "link set lo up".to_owned(),
            ] {
                ip(&format!("-n {namespace} {command}"))?;
            }
        }
        Ok(hosts)
    }

    /// The address of host `index`, counted from 0 as members are.
    pub fn address(&self, index: usize) -> Ipv4Addr {
        self.network.address(host(index))
    }

    /// What a command begins with that runs on host `index`.
    pub fn prefix(&self, index: usize) -> Vec<String> {
        let namespace = self.network.namespace(host(index));
        ["ip", "netns", "exec", &namespace]
            .map(str::to_owned)
            .to_vec()
    }

    /// From now on whatever is sent to the host or by it is lost.
    ///
    /// # Errors
    /// The command fails.
    pub fn unplug(&self, index: usize) -> Result<()> {
        ip(&format!(
            "link set {} nomaster",
            self.network.cable(host(index))
        ))
    }

    /// # Errors
    /// The command fails.
    pub fn plug_in(&self, index: usize) -> Result<()> {
        let (cable, bridge) = (self.network.cable(host(index)), self.network.bridge());
        ip(&format!("link set {cable} master {bridge}"))
    }
}

fn host(index: usize) -> u8 {
    u8::try_from(index + 1).expect("a few hosts")
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // What could not be made is not there to go, which is no failure then.
        for host in 1..=self.count {
            drop(ip(&format!("link del {}", self.network.cable(host))));
            drop(ip(&format!("netns del {}", self.network.namespace(host))));
        }
        drop(ip(&format!("link del {}", self.network.bridge())));
    }
}
