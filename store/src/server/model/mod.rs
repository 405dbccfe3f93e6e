//! What the rooms of a replica say to each other: who calls, proposals, the state that applying
//! publishes, the members' rows with the level of features agreed to, and what a
//! member is opened with.

pub mod caller;
pub mod level;
pub mod members;
pub mod proposal;
pub mod published;
pub mod storage;
