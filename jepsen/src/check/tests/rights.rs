//! Rights of users.

use super::script::{Script, get, put};
use super::{accepted, rejected};
use crate::check::auth::check;
use crate::history::op::{
    Access, AuthReq, Cmp, Compare, FailClass, Login, Outcome, RangeReq, Request, Target, TxnOp,
    TxnReq,
};

const USER: &str = "0.1";
const KEY: &str = "auth/0.1/0";

fn auth(request: AuthReq) -> Request {
    Request::Auth(request)
}

fn grant(access: Access) -> Request {
    auth(AuthReq::Grant {
        role: USER.into(),
        key: "auth/0.1/".into(),
        end: "auth/0.10".into(),
        access,
    })
}

fn revoke() -> Request {
    auth(AuthReq::Revoke {
        role: USER.into(),
        key: "auth/0.1/".into(),
        end: "auth/0.10".into(),
    })
}

/// A user with a right until 50, from 0 to 40.
fn tenant() -> Script {
    let mut s = Script::default();
    let (user, role) = (USER.to_string(), USER.to_string());
    let password = "first".to_string();
    s.ok(0, 1, auth(AuthReq::AddRole { role: role.clone() }));
    s.ok(
        2,
        3,
        auth(AuthReq::AddUser {
            user: user.clone(),
            password,
        }),
    );
    s.ok(4, 5, grant(Access::ReadWrite));
    s.ok(6, 7, auth(AuthReq::GrantRole { user, role }));
    s
}

fn login(s: &mut Script, i: usize) {
    s.op(i).login = Some(Login {
        user: USER.into(),
        password: "first".into(),
    });
}

/// The user is served.
fn served(s: &mut Script, start: u64, end: u64, request: Request) {
    let i = s.ok(start, end, request);
    login(s, i);
}

/// The user is refused.
fn denied(s: &mut Script, start: u64, end: u64, request: Request) {
    let i = s.fail(start, end, request, FailClass::Rejected);
    s.op(i).out = Outcome::Fail {
        class: FailClass::Rejected,
        error: "PermissionDenied: etcdserver: permission denied".into(),
    };
    login(s, i);
}

#[test]
fn rights_hold_from_one_change_to_the_next() {
    let mut s = tenant();
    served(&mut s, 10, 11, put(KEY, "a"));
    served(&mut s, 12, 13, get(KEY));
    denied(&mut s, 14, 15, get("auth/0.2/0"));
    // While it is revoked it may be either.
    s.ok(20, 30, revoke());
    served(&mut s, 21, 22, get(KEY));
    denied(&mut s, 21, 22, get(KEY));
    denied(&mut s, 29, 40, get(KEY));
    denied(&mut s, 41, 42, get(KEY));
    accepted(&check(&s.history));
}

#[test]
fn an_acknowledged_revocation_counts() {
    let mut s = tenant();
    s.ok(20, 30, revoke());
    served(&mut s, 31, 32, get(KEY));
    rejected(
        &check(&s.history),
        "did for user 0.1 what nothing permitted",
    );
}

#[test]
fn what_is_granted_is_not_refused() {
    let mut s = tenant();
    denied(&mut s, 10, 11, get(KEY));
    rejected(&check(&s.history), "refused user 0.1 what was permitted");
}

#[test]
fn a_change_of_unknown_outcome_may_come_late() {
    let mut s = tenant();
    s.unknown(20, 30, revoke());
    served(&mut s, 40, 41, get(KEY));
    denied(&mut s, 50, 51, get(KEY));
    accepted(&check(&s.history));
}

#[test]
fn writing_is_not_reading() {
    let mut s = tenant();
    s.ok(20, 21, grant(Access::Write));
    served(&mut s, 30, 31, put(KEY, "a"));
    denied(&mut s, 32, 33, get(KEY));
    accepted(&check(&s.history));
    served(&mut s, 34, 35, get(KEY));
    rejected(&check(&s.history), "what nothing permitted");
}

#[test]
fn a_range_ends_within_the_right() {
    let range = |end: &str| {
        Request::Range(RangeReq {
            key: "auth/0.1/".into(),
            end: end.into(),
            ..RangeReq::default()
        })
    };
    let mut s = tenant();
    served(&mut s, 10, 11, range("auth/0.10"));
    accepted(&check(&s.history));
    for end in ["auth/0.11", "\0"] {
        let mut s = tenant();
        served(&mut s, 10, 11, range(end));
        rejected(&check(&s.history), "what nothing permitted");
    }
}

#[test]
fn a_branch_that_is_not_taken_needs_its_right() {
    let read = |key: &str| {
        TxnOp::Range(RangeReq {
            key: key.into(),
            ..RangeReq::default()
        })
    };
    let txn = |compared: &str, other: &str| {
        Request::Txn(TxnReq {
            compare: vec![Compare {
                key: compared.into(),
                cmp: Cmp::Equal,
                target: Target::Version(0),
            }],
            then: vec![read(KEY)],
            or_else: vec![read(other)],
        })
    };
    let mut s = tenant();
    served(&mut s, 10, 11, txn(KEY, KEY));
    denied(&mut s, 12, 13, txn(KEY, "auth/x"));
    denied(&mut s, 14, 15, txn("auth/x", KEY));
    accepted(&check(&s.history));
    for (compared, other) in [(KEY, "auth/x"), ("auth/x", KEY)] {
        let mut s = tenant();
        served(&mut s, 10, 11, txn(compared, other));
        rejected(&check(&s.history), "what nothing permitted");
    }
}

#[test]
fn a_token_ends_with_its_password() {
    let change = || {
        auth(AuthReq::Password {
            user: USER.into(),
            password: "second".into(),
        })
    };
    let ask = |password: &str| {
        auth(AuthReq::Login {
            user: USER.into(),
            password: password.into(),
        })
    };
    let mut s = tenant();
    s.ok(10, 11, ask("first"));
    s.ok(20, 30, change());
    served(&mut s, 25, 26, get(KEY));
    s.ok(31, 32, ask("second"));
    accepted(&check(&s.history));
    served(&mut s, 31, 32, get(KEY));
    rejected(&check(&s.history), "what nothing permitted");
    let mut s = tenant();
    s.ok(20, 30, change());
    s.ok(31, 32, ask("first"));
    rejected(&check(&s.history), "took a password that was wrong");
}
