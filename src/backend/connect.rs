//! Opening a connection: the hosts, the treatments of encryption, the login.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::authenticate::authenticate;
use super::cancels::Cancels;
use super::error::{ConnectError, Phase};
use super::parameters::Parameters;
use super::server::{Server, parameter};
use super::target::{CANCEL_LIMIT, CancelToken, Target};
use super::transport::{Peer, Route, encrypt, failed, open_any, resolve, share};
use crate::dsn::{Host, HostPort};
use crate::pgwire::{CancelKey, HEADER, Header, MAX_SECRET, ServerMessage, backend};
use crate::tls::{Encryption, Stream};

/// No message of a login is longer than this.
const LOGIN_MESSAGE: usize = 1 << 16;

/// So many bytes of a login's notices are kept; what is beyond is dropped.
const NOTICES_AT_MOST: usize = 1 << 14;

impl Server {
    /// Opens a connection and logs in; hosts are tried in order, within one limit. A host that does not answer uses up its
    /// share of the time, not that of those behind it.
    ///
    /// # Errors
    /// The last host's, naming what was waited for where the time ran out.
    pub async fn connect(target: &Target) -> Result<Self, ConnectError> {
        let deadline = Instant::now() + target.connect_timeout;
        let mut last = ConnectError::Closed(Phase::Resolve);
        for (number, host) in target.hosts.iter().enumerate() {
            let limit = share(deadline, target.hosts.len() - number);
            let mut phase = Phase::Resolve;
            let connecting = connect_host(target, host, Instant::now() + limit, &mut phase);
            last = match timeout(limit, connecting).await {
                Ok(Ok(server)) => return Ok(server),
                // A host that answered and refused is the right one: another would not know better.
                Ok(Err(error)) if error.is_final() => return Err(error),
                Ok(Err(error)) => error,
                Err(_) => ConnectError::Timeout { phase, limit },
            };
        }
        Err(last)
    }
}

/// Tries the treatments of encryption that the sslmode allows, in its order.
async fn connect_host(
    target: &Target,
    host: &HostPort,
    deadline: Instant,
    phase: &mut Phase,
) -> Result<Server, ConnectError> {
    let peers = resolve(host, phase).await?;
    let treatments = match host.host {
        // libpq too speaks no TLS over a Unix socket, whatever the mode.
        Host::Unix(_) => &[Encryption::None][..],
        Host::Tcp(_) => target.tls.attempts(),
    };
    let mut first = None;
    for (number, &encryption) in treatments.iter().enumerate() {
        let more = number + 1 < treatments.len();
        match connect_one(target, host, &peers, encryption, deadline, phase).await {
            Err(error) if more && error.may_depend_on_encryption() => first = Some(error),
            // That the other treatment is not to be had explains less than why the first one failed.
            Err(error) if error.may_depend_on_encryption() => return Err(first.unwrap_or(error)),
            other => return other,
        }
    }
    Err(first.unwrap_or(ConnectError::NoTls))
}

/// Asks for the newest protocol. A host that will have none of it (an old pooler: every PostgreSQL says what it speaks
/// instead) is asked once more for the oldest, and from then on for that only.
async fn connect_one(
    target: &Target,
    host: &HostPort,
    peers: &[Peer],
    encryption: Encryption,
    deadline: Instant,
    phase: &mut Phase,
) -> Result<Server, ConnectError> {
    let minor = target.protocol.minor();
    let first = connect_as(target, host, peers, (encryption, minor), deadline, phase).await;
    match first {
        Err(error) if minor > 0 && error.may_depend_on_protocol() => {
            let second = connect_as(target, host, peers, (encryption, 0), deadline, phase).await;
            let server = second.map_err(|_| error)?;
            target.protocol.settle_for_3_0();
            Ok(server)
        }
        first => first,
    }
}

async fn connect_as(
    target: &Target,
    host: &HostPort,
    peers: &[Peer],
    (encryption, minor): (Encryption, u16),
    deadline: Instant,
    phase: &mut Phase,
) -> Result<Server, ConnectError> {
    let (stream, peer) = open_any(peers, deadline, phase).await?;
    let mut stream = encrypt(stream, host, &target.tls, encryption, phase).await?;
    *phase = Phase::Login;
    send_startup(&mut stream, target, minor).await?;
    authenticate(&mut stream, target).await?;
    *phase = Phase::Ready;
    let Greeting {
        key,
        parameters,
        notices,
    } = read_greeting(&mut stream).await?;
    let route = Route {
        host: host.clone(),
        peer: peer.clone(),
        tls: target.tls.clone(),
        encryption: match stream.is_tls() {
            true => Encryption::Always,
            false => Encryption::None,
        },
    };
    let token = CancelToken {
        route,
        limit: target.connect_timeout.min(CANCEL_LIMIT),
        key: key.clone(),
    };
    Ok(Server::new(
        stream,
        key.process_id,
        Cancels::new(token),
        parameters,
        notices.into(),
    ))
}

async fn send_startup(
    stream: &mut Stream,
    target: &Target,
    minor: u16,
) -> Result<(), ConnectError> {
    let own = [
        ("user", target.user.as_str()),
        ("database", target.database.as_str()),
    ];
    let more = target.startup.iter();
    let all = own
        .into_iter()
        .chain(more.map(|(name, value)| (name.as_str(), value.as_str())));
    let mut packet = bytes::BytesMut::new();
    // Fails on a zero byte, with which a name could bring in parameters of its own.
    postgres_protocol::message::frontend::startup_message(all, &mut packet)
        .map_err(|_| ConnectError::ZeroByte("startup parameter"))?;
    // Behind the length and the major version.
    packet[6..8].copy_from_slice(&minor.to_be_bytes());
    send(stream, &packet).await
}

/// What a server says after a login.
struct Greeting {
    key: CancelKey,
    parameters: Parameters,
    /// Whole messages, as they came.
    notices: Vec<u8>,
}

/// What follows a login: parameters, the cancel key, notices, ReadyForQuery.
async fn read_greeting(stream: &mut Stream) -> Result<Greeting, ConnectError> {
    let mut key = CancelKey {
        process_id: 0,
        secret: Box::default(),
    };
    let mut parameters = Parameters::default();
    let mut notices = Vec::new();
    loop {
        let (tag, body) = read_message(stream).await?;
        match tag {
            backend::PARAMETER_STATUS => {
                if let Some((name, value)) = parameter(&body) {
                    parameters.set(&name, &value);
                }
            }
            b'K' => {
                let parts = body.split_first_chunk::<4>();
                let (process_id, secret) = parts
                    .filter(|(_, secret)| (1..=MAX_SECRET).contains(&secret.len()))
                    .ok_or(ConnectError::Unexpected {
                        phase: Phase::Login,
                        tag,
                    })?;
                key = CancelKey {
                    process_id: i32::from_be_bytes(*process_id),
                    secret: secret.into(),
                };
            }
            backend::NOTICE if notices.len() + HEADER + body.len() <= NOTICES_AT_MOST => {
                let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
                notices.push(tag);
                notices.extend_from_slice(&length.to_be_bytes());
                notices.extend_from_slice(&body);
            }
            backend::NOTICE => {}
            backend::READY_FOR_QUERY => {
                return Ok(Greeting {
                    key,
                    parameters,
                    notices,
                });
            }
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
    stream
        .write_all(bytes)
        .await
        .map_err(failed(Phase::Login))?;
    stream.flush().await.map_err(failed(Phase::Login))
}

/// Reads one message of a login; its length is judged before memory is reserved for it.
pub(super) async fn read_message(stream: &mut Stream) -> Result<(u8, Vec<u8>), ConnectError> {
    let lost = failed(Phase::Login);
    let mut head = [0; HEADER];
    stream.read_exact(&mut head).await.map_err(&lost)?;
    let Some(header) = Header::parse(&head)? else {
        return Err(ConnectError::Closed(Phase::Login));
    };
    let mut body = vec![0; header.at_most(LOGIN_MESSAGE)?.total - HEADER];
    stream.read_exact(&mut body).await.map_err(&lost)?;
    Ok((header.tag, body))
}
