//! A connection whose frames leave together. Knows bytes; must not know HTTP.
//!
//! HTTP/2 writes and flushes every frame of some size alone: over TLS, a record
//! and a system call for each. Here what is written waits until the task of the
//! connection finds nothing to read, which it does once it has written all that
//! was ready; a full buffer leaves at once.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits;

pub struct Coalesce<S> {
    stream: S,
    waiting: BytesMut,
    /// A flush was asked for since everything left.
    flush: bool,
}

impl<S: AsyncWrite + Unpin> Coalesce<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            waiting: BytesMut::new(),
            flush: false,
        }
    }

    fn poll_all(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(context, &self.waiting))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(sent);
        }
        self.flush = false;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Waits for room when the buffer is full.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting.len() < limits::CHUNK_BYTES {
            return Poll::Ready(Ok(()));
        }
        self.poll_all(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Coalesce<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.stream).poll_read(context, into);
        if read.is_pending()
            && this.flush
            && let Poll::Ready(Err(error)) = this.poll_all(context)
        {
            return Poll::Ready(Err(error));
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Coalesce<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_room(context))?;
        for part in parts {
            this.waiting.extend_from_slice(part);
        }
        Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.waiting.is_empty() {
            return Pin::new(&mut this.stream).poll_flush(context);
        }
        if !std::mem::replace(&mut this.flush, true) {
            // The task comes again after those that are ready now, which may
            // have more to send; then it finds nothing to read.
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_all(context))?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// Whether one read of the connection's task finds something.
    async fn reads(stream: &mut Coalesce<DuplexStream>) -> bool {
        let mut space = [0; 16];
        poll_fn(|context| {
            let mut into = ReadBuf::new(&mut space);
            let read = Pin::new(&mut *stream).poll_read(context, &mut into);
            Poll::Ready(matches!(read, Poll::Ready(Ok(()))))
        })
        .await
    }

    #[tokio::test]
    async fn frames_leave_when_nothing_is_to_be_read() {
        let (near, mut far) = duplex(1_024);
        let mut stream = Coalesce::new(near);
        far.write_all(b"x").await.expect("room");
        for frame in [b"one", b"two"] {
            stream.write_all(frame).await.expect("a buffer");
            stream.flush().await.expect("a buffer");
        }
        assert!(reads(&mut stream).await);
        assert_eq!(stream.waiting.len(), 6);
        assert!(!reads(&mut stream).await);
        assert!(stream.waiting.is_empty());
        let mut came = [0; 6];
        far.read_exact(&mut came).await.expect("six bytes");
        assert_eq!(&came, b"onetwo");
    }

    #[tokio::test]
    async fn the_buffer_is_bounded_and_leaves_with_the_end() {
        let (near, far) = duplex(16);
        let mut stream = Coalesce::new(near);
        let full = vec![0; limits::CHUNK_BYTES];
        stream.write_all(&full).await.expect("a buffer");
        let more =
            poll_fn(|context| Poll::Ready(Pin::new(&mut stream).poll_write(context, b"x"))).await;
        assert!(more.is_pending());
        let mut far = far;
        let end = tokio::spawn(async move { stream.shutdown().await });
        let mut came = Vec::new();
        far.read_to_end(&mut came).await.expect("all bytes");
        assert_eq!(came.len(), full.len());
        end.await.expect("no panic").expect("an end");
    }
}
