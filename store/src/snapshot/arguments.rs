//! The command line of `mizzen snapshot`.

use std::{ffi::OsString, path::PathBuf};

use super::{Failure, data_dir};

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
    /// A backup, or the database of `from_data_dir`.
    pub file: PathBuf,
    /// An etcd's data directory.
    pub from_data_dir: Option<PathBuf>,
    /// Where its log is, if elsewhere.
    pub from_wal_dir: Option<PathBuf>,
    pub skip_hash_check: bool,
    pub bump_revision: u64,
    /// What says where the member is and in which cluster, as a member's own flags.
    pub member: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct MigrateFlags {
    /// A client URL.
    pub from: String,
    /// Name and password.
    pub user: Option<(String, String)>,
    pub skip_hash_check: bool,
    /// As of [`RestoreFlags`], and with which certificates to connect.
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
    let of_the_file = [
        "bump-revision",
        "cacert",
        "cert",
        "from",
        "from-data-dir",
        "from-wal-dir",
        "initial-memory-map-size",
        "key",
        "user",
        "w",
        "write-out",
    ];
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
    let from_dir = flags.iter().find(|(name, _)| name == "from-data-dir");
    let from_dir = from_dir.and_then(|(_, dir)| dir.as_deref());
    if let (Some(dir), [], "restore") = (from_dir, &files[..], &*command) {
        return restore(data_dir::database(dir.as_ref()), flags);
    }
    let file = match <[String; 1]>::try_from(files) {
        Ok([file]) if from_dir.is_none() || command != "restore" => PathBuf::from(file),
        _ => {
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
    let (mut from_data_dir, mut from_wal_dir) = (None, None);
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
            "from-data-dir" => from_data_dir = Some(PathBuf::from(text)),
            "from-wal-dir" => from_wal_dir = Some(PathBuf::from(text)),
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
    if from_wal_dir.is_some() && from_data_dir.is_none() {
        return Err(wrong(
            "--from-wal-dir means nothing without --from-data-dir",
        ));
    }
    Ok(Command::Restore(RestoreFlags {
        file,
        from_data_dir,
        from_wal_dir,
        skip_hash_check: skip,
        bump_revision: bump,
        member,
    }))
}

/// The command line of `mizzen migrate`; `None`: its help.
pub fn parse_migrate(
    arguments: impl Iterator<Item = OsString>,
) -> Result<Option<MigrateFlags>, Failure> {
    let Words { flags, files } = words(arguments)?;
    if flags.is_empty() || flags.iter().any(|(name, _)| is_help(name)) {
        return Ok(None);
    }
    if let Some(word) = files.first() {
        return Err(wrong(format!(
            "unknown command {word:?} for \"mizzen migrate\""
        )));
    }
    let mut migrate = MigrateFlags {
        member: vec![format!("--initial-cluster={INITIAL_CLUSTER}")],
        ..MigrateFlags::default()
    };
    for (name, value) in flags {
        let text = value.unwrap_or_default();
        // A member connects to others with these, and here nobody to it.
        let of_peers = match name.as_str() {
            "cacert" => Some("peer-trusted-ca-file"),
            "cert" => Some("peer-cert-file"),
            "key" => Some("peer-key-file"),
            name => OF_A_MEMBER.into_iter().find(|flag| *flag == name),
        };
        match (name.as_str(), of_peers) {
            (_, Some(flag)) => migrate.member.push(format!("--{flag}={text}")),
            ("from", _) => migrate.from = text,
            ("user", _) => {
                let user = text.split_once(':');
                let (name, password) = user.ok_or_else(|| wrong("--user is name:password"))?;
                migrate.user = Some((name.to_owned(), password.to_owned()));
            }
            ("skip-hash-check", _) => migrate.skip_hash_check = true,
            (name, _) => return Err(unknown(name)),
        }
    }
    match migrate.from.is_empty() {
        true => Err(wrong("--from is required")),
        false => Ok(Some(migrate)),
    }
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
            from_data_dir: None,
            from_wal_dir: None,
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
        let expected = RestoreFlags {
            file: "old/member/snap/db".into(),
            from_data_dir: Some("old".into()),
            from_wal_dir: Some("w".into()),
            member: vec![format!("--initial-cluster={INITIAL_CLUSTER}")],
            ..RestoreFlags::default()
        };
        let line = "restore --from-data-dir old --from-wal-dir=w";
        assert_eq!(parsed(line), Ok(Command::Restore(expected)));
    }

    #[test]
    fn a_migration_connects_as_etcdctl_does() {
        let line =
            "--from https://a:2379 --cacert=ca --cert=c --key=k --user=root:a:b --data-dir d";
        let flags = parse_migrate(line.split(' ').map(OsString::from));
        let expected = MigrateFlags {
            from: "https://a:2379".to_owned(),
            user: Some(("root".to_owned(), "a:b".to_owned())),
            skip_hash_check: false,
            member: [
                format!("--initial-cluster={INITIAL_CLUSTER}").as_str(),
                "--peer-trusted-ca-file=ca",
                "--peer-cert-file=c",
                "--peer-key-file=k",
                "--data-dir=d",
            ]
            .map(str::to_owned)
            .to_vec(),
        };
        assert!(matches!(flags, Ok(Some(flags)) if flags == expected));
        for line in [
            "--data-dir=d",
            "x --from=y",
            "--from=y --user=z",
            "--bump-revision=1",
        ] {
            let refused = parse_migrate(line.split(' ').map(OsString::from));
            assert!(matches!(refused, Err(Failure::Arguments(_))), "{line}");
        }
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
            (
                "restore a --from-data-dir b",
                "snapshot restore requires exactly one argument",
            ),
            (
                "restore a --from-wal-dir b",
                "--from-wal-dir means nothing without --from-data-dir",
            ),
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
