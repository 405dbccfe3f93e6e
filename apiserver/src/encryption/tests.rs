use super::*;

const KEY: &[u8] = b"/registry/secrets/default/one";

fn places() -> Vec<Location> {
    vec![
        Location::new("", "secrets", "/registry/secrets/"),
        Location::new("", "configmaps", "/registry/configmaps/"),
        Location::new("apps", "deployments", "/registry/deployments/"),
        Location::new("", "services", "/registry/services/specs/"),
    ]
}

fn encryption(rules: &str) -> Result<Encryption, String> {
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources: {rules}\n"
    );
    let current = built(text.as_bytes(), &places())?;
    Ok(Encryption {
        path: PathBuf::new(),
        places: places(),
        current: ArcSwap::from_pointee(current),
    })
}

fn key(size: usize, byte: u8) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(vec![byte; size])
}

/// A provider with one key.
fn provider(kind: &str, name: &str, size: usize, byte: u8) -> String {
    let secret = key(size, byte);
    format!(r#"{{"{kind}": {{"keys": [{{"name": "{name}", "secret": "{secret}"}}]}}}}"#)
}

fn secrets(providers: &[String]) -> Encryption {
    let rule = format!(
        r#"[{{"resources": ["secrets"], "providers": [{}]}}]"#,
        providers.join(",")
    );
    encryption(&rule).expect("a configuration")
}

const KINDS: [(&str, &str, usize); 7] = [
    ("aesgcm", "k8s:enc:aesgcm:v1:k:", 16),
    ("aesgcm", "k8s:enc:aesgcm:v1:k:", 24),
    ("aesgcm", "k8s:enc:aesgcm:v1:k:", 32),
    ("aescbc", "k8s:enc:aescbc:v1:k:", 16),
    ("aescbc", "k8s:enc:aescbc:v1:k:", 24),
    ("aescbc", "k8s:enc:aescbc:v1:k:", 32),
    ("secretbox", "k8s:enc:secretbox:v1:k:", 32),
];

#[test]
fn what_is_sealed_is_opened_and_nothing_of_it_shows() {
    for (kind, prefix, size) in KINDS {
        let encryption = secrets(&[provider(kind, "k", size, 7)]);
        for length in [0, 1, 15, 16, 17, 1_000] {
            let value = Bytes::from(vec![b'm'; length]);
            let sealed = encryption.seal(KEY, &value).expect("sealed");
            assert!(sealed.starts_with(prefix.as_bytes()), "{kind}");
            assert!(!sealed.windows(8).any(|part| part == b"mmmmmmmm"), "{kind}");
            let opened = encryption.open(KEY, sealed.clone()).expect("opened");
            assert_eq!(
                (opened.value, opened.stale),
                (value.clone(), false),
                "{kind} {length}"
            );
            // No two are the same.
            assert_ne!(
                encryption.seal(KEY, &value).expect("sealed"),
                sealed,
                "{kind}"
            );
        }
    }
}

#[test]
fn a_wrong_key_another_place_and_damage_are_errors() {
    for (kind, prefix, size) in KINDS {
        let encryption = secrets(&[provider(kind, "k", size, 7)]);
        let value = Bytes::from_static(b"marker: sixteen bytes and a few more");
        let sealed = encryption.seal(KEY, &value).expect("sealed");
        let other = secrets(&[provider(kind, "k", size, 8)]);
        // CBC says nothing of what it opens: by chance its padding is right.
        match other.open(KEY, sealed.clone()) {
            Err(why) => assert!(!why.contains("marker"), "{why}"),
            Ok(opened) => assert!(kind == "aescbc" && opened.value != value, "{kind}"),
        }
        for length in 0..sealed.len() {
            if let Ok(opened) = encryption.open(KEY, sealed.slice(..length)) {
                assert!(kind == "aescbc" && length > prefix.len(), "{kind} {length}");
                assert_ne!(opened.value, value);
            }
        }
        if kind == "aescbc" {
            continue;
        }
        for at in prefix.len()..sealed.len() {
            let mut damaged = sealed.to_vec();
            damaged[at] ^= 1;
            assert!(encryption.open(KEY, damaged.into()).is_err(), "{kind} {at}");
        }
        if kind == "aesgcm" {
            let elsewhere = b"/registry/secrets/default/two";
            let why = encryption.open(elsewhere, sealed).expect_err("it is bound");
            assert_eq!(why, "cipher: message authentication failed");
        }
    }
}

#[test]
fn what_was_stored_before_is_read_where_identity_is_named() {
    let encryption = secrets(&[
        provider("aesgcm", "k", 32, 7),
        r#"{"identity": {}}"#.to_owned(),
    ]);
    let plain = Bytes::from_static(b"k8s\0 something");
    let opened = encryption
        .open(KEY, plain.clone())
        .expect("it is not sealed");
    assert_eq!((opened.value, opened.stale), (plain, true));
}

#[test]
fn keys_are_changed_one_after_the_other() {
    let (old, new) = (
        provider("aesgcm", "old", 32, 1),
        provider("secretbox", "new", 32, 2),
    );
    let value = Bytes::from_static(b"value");
    let sealed = secrets(std::slice::from_ref(&old))
        .seal(KEY, &value)
        .expect("sealed");
    let both = secrets(&[new.clone(), old]);
    let opened = both
        .open(KEY, sealed.clone())
        .expect("the old one opens it");
    assert_eq!((&opened.value, opened.stale), (&value, true));
    let anew = both.seal(KEY, &value).expect("sealed");
    assert!(anew.starts_with(b"k8s:enc:secretbox:v1:new:"));
    let after = secrets(&[new]);
    assert_eq!(after.open(KEY, anew).expect("opened").value, value);
    let why = after.open(KEY, sealed).expect_err("the key is gone");
    assert_eq!(why, "no matching prefix found");
}

#[test]
fn rules_are_of_resources_groups_and_all() {
    let one = |text: &str| {
        encryption(text).map(|found| {
            let current = found.current.load_full();
            current.keys().cloned().collect::<Vec<_>>()
        })
    };
    let gcm = provider("aesgcm", "k", 32, 7);
    let rule = |resources: &str| format!(r#"{{"resources": [{resources}], "providers": [{gcm}]}}"#);
    let all = |rules: &[String]| one(&format!("[{}]", rules.join(",")));
    assert_eq!(
        all(&[rule(r#""secrets""#)]),
        Ok(vec!["/registry/secrets/".to_owned()])
    );
    assert_eq!(
        all(&[rule(r#""*.apps""#)]),
        Ok(vec!["/registry/deployments/".to_owned()])
    );
    assert_eq!(all(&[rule(r#""*.""#)]).map(|found| found.len()), Ok(3));
    assert_eq!(
        all(&[rule(r#""secrets""#), rule(r#""*.*""#)]).map(|found| found.len()),
        Ok(4)
    );
    for (rules, why) in [
        (
            vec![rule(r#""*.*""#), rule(r#""secrets""#)],
            r#"resource "secrets" is masked by earlier rule "*.*""#,
        ),
        (vec![rule(r#""secrets", "*.""#)], "overlapping"),
        (vec![rule(r#""secrets", "secrets""#)], "multiple times"),
        (vec![rule(r#""Secrets""#)], "capital letters"),
        (vec![rule(r#""*""#)], "use '*.'"),
        (
            vec![rule(r#""events.events.k8s.io""#)],
            "Use 'events' instead",
        ),
        (vec![rule("")], "at least one"),
        (vec![rule("1")], "a text is expected"),
    ] {
        let said = all(&rules).expect_err("it is wrong");
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn what_is_wrong_is_said_without_its_value() {
    for (providers, why) in [
        (
            r#"{"aesgcm": {"keys": [{"name": "k", "secret": "c2VjcmV0"}]}}"#,
            "got 6, expected one of [16 24 32]",
        ),
        (
            r#"{"aesgcm": {"keys": [{"name": "k", "secret": "%%secret"}]}}"#,
            "must be base64 encoded",
        ),
        (
            r#"{"aesgcm": {"keys": [{"name": "k"}]}}"#,
            "secret is a mandatory field",
        ),
        (
            r#"{"aesgcm": {"keys": [{"secret": "c2VjcmV0"}]}}"#,
            "name is a mandatory field",
        ),
        (r#"{"aesgcm": {"keys": "c2VjcmV0"}}"#, "a list is expected"),
        (
            r#"{"aesgcm": {"keys": []}}"#,
            "at least one keys is required",
        ),
        (r#"{"aesgcm": "c2VjcmV0"}"#, "a map is expected"),
        (
            r#"{"identity": {}, "aesgcm": {"keys": []}}"#,
            "more than one provider",
        ),
        (r"{}", "does not contain any"),
        (r#"{"c2VjcmV0": {}}"#, "a field is none of"),
    ] {
        let rule = format!(r#"[{{"resources": ["secrets"], "providers": [{providers}]}}]"#);
        let said = encryption(&rule).err().expect("it is wrong");
        assert!(said.contains(why), "{said}");
        assert!(!said.contains("c2VjcmV0") && !said.contains("%%"), "{said}");
    }
    let other = built(b"apiVersion: v1\nkind: Secret\nresources: []\n", &[]).map(|_| ());
    assert!(
        other
            .expect_err("it is another")
            .contains("no EncryptionConfiguration")
    );
}

#[test]
fn what_is_sealed_is_not_taken_for_an_object() {
    let sealed = Bytes::from_static(b"k8s:enc:aesgcm:v1:k:xxxx");
    let why = "identity transformer tried to read encrypted data";
    assert_eq!(plain(sealed.clone()).expect_err("sealed"), why);
    let encryption = secrets(&[provider("aesgcm", "k", 32, 7)]);
    let elsewhere = b"/registry/configmaps/default/one";
    assert_eq!(encryption.open(elsewhere, sealed).expect_err("sealed"), why);
}
