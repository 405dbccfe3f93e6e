//! This member's answers about leases to its peers.

use std::sync::Arc;

use mizzen_proto::peer::{LeaseAnswers, LeaseQuestions, leases_server};
use tonic::{Request, Response, Status};

use super::{asking, rounds::Rounds};
use crate::{limits, raft::Group};

/// The peer protocol's lease service of one member.
pub struct LeaseService {
    pub(super) group: Arc<Group>,
    pub(super) rounds: Rounds,
}

#[tonic::async_trait]
impl leases_server::Leases for LeaseService {
    async fn ask(
        &self,
        request: Request<LeaseQuestions>,
    ) -> Result<Response<LeaseAnswers>, Status> {
        self.group.check_addressee(request.metadata())?;
        let wire = request.into_inner();
        let questions = asking::questions_from_wire(&wire);
        if questions.len() > limits::LEASE_BATCH {
            return Err(Status::invalid_argument("malformed message of a peer"));
        }
        match self.rounds.ask(questions).await {
            Some(answers) => Ok(Response::new(asking::answers_to_wire(&wire, &answers))),
            None => Err(Status::unavailable("this member does not lead")),
        }
    }
}
