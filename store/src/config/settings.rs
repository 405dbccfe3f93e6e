//! The value of every flag and where it came from: the command line by Go's
//! rules, then the environment.

use std::{collections::HashSet, ffi::OsString, time::Duration};

use super::{
    error::Error,
    experimental::Renamed,
    notice::Notice,
    table::{FLAGS, Flag},
    url::Url,
    value::{Kind, Value},
};

/// Who set a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Default,
    CommandLine,
    Environment,
    File,
}

#[derive(Debug)]
pub(super) struct Setting {
    pub flag: &'static Flag,
    pub value: Value,
    pub source: Source,
}

/// A flag that was given under the name of an earlier release.
#[derive(Debug)]
struct Given {
    name: String,
    renamed: Renamed,
    value: Value,
    source: Source,
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Run,
    Help,
}

/// One setting for every flag of the table.
#[derive(Debug)]
pub(super) struct Settings {
    settings: Vec<Setting>,
    /// Under names of earlier releases.
    old: Vec<Given>,
}

impl Settings {
    /// Every flag at its default.
    pub fn new() -> Self {
        let settings = FLAGS
            .iter()
            .map(|flag| Setting {
                flag,
                value: flag
                    .kind
                    .parse(flag.default)
                    .expect("every default is valid for its kind"),
                source: Source::Default,
            })
            .collect();
        Self {
            settings,
            old: Vec::new(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.settings.iter()
    }

    pub fn find_mut(&mut self, wanted: impl Fn(&Flag) -> bool) -> Option<&mut Setting> {
        self.settings
            .iter_mut()
            .find(|setting| wanted(setting.flag))
    }

    fn get(&self, name: &str) -> &Setting {
        self.settings
            .iter()
            .find(|setting| setting.flag.name == name)
            .expect("the flag is in the table")
    }

    /// Sets a flag to a value of its kind.
    fn put(&mut self, name: &str, value: Value, source: Source) {
        let setting = self.find_mut(|flag| flag.name == name);
        let setting = setting.expect("the flag is in the table");
        (setting.value, setting.source) = (value, source);
    }

    /// Sets one feature gate.
    fn put_gate(&mut self, gate: &'static str, on: bool, source: Source) {
        let setting = self.find_mut(|flag| flag.name == "feature-gates");
        let setting = setting.expect("the flag is in the table");
        if let Value::Gates(gates) = &mut setting.value {
            gates.insert(gate, on);
        }
        setting.source = source;
    }

    /// Gives flags the values that they have under old names, with a warning each.
    ///
    /// # Errors
    /// One is given under both of its names.
    pub fn take_old_names(&mut self, notices: &mut Vec<Notice>) -> Result<(), Error> {
        for old in std::mem::take(&mut self.old) {
            let now = match old.renamed {
                Renamed::Flag(name) => {
                    if self.is_set(name) {
                        return Err(Error::invalid(format!(
                            "cannot specify both flags: --{} and --{name}, please just use --{name}",
                            old.name
                        )));
                    }
                    self.put(name, old.value, old.source);
                    format!("--{name}")
                }
                Renamed::Gate(gate) => {
                    let on = old.value == Value::Bool(true);
                    self.put_gate(gate, on, old.source);
                    format!("--feature-gates={gate}={on}")
                }
            };
            notices.push(Notice::Renamed { old: old.name, now });
        }
        Ok(())
    }

    /// Of the flag that has another name today.
    pub fn kind_of(&self, renamed: Renamed) -> Kind {
        match renamed {
            Renamed::Flag(name) => self.get(name).flag.kind,
            Renamed::Gate(_) => Kind::Bool,
        }
    }

    /// Sets a flag under its old name.
    ///
    /// # Errors
    /// The value is none of this flag; the reason alone.
    pub fn set_old(
        &mut self,
        name: &str,
        renamed: Renamed,
        text: &str,
        source: Source,
    ) -> Result<(), String> {
        let value = self.kind_of(renamed).parse(text)?;
        // As with names of today, the last one on a command line holds.
        self.old.retain(|before| before.name != name);
        self.old.push(Given {
            name: name.to_owned(),
            renamed,
            value,
            source,
        });
        Ok(())
    }

    pub fn is_set(&self, name: &str) -> bool {
        self.get(name).source != Source::Default
    }

    pub fn is_from_file(&self, name: &str) -> bool {
        self.get(name).source == Source::File
    }

    pub fn bool(&self, name: &str) -> bool {
        matches!(self.get(name).value, Value::Bool(true))
    }

    pub fn uint(&self, name: &str) -> u64 {
        match self.get(name).value {
            Value::Uint(number) => number,
            _ => unreachable!("{name} holds an unsigned number"),
        }
    }

    pub fn int(&self, name: &str) -> i64 {
        match self.get(name).value {
            Value::Int(number) | Value::Duration(number) => number,
            _ => unreachable!("{name} holds a number"),
        }
    }

    /// Nothing if it is negative, as in etcd.
    pub fn duration(&self, name: &str) -> Duration {
        u64::try_from(self.int(name)).map_or(Duration::ZERO, Duration::from_nanos)
    }

    pub fn text(&self, name: &str) -> &str {
        match &self.get(name).value {
            Value::Text(text) => text,
            _ => unreachable!("{name} holds a text"),
        }
    }

    pub fn urls(&self, name: &str) -> &[Url] {
        match &self.get(name).value {
            Value::Urls(urls) => urls,
            _ => unreachable!("{name} holds URLs"),
        }
    }

    /// Whether a feature gate is on.
    pub fn gate(&self, name: &str) -> bool {
        match &self.get("feature-gates").value {
            Value::Gates(gates) => gates.get(name).copied().unwrap_or(false),
            _ => unreachable!("feature-gates holds gates"),
        }
    }

    pub fn words(&self, name: &str) -> &[String] {
        match &self.get(name).value {
            Value::Words(words) => words,
            _ => unreachable!("{name} holds words"),
        }
    }

    /// Reads the arguments after the program's name. A later flag wins over an
    /// earlier one.
    pub fn read_arguments(
        &mut self,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Request, Error> {
        let mut arguments = arguments.into_iter().map(|argument| {
            argument
                .into_string()
                .map_err(|bytes| Error::Usage(format!("{bytes:?} is not valid UTF-8")))
        });
        while let Some(argument) = arguments.next().transpose()? {
            let name = match argument.strip_prefix('-') {
                // A flag must have a name, and may have one or two dashes.
                Some(rest) if !rest.is_empty() => rest.strip_prefix('-').unwrap_or(rest),
                _ => return Err(not_a_flag(&argument)),
            };
            if argument == "--" {
                return match arguments.next().transpose()? {
                    Some(rest) => Err(not_a_flag(&rest)),
                    None => Ok(Request::Run),
                };
            }
            if name.is_empty() || name.starts_with(['-', '=']) {
                return Err(Error::Usage(format!("bad flag syntax: {argument}")));
            }
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            if let Some(renamed) = Renamed::find(name) {
                let value = match value {
                    Some(value) => value,
                    None if self.kind_of(renamed).needs_no_value() => "true".to_owned(),
                    None => required(name, arguments.next())?,
                };
                self.set_old(name, renamed, &value, Source::CommandLine)
                    .map_err(|reason| {
                        Error::Usage(format!(
                            "invalid value {value:?} for flag -{name}: {reason}"
                        ))
                    })?;
                continue;
            }
            let Some(setting) = self.find_mut(|flag| flag.name == name) else {
                return match name {
                    "h" | "help" => Ok(Request::Help),
                    _ => Err(Error::Usage(format!(
                        "flag provided but not defined: -{name}"
                    ))),
                };
            };
            let value = match value {
                Some(value) => value,
                None if setting.flag.kind.needs_no_value() => "true".to_owned(),
                None => required(name, arguments.next())?,
            };
            setting.set(&value, Source::CommandLine).map_err(|reason| {
                Error::Usage(match setting.flag.kind {
                    Kind::Bool => format!("invalid boolean value {value:?} for -{name}: {reason}"),
                    _ => format!("invalid value {value:?} for flag -{name}: {reason}"),
                })
            })?;
        }
        Ok(Request::Run)
    }

    /// Fills in from the environment what the command line left open. A
    /// variable whose flag is on the command line as well is an error, as in
    /// etcd.
    pub fn read_environment(
        &mut self,
        environment: &[(String, String)],
        notices: &mut Vec<Notice>,
    ) -> Result<(), Error> {
        const SPECIAL: &str = "ETCD_VERSION";
        let mut used = HashSet::from([SPECIAL.to_owned()]);
        if let Some(value) = variable(environment, SPECIAL) {
            notices.push(Notice::SpecialVariable {
                key: SPECIAL,
                value: value.to_owned(),
            });
        }
        let mut shadowed = HashSet::new();
        for setting in &mut self.settings {
            let key = setting.flag.environment();
            if setting.source != Source::Default {
                shadowed.insert(key);
                continue;
            }
            if used.contains(&key) {
                continue;
            }
            let Some(value) = variable(environment, &key) else {
                continue;
            };
            setting.set(value, Source::Environment).map_err(|reason| {
                Error::invalid(format!("invalid value {value:?} for {key}: {reason}"))
            })?;
            notices.push(Notice::FromEnvironment {
                name: key.clone(),
                value: value.to_owned(),
            });
            used.insert(key);
        }
        for (key, name) in Renamed::variables() {
            let Some(value) = variable(environment, &key) else {
                continue;
            };
            let renamed = Renamed::find(&name).expect("it is one of them");
            // As with names of today, the command line holds.
            if !self.old.iter().any(|given| given.name == name) {
                self.set_old(&name, renamed, value, Source::Environment)
                    .map_err(|reason| {
                        Error::invalid(format!("invalid value {value:?} for {key}: {reason}"))
                    })?;
            }
            used.insert(key);
        }
        for (key, value) in environment
            .iter()
            .filter(|(key, _)| key.starts_with("ETCD_") && !used.contains(key))
        {
            if shadowed.contains(key) {
                return Err(Error::invalid(format!(
                    "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag)): {key}"
                )));
            }
            notices.push(Notice::UnknownVariable(format!("{key}={value}")));
        }
        Ok(())
    }
}

/// The value that follows the name of a flag.
fn required(name: &str, value: Option<Result<String, Error>>) -> Result<String, Error> {
    let missing = || Error::Usage(format!("flag needs an argument: -{name}"));
    value.transpose()?.ok_or_else(missing)
}

impl Setting {
    /// Sets the value from a text. The error is the reason alone.
    pub fn set(&mut self, text: &str, source: Source) -> Result<(), String> {
        let value = self.flag.kind.parse(text)?;
        // An empty list of URLs does not take the default away.
        if !(self.flag.kind == Kind::Urls && text.is_empty()) {
            self.value = value;
        }
        self.source = source;
        Ok(())
    }

    pub fn is_default(&self) -> bool {
        self.flag.kind.parse(self.flag.default).as_ref() == Ok(&self.value)
    }
}

/// A variable's value; empty counts as absent, as in etcd.
pub(super) fn variable<'a>(environment: &'a [(String, String)], key: &str) -> Option<&'a str> {
    environment
        .iter()
        .find(|(name, _)| name == key)
        .map(|(_, value)| value.as_str())
        .filter(|value| !value.is_empty())
}

fn not_a_flag(argument: &str) -> Error {
    Error::invalid(format!("{argument:?} is not a valid flag"))
}
