//! Forms of names.

/// Upstream's words for each form.
pub const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
pub const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
pub const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
pub const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
pub const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

use crate::kind::NameRule as Rule;

pub const SUBDOMAIN_RULE: Rule = subdomain;
/// The same where upstream declares it, in other words for the length.
pub const DECLARED_SUBDOMAIN_RULE: Rule = declared_subdomain;
pub const LABEL_RULE: Rule = label;
pub const LABEL_1035_RULE: Rule = label_1035;
pub const PATH_SEGMENT_RULE: Rule = path_segment;
/// Of kinds whose names depend on what they say: they check them themselves.
pub const OWN_RULE: Rule = |_| Vec::new();

/// Upstream's limits of names, in bytes.
const SUBDOMAIN_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// What is wrong with a name of this form: its length and its letters are told
/// apart.
fn complaints(text: &str, max: usize, good: fn(&str) -> bool, form: &str) -> Vec<String> {
    let mut found = Vec::new();
    if text.len() > max {
        found.push(format!("must be no more than {max} characters"));
    }
    if !good(text) {
        found.push(form.to_owned());
    }
    found
}

/// What is wrong with a subdomain of RFC 1123.
pub fn subdomain(text: &str) -> Vec<String> {
    complaints(text, SUBDOMAIN_MAX, has_labels, SUBDOMAIN)
}

fn declared_subdomain(text: &str) -> Vec<String> {
    let mut wrong = subdomain(text);
    if text.len() > SUBDOMAIN_MAX {
        wrong[0] = format!("must be no more than {SUBDOMAIN_MAX} bytes");
    }
    wrong
}

/// What is wrong with a label of RFC 1123.
pub fn label(text: &str) -> Vec<String> {
    // More than one of them.
    let dotted = text.contains('.') && has_labels(text);
    let form = if dotted {
        "must not contain dots"
    } else {
        LABEL
    };
    complaints(text, LABEL_MAX, has_letters, form)
}

/// What is wrong with a label of RFC 1035.
pub fn label_1035(text: &str) -> Vec<String> {
    let good = |text: &str| {
        has_letters(text) && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
    };
    complaints(text, LABEL_MAX, good, LABEL_1035)
}

/// What is wrong with one step of a path.
pub fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    let found = ["/", "%"].into_iter().filter(|one| text.contains(one));
    found
        .map(|one| format!("may not contain '{one}'"))
        .collect()
}

/// What is wrong with the key of a label, `name` or `domain/name`.
pub fn qualified(text: &str) -> Vec<String> {
    let parts: Vec<_> = text.split('/').collect();
    let (domain, name) = match parts[..] {
        [name] => (None, name),
        [domain, name] => (Some(domain), name),
        _ => {
            let form = QUALIFIED.trim_start_matches("name part ");
            return vec![format!(
                "a valid label key {form} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    let mut found = Vec::new();
    match domain {
        Some("") => found.push("prefix part must be non-empty".to_owned()),
        Some(domain) => found.extend(
            subdomain(domain)
                .iter()
                .map(|why| format!("prefix part {why}").replace("characters", "bytes")),
        ),
        None => {}
    }
    if name.is_empty() {
        found.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        found.push(format!("name part must be no more than {LABEL_MAX} bytes"));
    }
    if name.is_empty() || !has_value(name) {
        found.push(QUALIFIED.to_owned());
    }
    found
}

/// What is wrong with the value of a label.
pub fn label_value(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if text.len() > LABEL_MAX {
        found.push(format!("must be no more than {LABEL_MAX} bytes"));
    }
    if !has_value(text) {
        found.push(LABEL_VALUE.to_owned());
    }
    found
}

/// A prefix of names that are to be generated: what is added to it ends well.
pub fn prefix(text: &str) -> String {
    match text.strip_suffix('-') {
        // Upstream's own way, which takes the letter before, too.
        Some(rest) if !rest.is_empty() => {
            let mut rest = rest.to_owned();
            rest.pop();
            rest + "a"
        }
        _ => text.to_owned(),
    }
}

fn has_letters(text: &str) -> bool {
    ends_well(text)
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn has_labels(text: &str) -> bool {
    text.split('.').all(has_letters)
}

fn has_value(text: &str) -> bool {
    text.is_empty()
        || (ends_well(text)
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)))
}

fn ends_well(text: &str) -> bool {
    let bytes = text.as_bytes();
    let good = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    good(bytes.first()) && good(bytes.last())
}

/// RFC 1123, one label.
pub fn is_label(text: &str) -> bool {
    label(text).is_empty()
}

/// RFC 1123, labels with dots between them.
pub fn is_subdomain(text: &str) -> bool {
    subdomain(text).is_empty()
}

/// RFC 1035, one label.
pub fn is_label_1035(text: &str) -> bool {
    label_1035(text).is_empty()
}

/// The value of a label.
pub fn is_label_value(text: &str) -> bool {
    text.len() <= LABEL_MAX && has_value(text)
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
        assert!(path_segment("system:a b").is_empty());
        assert_eq!(
            path_segment("a/b%"),
            ["may not contain '/'", "may not contain '%'"]
        );
        assert_eq!(path_segment(".."), ["may not be '..'"]);
        for (text, wrong) in [
            ("a.b/C_d", 0),
            ("x", 0),
            ("A.b/c", 1),
            ("a/b/c", 1),
            ("a/", 2),
        ] {
            assert_eq!(qualified(text).len(), wrong, "{text}");
        }
        assert_eq!(
            label(&"a".repeat(64)),
            ["must be no more than 63 characters"]
        );
        assert_eq!(
            (&*prefix("ab-"), &*prefix("-"), &*prefix("a")),
            ("aa", "-", "a")
        );
        assert!(
            is_label_value("")
                && is_label_value("A.b_c")
                && !is_label_value("a b")
                && !is_label_value("é")
        );
    }
}
