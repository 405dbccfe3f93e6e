//! Users and roles as the log changes them, and what they permit it to change.

use std::sync::Arc;

use mizzen_core::{
    Overlay, State, View, ViewError,
    auth::{self, Auth, AuthChange, By, Check, Refusal},
};
use mizzen_planted::bug;

use crate::{
    auth::Authentication,
    server::model::{
        members,
        proposal::{Body, Proposal},
    },
};

/// Whether a committed proposal may be applied, given users and rows before it.
pub fn permit<V: View>(
    users: &Auth,
    proposal: &Proposal,
    state: &State,
    overlay: &Overlay<'_, V>,
) -> Result<Result<(), mizzen_core::Error>, ViewError> {
    match &proposal.body {
        Body::Command(command) => auth::permit(users, &proposal.by, state, overlay, command),
        Body::Members(
            members::Change::Add { .. }
            | members::Change::Remove { .. }
            | members::Change::Update { .. }
            | members::Change::Promote { .. },
        ) => Ok(Check::new(users, &proposal.by).root().map_err(Into::into)),
        // What members propose on their own account, and what checks itself.
        Body::Members(_) | Body::Expiry(_) | Body::Auth(_) => Ok(Ok(())),
    }
}

/// Applies a change of users and roles, or refuses it.
pub fn apply<V: View>(
    users: &mut Arc<Auth>,
    overlay: &mut Overlay<'_, V>,
    by: &By,
    change: &AuthChange,
) -> Result<(), Refusal> {
    if let AuthChange::Token(_) = change {
        // Only looks: others need not see new users.
        return users.as_ref().clone().apply(overlay, by, change);
    }
    Arc::make_mut(users).apply(overlay, by, change)
}

/// What changes mean for the tokens this member knows. A restarted member has
/// forgotten those of its earlier life.
pub fn tell(tokens: &Authentication, changes: &[AuthChange], replayed: bool) {
    for change in changes {
        match change {
            AuthChange::Token(grant) if !replayed => {
                tokens.assign(grant.digest, grant.user.clone())
            }
            AuthChange::UserDelete { name } | AuthChange::UserChangePassword { name, .. } => {
                bug!("tokens-outlive-passwords", tokens.forget(name) => ());
            }
            AuthChange::Disable => tokens.forget_all(),
            _ => {}
        }
    }
}
