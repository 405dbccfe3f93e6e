//! Questions of this member's clients about leases, on their way to the
//! leader in batches.

use std::{sync::Arc, time::Duration};

use mizzen_proto::peer::{LeaseAnswers, LeaseQuestions, leases_client::LeasesClient};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};

use super::rounds::{Answer, Question, Rounds};
use crate::{
    limits,
    raft::Group,
    server::{error::Error, leader},
    workers,
};

/// A client that waits.
pub struct Item {
    pub question: Question,
    pub answer: oneshot::Sender<Result<Answer, Error>>,
}

pub struct Asking {
    pub group: Arc<Group>,
    pub rounds: Rounds,
    /// How long a client waits.
    pub limit: Duration,
}

impl Asking {
    /// Sends what has gathered while the earlier batches were on their way.
    pub async fn run(self, mut queue: mpsc::Receiver<Item>) {
        let asking = Arc::new(self);
        let in_flight = Arc::new(Semaphore::new(limits::LEASE_BATCHES));
        let mut items = Vec::new();
        loop {
            let Ok(permit) = in_flight.clone().acquire_owned().await else {
                return;
            };
            if queue.recv_many(&mut items, limits::LEASE_BATCH).await == 0 {
                return;
            }
            let (asking, items) = (asking.clone(), std::mem::take(&mut items));
            workers::detached(async move {
                asking.send(items).await;
                drop(permit);
            });
        }
    }

    /// To ask twice is no harm: a renewal may be repeated.
    async fn send(&self, mut items: Vec<Item>) {
        let deadline = Instant::now() + self.limit;
        let answers = leader::ask(&self.group, deadline, |leader| {
            items.retain(|item| !item.answer.is_closed());
            self.attempt(leader, items.iter().map(|item| item.question).collect())
        });
        match answers.await {
            Ok(answers) => {
                for (item, answer) in items.into_iter().zip(answers) {
                    // A client that went away no longer wants it.
                    let _ = item.answer.send(Ok(answer));
                }
            }
            Err(error) => {
                let error = match error {
                    Error::Timeout if self.group.leader().is_none() => Error::NoLeader,
                    error => error,
                };
                for item in items {
                    let _ = item.answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// An answer to each of the questions.
    async fn attempt(&self, leader: u64, questions: Vec<Question>) -> Option<Vec<Answer>> {
        if questions.is_empty() {
            return Some(Vec::new());
        }
        let count = questions.len();
        let answers = if leader == self.group.id() {
            self.rounds.ask(questions).await?
        } else {
            let channel = self.group.channel(leader).ok()?;
            let answers = LeasesClient::new(channel)
                .max_decoding_message_size(limits::PEER_MESSAGE_BYTES)
                .ask(questions_to_wire(&questions))
                .await
                .ok()?;
            answers_from_wire(&questions, answers.into_inner())?
        };
        (answers.len() == count).then_some(answers)
    }
}

const GONE: i64 = -1;
const AGAIN: i64 = -2;

fn questions_to_wire(questions: &[Question]) -> LeaseQuestions {
    let mut wire = LeaseQuestions::default();
    for question in questions {
        match question {
            Question::Renew(id) => wire.renew.push(*id),
            Question::Remaining(id) => wire.remaining.push(*id),
        }
    }
    wire
}

pub fn questions_from_wire(wire: &LeaseQuestions) -> Vec<Question> {
    let renew = wire.renew.iter().map(|id| Question::Renew(*id));
    let remaining = wire.remaining.iter().map(|id| Question::Remaining(*id));
    renew.chain(remaining).collect()
}

/// `answers` are to what [`questions_from_wire`] gave.
pub fn answers_to_wire(questions: &LeaseQuestions, answers: &[Answer]) -> LeaseAnswers {
    let numbers = answers.iter().map(|answer| match answer {
        Answer::Ttl(seconds) => *seconds,
        Answer::Gone => GONE,
        Answer::Again => AGAIN,
    });
    let mut renewed: Vec<i64> = numbers.collect();
    let remaining = renewed.split_off(questions.renew.len().min(renewed.len()));
    LeaseAnswers { renewed, remaining }
}

/// `None`: they are not the answers to these questions.
fn answers_from_wire(questions: &[Question], wire: LeaseAnswers) -> Option<Vec<Answer>> {
    let (mut renewed, mut remaining) = (wire.renewed.into_iter(), wire.remaining.into_iter());
    let answers = questions.iter().map(|question| {
        let number = match question {
            Question::Renew(_) => renewed.next()?,
            Question::Remaining(_) => remaining.next()?,
        };
        match number {
            GONE => Some(Answer::Gone),
            AGAIN => Some(Answer::Again),
            seconds => (seconds >= 0).then_some(Answer::Ttl(seconds)),
        }
    });
    answers.collect()
}
