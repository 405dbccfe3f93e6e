//! A request in the API's words: its body decoded and defaulted, its
//! parameters read. Knows media types and parameters; answers nothing.

use bytes::Bytes;
use http::{HeaderMap, Method, header};

use super::{
    accept::{self, Form},
    chain::Context,
};
use crate::{
    codec::{
        json::{self, Decoded, Source},
        proto::{self, Envelope},
    },
    defaults,
    error::{ApiError, FieldError},
    object::{self, Json},
    patch::{Patch, PatchError},
    registry::{
        DeleteOptions, ListOptions, Match, Propagation, Validation, WriteOptions, expect_kind, sub,
    },
    schema::MessageId,
    select::{Fields, Labels, Selector},
    table::Include,
    validate,
    versions::View,
};

/// The text of a header, empty when it is absent or is none.
pub fn header_text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("")
}

/// A request, with its body read.
pub struct Request<'a> {
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    /// What the chain found out.
    pub context: &'a Context,
    pub body: Bytes,
}

impl Request<'_> {
    pub fn header(&self, name: header::HeaderName) -> &str {
        header_text(self.headers, name)
    }

    pub fn form(&self) -> Result<Form, ApiError> {
        accept::form(self.header(header::ACCEPT)).ok_or_else(ApiError::not_acceptable)
    }

    pub fn include(&self) -> Result<Include, ApiError> {
        match self.context.query.get("includeObject") {
            "" | "Metadata" => Ok(Include::Metadata),
            "None" => Ok(Include::None),
            "Object" => Ok(Include::Object),
            other => Err(ApiError::bad_request(format!(
                "unrecognized includeObject value: {other:?}"
            ))),
        }
    }

    pub fn dry_run(&self) -> Result<bool, ApiError> {
        let mut dry = false;
        for value in self.context.query.all("dryRun") {
            match value {
                "All" => dry = true,
                "" => {}
                other => {
                    let error = FieldError::unsupported("dryRun", other, &["All"]);
                    return Err(ApiError::invalid_kind(
                        "meta.k8s.io",
                        "CreateOptions",
                        "",
                        &[error],
                    ));
                }
            }
        }
        Ok(dry)
    }

    pub fn write(&self) -> Result<WriteOptions, ApiError> {
        let validation = match self.context.query.get("fieldValidation") {
            "" | "Warn" => Validation::Warn,
            "Ignore" => Validation::Ignore,
            "Strict" => Validation::Strict,
            other => {
                let error = FieldError::unsupported(
                    "fieldValidation",
                    other,
                    &["Ignore", "Strict", "Warn"],
                );
                return Err(ApiError::invalid_kind(
                    "meta.k8s.io",
                    "CreateOptions",
                    "",
                    &[error],
                ));
            }
        };
        Ok(WriteOptions {
            dry_run: self.dry_run()?,
            validation,
        })
    }

    pub fn version(&self) -> Result<Option<i64>, ApiError> {
        match self.context.query.get("resourceVersion") {
            "" => Ok(None),
            text => match text.parse::<i64>() {
                Ok(version) if version >= 0 => Ok(Some(version)),
                _ => Err(ApiError::bad_request(format!(
                    "Invalid value: {text:?}: invalid resource version"
                ))),
            },
        }
    }

    pub fn version_match(&self) -> Result<Option<Match>, ApiError> {
        match self.context.query.get("resourceVersionMatch") {
            "" => Ok(None),
            "Exact" => Ok(Some(Match::Exact)),
            "NotOlderThan" => Ok(Some(Match::NotOlderThan)),
            other => {
                let error = FieldError::unsupported(
                    "resourceVersionMatch",
                    other,
                    &["Exact", "NotOlderThan", ""],
                );
                Err(ApiError::invalid_kind(
                    "meta.k8s.io",
                    "ListOptions",
                    "",
                    &[error],
                ))
            }
        }
    }

    pub fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.context.query.get(name) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| ApiError::bad_request(format!("invalid {name}: {text:?}"))),
        }
    }

    /// The selector in the words of the stored version.
    pub fn selector(&self, view: &View) -> Result<Selector, ApiError> {
        let labels = Labels::parse(self.context.query.get("labelSelector"))
            .map_err(ApiError::bad_request)?;
        let fields = Fields::parse(self.context.query.get("fieldSelector"), &view.served)
            .map_err(ApiError::bad_request)?
            .renamed(&view.served, &view.stored);
        Ok(Selector { labels, fields })
    }

    pub fn list(&self, view: &View) -> Result<ListOptions, ApiError> {
        Ok(ListOptions {
            selector: self.selector(view)?,
            limit: self.number("limit")?.unwrap_or(0).max(0),
            token: self.context.query.get("continue").to_owned(),
            version: self.version()?,
            version_match: self.version_match()?,
        })
    }

    /// Decodes the body as message `id`.
    pub fn decode(&self, id: MessageId) -> Result<Decoded, ApiError> {
        let media = accept::media_type(self.header(header::CONTENT_TYPE));
        match media.as_str() {
            "" | "application/json" => {
                json::decode(&self.body, id, Source::Client).map_err(|error| {
                    ApiError::bad_request(format!("the object provided is unrecognized: {error}"))
                })
            }
            "application/vnd.kubernetes.protobuf" => {
                let malformed = |error: &dyn std::fmt::Display| {
                    ApiError::bad_request(format!("the object provided is unrecognized: {error}"))
                };
                let envelope = Envelope::open(&self.body).map_err(|error| malformed(&error))?;
                let text =
                    proto::to_plain_json(id, envelope.raw).map_err(|error| malformed(&error))?;
                let mut decoded =
                    json::decode(&text, id, Source::Client).map_err(|error| malformed(&error))?;
                decoded.kind = envelope.kind.into_owned();
                decoded.api_version = envelope.api_version.into_owned();
                Ok(decoded)
            }
            other => Err(ApiError::unsupported_media(
                other,
                "application/json, application/vnd.kubernetes.protobuf",
            )),
        }
    }

    /// Decodes the body as an object of the served version and gives it in the
    /// stored one, with its kind's defaults: admission and validation see whole
    /// objects.
    pub fn object(&self, view: &View) -> Result<Decoded, ApiError> {
        let mut body = self.decode(view.served.message)?;
        if !view.is_plain() {
            self.to_stored(view, &mut body)?;
        }
        defaults::apply(&view.stored, &mut body.value);
        Ok(body)
    }

    fn to_stored(&self, view: &View, body: &mut Decoded) -> Result<(), ApiError> {
        expect_kind(&view.served, body)?;
        if self.method == Method::POST {
            let errors = validate::other_version(&view.served, &body.value);
            if !errors.is_empty() {
                let name = object::meta_str(&body.value, "name");
                return Err(ApiError::invalid(&view.served, name, &errors));
            }
        }
        let value = std::mem::take(&mut body.value);
        body.value = view
            .to_stored(value)
            .map_err(|error| ApiError::invalid_body(&view.served, &error.to_string()))?;
        body.kind = view.stored.kind.clone().into_owned();
        body.api_version = view.stored.api_version();
        Ok(())
    }

    pub fn patch(&self) -> Result<Patch, ApiError> {
        let media = accept::media_type(self.header(header::CONTENT_TYPE));
        match Patch::read(&media, &self.body) {
            Some(Ok(patch)) => Ok(patch),
            Some(Err(PatchError::Malformed(message) | PatchError::Unfit(message))) => {
                Err(ApiError::bad_request(message))
            }
            None => Err(ApiError::unsupported_media(
                &media,
                "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json",
            )),
        }
    }

    pub fn deletion(&self) -> Result<DeleteOptions, ApiError> {
        let mut options = DeleteOptions {
            dry_run: self.dry_run()?,
            grace: self.number("gracePeriodSeconds")?,
            propagation: propagation(self.context.query.get("propagationPolicy"))?,
            ..DeleteOptions::default()
        };
        if self.context.query.flag("orphanDependents") {
            options.propagation = Some(Propagation::Orphan);
        }
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(options);
        }
        let id = sub::message("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
        apply_options(&self.decode(id)?.value, &mut options)?;
        Ok(options)
    }
}

/// Takes what a `DeleteOptions` object asks for.
pub fn apply_options(given: &Json, options: &mut DeleteOptions) -> Result<(), ApiError> {
    let text = |value: Option<&serde_json::Value>| {
        value.and_then(|value| value.as_str()).map(str::to_owned)
    };
    if let Some(grace) = given
        .get("gracePeriodSeconds")
        .and_then(serde_json::Value::as_i64)
    {
        options.grace = Some(grace);
    }
    if let Some(policy) = text(given.get("propagationPolicy")) {
        options.propagation = propagation(&policy)?;
    }
    match given
        .get("orphanDependents")
        .and_then(serde_json::Value::as_bool)
    {
        Some(true) => options.propagation = Some(Propagation::Orphan),
        Some(false) => options.propagation = Some(Propagation::Background),
        None => {}
    }
    if let Some(preconditions) = given.get("preconditions") {
        options.uid = text(preconditions.get("uid"));
        options.version =
            match text(preconditions.get("resourceVersion")) {
                Some(version) => Some(version.parse().map_err(|_| {
                    ApiError::bad_request("invalid resource version in preconditions")
                })?),
                None => None,
            };
    }
    let dry = given
        .get("dryRun")
        .and_then(serde_json::Value::as_array)
        .is_some_and(|list| list.iter().any(|one| one == "All"));
    options.dry_run |= dry;
    Ok(())
}

fn propagation(text: &str) -> Result<Option<Propagation>, ApiError> {
    match text {
        "" => Ok(None),
        "Orphan" => Ok(Some(Propagation::Orphan)),
        "Background" => Ok(Some(Propagation::Background)),
        "Foreground" => Ok(Some(Propagation::Foreground)),
        other => {
            let error = FieldError::unsupported(
                "propagationPolicy",
                other,
                &["Background", "Foreground", "Orphan"],
            );
            Err(ApiError::invalid_kind(
                "meta.k8s.io",
                "DeleteOptions",
                "",
                &[error],
            ))
        }
    }
}
