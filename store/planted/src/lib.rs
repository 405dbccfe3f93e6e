//! Bugs planted on purpose, so that the tests can be shown to find them.
//!
//! Each is one line beside what is right, [`bug!`]. In a build with the feature
//! `planted` one of them at most exists in a process, by its name; in any other
//! build the compiler drops the wrong side.
//!
//! Knows names of bugs. Must not know what they break.

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

/// `bug!("name", right => wrong)` is `right`, or `wrong` where that bug is
/// planted. `bug!("name" => statements)` does them only there.
#[macro_export]
macro_rules! bug {
    ($name:literal => $($wrong:tt)*) => {
        if $crate::has($name) {
            $($wrong)*
        }
    };
    ($name:literal, $right:expr => $wrong:expr) => {
        if $crate::has($name) { $wrong } else { $right }
    };
}

#[cfg(test)]
mod tests {
    #[cfg(not(feature = "planted"))]
    #[test]
    fn without_the_feature_everything_is_right() {
        let mut count = bug!("a", 1 => 2);
        bug!("a" => count += 1);
        assert_eq!(count, 1);
    }
}
