//! A request in the API's words: its body decoded and defaulted, its
//! parameters read. Knows media types and parameters; answers nothing.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, header};
use serde_json::Value;

use super::{
    accept::{self, Form, Refused},
    chain::Context,
};
use crate::{
    catalog::Resource,
    codec::{
        json::{self, DecodeError, Decoded, Source},
        mistake,
        proto::{self, Envelope, ProtoError},
        yaml,
    },
    defaults,
    error::{ApiError, FieldError},
    limits,
    object::{self, Json},
    ownership::{Configuration, Writer},
    patch::{self, Patch},
    registry::{
        DeleteOptions, Gate, ListOptions, Match, Propagation, Validation, WriteOptions,
        expect_kind, not_registered, parse_version, sub,
    },
    schema::{MessageId, schema},
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
    /// Who has a say in what is written.
    pub gate: Option<&'a dyn Gate>,
}

impl Request<'_> {
    pub fn header(&self, name: header::HeaderName) -> &str {
        header_text(self.headers, name)
    }

    pub fn form(&self) -> Result<Form, ApiError> {
        accept::form(self.header(header::ACCEPT)).map_err(|refused| match refused {
            Refused::Media => ApiError::not_acceptable(),
            Refused::Parameters => ApiError::not_transformed(),
        })
    }

    /// The form of an answer that is one object, or a list.
    pub fn form_of(&self, resource: &Resource, list: bool) -> Result<Form, ApiError> {
        match (self.form()?, list) {
            (Form::Partial, true) => Err(ApiError::not_this_form(
                "PartialObjectMetadata",
                resource,
                true,
            )),
            (Form::PartialList, false) => Err(ApiError::not_this_form(
                "PartialObjectMetadataList",
                resource,
                false,
            )),
            (form, _) => Ok(form),
        }
    }

    pub fn include(&self) -> Result<Include, ApiError> {
        match self.context.query.get("includeObject") {
            "" | "Metadata" => Ok(Include::Metadata),
            "None" => Ok(Include::None),
            "Object" => Ok(Include::Object),
            other => Err(ApiError::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', 'Object', 'None', or empty"
            ))),
        }
    }

    /// The options of a write, which its method names.
    pub fn write(&self, view: &View) -> Result<WriteOptions<'_>, ApiError> {
        let query = &self.context.query;
        let mut errors = Vec::new();
        if self.applies() {
            if query.get("fieldManager").is_empty() {
                let why = "is required for apply patch";
                errors.push(FieldError::required("fieldManager", why));
            }
        } else if *self.method == Method::PATCH && !query.get("force").is_empty() {
            let why = "may not be specified for non-apply patch";
            errors.push(FieldError::forbidden("force", why));
        }
        field_manager(query.get("fieldManager"), &mut errors);
        let dry: Vec<&str> = query.all("dryRun").collect();
        let dry_run = dry_run(&dry, &mut errors);
        let validation = match query.get("fieldValidation") {
            "" | "Warn" => Validation::Warn,
            "Ignore" => Validation::Ignore,
            "Strict" => Validation::Strict,
            other => {
                let supported = ["", "Ignore", "Strict", "Warn"];
                errors.push(FieldError::unsupported(
                    "fieldValidation",
                    other,
                    &supported,
                ));
                Validation::Warn
            }
        };
        let options = match *self.method {
            Method::PUT => "UpdateOptions",
            Method::PATCH => "PatchOptions",
            _ => "CreateOptions",
        };
        valid_options(options, &errors)?;
        let agent = self.header(header::USER_AGENT);
        let writer = Writer::new(query.get("fieldManager"), agent, view);
        Ok(WriteOptions {
            dry_run,
            validation,
            gate: self.gate,
            writer: Some(Arc::new(writer)),
        })
    }

    /// The version that a read asks for, or Go's words for why it is none.
    pub fn version(&self) -> Result<Option<i64>, ApiError> {
        self.version_or(|why| ApiError::plain(format!("resourceVersion: {why}")))
    }

    /// The same of one object: one that is not `cached` is read as a list is.
    pub fn version_of_one(&self, cached: bool) -> Result<Option<i64>, ApiError> {
        if cached {
            return self.version();
        }
        self.version_or(|why| {
            ApiError::bad_request(format!("invalid resource version: resourceVersion: {why}"))
        })
    }

    fn version_or(&self, wrong: impl Fn(String) -> ApiError) -> Result<Option<i64>, ApiError> {
        match self.context.query.get("resourceVersion") {
            "" => Ok(None),
            text => parse_version(text)
                .map(Some)
                .map_err(|why| wrong(format!("Invalid value: {text:?}: {why}"))),
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
            text => text.parse().map(Some).map_err(|_| {
                let why = format!("strconv.ParseInt: parsing {text:?}: invalid syntax");
                ApiError::bad_request(why)
            }),
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
        let limit = self.number("limit")?.unwrap_or(0).max(0);
        self.number("timeoutSeconds")?;
        let selector = self.selector(view)?;
        let version_match = self.version_match()?;
        if !self.context.query.get("sendInitialEvents").is_empty() {
            let why = "sendInitialEvents is forbidden for list";
            let error = FieldError::forbidden("sendInitialEvents", why);
            valid_options("ListOptions", &[error])?;
        }
        let version = self.version_or(|why| {
            ApiError::bad_request(format!("invalid resource version: resourceVersion: {why}"))
        })?;
        Ok(ListOptions {
            selector,
            limit,
            token: self.context.query.get("continue").to_owned(),
            version,
            version_match,
        })
    }

    /// Decodes the body as message `id`, and has it recorded as it came.
    pub fn decode(&self, id: MessageId) -> Result<Decoded, ApiError> {
        let body = self.decoded(id)?;
        if let Some(record) = &self.context.record {
            record.asked(&body.value, || {
                let mut whole = body.value.clone();
                whole.insert("kind".to_owned(), body.kind.to_string().into());
                // Upstream records the options of a deletion in its own version.
                let version = match &*body.kind {
                    "DeleteOptions" => "meta.k8s.io/__internal".to_owned(),
                    _ => body.api_version.to_string(),
                };
                whole.insert("apiVersion".to_owned(), version.into());
                Some(Value::Object(whole))
            });
        }
        Ok(body)
    }

    fn decoded(&self, id: MessageId) -> Result<Decoded, ApiError> {
        let name = schema().message(id).name;
        let kind = name.rsplit('.').next().unwrap_or(name);
        let media = accept::media_type(self.header(header::CONTENT_TYPE));
        match media.as_str() {
            "" | "application/json" => json::decode(&self.body, id, Source::Client)
                .map_err(|error| self.undecoded(name, &error)),
            "application/yaml" => {
                let (value, twice) = std::str::from_utf8(&self.body)
                    .map_err(|_| "yaml: invalid leading UTF-8 octet".to_owned())
                    .and_then(|text| yaml::read(text).map_err(|error| error.to_string()))
                    .map_err(|why| self.undecoded(name, &DecodeError::Syntax(why)))?;
                let mut decoded = json::conform(value, id, Source::Client)
                    .map_err(|error| self.undecoded(name, &error))?;
                decoded.irregular.extend(twice);
                Ok(decoded)
            }
            "application/vnd.kubernetes.protobuf" => {
                let envelope = Envelope::open(&self.body).map_err(|error| match error {
                    ProtoError::Magic => ApiError::bad_request(format!(
                        "the object provided is unrecognized (must be of type {kind}): provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] ({})",
                        mistake::summary(&self.body)
                    )),
                    error => malformed(&error),
                })?;
                let text =
                    proto::to_plain_json(id, envelope.raw).map_err(|error| malformed(&error))?;
                let mut decoded =
                    json::decode(&text, id, Source::Client).map_err(|error| malformed(&error))?;
                decoded.kind = envelope.kind.into_owned();
                decoded.api_version = envelope.api_version.into_owned();
                Ok(decoded)
            }
            _ => Err(ApiError::unsupported_media()),
        }
    }

    /// What a client is told of a body in JSON that is no object of message
    /// `name`.
    fn undecoded(&self, name: &str, error: &DecodeError) -> ApiError {
        let parts: Vec<_> = name.rsplitn(3, '.').collect();
        let (kind, version) = (parts[0], parts.get(1).unwrap_or(&""));
        ApiError::bad_request(match error {
            DecodeError::Type(why) => {
                format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}")
            }
            DecodeError::Syntax(why) => {
                let why = format!("couldn't get version/kind; json parse error: {why}");
                if kind == "DeleteOptions" {
                    why
                } else {
                    let body = mistake::summary(&self.body);
                    format!(
                        "the object provided is unrecognized (must be of type {kind}): {why} ({body})"
                    )
                }
            }
        })
    }

    /// Decodes the body as an object of the served version and gives it in the
    /// stored one, with its kind's defaults: admission and validation see whole
    /// objects.
    pub fn object(&self, view: &View, namespace: &str) -> Result<Decoded, ApiError> {
        let mut body = self.decoded(view.served.message)?;
        if !view.is_plain() {
            self.to_stored(view, namespace, &mut body)?;
        }
        defaults::apply(&view.stored, &mut body.value);
        if let Some(record) = &self.context.record {
            record.asked(&body.value, || as_sent(view, &body.value));
        }
        Ok(body)
    }

    fn to_stored(&self, view: &View, namespace: &str, body: &mut Decoded) -> Result<(), ApiError> {
        expect_kind(&view.served, body)?;
        if self.method == Method::POST {
            if object::meta_str(&body.value, "namespace").is_empty() && !namespace.is_empty() {
                object::set_meta(&mut body.value, "namespace", Some(namespace.into()));
            }
            let errors = validate::other_version(&view.served, &body.value);
            if !errors.is_empty() {
                let name = object::meta_str(&body.value, "name");
                return Err(ApiError::invalid(&view.stored, name, &errors));
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

    /// Whether the request is a server-side apply.
    pub fn applies(&self) -> bool {
        let media = accept::media_type(self.header(header::CONTENT_TYPE));
        *self.method == Method::PATCH && media == "application/apply-patch+yaml"
    }

    /// What a server-side apply applies, and what is to be said of its text.
    pub fn configuration(
        &self,
        validation: Validation,
    ) -> Result<(Configuration, Vec<String>), ApiError> {
        if let Some(record) = &self.context.record {
            record.patched(&self.body);
        }
        let (object, twice) = patch::configuration(&self.body)?;
        let twice = twice.filter(|_| validation != Validation::Ignore);
        if let Some(why) = twice.as_ref().filter(|_| validation == Validation::Strict) {
            return Err(ApiError::bad_request(format!(
                "error strict decoding patch: error converting YAML to JSON: {why}"
            )));
        }
        let force = self.context.query.flag("force");
        let told = twice.as_deref().map(yaml::lines).unwrap_or_default();
        Ok((Configuration { object, force }, told))
    }

    pub fn patch(&self) -> Result<Patch, ApiError> {
        if let Some(record) = &self.context.record {
            record.patched(&self.body);
        }
        let media = accept::media_type(self.header(header::CONTENT_TYPE));
        match Patch::read(&media, &self.body) {
            Some(patch) => patch.map_err(ApiError::from),
            None => Err(ApiError::unsupported_patch()),
        }
    }

    /// What a deletion asks for: its body when it has one, else its parameters.
    pub fn deletion(&self) -> Result<DeleteOptions, ApiError> {
        if !self.body.is_empty() {
            let id = sub::message("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
            let body = self.decode(id)?;
            if !body.kind.is_empty() && body.kind != "DeleteOptions" {
                return Err(ApiError::bad_request(not_registered(
                    &body.kind,
                    &body.api_version,
                )));
            }
            return deletion(&body.value);
        }
        let query = &self.context.query;
        let mut given = Json::new();
        if let Some(grace) = self.number("gracePeriodSeconds")? {
            given.insert("gracePeriodSeconds".to_owned(), grace.into());
        }
        if !query.get("propagationPolicy").is_empty() {
            let policy = query.get("propagationPolicy");
            given.insert("propagationPolicy".to_owned(), policy.into());
        }
        if !query.get("orphanDependents").is_empty() {
            let orphan = query.flag("orphanDependents");
            given.insert("orphanDependents".to_owned(), orphan.into());
        }
        let dry: Vec<&str> = query.all("dryRun").collect();
        given.insert("dryRun".to_owned(), dry.into());
        deletion(&given)
    }
}

/// An object of a body as it would be answered, for the audit log.
fn as_sent(view: &View, object: &Json) -> Option<Value> {
    let mut object = object.clone();
    let version = object::meta(&object).and_then(|meta| meta.get("resourceVersion").cloned());
    let bytes = object::to_store(&view.stored, &mut object);
    let json = object::to_client(&view.stored, &bytes, 0).ok()?.json;
    let mut shown = serde_json::from_slice::<Json>(&view.shown(&json.into()).ok()?).ok()?;
    object::set_meta(&mut shown, "resourceVersion", version);
    Some(Value::Object(shown))
}

fn malformed(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("the object provided is unrecognized: {error}"))
}

/// Refuses options with which something is wrong.
pub fn valid_options(kind: &str, errors: &[FieldError]) -> Result<(), ApiError> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid_kind("meta.k8s.io", kind, "", errors))
}

/// Whether nothing is to be written.
fn dry_run(given: &[&str], errors: &mut Vec<FieldError>) -> bool {
    if given.iter().any(|one| *one != "All") {
        let given = given.to_vec().into();
        errors.push(FieldError::unsupported_value("dryRun", &given, &["All"]));
    }
    !given.is_empty()
}

fn field_manager(name: &str, errors: &mut Vec<FieldError>) {
    if name.len() > limits::MANAGER_BYTES_MAX {
        errors.push(FieldError::too_long(
            "fieldManager",
            limits::MANAGER_BYTES_MAX,
        ));
    }
    for (at, letter) in name.char_indices().filter(|(_, one)| one.is_control()) {
        let why = format!(
            "invalid character U+{:04X} (at position {at})",
            u32::from(letter)
        );
        errors.push(FieldError::invalid("fieldManager", &name.into(), &why));
    }
}

/// What a `DeleteOptions` object asks for.
pub fn deletion(given: &Json) -> Result<DeleteOptions, ApiError> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let mut options = DeleteOptions {
        grace: given.get("gracePeriodSeconds").and_then(Value::as_i64),
        ..DeleteOptions::default()
    };
    let mut errors = Vec::new();
    let policy = text(given.get("propagationPolicy"));
    let orphan = given.get("orphanDependents").and_then(Value::as_bool);
    if let (Some(policy), Some(_)) = (&policy, orphan) {
        errors.push(FieldError::invalid(
            "propagationPolicy",
            &policy.as_str().into(),
            "orphanDependents and deletionPropagation cannot be both set",
        ));
    }
    options.propagation = match (policy.as_deref(), orphan) {
        (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
        (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
        (Some("Foreground"), _) => Some(Propagation::Foreground),
        (None, None) => None,
        (Some(other), _) => {
            let supported = ["Foreground", "Background", "Orphan", "nil"];
            let error = FieldError::unsupported("propagationPolicy", other, &supported);
            errors.push(error);
            None
        }
    };
    let dry = given.get("dryRun").and_then(Value::as_array);
    let dry: Vec<&str> = dry
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    options.dry_run = dry_run(&dry, &mut errors);
    valid_options("DeleteOptions", &errors)?;
    if let Some(preconditions) = given.get("preconditions") {
        options.uid = text(preconditions.get("uid"));
        options.version = text(preconditions.get("resourceVersion"));
    }
    Ok(options)
}
