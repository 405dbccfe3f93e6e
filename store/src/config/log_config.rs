//! Where the log goes, in which form, from which level on.

use std::path::PathBuf;

use super::{error::Error, settings::Settings};

/// From most to least. `Panic` and `Fatal` let only fatal lines through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
    Panic,
    Fatal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Json,
    /// Text.
    Console,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutput {
    Stderr,
    Stdout,
    /// Lines are appended.
    File(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    pub level: LogLevel,
    pub format: LogFormat,
    /// At least one, each once.
    pub outputs: Vec<LogOutput>,
}

pub(super) fn read(settings: &Settings) -> Result<LogConfig, Error> {
    match settings.text("logger") {
        "zap" => {}
        "capnslog" => return Err(Error::invalid("--logger=capnslog is removed in v3.5")),
        other => return Err(Error::invalid(format!("unknown logger option {other:?}"))),
    }
    Ok(LogConfig {
        level: level(settings.text("log-level"))?,
        format: format(settings)?,
        outputs: outputs(settings.words("log-outputs"))?,
    })
}

fn level(word: &str) -> Result<LogLevel, Error> {
    Ok(match word.to_ascii_lowercase().as_str() {
        "debug" => LogLevel::Debug,
        "info" | "" => LogLevel::Info,
        "warn" => LogLevel::Warn,
        "error" => LogLevel::Error,
        "dpanic" | "panic" => LogLevel::Panic,
        "fatal" => LogLevel::Fatal,
        _ => return Err(Error::invalid(format!("unrecognized level: {word:?}"))),
    })
}

fn format(settings: &Settings) -> Result<LogFormat, Error> {
    match settings.text("log-format") {
        _ if !settings.is_set("log-format") => Ok(LogFormat::Auto),
        "json" => Ok(LogFormat::Json),
        "console" => Ok(LogFormat::Console),
        "" => Ok(LogFormat::Auto),
        other => Err(Error::invalid(format!(
            "unknown log format: {other}, supported values json, console"
        ))),
    }
}

fn outputs(words: &[String]) -> Result<Vec<LogOutput>, Error> {
    if words.len() > 1 && words.iter().any(|word| word == "default") {
        return Err(Error::invalid(
            "multi logoutput for \"default\" is not supported yet",
        ));
    }
    // As in etcd, the null device discards everything.
    if words.iter().any(|word| word == "/dev/null") {
        return Ok(vec![LogOutput::File("/dev/null".into())]);
    }
    let mut outputs = Vec::new();
    for word in words {
        outputs.push(match word.as_str() {
            "default" | "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            "systemd/journal" => return Err(Error::invalid("--log-outputs=systemd/journal is not supported; systemd stores what is written to stderr")),
            path => LogOutput::File(path.into()),
        });
    }
    if outputs.is_empty() {
        outputs.push(LogOutput::Stderr);
    }
    Ok(outputs)
}
