//! Kubernetes REST conventions over the etcd v3 API: see ARCHITECTURE.md.

pub mod bootstrap;
pub mod cache;
pub mod catalog;
pub mod codec;
pub mod defaults;
pub mod discovery;
pub mod error;
pub mod field;
pub mod http;
pub mod kind;
pub mod kinds;
pub mod limits;
pub mod metrics;
pub mod object;
pub mod openapi;
pub mod ownership;
pub mod patch;
pub mod registry;
pub mod schema;
pub mod select;
pub mod store;
pub mod table;
pub mod tasks;
pub mod token;
pub mod validate;
pub mod versions;
