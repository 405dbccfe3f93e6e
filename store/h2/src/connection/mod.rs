//! One connection: RFC 9113 as a server, all of it in one task.
//!
//! The answers to what was read together leave together, in one write: there
//! is neither a task nor a system call for each request. What is read, held
//! and answered is bounded: nothing is read, and nobody is asked for more to
//! send, while the bytes that are ready to be written exceed their bound; what
//! waits, for the rest of a request or for the client's windows, is paid from
//! the budget of all connections; and work that brings no request further is
//! paid from allowances.

mod receive;
mod send;
mod slow;

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::io::poll_read_buf;

use crate::{
    Budget, Counters, Excess, Service,
    allowance::Allowance,
    budget::Account,
    frame::{self, Code, setting},
    head::Heads,
    limits,
    streams::Streams,
    wake::Wakes,
};
use receive::Unfinished;
use slow::Ticks;

/// What the owner of a server decides.
#[derive(Clone, Debug)]
pub struct Config {
    /// Streams that may be open at once (SETTINGS_MAX_CONCURRENT_STREAMS).
    pub streams: u32,
    /// Bytes that may come on one stream before they are read.
    pub stream_window: u32,
    /// Bytes that may come on the connection before they are read; at least
    /// 65,535.
    pub connection_window: u32,
    /// Bytes ready to be written from which on nothing more is asked for.
    pub held_bytes: usize,
    /// A connection on which nothing happens is pinged after this time,
    pub keepalive_interval: Duration,
    /// and closed when no answer comes in this time.
    pub keepalive_timeout: Duration,
    /// What a client begins it has to end in this time, or half as much again:
    /// its first settings, a frame, a header block, the body of a request that
    /// is answered when it is whole, and reading 16 KiB of such an answer.
    pub patience: Duration,
    /// Bytes that clients may make all connections hold.
    pub budget: Arc<Budget>,
    /// How often clients were stopped.
    pub counters: Arc<Counters>,
}

/// Serves a connection from `peer` until it ends: `input` is what has been read
/// of it already. From `leave` on the client is told to go, and the connection ends
/// when its requests are answered.
pub async fn serve<T, S>(
    io: T,
    input: BytesMut,
    service: S,
    config: Config,
    peer: Arc<str>,
    leave: impl Future<Output = ()> + Send,
) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service,
{
    let mut connection = Connection::new(io, input, service, config, peer);
    let mut leave = std::pin::pin!(leave);
    // The connection gives way by itself: limits::STEPS.
    tokio::task::unconstrained(poll_fn(move |cx| {
        if connection.phase == Phase::Open && leave.as_mut().poll(cx).is_ready() {
            connection.begin_to_leave();
        }
        connection.poll(cx)
    }))
    .await
}

/// The connection cannot go on.
struct Violation {
    code: Code,
    reason: &'static str,
    excess: Option<Excess>,
}

fn violation<T>(code: Code, reason: &'static str) -> Result<T, Violation> {
    Err(Violation {
        code,
        reason,
        excess: None,
    })
}

impl Violation {
    fn excess(excess: Excess) -> Self {
        Self {
            code: match excess {
                Excess::SlowHandshake => Code::SettingsTimeout,
                _ => Code::EnhanceYourCalm,
            },
            reason: excess.reason(),
            excess: Some(excess),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The client knows that it shall open no more streams, and may have opened
    /// some before it knew.
    Leaving,
    /// Later streams are refused.
    Left,
    /// Everything is said; what the client still sends is not looked at.
    Closing,
}

/// Of the ping that tells when the client knows that it shall leave.
const LEAVE: [u8; 8] = *b"leave...";
const ALIVE: [u8; 8] = *b"alive...";
/// How long a client may take to close a connection on which all is said.
const CLOSING: Duration = Duration::from_secs(1);

struct Connection<T, S: Service> {
    io: T,
    service: S,
    config: Config,
    peer: Arc<str>,
    account: Arc<Account>,
    /// What is taken for `out`: only when it could not be written at once.
    out_charged: usize,
    phase: Phase,
    input: BytesMut,
    preface_seen: bool,
    settings_seen: bool,
    unfinished: Option<Unfinished>,
    heads: Heads,
    wakes: Arc<Wakes>,
    streams: Streams<S::Body>,
    /// The newest one.
    last: u32,
    out: BytesMut,
    /// What is ready to be written waits for what is ready a moment later.
    lingered: bool,
    /// There was more to do, and no room for it.
    held_up: bool,
    send_window: i64,
    receive_window: i64,
    /// Of new streams of the client.
    initial_window: i64,
    frame_bytes: usize,
    /// The client's table of headers was made smaller, which the next block
    /// has to confirm.
    table_changed: bool,
    resets: Allowance,
    control: Allowance,
    ticks: Ticks,
    heard: Instant,
    pinged: bool,
    timer: Pin<Box<Sleep>>,
    /// Bytes that came after all was said.
    ignored: usize,
}

impl<T, S> Connection<T, S>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service,
{
    fn new(io: T, input: BytesMut, service: S, config: Config, peer: Arc<str>) -> Self {
        let mut out = BytesMut::new();
        frame::put_settings(
            &mut out,
            &[
                (setting::MAX_CONCURRENT_STREAMS, config.streams),
                (setting::INITIAL_WINDOW_SIZE, config.stream_window),
                (
                    setting::MAX_HEADER_LIST_SIZE,
                    limits::HEADER_LIST_BYTES as u32,
                ),
            ],
        );
        let more = i64::from(config.connection_window) - frame::DEFAULT_WINDOW;
        if more > 0 {
            frame::put_window_update(&mut out, 0, more as u32);
        }
        let now = Instant::now();
        let wakes = Wakes::new(config.connection_window as usize / 2);
        let account = Account::new(config.budget.clone());
        Self {
            io,
            service,
            peer,
            account: account.clone(),
            out_charged: 0,
            phase: Phase::Open,
            input,
            preface_seen: false,
            settings_seen: false,
            unfinished: None,
            heads: Heads::new(),
            wakes: wakes.clone(),
            streams: Streams::new(wakes, account),
            last: 0,
            out,
            lingered: false,
            held_up: false,
            send_window: frame::DEFAULT_WINDOW,
            receive_window: frame::DEFAULT_WINDOW + more.max(0),
            initial_window: frame::DEFAULT_WINDOW,
            frame_bytes: limits::FRAME_BYTES,
            table_changed: false,
            resets: Allowance::new(limits::RESETS, now),
            control: Allowance::new(limits::CONTROL, now),
            ticks: Ticks::new(config.patience, now),
            heard: now,
            pinged: false,
            timer: Box::pin(sleep_until(now + config.keepalive_interval)),
            ignored: 0,
            config,
        }
    }

    fn begin_to_leave(&mut self) {
        self.phase = Phase::Leaving;
        frame::put_goaway(&mut self.out, frame::MAX_WINDOW as u32, Code::NoError, "");
        frame::put_ping(&mut self.out, false, LEAVE);
    }

    fn close(&mut self) {
        self.phase = Phase::Closing;
        self.streams.clear();
        self.input = BytesMut::new();
        self.timer.as_mut().reset(Instant::now() + CLOSING);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wakes.register(cx.waker());
        if self.phase != Phase::Closing {
            let turn = self.turn(cx).and_then(|turn| {
                self.look_for_slowness(cx)?;
                Ok(turn)
            });
            match turn {
                Ok(Poll::Pending) => {}
                Ok(Poll::Ready(ended)) => return Poll::Ready(ended),
                Err(violation) => self.violated(violation),
            }
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.phase != Phase::Closing && self.keep_alive() {
                continue;
            }
            if self.phase != Phase::Closing {
                self.config.counters.note(Excess::Silence, &self.peer);
            }
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if let Poll::Ready(Err(error)) = self.write(cx) {
            return Poll::Ready(Err(error));
        }
        self.charge_out();
        if self.phase == Phase::Left && self.streams.is_empty() && self.out.is_empty() {
            self.close();
        }
        if self.phase == Phase::Closing && self.out.is_empty() {
            return self.poll_closed(cx);
        }
        Poll::Pending
    }

    fn violated(&mut self, violation: Violation) {
        let Violation {
            code,
            reason,
            excess,
        } = violation;
        if let Some(excess) = excess {
            self.config.counters.note(excess, &self.peer);
        }
        frame::put_goaway(&mut self.out, self.last, code, reason);
        self.close();
    }

    /// Waits until the client has closed the connection as well: what is closed
    /// with bytes unread would take what was sent with it.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        for _ in 0..limits::STEPS {
            self.input.clear();
            self.input.reserve(limits::READ_BYTES);
            let read = ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input))?;
            self.ignored += read;
            if read == 0 || self.ignored > limits::CLOSING_BYTES {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// What the client does not take at once is paid for. It is bounded by
    /// itself; see [`Connection::room`].
    fn charge_out(&mut self) {
        let bytes = self.out.len();
        if bytes > self.out_charged {
            self.account.take_anyway(bytes - self.out_charged);
        } else {
            self.account.give_back(self.out_charged - bytes);
        }
        self.out_charged = bytes;
    }

    /// Bytes ready to be written from which on nothing more is asked for.
    fn room(&self) -> usize {
        match self.account.exhausted() {
            true => self.config.held_bytes.min(limits::HELD_BYTES_MIN),
            false => self.config.held_bytes,
        }
    }

    /// Whether there is a window and room for the body of a response.
    fn may_send(&self, room: usize) -> bool {
        self.send_window > 0 && self.out.len() < room
    }

    /// The client does something that brings no request further.
    fn pay(&mut self, cost: u32, excess: Excess) -> Result<(), Violation> {
        match self.control.spend(cost) {
            true => Ok(()),
            false => Err(Violation::excess(excess)),
        }
    }

    /// The client takes a request back, or makes the server do so.
    fn pay_reset(&mut self) -> Result<(), Violation> {
        match self.resets.spend(1) {
            true => Ok(()),
            false => Err(Violation::excess(Excess::Resets)),
        }
    }

    /// False: the client does not answer.
    fn keep_alive(&mut self) -> bool {
        let now = Instant::now();
        let due = self.heard + self.config.keepalive_interval;
        if due > now {
            self.pinged = false;
            self.timer.as_mut().reset(due);
            return true;
        }
        if self.pinged {
            return false;
        }
        self.pinged = true;
        frame::put_ping(&mut self.out, false, ALIVE);
        self.timer
            .as_mut()
            .reset(now + self.config.keepalive_timeout);
        true
    }

    /// Takes turns at reading and answering until there is nothing to do, or it
    /// is others' turn. Ready: the connection has ended.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<Poll<io::Result<()>>, Violation> {
        let mut steps = limits::STEPS;
        let over = Instant::now() + limits::TURN;
        loop {
            let room = self.room();
            // What is answered is taken even if it cannot be written: whoever
            // made it shall not have to keep it.
            while steps > 0
                && self.out.len() < room + limits::OVER_BYTES
                && let Some(place) = self.streams.next(self.may_send(room))
            {
                steps -= 1;
                self.run(place);
                steps = left(steps, 1, over);
            }
            if self.out.len() >= room {
                self.held_up = true;
                if steps == 0 {
                    cx.waker().wake_by_ref();
                }
                return Ok(Poll::Pending);
            }
            let before = steps;
            while steps > 0
                && self.out.len() < room
                && let Some(cost) = self.frame()?
            {
                steps = left(steps.saturating_sub(cost), cost, over);
            }
            if steps == 0 {
                cx.waker().wake_by_ref();
                return Ok(Poll::Pending);
            }
            if before > steps {
                continue;
            }
            if self.input.capacity() - self.input.len() < limits::READ_ROOM {
                self.input.reserve(limits::READ_BYTES);
            }
            match poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Ok(Poll::Ready(Ok(()))),
                Poll::Ready(Ok(_)) => {
                    self.heard = Instant::now();
                    self.pinged = false;
                }
                Poll::Ready(Err(error)) => return Ok(Poll::Ready(Err(error))),
            }
        }
        self.grant();
        Ok(Poll::Pending)
    }

    /// Lets the client send as much again as was read.
    fn grant(&mut self) {
        if let Some(bytes) = self.wakes.take_consumed() {
            self.receive_window += bytes as i64;
            frame::put_window_update(&mut self.out, 0, bytes as u32);
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if !self.lingered && self.out.len() < self.room() {
            // Comes back after the tasks that are ready now have had their
            // turn, with what they answered.
            self.lingered = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
            self.heard = Instant::now();
            self.ticks.wrote();
        }
        self.lingered = false;
        if self.out.capacity() > limits::TURN_BYTES {
            self.out = BytesMut::new();
        }
        if std::mem::take(&mut self.held_up) {
            cx.waker().wake_by_ref();
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

/// The steps that are left of a turn: none when its time is `over`. Looks at the clock
/// now and then, and after what has cost much.
fn left(steps: usize, cost: usize, over: Instant) -> usize {
    let look = cost > 1 || steps.is_multiple_of(limits::STEPS_PER_LOOK);
    match look && Instant::now() >= over {
        true => 0,
        false => steps,
    }
}

impl<T, S: Service> Drop for Connection<T, S> {
    fn drop(&mut self) {
        self.account.give_back(self.out_charged);
    }
}
