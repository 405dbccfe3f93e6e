//! The Rust sources of the workspace as text, for the tests that read them.
//! They are formatted by rustfmt, so an item ends at the first closing brace of
//! its own indentation.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the packages of the workspace are.
pub const PACKAGES: [&str; 16] = [
    "apiserver",
    "jepsen",
    "proto",
    "store",
    "store/bolt",
    "store/certs",
    "store/core",
    "store/counters",
    "store/descriptors",
    "store/engine",
    "store/h2",
    "store/fuzz",
    "store/planted",
    "store/sim",
    "store/wal",
    "tests",
];

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace")
        .to_owned()
}

/// The path of a file from the top of the workspace.
pub fn shown(file: &Path) -> String {
    let inside = file.strip_prefix(root()).expect("a file of the workspace");
    inside.display().to_string()
}

pub fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// All Rust sources below a folder, those of other packages left out.
pub fn all(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in entries(folder) {
        if path.is_dir() {
            if !path.join("Cargo.toml").is_file() {
                files.extend(all(&path));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// All Rust sources below a folder but its tests.
pub fn product(folder: &Path) -> Vec<PathBuf> {
    let mut files = all(folder);
    files.retain(|file| {
        let inside = file.strip_prefix(folder).expect("it lies below");
        !inside
            .iter()
            .any(|part| part == "tests" || part == "tests.rs")
    });
    assert!(!files.is_empty(), "no sources in {}", folder.display());
    files
}

/// What lies in a folder, in the order of names.
pub fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("the folder can be listed").path())
        .collect();
    paths.sort();
    paths
}

/// The lines of a file with their numbers, without comments and without what is
/// compiled for tests alone.
pub fn code_lines(file: &Path) -> Vec<(usize, String)> {
    code(&read(file))
}

pub fn code(text: &str) -> Vec<(usize, String)> {
    let mut kept = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            skip_item(&mut lines, indentation(line));
            continue;
        }
        kept.push((number, line.split("//").next().unwrap_or("").to_owned()));
    }
    kept
}

fn skip_item<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>, indent: usize) {
    let mut lines = lines.map(|(_, line)| line).skip_while(|line| {
        let line = line.trim_start();
        line.starts_with("#[") || line.starts_with("//")
    });
    let Some(first) = lines.next() else {
        return;
    };
    let ends_statement = |line: &str| line.ends_with(';') || line.ends_with(',');
    if ends_statement(first) || first.ends_with('}') {
        return;
    }
    let word = first.trim_start().trim_start_matches("pub ");
    let statement = ["use ", "const ", "static ", "type "]
        .iter()
        .any(|start| word.starts_with(start));
    let closing = format!("{}}}", " ".repeat(indent));
    let mut rest = lines.skip_while(|line| {
        !(*line == closing || statement && indentation(line) == indent && ends_statement(line))
    });
    rest.next();
}

pub fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Whether `text` names `word` as a whole.
pub fn names(text: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
    })
}

#[test]
fn code_after_tests_is_read() {
    let text = "use a;\n#[cfg(test)]\nmod tests;\nuse b; // word\n#[cfg(test)]\n#[path = \"x\"]\nmod tests {\n    fn f() {\n    }\n}\nuse c;\n#[cfg(test)]\nuse x::{\n    y,\n};\nuse d;\n";
    let kept: Vec<String> = code(text).into_iter().map(|(_, line)| line).collect();
    assert_eq!(kept, ["use a;", "use b; ", "use c;", "use d;"]);
}
