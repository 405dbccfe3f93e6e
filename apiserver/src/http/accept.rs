//! Media types: what a client sends and what it takes.

/// The forms in which an answer can leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Json,
    Protobuf,
    Yaml,
    /// Rows and columns.
    Table,
    /// Metadata alone.
    Partial,
    /// A list of metadata.
    PartialList,
}

/// Why no form of an `Accept` can be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// None of its media types is known.
    Media,
    /// One is, but not with its parameters.
    Parameters,
}

/// A media type without and its parameters.
fn split(text: &str) -> (String, Vec<(String, String)>) {
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().unwrap_or("").to_ascii_lowercase();
    let parameters = parts
        .filter_map(|part| part.split_once('='))
        .map(|(key, value)| {
            (
                key.trim().to_ascii_lowercase(),
                value.trim().trim_matches('"').to_owned(),
            )
        })
        .collect();
    (media, parameters)
}

/// The media type of a `Content-Type`, without its parameters.
pub fn media_type(text: &str) -> String {
    split(text).0
}

/// The first form of an `Accept` that can be had.
pub fn form(accept: &str) -> Result<Form, Refused> {
    if accept.trim().is_empty() {
        return Ok(Form::Json);
    }
    let mut refused = Refused::Media;
    let found = accept.split(',').find_map(|one| {
        let (media, parameters) = split(one);
        let get = |name: &str| {
            parameters
                .iter()
                .find(|(key, _)| key == name)
                .map_or("", |(_, value)| value.as_str())
        };
        let plain = match media.as_str() {
            "application/json" | "application/*" | "*/*" => Form::Json,
            "application/yaml" => Form::Yaml,
            "application/vnd.kubernetes.protobuf" => Form::Protobuf,
            _ => return None,
        };
        let json = plain == Form::Json;
        refused = Refused::Parameters;
        let meta = get("g") == "meta.k8s.io" && get("v") == "v1";
        match (get("as"), json) {
            ("", _) => Some(plain),
            ("Table", true) if meta => Some(Form::Table),
            ("PartialObjectMetadata", true) if meta => Some(Form::Partial),
            ("PartialObjectMetadataList", true) if meta => Some(Form::PartialList),
            _ => None,
        }
    });
    found.ok_or(refused)
}

/// The version of aggregated discovery that is asked for first, if any.
pub fn aggregated(accept: &str) -> Option<&'static str> {
    for one in accept.split(',') {
        let (media, parameters) = split(one);
        let get = |name: &str| {
            parameters
                .iter()
                .find(|(key, _)| key == name)
                .map_or("", |(_, value)| value.as_str())
        };
        if media != "application/json" {
            continue;
        }
        if get("as").is_empty() {
            return None;
        }
        if get("g") == "apidiscovery.k8s.io" && get("as") == "APIGroupDiscoveryList" {
            match get("v") {
                "v2" => return Some("v2"),
                "v2beta1" => return Some("v2beta1"),
                _ => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (accept, expected) in [
            ("", Ok(Form::Json)),
            ("*/*", Ok(Form::Json)),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Ok(Form::Table),
            ),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
                Ok(Form::Partial),
            ),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Ok(Form::Protobuf),
            ),
            ("application/json, */*", Ok(Form::Json)),
            ("application/yaml", Ok(Form::Yaml)),
            ("text/html", Err(Refused::Media)),
            (
                "application/json;as=Table;v=v9;g=meta.k8s.io",
                Err(Refused::Parameters),
            ),
        ] {
            assert_eq!(form(accept), expected, "{accept}");
        }
    }

    #[test]
    fn discovery() {
        assert_eq!(
            aggregated(
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
            ),
            Some("v2")
        );
        assert_eq!(aggregated("application/json"), None);
        assert_eq!(
            aggregated(
                "application/json,application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            ),
            None
        );
    }
}
