//! The one socket type of the wire path: TCP or Unix, plain or encrypted.
//!
//! An enum rather than a boxed trait object: the relay's reads and writes are the hottest calls of the program, and the
//! plain variants must cost nothing over the socket itself. The encrypted ones are boxed, because their state is large
//! and an idle plain connection should not pay for it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{client, server};

use super::certificate;

/// When the kernel asks whether a silent peer is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes before the connection is given up.
    pub retries: u32,
}

impl Default for Keepalive {
    /// A dead peer is noticed within a minute and a half; the kernel's own default takes over two hours.
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            retries: 3,
        }
    }
}

/// A connection to a client or a server.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS that we opened, towards PostgreSQL.
    TlsClient(Box<client::TlsStream<TcpStream>>),
    /// TLS that we accepted, from a client.
    TlsServer(Box<server::TlsStream<TcpStream>>),
}

impl Stream {
    /// A plain TCP stream, with Nagle's algorithm off (a query's last packet must not wait for an acknowledgement) and
    /// keep-alive on.
    pub fn tcp(socket: TcpStream, keepalive: Keepalive) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let settings = TcpKeepalive::new()
            .with_time(keepalive.idle)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.retries);
        SockRef::from(&socket).set_tcp_keepalive(&settings)?;
        Ok(Self::Tcp(socket))
    }

    /// Whether the bytes are encrypted on their way.
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::TlsClient(_) | Self::TlsServer(_))
    }

    /// The `tls-server-end-point` of the server we are connected to, where there is one.
    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        let Self::TlsClient(stream) = self else {
            return None;
        };
        let certificates = stream.get_ref().1.peer_certificates()?;
        certificate::end_point(certificates.first()?)
    }
}

/// Calls the same method on whichever stream it is.
macro_rules! on_each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
            Stream::TlsClient($stream) => $call,
            Stream::TlsServer($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_each!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_each!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::TlsClient(stream) => stream.is_write_vectored(),
            Self::TlsServer(stream) => stream.is_write_vectored(),
        }
    }
}
