//! From nothing to the first ReadyForQuery: resolve, connect, encrypt, log in, take in what the server says of itself.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout, timeout_at};

use super::auth;
use super::cancel::{Peer, Route};
use super::error::{ConnectError, HangUp, Phase, ProtocolError};
use super::parameters::Parameters;
use super::server::{Login, Server, TxStatus};
use super::target::Target;
use super::wire::{SMALL, Wire, take_i32, take_text};
use crate::dsn::{Host, HostPort};
use crate::pgwire::fields::ServerMessage;
use crate::pgwire::frontend;
use crate::tls::{ClientTls, Encryption, Keepalive, Stream};

/// The longest cancel key that protocol 3.2 allows.
const LONGEST_KEY: usize = 256;

/// What a connection needs below the login; a login and a cancel request share it.
pub(super) struct Link<'a> {
    pub(super) host: &'a HostPort,
    pub(super) tls: &'a ClientTls,
    pub(super) keepalive: Keepalive,
}

/// Opens a connection within the target's limit. An expired limit tells what was waited for.
pub(super) async fn connect(target: &Target) -> Result<Server, ConnectError> {
    let mut phase = Phase::Resolve;
    let deadline = Instant::now() + target.connect_timeout;
    match timeout_at(deadline, attempts(target, deadline, &mut phase)).await {
        Ok(connected) => connected,
        Err(_) => Err(ConnectError::Timeout {
            host: target.host.clone(),
            phase,
            after: target.connect_timeout,
        }),
    }
}

/// Tries the treatments of encryption that the sslmode allows, in its order.
async fn attempts(
    target: &Target,
    deadline: Instant,
    phase: &mut Phase,
) -> Result<Server, ConnectError> {
    let treatments = match target.host.host {
        // PostgreSQL does not encrypt Unix sockets, and libpq does not ask it to.
        Host::Unix(_) => &[Encryption::None][..],
        Host::Tcp(_) => target.tls.attempts(),
    };
    let mut first_failure = None;
    for (number, &encryption) in treatments.iter().enumerate() {
        let is_last = number + 1 == treatments.len();
        match attempt(target, encryption, deadline, phase).await {
            Ok(server) => return Ok(server),
            Err(error) if !is_last && may_depend_on_encryption(&error) => {
                first_failure = Some(error);
            }
            // That the other treatment is not to be had explains less than why the first one failed.
            Err(error) => {
                return Err(match first_failure {
                    Some(first) if may_depend_on_encryption(&error) => first,
                    _ => error,
                });
            }
        }
    }
    // `treatments` is never empty, and its last attempt returned.
    Err(first_failure.unwrap_or_else(|| ConnectError::TlsRefused {
        host: target.host.clone(),
    }))
}

/// Whether a failure may be cured by encrypting, or by not encrypting: the handshake failed, or no line of `pg_hba.conf`
/// matches (28000). A wrong password is not retried: it would be sent again, perhaps in clear, to fail again.
fn may_depend_on_encryption(error: &ConnectError) -> bool {
    match error {
        ConnectError::Tls { .. } | ConnectError::TlsRefused { .. } => true,
        ConnectError::Rejected(message) => message.code == "28000",
        _ => false,
    }
}

async fn attempt(
    target: &Target,
    encryption: Encryption,
    deadline: Instant,
    phase: &mut Phase,
) -> Result<Server, ConnectError> {
    let link = Link {
        host: &target.host,
        tls: &target.tls,
        keepalive: target.keepalive,
    };
    let (stream, peer) = open(&link, deadline, phase).await?;
    let stream = encrypt(&link, stream, encryption, phase).await?;
    let route = Route {
        host: target.host.clone(),
        peer,
        tls: target.tls.clone(),
        encryption: match stream.is_encrypted() {
            true => Encryption::Always,
            false => Encryption::None,
        },
        keepalive: target.keepalive,
    };
    let mut wire = Wire::new(stream);
    *phase = Phase::Login;
    let own = [("user", &*target.user), ("database", &*target.database)];
    let more = target.startup.iter();
    let startup = own
        .into_iter()
        .chain(more.map(|(name, value)| (&**name, &**value)));
    let startup = frontend::startup(startup)?;
    let lost = |phase: Phase| {
        move |source| ConnectError::Lost {
            host: target.host.clone(),
            phase,
            source,
        }
    };
    wire.send(&startup).await.map_err(lost(Phase::Login))?;
    auth::log_in(&mut wire, target).await?;
    *phase = Phase::Ready;
    let login = await_ready(&mut wire).await.map_err(|end| match end {
        HangUp::Fatal(message) => ConnectError::Rejected(message),
        other => lost(Phase::Ready)(other),
    })?;
    Ok(Server::assemble(wire, login, route))
}

/// Opens the socket: each address of the host in turn, until one answers.
async fn open(
    link: &Link<'_>,
    deadline: Instant,
    phase: &mut Phase,
) -> Result<(Stream, Peer), ConnectError> {
    let name = match &link.host.host {
        Host::Unix(directory) => {
            *phase = Phase::Connect;
            let peer = Peer::Unix(directory.join(format!(".s.PGSQL.{}", link.host.port)));
            return Ok((open_peer(link, &peer).await?, peer));
        }
        Host::Tcp(name) => name,
    };
    *phase = Phase::Resolve;
    let addresses = resolve(name, link.host).await?;
    *phase = Phase::Connect;
    let mut failure = None;
    for (number, address) in addresses.iter().enumerate() {
        let peer = Peer::Tcp(*address);
        // An address that does not answer may use up its share of the time, not that of those behind it.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - number).unwrap_or(u32::MAX);
        match timeout(share, open_peer(link, &peer)).await {
            Ok(Ok(stream)) => return Ok((stream, peer)),
            Ok(Err(error)) => failure = Some(error),
            Err(_) => failure = Some(refused(link.host, io::ErrorKind::TimedOut.into())),
        }
    }
    Err(failure.unwrap_or_else(|| ConnectError::Resolve {
        host: link.host.clone(),
        source: io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
    }))
}

async fn resolve(name: &str, host: &HostPort) -> Result<Vec<SocketAddr>, ConnectError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, host.port)]);
    }
    match tokio::net::lookup_host((name, host.port)).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(source) => Err(ConnectError::Resolve {
            host: host.clone(),
            source,
        }),
    }
}

/// Opens a socket to an address that is known.
pub(super) async fn open_peer(link: &Link<'_>, peer: &Peer) -> Result<Stream, ConnectError> {
    let opened = match peer {
        Peer::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
        Peer::Tcp(address) => match TcpStream::connect(address).await {
            Ok(socket) => Stream::tcp(socket, link.keepalive),
            Err(error) => Err(error),
        },
    };
    opened.map_err(|source| refused(link.host, source))
}

fn refused(host: &HostPort, source: io::Error) -> ConnectError {
    ConnectError::Io {
        host: host.clone(),
        source,
    }
}

/// Asks for encryption as the treatment says, and makes it.
pub(super) async fn encrypt(
    link: &Link<'_>,
    stream: Stream,
    encryption: Encryption,
    phase: &mut Phase,
) -> Result<Stream, ConnectError> {
    let (mut socket, name) = match (stream, &link.host.host) {
        (Stream::Tcp(socket), Host::Tcp(name)) if encryption != Encryption::None => (socket, name),
        (stream, _) => return Ok(stream),
    };
    *phase = Phase::TlsRequest;
    let asked = async {
        socket.write_all(&frontend::ssl_request()).await?;
        // One byte and no more: whatever came behind it in clear must not be taken for something encrypted.
        socket.read_u8().await
    };
    let answer = asked.await.map_err(|source| ConnectError::Lost {
        host: link.host.clone(),
        phase: Phase::TlsRequest,
        source: source.into(),
    })?;
    match (answer, encryption) {
        (b'S', _) => {
            *phase = Phase::TlsHandshake;
            let encrypted = link.tls.handshake(name, socket).await;
            encrypted.map_err(|source| ConnectError::Tls {
                host: link.host.clone(),
                source,
            })
        }
        (b'N', Encryption::IfOffered) => Ok(Stream::Tcp(socket)),
        (b'N', _) => Err(ConnectError::TlsRefused {
            host: link.host.clone(),
        }),
        // `E`, too: an error from before the server knows its protocol is not authenticated and not to be shown.
        (tag, _) => Err(ConnectError::Lost {
            host: link.host.clone(),
            phase: Phase::TlsRequest,
            source: ProtocolError::Unexpected {
                tag,
                expected: "S or N",
            }
            .into(),
        }),
    }
}

/// Takes in what the server says of itself between the login and the first ReadyForQuery. Any error here is the end, so it
/// comes back as [`HangUp::Fatal`].
async fn await_ready(wire: &mut Wire) -> Result<Login, HangUp> {
    let mut parameters = Parameters::default();
    let mut process_id = 0;
    let mut cancel_key: Box<[u8]> = Box::default();
    loop {
        let message = wire.receive(SMALL).await?;
        let tag = message.tag;
        let malformed = ProtocolError::Malformed { tag };
        let mut body = &message.body[..];
        match tag {
            b'S' => {
                let name = take_text(&mut body).ok_or(malformed)?;
                let value = take_text(&mut body).ok_or(malformed)?;
                parameters.set(
                    &String::from_utf8_lossy(name),
                    &String::from_utf8_lossy(value),
                );
            }
            b'K' => {
                process_id = take_i32(&mut body).ok_or(malformed)?;
                if body.len() > LONGEST_KEY {
                    return Err(malformed.into());
                }
                cancel_key = body.into();
            }
            b'Z' => {
                let status = body.first().copied().and_then(TxStatus::from_byte);
                return Ok(Login {
                    parameters,
                    process_id,
                    cancel_key,
                    status: status.ok_or(malformed)?,
                });
            }
            b'E' => return Err(HangUp::Fatal(Box::new(ServerMessage::parse(body)))),
            b'N' | b'A' => {}
            _ => {
                let expected = "ReadyForQuery";
                return Err(ProtocolError::Unexpected { tag, expected }.into());
            }
        }
    }
}
