//! Messages against bytes encoded by hand from the protobuf wire format.
//!
//! Each failure is reproduced by `cargo test --release -p mizzen-proto`.

use bytes::Bytes;
use mizzen_proto::etcdserverpb::{
    Compare, LeaseGrantRequest, RangeRequest, WatchResponse, compare, range_request,
};
use mizzen_proto::mvccpb::{Event, KeyValue};
use prost::Message as _;

const RANGE_REQUEST: &[u8] = &[
    0x0a, 0x03, b'f', b'o', b'o', // 1 key
    0x12, 0x03, b'f', b'o', b'p', // 2 range_end
    0x18, 0xac, 0x02, // 3 limit = 300
    0x20, 0x07, // 4 revision = 7
    0x28, 0x02, // 5 sort_order = DESCEND
    0x30, 0x03, // 6 sort_target = MOD
    0x38, 0x01, // 7 serializable
    0x40, 0x01, // 8 keys_only
    0x48, 0x01, // 9 count_only
    0x50, 0x02, // 10 min_mod_revision
    0x58, 0x03, // 11 max_mod_revision
    0x60, 0x04, // 12 min_create_revision
    0x68, 0x05, // 13 max_create_revision
];

#[test]
fn range_request() {
    let expected = RangeRequest {
        key: Bytes::from_static(b"foo"),
        range_end: Bytes::from_static(b"fop"),
        limit: 300,
        revision: 7,
        sort_order: range_request::SortOrder::Descend.into(),
        sort_target: range_request::SortTarget::Mod.into(),
        serializable: true,
        keys_only: true,
        count_only: true,
        min_mod_revision: 2,
        max_mod_revision: 3,
        min_create_revision: 4,
        max_create_revision: 5,
    };
    assert_eq!(RangeRequest::decode(RANGE_REQUEST), Ok(expected.clone()));
    assert_eq!(expected.encode_to_vec(), RANGE_REQUEST);
}

#[test]
fn decoding_shares_the_buffer() {
    let buffer = Bytes::from_static(RANGE_REQUEST);
    let request = RangeRequest::decode(buffer.clone()).expect("a valid message");
    assert_eq!(request.key.as_ptr(), buffer[2..].as_ptr());
}

#[test]
fn fields_from_a_newer_client_are_skipped() {
    let mut encoded = RANGE_REQUEST.to_vec();
    encoded.extend([0xa2, 0x06, 0x01, 0xff]); // 100, length-delimited
    assert_eq!(
        RangeRequest::decode(&encoded[..]),
        RangeRequest::decode(RANGE_REQUEST)
    );
}

#[test]
fn a_cut_message_is_an_error() {
    assert!(RangeRequest::decode(&RANGE_REQUEST[..4]).is_err());
}

#[test]
fn compare_with_an_absent_key() {
    // A zero operand is still on the wire, since a oneof records which member
    // was set; 64 needs a tag of two bytes.
    let encoded = [
        0x1a, 0x01, b'k', // 3 key
        0x20, 0x00, // 4 version = 0
        0x82, 0x04, 0x01, 0x00, // 64 range_end
    ];
    let expected = Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Version.into(),
        key: Bytes::from_static(b"k"),
        target_union: Some(compare::TargetUnion::Version(0)),
        range_end: Bytes::from_static(b"\0"),
    };
    assert_eq!(Compare::decode(&encoded[..]), Ok(expected.clone()));
    assert_eq!(expected.encode_to_vec(), encoded);
}

#[test]
fn watch_response_with_a_deletion() {
    let encoded = [
        0x10, 0x09, // 2 watch_id = 9
        0x5a, 0x09, // 11 events
        0x08, 0x01, // 1 type = DELETE
        0x12, 0x05, // 2 kv
        0x0a, 0x01, b'k', // 1 key
        0x18, 0x06, // 3 mod_revision = 6
    ];
    let response = WatchResponse::decode(&encoded[..]).expect("a valid message");
    let event = Event {
        r#type: mizzen_proto::mvccpb::event::EventType::Delete.into(),
        kv: Some(KeyValue {
            key: Bytes::from_static(b"k"),
            mod_revision: 6,
            ..Default::default()
        }),
        prev_kv: None,
    };
    assert_eq!(response.watch_id, 9);
    assert_eq!(response.events, [event]);
    assert_eq!(response.encode_to_vec(), encoded);
}

#[test]
fn lease_ids_are_signed() {
    let mut encoded = vec![0x08, 0x3c, 0x10]; // 1 TTL = 60, 2 ID = -1
    encoded.extend([0xff; 9]);
    encoded.push(0x01);
    let expected = LeaseGrantRequest { ttl: 60, id: -1 };
    assert_eq!(LeaseGrantRequest::decode(&encoded[..]), Ok(expected));
    assert_eq!(expected.encode_to_vec(), encoded);
}
