//! Peer links that can be cut, delayed or reset: a TCP proxy in front of each
//! member's peer port, which knows which member opened each connection.

pub mod link;
pub mod owner;
pub mod proxy;
