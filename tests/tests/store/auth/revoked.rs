//! What goes on for a user ends when the user may not have it any more: watches,
//! renewals, observed elections.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use mizzen_proto::authpb::{Permission, permission::Type};
use mizzen_proto::etcdserverpb::{
    LeaseKeepAliveRequest, PutRequest, WatchCreateRequest, WatchRequest, lease_client::LeaseClient,
    watch_client::WatchClient, watch_request::RequestUnion,
};
use mizzen_tests::auth::call::{Asked, Call};
use mizzen_tests::cluster::{self, Cluster, Options};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Streaming;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

const DEADLINE: Duration = Duration::from_secs(30);
const LEASE: i64 = 7;

fn text(text: &str) -> String {
    text.to_owned()
}

fn permission() -> Permission {
    Permission {
        perm_type: Type::Readwrite.into(),
        key: Bytes::from_static(b"w"),
        range_end: Bytes::from_static(b"x"),
    }
}

fn put(value: &str) -> Call {
    Call::Put(PutRequest {
        key: "wa".into(),
        value: value.to_owned().into(),
        lease: LEASE,
        ..Default::default()
    })
}

/// Root asks, and must be served.
async fn root(asked: &mut Asked, call: Call) -> Result<()> {
    let made = asked.make(Some("root"), &call).await?;
    made.map(drop)
        .map_err(|refused| anyhow::anyhow!("{call:?}: {refused:?}"))
}

/// A user with rights, made anew: root's calls, then a login of the user.
async fn user(asked: &mut Asked) -> Result<()> {
    for call in [
        Call::UserAdd(text("u"), Some(text("p"))),
        Call::RoleAdd(text("r")),
        Call::GrantPermission(text("r"), Some(permission())),
        Call::GrantRole(text("u"), text("r")),
        Call::Login(text("u"), text("p")),
    ] {
        root(asked, call).await?;
    }
    Ok(())
}

/// Events of a watch until it is ended, and why it was.
async fn until_ended<T>(
    stream: &mut Streaming<mizzen_proto::etcdserverpb::WatchResponse>,
    _open: &T,
) -> Result<(usize, String)> {
    let mut events = 0;
    loop {
        let message = timeout(DEADLINE, stream.message()).await;
        let message = message.context("the watch goes on")??;
        let message = message.context("the stream has ended")?;
        events += message.events.len();
        if message.canceled {
            return Ok((events, message.cancel_reason));
        }
    }
}

/// The ways to take away a right, and what gives everything back.
fn ways() -> Vec<(Call, Vec<Call>)> {
    let end = |range: Permission| {
        Call::RevokePermission(text("r"), range.key.to_vec(), range.range_end.to_vec())
    };
    vec![
        (
            end(permission()),
            vec![Call::UserDelete(text("u")), Call::RoleDelete(text("r"))],
        ),
        (
            Call::RevokeRole(text("u"), text("r")),
            vec![Call::UserDelete(text("u")), Call::RoleDelete(text("r"))],
        ),
        (
            Call::RoleDelete(text("r")),
            vec![Call::UserDelete(text("u"))],
        ),
        (
            Call::UserDelete(text("u")),
            vec![Call::RoleDelete(text("r"))],
        ),
    ]
}

async fn ends(cluster: &Cluster, index: usize) -> Result<()> {
    let channel = cluster.channel(index)?;
    // Rights are taken on another member than the one that watches.
    let mut asked = Asked::new(cluster.channel((index + 1) % cluster.len())?);
    root(&mut asked, Call::Login(text("root"), text("p"))).await?;
    for (take, clean) in ways() {
        user(&mut asked).await?;
        root(&mut asked, put("before")).await?;
        let (requests, receiver) = mpsc::channel(1);
        let create = WatchCreateRequest {
            key: "w".into(),
            range_end: "x".into(),
            prev_kv: true,
            ..Default::default()
        };
        let request_union = Some(RequestUnion::CreateRequest(create));
        requests.send(WatchRequest { request_union }).await?;
        let stream = asked.request(Some("u"), ReceiverStream::new(receiver))?;
        let mut watch = WatchClient::new(channel.clone())
            .watch(stream)
            .await?
            .into_inner();
        let created = watch.message().await?.context("an answer")?;
        ensure!(created.created && !created.canceled, "{created:?}");

        let (renewals, receiver) = mpsc::channel(1);
        let stream = asked.request(Some("u"), ReceiverStream::new(receiver))?;
        let mut renewed = LeaseClient::new(channel.clone());
        let renewed = async {
            renewals.send(LeaseKeepAliveRequest { id: LEASE }).await?;
            anyhow::Ok(renewed.lease_keep_alive(stream).await?.into_inner())
        };
        let mut renewed = renewed.await?;
        let first = renewed.message().await?.context("an answer")?;
        ensure!(first.ttl > 0, "{first:?}");

        root(&mut asked, put("seen")).await?;
        root(&mut asked, take.clone()).await?;
        let (events, why) = until_ended(&mut watch, &requests).await?;
        ensure!(
            // The member may have been behind the put before the watch, too.
            events <= 2 && why.ends_with("etcdserver: permission denied"),
            "{take:?}: {events} events, then {why:?}"
        );
        renewals.send(LeaseKeepAliveRequest { id: LEASE }).await?;
        let refused = timeout(DEADLINE, renewed.message()).await;
        let refused = refused.context("a renewal is not answered")?;
        ensure!(refused.is_err(), "{take:?}: {refused:?}");
        for call in clean {
            root(&mut asked, call).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_goes_on_ends_with_the_right_to_it() -> Result<()> {
    let options = Options::new(cluster::mizzen()?).flag("--bcrypt-cost=4");
    Cluster::run(options, async |cluster| {
        let mut first = Asked::new(cluster.channel(0)?);
        for call in [
            Call::UserAdd(text("root"), Some(text("p"))),
            Call::RoleAdd(text("root")),
            Call::GrantRole(text("root"), text("root")),
            Call::LeaseGrant(LEASE),
            Call::Enable,
        ] {
            let made = first.make(None, &call).await?;
            made.map_err(|refused| anyhow::anyhow!("{call:?}: {refused:?}"))?;
        }
        for index in 0..cluster.len() {
            ends(cluster, index).await?;
        }
        Ok(())
    })
    .await
}

/// A watch of a range, and the sender that keeps it open.
async fn watch(
    cluster: &Cluster,
    from: &str,
    to: &str,
) -> Result<(
    Streaming<mizzen_proto::etcdserverpb::WatchResponse>,
    mpsc::Sender<WatchRequest>,
)> {
    let (requests, receiver) = mpsc::channel(1);
    let create = WatchCreateRequest {
        key: from.to_owned().into(),
        range_end: to.to_owned().into(),
        ..Default::default()
    };
    let request_union = Some(RequestUnion::CreateRequest(create));
    requests.send(WatchRequest { request_union }).await?;
    let mut client = WatchClient::new(cluster.channel(0)?);
    let mut watch = client
        .watch(ReceiverStream::new(receiver))
        .await?
        .into_inner();
    let created = watch.message().await?.context("an answer")?;
    ensure!(created.created && !created.canceled, "{created:?}");
    Ok((watch, requests))
}

/// What began while authentication was off goes on for whom the certificate names,
/// as far as that user may read, and ends for who has shown none.
async fn switched_on(cluster: &Cluster, certificates: bool) -> Result<()> {
    let mut asked = Asked::new(cluster.channel(1)?);
    for call in [
        Call::UserAdd(text("root"), Some(text("p"))),
        Call::RoleAdd(text("root")),
        Call::GrantRole(text("root"), text("root")),
        Call::UserAdd(text("client"), None),
        Call::RoleAdd(text("r")),
        Call::GrantPermission(text("r"), Some(permission())),
        Call::GrantRole(text("client"), text("r")),
        Call::LeaseGrant(LEASE),
    ] {
        let made = asked.make(None, &call).await?;
        made.map_err(|refused| anyhow::anyhow!("{call:?}: {refused:?}"))?;
    }
    let (mut own, own_open) = watch(cluster, "w", "x").await?;
    let (mut others, others_open) = watch(cluster, "a", "b").await?;
    let made = asked.make(None, &Call::Enable).await?;
    made.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
    root(&mut asked, Call::Login(text("root"), text("p"))).await?;
    let why = match certificates {
        true => "etcdserver: permission denied",
        false => "etcdserver: user name is empty",
    };
    let (_, ended) = until_ended(&mut others, &others_open).await?;
    ensure!(ended.ends_with(why), "{ended:?}");
    root(&mut asked, put("seen")).await?;
    if !certificates {
        let (events, ended) = until_ended(&mut own, &own_open).await?;
        ensure!(events == 0 && ended.ends_with(why), "{events}, {ended:?}");
        return Ok(());
    }
    let message = timeout(DEADLINE, own.message()).await;
    let message = message.context("the watch tells nothing")??;
    let message = message.context("the stream has ended")?;
    ensure!(message.events.len() == 1, "{message:?}");
    Ok(())
}

#[tokio::test]
async fn what_began_without_users_goes_on_for_whom_the_certificate_names() -> Result<()> {
    for certificates in [true, false] {
        let options = Options::new(cluster::mizzen()?).flag("--bcrypt-cost=4");
        let options = match certificates {
            true => options.tls(),
            false => options,
        };
        Cluster::run(options, async |cluster| {
            switched_on(cluster, certificates).await
        })
        .await?;
    }
    Ok(())
}
