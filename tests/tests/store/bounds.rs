//! Rules of the sources that hold only if somebody looks.
//!
//! Every bound in a `limits.rs` is used by the code of its package. Whatever lives
//! as long as a process is started where it gets an owner.

use std::collections::BTreeMap;
use std::path::Path;

use super::sources::{self, names, root, shown};

/// Each file of bounds, and where the code that must use them is.
const BOUNDS: [(&str, &str); 5] = [
    ("store/src/limits.rs", "store/src"),
    ("store/wal/src/limits.rs", "store/wal/src"),
    ("store/core/src/limits.rs", "store/core/src"),
    ("store/h2/src/limits.rs", "store/h2/src"),
    ("apiserver/src/limits.rs", "apiserver/src"),
];

fn is_test_file(file: &Path) -> bool {
    file.iter()
        .any(|part| part == "tests" || part == "tests.rs")
}

/// A file without comments: what is code, and what is its own tests.
struct Source {
    path: String,
    code: String,
    tests: String,
}

fn read(file: &Path) -> Source {
    let text = sources::read(file);
    let path = shown(file);
    let of_tests = is_test_file(Path::new(&path));
    let mut source = Source {
        path,
        code: String::new(),
        tests: String::new(),
    };
    // One that is `mod tests;` ends nothing: its tests are in another file.
    let own = ["#[cfg(test)]\nmod tests {", "#[cfg(test)]\nmod test {"];
    let end = own.iter().filter_map(|start| text.find(start)).min();
    for (at, line) in text.split('\n').scan(0, |at, line| {
        let start = *at;
        *at += line.len() + 1;
        Some((start, line))
    }) {
        let code = line.split("//").next().unwrap_or_default();
        let tests = of_tests || end.is_some_and(|end| at >= end);
        let into = if tests {
            &mut source.tests
        } else {
            &mut source.code
        };
        into.push_str(code);
        into.push('\n');
    }
    source
}

/// Names of the public constants of a file.
fn constants(code: &str) -> Vec<String> {
    code.lines()
        .filter_map(|line| line.trim_start().strip_prefix("pub const "))
        .filter_map(|rest| rest.split(':').next())
        .map(|name| name.trim().to_owned())
        .collect()
}

#[test]
fn every_bound_is_used() {
    let mut unused = Vec::new();
    for (limits, package) in BOUNDS {
        let own = read(&root().join(limits));
        let bounds = constants(&own.code);
        assert!(bounds.len() > 3, "no constants in {limits}");
        let others: Vec<Source> = sources::all(&root().join(package))
            .iter()
            .map(|file| read(file))
            .filter(|source| source.path != limits)
            .collect();
        for name in bounds {
            // A bound may be there only to make another one.
            let makes_another = own
                .code
                .lines()
                .any(|line| names(line, &name) && !line.contains(&format!("const {name}:")));
            let used = others.iter().any(|source| names(&source.code, &name));
            if !used && !makes_another {
                unused.push(format!("{limits}: {name}"));
            }
        }
    }
    assert!(unused.is_empty(), "nothing enforces {unused:#?}");
}

/// Where threads and tasks may be started otherwise, and why.
fn may_start() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("store/src/workers.rs", "gives them their owner"),
        ("store/src/raft/runtime.rs", "openraft's tasks, watched"),
        ("apiserver/src/tasks.rs", "ends the process if one panics"),
        (
            "store/wal/src/lib.rs",
            "the log knows no owner: a thread that panics stops the log, which ends the member",
        ),
        (
            "store/src/server/apply/thread.rs",
            "threads of a scope: a panic is that of the thread that waits for them",
        ),
        (
            "store/engine/src/rocks/mod.rs",
            "a thread of a scope, joined at once",
        ),
        (
            "store/engine/src/rocks/removal.rs",
            "removes files; what it leaves is removed at the next start",
        ),
        (
            "store/src/listen/clients.rs",
            "tasks of connections: a panic is that of one client",
        ),
        (
            "store/src/tls/ports.rs",
            "handshakes: a panic is that of one client",
        ),
        (
            "apiserver/src/http/mod.rs",
            "tasks of connections: a panic is that of one client",
        ),
    ])
}

#[test]
fn whatever_runs_has_an_owner() {
    let may_start = may_start();
    let starts = ["spawn(", "spawn_blocking(", "spawn_scoped(", "spawn_local("];
    let owned = ["workers::spawn(", "tasks::spawn("];
    let mut seen = Vec::new();
    for folder in [
        "store/src",
        "store/engine/src",
        "store/h2/src",
        "store/wal/src",
        "store/descriptors/src",
        "apiserver/src",
    ] {
        for file in sources::all(&root().join(folder)) {
            let source = read(&file);
            for (number, line) in (1..).zip(source.code.lines()) {
                let mut rest = line.to_owned();
                owned.iter().for_each(|call| rest = rest.replace(call, ""));
                if !starts.iter().any(|start| rest.contains(start)) {
                    continue;
                }
                assert!(
                    may_start.contains_key(source.path.as_str()),
                    "{}:{number}: started without an owner: {line}",
                    source.path
                );
                seen.push(source.path.clone());
            }
        }
    }
    for (path, why) in may_start {
        assert!(
            seen.iter().any(|seen| seen == path),
            "{path} starts nothing any more ({why})"
        );
    }
}

#[test]
fn the_scanner_sees_what_it_looks_for() {
    let code = "pub const A_B: usize = 1;\n    pub const C: u8 = 2;\nconst D: u8 = 3;";
    assert_eq!(constants(code), ["A_B", "C"]);
    assert!(names("limits::A_B)", "A_B"));
    assert!(!names("limits::A_B_C", "A_B"));
    let this = read(&root().join("tests/tests/store/bounds.rs"));
    assert!(this.code.is_empty() && !this.tests.is_empty());
}
