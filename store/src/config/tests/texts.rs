//! Texts operators and tools look for, as etcd 3.7.3 printed them.

use std::{num::NonZeroU64, time::Duration};

use super::{bootstrap, read, refusal, run};
use crate::config::{AutoCompaction, Config, Notice, Url, peers::advertised_match};

#[test]
fn urls_that_are_none() {
    for (url, reason) in [
        (
            "127.0.0.1:2379",
            r#"parse "127.0.0.1:2379": first path segment in URL cannot contain colon"#,
        ),
        (
            "localhost:2379",
            "URL scheme must be http, https, unix, or unixs: localhost:2379",
        ),
        (
            "ftp://a:1",
            "URL scheme must be http, https, unix, or unixs: ftp://a:1",
        ),
        ("/x", "URL scheme must be http, https, unix, or unixs: /x"),
        (
            "http://a:1,",
            "URL scheme must be http, https, unix, or unixs: ",
        ),
        (
            "http://a b:1",
            r#"parse "http://a b:1": invalid character " " in host name"#,
        ),
        (
            "http://a:x",
            r#"parse "http://a:x": invalid port ":x" after host"#,
        ),
        (
            "http://:x",
            r#"parse "http://:x": invalid port ":x" after host"#,
        ),
        (
            "http://::1:1",
            r#"parse "http://::1:1": invalid port "::1:1" after host"#,
        ),
        (
            "http://[::1]:1x",
            r#"parse "http://[::1]:1x": invalid port ":1x" after host"#,
        ),
        (
            "http://[::1:1",
            r#"parse "http://[::1:1": missing ']' in host"#,
        ),
        (":1", r#"parse ":1": missing protocol scheme"#),
        (
            "http://localhost",
            r#"URL address does not have the form "host:port": http://localhost"#,
        ),
        (
            "http:a:1",
            r#"URL address does not have the form "host:port": http:a:1"#,
        ),
        (
            "http://localhost:1/x",
            "URL must not contain a path: http://localhost:1/x",
        ),
        (
            "http://localhost:1/",
            "URL must not contain a path: http://localhost:1/",
        ),
        // Refused here at once, by etcd only when it listens or connects.
        (
            "http://a:",
            r#"URL address does not have the form "host:port": http://a:"#,
        ),
        (
            "http://a:99999",
            r#"parse "http://a:99999": invalid port ":99999" after host"#,
        ),
        (
            "http://a:1?x=y",
            "URL must not contain a query or a fragment: http://a:1?x=y",
        ),
    ] {
        let text = format!("invalid value {url:?} for flag -listen-client-urls: {reason}");
        assert_eq!(
            refusal(&["--listen-client-urls", url], &[]),
            (text, 2),
            "{url}"
        );
    }
}

#[test]
fn discovery_is_asked_for_whole_and_alone() {
    let cluster = "--initial-cluster=default=http://localhost:2380";
    let both = "both --discovery-token and --discovery-endpoints must be set";
    let one = r#"multiple discovery or bootstrap flags are set. Choose one of "initial-cluster", "discovery-endpoints" or "discovery-srv""#;
    let (token, endpoints) = ("--discovery-token=t", "--discovery-endpoints=a:1");
    for (arguments, text) in [
        (&[endpoints][..], both),
        (&[token], both),
        (&[token, endpoints, cluster], one),
    ] {
        assert_eq!(
            refusal(arguments, &[]),
            (text.to_owned(), 1),
            "{arguments:?}"
        );
    }
    let config = read(&[token, endpoints], &[]).expect("valid");
    let found = config.first_start.discovery().expect("a first member");
    let (discovery, _, alone) = found.expect("discovery");
    assert_eq!(discovery.endpoints, ["http://a:1"]);
    assert_eq!(alone, "default=http://localhost:2380");
}

#[test]
fn configurations_etcd_does_not_run() {
    let long = "--initial-cluster=x=http://a:1,y=http://a:1";
    for (arguments, text) in [
        (
            &["--heartbeat-interval=0"][..],
            "--heartbeat-interval must be >0 (set to 0ms)",
        ),
        (
            &["--election-timeout=0"],
            "--election-timeout must be >0 (set to 0ms)",
        ),
        (
            &["--heartbeat-interval=300"],
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[300ms]",
        ),
        (
            &["--election-timeout=60000"],
            "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
        ),
        (
            &["--heartbeat-interval=18446744073709551615"],
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[18446744073709551615ms]",
        ),
        (
            &[
                "--listen-client-urls=http://foo.bar:1",
                "--advertise-client-urls=http://localhost:1",
            ],
            "expected IP in URL for binding (http://foo.bar:1)",
        ),
        (
            &["--listen-peer-urls=http://:2380"],
            "expected IP in URL for binding (http://:2380)",
        ),
        (
            &["--listen-metrics-urls=http://localhost.x:2381"],
            "expected IP in URL for binding (http://localhost.x:2381)",
        ),
        (
            &["--listen-client-urls=http://localhost:1"],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            &["--advertise-client-urls=http://:1"],
            r#"--advertise-client-urls "http://:1" must be in the format "host:port", "unix:/path/to/socket" or "unixs:/path/to/socket" (unexpected empty host (http://:1))"#,
        ),
        (
            &["--initial-advertise-peer-urls=http://:1"],
            r#"--initial-advertise-peer-urls "http://:1" must be "host:port" (unexpected empty host (http://:1))"#,
        ),
        (&["--logger=x"], r#"unknown logger option "x""#),
        (
            &["--logger=capnslog"],
            "--logger=capnslog is removed in v3.5",
        ),
        (&["--log-level=foo"], r#"unrecognized level: "foo""#),
        (
            &["--log-format=foo"],
            "unknown log format: foo, supported values json, console",
        ),
        (
            &["--log-outputs=default,stderr"],
            r#"multi logoutput for "default" is not supported yet"#,
        ),
        (
            &["--auto-compaction-mode=x"],
            r#"unknown auto-compaction-mode "x""#,
        ),
        (
            &["--auto-compaction-mode="],
            "undefined auto-compaction-mode",
        ),
        (
            &["--discovery-fallback=proxy"],
            r#"v2 proxy is deprecated, and --discovery-fallback can't be configured as "proxy""#,
        ),
        (
            &["--initial-cluster=a=http://a:1"],
            r#"couldn't find local name "default" in the initial cluster configuration"#,
        ),
        (
            &["--initial-cluster=default"],
            "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ",
        ),
        (
            &["--name="],
            r#"couldn't find local name "" in the initial cluster configuration"#,
        ),
        (
            &["--name=x", long, "--initial-advertise-peer-urls=http://a:1"],
            "initial cluster x=http://a:1,y=http://a:1 has duplicate url",
        ),
    ] {
        assert_eq!(
            refusal(arguments, &[]),
            (text.to_owned(), 1),
            "{arguments:?}"
        );
    }
}

#[test]
fn an_initial_cluster_that_lists_other_urls_is_refused() {
    let two = "--initial-cluster=x=http://127.0.0.1:1,x=http://127.0.0.1:2";
    for (arguments, text) in [
        (
            &[
                "--name=x",
                two,
                "--initial-advertise-peer-urls=http://127.0.0.1:1",
            ][..],
            r#"--initial-cluster has x=http://127.0.0.1:2 but missing from --initial-advertise-peer-urls=http://127.0.0.1:1 (len(["http://127.0.0.1:1"]) != len(["http://127.0.0.1:1" "http://127.0.0.1:2"]))"#,
        ),
        (
            &[
                "--name=x",
                "--initial-cluster=x=http://127.0.0.1:1",
                "--initial-advertise-peer-urls=http://127.0.0.1:1,http://127.0.0.1:2",
            ],
            "--initial-advertise-peer-urls has http://127.0.0.1:2 but missing from --initial-cluster=x=http://127.0.0.1:1,x=http://127.0.0.1:2",
        ),
        (
            &[
                "--name=x",
                "--initial-advertise-peer-urls=http://127.0.0.1:1",
                "--initial-cluster=x=http://127.0.0.1:2",
            ],
            r#"--initial-cluster has x=http://127.0.0.1:2 but missing from --initial-advertise-peer-urls=http://127.0.0.1:1 (resolved urls: "http://127.0.0.1:1" != "http://127.0.0.1:2")"#,
        ),
        // A member without a name of its own stands at the default URL.
        (
            &["--initial-advertise-peer-urls=http://127.0.0.1:1"],
            r#"--initial-cluster has default=http://localhost:2380 but missing from --initial-advertise-peer-urls=http://127.0.0.1:1 (resolved urls: "http://127.0.0.1:1" != "http://localhost:2380"); forgot to set --initial-cluster?"#,
        ),
    ] {
        assert_eq!(
            refusal(arguments, &[]),
            (text.to_owned(), 1),
            "{arguments:?}"
        );
    }
    // Joining, the running cluster decides.
    let joined = run(&[
        "--name=x",
        two,
        "--initial-advertise-peer-urls=http://127.0.0.1:1",
        "--initial-cluster-state=existing",
    ]);
    assert_eq!(bootstrap(&joined).cluster["x"].len(), 2);
}

#[test]
fn names_that_resolve_to_the_listed_addresses_match() {
    let url = |text: &str| vec![Url::parse(text).expect("valid")];
    let resolve = |address: &str| match address {
        "m0.example:1" | "10.0.0.1:1" => Ok("10.0.0.1:1".to_owned()),
        other => Err(format!("failed to resolve {other:?} (unknown)")),
    };
    assert_eq!(
        advertised_match(
            "x",
            &url("http://m0.example:1"),
            &url("http://10.0.0.1:1"),
            resolve
        ),
        Ok(())
    );
    assert_eq!(
        advertised_match("x", &url("http://[::1]:1"), &url("http://[::1]:1"), resolve),
        Ok(())
    );
    let error = advertised_match(
        "x",
        &url("http://m1.example:1"),
        &url("http://10.0.0.1:1"),
        resolve,
    )
    .expect_err("unknown");
    assert!(
        error.ends_with(r#"(failed to resolve "m1.example:1" (unknown))"#),
        "{error}"
    );
}

#[test]
fn what_is_not_implemented_is_refused_by_name_and_origin() {
    for (arguments, environment, text) in [
        (
            &["--memory-mlock"][..],
            &[][..],
            "--memory-mlock is not supported: locking memory is not implemented",
        ),
        (
            &[],
            &[("ETCD_SOCKET_REUSE_PORT", "true")],
            "--socket-reuse-port (set by ETCD_SOCKET_REUSE_PORT) is not supported: SO_REUSEPORT is not implemented",
        ),
        (
            &["--memory-mlock", "--socket-reuse-port"],
            &[],
            "--memory-mlock is not supported: locking memory is not implemented; --socket-reuse-port is not supported: SO_REUSEPORT is not implemented",
        ),
        (
            &["--feature-gates=CompactHashCheck=true"],
            &[],
            "feature gate CompactHashCheck=true is not supported: members do not compare hashes after compactions yet",
        ),
    ] {
        assert_eq!(
            refusal(arguments, environment),
            (text.to_owned(), 1),
            "{arguments:?} {environment:?}"
        );
    }
    // At their defaults the same flags are fine.
    run(&[
        "--cert-file=",
        "--auth-token=simple",
        "--cors=",
        "--host-whitelist=*",
        "--memory-mlock=false",
        "--grpc-keepalive-interval=2h",
        "--feature-gates=AllAlpha=false",
    ]);
}

#[test]
fn what_is_kept_of_the_past() {
    let hours = |hours: u64| Some(AutoCompaction::Periodic(Duration::from_secs(hours * 3_600)));
    let revisions = |of: u64| NonZeroU64::new(of).map(AutoCompaction::Revision);
    for (arguments, expected) in [
        (&[][..], None),
        (&["--auto-compaction-retention="], None),
        (&["--auto-compaction-retention=0"], None),
        (&["--auto-compaction-retention=0s"], None),
        (&["--auto-compaction-retention=8"], hours(8)),
        (
            &["--auto-compaction-retention=90m"],
            Some(AutoCompaction::Periodic(Duration::from_secs(5_400))),
        ),
        (&["--auto-compaction-mode=revision"], None),
        (
            &[
                "--auto-compaction-mode=revision",
                "--auto-compaction-retention=1000",
            ],
            revisions(1_000),
        ),
        (
            &[
                "--auto-compaction-mode=revision",
                "--auto-compaction-retention=1us",
            ],
            revisions(1_000),
        ),
    ] {
        assert_eq!(run(arguments).auto_compaction, expected, "{arguments:?}");
    }
    for (given, why) in [
        ("x", r#"time: invalid duration "x""#),
        ("-1", r#"time: missing unit in duration "-1""#),
        ("1h5", r#"time: missing unit in duration "1h5""#),
        ("-1h", "-1h is negative"),
    ] {
        let refused = refusal(&[&format!("--auto-compaction-retention={given}")], &[]);
        let text = format!("error parsing CompactionRetention: {why}");
        assert_eq!(refused, (text, 1), "{given}");
    }
}

#[test]
fn tls_that_cannot_be() {
    for (arguments, text) in [
        (
            &["--listen-peer-urls=https://127.0.0.1:1"][..],
            "cannot listen on TLS for 127.0.0.1:1: KeyFile and CertFile are not presented",
        ),
        (
            &[
                "--listen-client-urls=https://127.0.0.1:1",
                "--advertise-client-urls=https://127.0.0.1:1",
            ],
            "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 with HTTPS scheme",
        ),
        (
            &["--listen-metrics-urls=https://127.0.0.1:1"],
            "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url",
        ),
        (
            &["--cert-file=x"],
            "KeyFile and CertFile must both be present[key: , cert: x]",
        ),
        (
            &["--peer-client-key-file=x"],
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: x, cert: ]",
        ),
        (
            &["--tls-min-version=TLS1.1"],
            r#"unexpected TLS version "TLS1.1" (must be one of: TLS1.2, TLS1.3)"#,
        ),
        (
            &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            &["--tls-min-version=TLS1.3", "--cipher-suites=x"],
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (
            &["--peer-cert-allowed-cn=a", "--peer-cert-allowed-hostname=b"],
            r#"AllowedCNs and AllowedHostnames are mutually exclusive (cns=["a"], hostnames=["b"])"#,
        ),
        (
            &["--auto-tls", "--self-signed-cert-validity=0"],
            "selfSignedCertValidity is invalid,it should be greater than 0",
        ),
        (
            &["--peer-auto-tls", "--peer-client-cert-auth"],
            "--peer-auto-tls cannot be used with --peer-client-cert-auth or --peer-trusted-ca-file: \
             no authority signs the certificates it makes, so no peer would be let in",
        ),
    ] {
        assert_eq!(
            refusal(arguments, &[]),
            (text.to_owned(), 1),
            "{arguments:?}"
        );
    }
}

#[test]
fn ports_without_certificates_are_told_of() {
    let open = |config: &Config| config.notices.contains(&Notice::OpenPeerPort);
    assert!(open(&run(&[])));
    let secure = [
        "--listen-peer-urls=https://127.0.0.1:1",
        "--initial-advertise-peer-urls=https://127.0.0.1:1",
        "--initial-cluster=default=https://127.0.0.1:1",
        "--peer-cert-file=c",
        "--peer-key-file=k",
    ];
    assert!(
        open(&run(&secure)),
        "a certificate of its own asks for none"
    );
    let mutual = [&secure[..], &["--peer-trusted-ca-file=a"]].concat();
    let mutual = run(&mutual);
    assert!(!open(&mutual));
    assert!(mutual.peer_tls.requires_client_certificate());

    let unix = run(&[
        "--listen-client-urls=unix:///run/x,http://127.0.0.1:1",
        "--advertise-client-urls=unix:///run/x",
        "--cert-file=c",
        "--key-file=k",
        "--auto-tls",
    ]);
    let plain = |notice: &&Notice| matches!(notice, Notice::PlainUrl { kind: "client", .. });
    assert_eq!(unix.notices.iter().filter(plain).count(), 2);
    let ignored = Notice::Ignored("ignoring client auto TLS since certs given");
    assert!(unix.notices.contains(&ignored));
    assert_eq!(unix.client_tls.auto, None);
}
