//! Rights: nothing is done for a user who certainly had no right to it from
//! the moment of asking to the answer, and nobody is refused who certainly had.
//!
//! What a tenant of the workload may do changes step by step, each step with
//! a beginning and an end; between them it is certain, during them it is either.

use super::Finding;
use crate::clock::{Nanos, seconds};
use crate::history::History;
use crate::history::op::{Access, AuthReq, Login, Op, Outcome, PutReq, Request, TxnOp, TxnReq};
use std::collections::HashMap;

const DENIED: &str = "PermissionDenied: ";
const WRONG: &str = "authentication failed, invalid user ID or password";

/// What a user and its role are at a moment.
#[derive(Clone, Debug, Default)]
struct State {
    password: Option<String>,
    has_role: bool,
    role: bool,
    /// Key, end, and what for.
    granted: Option<(String, String, Access)>,
}

/// At first there is no such user and no such role.
#[derive(Default)]
struct Step {
    start: Nanos,
    /// Never, of a step whose outcome is unknown.
    end: Nanos,
    after: State,
}

/// A key or a range, and what is done there.
struct Need<'a> {
    key: &'a str,
    end: &'a str,
    access: Access,
}

#[derive(Default)]
struct Counts {
    changes: usize,
    served: usize,
    /// Refused where every state that it can have been in refuses.
    denied: usize,
    either: usize,
    logins: usize,
    wrong_logins: usize,
}

pub fn check(history: &History) -> Finding {
    let mut finding = Finding::new("rights");
    let mut counts = Counts::default();
    let steps = steps(history, &mut counts, &mut finding);
    for op in &history.ops {
        match (&op.req, &op.login) {
            (Request::Auth(AuthReq::Login { user, password }), _) => {
                let states = possible(&steps, user, op);
                login(op, password, &states, &mut counts, &mut finding);
            }
            (Request::Auth(_), _) | (_, None) => {}
            (_, Some(by)) => {
                let states = possible(&steps, &by.user, op);
                judge(op, by, &states, &mut counts, &mut finding);
            }
        }
    }
    finding.summary = format!(
        "changes={} served={} denied={} either={} logins={} wrong-logins={}",
        counts.changes,
        counts.served,
        counts.denied,
        counts.either,
        counts.logins,
        counts.wrong_logins
    );
    finding.rests_on("changes of rights", counts.changes);
    finding.rests_on("requests served to users", counts.served);
    finding.rests_on("certain denials", counts.denied);
    finding.rests_on("logins", counts.logins);
    finding
}

/// By user: what its rights were, step by step.
fn steps<'a>(
    history: &'a History,
    counts: &mut Counts,
    finding: &mut Finding,
) -> HashMap<&'a str, Vec<Step>> {
    let mut changes: Vec<&Op> = history
        .ops
        .iter()
        .filter(|op| matches!(op.req, Request::Auth(_)))
        .collect();
    changes.sort_by_key(|op| op.start);
    let mut steps: HashMap<&str, Vec<Step>> = HashMap::new();
    for op in changes {
        let Request::Auth(request) = &op.req else {
            continue;
        };
        let Some(name) = subject(request) else {
            continue;
        };
        let end = match op.out {
            Outcome::Ok { .. } => op.end,
            Outcome::Unknown { .. } => Nanos::MAX,
            Outcome::Fail { .. } => continue,
        };
        counts.changes += 1;
        let list = steps.entry(name).or_insert_with(|| vec![Step::default()]);
        let mut after = list
            .last()
            .map(|step| step.after.clone())
            .unwrap_or_default();
        if list.last().is_some_and(|before| before.end > op.start) {
            finding.incomplete(format!("two changes of {name} at the same time"));
        }
        apply(&mut after, request);
        list.push(Step {
            start: op.start,
            end,
            after,
        });
    }
    steps
}

/// The tenant that a change is about.
fn subject(request: &AuthReq) -> Option<&str> {
    match request {
        AuthReq::Enable | AuthReq::Login { .. } => None,
        AuthReq::AddUser { user, .. }
        | AuthReq::DeleteUser { user }
        | AuthReq::Password { user, .. }
        | AuthReq::GrantRole { user, .. }
        | AuthReq::RevokeRole { user, .. } => Some(user),
        AuthReq::AddRole { role }
        | AuthReq::DeleteRole { role }
        | AuthReq::Grant { role, .. }
        | AuthReq::Revoke { role, .. } => Some(role),
    }
}

fn apply(state: &mut State, request: &AuthReq) {
    match request {
        AuthReq::Enable | AuthReq::Login { .. } => {}
        AuthReq::AddUser { password, .. } => {
            state.password = Some(password.clone());
            state.has_role = false;
        }
        AuthReq::DeleteUser { .. } => {
            state.password = None;
            state.has_role = false;
        }
        AuthReq::Password { password, .. } => state.password = Some(password.clone()),
        AuthReq::AddRole { .. } => {
            state.role = true;
            state.granted = None;
        }
        AuthReq::DeleteRole { .. } => {
            state.role = false;
            state.has_role = false;
            state.granted = None;
        }
        AuthReq::GrantRole { .. } => state.has_role = true,
        AuthReq::RevokeRole { .. } => state.has_role = false,
        AuthReq::Grant {
            key, end, access, ..
        } => state.granted = Some((key.clone(), end.clone(), *access)),
        AuthReq::Revoke { .. } => state.granted = None,
    }
}

/// The states that a user can have been in at some moment of an operation.
fn possible<'a>(steps: &'a HashMap<&str, Vec<Step>>, user: &str, op: &Op) -> Vec<&'a State> {
    let list = steps.get(user).map_or(&[][..], Vec::as_slice);
    // The last one that ended before is certain, unless a later one did too.
    let first = list.iter().rposition(|step| step.end < op.start);
    let begun = list.iter().skip(first.unwrap_or(0));
    begun
        .take_while(|step| step.start <= op.end)
        .map(|step| &step.after)
        .collect()
}

impl State {
    fn permits(&self, by: &Login, needs: &[Need<'_>]) -> bool {
        let Some((key, end, access)) = &self.granted else {
            return false;
        };
        let covers = |need: &Need<'_>| {
            let ends_within = match need.end {
                "" => need.key < end.as_str(),
                "\0" => false,
                far => far <= end.as_str(),
            };
            need.key >= key.as_str() && ends_within && access.includes(need.access)
        };
        self.password.as_ref() == Some(&by.password)
            && self.has_role
            && self.role
            && needs.iter().all(covers)
    }
}

fn needs(request: &Request) -> Vec<Need<'_>> {
    match request {
        Request::Range(r) => vec![read(&r.key, &r.end)],
        Request::Put(r) => put(r),
        Request::Delete(r) => {
            let mut needs = vec![write(&r.key, &r.end)];
            needs.extend(r.prev.then(|| read(&r.key, &r.end)));
            needs
        }
        Request::Txn(t) => transaction(t),
        _ => Vec::new(),
    }
}

fn read<'a>(key: &'a str, end: &'a str) -> Need<'a> {
    let access = Access::Read;
    Need { key, end, access }
}

fn write<'a>(key: &'a str, end: &'a str) -> Need<'a> {
    let access = Access::Write;
    Need { key, end, access }
}

fn put(r: &PutReq) -> Vec<Need<'_>> {
    let mut needs = vec![write(&r.key, "")];
    needs.extend(r.prev.then(|| read(&r.key, "")));
    needs
}

/// Both branches, whichever is taken.
fn transaction(t: &TxnReq) -> Vec<Need<'_>> {
    let mut needs: Vec<Need<'_>> = t.compare.iter().map(|c| read(&c.key, "")).collect();
    for op in t.then.iter().chain(&t.or_else) {
        match op {
            TxnOp::Range(r) => needs.push(read(&r.key, &r.end)),
            TxnOp::Put(r) => needs.extend(put(r)),
            TxnOp::Delete(r) => {
                needs.push(write(&r.key, &r.end));
                needs.extend(r.prev.then(|| read(&r.key, &r.end)));
            }
        }
    }
    needs
}

fn judge(op: &Op, by: &Login, states: &[&State], counts: &mut Counts, finding: &mut Finding) {
    let needs = needs(&op.req);
    let permitting = states.iter().filter(|s| s.permits(by, &needs)).count();
    let certain = permitting == 0 || permitting == states.len();
    match &op.out {
        Outcome::Ok { .. } => {
            counts.served += 1;
            if permitting == 0 && op.linearizable() {
                finding.violation(
                    format!(
                        "m{} did for user {} what nothing permitted from {} s to {} s",
                        op.member,
                        by.user,
                        seconds(op.start),
                        seconds(op.end)
                    ),
                    &[op.id],
                );
            }
        }
        Outcome::Fail { error, .. } if error.starts_with(DENIED) => {
            if permitting == states.len() && !states.is_empty() {
                finding.violation(
                    format!(
                        "m{} refused user {} what was permitted from {} s to {} s",
                        op.member,
                        by.user,
                        seconds(op.start),
                        seconds(op.end)
                    ),
                    &[op.id],
                );
            }
            counts.denied += usize::from(certain);
        }
        Outcome::Fail { .. } | Outcome::Unknown { .. } => {}
    }
    counts.either += usize::from(!certain);
}

fn login(op: &Op, password: &str, states: &[&State], counts: &mut Counts, finding: &mut Finding) {
    let right = |state: &&&State| state.password.as_deref() == Some(password);
    let fitting = states.iter().filter(right).count();
    match &op.out {
        Outcome::Ok { .. } => {
            counts.logins += 1;
            if fitting == 0 {
                finding.violation(
                    format!("m{} took a password that was wrong", op.member),
                    &[op.id],
                );
            }
        }
        // A member that lags may not know a new user yet, with etcd.
        Outcome::Fail { error, .. } if error.contains(WRONG) && fitting == 0 => {
            counts.wrong_logins += 1;
        }
        Outcome::Fail { .. } | Outcome::Unknown { .. } => {}
    }
}
