//! Issuers of ID tokens and what their claims mean, from flags or a file of
//! `AuthenticationConfiguration`.
//!
//! Source: upstream's `pkg/apis/apiserver` and its validation.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::{Anonymous, AuthnError, read};
use crate::{codec::yaml, expression::Expression, limits};

/// One issuer.
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtAuthenticator {
    pub issuer: IssuerConfig,
    #[serde(default)]
    pub claim_validation_rules: Vec<ClaimRule>,
    pub claim_mappings: Mappings,
    #[serde(default)]
    pub user_validation_rules: Vec<UserRule>,
}

#[derive(Clone, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IssuerConfig {
    pub url: String,
    #[serde(rename = "discoveryURL", default)]
    pub discovery_url: String,
    /// In PEM; empty: those that the machine trusts.
    #[serde(default)]
    pub certificate_authority: String,
    pub audiences: Vec<String>,
    #[serde(default)]
    pub audience_match_policy: String,
}

/// What a token must say.
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimRule {
    #[serde(default)]
    pub claim: String,
    #[serde(default)]
    pub required_value: String,
    #[serde(default)]
    pub expression: String,
    #[serde(default)]
    pub message: String,
}

/// What must be true of who a token makes somebody.
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserRule {
    pub expression: String,
    #[serde(default)]
    pub message: String,
}

/// How claims become a user.
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mappings {
    pub username: Mapping,
    #[serde(default)]
    pub groups: Mapping,
    #[serde(default)]
    pub uid: Mapping,
    #[serde(default)]
    pub extra: Vec<ExtraMapping>,
}

#[derive(Clone, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mapping {
    #[serde(default)]
    pub claim: String,
    #[serde(default)]
    pub prefix: Option<String>,
    #[serde(default)]
    pub expression: String,
}

#[derive(Clone, Default, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExtraMapping {
    pub key: String,
    pub value_expression: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    jwt: Vec<JwtAuthenticator>,
    anonymous: Option<AnonymousConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AnonymousConfig {
    enabled: bool,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    path: String,
}

/// The `--oidc-*` flags: one issuer.
#[derive(Clone, Debug, clap::Args)]
pub struct OidcFlags {
    /// The issuer of ID tokens, an https URL.
    #[arg(long, requires = "oidc_client_id")]
    oidc_issuer_url: Option<String>,
    /// The audience that ID tokens must be for.
    #[arg(long, requires = "oidc_issuer_url")]
    oidc_client_id: Option<String>,
    /// The authorities of the issuer's certificate, in PEM; by default those that
    /// the machine trusts.
    #[arg(long, requires = "oidc_issuer_url")]
    oidc_ca_file: Option<PathBuf>,
    /// The claim that is the user's name.
    #[arg(long, default_value = "sub")]
    oidc_username_claim: String,
    /// What the name begins with: by default the issuer and #, unless it is an email
    /// address; - for nothing.
    #[arg(long, default_value = "")]
    oidc_username_prefix: String,
    /// The claim with the user's groups.
    #[arg(long, default_value = "")]
    oidc_groups_claim: String,
    /// What the names of groups begin with.
    #[arg(long, default_value = "")]
    oidc_groups_prefix: String,
    /// A claim that ID tokens must have, claim=value; may be repeated.
    #[arg(long, value_parser = pair)]
    oidc_required_claim: Vec<(String, String)>,
    /// Algorithms that ID tokens may be signed by.
    #[arg(long, value_delimiter = ',', default_value = "RS256")]
    oidc_signing_algs: Vec<String>,
    /// A file of issuers (AuthenticationConfiguration, in YAML or JSON) instead of the
    /// --oidc flags.
    #[arg(long, conflicts_with_all = ["oidc_issuer_url", "anonymous_auth"])]
    authentication_config: Option<PathBuf>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (claim, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is no claim=value"))?;
    Ok((claim.to_owned(), value.to_owned()))
}

/// What flags or a file say.
#[derive(Default, Debug)]
pub struct Configured {
    pub issuers: Vec<JwtAuthenticator>,
    pub algorithms: Vec<String>,
    pub anonymous: Option<Anonymous>,
}

/// Algorithms of upstream's that this server checks.
pub const ALGORITHMS: [&str; 8] = [
    "RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "PS384", "PS512",
];

impl OidcFlags {
    /// # Errors
    /// A file cannot be read, or what it says cannot be.
    pub fn read(&self) -> Result<Configured, AuthnError> {
        if let Some(path) = &self.authentication_config {
            return file(path);
        }
        let (Some(url), Some(client)) = (&self.oidc_issuer_url, &self.oidc_client_id) else {
            return Ok(Configured::default());
        };
        let authority = match &self.oidc_ca_file {
            Some(path) => String::from_utf8_lossy(&read(path)?).into_owned(),
            None => String::new(),
        };
        let prefix = match (&*self.oidc_username_prefix, &*self.oidc_username_claim) {
            ("-", _) | ("", "email") => String::new(),
            ("", _) => format!("{url}#"),
            (prefix, _) => prefix.to_owned(),
        };
        let mapping = |claim: &str, prefix: &str| Mapping {
            claim: claim.to_owned(),
            prefix: Some(prefix.to_owned()),
            expression: String::new(),
        };
        let rules = self.oidc_required_claim.iter();
        let issuer = JwtAuthenticator {
            issuer: IssuerConfig {
                url: url.clone(),
                certificate_authority: authority,
                audiences: vec![client.clone()],
                ..IssuerConfig::default()
            },
            claim_validation_rules: rules
                .map(|(claim, value)| ClaimRule {
                    claim: claim.clone(),
                    required_value: value.clone(),
                    ..ClaimRule::default()
                })
                .collect(),
            claim_mappings: Mappings {
                username: mapping(&self.oidc_username_claim, &prefix),
                groups: mapping(&self.oidc_groups_claim, &self.oidc_groups_prefix),
                ..Mappings::default()
            },
            user_validation_rules: Vec::new(),
        };
        let configured = Configured {
            issuers: vec![issuer],
            algorithms: self.oidc_signing_algs.clone(),
            anonymous: None,
        };
        check(&configured).map_err(|why| AuthnError::Tokens("--oidc-issuer-url".into(), why))?;
        Ok(configured)
    }
}

fn file(path: &Path) -> Result<Configured, AuthnError> {
    let wrong = |why: String| AuthnError::Tokens(path.to_owned(), why);
    let text = String::from_utf8_lossy(&read(path)?).into_owned();
    parsed(&text).map_err(wrong)
}

fn parsed(text: &str) -> Result<Configured, String> {
    let (value, _) = yaml::read(text).map_err(|error| error.to_string())?;
    let file: File = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let known = ["v1", "v1beta1", "v1alpha1"];
    let version = file.api_version.strip_prefix("apiserver.config.k8s.io/");
    if file.kind != "AuthenticationConfiguration"
        || !version.is_some_and(|version| known.contains(&version))
    {
        return Err(format!(
            "{} {} is no AuthenticationConfiguration of apiserver.config.k8s.io/v1",
            file.api_version, file.kind
        ));
    }
    let anonymous = file.anonymous.map(|anonymous| match anonymous.enabled {
        false => Anonymous::None,
        true if anonymous.conditions.is_empty() => Anonymous::All,
        true => Anonymous::Paths(
            anonymous
                .conditions
                .into_iter()
                .map(|one| one.path)
                .collect(),
        ),
    });
    let configured = Configured {
        issuers: file.jwt,
        // Upstream's, where nothing can be said of it.
        algorithms: ALGORITHMS.iter().map(|&name| name.to_owned()).collect(),
        anonymous,
    };
    check(&configured)?;
    Ok(configured)
}

fn check(configured: &Configured) -> Result<(), String> {
    if configured.issuers.len() > limits::OIDC_ISSUERS_MAX {
        return Err(format!("jwt: at most {} issuers", limits::OIDC_ISSUERS_MAX));
    }
    for name in &configured.algorithms {
        if !ALGORITHMS.contains(&&**name) {
            return Err(format!("oidc: unsupported signing alg: {name:?}"));
        }
    }
    for (index, one) in configured.issuers.iter().enumerate() {
        issuer(one).map_err(|why| format!("jwt[{index}].{why}"))?;
        let url = &one.issuer.url;
        let before = &configured.issuers[..index];
        if before.iter().any(|other| other.issuer.url == *url) {
            return Err(format!("jwt[{index}].issuer.url: Duplicate value: {url:?}"));
        }
    }
    Ok(())
}

fn issuer(one: &JwtAuthenticator) -> Result<(), String> {
    let IssuerConfig {
        url,
        discovery_url,
        audiences,
        audience_match_policy,
        ..
    } = &one.issuer;
    for (field, url) in [("url", url), ("discoveryURL", discovery_url)] {
        if url.is_empty() && field == "discoveryURL" {
            continue;
        }
        let uri: Result<http::Uri, _> = url.parse();
        if uri.is_err() || !url.starts_with("https://") {
            return Err(format!(
                "issuer.{field}: Invalid value: {url:?}: URL scheme must be https"
            ));
        }
    }
    if audiences.is_empty() || audiences.iter().any(String::is_empty) {
        return Err("issuer.audiences: Required value: at least one, none empty".to_owned());
    }
    match (audiences.len(), &**audience_match_policy) {
        (1, "") | (_, "MatchAny") => {}
        _ => {
            return Err(
                "issuer.audienceMatchPolicy: must be MatchAny for several audiences".to_owned(),
            );
        }
    }
    mappings(&one.claim_mappings)?;
    for (index, rule) in one.claim_validation_rules.iter().enumerate() {
        if rule.claim.is_empty() == rule.expression.is_empty() {
            return Err(format!(
                "claimValidationRules[{index}]: Required value: either claim or expression"
            ));
        }
        expression(&rule.expression, &format!("claimValidationRules[{index}]"))?;
    }
    for (index, rule) in one.user_validation_rules.iter().enumerate() {
        expression(&rule.expression, &format!("userValidationRules[{index}]"))?;
    }
    Ok(())
}

fn mappings(mappings: &Mappings) -> Result<(), String> {
    for (name, mapping) in [
        ("username", &mappings.username),
        ("groups", &mappings.groups),
        ("uid", &mappings.uid),
    ] {
        let given = (!mapping.claim.is_empty(), !mapping.expression.is_empty());
        if given == (true, true) || name == "username" && given == (false, false) {
            return Err(format!(
                "claimMappings.{name}: Required value: claim or expression"
            ));
        }
        if given.0 && name != "uid" && mapping.prefix.is_none() {
            return Err(format!(
                "claimMappings.{name}.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing"
            ));
        }
        expression(&mapping.expression, &format!("claimMappings.{name}"))?;
    }
    for extra in &mappings.extra {
        expression(
            &extra.value_expression,
            &format!("claimMappings.extra[{}]", extra.key),
        )?;
    }
    Ok(())
}

fn expression(text: &str, field: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let read = Expression::read(text);
    match read.wrong() {
        Some(why) => Err(format!(
            "{field}.expression: Invalid value: {text:?}: {why}"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer:
    url: https://one.example.com
    audiences: [a, b]
    audienceMatchPolicy: MatchAny
  claimValidationRules:
  - claim: hd
    requiredValue: example.com
  claimMappings:
    username:
      claim: sub
      prefix: "one:"
anonymous:
  enabled: true
  conditions:
  - path: /livez
"#;

    #[test]
    fn a_file_is_read_and_checked() {
        let configured = parsed(WHOLE).expect("a configuration");
        assert_eq!(configured.issuers.len(), 1);
        let paths = vec!["/livez".to_owned()];
        assert_eq!(configured.anonymous, Some(Anonymous::Paths(paths)));
        for (from, to, why) in [
            ("https://one", "http://one", "URL scheme must be https"),
            ("MatchAny", "MatchAll", "audienceMatchPolicy"),
            ("      prefix: \"one:\"\n", "", "prefix is required"),
            ("      claim: sub\n", "", "claim or expression"),
            (
                "kind: Auth",
                "kind: Other",
                "is no AuthenticationConfiguration",
            ),
            ("anonymous:", "unknown:", "unknown field"),
            ("hd", "\"\"", "either claim or expression"),
        ] {
            let wrong = parsed(&WHOLE.replacen(from, to, 1)).expect_err(from);
            assert!(wrong.contains(why), "{from}: {wrong}");
        }
    }
}
