//! The seam for those who have a say in what is written.
//!
//! Knows a write as its target and its object, before and after. Must not know
//! who asks, nor any of those who have a say.

use futures::future::BoxFuture;

use super::{DeleteOptions, Registry, Target};
use crate::{error::ApiError, object::Json, store::Write};

/// What is about to happen to an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doing {
    Create,
    Update,
    Delete,
}

/// A write that is about to happen.
pub struct Attempt<'a> {
    pub operation: Doing,
    pub registry: &'a Registry,
    pub target: &'a Target,
    /// What is deleted, as it is, for a deletion.
    pub object: &'a mut Json,
    /// What is replaced by an update.
    pub old: Option<&'a Json>,
    /// That of what is replaced or deleted.
    pub revision: i64,
    /// How it is deleted, for a deletion.
    pub deletion: Option<&'a DeleteOptions>,
    pub dry_run: bool,
    /// Another write came between: what the caches show may be old.
    pub contended: bool,
    /// What the client is told beside the answer.
    pub warnings: &'a mut Vec<String>,
    /// What must be written together with the object, or nothing is.
    pub with: &'a mut Vec<Write>,
}

impl Attempt<'_> {
    pub fn deletes(&self) -> bool {
        self.operation == Doing::Delete
    }
}

/// Who has a say. Upstream's order: [`admit`](Self::admit) sees the object with
/// its defaults and may change it; then come the server's own rules, and
/// [`check`](Self::check); [`validate`](Self::validate) sees what is left to
/// write, which is valid by itself.
pub trait Gate: Send + Sync {
    /// Asked of who creates an object by an update.
    ///
    /// # Errors
    /// What the client is told.
    fn may_create(&self, target: &Target) -> Result<(), ApiError>;

    /// # Errors
    /// What the client is told.
    fn check(&self, target: &Target, new: &Json, old: Option<&Json>) -> Result<(), ApiError>;

    /// Asked of who deletes an object; gives what the client is warned of.
    ///
    /// # Errors
    /// What the client is told.
    fn may_delete<'a>(
        &'a self,
        registry: &'a Registry,
        target: &'a Target,
        options: &'a DeleteOptions,
    ) -> BoxFuture<'a, Result<Vec<String>, ApiError>>;

    /// # Errors
    /// What the client is told.
    fn admit<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Result<(), ApiError>>;

    /// # Errors
    /// What the client is told.
    fn validate<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Result<(), ApiError>>;
}

/// A write, and who has a say in it.
pub(super) struct Say<'a> {
    pub registry: &'a Registry,
    pub gate: Option<&'a dyn Gate>,
    pub target: &'a Target,
    pub dry_run: bool,
}

impl Registry {
    /// Asks who has a say in a part of an object that is created as an object of its
    /// own, and may change it; gives what the client is warned of.
    ///
    /// # Errors
    /// What the client is told.
    pub async fn admit_part(
        &self,
        target: &Target,
        part: &mut Json,
        gate: Option<&dyn Gate>,
        dry_run: bool,
    ) -> Result<Vec<String>, ApiError> {
        let mut warnings = Vec::new();
        let say = Say {
            registry: self,
            gate,
            target,
            dry_run,
        };
        say.admit(part, None, &mut warnings).await?;
        say.validate(part, None, false, &mut warnings).await?;
        Ok(warnings)
    }
}

/// What is replaced.
#[derive(Clone, Copy)]
pub(super) struct Old<'a> {
    pub object: &'a Json,
    pub revision: i64,
}

impl Say<'_> {
    pub async fn admit(
        &self,
        object: &mut Json,
        old: Option<Old<'_>>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let with = &mut Vec::new();
        match self.gate {
            Some(gate) => {
                gate.admit(self.attempt(object, old, false, warnings, with))
                    .await
            }
            None => Ok(()),
        }
    }

    /// Gives what must be written together with the object.
    pub async fn validate(
        &self,
        object: &mut Json,
        old: Option<Old<'_>>,
        contended: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Write>, ApiError> {
        let mut with = Vec::new();
        if let Some(gate) = self.gate {
            gate.validate(self.attempt(object, old, contended, warnings, &mut with))
                .await?;
        }
        Ok(with)
    }

    fn attempt<'b>(
        &'b self,
        object: &'b mut Json,
        old: Option<Old<'b>>,
        contended: bool,
        warnings: &'b mut Vec<String>,
        with: &'b mut Vec<Write>,
    ) -> Attempt<'b> {
        Attempt {
            operation: match old {
                Some(_) => Doing::Update,
                None => Doing::Create,
            },
            registry: self.registry,
            target: self.target,
            object,
            old: old.map(|old| old.object),
            revision: old.map_or(0, |old| old.revision),
            deletion: None,
            dry_run: self.dry_run,
            contended,
            warnings,
            with,
        }
    }
}
