//! Static tokens: a file in upstream's form, a line for each: token, user, uid
//! and, quoted, its groups.

use std::{collections::HashMap, path::Path, sync::Arc};

use sha2::{Digest as _, Sha256};

use super::{AuthnError, Digest, Identity};

/// Tokens and whose they are.
#[derive(Debug, Default)]
pub struct Tokens(HashMap<Digest, Arc<Identity>>);

impl Tokens {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or a line of it has too few fields.
    pub fn read(path: &Path) -> Result<Self, AuthnError> {
        let wrong = |why: String| AuthnError::Tokens(path.to_owned(), why);
        let bytes = super::read(path)?;
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(&*bytes);
        let mut tokens = HashMap::new();
        for record in reader.records() {
            let record = record.map_err(|error| wrong(error.to_string()))?;
            let (Some(token), Some(user), Some(uid)) =
                (record.get(0), record.get(1), record.get(2))
            else {
                return Err(wrong(format!(
                    "a line must have at least 3 columns (token, user name, user uid), found {}",
                    record.len()
                )));
            };
            if token.is_empty() {
                tracing::warn!(path = %path.display(), user, "an empty token is left out");
                continue;
            }
            let groups = record.get(3).map(|groups| groups.split(','));
            let identity = Identity {
                user: user.to_owned(),
                uid: uid.to_owned(),
                groups: groups.into_iter().flatten().map(str::to_owned).collect(),
                ..Identity::default()
            };
            let digest = Sha256::digest(token.as_bytes()).into();
            let before = tokens.insert(digest, Arc::new(identity.authenticated()));
            if before.is_some() {
                tracing::warn!(path = %path.display(), user, "a token stands twice: the last one counts");
            }
        }
        Ok(Self(tokens))
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<Identity>> {
        self.0.get(digest).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Tokens, AuthnError> {
        let name = format!("mizzen-tokens-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).expect("a file");
        let tokens = Tokens::read(&path);
        std::fs::remove_file(&path).expect("it was written");
        tokens
    }

    #[test]
    fn a_line_is_a_token() {
        let text = "t1,alice,u1,\"devs,ops\"\n\n,nobody,u2\nt3,bob,u3\nt1,carol,u4\n";
        let tokens = read("lines", text).expect("tokens");
        let of = |token: &str| tokens.get(&Sha256::digest(token.as_bytes()).into());
        assert_eq!(of("t1").expect("a token").user, "carol");
        let bob = of("t3").expect("a token");
        assert_eq!((&*bob.user, &*bob.uid), ("bob", "u3"));
        assert_eq!(bob.groups, ["system:authenticated"]);
        assert!(of("").is_none() && of("t2").is_none());
        let error = read("short", "t,alice\n").expect_err("too few");
        assert!(error.to_string().contains("found 2"), "{error}");
    }

    #[test]
    fn groups_stand_in_one_field() {
        let tokens = read("groups", "t,alice,u,\"devs,ops\"\n").expect("tokens");
        let digest = Sha256::digest(b"t").into();
        let alice = tokens.get(&digest).expect("a token");
        assert_eq!(alice.groups, ["devs", "ops", "system:authenticated"]);
    }
}
