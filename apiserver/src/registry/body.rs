//! Bodies: what they must be before they are objects of a kind, and what is said
//! of fields that the kind does not have.
//!
//! Knows what was decoded; knows no store and no object that is there.

use crate::{
    catalog::Resource,
    codec::{json::Decoded, yaml},
    error::ApiError,
    schema::schema,
};

/// What becomes of fields that the kind does not have or that stand twice;
/// they are never stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Validation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// Refuses or reports what was left out of an object.
pub fn left_out(
    resource: &Resource,
    body: &Decoded,
    validation: Validation,
) -> Result<Vec<String>, ApiError> {
    unknown(body, validation).map_err(|why| ApiError::invalid_body(resource, &why))
}

/// What was left out of an object; an error when nothing may be.
pub fn unknown(body: &Decoded, validation: Validation) -> Result<Vec<String>, String> {
    let unknown = body
        .unknown
        .iter()
        .map(|path| format!("unknown field {path:?}"));
    let twice = body
        .duplicate
        .iter()
        .map(|path| format!("duplicate field {path:?}"));
    let all: Vec<String> = body
        .irregular
        .iter()
        .cloned()
        .chain(unknown)
        .chain(twice)
        .collect();
    match validation {
        Validation::Strict if !all.is_empty() => {
            Err(format!("strict decoding error: {}", all.join(", ")))
        }
        Validation::Ignore => Ok(Vec::new()),
        // What was said of a text in YAML is one line a key.
        _ => Ok(all
            .into_iter()
            .flat_map(|told| match told.contains('\n') {
                true => yaml::lines(&told),
                false => vec![told],
            })
            .collect()),
    }
}

/// Go's words for a kind that its group version does not have.
pub fn not_registered(kind: &str, version: &str) -> String {
    format!(
        "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\""
    )
}

/// A version of objects, or Go's words for why a text is none.
pub fn parse_version(text: &str) -> Result<i64, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse::<i64>().ok().filter(|_| digits).ok_or_else(|| {
        let why = if digits {
            "value out of range"
        } else {
            "invalid syntax"
        };
        format!("strconv.ParseUint: parsing {text:?}: {why}")
    })
}

impl ApiError {
    /// A body that is not of its type.
    pub fn invalid_body(resource: &Resource, why: &str) -> Self {
        Self::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {why}",
            kind = resource.kind,
            version = resource.version
        ))
    }
}

/// Checks that a body is what the URL is about; what it does not say is taken
/// from there.
pub fn expect_kind(resource: &Resource, body: &Decoded) -> Result<(), ApiError> {
    let expected = resource.api_version();
    let (kind, version) = (&*body.kind, &*body.api_version);
    if !kind.is_empty() && !version.is_empty() && !is_registered(kind, version) {
        let short = version.rsplit('/').next().unwrap_or(version);
        let why = not_registered(kind, version);
        return Err(ApiError::bad_request(format!(
            "{kind} in version {short:?} cannot be handled as a {}: {why}",
            resource.kind
        )));
    }
    if !body.api_version.is_empty() && body.api_version != expected {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({expected})",
            body.api_version
        )));
    }
    if !body.kind.is_empty() && body.kind != resource.kind {
        return Err(ApiError::bad_request(format!(
            "the kind in the data ({}) does not match the expected kind ({})",
            body.kind, resource.kind
        )));
    }
    Ok(())
}

/// Whether a group version has a kind.
fn is_registered(kind: &str, version: &str) -> bool {
    let (group, version) = version.split_once('/').unwrap_or(("core", version));
    let group = group.split('.').next().unwrap_or(group);
    let has = |name: &str| {
        schema()
            .find(name)
            .is_some_and(|id| schema().message(id).object)
    };
    has(&format!("io.k8s.api.{group}.{version}.{kind}"))
        || has(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"))
}
