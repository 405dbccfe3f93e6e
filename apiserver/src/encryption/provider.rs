//! The providers of a place in their order: the first one's first key seals, any
//! opens.

use bytes::Bytes;

use super::{
    cipher::Cipher,
    config::{Key, Spec},
};

/// What every sealed value begins with.
pub(super) const ENCRYPTED: &[u8] = b"k8s:enc:";

/// A value that was opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    pub value: Bytes,
    /// It would be sealed otherwise today: the next write seals it anew.
    pub stale: bool,
}

struct Provider {
    /// Of what it sealed.
    prefix: &'static str,
    /// The keys with their names and a colon, none for the one who seals nothing.
    keys: Vec<(String, Cipher)>,
    /// What upstream says when none of the keys has the name.
    unnamed: &'static str,
}

impl Provider {
    fn new(spec: &Spec) -> Result<Self, String> {
        const AES: &str = "no matching key was found for the provided AES transformer";
        const BOX: &str = "no matching key was found for the provided Secretbox transformer";
        let with = |keys: &[Key], cipher: &dyn Fn(&[u8]) -> Result<Cipher, String>| {
            keys.iter()
                .map(|key| Ok((format!("{}:", key.name), cipher(&key.secret)?)))
                .collect::<Result<Vec<_>, String>>()
        };
        let (prefix, keys, unnamed) = match spec {
            Spec::Identity => ("", Vec::new(), ""),
            Spec::Gcm(keys) => ("k8s:enc:aesgcm:v1:", with(keys, &Cipher::gcm)?, AES),
            Spec::Cbc(keys) => {
                let cipher = |key: &[u8]| Ok(Cipher::cbc(key));
                ("k8s:enc:aescbc:v1:", with(keys, &cipher)?, AES)
            }
            Spec::SecretBox(keys) => (
                "k8s:enc:secretbox:v1:",
                with(keys, &Cipher::secret_box)?,
                BOX,
            ),
        };
        Ok(Self {
            prefix,
            keys,
            unnamed,
        })
    }
}

pub(super) struct Providers(Vec<Provider>);

impl Providers {
    pub fn new(specs: &[&Spec]) -> Result<Self, String> {
        let all = specs.iter().map(|spec| Provider::new(spec));
        all.collect::<Result<_, _>>().map(Self)
    }

    pub fn seal(&self, place: &[u8], value: &Bytes) -> Result<Bytes, String> {
        let first = self
            .0
            .first()
            .and_then(|first| Some((first, first.keys.first()?)));
        let Some((provider, (name, cipher))) = first else {
            return Ok(value.clone());
        };
        let mut sealed = Vec::with_capacity(provider.prefix.len() + name.len() + value.len() + 64);
        sealed.extend(provider.prefix.as_bytes());
        sealed.extend(name.as_bytes());
        cipher.seal(place, value, &mut sealed)?;
        Ok(sealed.into())
    }

    /// Who fails does not keep a later one from trying: both may have the same
    /// prefix, or even the same name.
    pub fn open(&self, place: &[u8], value: Bytes) -> Result<Opened, String> {
        let mut why: Vec<String> = Vec::new();
        for (index, provider) in self.0.iter().enumerate() {
            if provider.keys.is_empty() {
                if !value.starts_with(ENCRYPTED) {
                    let stale = index > 0;
                    return Ok(Opened { value, stale });
                }
                continue;
            }
            let Some(rest) = value.strip_prefix(provider.prefix.as_bytes()) else {
                continue;
            };
            let mut named = false;
            for (number, (name, cipher)) in provider.keys.iter().enumerate() {
                let Some(sealed) = rest.strip_prefix(name.as_bytes()) else {
                    continue;
                };
                named = true;
                match cipher.open(place, sealed) {
                    Ok(opened) => {
                        return Ok(Opened {
                            value: opened.into(),
                            stale: index > 0 || number > 0,
                        });
                    }
                    Err(error) if why.contains(&error) => {}
                    Err(error) => why.push(error),
                }
            }
            if !named {
                why.push(provider.unnamed.to_owned());
            }
        }
        Err(match &why[..] {
            [] => "no matching prefix found".to_owned(),
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        })
    }
}
