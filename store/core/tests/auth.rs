//! Users, roles and the check of commands against a naive model: rights as a
//! set of keys, commands as a list of what they need.
//!
//! `cargo test --release -p mizzen-core --test auth`

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use bytes::Bytes;
use common::{check, rows::Rows};
use mizzen_core::{
    Command, Compaction, Compare, CompareOp, CompareTarget, DeleteRange, Error, Family, Operation,
    Overlay, Put, Range, State, Txn,
    auth::{
        Auth, AuthChange, By, Name, PasswordHash, Permission, PermissionKind, Refusal, TokenDigest,
        TokenGrant, permit,
    },
    limits,
};
use proptest::prelude::*;

/// Keys that requests and permissions name; `z` lies beyond all their ends.
const KEYS: [&[u8]; 6] = [b"a", b"aa", b"b", b"c", b"d", b"z"];
const NAMES: [&str; 3] = ["root", "u", "v"];
const ROLES: [&str; 3] = ["root", "r", "s"];

fn name(from: &'static [&'static str]) -> impl Strategy<Value = Name> + Clone {
    prop::sample::select(from).prop_map(Name::from)
}

/// A key and a range_end that is empty, open or beyond the key.
fn range() -> impl Strategy<Value = (Bytes, Bytes)> + Clone {
    (0..5_usize, 0..7_usize).prop_map(|(from, to)| {
        let end: &[u8] = match to {
            to if to > from && to < 6 => KEYS[to],
            6 => b"\0",
            _ => b"",
        };
        (Bytes::from_static(KEYS[from]), Bytes::copy_from_slice(end))
    })
}

fn hash() -> PasswordHash {
    PasswordHash(Bytes::from_static(b"hash"))
}

fn change() -> impl Strategy<Value = AuthChange> {
    let (user, role) = (name(&NAMES), name(&ROLES));
    prop_oneof![
        Just(AuthChange::Enable),
        Just(AuthChange::Disable),
        (user.clone(), any::<bool>()).prop_map(|(name, none)| AuthChange::UserAdd {
            name,
            password: (!none).then(hash),
        }),
        user.clone()
            .prop_map(|name| AuthChange::UserDelete { name }),
        user.clone()
            .prop_map(|name| AuthChange::UserChangePassword {
                name,
                password: hash(),
            }),
        (user.clone(), role.clone())
            .prop_map(|(user, role)| AuthChange::UserGrantRole { user, role }),
        (user.clone(), role.clone())
            .prop_map(|(user, role)| AuthChange::UserRevokeRole { user, role }),
        role.clone().prop_map(|name| AuthChange::RoleAdd { name }),
        role.clone()
            .prop_map(|name| AuthChange::RoleDelete { name }),
        (role.clone(), range(), 0..4).prop_map(|(role, (key, range_end), kind)| {
            AuthChange::RoleGrantPermission {
                role,
                permission: (kind < 3).then_some(Permission {
                    kind: PermissionKind(kind),
                    key,
                    range_end,
                }),
            }
        }),
        (role, range()).prop_map(
            |(role, (key, range_end))| AuthChange::RoleRevokePermission {
                role,
                key,
                range_end,
            }
        ),
        (user, 1..20_u64).prop_map(|(user, revision)| AuthChange::Token(TokenGrant {
            user,
            revision,
            digest: TokenDigest([7; 32]),
        })),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let leaf = prop_oneof![
        range().prop_map(|(key, range_end)| Operation::Range(Range {
            key,
            range_end,
            ..Range::default()
        })),
        (range(), any::<bool>(), 0..3_i64).prop_map(|((key, _), prev_kv, lease)| {
            Operation::Put(Put {
                key,
                prev_kv,
                lease,
                ..Put::default()
            })
        }),
        (range(), any::<bool>()).prop_map(|((key, range_end), prev_kv)| {
            Operation::DeleteRange(DeleteRange {
                key,
                range_end,
                prev_kv,
            })
        }),
    ];
    leaf.prop_recursive(3, 6, 1, |inner| {
        (inner.clone(), inner, prop::option::of(range())).prop_map(
            |(success, failure, compared)| {
                let compare = compared.map(|(key, range_end)| Compare {
                    key,
                    range_end,
                    op: CompareOp::Equal,
                    target: CompareTarget::Version(0),
                });
                Operation::Txn(Txn {
                    compare: compare.into_iter().collect(),
                    success: vec![success],
                    failure: vec![failure],
                })
            },
        )
    })
}

/// A user's rights as the keys it may read and write.
#[derive(Clone, Default)]
struct Role(Vec<(PermissionKind, Bytes, Bytes)>);

#[derive(Default)]
struct Model {
    enabled: bool,
    changes: u64,
    users: BTreeMap<Name, (bool, BTreeSet<Name>)>,
    roles: BTreeMap<Name, Role>,
}

/// Whether a range as in a request holds a key.
fn holds(key: &[u8], range_end: &[u8], one: &[u8]) -> bool {
    match range_end {
        [] => key == one,
        [0] => one >= key,
        end => key <= one && one < end,
    }
}

impl Model {
    fn apply(&mut self, change: &AuthChange) -> Result<(), Refusal> {
        let before = self.changes;
        self.changes += 1;
        let done = self.carry_out(change);
        if done.is_err() || matches!(change, AuthChange::Enable | AuthChange::Token(_)) {
            self.changes = before;
        }
        done
    }

    fn carry_out(&mut self, change: &AuthChange) -> Result<(), Refusal> {
        let root: Name = "root".into();
        match change {
            AuthChange::Enable => {
                let (_, roles) = self.users.get(&root).ok_or(Refusal::RootUserNotExist)?;
                if !roles.contains(&root) {
                    return Err(Refusal::RootRoleNotExist);
                }
                self.enabled = true;
            }
            AuthChange::Disable => {
                self.changes -= u64::from(!self.enabled);
                self.enabled = false;
            }
            AuthChange::UserAdd { name, password } => {
                if self.users.contains_key(name) {
                    return Err(Refusal::UserAlreadyExists);
                }
                let user = (password.is_some(), BTreeSet::new());
                self.users.insert(name.clone(), user);
            }
            AuthChange::UserDelete { name } => {
                if self.enabled && *name == root {
                    return Err(Refusal::InvalidManagement);
                }
                self.users.remove(name).ok_or(Refusal::UserNotFound)?;
            }
            AuthChange::UserChangePassword { name, .. } => {
                self.users.get(name).ok_or(Refusal::UserNotFound)?;
            }
            AuthChange::UserGrantRole { user, role } => {
                let known = *role == root || self.roles.contains_key(role);
                let (_, roles) = self.users.get_mut(user).ok_or(Refusal::UserNotFound)?;
                if !known {
                    return Err(Refusal::RoleNotFound);
                }
                self.changes -= u64::from(!roles.insert(role.clone()));
            }
            AuthChange::UserRevokeRole { user, role } => {
                if self.enabled && *user == root && *role == root {
                    return Err(Refusal::InvalidManagement);
                }
                let (_, roles) = self.users.get_mut(user).ok_or(Refusal::UserNotFound)?;
                if !roles.remove(role) {
                    return Err(Refusal::RoleNotGranted);
                }
            }
            AuthChange::RoleAdd { name } => {
                if self.roles.contains_key(name) {
                    return Err(Refusal::RoleAlreadyExists);
                }
                self.roles.insert(name.clone(), Role::default());
            }
            AuthChange::RoleDelete { name } => {
                if self.enabled && *name == root {
                    return Err(Refusal::InvalidManagement);
                }
                self.roles.remove(name).ok_or(Refusal::RoleNotFound)?;
                for (_, roles) in self.users.values_mut() {
                    roles.remove(name);
                }
            }
            AuthChange::RoleGrantPermission { role, permission } => {
                let new = permission.as_ref().ok_or(Refusal::PermissionNotGiven)?;
                let has = &mut self.roles.get_mut(role).ok_or(Refusal::RoleNotFound)?.0;
                match has.iter_mut().find(|(_, key, _)| *key == new.key) {
                    Some((kind, _, end)) if *end == new.range_end => *kind = new.kind,
                    _ => has.push((new.kind, new.key.clone(), new.range_end.clone())),
                }
            }
            AuthChange::RoleRevokePermission {
                role,
                key,
                range_end,
            } => {
                let has = &mut self.roles.get_mut(role).ok_or(Refusal::RoleNotFound)?.0;
                let before = has.len();
                has.retain(|(_, from, to)| (from, to) != (key, range_end));
                if has.len() == before {
                    return Err(Refusal::PermissionNotGranted);
                }
            }
            AuthChange::Token(grant) => {
                if !self.enabled {
                    return Err(Refusal::NotEnabled);
                }
                if grant.revision != self.revision() - 1 {
                    return Err(Refusal::OldRevision);
                }
                match self.users.get(&grant.user) {
                    Some((true, _)) => {}
                    _ => return Err(Refusal::AuthenticationFailed),
                }
            }
        }
        Ok(())
    }

    fn revision(&self) -> u64 {
        1 + self.changes
    }

    fn may(&self, roles: &BTreeSet<Name>, write: bool, one: &[u8]) -> bool {
        let other = PermissionKind(i32::from(write));
        let granted = roles.iter().filter_map(|role| self.roles.get(role));
        granted
            .flat_map(|role| &role.0)
            .any(|(kind, key, range_end)| {
                [other, PermissionKind::READ_WRITE].contains(kind) && holds(key, range_end, one)
            })
    }

    /// What `permit` must say of a command that needs `needs`.
    fn permits(&self, by: &By, needs: &[Need]) -> Result<(), Refusal> {
        let (name, revision) = match by {
            By::Store => return Ok(()),
            _ if !self.enabled => return Ok(()),
            By::Nobody => return Err(Refusal::UserEmpty),
            By::User { name, revision } => (name, *revision),
        };
        if revision < self.revision() {
            return Err(Refusal::OldRevision);
        }
        let (_, roles) = self.users.get(name).ok_or(Refusal::PermissionDenied)?;
        if roles.contains("root") {
            return Ok(());
        }
        for (write, key, range_end) in needs {
            let all = KEYS.iter().filter(|one| holds(key, range_end, one));
            let beyond = range_end.as_ref() == [0];
            if !all.clone().all(|one| self.may(roles, *write, one)) {
                return Err(Refusal::PermissionDenied);
            }
            // Between the keys there are others; ends are keys too, so those
            // are permitted with the key before them, unless only that one is.
            let inner = all.map(|one| [one, &b"\0"[..]].concat());
            let single = range_end.is_empty();
            if !single && !inner.clone().all(|one| self.may(roles, *write, &one)) {
                return Err(Refusal::PermissionDenied);
            }
            assert!(!beyond || holds(key, range_end, b"z"));
        }
        Ok(())
    }
}

/// Write or read, key, range_end.
type Need = (bool, Bytes, Bytes);

/// The keys that leases hold in these tests.
const LEASED: [(i64, &[u8]); 2] = [(1, b"a"), (2, b"d")];

fn needs(operation: &Operation, into: &mut Vec<Need>) {
    match operation {
        Operation::Range(range) => into.push((false, range.key.clone(), range.range_end.clone())),
        Operation::Put(put) => {
            into.push((true, put.key.clone(), Bytes::new()));
            for (lease, key) in LEASED {
                if lease == put.lease {
                    into.push((true, Bytes::from_static(key), Bytes::new()));
                }
            }
            if put.prev_kv {
                into.push((false, put.key.clone(), Bytes::new()));
            }
        }
        Operation::DeleteRange(delete) => {
            into.push((true, delete.key.clone(), delete.range_end.clone()));
            if delete.prev_kv {
                into.push((false, delete.key.clone(), delete.range_end.clone()));
            }
        }
        Operation::Txn(txn) => {
            for compare in &txn.compare {
                into.push((false, compare.key.clone(), compare.range_end.clone()));
            }
            for operation in txn.success.iter().chain(&txn.failure) {
                needs(operation, into);
            }
        }
        Operation::Empty => {}
    }
}

fn command(operation: &Operation) -> Command {
    match operation.clone() {
        Operation::Put(put) => Command::Put(put),
        Operation::DeleteRange(delete) => Command::DeleteRange(delete),
        Operation::Txn(txn) => Command::Txn(txn),
        other => Command::Txn(Txn {
            success: vec![other],
            ..Txn::default()
        }),
    }
}

fn with_leases() -> Rows {
    let mut rows = Rows::default();
    let mut overlay = Overlay::new(&rows);
    for (lease, key) in LEASED {
        let attached = mizzen_core::rows::meta::attachment_key(lease, key);
        overlay.put(
            Family::Meta,
            attached,
            mizzen_core::rows::meta::attachment(),
        );
    }
    let batch = overlay.into_batch();
    rows.write(batch);
    rows
}

fn user(name: &str, revision: u64) -> By {
    By::User {
        name: name.into(),
        revision,
    }
}

#[test]
fn users_and_rights_are_those_of_the_model() {
    // A beginning that most changes find something in.
    let first = [
        AuthChange::UserAdd {
            name: "root".into(),
            password: Some(hash()),
        },
        AuthChange::UserAdd {
            name: "u".into(),
            password: Some(hash()),
        },
        AuthChange::RoleAdd { name: "r".into() },
        AuthChange::UserGrantRole {
            user: "u".into(),
            role: "r".into(),
        },
        AuthChange::UserGrantRole {
            user: "root".into(),
            role: "root".into(),
        },
        AuthChange::Enable,
    ];
    let steps = prop::collection::vec((change(), operation(), 0..2_u64), 1..60);
    let permitted = RefCell::new((0, 0));
    check("auth", "users_and_rights", 1_000, &steps, |steps| {
        let (mut rows, mut auth, mut model) = (with_leases(), Auth::default(), Model::default());
        let first = first.iter().cloned().map(|change| (change, None));
        let then = steps
            .into_iter()
            .map(|(change, operation, late)| (change, Some((operation, late))));
        for (change, asked) in first.chain(then) {
            prop_assert_eq!(
                AuthChange::decode(&change.encode()).unwrap(),
                change.clone()
            );
            let mut overlay = Overlay::new(&rows);
            let done = auth.apply(&mut overlay, &By::Store, &change);
            let batch = overlay.into_batch();
            prop_assert!(done.is_ok() || batch.ops.is_empty());
            rows.write(batch);
            prop_assert_eq!(done, model.apply(&change), "{:?}", change);
            prop_assert_eq!(auth.revision(), model.revision());
            prop_assert_eq!(&Auth::load(&rows).unwrap(), &auth);
            let Some((operation, late)) = asked else {
                continue;
            };
            let mut needed = Vec::new();
            needs(&operation, &mut needed);
            let state = State::load(&rows).unwrap();
            let revision = auth.revision() - late.min(auth.revision());
            for by in NAMES
                .map(|name| user(name, revision))
                .into_iter()
                .chain([By::Nobody, By::Store])
            {
                let found = permit(&auth, &by, &state, &rows, &command(&operation)).unwrap();
                let expected = model.permits(&by, &needed).map_err(Error::from);
                // A wrong form is said before anything else.
                if let Err(form) = command(&operation).check(&mizzen_core::Limits::default())
                    && auth.is_enabled()
                    && by != By::Store
                {
                    prop_assert_eq!(found, Err(form));
                    continue;
                }
                let mut count = permitted.borrow_mut();
                match found {
                    Ok(()) => count.0 += 1,
                    Err(_) => count.1 += 1,
                }
                prop_assert_eq!(found, expected, "{:?} by {:?}", operation, by);
            }
        }
        Ok(())
    });
    let (yes, no) = *permitted.borrow();
    assert!(yes > 1_000 && no > 1_000, "{yes} permitted, {no} refused");
}

#[test]
fn who_may_manage() {
    let (rows, mut auth) = (Rows::default(), Auth::default());
    let mut overlay = Overlay::new(&rows);
    let add = |name: &str| AuthChange::UserAdd {
        name: name.into(),
        password: Some(hash()),
    };
    for change in [
        add("root"),
        add("u"),
        AuthChange::UserGrantRole {
            user: "root".into(),
            role: "root".into(),
        },
        AuthChange::Enable,
    ] {
        auth.apply(&mut overlay, &By::Nobody, &change).unwrap();
    }
    let state = State::load(&rows).unwrap();
    let compact = Command::Compact(Compaction { revision: 1 });
    for (by, expected) in [
        (By::Nobody, Err(Refusal::UserEmpty)),
        (user("", 9), Err(Refusal::UserEmpty)),
        (user("x", 9), Err(Refusal::UserNotFound)),
        (user("u", 9), Err(Refusal::PermissionDenied)),
        // Root is looked up as it is now, whenever it was known first.
        (user("root", 1), Ok(())),
    ] {
        let before = auth.clone();
        let found = auth.apply(&mut overlay, &by, &AuthChange::RoleAdd { name: "r".into() });
        assert_eq!(found, expected, "{by:?}");
        auth = before;
        let found = permit(&auth, &by, &state, &rows, &compact).unwrap();
        assert_eq!(found, expected.map_err(Error::from), "{by:?}");
    }
}

#[test]
fn nothing_secret_is_printed() {
    let change = AuthChange::UserAdd {
        name: "u".into(),
        password: Some(PasswordHash(Bytes::from_static(b"$2a$04$secret"))),
    };
    let token = AuthChange::Token(TokenGrant {
        user: "u".into(),
        revision: 1,
        digest: TokenDigest([42; 32]),
    });
    let printed = format!("{change:?} {token:?}");
    assert!(printed.contains("UserAdd"), "{printed}");
    assert!(
        !printed.contains("secret") && !printed.contains("42"),
        "{printed}"
    );
}

/// The first refusal of a series of changes, and how many came before it.
fn filled(
    auth: &mut Auth,
    change: impl Fn(usize) -> AuthChange,
    most: usize,
) -> (usize, Option<Refusal>) {
    let rows = Rows::default();
    for number in 0..most {
        let mut overlay = Overlay::new(&rows);
        if let Err(refusal) = auth.apply(&mut overlay, &By::Store, &change(number)) {
            assert!(overlay.into_batch().ops.is_empty(), "{refusal} wrote rows");
            return (number, Some(refusal));
        }
    }
    (most, None)
}

#[test]
fn users_and_roles_are_bounded() {
    let named = |number: usize| Name::from(number.to_string());
    let mut auth = Auth::default();
    let add = |number| AuthChange::UserAdd {
        name: named(number),
        password: None,
    };
    let full = (limits::AUTH_USERS_MAX, Some(Refusal::TooManyUsers));
    assert_eq!(filled(&mut auth, add, usize::MAX), full);
    let add = |number| AuthChange::RoleAdd {
        name: named(number),
    };
    let full = (limits::AUTH_ROLES_MAX, Some(Refusal::TooManyRoles));
    assert_eq!(filled(&mut auth, add, usize::MAX), full);
    let grant = |number| AuthChange::UserGrantRole {
        user: named(0),
        role: named(number),
    };
    let full = (limits::AUTH_ROLES_OF_USER_MAX, Some(Refusal::TooManyRoles));
    assert_eq!(filled(&mut auth, grant, usize::MAX), full);
    let end = |_| AuthChange::UserDelete { name: named(1) };
    assert_eq!(filled(&mut auth, end, 1), (1, None), "there is a way back");
    let long = Name::from("n".repeat(limits::AUTH_NAME_BYTES_MAX + 1));
    let add = |_| AuthChange::UserAdd {
        name: long.clone(),
        password: None,
    };
    assert_eq!(filled(&mut auth, add, 1), (0, Some(Refusal::NameTooLong)));
}

#[test]
fn permissions_are_bounded() {
    let role = |auth: &mut Auth| {
        let add = |_| AuthChange::RoleAdd { name: "r".into() };
        assert_eq!(filled(auth, add, 1), (1, None));
    };
    let grant = |key: Vec<u8>| AuthChange::RoleGrantPermission {
        role: "r".into(),
        permission: Some(Permission {
            kind: PermissionKind::READ,
            key: key.into(),
            range_end: Bytes::new(),
        }),
    };
    let mut auth = Auth::default();
    role(&mut auth);
    let full = (
        limits::AUTH_PERMISSIONS_OF_ROLE_MAX,
        Some(Refusal::TooManyPermissions),
    );
    let short = |number: usize| grant(number.to_string().into_bytes());
    assert_eq!(filled(&mut auth, short, usize::MAX), full);
    let mut auth = Auth::default();
    role(&mut auth);
    let long = |number: usize| {
        let mut key = vec![b'k'; 1 << 20];
        key.extend(number.to_string().into_bytes());
        grant(key)
    };
    let (granted, refusal) = filled(&mut auth, long, usize::MAX);
    assert_eq!(refusal, Some(Refusal::TooLarge));
    assert!(granted > 30 && granted < 64, "{granted} MiB are kept");
}
