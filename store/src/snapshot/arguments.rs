//! The command line of `mizzen snapshot`.

use std::{ffi::OsString, path::PathBuf};

use super::Failure;

/// How `status` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Simple,
    Json,
    Fields,
    Table,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Help,
    Status { file: PathBuf, form: Form },
    Restore(RestoreFlags),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct RestoreFlags {
    pub file: PathBuf,
    pub skip_hash_check: bool,
    pub bump_revision: u64,
    /// What says where the member is and in which cluster, as a member's own flags.
    pub member: Vec<String>,
}

/// Flags that a member has as well.
const OF_A_MEMBER: [&str; 6] = [
    "data-dir",
    "wal-dir",
    "name",
    "initial-cluster",
    "initial-cluster-token",
    "initial-advertise-peer-urls",
];
/// etcdutl's default.
const INITIAL_CLUSTER: &str = "default=http://localhost:2380";

fn wrong(text: impl Into<String>) -> Failure {
    Failure::Arguments(text.into())
}

/// Flags with their values, in their order, and what is no flag.
struct Words {
    flags: Vec<(String, Option<String>)>,
    files: Vec<String>,
}

fn is_switch(name: &str) -> bool {
    matches!(name, "skip-hash-check" | "mark-compacted" | "help" | "h")
}

fn has_value(name: &str) -> bool {
    let of_the_file = ["bump-revision", "initial-memory-map-size", "w", "write-out"];
    OF_A_MEMBER.contains(&name) || of_the_file.contains(&name)
}

fn words(arguments: impl Iterator<Item = OsString>) -> Result<Words, Failure> {
    let mut words = Words {
        flags: Vec::new(),
        files: Vec::new(),
    };
    let mut arguments = arguments.map(|argument| {
        let text = argument.into_string();
        text.map_err(|argument| wrong(format!("{argument:?} is no text")))
    });
    while let Some(argument) = arguments.next().transpose()? {
        let flag = argument
            .strip_prefix("--")
            .or_else(|| argument.strip_prefix('-').filter(|name| !name.is_empty()));
        let Some(flag) = flag else {
            words.files.push(argument);
            continue;
        };
        let (name, mut value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        if !is_switch(name) && !has_value(name) {
            return Err(unknown(name));
        }
        if value.is_none() && !is_switch(name) {
            let next = arguments.next().transpose()?;
            value = Some(next.ok_or_else(|| wrong(format!("flag needs an argument: {argument}")))?);
        }
        words.flags.push((name.to_owned(), value));
    }
    Ok(words)
}

pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, Failure> {
    let Words { flags, mut files } = words(arguments)?;
    let help = flags.iter().any(|(name, _)| is_help(name));
    if help || files.is_empty() {
        return Ok(Command::Help);
    }
    let command = files.remove(0);
    if !["status", "restore"].contains(&command.as_str()) {
        return Err(wrong(format!(
            "unknown command {command:?} for \"mizzen snapshot\""
        )));
    }
    let file = match <[String; 1]>::try_from(files) {
        Ok([file]) => PathBuf::from(file),
        Err(_) => {
            return Err(wrong(format!(
                "snapshot {command} requires exactly one argument"
            )));
        }
    };
    match command.as_str() {
        "status" => status(file, flags),
        _ => restore(file, flags),
    }
}

fn is_help(name: &str) -> bool {
    matches!(name, "help" | "h")
}

fn unknown(name: &str) -> Failure {
    wrong(format!("unknown flag: --{name}"))
}

fn status(file: PathBuf, flags: Vec<(String, Option<String>)>) -> Result<Command, Failure> {
    let mut form = Form::Simple;
    for (name, value) in flags {
        if !matches!(name.as_str(), "w" | "write-out") {
            return Err(unknown(&name));
        }
        form = match value.as_deref() {
            Some("simple") => Form::Simple,
            Some("json") => Form::Json,
            Some("fields") => Form::Fields,
            Some("table") => Form::Table,
            _ => return Err(wrong("unsupported output format")),
        };
    }
    Ok(Command::Status { file, form })
}

fn restore(file: PathBuf, flags: Vec<(String, Option<String>)>) -> Result<Command, Failure> {
    let (mut skip, mut bump, mut mark) = (false, 0, false);
    let mut member = vec![format!("--initial-cluster={INITIAL_CLUSTER}")];
    for (name, value) in flags {
        let invalid = || wrong(format!("invalid argument for \"--{name}\" flag"));
        let on = || match value.as_deref() {
            None | Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(invalid()),
        };
        let text = value.as_deref().unwrap_or_default();
        match name.as_str() {
            "skip-hash-check" => skip = on()?,
            "mark-compacted" => mark = on()?,
            "bump-revision" => bump = text.parse().map_err(|_| invalid())?,
            // There is no map of memory here.
            "initial-memory-map-size" => {}
            _ if OF_A_MEMBER.contains(&name.as_str()) => member.push(format!("--{name}={text}")),
            _ => return Err(unknown(&name)),
        }
    }
    if (bump > 0) != mark {
        return Err(wrong("--mark-compacted required if --revision-bump > 0"));
    }
    Ok(Command::Restore(RestoreFlags {
        file,
        skip_hash_check: skip,
        bump_revision: bump,
        member,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        let arguments = line.split(' ').map(OsString::from);
        parse(arguments).map_err(|failure| match failure {
            Failure::Arguments(text) | Failure::Failed(text) => text,
        })
    }

    #[test]
    fn flags_stand_anywhere() {
        let expected = RestoreFlags {
            file: "a.db".into(),
            skip_hash_check: true,
            bump_revision: 7,
            member: vec![
                format!("--initial-cluster={INITIAL_CLUSTER}"),
                "--name=x".to_owned(),
                "--data-dir=d".to_owned(),
            ],
        };
        let line = "--name x restore --skip-hash-check a.db --data-dir=d --bump-revision 7 --mark-compacted";
        assert_eq!(parsed(line), Ok(Command::Restore(expected)));
        let status = Command::Status {
            file: "a.db".into(),
            form: Form::Json,
        };
        assert_eq!(parsed("status a.db -w json"), Ok(status));
        assert_eq!(parsed("restore --help"), Ok(Command::Help));
    }

    #[test]
    fn what_makes_no_sense_is_refused_as_by_etcdutl() {
        let bump = "--mark-compacted required if --revision-bump > 0";
        for (line, expected) in [
            ("restore", "snapshot restore requires exactly one argument"),
            (
                "status a b",
                "snapshot status requires exactly one argument",
            ),
            ("restore a --bump-revision 7", bump),
            ("restore a --mark-compacted", bump),
            ("restore a --nothing 7", "unknown flag: --nothing"),
            ("restore --nothing", "unknown flag: --nothing"),
            ("restore a --name", "flag needs an argument: --name"),
            (
                "restore a --bump-revision=-1",
                "invalid argument for \"--bump-revision\" flag",
            ),
            ("save", "unknown command \"save\" for \"mizzen snapshot\""),
            ("save a", "unknown command \"save\" for \"mizzen snapshot\""),
        ] {
            assert_eq!(parsed(line), Err(expected.to_owned()), "{line}");
        }
    }
}
