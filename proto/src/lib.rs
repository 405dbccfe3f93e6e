//! Wire types, servers and clients of the gRPC services that Mizzen speaks.
//!
//! `etcd/*.proto` restates the client API of etcd 3.7.3: package, message,
//! field, enum and method names and numbers are the contract that lets every
//! etcd client work, and the tests hold them to `tests/etcd-3.7.3.txt`.
//! `mizzen/*.proto` is the protocol between members.
//!
//! Every `bytes` field is a [`bytes::Bytes`], so decoding from one buffer
//! shares it instead of copying. This crate knows the wire and nothing of what
//! a request means.

/// Stored pairs and the events that change them.
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// Users, roles and permissions.
pub mod authpb {
    tonic::include_proto!("authpb");
}

/// The client API: KV, Watch, Lease, Cluster, Maintenance and Auth.
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// The Lock service.
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}

/// The Election service.
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}

/// The protocol between members.
pub mod peer {
    tonic::include_proto!("mizzen.peer.v1");
}

/// The encoded `google.protobuf.FileDescriptorSet` of every compiled file, for
/// enumerating services and messages at run time.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
