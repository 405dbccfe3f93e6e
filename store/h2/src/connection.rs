//! One connection: RFC 9113 as a server, all of it in one task.
//!
//! The answers to what was read together leave together, in one write: there
//! is neither a task nor a system call for each request. What is read, held
//! and answered is bounded: nothing is read, and nobody is asked for more to
//! send, while the bytes that are ready to be written exceed their bound.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body::Body;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::io::poll_read_buf;

use crate::{
    Block, Head, Incoming, Reply, Service, body,
    frame::{self, Code, flag, kind, setting},
    head::{Decoded, Heads},
    limits,
    streams::{Piece, Receiving, Stream, Streams, Work},
    wake::Wakes,
};

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

/// A header block whose frames have not all come.
struct Unfinished {
    stream: u32,
    end_stream: bool,
    depends_on_itself: bool,
    block: BytesMut,
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
            loop {
                self.input.clear();
                if ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input))? == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
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

/// What comes.
impl<T, S> Connection<T, S>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service,
{
    /// Takes the next frame; false: it is not all there.
    fn frame(&mut self) -> Result<bool, Violation> {
        if !self.preface_seen {
            let length = frame::PREFACE.len().min(self.input.len());
            if self.input[..length] != frame::PREFACE[..length] {
                return violation(Code::Protocol, "not HTTP/2");
            }
            if length < frame::PREFACE.len() {
                return Ok(false);
            }
            self.input.advance(length);
            self.preface_seen = true;
        }
        let Some(head) = frame::Head::peek(&self.input) else {
            return Ok(false);
        };
        if head.length > limits::FRAME_BYTES {
            return violation(Code::FrameSize, "a frame larger than announced");
        }
        if self.input.len() < frame::HEAD + head.length {
            self.input.reserve(frame::HEAD + head.length);
            return Ok(false);
        }
        if !self.settings_seen && head.kind != kind::SETTINGS {
            return violation(Code::Protocol, "settings come first");
        }
        self.input.advance(frame::HEAD);
        let payload = self.input.split_to(head.length).freeze();
        let continued = self.unfinished.as_ref().map(|unfinished| unfinished.stream);
        if continued.is_some() != (head.kind == kind::CONTINUATION)
            || continued.is_some_and(|stream| stream != head.stream)
        {
            return violation(Code::Protocol, "a header block is to be continued");
        }
        match head.kind {
            kind::DATA => self.data(&head, payload)?,
            kind::HEADERS => self.headers(&head, payload)?,
            kind::PRIORITY => self.priority(&head, payload)?,
            kind::RST_STREAM => self.reset_by_client(&head, &payload)?,
            kind::SETTINGS => self.settings(&head, payload)?,
            kind::PUSH_PROMISE => return violation(Code::Protocol, "a client promises nothing"),
            kind::PING => self.ping(&head, &payload)?,
            kind::GOAWAY if head.stream != 0 => {
                return violation(Code::Protocol, "GOAWAY on a stream");
            }
            // The client opens no more streams; the others go on.
            kind::GOAWAY => {}
            kind::WINDOW_UPDATE => self.window_update(&head, &payload)?,
            kind::CONTINUATION => self.continuation(&head, &payload)?,
            // To be ignored (RFC 9113, 4.1).
            _ => {}
        }
        Ok(true)
    }

    /// A frame on a stream that the client has not opened makes no sense.
    fn check_opened(&self, stream: u32) -> Result<(), Violation> {
        match stream {
            0 => violation(Code::Protocol, "a frame that belongs to a stream"),
            stream if stream > self.last => violation(Code::Protocol, "the stream is idle"),
            _ => Ok(()),
        }
    }

    fn data(&mut self, head: &frame::Head, payload: Bytes) -> Result<(), Violation> {
        self.check_opened(head.stream)?;
        let counted = payload.len();
        self.receive_window -= counted as i64;
        if self.receive_window < 0 {
            return violation(Code::FlowControl, "more than the connection's window");
        }
        let Some(data) = frame::without_padding(head, payload) else {
            return violation(Code::Protocol, "more padding than payload");
        };
        let Some(place) = self.streams.place(head.stream) else {
            // Sent before the client knew that the stream was over.
            self.wakes.consume(counted);
            return Ok(());
        };
        let Some(stream) = self.streams.get(place) else {
            return Ok(());
        };
        stream.receive_window -= counted as i64;
        if stream.receive_window < 0 {
            self.wakes.consume(counted);
            self.reset(place, Code::FlowControl);
            return Ok(());
        }
        let end = head.has(flag::END_STREAM);
        if let Some(left) = &mut stream.announced {
            match left.checked_sub(data.len() as u64) {
                Some(rest) if !end || rest == 0 => *left = rest,
                _ => {
                    self.wakes.consume(counted);
                    self.reset(place, Code::Protocol);
                    return Ok(());
                }
            }
        }
        match &mut stream.receiving {
            Receiving::Ended => {
                self.wakes.consume(counted);
                self.reset(place, Code::StreamClosed);
            }
            Receiving::Ignored => {
                self.wakes.consume(counted);
                if end {
                    stream.receiving = Receiving::Ended;
                }
            }
            Receiving::Body(sender) => {
                self.wakes.consume(counted - data.len());
                if !data.is_empty() {
                    sender.push(data);
                }
                if end {
                    self.received(place, true, Bytes::new());
                }
            }
            Receiving::Whole { held, limit, .. } => {
                self.wakes.consume(counted);
                if end || held.len() + data.len() > *limit {
                    self.received(place, end, data);
                } else {
                    held.extend_from_slice(&data);
                    stream.received += counted;
                    self.grant_stream(place);
                }
            }
        }
        Ok(())
    }

    /// All of the request is there, `last` being its end, or as much of it as
    /// anybody wants.
    fn received(&mut self, place: usize, end: bool, last: Bytes) {
        let Some(stream) = self.streams.get(place) else {
            return;
        };
        let next = if end {
            Receiving::Ended
        } else {
            Receiving::Ignored
        };
        match std::mem::replace(&mut stream.receiving, next) {
            Receiving::Whole { head, mut held, .. } => {
                // Nearly every request comes in one frame, and is not copied.
                let body = if held.is_empty() {
                    last
                } else {
                    held.extend_from_slice(&last);
                    held.freeze()
                };
                stream.work = Work::Answer(self.service.answer(head, body));
                self.streams.run(place);
            }
            Receiving::Body(sender) => sender.end(Ok(())),
            Receiving::Ignored | Receiving::Ended => {}
        }
    }

    /// Lets the client go on sending a large request.
    fn grant_stream(&mut self, place: usize) {
        let worth = self.config.stream_window as usize / 2;
        let Some(stream) = self.streams.get(place) else {
            return;
        };
        let more = match &stream.receiving {
            Receiving::Whole { .. } if stream.received >= worth => {
                std::mem::take(&mut stream.received)
            }
            Receiving::Body(sender) => sender.take_read().unwrap_or(0),
            Receiving::Whole { .. } | Receiving::Ignored | Receiving::Ended => 0,
        };
        if more > 0 {
            stream.receive_window += more as i64;
            frame::put_window_update(&mut self.out, stream.id, more as u32);
        }
    }

    fn headers(&mut self, head: &frame::Head, payload: Bytes) -> Result<(), Violation> {
        if head.stream % 2 == 0 {
            return violation(Code::Protocol, "not a stream that a client opens");
        }
        let Some(mut payload) = frame::without_padding(head, payload) else {
            return violation(Code::Protocol, "more padding than payload");
        };
        let mut depends_on_itself = false;
        if head.has(flag::PRIORITY) {
            let Some(on) = frame::dependency(&mut payload) else {
                return violation(Code::FrameSize, "a priority is cut short");
            };
            depends_on_itself = on == head.stream;
        }
        let unfinished = Unfinished {
            stream: head.stream,
            end_stream: head.has(flag::END_STREAM),
            depends_on_itself,
            block: BytesMut::new(),
        };
        if head.has(flag::END_HEADERS) {
            return self.block(&unfinished, &payload);
        }
        self.unfinished = Some(Unfinished {
            block: BytesMut::from(payload),
            ..unfinished
        });
        Ok(())
    }

    fn continuation(&mut self, head: &frame::Head, payload: &[u8]) -> Result<(), Violation> {
        let Some(mut unfinished) = self.unfinished.take() else {
            return violation(Code::Protocol, "there is nothing to continue");
        };
        unfinished.block.extend_from_slice(payload);
        // One frame after the other with nothing in it would never be too
        // large.
        if unfinished.block.len() > limits::BLOCK_BYTES || payload.is_empty() {
            return violation(Code::EnhanceYourCalm, "the header block is too large");
        }
        if head.has(flag::END_HEADERS) {
            let block = std::mem::take(&mut unfinished.block);
            return self.block(&unfinished, &block);
        }
        self.unfinished = Some(unfinished);
        Ok(())
    }

    /// A whole header block: of a request, or after one.
    fn block(&mut self, of: &Unfinished, block: &[u8]) -> Result<(), Violation> {
        const MALFORMED: Violation = Violation {
            code: Code::Compression,
            reason: "the header block cannot be decoded",
        };
        if of.stream <= self.last {
            let good = self.heads.trailers(block).map_err(|_| MALFORMED)?;
            match self.streams.place(of.stream) {
                Some(place) if good && of.end_stream => self.end_with_trailers(place),
                Some(place) => self.reset(place, Code::Protocol),
                None => frame::put_reset(&mut self.out, of.stream, Code::StreamClosed),
            }
            return Ok(());
        }
        self.last = of.stream;
        let decoded = self.heads.request(block).map_err(|_| MALFORMED)?;
        let refusal = if self.phase == Phase::Left || self.streams.len() >= self.max_streams() {
            Some(Code::Refused)
        } else if of.depends_on_itself || matches!(decoded, Decoded::Malformed) {
            Some(Code::Protocol)
        } else {
            None
        };
        if let Some(code) = refusal {
            frame::put_reset(&mut self.out, of.stream, code);
            return Ok(());
        }
        match decoded {
            Decoded::Head(head) => self.open(of.stream, head, of.end_stream),
            Decoded::TooLarge | Decoded::Malformed => self.too_large(of),
        }
        Ok(())
    }

    fn max_streams(&self) -> usize {
        self.config.streams as usize
    }

    fn end_with_trailers(&mut self, place: usize) {
        match self.streams.get(place) {
            Some(Stream {
                receiving: Receiving::Ended,
                ..
            }) => self.reset(place, Code::StreamClosed),
            Some(stream) if stream.announced.is_some_and(|left| left > 0) => {
                self.reset(place, Code::Protocol);
            }
            _ => self.received(place, true, Bytes::new()),
        }
    }

    /// Status 431, as RFC 6585 has it.
    fn too_large(&mut self, of: &Unfinished) {
        let block = Block::response(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            &HeaderMap::new(),
        );
        self.put_headers(of.stream, &block, true);
        if !of.end_stream {
            frame::put_reset(&mut self.out, of.stream, Code::NoError);
        }
    }

    fn open(&mut self, id: u32, head: Arc<Head>, ended: bool) {
        if ended && head.content_length.is_some_and(|length| length > 0) {
            return frame::put_reset(&mut self.out, id, Code::Protocol);
        }
        let (place, waker) = self.streams.vacant();
        let announced = head.content_length;
        let (receiving, work) = match self.service.whole(&head) {
            Some(limit) => (
                Receiving::Whole {
                    head,
                    held: BytesMut::new(),
                    limit,
                },
                Work::None,
            ),
            None => {
                let worth = self.config.stream_window as usize / 2;
                let (sender, incoming) = body::channel(self.wakes.clone(), waker, worth);
                let call = self.service.call(request(&head, incoming));
                (Receiving::Body(sender), Work::Call(call))
            }
        };
        let stream = Stream {
            id,
            receiving,
            work,
            pieces: std::collections::VecDeque::with_capacity(limits::PIECES),
            send_window: self.initial_window,
            receive_window: i64::from(self.config.stream_window),
            received: 0,
            announced,
        };
        self.streams.insert(place, stream);
        if ended {
            self.received(place, true, Bytes::new());
        }
        self.streams.run(place);
    }

    fn priority(&mut self, head: &frame::Head, mut payload: Bytes) -> Result<(), Violation> {
        if head.stream == 0 {
            return violation(Code::Protocol, "a priority of no stream");
        }
        let length = payload.len();
        let on = frame::dependency(&mut payload);
        if length != 5 || on == Some(head.stream) {
            let code = if length == 5 {
                Code::Protocol
            } else {
                Code::FrameSize
            };
            match self.streams.place(head.stream) {
                Some(place) => self.reset(place, code),
                None => frame::put_reset(&mut self.out, head.stream, code),
            }
        }
        Ok(())
    }

    fn reset_by_client(&mut self, head: &frame::Head, payload: &[u8]) -> Result<(), Violation> {
        self.check_opened(head.stream)?;
        if payload.len() != 4 {
            return violation(Code::FrameSize, "RST_STREAM has four bytes");
        }
        let Some(place) = self.streams.place(head.stream) else {
            return Ok(());
        };
        self.streams.remove(place);
        if self.resets == 0 {
            let now = Instant::now();
            let seconds = now.duration_since(self.resets_since).as_secs_f64();
            let more = (seconds * f64::from(limits::RESETS_PER_SECOND)) as u32;
            self.resets = more.min(limits::RESETS);
            self.resets_since = now;
        }
        match self.resets.checked_sub(1) {
            Some(left) => self.resets = left,
            None => return violation(Code::EnhanceYourCalm, "too many requests taken back"),
        }
        Ok(())
    }

    fn settings(&mut self, head: &frame::Head, mut payload: Bytes) -> Result<(), Violation> {
        if head.stream != 0 {
            return violation(Code::Protocol, "settings on a stream");
        }
        let ack = head.has(flag::ACK);
        if payload.len() % 6 != 0 || ack && !payload.is_empty() {
            return violation(Code::FrameSize, "settings have six bytes each");
        }
        if ack {
            return match self.settings_seen {
                true => Ok(()),
                false => violation(Code::Protocol, "settings come first"),
            };
        }
        self.settings_seen = true;
        while payload.has_remaining() {
            let (name, value) = (payload.get_u16(), payload.get_u32());
            match name {
                setting::HEADER_TABLE_SIZE => self.table_changed = true,
                setting::ENABLE_PUSH if value > 1 => {
                    return violation(Code::Protocol, "push is on or off");
                }
                setting::INITIAL_WINDOW_SIZE => self.initial_window(i64::from(value))?,
                setting::MAX_FRAME_SIZE => match value {
                    // Ours are as small as they may be.
                    16_384..=16_777_215 => {}
                    _ => return violation(Code::Protocol, "no such frame size"),
                },
                _ => {}
            }
        }
        frame::put_settings_ack(&mut self.out);
        Ok(())
    }

    fn initial_window(&mut self, value: i64) -> Result<(), Violation> {
        let by = value - self.initial_window;
        self.initial_window = value;
        if value > frame::MAX_WINDOW || !self.streams.widen(by, frame::MAX_WINDOW) {
            return violation(Code::FlowControl, "a window larger than there can be");
        }
        Ok(())
    }

    fn ping(&mut self, head: &frame::Head, payload: &[u8]) -> Result<(), Violation> {
        let Ok(data) = <[u8; 8]>::try_from(payload) else {
            return violation(Code::FrameSize, "PING has eight bytes");
        };
        match (head.stream, head.has(flag::ACK)) {
            (0, false) => frame::put_ping(&mut self.out, true, data),
            (0, true) if data == LEAVE && self.phase == Phase::Leaving => {
                self.phase = Phase::Left;
                frame::put_goaway(&mut self.out, self.last, Code::NoError, "");
            }
            (0, true) => {}
            _ => return violation(Code::Protocol, "PING on a stream"),
        }
        Ok(())
    }

    fn window_update(&mut self, head: &frame::Head, payload: &[u8]) -> Result<(), Violation> {
        let Ok(more) = <[u8; 4]>::try_from(payload) else {
            return violation(Code::FrameSize, "WINDOW_UPDATE has four bytes");
        };
        let more = i64::from(u32::from_be_bytes(more) & 0x7fff_ffff);
        if head.stream == 0 {
            self.send_window += more;
            if more == 0 {
                return violation(Code::Protocol, "a window grows by something");
            }
            if self.send_window > frame::MAX_WINDOW {
                return violation(Code::FlowControl, "a window larger than there can be");
            }
            self.streams.unblock();
            return Ok(());
        }
        self.check_opened(head.stream)?;
        let Some(place) = self.streams.place(head.stream) else {
            return Ok(());
        };
        let Some(stream) = self.streams.get(place) else {
            return Ok(());
        };
        stream.send_window += more;
        if more == 0 {
            self.reset(place, Code::Protocol);
        } else if stream.send_window > frame::MAX_WINDOW {
            self.reset(place, Code::FlowControl);
        } else {
            self.streams.run(place);
        }
        Ok(())
    }
}

fn request(head: &Head, body: Incoming) -> Request<Incoming> {
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = head.headers.clone();
    *request.version_mut() = http::Version::HTTP_2;
    request
}

/// What goes.
impl<T, S> Connection<T, S>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service,
{
    /// Ends a stream that cannot go on.
    fn reset(&mut self, place: usize, code: Code) {
        if let Some(stream) = self.streams.get(place) {
            frame::put_reset(&mut self.out, stream.id, code);
            self.streams.remove(place);
        }
    }

    fn put_headers(&mut self, stream: u32, block: &Block, end: bool) {
        // The smallest table is always allowed (RFC 7541, 4.2).
        const EMPTY_TABLE: u8 = 0x20;
        if std::mem::take(&mut self.table_changed) {
            let block = [&[EMPTY_TABLE], block.bytes()].concat();
            return frame::put_headers(&mut self.out, stream, &block, end, self.frame_bytes);
        }
        frame::put_headers(&mut self.out, stream, block.bytes(), end, self.frame_bytes);
    }

    /// Sends what is there, and asks for more.
    fn run(&mut self, place: usize) {
        self.grant_stream(place);
        if !self.send(place) {
            return;
        }
        let open = self.send_window > 0;
        let Some((stream, waker)) = self.streams.look(place) else {
            return;
        };
        let id = stream.id;
        let cx = &mut Context::from_waker(waker);
        match &mut stream.work {
            Work::None => {}
            Work::Answer(answer) => {
                if let Poll::Ready(reply) = answer.as_mut().poll(cx) {
                    stream.work = Work::None;
                    self.reply(place, id, reply);
                }
            }
            Work::Call(call) => {
                if let Poll::Ready(response) = call.as_mut().poll(cx) {
                    let (head, body) = response.into_parts();
                    let block = Block::response(head.status, &head.headers);
                    let end = body.is_end_stream();
                    stream.work = if end {
                        Work::None
                    } else {
                        Work::Body(Box::pin(body))
                    };
                    self.put_headers(id, &block, end);
                    match end {
                        true => self.finish(place),
                        false => self.streams.run(place),
                    }
                }
            }
            // A stream waits for its window without being looked at.
            Work::Body(_) if stream.send_window <= 0 => {}
            Work::Body(_) if !open => self.streams.block(place),
            Work::Body(body) => {
                let Poll::Ready(frame) = body.as_mut().poll_frame(cx) else {
                    return;
                };
                let piece = match frame.map(|frame| frame.map(|frame| frame.into_data())) {
                    Some(Ok(Ok(data))) => {
                        let end = body.is_end_stream();
                        (Piece::Data(data, end), end)
                    }
                    Some(Ok(Err(frame))) => match frame.into_trailers() {
                        Ok(trailers) => (Piece::Trailers(Block::trailers(&trailers)), true),
                        Err(_) => (Piece::Data(Bytes::new(), false), false),
                    },
                    Some(Err(error)) => {
                        tracing::debug!(%error, "a response ended early");
                        return self.reset(place, Code::Internal);
                    }
                    None => (Piece::Data(Bytes::new(), true), true),
                };
                let (piece, end) = piece;
                stream.pieces.push_back(piece);
                if end {
                    stream.work = Work::None;
                }
                self.streams.run(place);
            }
        }
    }

    fn reply(&mut self, place: usize, id: u32, reply: Reply) {
        let Reply {
            headers,
            data,
            trailers,
        } = reply;
        let end = data.is_empty() && trailers.is_none();
        self.put_headers(id, &headers, end);
        if end {
            return self.finish(place);
        }
        if let Some(stream) = self.streams.get(place) {
            stream
                .pieces
                .push_back(Piece::Data(data, trailers.is_none()));
            stream.pieces.extend(trailers.map(Piece::Trailers));
        }
        self.send(place);
    }

    /// Sends what is there as far as the windows and the bound allow it. True:
    /// nothing is left, and the stream goes on.
    fn send(&mut self, place: usize) -> bool {
        let mut turn = 0;
        loop {
            let Some(stream) = self.streams.get(place) else {
                return false;
            };
            let id = stream.id;
            let (data, end) = match stream.pieces.front_mut() {
                None => return true,
                Some(Piece::Data(data, end)) => (data, *end),
                Some(Piece::Trailers(_)) => {
                    if let Some(Piece::Trailers(block)) = stream.pieces.pop_front() {
                        self.put_headers(id, &block, true);
                    }
                    self.finish(place);
                    return false;
                }
            };
            let room = stream.send_window.min(self.send_window).max(0);
            let length = data
                .len()
                .min(usize::try_from(room).unwrap_or(0))
                .min(self.frame_bytes);
            if length == 0 && !data.is_empty() {
                if stream.send_window > 0 {
                    self.streams.block(place);
                }
                return false;
            }
            if turn >= limits::TURN_BYTES || self.out.len() >= self.config.held_bytes {
                self.streams.run(place);
                return false;
            }
            turn += length;
            let now = data.split_to(length);
            let all = data.is_empty();
            stream.send_window -= length as i64;
            self.send_window -= length as i64;
            if all {
                stream.pieces.pop_front();
            }
            let end = end && all;
            if end || !now.is_empty() {
                frame::put_data(&mut self.out, id, &now, end);
            }
            if end {
                self.finish(place);
                return false;
            }
        }
    }

    /// The whole response is on its way.
    fn finish(&mut self, place: usize) {
        self.resets = (self.resets + 1).min(limits::RESETS);
        if let Some(stream) = self.streams.get(place)
            && !matches!(stream.receiving, Receiving::Ended)
        {
            // The client need not send the rest (RFC 9113, 8.1).
            frame::put_reset(&mut self.out, stream.id, Code::NoError);
        }
        self.streams.remove(place);
    }
}
