//! Free loopback ports for servers.
//!
//! They are looked for below the range from which the kernel serves outgoing
//! connections (32768 and up), or such a connection could take a member's port
//! while the member is down. For the same reason a process has blocks of ports
//! for itself as long as it lives: each is a file that it has locked.

use std::fs::File;
use std::net::TcpListener;
use std::ops::Range;
use std::sync::Mutex;

use anyhow::{Context as _, Result, ensure};

/// Names the first port to try, for a machine on which ranges are assigned.
const FIRST_PORT: &str = "MIZZEN_TEST_FIRST_PORT";
const LOWEST: u16 = 20_000;
const END: u16 = 32_000;
const BLOCK: u16 = 100;

/// What this process may still hand out, and the locks of what is its own.
#[derive(Debug)]
struct Own {
    left: Range<u16>,
    locks: Vec<File>,
}

static OWN: Mutex<Own> = Mutex::new(Own {
    left: 0..0,
    locks: Vec::new(),
});

/// `count` ports on which nobody listens now. None is handed out twice.
///
/// # Errors
/// Not enough of them, or the environment names a port out of range.
pub fn free(count: usize) -> Result<Vec<u16>> {
    let mut own = OWN.lock().unwrap_or_else(|broken| broken.into_inner());
    let mut ports = Vec::new();
    while ports.len() < count {
        let Some(port) = own.left.next() else {
            more(&mut own)?;
            continue;
        };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
    }
    Ok(ports)
}

/// Takes the next ports for this process.
fn more(own: &mut Own) -> Result<()> {
    if let Ok(given) = std::env::var(FIRST_PORT) {
        ensure!(own.left.start == 0, "no free port left");
        let port = given
            .parse()
            .with_context(|| format!("{FIRST_PORT}={given}"))?;
        ensure!((1024..END).contains(&port), "{FIRST_PORT}={given}");
        own.left = port..END;
        return Ok(());
    }
    let locks = std::env::temp_dir().join("mizzen-test-ports");
    std::fs::create_dir_all(&locks)?;
    for first in (LOWEST..END).step_by(usize::from(BLOCK)) {
        let path = locks.join(first.to_string());
        let lock = File::create(&path).with_context(|| path.display().to_string())?;
        // Another process has it, or this one.
        if lock.try_lock().is_ok() {
            own.left = first..first + BLOCK;
            own.locks.push(lock);
            return Ok(());
        }
    }
    anyhow::bail!("no free port left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_gets_a_port_that_was_handed_out() {
        let first = free(usize::from(BLOCK) + 1).expect("ports");
        let second = free(10).expect("ports");
        assert!(first.iter().all(|port| !second.contains(port)));
        let locks = std::env::temp_dir().join("mizzen-test-ports");
        let block = first[0] - first[0] % BLOCK;
        let other = File::create(locks.join(block.to_string())).expect("a file");
        assert!(other.try_lock().is_err(), "the block is not locked");
    }
}
