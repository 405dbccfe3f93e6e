//! Requests of calls with many messages: values of JSON that come one after the
//! other, as messages with gRPC's prefixes.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use prost_reflect::MessageDescriptor;
use tonic::Status;

use super::{
    HeldBytes, Malformed, RequestBody, framed, read,
    scan::{Found, Scanner},
    too_large, too_many,
};

/// One message, with what it makes a member hold.
pub struct Only {
    message: Option<Bytes>,
    _held: HeldBytes,
}

impl Only {
    pub fn new(message: Bytes, held: HeldBytes) -> Self {
        Self {
            message: Some(message),
            _held: held,
        }
    }
}

impl Body for Only {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let message = self.message.take();
        Poll::Ready(message.map(|message| Ok(Frame::data(framed(&message)))))
    }
}

/// Reads a body as its client writes it.
pub struct JsonRequests {
    body: RequestBody,
    of: MessageDescriptor,
    held: HeldBytes,
    /// Of a message that is to come, bytes at most.
    limit: usize,
    text: Vec<u8>,
    scanner: Scanner,
    ended: bool,
    malformed: Malformed,
}

impl JsonRequests {
    pub fn new(
        body: RequestBody,
        of: MessageDescriptor,
        held: HeldBytes,
        limit: usize,
        malformed: Malformed,
    ) -> Self {
        Self {
            body,
            of,
            held,
            limit,
            text: Vec::new(),
            scanner: Scanner::new(),
            ended: false,
            malformed,
        }
    }

    /// The next message, if all of it is there.
    fn message(&mut self) -> Result<Option<Bytes>, String> {
        let found = match (self.scanner.look(&self.text)?, self.ended) {
            (Found::Part, true) => self.scanner.end()?,
            (found, _) => found,
        };
        let Found::Value(begin, end) = found else {
            return Ok(None);
        };
        let message = read::message(&self.of, &self.text[begin..end])?;
        self.text.drain(..end);
        self.scanner = Scanner::new();
        Ok(Some(framed(&message)))
    }

    /// More of the text.
    fn add(&mut self, data: &[u8]) -> Result<(), Status> {
        let length = self.text.len() + data.len();
        if length > self.limit {
            return Err(too_large(length, self.limit));
        }
        // The text, and the message that is made of it.
        if !self.held.hold(2 * length) {
            return Err(too_many());
        }
        self.text.extend_from_slice(data);
        Ok(())
    }
}

impl Body for JsonRequests {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        loop {
            match this.message() {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
                Ok(None) if this.ended => return Poll::Ready(None),
                Ok(None) => {}
                Err(text) => {
                    let text = format!("Failed to decode request: {text}");
                    let status = Status::invalid_argument(text);
                    // The first one ends the call.
                    let _ = this.malformed.set(status.clone());
                    return Poll::Ready(Some(Err(status)));
                }
            }
            match std::task::ready!(this.body.as_mut().poll_frame(cx)) {
                None => this.ended = true,
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && let Err(status) = this.add(&data)
                    {
                        return Poll::Ready(Some(Err(status)));
                    }
                }
            }
        }
    }
}
