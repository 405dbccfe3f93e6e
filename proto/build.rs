//! Compiles the service definitions under `etcd/` and `mizzen/` without protoc.
//!
//! Both directories are listed, so a new file needs no change here.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message as _;

const DIRECTORIES: [&str; 2] = ["etcd", "mizzen"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let mut files = Vec::new();
    for directory in DIRECTORIES {
        println!("cargo:rerun-if-changed={directory}");
        files.extend(proto_files(Path::new(directory))?);
    }

    let descriptors = protox::compile(&files, ["."])?;
    let out_dir = std::env::var("OUT_DIR")?;
    fs::write(
        Path::new(&out_dir).join("descriptors.bin"),
        descriptors.encode_to_vec(),
    )?;

    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}

/// The `.proto` files of one directory in name order, none if it does not exist.
fn proto_files(directory: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    if directory.is_dir() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "proto")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
