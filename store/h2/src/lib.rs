//! The transport under the servers of HTTP/2: how bytes leave a connection.
//!
//! Knows streams of bytes. Must not know services or messages, nor anything
//! of the store: the resource API uses it as well.

mod coalesce;

pub use coalesce::Coalesce;
