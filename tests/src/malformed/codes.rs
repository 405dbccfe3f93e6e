//! Which codes refuse which way of being malformed, and how upstream calls them.

/// The codes that may refuse a request of this kind. Where several may, the
/// kind holds cases that fail at different steps: what cannot be read (400),
/// what names nothing (404), what the path does not take (405), what clashes
/// with the object that is there (409), what is no valid object (422). Upstream
/// has 500 without a reason for a version that is none and for directives of a
/// strategic patch, and so have we.
pub fn refusals(what: &str) -> &'static [u16] {
    match what {
        "JSON cut short"
        | "JSON that is called protobuf"
        | "a field that is unknown"
        | "a field that stands twice"
        | "a patch cut short"
        | "a value of another type"
        | "nesting without end"
        | "options of a deletion cut short"
        | "protobuf cut short"
        | "protobuf that is called JSON"
        | "protobuf without its magic" => &[400],
        "a namespace that is not there" | "what is not there" => &[404],
        "a name that is not the path's" => &[400],
        "a method that the path has not" => &[405],
        "a form that cannot be had" => &[406],
        "what is there already" => &[409],
        "a body that is too large" => &[413],
        "a body of an unknown type" | "a patch of an unknown type" => &[415],
        // 400: the name in the body of a PUT is another one.
        "a path that names nothing" => &[400, 404, 405, 415],
        // 413: more operations than upstream takes in one patch.
        "operations that do not fit" => &[400, 409, 413, 422, 500],
        "a query that is malformed" => &[400, 422, 500],
        "a subresource that is malformed" => &[400, 404, 405, 409, 422, 500],
        "JSON with other bytes"
        | "a merge that is not allowed"
        | "a patch with other bytes"
        | "a strategic merge that is not allowed"
        | "a value that is not allowed"
        | "options of a deletion that are not allowed"
        | "options of a deletion with other bytes"
        | "protobuf with other bytes" => &[400, 409, 422, 500],
        _ => &[],
    }
}

/// The reasons that upstream gives with a code.
pub fn reasons(code: u16) -> &'static [&'static str] {
    match code {
        400 => &["BadRequest"],
        404 => &["NotFound"],
        405 => &["MethodNotAllowed"],
        406 => &["NotAcceptable"],
        409 => &["Conflict", "AlreadyExists"],
        413 => &["RequestEntityTooLarge"],
        415 => &["UnsupportedMediaType"],
        422 => &["Invalid"],
        500 => &[""],
        _ => &[],
    }
}
