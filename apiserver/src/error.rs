//! What a client is told when a request fails: `Status` objects with
//! upstream's codes, reasons, messages and causes.

use serde_json::{Map, Value, json};

pub use crate::field::FieldError;
use crate::{catalog::Resource, store::StoreError};

/// The media types of answers, in upstream's order.
const MEDIA_TYPES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// A failed request.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub code: u16,
    /// Empty: the `Status` has none.
    pub reason: &'static str,
    pub message: String,
    /// Upstream's generic answers have some, and they are empty.
    details: Option<Map<String, Value>>,
    /// Where an expired list can go on.
    continue_token: Option<String>,
    /// The reason, if it is another program's.
    given_reason: Option<Box<str>>,
}

impl ApiError {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
            continue_token: None,
            given_reason: None,
        }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
            if !value.is_empty() {
                self.details().insert(key.to_owned(), value.into());
            }
        }
        self
    }

    /// The same about a resource as it is served, which is stored as another:
    /// what is wrong with a field is told of the stored one.
    pub fn served_as(mut self, served: &Resource, stored: &Resource) -> Self {
        let of_resource = matches!(self.reason, "NotFound" | "AlreadyExists" | "Conflict");
        if !of_resource || served.group == stored.group {
            return self;
        }
        let (from, to) = (stored.qualified(), served.qualified());
        let from = format!("{from} \"");
        // Others name the kind, which is that of what is stored.
        if !self.message.contains(&from) {
            return self;
        }
        self.message = self.message.replacen(&from, &format!("{to} \""), 1);
        if let Some(details) = &mut self.details {
            details.insert("group".to_owned(), served.group.clone().into());
        }
        self
    }

    fn details(&mut self) -> &mut Map<String, Value> {
        self.details.get_or_insert_default()
    }

    /// An answer that upstream's framework gives, not its code for objects.
    fn generic(mut self) -> Self {
        self.details();
        self
    }

    fn retry(mut self, seconds: u64) -> Self {
        self.details()
            .insert("retryAfterSeconds".to_owned(), seconds.into());
        self
    }

    fn cause(mut self, reason: &str, field: &str, message: &str) -> Self {
        let mut cause = json!({"message": message});
        for (key, value) in [("reason", reason), ("field", field)] {
            if !value.is_empty() {
                cause[key] = value.into();
            }
        }
        let causes = self
            .details()
            .entry("causes")
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(causes) = causes {
            causes.push(cause);
        }
        self
    }

    /// Whether the request was turned away before anybody looked for its object.
    pub fn is_turned_away(&self) -> bool {
        self.code == 405 || matches!(self.code, 406 | 415) && self.details.is_some()
    }

    /// Lets the client go on with the rest of an expired list.
    pub fn continuing(mut self, token: String) -> Self {
        self.continue_token = Some(token);
        self
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// Who asks is nobody.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub fn forbidden(resource: &Resource, name: &str, why: &str) -> Self {
        Self::new(
            403,
            "Forbidden",
            format!("{} {name:?} is forbidden: {why}", resource.qualified()),
        )
        .about(&resource.group, &resource.plural, name)
    }

    /// A create in a namespace that is being deleted.
    pub fn terminating(resource: &Resource, name: &str, namespace: &str) -> Self {
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        Self::forbidden(resource, name, &why).cause(
            "NamespaceTerminating",
            "metadata.namespace",
            &format!("namespace {namespace} is being terminated"),
        )
    }

    pub fn not_found(resource: &Resource, name: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("{} {name:?} not found", resource.qualified()),
        )
        .about(&resource.group, &resource.plural, name)
    }

    /// What a write refers to is not there, by the kind's name of the core group.
    pub fn absent(kind: &str, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{kind} {name:?} not found")).about("", kind, name)
    }

    /// Who asks may not: of a resource, or of a path when that is empty.
    pub fn denied(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let what = match (plural, group, name) {
            ("", ..) => return Self::new(403, "Forbidden", format!("forbidden: {why}")).generic(),
            (plural, "", "") => plural.to_owned(),
            (plural, group, "") => format!("{plural}.{group}"),
            (plural, "", name) => format!("{plural} {name:?}"),
            (plural, group, name) => format!("{plural}.{group} {name:?}"),
        };
        let message = format!("{what} is forbidden: {why}");
        Self::new(403, "Forbidden", message)
            .generic()
            .about(group, plural, name)
    }

    /// No such path.
    pub fn no_page() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
        .generic()
    }

    pub fn method() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
        .generic()
    }

    /// No media type of an `Accept` can be had.
    pub fn not_acceptable() -> Self {
        Self::new(
            406,
            "NotAcceptable",
            format!("406: Not Acceptable\n\nAvailable representations: {MEDIA_TYPES}"),
        )
        .generic()
    }

    /// A media type can be had, but not with these parameters.
    pub fn not_transformed() -> Self {
        let message = format!("only the following media types are accepted: {MEDIA_TYPES}");
        Self::new(406, "NotAcceptable", message)
    }

    /// The form asked for is that of a list, or of one object, and the answer is
    /// the other.
    pub fn not_this_form(wanted: &str, resource: &Resource, list: bool) -> Self {
        let group = match resource.group.split('.').next() {
            None | Some("" | "events") => "core",
            Some(group) => group,
        };
        let (is, end) = if list { ("is", "List") } else { ("is not", "") };
        let message = format!(
            "you requested {wanted}, but the requested object {is} a list (*{group}.{}{end})",
            resource.kind
        );
        Self::new(406, "NotAcceptable", message)
    }

    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        Self::new(
            409,
            "AlreadyExists",
            format!("{} {name:?} already exists", resource.qualified()),
        )
        .about(&resource.group, &resource.plural, name)
    }

    pub fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        Self::new(
            409,
            "Conflict",
            format!(
                "Operation cannot be fulfilled on {} {name:?}: {why}",
                resource.qualified()
            ),
        )
        .about(&resource.group, &resource.plural, name)
    }

    /// A pod cannot be bound to a node.
    pub fn unbound(name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on pods/binding {name:?}: {why}");
        Self::new(409, "Conflict", message).about("", "pods/binding", name)
    }

    /// The same in the words of a deletion, which names the kind.
    pub fn conflict_of_kind(resource: &Resource, name: &str, why: &str) -> Self {
        let kind = match &*resource.group {
            "" => resource.kind.clone().into_owned(),
            group => format!("{}.{group}", resource.kind),
        };
        let message = format!("Operation cannot be fulfilled on {kind} {name:?}: {why}");
        Self::new(409, "Conflict", message).about(&resource.group, &resource.kind, name)
    }

    pub fn modified(resource: &Resource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// Others own what a client applies: what it conflicts with, and where.
    pub fn not_applied<'a>(
        message: &str,
        conflicts: impl Iterator<Item = (String, &'a str)>,
    ) -> Self {
        let error = Self::new(409, "Conflict", message);
        conflicts.fold(error, |all, (with, field)| {
            all.cause("FieldManagerConflict", field, &with)
        })
    }

    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub fn too_large(why: &str) -> Self {
        let message = format!("Request entity too large: {why}");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// A patch that is none.
    pub fn unsupported_patch() -> Self {
        let message = "415: Unsupported Media Type";
        Self::new(415, "UnsupportedMediaType", message).generic()
    }

    pub fn unsupported_media() -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {MEDIA_TYPES}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub fn invalid(resource: &Resource, name: &str, errors: &[FieldError]) -> Self {
        Self::invalid_kind(&resource.group, &resource.kind, name, errors)
    }

    pub fn invalid_kind(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let texts: Vec<_> = errors
            .iter()
            .map(|error| format!("{}: {}", error.field, error.message))
            .collect();
        let text = match &texts[..] {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let qualified = if group.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind}.{group}")
        };
        let error = Self::new(
            422,
            "Invalid",
            format!("{qualified} {name:?} is invalid: {text}"),
        )
        .about(group, kind, name);
        errors.iter().fold(error, |all, one| {
            all.cause(one.reason, &one.field, &one.message)
        })
    }

    /// A patch that is well formed and does not fit the object.
    pub fn unfit() -> Self {
        let message = "the server rejected our request due to an error in our request";
        Self::new(422, "Invalid", message).generic()
    }

    /// What upstream tells with Go's error alone.
    pub fn plain(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    pub fn too_many() -> Self {
        Self::new(
            429,
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later",
        )
        .retry(1)
    }

    /// An eviction that a disruption budget holds back.
    pub fn disruption(message: &str, retry: Option<u64>) -> Self {
        let error = Self::new(
            429,
            "TooManyRequests",
            "Cannot evict pod as it would violate the pod's disruption budget.",
        )
        .cause("DisruptionBudget", "", message);
        match retry {
            Some(seconds) => error.retry(seconds),
            None => error,
        }
    }

    /// A webhook says no, with a `Status` of its own or without.
    pub fn by_webhook(name: &str, status: Option<Map<String, Value>>) -> Self {
        let status = status.unwrap_or_default();
        let text = |field: &str| status.get(field).and_then(Value::as_str).unwrap_or("");
        let denied = format!("admission webhook {name:?} denied the request");
        let message = match (text("message"), text("reason")) {
            ("", "") => format!("{denied} without explanation"),
            ("", why) | (why, _) => format!("{denied}: {why}"),
        };
        let code = status.get("code").and_then(Value::as_u64);
        let code = code.and_then(|code| u16::try_from(code).ok());
        // No refusal looks like a success.
        let code = code.filter(|code| (400..600).contains(code)).unwrap_or(400);
        let mut error = Self::new(code, "", message);
        error.details = status.get("details").and_then(Value::as_object).cloned();
        let reason = text("reason");
        error.given_reason = (!reason.is_empty()).then(|| reason.into());
        error
    }

    pub fn internal(message: impl Into<String>) -> Self {
        let why = message.into();
        let message = format!("Internal error occurred: {why}");
        Self::new(500, "InternalError", message).cause("", "", &why)
    }

    /// Nothing is behind a service.
    pub fn unavailable_service(name: &str) -> Self {
        let message = format!("no endpoints available for service {name:?}");
        Self::new(503, "ServiceUnavailable", message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message).retry(1)
    }

    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "Timeout", message)
    }

    /// A version that this server has not seen yet.
    pub fn version_ahead(asked: i64, current: i64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        Self::new(504, "Timeout", format!("Timeout: {message}"))
            .retry(1)
            .cause("ResourceVersionTooLarge", "", "Too large resource version")
    }

    /// Seconds for the `Retry-After` header.
    pub fn retry_after(&self) -> Option<u64> {
        self.details
            .as_ref()?
            .get("retryAfterSeconds")
            .and_then(Value::as_u64)
    }

    /// The `Status` object.
    pub fn status(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".to_owned(), token.clone().into());
        }
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        let given = self.given_reason.as_deref();
        let reason = given.unwrap_or(self.reason);
        if !reason.is_empty() {
            status["reason"] = reason.into();
        }
        if let Some(details) = &self.details {
            status["details"] = Value::Object(details.clone());
        }
        status
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Compacted => {
                Self::expired("The resourceVersion for the provided list is too old.")
            }
            StoreError::Future { asked, current } => Self::version_ahead(asked, current),
            StoreError::TooLarge => Self::new(
                413,
                "RequestEntityTooLarge",
                "etcdserver: request is too large",
            ),
            StoreError::Unavailable(message) => Self::unavailable(message),
            StoreError::Timeout => Self::timeout("the store did not answer in time"),
            StoreError::Other(message) => Self::internal(message),
            StoreError::Sealed { key, why } => {
                // Upstream's words, with its keys below the store's prefix.
                let key = key.strip_prefix("/registry").unwrap_or(&key);
                let text = format!(
                    "StorageError: corrupt object, Code: 7, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: data from the storage is not transformable revision=0: {why}"
                );
                let mut error = Self::internal(&*text);
                let causes = json!([{"message": text}]);
                error.details().insert("causes".to_owned(), causes);
                error
            }
        }
    }
}
