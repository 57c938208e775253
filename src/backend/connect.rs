//! Opening a connection: name, socket, TLS, login.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::authenticate::authenticate;
use super::cancels::Cancels;
use super::error::{ConnectError, Phase};
use super::parameters::Parameters;
use super::server::{Server, parameter};
use super::target::{CancelToken, Target};
use crate::dsn::{Host, HostPort, SslMode};
use crate::pgwire::{CancelKey, HEADER, Header, ServerMessage, backend};
use crate::tls::{ClientTls, Stream};

/// No message of a login is longer than this.
const LOGIN_MESSAGE: usize = 1 << 16;

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

impl Server {
    /// Opens a connection and logs in; hosts are tried in order, within one limit.
    ///
    /// # Errors
    /// The last host's, naming what was waited for where the time ran out.
    pub async fn connect(target: &Target) -> Result<Self, ConnectError> {
        let mut phase = Phase::Resolve;
        match tokio::time::timeout(target.connect_timeout, connect_any(target, &mut phase)).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::Timeout {
                phase,
                limit: target.connect_timeout,
            }),
        }
    }
}

async fn connect_any(target: &Target, phase: &mut Phase) -> Result<Server, ConnectError> {
    let mut last = None;
    for host in &target.hosts {
        match connect_one(target, host, phase).await {
            Ok(server) => return Ok(server),
            // A host that answered and refused is the right one: another would not know better.
            Err(error @ ConnectError::Rejected(_)) => return Err(error),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or(ConnectError::Closed(Phase::Connect)))
}

async fn connect_one(
    target: &Target,
    host: &HostPort,
    phase: &mut Phase,
) -> Result<Server, ConnectError> {
    let mut stream = open_stream(host, &target.tls, phase).await?;
    *phase = Phase::Login;
    send_startup(&mut stream, target).await?;
    authenticate(&mut stream, target).await?;
    let (key, parameters) = read_greeting(&mut stream).await?;
    let token = CancelToken {
        host: host.clone(),
        tls: target.tls.clone(),
        limit: target.connect_timeout.min(Duration::from_secs(10)),
        key: key.clone(),
    };
    Ok(Server::new(
        stream,
        key.process_id,
        Cancels::new(token),
        parameters,
    ))
}

/// A socket to the host, encrypted as the mode asks.
pub(super) async fn open_stream(
    host: &HostPort,
    tls: &ClientTls,
    phase: &mut Phase,
) -> Result<Stream, ConnectError> {
    *phase = Phase::Resolve;
    let name = match &host.host {
        // libpq too speaks no TLS over a Unix socket, whatever the mode.
        Host::Unix(directory) => return open_unix(directory, host.port, phase).await,
        Host::Tcp(name) => name,
    };
    let addresses = tokio::net::lookup_host((name.as_str(), host.port))
        .await
        .map_err(|source| ConnectError::Resolve {
            host: host.to_string(),
            source,
        })?;
    *phase = Phase::Connect;
    let io = |source| ConnectError::Io {
        phase: Phase::Connect,
        source,
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host's name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(socket) => {
                let stream = Stream::tcp(socket).map_err(io)?;
                *phase = Phase::Tls;
                return negotiate_tls(stream, name, tls).await;
            }
            Err(error) => last = error,
        }
    }
    Err(io(last))
}

async fn open_unix(
    directory: &std::path::Path,
    port: u16,
    phase: &mut Phase,
) -> Result<Stream, ConnectError> {
    *phase = Phase::Connect;
    let path = directory.join(format!(".s.PGSQL.{port}"));
    let socket = UnixStream::connect(&path).await;
    socket.map(Stream::from).map_err(|source| ConnectError::Io {
        phase: Phase::Connect,
        source,
    })
}

async fn negotiate_tls(
    mut stream: Stream,
    host: &str,
    tls: &ClientTls,
) -> Result<Stream, ConnectError> {
    if matches!(tls.mode(), SslMode::Disable | SslMode::Allow) {
        return Ok(stream);
    }
    let io = |source| ConnectError::Io {
        phase: Phase::Tls,
        source,
    };
    stream.write_all(&SSL_REQUEST).await.map_err(io)?;
    // One byte and no more: what follows it belongs to TLS.
    match stream.read_u8().await.map_err(io)? {
        b'S' => tls.connect(host, stream).await.map_err(io),
        b'N' if tls.mode() == SslMode::Prefer => Ok(stream),
        b'N' => Err(ConnectError::NoTls),
        backend::ERROR => {
            let mut head = [backend::ERROR, 0, 0, 0, 0];
            stream.read_exact(&mut head[1..]).await.map_err(io)?;
            let body = read_body(&mut stream, head, Phase::Tls).await?;
            Err(ConnectError::Rejected(ServerMessage::parse(&body)))
        }
        tag => Err(ConnectError::Unexpected {
            phase: Phase::Tls,
            tag,
        }),
    }
}

async fn send_startup(stream: &mut Stream, target: &Target) -> Result<(), ConnectError> {
    let mut packet = vec![0; 4];
    packet.extend_from_slice(&(3_u32 << 16).to_be_bytes());
    let own = [
        ("user", target.user.as_str()),
        ("database", target.database.as_str()),
    ];
    let more = target
        .startup
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    for text in own
        .into_iter()
        .chain(more)
        .flat_map(|(name, value)| [name, value])
    {
        packet.extend_from_slice(text.as_bytes());
        packet.push(0);
    }
    packet.push(0);
    let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    packet[..4].copy_from_slice(&length.to_be_bytes());
    send(stream, &packet).await
}

/// What follows a login: parameters, the cancel key, ReadyForQuery.
async fn read_greeting(stream: &mut Stream) -> Result<(CancelKey, Parameters), ConnectError> {
    let mut key = CancelKey {
        process_id: 0,
        secret: Box::default(),
    };
    let mut parameters = Parameters::default();
    loop {
        let (tag, body) = read_message(stream).await?;
        match tag {
            backend::PARAMETER_STATUS => {
                if let Some((name, value)) = parameter(&body) {
                    parameters.set(&name, &value);
                }
            }
            b'K' => {
                let (process_id, secret) =
                    body.split_first_chunk::<4>()
                        .ok_or(ConnectError::Unexpected {
                            phase: Phase::Login,
                            tag,
                        })?;
                key = CancelKey {
                    process_id: i32::from_be_bytes(*process_id),
                    secret: secret.into(),
                };
            }
            backend::NOTICE => {}
            backend::READY_FOR_QUERY => return Ok((key, parameters)),
            tag => return Err(unexpected(tag, &body)),
        }
    }
}

/// An ErrorResponse is PostgreSQL's refusal, anything else out of place.
pub(super) fn unexpected(tag: u8, body: &[u8]) -> ConnectError {
    match tag {
        backend::ERROR => ConnectError::Rejected(ServerMessage::parse(body)),
        tag => ConnectError::Unexpected {
            phase: Phase::Login,
            tag,
        },
    }
}

pub(super) async fn send(stream: &mut Stream, bytes: &[u8]) -> Result<(), ConnectError> {
    let io = |source| ConnectError::Io {
        phase: Phase::Login,
        source,
    };
    stream.write_all(bytes).await.map_err(io)?;
    stream.flush().await.map_err(io)
}

/// Reads one message of a login.
pub(super) async fn read_message(stream: &mut Stream) -> Result<(u8, Vec<u8>), ConnectError> {
    let mut head = [0; HEADER];
    if let Err(source) = stream.read_exact(&mut head).await {
        return Err(match source.kind() {
            io::ErrorKind::UnexpectedEof => ConnectError::Closed(Phase::Login),
            _ => ConnectError::Io {
                phase: Phase::Login,
                source,
            },
        });
    }
    Ok((head[0], read_body(stream, head, Phase::Login).await?))
}

async fn read_body(
    stream: &mut Stream,
    head: [u8; HEADER],
    phase: Phase,
) -> Result<Vec<u8>, ConnectError> {
    let Some(header) = Header::parse(&head)? else {
        return Err(ConnectError::Closed(phase));
    };
    let mut body = vec![0; header.at_most(LOGIN_MESSAGE)?.total - HEADER];
    stream
        .read_exact(&mut body)
        .await
        .map_err(|source| ConnectError::Io { phase, source })?;
    Ok(body)
}
