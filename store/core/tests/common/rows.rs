//! Rows in memory, and a replica that keeps its rows there.

use std::{
    cell::Cell,
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
};

use bytes::Bytes;
use mizzen_core::{
    Batch, Command, Family, Outcome, Overlay, Reclaim, Reply, RowOp, State, View, ViewError, Visit,
    apply, drop_tombstones, end_leases, prefetch_keys, reclaim,
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    families: [BTreeMap<Bytes, Bytes>; 3],
}

impl Rows {
    pub fn write(&mut self, batch: Batch) {
        let mut written = std::collections::BTreeSet::new();
        for op in batch.ops {
            let (RowOp::Put { family, key, .. } | RowOp::Delete { family, key }) = &op;
            assert!(
                written.insert((*family, key.clone())),
                "a batch changes a row once"
            );
            match op {
                RowOp::Put { family, key, value } => {
                    self.families[family as usize].insert(key, value)
                }
                RowOp::Delete { family, key } => self.families[family as usize].remove(&key),
            };
        }
    }

    pub fn len(&self, family: Family) -> usize {
        self.families[family as usize].len()
    }

    pub fn family(&self, family: Family) -> &BTreeMap<Bytes, Bytes> {
        &self.families[family as usize]
    }
}

impl View for Rows {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        Ok(self.families[family as usize].get(key).cloned())
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), ViewError> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
        for (key, row) in
            self.families[family as usize].range::<[u8], _>((Bound::Included(from), upper))
        {
            if visit(key, row) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

/// A view that fails as if a row were not in memory, once `reads` rows have
/// been given. Counts them too.
pub struct Limited<'r> {
    rows: &'r Rows,
    pub reads: Cell<usize>,
    limit: usize,
}

impl<'r> Limited<'r> {
    pub fn new(rows: &'r Rows, limit: usize) -> Self {
        Self {
            rows,
            reads: Cell::new(0),
            limit,
        }
    }

    fn read(&self) -> Result<(), ViewError> {
        self.reads.set(self.reads.get() + 1);
        if self.reads.get() > self.limit {
            Err(ViewError::WouldBlock)
        } else {
            Ok(())
        }
    }
}

impl View for Limited<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        self.read()?;
        self.rows.get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), ViewError> {
        let mut blocked = Ok(());
        self.rows.scan(family, from, to, &mut |key, row| {
            blocked = self.read();
            if blocked.is_ok() {
                visit(key, row)
            } else {
                ControlFlow::Break(())
            }
        })?;
        blocked
    }
}

fn one(state: &mut State, overlay: &mut Overlay<'_, Rows>, command: &Command) -> Outcome {
    let (len, before) = (overlay.len(), *state);
    let outcome = apply(state, overlay, command, Some(&mizzen_core::Unbounded))
        .expect("rows in memory can be read");
    if outcome.reply.is_err() {
        assert_eq!(
            (overlay.len(), *state),
            (len, before),
            "a refused command leaves nothing"
        );
    }
    outcome
}

fn both_revoke(one: &Command, next: &Command) -> bool {
    matches!(
        (one, next),
        (Command::LeaseRevoke(_), Command::LeaseRevoke(_))
    )
}

/// Ends the leases of several commands at once.
fn revoked(
    state: &mut State,
    overlay: &mut Overlay<'_, Rows>,
    commands: &[Command],
) -> Vec<Outcome> {
    let id = |command: &Command| match command {
        Command::LeaseRevoke(revoke) => revoke.id,
        other => panic!("{other:?}"),
    };
    let ids: Vec<i64> = commands.iter().map(id).collect();
    let ended = end_leases(state, overlay, &ids).expect("rows in memory can be read");
    let mut ended = ended.into_iter().peekable();
    let outcomes = commands
        .iter()
        .map(
            |command| match ended.next_if(|ended| ended.id == id(command)) {
                Some(ended) => Outcome {
                    reply: Ok(Reply::LeaseRevoke {
                        revision: ended.revision,
                    }),
                    events: ended.events,
                    events_in_log: ended.events_in_log,
                },
                None => {
                    let outcome = one(state, overlay, command);
                    assert!(outcome.reply.is_err(), "{command:?} was passed over");
                    outcome
                }
            },
        )
        .collect();
    assert_eq!(ended.next(), None, "ended, and not asked for in this order");
    outcomes
}

#[derive(Clone, Debug)]
pub struct Replica {
    pub rows: Rows,
    pub state: State,
}

impl Default for Replica {
    fn default() -> Self {
        let rows = Rows::default();
        let state = State::load(&rows).expect("no rows are not damaged");
        Self { rows, state }
    }
}

impl Replica {
    /// Applies commands as one batch.
    pub fn apply(&mut self, commands: &[Command]) -> Vec<Outcome> {
        let mut overlay = Overlay::new(&self.rows);
        let mut keys = Vec::new();
        commands
            .iter()
            .for_each(|command| prefetch_keys(command, &mut keys));
        overlay
            .prefetch(Family::Head, &keys)
            .expect("rows in memory can be read");
        let mut outcomes = Vec::new();
        for commands in commands.chunk_by(both_revoke) {
            if let [command] = commands {
                outcomes.push(one(&mut self.state, &mut overlay, command));
            } else {
                outcomes.extend(revoked(&mut self.state, &mut overlay, commands));
            }
        }
        let batch = overlay.into_batch();
        self.rows.write(batch);
        assert_eq!(
            State::load(&self.rows),
            Ok(self.state),
            "the rows tell the state"
        );
        outcomes
    }

    pub fn apply_one(&mut self, command: &Command) -> Outcome {
        self.apply(std::slice::from_ref(command)).remove(0)
    }

    /// One step of reclaiming. With `crash`, its second part is lost.
    pub fn reclaim(&mut self, budget: usize, crash: bool) -> bool {
        let step = reclaim(&self.state, &self.rows, budget).expect("rows in memory can be read");
        let mut overlay = Overlay::new(&self.rows);
        drop_tombstones(&self.state, &mut overlay, &step.tombstones)
            .expect("rows in memory can be read");
        let batch = overlay.into_batch();
        self.rows.write(batch);
        if !crash {
            self.rows.write(step.batch);
        }
        step.done && !crash
    }

    pub fn reclaim_all(&mut self) {
        while !self.reclaim(7, false) {}
        let nothing = Reclaim {
            done: true,
            ..Reclaim::default()
        };
        assert_eq!(
            reclaim(&self.state, &self.rows, 7),
            Ok(nothing),
            "what is done is not done again"
        );
    }
}
