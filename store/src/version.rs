//! What this build calls itself.

/// The etcd release whose API is served, as clients ask for it.
pub const ETCD: &str = "3.7.3";

/// The cluster's and the storage's version in etcd's terms.
pub const STORAGE: &str = "3.7.0";

pub const MIZZEN: &str = env!("CARGO_PKG_VERSION");
