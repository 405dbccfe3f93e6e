//! The directed links between members and what each does to its bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Bytes wait, as packets that are sent again and again do. Nothing is
    /// lost from a connection that survives.
    Hold,
    Delay(Duration),
    /// A few bytes at a time.
    Drip,
    /// A byte of each piece is changed.
    Corrupt,
}

#[derive(Clone, Copy, Debug)]
pub struct State {
    pub mode: Mode,
    /// Counts resets; connections close when it changes.
    pub resets: u32,
}

/// All bytes from one member to another, whoever opened the connection.
pub struct Link {
    state: watch::Sender<State>,
    /// Bytes that met a fault on this link.
    hit: AtomicU64,
}

impl Link {
    pub fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub fn count_hit(&self, bytes: usize) {
        self.hit.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

#[derive(Clone)]
pub struct Links {
    members: usize,
    links: Arc<Vec<Link>>,
}

impl Links {
    pub fn new(members: usize) -> Links {
        let state = State {
            mode: Mode::Pass,
            resets: 0,
        };
        let link = || Link {
            state: watch::Sender::new(state),
            hit: AtomicU64::new(0),
        };
        Links {
            members,
            links: Arc::new((0..members * members).map(|_| link()).collect()),
        }
    }

    pub fn members(&self) -> usize {
        self.members
    }

    pub fn get(&self, from: usize, to: usize) -> Option<&Link> {
        self.links.get(from * self.members + to)
    }

    pub fn set(&self, from: usize, to: usize, mode: Mode) {
        if let Some(link) = self.get(from, to) {
            link.state.send_modify(|s| s.mode = mode);
        }
    }

    pub fn reset(&self, from: usize, to: usize) {
        if let Some(link) = self.get(from, to) {
            link.state.send_modify(|s| s.resets += 1);
        }
    }

    pub fn heal(&self) {
        for link in self.links.iter() {
            link.state.send_modify(|s| s.mode = Mode::Pass);
        }
    }

    /// Bytes that met a fault on these links so far.
    pub fn hits(&self, links: &[(usize, usize)]) -> u64 {
        links
            .iter()
            .filter_map(|&(a, b)| self.get(a, b))
            .map(|l| l.hit.load(Ordering::Relaxed))
            .sum()
    }
}
