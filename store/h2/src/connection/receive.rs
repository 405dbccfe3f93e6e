//! The frames of a client, and what they change.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Connection, LEAVE, Phase, Violation, violation};
use crate::{
    Block, Excess, Head, Incoming, Service, body,
    frame::{self, Code, flag, kind, setting},
    head::Decoded,
    limits,
    streams::{Receiving, Stream, Work},
};

/// A header block whose frames have not all come.
pub(super) struct Unfinished {
    stream: u32,
    end_stream: bool,
    depends_on_itself: bool,
    block: BytesMut,
}

impl<T, S> Connection<T, S>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service,
{
    /// Takes the next frame and tells what it cost, in steps; `None`: it is not
    /// all there.
    pub(super) fn frame(&mut self) -> Result<Option<usize>, Violation> {
        if !self.preface_seen {
            let length = frame::PREFACE.len().min(self.input.len());
            if self.input[..length] != frame::PREFACE[..length] {
                return violation(Code::Protocol, "not HTTP/2");
            }
            if length < frame::PREFACE.len() {
                return Ok(None);
            }
            self.input.advance(length);
            self.preface_seen = true;
        }
        let Some(head) = frame::Head::peek(&self.input) else {
            return Ok(None);
        };
        if head.length > limits::FRAME_BYTES {
            return violation(Code::FrameSize, "a frame larger than announced");
        }
        if self.input.len() < frame::HEAD + head.length {
            self.input.reserve(frame::HEAD + head.length);
            return Ok(None);
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
        self.ticks.framed();
        let mut cost = 1;
        match head.kind {
            kind::DATA => self.data(&head, payload)?,
            kind::HEADERS => cost += self.headers(&head, payload)?,
            kind::PRIORITY => self.priority(&head, payload)?,
            kind::RST_STREAM => self.reset_by_client(&head, &payload)?,
            kind::SETTINGS => cost += self.settings(&head, payload)?,
            kind::PUSH_PROMISE => return violation(Code::Protocol, "a client promises nothing"),
            kind::PING => self.ping(&head, &payload)?,
            kind::GOAWAY if head.stream != 0 => {
                return violation(Code::Protocol, "GOAWAY on a stream");
            }
            kind::WINDOW_UPDATE => self.window_update(&head, &payload)?,
            kind::CONTINUATION => cost += self.continuation(&head, &payload)?,
            // After GOAWAY the client opens no more streams; the others go on.
            // What is unknown is to be ignored (RFC 9113, 4.1).
            _ => self.pay(1, Excess::UnknownFrames)?,
        }
        Ok(Some(cost))
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
        let end = head.has(flag::END_STREAM);
        if data.is_empty() && !end {
            self.pay(1, Excess::EmptyFrames)?;
        }
        let Some(place) = self.streams.place(head.stream) else {
            // Perhaps sent before the client knew that the stream was over: then
            // it does not look at this (RFC 9113, 5.1).
            self.wakes.consume(counted);
            frame::put_reset(&mut self.out, head.stream, Code::StreamClosed);
            return self.pay(1, Excess::LateFrames);
        };
        if let Some(code) = self.misfit(place, counted, data.len(), end) {
            self.wakes.consume(counted);
            return self.reset_for_client(place, code);
        }
        self.take_data(place, counted, data, end)
    }

    /// What is wrong with `counted` bytes of DATA, `length` of them without
    /// padding; they are counted if nothing is.
    fn misfit(&mut self, place: usize, counted: usize, length: usize, end: bool) -> Option<Code> {
        let stream = self.streams.get(place)?;
        stream.receive_window -= counted as i64;
        if stream.receive_window < 0 {
            return Some(Code::FlowControl);
        }
        if matches!(stream.receiving, Receiving::Ended) {
            return Some(Code::StreamClosed);
        }
        if let Some(left) = &mut stream.announced {
            match left.checked_sub(length as u64) {
                Some(rest) if !end || rest == 0 => *left = rest,
                _ => return Some(Code::Protocol),
            }
        }
        None
    }

    fn take_data(
        &mut self,
        place: usize,
        counted: usize,
        data: Bytes,
        end: bool,
    ) -> Result<(), Violation> {
        let Some(stream) = self.streams.get(place) else {
            return Ok(());
        };
        match &mut stream.receiving {
            Receiving::Ignored | Receiving::Ended => {
                self.wakes.consume(counted);
                if end {
                    stream.receiving = Receiving::Ended;
                }
            }
            Receiving::Body(sender) => {
                if counted > data.len() {
                    sender.skip(counted - data.len());
                }
                if !data.is_empty() && !sender.push(compact(data)) {
                    self.config.counters.note(Excess::Memory, &self.peer);
                    return self.reset_for_client(place, Code::EnhanceYourCalm);
                }
                if end {
                    self.received(place, true, Bytes::new());
                } else {
                    self.grant_stream(place);
                }
            }
            Receiving::Whole { held, limit, .. } => {
                self.wakes.consume(counted);
                if end || held.len() + data.len() > *limit {
                    self.received(place, end, data);
                    return Ok(());
                }
                held.extend_from_slice(&data);
                stream.received += counted;
                let bytes = stream.head_bytes + held.capacity();
                match self.streams.charge(place, bytes) {
                    true => self.grant_stream(place),
                    false => self.refuse(place),
                }
            }
        }
        Ok(())
    }

    /// All of the request is there, `last` being its end, or as much of it as
    /// anybody wants.
    pub(super) fn received(&mut self, place: usize, end: bool, last: Bytes) {
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
                // Nearly every request comes in one frame.
                let body = if held.is_empty() {
                    compact(last)
                } else {
                    held.extend_from_slice(&last);
                    held.freeze()
                };
                // Paid for until it is answered, however long that takes.
                let bytes = match body.len() {
                    length if length > limits::BODY_BYTES => stream.head_bytes + length,
                    _ => stream.head_bytes,
                };
                if !self.streams.charge(place, bytes) {
                    return self.refuse(place);
                }
                let work = Work::Answer(self.service.answer(head, body));
                if let Some(stream) = self.streams.get(place) {
                    stream.work = work;
                }
                self.streams.run(place);
            }
            Receiving::Body(sender) => sender.end(Ok(())),
            Receiving::Ignored | Receiving::Ended => {}
        }
    }

    /// Lets the client go on sending a large request.
    pub(super) fn grant_stream(&mut self, place: usize) {
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

    /// Gives the steps that decoding cost; so do the two others.
    fn headers(&mut self, head: &frame::Head, payload: Bytes) -> Result<usize, Violation> {
        if head.stream.is_multiple_of(2) {
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
        self.ticks.block_begins();
        self.unfinished = Some(Unfinished {
            block: BytesMut::from(payload),
            ..unfinished
        });
        Ok(0)
    }

    fn continuation(&mut self, head: &frame::Head, payload: &[u8]) -> Result<usize, Violation> {
        let Some(mut unfinished) = self.unfinished.take() else {
            return violation(Code::Protocol, "there is nothing to continue");
        };
        // One frame after the other with nothing in it would never be too
        // large.
        self.pay(1, Excess::Continuations)?;
        unfinished.block.extend_from_slice(payload);
        if unfinished.block.len() > limits::BLOCK_BYTES {
            return Err(Violation::excess(Excess::HeaderBlock));
        }
        if head.has(flag::END_HEADERS) {
            let block = std::mem::take(&mut unfinished.block);
            return self.block(&unfinished, &block);
        }
        self.unfinished = Some(unfinished);
        Ok(0)
    }

    /// A whole header block: of a request, or after one.
    fn block(&mut self, of: &Unfinished, block: &[u8]) -> Result<usize, Violation> {
        const MALFORMED: Violation = Violation {
            code: Code::Compression,
            reason: "the header block cannot be decoded",
            excess: None,
        };
        let cost = block.len() / limits::BLOCK_BYTES_PER_STEP;
        if of.stream <= self.last {
            let good = self.heads.trailers(block).map_err(|_| MALFORMED)?;
            match self.streams.place(of.stream) {
                Some(place) => self.end_with_trailers(place, good && of.end_stream)?,
                None => self.reset_unopened(of.stream, Code::StreamClosed)?,
            }
            return Ok(cost);
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
            self.reset_unopened(of.stream, code)?;
            return Ok(cost);
        }
        match decoded {
            Decoded::Head(head) => self.open(of, head)?,
            Decoded::TooLarge | Decoded::Malformed => {
                let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                // Status 431, as RFC 6585 has it.
                self.answer_unopened(of, &Block::response(status, &HeaderMap::new()));
                self.pay_reset()?;
            }
        }
        Ok(cost)
    }

    fn max_streams(&self) -> usize {
        self.config.streams as usize
    }

    fn end_with_trailers(&mut self, place: usize, good: bool) -> Result<(), Violation> {
        match self.streams.get(place) {
            Some(Stream {
                receiving: Receiving::Ended,
                ..
            }) => self.reset_for_client(place, Code::StreamClosed)?,
            Some(stream) if !good || stream.announced.is_some_and(|left| left > 0) => {
                self.reset_for_client(place, Code::Protocol)?;
            }
            _ => self.received(place, true, Bytes::new()),
        }
        Ok(())
    }

    /// Answers a request that is not looked at further.
    fn answer_unopened(&mut self, of: &Unfinished, block: &Block) {
        self.put_headers(of.stream, block, true);
        if !of.end_stream {
            frame::put_reset(&mut self.out, of.stream, Code::NoError);
        }
    }

    /// There is no memory for a request.
    fn refuse_unopened(&mut self, of: &Unfinished) {
        self.config.counters.note(Excess::Memory, &self.peer);
        let block = self.service.refuse();
        self.answer_unopened(of, &block);
    }

    fn open(&mut self, of: &Unfinished, head: Arc<Head>) -> Result<(), Violation> {
        let (id, ended) = (of.stream, of.end_stream);
        if ended && head.content_length.is_some_and(|length| length > 0) {
            return self.reset_unopened(id, Code::Protocol);
        }
        if self.account.exhausted() {
            self.refuse_unopened(of);
            return Ok(());
        }
        let Some((place, waker)) = self.streams.vacant() else {
            self.refuse_unopened(of);
            return Ok(());
        };
        let announced = head.content_length;
        let head_bytes = match head.size {
            size if size > limits::HEAD_BYTES => size,
            _ => 0,
        };
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
                let (sender, incoming) =
                    body::channel(self.wakes.clone(), self.account.clone(), waker, worth);
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
            head_bytes,
            charged: 0,
            sent: 0,
            since: self.ticks.now(),
        };
        self.streams.insert(place, stream);
        if !self.streams.charge(place, head_bytes) {
            self.refuse(place);
            return Ok(());
        }
        if ended {
            self.received(place, true, Bytes::new());
        }
        self.streams.run(place);
        Ok(())
    }

    fn priority(&mut self, head: &frame::Head, mut payload: Bytes) -> Result<(), Violation> {
        if head.stream == 0 {
            return violation(Code::Protocol, "a priority of no stream");
        }
        self.pay(1, Excess::Priorities)?;
        let length = payload.len();
        let on = frame::dependency(&mut payload);
        if length != 5 || on == Some(head.stream) {
            let code = if length == 5 {
                Code::Protocol
            } else {
                Code::FrameSize
            };
            return match self.streams.place(head.stream) {
                Some(place) => self.reset_for_client(place, code),
                None => self.reset_unopened(head.stream, code),
            };
        }
        Ok(())
    }

    fn reset_by_client(&mut self, head: &frame::Head, payload: &[u8]) -> Result<(), Violation> {
        self.check_opened(head.stream)?;
        if payload.len() != 4 {
            return violation(Code::FrameSize, "RST_STREAM has four bytes");
        }
        match self.streams.place(head.stream) {
            None => self.pay(1, Excess::LateFrames),
            Some(place) => {
                self.streams.remove(place);
                self.pay_reset()
            }
        }
    }

    /// Gives the steps that it cost.
    fn settings(&mut self, head: &frame::Head, mut payload: Bytes) -> Result<usize, Violation> {
        if head.stream != 0 {
            return violation(Code::Protocol, "settings on a stream");
        }
        let ack = head.has(flag::ACK);
        if !payload.len().is_multiple_of(6) || ack && !payload.is_empty() {
            return violation(Code::FrameSize, "settings have six bytes each");
        }
        if ack && !self.settings_seen {
            return violation(Code::Protocol, "settings come first");
        }
        self.settings_seen = true;
        self.pay(1, Excess::Settings)?;
        if ack {
            return Ok(0);
        }
        // Only the last value of each holds (RFC 9113, 6.5.3); those before it
        // have to make sense.
        let (mut window, mut widest) = (None, 0);
        while payload.has_remaining() {
            let (name, value) = (payload.get_u16(), payload.get_u32());
            match name {
                setting::HEADER_TABLE_SIZE => self.table_changed = true,
                setting::ENABLE_PUSH if value > 1 => {
                    return violation(Code::Protocol, "push is on or off");
                }
                setting::INITIAL_WINDOW_SIZE => {
                    window = Some(i64::from(value));
                    widest = widest.max(i64::from(value));
                }
                setting::MAX_FRAME_SIZE => match value {
                    // Ours are as small as they may be.
                    16_384..=16_777_215 => {}
                    _ => return violation(Code::Protocol, "no such frame size"),
                },
                _ => {}
            }
        }
        let cost = match window {
            Some(value) => self.initial_window(value, widest)?,
            None => 0,
        };
        frame::put_settings_ack(&mut self.out);
        Ok(cost)
    }

    /// Streams begin with a window of `value` from here on, and those that are
    /// open have it that much larger; for a moment it was `widest`.
    fn initial_window(&mut self, value: i64, widest: i64) -> Result<usize, Violation> {
        const TOO_WIDE: &str = "a window larger than there can be";
        let (by, most) = (value - self.initial_window, widest - self.initial_window);
        if widest > frame::MAX_WINDOW {
            return violation(Code::FlowControl, TOO_WIDE);
        }
        if value == self.initial_window && most == 0 {
            return Ok(0);
        }
        let cost = self.streams.places_made() / limits::STREAMS_PER_STEP;
        self.pay(cost as u32, Excess::Settings)?;
        self.initial_window = value;
        if self.streams.widen(by, most, frame::MAX_WINDOW).is_err() {
            return violation(Code::FlowControl, TOO_WIDE);
        }
        Ok(cost)
    }

    fn ping(&mut self, head: &frame::Head, payload: &[u8]) -> Result<(), Violation> {
        let Ok(data) = <[u8; 8]>::try_from(payload) else {
            return violation(Code::FrameSize, "PING has eight bytes");
        };
        self.pay(1, Excess::Pings)?;
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
        self.pay(1, Excess::WindowUpdates)?;
        if head.stream == 0 {
            self.send_window += more;
            if more == 0 {
                return violation(Code::Protocol, "a window grows by something");
            }
            if self.send_window > frame::MAX_WINDOW {
                return violation(Code::FlowControl, "a window larger than there can be");
            }
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
            return self.reset_for_client(place, Code::Protocol);
        }
        if stream.send_window > frame::MAX_WINDOW {
            return self.reset_for_client(place, Code::FlowControl);
        }
        self.streams.run(place);
        Ok(())
    }
}

/// A copy of a small piece: what it was read with can be used again.
fn compact(data: Bytes) -> Bytes {
    match data.len() {
        0 => Bytes::new(),
        length if length < limits::COPIED_BYTES => Bytes::copy_from_slice(&data),
        _ => data,
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
