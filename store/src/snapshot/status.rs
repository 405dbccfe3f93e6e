//! `mizzen snapshot status`: what a backup holds, as etcdutl says it.

use std::{collections::BTreeSet, io, ops::ControlFlow, path::Path};

use bytes::Bytes;
use mizzen_bolt::File;

use super::{Failure, arguments::Form, file::Backup};
use crate::etcd_file;

struct Status {
    hash: u32,
    revision: i64,
    keys: usize,
    bytes: u64,
    version: String,
}

pub fn print(path: &Path, form: Form) -> Result<(), Failure> {
    let backup = Backup::open(path)?;
    let file = File::open(&backup).map_err(io::Error::other)?;
    let status = status(&file)?;
    print!("{}", status.shown(form));
    Ok(())
}

fn status(file: &File<'_, Backup>) -> io::Result<Status> {
    let mut status = Status {
        hash: 0,
        revision: 0,
        keys: 0,
        bytes: file.size(),
        version: String::new(),
    };
    let mut living: BTreeSet<Bytes> = BTreeSet::new();
    for name in file.buckets().map_err(io::Error::other)? {
        status.hash = crc32c::crc32c_append(status.hash, &name);
        let mut failure = None;
        let mut visit = |key: &[u8], row: &[u8]| -> io::Result<()> {
            let hash = crc32c::crc32c_append(status.hash, key);
            status.hash = crc32c::crc32c_append(hash, row);
            if name == b"key" {
                let (revision, deletion) = etcd_file::revision(key)?;
                let key = etcd_file::key_of(key, row)?;
                status.revision = revision.main;
                match deletion {
                    true => living.remove(&key),
                    false => living.insert(key),
                };
            } else if name == b"meta" && key == b"storageVersion" {
                status.version = String::from_utf8_lossy(row).into_owned();
            }
            Ok(())
        };
        let scanned = file.scan(&name, |key, row| match visit(key, row) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        });
        scanned.map_err(io::Error::other)?;
        failure.map_or(Ok(()), Err)?;
    }
    status.keys = living.len();
    Ok(status)
}

impl Status {
    fn shown(&self, form: Form) -> String {
        let Self {
            hash,
            revision,
            keys,
            bytes,
            version,
        } = self;
        let columns = [
            ("hash", format!("{hash:x}")),
            ("revision", revision.to_string()),
            ("total keys", keys.to_string()),
            ("total size", humanized(*bytes)),
            ("version", version.clone()),
        ];
        let cells = || columns.iter().map(|(_, cell)| cell.as_str());
        match form {
            Form::Simple => cells().collect::<Vec<_>>().join(", ") + "\n",
            Form::Json => format!(
                "{{\"hash\":{hash},\"revision\":{revision},\"totalKey\":{keys},\"totalSize\":{bytes},\"version\":{}}}\n",
                serde_json::Value::from(version.as_str())
            ),
            Form::Fields => format!(
                "\"Hash\" : {hash}\n\"Revision\" : {revision}\n\"Keys\" : {keys}\n\"Size\" : {bytes}\n\"Version\" : {version}\n"
            ),
            Form::Table => table(&columns),
        }
    }
}

/// Names in the middle of their columns, and cells at their right.
fn table(columns: &[(&str, String); 5]) -> String {
    let widths = columns
        .each_ref()
        .map(|(name, cell)| name.len().max(cell.len()));
    let line = |left: &str, between: &str, right: &str| {
        let lines = widths.map(|width| "─".repeat(width + 2));
        format!("{left}{}{right}\n", lines.join(between))
    };
    let row = |cells: Vec<String>| format!("│ {} │\n", cells.join(" │ "));
    let names = columns.iter().zip(widths);
    let names = names.map(|((name, _), width)| format!("{:^width$}", name.to_uppercase()));
    let cells = columns.iter().zip(widths);
    let cells = cells.map(|((_, cell), width)| format!("{cell:>width$}"));
    [
        line("┌", "┬", "┐"),
        row(names.collect()),
        line("├", "┼", "┤"),
        row(cells.collect()),
        line("└", "┴", "┘"),
    ]
    .concat()
}

/// Bytes by thousands, with one digit behind the point where there is only one
/// before it.
fn humanized(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64 / 1_000.0, 0);
    while value >= 1_000.0 {
        value /= 1_000.0;
        unit += 1;
    }
    match value < 10.0 {
        true => format!("{value:.1} {}", UNITS[unit]),
        false => format!("{value:.0} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_units_of_thousands() {
        for (bytes, expected) in [
            (7, "7 B"),
            (1_000, "1.0 kB"),
            (20_480, "20 kB"),
            (1_500_000, "1.5 MB"),
            (12_345_678_901, "12 GB"),
        ] {
            assert_eq!(humanized(bytes), expected);
        }
    }
}
