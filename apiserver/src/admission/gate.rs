//! What the registry asks of those who have a say, for one request.

use futures::future::BoxFuture;

use super::{Admission, Asked, Verdict};
use crate::{
    authn::Identity,
    authz::{Authorizer, Granted, node},
    error::ApiError,
    object::Json,
    registry::{Attempt, Doing, Gate, Registry, Target},
};

/// All that stands before one request's write.
pub struct Gatekeeper<'a> {
    pub admission: &'a Admission,
    pub authorizer: &'a Authorizer,
    pub identity: &'a Identity,
    /// Who may not give what he does not have.
    pub granted: Option<Granted<'a>>,
}

impl Gatekeeper<'_> {
    async fn admitted(&self, attempt: Attempt<'_>) -> Verdict {
        let target = attempt.target;
        let mut asked = self.asked(attempt);
        for plugin in self.admission.about(&target.resource) {
            plugin.admit(&mut asked).await?;
        }
        Ok(())
    }

    async fn validated(&self, attempt: Attempt<'_>) -> Verdict {
        let target = attempt.target;
        let mut asked = self.asked(attempt);
        for plugin in self.admission.about(&target.resource) {
            plugin.validate(&mut asked).await?;
        }
        Ok(())
    }

    /// Of deletions plugins ask only who a node is.
    async fn deletable(&self, registry: &Registry, target: &Target) -> Verdict {
        if node::name(self.identity).is_none() {
            return Ok(());
        }
        let found = registry.get(target, None).await?;
        let mut object: Json = serde_json::from_slice(&found.json)
            .map_err(|error| ApiError::internal(error.to_string()))?;
        self.admitted(Attempt {
            operation: Doing::Delete,
            registry,
            target,
            object: &mut object,
            old: None,
            dry_run: false,
            contended: false,
            warnings: &mut Vec::new(),
            with: &mut Vec::new(),
        })
        .await
    }

    fn asked<'b>(&'b self, attempt: Attempt<'b>) -> Asked<'b> {
        Asked {
            identity: self.identity,
            authorizer: self.authorizer,
            attempt,
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
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(self.deletable(registry, target))
    }

    fn admit<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(self.admitted(attempt))
    }

    fn validate<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(self.validated(attempt))
    }
}
