//! A leader's answers about leases. All questions that wait when a round
//! begins share its quorum round: what the leader did for them counts only if
//! it still led after that.

use std::sync::Arc;

use mizzen_planted::{bug, sometimes};
use tokio::sync::{mpsc, oneshot, watch};

use super::{expiry::Checkpoints, primary_lessor::PrimaryLessor};
use crate::{
    lease::{Lessor, Renewal},
    limits,
    raft::Group,
    workers,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    Renew(i64),
    Remaining(i64),
}

impl Question {
    fn id(self) -> i64 {
        match self {
            Self::Renew(id) | Self::Remaining(id) => id,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Seconds: what was granted for a renewal, else what is left.
    Ttl(i64),
    /// There is no such lease.
    Gone,
    /// Not to be told now: its end is under way, or its beginning.
    Again,
}

pub struct Asked {
    pub questions: Vec<Question>,
    /// `None`: this member does not lead. Nothing that was done counts.
    pub answers: oneshot::Sender<Option<Vec<Answer>>>,
}

/// The way to this member's rounds, for its own clients and for its peers.
#[derive(Clone)]
pub struct Rounds {
    asked: mpsc::Sender<Asked>,
}

impl Rounds {
    /// With the work to be spawned.
    pub fn new(round: Round) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (asked, queue) = mpsc::channel(limits::LEASE_ROUND);
        (Self { asked }, rounds(Arc::new(round), queue))
    }

    /// One answer for each question, if this member leads.
    pub async fn ask(&self, questions: Vec<Question>) -> Option<Vec<Answer>> {
        let (sender, answers) = oneshot::channel();
        let asked = Asked {
            questions,
            answers: sender,
        };
        self.asked.send(asked).await.ok()?;
        answers.await.ok()?
    }
}

pub struct Round {
    pub group: Arc<Group>,
    pub primary: Arc<PrimaryLessor>,
    pub applied: watch::Receiver<u64>,
    pub checkpoints: Arc<Checkpoints>,
}

async fn rounds(round: Arc<Round>, mut queue: mpsc::Receiver<Asked>) {
    let mut asked = Vec::new();
    while queue.recv_many(&mut asked, limits::LEASE_ROUND).await > 0 {
        round.clone().answer(std::mem::take(&mut asked)).await;
    }
}

/// What a first look gave; `None`: nothing is known of the lease.
type Looked = Vec<Vec<Option<Answer>>>;

impl Round {
    /// Dropping the senders without an answer says that this member does not
    /// lead.
    async fn answer(self: Arc<Self>, asked: Vec<Asked>) {
        let Some((term, looked, noted)) = self.look(&asked) else {
            return;
        };
        if !noted.is_empty()
            && !self
                .checkpoints
                .take_back(&self.primary, term, &noted)
                .await
        {
            return;
        }
        let known = looked.iter().flatten().all(Option::is_some);
        bug!("unconfirmed-renewal" => if known { return self.finish(term, asked, looked); });
        let index = match self.group.confirm_leadership().await {
            Ok(confirmed) if confirmed.term == term => confirmed.index,
            Ok(_) | Err(_) => {
                sometimes!("renewal-without-a-leader");
                return;
            }
        };
        if *self.applied.borrow() >= index {
            self.finish(term, asked, looked);
        } else {
            // What was looked at may have been granted or revoked and not
            // applied here. The next round need not wait for that.
            workers::detached(async move {
                let mut applied = self.applied.clone();
                if applied.wait_for(|applied| *applied >= index).await.is_ok() {
                    self.finish(term, asked, looked);
                }
            });
        }
    }

    /// Renews what is to be renewed. Gives also the leases of which the log
    /// says that less is left.
    fn look(&self, asked: &[Asked]) -> Option<(u64, Looked, Vec<i64>)> {
        let mut noted = Vec::new();
        self.primary.with(|lessor, now, term| {
            let mut look = |question: &Question| match *question {
                Question::Renew(id) => match bug!("renewal-forgotten", lessor.renew(now, id) => Renewal::Renewed { ttl: 3, noted: false }) {
                    Renewal::Unknown => None,
                    Renewal::Expiring => Some(Answer::Again),
                    Renewal::Renewed { ttl, noted: less } => {
                        if less {
                            noted.push(id);
                        }
                        Some(Answer::Ttl(ttl))
                    }
                },
                Question::Remaining(id) => lessor.remaining(now, id).map(|remaining| {
                    Answer::Ttl(i64::try_from(remaining.left.as_secs()).unwrap_or(i64::MAX))
                }),
            };
            let looked = asked
                .iter()
                .map(|asked| asked.questions.iter().map(&mut look).collect())
                .collect();
            (term, looked, noted)
        })
    }

    /// This member led, and has applied what was committed when it was asked:
    /// what is unknown by now does not exist, whatever the first look gave.
    /// What was unknown then and is known now is granted anew or late, and was
    /// not renewed.
    fn finish(&self, term: u64, asked: Vec<Asked>, looked: Looked) {
        let told = |lessor: &Lessor, id, first: Option<Answer>| match lessor.knows(id) {
            true => first.unwrap_or(Answer::Again),
            false => Answer::Gone,
        };
        for (asked, looked) in asked.into_iter().zip(looked) {
            let answers = self.primary.in_term(term, |lessor, _| {
                let answers = asked.questions.iter().zip(looked);
                answers
                    .map(|(question, first)| told(lessor, question.id(), first))
                    .collect()
            });
            // Who asked may have gone away.
            let _ = asked.answers.send(answers);
        }
    }
}
