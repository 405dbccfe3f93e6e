//! Random sequences of calls, the same for the same seed.

use bytes::Bytes;
use mizzen_proto::{
    authpb::Permission,
    etcdserverpb::{
        Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
        compare::{CompareTarget, TargetUnion},
        request_op::Request,
    },
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::call::Call;

const NAMES: [&str; 4] = ["root", "u", "v", "nobody"];
const ROLES: [&str; 4] = ["root", "a", "b", "none"];
const PASSWORDS: [&str; 3] = ["p", "q", ""];

/// What a sequence begins with: root and two users who may do something, and
/// authentication on.
pub fn beginning() -> Vec<Call> {
    let text = |text: &str| text.to_owned();
    let permission = |perm_type, key: &'static str, range_end: &'static str| {
        Some(Permission {
            perm_type,
            key: Bytes::from_static(key.as_bytes()),
            range_end: Bytes::from_static(range_end.as_bytes()),
        })
    };
    vec![
        Call::Enable,
        Call::UserAdd(text("root"), Some(text("p"))),
        Call::Enable,
        Call::UserAdd(text("u"), Some(text("p"))),
        Call::UserAdd(text("v"), Some(text("p"))),
        Call::RoleAdd(text("root")),
        Call::RoleAdd(text("a")),
        Call::RoleAdd(text("b")),
        Call::GrantPermission(text("a"), permission(2, "a", "c")),
        Call::GrantPermission(text("b"), permission(0, "c", "\0")),
        Call::GrantRole(text("u"), text("a")),
        Call::GrantRole(text("u"), text("b")),
        Call::GrantRole(text("v"), text("b")),
        Call::GrantRole(text("root"), text("root")),
        Call::Enable,
        Call::Login(text("root"), text("p")),
        Call::Login(text("u"), text("p")),
        Call::Login(text("v"), text("p")),
        Call::Login(text("v"), text("wrong")),
        Call::Login(text("nobody"), text("p")),
    ]
}

pub struct Chance {
    chance: StdRng,
}

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self {
            chance: StdRng::seed_from_u64(seed),
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.chance.random_range(0..end)
    }

    fn flip(&mut self) -> bool {
        self.chance.random_bool(0.5)
    }

    fn pick(&mut self, from: &[&str]) -> String {
        let place = self.below(from.len());
        from[place].to_owned()
    }

    fn key(&mut self) -> Bytes {
        let place = self.below(6);
        Bytes::from_static([&b"a"[..], b"aa", b"b", b"c", b"d", b"\0"][place])
    }

    /// Ascending or empty: what etcd makes of others depends on the shape of a
    /// tree.
    fn range_end(&mut self, key: &Bytes) -> Bytes {
        match self.below(4) {
            0 => Bytes::from_static(b"\0"),
            1 => {
                let end = self.key();
                if end > *key { end } else { Bytes::new() }
            }
            _ => Bytes::new(),
        }
    }

    /// A caller and a call.
    pub fn draw(&mut self) -> (Option<&'static str>, Call) {
        let user = match self.below(10) {
            0 => None,
            1 => Some("nobody"),
            2 | 3 => Some("root"),
            4..7 => Some("u"),
            _ => Some("v"),
        };
        // Tokens end with passwords and users: who has none logs in again.
        if self.below(10) == 0 {
            let name = ["root", "u", "v"][self.below(3)];
            let password = ["p", "q"][self.below(2)];
            return (None, Call::Login(name.to_owned(), password.to_owned()));
        }
        match self.below(3) {
            // Mostly root's: others are refused.
            0 if self.flip() => (Some("root"), self.change()),
            0 => (user, self.change()),
            _ => (user, self.keys()),
        }
    }

    fn change(&mut self) -> Call {
        let (name, role) = (self.pick(&NAMES), self.pick(&ROLES));
        match self.below(17) {
            0 => Call::UserAdd(name, self.flip().then(|| "p".to_owned())),
            1 => Call::UserDelete(name),
            2 => Call::UserGet(name),
            3 => Call::UserList,
            4 => Call::ChangePassword(name, self.pick(&PASSWORDS)),
            5 | 6 => Call::GrantRole(name, role),
            7 => Call::RevokeRole(name, role),
            8 => Call::RoleAdd(role),
            9 => Call::RoleDelete(role),
            10 => Call::RoleGet(role),
            11 => Call::RoleList,
            12 | 13 => {
                let key = self.key();
                let permission = Permission {
                    perm_type: i32::try_from(self.below(3)).unwrap_or(0),
                    range_end: self.range_end(&key),
                    key,
                };
                Call::GrantPermission(role, Some(permission))
            }
            14 => {
                let key = self.key();
                let end = self.range_end(&key);
                Call::RevokePermission(role, key.to_vec(), end.to_vec())
            }
            15 => Call::Login(name, self.pick(&PASSWORDS)),
            _ => Call::Status,
        }
    }

    fn lease(&mut self) -> i64 {
        i64::try_from(self.below(3)).unwrap_or(0)
    }

    fn range(&mut self) -> RangeRequest {
        let key = self.key();
        RangeRequest {
            range_end: self.range_end(&key),
            key,
            serializable: self.flip(),
            ..Default::default()
        }
    }

    fn put(&mut self) -> PutRequest {
        PutRequest {
            key: self.key(),
            value: Bytes::from_static(b"value"),
            lease: if self.below(3) == 0 { self.lease() } else { 0 },
            prev_kv: self.flip(),
            ..Default::default()
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let key = self.key();
        DeleteRangeRequest {
            range_end: self.range_end(&key),
            key,
            prev_kv: self.flip(),
        }
    }

    fn keys(&mut self) -> Call {
        match self.below(16) {
            0..4 => Call::Range(self.range()),
            4..7 => Call::Put(self.put()),
            7 | 8 => Call::DeleteRange(self.delete()),
            9..12 => Call::Txn(self.txn(2)),
            12 => Call::LeaseGrant(self.lease() + 1),
            13 => Call::LeaseRevoke(self.lease() + 1),
            14 => Call::LeaseKeys(self.lease() + 1),
            _ => Call::Compact(i64::try_from(self.below(4)).unwrap_or(0)),
        }
    }

    fn txn(&mut self, depth: usize) -> TxnRequest {
        let compare = match self.flip() {
            true => Vec::new(),
            false => {
                let key = self.key();
                vec![Compare {
                    target: CompareTarget::Version as i32,
                    range_end: self.range_end(&key),
                    key,
                    target_union: Some(TargetUnion::Version(0)),
                    ..Default::default()
                }]
            }
        };
        // One operation each: etcd stops at some transactions of two.
        TxnRequest {
            compare,
            success: vec![self.operation(depth)],
            failure: vec![self.operation(depth)],
        }
    }

    fn operation(&mut self, depth: usize) -> RequestOp {
        let request = match self.below(if depth > 0 { 4 } else { 3 }) {
            0 => Request::RequestRange(self.range()),
            1 => Request::RequestPut(self.put()),
            2 => Request::RequestDeleteRange(self.delete()),
            _ => Request::RequestTxn(self.txn(depth - 1)),
        };
        RequestOp {
            request: Some(request),
        }
    }
}
