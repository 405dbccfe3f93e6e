//! A connection that sends what is ready together in one write. Knows bytes;
//! must not know HTTP.
//!
//! HTTP/2 libraries write each reply as soon as it is framed, one system call
//! for each, and over TLS one record. This stream holds writes back until its
//! task has nothing left to read, which is when every reply that was ready has
//! been framed.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that holds its writes back.
pub struct Coalesce<S> {
    inner: S,
    held: BytesMut,
    /// From so many held bytes on they leave before more are taken.
    bound: usize,
    /// A flush was asked for and not yet carried out.
    flush_wanted: bool,
}

impl<S> Coalesce<S> {
    /// Holds back up to `bound` bytes, and one write more.
    pub fn new(inner: S, bound: usize) -> Self {
        Self {
            inner,
            held: BytesMut::new(),
            bound,
            flush_wanted: false,
        }
    }
}

impl<S: AsyncWrite + Unpin> Coalesce<S> {
    /// Writes everything held.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.held))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(written);
        }
        self.flush_wanted = false;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Waits for room when the bound is reached.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.len() < self.bound {
            return Poll::Ready(Ok(()));
        }
        self.poll_drain(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Coalesce<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, into);
        if read.is_pending()
            && self.flush_wanted
            && let Poll::Ready(Err(error)) = self.poll_drain(cx)
        {
            return Poll::Ready(Err(error));
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Coalesce<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_room(cx))?;
        self.held.extend_from_slice(data);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_room(cx))?;
        for part in parts {
            self.held.extend_from_slice(part);
        }
        Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return Pin::new(&mut self.inner).poll_flush(cx);
        }
        if !self.flush_wanted {
            self.flush_wanted = true;
            // Comes back after the tasks that are ready now have had their
            // turn; the read then finds nothing, and what is held goes out.
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const BOUND: usize = 4_096;

    /// One turn of a connection's task: what is there to read, if anything.
    async fn turn(stream: &mut Coalesce<tokio::io::DuplexStream>) -> Option<io::Result<usize>> {
        let mut space = [0; 64];
        poll_fn(|cx| {
            let mut into = ReadBuf::new(&mut space);
            Poll::Ready(match Pin::new(&mut *stream).poll_read(cx, &mut into) {
                Poll::Pending => None,
                Poll::Ready(result) => Some(result.map(|()| into.filled().len())),
            })
        })
        .await
    }

    #[tokio::test]
    async fn writes_wait_for_an_idle_read() {
        let (near, mut far) = duplex(1024);
        let mut stream = Coalesce::new(near, BOUND);
        stream.write_all(b"one").await.unwrap();
        stream.flush().await.unwrap();
        stream.write_all(b"two").await.unwrap();
        stream.flush().await.unwrap();
        far.write_all(b"request").await.unwrap();
        assert!(
            matches!(turn(&mut stream).await, Some(Ok(7))),
            "there was something to read"
        );
        assert_eq!(stream.held.len(), 6, "a busy turn holds the replies back");
        assert!(turn(&mut stream).await.is_none());
        let mut seen = [0; 6];
        far.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"onetwo");
    }

    #[tokio::test]
    async fn without_a_flush_nothing_leaves() {
        let (near, _far) = duplex(1024);
        let mut stream = Coalesce::new(near, BOUND);
        stream.write_all(b"half a frame").await.unwrap();
        assert!(turn(&mut stream).await.is_none());
        assert_eq!(stream.held.len(), 12);
    }

    #[tokio::test]
    async fn shutdown_sends_what_is_held() {
        let (near, mut far) = duplex(1024);
        let mut stream = Coalesce::new(near, BOUND);
        stream.write_all(b"goodbye").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut seen = Vec::new();
        far.read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, b"goodbye");
    }

    #[tokio::test]
    async fn a_peer_that_only_reads_gets_its_replies() {
        let (near, mut far) = duplex(1024);
        far.shutdown().await.unwrap();
        let mut stream = Coalesce::new(near, BOUND);
        assert!(
            matches!(turn(&mut stream).await, Some(Ok(0))),
            "the peer has closed its half"
        );
        stream.write_all(b"late reply").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut seen = Vec::new();
        far.read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, b"late reply");
    }

    #[tokio::test]
    async fn a_full_buffer_leaves_with_the_end() {
        let (near, mut far) = duplex(16);
        let mut stream = Coalesce::new(near, BOUND);
        stream.write_all(&[7; BOUND]).await.unwrap();
        let end = tokio::spawn(async move { stream.shutdown().await });
        let mut seen = Vec::new();
        far.read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, [7; BOUND]);
        end.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_slow_peer_holds_the_writer_up() {
        let (near, far) = duplex(16);
        let mut stream = Coalesce::new(near, BOUND);
        stream.write_all(&[0; BOUND]).await.unwrap();
        let more = poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_write(cx, b"more"))).await;
        assert!(more.is_pending(), "beyond the bound a write must wait");
        drop(far);
        assert!(
            stream.shutdown().await.is_err(),
            "what is held cannot be sent to a closed peer"
        );
    }
}
