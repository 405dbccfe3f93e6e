//! What is asked of every call: requests within and beyond what a user may do.
//!
//! The reader may read, and the writer write, keys from `r` up to `s`.

use bytes::Bytes;
use mizzen_proto::etcdserverpb::{
    self as wire, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    alarm_request::AlarmAction,
    compare::{CompareTarget, TargetUnion},
    request_op::Request,
    watch_request::RequestUnion,
};
use mizzen_proto::{v3electionpb as election, v3lockpb as lock};
use prost::Message;

/// Leases: with a key that users may see, with another's, with none, and that
/// of locks.
pub const INSIDE: i64 = 101;
pub const OUTSIDE: i64 = 102;
pub const EMPTY: i64 = 103;
pub const OF_LOCKS: i64 = 104;
const UNKNOWN: i64 = 999;

/// One request of a call.
pub struct Shape {
    pub path: &'static str,
    pub name: String,
    pub message: Bytes,
    /// It may change keys, or leases, on which other requests depend.
    pub changes: bool,
    /// Root does not ask it: see where the shape is made.
    pub not_root: bool,
}

fn shape(path: &'static str, name: impl Into<String>, message: &impl Message) -> Shape {
    Shape {
        path,
        name: name.into(),
        message: message.encode_to_vec().into(),
        changes: false,
        not_root: false,
    }
}

impl Shape {
    fn changes(mut self) -> Self {
        self.changes = true;
        self
    }

    /// It would leave a cluster on which nothing more can be asked.
    fn not_root(mut self) -> Self {
        self.not_root = true;
        self
    }
}

/// Names of ranges with their key and end.
const RANGES: [(&str, &[u8], &[u8]); 6] = [
    ("inside", b"ra", b""),
    ("outside", b"a", b""),
    ("range inside", b"r", b"s"),
    ("range across", b"q", b"s"),
    ("open end", b"r", b"\0"),
    ("everything", b"\0", b"\0"),
];

fn range(key: &'static [u8], end: &'static [u8]) -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(key),
        range_end: Bytes::from_static(end),
        ..Default::default()
    }
}

fn put(key: &'static [u8]) -> PutRequest {
    PutRequest {
        key: Bytes::from_static(key),
        value: Bytes::from_static(b"value"),
        ..Default::default()
    }
}

fn puts() -> Vec<(&'static str, PutRequest)> {
    let leased = |lease| PutRequest {
        lease,
        ..put(b"rb")
    };
    vec![
        ("inside", put(b"ra")),
        ("outside", put(b"a")),
        (
            "previous value",
            PutRequest {
                prev_kv: true,
                ..put(b"ra")
            },
        ),
        (
            "kept value",
            PutRequest {
                ignore_value: true,
                value: Bytes::new(),
                ..put(b"ra")
            },
        ),
        ("lease with inside", leased(INSIDE)),
        ("lease with outside", leased(OUTSIDE)),
        ("lease of nothing", leased(EMPTY)),
        ("no such lease", leased(UNKNOWN)),
    ]
}

fn delete(key: &'static [u8], end: &'static [u8], prev_kv: bool) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: Bytes::from_static(key),
        range_end: Bytes::from_static(end),
        prev_kv,
    }
}

fn keys(all: &mut Vec<Shape>) {
    const RANGE: &str = "/etcdserverpb.KV/Range";
    for (name, key, end) in RANGES {
        let plain = range(key, end);
        all.push(shape(RANGE, name, &plain));
        all.push(shape("/etcdserverpb.KV/RangeStream", name, &plain));
        let serializable = RangeRequest {
            serializable: true,
            ..plain.clone()
        };
        all.push(shape(RANGE, format!("{name}, serializable"), &serializable));
        let counted = RangeRequest {
            count_only: true,
            ..plain.clone()
        };
        all.push(shape(RANGE, format!("{name}, counted"), &counted));
        let past = RangeRequest {
            revision: 3,
            ..plain
        };
        all.push(shape(RANGE, format!("{name}, past"), &past));
        for prev_kv in [false, true] {
            let name = format!("{name}, previous: {prev_kv}");
            let delete = delete(key, end, prev_kv);
            all.push(shape("/etcdserverpb.KV/DeleteRange", name, &delete).changes());
        }
    }
    for (name, put) in puts() {
        all.push(shape("/etcdserverpb.KV/Put", name, &put).changes());
    }
    for physical in [false, true] {
        let compact = wire::CompactionRequest {
            revision: 2,
            physical,
        };
        let name = format!("physical: {physical}");
        all.push(shape("/etcdserverpb.KV/Compact", name, &compact));
    }
}

fn operations() -> Vec<(String, Request)> {
    let mut all = Vec::new();
    for (name, key, end) in RANGES {
        let request = Request::RequestRange(range(key, end));
        all.push((format!("get {name}"), request));
        for prev_kv in [false, true] {
            let request = Request::RequestDeleteRange(delete(key, end, prev_kv));
            all.push((format!("delete {name}, previous: {prev_kv}"), request));
        }
    }
    for (name, put) in puts() {
        all.push((format!("put {name}"), Request::RequestPut(put)));
    }
    all
}

fn operation(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn within(request: Request) -> Request {
    Request::RequestTxn(TxnRequest {
        success: vec![operation(request)],
        ..Default::default()
    })
}

/// What an operation needs must be had wherever it stands: also where it is not
/// carried out.
fn transactions(all: &mut Vec<Shape>) {
    const TXN: &str = "/etcdserverpb.KV/Txn";
    for (name, key, end) in RANGES {
        let txn = TxnRequest {
            compare: vec![Compare {
                key: Bytes::from_static(key),
                range_end: Bytes::from_static(end),
                target: CompareTarget::Version.into(),
                target_union: Some(TargetUnion::Version(0)),
                ..Default::default()
            }],
            ..Default::default()
        };
        all.push(shape(TXN, format!("compare {name}"), &txn));
        let nested = TxnRequest {
            failure: vec![operation(Request::RequestTxn(txn))],
            ..Default::default()
        };
        all.push(shape(TXN, format!("compare {name}, nested"), &nested));
    }
    for (name, request) in operations() {
        for (nested, request) in [("", request.clone()), (", nested", within(request))] {
            let (success, failure) = (vec![operation(request.clone())], vec![operation(request)]);
            let carried_out = TxnRequest {
                success,
                ..Default::default()
            };
            let passed_over = TxnRequest {
                failure,
                ..Default::default()
            };
            all.push(shape(TXN, format!("then {name}{nested}"), &carried_out).changes());
            all.push(shape(TXN, format!("else {name}{nested}"), &passed_over).changes());
        }
    }
}

fn watches(all: &mut Vec<Shape>) {
    for (name, key, end) in RANGES {
        for prev_kv in [false, true] {
            for start_revision in [0, 3] {
                let create = wire::WatchCreateRequest {
                    key: Bytes::from_static(key),
                    range_end: Bytes::from_static(end),
                    prev_kv,
                    start_revision,
                    ..Default::default()
                };
                let request = wire::WatchRequest {
                    request_union: Some(RequestUnion::CreateRequest(create)),
                };
                let name = format!("{name}, previous: {prev_kv}, from {start_revision}");
                all.push(shape("/etcdserverpb.Watch/Watch", name, &request));
            }
        }
    }
}

fn leases(all: &mut Vec<Shape>) {
    for (name, id) in [
        ("with inside", INSIDE),
        ("with outside", OUTSIDE),
        ("of nothing", EMPTY),
        ("unknown", UNKNOWN),
    ] {
        let revoke = wire::LeaseRevokeRequest { id };
        all.push(shape("/etcdserverpb.Lease/LeaseRevoke", name, &revoke).changes());
        let renew = wire::LeaseKeepAliveRequest { id };
        all.push(shape("/etcdserverpb.Lease/LeaseKeepAlive", name, &renew));
        for keys in [false, true] {
            let asked = wire::LeaseTimeToLiveRequest { id, keys };
            let name = format!("{name}, keys: {keys}");
            all.push(shape("/etcdserverpb.Lease/LeaseTimeToLive", name, &asked));
        }
    }
    let grant = wire::LeaseGrantRequest {
        id: INSIDE,
        ttl: 600,
    };
    all.push(shape("/etcdserverpb.Lease/LeaseGrant", "known", &grant));
    let all_leases = wire::LeaseLeasesRequest {};
    all.push(shape("/etcdserverpb.Lease/LeaseLeases", "", &all_leases));
}

fn cluster(all: &mut Vec<Shape>) {
    let peer_ur_ls = vec!["http://127.0.0.1:1".to_owned()];
    let add = wire::MemberAddRequest {
        peer_ur_ls: peer_ur_ls.clone(),
        is_learner: true,
    };
    // Root would add it.
    all.push(shape("/etcdserverpb.Cluster/MemberAdd", "", &add).not_root());
    let remove = wire::MemberRemoveRequest { id: 1 };
    all.push(shape("/etcdserverpb.Cluster/MemberRemove", "", &remove));
    let update = wire::MemberUpdateRequest { id: 1, peer_ur_ls };
    all.push(shape("/etcdserverpb.Cluster/MemberUpdate", "", &update));
    let promote = wire::MemberPromoteRequest { id: 1 };
    all.push(shape("/etcdserverpb.Cluster/MemberPromote", "", &promote));
    for linearizable in [false, true] {
        let list = wire::MemberListRequest { linearizable };
        let name = format!("linearizable: {linearizable}");
        all.push(shape("/etcdserverpb.Cluster/MemberList", name, &list));
    }
}

fn maintenance(all: &mut Vec<Shape>) {
    for (name, action) in [
        ("seen", AlarmAction::Get),
        ("disarmed", AlarmAction::Deactivate),
    ] {
        let alarm = wire::AlarmRequest {
            action: action.into(),
            member_id: 1,
            alarm: wire::AlarmType::Nospace.into(),
        };
        all.push(shape("/etcdserverpb.Maintenance/Alarm", name, &alarm));
    }
    let path = "/etcdserverpb.Maintenance/Status";
    all.push(shape(path, "", &wire::StatusRequest {}));
    let path = "/etcdserverpb.Maintenance/Defragment";
    all.push(shape(path, "", &wire::DefragmentRequest {}));
    let path = "/etcdserverpb.Maintenance/Hash";
    all.push(shape(path, "", &wire::HashRequest {}));
    let path = "/etcdserverpb.Maintenance/HashKV";
    all.push(shape(path, "", &wire::HashKvRequest { revision: 0 }));
    let path = "/etcdserverpb.Maintenance/Snapshot";
    all.push(shape(path, "", &wire::SnapshotRequest {}));
    let path = "/etcdserverpb.Maintenance/MoveLeader";
    // The reference has one member, which leads: what root gets differs.
    all.push(shape(path, "", &wire::MoveLeaderRequest { target_id: 1 }).not_root());
    let path = "/etcdserverpb.Maintenance/Downgrade";
    // As above: of several members one may be older.
    all.push(shape(path, "", &wire::DowngradeRequest::default()).not_root());
}

/// Changes that are refused, or change nothing, also if root asks for them: the
/// tokens of the matrix are of one revision.
fn users(all: &mut Vec<Shape>) {
    let text = str::to_owned;
    let mut add = |path, name: &str, message: &dyn Encoded| all.push(message.shape(path, name));
    add(
        "/etcdserverpb.Auth/AuthEnable",
        "",
        &wire::AuthEnableRequest {},
    );
    add(
        "/etcdserverpb.Auth/AuthStatus",
        "",
        &wire::AuthStatusRequest {},
    );
    let login = wire::AuthenticateRequest {
        name: text("reader"),
        password: text("wrong"),
    };
    add("/etcdserverpb.Auth/Authenticate", "wrong", &login);
    let user = wire::AuthUserAddRequest {
        name: text("reader"),
        password: text("p"),
        ..Default::default()
    };
    add("/etcdserverpb.Auth/UserAdd", "known", &user);
    for name in ["reader", "writer", "missing"] {
        let get = wire::AuthUserGetRequest { name: text(name) };
        add("/etcdserverpb.Auth/UserGet", name, &get);
        let get = wire::AuthRoleGetRequest { role: text(name) };
        add("/etcdserverpb.Auth/RoleGet", name, &get);
    }
    add(
        "/etcdserverpb.Auth/UserList",
        "",
        &wire::AuthUserListRequest {},
    );
    add(
        "/etcdserverpb.Auth/RoleList",
        "",
        &wire::AuthRoleListRequest {},
    );
    let missing = || text("missing");
    let message = wire::AuthUserDeleteRequest { name: missing() };
    add("/etcdserverpb.Auth/UserDelete", "missing", &message);
    let message = wire::AuthUserChangePasswordRequest {
        name: missing(),
        password: text("p"),
        ..Default::default()
    };
    add("/etcdserverpb.Auth/UserChangePassword", "missing", &message);
    let message = wire::AuthUserGrantRoleRequest {
        user: missing(),
        role: text("reader"),
    };
    add("/etcdserverpb.Auth/UserGrantRole", "missing", &message);
    let message = wire::AuthUserRevokeRoleRequest {
        name: missing(),
        role: text("reader"),
    };
    add("/etcdserverpb.Auth/UserRevokeRole", "missing", &message);
    let message = wire::AuthRoleAddRequest {
        name: text("reader"),
    };
    add("/etcdserverpb.Auth/RoleAdd", "known", &message);
    let message = wire::AuthRoleDeleteRequest { role: missing() };
    add("/etcdserverpb.Auth/RoleDelete", "missing", &message);
    let message = wire::AuthRoleGrantPermissionRequest {
        name: missing(),
        perm: Some(Default::default()),
    };
    add(
        "/etcdserverpb.Auth/RoleGrantPermission",
        "missing",
        &message,
    );
    let message = wire::AuthRoleRevokePermissionRequest {
        role: missing(),
        ..Default::default()
    };
    add(
        "/etcdserverpb.Auth/RoleRevokePermission",
        "missing",
        &message,
    );
    // Root would switch it off.
    let disable = wire::AuthDisableRequest {};
    all.push(shape("/etcdserverpb.Auth/AuthDisable", "", &disable).not_root());
}

/// A message, whichever.
trait Encoded {
    fn shape(&self, path: &'static str, name: &str) -> Shape;
}

impl<M: Message> Encoded for M {
    fn shape(&self, path: &'static str, name: &str) -> Shape {
        shape(path, name, self)
    }
}

/// The key of a lock or election under [`OF_LOCKS`].
fn owned(name: &str) -> Bytes {
    format!("{name}/{OF_LOCKS:x}").into()
}

fn locks(all: &mut Vec<Shape>) {
    for (place, name) in [("inside", "rl"), ("outside", "al")] {
        let request = lock::LockRequest {
            name: name.into(),
            lease: OF_LOCKS,
        };
        all.push(shape("/v3lockpb.Lock/Lock", place, &request).changes());
        let key = owned(name);
        let request = lock::UnlockRequest { key };
        all.push(shape("/v3lockpb.Lock/Unlock", place, &request).changes());
    }
    for (place, name) in [("inside", "re"), ("outside", "ae")] {
        let campaign = election::CampaignRequest {
            name: name.into(),
            lease: OF_LOCKS,
            value: "candidate".into(),
        };
        let path = "/v3electionpb.Election/Campaign";
        all.push(shape(path, place, &campaign).changes());
        let asked = election::LeaderRequest { name: name.into() };
        all.push(shape("/v3electionpb.Election/Leader", place, &asked));
        all.push(shape("/v3electionpb.Election/Observe", place, &asked));
        // Of another leadership: nothing is changed.
        let leader = Some(election::LeaderKey {
            name: name.into(),
            key: owned(name),
            rev: 1,
            lease: OF_LOCKS,
        });
        let resign = election::ResignRequest {
            leader: leader.clone(),
        };
        all.push(shape("/v3electionpb.Election/Resign", place, &resign));
        let value = "again".into();
        let proclaim = election::ProclaimRequest { leader, value };
        all.push(shape("/v3electionpb.Election/Proclaim", place, &proclaim));
    }
}

pub fn all() -> Vec<Shape> {
    let mut all = Vec::new();
    keys(&mut all);
    transactions(&mut all);
    watches(&mut all);
    leases(&mut all);
    cluster(&mut all);
    maintenance(&mut all);
    users(&mut all);
    locks(&mut all);
    all
}

/// With what requests of the matrix meet, whatever was changed by those before.
pub fn restored() -> Vec<Shape> {
    let mut all = Vec::new();
    for id in [INSIDE, OUTSIDE, EMPTY, OF_LOCKS] {
        let grant = wire::LeaseGrantRequest { id, ttl: 1_000_000 };
        all.push(shape("/etcdserverpb.Lease/LeaseGrant", "", &grant));
    }
    for (key, lease) in [(&b"ra"[..], INSIDE), (b"rb", 0), (b"a", OUTSIDE), (b"z", 0)] {
        let put = PutRequest { lease, ..put(key) };
        all.push(shape("/etcdserverpb.KV/Put", "", &put));
    }
    for name in ["re", "ae"] {
        let campaign = election::CampaignRequest {
            name: name.into(),
            lease: OF_LOCKS,
            value: "candidate".into(),
        };
        all.push(shape("/v3electionpb.Election/Campaign", "", &campaign));
    }
    all
}
