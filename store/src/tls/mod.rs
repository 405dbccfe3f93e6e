//! TLS on the ports of clients and of peers, and when connecting to peers:
//! certificates and how they are made, checked, and read again when their files
//! change.
//!
//! Knows files, certificates, sockets, and which checks etcd makes. Must not
//! know what is said over a connection.

mod auto;
mod certificate;
mod credentials;
mod dial;
mod files;
mod ports;
mod provider;
mod reason;
mod san;
mod socket;
mod verify;

#[cfg(test)]
mod tests;

pub use credentials::{CLIENT, Credentials, PEER};
pub use dial::{ClientDial, PeerDial};
pub use ports::{Connection, Door, PeerCertificates};
pub use socket::{Bound, Socket};
#[cfg(feature = "fuzzing")]
pub(crate) use {certificate::Certificate, files::File};
