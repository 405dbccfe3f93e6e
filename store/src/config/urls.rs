//! Lists of URLs among the settings.

use super::{error::Error, url::Url};

pub(super) fn refuse_schemes(name: &str, urls: &[Url]) -> Result<(), Error> {
    if let Some(url) = urls.iter().find(|url| url.is_secure()) {
        return Err(Error::invalid(format!(
            "--{name} has {url}, which is not supported: TLS is not implemented yet"
        )));
    }
    if let Some(url) = urls.iter().find(|url| url.is_unix()) {
        return Err(Error::invalid(format!(
            "--{name} has {url}, which is not supported: Unix sockets are not implemented yet"
        )));
    }
    Ok(())
}

pub(super) fn strings(urls: &[Url]) -> Vec<String> {
    urls.iter().map(|url| url.as_str().to_owned()).collect()
}
