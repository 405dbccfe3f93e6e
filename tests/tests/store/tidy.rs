//! What a reader may count on: functions and files of a bounded length, a map
//! that is complete, one name for one public type of a package, no circle of
//! files. What does not hold yet is listed with its reason; the list is exact.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::sources::{
    self, PACKAGES, code_lines, entries, indentation, product, read, root, shown,
};

const FUNCTION_LINES: usize = 100;
const FILE_LINES: usize = 800;
/// With this a file says why it is longer.
const REASON: &str = "//! Long because ";

/// Compares what a rule found with what is exempt from it, each with a reason.
fn judge(rule: &str, found: &BTreeSet<String>, exempt: &[(&str, &str)]) {
    let known: BTreeSet<String> = exempt.iter().map(|(what, _)| (*what).to_owned()).collect();
    assert_eq!(
        known.len(),
        exempt.len(),
        "{rule}: an exemption comes twice"
    );
    assert!(
        exempt.iter().all(|(_, why)| !why.is_empty()),
        "{rule}: an exemption without a reason"
    );
    let new: Vec<_> = found.difference(&known).collect();
    assert!(new.is_empty(), "{rule}: {new:#?}");
    let gone: Vec<_> = known.difference(found).collect();
    assert!(
        gone.is_empty(),
        "{rule}: no exemption is needed any more for {gone:#?}"
    );
}

/// The functions of a text: name and number of lines, attributes not counted.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function(line) else {
            continue;
        };
        let indent = indentation(line);
        let closing = format!("{}}}", " ".repeat(indent));
        let declaration = format!("{}) -> ", " ".repeat(indent));
        let mut length = None;
        for (offset, line) in lines[at..].iter().enumerate() {
            let own = offset == 0 || line.starts_with(&declaration);
            // A method that a trait declares has no body.
            if own && line.ends_with(';')
                || line.trim_start() == ");" && indentation(line) == indent
            {
                break;
            }
            if *line == closing || offset == 0 && line.ends_with('}') {
                length = Some(offset + 1);
                break;
            }
        }
        found.extend(length.map(|length| (name, length)));
    }
    found
}

/// The name of the function that begins on a line.
fn function(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let mut word = words.next()?;
    while word.starts_with("pub") || ["async", "const", "extern", "\"C\""].contains(&word) {
        word = words.next()?;
    }
    if word != "fn" {
        return None;
    }
    let name = words.next()?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    Some(name[..end].to_owned())
}

#[test]
fn functions_are_short() {
    let mut found = BTreeSet::new();
    let mut count = 0;
    for package in PACKAGES {
        for file in sources::all(&root().join(package)) {
            for (name, lines) in functions(&read(&file)) {
                count += 1;
                if lines > FUNCTION_LINES {
                    found.insert(format!("{} {name}", shown(&file)));
                }
            }
        }
    }
    assert!(count > 3_000, "{count} functions were seen");
    judge("a function of more than 100 lines", &found, &LONG_FUNCTIONS);
}

#[test]
fn files_are_short_or_say_why_not() {
    let mut found = BTreeSet::new();
    for package in PACKAGES {
        for file in sources::all(&root().join(package)) {
            let text = read(&file);
            let says_why = text.lines().any(|line| line.starts_with(REASON));
            if text.lines().count() > FILE_LINES && !says_why {
                found.insert(shown(&file));
            }
        }
    }
    judge("a file of more than 800 lines", &found, &LONG_FILES);
}

/// A file that no program takes for a module is a test that nobody runs.
#[test]
fn every_test_belongs_to_a_program() {
    let folder = root().join("tests/tests");
    for entry in entries(&folder) {
        assert!(entry.is_dir(), "{} is no program's", shown(&entry));
    }
    for file in sources::all(&folder) {
        let stem = file.file_stem().expect("a name").to_string_lossy();
        if stem == "main" {
            continue;
        }
        let folder = file.parent().expect("it lies in a folder");
        let parent = match folder.join("main.rs") {
            main if main.is_file() => main,
            _ => folder.with_extension("rs"),
        };
        let declared = read(&parent)
            .lines()
            .any(|line| line == format!("mod {stem};"));
        assert!(declared, "{} does not name {stem}", shown(&parent));
    }
}

/// The names in the first column of a map's table.
fn mapped(file: &str) -> BTreeSet<String> {
    let text = read(&root().join(file));
    let (_, map) = text.split_once("## Code map").expect("a code map");
    let map = map.split("\n## ").next().expect("its text");
    map.lines()
        .filter_map(|line| line.strip_prefix("| ")?.split('|').next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(|name| name.trim_end_matches('/').to_owned())
        .collect()
}

/// The modules of a folder that have a file of their own, tests left out.
fn modules(src: &str) -> BTreeSet<String> {
    entries(&root().join(src))
        .iter()
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            let name = name
                .strip_suffix(".rs")
                .or_else(|| path.is_dir().then_some(name))?;
            (!["main", "lib", "tests"].contains(&name)).then(|| name.to_owned())
        })
        .collect()
}

#[test]
fn the_maps_name_what_is_there() {
    let packages = PACKAGES.iter().filter_map(|one| one.strip_prefix("store/"));
    let mut expected: BTreeSet<String> = packages.map(str::to_owned).collect();
    expected.extend(
        modules("store/src")
            .iter()
            .map(|name| format!("src/{name}")),
    );
    assert_eq!(
        mapped("store/ARCHITECTURE.md"),
        expected,
        "store/ARCHITECTURE.md"
    );
    let expected = modules("apiserver/src");
    assert_eq!(
        mapped("apiserver/ARCHITECTURE.md"),
        expected,
        "apiserver/ARCHITECTURE.md"
    );
}

#[test]
fn a_package_has_one_public_type_of_a_name() {
    let mut found = BTreeSet::new();
    for package in PACKAGES {
        let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for file in product(&root().join(package).join("src")) {
            for (_, line) in code_lines(&file) {
                let mut words = line.split_whitespace();
                if words.next() != Some("pub") {
                    continue;
                }
                if !matches!(words.next(), Some("struct" | "enum" | "trait" | "type")) {
                    continue;
                }
                // A type within a trait or an implementation belongs to that.
                if indentation(&line) > 0 {
                    continue;
                }
                let name = words.next().unwrap_or_default();
                let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
                let name = &name[..end.unwrap_or(name.len())];
                places
                    .entry(name.to_owned())
                    .or_default()
                    .insert(shown(&file));
            }
        }
        let twice = places.into_iter().filter(|(_, files)| files.len() > 1);
        found.extend(twice.map(|(name, _)| format!("{package} {name}")));
    }
    judge("public types of one name in a package", &found, &SAME_NAMES);
}

/// Which file of a package imports from which, by the paths that begin with
/// `crate` or `super`.
fn imports(src: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let files = product(src);
    let mut by_module = BTreeMap::new();
    for file in &files {
        by_module.insert(module_path(src, file), shown(file));
    }
    let mut graph = BTreeMap::new();
    for file in &files {
        let own = module_path(src, file);
        let mut targets = BTreeSet::new();
        for path in imported(file) {
            let mut path: Vec<String> = path.split("::").map(str::to_owned).collect();
            let mut base = own.clone();
            if path[0] == "crate" {
                base.clear();
                path.remove(0);
            }
            while path.first().is_some_and(|part| part == "super") {
                base.pop();
                path.remove(0);
            }
            base.extend(path);
            // The longest beginning that is a module: what follows is in it.
            while !by_module.contains_key(&base) {
                if base.pop().is_none() {
                    break;
                }
            }
            targets.extend(by_module.get(&base).cloned());
        }
        targets.remove(&shown(file));
        graph.insert(shown(file), targets);
    }
    graph
}

/// `a/b/mod.rs` and `a/b.rs` are `[a, b]`; the root is empty.
fn module_path(src: &Path, file: &Path) -> Vec<String> {
    let inside = file.strip_prefix(src).expect("it lies below");
    let mut path: Vec<String> = inside
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    let last = path.last().map(String::as_str);
    if last == Some("mod") || path.len() == 1 && matches!(last, Some("lib" | "main")) {
        path.pop();
    }
    path
}

/// The paths of a file's own `use` items, groups taken apart.
pub fn imported(file: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    let mut statement: Option<String> = None;
    for (_, line) in code_lines(file) {
        let begins = indentation(&line) == 0
            && line
                .split_once("use ")
                .is_some_and(|(before, _)| before.is_empty() || before.starts_with("pub"));
        if begins {
            statement = Some(String::new());
        }
        let Some(text) = &mut statement else {
            continue;
        };
        text.push_str(line.trim());
        if line.trim_end().ends_with(';') {
            let text = statement.take().unwrap_or_default();
            let (_, path) = text.split_once("use ").expect("it begins so");
            flatten("", path.trim_end_matches(';'), &mut paths);
        }
    }
    paths.retain(|path| path.starts_with("crate::") || path.starts_with("super::"));
    paths
}

fn flatten(prefix: &str, path: &str, into: &mut Vec<String>) {
    let Some((before, group)) = path.split_once('{') else {
        let path = path.split(" as ").next().unwrap_or(path);
        into.push(format!("{prefix}{path}"));
        return;
    };
    let prefix = format!("{prefix}{before}");
    let (mut depth, mut start) = (0, 0);
    let group = group.strip_suffix('}').unwrap_or(group);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                flatten(&prefix, group[start..at].trim(), into);
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = group[start..].trim();
    if !last.is_empty() {
        flatten(&prefix, last, into);
    }
}

/// What can be reached from a file by one import or more.
fn reached(graph: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<&String> = graph[from].iter().collect();
    while let Some(file) = next.pop() {
        if seen.insert(file.clone()) {
            next.extend(&graph[file]);
        }
    }
    seen
}

#[test]
fn files_import_in_no_circle() {
    let mut found = BTreeSet::new();
    for package in PACKAGES {
        let graph = imports(&root().join(package).join("src"));
        found.extend(
            graph
                .keys()
                .filter(|file| reached(&graph, file).contains(*file))
                .cloned(),
        );
    }
    judge(
        "a file that imports, over others, from itself",
        &found,
        &CIRCLES,
    );
}

#[test]
fn the_rules_see_what_they_look_for() {
    let text = "pub async fn a(\n    b: u8,\n) -> u8 {\n    b\n}\n\ntrait T {\n    fn c();\n    fn d(\n        x: u8,\n    ) -> u8;\n    fn e() {}\n}\n";
    let found = functions(text);
    let expected = [("a", 5), ("e", 1)].map(|(name, lines)| (name.to_owned(), lines));
    assert_eq!(found, expected);
    let mut paths = Vec::new();
    flatten("", "crate::{a::{b, c as d}, e}", &mut paths);
    assert_eq!(paths, ["crate::a::b", "crate::a::c", "crate::e"]);
}

const LONG_FUNCTIONS: [(&str, &str); 4] = [
    (
        "store/src/member.rs serve",
        "to be mended: the parts of a member are put together in one go",
    ),
    ("tests/src/malformed/bodies.rs in_kind", "a table of cases"),
    ("tests/src/malformed/objects.rs all", "a table of objects"),
    (
        "tests/src/malformed/urls.rs subresource",
        "a table of cases",
    ),
];

const LONG_FILES: [(&str, &str); 0] = [];

const SAME_NAMES: [(&str, &str); 18] = [
    (
        "apiserver Fields",
        "to be mended: those of a protobuf message, and a selector of fields",
    ),
    (
        "apiserver Form",
        "to be mended: of an answer, and of the OpenAPI v2 document",
    ),
    (
        "apiserver Labels",
        "to be mended: a selector of labels, and the labels of a series",
    ),
    (
        "apiserver Kind",
        "to be mended: of a resource, and of a value in a schema",
    ),
    ("jepsen Kind", "to be mended: of a workload, and of a fault"),
    (
        "store Answer",
        "to be mended: to a question for leases, and to a proposal",
    ),
    (
        "store Change",
        "to be mended: of leases, of members, and of a key",
    ),
    (
        "store DecodeError",
        "to be mended: of a proposal, and of an entry",
    ),
    (
        "store Error",
        "to be mended: of the server, of the configuration, and of locks and elections",
    ),
    ("store Gate", "to be mended: a feature's, and a transfer's"),
    (
        "store Identity",
        "to be mended: as configured, and as stored",
    ),
    (
        "store/h2 Head",
        "to be mended: of a frame, and of a request",
    ),
    (
        "tests Arguments",
        "the subcommands of one tool, each in its module",
    ),
    (
        "tests Counts",
        "of the reflectors, and of the renewals: each in its module",
    ),
    (
        "tests Outcome",
        "of an operation, and of a load: each in its module",
    ),
    ("tests Plan", "of churn, and of a storm: each in its module"),
    (
        "tests Report",
        "what a module's run came to, one for each module with a run",
    ),
    (
        "tests Settings",
        "what a module's run takes, one for each module with a run",
    ),
];

const CIRCLES: [(&str, &str); 11] = [
    (
        "apiserver/src/http/chain.rs",
        "to be mended: the context of a request is in the file of the chain",
    ),
    (
        "apiserver/src/http/endpoint.rs",
        "to be mended: the context of a request is in the file of the chain",
    ),
    (
        "apiserver/src/http/request.rs",
        "to be mended: the context of a request is in the file of the chain",
    ),
    (
        "apiserver/src/http/resource.rs",
        "to be mended: the context of a request is in the file of the chain",
    ),
    (
        "apiserver/src/http/review.rs",
        "to be mended: the context of a request is in the file of the chain",
    ),
    (
        "store/wal/src/keeper.rs",
        "to be mended: the keeper and what it keeps know each other",
    ),
    (
        "store/wal/src/state.rs",
        "to be mended: the keeper and what it keeps know each other",
    ),
    (
        "store/src/watch/catch_up.rs",
        "to be mended: the hub and catching up know each other",
    ),
    (
        "store/src/watch/hub.rs",
        "to be mended: the hub and catching up know each other",
    ),
    (
        "tests/src/differential/generate.rs",
        "to be mended: what draws and what is drawn know each other",
    ),
    (
        "tests/src/differential/txn.rs",
        "to be mended: what draws and what is drawn know each other",
    ),
];
