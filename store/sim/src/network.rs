//! A network in memory that can keep what is sent to a host and from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    sync::{mpsc, watch},
};

const PIPE_BYTES: usize = 64 << 10;
/// Connections that wait to be accepted.
const BACKLOG: usize = 16;

pub type Connection = io::Result<DuplexStream>;

#[derive(Clone)]
pub struct Network {
    hosts: Arc<Mutex<BTreeMap<u64, Host>>>,
    cut_off: watch::Sender<BTreeSet<u64>>,
}

/// One life of a host.
#[derive(Clone)]
struct Host {
    listener: mpsc::Sender<Connection>,
    up: watch::Sender<bool>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            hosts: Arc::default(),
            cut_off: watch::channel(BTreeSet::new()).0,
        }
    }
}

pub fn url(host: u64) -> String {
    format!("http://{host}.host")
}

/// Another name of a host.
pub fn other_url(host: u64) -> String {
    format!("http://{host}.also.host")
}

fn number(name: &str) -> Option<u64> {
    name.split('.').next()?.parse().ok()
}

fn refused() -> io::Error {
    io::ErrorKind::ConnectionRefused.into()
}

impl Network {
    /// Connects a host, which begins a life. Gives what it is dialled by, and
    /// its way to the others.
    pub fn attach(&self, host: u64) -> (mpsc::Receiver<Connection>, View) {
        let (listener, connections) = mpsc::channel(BACKLOG);
        let life = Host {
            listener,
            up: watch::channel(true).0,
        };
        self.hosts.lock().insert(host, life.clone());
        let view = View {
            network: self.clone(),
            host,
            life,
        };
        (connections, view)
    }

    /// The life of a host ends, and its connections with it.
    pub fn detach(&self, host: u64) {
        if let Some(life) = self.hosts.lock().remove(&host) {
            life.up.send_replace(false);
        }
    }

    /// From now on nothing arrives that these hosts send to others or are sent
    /// by them, and nobody is told; what is kept now arrives when they are not
    /// among these any more.
    pub fn cut_off(&self, hosts: impl IntoIterator<Item = u64>) {
        self.cut_off.send_replace(hosts.into_iter().collect());
    }

    /// Returns when `from` can send to `to`.
    async fn reach(&self, from: u64, to: u64) {
        let apart = |cut: &BTreeSet<u64>| cut.contains(&from) != cut.contains(&to);
        let mut cut_off = self.cut_off.subscribe();
        // Cannot fail: the sender is this network's.
        let _ = cut_off.wait_for(|cut| !apart(cut)).await;
    }

    async fn carry(
        &self,
        from: u64,
        to: u64,
        mut reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
    ) {
        let mut bytes = vec![0; PIPE_BYTES];
        loop {
            match reader.read(&mut bytes).await {
                // Either end is gone, and the other one learns of it.
                Ok(0) | Err(_) => return,
                Ok(len) => {
                    self.reach(from, to).await;
                    if writer.write_all(&bytes[..len]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// A host's way to the others, for one life.
#[derive(Clone)]
pub struct View {
    network: Network,
    host: u64,
    life: Host,
}

impl View {
    /// Connects to the host of this name, as [`url`] and [`other_url`] say it.
    pub async fn connect(self, host: &str) -> Connection {
        let to = number(host).ok_or_else(refused)?;
        self.network.reach(self.host, to).await;
        let other = self.network.hosts.lock().get(&to).cloned();
        let other = other.filter(|_| *self.life.up.borrow());
        let other = other.ok_or_else(refused)?;
        let (ours, near) = tokio::io::duplex(PIPE_BYTES);
        let (far, theirs) = tokio::io::duplex(PIPE_BYTES);
        let accepted = other.listener.send(Ok(theirs)).await;
        accepted.map_err(|_| refused())?;
        tokio::spawn(async move {
            let ((near_in, near_out), (far_in, far_out)) =
                (tokio::io::split(near), tokio::io::split(far));
            let (from, network) = (self.host, &self.network);
            let (mut own, mut others) = (self.life.up.subscribe(), other.up.subscribe());
            // Cannot fail: the senders are here.
            tokio::select! {
                biased;
                _ = own.wait_for(|up| !up) => {}
                _ = others.wait_for(|up| !up) => {}
                () = network.carry(from, to, near_in, far_out) => {}
                () = network.carry(to, from, far_in, near_out) => {}
            }
        });
        Ok(ours)
    }
}
