//! Changes and who asks as bytes in the log. `FORMATS.md` describes the form.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    AuthChange, By, Name, PasswordHash, TokenDigest, TokenGrant,
    rows::{permission, put_permission},
};
use crate::{
    codec::DecodeError,
    wire::{Reader, put_bytes, put_varint},
};

const ENABLE: u8 = 1;
const DISABLE: u8 = 2;
const USER_ADD: u8 = 3;
const USER_ADD_NO_PASSWORD: u8 = 4;
const USER_DELETE: u8 = 5;
const USER_CHANGE_PASSWORD: u8 = 6;
const USER_GRANT_ROLE: u8 = 7;
const USER_REVOKE_ROLE: u8 = 8;
const ROLE_ADD: u8 = 9;
const ROLE_DELETE: u8 = 10;
const ROLE_GRANT_PERMISSION: u8 = 11;
const ROLE_GRANT_NOTHING: u8 = 12;
const ROLE_REVOKE_PERMISSION: u8 = 13;
const TOKEN: u8 = 14;

const STORE: u8 = 0;
const NOBODY: u8 = 1;
const USER: u8 = 2;

impl By {
    /// Appends it; [`By::decode`] finds its end again.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            By::Store => out.push(STORE),
            By::Nobody => out.push(NOBODY),
            By::User { name, revision } => {
                let mut user = BytesMut::with_capacity(name.len() + 12);
                user.put_u8(USER);
                put_bytes(&mut user, name.as_bytes());
                put_varint(&mut user, *revision);
                out.extend_from_slice(&user);
            }
        }
    }

    /// Takes it from the front of `bytes`.
    pub fn decode(bytes: &mut Bytes) -> Result<By, DecodeError> {
        let mut reader = Reader::new(bytes);
        let by = match reader.byte() {
            Some(STORE) => Some(By::Store),
            Some(NOBODY) => Some(By::Nobody),
            Some(USER) => name(&mut reader).and_then(|name| {
                let revision = reader.varint()?;
                Some(By::User { name, revision })
            }),
            _ => None,
        };
        let taken = bytes.len() - reader.rest().len();
        *bytes = bytes.slice(taken..);
        by.ok_or(DecodeError::Malformed)
    }
}

fn name(reader: &mut Reader<'_>) -> Option<Name> {
    Some(std::str::from_utf8(reader.bytes()?).ok()?.into())
}

fn hash(reader: &mut Reader<'_>) -> Option<PasswordHash> {
    Some(PasswordHash(Bytes::copy_from_slice(reader.bytes()?)))
}

impl AuthChange {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        let mut put = |kind: u8, parts: &[&[u8]]| {
            out.put_u8(kind);
            for part in parts {
                put_bytes(&mut out, part);
            }
        };
        match self {
            AuthChange::Enable => put(ENABLE, &[]),
            AuthChange::Disable => put(DISABLE, &[]),
            AuthChange::UserAdd { name, password } => match password {
                Some(hash) => put(USER_ADD, &[name.as_bytes(), &hash.0]),
                None => put(USER_ADD_NO_PASSWORD, &[name.as_bytes()]),
            },
            AuthChange::UserDelete { name } => put(USER_DELETE, &[name.as_bytes()]),
            AuthChange::UserChangePassword { name, password } => {
                put(USER_CHANGE_PASSWORD, &[name.as_bytes(), &password.0]);
            }
            AuthChange::UserGrantRole { user, role } => {
                put(USER_GRANT_ROLE, &[user.as_bytes(), role.as_bytes()]);
            }
            AuthChange::UserRevokeRole { user, role } => {
                put(USER_REVOKE_ROLE, &[user.as_bytes(), role.as_bytes()]);
            }
            AuthChange::RoleAdd { name } => put(ROLE_ADD, &[name.as_bytes()]),
            AuthChange::RoleDelete { name } => put(ROLE_DELETE, &[name.as_bytes()]),
            AuthChange::RoleGrantPermission { role, permission } => match permission {
                Some(permission) => {
                    put(ROLE_GRANT_PERMISSION, &[role.as_bytes()]);
                    put_permission(&mut out, permission);
                }
                None => put(ROLE_GRANT_NOTHING, &[role.as_bytes()]),
            },
            AuthChange::RoleRevokePermission {
                role,
                key,
                range_end,
            } => put(ROLE_REVOKE_PERMISSION, &[role.as_bytes(), key, range_end]),
            AuthChange::Token(grant) => {
                put(TOKEN, &[grant.user.as_bytes(), &grant.digest.0]);
                put_varint(&mut out, grant.revision);
            }
        }
        out.freeze()
    }

    pub fn decode(bytes: &[u8]) -> Result<AuthChange, DecodeError> {
        let mut reader = Reader::new(bytes);
        match read(&mut reader) {
            Some(change) if reader.is_empty() => Ok(change),
            _ => Err(DecodeError::Malformed),
        }
    }
}

fn read(reader: &mut Reader<'_>) -> Option<AuthChange> {
    Some(match reader.byte()? {
        ENABLE => AuthChange::Enable,
        DISABLE => AuthChange::Disable,
        USER_ADD => AuthChange::UserAdd {
            name: name(reader)?,
            password: Some(hash(reader)?),
        },
        USER_ADD_NO_PASSWORD => AuthChange::UserAdd {
            name: name(reader)?,
            password: None,
        },
        USER_DELETE => AuthChange::UserDelete {
            name: name(reader)?,
        },
        USER_CHANGE_PASSWORD => AuthChange::UserChangePassword {
            name: name(reader)?,
            password: hash(reader)?,
        },
        USER_GRANT_ROLE => AuthChange::UserGrantRole {
            user: name(reader)?,
            role: name(reader)?,
        },
        USER_REVOKE_ROLE => AuthChange::UserRevokeRole {
            user: name(reader)?,
            role: name(reader)?,
        },
        ROLE_ADD => AuthChange::RoleAdd {
            name: name(reader)?,
        },
        ROLE_DELETE => AuthChange::RoleDelete {
            name: name(reader)?,
        },
        ROLE_GRANT_PERMISSION => AuthChange::RoleGrantPermission {
            role: name(reader)?,
            permission: Some(permission(reader)?),
        },
        ROLE_GRANT_NOTHING => AuthChange::RoleGrantPermission {
            role: name(reader)?,
            permission: None,
        },
        ROLE_REVOKE_PERMISSION => AuthChange::RoleRevokePermission {
            role: name(reader)?,
            key: Bytes::copy_from_slice(reader.bytes()?),
            range_end: Bytes::copy_from_slice(reader.bytes()?),
        },
        TOKEN => AuthChange::Token(TokenGrant {
            user: name(reader)?,
            digest: TokenDigest(reader.bytes()?.try_into().ok()?),
            revision: reader.varint()?,
        }),
        _ => return None,
    })
}
