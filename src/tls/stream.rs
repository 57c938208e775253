//! A connection to a client or a server: TCP, Unix socket, or TLS over either.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::certificate::PeerCertificate;

/// A connection. TLS states are boxed: they are large, and most connections of a sidecar have none.
#[derive(Debug)]
pub enum Stream {
    /// TCP in clear.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS that we opened, towards a server.
    TlsClient(Box<tokio_rustls::client::TlsStream<Stream>>),
    /// TLS that we accepted, from a client.
    TlsServer(Box<tokio_rustls::server::TlsStream<Stream>>),
}

/// A peer that vanished without a word is noticed after about this long of silence.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

impl Stream {
    /// A TCP connection with the options that every one of ours has: no delay, because whole answers are written at
    /// once, and keep-alive.
    ///
    /// # Errors
    /// The socket refuses an option.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_RETRIES);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        Ok(Self::Tcp(stream))
    }

    /// A TCP connection that another thread accepted; it joins the reactor of this one.
    ///
    /// # Errors
    /// The socket refuses an option or the reactor the socket.
    pub fn from_accepted_tcp(stream: std::net::TcpStream) -> io::Result<Self> {
        Self::tcp(TcpStream::from_std(stream)?)
    }

    /// Whether bytes are encrypted.
    #[inline]
    pub fn is_tls(&self) -> bool {
        matches!(self, Stream::TlsClient(_) | Stream::TlsServer(_))
    }

    /// The other end's address and our own, over TCP.
    pub fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        match self {
            Stream::Tcp(stream) => Some((stream.peer_addr().ok()?, stream.local_addr().ok()?)),
            Stream::Unix(_) => None,
            Stream::TlsClient(stream) => stream.get_ref().0.addresses(),
            Stream::TlsServer(stream) => stream.get_ref().0.addresses(),
        }
    }

    /// The user and the process at the other end of a Unix socket, as far as the system tells.
    pub fn peer_process(&self) -> Option<(u32, Option<i32>)> {
        match self {
            Stream::Tcp(_) => None,
            Stream::Unix(stream) => {
                let credentials = stream.peer_cred().ok()?;
                Some((credentials.uid(), credentials.pid()))
            }
            Stream::TlsClient(stream) => stream.get_ref().0.peer_process(),
            Stream::TlsServer(stream) => stream.get_ref().0.peer_process(),
        }
    }

    /// The version and the cipher of TLS by IANA's name, such as `TLSv1.3/TLS_AES_256_GCM_SHA384`; `None` where there is none.
    pub fn tls_description(&self) -> Option<String> {
        let (version, suite) = match self {
            Stream::Tcp(_) | Stream::Unix(_) => return None,
            Stream::TlsClient(stream) => {
                let connection = stream.get_ref().1;
                (
                    connection.protocol_version(),
                    connection.negotiated_cipher_suite(),
                )
            }
            Stream::TlsServer(stream) => {
                let connection = stream.get_ref().1;
                (
                    connection.protocol_version(),
                    connection.negotiated_cipher_suite(),
                )
            }
        };
        let version = format!("{:?}", version?).replace('_', ".");
        // rustls marks those of TLS 1.3 by their names.
        let suite = format!("{:?}", suite?.suite()).replacen("TLS13_", "TLS_", 1);
        Some(format!("{version}/{suite}"))
    }

    /// The `tls-server-end-point` (RFC 5929) of the server at the other end of TLS that we opened.
    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        let Stream::TlsClient(stream) = self else {
            return None;
        };
        let certificates = stream.get_ref().1.peer_certificates()?;
        super::certificate::end_point(certificates.first()?)
    }

    /// The common name of the certificate that a client showed over TLS that we accepted; it was verified in the handshake.
    pub fn client_common_name(&self) -> Option<String> {
        let Stream::TlsServer(stream) = self else {
            return None;
        };
        let certificates = stream.get_ref().1.peer_certificates()?;
        PeerCertificate::parse(certificates.first()?)?.first_common_name()
    }

    /// Whether the client begins with TLS, without asking first. Waits for its first byte and leaves it unread.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn begins_with_tls(&self) -> io::Result<bool> {
        // The first byte of a TLS record that holds a handshake; a startup packet begins with the zeros of its length.
        const HANDSHAKE: u8 = 0x16;
        let Stream::Tcp(stream) = self else {
            return Ok(false);
        };
        let mut first = [0];
        Ok(stream.peek(&mut first).await? == 1 && first[0] == HANDSHAKE)
    }

    /// Writes what the socket takes at once, without waiting; for a last word nobody waits for.
    pub fn write_now(&mut self, bytes: &[u8]) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let _ = Pin::new(&mut *self).poll_write(&mut cx, bytes);
        let _ = Pin::new(self).poll_flush(&mut cx);
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

/// Calls one method of whatever the stream is.
macro_rules! each {
    ($self:ident, $method:ident $(, $argument:expr)*) => {
        match $self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Unix(stream) => Pin::new(stream).$method($($argument),*),
            Stream::TlsClient(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
            Stream::TlsServer(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, poll_read, cx, buf)
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, poll_write, cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, poll_shutdown, cx)
    }
}
