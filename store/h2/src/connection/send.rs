//! Responses on their way to the client.

use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Connection, Violation};
use crate::{
    Block, Excess, Reply, Service,
    frame::{self, Code},
    limits,
    streams::{Piece, Receiving, Work},
};

impl<T, S> Connection<T, S>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service,
{
    /// Ends a stream that cannot go on because of what its client does.
    pub(super) fn reset_for_client(&mut self, place: usize, code: Code) -> Result<(), Violation> {
        self.reset(place, code);
        self.pay_reset()
    }

    /// Does not begin a stream because of what its client does.
    pub(super) fn reset_unopened(&mut self, stream: u32, code: Code) -> Result<(), Violation> {
        frame::put_reset(&mut self.out, stream, code);
        self.pay_reset()
    }

    /// There is no memory for the rest of a request, or for its response.
    pub(super) fn refuse(&mut self, place: usize) {
        let Some(stream) = self.streams.get(place) else {
            return;
        };
        let id = stream.id;
        stream.work = Work::None;
        stream.pieces.clear();
        self.config.counters.note(Excess::Memory, &self.peer);
        let block = self.service.refuse();
        self.put_headers(id, &block, true);
        self.finish(place);
    }

    /// Ends a stream that cannot go on.
    pub(super) fn reset(&mut self, place: usize, code: Code) {
        if let Some(stream) = self.streams.get(place) {
            frame::put_reset(&mut self.out, stream.id, code);
            self.streams.remove(place);
        }
    }

    pub(super) fn put_headers(&mut self, stream: u32, block: &Block, end: bool) {
        // The smallest table is always allowed (RFC 7541, 4.2).
        const EMPTY_TABLE: u8 = 0x20;
        if std::mem::take(&mut self.table_changed) {
            let block = [&[EMPTY_TABLE], block.bytes()].concat();
            return frame::put_headers(&mut self.out, stream, &block, end, self.frame_bytes);
        }
        frame::put_headers(&mut self.out, stream, block.bytes(), end, self.frame_bytes);
    }

    /// Sends what is there, and asks for more.
    pub(super) fn run(&mut self, place: usize) {
        self.grant_stream(place);
        if !self.send(place) {
            return;
        }
        let (open, now) = (self.may_send(self.room()), self.ticks.now());
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
                    (stream.since, stream.sent) = (now, 0);
                }
                self.streams.run(place);
            }
        }
    }

    fn reply(&mut self, place: usize, id: u32, reply: Reply) {
        let Reply {
            headers,
            data,
            more,
            trailers,
        } = reply;
        let bytes = more.iter().map(Bytes::len).sum::<usize>() + data.len();
        if !self.charge_reply(place, bytes) {
            return self.refuse(place);
        }
        let end = bytes == 0 && trailers.is_none();
        self.put_headers(id, &headers, end);
        if end {
            return self.finish(place);
        }
        if let Some(stream) = self.streams.get(place) {
            let mut left = more.len();
            let ends = trailers.is_none();
            stream
                .pieces
                .push_back(Piece::Data(data, ends && left == 0));
            stream.pieces.extend(more.into_iter().map(|data| {
                left -= 1;
                Piece::Data(data, ends && left == 0)
            }));
            stream.pieces.extend(trailers.map(Piece::Trailers));
        }
        self.send(place);
    }

    /// Pays for a response of so many bytes, unless all of it leaves now.
    /// False: there is no memory for it.
    fn charge_reply(&mut self, place: usize, bytes: usize) -> bool {
        let room = self.room().saturating_sub(self.out.len());
        let (window, ticks) = (self.send_window, self.ticks.now());
        let Some(stream) = self.streams.get(place) else {
            return true;
        };
        (stream.since, stream.sent) = (ticks, 0);
        let leaves = i64::try_from(bytes)
            .is_ok_and(|bytes| bytes <= window.min(stream.send_window))
            && bytes <= room.min(limits::TURN_BYTES);
        let charge = stream.head_bytes + if leaves { 0 } else { bytes };
        self.streams.charge(place, charge)
    }

    /// Sends what is there as far as the windows and the bound allow it. True:
    /// nothing is left, and the stream goes on.
    fn send(&mut self, place: usize) -> bool {
        let mut turn = 0;
        let held = self.room();
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
            if self.out.len() >= held {
                self.streams.block(place);
                return false;
            }
            if turn >= limits::TURN_BYTES {
                self.streams.run(place);
                return false;
            }
            turn += length;
            let now = data.split_to(length);
            let all = data.is_empty();
            stream.send_window -= length as i64;
            stream.sent += length;
            if stream.sent >= limits::PROGRESS_BYTES {
                (stream.since, stream.sent) = (self.ticks.now(), 0);
            }
            self.send_window -= length as i64;
            self.ticks.moved(length);
            self.control.earn((length / limits::CONTROL_BYTES) as u32);
            if all {
                stream.pieces.pop_front();
                self.control.earn(limits::CONTROL_PER_PIECE);
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
        self.resets.earn(1);
        self.control.earn(limits::CONTROL_PER_RESPONSE);
        if let Some(stream) = self.streams.get(place)
            && !matches!(stream.receiving, Receiving::Ended)
        {
            // The client need not send the rest (RFC 9113, 8.1).
            frame::put_reset(&mut self.out, stream.id, Code::NoError);
        }
        self.streams.remove(place);
    }
}
