//! Who may do what: users, roles, permissions, and the one check that walks a
//! whole command.
//!
//! Knows names, hashes of passwords as bytes, and ranges of keys. Must not know
//! tokens, how passwords are hashed, or time. All of it is in memory beside the
//! rows it came from (bounded by [`limits::AUTH_BYTES_MAX`]), so a check reads
//! rows only where a lease's keys decide.
//!
//! Source of the rules: etcd 3.7.3's `server/auth`.

mod change;
mod check;
mod codec;
mod rows;
mod spans;

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;

pub use change::TokenGrant;
pub use check::{Check, permit};

use crate::limits;
use spans::Spans;

/// A name of a user or of a role.
pub type Name = Arc<str>;

/// The user that may never go while authentication is on, and the role that
/// may do everything.
pub const ROOT: &str = "root";

/// Who asks for what a command does. It travels with the proposal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// The cluster itself, on its own account: nothing is checked.
    Store,
    /// A client that gave no credentials.
    #[default]
    Nobody,
    /// A client, with the revision of users and roles it was known at.
    User { name: Name, revision: u64 },
}

/// A hash of a password, as bcrypt writes it. Not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(pub Bytes);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// The digest by which members know a token. Not printed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenDigest(pub [u8; 32]);

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

/// What a permission is for. The numbers are etcd's; others have no effect and
/// are shown as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermissionKind(pub i32);

impl PermissionKind {
    pub const READ: Self = Self(0);
    pub const WRITE: Self = Self(1);
    pub const READ_WRITE: Self = Self(2);

    fn reads(self) -> bool {
        matches!(self, Self::READ | Self::READ_WRITE)
    }

    fn writes(self) -> bool {
        matches!(self, Self::WRITE | Self::READ_WRITE)
    }
}

/// `range_end` as in requests: empty for the one key, `[0]` for no end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    pub kind: PermissionKind,
    pub key: Bytes,
    pub range_end: Bytes,
}

impl Permission {
    /// What the root role shows.
    pub fn everything() -> Self {
        Self {
            kind: PermissionKind::READ_WRITE,
            key: Bytes::new(),
            range_end: Bytes::from_static(&[0]),
        }
    }
}

/// A change of users, roles or of the switch, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthChange {
    Enable,
    Disable,
    UserAdd {
        name: Name,
        /// `None`: a user without a password, known by certificate.
        password: Option<PasswordHash>,
    },
    UserDelete {
        name: Name,
    },
    UserChangePassword {
        name: Name,
        password: PasswordHash,
    },
    UserGrantRole {
        user: Name,
        role: Name,
    },
    UserRevokeRole {
        user: Name,
        role: Name,
    },
    RoleAdd {
        name: Name,
    },
    RoleDelete {
        name: Name,
    },
    RoleGrantPermission {
        role: Name,
        permission: Option<Permission>,
    },
    RoleRevokePermission {
        role: Name,
        key: Bytes,
        range_end: Bytes,
    },
    /// A user has shown its password and gets a token.
    Token(TokenGrant),
}

/// Why authentication refuses. The texts are etcd's (api/v3rpc/rpctypes), but
/// for the bounds, which etcd lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    #[error("etcdserver: root user does not exist")]
    RootUserNotExist,
    #[error("etcdserver: root user does not have root role")]
    RootRoleNotExist,
    #[error("etcdserver: user name already exists")]
    UserAlreadyExists,
    #[error("etcdserver: user name is empty")]
    UserEmpty,
    #[error("etcdserver: user name not found")]
    UserNotFound,
    #[error("etcdserver: role name already exists")]
    RoleAlreadyExists,
    #[error("etcdserver: role name not found")]
    RoleNotFound,
    #[error("etcdserver: role name is empty")]
    RoleEmpty,
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    AuthenticationFailed,
    #[error("auth: authentication failed, password was given for no password user")]
    NoPasswordUser,
    #[error("etcdserver: permission not given")]
    PermissionNotGiven,
    #[error("etcdserver: permission denied")]
    PermissionDenied,
    #[error("etcdserver: role is not granted to the user")]
    RoleNotGranted,
    #[error("etcdserver: permission is not granted to the role")]
    PermissionNotGranted,
    #[error("etcdserver: authentication is not enabled")]
    NotEnabled,
    #[error("etcdserver: invalid auth token")]
    InvalidToken,
    #[error("etcdserver: invalid auth management")]
    InvalidManagement,
    #[error("etcdserver: revision of auth store is old")]
    OldRevision,
    #[error("etcdserver: user or role name is too long")]
    NameTooLong,
    #[error("etcdserver: too many users")]
    TooManyUsers,
    #[error("etcdserver: too many roles")]
    TooManyRoles,
    #[error("etcdserver: too many permissions of a role")]
    TooManyPermissions,
    #[error("etcdserver: users, roles and permissions take too much space")]
    TooLarge,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// `None`: it has none. Empty: no password fits.
    pub password: Option<PasswordHash>,
    /// In ascending order.
    pub roles: Vec<Name>,
}

impl User {
    /// Whether it may do everything.
    pub fn is_root(&self) -> bool {
        self.has_role(ROOT)
    }

    pub fn has_role(&self, role: &str) -> bool {
        self.roles
            .binary_search_by(|own| own.as_ref().cmp(role))
            .is_ok()
    }
}

/// A role's permissions, with what they come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    permissions: Vec<Permission>,
    read: Spans,
    write: Spans,
}

impl Role {
    pub fn new(permissions: Vec<Permission>) -> Self {
        let spans = |wanted: fn(PermissionKind) -> bool| {
            Spans::new(permissions.iter().filter(|one| wanted(one.kind)))
        };
        Self {
            read: spans(PermissionKind::reads),
            write: spans(PermissionKind::writes),
            permissions,
        }
    }

    /// By key, those of one key in the order they were granted in.
    pub fn permissions(&self) -> &[Permission] {
        &self.permissions
    }
}

/// All users and roles, and whether they count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    enabled: bool,
    /// Grows with every change of users and roles.
    revision: u64,
    users: BTreeMap<Name, Arc<User>>,
    roles: BTreeMap<Name, Arc<Role>>,
    /// What names, hashes and keys come to.
    bytes: usize,
}

impl Default for Auth {
    /// As etcd's before the first user.
    fn default() -> Self {
        Self {
            enabled: false,
            revision: 1,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            bytes: 0,
        }
    }
}

impl Auth {
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name).map(AsRef::as_ref)
    }

    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(name).map(AsRef::as_ref)
    }

    /// In ascending order.
    pub fn users(&self) -> impl Iterator<Item = (&Name, &User)> {
        self.users.iter().map(|(name, user)| (name, user.as_ref()))
    }

    /// In ascending order.
    pub fn roles(&self) -> impl Iterator<Item = (&Name, &Role)> {
        self.roles.iter().map(|(name, role)| (name, role.as_ref()))
    }
}

fn check_name(name: &str) -> Result<(), Refusal> {
    if name.len() > limits::AUTH_NAME_BYTES_MAX {
        Err(Refusal::NameTooLong)
    } else {
        Ok(())
    }
}
