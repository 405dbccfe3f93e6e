//! Changes of users and roles, as etcd makes them: the same checks in the same
//! order, and a revision that grows by one where etcd's does.

use std::sync::Arc;

use super::{
    Auth, AuthChange, By, Check, Name, Permission, ROOT, Refusal, Role, TokenDigest, User,
    check_name, rows,
};
use crate::{
    limits,
    overlay::Overlay,
    view::{Family, View},
};
use mizzen_planted::{bug, sometimes};

/// What makes a token known to all members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenGrant {
    pub user: Name,
    /// The revision at which the password was found right: after a change of
    /// users it has to be looked at again.
    pub revision: u64,
    pub digest: TokenDigest,
}

impl AuthChange {
    /// Whether whoever asks must have the root role.
    fn needs_root(&self) -> bool {
        !matches!(self, AuthChange::Token(_))
    }
}

impl Auth {
    /// Applies a committed change for `by`, or refuses it and changes nothing.
    pub fn apply<V: View + ?Sized>(
        &mut self,
        overlay: &mut Overlay<'_, V>,
        by: &By,
        change: &AuthChange,
    ) -> Result<(), Refusal> {
        if change.needs_root() {
            Check::new(self, by).root()?;
        }
        match change {
            AuthChange::Enable => {
                if !self.enabled {
                    self.check_root()?;
                    self.enabled = true;
                    self.save(overlay);
                }
            }
            AuthChange::Disable => {
                if self.enabled {
                    self.enabled = false;
                    self.changed(overlay);
                }
            }
            AuthChange::UserAdd { name, password } => {
                let user = User {
                    password: password.clone(),
                    roles: Vec::new(),
                };
                self.add_user(overlay, name, user)?;
            }
            AuthChange::UserDelete { name } => {
                if self.enabled && name.as_ref() == ROOT {
                    return Err(Refusal::InvalidManagement);
                }
                self.find_user(name)?;
                self.remove_user(overlay, name);
                self.changed(overlay);
            }
            AuthChange::UserChangePassword { name, password } => {
                let mut user = self.find_user(name)?.clone();
                if user.password.is_some() {
                    user.password = Some(password.clone());
                }
                self.put_user(overlay, name, user)?;
                self.changed(overlay);
            }
            AuthChange::UserGrantRole { user, role } => self.grant_role(overlay, user, role)?,
            AuthChange::UserRevokeRole { user, role } => self.revoke_role(overlay, user, role)?,
            AuthChange::RoleAdd { name } => self.add_role(overlay, name)?,
            AuthChange::RoleDelete { name } => self.delete_role(overlay, name)?,
            AuthChange::RoleGrantPermission { role, permission } => {
                self.grant_permission(overlay, role, permission.as_ref())?;
            }
            AuthChange::RoleRevokePermission {
                role,
                key,
                range_end,
            } => {
                let kept = self.find_role(role)?.permissions.iter();
                let kept: Vec<Permission> = kept
                    .filter(|one| one.key != *key || one.range_end != *range_end)
                    .cloned()
                    .collect();
                if kept.len() == self.find_role(role)?.permissions.len() {
                    return Err(Refusal::PermissionNotGranted);
                }
                self.put_role(overlay, role, Role::new(kept))?;
                self.changed(overlay);
            }
            AuthChange::Token(grant) => self.check_token(grant)?,
        }
        Ok(())
    }

    /// Whether a token may be given out for a password that was right.
    fn check_token(&self, grant: &TokenGrant) -> Result<(), Refusal> {
        if !self.enabled {
            return Err(Refusal::NotEnabled);
        }
        if bug!("login-unconfirmed", grant.revision != self.revision => false) {
            sometimes!("users-changed-during-a-login");
            return Err(Refusal::OldRevision);
        }
        match self.user(&grant.user) {
            Some(user) if user.password.is_some() => Ok(()),
            _ => Err(Refusal::AuthenticationFailed),
        }
    }

    fn find_user(&self, name: &str) -> Result<&User, Refusal> {
        self.user(name).ok_or(Refusal::UserNotFound)
    }

    fn find_role(&self, name: &str) -> Result<&Role, Refusal> {
        self.role(name).ok_or(Refusal::RoleNotFound)
    }

    fn add_user<V: View + ?Sized>(
        &mut self,
        overlay: &mut Overlay<'_, V>,
        name: &Name,
        user: User,
    ) -> Result<(), Refusal> {
        if name.is_empty() {
            return Err(Refusal::UserEmpty);
        }
        if self.users.contains_key(name) {
            return Err(Refusal::UserAlreadyExists);
        }
        check_name(name)?;
        if self.users.len() >= limits::AUTH_USERS_MAX {
            return Err(Refusal::TooManyUsers);
        }
        self.put_user(overlay, name, user)?;
        self.changed(overlay);
        Ok(())
    }

    fn grant_role<V: View + ?Sized>(
        &mut self,
        overlay: &mut Overlay<'_, V>,
        name: &Name,
        role: &Name,
    ) -> Result<(), Refusal> {
        let mut user = self.find_user(name)?.clone();
        if role.as_ref() != ROOT {
            self.find_role(role)?;
        }
        let Err(place) = user.roles.binary_search(role) else {
            return Ok(());
        };
        if user.roles.len() >= limits::AUTH_ROLES_OF_USER_MAX {
            return Err(Refusal::TooManyRoles);
        }
        user.roles.insert(place, role.clone());
        self.put_user(overlay, name, user)?;
        self.changed(overlay);
        Ok(())
    }

    fn revoke_role<V: View + ?Sized>(
        &mut self,
        overlay: &mut Overlay<'_, V>,
        name: &Name,
        role: &Name,
    ) -> Result<(), Refusal> {
        if self.enabled && name.as_ref() == ROOT && role.as_ref() == ROOT {
            return Err(Refusal::InvalidManagement);
        }
        let mut user = self.find_user(name)?.clone();
        if !user.has_role(role) {
            return Err(Refusal::RoleNotGranted);
        }
        user.roles
            .retain(|own| bug!("revoked-role-kept", own != role => true));
        self.put_user(overlay, name, user)?;
        self.changed(overlay);
        Ok(())
    }

    fn add_role<V: View + ?Sized>(
        &mut self,
        overlay: &mut Overlay<'_, V>,
        name: &Name,
    ) -> Result<(), Refusal> {
        if name.is_empty() {
            return Err(Refusal::RoleEmpty);
        }
        if self.roles.contains_key(name) {
            return Err(Refusal::RoleAlreadyExists);
        }
        check_name(name)?;
        if self.roles.len() >= limits::AUTH_ROLES_MAX {
            return Err(Refusal::TooManyRoles);
        }
        self.put_role(overlay, name, Role::default())?;
        self.changed(overlay);
        Ok(())
    }

    fn delete_role<V: View + ?Sized>(
        &mut self,
        overlay: &mut Overlay<'_, V>,
        name: &Name,
    ) -> Result<(), Refusal> {
        if self.enabled && name.as_ref() == ROOT {
            return Err(Refusal::InvalidManagement);
        }
        self.find_role(name)?;
        if let Some(role) = self.roles.remove(name) {
            self.bytes -= rows::role_bytes(name, &role);
        }
        overlay.delete(Family::Meta, rows::role_key(name));
        let holders: Vec<(Name, User)> = self
            .users
            .iter()
            .filter(|(_, user)| user.has_role(name))
            .map(|(holder, user)| (holder.clone(), user.as_ref().clone()))
            .collect();
        for (holder, mut user) in holders {
            user.roles.retain(|own| own != name);
            self.put_user(overlay, &holder, user)?;
        }
        self.changed(overlay);
        Ok(())
    }

    fn grant_permission<V: View + ?Sized>(
        &mut self,
        overlay: &mut Overlay<'_, V>,
        name: &Name,
        permission: Option<&Permission>,
    ) -> Result<(), Refusal> {
        let granted = permission.ok_or(Refusal::PermissionNotGiven)?;
        let open_or_single = matches!(granted.range_end.as_ref(), [] | [0]);
        if granted.key.is_empty() || !open_or_single && granted.key >= granted.range_end {
            return Err(Refusal::InvalidManagement);
        }
        let mut permissions = self.find_role(name)?.permissions.clone();
        // As etcd, which looks no further than the first of the same key.
        let first = permissions.partition_point(|one| one.key < granted.key);
        match permissions.get_mut(first) {
            Some(one) if one.key == granted.key && one.range_end == granted.range_end => {
                one.kind = granted.kind;
            }
            _ => {
                if permissions.len() >= limits::AUTH_PERMISSIONS_OF_ROLE_MAX {
                    return Err(Refusal::TooManyPermissions);
                }
                let place = permissions.partition_point(|one| one.key <= granted.key);
                permissions.insert(place, granted.clone());
            }
        }
        self.put_role(overlay, name, Role::new(permissions))?;
        self.changed(overlay);
        Ok(())
    }

    /// Refuses what would make users and roles too large; less is never refused.
    fn put_user<V: View + ?Sized>(
        &mut self,
        overlay: &mut Overlay<'_, V>,
        name: &Name,
        user: User,
    ) -> Result<(), Refusal> {
        let before = self.users.get(name);
        let before = before.map_or(0, |user| rows::user_bytes(name, user));
        self.grow(before, rows::user_bytes(name, &user))?;
        overlay.put(Family::Meta, rows::user_key(name), rows::encode_user(&user));
        self.users.insert(name.clone(), Arc::new(user));
        Ok(())
    }

    fn put_role<V: View + ?Sized>(
        &mut self,
        overlay: &mut Overlay<'_, V>,
        name: &Name,
        role: Role,
    ) -> Result<(), Refusal> {
        let before = self.roles.get(name);
        let before = before.map_or(0, |role| rows::role_bytes(name, role));
        self.grow(before, rows::role_bytes(name, &role))?;
        overlay.put(Family::Meta, rows::role_key(name), rows::encode_role(&role));
        self.roles.insert(name.clone(), Arc::new(role));
        Ok(())
    }

    fn grow(&mut self, before: usize, after: usize) -> Result<(), Refusal> {
        let bytes = self.bytes - before + after;
        if after > before && bytes > limits::AUTH_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        self.bytes = bytes;
        Ok(())
    }

    fn remove_user<V: View + ?Sized>(&mut self, overlay: &mut Overlay<'_, V>, name: &Name) {
        if let Some(user) = self.users.remove(name) {
            self.bytes -= rows::user_bytes(name, &user);
        }
        overlay.delete(Family::Meta, rows::user_key(name));
    }

    fn changed<V: View + ?Sized>(&mut self, overlay: &mut Overlay<'_, V>) {
        self.revision += 1;
        self.save(overlay);
    }
}
