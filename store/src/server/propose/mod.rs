//! From a client's command to the log: room for it, its way to the leader, and who
//! waits for what becomes of it.

pub mod forward;
pub mod space;
pub mod waiters;
