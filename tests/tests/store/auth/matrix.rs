//! Every call of the client API by everybody who may make it: without
//! credentials, with wrong ones, as users with different rights, of a leader and
//! of a follower, under each alarm; beside the reference etcd, with the same
//! outcome but for differences that are named here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::uri::PathAndQuery;
use mizzen_proto::authpb::{Permission, permission::Type};
use mizzen_proto::etcdserverpb::{
    AlarmRequest, AlarmType, AuthStatusRequest, WatchResponse, alarm_request::AlarmAction,
    auth_client::AuthClient, maintenance_client::MaintenanceClient,
};
use mizzen_tests::auth::call::{Asked, Call};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::untyped::Raw;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::shapes::{self, Shape};
use super::token::{SECRET, claims, hs256, now};

/// A call that is answered by nothing in this time waits for something.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who calls.
const CALLERS: [&str; 8] = [
    "no credentials",
    "a bad token",
    "an expired token",
    "a token of an older revision",
    "nobody",
    "reader",
    "writer",
    "root",
];

/// Those of whom nobody knows who they are.
const STRANGERS: [&str; 3] = [CALLERS[0], CALLERS[1], CALLERS[2]];

/// Those who may be allowed something.
const USERS: [&str; 4] = [CALLERS[4], CALLERS[5], CALLERS[6], CALLERS[7]];

/// Who root is, is looked up as it is now: an older token is as good.
const IS_ROOT: [&str; 2] = [CALLERS[3], CALLERS[7]];

/// What strangers may ask.
const OPEN: [(&str, &[&str]); 2] = [
    ("/etcdserverpb.Auth/AuthStatus", &[CALLERS[0]]),
    ("/etcdserverpb.Auth/Authenticate", &STRANGERS),
];

/// Where ours and the reference differ: places and calls (what they contain, and
/// begin with), what ours says, and why. Each is needed.
const DIFFERENCES: &[(&str, &str, &str, &str)] = &[
    (
        "CORRUPT",
        "/",
        "corrupt cluster",
        "data that is not to be trusted is not read either",
    ),
    (
        "",
        "/v3electionpb.Election/Observe",
        "Unknown: ",
        "why nothing can be observed is said, where etcd ends the stream without a word",
    ),
];

/// One server of a side with its tokens.
struct Server {
    channel: Channel,
    tokens: BTreeMap<&'static str, Option<String>>,
}

fn told(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

impl Server {
    async fn new(channel: Channel) -> Result<Self> {
        let mut auth = AuthClient::new(channel.clone());
        let status = auth.auth_status(AuthStatusRequest {}).await?.into_inner();
        ensure!(status.enabled, "authentication is off");
        let (now, revision) = (now(), status.auth_revision);
        let later = now + 3_600;
        let tokens = CALLERS.map(|caller| {
            let token = match caller {
                "no credentials" => None,
                "a bad token" => Some("never.1".to_owned()),
                "an expired token" => Some(hs256(&claims("root", revision, now - 1))),
                "a token of an older revision" => Some(hs256(&claims("root", 1, later))),
                user => Some(hs256(&claims(user, revision, later))),
            };
            (caller, token)
        });
        Ok(Self {
            channel,
            tokens: tokens.into(),
        })
    }

    /// What comes first of the answer.
    async fn ask(&self, caller: &str, shape: &Shape) -> Result<String> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await?;
        // Calls that take many messages stay open.
        let messages = stream::once(std::future::ready(shape.message.clone()));
        let mut request = match is_open(shape.path) {
            true => Request::new(messages.chain(stream::pending()).boxed()),
            false => Request::new(messages.boxed()),
        };
        if let Some(token) = &self.tokens[caller] {
            request.metadata_mut().insert("token", token.parse()?);
        }
        let answer = async {
            let path = PathAndQuery::from_static(shape.path);
            let mut answers = grpc.streaming(request, path, Raw).await?.into_inner();
            answers.message().await
        };
        Ok(match tokio::time::timeout(PATIENCE, answer).await {
            Err(_) => "no answer".to_owned(),
            Ok(Err(status)) => told(&status),
            Ok(Ok(None)) => "an empty stream".to_owned(),
            Ok(Ok(Some(message))) => carried_out(shape.path, message)?,
        })
    }

    async fn restore(&self) -> Result<()> {
        for shape in shapes::restored() {
            self.ask("root", &shape).await?;
        }
        Ok(())
    }

    async fn alarm(&self, alarm: AlarmType, action: AlarmAction) -> Result<()> {
        let mut request = Request::new(AlarmRequest {
            action: action.into(),
            member_id: 1,
            alarm: alarm.into(),
        });
        let token = self.tokens["root"].as_ref().context("root has one")?;
        request.metadata_mut().insert("token", token.parse()?);
        let mut maintenance = MaintenanceClient::new(self.channel.clone());
        maintenance.alarm(request).await?;
        Ok(())
    }
}

fn is_open(path: &str) -> bool {
    path.ends_with("/Watch") || path.ends_with("/LeaseKeepAlive")
}

/// A refused watch is told so in a message.
fn carried_out(path: &str, message: Bytes) -> Result<String> {
    if !path.ends_with("/Watch") {
        return Ok("carried out".to_owned());
    }
    let response = WatchResponse::decode(message)?;
    Ok(match response.canceled {
        true => format!("canceled: {}", response.cancel_reason),
        false => "carried out".to_owned(),
    })
}

/// Users and what they may do; the last call switches authentication on.
fn beginning() -> Vec<Call> {
    let text = str::to_owned;
    let mut calls = Vec::new();
    for (name, perm_type) in [("reader", Type::Read), ("writer", Type::Write)] {
        let permission = Permission {
            perm_type: perm_type.into(),
            key: Bytes::from_static(b"r"),
            range_end: Bytes::from_static(b"s"),
        };
        calls.extend([
            Call::UserAdd(text(name), Some(text("p"))),
            Call::RoleAdd(text(name)),
            Call::GrantPermission(text(name), Some(permission)),
            Call::GrantRole(text(name), text(name)),
        ]);
    }
    calls.extend([
        Call::UserAdd(text("nobody"), Some(text("p"))),
        Call::UserAdd(text("root"), Some(text("p"))),
        Call::RoleAdd(text("root")),
        Call::GrantRole(text("root"), text("root")),
        Call::Enable,
    ]);
    calls
}

/// A cluster of either binary, and its servers to ask.
async fn side(options: Options, secret: &std::path::Path) -> Result<(Cluster, Vec<Server>)> {
    let tokens = format!(
        "--auth-token=jwt,sign-method=HS256,priv-key={}",
        secret.display()
    );
    let options = options.flag(tokens).flag("--bcrypt-cost=4");
    let cluster = Cluster::start(options).await?;
    let leader = cluster.leader().await?;
    let mut first = Asked::new(cluster.channel(leader)?);
    for call in beginning() {
        let made = first.make(None, &call).await?;
        made.map_err(|refused| anyhow::anyhow!("{call:?}: {refused:?}"))?;
    }
    let mut servers = Vec::new();
    for index in [leader, (leader + 1) % cluster.len()] {
        servers.push(Server::new(cluster.channel(index)?).await?);
    }
    Ok((cluster, servers))
}

/// Cells that were compared, and those with surprises.
#[derive(Default)]
struct Cells {
    equal: usize,
    named: BTreeMap<usize, usize>,
    surprises: Vec<String>,
    outcomes: BTreeMap<String, usize>,
}

impl Cells {
    fn judge(&mut self, place: &str, caller: &str, shape: &Shape, ours: &str, theirs: &str) {
        let cell = format!("{place}, {caller}, {} {}", shape.path, shape.name);
        *self.outcomes.entry(ours.to_owned()).or_default() += 1;
        let asks = OPEN
            .iter()
            .any(|(path, callers)| *path == shape.path && callers.contains(&caller));
        if STRANGERS.contains(&caller) && ours == "carried out" && !asks {
            self.surprises.push(format!("{cell}: a stranger is served"));
        }
        if ours == theirs {
            self.equal += 1;
            return;
        }
        let known = DIFFERENCES.iter().position(|(at, call, says, _)| {
            place.contains(at) && shape.path.starts_with(call) && ours.contains(says)
        });
        match known {
            Some(known) => *self.named.entry(known).or_default() += 1,
            None => self
                .surprises
                .push(format!("{cell}:\n  ours   {ours}\n  theirs {theirs}")),
        }
    }

    /// Everybody asks everything of one server of each side.
    async fn compare(&mut self, place: &str, ours: &Server, theirs: &Server) -> Result<()> {
        for shape in shapes::all() {
            for caller in CALLERS {
                // What it would end cannot be made again under an alarm.
                let ends = place.contains("NOSPACE") && shape.changes;
                if IS_ROOT.contains(&caller) && shape.not_root || caller == "root" && ends {
                    continue;
                }
                if shape.changes && place.contains("no alarm") && USERS.contains(&caller) {
                    tokio::try_join!(ours.restore(), theirs.restore())?;
                }
                let (ours, theirs) =
                    tokio::try_join!(ours.ask(caller, &shape), theirs.ask(caller, &shape))?;
                self.judge(place, caller, &shape, &ours, &theirs);
            }
        }
        Ok(())
    }
}

#[test]
fn every_call_is_asked() {
    let set = FileDescriptorSet::decode(mizzen_proto::FILE_DESCRIPTOR_SET).expect("valid");
    let mut methods = BTreeSet::new();
    for file in set
        .file
        .iter()
        .filter(|file| file.name().starts_with("etcd/"))
    {
        for service in &file.service {
            for method in &service.method {
                let service = format!("{}.{}", file.package(), service.name());
                methods.insert(format!("/{service}/{}", method.name()));
            }
        }
    }
    assert!(methods.len() > 40, "the descriptors were not read");
    let asked: BTreeSet<String> = shapes::all()
        .iter()
        .map(|shape| shape.path.to_owned())
        .collect();
    assert_eq!(asked, methods);
}

#[tokio::test]
async fn everybody_gets_what_etcd_gives_them() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let secret = directory.path().join("secret");
    std::fs::write(&secret, SECRET)?;
    let (_cluster, ours) = side(Options::new(cluster::mizzen()?), &secret).await?;
    let reference = Options::new(cluster::reference()?).members(1);
    let (_reference, theirs) = side(reference, &secret).await?;
    let mut cells = Cells::default();
    let places = ["leader", "follower"];
    for alarm in [None, Some(AlarmType::Nospace), Some(AlarmType::Corrupt)] {
        for (place, (ours, theirs)) in places.iter().zip(ours.iter().zip(&theirs)) {
            if let Some(alarm) = alarm {
                ours.alarm(alarm, AlarmAction::Activate).await?;
                theirs.alarm(alarm, AlarmAction::Activate).await?;
            }
            let alarm = alarm.map_or("no alarm", |alarm| alarm.as_str_name());
            let place = format!("{place}, {alarm}");
            cells.compare(&place, ours, theirs).await?;
        }
        if let Some(alarm) = alarm {
            ours[0].alarm(alarm, AlarmAction::Deactivate).await?;
            theirs[0].alarm(alarm, AlarmAction::Deactivate).await?;
        }
    }
    let named: usize = cells.named.values().sum();
    println!(
        "{} cells: {} equal, {named} named differences",
        cells.equal + named + cells.surprises.len(),
        cells.equal
    );
    for (outcome, count) in &cells.outcomes {
        println!("{count:6} {outcome}");
    }
    let surprises = cells.surprises.len();
    ensure!(
        surprises == 0,
        "{surprises} surprises:\n{}\nagain: cargo test --release -p mizzen-tests --test store auth::matrix",
        cells.surprises.join("\n")
    );
    for (number, (_, call, _, why)) in DIFFERENCES.iter().enumerate() {
        ensure!(
            cells.named.contains_key(&number),
            "{call} differs no more, though {why}"
        );
    }
    ensure!(cells.equal > 5_000, "too few cells");
    Ok(())
}
