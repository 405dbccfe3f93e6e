//! Users and roles as rows of family `Meta`. `FORMATS.md` describes them.

use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Auth, Name, PasswordHash, Permission, PermissionKind, Role, User};
use crate::{
    overlay::Overlay,
    rows::{FORMAT, required},
    view::{Family, View, ViewError},
    wire::{Reader, put_bytes, put_varint, put_zigzag},
};

/// First byte of the keys of users and roles; the second tells the kind of row.
const OWNER: u8 = 0x04;
const STATE: [u8; 2] = [OWNER, b's'];
const USER: [u8; 2] = [OWNER, b'u'];
const ROLE: [u8; 2] = [OWNER, b'r'];

/// Memory of one user, role or permission beside its bytes.
const OVERHEAD: usize = 128;

pub(super) fn user_key(name: &str) -> Bytes {
    [&USER, name.as_bytes()].concat().into()
}

pub(super) fn role_key(name: &str) -> Bytes {
    [&ROLE, name.as_bytes()].concat().into()
}

/// What a user counts for against the bound of all of them.
pub(super) fn user_bytes(name: &str, user: &User) -> usize {
    let roles: usize = user.roles.iter().map(|role| role.len() + 16).sum();
    let password = user.password.as_ref().map_or(0, |hash| hash.0.len());
    OVERHEAD + name.len() + password + roles
}

/// The keys of permissions are there twice, as granted and merged.
pub(super) fn role_bytes(name: &str, role: &Role) -> usize {
    let permissions = role.permissions.iter();
    let permissions: usize = permissions
        .map(|one| OVERHEAD + 2 * (one.key.len() + one.range_end.len()))
        .sum();
    OVERHEAD + name.len() + permissions
}

pub(super) fn encode_user(user: &User) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(FORMAT | u8::from(user.password.is_none()));
    if let Some(hash) = &user.password {
        put_bytes(&mut out, &hash.0);
    }
    put_varint(&mut out, user.roles.len() as u64);
    for role in &user.roles {
        put_bytes(&mut out, role.as_bytes());
    }
    out.freeze()
}

fn decode_user(row: &[u8]) -> Option<User> {
    let mut reader = Reader::new(row);
    let password = match reader.byte()?.checked_sub(FORMAT)? {
        0 => Some(PasswordHash(Bytes::copy_from_slice(reader.bytes()?))),
        1 => None,
        _ => return None,
    };
    let mut roles: Vec<Name> = Vec::new();
    for _ in 0..reader.varint()? {
        let role = Name::from(std::str::from_utf8(reader.bytes()?).ok()?);
        if roles.last().is_some_and(|last| *last >= role) {
            return None;
        }
        roles.push(role);
    }
    reader.is_empty().then_some(User { password, roles })
}

pub(super) fn put_permission(out: &mut BytesMut, permission: &Permission) {
    put_zigzag(out, permission.kind.0.into());
    put_bytes(out, &permission.key);
    put_bytes(out, &permission.range_end);
}

pub(super) fn permission(reader: &mut Reader<'_>) -> Option<Permission> {
    Some(Permission {
        kind: PermissionKind(reader.zigzag()?.try_into().ok()?),
        key: Bytes::copy_from_slice(reader.bytes()?),
        range_end: Bytes::copy_from_slice(reader.bytes()?),
    })
}

pub(super) fn encode_role(role: &Role) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(FORMAT);
    put_varint(&mut out, role.permissions.len() as u64);
    for permission in &role.permissions {
        put_permission(&mut out, permission);
    }
    out.freeze()
}

fn decode_role(row: &[u8]) -> Option<Role> {
    let mut reader = Reader::new(row);
    if reader.byte()? != FORMAT {
        return None;
    }
    let mut permissions: Vec<Permission> = Vec::new();
    for _ in 0..reader.varint()? {
        let next = permission(&mut reader)?;
        if permissions.last().is_some_and(|last| last.key > next.key) {
            return None;
        }
        permissions.push(next);
    }
    reader.is_empty().then(|| Role::new(permissions))
}

impl Auth {
    /// Users and roles as a view's rows have them.
    pub fn load<V: View + ?Sized>(view: &V) -> Result<Self, ViewError> {
        let mut auth = Self::default();
        let mut damaged = false;
        view.scan(
            Family::Meta,
            &[OWNER],
            Some(&[OWNER + 1]),
            &mut |key, row| match auth.read(key, row) {
                Some(()) => ControlFlow::Continue(()),
                None => {
                    damaged = true;
                    ControlFlow::Break(())
                }
            },
        )?;
        required((!damaged).then_some(auth), "user's or role's")
    }

    fn read(&mut self, key: &[u8], row: &[u8]) -> Option<()> {
        let (kind, name) = key.split_first_chunk()?;
        let name = Name::from(std::str::from_utf8(name).ok()?);
        match *kind {
            STATE if name.is_empty() => {
                let mut reader = Reader::new(row);
                self.enabled = match reader.byte()?.checked_sub(FORMAT)? {
                    0 => false,
                    1 => true,
                    _ => return None,
                };
                self.revision = reader.varint()?;
                reader.is_empty().then_some(())?;
            }
            USER => {
                let user = decode_user(row)?;
                self.bytes += user_bytes(&name, &user);
                self.users.insert(name, user.into());
            }
            ROLE => {
                let role = decode_role(row)?;
                self.bytes += role_bytes(&name, &role);
                self.roles.insert(name, role.into());
            }
            _ => return None,
        }
        Some(())
    }

    /// Writes all of it into a store that has none.
    pub(crate) fn import<V: View + ?Sized>(
        overlay: &mut Overlay<'_, V>,
        enabled: bool,
        revision: u64,
        roles: Vec<(Name, Role)>,
        users: Vec<(Name, User)>,
    ) {
        for (name, role) in roles {
            overlay.put(Family::Meta, role_key(&name), encode_role(&role));
        }
        for (name, user) in users {
            overlay.put(Family::Meta, user_key(&name), encode_user(&user));
        }
        let switch = Self {
            enabled,
            revision,
            ..Self::default()
        };
        switch.save(overlay);
    }

    /// Writes the switch and the revision.
    pub(super) fn save<V: View + ?Sized>(&self, overlay: &mut Overlay<'_, V>) {
        let mut row = BytesMut::with_capacity(11);
        row.put_u8(FORMAT | u8::from(self.enabled));
        put_varint(&mut row, self.revision);
        overlay.put(Family::Meta, Bytes::from_static(&STATE), row.freeze());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let user = User {
            password: Some(PasswordHash(Bytes::from_static(b"$2b"))),
            roles: vec!["a".into(), "root".into()],
        };
        let row = encode_user(&user);
        assert_eq!(row.as_ref(), b"\x10\x03$2b\x02\x01a\x04root");
        assert_eq!(decode_user(&row), Some(user));
        let user = User {
            password: None,
            roles: Vec::new(),
        };
        assert_eq!(encode_user(&user).as_ref(), b"\x11\x00");
        assert_eq!(decode_user(b"\x11\x00"), Some(user));
        let role = Role::new(vec![Permission {
            kind: PermissionKind::READ_WRITE,
            key: Bytes::from_static(b"k"),
            range_end: Bytes::from_static(b"\0"),
        }]);
        let row = encode_role(&role);
        assert_eq!(row.as_ref(), b"\x10\x01\x04\x01k\x01\0");
        assert_eq!(decode_role(&row), Some(role));
        assert_eq!(user_key("u").as_ref(), b"\x04uu");
        assert_eq!(role_key("u").as_ref(), b"\x04ru");
    }

    #[test]
    fn rows_cut_short_are_damage() {
        for row in [&b"\x10\x03$2"[..], b"\x12\x00", b"\x11\x02\x01b\x01a", b""] {
            assert_eq!(decode_user(row), None, "{row:?}");
        }
        for row in [&b"\x10\x01\x04\x01"[..], b"\x11\x00", b"\x10\x00\x00", b""] {
            assert_eq!(decode_role(row), None, "{row:?}");
        }
    }
}
