//! Clients that begin something and do not go on with it.
//!
//! As long as anything is begun a timer ticks twice in the time that a client
//! has; whatever was last gone on with three ticks ago is given up. So nothing
//! needs a timer of its own.

use std::{future::Future, pin::Pin, task::Context, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep_until},
};

use super::{Connection, Violation};
use crate::{
    Excess, Service,
    frame::Code,
    limits,
    streams::{Receiving, Stream, Work},
};

/// Ticks after which a client is too slow.
const LATE: u32 = 3;

pub(super) struct Ticks {
    timer: Pin<Box<Sleep>>,
    running: bool,
    period: Duration,
    now: u32,
    /// When the last whole frame came,
    framed: u32,
    /// the last header block was begun,
    block: u32,
    /// and something was last written.
    wrote: u32,
    /// Bytes of responses that were put into frames, at each of the last ticks.
    moved: [usize; LATE as usize],
}

impl Ticks {
    pub fn new(patience: Duration, now: Instant) -> Self {
        Self {
            timer: Box::pin(sleep_until(now)),
            running: false,
            period: patience / 2,
            now: 0,
            framed: 0,
            block: 0,
            wrote: 0,
            moved: [0; LATE as usize],
        }
    }

    pub fn now(&self) -> u32 {
        self.now
    }

    pub fn framed(&mut self) {
        self.framed = self.now;
    }

    pub fn block_begins(&mut self) {
        self.block = self.now;
    }

    pub fn wrote(&mut self) {
        self.wrote = self.now;
    }

    pub fn moved(&mut self, bytes: usize) {
        self.moved[0] += bytes;
    }

    fn late(&self, since: u32) -> bool {
        self.now >= since + LATE
    }

    fn tick(&mut self) {
        self.now += 1;
        self.moved.rotate_right(1);
        self.moved[0] = 0;
    }
}

impl<T, S> Connection<T, S>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service,
{
    /// Whether the client is to go on with anything.
    fn waits(&self) -> bool {
        !self.settings_seen
            || self.unfinished.is_some()
            || !self.input.is_empty()
            || !self.out.is_empty()
            || !self.streams.is_empty()
    }

    /// Gives up what the client does not go on with.
    pub(super) fn look_for_slowness(&mut self, cx: &mut Context<'_>) -> Result<(), Violation> {
        if !self.ticks.running {
            if !self.waits() {
                return Ok(());
            }
            self.ticks.running = true;
            let now = self.ticks.now;
            (self.ticks.framed, self.ticks.wrote) = (now, now);
            self.next_tick();
        }
        while self.ticks.timer.as_mut().poll(cx).is_ready() {
            if !self.waits() {
                self.ticks.running = false;
                // Made anew when something comes.
                (self.input, self.out) = (BytesMut::new(), BytesMut::new());
                return Ok(());
            }
            self.ticks.tick();
            self.next_tick();
            // Time counts from when there is something.
            if self.input.is_empty() {
                self.ticks.framed();
            }
            if self.out.is_empty() {
                self.ticks.wrote();
            }
            self.give_up_slow()?;
        }
        Ok(())
    }

    fn next_tick(&mut self) {
        let next = Instant::now() + self.ticks.period;
        self.ticks.timer.as_mut().reset(next);
    }

    fn give_up_slow(&mut self) -> Result<(), Violation> {
        let ticks = &self.ticks;
        if !self.settings_seen && ticks.late(0) {
            return Err(Violation::excess(Excess::SlowHandshake));
        }
        if self.unfinished.is_some() && ticks.late(ticks.block) {
            return Err(Violation::excess(Excess::SlowFrame));
        }
        // As long as nothing can be written, nothing is read either.
        if self.out.is_empty() {
            if !self.input.is_empty() && ticks.late(ticks.framed) {
                return Err(Violation::excess(Excess::SlowFrame));
            }
        } else if ticks.late(ticks.wrote) {
            return Err(Violation::excess(Excess::SlowReader));
        }
        let stuck = ticks.moved.iter().sum::<usize>() < limits::PROGRESS_BYTES;
        for place in self.streams.places() {
            let Some(stream) = self.streams.get(place) else {
                continue;
            };
            if let Some(excess) = slow(stream, &self.ticks, stuck) {
                self.config.counters.note(excess, &self.peer);
                self.reset_for_client(place, Code::EnhanceYourCalm)?;
            }
        }
        Ok(())
    }
}

/// What the client of a stream is too slow with. `stuck`: so is the connection.
fn slow<B>(stream: &Stream<B>, ticks: &Ticks, stuck: bool) -> Option<Excess> {
    if !ticks.late(stream.since) {
        return None;
    }
    // A stream that goes on for ever, as watches do, holds one piece at most,
    // and may be left alone.
    let whole = matches!(stream.work, Work::None);
    if matches!(stream.receiving, Receiving::Whole { .. }) {
        Some(Excess::SlowBody)
    } else if whole && !stream.pieces.is_empty() && (stuck || stream.send_window <= 0) {
        Some(Excess::SlowReader)
    } else {
        None
    }
}
