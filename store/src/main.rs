//! The executable: one member of a cluster.

use std::process::ExitCode;

use mizzen_store::{member, server};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    member::run(server::NEWEST_LEVEL)
}
