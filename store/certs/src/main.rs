//! The executable: makes an authority in a directory, signs certificates with
//! it and revokes them. For clusters that are tried out; an authority whose key
//! lies beside its certificate is none for others.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use mizzen_certs::{Authority, Subject, write};

/// The option that names who signs.
const AUTHORITY: &str = "--authority=";

const USAGE: &str = "usage:
  mizzen-certs DIR authority             makes ca.crt and ca.key, unless they are there
  mizzen-certs DIR sign NAME [OPTION...] makes NAME.crt and NAME.key, unless they are there
    --common-name=TEXT  by default NAME
    --organization=TEXT what Kubernetes takes for a group; by default none
    --host=HOST         a name or an address that it is for; may be repeated
    --days=N            that it lasts; by default ten years
    --serial=N          its serial number; by default by lot
    --authority=NAME    whose files are NAME.crt and NAME.key; by default ca
  mizzen-certs DIR revoke [SERIAL...]    writes crl.der, which revokes these";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("mizzen-certs: {error}");
            ExitCode::FAILURE
        }
    }
}

/// False: the arguments are not understood.
fn run(arguments: &[String]) -> io::Result<bool> {
    let [dir, command, rest @ ..] = arguments else {
        return Ok(false);
    };
    let dir = PathBuf::from(dir);
    match (command.as_str(), rest) {
        ("authority", []) => {
            if !dir.join("ca.crt").exists() || !dir.join("ca.key").exists() {
                let made = Authority::new("mizzen-ca")?;
                write(&dir.join("ca.key"), made.key_pem().as_bytes())?;
                write(&dir.join("ca.crt"), made.pem().as_bytes())?;
            }
            Ok(true)
        }
        ("sign", [name, options @ ..]) => {
            let is_authority = |option: &&String| option.starts_with(AUTHORITY);
            let by = options.iter().find(is_authority);
            let by = by.map_or("ca", |option| &option[AUTHORITY.len()..]);
            let Some(subject) = subject(name, options) else {
                return Ok(false);
            };
            let there = |end: &str| dir.join(format!("{name}.{end}")).exists();
            if !there("crt") || !there("key") {
                authority(&dir, by)?.sign(&subject)?.write(&dir, name)?;
            }
            Ok(true)
        }
        ("revoke", serials) => {
            let serials: Result<Vec<u64>, _> = serials.iter().map(|text| text.parse()).collect();
            let Ok(serials) = serials else {
                return Ok(false);
            };
            write(
                &dir.join("crl.der"),
                &authority(&dir, "ca")?.revoke(&serials)?,
            )?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// The authority of this name.
fn authority(dir: &Path, name: &str) -> io::Result<Authority> {
    let read = |name: &str| {
        let path = dir.join(name);
        fs::read_to_string(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    };
    let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
    Authority::from_pem(&read(&certificate)?, &read(&key)?)
}

/// What the options after the name say.
fn subject(name: &str, options: &[String]) -> Option<Subject> {
    let mut subject = Subject {
        common_name: name.to_owned(),
        ..Subject::default()
    };
    for option in options {
        match option.split_once('=')? {
            ("--common-name", text) => text.clone_into(&mut subject.common_name),
            ("--organization", text) => subject.organization = Some(text.to_owned()),
            ("--host", host) => subject.hosts.push(host.to_owned()),
            ("--days", days) => subject.days = Some(days.parse().ok()?),
            ("--serial", serial) => subject.serial = Some(serial.parse().ok()?),
            // Read before.
            ("--authority", _) => {}
            _ => return None,
        }
    }
    Some(subject)
}
