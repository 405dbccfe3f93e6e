//! Many leases at work: kept and abandoned ones while leaders are killed, and
//! a storm of leases that end in the same second. Each lease has one key, and
//! its end is when a watch on any member first shows the deletion of that key.

mod book;
pub mod churn;
mod grant;
mod keep;
mod observe;
pub mod storm;

use std::time::Duration;

/// A call is given up after this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before a call that failed is tried at the next member.
const RETRY: Duration = Duration::from_millis(50);
