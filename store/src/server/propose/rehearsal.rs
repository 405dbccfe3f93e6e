//! Finding out, before a write is proposed, what carrying it out would take.

use std::sync::Arc;

use mizzen_core::{
    Command, Operation, Room, Txn, Unbounded, View, ViewError,
    auth::{self, By},
};
use mizzen_engine::{Engine, Snapshot};

use crate::{
    limits,
    server::{
        error::Error,
        memory::Grant,
        model::{caller::Caller, published::Published},
        read::{ReadResult, Reads, budgeted, refused},
    },
};

/// Rehearses commands on the rows as they are.
pub struct Rehearsal<E: Engine> {
    pub reads: Arc<Reads<E>>,
}

impl<E: Engine> Rehearsal<E> {
    /// Who writes, and room for what carrying out `command` now would put into
    /// memory, if that may be much. What is too large is not proposed: all
    /// members would have to carry it out. Who has no right to it is told
    /// nothing else about it.
    pub async fn rehearse(
        &self,
        caller: &Caller,
        command: &Command,
    ) -> Result<(By, Option<Grant>), Error> {
        let Some(txn) = large(command) else {
            return Ok((self.reads.access.identify(caller).await?, None));
        };
        match self.rehearse_once(caller, command, txn.clone()).await {
            Err(Error::Refused(mizzen_core::Error::Auth(_))) => {}
            rehearsed => return rehearsed,
        }
        // This member may be behind the change that permits it.
        self.reads.index.wait().await?;
        self.rehearse_once(caller, command, txn).await
    }

    async fn rehearse_once(
        &self,
        caller: &Caller,
        command: &Command,
        txn: Txn,
    ) -> Result<(By, Option<Grant>), Error> {
        let (published, by) = self.reads.access.sight(caller).await?;
        let view = budgeted(&published);
        match rehearse(&published, &by, command, &txn, &view, &Unbounded) {
            Err(ViewError::WouldBlock) => {}
            Err(error) => return Err(error.into()),
            Ok(Err(refusal @ mizzen_core::Error::Auth(_))) => return Err(refusal.into()),
            // Any other refusal is for the state it is applied to.
            Ok(_) => return Ok((by, None)),
        }
        drop((view, published));
        let held = caller.turn.wait().await;
        let (published, by) = self.reads.access.sight(caller).await?;
        let (known, command) = (by.clone(), command.clone());
        let read = move |published: &Published<E::Snapshot>, room: &Grant| {
            rehearse(published, &known, &command, &txn, &published.rows, room)
        };
        let (found, room) = self.reads.with_room(published, held, read).await?;
        if room.used() < limits::LARGE_REPLY_BYTES {
            caller.turn.end();
        }
        match found? {
            Err(refusal @ mizzen_core::Error::Auth(_)) => Err(refusal.into()),
            Err(refusal) if room.refused().is_some() => Err(refused(refusal, &room)),
            Ok(()) | Err(_) => Ok((by, Some(room))),
        }
    }
}

/// A command that may put much more into memory than it is itself, as a
/// transaction.
fn large(command: &Command) -> Option<Txn> {
    match command {
        Command::Txn(txn) if may_be_large(txn) => Some(txn.clone()),
        Command::DeleteRange(delete) if !delete.range_end.is_empty() => Some(Txn {
            success: vec![Operation::DeleteRange(delete.clone())],
            ..Txn::default()
        }),
        _ => None,
    }
}

/// See [`Rehearsal::rehearse`]. First who asks is looked at, as when it is applied.
fn rehearse<S: Snapshot>(
    published: &Published<S>,
    by: &By,
    command: &Command,
    txn: &Txn,
    view: &impl View,
    room: &dyn Room,
) -> ReadResult<()> {
    let (users, state) = (&published.auth, &published.state);
    match auth::permit(users, by, state, view, command)? {
        Ok(()) => mizzen_core::rehearse(state, view, txn, room),
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// Whether a transaction may put much more into memory than it is itself.
fn may_be_large(txn: &Txn) -> bool {
    let mut single = 0;
    let operations = txn.success.iter().chain(&txn.failure);
    operations.clone().any(|operation| match operation {
        Operation::Range(range) => {
            single += 1;
            !range.range_end.is_empty()
        }
        Operation::DeleteRange(delete) => {
            single += usize::from(delete.prev_kv);
            !delete.range_end.is_empty()
        }
        Operation::Put(put) => {
            single += usize::from(put.prev_kv);
            false
        }
        Operation::Txn(nested) => may_be_large(nested),
        Operation::Empty => false,
    }) || single > limits::SINGLE_READS
}
