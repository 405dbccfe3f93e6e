//! Replies as bodies of JSON: a message, or a line for each message of a stream.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame};
use prost_reflect::MessageDescriptor;
use tonic::{Code, Status};

use super::{HeldBytes, Reply, error_text, unwritable, write::Writer};
use crate::{
    grpc::{PREFIX, messages},
    limits,
};

/// A reply that is written while it is sent, and what it makes a member hold.
pub struct Text {
    writer: Writer,
    begun: bool,
    done: bool,
    _held: HeldBytes,
}

impl Text {
    pub fn new(of: MessageDescriptor, encoded: Bytes, held: HeldBytes) -> Self {
        Self {
            writer: Writer::new(of, encoded),
            begun: false,
            done: false,
            _held: held,
        }
    }

    fn piece(&mut self) -> Result<String, String> {
        let mut text = String::new();
        if !self.begun {
            self.begun = true;
            text.push('{');
        }
        self.done = self.writer.write(&mut text, limits::GATEWAY_PIECE_BYTES)?;
        Ok(text)
    }

    /// As a body whose length is known, if it is short.
    pub fn whole_or_body(mut self) -> Result<Reply, String> {
        let first = self.piece()?;
        Ok(match self.done {
            true => Reply::whole(first.into()),
            false => Reply::page(Pieces {
                first: Some(first),
                text: self,
            }),
        })
    }
}

struct Pieces {
    first: Option<String>,
    text: Text,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let piece = match self.first.take() {
            Some(first) => Ok(first),
            None if self.text.done => return Poll::Ready(None),
            None => self.text.piece().map_err(unwritable),
        };
        Poll::Ready(Some(piece.map(|text| Frame::data(text.into()))))
    }
}

/// The messages of a stream, each as a line.
pub struct Lines {
    body: Reply,
    of: MessageDescriptor,
    /// Messages with their prefixes, of which none has been begun.
    messages: Bytes,
    writer: Option<Writer>,
    ended: bool,
}

impl Lines {
    /// `messages` are the first.
    pub fn new(body: Reply, of: MessageDescriptor, messages: Bytes) -> Self {
        Self {
            body,
            of,
            messages,
            writer: None,
            ended: false,
        }
    }

    /// What is there to be written, as far as it fits into a piece.
    fn piece(&mut self) -> Result<String, String> {
        let mut text = String::new();
        while text.len() < limits::GATEWAY_PIECE_BYTES {
            if let Some(writer) = &mut self.writer {
                if writer.write(&mut text, limits::GATEWAY_PIECE_BYTES)? {
                    text.push_str("}\n");
                    self.writer = None;
                }
            } else if let Some(message) = next_message(&mut self.messages) {
                self.writer = Some(Writer::new(self.of.clone(), message));
                text.push_str("{\"result\":{");
            } else {
                break;
            }
        }
        Ok(text)
    }
}

/// The first of messages with their prefixes.
fn next_message(framed: &mut Bytes) -> Option<Bytes> {
    let message = messages(framed).next()?;
    let message = framed.slice_ref(message);
    framed.advance(PREFIX + message.len());
    Some(message)
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        while !this.ended {
            let text = match this.piece() {
                Ok(text) => text,
                Err(error) => {
                    this.ended = true;
                    error_line(&unwritable(error))
                }
            };
            if !text.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(text.into()))));
            }
            match std::task::ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None => this.ended = true,
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(messages) => this.messages = messages,
                    Err(frame) => {
                        this.ended = true;
                        if let Some(status) = failure(frame) {
                            let line = error_line(&status);
                            return Poll::Ready(Some(Ok(Frame::data(line.into()))));
                        }
                    }
                },
            }
        }
        Poll::Ready(None)
    }
}

/// How a stream failed, by its trailers.
pub fn failure(frame: Frame<Bytes>) -> Option<Status> {
    let trailers: HeaderMap = frame.into_trailers().unwrap_or_default();
    let status = Status::from_header_map(&trailers)?;
    (status.code() != Code::Ok).then_some(status)
}

pub fn error_line(status: &Status) -> String {
    format!("{{\"error\":{}}}\n", error_text(status))
}
