//! The definitions in `etcd/` against facts read from etcd 3.7.3's descriptors.
//!
//! Each failure is reproduced by `cargo test --release -p mizzen-proto`.

use std::collections::BTreeSet;

use mizzen_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, MethodDescriptorProto,
};

/// One line for each message, field, enum value and method of etcd 3.7.3.
const FACTS: &str = include_str!("etcd-3.7.3.txt");

fn etcd_files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("a valid descriptor set");
    let mut files = set.file;
    files.retain(|file| file.name().starts_with("etcd/"));
    files
}

/// Our definitions in the form of [`FACTS`].
fn our_facts() -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    for file in etcd_files() {
        let package = file.package();
        for item in &file.enum_type {
            enum_facts(package, item, &mut facts);
        }
        for item in &file.message_type {
            message_facts(package, item, &mut facts);
        }
        for service in &file.service {
            for method in &service.method {
                facts.insert(method_fact(package, service.name(), method));
            }
        }
    }
    facts
}

fn enum_facts(scope: &str, item: &EnumDescriptorProto, facts: &mut BTreeSet<String>) {
    for value in &item.value {
        let (name, number) = (value.name(), value.number());
        facts.insert(format!("enum {scope}.{}.{name}={number}", item.name()));
    }
}

fn message_facts(scope: &str, item: &DescriptorProto, facts: &mut BTreeSet<String>) {
    let scope = format!("{scope}.{}", item.name());
    facts.insert(format!("message {scope}"));
    for field in &item.field {
        facts.insert(field_fact(&scope, item, field));
    }
    for nested in &item.enum_type {
        enum_facts(&scope, nested, facts);
    }
    for nested in &item.nested_type {
        message_facts(&scope, nested, facts);
    }
}

fn field_fact(scope: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let repeated = match field.label() {
        Label::Repeated => "repeated ",
        Label::Optional | Label::Required => "",
    };
    let oneof = match field.oneof_index {
        Some(index) => {
            let index = usize::try_from(index).expect("oneof indexes are not negative");
            format!(" oneof={}", message.oneof_decl[index].name())
        }
        None => String::new(),
    };
    format!(
        "field {scope}.{}={} {repeated}{} json={}{oneof}",
        field.name(),
        field.number(),
        type_name(field),
        field.json_name(),
    )
}

fn type_name(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
        scalar => scalar
            .as_str_name()
            .trim_start_matches("TYPE_")
            .to_ascii_lowercase(),
    }
}

fn method_fact(package: &str, service: &str, method: &MethodDescriptorProto) -> String {
    let side = |streaming: bool, name: &str| {
        let stream = if streaming { "stream " } else { "" };
        format!("{stream}{}", name.trim_start_matches('.'))
    };
    format!(
        "rpc /{package}.{service}/{} ({}) returns ({})",
        method.name(),
        side(method.client_streaming(), method.input_type()),
        side(method.server_streaming(), method.output_type()),
    )
}

#[test]
fn definitions_equal_those_of_etcd() {
    let ours = our_facts();
    let theirs: BTreeSet<String> = FACTS.lines().map(str::to_owned).collect();
    let missing: Vec<_> = theirs.difference(&ours).collect();
    let extra: Vec<_> = ours.difference(&theirs).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing: {missing:#?}\nextra: {extra:#?}"
    );
}

/// Methods in declaration order; `<` streams requests, `>` streams replies.
#[test]
fn services_and_methods() {
    let mut services = Vec::new();
    for file in etcd_files() {
        for service in &file.service {
            let methods: Vec<String> = service
                .method
                .iter()
                .map(|method| {
                    let requests = if method.client_streaming() { "<" } else { "" };
                    let replies = if method.server_streaming() { ">" } else { "" };
                    format!("{}{requests}{replies}", method.name())
                })
                .collect();
            let name = format!("{}.{}", file.package(), service.name());
            services.push((name, methods.join(" ")));
        }
    }
    services.sort();

    let expected = [
        (
            "etcdserverpb.Auth",
            "AuthEnable AuthDisable AuthStatus Authenticate UserAdd UserGet UserList UserDelete \
             UserChangePassword UserGrantRole UserRevokeRole RoleAdd RoleGet RoleList RoleDelete \
             RoleGrantPermission RoleRevokePermission",
        ),
        (
            "etcdserverpb.Cluster",
            "MemberAdd MemberRemove MemberUpdate MemberList MemberPromote",
        ),
        (
            "etcdserverpb.KV",
            "Range RangeStream> Put DeleteRange Txn Compact",
        ),
        (
            "etcdserverpb.Lease",
            "LeaseGrant LeaseRevoke LeaseKeepAlive<> LeaseTimeToLive LeaseLeases",
        ),
        (
            "etcdserverpb.Maintenance",
            "Alarm Status Defragment Hash HashKV Snapshot> MoveLeader Downgrade",
        ),
        ("etcdserverpb.Watch", "Watch<>"),
        (
            "v3electionpb.Election",
            "Campaign Proclaim Leader Observe> Resign",
        ),
        ("v3lockpb.Lock", "Lock Unlock"),
    ];
    let expected: Vec<(String, String)> = expected
        .iter()
        .map(|(service, methods)| ((*service).to_owned(), (*methods).to_owned()))
        .collect();
    assert_eq!(services, expected);
}

/// Numbers that a plain reading of the names would get wrong: gaps, late
/// additions, and pairs whose order differs between messages.
#[test]
fn numbers_that_are_easy_to_get_wrong() {
    let expected = [
        ("Compare", "range_end", 64),
        ("Compare", "lease", 8),
        ("WatchResponse", "events", 11),
        ("WatchResponse", "fragment", 7),
        ("WatchCreateRequest", "fragment", 8),
        ("LeaseGrantRequest", "TTL", 1),
        ("LeaseGrantRequest", "ID", 2),
        ("LeaseGrantResponse", "ID", 2),
        ("LeaseGrantResponse", "TTL", 3),
        ("HashKVResponse", "hash_revision", 4),
        ("SnapshotResponse", "version", 4),
        ("StatusResponse", "storageVersion", 11),
        ("StatusResponse", "dbSizeQuota", 12),
        ("StatusResponse", "downgradeInfo", 13),
        ("AuthUserAddRequest", "hashedPassword", 4),
        ("AuthUserChangePasswordRequest", "hashedPassword", 3),
        ("MemberAddRequest", "isLearner", 2),
        ("Member", "isLearner", 5),
        ("RangeStreamResponse", "range_response", 1),
    ];
    let files = etcd_files();
    for (message, field, number) in expected {
        let found = files
            .iter()
            .filter(|file| file.package() == "etcdserverpb")
            .flat_map(|file| &file.message_type)
            .filter(|item| item.name() == message)
            .flat_map(|item| &item.field)
            .find(|item| item.name() == field)
            .map(FieldDescriptorProto::number);
        assert_eq!(found, Some(number), "etcdserverpb.{message}.{field}");
    }
}
