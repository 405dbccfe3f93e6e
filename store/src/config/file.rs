//! The YAML configuration file. Keys are the names of the flags, except where
//! etcd groups them. Durations are whole nanoseconds.

use std::path::Path;

use saphyr::{LoadableYamlNode, Scalar, Yaml};

use super::{
    error::Error,
    experimental::Renamed,
    notice::Notice,
    settings::{Settings, Source},
    support::Support,
    value::{Kind, Value, words},
};

/// Larger than any sensible configuration; a wrong path must not fill memory.
const FILE_BYTES: u64 = 1024 * 1024;

/// Sections in which a key that is not understood may weaken security.
const STRICT_SECTIONS: &[&str] = &["client-transport-security.", "peer-transport-security."];

/// Reads the file into `settings`.
pub(super) fn read(
    path: &Path,
    settings: &mut Settings,
    notices: &mut Vec<Notice>,
) -> Result<(), Error> {
    let fail = |reason: String| Error::invalid(format!("open {}: {reason}", path.display()));
    let length = std::fs::metadata(path)
        .map_err(|error| fail(reason(&error)))?
        .len();
    if length > FILE_BYTES {
        return Err(fail(format!("larger than {FILE_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| fail(reason(&error)))?;
    notices.push(Notice::LoadedFile {
        path: path.display().to_string(),
    });
    apply(&text, settings, notices)
}

/// The operating system's reason, in Go's words where they differ.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// Applies the text of a configuration file.
pub(super) fn apply(
    text: &str,
    settings: &mut Settings,
    notices: &mut Vec<Notice>,
) -> Result<(), Error> {
    let documents = Yaml::load_from_str(text)
        .map_err(|error| Error::invalid(format!("configuration file: {error}")))?;
    let mut leaves = Vec::new();
    match documents.first() {
        None => {}
        Some(Yaml::Value(Scalar::Null)) => {}
        Some(root @ Yaml::Mapping(_)) => flatten(String::new(), root, &mut leaves)?,
        Some(_) => {
            return Err(Error::invalid(
                "configuration file: not a mapping of names to values",
            ));
        }
    }
    for (path, value) in leaves {
        set(&path, value, settings, notices)?;
    }
    Ok(())
}

/// Collects the values of nested mappings under keys joined by dots. Nulls
/// leave a flag at its default.
fn flatten<'a, 'input>(
    prefix: String,
    node: &'a Yaml<'input>,
    leaves: &mut Vec<(String, &'a Yaml<'input>)>,
) -> Result<(), Error> {
    match node {
        Yaml::Mapping(mapping) => {
            for (key, value) in mapping {
                let Some(key) = key.as_str() else {
                    return Err(Error::invalid(format!(
                        "configuration file: a key is not a text: {key:?}"
                    )));
                };
                flatten(
                    if prefix.is_empty() {
                        key.to_owned()
                    } else {
                        format!("{prefix}.{key}")
                    },
                    value,
                    leaves,
                )?;
            }
        }
        Yaml::Value(Scalar::Null) => {}
        value => leaves.push((prefix, value)),
    }
    Ok(())
}

fn set(
    path: &str,
    value: &Yaml<'_>,
    settings: &mut Settings,
    notices: &mut Vec<Notice>,
) -> Result<(), Error> {
    let Some(setting) = settings.find_mut(|flag| {
        flag.file
            .is_some_and(|known| known.eq_ignore_ascii_case(path))
    }) else {
        if let Some(renamed) = Renamed::find(path) {
            let text = old_text(renamed, path, value, settings)?;
            return settings
                .set_old(path, renamed, &text, Source::File)
                .map_err(|reason| Error::invalid(format!("configuration file: {path}: {reason}")));
        }
        if STRICT_SECTIONS
            .iter()
            .any(|section| path.starts_with(section))
        {
            return Err(Error::invalid(format!(
                "configuration file: {path} is not known"
            )));
        }
        notices.push(Notice::UnknownKey {
            key: path.to_owned(),
        });
        return Ok(());
    };
    let kind = setting.flag.kind;
    if kind == Kind::Urls {
        let text = scalar_text(value)
            .ok_or_else(|| mismatch(path, "a text of URLs separated by commas"))?;
        return setting.set(&text, Source::File).map_err(|reason| {
            Error::invalid(format!("unexpected error setting up {path}: {reason}"))
        });
    }
    if let Kind::OneOf(words) | Kind::SomeOf(words) = kind {
        let word = scalar_text(value).ok_or_else(|| mismatch(path, "a text"))?;
        // Only --initial-cluster-state has an effect among the flags of this
        // kind, hence the text. As in etcd, an empty word leaves the default, and words of older
        // releases may stand where they have no effect.
        let free = word.is_empty() || matches!(setting.flag.support, Support::Accepted(_));
        if !free && !words.contains(&word.as_str()) {
            return Err(Error::invalid(format!("unexpected clusterState {word:?}")));
        }
        if !word.is_empty() {
            setting.value = Value::Text(word);
            setting.source = Source::File;
        }
        return Ok(());
    }
    setting.value = convert(path, kind, value)?;
    setting.source = Source::File;
    Ok(())
}

/// The value of a flag under its old name, as it would stand on the command line.
fn old_text(
    renamed: Renamed,
    path: &str,
    value: &Yaml<'_>,
    settings: &Settings,
) -> Result<String, Error> {
    let text = scalar_text(value).ok_or_else(|| mismatch(path, "a text"))?;
    Ok(match settings.kind_of(renamed) {
        Kind::Duration => format!("{text}ns"),
        _ => text,
    })
}

fn convert(path: &str, kind: Kind, value: &Yaml<'_>) -> Result<Value, Error> {
    match (kind, value) {
        (Kind::Bool, Yaml::Value(Scalar::Boolean(on))) => Ok(Value::Bool(*on)),
        (Kind::Bool, Yaml::Value(Scalar::String(word))) => match word.to_ascii_lowercase().as_str()
        {
            // YAML 1.1, by which etcd reads its file, has these words too.
            "yes" | "on" | "y" => Ok(Value::Bool(true)),
            "no" | "off" | "n" => Ok(Value::Bool(false)),
            _ => Err(mismatch(path, "true or false")),
        },
        (Kind::Bool, _) => Err(mismatch(path, "true or false")),
        (Kind::Uint, Yaml::Value(Scalar::Integer(number))) => u64::try_from(*number)
            .map(Value::Uint)
            .map_err(|_| mismatch(path, "a number of at least 0")),
        (Kind::Uint32, Yaml::Value(Scalar::Integer(number))) => u32::try_from(*number)
            .map(|number| Value::Uint(number.into()))
            .map_err(|_| mismatch(path, "a number from 0 to 4294967295")),
        (Kind::Int, Yaml::Value(Scalar::Integer(number))) => Ok(Value::Int(*number)),
        (Kind::Duration, Yaml::Value(Scalar::Integer(nanoseconds))) => {
            Ok(Value::Duration(*nanoseconds))
        }
        (Kind::Uint | Kind::Uint32 | Kind::Int, _) => Err(mismatch(path, "a whole number")),
        (Kind::Duration, _) => Err(mismatch(path, "a whole number of nanoseconds")),
        (Kind::Words, Yaml::Sequence(items)) => {
            let items = items
                .iter()
                .map(scalar_text)
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| mismatch(path, "a list of texts"))?;
            Ok(Value::Words(words(items.into_iter())))
        }
        (Kind::Words, _) => Err(mismatch(path, "a list of texts")),
        (_, value) => {
            let text = scalar_text(value).ok_or_else(|| mismatch(path, "a text"))?;
            kind.parse(&text).map_err(|reason| {
                Error::invalid(format!(
                    "configuration file: invalid value {text:?} for {path}: {reason}"
                ))
            })
        }
    }
}

/// A scalar as text, so that `auto-compaction-retention: 1` needs no quotes.
fn scalar_text(value: &Yaml<'_>) -> Option<String> {
    match value {
        Yaml::Value(Scalar::String(text)) => Some(text.to_string()),
        Yaml::Value(Scalar::Integer(number)) => Some(number.to_string()),
        Yaml::Value(Scalar::FloatingPoint(number)) => Some(number.to_string()),
        Yaml::Value(Scalar::Boolean(on)) => Some(on.to_string()),
        _ => None,
    }
}

fn mismatch(path: &str, wanted: &str) -> Error {
    Error::invalid(format!("configuration file: {path} must be {wanted}"))
}
