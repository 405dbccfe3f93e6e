//! What etcd 3.7.3 was seen to answer, held as tables.

mod any_input;
mod facts;
mod files;
mod identity;
mod parsing;
mod texts;

use std::ffi::OsString;

use super::{Bootstrap, Config, Error, Parsed, parse};

/// Parses what is to run.
fn read(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Config, Error> {
    let arguments = arguments.iter().map(OsString::from);
    let environment = environment
        .iter()
        .map(|(key, value)| (key.into(), value.into()));
    match parse(arguments, environment)? {
        Parsed::Run(config) => {
            // As at a first start.
            config.first_start.bootstrap()?;
            Ok(*config)
        }
        Parsed::Print(text) => panic!("prints {text} instead of running"),
    }
}

fn run(arguments: &[&str]) -> Config {
    read(arguments, &[]).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

fn bootstrap(config: &Config) -> Bootstrap {
    config.first_start.bootstrap().expect("it was checked")
}

/// The first line of the error, and the exit code.
fn refusal(arguments: &[&str], environment: &[(&str, &str)]) -> (String, u8) {
    match read(arguments, environment) {
        Ok(_) => panic!("{arguments:?} {environment:?} is accepted"),
        Err(error) => {
            let text = error.to_string();
            (
                text.lines().next().unwrap_or_default().to_owned(),
                error.exit_code(),
            )
        }
    }
}
