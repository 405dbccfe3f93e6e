//! The executable as it was before alarms, with which tests of rolling upgrades
//! begin. All that it lacks are the levels of features that came later.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    mizzen_store::member::run(1)
}
