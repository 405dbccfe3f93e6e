//! One connection: RFC 9113 as a server, all of it in one task.
//!
//! The answers to what was read together leave together, in one write: there
//! is neither a task nor a system call for each request. What is read, held
//! and answered is bounded: nothing is read, and nobody is asked for more to
//! send, while the bytes that are ready to be written exceed their bound.

mod receive;
mod send;

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
    Service,
    frame::{self, Code, setting},
    head::Heads,
    limits,
    streams::Streams,
    wake::Wakes,
};
use receive::Unfinished;

/// What the owner of a server decides.
#[derive(Clone, Copy, Debug)]
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
}

/// Serves a connection until it ends: `input` is what has been read of it
/// already. From `leave` on the client is told to go, and the connection ends
/// when its requests are answered.
pub async fn serve<T, S>(
    io: T,
    input: BytesMut,
    service: S,
    config: Config,
    leave: impl Future<Output = ()> + Send,
) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service,
{
    let mut connection = Connection::new(io, input, service, config);
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
}

fn violation<T>(code: Code, reason: &'static str) -> Result<T, Violation> {
    Err(Violation { code, reason })
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
    resets: u32,
    resets_since: Instant,
    heard: Instant,
    pinged: bool,
    timer: Pin<Box<Sleep>>,
}

impl<T, S> Connection<T, S>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service,
{
    fn new(io: T, input: BytesMut, service: S, config: Config) -> Self {
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
        Self {
            io,
            service,
            config,
            phase: Phase::Open,
            input,
            preface_seen: false,
            settings_seen: false,
            unfinished: None,
            heads: Heads::new(),
            wakes: wakes.clone(),
            streams: Streams::new(wakes),
            last: 0,
            out,
            lingered: false,
            held_up: false,
            send_window: frame::DEFAULT_WINDOW,
            receive_window: frame::DEFAULT_WINDOW + more.max(0),
            initial_window: frame::DEFAULT_WINDOW,
            frame_bytes: limits::FRAME_BYTES,
            table_changed: false,
            resets: limits::RESETS,
            resets_since: now,
            heard: now,
            pinged: false,
            timer: Box::pin(sleep_until(now + config.keepalive_interval)),
        }
    }

    fn begin_to_leave(&mut self) {
        self.phase = Phase::Leaving;
        frame::put_goaway(&mut self.out, frame::MAX_WINDOW as u32, Code::NoError, "");
        frame::put_ping(&mut self.out, false, LEAVE);
    }

    fn close(&mut self) {
        self.phase = Phase::Closing;
        self.timer.as_mut().reset(Instant::now() + CLOSING);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wakes.register(cx.waker());
        if self.phase != Phase::Closing {
            match self.turn(cx) {
                Ok(Poll::Pending) => {}
                Ok(Poll::Ready(ended)) => return Poll::Ready(ended),
                Err(Violation { code, reason }) => {
                    frame::put_goaway(&mut self.out, self.last, code, reason);
                    self.close();
                }
            }
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.phase == Phase::Closing || !self.keep_alive() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        if let Poll::Ready(Err(error)) = self.write(cx) {
            return Poll::Ready(Err(error));
        }
        if self.phase == Phase::Left && self.streams.is_empty() && self.out.is_empty() {
            self.close();
        }
        if self.phase == Phase::Closing && self.out.is_empty() {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            // What is closed with bytes unread would take what was sent with
            // it.
            for _ in 0..limits::STEPS {
                self.input.clear();
                if ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input))? == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
            cx.waker().wake_by_ref();
        }
        Poll::Pending
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
        loop {
            while self.out.len() < self.config.held_bytes
                && steps > 0
                && let Some(place) = self.streams.next()
            {
                steps -= 1;
                self.run(place);
            }
            if self.out.len() >= self.config.held_bytes {
                self.held_up = true;
                return Ok(Poll::Pending);
            }
            let before = steps;
            while steps > 0 && self.out.len() < self.config.held_bytes && self.frame()? {
                steps -= 1;
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
        if !self.lingered && self.out.len() < self.config.held_bytes {
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
