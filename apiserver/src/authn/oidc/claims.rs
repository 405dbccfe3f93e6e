//! From a token's claims to a user, by an issuer's mappings and rules.
//!
//! Source: upstream's `plugin/pkg/authenticator/token/oidc`. Must not know keys.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    super::{CREDENTIAL, Identity},
    config::{JwtAuthenticator, Mapping},
};
use crate::expression::{Expression, Variables};

type Claims = Map<String, Value>;

/// A mapping with its expression read.
struct Source {
    claim: String,
    prefix: String,
    expression: Option<Expression>,
}

impl Source {
    fn new(mapping: &Mapping) -> Self {
        Self {
            claim: mapping.claim.clone(),
            prefix: mapping.prefix.clone().unwrap_or_default(),
            expression: read(&mapping.expression),
        }
    }
}

fn read(text: &str) -> Option<Expression> {
    (!text.is_empty()).then(|| Expression::read(text))
}

/// A rule, and what is told of who does not keep it.
struct Rule {
    expression: Expression,
    told: String,
}

/// What an issuer's claims mean.
pub struct Meaning {
    username: Source,
    groups: Source,
    uid: Source,
    extra: Vec<(String, Expression)>,
    required: Vec<(String, String)>,
    claim_rules: Vec<Rule>,
    user_rules: Vec<Rule>,
}

impl Meaning {
    pub fn new(config: &JwtAuthenticator) -> Self {
        let mappings = &config.claim_mappings;
        let rule = |expression: &str, message: &str| Rule {
            expression: Expression::read(expression),
            told: match message {
                "" => format!("validation expression '{expression}' failed"),
                message => format!("validation expression '{expression}' failed: {message}"),
            },
        };
        let rules = || config.claim_validation_rules.iter();
        Self {
            username: Source::new(&mappings.username),
            groups: Source::new(&mappings.groups),
            uid: Source::new(&mappings.uid),
            extra: mappings
                .extra
                .iter()
                .map(|one| (one.key.clone(), Expression::read(&one.value_expression)))
                .collect(),
            required: rules()
                .filter(|rule| !rule.claim.is_empty())
                .map(|rule| (rule.claim.clone(), rule.required_value.clone()))
                .collect(),
            claim_rules: rules()
                .filter(|rule| rule.claim.is_empty())
                .map(|one| rule(&one.expression, &one.message))
                .collect(),
            user_rules: config
                .user_validation_rules
                .iter()
                .map(|one| rule(&one.expression, &one.message))
                .collect(),
        }
    }

    /// Who a token with these claims makes somebody.
    ///
    /// # Errors
    /// The claims are not as they must be.
    pub fn identity(&self, claims: &Claims) -> Result<Identity, String> {
        let whole = Value::Object(claims.clone());
        let variables = Variables::new([("claims", &whole)]);
        let user = self.username(claims, &variables)?;
        let groups = self.groups(claims, &variables)?;
        let uid = self.uid(claims, &variables)?;
        let mut extra = BTreeMap::new();
        if let Some(Value::String(id)) = claims.get("jti") {
            extra.insert(CREDENTIAL.to_owned(), vec![format!("JTI={id}")]);
        }
        for (key, expression) in &self.extra {
            let values = expression.value(&variables).and_then(|value| texts(&value));
            let values = values
                .map_err(|why| format!("oidc: error evaluating extra claim expression: {why}"))?;
            if !values.is_empty() {
                extra.insert(key.clone(), values);
            }
        }
        for (claim, wanted) in &self.required {
            match claims.get(claim) {
                None => {
                    return Err(format!(
                        "oidc: required claim {claim} not present in ID token"
                    ));
                }
                Some(Value::String(value)) if value == wanted => {}
                Some(Value::String(value)) => {
                    return Err(format!(
                        "oidc: required claim {claim} value does not match. Got = {value}, want = {wanted}"
                    ));
                }
                Some(_) => return Err(format!("oidc: parse claim {claim}: it is no text")),
            }
        }
        kept(&self.claim_rules, &variables)
            .map_err(|why| format!("oidc: error evaluating claim validation expression: {why}"))?;
        let identity = Identity {
            user,
            uid,
            groups,
            extra,
        };
        if !self.user_rules.is_empty() {
            let user = json!({
                "username": identity.user, "uid": identity.uid,
                "groups": identity.groups, "extra": identity.extra,
            });
            kept(&self.user_rules, &Variables::new([("user", &user)])).map_err(|why| {
                format!("oidc: error evaluating user info validation rule: {why}")
            })?;
        }
        Ok(identity)
    }

    fn username(&self, claims: &Claims, variables: &Variables) -> Result<String, String> {
        if let Some(expression) = &self.username.expression {
            let told =
                |why: &str| format!("oidc: error evaluating username claim expression: {why}");
            return match expression.value(variables).map_err(|why| told(&why))? {
                Value::String(name) if name.is_empty() => {
                    Err("oidc: empty username via CEL expression is not allowed".to_owned())
                }
                Value::String(name) => Ok(name),
                _ => Err(told("username claim expression must return a string")),
            };
        }
        let claim = &self.username.claim;
        let Some(Value::String(name)) = claims.get(claim) else {
            return Err(format!(
                "oidc: parse username claims {claim:?}: claim not present"
            ));
        };
        if claim == "email" {
            match claims.get("email_verified") {
                None | Some(Value::Bool(true)) => {}
                Some(Value::Bool(false)) => return Err("oidc: email not verified".to_owned()),
                Some(_) => return Err("oidc: parse 'email_verified' claim: no bool".to_owned()),
            }
        }
        Ok(format!("{}{name}", self.username.prefix))
    }

    fn groups(&self, claims: &Claims, variables: &Variables) -> Result<Vec<String>, String> {
        if let Some(expression) = &self.groups.expression {
            let value = expression.value(variables).and_then(|value| texts(&value));
            return value
                .map_err(|why| format!("oidc: error evaluating group claim expression: {why}"));
        }
        let claim = &self.groups.claim;
        let Some(value) = claims.get(claim).filter(|_| !claim.is_empty()) else {
            return Ok(Vec::new());
        };
        let groups =
            texts(value).map_err(|why| format!("oidc: parse groups claim {claim:?}: {why}"))?;
        let prefixed = groups
            .iter()
            .map(|group| format!("{}{group}", self.groups.prefix));
        Ok(prefixed.collect())
    }

    fn uid(&self, claims: &Claims, variables: &Variables) -> Result<String, String> {
        if let Some(expression) = &self.uid.expression {
            return match expression.value(variables) {
                Ok(Value::String(uid)) => Ok(uid),
                Ok(_) => Err("oidc: error evaluating uid claim expression: uid claim expression must return a string".to_owned()),
                Err(why) => Err(format!("oidc: error evaluating uid claim expression: {why}")),
            };
        }
        let claim = &self.uid.claim;
        match claims.get(claim) {
            _ if claim.is_empty() => Ok(String::new()),
            Some(Value::String(uid)) => Ok(uid.clone()),
            _ => Err(format!(
                "oidc: parse uid claim {claim:?}: claim not present"
            )),
        }
    }
}

/// A text, or a list of them; nothing for an empty one.
fn texts(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(list) => list
            .iter()
            .map(|one| {
                one.as_str()
                    .map(str::to_owned)
                    .ok_or("an item is no text".to_owned())
            })
            .collect(),
        _ => Err("neither a text nor a list of texts".to_owned()),
    }
}

fn kept(rules: &[Rule], variables: &Variables) -> Result<(), String> {
    for rule in rules {
        match rule.expression.value(variables)? {
            Value::Bool(true) => {}
            Value::Bool(false) => return Err(rule.told.clone()),
            _ => return Err("validation expression must return a bool".to_owned()),
        }
    }
    Ok(())
}
