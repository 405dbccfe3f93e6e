//! Bugs planted on purpose, so that the tests can be shown to find them.
//!
//! One at most is planted in a process, by its name, in a build with the
//! feature `planted`. In any other build nothing can be planted, and the
//! question is answered when the code is compiled.

#[cfg(feature = "planted")]
static BUG: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Plants a bug. Only the first call counts.
#[cfg(feature = "planted")]
pub fn plant(bug: String) {
    let _first = BUG.set(bug);
}

/// Whether this bug is planted.
#[cfg(feature = "planted")]
pub fn has(bug: &str) -> bool {
    BUG.get().is_some_and(|planted| planted == bug)
}

/// Whether this bug is planted.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn has(_bug: &str) -> bool {
    false
}
