//! Who has the machine. Tests of one program run beside each other, and those
//! that judge how long something takes have it alone meanwhile.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::const_new(());

/// A share of the machine, or all of it, until it is dropped. A test takes one
/// and no more: two would wait for each other.
#[derive(Debug)]
pub enum Machine {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// Waits until nobody has the machine alone.
pub async fn shared() -> Machine {
    Machine::Shared(MACHINE.read().await)
}

/// Waits until nobody has a share of the machine.
pub async fn alone() -> Machine {
    Machine::Alone(MACHINE.write().await)
}

/// As [`shared`], for tests without a runtime.
pub fn shared_blocking() -> Machine {
    Machine::Shared(MACHINE.blocking_read())
}
