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

/// The prefix of the Raft library's targets.
const RAFT: &str = "openraft";

/// Where that library logs as errors what whoever calls it is told, too, and decides
/// about: most often that this member is stopping.
const RAFT_CALLS: &str = concat!("openraft", "::raft::raft_inner");

/// The prefix that the targets of this project's crates share.
const OWN: &str = "mizzen";

/// Opens the outputs and starts logging for the whole process.
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
        .map_err(io::Error::other)
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
    // It warns of every single message to a member that is away, ten times a
    // second; that the member is away is said once, by us.
    let raft = match level {
        LogLevel::Debug => LevelFilter::WARN,
        _ => LevelFilter::ERROR,
    };
    Targets::new()
        .with_default(own.min(LevelFilter::WARN))
        .with_target(RAFT, own.min(raft))
        .with_target(RAFT_CALLS, LevelFilter::OFF)
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Buffer {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    /// What is written while `log` runs.
    fn written(level: LogLevel, format: LogFormat, terminal: bool, log: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let config = LogConfig {
            level,
            format,
            outputs: Vec::new(),
        };
        let subscriber =
            tracing_subscriber::registry().with(layer(&config, buffer.clone(), terminal));
        tracing::subscriber::with_default(subscriber, log);
        let bytes = buffer.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    fn json(log: impl FnOnce()) -> Vec<serde_json::Map<String, Value>> {
        let text = written(LogLevel::Info, LogFormat::Auto, false, log);
        text.lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
            })
            .collect()
    }

    #[test]
    fn a_json_line_has_etcds_keys_and_the_fields_flat() {
        let line = line!() + 2;
        let events = json(|| {
            tracing::info!(target: "mizzen_store::x", member_id = "8e", count = 3_u64, below = -1, part = 0.5, on = true, error = %"no\n\"way\"", list = ?["a"], level = "mine", "ready to serve client requests");
        });
        let [event] = &events[..] else {
            panic!("{events:?}")
        };
        let keys: Vec<&str> = event.keys().map(String::as_str).collect();
        let mut expected = vec![
            "level",
            "ts",
            "caller",
            "msg",
            "member-id",
            "count",
            "below",
            "part",
            "on",
            "error",
            "list",
            "field-level",
        ];
        expected.sort_unstable();
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected);
        assert_eq!(event["level"], "info");
        assert_eq!(event["msg"], "ready to serve client requests");
        assert_eq!(event["caller"], format!("src/logging.rs:{line}"));
        assert_eq!(
            (&event["count"], &event["below"], &event["on"]),
            (&3.into(), &(-1).into(), &true.into())
        );
        assert_eq!(
            (&event["error"], &event["list"]),
            (&"no\n\"way\"".into(), &"[\"a\"]".into())
        );
        let shape: String = event["ts"]
            .as_str()
            .expect("text")
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000000Z");
    }

    #[test]
    fn keys_stand_in_etcds_order() {
        let text = written(
            LogLevel::Info,
            LogFormat::Json,
            true,
            || tracing::warn!(target: "mizzen", a = 1, "x"),
        );
        let at = |key: &str| {
            text.find(key)
                .unwrap_or_else(|| panic!("{key} is not in {text}"))
        };
        assert!(text.starts_with("{\"level\":\"warn\",\"ts\":"), "{text}");
        assert!(
            at("\"ts\"") < at("\"caller\"")
                && at("\"caller\"") < at("\"msg\"")
                && at("\"msg\"") < at("\"a\""),
            "{text}"
        );
    }

    #[test]
    fn levels_are_those_of_zap_and_other_crates_only_warn() {
        let log = || {
            tracing::error!(target: FATAL, "f");
            tracing::error!(target: "mizzen_core", "e");
            tracing::warn!(target: "h2::server", "w");
            tracing::info!(target: "h2::server", "hidden");
            tracing::info!(target: "mizzen", "i");
            tracing::debug!(target: "mizzen", "d");
        };
        let events = json(log);
        let levels: Vec<&str> = events
            .iter()
            .filter_map(|event| event["level"].as_str())
            .collect();
        assert_eq!(levels, ["fatal", "error", "warn", "info"]);
        assert_eq!(events[2]["logger"], "h2");
        assert_eq!(
            events
                .iter()
                .filter(|event| event.contains_key("logger"))
                .count(),
            1
        );
        for (level, lines) in [
            (LogLevel::Debug, 5),
            (LogLevel::Info, 4),
            (LogLevel::Warn, 3),
            (LogLevel::Error, 2),
            (LogLevel::Panic, 1),
            (LogLevel::Fatal, 1),
        ] {
            assert_eq!(
                written(level, LogFormat::Json, false, log).lines().count(),
                lines,
                "{level:?}"
            );
        }
    }

    #[test]
    fn text_is_for_terminals_and_cannot_be_forged() {
        let log = || tracing::info!(target: "mizzen", key = "a\x1b[1m", "one\ntwo");
        let plain = written(LogLevel::Info, LogFormat::Console, false, log);
        assert_eq!(plain.lines().count(), 1, "{plain}");
        assert!(
            !plain.contains('\x1b')
                && plain.contains("\tinfo\t")
                && plain.contains("one\\ntwo\t{\"key\": \"a\\u001b[1m\"}"),
            "{plain}"
        );
        let coloured = written(LogLevel::Info, LogFormat::Auto, true, log);
        assert!(coloured.contains("\x1b[32minfo"), "{coloured}");
    }

    #[test]
    fn files_are_appended_to() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("log");
        std::fs::write(&path, "before\n").expect("written");
        let config = LogConfig {
            level: LogLevel::Info,
            format: LogFormat::Json,
            outputs: vec![LogOutput::File(path.clone())],
        };
        let (output, terminal) = Output::open(&config.outputs[0]).expect("opened");
        let subscriber = tracing_subscriber::registry().with(layer(&config, output, terminal));
        tracing::subscriber::with_default(subscriber, || tracing::info!(target: "mizzen", "after"));
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(
            text.starts_with("before\n{") && text.ends_with("}\n"),
            "{text}"
        );
        let missing = LogOutput::File(dir.path().join("none/log"));
        let error = Output::open(&missing)
            .map(|_| ())
            .expect_err("no such directory");
        assert!(error.to_string().starts_with("open "), "{error}");
    }
}
