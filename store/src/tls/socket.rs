//! Connections by TCP and through Unix sockets, one type for both.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};
use tokio_util::io::poll_read_buf;

/// An address that is listened on.
pub enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Bound {
    /// # Errors
    /// The address is taken; with the address in the error.
    pub async fn tcp(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address)
            .await
            .map(Self::Tcp)
            .map_err(|error| io::Error::new(error.kind(), format!("listen tcp {address}: {error}")))
    }

    /// Takes the place of a socket that a process before has left.
    ///
    /// # Errors
    /// With the path in the error.
    pub fn unix(path: &Path) -> io::Result<Self> {
        let named = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("listen unix {}: {error}", path.display()),
            )
        };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(named)?;
        // As wide as sockets are made elsewhere: certificates and users decide
        // who may do what.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(named)?;
        Ok(Self::Unix(listener, path.to_owned()))
    }

    /// Where it listens, for the log.
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|error| error.to_string(), |address| address.to_string()),
            Self::Unix(_, path) => path.display().to_string(),
        }
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<Socket> {
        loop {
            let (stream, remote) = match self {
                Self::Tcp(listener) => listener.accept().await?,
                Self::Unix(listener, _) => {
                    let (stream, _) = listener.accept().await?;
                    return Ok(Socket::new(Raw::Unix(stream), None));
                }
            };
            match stream.set_nodelay(true) {
                Ok(()) => return Ok(Socket::new(Raw::Tcp(stream), Some(remote))),
                Err(error) => {
                    tracing::debug!(%error, "a connection broke before it was served");
                }
            }
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // It may be another process's by now; that one makes its own anew.
            let _ = std::fs::remove_file(path);
        }
    }
}

enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Does the same with either kind of stream.
macro_rules! with {
    ($raw:expr, $stream:ident => $does:expr) => {
        match $raw {
            Raw::Tcp($stream) => $does,
            Raw::Unix($stream) => $does,
        }
    };
}

/// One connection, from which more may have been read than was asked for.
pub struct Socket {
    raw: Raw,
    remote: Option<SocketAddr>,
    read: BytesMut,
    /// Bytes to read at once when the reader wants fewer.
    ahead: usize,
}

impl Socket {
    fn new(raw: Raw, remote: Option<SocketAddr>) -> Self {
        Self {
            raw,
            remote,
            read: BytesMut::new(),
            ahead: 0,
        }
    }

    /// Where it comes from; a Unix socket's is nowhere.
    pub fn remote(&self) -> Option<IpAddr> {
        self.remote.map(|remote| remote.ip())
    }

    /// For the log.
    pub fn remote_text(&self) -> String {
        self.remote
            .map_or_else(|| "@".to_owned(), |remote| remote.to_string())
    }

    /// The first byte, which stays to be read; `None` at the end.
    pub async fn first(&mut self) -> io::Result<Option<u8>> {
        if self.read.is_empty() {
            with!(&mut self.raw, stream => stream.read_buf(&mut self.read).await)?;
        }
        Ok(self.read.first().copied())
    }

    /// Reads up to `bytes` at once, whatever is asked for. rustls asks for
    /// 4 KiB at a time, and each would be a system call.
    pub(super) fn read_ahead(&mut self, bytes: usize) {
        self.ahead = bytes;
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.read.is_empty() {
            if into.remaining() >= this.ahead {
                return with!(&mut this.raw, stream => Pin::new(stream).poll_read(cx, into));
            }
            this.read.reserve(this.ahead);
            let read = with!(&mut this.raw, stream => {
                poll_read_buf(Pin::new(stream), cx, &mut this.read)
            });
            if read.is_pending() {
                // An idle connection holds no memory for what may come.
                this.read = BytesMut::new();
            }
            ready!(read)?;
        }
        let length = this.read.len().min(into.remaining());
        into.put_slice(&this.read[..length]);
        this.read.advance(length);
        if this.read.is_empty() {
            this.read = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        with!(&mut self.raw, stream => Pin::new(stream).poll_write(cx, data))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with!(&mut self.raw, stream => Pin::new(stream).poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(&mut self.raw, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(&mut self.raw, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
