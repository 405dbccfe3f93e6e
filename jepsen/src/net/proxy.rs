//! The proxy in front of one member's peer port.
//!
//! A connection opened by member a to member b carries bytes both ways; those
//! from a to b follow the link (a, b), the answers follow (b, a).

use super::link::{Links, Mode, State};
use super::owner;
use crate::cluster::View;
use anyhow::{Context, Result};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

const CHUNK: usize = 16 * 1024;
/// Chunks in flight on one direction of one connection; a held link fills
/// them and then the sender's own buffers.
const IN_FLIGHT: usize = 64;
/// Bytes of a dripping link that pass at once, and how often.
const DRIP: usize = 128;
const DRIP_EVERY: Duration = Duration::from_millis(5);
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Starts the proxy for `member`; it runs as long as the runtime.
pub async fn start(
    member: usize,
    listen: u16,
    target: u16,
    links: Links,
    view: Arc<View>,
) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", listen))
        .await
        .with_context(|| format!("listen on {listen}"))?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let (links, view) = (links.clone(), Arc::clone(&view));
                    tokio::spawn(async move {
                        let pids = view.pids();
                        let found =
                            tokio::task::spawn_blocking(move || owner::member_of(peer, &pids))
                                .await;
                        // A process that is gone already needs no connection.
                        if let Ok(Some(from)) = found {
                            relay(stream, from, member, target, links).await;
                        }
                    });
                }
                Err(_) => sleep(ACCEPT_RETRY).await,
            }
        }
    });
    Ok(())
}

async fn relay(inbound: TcpStream, from: usize, to: usize, target: u16, links: Links) {
    // A cut link lets no connection through: the handshake's packets are lost.
    let (Some(there), Some(back)) = (links.get(from, to), links.get(to, from)) else {
        return;
    };
    for link in [there, back] {
        let held = link
            .subscribe()
            .wait_for(|s| s.mode != Mode::Hold)
            .await
            .is_err();
        if held {
            return;
        }
    }
    let Ok(outbound) = TcpStream::connect(("127.0.0.1", target)).await else {
        return;
    };
    let _best_effort = (inbound.set_nodelay(true), outbound.set_nodelay(true));
    let (in_read, in_write) = inbound.into_split();
    let (out_read, out_write) = outbound.into_split();
    let forth = pump(in_read, out_write, links.clone(), (from, to));
    let back = pump(out_read, in_write, links, (to, from));
    // A half that ends in order leaves the other one open; a reset ends both.
    let _ended = tokio::try_join!(forth, back);
}

/// Moves bytes one way until the end of the stream. An error, a reset link
/// included, ends the connection.
async fn pump(
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    links: Links,
    link: (usize, usize),
) -> io::Result<()> {
    let Some(state) = links.get(link.0, link.1).map(|l| l.subscribe()) else {
        return Ok(());
    };
    let resets = state.borrow().resets;
    let (send, receive) = mpsc::channel(IN_FLIGHT);
    let mut reset = state.clone();
    tokio::select! {
        moved = async { tokio::try_join!(reader(read, send, state.clone()), writer(write, receive, state, &links, link)) } => moved.map(|_| ()),
        _ = reset.wait_for(|s| s.resets != resets) => Err(io::ErrorKind::ConnectionReset.into()),
    }
}

/// Writes a chunk as the link's mode of this moment says.
async fn pass_on(
    write: &mut OwnedWriteHalf,
    mut bytes: Vec<u8>,
    state: &watch::Receiver<State>,
    links: &Links,
    link: (usize, usize),
) -> io::Result<()> {
    let mode = state.borrow().mode;
    if let (Mode::Drip | Mode::Corrupt, Some(link)) = (mode, links.get(link.0, link.1)) {
        link.count_hit(bytes.len());
    }
    if mode == Mode::Corrupt {
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 0x10;
        }
    }
    let mut rest = bytes.as_slice();
    while state.borrow().mode == Mode::Drip && rest.len() > DRIP {
        let (drop, more) = rest.split_at(DRIP);
        write.write_all(drop).await?;
        rest = more;
        sleep(DRIP_EVERY).await;
    }
    write.write_all(rest).await
}

struct Chunk {
    due: Instant,
    delayed: bool,
    bytes: Vec<u8>,
}

async fn reader(
    mut read: OwnedReadHalf,
    send: mpsc::Sender<Chunk>,
    state: watch::Receiver<State>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let n = read.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        let (due, delayed) = match state.borrow().mode {
            Mode::Delay(d) => (Instant::now() + d, true),
            Mode::Pass | Mode::Hold | Mode::Drip | Mode::Corrupt => (Instant::now(), false),
        };
        if send
            .send(Chunk {
                due,
                delayed,
                bytes: buffer[..n].to_vec(),
            })
            .await
            .is_err()
        {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
}

async fn writer(
    mut write: OwnedWriteHalf,
    mut receive: mpsc::Receiver<Chunk>,
    mut state: watch::Receiver<State>,
    links: &Links,
    link: (usize, usize),
) -> io::Result<()> {
    while let Some(chunk) = receive.recv().await {
        sleep_until(chunk.due).await;
        let held = state.borrow().mode == Mode::Hold;
        if let (true, Some(link)) = (held || chunk.delayed, links.get(link.0, link.1)) {
            link.count_hit(chunk.bytes.len());
        }
        if state.wait_for(|s| s.mode != Mode::Hold).await.is_err() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        pass_on(&mut write, chunk.bytes, &state, links, link).await?;
    }
    // The end of the stream is held back like everything before it.
    if state.wait_for(|s| s.mode != Mode::Hold).await.is_err() {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    write.shutdown().await
}
