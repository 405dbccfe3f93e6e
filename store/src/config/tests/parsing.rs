//! Go's flag syntax, number and duration texts, and who wins over whom.

use std::time::Duration;

use super::{bootstrap, read, refusal, run};
use crate::config::{
    Config, InitialClusterState, Kind, LogFormat, LogLevel, LogOutput, Notice, Parsed, Url, parse,
    value::{Value, parse_duration},
};

#[test]
fn without_arguments_it_is_one_member_at_etcds_defaults() {
    let config = run(&[]);
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir.to_str(), Some("default.etcd"));
    assert_eq!(config.wal_dir, None);
    assert_eq!(urls(&config.listen_client_urls), "http://localhost:2379");
    assert_eq!(urls(&config.listen_peer_urls), "http://localhost:2380");
    assert_eq!(config.advertise_client_urls, ["http://localhost:2379"]);
    assert_eq!(
        config.initial_advertise_peer_urls,
        ["http://localhost:2380"]
    );
    assert_eq!(bootstrap(&config).cluster.len(), 1);
    assert_eq!(
        bootstrap(&config).cluster["default"],
        ["http://localhost:2380"]
    );
    assert_eq!(config.initial_cluster_state, InitialClusterState::New);
    assert_eq!(config.heartbeat_interval, Duration::from_millis(100));
    assert_eq!(config.election_timeout, Duration::from_secs(1));
    assert_eq!(config.quota_backend_bytes, Some(2 * 1024 * 1024 * 1024));
    assert_eq!(
        (config.max_request_bytes, config.max_txn_ops),
        (1_572_864, 128)
    );
    assert_eq!(
        (config.log.level, config.log.format),
        (LogLevel::Info, LogFormat::Auto)
    );
    assert_eq!(config.log.outputs, [LogOutput::Stderr]);
}

#[test]
fn the_data_directory_follows_the_name() {
    let config = run(&["--name=m1"]);
    assert_eq!(config.data_dir.to_str(), Some("m1.etcd"));
    assert_eq!(bootstrap(&config).cluster["m1"], ["http://localhost:2380"]);
    assert_eq!(
        run(&["--name", "m1", "--data-dir", "/d", "--wal-dir", "/w"]).wal_dir,
        Some("/w".into())
    );
}

#[test]
fn one_dash_or_two_with_or_without_an_equals_sign() {
    for arguments in [
        &["-name", "x"][..],
        &["--name", "x"],
        &["-name=x"],
        &["--name=x"],
        &["--name=y", "--name=x"],
        &["--name=x", "--"],
        &["--pre-vote", "--name=x"],
        &["--pre-vote=T", "-strict-reconfig-check=0", "--name=x"],
        &["-v", "-vv", "--snapshot", "--name=x"],
    ] {
        assert_eq!(run(arguments).name, "x", "{arguments:?}");
    }
    assert_eq!(run(&["--name=a=b"]).name, "a=b");
    assert_eq!(run(&["--name", "-x"]).name, "-x");
}

#[test]
fn command_lines_that_are_not_understood() {
    for (arguments, text, code) in [
        (
            &["--nosuch"][..],
            "flag provided but not defined: -nosuch",
            2,
        ),
        (&["--name"], "flag needs an argument: -name", 2),
        (
            &["--pre-vote=maybe"],
            r#"invalid boolean value "maybe" for -pre-vote: parse error"#,
            2,
        ),
        (
            &["--heartbeat-interval", "abc"],
            r#"invalid value "abc" for flag -heartbeat-interval: parse error"#,
            2,
        ),
        (
            &["--heartbeat-interval=-1"],
            r#"invalid value "-1" for flag -heartbeat-interval: parse error"#,
            2,
        ),
        (
            &["--quota-backend-bytes", "0x10z"],
            r#"invalid value "0x10z" for flag -quota-backend-bytes: parse error"#,
            2,
        ),
        (
            &["--backend-batch-interval", "5"],
            r#"invalid value "5" for flag -backend-batch-interval: parse error"#,
            2,
        ),
        (
            &["--max-concurrent-streams", "99999999999"],
            r#"invalid value "99999999999" for flag -max-concurrent-streams: strconv.ParseUint: parsing "99999999999": value out of range"#,
            2,
        ),
        (
            &["--initial-cluster-state=foo"],
            r#"invalid value "foo" for flag -initial-cluster-state: invalid value"#,
            2,
        ),
        (
            &["--v2-deprecation=gone,not-yet"],
            r#"invalid value "gone,not-yet" for flag -v2-deprecation: invalid value "not-yet""#,
            2,
        ),
        (&["---x"], "bad flag syntax: ---x", 2),
        (&["--=x"], "bad flag syntax: --=x", 2),
        (&["-=x"], "bad flag syntax: -=x", 2),
        (&["extra"], r#""extra" is not a valid flag"#, 1),
        (&["-"], r#""-" is not a valid flag"#, 1),
        (&["--", "--name=x"], r#""--name=x" is not a valid flag"#, 1),
        (
            &["--feature-gates=Foo=true"],
            r#"invalid value "Foo=true" for flag -feature-gates: unrecognized feature gate: Foo"#,
            2,
        ),
        (
            &["--feature-gates=AllAlpha"],
            r#"invalid value "AllAlpha" for flag -feature-gates: missing bool value for AllAlpha"#,
            2,
        ),
        (
            &["--feature-gates=AllAlpha=x"],
            r#"invalid value "AllAlpha=x" for flag -feature-gates: invalid value of AllAlpha=x, err: strconv.ParseBool: parsing "x": invalid syntax"#,
            2,
        ),
    ] {
        assert_eq!(
            refusal(arguments, &[]),
            (text.to_owned(), code),
            "{arguments:?}"
        );
    }
}

#[test]
fn version_and_help_are_printed() {
    let print = |arguments: &[&str]| match parse(arguments.iter().map(Into::into), []) {
        Ok(Parsed::Print(text)) => text,
        other => panic!("{arguments:?} gives {other:?}"),
    };
    for flag in ["--version", "-version", "--version=true"] {
        let text = print(&[flag]);
        assert_eq!(text.lines().next(), Some("etcd Version: 3.7.3"));
        assert!(
            text.lines()
                .any(|line| line.starts_with("Mizzen Version: ")),
            "{text}"
        );
    }
    for flag in ["-h", "--h", "-help", "--help"] {
        let text = print(&[flag]);
        for name in ["--name 'default'", "--cert-file", "--snapshot-count"] {
            assert!(text.contains(name), "{flag} does not mention {name}");
        }
    }
    assert_eq!(
        refusal(&["--version", "x"], &[]).0,
        r#""x" is not a valid flag"#
    );
}

#[test]
fn the_environment_fills_in_what_the_command_line_leaves_open() {
    let environment = [
        ("ETCD_NAME", "e"),
        ("ETCD_ELECTION_TIMEOUT", "2000"),
        ("ETCD_DATA_DIR", ""),
        ("OTHER", "x"),
    ];
    let config = read(&["--heartbeat-interval=200"], &environment).expect("valid");
    assert_eq!(config.name, "e");
    assert_eq!(
        (
            config.heartbeat_interval.as_millis(),
            config.election_timeout.as_millis()
        ),
        (200, 2000)
    );
    assert_eq!(config.data_dir.to_str(), Some("e.etcd"));
    assert!(
        config.notices.contains(&Notice::FromEnvironment {
            name: "ETCD_NAME".into(),
            value: "e".into()
        }),
        "{:?}",
        config.notices
    );
    // As in etcd, an empty variable is as good as none, but is remarked on.
    assert!(
        config
            .notices
            .contains(&Notice::UnknownVariable("ETCD_DATA_DIR=".into())),
        "{:?}",
        config.notices
    );
}

#[test]
fn environments_that_etcd_refuses() {
    let shadowed = "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag)): ETCD_NAME";
    assert_eq!(
        refusal(&["--name=x"], &[("ETCD_NAME", "y")]),
        (shadowed.into(), 1)
    );
    assert_eq!(
        refusal(&["--name=x"], &[("ETCD_NAME", "")]),
        (shadowed.into(), 1)
    );
    let invalid = r#"invalid value "foo" for ETCD_HEARTBEAT_INTERVAL: parse error"#;
    assert_eq!(
        refusal(&[], &[("ETCD_HEARTBEAT_INTERVAL", "foo")]),
        (invalid.into(), 1)
    );
}

#[test]
fn odd_variables_are_remarked_on() {
    let config = read(
        &["--name=x"],
        &[("ETCD_VERSION", "3"), ("ETCD_FOO", "1"), ("ETCD_V", "1")],
    )
    .expect("valid");
    let expected = [
        Notice::SpecialVariable {
            key: "ETCD_VERSION",
            value: "3".into(),
        },
        Notice::FromEnvironment {
            name: "ETCD_V".into(),
            value: "1".into(),
        },
        Notice::UnknownVariable("ETCD_FOO=1".into()),
    ];
    assert_eq!(config.notices[..3], expected);
}

#[test]
fn what_has_no_effect_is_said_once() {
    let said = |config: &Config| -> Vec<&'static str> {
        config
            .notices
            .iter()
            .filter_map(|notice| {
                if let Notice::NoEffect { flag, .. } = notice {
                    Some(*flag)
                } else {
                    None
                }
            })
            .collect()
    };
    let config = run(&[
        "--name=x",
        "--backend-batch-limit=100",
        "--backend-batch-limit=200",
        "--max-wals=5",
        "--pre-vote=false",
        "-vv",
    ]);
    assert_eq!(said(&config), ["backend-batch-limit", "pre-vote", "vv"]);
    let config = run(&["--name=x", "--max-snapshots=5", "--v2-deprecation=gone"]);
    assert_eq!(
        config
            .notices
            .iter()
            .filter(|notice| matches!(notice, Notice::Deprecated(_)))
            .count(),
        2
    );
    let config = run(&[
        "--name=x",
        "--feature-gates=AllBeta=false,FastLeaseKeepAlive=true",
    ]);
    assert!(
        matches!(
            config.notices[..],
            [
                Notice::GateWithoutEffect {
                    gate: "TxnModeWriteWithSharedBuffer",
                    ..
                },
                Notice::OpenPeerPort,
                Notice::DefaultDataDir { .. }
            ]
        ),
        "{:?}",
        config.notices
    );
}

#[test]
fn numbers_and_durations_are_written_as_in_go() {
    for (kind, text, value) in [
        (Kind::Uint, "0x1F", Some(Value::Uint(31))),
        (Kind::Uint, "0b11", Some(Value::Uint(3))),
        (Kind::Uint, "0o17", Some(Value::Uint(15))),
        (Kind::Uint, "017", Some(Value::Uint(15))),
        (Kind::Uint, "0", Some(Value::Uint(0))),
        (
            Kind::Uint,
            "18446744073709551615",
            Some(Value::Uint(u64::MAX)),
        ),
        (Kind::Uint, "18446744073709551616", None),
        (Kind::Uint, "", None),
        (Kind::Uint, "+1", None),
        (Kind::Uint, "0x", None),
        (Kind::Uint, "0x+1", None),
        (Kind::Uint, "09", None),
        (Kind::Uint, "é", None),
        (Kind::Uint, "0é", None),
        (Kind::Uint32, "4294967296", None),
        (
            Kind::Int,
            "-9223372036854775808",
            Some(Value::Int(i64::MIN)),
        ),
        (Kind::Int, "9223372036854775808", None),
        (Kind::Int, "--1", None),
        (Kind::Bool, "TRUE", Some(Value::Bool(true))),
        (Kind::Bool, "yes", None),
    ] {
        assert_eq!(kind.parse(text).ok(), value, "{kind:?} {text:?}");
    }
    for (text, nanoseconds) in [
        ("0", Some(0)),
        ("1h30m", Some(5_400_000_000_000)),
        ("-1.5s", Some(-1_500_000_000)),
        ("100ms", Some(100_000_000)),
        (".5us", Some(500)),
        ("1.µs", Some(1_000)),
        ("2562047h47m16.854775807s", Some(i64::MAX)),
        ("2562047h47m16.854775808s", None),
        ("99999999999999999999h", None),
        ("0.0000000000000000000001h", Some(0)),
        ("5", None),
        ("", None),
        ("-", None),
        (".s", None),
        ("1.2.3s", None),
        ("1d", None),
        ("s", None),
        ("1é", None),
    ] {
        assert_eq!(parse_duration(text), nanoseconds, "{text:?}");
    }
}

#[test]
fn limits_and_quotas() {
    assert_eq!(run(&["--quota-backend-bytes=-1"]).quota_backend_bytes, None);
    assert_eq!(
        run(&["--quota-backend-bytes=53248"]).quota_backend_bytes,
        Some(53_248)
    );
    assert_eq!(
        run(&["--max-concurrent-streams=7"]).max_concurrent_streams,
        7
    );
    assert_eq!(
        run(&[]).max_concurrent_streams,
        crate::limits::STREAMS_PER_CONNECTION
    );
}

#[test]
fn urls_are_sorted_printed_and_taken_apart() {
    let config = run(&[
        "--listen-client-urls",
        " HTTP://[::1]:2,http://127.0.0.1:1,http://127.0.0.1:1",
        "--advertise-client-urls=http://x:1",
    ]);
    assert_eq!(
        urls(&config.listen_client_urls),
        "http://127.0.0.1:1 http://[::1]:2"
    );
    let parts = |text: &str| {
        let url = Url::parse(text).unwrap_or_else(|reason| panic!("{text}: {reason}"));
        (
            url.host().to_owned(),
            url.port(),
            url.host_and_port().to_owned(),
        )
    };
    assert_eq!(
        parts("http://[fe80::1%25eth0]:80"),
        ("fe80::1%eth0".into(), Some(80), "[fe80::1%eth0]:80".into())
    );
    assert_eq!(
        parts("http://a_b:1"),
        ("a_b".into(), Some(1), "a_b:1".into())
    );
    assert_eq!(
        parts("unix:///run/e%25"),
        (String::new(), None, "/run/e%25".into())
    );
    // An empty list leaves the default.
    assert_eq!(
        urls(&run(&["--listen-peer-urls", ""]).listen_peer_urls),
        "http://localhost:2380"
    );
}

#[test]
fn where_the_log_goes() {
    let log = |arguments: &[&str]| run(arguments).log;
    assert_eq!(
        log(&["--log-outputs=stdout,/tmp/x,stderr"]).outputs,
        [
            LogOutput::File("/tmp/x".into()),
            LogOutput::Stderr,
            LogOutput::Stdout
        ]
    );
    assert_eq!(
        log(&["--log-outputs=stdout,/dev/null"]).outputs,
        [LogOutput::File("/dev/null".into())]
    );
    assert_eq!(
        log(&["--log-format=json", "--log-level=DEBUG"]).format,
        LogFormat::Json
    );
    assert_eq!(
        log(&["--log-format=console", "--log-level", ""]).level,
        LogLevel::Info
    );
}

fn urls(urls: &[Url]) -> String {
    urls.iter().map(Url::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn names_of_flags_up_to_3_6_hold_with_a_warning() {
    let hour = Some(Duration::from_secs(3_600));
    let config = run(&[
        "--experimental-initial-corrupt-check",
        "--experimental-corrupt-check-time=1s",
        "--experimental-corrupt-check-time",
        "1h",
    ]);
    assert!(config.initial_corrupt_check);
    assert_eq!(config.corrupt_check_interval, hour);
    let renamed = config.notices.iter();
    let renamed = renamed.filter(|notice| matches!(notice, Notice::Renamed { .. }));
    assert_eq!(renamed.count(), 2);
    let variables = [
        ("ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME", "1h"),
        ("ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK", "false"),
    ];
    let config = read(&[], &variables).expect("accepted");
    assert_eq!(config.corrupt_check_interval, hour);
    assert!(!config.initial_corrupt_check);
    let unknown = config.notices.iter();
    let unknown = unknown.filter(|notice| matches!(notice, Notice::UnknownVariable(_)));
    assert_eq!(unknown.count(), 0);
    for (arguments, text) in [
        (
            &[
                "--corrupt-check-time=1s",
                "--experimental-corrupt-check-time=1s",
            ][..],
            "cannot specify both flags: --experimental-corrupt-check-time and --corrupt-check-time, please just use --corrupt-check-time",
        ),
        (
            &["--experimental-corrupt-check-time=x"],
            "invalid value \"x\" for flag -experimental-corrupt-check-time: parse error",
        ),
        (
            &["--experimental-nothing=x"],
            "flag provided but not defined: -experimental-nothing",
        ),
        (
            &["--experimental-enable-distributed-tracing=true"],
            "--enable-distributed-tracing is not supported: distributed tracing is not implemented",
        ),
    ] {
        assert_eq!(refusal(arguments, &[]).0, text);
    }
}

#[test]
fn addresses_for_http_alone_are_others() {
    let listen = "--listen-client-urls=http://127.0.0.1:2379";
    let advertise = "--advertise-client-urls=http://127.0.0.1:2379";
    let http = |url: &str| format!("--listen-client-http-urls={url}");
    let config = run(&[listen, advertise, &http("http://127.0.0.1:2378")]);
    assert_eq!(config.listen_client_http_urls.len(), 1);
    let same = http("https://127.0.0.1:2379");
    let tls = ["--cert-file=c", "--key-file=k"];
    let refused = refusal(&[listen, advertise, &same, tls[0], tls[1]], &[]);
    let text = "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url https://127.0.0.1:2379";
    assert_eq!(refused.0, text);
}
