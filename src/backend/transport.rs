//! What lies below a login: addresses, sockets, TLS. A login and a cancel request share it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};

use super::error::{ConnectError, Phase};
use crate::dsn::{Host, HostPort};
use crate::tls::{ClientTls, Encryption, Stream};

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// One address of a host.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// The way to one particular server: the very address, since a name may have several.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) host: HostPort,
    pub(super) peer: Peer,
    pub(super) tls: ClientTls,
    pub(super) encryption: Encryption,
}

impl Route {
    /// A connection to the same server, encrypted as the first one was.
    pub(super) async fn open(&self, phase: &mut Phase) -> Result<Stream, ConnectError> {
        *phase = Phase::Connect;
        let stream = open(&self.peer).await?;
        encrypt(stream, &self.host, &self.tls, self.encryption, phase).await
    }
}

/// The addresses of a host.
pub(super) async fn resolve(host: &HostPort, phase: &mut Phase) -> Result<Vec<Peer>, ConnectError> {
    *phase = Phase::Resolve;
    let name = match &host.host {
        Host::Unix(directory) => {
            let socket = directory.join(format!(".s.PGSQL.{}", host.port));
            return Ok(vec![Peer::Unix(socket)]);
        }
        Host::Tcp(name) => name.as_str(),
    };
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(vec![Peer::Tcp(SocketAddr::new(address, host.port))]);
    }
    let unresolved = |source| ConnectError::Resolve {
        host: host.to_string(),
        source,
    };
    let found = tokio::net::lookup_host((name, host.port)).await;
    let peers: Vec<Peer> = found.map_err(unresolved)?.map(Peer::Tcp).collect();
    if peers.is_empty() {
        let nothing = io::Error::new(io::ErrorKind::NotFound, "the host's name has no address");
        return Err(unresolved(nothing));
    }
    Ok(peers)
}

/// A socket to the first address that answers, and which one that is. One that does not answer may use up its share of
/// the time, not that of those behind it.
pub(super) async fn open_any<'a>(
    peers: &'a [Peer],
    deadline: Instant,
    phase: &mut Phase,
) -> Result<(Stream, &'a Peer), ConnectError> {
    *phase = Phase::Connect;
    let mut failure = failed(Phase::Connect)(io::ErrorKind::NotFound.into());
    for (number, peer) in peers.iter().enumerate() {
        match timeout(share(deadline, peers.len() - number), open(peer)).await {
            Ok(Ok(stream)) => return Ok((stream, peer)),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = failed(Phase::Connect)(io::ErrorKind::TimedOut.into()),
        }
    }
    Err(failure)
}

/// The time that is left, divided among those who still need some.
pub(super) fn share(deadline: Instant, among: usize) -> std::time::Duration {
    let left = deadline.saturating_duration_since(Instant::now());
    left / u32::try_from(among.max(1)).unwrap_or(u32::MAX)
}

async fn open(peer: &Peer) -> Result<Stream, ConnectError> {
    let opened = match peer {
        Peer::Unix(path) => UnixStream::connect(path).await.map(Stream::from),
        Peer::Tcp(address) => TcpStream::connect(address).await.and_then(Stream::tcp),
    };
    opened.map_err(failed(Phase::Connect))
}

/// Asks for encryption as the treatment says, and makes it. A Unix socket stays as it is, as in libpq.
pub(super) async fn encrypt(
    mut stream: Stream,
    host: &HostPort,
    tls: &ClientTls,
    encryption: Encryption,
    phase: &mut Phase,
) -> Result<Stream, ConnectError> {
    let name = match &host.host {
        Host::Tcp(name) if encryption != Encryption::None => name,
        _ => return Ok(stream),
    };
    *phase = Phase::Tls;
    let lost = failed(Phase::Tls);
    stream.write_all(&SSL_REQUEST).await.map_err(&lost)?;
    // One byte and no more: what follows it belongs to TLS, and must not be taken for the server's if it came in clear.
    match stream.read_u8().await.map_err(&lost)? {
        b'S' => tls.connect(name, stream).await.map_err(ConnectError::Tls),
        b'N' if encryption == Encryption::IfOffered => Ok(stream),
        b'N' => Err(ConnectError::NoTls),
        // An ErrorResponse too: whoever is between us and the server could have written it, so it is not shown.
        tag => Err(ConnectError::Unexpected {
            phase: Phase::Tls,
            tag,
        }),
    }
}

/// The transport failed in this phase; an end of file is told as one.
pub(super) fn failed(phase: Phase) -> impl Fn(io::Error) -> ConnectError {
    move |source| match source.kind() {
        io::ErrorKind::UnexpectedEof => ConnectError::Closed(phase),
        _ => ConnectError::Io { phase, source },
    }
}
