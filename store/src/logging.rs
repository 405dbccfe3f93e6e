//! The log: one line per event, JSON with etcd's keys (`level`, `ts`,
//! `caller`, `msg`, then the event's own fields) or text for people.
//!
//! Field names are printed with dashes for underscores, as etcd's are.
//! Knows nothing of what is logged. Lines of other crates carry their name
//! under `logger`, and appear from level warn on.

use std::{
    fmt::{self, Write as _},
    fs::{File, OpenOptions},
    io::{self, IsTerminal, Write},
};

use serde_json::Value;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::config::{Config, LogConfig, LogFormat, LogLevel, LogOutput};

/// The target of events that end the process; they have the level `fatal`:
/// `tracing::error!(target: logging::FATAL, ...)`.
pub const FATAL: &str = "fatal";

/// The prefix that the targets of this project's crates share.
const OWN: &str = "mizzen";

/// Opens the outputs, starts logging for the whole process, and writes what
/// reading the configuration had to say.
///
/// Fails if a file cannot be opened or the process logs already.
pub fn init(config: &Config) -> io::Result<()> {
    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = Vec::new();
    for output in &config.log.outputs {
        let (output, terminal) = Output::open(output)?;
        layers.push(layer(&config.log, output, terminal));
    }
    tracing_subscriber::registry()
        .with(layers)
        .try_init()
        .map_err(io::Error::other)?;
    for notice in &config.notices {
        notice.log();
    }
    Ok(())
}

/// One layer that writes to `output`. `terminal` says whether people read it.
fn layer<S, W>(config: &LogConfig, output: W, terminal: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let text = match config.format {
        LogFormat::Auto => terminal,
        LogFormat::Json => false,
        LogFormat::Console => true,
    };
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(output)
        .with_ansi(terminal);
    if text {
        layer
            .event_format(Text)
            .with_filter(filter(config.level))
            .boxed()
    } else {
        layer
            .event_format(Json)
            .with_filter(filter(config.level))
            .boxed()
    }
}

fn filter(level: LogLevel) -> Targets {
    let own = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Panic | LogLevel::Fatal => LevelFilter::OFF,
    };
    Targets::new()
        .with_default(own.min(LevelFilter::WARN))
        .with_target(OWN, own)
        .with_target(FATAL, LevelFilter::ERROR)
}

/// Where lines go. Each is written by one call, so lines do not mix.
enum Output {
    Stderr,
    Stdout,
    File(File),
}

impl Output {
    /// Opens it, and tells whether it is a terminal that shows colours.
    /// Without TERM nobody reads along, though a pseudo-terminal may be there
    /// to collect the output.
    fn open(output: &LogOutput) -> io::Result<(Self, bool)> {
        let colours =
            || std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
        Ok(match output {
            LogOutput::Stderr => (Output::Stderr, io::stderr().is_terminal() && colours()),
            LogOutput::Stdout => (Output::Stdout, io::stdout().is_terminal() && colours()),
            LogOutput::File(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                let file = file.map_err(|error| {
                    io::Error::new(error.kind(), format!("open {}: {error}", path.display()))
                })?;
                let terminal = file.is_terminal() && colours();
                (Output::File(file), terminal)
            }
        })
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Box<dyn Write + 'a>;

    fn make_writer(&'a self) -> Self::Writer {
        match self {
            Output::Stderr => Box::new(io::stderr().lock()),
            Output::Stdout => Box::new(io::stdout().lock()),
            Output::File(file) => Box::new(file),
        }
    }
}

/// One JSON object per line.
struct Json;

/// Time, level, place, message and fields, for people.
struct Text;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        write!(writer, r#"{{"level":"{}","ts":"{}""#, level(meta), now()?)?;
        if let Some(logger) = logger(meta) {
            write!(writer, r#","logger":{}"#, Value::from(logger))?;
        }
        if let Some(caller) = caller(meta) {
            write!(writer, r#","caller":{}"#, Value::from(caller))?;
        }
        let fields = Fields::of(event);
        write!(writer, r#","msg":{}"#, Value::from(fields.message))?;
        for (name, value) in fields.rest {
            write!(writer, ",{}:{value}", Value::from(name))?;
        }
        writer.write_str("}\n")
    }
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        let (colour, dim, plain) = if writer.has_ansi_escapes() {
            (colour(meta), "\x1b[2m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        write!(
            writer,
            "{dim}{}{plain}\t{colour}{}{plain}\t",
            now()?,
            level(meta)
        )?;
        if let Some(logger) = logger(meta) {
            write!(writer, "{dim}{logger}{plain}\t")?;
        }
        if let Some(caller) = caller(meta) {
            write!(writer, "{dim}{caller}{plain}\t")?;
        }
        let fields = Fields::of(event);
        write!(writer, "{}", Escaped(&fields.message))?;
        if !fields.rest.is_empty() {
            let fields: Vec<String> = fields
                .rest
                .iter()
                .map(|(name, value)| format!("{}: {value}", Value::from(name.as_str())))
                .collect();
            write!(writer, "\t{dim}{{{}}}{plain}", fields.join(", "))?;
        }
        writer.write_char('\n')
    }
}

/// A message without control characters: what clients send must not move the
/// cursor of who reads along, nor look like another line.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?
            } else {
                f.write_char(c)?
            }
        }
        Ok(())
    }
}

fn now() -> Result<String, fmt::Error> {
    let mut text = String::new();
    SystemTime.format_time(&mut Writer::new(&mut text))?;
    Ok(text)
}

fn level(meta: &Metadata<'_>) -> &'static str {
    match *meta.level() {
        _ if meta.target() == FATAL => "fatal",
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

fn colour(meta: &Metadata<'_>) -> &'static str {
    match *meta.level() {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG | Level::TRACE => "\x1b[35m",
    }
}

/// The crate an event comes from, if not from this project.
fn logger<'a>(meta: &Metadata<'a>) -> Option<&'a str> {
    let name = meta.target().split("::").next()?;
    (!name.starts_with(OWN) && name != FATAL).then_some(name)
}

/// Directory, file and line.
fn caller(meta: &Metadata<'_>) -> Option<String> {
    let file = meta.file()?;
    let start = file.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
    Some(format!("{}:{}", &file[start..], meta.line()?))
}

/// The fields of one event.
#[derive(Default)]
struct Fields {
    message: String,
    rest: Vec<(String, Value)>,
}

impl Fields {
    fn of(event: &Event<'_>) -> Self {
        let mut fields = Self::default();
        event.record(&mut fields);
        fields
    }

    fn add(&mut self, field: &Field, value: Value) {
        match field.name() {
            "message" => {
                self.message = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            }
            // The keys of the line itself are not given twice.
            name @ ("level" | "ts" | "logger" | "caller" | "msg") => {
                self.rest.push((format!("field-{name}"), value))
            }
            name => self.rest.push((name.replace('_', "-"), value)),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }
}
