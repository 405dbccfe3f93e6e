//! Forms of names.

/// Upstream's words for each form.
pub const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
pub const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
pub const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
pub const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
pub const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

use crate::kind::NameRule as Rule;

pub const SUBDOMAIN_RULE: Rule = (is_subdomain, SUBDOMAIN);
pub const LABEL_RULE: Rule = (is_label, LABEL);
pub const LABEL_1035_RULE: Rule = (is_label_1035, LABEL_1035);
pub const PATH_SEGMENT_RULE: Rule = (
    is_path_segment,
    "may not be '.', '..', or contain '/' or '%'",
);

fn ends_well(text: &str) -> bool {
    let bytes = text.as_bytes();
    let good = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    good(bytes.first()) && good(bytes.last())
}

/// RFC 1123, one label.
pub fn is_label(text: &str) -> bool {
    text.len() <= 63
        && ends_well(text)
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// RFC 1123, labels with dots between them.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            ends_well(label)
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        })
}

/// RFC 1035, one label.
pub fn is_label_1035(text: &str) -> bool {
    is_label(text) && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
}

/// One step of a path, as names of roles are.
pub fn is_path_segment(text: &str) -> bool {
    !text.is_empty() && text != "." && text != ".." && !text.contains(['/', '%'])
}

/// `name` or `domain/name`.
pub fn is_qualified(text: &str) -> bool {
    let (domain, name) = match text.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, text),
    };
    domain.is_none_or(is_subdomain) && !name.is_empty() && is_label_value(name)
}

/// The value of a label.
pub fn is_label_value(text: &str) -> bool {
    text.is_empty()
        || (text.len() <= 63
            && ends_well(text)
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert!(
            is_label("a-1")
                && !is_label("-a")
                && !is_label("A")
                && !is_label("")
                && !is_label(&"a".repeat(64))
        );
        assert!(
            is_subdomain("a.b-c.d")
                && !is_subdomain("a..b")
                && !is_subdomain("a.-b")
                && !is_subdomain("")
        );
        assert!(is_label_1035("a1") && !is_label_1035("1a"));
        assert!(
            is_path_segment("system:a b")
                && !is_path_segment("a/b")
                && !is_path_segment("..")
                && !is_path_segment("%")
        );
        assert!(
            is_qualified("a.b/C_d")
                && is_qualified("x")
                && !is_qualified("A.b/c")
                && !is_qualified("a/b/c")
                && !is_qualified("a/")
        );
        assert!(
            is_label_value("")
                && is_label_value("A.b_c")
                && !is_label_value("a b")
                && !is_label_value("é")
        );
    }
}
