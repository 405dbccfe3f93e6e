//! Which process holds the other end of a loopback connection.
//!
//! Members of any protocol can be told apart by this: the kernel's table of
//! TCP sockets gives the inode behind a local port, and the process's open
//! files name the same inode.

use std::fs;
use std::net::SocketAddr;

/// The member whose process opened the connection that comes from `peer`.
pub fn member_of(peer: SocketAddr, pids: &[(usize, u32)]) -> Option<usize> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = socket_inode(&table, peer)?;
    let wanted = format!("socket:[{inode}]");
    pids.iter()
        .find(|(_, pid)| holds(*pid, &wanted))
        .map(|(member, _)| *member)
}

/// The inode of the socket whose local address this is.
fn socket_inode(table: &str, local: SocketAddr) -> Option<u64> {
    let SocketAddr::V4(local) = local else {
        return None;
    };
    // The kernel prints the address as one number of the machine's byte order.
    let wanted = format!(
        "{:08X}:{:04X}",
        u32::from_ne_bytes(local.ip().octets()),
        local.port()
    );
    let mut rows = table.lines().skip(1).map(|l| l.split_ascii_whitespace());
    rows.find_map(|mut row| {
        let address = row.nth(1)?;
        let inode: u64 = row.nth(7)?.parse().ok()?;
        (address == wanted && inode != 0).then_some(inode)
    })
}

fn holds(pid: u32, wanted: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    files
        .flatten()
        .any(|f| fs::read_link(f.path()).is_ok_and(|t| t.to_string_lossy() == wanted))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn finds_this_process() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let me = std::process::id();
        let (_server, peer) = listener.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert_eq!(member_of(peer, &[(0, 1), (7, me)]), Some(7));
        assert_eq!(member_of(peer, &[]), None);
    }
}
