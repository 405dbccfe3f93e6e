//! Users, roles and what they may do: the same calls to two servers, answers
//! side by side.
//!
//! Knows the client API. Must not know which server answers.

pub mod call;
pub mod random;
