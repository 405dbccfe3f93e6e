//! The value of every flag and where it came from: the command line by Go's
//! rules, then the environment.

use std::{collections::HashSet, ffi::OsString};

use super::{
    error::Error,
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
        Self { settings }
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
                None => arguments
                    .next()
                    .transpose()?
                    .ok_or_else(|| Error::Usage(format!("flag needs an argument: -{name}")))?,
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
