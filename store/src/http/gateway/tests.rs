use bytes::Bytes;
use prost_reflect::{Kind, MessageDescriptor};

use super::{
    paths::{CALLS, PATHS},
    read, write,
};

fn written(of: &MessageDescriptor, encoded: Vec<u8>) -> String {
    let mut writer = write::Writer::new(of.clone(), Bytes::from(encoded));
    let mut text = "{".to_owned();
    // In the smallest pieces.
    loop {
        let bytes = text.len() + 1;
        if writer.write(&mut text, bytes).expect("it was just made") {
            return text;
        }
    }
}

/// A request as it is understood, written again.
fn understood(path: &str, text: &str) -> Result<String, String> {
    let of = CALLS.get(path).expect("a path").method.input();
    read::message(&of, text.as_bytes()).map(|message| written(&of, message))
}

#[test]
fn every_path_is_a_call() {
    assert_eq!(CALLS.len(), PATHS.len());
}

/// Neither reading nor writing knows more.
#[test]
fn messages_have_known_kinds_of_fields() {
    fn look(of: &MessageDescriptor, output: bool, seen: &mut Vec<String>) {
        if seen.contains(&of.full_name().to_owned()) {
            return;
        }
        seen.push(of.full_name().to_owned());
        for field in of.fields() {
            assert!(!field.is_map(), "{}", field.full_name());
            match field.kind() {
                Kind::Message(inner) => look(&inner, output, seen),
                Kind::String | Kind::Bytes => {}
                Kind::Bool
                | Kind::Int32
                | Kind::Int64
                | Kind::Uint32
                | Kind::Uint64
                | Kind::Enum(_) => {
                    // It would be packed.
                    assert!(!(output && field.is_list()), "{}", field.full_name());
                }
                _ => panic!("{}", field.full_name()),
            }
        }
    }
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for call in CALLS.values() {
        look(&call.method.input(), false, &mut inputs);
        look(&call.method.output(), true, &mut outputs);
    }
    assert!(inputs.len() > 40 && outputs.len() > 40);
}

#[test]
fn requests_are_read_in_both_forms_of_names_and_numbers() {
    let text = r#"{"key":"Zm9v","rangeEnd":"Zm9w","limit":"7","keys_only":true,"revision":2.0,
        "nope":{"a":[{}],"b":"c"},"sort_order":"DESCEND","sortTarget":1,"serializable":null}"#;
    let expected = r#"{"key":"Zm9v","range_end":"Zm9w","limit":"7","keys_only":true,"revision":"2","sort_order":"DESCEND","sort_target":"VERSION"}"#;
    // Written in the order in which it was read.
    let mut fields: Vec<_> = expected.trim_matches(['{', '}']).split(',').collect();
    let found = understood("kv/range", text).expect("it is right");
    let mut theirs: Vec<_> = found.trim_matches(['{', '}']).split(',').collect();
    fields.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(theirs, fields);
}

#[test]
fn what_is_inside_of_each_other_stays_so() {
    let text = r#"{"compare":[{"target":"CREATE","key":"YQ==","version":"0"},{"key":"Yg=="}],"success":[{"request_txn":{"success":[{"request_range":{}}]}}],"failure":[]}"#;
    let expected = r#"{"compare":[{"target":"CREATE","key":"YQ==","version":"0"},{"key":"Yg=="}],"success":[{"request_txn":{"success":[{"request_range":{}}]}}]}"#;
    let found = understood("kv/txn", text).expect("it is right");
    assert_eq!(found, expected);
}

#[test]
fn bytes_come_in_either_alphabet() {
    for (text, expected) in [
        ("_-8=", Some("/+8=")),
        ("_-8", Some("/+8=")),
        ("/+8", Some("/+8=")),
        ("Zm9\\nv", Some("Zm9v")),
        ("Zm9v=", None),
        ("!!", None),
        ("_+8=", None),
    ] {
        let found = understood("kv/range", &format!("{{\"key\":\"{text}\"}}"));
        let expected = expected.map(|key| format!("{{\"key\":\"{key}\"}}"));
        assert_eq!(found.ok(), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_said_as_protobuf_says_it() {
    for (path, text, expected) in [
        (
            "kv/range",
            "[]",
            "syntax error (line 1:1): unexpected token [",
        ),
        (
            "kv/range",
            "5",
            "syntax error (line 1:1): unexpected token 5",
        ),
        (
            "kv/range",
            "{\"key\":\"!!\"}",
            "(line 1:8): invalid value for bytes field key: \"!!\"",
        ),
        (
            "kv/range",
            "{\"key\":\"YQ==\",\n\"key\":\"\"}",
            "(line 2:1): duplicate field \"key\"",
        ),
        (
            "kv/range",
            "{\"limit\":1.5}",
            "(line 1:10): invalid value for int64 field limit: 1.5",
        ),
        (
            "kv/range",
            "{\"range_end\":{}}",
            "(line 1:14): invalid value for bytes field rangeEnd: {",
        ),
        ("kv/range", "{\"key\":\"\\udc00\"}", "unexpected EOF"),
        (
            "kv/range",
            "{\"key\":\"\\ud800 12345\"}",
            "syntax error (line 1:8): invalid escape code \" 12345\" in string",
        ),
        (
            "kv/txn",
            "{\"compare\":{}}",
            "syntax error (line 1:12): unexpected token {",
        ),
        (
            "kv/txn",
            "{\"compare\":[null]}",
            "syntax error (line 1:13): unexpected token null",
        ),
        (
            "kv/txn",
            "{\"compare\":[{\"version\":1,\"lease\":1}]}",
            "(line 1:26): error parsing \"lease\", oneof etcdserverpb.Compare.target_union is already set",
        ),
    ] {
        assert_eq!(
            understood(path, text),
            Err(format!("proto: {expected}")),
            "{text}"
        );
    }
    let deep = "{\"success\":[{\"requestTxn\":".repeat(200) + "{}" + &"}]}".repeat(200);
    let refused = understood("kv/txn", &deep).expect_err("it is too deep");
    assert_eq!(refused, "proto: exceeded max recursion depth");
}

#[test]
fn names_that_nobody_knows_are_as_if_not_there() {
    let text = "{\"sort_order\":\"NOPE\",\"[a.b]\":7,\"@type\":\"x\"}";
    assert_eq!(understood("kv/range", text), Ok("{}".to_owned()));
}
