//! A block of loopback ports for one run.
//!
//! A block is claimed by holding its last port open, so two runs at once on
//! one machine take different blocks.

use anyhow::{Result, bail};
use std::net::TcpListener;

/// Below the ports that the system gives to outgoing connections: one of those may hold a member's port
/// at the moment it restarts.
const FIRST: u16 = 23_000;
const BLOCK: u16 = 20;
const BLOCKS: u16 = 50;
/// Five of each kind, and servers of the resource API, fit below the port that
/// holds the claim.
pub const MAX_MEMBERS: usize = 5;
pub const MAX_APISERVERS: usize = 4;

pub struct Ports {
    base: u16,
    _claim: TcpListener,
}

impl Ports {
    pub fn claim() -> Result<Ports> {
        for block in 0..BLOCKS {
            let base = FIRST + block * BLOCK;
            let Ok(claim) = TcpListener::bind(("127.0.0.1", base + BLOCK - 1)) else {
                continue;
            };
            let free = (base..base + (3 * MAX_MEMBERS + MAX_APISERVERS) as u16)
                .all(|p| TcpListener::bind(("127.0.0.1", p)).is_ok());
            if free {
                return Ok(Ports {
                    base,
                    _claim: claim,
                });
            }
        }
        bail!("no free block of {BLOCK} ports from {FIRST} on")
    }

    pub fn client(&self, member: usize) -> u16 {
        self.base + member as u16
    }

    pub fn peer(&self, member: usize) -> u16 {
        self.base + MAX_MEMBERS as u16 + member as u16
    }

    pub fn apiserver(&self, server: usize) -> u16 {
        self.base + 3 * MAX_MEMBERS as u16 + server as u16
    }

    /// Where the link proxy in front of a member's peer port listens.
    pub fn proxy(&self, member: usize) -> u16 {
        self.base + 2 * MAX_MEMBERS as u16 + member as u16
    }
}
