//! Free loopback ports for servers.
//!
//! They are looked for below the range from which the kernel serves outgoing
//! connections (32768 and up), or such a connection could take a member's port
//! while the member is down.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result, ensure};

/// Names the first port to try, for a machine on which ranges are assigned.
const FIRST_PORT: &str = "MIZZEN_TEST_FIRST_PORT";
const LOWEST: u16 = 20_000;
const END: u16 = 32_000;

/// Ports handed out before by this process, so that two clusters never share one.
static HANDED_OUT: AtomicU16 = AtomicU16::new(0);

/// `count` ports on which nobody listens now.
///
/// # Errors
/// Not enough of them, or the environment names a port out of range.
pub fn free(count: usize) -> Result<Vec<u16>> {
    let first = first()?;
    let mut ports = Vec::new();
    while ports.len() < count {
        let port = first.checked_add(HANDED_OUT.fetch_add(1, Ordering::Relaxed));
        let port = port
            .filter(|&port| port < END)
            .context("no free port left")?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
    }
    Ok(ports)
}

fn first() -> Result<u16> {
    let Ok(given) = std::env::var(FIRST_PORT) else {
        // Processes that run at a time begin at different places.
        let slot = std::process::id() % 100;
        return Ok(LOWEST + u16::try_from(slot * 100).context("slot of a process id")?);
    };
    let port = given
        .parse()
        .with_context(|| format!("{FIRST_PORT}={given}"))?;
    ensure!((1024..END).contains(&port), "{FIRST_PORT}={given}");
    Ok(port)
}
