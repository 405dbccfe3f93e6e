//! Lists: from the cache once it shows the state asked for, or in pages from
//! the store.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use bytes::Bytes;
use mizzen_planted::bug;
use serde::{Deserialize, Serialize};

use super::{Registry, Target, opened, shown};
use crate::{
    cache::{Entry, field_text},
    catalog::Resource,
    codec::mistake,
    error::{ApiError, FieldError},
    limits,
    object::{self, Json},
    select::Selector,
    store::{Page, StoreError},
};

/// How `resourceVersion` is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Match {
    Exact,
    NotOlderThan,
}

/// What a list asks for.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub selector: Selector,
    /// 0: no limit.
    pub limit: i64,
    pub token: String,
    /// `None`: the most recent state; 0: any.
    pub version: Option<i64>,
    pub version_match: Option<Match>,
}

/// The objects of a list in JSON, and what its metadata says.
pub struct Listed {
    pub items: Vec<Bytes>,
    pub revision: i64,
    pub token: String,
    pub remaining: Option<i64>,
}

/// What a `continue` token says, in upstream's form.
#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    /// The revision; -1: whatever is newest.
    rv: i64,
    /// The key after the resource's prefix to go on at.
    start: String,
}

impl Token {
    fn encode(revision: i64, start: String) -> String {
        let token = Self {
            v: "meta.k8s.io/v1".to_owned(),
            rv: revision,
            start,
        };
        BASE64.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    fn decode(text: &str) -> Result<Self, ApiError> {
        let wrong = |why: &str| {
            let detail = if why.is_empty() { "" } else { ": " };
            ApiError::bad_request(format!(
                "invalid continue token: continue key is not valid{detail}{why}"
            ))
        };
        let bytes = BASE64
            .decode(text.trim_end_matches('='))
            .map_err(|_| wrong(&mistake::base64(text)))?;
        let token = serde_json::from_slice::<Self>(&bytes)
            .map_err(|error| wrong(&mistake::syntax(&error, &bytes)))?;
        Some(token)
            .filter(|token| {
                token.v == "meta.k8s.io/v1"
                    && !token.start.is_empty()
                    && !token.start.starts_with('/')
                    && !token.start.contains("..")
            })
            .ok_or_else(|| wrong(""))
    }
}

impl ListOptions {
    fn check(&self) -> Result<(), ApiError> {
        let mut errors = Vec::new();
        match (self.version_match, self.version) {
            (Some(_), None) => {
                errors.push(FieldError::forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ));
            }
            (Some(Match::Exact), Some(0)) => {
                errors.push(FieldError::forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                ));
            }
            _ => {}
        }
        if self.version_match.is_some() && !self.token.is_empty() {
            errors.push(FieldError::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(ApiError::invalid_kind(
                "meta.k8s.io",
                "ListOptions",
                "",
                &errors,
            ))
        }
    }
}

impl Registry {
    /// Lists the objects of a target's scope.
    pub async fn list(&self, target: &Target, options: &ListOptions) -> Result<Listed, ApiError> {
        options.check()?;
        if !options.token.is_empty() {
            if options.version.is_some_and(|version| version != 0) {
                return Err(ApiError::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let token = Token::decode(&options.token)?;
            return self
                .pages(target, options, token.rv.max(0), token.start)
                .await;
        }
        let exact = options.version_match == Some(Match::Exact)
            || (options.limit > 0
                && options.version_match.is_none()
                && options.version.is_some_and(|version| version > 0));
        if exact {
            return self
                .pages(target, options, options.version.unwrap_or(0), String::new())
                .await;
        }
        let cache = self.cache(&target.resource);
        let wanted = match options.version {
            Some(version) => version,
            None => self.store.revision().await?,
        };
        cache.wait(wanted).await?;
        let snapshot = cache.snapshot(&target.scope());
        // Any state and a limit: what is cached is as good as a page.
        let whole = options.limit == 0
            || options.version == Some(0)
            || (snapshot.entries.len() as i64) <= options.limit;
        if !whole {
            return self.pages(target, options, 0, String::new()).await;
        }
        let selected = snapshot
            .entries
            .iter()
            .filter(|entry| entry.matches(&target.resource, &options.selector));
        Ok(Listed {
            items: selected.map(json).collect(),
            revision: snapshot.revision,
            token: String::new(),
            remaining: None,
        })
    }

    /// Reads pages from the store until `limit` objects are selected.
    async fn pages(
        &self,
        target: &Target,
        options: &ListOptions,
        revision: i64,
        start: String,
    ) -> Result<Listed, ApiError> {
        let resource = &*target.resource;
        let prefix = format!("{}{}", resource.prefix, target.scope());
        let mut from = format!("{prefix}{start}");
        let mut listed = Listed {
            items: Vec::new(),
            revision,
            token: String::new(),
            remaining: None,
        };
        let limit = if options.limit > 0 {
            usize::try_from(options.limit).unwrap_or(usize::MAX)
        } else {
            usize::MAX
        };
        loop {
            let size = if options.selector.is_empty() {
                limits::PAGE_OBJECTS
                    .min(i64::try_from(limit - listed.items.len()).unwrap_or(i64::MAX))
            } else {
                limits::PAGE_OBJECTS
            };
            let page = self.store.page(&prefix, &from, size, listed.revision).await;
            let page = match page {
                Err(StoreError::Compacted) => {
                    bug!("continue-over-compaction" => listed.revision = 0; continue);
                    return Err(self.compacted(options, &prefix, &from).await);
                }
                Err(StoreError::Future { asked, .. }) => {
                    let current = self.store.revision().await?;
                    return Err(ApiError::version_ahead(asked, current));
                }
                page => page?,
            };
            if listed.revision == 0 {
                listed.revision = page.revision;
            }
            if let Some(last) = take(resource, options, &page, limit, &mut listed.items)? {
                // Where the page was left, in terms of the whole range.
                let left = page.count - last as i64;
                if left == 0 {
                    return Ok(listed);
                }
                let Some(key) = last.checked_sub(1).and_then(|last| page.pairs.get(last)) else {
                    return Ok(listed);
                };
                from = format!("{}\0", String::from_utf8_lossy(&key.key));
                if listed.items.len() >= limit {
                    let rest = from.strip_prefix(&prefix).unwrap_or("").to_owned();
                    listed.token = Token::encode(listed.revision, rest);
                    listed.remaining = options.selector.is_empty().then_some(left);
                    return Ok(listed);
                }
            } else {
                return Ok(listed);
            }
        }
    }

    /// The revision of a list is gone: the error carries a token that goes on
    /// with the newest state.
    async fn compacted(&self, options: &ListOptions, prefix: &str, from: &str) -> ApiError {
        if options.token.is_empty() {
            return ApiError::expired("The resourceVersion for the provided list is too old.");
        }
        let error = ApiError::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
        );
        let rest = from.strip_prefix(prefix).unwrap_or("").to_owned();
        error.continuing(Token::encode(-1, rest))
    }

    /// The objects of a scope that match, opened, for changing each, and the
    /// revision at which they do.
    pub(super) async fn matching(
        &self,
        target: &Target,
        selector: &Selector,
    ) -> Result<(i64, Vec<Json>), ApiError> {
        let options = ListOptions {
            selector: selector.clone(),
            ..ListOptions::default()
        };
        let listed = self.list(target, &options).await?;
        let opened = listed.items.iter().map(|item| {
            serde_json::from_slice(item).map_err(|error| ApiError::internal(error.to_string()))
        });
        Ok((listed.revision, opened.collect::<Result<_, _>>()?))
    }
}

fn json(entry: &Arc<Entry>) -> Bytes {
    entry.json()
}

/// Takes what is selected of a page, up to `limit` in all; how many pairs of
/// the page were looked at, `None` when the page is empty.
fn take(
    resource: &Resource,
    options: &ListOptions,
    page: &Page,
    limit: usize,
    items: &mut Vec<Bytes>,
) -> Result<Option<usize>, ApiError> {
    for (index, pair) in page.pairs.iter().enumerate() {
        if items.len() >= limit {
            return Ok(Some(index));
        }
        let selected = options.selector.is_empty() || {
            let object = opened(resource, pair)?;
            selects(resource, &options.selector, &object)
        };
        if selected {
            items.push(shown(resource, &pair.value, pair.revision)?.json);
        }
    }
    Ok((!page.pairs.is_empty()).then_some(page.pairs.len()))
}

/// Whether a selector takes an opened object.
pub fn selects(resource: &Resource, selector: &Selector, value: &Json) -> bool {
    let labels = object::meta(value)
        .and_then(|meta| meta.get("labels"))
        .and_then(serde_json::Value::as_object);
    let fields: Vec<String> = resource
        .selectable
        .iter()
        .map(|field| field_text(field, value))
        .collect();
    selector.matches(
        |key| {
            labels
                .and_then(|labels| labels.get(key))
                .and_then(serde_json::Value::as_str)
        },
        |name| match name {
            "metadata.name" => Some(object::meta_str(value, "name")),
            "metadata.namespace" => Some(object::meta_str(value, "namespace")),
            name => {
                let index = resource
                    .selectable
                    .iter()
                    .position(|field| field.name == name)?;
                fields.get(index).map(String::as_str)
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_and_forged_ones_do_not() {
        let token = Token::decode(&Token::encode(7, "a/b\0".to_owned())).expect("a token");
        assert_eq!((token.rv, token.start.as_str()), (7, "a/b\0"));
        for start in ["/x", "../x", ""] {
            assert!(Token::decode(&Token::encode(7, start.to_owned())).is_err());
        }
        assert!(Token::decode("???").is_err());
    }
}
