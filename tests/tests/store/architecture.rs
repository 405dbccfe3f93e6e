//! The boundaries of the design, held against the dependency graph and the
//! sources.

mod resource_api;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use self::resource_api::ALLOWED_IN_THE_RESOURCE_API;
use super::{
    sources::{code_lines, names, product, read, root},
    tidy::imported,
};

/// Names of the crates that `package` reaches by normal dependencies.
fn reached(package: &str, features: &[&str]) -> BTreeSet<String> {
    tree(package, "{p}", features)
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

/// The graph of normal dependencies, a package a line.
fn tree(package: &str, format: &str, features: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args([
            "tree",
            "--locked",
            "--offline",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            format,
            "--package",
            package,
        ])
        .args(features)
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

#[test]
fn the_state_machine_reaches_no_io_clock_or_chance() {
    let reached = reached("mizzen-core", &[]);
    assert!(
        reached.contains("bytes"),
        "the graph was not read: {reached:?}"
    );
    let forbidden = [
        "tokio",
        "rocksdb",
        "librocksdb-sys",
        "tonic",
        "hyper",
        "openraft",
        "rand",
        "rand_core",
        "getrandom",
        "fastrand",
        "chrono",
        "time",
        "libc",
        "rustix",
        "mio",
        "parking_lot",
        "prost",
    ];
    let found: Vec<_> = forbidden
        .into_iter()
        .filter(|name| reached.contains(*name))
        .collect();
    assert!(found.is_empty(), "mizzen-core reaches {found:?}");
}

#[test]
fn the_state_machine_names_no_io_clock_or_chance() {
    let forbidden = [
        "std::time",
        "std::fs",
        "std::io",
        "std::net",
        "std::thread",
        "std::env",
        "std::process",
        "HashMap",
        "HashSet",
        "RandomState",
        "f32",
        "f64",
    ];
    for file in product(&root().join("store/core/src")) {
        for (line, text) in code_lines(&file) {
            for word in forbidden {
                assert!(
                    !names(&text, word),
                    "{}:{line} names {word}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn the_log_knows_nothing_of_what_it_keeps() {
    let reached = reached("mizzen-wal", &[]);
    let ours: Vec<_> = reached
        .iter()
        .filter(|name| name.starts_with("mizzen-"))
        .collect();
    assert_eq!(ours, ["mizzen-counters", "mizzen-planted", "mizzen-wal"]);
    for name in ["tokio", "openraft"] {
        assert!(!reached.contains(name), "the log reaches {name}");
    }
}

/// What simulates disks, power and networks, and what is wrong on purpose, is in
/// builds for tests alone.
#[test]
fn the_server_contains_no_simulated_world() {
    assert!(reached("mizzen-store", &["--features", "planted"]).contains("mizzen-sim"));
    let released = reached("mizzen-store", &[]);
    assert!(
        released.contains("mizzen-wal"),
        "the graph was not read: {released:?}"
    );
    assert!(
        !released.contains("mizzen-sim"),
        "a release build has the simulated world"
    );
    assert!(features("mizzen-planted", &["--features", "planted"]).contains(&"planted".to_owned()));
    let planted = features("mizzen-planted", &[]);
    assert!(
        !planted.contains(&"planted".to_owned()),
        "a release build has bugs: {planted:?}"
    );
}

/// What the harness plants is in the store, and what is there is planted by it or
/// by a test of the store's own.
#[test]
fn every_planted_bug_has_its_place() {
    let table = read(&root().join("jepsen/src/planted.rs"));
    let (_, table) = table.split_once("pub const BUGS").expect("a table");
    let table = table.split("];").next().expect("its rows");
    let planted: BTreeSet<&str> = table
        .lines()
        .filter_map(|row| row.split_once("(\"")?.1.split('"').next())
        .collect();
    assert!(planted.len() > 20, "the table was not read: {planted:?}");
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let store = [
        "store/core/src",
        "store/wal/src",
        "store/src",
        "apiserver/src",
    ];
    for file in store.iter().flat_map(|src| product(&root().join(src))) {
        for (_, line) in code_lines(&file) {
            for mark in ["bug!(\"", "planted::has(\""] {
                for found in line.split(mark).skip(1) {
                    let name = found.split('"').next().unwrap_or_default();
                    *places.entry(name.to_owned()).or_default() += 1;
                }
            }
        }
    }
    // Found by tests of the store, not by the harness.
    let own = [
        "applied-before-durable",
        "auth-revision-unchecked",
        "dispatch-panics",
    ];
    let expected: BTreeSet<&str> = planted.into_iter().chain(own).collect();
    let found: BTreeSet<&str> = places.keys().map(String::as_str).collect();
    assert_eq!(found, expected);
}

/// The states that runs are asked for are marked in the code, and all of them are
/// asked for.
#[test]
fn every_state_to_be_reached_has_its_place() {
    let table = read(&root().join("jepsen/src/states.rs"));
    let (_, table) = table.split_once("pub const STATES").expect("a table");
    let table = table.split("];").next().expect("its rows");
    let wanted: BTreeSet<&str> = table
        .lines()
        .filter_map(|row| row.trim().strip_prefix('"')?.strip_suffix("\","))
        .collect();
    assert!(wanted.len() > 20, "the table was not read: {wanted:?}");
    let mut marked = BTreeSet::new();
    let store = [
        "store/core/src",
        "store/wal/src",
        "store/src",
        "apiserver/src",
    ];
    for file in store.iter().flat_map(|src| product(&root().join(src))) {
        let text: String = code_lines(&file)
            .into_iter()
            .map(|(_, line)| line)
            .collect();
        for found in text.split("sometimes!(").skip(1) {
            let name = found.trim_start().trim_start_matches('"');
            let name = name.split('"').next().unwrap_or_default();
            marked.insert(name.to_owned());
        }
    }
    let marked: BTreeSet<&str> = marked.iter().map(String::as_str).collect();
    assert_eq!(marked, wanted);
}

/// The features of `package` in a build of the server with `arguments`.
fn features(package: &str, arguments: &[&str]) -> Vec<String> {
    let tree = tree("mizzen-store", "{p} [{f}]", arguments);
    let found = tree.lines().find(|line| line.starts_with(package));
    let line = found.unwrap_or_else(|| panic!("{package} is not in {tree}"));
    let (_, features) = line.split_once('[').expect("features in brackets");
    let features = features.split(']').next().unwrap_or_default();
    features.split(',').map(str::to_owned).collect()
}

#[test]
fn the_simulated_world_needs_no_rocksdb() {
    let reached = reached("mizzen-sim", &[]);
    assert!(
        reached.contains("mizzen-engine"),
        "the graph was not read: {reached:?}"
    );
    assert!(
        !reached.contains("rocksdb"),
        "without its feature the engine package still reaches rocksdb"
    );
}

#[test]
fn the_resource_api_reaches_the_store_by_its_api_alone() {
    let ours = |package: &str| -> Vec<String> {
        let reached = reached(package, &[]).into_iter();
        reached.filter(|name| name.starts_with("mizzen-")).collect()
    };
    assert_eq!(
        ours("mizzen-apiserver"),
        [
            "mizzen-apiserver",
            "mizzen-certs",
            "mizzen-descriptors",
            "mizzen-h2",
            "mizzen-planted",
            "mizzen-proto"
        ]
    );
    assert_eq!(ours("mizzen-descriptors"), ["mizzen-descriptors"]);
    assert_eq!(ours("mizzen-h2"), ["mizzen-h2"]);
}

/// What each module of the store may name. A new arrow is a decision: it
/// belongs into store/ARCHITECTURE.md first.
fn allowed() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("limits", &[][..]),
        ("version", &[]),
        ("url", &[]),
        ("auth", &["limits", "workers"]),
        ("config", &["limits", "url", "version"]),
        ("descriptors", &["limits"]),
        // TLS between members is a way to dial them.
        ("tls", &["config", "limits", "raft", "url", "workers"]),
        (
            "first_start",
            &["config", "limits", "member_dir", "raft", "server"],
        ),
        ("logging", &["config"]),
        ("member_dir", &[]),
        ("memory", &["limits", "server"]),
        ("workers", &[]),
        ("raft", &["limits", "workers"]),
        ("lease", &[]),
        ("watch", &["workers"]),
        (
            "server",
            &["auth", "lease", "limits", "raft", "watch", "workers"],
        ),
        ("concurrency", &["limits", "server", "watch"]),
        ("etcd_file", &["server", "version"]),
        // Whatever reads bytes; nobody knows it.
        (
            "fuzzing",
            &["auth", "etcd_file", "grpc", "http", "server", "tls"],
        ),
        (
            "grpc",
            &[
                "auth",
                "concurrency",
                "etcd_file",
                "limits",
                "server",
                "tls",
                "url",
                "version",
                "watch",
                "workers",
            ],
        ),
        ("listen", &["grpc", "limits", "tls", "workers"]),
        // Where connections hand over what is no call.
        ("http", &["grpc", "limits", "server", "version", "workers"]),
        // A program of its own in the same executable.
        (
            "snapshot",
            &[
                "config",
                "etcd_file",
                "first_start",
                "limits",
                "logging",
                "member_dir",
                "raft",
                "server",
                "tls",
            ],
        ),
        // Puts the parts together.
        (
            "member",
            &[
                "auth",
                "config",
                "descriptors",
                "first_start",
                "grpc",
                "http",
                "limits",
                "listen",
                "logging",
                "member_dir",
                "memory",
                "raft",
                "server",
                "snapshot",
                "tls",
                "url",
                "version",
                "workers",
            ],
        ),
    ])
}

/// The same for the harness: jepsen/src/lib.rs. A run drives the cluster, the
/// workloads and the nemesis, which write a history; checks read nothing else.
fn allowed_in_the_harness() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("clock", &[][..]),
        ("seed", &[]),
        ("history", &["clock"]),
        ("cluster", &["clock", "history"]),
        // Whom a link belongs to.
        ("net", &["cluster"]),
        // To be mended: what is known of the revisions belongs to neither, and
        // evidence is collected by clients.
        ("client", &["clock", "cluster", "evidence", "history"]),
        ("evidence", &["client", "history"]),
        ("workload", &["client", "evidence", "history", "seed"]),
        (
            "nemesis",
            &["client", "clock", "cluster", "evidence", "history", "net"],
        ),
        // The names that a history uses: kinds of faults, prefixes of keys.
        (
            "check",
            &["clock", "history", "nemesis", "seed", "workload"],
        ),
        ("finale", &["client", "history"]),
        ("progress", &["client", "clock", "cluster", "nemesis"]),
        ("cli", &["nemesis", "workload"]),
        (
            "run",
            &[
                "cli", "client", "clock", "cluster", "evidence", "finale", "history", "nemesis",
                "net", "progress", "seed", "workload",
            ],
        ),
        // The names of a run's files.
        ("report", &["check", "clock", "history", "run"]),
        ("planted", &["check", "cli", "nemesis", "workload"]),
        ("states", &["check", "run"]),
    ])
}

/// The rooms of a replica, from the floor up: who may name whom. `Server`, which
/// puts them together, may name all of them and none may name it.
fn allowed_in_the_server() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("model", &[][..]),
        ("error", &["model"]),
        ("leader", &["error"]),
        ("memory", &[]),
        ("admission", &["error"]),
        ("restore", &["model"]),
        ("read", &["admission", "error", "leader", "memory", "model"]),
        (
            "propose",
            &["admission", "error", "leader", "memory", "model", "read"],
        ),
        ("users", &["error", "model", "propose", "read"]),
        ("compaction", &["error", "model", "propose"]),
        ("lease", &["error", "leader", "model", "propose", "read"]),
        (
            "apply",
            &["error", "lease", "memory", "model", "propose", "read"],
        ),
        ("cluster", &["error", "leader", "model", "propose", "read"]),
    ])
}

#[test]
fn rooms_of_the_server_know_only_what_lies_below() {
    let (src, allowed) = (root().join("store/src/server"), allowed_in_the_server());
    let mut seen = BTreeSet::new();
    for file in product(&src) {
        let inside = file.strip_prefix(&src).expect("it lies below");
        let mut parts = inside.iter().map(|part| part.to_string_lossy());
        let room = parts.next().expect("a file has a name");
        let room = room.trim_end_matches(".rs").to_owned();
        if room == "mod" {
            continue;
        }
        let may = allowed
            .get(room.as_str())
            .unwrap_or_else(|| panic!("room {room} is not in the table"));
        let above = match parts.next().as_deref() {
            // Directly in `server/`, or the root of a room.
            None | Some("mod.rs") => "super::",
            Some(_) => "super::super::",
        };
        for path in imported(&file) {
            let path = path.strip_prefix("crate::server::").or_else(|| {
                let path = path.strip_prefix(above)?;
                (!path.starts_with("super::")).then_some(path)
            });
            let Some(name) = path.and_then(|path| path.split("::").next()) else {
                continue;
            };
            assert!(
                name == room || may.contains(&name),
                "{}: {room} must not know {name}",
                inside.display()
            );
        }
        seen.insert(room);
    }
    assert_eq!(
        seen.len(),
        allowed.len(),
        "the table names rooms that are gone: {seen:?}"
    );
}

#[test]
fn module_arrows_point_one_way() {
    arrows("store/src", &allowed());
    arrows(
        "apiserver/src",
        &BTreeMap::from(ALLOWED_IN_THE_RESOURCE_API),
    );
    arrows("jepsen/src", &allowed_in_the_harness());
}

fn arrows(src: &str, allowed: &BTreeMap<&str, &[&str]>) {
    let src = root().join(src);
    let mut seen = BTreeSet::new();
    for file in product(&src) {
        let inside = file.strip_prefix(&src).expect("sources lie in src");
        let module = inside
            .iter()
            .next()
            .expect("a file has a name")
            .to_string_lossy();
        let module = module.trim_end_matches(".rs");
        if matches!(module, "main" | "lib") {
            continue;
        }
        let may = allowed
            .get(module)
            .unwrap_or_else(|| panic!("module {module} is not in the table of arrows"));
        seen.insert(module.to_owned());
        for other in mentioned(&file) {
            assert!(
                other == module || may.contains(&other.as_str()),
                "{}: {module} must not know {other}",
                file.display()
            );
        }
    }
    assert_eq!(
        seen.len(),
        allowed.len(),
        "the table names modules that are gone: {seen:?}"
    );
}

/// Which module may name which outside crate: everything else must not.
#[test]
fn outside_crates_stay_where_they_belong() {
    let owners: [(&str, &[&str]); 18] = [
        ("openraft", &["raft"]),
        (
            "mizzen_engine",
            &[
                "raft",
                "server",
                "concurrency",
                "etcd_file",
                "grpc",
                "http",
                "member",
                "snapshot",
            ],
        ),
        (
            "mizzen_proto",
            &[
                "raft",
                "server",
                "concurrency",
                "etcd_file",
                // A running etcd at which first members meet.
                "first_start",
                "fuzzing",
                "grpc",
                "http",
                "snapshot",
            ],
        ),
        ("prost_reflect", &["http"]),
        ("mizzen_bolt", &["etcd_file", "fuzzing", "grpc", "snapshot"]),
        ("prometheus", &["http"]),
        ("procfs", &["http"]),
        ("hyper", &["listen"]),
        // Connections to peers, and those of clients.
        ("hyper_util", &["raft", "listen", "tls"]),
        ("rustls", &["tls"]),
        ("tokio_rustls", &["tls"]),
        ("x509_parser", &["tls"]),
        ("mizzen_certs", &["tls"]),
        ("mizzen_h2", &["grpc", "listen"]),
        (
            "mizzen_wal",
            &["descriptors", "raft", "server", "member", "snapshot"],
        ),
        // In builds with planted bugs, and for the fuzzer.
        ("mizzen_sim", &["member", "fuzzing"]),
        ("mizzen_descriptors", &["http", "listen", "member"]),
        ("mizzen_counters", &["raft", "server", "grpc", "http"]),
    ];
    let src = root().join("store/src");
    for file in product(&src) {
        let inside = file.strip_prefix(&src).expect("sources lie in src");
        let module = inside
            .iter()
            .next()
            .expect("a file has a name")
            .to_string_lossy();
        let module = module.trim_end_matches(".rs");
        for (line, text) in code_lines(&file) {
            for (name, may) in owners {
                let named = [
                    format!("{name}::"),
                    format!("use {name};"),
                    format!("use {name} as"),
                ];
                let uses = named.iter().any(|named| text.contains(named));
                assert!(
                    !uses || may.contains(&module),
                    "{}:{line}: {module} must not name {name}",
                    file.display()
                );
            }
        }
    }
}

/// Top-level modules that a file names by `crate::`, in paths and in groups.
fn mentioned(file: &Path) -> BTreeSet<String> {
    let text: String = code_lines(file)
        .into_iter()
        .map(|(_, text)| text + "\n")
        .collect();
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let group = match rest.strip_prefix('{') {
            Some(group) => top_level(group),
            None => vec![rest],
        };
        for path in group {
            let name: String = path
                .trim_start()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            found.insert(name);
        }
    }
    found.remove("");
    found
}

/// The comma-separated paths of a `use` group, not those nested in them.
fn top_level(group: &str) -> Vec<&str> {
    let mut paths = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                paths.push(&group[start..at]);
                return paths;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                paths.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    paths
}

#[test]
fn the_scanner_sees_what_it_looks_for() {
    assert_eq!(
        top_level("a::b, c::{d, e}, f};"),
        ["a::b", " c::{d, e}", " f"]
    );
    assert!(names("use std::time::Instant;", "std::time"));
    assert!(!names("let timestamp_f64x = 1;", "f64"));
}
