//! What the registry asks of those who have a say, for one request.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::{Admission, Asked, Options, Plugin, Verdict, round::Round};
use crate::{
    authn::Identity,
    authz::{Authorizer, Granted},
    catalog::Resource,
    error::ApiError,
    object::Json,
    registry::{Attempt, DeleteOptions, Doing, Gate, Registry, Target},
};

/// All that stands before one request's write.
pub struct Gatekeeper<'a> {
    pub admission: &'a Admission,
    pub authorizer: &'a Authorizer,
    pub identity: &'a Identity,
    /// The resource in the version in which the client asked for it.
    pub served: Arc<Resource>,
    pub options: Options<'a>,
    /// Who may not give what he does not have.
    pub granted: Option<Granted<'a>>,
}

impl Gatekeeper<'_> {
    async fn admitted(&self, attempt: Attempt<'_>) -> Verdict {
        let target = attempt.target;
        let mut asked = self.asked(attempt);
        loop {
            for plugin in self.admission.about(&target.resource) {
                plugin.admit(&mut asked).await?;
            }
            if !asked.round.next() {
                return Ok(());
            }
        }
    }

    async fn validated(&self, attempt: Attempt<'_>) -> Verdict {
        let target = attempt.target;
        let mut asked = self.asked(attempt);
        for plugin in self.admission.about(&target.resource) {
            plugin.validate(&mut asked).await?;
        }
        Ok(())
    }

    /// Most plugins do not ask who deletes what: only for those that do the object
    /// is looked at.
    async fn deletable(
        &self,
        registry: &Registry,
        target: &Target,
        options: &DeleteOptions,
    ) -> Result<Vec<String>, ApiError> {
        let plugins = self.admission.about(&target.resource);
        let plugins: Vec<&dyn Plugin> = plugins
            .filter(|plugin| plugin.sees_deletions(registry, self.identity))
            .collect();
        let (mut warnings, mut with) = (Vec::new(), Vec::new());
        if plugins.is_empty() {
            return Ok(warnings);
        }
        let found = registry.get(target, None).await?;
        let mut object: Json = serde_json::from_slice(&found.json)
            .map_err(|error| ApiError::internal(error.to_string()))?;
        let mut asked = self.asked(Attempt {
            operation: Doing::Delete,
            registry,
            target,
            object: &mut object,
            old: None,
            revision: found.revision,
            deletion: Some(options),
            dry_run: options.dry_run,
            contended: false,
            warnings: &mut warnings,
            with: &mut with,
        });
        for plugin in &plugins {
            plugin.admit(&mut asked).await?;
        }
        for plugin in &plugins {
            plugin.validate(&mut asked).await?;
        }
        Ok(warnings)
    }

    fn asked<'b>(&'b self, attempt: Attempt<'b>) -> Asked<'b> {
        Asked {
            identity: self.identity,
            authorizer: self.authorizer,
            attempt,
            served: &self.served,
            options: self.options,
            round: Round::default(),
        }
    }
}

impl Gate for Gatekeeper<'_> {
    fn may_create(&self, target: &Target) -> Result<(), ApiError> {
        self.granted
            .as_ref()
            .map_or(Ok(()), |granted| granted.may_create(target))
    }

    fn check(&self, target: &Target, new: &Json, old: Option<&Json>) -> Result<(), ApiError> {
        self.granted
            .as_ref()
            .map_or(Ok(()), |granted| granted.check(target, new, old))
    }

    fn may_delete<'a>(
        &'a self,
        registry: &'a Registry,
        target: &'a Target,
        options: &'a DeleteOptions,
    ) -> BoxFuture<'a, Result<Vec<String>, ApiError>> {
        Box::pin(self.deletable(registry, target, options))
    }

    fn admit<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(self.admitted(attempt))
    }

    fn validate<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(self.validated(attempt))
    }
}
