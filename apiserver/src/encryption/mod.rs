//! Encryption of what is stored: which keys of the store have their values sealed,
//! by whom, in upstream's forms, so that a store can move between its servers and
//! ours.
//!
//! Knows keys and bytes. Must not know an object, a request, or how the store is
//! reached. No secret and nothing that was sealed is ever part of an error.

mod cipher;
mod config;
mod provider;

use std::{collections::BTreeMap, ops::Bound, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;

pub use self::provider::Opened;
use self::{
    config::Rule,
    provider::{ENCRYPTED, Providers},
};
use crate::limits;

/// Objects of one resource, and below which prefix of the store they are.
#[derive(Clone, Debug)]
pub struct Location {
    pub group: String,
    pub plural: String,
    pub prefix: String,
}

impl Location {
    pub fn new(group: &str, plural: &str, prefix: &str) -> Self {
        Self {
            group: group.to_owned(),
            plural: plural.to_owned(),
            prefix: prefix.to_owned(),
        }
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("reading {0}: {1}")]
    File(PathBuf, std::io::Error),
    #[error("{0}: {1}")]
    Wrong(PathBuf, String),
}

/// By prefix of the store's keys. What is below none is stored as it is.
type Current = BTreeMap<String, Arc<Providers>>;

/// How values are sealed and opened at the moment.
pub struct Encryption {
    path: PathBuf,
    places: Vec<Location>,
    current: ArcSwap<Current>,
}

impl Encryption {
    /// Reads a configuration of upstream's form. Gives also what the file holds, for
    /// [`keep`](Self::keep).
    ///
    /// # Errors
    /// It cannot be read or used.
    pub fn load(path: PathBuf, places: Vec<Location>) -> Result<(Self, Vec<u8>), ConfigError> {
        let text = std::fs::read(&path).map_err(|error| ConfigError::File(path.clone(), error))?;
        let current = built(&text, &places).map_err(|why| ConfigError::Wrong(path.clone(), why))?;
        let encryption = Self {
            path,
            places,
            current: ArcSwap::from_pointee(current),
        };
        Ok((encryption, text))
    }

    /// Looks at the file again and again. What cannot be used is logged once, and
    /// the configuration before stays.
    pub async fn keep(&self, mut seen: Vec<u8>) {
        loop {
            tokio::time::sleep(limits::ENCRYPTION_CONFIG).await;
            let Ok(text) = tokio::fs::read(&self.path).await else {
                // Between two versions of it, or for ever: what is known goes on.
                continue;
            };
            if text == seen {
                continue;
            }
            match built(&text, &self.places) {
                Ok(current) => {
                    self.current.store(Arc::new(current));
                    tracing::info!(path = %self.path.display(), "the configuration of encryption was read again");
                }
                Err(why) => {
                    tracing::error!(path = %self.path.display(), why, "the configuration of encryption cannot be used: the one before stays");
                }
            }
            seen = text;
        }
    }

    fn at(&self, key: &[u8]) -> Option<Arc<Providers>> {
        let key = std::str::from_utf8(key).ok()?;
        let current = self.current.load();
        // The greatest that is not beyond the key: any other that the key begins
        // with is a beginning of it.
        let (prefix, providers) = current
            .range::<str, _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()?;
        key.starts_with(prefix.as_str()).then(|| providers.clone())
    }

    /// What is to be stored at a key.
    ///
    /// # Errors
    /// It cannot be sealed.
    pub fn seal(&self, key: &[u8], value: &Bytes) -> Result<Bytes, String> {
        match self.at(key) {
            Some(providers) => providers.seal(key, value),
            None => Ok(value.clone()),
        }
    }

    /// What was stored at a key.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(&self, key: &[u8], value: Bytes) -> Result<Opened, String> {
        match self.at(key) {
            Some(providers) => providers.open(key, value),
            None => plain(value),
        }
    }
}

/// What was stored where nothing is sealed.
///
/// # Errors
/// It is sealed.
pub fn plain(value: Bytes) -> Result<Opened, String> {
    if value.starts_with(ENCRYPTED) {
        return Err("identity transformer tried to read encrypted data".to_owned());
    }
    Ok(Opened {
        value,
        stale: false,
    })
}

/// The providers of every place, by upstream's order of rules: those of the
/// resource, or else of its group, or else of all.
fn built(text: &[u8], places: &[Location]) -> Result<Current, String> {
    let rules = config::parse(text)?;
    masked(&rules)?;
    let mut current = Current::new();
    for place in places {
        let named = [
            (place.group.as_str(), place.plural.as_str()),
            (place.group.as_str(), "*"),
            ("*", "*"),
        ];
        for name in named {
            let of_name: Vec<_> = rules
                .iter()
                .filter(|rule| rule.resources.iter().any(|one| one.is(name)))
                .flat_map(|rule| &rule.providers)
                .collect();
            if !of_name.is_empty() {
                let providers = Arc::new(Providers::new(&of_name)?);
                current.insert(place.prefix.clone(), providers);
                break;
            }
        }
    }
    Ok(current)
}

/// A rule must not stand behind one that takes all it is about.
fn masked(rules: &[Rule]) -> Result<(), String> {
    for (index, rule) in rules.iter().enumerate() {
        for name in &rule.resources {
            for mask in [(name.group.as_str(), "*"), ("*", "*")] {
                let before = rules[..index].iter().flat_map(|rule| &rule.resources);
                if let Some(earlier) = before.into_iter().find(|earlier| earlier.is(mask)) {
                    return Err(format!(
                        "resource {:?} is masked by earlier rule {:?}",
                        name.text, earlier.text
                    ));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
