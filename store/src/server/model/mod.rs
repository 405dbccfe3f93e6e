//! What the rooms of a replica say to each other: who calls, proposals, the state that applying
//! publishes, the members' rows with the level of features agreed to, what a
//! member is opened with, and what it counts.

pub mod caller;
pub mod counted;
pub mod figures;
pub mod level;
pub mod members;
pub mod proposal;
pub mod published;
pub mod storage;
pub mod turn;
