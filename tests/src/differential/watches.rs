//! Watches on both sides: the same requests on streams opened for them, and
//! everything told compared, watch by watch and event by event.
//!
//! Both sides come to the same point before anything whose outcome depends on
//! how far a watch has come: all watches were told everything before the store
//! is compacted, or before one of them is canceled. Then the sides may differ in
//! how events are cut into responses, and in the revisions of headers.

use std::collections::BTreeMap;

use mizzen_proto::etcdserverpb::WatchCreateRequest;

use super::operation::{Failure, readable};
use super::side::{Member, Side};
use super::watch_stream::{Trouble, WatchStream};

/// What to do with watches.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchStep {
    Create {
        stream: usize,
        request: WatchCreateRequest,
    },
    Cancel {
        stream: usize,
        id: i64,
    },
    /// Requests progress, and compares what was told before it is reported.
    Progress {
        stream: usize,
    },
}

impl WatchStep {
    /// For counts.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Create { .. } => "WatchCreate",
            Self::Cancel { .. } => "WatchCancel",
            Self::Progress { .. } => "WatchProgress",
        }
    }

    fn stream(&self) -> usize {
        match self {
            Self::Create { stream, .. }
            | Self::Cancel { stream, .. }
            | Self::Progress { stream } => *stream,
        }
    }
}

/// Why watches could not be found equal.
pub enum Unequal {
    /// An account of the difference.
    Found(String),
    /// A stream ended for a reason of its member's own.
    Interrupted(String, Failure),
}

/// The same stream on both sides.
struct Twin<'a> {
    members: [&'a Member; 2],
    streams: [WatchStream; 2],
    /// What was requested, for accounts.
    requests: Vec<String>,
}

/// The streams of a sequence.
pub struct Watches<'a> {
    sides: [&'a Side; 2],
    are_etcd: [bool; 2],
    twins: BTreeMap<usize, Twin<'a>>,
    /// Events compared.
    pub events: u64,
}

impl<'a> Watches<'a> {
    /// No stream yet.
    pub fn new(reference: &'a Side, candidate: &'a Side, candidate_is_etcd: bool) -> Self {
        Self {
            sides: [reference, candidate],
            are_etcd: [true, candidate_is_etcd],
            twins: BTreeMap::new(),
            events: 0,
        }
    }

    /// Does one step on both sides and compares the answers; `draw` chooses the
    /// members of a stream that is not open yet. Returns the answer's name.
    pub async fn step(
        &mut self,
        step: &WatchStep,
        draw: usize,
        current: i64,
        compacted: i64,
    ) -> Result<&'static str, Unequal> {
        let number = step.stream();
        let twin = match step {
            WatchStep::Create { .. } => {
                let (sides, are_etcd) = (self.sides, self.are_etcd);
                self.twins.entry(number).or_insert_with(|| {
                    let members = sides.map(|side| side.member(draw));
                    Twin {
                        members,
                        streams: [0, 1].map(|side| {
                            WatchStream::open(members[side].watch_client(), are_etcd[side])
                        }),
                        requests: Vec::new(),
                    }
                })
            }
            _ => match self.twins.get_mut(&number) {
                Some(twin) => twin,
                None => return Ok("no stream"),
            },
        };
        let request = readable(step);
        twin.requests.push(request);
        match step {
            WatchStep::Create { request, .. } => twin.create(request, compacted).await,
            WatchStep::Cancel { id, .. } => twin.cancel(*id, current, &mut self.events).await,
            WatchStep::Progress { .. } => {
                twin.barrier(current, &mut self.events).await?;
                Ok("Ok")
            }
        }
    }

    /// Compares all that was told up to a revision.
    pub async fn barrier(&mut self, current: i64) -> Result<(), Unequal> {
        for twin in self.twins.values_mut() {
            twin.barrier(current, &mut self.events).await?;
        }
        Ok(())
    }

    /// The last comparison: watches of the future are canceled first, since
    /// there is no report of progress for their streams.
    pub async fn finish(&mut self, current: i64) -> Result<(), Unequal> {
        for twin in self.twins.values_mut() {
            for id in twin.streams[0].ids_after(current) {
                twin.cancel(id, current, &mut self.events).await?;
            }
            twin.barrier(current, &mut self.events).await?;
        }
        Ok(())
    }
}

impl Twin<'_> {
    async fn create(
        &mut self,
        request: &WatchCreateRequest,
        compacted: i64,
    ) -> Result<&'static str, Unequal> {
        self.read().await?;
        let [a, b] = &mut self.streams;
        let (a, b) = tokio::join!(a.create(request, compacted), b.create(request, compacted));
        let (a, b) = (self.untroubled(0, a)?, self.untroubled(1, b)?);
        if a != b {
            return Err(self.found(&format!(
                "created: {a:?} at the reference, {b:?} at the candidate"
            )));
        }
        Ok(match a.refusal {
            None => "Ok",
            Some(_) => "refused",
        })
    }

    async fn cancel(
        &mut self,
        id: i64,
        current: i64,
        events: &mut u64,
    ) -> Result<&'static str, Unequal> {
        self.barrier(current, events).await?;
        let known = self.streams[0].is_live(id);
        let [a, b] = &mut self.streams;
        let (a, b) = tokio::join!(a.cancel(id), b.cancel(id));
        self.untroubled(0, a)?;
        self.untroubled(1, b)?;
        Ok(if known { "Ok" } else { "no watch" })
    }

    /// Compares what was told up to a revision that both members have reached.
    async fn barrier(&mut self, current: i64, events: &mut u64) -> Result<(), Unequal> {
        self.read().await?;
        let [a, b] = &mut self.streams;
        let (a, b) = tokio::join!(a.barrier(current), b.barrier(current));
        self.untroubled(0, a)?;
        self.untroubled(1, b)?;
        *events += self.compare()?;
        Ok(())
    }

    /// Has both members catch up with what was acknowledged.
    async fn read(&self) -> Result<(), Unequal> {
        let (a, b) = tokio::join!(self.members[0].revision(), self.members[1].revision());
        for (side, revision) in [a, b].into_iter().enumerate() {
            if let Err(failure) = revision {
                return Err(Unequal::Interrupted(self.reading(side), failure));
            }
        }
        Ok(())
    }

    fn reading(&self, side: usize) -> String {
        format!("reading {}", self.members[side].endpoint())
    }

    fn untroubled<T>(&self, side: usize, result: Result<T, Trouble>) -> Result<T, Unequal> {
        let endpoint = self.members[side].endpoint();
        result.map_err(|trouble| match trouble {
            Trouble::Broken(account) => self.found(&format!("{endpoint}: {account}")),
            Trouble::Ended(failure) if failure.is_interruption() => {
                Unequal::Interrupted(format!("watching {endpoint}"), failure)
            }
            Trouble::Ended(failure) => self.found(&format!("{endpoint}: stream ended: {failure}")),
        })
    }

    fn found(&self, account: &str) -> Unequal {
        Unequal::Found(format!(
            "{account}\nmembers: {} and {}\nstream:\n  {}",
            self.members[0].endpoint(),
            self.members[1].endpoint(),
            self.requests.join("\n  ")
        ))
    }

    /// Compares all logs and forgets their events; returns how many there were.
    fn compare(&mut self) -> Result<u64, Unequal> {
        let [reference, candidate] = self.streams.each_mut().map(WatchStream::take_logs);
        if reference.len() != candidate.len() {
            return Err(self.found(&format!(
                "{} watches at the reference, {} at the candidate",
                reference.len(),
                candidate.len()
            )));
        }
        let mut events = 0;
        for (number, (a, b)) in reference.iter().zip(&candidate).enumerate() {
            if a.end != b.end {
                return Err(self.found(&format!(
                    "watch {number} ended with {:?} at the reference, {:?} at the candidate",
                    a.end, b.end
                )));
            }
            let longest = a.events.len().max(b.events.len());
            for at in 0..longest {
                let (a, b) = (a.events.get(at), b.events.get(at));
                if a != b {
                    return Err(self.found(&format!(
                        "watch {number}, event {at} since the last comparison:\n  {}\n  at the \
                         reference, at the candidate\n  {}",
                        readable(&a),
                        readable(&b)
                    )));
                }
            }
            events += a.events.len() as u64;
        }
        Ok(events)
    }
}
