//! The Lock and Election services, every field and refusal, through each member
//! of a three-replica cluster. Passes against etcd too (name it in `MIZZEN_BIN`)
//! but for one race: an etcd that has not yet seen its own transaction when the
//! client goes away leaves the client's place in the queue behind.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use mizzen_proto::etcdserverpb::kv_client::KvClient;
use mizzen_proto::etcdserverpb::lease_client::LeaseClient;
use mizzen_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, RangeRequest, ResponseHeader,
};
use mizzen_proto::mvccpb::KeyValue;
use mizzen_proto::v3electionpb::election_client::ElectionClient;
use mizzen_proto::v3electionpb::{
    CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest,
};
use mizzen_proto::v3lockpb::lock_client::LockClient;
use mizzen_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest};
use mizzen_tests::shared;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

const LEASE_NOT_FOUND: &str = "etcdserver: requested lease not found";
const NO_LEADER: &str = "election: no leader";
const NOT_LEADER: &str = "election: not leader";
const NO_LEADER_FIELD: &str = "\"leader\" field must be provided";
const SESSION_EXPIRED: &str = "mutex: session is expired";
/// A lease that nobody has granted.
const UNKNOWN: i64 = 0x7ead_beef;
/// Seconds, longer than any run.
const LONG: i64 = 3600;
const DEADLINE: Duration = Duration::from_secs(60);

/// One member.
#[derive(Clone)]
struct Member(Channel);

impl Member {
    fn lock(&self) -> LockClient<Channel> {
        LockClient::new(self.0.clone())
    }

    fn election(&self) -> ElectionClient<Channel> {
        ElectionClient::new(self.0.clone())
    }

    async fn grant(&self) -> Result<i64> {
        let request = LeaseGrantRequest { ttl: LONG, id: 0 };
        let mut client = LeaseClient::new(self.0.clone());
        Ok(client.lease_grant(request).await?.into_inner().id)
    }

    async fn revoke(&self, id: i64) -> Result<()> {
        let mut client = LeaseClient::new(self.0.clone());
        client.lease_revoke(LeaseRevokeRequest { id }).await?;
        Ok(())
    }

    /// The granted time to live, seconds.
    async fn granted(&self, id: i64) -> Result<i64> {
        let request = LeaseTimeToLiveRequest { id, keys: false };
        let mut client = LeaseClient::new(self.0.clone());
        Ok(client
            .lease_time_to_live(request)
            .await?
            .into_inner()
            .granted_ttl)
    }

    /// What is under a name.
    async fn under(&self, name: &Bytes) -> Result<Vec<KeyValue>> {
        let request = RangeRequest {
            key: [name, &b"/"[..]].concat().into(),
            range_end: [name, &b"0"[..]].concat().into(),
            ..RangeRequest::default()
        };
        let mut client = KvClient::new(self.0.clone());
        Ok(client.range(request).await?.into_inner().kvs)
    }

    async fn revision(&self) -> Result<i64> {
        let request = RangeRequest {
            key: "revision".into(),
            ..RangeRequest::default()
        };
        let mut client = KvClient::new(self.0.clone());
        at(&client.range(request).await?.into_inner().header)
    }

    /// Returns when so many keys are under a name.
    async fn until(&self, name: &Bytes, count: usize) -> Result<()> {
        let started = Instant::now();
        while self.under(name).await?.len() != count {
            ensure!(
                started.elapsed() < DEADLINE,
                "never {count} keys under {name:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

fn at(header: &Option<ResponseHeader>) -> Result<i64> {
    let header = header.as_ref().context("no header")?;
    ensure!(
        header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0,
        "{header:?}"
    );
    Ok(header.revision)
}

fn ensure_refused<T>(answer: Result<Response<T>, Status>, reason: &str) -> Result<()> {
    match answer {
        Ok(_) => bail!("accepted, but expected {reason:?}"),
        Err(status) => {
            ensure!(
                status.code() == Code::Unknown && status.message() == reason,
                "refused with {status:?}, expected Unknown {reason:?}"
            );
            Ok(())
        }
    }
}

fn key_of(name: &Bytes, lease: i64) -> Bytes {
    [name, format!("/{lease:x}").as_bytes()].concat().into()
}

/// Runs a test through each member, with another one beside it.
async fn on_each_member(
    test: impl AsyncFn(Member, Member, &dyn Fn(&str) -> Bytes) -> Result<()>,
) -> Result<()> {
    let cluster = shared::store().await?;
    for index in 0..cluster.len() {
        let member = Member(cluster.channel(index)?);
        let other = Member(cluster.channel((index + 1) % cluster.len())?);
        let name = |what: &str| Bytes::from(format!("{what}-{index}"));
        let tested = test(member, other, &name).await;
        tested.with_context(|| format!("through member {index}\n{}", cluster.failure_report()))?;
    }
    Ok(())
}

/// A hang becomes a failure.
async fn step(what: &'static str, step: impl Future<Output = Result<()>>) -> Result<()> {
    let done = tokio::time::timeout(DEADLINE, step).await;
    done.context("it hangs").flatten().context(what)
}

async fn lock(member: &Member, name: &Bytes, lease: i64) -> Result<LockResponse, Status> {
    let name = name.clone();
    let request = LockRequest { name, lease };
    Ok(member.lock().lock(request).await?.into_inner())
}

async fn unlock(member: &Member, key: &Bytes) -> Result<i64> {
    let request = UnlockRequest { key: key.clone() };
    at(&member.lock().unlock(request).await?.into_inner().header)
}

#[tokio::test]
async fn lock_service() -> Result<()> {
    on_each_member(async |member, other, name| {
        step("fields", lock_fields(&member, &name("fields"))).await?;
        step("again", lock_again(&member, &name("again"))).await?;
        step("in turn", lock_in_turn(&member, &other, &name("turn"))).await?;
        let ended = name("ended");
        step("ended", lock_of_an_ended_session(&member, &other, &ended)).await?;
        step(
            "given up",
            lock_given_up(&member, &other, &name("given-up")),
        )
        .await
    })
    .await
}

async fn lock_fields(member: &Member, name: &Bytes) -> Result<()> {
    let before = member.revision().await?;
    let held = lock(member, name, 0).await?;
    let found = member.under(name).await?;
    ensure!(found.len() == 1, "{found:?}");
    let kv = &found[0];
    ensure!(
        kv.key == held.key && kv.value.is_empty(),
        "{kv:?}, {held:?}"
    );
    ensure!(kv.lease != 0 && kv.key == key_of(name, kv.lease), "{kv:?}");
    ensure!(kv.create_revision == before + 1, "{kv:?} after {before}");
    ensure!(at(&held.header)? == before + 1, "{held:?} after {before}");
    ensure!(member.granted(kv.lease).await? == 60, "the lease of {kv:?}");
    ensure!(unlock(member, &held.key).await? == before + 2);
    ensure!(member.under(name).await?.is_empty());
    // Not there any more: nothing to do.
    ensure!(unlock(member, &held.key).await? == before + 2);
    let name = name.clone();
    let request = LockRequest {
        name,
        lease: UNKNOWN,
    };
    ensure_refused(member.lock().lock(request).await, LEASE_NOT_FOUND)?;
    ensure!(member.revision().await? == before + 2);
    let empty = UnlockRequest::default();
    ensure_refused(
        member.lock().unlock(empty).await,
        "etcdserver: key is not provided",
    )
}

/// The owner may lock again, and changes nothing by it.
async fn lock_again(member: &Member, name: &Bytes) -> Result<()> {
    let lease = member.grant().await?;
    let first = lock(member, name, lease).await?;
    ensure!(first.key == key_of(name, lease), "{first:?}");
    let again = lock(member, name, lease).await?;
    ensure!(again == first, "{again:?} after {first:?}");
    unlock(member, &first.key).await?;
    Ok(())
}

async fn lock_in_turn(member: &Member, other: &Member, name: &Bytes) -> Result<()> {
    let held = lock(member, name, 0).await?;
    let waiting = tokio::spawn({
        let (other, name) = (other.clone(), name.clone());
        async move { lock(&other, &name, 0).await }
    });
    member.until(name, 2).await?;
    ensure!(!waiting.is_finished(), "two own the lock");
    let unlocked = unlock(member, &held.key).await?;
    let next = waiting.await??;
    ensure!(at(&next.header)? == unlocked, "{next:?} after {unlocked}");
    let found = member.under(name).await?;
    ensure!(found.len() == 1 && found[0].key == next.key, "{found:?}");
    unlock(member, &next.key).await?;
    Ok(())
}

/// Whoever waits for too long is told so, when its turn comes.
async fn lock_of_an_ended_session(member: &Member, other: &Member, name: &Bytes) -> Result<()> {
    let held = lock(member, name, 0).await?;
    let lease = member.grant().await?;
    let waiting = tokio::spawn({
        let (other, name) = (other.clone(), name.clone());
        async move { other.lock().lock(LockRequest { name, lease }).await }
    });
    member.until(name, 2).await?;
    member.revoke(lease).await?;
    unlock(member, &held.key).await?;
    ensure_refused(waiting.await?, SESSION_EXPIRED)?;
    ensure!(member.under(name).await?.is_empty());
    Ok(())
}

/// A client that goes away leaves no place in the queue behind.
async fn lock_given_up(member: &Member, other: &Member, name: &Bytes) -> Result<()> {
    let held = lock(member, name, 0).await?;
    let waiting = tokio::spawn({
        let (other, name) = (other.clone(), name.clone());
        async move { lock(&other, &name, 0).await }
    });
    member.until(name, 2).await?;
    waiting.abort();
    member.until(name, 1).await?;
    unlock(member, &held.key).await?;
    Ok(())
}

fn campaign(name: &Bytes, lease: i64, value: &'static str) -> CampaignRequest {
    CampaignRequest {
        name: name.clone(),
        lease,
        value: value.into(),
    }
}

/// Campaigns on the way.
async fn elected(
    member: &Member,
    name: &Bytes,
    lease: i64,
    value: &'static str,
) -> Result<(i64, LeaderKey), anyhow::Error> {
    let request = campaign(name, lease, value);
    let reply = member.election().campaign(request).await?.into_inner();
    Ok((at(&reply.header)?, reply.leader.context("no leader")?))
}

async fn proclaim(member: &Member, leader: &LeaderKey, value: &'static str) -> Result<i64> {
    let request = ProclaimRequest {
        leader: Some(leader.clone()),
        value: value.into(),
    };
    at(&member
        .election()
        .proclaim(request)
        .await?
        .into_inner()
        .header)
}

async fn resign(member: &Member, leader: &LeaderKey) -> Result<i64> {
    let leader = Some(leader.clone());
    let reply = member.election().resign(ResignRequest { leader }).await?;
    at(&reply.into_inner().header)
}

#[tokio::test]
async fn election_service() -> Result<()> {
    on_each_member(async |member, other, name| {
        step("fields", election_fields(&member, &other, &name("fields"))).await?;
        step("refusals", election_refusals(&member, &name("refusals"))).await?;
        let observed = name("observed");
        step("observed", election_observed(&member, &other, &observed)).await?;
        step(
            "given up",
            election_given_up(&member, &other, &name("given-up")),
        )
        .await
    })
    .await
}

async fn election_fields(member: &Member, other: &Member, name: &Bytes) -> Result<()> {
    let before = member.revision().await?;
    let (revision, leader) = elected(member, name, 0, "a").await?;
    ensure!(revision == before + 1, "{revision} after {before}");
    let expected = LeaderKey {
        name: name.clone(),
        key: key_of(name, leader.lease),
        rev: revision,
        lease: leader.lease,
    };
    ensure!(leader == expected && leader.lease != 0, "{leader:?}");
    ensure!(member.granted(leader.lease).await? == 60);

    // The leader campaigns again: its candidacy stays, its value changes.
    let (again, same) = elected(other, name, leader.lease, "b").await?;
    ensure!(same == leader && again == revision, "{same:?} at {again}");
    let request = LeaderRequest { name: name.clone() };
    let told = other.election().leader(request).await?.into_inner();
    let kv = told.kv.context("no key-value")?;
    ensure!(at(&told.header)? == revision + 1, "{:?}", told.header);
    ensure!(
        kv.key == leader.key && kv.value == "b" && kv.lease == leader.lease,
        "{kv:?}"
    );
    ensure!((kv.create_revision, kv.mod_revision, kv.version) == (revision, revision + 1, 2));

    ensure!(proclaim(other, &leader, "c").await? == revision + 2);
    ensure!(member.under(name).await?[0].value == "c");
    ensure!(resign(other, &leader).await? == revision + 3);
    ensure!(member.under(name).await?.is_empty());
    // Not the leader any more: nothing to do.
    ensure!(resign(member, &leader).await? == revision + 3);
    Ok(())
}

async fn election_refusals(member: &Member, name: &Bytes) -> Result<()> {
    let mut client = member.election();
    let request = LeaderRequest { name: name.clone() };
    ensure_refused(client.leader(request).await, NO_LEADER)?;
    let proclaim = ProclaimRequest::default();
    ensure_refused(client.proclaim(proclaim).await, NO_LEADER_FIELD)?;
    let resign = ResignRequest::default();
    ensure_refused(client.resign(resign).await, NO_LEADER_FIELD)?;
    let unknown = campaign(name, UNKNOWN, "a");
    ensure_refused(client.campaign(unknown).await, LEASE_NOT_FOUND)?;
    let (_, leader) = elected(member, name, 0, "a").await?;
    let stranger = LeaderKey {
        rev: leader.rev - 1,
        ..leader.clone()
    };
    let request = ProclaimRequest {
        leader: Some(stranger.clone()),
        value: "b".into(),
    };
    ensure_refused(client.proclaim(request).await, NOT_LEADER)?;
    // The resignation of who does not lead changes nothing.
    resign_of(member, &stranger, name).await?;
    self::resign(member, &leader).await?;
    Ok(())
}

async fn resign_of(member: &Member, stranger: &LeaderKey, name: &Bytes) -> Result<()> {
    resign(member, stranger).await?;
    let found = member.under(name).await?;
    ensure!(found.len() == 1 && found[0].value == "a", "{found:?}");
    Ok(())
}

async fn election_observed(member: &Member, other: &Member, name: &Bytes) -> Result<()> {
    let request = LeaderRequest { name: name.clone() };
    // An etcd answers only when there is something to tell.
    let observing = tokio::spawn({
        let mut client = member.election();
        async move { client.observe(request).await }
    });
    let (_, first) = elected(other, name, 0, "a").await?;
    let mut observed = observing.await??.into_inner();
    let mut expect = async |value: &str| {
        let told = observed.message().await?.context("the end")?;
        let kv = told.kv.context("no key-value")?;
        ensure!(kv.value == value, "{kv:?}, expected {value}");
        ensure!(at(&told.header)? >= kv.mod_revision, "{:?}", told.header);
        Ok(())
    };
    expect("a").await?;
    proclaim(member, &first, "b").await?;
    expect("b").await?;
    let waiting = tokio::spawn({
        let (member, name) = (member.clone(), name.clone());
        async move { elected(&member, &name, 0, "c").await }
    });
    member.until(name, 2).await?;
    ensure!(!waiting.is_finished(), "two lead");
    proclaim(other, &first, "d").await?;
    expect("d").await?;
    resign(member, &first).await?;
    let (_, second) = waiting.await??;
    expect("c").await?;
    // The end of its session ends a leadership too.
    member.revoke(second.lease).await?;
    let (_, third) = elected(other, name, 0, "e").await?;
    expect("e").await?;
    resign(member, &third).await?;
    Ok(())
}

async fn election_given_up(member: &Member, other: &Member, name: &Bytes) -> Result<()> {
    let (_, leader) = elected(member, name, 0, "a").await?;
    let waiting = tokio::spawn({
        let (other, name) = (other.clone(), name.clone());
        async move { elected(&other, &name, 0, "b").await }
    });
    member.until(name, 2).await?;
    waiting.abort();
    member.until(name, 1).await?;
    resign(member, &leader).await?;
    Ok(())
}
