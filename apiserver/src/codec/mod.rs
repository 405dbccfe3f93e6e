//! Encodings of objects: JSON and Kubernetes' protobuf, both ways, by the
//! schema. Knows bytes and types; knows no request, no store, no rule of a kind.
//!
//! The canonical form of an object is what Go's types make of it: unknown
//! fields gone (and reported), absent fields that Go prints filled in,
//! quantities and times in their canonical text. Protobuf to JSON is the only
//! decoder of protobuf: what a client reads is what was stored.

pub mod json;
pub mod mistake;
pub mod proto;
pub mod quantity;
mod time;
pub mod yaml;

pub use quantity::{canonical as canonical_quantity, compare as compare_quantities};
pub use time::{Precision, format as format_time, now, parse as parse_time};
