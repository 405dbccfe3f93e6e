//! Lists of URLs among the settings.

use super::url::Url;

pub(super) fn strings(urls: &[Url]) -> Vec<String> {
    urls.iter().map(|url| url.as_str().to_owned()).collect()
}
