//! The JSON gateway beside etcd's: every call, and whatever is malformed, is
//! answered with the same codes, the same headers and the same JSON.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::pages::{self, Page};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

type Call = (&'static str, String);

/// "patroni/", the end of its range, and "patroni/leader".
const PREFIX: (&str, &str) = ("cGF0cm9uaS8=", "cGF0cm9uaTA=");
const LEADER: &str = "cGF0cm9uaS9sZWFkZXI=";

fn call(path: &'static str, body: Value) -> Call {
    (path, body.to_string())
}

/// What Patroni asks, in the order in which it does.
fn keys() -> Vec<Call> {
    let (key, range_end) = PREFIX;
    let create = json!({
        "compare": [{"target": "CREATE", "result": "EQUAL", "key": LEADER, "create_revision": "0"}],
        "success": [{"request_put": {"key": LEADER, "value": "bm9kZTE=", "lease": "5"}}],
        "failure": [],
    });
    let exchange = json!({
        "compare": [{"target": "MOD", "result": "EQUAL", "key": LEADER, "mod_revision": "1"}],
        "success": [{"requestPut": {"key": LEADER, "value": "bm9kZTI="}}],
        "failure": [{"requestRange": {"key": LEADER}}, {"requestTxn": {}}],
    });
    let prefix = json!({"key": key, "range_end": range_end});
    let with = |more: Value| {
        let mut body = prefix.clone();
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        body
    };
    vec![
        call("/v3/cluster/member/list", json!({})),
        call("/v3/kv/range", prefix.clone()),
        call("/v3/lease/grant", json!({"TTL": 60, "ID": "5"})),
        call("/v3/lease/grant", json!({"TTL": 60, "ID": "5"})),
        call("/v3/lease/grant", json!({"TTL": "9000000001"})),
        call("/v3/kv/txn", create.clone()),
        call("/v3/kv/txn", create),
        call("/v3/kv/txn", exchange),
        call(
            "/v3/kv/txn",
            json!({"success": [{"requestPut": {"key": LEADER}}, {"requestPut": {"key": LEADER}}]}),
        ),
        call("/v3/kv/txn", json!({"success": [{}]})),
        call(
            "/v3/kv/put",
            json!({"key": "cGF0cm9uaS9hYQ", "value": "", "prev_kv": true}),
        ),
        call(
            "/v3/kv/put",
            json!({"key": "cGF0cm9uaS9hYQ==", "value": "_-8=", "prevKv": true}),
        ),
        call(
            "/v3/kv/put",
            json!({"key": "YQ==", "value": "YQ==", "lease": 77}),
        ),
        call(
            "/v3/kv/put",
            json!({"key": "YQ==", "value": "YQ==", "ignore_value": true}),
        ),
        call("/v3/kv/put", json!({"key": ""})),
        call("/v3/kv/range", with(json!({"serializable": true}))),
        call(
            "/v3/kv/range",
            with(json!({"sort_order": "DESCEND", "sort_target": 1, "limit": 1})),
        ),
        call("/v3/kv/range", with(json!({"sort_order": 17}))),
        call("/v3/kv/range", with(json!({"sort_order": "SIDEWAYS"}))),
        call("/v3/kv/range", with(json!({"count_only": true}))),
        call(
            "/v3/kv/range",
            with(json!({"keys_only": true, "min_mod_revision": 3})),
        ),
        call("/v3/kv/range", json!({"key": LEADER, "revision": "99"})),
        call(
            "/v3beta/kv/range",
            json!({"key": LEADER, "nobody": {"knows": []}}),
        ),
        call("/v3/lease/keepalive", json!({"ID": "5"})),
        call("/v3/lease/keepalive", json!({"ID": "6"})),
        (
            "/v3/lease/keepalive",
            "{\"ID\":5}\n{\"ID\":6} {\"ID\":\"5\"}".to_owned(),
        ),
        call("/v3/lease/timetolive", json!({"ID": 5, "keys": true})),
        call("/v3/kv/lease/timetolive", json!({"ID": 6, "keys": true})),
        ("/v3/lease/leases", String::new()),
        ("/v3/kv/lease/leases", String::new()),
        call("/v3/lease/revoke", json!({"ID": "6"})),
        call("/v3/kv/deleterange", with(json!({"prev_kv": true}))),
        call("/v3/kv/lease/revoke", json!({"ID": "5"})),
        call("/v3/kv/compaction", json!({"revision": 3})),
        call("/v3/kv/compaction", json!({"revision": 3})),
        call("/v3/kv/compaction", json!({"revision": 999})),
        call("/v3/kv/range", json!({"key": LEADER, "revision": 2})),
    ]
}

/// Of the cluster, its members, locks and elections.
fn others() -> Vec<Call> {
    let first = json!({"name": "ZQ==", "lease": 8, "value": "djE="});
    let key = "ZS84";
    vec![
        call("/v3/maintenance/alarm", json!({"action": "GET"})),
        call(
            "/v3/maintenance/alarm",
            json!({"action": "ACTIVATE", "memberID": "7", "alarm": "NOSPACE"}),
        ),
        call(
            "/v3/maintenance/alarm",
            json!({"action": 2, "memberID": "7", "alarm": 1}),
        ),
        call("/v3/maintenance/status", json!({})),
        call("/v3/maintenance/hash", json!({})),
        call("/v3/maintenance/hashkv", json!({"revision": 0})),
        call("/v3/maintenance/hashkv", json!({"revision": 999})),
        call("/v3/maintenance/defragment", json!({})),
        call(
            "/v3/maintenance/transfer-leadership",
            json!({"targetID": "7"}),
        ),
        call("/v3/cluster/member/add", json!({})),
        call("/v3/cluster/member/add", json!({"peerURLs": ["none"]})),
        call("/v3/cluster/member/remove", json!({"ID": "7"})),
        call(
            "/v3/cluster/member/update",
            json!({"ID": "7", "peerURLs": ["http://127.0.0.1:1"]}),
        ),
        call("/v3/cluster/member/promote", json!({"ID": "7"})),
        call("/v3/lease/grant", json!({"TTL": 600, "ID": "8"})),
        call("/v3/election/campaign", first),
        call("/v3/election/leader", json!({"name": "ZQ=="})),
        call("/v3/election/leader", json!({"name": "Zg=="})),
        call("/v3/election/campaign", json!({"lease": 8})),
        call("/v3/election/proclaim", json!({"value": "djI="})),
        call(
            "/v3/election/resign",
            json!({"leader": {"name": "ZQ==", "key": key, "rev": "1", "lease": "8"}}),
        ),
        call("/v3/lock/lock", json!({"name": "bG9jaw==", "lease": 8})),
        call("/v3/lock/unlock", json!({"key": "bG9jay84"})),
        call("/v3/lock/lock", json!({"name": "bG9jaw==", "lease": 9})),
    ]
}

/// What no call is made of. Of streams only those that etcd answers.
fn malformed() -> Vec<Call> {
    let texts = [
        "",
        " ",
        "{",
        "x",
        "[]",
        "5",
        "null",
        "\"a\"",
        "{\"key\"",
        "{\"key\":}",
        "{\"key\":\"YQ==\"} rubbish",
        "{\"key\":\"!!\"}",
        "{\"key\":5}",
        "{\"key\":{}}",
        "{\"key\":[\"YQ==\"]}",
        "{\"key\":null}",
        "{\"key\":\"YQ==\",\"key\":\"YQ==\"}",
        "{\"key\":\"YQ==\",\"limit\":\"x\"}",
        "{\"key\":\"YQ==\",\"limit\":1.5}",
        "{\"key\":\"YQ==\",\"limit\":1e3}",
        "{\"key\":\"YQ==\",\"limit\":\"1e1\"}",
        "{\"key\":\"YQ==\",\"limit\":99999999999999999999}",
        "{\"key\":\"YQ==\",\"keys_only\":\"true\"}",
        "{\"key\":\"YQ==\",\n  \"é\":1, \"keysOnly\":2}",
        "{\"key\":\"\\udc00\"}",
        "{\"key\":\"\\ud800 12345\"}",
        "{\"key\":\"YQ==\",}",
        "{'key':1}",
        "{\"key\":\"YQ==\" \"limit\":1}",
        "{\"key\":tru}",
        "{\"key\":\"\n\"}",
        "{\"key\":\"YQ==\",\"sort_order\":true}",
        "{\"key\":\"YQ==\",\"sort_order\":\"NONE\"}",
        "{\"key\":\"YQ==\",\"range_end\":\"AA\"}",
        "\u{feff}{}",
    ];
    let mut calls: Vec<_> = texts.map(|text| ("/v3/kv/range", text.to_owned())).into();
    let deep = "{\"success\":[{\"requestTxn\":".repeat(20) + "{}" + &"}]}".repeat(20);
    calls.extend([
        ("/v3/kv/txn", deep),
        (
            "/v3/kv/txn",
            "{\"compare\":[{\"version\":1,\"lease\":1}]}".to_owned(),
        ),
        ("/v3/kv/txn", "{\"compare\":{}}".to_owned()),
        ("/v3/kv/txn", "{\"compare\":[null]}".to_owned()),
        ("/v3/kv/txn", "{\"compare\":[[]]}".to_owned()),
        (
            "/v3/kv/txn",
            "{\"compare\":[{\"target\":\"NOPE\"}]}".to_owned(),
        ),
        ("/v3/kv/nothing", "{}".to_owned()),
        ("/v3/kv/range/", "{}".to_owned()),
        ("/v3/", "{}".to_owned()),
        ("/v3alpha/kv/range", "{}".to_owned()),
        ("/v3/maintenance/snapshot", "[]".to_owned()),
    ]);
    calls
}

/// Who asks, and what below `/v3/auth/`.
fn changes_of_users() -> Vec<(&'static str, &'static str, Value)> {
    let read = json!({"permType": "READ", "key": "YQ==", "range_end": "Yg=="});
    vec![
        (
            "",
            "user/add",
            json!({"name": "root", "password": "secret"}),
        ),
        (
            "",
            "user/add",
            json!({"name": "root", "password": "secret"}),
        ),
        ("", "user/add", json!({"name": "", "password": "secret"})),
        (
            "",
            "user/add",
            json!({"name": "reader", "password": "read"}),
        ),
        (
            "",
            "user/add",
            json!({"name": "none", "options": {"no_password": true}}),
        ),
        ("", "role/add", json!({"name": "root"})),
        ("", "role/add", json!({"name": "reading"})),
        ("", "role/grant", json!({"name": "reading", "perm": read})),
        ("", "role/grant", json!({"name": "nobody", "perm": read})),
        ("", "role/get", json!({"role": "reading"})),
        ("", "role/list", json!({})),
        ("", "user/grant", json!({"user": "root", "role": "root"})),
        (
            "",
            "user/grant",
            json!({"user": "reader", "role": "reading"}),
        ),
        (
            "",
            "user/grant",
            json!({"user": "reader", "role": "nothing"}),
        ),
        ("", "user/get", json!({"name": "reader"})),
        ("", "user/list", json!({})),
        (
            "",
            "user/changepw",
            json!({"name": "reader", "password": "read"}),
        ),
        (
            "",
            "authenticate",
            json!({"name": "root", "password": "secret"}),
        ),
        ("", "enable", json!({})),
        (
            "",
            "authenticate",
            json!({"name": "root", "password": "wrong"}),
        ),
        (
            "",
            "authenticate",
            json!({"name": "root", "password": "secret"}),
        ),
        ("", "status", json!({})),
        ("root", "status", json!({})),
        ("", "user/list", json!({})),
        ("nobody", "user/list", json!({})),
        ("reader", "user/list", json!({})),
        ("root", "user/list", json!({})),
        (
            "root",
            "user/revoke",
            json!({"name": "none", "role": "reading"}),
        ),
        (
            "root",
            "role/revoke",
            json!({"role": "reading", "key": "Yw=="}),
        ),
        ("root", "role/delete", json!({"role": "nothing"})),
        ("root", "user/delete", json!({"name": "none"})),
    ]
}

/// Users, and what they may do. First is who asks.
fn users() -> Vec<(&'static str, &'static str, String)> {
    let keys = [
        ("reader", "/v3/kv/range", json!({"key": "YQ=="})),
        ("reader", "/v3/kv/range", json!({"key": "Yg=="})),
        (
            "reader",
            "/v3/kv/put",
            json!({"key": "YQ==", "value": "YQ=="}),
        ),
        ("nobody", "/v3/kv/range", json!({"key": "YQ=="})),
        ("", "/v3/kv/range", json!({"key": "YQ=="})),
        ("", "/v3/maintenance/snapshot", json!({})),
        ("root", "/v3/auth/disable", json!({})),
    ];
    let auth = |(user, path, body): (_, &str, Value)| {
        let path: &'static str = format!("/v3/auth/{path}").leak();
        (user, path, body.to_string())
    };
    let keys = keys.map(|(user, path, body)| (user, path, body.to_string()));
    let calls = changes_of_users().into_iter().map(auth);
    calls.chain(keys).collect()
}

/// What differs between two clusters, or from one moment to the next.
const OF_THE_CLUSTER: [&str; 20] = [
    "cluster_id",
    "member_id",
    "raft_term",
    "peerURLs",
    "clientURLs",
    "name",
    "TTL",
    "token",
    "hash",
    "dbSize",
    "dbSizeInUse",
    "raftIndex",
    "raftAppliedIndex",
    "raftTerm",
    "leader_id",
    "blob",
    "remaining_bytes",
    "auth_revision",
    "authRevision",
    "hash_revision",
];

fn masked(name: &str, value: &mut Value) {
    // Members' ids are of 64 bits, those of leases here are small.
    let of_a_member =
        matches!(name, "ID" | "leader") && value.as_str().is_some_and(|id| id.len() > 3);
    if OF_THE_CLUSTER.contains(&name) || of_a_member {
        // It is there, and a text if it is one.
        *value = Value::from(value.is_string());
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                masked(name, value);
            }
        }
        Value::Array(values) => {
            values.iter_mut().for_each(|value| masked("", value));
            // By their ids, which are masked.
            if name == "members" {
                values.sort_by_key(Value::to_string);
            }
        }
        _ => {}
    }
}

/// Code, headers, and each line of JSON.
type Answered = (u16, Vec<(String, String)>, Vec<Value>);

fn answered(page: &Page) -> Result<Answered> {
    // protobuf-go writes a space of either kind.
    let body = page.body.replace("proto:\u{a0}", "proto: ");
    let lines = body.lines().filter(|line| !line.is_empty());
    let lines = lines.map(|line| {
        let mut value = match page.headers.get("content-type").map(String::as_str) {
            Some("application/json") => {
                serde_json::from_str(line).with_context(|| line.to_owned())?
            }
            _ => Value::from(line),
        };
        masked("", &mut value);
        Ok(value)
    });
    // How long an answer is shows the ids, and whether it was whole.
    let headers = page
        .headers
        .iter()
        .filter(|(name, _)| *name != "content-length" && *name != "transfer-encoding");
    Ok((
        page.code,
        headers
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        lines.collect::<Result<_>>()?,
    ))
}

/// Asks both the same, and gives the JSON of their answers.
async fn ask(
    both: [&str; 2],
    users: [&[(&str, &str)]; 2],
    path: &str,
    body: &str,
) -> Result<[Value; 2]> {
    let mut pages = Vec::new();
    for (address, headers) in both.into_iter().zip(users) {
        // Lines of streams that go on: one is enough.
        let lines = if path.ends_with("/snapshot") {
            1
        } else {
            usize::MAX
        };
        pages.push(pages::post(address, path, headers, body, lines).await?);
    }
    let (ours, theirs) = (answered(&pages[0])?, answered(&pages[1])?);
    ensure!(
        ours == theirs,
        "{path} {body}\nhere: {ours:#?}\netcd: {theirs:#?}"
    );
    let json = |page: &Page| serde_json::from_str(&page.body).unwrap_or_default();
    Ok([json(&pages[0]), json(&pages[1])])
}

async fn beside(theirs: &Path, test: impl AsyncFnOnce([&str; 2]) -> Result<()>) -> Result<()> {
    Cluster::run(Options::new(cluster::mizzen()?).members(1), async |ours| {
        Cluster::run(Options::new(theirs).members(1), async |theirs| {
            test([ours.endpoint(0), theirs.endpoint(0)]).await
        })
        .await
    })
    .await
}

const NOBODY: [&[(&str, &str)]; 2] = [&[], &[]];

#[tokio::test]
async fn calls_as_json_are_answered_as_by_etcd() -> Result<()> {
    beside(&cluster::reference()?, async |both| {
        for (path, body) in keys().iter().chain(&others()).chain(&malformed()) {
            ask(both, NOBODY, path, body).await?;
        }
        // A member that is to be removed by the id it has got.
        let learner = json!({"peerURLs": ["http://127.0.0.1:1"], "isLearner": true}).to_string();
        let added = ask(both, NOBODY, "/v3/cluster/member/add", &learner).await?;
        for (address, added) in both.into_iter().zip(&added) {
            let id = &added["member"]["ID"];
            for (path, code) in [("promote", 400), ("remove", 200)] {
                let path = format!("/v3/cluster/member/{path}");
                let body = json!({"ID": id}).to_string();
                let page = pages::post(address, &path, &[], &body, usize::MAX).await?;
                ensure!(page.code == code, "{address} {path} {body}: {page:?}");
            }
        }
        for method in ["GET", "PUT", "OPTIONS"] {
            let mut pages = Vec::new();
            for address in both {
                pages.push(answered(
                    &pages::request(address, method, "/v3/kv/range").await?,
                )?);
            }
            ensure!(pages[0] == pages[1], "{method}: {pages:#?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn users_of_the_gateway_are_known_by_their_tokens() -> Result<()> {
    beside(&cluster::reference()?, async |both| {
        let mut tokens = [Vec::new(), Vec::new()];
        for (user, path, body) in users() {
            if path == "/v3/auth/status" && tokens[0].is_empty() {
                for (name, password) in [("root", "secret"), ("reader", "read")] {
                    let body = json!({"name": name, "password": password}).to_string();
                    let said = ask(both, NOBODY, "/v3/auth/authenticate", &body).await?;
                    for (tokens, said) in tokens.iter_mut().zip(said) {
                        let token = said["token"].as_str().context("a token")?;
                        tokens.push((name, token.to_owned()));
                    }
                }
            }
            let token = |index: usize| {
                let mut known = tokens[index].iter();
                let found = known.find(|(name, _)| *name == user);
                found.map_or(user, |(_, token)| token.as_str())
            };
            let (ours, theirs) = (token(0), token(1));
            let (ours, theirs) = ([("Authorization", ours)], [("Authorization", theirs)]);
            let count = usize::from(!user.is_empty());
            ask(both, [&ours[..count], &theirs[..count]], path, &body).await?;
        }
        Ok(())
    })
    .await
}

/// Requests with some of their bytes replaced, removed or doubled.
#[tokio::test]
async fn requests_that_are_broken_by_chance_are_answered_as_by_etcd() -> Result<()> {
    const SEED: u64 = 18;
    const REQUESTS: usize = 1_500;
    let whole = [
        r#"{"key":"Zm9v","range_end":"Zm9w","limit":"7","revision":1,"sort_order":"DESCEND","keys_only":true,"x":{"a":[1.5e3,null,"\u00e9"]}}"#,
        r#"{"compare":[{"target":"VERSION","key":"YQ==","version":"0"},{"key":"Yg==","value":"YQ=="}],"success":[{"request_range":{"key":"YQ=="}},{"requestTxn":{"failure":[{"requestRange":{"key":"YQ=="}}]}}]}"#,
    ];
    let strange = br#"{}[]",:\/-+.0159eEutnfxX _=%'"#;
    beside(&cluster::reference()?, async |both| {
        let mut chance = StdRng::seed_from_u64(SEED);
        for number in 0..REQUESTS {
            let which = number % whole.len();
            let mut body = whole[which].as_bytes().to_vec();
            for _ in 0..chance.random_range(1..3) {
                let at = chance.random_range(0..body.len());
                match chance.random_range(0..4) {
                    0 => drop(body.remove(at)),
                    1 => body.insert(at, body[at]),
                    2 => body[at] = strange[chance.random_range(0..strange.len())],
                    _ => body.truncate(at.max(1)),
                }
            }
            let body = String::from_utf8_lossy(&body);
            let path = ["/v3/kv/range", "/v3/kv/txn"][which];
            ask(both, NOBODY, path, &body)
                .await
                .with_context(|| format!("request {number} with the seed {SEED}"))?;
        }
        Ok(())
    })
    .await
}

/// As APISIX does: one request, then a line for each response, for as long as the
/// connection lives.
#[tokio::test]
async fn watches_are_lines_of_json() -> Result<()> {
    beside(&cluster::reference()?, async |both| {
        for value in ["YQ==", "Yg=="] {
            let put = json!({"key": "a2V5", "value": value}).to_string();
            ask(both, NOBODY, "/v3/kv/put", &put).await?;
        }
        ask(both, NOBODY, "/v3/kv/deleterange", &json!({"key": "a2V5"}).to_string()).await?;
        let all = json!({"create_request": {"key": "AA==", "range_end": "AA==", "start_revision": "2", "prev_kv": true}});
        let compacted = json!({"create_request": {"key": "a2V5", "start_revision": "1", "watch_id": 7}});
        let mut twice = all.to_string() + "\n";
        twice += &json!({"create_request": {"key": "bm9uZQ==", "filters": ["NOPUT"]}}).to_string();
        ask(both, NOBODY, "/v3/kv/compaction", &json!({"revision": 2}).to_string()).await?;
        for (body, count) in [(all.to_string(), 2), (compacted.to_string(), 2), (twice, 3)] {
            let mut answers = Vec::new();
            for address in both {
                let page = pages::post(address, "/v3/watch", &[], &body, count).await?;
                let (code, headers, mut lines) = answered(&page)?;
                // Which of two watches is told first is nobody's promise.
                lines.sort_by_key(Value::to_string);
                answers.push((code, headers, lines));
            }
            ensure!(answers[0] == answers[1], "{body}: {answers:#?}");
            ensure!(answers[0].2.len() == count, "{body}: {answers:#?}");
        }
        // etcd never answers this one.
        let page = pages::post(both[0], "/v3/watch", &[], "{\"create_request\":7}", usize::MAX).await?;
        ensure!(page.code == 400 && page.body.starts_with("{\"error\":{\"code\":3,"), "{page:?}");
        Ok(())
    })
    .await
}

/// A reply far beyond what a gRPC client takes by default comes in pieces.
#[tokio::test]
async fn a_large_reply_comes_whole() -> Result<()> {
    const KEYS: usize = 12;
    beside(&cluster::reference()?, async |both| {
        let value = "QUJD".repeat(250_000);
        for number in 0..KEYS {
            let key = ["YQ==", "Yg==", "Yw==", "ZA=="][number % 4];
            let key = format!("{}{key}", "a2V5".repeat(number / 4 + 1));
            let put = json!({"key": key, "value": value}).to_string();
            ask(both, NOBODY, "/v3/kv/put", &put).await?;
        }
        let range = json!({"key": "AA==", "range_end": "AA=="}).to_string();
        let found = ask(both, NOBODY, "/v3/kv/range", &range).await?;
        let kvs = found[0]["kvs"].as_array().context("keys")?;
        ensure!(kvs.len() == KEYS && kvs[0]["value"] == value.as_str());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_gateway_can_be_turned_off() -> Result<()> {
    for binary in [cluster::mizzen()?, cluster::reference()?] {
        let options = Options::new(binary)
            .members(1)
            .flag("--enable-grpc-gateway=false");
        Cluster::run(options, async |cluster| {
            let page =
                pages::post(cluster.endpoint(0), "/v3/kv/range", &[], "{}", usize::MAX).await?;
            ensure!(
                page.code == 404 && page.body == "404 page not found\n",
                "{page:?}"
            );
            Ok(())
        })
        .await?;
    }
    Ok(())
}
