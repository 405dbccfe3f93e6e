//! Bugs planted on purpose, so that the tests can be shown to find them, and
//! marks at states that tests must reach, [`sometimes!`].
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

/// Plants the bug that `MIZZEN_PLANTED` names, in a build that has them.
pub fn plant_by_environment() {
    #[cfg(feature = "planted")]
    if let Ok(bug) = std::env::var("MIZZEN_PLANTED") {
        plant(bug);
    }
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

/// Whether this build looks for states.
pub const LOOKS: bool = cfg!(feature = "planted");

#[cfg(feature = "planted")]
static REACHED: std::sync::Mutex<std::collections::BTreeSet<&str>> =
    std::sync::Mutex::new(std::collections::BTreeSet::new());

/// Says so in the log when a state is reached for the first time.
#[cfg(feature = "planted")]
pub fn reached(state: &'static str) {
    let first = REACHED.lock().is_ok_and(|mut states| states.insert(state));
    if first {
        eprintln!("reached: {state}");
    }
}

/// Says so in the log when a state is reached for the first time.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn reached(_state: &'static str) {}

/// `sometimes!("name")` stands where something rare happens, and
/// `sometimes!("name", condition)` where it does if that holds. Tests that never
/// come there have not looked at it.
#[macro_export]
macro_rules! sometimes {
    ($name:literal) => {
        $crate::reached($name)
    };
    ($name:literal, $when:expr) => {
        if $crate::LOOKS && $when {
            $crate::reached($name);
        }
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
