//! A member that is refused for now lets everything else on its thread go on.

use mizzen_sim::{Event, Flaw};
use std::{sync::mpsc, thread, time::Duration};

use futures::FutureExt;

use super::members::{Setup, live};
use crate::server::Attributes;

/// Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A member that comes back far behind is refused at once, again and again. It
/// catches up only if it is not asked all the time.
#[test]
fn a_refused_announcement_leaves_time_for_others() {
    let (tell, told) = mpsc::sync_channel(1);
    // On a thread of its own: a loop that never waits would not end either.
    thread::spawn(move || {
        let setup = Setup {
            members: 1,
            seed: 5,
            flaw: Flaw::None,
        };
        let life = live(&setup, setup.empty(), Event::Never, |members| {
            async move {
                let server = &members[0].server;
                server.ready().await?;
                let taken: Vec<_> =
                    std::iter::from_fn(|| server.proposer.waiters.register(None).ok()).collect();
                let announcement = server.announce(Attributes {
                    member: 1,
                    name: "late".to_owned(),
                    client_urls: Vec::new(),
                });
                // Asked first, and refused as long as the places are taken.
                let (announced, ()) = tokio::join!(announcement, async move { drop(taken) });
                announced
            }
            .boxed()
        });
        tell.send(life.outcome)
    });
    let outcome = told.recv_timeout(PATIENCE);
    let outcome = outcome.expect("the announcement leaves time for others");
    outcome
        .expect("the power stays on")
        .expect("the member starts")
        .expect("announced");
}
