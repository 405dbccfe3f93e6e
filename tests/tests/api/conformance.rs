//! The key-value API of a three-replica cluster through the `etcd-client` crate.
//!
//! Thinner than the suite in `go/`, which checks every rule: this one checks that
//! the Rust client and the server understand each other.

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, Error, GetOptions, GetResponse,
    KeyValue, PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse,
};
use mizzen_tests::shared;
use tonic::Code;

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";
const KEY_NOT_FOUND: &str = "etcdserver: key not found";

/// Runs one test on a client of each member.
async fn test(body: impl AsyncFnOnce(&mut Vec<Client>) -> Result<()>) -> Result<()> {
    let cluster = shared::store().await?;
    let mut clients = Vec::new();
    for endpoint in cluster.endpoints() {
        clients.push(Client::connect([endpoint], None).await?);
    }
    let result = body(&mut clients).await;
    if result.is_err() {
        eprintln!("{}", cluster.failure_report());
    }
    result
}

/// The error of a refused call by code and description, which clients compare.
fn ensure_refused<T>(result: Result<T, Error>, code: Code, description: &str) -> Result<()> {
    match result {
        Ok(_) => bail!("accepted, but expected {code:?} {description:?}"),
        Err(Error::GRpcStatus(status)) => {
            ensure!(
                status.code() == code && status.message() == description,
                "refused with {status:?}, expected {code:?} {description:?}"
            );
            Ok(())
        }
        Err(other) => Err(other).context("expected a gRPC status"),
    }
}

fn prefix() -> Option<GetOptions> {
    Some(GetOptions::new().with_prefix())
}

fn keys(reply: &GetResponse) -> Vec<&str> {
    let key = |kv: &KeyValue| {
        let tail = kv.key().rsplit(|&byte| byte == b'/').next();
        tail.unwrap_or_default().len()
    };
    reply
        .kvs()
        .iter()
        .map(|kv| {
            let text = kv.key_str().unwrap_or("not UTF-8");
            &text[text.len() - key(kv)..]
        })
        .collect()
}

fn revision(header: Option<&etcd_client::ResponseHeader>) -> Result<i64> {
    Ok(header.context("a reply without a header")?.revision())
}

#[tokio::test]
async fn put_and_get() -> Result<()> {
    test(async |clients| {
        for (i, client) in clients.iter_mut().enumerate() {
            let key = format!("put/{i}");
            let first = client.put(key.as_str(), "1", None).await?;
            let created = revision(first.header())?;
            let prev_key = Some(PutOptions::new().with_prev_key());
            let second = client.put(key.as_str(), "2", prev_key).await?;
            let prev = second.prev_key().context("no previous value")?;
            assert_eq!((prev.value(), prev.version()), (b"1".as_slice(), 1));
            let ignore_value = Some(PutOptions::new().with_ignore_value());
            client.put(key.as_str(), "", ignore_value).await?;
            let reply = client.get(key.as_str(), None).await?;
            let kv = reply.kvs().first().context("no value")?;
            assert_eq!(kv.value(), b"2");
            assert_eq!(kv.version(), 3);
            assert_eq!(kv.create_revision(), created);
            assert_eq!(kv.mod_revision(), created + 2);
            assert_eq!(revision(reply.header())?, created + 2);
            assert_eq!((reply.count(), reply.more()), (1, false));
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn put_refusals() -> Result<()> {
    test(async |clients| {
        for client in clients.iter_mut() {
            let empty = client.put("", "v", None).await;
            ensure_refused(
                empty,
                Code::InvalidArgument,
                "etcdserver: key is not provided",
            )?;
            let leased = PutOptions::new().with_lease(0x7ead_beef);
            let leased = client.put("refused", "v", Some(leased)).await;
            ensure_refused(
                leased,
                Code::NotFound,
                "etcdserver: requested lease not found",
            )?;
            let ignored = PutOptions::new().with_ignore_value();
            let ignored = client.put("refused", "", Some(ignored)).await;
            ensure_refused(ignored, Code::InvalidArgument, KEY_NOT_FOUND)?;
            let large = client.put("refused", vec![0; 3 << 19], None).await;
            ensure_refused(
                large,
                Code::InvalidArgument,
                "etcdserver: request is too large",
            )?;
            assert_eq!(client.get("refused", None).await?.count(), 0);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn range_options() -> Result<()> {
    test(async |clients| {
        for (i, client) in clients.iter_mut().enumerate() {
            let p = format!("range/{i}/");
            let mut first = 0;
            for (n, name) in ["c", "a", "d", "b"].into_iter().enumerate() {
                let put = client
                    .put(format!("{p}{name}"), n.to_string(), None)
                    .await?;
                if n == 0 {
                    first = revision(put.header())?;
                }
            }
            let options = || GetOptions::new().with_prefix();
            let by_mod = options().with_sort(SortTarget::Mod, SortOrder::Descend);
            for (what, options, expected, more) in [
                ("prefix", options(), vec!["a", "b", "c", "d"], false),
                ("limit", options().with_limit(3), vec!["a", "b", "c"], true),
                (
                    "by mod revision",
                    by_mod.clone(),
                    vec!["b", "d", "a", "c"],
                    false,
                ),
                ("sorted, then cut", by_mod.with_limit(1), vec!["b"], true),
                (
                    "at a revision",
                    options().with_revision(first + 1),
                    vec!["a", "c"],
                    false,
                ),
                (
                    "modified since",
                    options().with_min_mod_revision(first + 2),
                    vec!["b", "d"],
                    false,
                ),
                (
                    "created until",
                    options().with_max_create_revision(first),
                    vec!["c"],
                    false,
                ),
                (
                    "serializable",
                    options().with_serializable(),
                    vec!["a", "b", "c", "d"],
                    false,
                ),
            ] {
                let reply = client.get(p.as_str(), Some(options)).await?;
                assert_eq!(keys(&reply), expected, "{what}");
                assert_eq!(reply.more(), more, "{what}");
            }
            let half_open = GetOptions::new().with_range(format!("{p}c"));
            assert_eq!(
                keys(&client.get(format!("{p}a"), Some(half_open)).await?),
                ["a", "b"]
            );
            let count = client
                .get(p.as_str(), Some(options().with_count_only()))
                .await?;
            assert_eq!((count.count(), count.kvs().len()), (4, 0));
            let keys_only = client
                .get(p.as_str(), Some(options().with_keys_only()))
                .await?;
            assert!(keys_only.kvs().iter().all(|kv| kv.value().is_empty()));
            let future = options().with_revision(first + 1000);
            ensure_refused(
                client.get(p.as_str(), Some(future)).await,
                Code::OutOfRange,
                FUTURE,
            )?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn range_stream() -> Result<()> {
    test(async |clients| {
        for (i, client) in clients.iter_mut().enumerate() {
            let p = format!("stream/{i}/");
            let puts: Vec<TxnOp> = (0..100)
                .map(|n| TxnOp::put(format!("{p}{n:03}"), "v", None))
                .collect();
            client.txn(Txn::new().and_then(puts)).await?;
            let whole = client.get(p.as_str(), prefix()).await?;
            let mut stream = client.kv_client().get_stream(p.as_str(), prefix()).await?;
            let (mut streamed, mut chunks, mut last) = (Vec::new(), 0, None);
            while let Some(mut chunk) = stream.message().await? {
                assert!(last.is_none(), "a chunk after the one with the header");
                streamed.append(&mut chunk.take_kvs());
                chunks += 1;
                last = chunk.header().map(|header| header.revision());
            }
            assert_eq!(format!("{streamed:?}"), format!("{:?}", whole.kvs()));
            assert_eq!(last, Some(revision(whole.header())?));
            assert!(chunks > 1, "100 keys in one chunk");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn delete() -> Result<()> {
    test(async |clients| {
        for (i, client) in clients.iter_mut().enumerate() {
            let p = format!("delete/{i}/");
            for name in ["a", "b", "c"] {
                client.put(format!("{p}{name}"), name, None).await?;
            }
            let options = DeleteOptions::new().with_range(format!("{p}c"));
            let reply = client
                .delete(format!("{p}a"), Some(options.with_prev_key()))
                .await?;
            assert_eq!(reply.deleted(), 2);
            let values: Vec<&[u8]> = reply.prev_kvs().iter().map(KeyValue::value).collect();
            assert_eq!(values, [b"a", b"b"]);
            let removed = revision(reply.header())?;
            let again = client.delete(format!("{p}a"), None).await?;
            assert_eq!((again.deleted(), revision(again.header())?), (0, removed));
            assert_eq!(keys(&client.get(p.as_str(), prefix()).await?), ["c"]);
            let before = GetOptions::new().with_prefix().with_revision(removed - 1);
            assert_eq!(
                keys(&client.get(p.as_str(), Some(before)).await?),
                ["a", "b", "c"]
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn transactions() -> Result<()> {
    test(async |clients| {
        for (i, client) in clients.iter_mut().enumerate() {
            let p = format!("txn/{i}/");
            let key = format!("{p}k");
            let create = || {
                Txn::new()
                    .when([Compare::version(key.as_str(), CompareOp::Equal, 0)])
                    .and_then([
                        TxnOp::put(key.as_str(), "mine", None),
                        TxnOp::put(format!("{p}other"), "", None),
                    ])
                    .or_else([TxnOp::get(key.as_str(), None)])
            };
            let first = client.txn(create()).await?;
            assert!(first.succeeded());
            let made = revision(first.header())?;
            let second = client.txn(create()).await?;
            assert!(!second.succeeded());
            let [TxnOpResponse::Get(read)] = &second.op_responses()[..] else {
                bail!("replies {:?}", second.op_responses());
            };
            let kv = read.kvs().first().context("no value")?;
            assert_eq!((kv.value(), kv.mod_revision()), (b"mine".as_slice(), made));

            let whole = Compare::create_revision(p.as_str(), CompareOp::Equal, made).with_prefix();
            let inner = Txn::new()
                .when([Compare::value(key.as_str(), CompareOp::NotEqual, "mine")])
                .or_else([TxnOp::delete(key.as_str(), None)]);
            let nested = client
                .txn(Txn::new().when([whole]).and_then([TxnOp::txn(inner)]))
                .await?;
            assert!(nested.succeeded());
            let [TxnOpResponse::Txn(inner)] = &nested.op_responses()[..] else {
                bail!("replies {:?}", nested.op_responses());
            };
            assert!(!inner.succeeded());
            assert_eq!(keys(&client.get(p.as_str(), prefix()).await?), ["other"]);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn transaction_refusals() -> Result<()> {
    test(async |clients| {
        for client in clients.iter_mut() {
            let put = |n: usize| TxnOp::put(format!("refused/{n}"), "", None);
            let twice = Txn::new().and_then([put(1), put(1)]);
            ensure_refused(
                client.txn(twice).await,
                Code::InvalidArgument,
                "etcdserver: duplicate key given in txn request",
            )?;
            let many = Txn::new().and_then((0..129).map(put).collect::<Vec<_>>());
            ensure_refused(
                client.txn(many).await,
                Code::InvalidArgument,
                "etcdserver: too many operations in txn request",
            )?;
            let ignored = PutOptions::new().with_ignore_value();
            let missing = TxnOp::put("refused/missing", "", Some(ignored));
            ensure_refused(
                client.txn(Txn::new().and_then([put(1), missing])).await,
                Code::InvalidArgument,
                KEY_NOT_FOUND,
            )?;
            assert_eq!(client.get("refused/", prefix()).await?.count(), 0);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn compaction() -> Result<()> {
    test(async |clients| {
        for i in 0..clients.len() {
            let client = &mut clients[i];
            let key = format!("compact/{i}");
            let mut last = 0;
            for n in 0..4 {
                let put = client.put(key.as_str(), n.to_string(), None).await?;
                last = revision(put.header())?;
            }
            let floor = last - 1;
            let physical = CompactionOptions::new().with_physical();
            client.compact(floor, Some(physical)).await?;
            ensure_refused(
                client.compact(floor, None).await,
                Code::OutOfRange,
                COMPACTED,
            )?;
            ensure_refused(
                client.compact(last + 1000, None).await,
                Code::OutOfRange,
                FUTURE,
            )?;
            for reader in clients.iter_mut() {
                let at = |revision| Some(GetOptions::new().with_revision(revision));
                let kept = reader.get(key.as_str(), at(floor)).await?;
                assert_eq!(kept.kvs().first().map(KeyValue::value), Some(&b"2"[..]));
                ensure_refused(
                    reader.get(key.as_str(), at(floor - 1)).await,
                    Code::OutOfRange,
                    COMPACTED,
                )?;
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn read_after_write_through_another_member() -> Result<()> {
    test(async |clients| {
        let members = clients.len();
        for round in 0..30 {
            let value = format!("{round}");
            let writer = &mut clients[round % members];
            let put = writer.put("linearizable", value.as_str(), None).await?;
            for (i, reader) in clients.iter_mut().enumerate() {
                let reply = reader.get("linearizable", None).await?;
                let read = reply.kvs().first().context("no value")?.value();
                assert_eq!(read, value.as_bytes(), "round {round}, member {i}");
                assert_eq!(revision(reply.header())?, revision(put.header())?);
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn members_agree() -> Result<()> {
    test(async |clients| {
        let put = clients[0].put("agree", "", None).await?;
        let at = revision(put.header())?;
        let (mut members, mut statuses, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
        for client in clients.iter_mut() {
            client.get("agree", None).await?;
            let hash = client.hash_kv(at).await?;
            hashes.push((hash.hash(), hash.hash_revision(), hash.compact_version()));
            let status = client.status().await?;
            let header = status.header().context("no header")?;
            members.push(header.member_id());
            statuses.push((header.cluster_id(), status.leader(), status.raft_term()));
            assert!(status.errors().is_empty(), "{:?}", status.errors());
            assert!(!status.is_learner());
            client.defragment().await?;
        }
        assert!(
            hashes.windows(2).all(|pair| pair[0] == pair[1]),
            "{hashes:?}"
        );
        assert!(
            statuses.windows(2).all(|pair| pair[0] == pair[1]),
            "{statuses:?}"
        );
        members.sort_unstable();
        assert!(members.contains(&statuses[0].1), "the leader is a member");
        for client in clients.iter_mut() {
            let list = client.member_list().await?;
            let listed: Vec<u64> = list.members().iter().map(|member| member.id()).collect();
            assert_eq!(listed, members);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn concurrent_increments() -> Result<()> {
    test(async |clients| {
        const WORKERS: usize = 6;
        const INCREMENTS: usize = 15;
        clients[0].put("counter", "0", None).await?;
        let mut workers = tokio::task::JoinSet::new();
        for worker in 0..WORKERS {
            let client = clients[worker % clients.len()].clone();
            workers.spawn(async move {
                for _ in 0..INCREMENTS {
                    increment(client.clone()).await?;
                }
                Ok::<_, anyhow::Error>(())
            });
        }
        while let Some(done) = workers.join_next().await {
            done??;
        }
        let reply = clients[0].get("counter", None).await?;
        let kv = reply.kvs().first().context("no counter")?;
        assert_eq!(kv.value_str()?, (WORKERS * INCREMENTS).to_string());
        assert_eq!(kv.version(), i64::try_from(WORKERS * INCREMENTS)? + 1);
        Ok(())
    })
    .await
}

async fn increment(mut client: Client) -> Result<()> {
    loop {
        let reply = client.get("counter", None).await?;
        let kv = reply.kvs().first().ok_or_else(|| anyhow!("no counter"))?;
        let next = kv.value_str()?.parse::<u64>()? + 1;
        let unchanged = Compare::mod_revision("counter", CompareOp::Equal, kv.mod_revision());
        let put = TxnOp::put("counter", next.to_string(), None);
        let txn = Txn::new().when([unchanged]).and_then([put]);
        if client.txn(txn).await?.succeeded() {
            return Ok(());
        }
    }
}
