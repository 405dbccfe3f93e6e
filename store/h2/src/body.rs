//! The body of a request that is read as it comes.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use parking_lot::Mutex;

use crate::{budget::Account, limits, wake::Wakes};

/// The client took the request back, or the connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stream was reset")
    }
}

impl std::error::Error for Broken {}

#[derive(Default)]
struct State {
    /// At most a stream's window.
    queue: VecDeque<Bytes>,
    end: Option<Result<(), Broken>>,
    reader: Option<Waker>,
    reader_gone: bool,
    /// Bytes read and not yet granted again.
    read: usize,
    /// Bytes that the reader keeps.
    kept: usize,
}

struct Shared {
    state: Mutex<State>,
    wakes: Arc<Wakes>,
    account: Arc<Account>,
    /// Wakes the stream's place.
    stream: Waker,
    /// From so many read bytes on the stream is woken for them.
    worth: usize,
}

/// The end the connection has.
pub struct Sender {
    shared: Arc<Shared>,
}

/// The end the handler has.
pub struct Incoming {
    shared: Arc<Shared>,
}

/// `stream` is woken when `worth` bytes have been read. What waits to be read
/// is paid from `account`.
pub fn channel(
    wakes: Arc<Wakes>,
    account: Arc<Account>,
    stream: Waker,
    worth: usize,
) -> (Sender, Incoming) {
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        wakes,
        account,
        stream,
        worth,
    });
    let sender = Sender {
        shared: shared.clone(),
    };
    (sender, Incoming { shared })
}

impl Sender {
    /// False: there is no memory for it.
    #[must_use]
    pub fn push(&self, data: Bytes) -> bool {
        let mut state = self.shared.state.lock();
        if state.reader_gone {
            drop(state);
            self.shared.wakes.consume(data.len());
            return true;
        }
        if !self.shared.account.take(cost(&data)) {
            drop(state);
            self.shared.wakes.consume(data.len());
            return false;
        }
        state.queue.push_back(data);
        wake(&mut state);
        true
    }

    /// What came with the data and nobody reads: its padding.
    pub fn skip(&self, bytes: usize) {
        self.shared.wakes.consume(bytes);
        let mut state = self.shared.state.lock();
        state.read += bytes;
    }

    pub fn end(&self, end: Result<(), Broken>) {
        let mut state = self.shared.state.lock();
        state.end.get_or_insert(end);
        wake(&mut state);
    }

    /// What may be granted again to the stream, if it is worth a frame.
    pub fn take_read(&self) -> Option<usize> {
        let mut state = self.shared.state.lock();
        (state.read >= self.shared.worth).then(|| std::mem::take(&mut state.read))
    }
}

fn cost(data: &Bytes) -> usize {
    data.len() + limits::PIECE_BYTES
}

fn wake(state: &mut State) {
    if let Some(reader) = state.reader.take() {
        reader.wake();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.end(Err(Broken));
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut state = self.shared.state.lock();
        let Some(data) = state.queue.pop_front() else {
            return match state.end {
                Some(Ok(())) => Poll::Ready(None),
                Some(Err(broken)) => Poll::Ready(Some(Err(broken))),
                None => {
                    state.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        };
        state.read += data.len();
        let worth_it = state.read >= self.shared.worth && state.end.is_none();
        drop(state);
        self.shared.account.give_back(cost(&data));
        self.shared.wakes.consume(data.len());
        if worth_it {
            self.shared.stream.wake_by_ref();
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        let state = self.shared.state.lock();
        state.queue.is_empty() && state.end == Some(Ok(()))
    }
}

impl Incoming {
    /// Tells how many of the bytes that were read are kept, for want of what is
    /// still to come. False: there is no memory for more.
    #[must_use]
    pub fn keep(&self, bytes: usize) -> bool {
        let mut state = self.shared.state.lock();
        match bytes.checked_sub(state.kept) {
            Some(more) if !self.shared.account.take(more) => return false,
            Some(_) => {}
            None => self.shared.account.give_back(state.kept - bytes),
        }
        state.kept = bytes;
        true
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.reader_gone = true;
        let (mut left, mut held) = (0, state.kept);
        for data in state.queue.drain(..) {
            left += data.len();
            held += cost(&data);
        }
        drop(state);
        self.shared.account.give_back(held);
        self.shared.wakes.consume(left);
    }
}
